"""Terminal output: progress bars, or plain lines where there is no terminal, and the tables of a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import HEAVY_HEAD, HORIZONTALS, SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from playscale.cli.options import standard_output
from playscale.points import Point, Reference
from playscale.report import track_record
from playscale.report.law_section import method_name
from playscale.report.ledger_section import ENTRY_HEAD, PLAIN_HEAD, SCORE_HEAD, entry_row, score_rows
from playscale.report.text import printable
from playscale.scaling import numbers
from playscale.scaling.ledger import Entry
from playscale.scaling.methods import UNNAMED
from playscale.scaling.reach import reach_name
from playscale.tracking.monitor import gauge

log = logging.getLogger(__name__)
if TYPE_CHECKING:
    from playscale.report.reproduction import Reproduction

LINE_SECONDS = 10.0
WIDTH = 140  # columns where there is no terminal
WIDEST = 10_000  # columns to measure a table in, so that nothing limits it
CELL_HEAD = ("FLOPs", "params", "samples", "target")
VERDICT = ("verdict", "ground", "what was found")
POOLED = ("exponent of", "table", "kept")
LEFT = {"run", "agent", "split", "law", "target", "best by", "parameter", "what", "why", "by", *VERDICT, *POOLED}
COEFFICIENTS = ("A", "B")


@contextmanager
def progress(task: str) -> Iterator[Callable[[str, float], None]]:
    """Give a progress callback (what, fraction): a bar on a terminal, a log line every 10 s elsewhere."""
    console = plain_console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task(task, total=1.0)

            def move(what: str, fraction: float) -> None:
                gauge("task_progress_ratio", fraction)
                bars.update(bar, description=printable(what), completed=fraction)

            yield move
            bars.update(bar, completed=1.0)
        return
    spoken = 0.0

    def line(what: str, fraction: float) -> None:
        nonlocal spoken
        gauge("task_progress_ratio", fraction)
        if time.monotonic() - spoken >= LINE_SECONDS:
            spoken = time.monotonic()
            log.info("%s (%.0f %%)", what, 100 * fraction)

    yield line


def plain_console(**options: Any) -> Console:
    """Return a console that shows text as it is: brackets and colons in it are no markup."""
    return Console(markup=False, emoji=False, **options)


def show(*tables: Table | Text | str) -> None:
    """Print tables and text to stdout. No cell is cropped: a table that is too wide for the terminal is narrowed.

    Where there is no terminal, lines of text are 140 columns wide, and tables as wide as they need to be.
    """
    with standard_output():
        for table in tables:
            print_table(table, plain_console())


def print_table(table: Table | Text | str, console: Console) -> None:
    """Print a table or text to a console, none of it cropped."""
    needed = _width(table, console) if isinstance(table, Table) else 0
    if not console.is_terminal:
        console.width = max(needed, WIDTH)
        console.print(table)
    elif isinstance(table, Table) and needed > console.width:
        console.print(narrowed(table, console))
    else:
        console.print(table)


def _width(table: Table, console: Console) -> int:
    """Return the columns that a table takes when nothing limits it."""
    return console.measure(table, options=console.options.update(width=WIDEST)).maximum


def narrowed(table: Table, console: Console) -> Table:
    """Return a table that is narrower: without its empty columns.

    If that is still too wide, without lines between the columns, or else with a line for each cell of a row.
    """
    columns = [column for column in table.columns if any(column.cells)]
    rows = list(zip(*(column.cells for column in columns), strict=True))
    for box, lines in ((HEAVY_HEAD, True), (SIMPLE_HEAD, False)):
        look = {"box": box, "pad_edge": lines, "show_edge": lines, "collapse_padding": not lines}
        slim = Table(title=table.title, title_justify="left", header_style="bold", **look)  # type: ignore[arg-type]
        for column in columns:
            slim.add_column(column.header, justify=column.justify, no_wrap=True)
        for row in rows:
            slim.add_row(*row)
        if _width(slim, console) <= console.width:
            return slim
    turned = Table(title=table.title, title_justify="left", show_header=False, box=HORIZONTALS, pad_edge=False)
    turned.add_column(style="bold", overflow="fold")
    turned.add_column(overflow="fold")
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            turned.add_row(column.header, cell)
        turned.add_section()
    return turned


class _Table(Table):
    """A table whose cells are plain text."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(printable(cell) for cell in cells), **options)


