"""Configuration: YAML into frozen models, sizes and budgets, the registry of methods, the settings of a training run.

Nothing here imports torch: a study is checked, and the command line is built, without it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

EVALUATION_SEED, COLLECTING_SEED, TRAINING_SEED = 0, 1_000_000, 2**30
"""Where the seeds of games begin by default, for evaluating, for collecting and for training: they do not overlap."""

# --- YAML ------------------------------------------------------------------------------------------------------------


class FrozenModel(BaseModel):
    """Base of all configuration: immutable, its numbers are finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=FrozenModel)
MOST_VALUES = 100_000
"""Most values of a YAML text, those of an alias counted wherever it stands: ten nested lists can stand for 10**10."""


def from_yaml(model: type[Model], text: str, where: str) -> Model:
    """Read a model from YAML text.

    Args:
        model: The class to read.
        text: A YAML mapping of the model's keys.
        where: Name of the source, which every error message begins with.

    Raises:
        ValueError: The text is no valid YAML or no such model: one line that says where, and for an unknown key names
            the nearest known one.
    """
    data, root = _parse_yaml(text, where)
    if not isinstance(data, dict) or root is None:
        raise ValueError(f"{where}: expected a mapping of keys: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(_numbers(data))
    except ValidationError as error:
        line = _line(root, most_telling(error)["loc"])
        raise ValueError(f"{where}{f', line {line}' if line else ''}: {explain(error, model)}") from error


def _parse_yaml(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    """Return the data of a YAML text, and its tree of nodes; ValueError for one that is invalid or too large."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        _count_values(root, {})
        return loader.construct_document(root), root
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise ValueError(f"{where}: not valid YAML{f' (line {place.line + 1})' if place else ''}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: its lists and mappings are nested too deeply") from error
    except ValueError as error:  # such as the 31st of February
        raise ValueError(f"{where}: not valid YAML ({error})") from error


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Return the number of values of a node. ValueError: too many, one that contains itself, or a key given twice."""
    if id(node) not in counted:
        counted[id(node)] = MOST_VALUES + 1  # until its content is counted: it must not be part of that
        content = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in content if isinstance(key, yaml.ScalarNode))
            if twice := [key for key, count in keys.items() if count > 1]:
                raise ValueError(f"line {node.start_mark.line + 1}: {twice[0]} is given twice")
            content = [part for pair in content for part in pair]
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in content)
    if counted[id(node)] > MOST_VALUES:
        raise ValueError(f"line {node.start_mark.line + 1}: stands for more than {MOST_VALUES:,} values")
    return counted[id(node)]


def _line(node: yaml.Node, place: Sequence[int | str]) -> int | None:
    """Return the line of a place in a tree of nodes, as near as it can be found; None for the whole."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            pairs = [(node.value[part], node.value[part])]
        else:
            break
        if not pairs:
            break
        line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
    return line


def _numbers(value: Any) -> Any:
    """Turn texts such as 3e10, which YAML 1.1 does not read as numbers, into numbers."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


# --- Errors of validation --------------------------------------------------------------------------------------------

WORDING = {
    "string_type": "must be text (in YAML: put it in quotes)",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} values",
    "too_long": "must have at most {max_length} values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "dataclass_type": "must be a mapping of keys",
}
"""What a value must be, by pydantic's type of error."""
LONGEST_VALUE = 60  # characters of a value that a message shows


def most_telling(error: ValidationError) -> ErrorDetails:
    """Return the most telling error of a validation. An unknown key comes first: it explains a missing one."""
    return min(error.errors(), key=lambda each: each["type"] not in ("extra_forbidden", "unexpected_keyword_argument"))


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return the most telling error of a validation in one line.

    Args:
        error: What validation of `model` raised.
        model: The class that was validated, to suggest its keys for an unknown one.
    """
    first = most_telling(error)
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden" and model is not None:
        known = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        return f"unknown key {place!r}; did you mean {near[0]!r}? known keys: {', '.join(known)}"
    if first["type"] == "missing":
        return f"missing key {place!r}"
    message = first["msg"].removeprefix("Value error, ")
    if wording := WORDING.get(first["type"]):
        message = f"{wording.format(**first.get('ctx', {}))}, not {_short(first['input'])}"
    return f"{place}: {message}" if place else message


def _short(value: Any) -> str:
    """Write a value, but not all of a long one."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        if isinstance(part, int):
            continue  # an item of a list: its keys are those of the list's type
        model = next(kind for kind in _types(model.model_fields[part].annotation) if issubclass(kind, BaseModel))
    return list(model.model_fields)


