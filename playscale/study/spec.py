"""What is to be run: the spec of a study, read from YAML, and the grid of training runs it stands for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from playscale.config import OWN_CLONE, FrozenModel, MethodName, Reinforcement, TrainConfig, Training, from_yaml
from playscale.games.game import get_game, get_task
from playscale.scaling.gpu import hardware


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[kM]", text):
        raise ValueError(f"{text!r} is not a model size: write it like 10k, 300k or 3M")
    return text


Size = Annotated[str, AfterValidator(_size)]
Budget = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Collect(FrozenModel):
    """Games for the game's own expert to play: how many, from which seed on, cut at how many actions."""

    games: int = Field(ge=2)
    max_steps: int = Field(default=5000, ge=1)
    seed: int = Field(default=1_000_000, ge=0)


class Source(FrozenModel):
    """Where the expert play comes from: exactly one of the three.

    collect: the expert plays; games: a directory of recordings (NLD-AA layout); corpus: a prepared corpus.
    """

    collect: Collect | None = None
    games: str | None = None
    corpus: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if sum(value is not None for value in (self.collect, self.games, self.corpus)) != 1:
            raise ValueError("give exactly one of collect, games, corpus")
        return self


class Playing(Reinforcement):
    """How the runs learn that learn by playing, beside Reinforcement's own keys.

    game: where only the game is named, its default task; teacher: a checkpoint directory, or bc, the study's own clone
    of the same size with the lowest dev loss at its largest budget; training: what differs from the study's `training`
    """

    game: Annotated[str, AfterValidator(lambda name: get_task(name).name)]  # type: ignore[assignment]
    training: Training = Training()


class Evaluate(FrozenModel):
    """The episodes played by each trained agent. The same seeds for every agent."""

    episodes: int = Field(default=100, ge=1)
    max_steps: int = Field(default=100_000, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    seed: int = Field(default=0, ge=0)


class HardwareSpec(FrozenModel):
    """What the forecast budgets would be spent on: hours and energy are given for it."""

    gpu: str
    utilisation: float = 0.3

    @model_validator(mode="after")
    def _known(self) -> HardwareSpec:
        hardware(self.gpu, self.utilisation)
        return self


class StudySpec(FrozenModel):
    """A whole study. Budgets are in training FLOPs; `held_out` budgets are trained, never fitted.

    With a method that learns by playing, all agents are evaluated in `rl.game`, so that they share one axis.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    game: Annotated[str, AfterValidator(lambda name: get_game(name).name)] = "nethack"
    method: Annotated[tuple[MethodName, ...], Field(min_length=1)] = ("bc",)
    source: Source | None = None
    rl: Playing | None = None
    sizes: tuple[Size, ...] = Field(min_length=1)
    budgets: tuple[Budget, ...] = Field(min_length=2)
    held_out: tuple[Budget, ...] = ()
    core: Literal["lstm", "transformer"] = "lstm"
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    training: Training = Training()
    evaluate: Evaluate = Evaluate()
    forecast: tuple[Budget, ...] = ()
    target_returns: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    max_return: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    hardware: HardwareSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_method_is_a_list_of_one(cls, values: Any) -> Any:
        """And where the runs that play are not told what, they play the study's game, its default task."""
        if not isinstance(values, dict):
            return values
        method = values.get("method", "bc")
        values = values | {"method": [method] if isinstance(method, str) else method}
        plays = isinstance(values["method"], list) and {"impala", "kickstart"} & {str(m) for m in values["method"]}
        rl = values.get("rl", {} if plays else None)
        if isinstance(rl, dict):
            values["rl"] = {"game": values.get("game", "nethack")} | rl
        return values

    @model_validator(mode="after")
    def _methods_have_what_they_need(self) -> StudySpec:
        if "bc" in self.method and self.source is None:
            raise ValueError("source: behavioural cloning needs expert play: give source.collect, games or corpus")
        if self.rl is None:
            return self
        if self.method == ("bc",):
            raise ValueError("rl: no run of this study learns by playing; add impala or kickstart to method")
        teacher = self.rl.teacher
        if teacher is None and "kickstart" in self.method:
            raise ValueError("rl.teacher: kickstart needs one: a checkpoint, or bc for the study's own clones")
        if teacher is not None and "kickstart" not in self.method:
            raise ValueError("rl.teacher: no run of this study is taught; add kickstart to method")
        if teacher == OWN_CLONE and "bc" not in self.method:
            raise ValueError("rl.teacher: bc is the study's own clone; add bc to method, or give a checkpoint")
        if "bc" in self.method and self.rl.game.split("/")[0] != self.game.split("/")[0]:
            raise ValueError(f"rl.game: {self.rl.game} is no task of {self.game}, which is what the clones play")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> StudySpec:
        grid = (("sizes", self.sizes), ("budgets", self.budgets + self.held_out), ("seeds", self.seeds))
        for name, values in (*grid, ("method", self.method)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is given twice")
        if self.held_out and min(self.held_out) < min(self.budgets):
            raise ValueError("held_out: a held-out budget below the smallest fitted budget tests no forecast")
        return self

    @property
    def played(self) -> str | None:
        """The task that all agents are evaluated in; None: each in its own game."""
        return None if self.rl is None else self.rl.game

    def inputs(self) -> dict[str, str]:
        """What the study reads that it does not make itself, path or URI, by the spec's key."""
        named = {"rl.teacher": self.rl.teacher if self.rl else None}
        if self.source:
            named |= {"source.games": self.source.games, "source.corpus": self.source.corpus}
        return {key: uri for key, uri in named.items() if uri and uri != OWN_CLONE}

    def runs(self) -> dict[str, TrainConfig]:
        """Every training run by name: one per (method, size, seed), each through all budgets.

        Smallest size first: at equal FLOPs a small model sees the most samples, and takes the longest.
        """
        sizes = sorted(self.sizes, key=lambda size: float(size[:-1]) * (1e3 if size[-1] == "k" else 1e6))
        runs = [
            TrainConfig(
                method=method,
                size=size,
                core=self.core,
                budgets=tuple(sorted(self.budgets + self.held_out)),
                held_out=self.held_out,
                seed=seed,
                **self._learning(method),
            )
            for method in self.method
            for size in sizes
            for seed in self.seeds
        ]
        return {run.run_name: run for run in runs}

    def _learning(self, method: MethodName) -> dict[str, Any]:
        """The training of a method's runs, and its settings of reinforcement."""
        training = self.training.model_dump()
        if self.rl is None or method == "bc":
            return training
        rl = Reinforcement(**self.rl.model_dump(exclude={"training"} | ({"teacher"} if method == "impala" else set())))
        return training | self.rl.training.model_dump(exclude_unset=True) | {"rl": rl}


def parse_spec(text: str, where: str = "spec") -> StudySpec:
    """A spec from YAML text; ValueError of one line when it is wrong."""
    return from_yaml(StudySpec, text, where)


def read_spec(path: Path) -> StudySpec:
    """A spec from a YAML file; ValueError when it is missing or wrong."""
    if not path.is_file():
        raise ValueError(f"{path}: no such study spec; see studies/ for examples")
    return parse_spec(path.read_text(), str(path))
