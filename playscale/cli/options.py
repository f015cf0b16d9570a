"""Options that several commands share, and options generated from the fields of a configuration model."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_origin

import typer
from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from playscale.config import (
    LARGEST_NUMBER,
    LARGEST_SEED,
    MOST_PROCESSES,
    FrozenModel,
    budget_name,
    explain,
    known_device,
    parse_budgets,
)
from playscale.storage.files import local_path
from playscale.storage.storage import is_s3

if TYPE_CHECKING:
    from playscale.scaling.gpu import Hardware
    from playscale.tracking.client import TrackingClient

TRACKING_URI = "MLFLOW_TRACKING_URI"


def checked(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    """Return the callback of an option whose value `check` raises ValueError for; an option not given passes."""

    def callback(value: Any) -> Any:
        try:
            if value is not None:
                check(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return value

    return callback


def _check_folder(out: str) -> None:
    if not is_s3(out):
        _check_local_folder(out)


def _check_local_folder(out: str) -> None:
    _check_named(out)
    for path in (local_path(out), *local_path(out).parents):
        if path.exists() or path.is_symlink():
            if not path.is_dir():
                raise ValueError(f"{out}: {path} is a file; give a directory, which is made if it is not there")
            return


def _check_finite(value: float) -> None:
    if not abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"{value} is not a number of at most {LARGEST_NUMBER:g}")


def _check_named(value: str) -> None:
    if not value.strip():
        raise ValueError("empty; give a value, or leave it out")


def _check_each_named(values: Iterable[str]) -> None:
    for value in values:
        _check_named(value)


def _check_gpu(name: str) -> None:
    from playscale.scaling.gpu import hardware

    hardware(name, 1.0)


def _check_utilisation(share: float) -> None:
    from playscale.scaling.gpu import hardware

    hardware("a100", share)


output_folder, finite = checked(_check_folder), checked(_check_finite)
named, each_named = checked(_check_named), checked(_check_each_named)
Out = Annotated[str, typer.Option(callback=output_folder, help="Output directory, or s3://BUCKET/PREFIX.")]
OutFolder = Annotated[str, typer.Option(callback=checked(_check_local_folder), help="Output directory.")]
Workers = Annotated[
    int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Worker processes. Default: one per core.")
]
Device = Annotated[str, typer.Option(callback=checked(known_device), help="auto, cpu, cuda or cuda:N.")]
IncludeForecasts = Annotated[
    bool, typer.Option("--include-forecasts", help="Fit agents that were trained after a forecast of them, too.")
]
GpuName = Annotated[
    str | None,
    typer.Option(callback=checked(_check_gpu), help="GPU model to give hours and energy for: a100, h100, l4, ..."),
]
Utilisation = Annotated[
    float,
    typer.Option(
        callback=checked(_check_utilisation),
        help="Fraction of the GPU's peak FLOP/s that training reaches; with --gpu.",
    ),
]
BootstrapSeed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the bootstrap.")]
Tracking = Annotated[
    str | None, typer.Option(help=f"URI of the MLflow server, or sqlite:/// and a file. Default: ${TRACKING_URI}.")
]
Experiment = Annotated[str | None, typer.Option(callback=named, help="Also log to this MLflow experiment.")]
Command = TypeVar("Command", bound=Callable[..., None])
Settings = TypeVar("Settings", bound=FrozenModel)


def options_of(*models: type[BaseModel], exclude: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command an option for every field of `models`.

    The options take the place of the command's `**settings`: flag, type, default, bounds and help are the field's.
    A field that the command has a parameter of its own for, or that is among `exclude`, gets none. A list of budgets
    is a comma-separated text.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        parameters = {p.name: p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD}
        for model in models:
            for name, field in model.model_fields.items():
                if name not in exclude:
                    parameters.setdefault(name, _option(name, field))
        required_first = sorted(parameters.values(), key=lambda p: p.default is not inspect.Parameter.empty)
        keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in required_first]
        command.__signature__ = own.replace(parameters=keywords)  # type: ignore[attr-defined]
        return command

    return decorate


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter that typer makes the field's option of."""
    kind, default = field.annotation, inspect.Parameter.empty if field.is_required() else field.default
    if get_origin(kind) is tuple:
        kind, default = str, default if field.is_required() else ",".join(map(str, field.default))
    option = typer.Option(
        *([flag(name)] if kind is bool else []),  # no --no-...
        help=field.description,
        min=next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None),  # type: ignore[arg-type]
        max=next((bound.le for bound in field.metadata if isinstance(bound, Le)), None),  # type: ignore[arg-type]
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def settings_of(model: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Return a model of the values of options; ValueError, which names the option, for a bad one."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        field, colon, rest = explain(error).partition(":")
        name = field.split(".")[0]
        raise ValueError(f"{flag(name)}{colon}{rest}" if name in model.model_fields else explain(error)) from error


def flag(name: str) -> str:
    """Return the option of a field: --learning-rate."""
    return f"--{name.replace('_', '-')}"


@contextmanager
def standard_output() -> Iterator[None]:
    """Name standard output in an error of what is written there."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def echo(text: str) -> None:
    with standard_output():
        typer.echo(text)


def given(context: typer.Context, name: str) -> bool:
    """Return whether an option stands on the command line, or in its environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def budget_list(text: str, option: str) -> list[float]:
    """Return the budgets of a comma-separated list; ValueError, which names the option, for a bad one."""
    try:
        budgets = parse_budgets(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    check_once(map(budget_name, budgets), option)
    return budgets


def check_once(values: Iterable[object], option: str) -> None:
    """Raise ValueError, which names the option, where a value is given twice."""
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{option}: {twice[0]} is given twice")


def assignments(text: str, option: str) -> dict[str, str]:
    """Return the values of NAME=VALUE,NAME=VALUE; ValueError, which names the option, for what is left over."""
    if not text.strip():
        raise ValueError(f"{option}: empty; give NAME=VALUE,NAME=VALUE, or leave it out")
    pairs = [tuple(part.strip() for part in each.partition("=")) for each in text.split(",")]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ValueError(
                f"{option}: {name + equals + value!r} in {text!r} is not of the form NAME=VALUE; numbers have no commas"
            )
    check_once((name for name, _, _ in pairs), option)
    return {name: value for name, _, value in pairs}


def chosen_hardware(context: typer.Context, gpu: str | None, utilisation: float) -> Hardware | None:
    """Return the GPU of --gpu at that utilisation; None without one. ValueError: a utilisation without a GPU."""
    from playscale.scaling.gpu import hardware

    if given(context, "utilisation") and not gpu:
        raise ValueError("--utilisation: it is that of a GPU; give --gpu too")
    return hardware(gpu, utilisation) if gpu else None


def number(text: str, option: str) -> float:
    """Return a finite number; ValueError, which names the option, when the text is none."""
    if not text.strip():
        raise ValueError(f"{option}: empty; give a number, or leave it out")
    try:
        value = float(text)
        _check_finite(value)
    except ValueError as error:
        commas = "; write it without commas" if "," in text else ""
        raise ValueError(f"{option}: {text!r} is not a number of at most {LARGEST_NUMBER:g}{commas}") from error
    return value


def positive(text: str, option: str) -> float:
    """Return a number above zero; ValueError, which names the option, when the text is none."""
    value = number(text, option)
    if not value > 0:
        raise ValueError(f"{option}: {text} must be above zero")
    return value


def tracking_client(name: str, tracking_uri: str | None) -> TrackingClient:
    """Return the client of an experiment at the given server, else at $MLFLOW_TRACKING_URI, else in ./mlflow.db."""
    from playscale.tracking.client import TrackingClient

    return TrackingClient(name, tracking_uri or os.environ.get(TRACKING_URI) or "sqlite:///mlflow.db")


def tracking_of(experiment: str | None, tracking_uri: str | None) -> TrackingClient | None:
    """Return the client of the experiment, created where it is missing; None when nothing is to be logged.

    ValueError: a tracking URI without an experiment, or the server refuses the experiment.
    """
    if not experiment:
        if tracking_uri:
            raise ValueError("--tracking-uri: nothing is logged there without --experiment NAME")
        return None
    client = tracking_client(experiment, tracking_uri)
    client.prepare()
    return client