def _types(annotation: Any) -> list[type]:
    """Return the classes that an annotation names at any depth: Toleration for tuple[Toleration, ...] | None."""
    inside = [kind for part in get_args(annotation) for kind in _types(part)]
    return [*inside, annotation] if isinstance(annotation, type) else inside


# --- Sizes and budgets -----------------------------------------------------------------------------------------------

LARGEST_NUMBER = 1e100
"""Largest budget, count or measurement: analysis multiplies them, and logarithmic axes go beyond them."""
UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
SMALLEST_SIZE, LARGEST_SIZE = 8_000, 1_000_000_000


def parse_size(size: str | int) -> int:
    """Return the number of parameters that a size stands for: 250_000 for "250k", "0.25M" or 250000.

    Raises:
        ValueError: `size` is no parameter count, or none between the smallest and the largest size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb]?)", str(size).strip().lower())
    if match is None:
        raise ValueError(f"{size!r} is not a model size: write a parameter count such as 30k, 1.5M or 250000")
    count = float(match[1]) * UNITS[match[2]]
    if not SMALLEST_SIZE <= count <= LARGEST_SIZE:
        raise ValueError(f"size {size!r} is out of range: the smallest is 8k, the largest 1B")
    return round(count)


def normal_size(size: str | int) -> str:
    """Return the one spelling of a size, which names of runs and tables use: "250k" for "250K", "0.25M" or 250000.

    Raises:
        ValueError: `size` is no model size.
    """
    count = parse_size(size)
    unit = next(unit for unit in ("b", "m", "k") if count >= UNITS[unit])
    return f"{count / UNITS[unit]:.9g}{unit if unit == 'k' else unit.upper()}"


def parse_budget(budget: object) -> float:
    """Return a compute budget in training FLOPs, from a number or a text such as "3e11".

    Raises:
        ValueError: `budget` is no positive, finite number.
    """
    try:
        flops = math.nan if isinstance(budget, bool) else float(budget)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        flops = math.nan
    if not 0 < flops <= LARGEST_NUMBER:
        raise ValueError(f"{budget!r} is not a compute budget: write training FLOPs such as 3e11")
    return flops


def parse_budgets(text: str) -> list[float]:
    """Return the budgets of a comma-separated list such as "1e11,3e11"; ValueError for one that is none."""
    return [parse_budget(part.strip()) for part in text.split(",") if part.strip()]


def budget_name(budget: float) -> str:
    """Return a budget as people write it (3e+11), in full where that would lose digits. Checkpoints are named so."""
    short = f"{budget:g}"
    return short if float(short) == budget else repr(budget)


def setting_text(value: Any) -> str:
    """Return the value of a setting as names of runs and the points table have it: 0.001, 32, bf16."""
    return budget_name(value) if isinstance(value, float) else str(value).lower()


Size = Annotated[str, BeforeValidator(normal_size)]
Budget = Annotated[float, BeforeValidator(parse_budget)]

LARGEST_SEED = 2**63 - 1
MOST_PROCESSES = 4096
MOST_GAMES = 10**7
LONGEST_GAME = 10**9  # actions

Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]

# --- Methods ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodInfo:
    """The properties of a training method that training, study, analysis and report depend on.

    Attributes:
        label: Name in running text.
        colour: Colour in figures, on a light and on a dark page. No two methods share one.
        marker: Marker in figures (matplotlib).
        imitates: Learns from a corpus of expert play. Otherwise from its own play, with settings of reinforcement
            learning, and its samples are interactions with the game.
        has_dev_loss: Has a validation loss.
        has_teacher: Learns from a teacher's policy beside the rewards.
    """

    label: str
    colour: tuple[str, str]
    marker: str
    imitates: bool = False
    has_dev_loss: bool = False
    has_teacher: bool = False


METHODS = {
    "bc": MethodInfo("behavioural cloning", ("#00796b", "#4fd1bd"), "o", imitates=True, has_dev_loss=True),
    "impala": MethodInfo("IMPALA", ("#c1520c", "#ff9e5e"), "s"),
    "kickstart": MethodInfo("kickstarting", ("#4f46c4", "#a9a2ff"), "^", has_teacher=True),
}
"""All methods by name, in the order in which studies run them and reports show them."""

IMITATING_METHODS = frozenset(name for name, method in METHODS.items() if method.imitates)
PLAYING_METHODS = frozenset(METHODS) - IMITATING_METHODS


def known_method(name: str) -> str:
    """Return the name of a method; ValueError when there is no such method."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown: known are {', '.join(METHODS)}")
    return name


MethodName = Annotated[str, AfterValidator(known_method)]

# --- Training --------------------------------------------------------------------------------------------------------

Core = Literal["lstm", "transformer"]


