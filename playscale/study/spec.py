"""The specification of a study: read from YAML, checked, and expanded into the grid of training runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from playscale.config import (
    CLONE_OF_STUDY,
    COLLECTING_SEED,
    EVALUATION_SEED,
    IMITATING_METHODS,
    LARGEST_NUMBER,
    LONGEST_GAME,
    METHODS,
    MOST_GAMES,
    PLAYING_METHODS,
    Budget,
    Core,
    FrozenModel,
    MethodName,
    Reinforcement,
    Seed,
    Size,
    TrainConfig,
    Training,
    from_yaml,
    parse_size,
)
from playscale.games.game import get_game, get_task
from playscale.scaling.gpu import hardware
from playscale.storage.files import read_text
from playscale.study.vary import VarySpec, varied_runs

Finite = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]


class CollectSpec(FrozenModel):
    """The games that the game's own expert plays."""

    games: int = Field(ge=2, le=MOST_GAMES, description="Number of games.")
    max_steps: int = Field(default=5000, ge=1, le=LONGEST_GAME, description="Actions after which a game is cut.")
    seed: Seed = Field(default=COLLECTING_SEED, description="Seed of the first game; later games count up.")


class SourceSpec(FrozenModel):
    """The expert play that agents imitate: exactly one of the three."""

    collect: CollectSpec | None = Field(default=None, description="Let the game's own expert play.")
    games: str | None = Field(default=None, description="Directory of recordings in NLD-AA layout.")
    corpus: str | None = Field(default=None, description="Corpus made by `playscale prepare`.")

    @model_validator(mode="after")
    def _exactly_one(self) -> SourceSpec:
        if sum(value is not None for value in (self.collect, self.games, self.corpus)) != 1:
            raise ValueError("give exactly one of collect, games, corpus")
        return self


class ReinforcementSpec(Reinforcement):
    """Settings of the runs that learn from their own play.

    `teacher` is a checkpoint directory, or bc: the study's own clone of the same size with the lowest dev loss at its
    largest budget.
    """

    game: Annotated[str, AfterValidator(lambda name: get_task(name).name)] = Field(  # type: ignore[assignment]
        description="Task that is played; a game alone stands for its default task. Default: the study's game."
    )
    training: Training = Field(default=Training(), description="Training settings that differ from the study's.")


class EvaluationSpec(FrozenModel):
    """The episodes that each trained agent plays, with the same seeds for every agent."""

    episodes: int = Field(
        default=100, ge=0, le=MOST_GAMES, description="Episodes of each agent; 0: only the dev loss is measured."
    )
    max_steps: int = Field(default=100_000, ge=1, le=LONGEST_GAME, description="Actions after which an episode is cut.")
    temperature: float = Field(default=1.0, ge=0, description="Temperature of the policy; 0 takes the best action.")
    seed: Seed = Field(default=EVALUATION_SEED, description="Seed of the first episode; later episodes count up.")


class HardwareSpec(FrozenModel):
    """The hardware for which GPU hours and energy of the forecast budgets are given."""

    gpu: str = Field(description="GPU model: h100, a100, ...")
    utilisation: float = Field(default=0.3, description="Fraction of the GPU's peak FLOP/s that training reaches.")

    @model_validator(mode="after")
    def _known(self) -> HardwareSpec:
        hardware(self.gpu, self.utilisation)
        return self


class ExtraCells(FrozenModel):
    """Cells beside the grid: a size through budgets of its own."""

    size: Size = Field(description="Model size in parameters.")
    budgets: tuple[Budget, ...] = Field(min_length=1, description="Compute budgets in training FLOPs.")
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1, description="Seeds. Default: the study's.")

    @model_validator(mode="after")
    def _once(self) -> ExtraCells:
        for name, values in (("budgets", self.budgets), ("seeds", self.seeds or ())):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} of {self.size}: a value is given twice")
        return self


