"""What people write in YAML, read into frozen typed models: every mistake is one line that says where it is.

A model size as people write it. No torch here: specs are read without it.

How many transitions an optimizer step sees, by model size, when neither a study nor a user says. No torch here.

How a model is trained by reinforcement. No torch here: the study's spec and the CLI read it too.

How one model is trained. No torch here: the study's spec and the CLI read it too.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
SMALLEST, LARGEST = 8_000, 1_000_000_000


def parse_size(size: str) -> int:
    """250_000 of "250k"; ValueError for what is not a count, or not between the smallest and the largest."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb]?)", size.strip().lower())
    if match is None:
        raise ValueError(f"size {size!r} is not a parameter count: write it like 30k, 1.5M or 500M")
    count = round(float(match[1]) * UNITS[match[2]])
    if not SMALLEST <= count <= LARGEST:
        raise ValueError(f"size {size!r} is out of range: the smallest is {SMALLEST // 1000}k, the largest 1000M")
    return count


SMALL = 1_000_000
SMALL_STEP = (8, 16)
PLAYED_STEP = (32, 20)
LARGEST_STEP = 104 * 80  # what Tuyls et al. (arXiv 2307.09423) trained all sizes with


def recipe_batch(size: str, method: str = "bc") -> tuple[int, int]:
    """Columns and unroll: 8 x 16 up to a million parameters, then samples a step in proportion to parameters.

    Small budgets run out of optimizer steps before they run out of samples, and a small model's step is short of work
    only on a GPU. At a compute-optimal budget samples grow about as parameters do, so in proportion every size gets as
    many steps. Longer unrolls train memory over longer times; 80 is the paper's. ValueError: no such size.

    Where agents play themselves (any method but bc) columns are the environments of an actor.
    """
    params = parse_size(size)
    if method != "bc":
        return PLAYED_STEP
    if params <= SMALL:
        return SMALL_STEP
    unroll = 32 if params <= 10 * SMALL else 80
    samples = min(LARGEST_STEP, SMALL_STEP[0] * SMALL_STEP[1] * params / SMALL)
    return max(8, 8 * round(samples / unroll / 8)), unroll


class FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=FrozenModel)


def from_yaml(model: type[Model], text: str, where: str) -> Model:
    """A model from YAML text; ValueError of one line, naming the nearest known key for an unknown one."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise ValueError(f"{where}: not valid YAML{f' (line {place.line + 1})' if place else ''}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected a mapping of keys: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(_numbers(data))
    except ValidationError as error:
        raise ValueError(f"{where}: {_explain(error, model)}") from error


def _numbers(value: Any) -> Any:
    """YAML 1.1 reads 3e10 as text; every such text becomes a number."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The most telling of the errors in one line: an unknown key explains a missing one."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        return f"unknown key {place!r}; did you mean {near[0]!r}? known keys: {', '.join(known)}"
    if first["type"] == "missing":
        return f"missing key {place!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        if isinstance(part, int):
            continue  # an item of a list: its keys are those of the list's type
        model = next(kind for kind in _types(model.model_fields[part].annotation) if issubclass(kind, BaseModel))
    return list(model.model_fields)


def _types(annotation: Any) -> list[type]:
    """The classes an annotation names, however deep: of tuple[Toleration, ...] | None, Toleration is one."""
    inside = [kind for part in get_args(annotation) for kind in _types(part)]
    return [*inside, annotation] if isinstance(annotation, type) else inside