def known_device(name: str) -> str:
    """Return the name of a device, whether or not this machine has it; ValueError for any other name."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", name):
        raise ValueError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N")
    return name


DeviceName = Annotated[str, AfterValidator(known_device)]
CLONE_OF_STUDY = "bc"
"""Value of `teacher` for the study's own clone of the same size. The clone's path replaces it once that is trained."""


class Reinforcement(FrozenModel):
    """Settings of IMPALA (Espeholt et al., arXiv 1802.01561), and of kickstarting (Schmitt et al., arXiv 1803.03835).

    A batch is one unroll of the `batch` environments of one actor. A run with a teacher is a kickstarted one.
    """

    game: str = Field(default="nethack/score", description="Game, or task of a game, that is played.")
    max_steps: int = Field(
        default=5000, ge=1, le=LONGEST_GAME, description="Actions after which a training episode is truncated."
    )
    actors: int | None = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="Actor processes. Default: by cores, at least 2."
    )
    workers: int | None = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="Environment processes, all actors. Default: by cores."
    )
    discount: float = Field(default=0.999, ge=0, le=1, description="Discount factor.")
    rho_bar: float = Field(
        default=1.0, gt=0, description="V-trace correction for old actors: cap of the policy ratio in a step's error."
    )
    c_bar: float = Field(
        default=1.0,
        gt=0,
        description="V-trace correction for old actors: cap of the ratio that passes later errors back.",
    )
    baseline_cost: float = Field(default=0.5, ge=0, description="Weight of the value loss.")
    entropy_cost: float = Field(default=0.0005, ge=0, description="Weight of the entropy bonus.")
    reward_scale: Literal["running", "none"] = Field(
        default="running", description="running: divide rewards by the running standard deviation of the returns."
    )
    reward_clip: float | None = Field(default=3.0, gt=0, description="Largest absolute reward, after scaling.")
    optimizer: Literal["adam", "rmsprop"] = Field(default="adam", description="Optimizer.")
    teacher: str | None = Field(
        default=None, description="Checkpoint of a teacher, for example a cloned agent: makes this a kickstarted run."
    )
    start: Literal["scratch", "teacher"] = Field(
        default="teacher", description="Initial weights of a kickstarted run: random ones, or the teacher's."
    )
    teacher_cost: float = Field(default=1.0, ge=0, description="Initial weight of the KL divergence from the teacher.")
    teacher_half_life: float = Field(default=1e6, gt=0, description="Interactions in which the teacher cost halves.")
    value_warmup: int = Field(
        default=0, ge=0, description="Interactions that train the value head alone, before the policy gradient begins."
    )


class Training(FrozenModel):
    """Training settings that all runs of a study share. A sample is one transition.

    `batch` and `unroll`, where not given, follow from the model's size: see `recipe_batch`.
    """

    batch: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="Sequences in a batch: games, or environments of an actor. Default: by size.",
    )
    unroll: int | None = Field(default=None, ge=1, le=10**6, description="Transitions of a sequence. Default: by size.")
    learning_rate: float | None = Field(default=None, gt=0, description="Peak learning rate. Default: by size.")
    warmup_steps: int = Field(default=20, ge=0, description="Optimizer steps of linear learning rate warm-up.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest global norm of the gradient.")
    cooldown: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of each budget in which the learning rate decays to zero."
    )
    average: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Part of the steps before it over which a checkpoint's weights are averaged; 0: the last weights.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on CUDA, else fp32.")
    device: DeviceName = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    threads: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PROCESSES,
        description="Threads of torch in each process. Default: by cores and size, 1 if small.",
    )
    compile: bool = Field(
        default=False, description="Compile the encoder with torch.compile: slower to start, faster steps on a GPU."
    )
    dev_samples: int = Field(default=8192, ge=1, description="Transitions that the dev loss is measured on.")
    save_seconds: float = Field(default=60.0, gt=0, description="Seconds between two saves of the resume state.")


MAY_DIFFER = (
    "budgets", "held_out", "device", "threads", "save_seconds", "compile", "rl.actors", "rl.workers", "rl.teacher",
    "vary", "varied",
)  # fmt: skip
"""Settings of a run that do not decide its result: cells are added and relabelled, the machine is another. A teacher is
known by its weights, not by its place."""


class TrainConfig(Training):
    """One run: one model size, trained by one method, a checkpoint at each compute budget.

    `held_out` budgets are trained like the others, whether or not `budgets` names them too, and marked in the points.
    """

    method: MethodName = Field(default="bc", description="Training method.")
    rl: Reinforcement | None = Field(default=None, description="Settings of a method that learns from its own play.")
    size: Size = Field(description="Model size in parameters, 8k to 1B: 30k, 1.5M, 250000.")
    batch: int = Field(  # type: ignore[assignment] # known in a run
        ge=1, le=10**6, description=str(Training.model_fields["batch"].description)
    )
    unroll: int = Field(  # type: ignore[assignment]
        ge=1, le=10**6, description=str(Training.model_fields["unroll"].description)
    )
    budgets: tuple[Budget, ...] = Field(description="Compute budgets in training FLOPs, comma-separated: 1e11,3e11.")
    held_out: tuple[Budget, ...] = Field(
        default=(), description="Budgets marked as held out: trained, but left out of fits; comma-separated."
    )
    core: Core = Field(default="lstm", description="Recurrent core of the policy.")
    seed: Seed = Field(
        default=0,
        description="Seed of the initial weights and of the order of games; in IMPALA, of the games that are played.",
    )
    vary: tuple[str, ...] = Field(
        default=(), description="Settings that the study varies, each a column of the points table."
    )
    varied: str = Field(
        default="",
        description="Settings in which the run differs from the study's recipe: batch=32 learning_rate=0.001.",
    )

    @model_validator(mode="before")
    @classmethod
    def _batch_by_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: value for name, value in values.items() if name not in ("batch", "unroll") or value is not None}
        if "size" not in given or {"batch", "unroll"} <= given.keys():
            return given
        try:
            batch, unroll = recipe_batch(given["size"], known_method(str(given.get("method", "bc"))))
        except ValueError as error:
            raise ValueError(f"size: {error}") from error
        return {"batch": batch, "unroll": unroll} | given

    @model_validator(mode="after")
    def _has_budgets(self) -> Self:
        if not self.cells:
            raise ValueError("budgets: at least one compute budget is needed, for example 1e11,3e11")
        return self

    @model_validator(mode="after")
    def _method_has_its_settings(self) -> Self:
        if (self.rl is None) == (self.method in PLAYING_METHODS):
            raise ValueError(f"rl: settings of reinforcement learning, and method {self.method}, do not go together")
        if self.rl is not None and (self.rl.teacher is not None) != METHODS[self.method].has_teacher:
            raise ValueError(f"rl.teacher: {self.rl.teacher}, but method {self.method}: kickstart has one, impala none")
        return self

    @property
    def teacher_is_clone_of_study(self) -> bool:
        """The teacher is a clone that the same study trains first."""
        return self.rl is not None and self.rl.teacher == CLONE_OF_STUDY

    @property
    def run_name(self) -> str:
        """Name of the run in the points table, in MLflow and in a study's directory."""
        own = f"{self.method}-{self.core}-{self.size}-s{self.seed}"
        return "-".join([own, *self.varied.split()])

    def setting(self, name: str) -> Any:
        """Return a setting by its name, such as learning_rate or rl.discount; None where the run has none."""
        value: Any = self
        for part in name.split("."):
            value = getattr(value, part, None)
        return value

    @property
    def cells(self) -> tuple[float, ...]:
        """Every budget that gets a checkpoint, ascending, each once."""
        return tuple(sorted({*self.budgets, *self.held_out}))

    @property
    def samples_per_step(self) -> int:
        """Transitions of one optimizer step."""
        return self.batch * self.unroll

    def split(self, budget: float) -> Literal["fit", "held-out"]:
        """Return the split of a budget's point."""
        return "held-out" if budget in self.held_out else "fit"


