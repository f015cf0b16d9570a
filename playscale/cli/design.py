"""The runs to make next: `playscale design`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from playscale.cli.laws import Columns, ExpertReturn, MaxReturn, column_names, of_methods, read_table
from playscale.cli.options import (
    BootstrapSeed,
    GpuName,
    OutFolder,
    Tracking,
    Utilisation,
    chosen_hardware,
    echo,
    finite,
    named,
    positive,
)
from playscale.config import LARGEST_SIZE, SMALLEST_SIZE
from playscale.scaling import numbers
from playscale.storage.files import atomic_file, atomic_files, local_path, read_text, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table
    from rich.text import Text

    from playscale.points import Point
    from playscale.scaling.design import Design
    from playscale.study.spec import StudySpec

FILES = ("design.json", "study.yaml")


def design(
    context: typer.Context,
    points: Annotated[
        str, typer.Argument(callback=named, help="Points table, local or in S3, or mlflow:EXPERIMENT, as of `fit`.")
    ],
    target: Annotated[str, typer.Option(help="Compute of the forecast to narrow, in training FLOPs: 1e20.")],
    spend: Annotated[str, typer.Option(help="Training FLOPs that the new runs may take in all: 1e18.")],
    like: Annotated[
        Path | None,
        typer.Option(help="Specification of the study that made the points: write it with the runs as `cells`."),
    ] = None,
    for_: Annotated[
        str, typer.Option("--for", help="loss or return: the forecast to narrow. Default: all that the table has.")
    ] = "",
    out: OutFolder = "out/design",
    episode_flops: Annotated[
        str,
        typer.Option(
            help="FLOPs that an episode counts as. Default: the forward passes of an episode as long as those in the "
            "directory of the study of --like, out/NAME; without any, nothing."
        ),
    ] = "",
    method: Annotated[str, typer.Option(help="Method, or METHOD in GAME, of a table that has several.")] = "",
    expert_return: ExpertReturn = None,
    max_return: MaxReturn = None,
    min_return: Annotated[
        float | None, typer.Option(callback=finite, help="Smallest return that the game allows.")
    ] = None,
    columns: Columns = "",
    budget_column: Annotated[
        str | None, typer.Option(callback=named, help="Column that says to which budget a row belongs.")
    ] = None,
    gpu: GpuName = None,
    utilisation: Utilisation = 0.3,
    seed: BootstrapSeed = 0,
    tracking_uri: Tracking = None,
    json: Annotated[bool, typer.Option("--json", help="Print the proposal as JSON.")] = False,
) -> None:
    """Say what to run next: the runs that narrow the forecast at a target compute most for a spend.

    Writes OUT/design.json, and with --like OUT/study.yaml, a study with these runs as cells beside its grid.

    \b
    Example:
      playscale design studies/example/points.csv --target 1e14 --spend 3e13 --gpu l4
    """
    from playscale.cli.console import show
    from playscale.scaling.cells import OPTIONS, TARGETS
    from playscale.scaling.design import design as propose
    from playscale.scaling.methods import EXPERT, expert_bound

    machine = chosen_hardware(context, gpu, utilisation)
    ahead, flops = positive(target, "--target"), positive(spend, "--spend")
    if for_ and for_ not in OPTIONS:
        raise ValueError(f"--for: {for_!r} is neither loss nor return")
    rate = (positive(episode_flops, "--episode-flops"), 0.0) if episode_flops else (0.0, 0.0)
    study = None if like is None else _Like.read(like)
    _, table, _ = read_table(points, column_names(columns), budget_column, tracking_uri)
    table = of_methods(table, [method] if method else [])
    if study is not None and not episode_flops:
        rate = study.measured(table)
    trains = table[0].method if table else ""
    bound, _ = expert_bound(trains, {} if expert_return is None else {EXPERT: expert_return})
    found = propose(
        table,
        ahead,
        flops,
        seed,
        targets=[OPTIONS[for_]] if for_ else TARGETS,
        episode_flops=rate,
        sizes=(SMALLEST_SIZE, LARGEST_SIZE) if study else (0.0, float("inf")),
        expert_return=bound,
        max_return=max_return,
        min_return=min_return,
        budget_column=budget_column,
        hardware=machine,
    )
    document, spec = found.to_dict(), study.with_cells(table, found) if study else ""
    with atomic_files(local_path(out), *FILES) as aside:
        write_json(aside / FILES[0], document)
        if spec:
            with atomic_file(aside / FILES[1], "w") as file:
                file.write(spec)
    if json:
        echo(json_text.dumps(document, indent=1, allow_nan=False))
        return
    show(*design_tables(document))
    if study is not None:
        echo(f"next: playscale study run {out.rstrip('/')}/{FILES[1]} --out out/{study.spec.name}")


def design_tables(document: Mapping[str, Any]) -> list[Table | Text | str]:
    """Return the tables of a proposal: the runs, what each is for, the forecasts now and after, notes."""
    from playscale.cli.console import plain_table

    hours = document["hardware"] is not None
    names = ("run", "size", "largest budget", "seeds", "checkpoints", "samples", "episodes", "FLOPs", "without it")
    runs = plain_table("Runs to make", *names, *(["GPU hours"] if hours else []))
    for i, row in enumerate(document["runs"], 1):
        runs.add_row(*_run_row(str(i), row), *([numbers.number(row["gpu_hours"])] if hours else []))
    purposes = [f"{i}: {row['purpose']}" for i, row in enumerate(document["runs"], 1)]
    before = plain_table("The same spend on today's sizes", *names[:8])
    for row in document["same_sizes"]:
        before.add_row(*_run_row("", row)[:8])
    forecasts = plain_table(
        f"Forecast at {document['target_flops']:.3g} FLOPs, 95 % interval",
        "target", "forecast", "now", "expected after", "width", "today's sizes", "width",
    )  # fmt: skip
    for row in document["forecasts"]:
        forecasts.add_row(
            row["target"], numbers.number(row["value"]), numbers.interval_of(row),
            numbers.between(row["low_after"], row["high_after"]), numbers.percent(row["width"]),
            numbers.between(row["same_low_after"], row["same_high_after"]), numbers.percent(row["same_width"]),
        )  # fmt: skip
    spent = f"{document['spent']:.3g} of {document['spend']:.3g} FLOPs; width: of the logarithm's interval, over now's"
    return [runs, *purposes, *([before] if document["same_sizes"] else []), forecasts, spent, *document["notes"]]


def _run_row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        numbers.count(row["params"]),
        f"{row['flops']:.3g}",
        str(row["seeds"]),
        str(len(row["budgets"])),
        numbers.count(row["samples"]),
        "" if row["episodes"] is None else f"{row['episodes']:,}",
        f"{row['cost']:.3g}",
        f"+{numbers.percent(row['wider'])}",
    )


class _Like(NamedTuple):
    """The study that made the points."""

    spec: StudySpec
    text: str

    @classmethod
    def read(cls, path: Path) -> _Like:
        from playscale.study.spec import read_spec

        return cls(read_spec(path), read_text(path))

    def measured(self, table: Sequence[Point]) -> tuple[float, float]:
        """Return the FLOPs of an episode, as `design` takes them, by the episodes in the study's directory."""
        from playscale.study.next_study import episode_flops
        from playscale.study.preview import earlier_play

        return episode_flops(earlier_play(self.spec, local_path(f"out/{self.spec.name}")).length, table)

    def with_cells(self, table: Sequence[Point], found: Design) -> str:
        from playscale.study.next_study import next_study

        return next_study(self.spec, self.text, table, found)