class StudySpec(FrozenModel):
    """A whole study.

    With a method that learns from its own play, all agents are evaluated in `rl.game`, so that they share one axis.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the study and its experiment.")
    game: Annotated[str, AfterValidator(lambda name: get_game(name).name)] = Field(
        default="nethack", description="Game, or task of a game."
    )
    method: tuple[MethodName, ...] = Field(default=("bc",), min_length=1, description="Training method, or several.")
    source: SourceSpec | None = Field(default=None, description="Expert play, required by behavioural cloning.")
    rl: ReinforcementSpec | None = Field(default=None, description="Settings of the methods that play.")
    sizes: tuple[Size, ...] = Field(min_length=1, description="Model sizes in parameters: 10k, 1.5M, 250000.")
    budgets: tuple[Budget, ...] = Field(min_length=2, description="Compute budgets in training FLOPs that are fitted.")
    held_out: tuple[Budget, ...] = Field(default=(), description="Budgets that are trained, but never fitted.")
    max_budget: dict[Size, Budget] = Field(
        default_factory=dict, description="Largest budget of a size, by size: larger ones are left out for it."
    )
    cells: tuple[ExtraCells, ...] = Field(
        default=(), description="Cells that are trained beside the grid: list of {size, budgets, seeds}."
    )
    core: Core = Field(default="lstm", description="Recurrent core of the policies.")
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1, description="One run per method, size and seed.")
    training: Training = Field(default=Training(), description="Training settings of all runs.")
    vary: VarySpec | None = Field(default=None, description="Settings that are varied beside the study's own.")
    evaluate: EvaluationSpec = Field(default=EvaluationSpec(), description="Episodes that the agents play.")
    forecast: tuple[Budget, ...] = Field(default=(), description="Budgets to forecast for.")
    target_returns: dict[str, Finite] = Field(
        default_factory=dict, description="Returns by name whose compute is sought."
    )
    max_return: Finite | None = Field(default=None, description="Largest return that the game allows.")
    min_return: Finite | None = Field(
        default=None, description="Smallest return that the game allows, from which returns are counted."
    )
    hardware: HardwareSpec | None = Field(default=None, description="Hardware to give hours and energy for.")
    registry: Literal["best", "all", "none"] = Field(
        default="best", description="Agents that MLflow's registry gets: the best by loss and return, all, or none."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Accept a single method for a list of one; where methods play, `rl.game` is by default the study's game."""
        if not isinstance(values, dict):
            return values
        method = values.get("method", "bc")
        values = values | {"method": [method] if isinstance(method, str) else method}
        plays = isinstance(values["method"], list) and PLAYING_METHODS & {str(m) for m in values["method"]}
        rl = values.get("rl", {} if plays else None)
        if isinstance(rl, dict):
            values["rl"] = {"game": values.get("game", "nethack")} | rl
        return values

    @field_validator("max_budget")
    @classmethod
    def _limits_leave_a_grid(cls, limits: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if not {"sizes", "budgets", "held_out"} <= info.data.keys():
            return limits  # they have errors of their own
        sizes, budgets = info.data["sizes"], info.data["budgets"] + info.data["held_out"]
        for size, limit in limits.items():
            if size not in sizes:
                near = min(sizes, key=lambda known: abs(math.log(parse_size(known) / parse_size(size))))
                raise ValueError(f"the study has no size {size}; did you mean {near}? sizes: {', '.join(sizes)}")
            if limit < min(budgets):
                raise ValueError(f"{size}: {limit:g} is below the smallest budget; leave the size out of sizes")
        if lone := [budget for budget in budgets if all(limits.get(size, budget) < budget for size in sizes)]:
            raise ValueError(f"no size is left at budget {lone[0]:g}; raise a limit, or leave the budget out")
        return limits

    @model_validator(mode="after")
    def _methods_have_what_they_need(self) -> StudySpec:
        imitates = not IMITATING_METHODS.isdisjoint(self.method)
        has_teacher = any(METHODS[method].has_teacher for method in self.method)
        if imitates and self.source is None:
            raise ValueError("source: behavioural cloning needs expert play: give source.collect, games or corpus")
        if self.rl is None:
            return self
        if PLAYING_METHODS.isdisjoint(self.method):
            raise ValueError("rl: no run of this study learns by playing; add impala or kickstart to method")
        teacher = self.rl.teacher
        if teacher is None and has_teacher:
            raise ValueError("rl.teacher: kickstart needs one: a checkpoint, or bc for the study's own clones")
        if teacher is not None and not has_teacher:
            raise ValueError("rl.teacher: no run of this study is taught; add kickstart to method")
        if teacher == CLONE_OF_STUDY and not imitates:
            raise ValueError("rl.teacher: bc is the study's own clone; add bc to method, or give a checkpoint")
        if imitates and self.rl.game.split("/")[0] != self.game.split("/")[0]:
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
        if not self.evaluate.episodes and not PLAYING_METHODS.isdisjoint(self.method):
            raise ValueError("evaluate.episodes: without episodes, runs that learn by playing have no measurement")
        if self.vary is not None:
            self.vary.check(self)
        return self

    @property
    def played(self) -> str | None:
        """The task that all agents are evaluated in; None: each in its own game."""
        return None if self.rl is None else self.rl.game

    def inputs(self) -> dict[str, str]:
        """Return the paths and URIs of existing data that the study reads, by the spec's key."""
        named = {"rl.teacher": self.rl.teacher if self.rl else None}
        if self.source:
            named |= {"source.games": self.source.games, "source.corpus": self.source.corpus}
        return {key: uri for key, uri in named.items() if uri and uri != CLONE_OF_STUDY}

    def runs(self) -> dict[str, TrainConfig]:
        """Return every training run by name: those of the recipe, then those of the settings that are varied."""
        return self.recipe_runs() if self.vary is None else varied_runs(self, self.vary)

    def recipe_runs(self) -> dict[str, TrainConfig]:
        """Return the runs of the study's own settings: one per method, size and seed, each through all its budgets.

        Smallest size first: at equal FLOPs a small model sees the most samples, and takes the longest.
        """
        runs = [
            TrainConfig(
                method=method,
                size=size,
                core=self.core,
                budgets=budgets,
                held_out=tuple(budget for budget in self.held_out if budget in budgets),
                seed=seed,
                **self._training_of(method),
            )
            for method in self.method
            for (size, seed), budgets in self._budgets_of_runs().items()
        ]
        return {run.run_name: run for run in runs}

    def _budgets_of_runs(self) -> dict[tuple[str, int], tuple[float, ...]]:
        """Return the budgets of each size and seed, smallest size first: those of the grid and those of `cells`."""
        found = {(size, seed): {*self.budgets, *self.held_out} for size in self.sizes for seed in self.seeds}
        for extra in self.cells:
            for seed in extra.seeds or self.seeds:
                found.setdefault((extra.size, seed), set()).update(extra.budgets)
        return {key: tuple(sorted(found[key])) for key in sorted(found, key=lambda key: parse_size(key[0]))}

    def is_above_limit(self, run: TrainConfig, budget: float) -> bool:
        """Return whether `max_budget` leaves out a run's cell. Those that `cells` names stay."""
        named = any(
            extra.size == run.size and run.seed in (extra.seeds or self.seeds) and budget in extra.budgets
            for extra in self.cells
        )
        return budget > self.max_budget.get(run.size, budget) and (bool(run.varied) or not named)

    def _training_of(self, method: str) -> dict[str, Any]:
        """Return the training settings of a method's runs, with its settings of reinforcement learning."""
        training = self.training.model_dump()
        if self.rl is None or method in IMITATING_METHODS:
            return training
        left_out = {"training"} if METHODS[method].has_teacher else {"training", "teacher"}
        rl = Reinforcement(**self.rl.model_dump(exclude=left_out))
        return training | self.rl.training.model_dump(exclude_unset=True) | {"rl": rl}


def parse_spec(text: str, where: str = "spec") -> StudySpec:
    """Read a spec from YAML text; ValueError of one line when it is wrong."""
    return from_yaml(StudySpec, text, where)


def read_spec(path: Path) -> StudySpec:
    """Read a spec from a YAML file; ValueError when it is missing or wrong."""
    if not path.is_file():
        raise ValueError(f"{path}: no such study spec; see studies/ for examples")
    return parse_spec(read_text(path), str(path))