def points_table(points: Sequence[Point]) -> Table:
    """List the points, one line each."""
    table = plain_table("Points", "run", "FLOPs", "params", "samples", "dev loss", "return", "episodes", "split")
    losses = [p.dev_loss for p in points if numbers.known(p.dev_loss)]
    digits = numbers.digits_among(losses) if losses else 3
    for p in sorted(points, key=lambda p: (p.flops, p.params)):
        table.add_row(
            p.run,
            f"{p.flops:.3g}",
            f"{p.params:,.0f}",
            "" if p.samples is None else f"{p.samples:,.0f}",
            plus_minus(p.dev_loss, p.dev_loss_se, digits),
            plus_minus(p.return_mean, p.return_se),
            "" if p.episodes is None else str(p.episodes),
            "diverged" if p.diverged else p.split,
        )
    return table


def evaluations_table(references: Sequence[Reference]) -> Table:
    """List the mean returns of players, one line each."""
    table = plain_table("Returns", "agent", "mean", "episodes")
    for row in references:
        table.add_row(row.name, plus_minus(row.return_mean, row.return_se), str(row.episodes))
    return table


def fit_tables(fit: Mapping[str, Any]) -> list[Table | Text | str]:
    """Return the tables of a fit.json: the laws and how well they forecast, forecasts, held-out truth, warnings."""
    if "methods" in fit:
        failed = [
            marked(f"{method or UNNAMED} is not fitted", "yellow", f": {why}") for method, why in fit["failed"].items()
        ]
        own = [["", marked(_group(name, one), "bold"), *fit_tables(one)] for name, one in fit["methods"].items()]
        return [*(table for tables in own for table in tables), *failed]
    from playscale.cli.advice_tables import advice_tables

    chosen, why = _chosen(fit), [printable(f"{target}: {law['why']}") for target, law in fit["laws"].items()]
    tables = [
        *(_backtest(fit, target) for target in fit["laws"]), _track_record(fit), _power_laws(fit), _surfaces(fit),
        _forecasts(fit), _target_returns(fit), _held_out(fit),
    ]  # fmt: skip
    warnings = [marked("warning", "yellow", f" {warning['text']}") for warning in fit["warnings"]]
    laws: list[Table | Text | str] = [chosen, *why, *(table for table in tables if table.row_count)]
    return [_verdicts(fit), _budgets(fit), *laws, *advice_tables(fit), *warnings]


def _group(name: str, fit: Mapping[str, Any]) -> str:
    """Return the heading of the fit of one method or game."""
    if not name:
        return UNNAMED.capitalize()
    return f"{'Method' if fit['points'][0]['method'] else 'Game'} {name}"


def _budgets(fit: Mapping[str, Any]) -> str:
    """Say how many budgets were found, by what, and how far runs lie from them."""
    found = fit["budgets"]
    source = printable(found["source"])
    if found["source"].startswith("steps"):
        return f"no separate budgets: runs are put together in {source}, {found['count']} in all"
    off = 100 * (found["spread"] - 1)
    near = f"runs lie up to {off:.2g} % from theirs" if off >= 0.05 else "all runs are at theirs"
    return f"{numbers.counted(found['count'], 'budget')}, found by {source}; {near}"


def marked(start: str, style: str, text: str = "") -> Text:
    return Text.assemble((printable(start), style), printable(text))


def _verdicts(fit: Mapping[str, Any]) -> Table:
    """Show whether the table can carry a forecast of each target, a ground a line."""
    table = plain_table("Can this table carry a forecast?", "target", *VERDICT)
    for target, verdict in fit["verdicts"].items():
        for i, ground in enumerate(verdict["grounds"]):
            first = (target, verdict["level"]) if i == 0 else ("", "")
            table.add_row(*first, ground["level"], ground["text"])
    return table


