"""What a terminal shows: progress bars, or plain lines where there is no terminal, and the tables of a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from playscale.points import Point

log = logging.getLogger(__name__)
if TYPE_CHECKING:
    from playscale.rollout.evaluation import Reference

LINE_SECONDS = 10.0


@contextmanager
def progress(task: str) -> Iterator[Callable[[str, float], None]]:
    """A progress callback (what, fraction): a bar on a terminal, a log line every 10 s elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task(task, total=1.0)
            yield lambda what, fraction: bars.update(bar, description=what, completed=fraction)
            bars.update(bar, completed=1.0)
        return
    spoken = 0.0

    def line(what: str, fraction: float) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= LINE_SECONDS:
            spoken = time.monotonic()
            log.info("%s (%.0f %%)", what, 100 * fraction)

    yield line


def show(*tables: Table | str) -> None:
    """Print tables to stdout, 140 columns wide where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    for table in tables:
        console.print(table)


def points_table(points: Sequence[Point]) -> Table:
    """The points, one line each."""
    table = _table("Points", "run", "FLOPs", "params", "samples", "dev loss", "return", "episodes", "split")
    for p in sorted(points, key=lambda p: (p.flops, p.params)):
        table.add_row(
            p.run,
            f"{p.flops:.3g}",
            f"{p.params:,.0f}",
            "" if p.samples is None else f"{p.samples:,.0f}",
            plus_minus(p.dev_loss, p.dev_loss_se, ".3f"),
            plus_minus(p.return_mean, p.return_se, ".1f"),
            "" if p.episodes is None else str(p.episodes),
            p.split,
        )
    return table


def evaluations_table(references: Sequence[Reference]) -> Table:
    """Who played, and the mean return, one line each."""
    table = _table("Returns", "agent", "mean", "episodes")
    for row in references:
        table.add_row(row.name, plus_minus(row.return_mean, row.return_se, ".1f"), str(row.episodes))
    return table


def fit_tables(fit: Mapping[str, Any]) -> list[Table | str]:
    """The laws, the forecasts, forecast against held-out truth, and the warnings of a fit.json."""
    laws = _table("Power laws", "best by", "law", "at", "exponent (95 %)", "R²", "n")
    for row in fit["power_laws"]:
        quantity, _, of = row["quantity"].partition(" of ")
        law = f"{quantity} ~ {of or 'FLOPs'}^a"
        exponent = f"{row['exponent']:+.3f} {interval(row['low'], row['high'], '.3f')}"
        laws.add_row(row["target"], law, row["at"], exponent, _number(row["r2"], ".3f"), str(row["n"]))
    columns = ("FLOPs", "params", "samples", "target")
    forecasts = _table("Forecasts", *columns, "value (95 %)")
    for row in fit["forecasts"]:
        forecasts.add_row(*_cell(row), _value(row))
    held = _table("Held-out: forecast against measured", *columns, "measured", "forecast (95 %)", "inside")
    for row in fit["held_out"]:
        inside = {None: "", True: "yes", False: "NO"}[row["inside"]]
        held.add_row(*_cell(row), _number(row["measured"], ".4g"), _value(row), inside)
    warnings = [f"[yellow]warning[/] {warning['text']}" for warning in fit["warnings"]]
    return [table for table in (laws, forecasts, held) if table.row_count] + warnings


def _cell(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return _number(row["flops"], ".3g"), _number(row["params"], ",.0f"), _number(row["samples"], ",.0f"), row["target"]


def _value(row: Mapping[str, Any]) -> str:
    return f"{_number(row['value'], '.4g')} {interval(row['low'], row['high'], '.4g')}"


def plus_minus(value: float | None, error: float | None, form: str) -> str:
    """A measured value with its standard error; empty when it was not measured."""
    if value is None:
        return ""
    return f"{value:{form}}" if error is None else f"{value:{form}} ± {error:{form}}"


def interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"({low:{form}} to {high:{form}})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="left" if column in {"run", "agent", "split", "law"} else "right", no_wrap=True
        )
    return table