class Reinforcement(BaseModel):
    """IMPALA (Espeholt et al., arXiv 1802.01561), and kickstarting (Schmitt et al., arXiv 1803.03835) with a teacher.

    A batch is one unroll of the `batch` environments of one actor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    game: str = Field(default="nethack/score", description="the game, or a task of one, that is played")
    max_steps: int = Field(default=5000, ge=1, description="actions after which an episode of training is truncated")
    actors: int | None = Field(default=None, ge=1, description="actor processes (None: 2, or more on a large machine)")
    workers: int | None = Field(default=None, ge=1, description="environment processes of all actors (None: by cores)")
    discount: float = Field(default=0.999, ge=0, le=1)
    rho_bar: float = Field(default=1.0, gt=0, description="largest importance weight of a temporal difference")
    c_bar: float = Field(default=1.0, gt=0, description="largest trace weight")
    baseline_cost: float = Field(default=0.5, ge=0)
    entropy_cost: float = Field(default=0.0005, ge=0)
    reward_scale: Literal["running", "none"] = Field(
        default="running", description="running: rewards are divided by the spread of the discounted returns so far"
    )
    reward_clip: float | None = Field(default=3.0, gt=0, description="largest reward, after scaling (None: any)")
    optimizer: Literal["adam", "rmsprop"] = "adam"
    teacher: str | None = Field(default=None, description="checkpoint of the teacher: makes this a kickstarted run")
    start: Literal["scratch", "teacher"] = Field(default="teacher", description="whose weights a kickstarted run has")
    teacher_cost: float = Field(default=1.0, ge=0, description="of the divergence from the teacher, at first")
    teacher_half_life: float = Field(default=1e6, gt=0, description="interactions in which teacher_cost halves")
    value_warmup: int = Field(default=0, ge=0, description="interactions before the policy gradient sets in")


class Training(BaseModel):
    """How every model of a study is trained. A sample is one transition.

    `batch` and `unroll`, where not given, follow from the model's size: see training/unroll.py.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int | None = Field(default=None, ge=1, description="columns: games played side by side (None: by size)")
    unroll: int | None = Field(default=None, ge=1, description="transitions a column between two optimizer steps")
    learning_rate: float | None = Field(default=None, gt=0, description="None: the recipe of training/schedule.py")
    warmup_steps: int = Field(default=20, ge=0, description="optimizer steps of linear warm-up")
    clip_norm: float = Field(default=1.0, gt=0, description="largest global norm of a gradient")
    cooldown: float = Field(default=0.0, ge=0, lt=1, description="fraction of a budget's steps spent decaying to zero")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on CUDA, else fp32")
    device: str = "auto"
    compile: bool = Field(default=False, description="compile what comes before the core (CUDA graphs on a GPU)")
    dev_samples: int = Field(default=8192, ge=1, description="transitions of the dev games that dev loss is taken on")
    save_seconds: float = Field(default=60.0, gt=0, description="longest time between two saves of the resume state")


MethodName = Literal["bc", "impala", "kickstart"]
OWN_CLONE = "bc"
"""The teacher that is a study's own clone of the same size; a path takes its place when that one is trained."""


class TrainConfig(Training):
    """One run: one model size, trained by one method, a checkpoint at each compute budget.

    Budgets are in training FLOPs (3 x the analytic forward count x samples).
    `held_out` budgets are trained like the others (whether or not `budgets` names them too) and marked in the points.
    `rl`: how a run learns that does not imitate; with a teacher it is a kickstarted one.
    """

    method: MethodName = "bc"
    rl: Reinforcement | None = None
    size: str
    batch: int = Field(ge=1)  # type: ignore[assignment] # a run's are known
    unroll: int = Field(ge=1)  # type: ignore[assignment]
    budgets: tuple[float, ...]
    held_out: tuple[float, ...] = ()
    core: Literal["lstm", "transformer"] = "lstm"
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _batch_by_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: value for name, value in values.items() if name not in ("batch", "unroll") or value is not None}
        if "size" not in given or {"batch", "unroll"} <= given.keys():
            return given
        batch, unroll = recipe_batch(str(given["size"]), str(given.get("method", "bc")))
        return {"batch": batch, "unroll": unroll} | given

    @model_validator(mode="after")
    def _budgets_are_budgets(self) -> Self:
        cells = (*self.budgets, *self.held_out)
        if not cells:
            raise ValueError("budgets: at least one compute budget is needed, for example 1e11,3e11")
        for budget in cells:
            if not (math.isfinite(budget) and budget > 0):
                raise ValueError(f"budgets: {budget:g} is not a compute budget; give positive FLOPs such as 3e11")
        return self

    @model_validator(mode="after")
    def _method_has_its_settings(self) -> Self:
        if (self.rl is None) != (self.method == "bc"):
            raise ValueError(f"rl: settings of reinforcement learning, and method {self.method}, do not go together")
        if self.rl is not None and (self.rl.teacher is None) != (self.method == "impala"):
            raise ValueError(f"rl.teacher: {self.rl.teacher}, but method {self.method}: kickstart has one, impala none")
        return self

    @property
    def taught_by_own_clone(self) -> bool:
        return self.rl is not None and self.rl.teacher == OWN_CLONE

    @property
    def run_name(self) -> str:
        """What the run is called in the points table, in MLflow and in a study's directory."""
        return f"{self.method}-{self.core}-{self.size}-s{self.seed}"

    @property
    def cells(self) -> tuple[float, ...]:
        """Every budget that gets a checkpoint, ascending, each once."""
        return tuple(sorted({*self.budgets, *self.held_out}))

    @property
    def samples_per_step(self) -> int:
        return self.batch * self.unroll

    def split(self, budget: float) -> Literal["fit", "held-out"]:
        return "held-out" if budget in self.held_out else "fit"


def budget_name(budget: float) -> str:
    """A budget as people write it (3e+11), in full where that would lose digits: the name of its checkpoint folder."""
    short = f"{budget:g}"
    return short if float(short) == budget else repr(budget)