BASE_PARAMS = 1_000_000
BASE_STEP = (8, 16)  # batch, unroll up to BASE_PARAMS
PLAYING_STEP = (32, 20)
LARGEST_STEP = 104 * 80  # samples a step of all sizes in Tuyls et al. (arXiv 2307.09423)


def recipe_batch(size: str | int, method: str = "bc") -> tuple[int, int]:
    """Return the default batch and unroll of a model size.

    A method that plays has 32 environments an actor and unrolls of 20. Otherwise 8 x 16 up to a million parameters,
    then samples a step in proportion to parameters. Small budgets run out of optimizer steps before they run out of
    samples, and only on a GPU is a small model's step short of work. At a compute-optimal budget samples grow about as
    parameters do, so in proportion every size gets as many steps. Longer unrolls train memory over longer times; 80 is
    the paper's.

    Raises:
        ValueError: `size` is no model size.
    """
    params = parse_size(size)
    if method in PLAYING_METHODS:
        return PLAYING_STEP
    if params <= BASE_PARAMS:
        return BASE_STEP
    unroll = 32 if params <= 10 * BASE_PARAMS else 80
    samples = min(LARGEST_STEP, BASE_STEP[0] * BASE_STEP[1] * params / BASE_PARAMS)
    return max(8, 8 * round(samples / unroll / 8)), unroll