def _chosen(fit: Mapping[str, Any]) -> Table:
    """Show the law chosen for each target, a parameter a line."""
    table = plain_table("The laws that forecast", "target", "law", "parameter", "value (95 %)")
    _add_parameters(table, fit["laws"])
    return table


def _surfaces(fit: Mapping[str, Any]) -> Table:
    """Show the law of params and samples of each target, a parameter a line."""
    table = plain_table("The laws of params (N) and samples (D)", "target", "law", "parameter", "value (95 %)")
    _add_parameters(table, fit["parametric"])
    return table


def _add_parameters(table: Table, laws: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the parameters of each target's law; a coefficient, at one FLOP or parameter, without its interval."""
    for target, law in laws.items():
        for i, (name, given) in enumerate(law["parameters"].items()):
            first = (target, law["form"]) if i == 0 else ("", "")
            table.add_row(*first, name, numbers.number(given["value"], 4) if name in COEFFICIENTS else _value(given))


def _backtest(fit: Mapping[str, Any], target: str) -> Table:
    """Show the scores of all laws by how far ahead they forecast; the chosen law first."""
    found = track_record.backtest(fit, target)
    reaches = sorted({reach for scores in found.values() for reach in scores})
    columns = [_ahead(reach) for reach in reaches]
    what = f"{target}{track_record.above(fit, target)}"
    table = plain_table(
        f"Backtest of {what}, each law alone at every budget: median miss (share inside 95 %), by decades ahead",
        "law",
        *columns,
    )
    chosen = fit["laws"][target]["form"]
    for form, scores in sorted(found.items(), key=lambda pair: pair[0] != chosen):
        name = f"{method_name(form)} (chosen)" if form == chosen else method_name(form)
        table.add_row(name, *(_score(scores.get(reach)) for reach in reaches))
    return table


def _track_record(fit: Mapping[str, Any]) -> Table:
    """Show the scores of the law chosen anew at each budget, beside the plain power law's."""
    title = "Track record of the law that was the choice at each earlier budget: median miss (share inside 95 %)"
    table = plain_table(title, "target", "decades ahead", "forecasts", "chosen law", "plain power law")
    for target in fit["laws"]:
        for reach, rows in track_record.by_reach(track_record.track(fit, target)).items():
            own, plain = track_record.score(rows), track_record.score(rows, "power_")
            what = f"{target}{track_record.above(fit, target)}"
            table.add_row(what, _ahead(reach), str(len(rows)), _score(own), _score(plain))
    return table


def _power_laws(fit: Mapping[str, Any]) -> Table:
    table = plain_table("Power laws", "best by", "law", "at", "exponent (95 %)", "bootstrap 95 %", "R²", "n")
    for row in fit["power_laws"]:
        exponent = f"{row['exponent']:+.3f} {interval(row['low'], row['high'], '.3f')}"
        boot = interval(row["boot_low"], row["boot_high"], ".3f")
        r2, n = _number(row["r2"], ".3f"), str(row["n"])
        table.add_row(row["target"], _law(row["quantity"]), row["at"], exponent, boot, r2, n)
    return table


def _law(quantity: str) -> str:
    what, _, of = quantity.partition(" of ")
    return f"{what} ~ {of or 'FLOPs'}^a"


def _forecasts(fit: Mapping[str, Any]) -> Table:
    cost = _cost_columns(fit)
    table = plain_table("Forecasts", *CELL_HEAD, "value (95 %)", *cost)
    for row in fit["forecasts"]:
        table.add_row(*_cell(row), _value(row), *_cost(row, cost))
    return table


def _target_returns(fit: Mapping[str, Any]) -> Table:
    cost = _cost_columns(fit)
    table = plain_table("Target returns", "target", "return", "reached at FLOPs (95 %)", "params", "samples", *cost)
    for row in fit["target_returns"]:
        where = "not reached"
        if row["at_smallest"]:
            where = f"at the smallest budget fitted, {row['flops']:.2g}"
            where += f" (95 %: up to {row['high']:.2g})" if row["high"] not in (None, row["flops"]) else ""
        elif row["flops"] is not None:
            low, high = (_number(row[end], ".2g") or "no end" for end in ("low", "high"))
            where = f"{row['flops']:.2g} ({low} to {high})"
        elif row["low"] is not None:
            where += f"; interval from {row['low']:.2g}"
        sizes = _size(row, "params"), _size(row, "samples")
        table.add_row(row["name"], f"{row['value']:,.6g}", where, *sizes, *_cost(row, cost))
    return table


def _size(row: Mapping[str, Any], name: str) -> str:
    """Write the size recommended where a return is reached, and its interval."""
    value, ends = row[name], (row[f"{name}_low"], row[f"{name}_high"])
    if value is None or ends == (None, None):
        note = " (not measured)" if name == "params" and row["params_note"] else ""
        return "" if value is None else numbers.count(value) + note
    low, high = (numbers.count(end) if end else "no end" for end in ends)
    note = "not measured; " if name == "params" and row["params_note"] else ""
    return f"{numbers.count(value)} ({note}{low} to {high})"


def _held_out(fit: Mapping[str, Any]) -> Table:
    table = plain_table("Held-out: forecast against measured", *CELL_HEAD, "measured", "forecast (95 %)", "inside")
    for row in fit["held_out"]:
        inside = {None: "", True: "yes", False: "NO"}[row["inside"]]
        table.add_row(*_cell(row), numbers.as_fine(row["measured"], row, digits=4), _value(row), inside)
    return table


def reproduction_table(one: Reproduction) -> Table:
    """Compare the exponents of a table with the published ones."""
    columns = ["best by", "law", "at", "from", "exponent", "95 %", "bootstrap 95 %", "n"]
    is_compared = any(row.published is not None for row in one.compared)
    columns += ["published", "differs"] * is_compared
    table = plain_table(f"{one.name}: {len(one.points)} points", *columns)
    for row in one.compared:
        start = "all" if row.from_flops is None else f"{row.from_flops:.3g}"
        ours = "not fitted" if row.exponent is None else f"{row.exponent:+.3f}"
        spans = (interval(*span, ".3f").strip("()") for span in ((row.low, row.high), (row.boot_low, row.boot_high)))
        theirs = [_number(row.published, "+.3f"), _number(row.difference, "+.3f")] * is_compared
        table.add_row(row.target, _law(row.quantity), row.at, start, ours, *spans, _number(row.n, "d"), *theirs)
    return table


def ledger_tables(entries: Sequence[Entry]) -> list[Table]:
    """Return the registered forecasts, one a line, and the scores of each group."""
    each = plain_table("Registered forecasts", *ENTRY_HEAD)
    for entry in entries:
        each.add_row(*entry_row(entry))
    scores = plain_table("Scores: median miss, mean CRPS of the logarithm", *SCORE_HEAD, *PLAIN_HEAD)
    for row in score_rows(entries):
        scores.add_row(*row)
    return [each, scores]


def _score(score: track_record.Score | None) -> str:
    if score is None:
        return ""
    off = numbers.off(score.error, short=True)
    return off if score.inside is None else f"{off} ({score.inside:.0%})"


def _ahead(reach: float) -> str:
    return reach_name(reach).removesuffix(" decades")


def _cost_columns(fit: Mapping[str, Any]) -> list[str]:
    return [f"{fit['hardware']['name']} hours", "kWh"] if fit["hardware"] else []


def _cost(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [_number(row["gpu_hours"], ",.3g"), _number(row["energy_kwh"], ",.3g")] if columns else []


def _cell(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    sizes = ["" if row[name] is None else numbers.count(row[name]) for name in ("params", "samples")]
    sizes[0] += " (not measured)" if row.get("params_note") else ""
    return _number(row["flops"], ".3g"), sizes[0], sizes[1], row["target"]


def _value(row: Mapping[str, Any]) -> str:
    return numbers.with_interval(row, digits=4)


def plus_minus(value: float | None, error: float | None, least: int = 3) -> str:
    """Write a measured value, with at least so many digits, and its standard error; empty when it was not measured."""
    return "" if value is None else numbers.with_error(value, error, least)


def interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"({low:{form}} to {high:{form}})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def plain_table(title: str, *columns: str) -> Table:
    table = _Table(title=printable(title), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in LEFT else "right",
            no_wrap=True,
        )
    return table
