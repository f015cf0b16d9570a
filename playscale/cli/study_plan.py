"""A study before it runs: `playscale study plan`."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from playscale.cli.options import GpuName, Utilisation, chosen_hardware, echo, finite, output_folder
from playscale.config import explain
from playscale.scaling import numbers
from playscale.storage.files import local_path, read_json
from playscale.storage.storage import is_s3

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

UNKNOWN = "not known"


def study_plan(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(help="Specification of the study, YAML; see studies/.")],
    gpu: GpuName = None,
    utilisation: Utilisation = 0.3,
    price: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="Price of an hour of the GPU; with --gpu.")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(help="An earlier fit.json, whose law says which sizes to expect to be best.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            callback=output_folder, help="Directory of the study, for its corpus and episodes. Default: out/NAME."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds of training steps to measure; 0: measure nothing.")
    ] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show the grid of a study with what it will cost, and warnings, before it runs. Writes nothing.

    \b
    Example:
      playscale study plan studies/quickstart.yaml --gpu h100 --utilisation 0.3 --price 2.5
    """
    from playscale.cli.console import progress, show
    from playscale.study.measure import environment_rate, measured_machine
    from playscale.study.preview import earlier_play, gpu_machine, known_play, preview, this_machine
    from playscale.study.spec import read_spec

    hardware = chosen_hardware(context, gpu, utilisation)
    if price is not None and hardware is None:
        raise ValueError("--price: it is that of an hour of a GPU; give --gpu too")
    study, fit = read_spec(spec), None if prior is None else _read_fit(prior)
    folder = None if out is not None and is_s3(out) else local_path(out or f"out/{study.name}")
    expert_play = known_play(study, folder)
    machine = this_machine() if hardware is None else gpu_machine(hardware)
    if seconds:
        with TemporaryDirectory(prefix="playscale-plan-") as aside, progress("measure this machine") as report:
            if hardware is None:
                machine, expert_play = measured_machine(study, expert_play, Path(aside), seconds, report)
            else:
                report("play", 0.0)
                machine = gpu_machine(hardware, environment_rate(study, Path(aside) / "play"))
    document = preview(study, machine, expert_play, earlier_play(study, folder), fit, str(prior or ""), price)
    if json:
        echo(json_text.dumps(document, indent=1, allow_nan=False))
    else:
        show(*plan_tables(document))


class _Law(BaseModel):
    """The fields of a power law in fit.json that a prior uses."""

    quantity: str
    target: str
    at: str
    exponent: float
    log_coefficient: float


class _Row(BaseModel):
    """The fields of a point in fit.json that a prior uses."""

    flops: float
    return_mean: float | None = None
    return_se: float | None = None
    episodes: float | None = None


class _Fit(BaseModel):
    power_laws: list[_Law]
    points: list[_Row]


def _read_fit(path: Path) -> Mapping[str, Any]:
    from playscale.scaling.methods import fits_of

    if not path.is_file():
        raise ValueError(f"--prior: {path}: no such file; give the fit.json of an earlier study or fit")
    fit: Mapping[str, Any] = read_json(path)
    try:
        for one in fits_of(fit).values():
            _Fit.model_validate(one)
    except ValidationError as error:
        raise ValueError(f"--prior: {path}: not a fit.json: {explain(error)}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"--prior: {path}: not a fit.json") from error
    return fit


def plan_tables(plan: Mapping[str, Any]) -> list[Table | Text | str]:
    """Return the tables of a plan: models, cells, what is left out, expected best sizes, sums, warnings."""
    from playscale.cli.console import marked, plain_table

    several = len({run["method"] for run in plan["runs"]}) > 1

    def of(row: Mapping[str, Any]) -> str:
        return " ".join(filter(None, [row["method"] if several else "", row["size"], row["varied"]]))

    models = plain_table(
        "Models", "size", "parameters", "width", "layers", "batch", "unroll", "FLOPs a sample", "memory"
    )
    for run in _once(plan["runs"]):
        shape = (f"{run['params']:,}", str(run["width"]), str(run["layers"]), str(run["batch"]), str(run["unroll"]))
        models.add_row(of(run), *shape, numbers.count(run["flops_per_sample"]), _memory(run["memory"]))
    cells = plain_table("Cells", "size", "budget", "samples", "epochs", "steps", "FLOPs", "time", "episodes", "core h")
    least = "\N{GREATER-THAN OR EQUAL TO}" if plan["corpus"] and plan["corpus"]["basis"] == "at most" else ""
    trained = [row for row in plan["cells"] if row["reason"] is None]
    for row in _once(trained):
        held_out = "*" if row["split"] == "held-out" else ""
        cells.add_row(
            of(row),
            f"{row['budget']:.3g}{held_out}",
            numbers.count(row["samples"]),
            "" if row["epochs"] is None else f"{least}{row['epochs']:.2g}",
            _steps(row["steps"]),
            f"{row['flops']:.3g}",
            _time(row["hours"]),
            f"{row['episodes']:,}",
            _core_hours(row["play_core_hours_most"], row["play_core_hours"]),
        )
    left_out = plain_table("Left out", "size", "budget", "why")
    for row in _once([row for row in plan["cells"] if row["reason"] is not None]):
        left_out.add_row(of(row), f"{row['budget']:.3g}", row["reason"])
    columns = ("budget", "best size", "nearest", "steps there")
    best = plain_table("Expected best sizes", *(("method",) if several else ()), *columns)
    for row in plan["best"]:
        first = ([row["method"]] if several else []) + [f"{row['budget']:.3g}"]
        if row["params"] is None:
            best.add_row(*first, "no prior here", "", "")
            continue
        side = "" if row["side"] == "inside" else f" ({row['side']} all)"
        size = f"{numbers.count(row['params'])}{side}"
        best.add_row(*first, size, row["size"], _steps(row["steps"]))
    used = {row["method"]: plan["priors"][row["method"]] for row in plan["best"] if row["params"] is not None}
    sums = plain_table("In all", "what", "amount")
    for what, amount in _sums(plan):
        sums.add_row(what, amount)
    shown = [models, cells, *([left_out] if left_out.row_count else []), best, sums]
    notes = [
        "FLOPs and time of a cell: beyond the cell before it of the same run; core h: of play. * held out",
    ]
    notes += [f"best sizes{f' of {method}' if several else ''}: by {source}" for method, source in used.items()]
    return [*shown, *notes, *(marked("warning", "yellow", f" {one['text']}") for one in plan["warnings"])]


def _steps(steps: int) -> str:
    return f"{steps:,}" if steps < 1e6 else numbers.count(steps)


def _once(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield each model or cell once: those of other seeds are the same, if their run takes the same steps there."""
    once: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        once.setdefault(tuple(row.get(name) for name in ("method", "size", "varied", "budget", "flops")), row)
    yield from once.values()


def _sums(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sums, machine = plan["total"], plan["machine"]
    seeds = len({run["seed"] for run in plan["runs"]})
    yield "training runs", f"{sums['runs']}{f' ({seeds} seeds)' if seeds > 1 else ''}"
    yield "cells", f"{sums['cells']} of {len(plan['cells'])}"
    yield "FLOPs", f"{sums['flops']:.3g}"
    yield f"training on {machine['name']}", _time(sums["hours"]) or UNKNOWN
    if sums["price"] is not None:
        yield "price", f"{sums['price']:,.2f}"
    yield "memory of the largest run", _memory(sums["memory"])
    yield "transitions to learn from", _transitions(plan["corpus"])
    yield "episodes", f"{sums['episodes']:,.0f}"
    yield "actions in them", f"at most {numbers.count(sums['play_steps_most'])}"
    if (most := sums["total_elapsed_hours_most"]) is not None:
        about, known = _time(sums["total_elapsed_hours"]), sums["total_elapsed_hours"] is not None
        yield "time in all, with play", f"{f'about {about}, ' if known else ''}at most {_time(most)}"
    yield "core hours of play", _core_hours(sums["play_core_hours_most"], sums["play_core_hours"]) or UNKNOWN


def _transitions(corpus: Mapping[str, Any] | None) -> str:
    if corpus is None:
        return UNKNOWN
    basis = {"corpus": "", "at most": "at most ", "estimated": "about "}[corpus["basis"]]
    return f"{basis}{numbers.count(corpus['train'])}"


def _time(hours: float | None) -> str:
    return "" if hours is None else numbers.duration(3600 * hours)


def _core_hours(most: float | None, expected: float | None) -> str:
    if most is None:
        return ""
    about = "" if expected is None else f"{numbers.number(expected, 2)}, "
    return f"{about}\N{LESS-THAN OR EQUAL TO}{numbers.number(most, 2)}"


def _memory(size: float) -> str:
    return f"{numbers.number(size / 1e9, 2)} GB"
