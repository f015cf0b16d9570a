"""The ledger of forecasts: `playscale ledger` and what `fit --register` writes."""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from playscale import __version__
from playscale.cli.options import TRACKING_URI, Tracking, echo, finite, named
from playscale.report.text import printable
from playscale.storage.files import local_path
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace

if TYPE_CHECKING:
    from playscale.scaling.ledger import Ledger
    from playscale.scaling.methods import MethodFits
    from playscale.tracking.ledger_table import LedgerTable

LEDGER = "ledger.jsonl"  # that of ledger_table, which takes a while to import
STORE = "mlflow.db"
SHOW = "show"
Where = Annotated[
    str, typer.Option("--out", callback=named, help="Directory whose ledger.jsonl it is, or s3://BUCKET/PREFIX.")
]
Name = Annotated[str, typer.Argument(help="Id of the forecast, the beginning of it, or TARGET@FLOPS.")]
File = Annotated[Path, typer.Argument(help="CSV file.")]


class ShownByDefault(TyperGroup):
    """A group whose first argument may be that of its command `show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


ledger_app = typer.Typer(
    cls=ShownByDefault, rich_markup_mode=None, help="Keep score of forecasts. `playscale ledger [OUT]` shows them all."
)


@ledger_app.command(SHOW)
def show_ledger(
    out: Annotated[str, typer.Argument(help="Directory of a study, or --out of fit; local or in S3.")] = ".",
    tracking_uri: Tracking = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also write the reliability plot (PNG, SVG and CSV); of each sort of forecasts one."),
    ] = None,
) -> None:
    """Show every registered forecast and the scores, and check the ledger: exit code 1 where it was changed.

    Without a ledger in OUT, those that MLflow keeps. Forecasts of outcomes that were known are scored apart.

    \b
    Example:
      playscale ledger laws --plot reliability.png
    """
    from playscale.cli.console import ledger_tables, show
    from playscale.report.ledger_section import anchor
    from playscale.report.track_record import registered

    with workspace(out, LEDGER, store=False) as folder:
        ledgers, problems = _read(folder, _store(out, folder, tracking_uri, create=False), out)
    entries = [entry for ledger in ledgers for entry in ledger.entries.values()]
    show(*ledger_tables(entries), *registered(entries))
    if plot:
        _draw(plot, entries)
    for ledger in ledgers:
        echo(anchor(ledger))
    for text in problems:
        echo(printable(f"changed: {text}"))
    if problems:
        raise RuntimeError(f"{out}: the ledger is not as it was written ({len(problems)} findings above)")


@ledger_app.command("score")
def score_forecast(
    name: Name,
    value: Annotated[
        list[float],
        typer.Option(callback=lambda values: [finite(one) for one in values], help="What was measured; one a seed."),
    ],
    se: Annotated[float | None, typer.Option(min=0, help="Standard error of a single measurement.")] = None,
    out: Where = ".",
    tracking_uri: Tracking = None,
) -> None:
    """Score a forecast by what was measured, of an agent trained with any software.

    \b
    Example:
      playscale ledger score dev_loss@1e13 --value 0.741 --value 0.736 --out laws
    """
    from playscale.report.ledger_section import entry_row

    with workspace(out, LEDGER) as folder:
        table = _table(folder, out)
        entry = table.score(name, value, se)
        _deliver(table.read(), [entry.id], _store(out, folder, tracking_uri))
    _, _, _, _, target, where, forecast, outcome, off, rank, inside = entry_row(entry)
    echo(f"{entry.id}: {target} at {where}: forecast {forecast}, outcome {outcome}")
    echo(f"off by {off}, rank {rank}, inside the 95% interval: {inside}")


@ledger_app.command("void")
def void_forecast(
    name: Name,
    reason: Annotated[str, typer.Option(callback=named, help="Why it cannot be scored: the run diverged, say.")],
    out: Where = ".",
    tracking_uri: Tracking = None,
) -> None:
    """Void a forecast that cannot be scored. It stays listed, with the reason.

    \b
    Example:
      playscale ledger void return_mean@1e14 --reason "the run diverged" --out laws
    """
    with workspace(out, LEDGER) as folder:
        table = _table(folder, out)
        entry = table.void(name, reason)
        _deliver(table.read(), [entry.id], _store(out, folder, tracking_uri))
    echo(printable(f"{entry.id} is void: {entry.reason}"))


@ledger_app.command("export")
def export_ledger(file: File, out: Where = ".") -> None:
    """Write a ledger as CSV, one row an event, with all digests.

    \b
    Example:
      playscale ledger export ledger.csv --out laws
    """
    from playscale.scaling.numbers import counted
    from playscale.tracking.ledger_table import write_csv

    with workspace(out, LEDGER, store=False) as folder:
        ledger = _table(folder, out).read()
    write_csv(ledger, local_path(file))
    echo(f"{counted(len(ledger.events), 'event')}: {file}")


@ledger_app.command("import")
def import_ledger(file: File, out: Where = ".", tracking_uri: Tracking = None) -> None:
    """Read a ledger that was exported, into a directory without one or with the beginning of the same.

    \b
    Example:
      playscale ledger import ledger.csv --out copy
    """
    from playscale.scaling.numbers import counted
    from playscale.tracking.ledger_table import LedgerTable, read_csv

    ledger = read_csv(local_path(file))
    with workspace(out, LEDGER) as folder:
        try:
            added = LedgerTable.beside(folder).extend(ledger)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        names = list(dict.fromkeys(str(event["id"]) for event in added))
        _deliver(ledger, names, _store(out, folder, tracking_uri))
    echo(f"{counted(len(added), 'event')} added to {out.rstrip('/')}/{LEDGER}")


def register_fits(folder: Path, out: str, fits: MethodFits, tracking_uri: str | None) -> list[str]:
    """Register the forecasts of a fit; score those of its held-out budgets, as retrospective. Return lines to print."""
    from playscale.scaling.numbers import counted
    from playscale.scaling.registration import held_out_entries, open_entries
    from playscale.tracking.ledger_table import LedgerTable

    table, before = LedgerTable.beside(folder), len(read_ledger(folder).events)
    store = _store(out, folder, tracking_uri)
    names: list[str] = []
    scored = 0
    for fit in fits.fits.values():
        names += [entry.id for entry in table.register(open_entries(fit, version=__version__))]
        for known in held_out_entries(fit, version=__version__):
            (entry,) = table.register([known.forecast])
            if entry.state == "open":
                table.score(entry.id, [known.outcome], known.se, known.seeds)
                scored += 1
            names.append(entry.id)
    if not names:
        raise ValueError("--register: there is no forecast; give --forecast, or a table with held-out rows")
    ledger = table.read()
    _deliver(ledger, names, store)
    new = sum(event["event"] == "registered" for event in ledger.events[before:])
    where = f"{out.rstrip('/')}/{LEDGER}"
    lines = [f"registered: {counted(new, 'forecast')} in {where} ({scored} retrospective, scored)"]
    return lines + ([f"{len(names) - new} were registered before and stand as they were"] if new < len(names) else [])


def read_ledger(folder: Path) -> Ledger:
    """Return the ledger in a directory; one without events where there is none."""
    from playscale.tracking.ledger_table import LedgerTable

    return LedgerTable.beside(folder).read()


def _table(folder: Path, out: str) -> LedgerTable:
    """Return the table in a directory; ValueError: there is none."""
    from playscale.tracking.ledger_table import LedgerTable

    table = LedgerTable.beside(folder)
    if not table.path.is_file():
        raise ValueError(f"{out}: no {LEDGER} there; give the directory of a study or of `fit --register` with --out")
    return table


def _store(out: str, folder: Path, tracking_uri: str | None, *, create: bool = True) -> str:
    """Return the URI of the MLflow that keeps a directory's ledger, too; "" for none.

    As a study has it: the one given, $MLFLOW_TRACKING_URI, else a file in a local directory.
    """
    if uri := tracking_uri or os.environ.get(TRACKING_URI):
        return uri
    if is_s3(out) or find_spec("mlflow") is None or not (create or (folder / STORE).is_file()):
        return ""
    from playscale.tracking.uris import sqlite_uri

    return sqlite_uri(folder / STORE)


def _read(folder: Path, uri: str, out: str) -> tuple[list[Ledger], list[str]]:
    """Return the ledger of a directory, else those of MLflow, and what is wrong with them."""
    from playscale.scaling.ledger import check
    from playscale.tracking.ledger_table import LedgerTable

    table = LedgerTable.beside(folder)
    ledger = table.read() if table.path.is_file() else None
    if not uri:
        if ledger is None:
            raise ValueError(f"{out}: no {LEDGER} there, and no --tracking-uri to read ledgers from")
        return [ledger], check(ledger)
    from playscale.tracking.ledger_store import LedgerStore

    store = LedgerStore.at(uri)
    if ledger is not None:
        return [ledger], store.check(ledger)
    ledgers = list(store.ledgers().values())
    if not ledgers:
        raise ValueError(
            f"{out}: no {LEDGER} there, and MLflow keeps no ledger; register with playscale fit --register"
        )
    return ledgers, store.check()


def _deliver(ledger: Ledger, names: Collection[str], uri: str) -> None:
    """Write forecasts to MLflow, too. What it does not take now is in the table; the same command delivers it."""
    if not uri:
        return
    from playscale.tracking.ledger_store import LedgerStore

    LedgerStore.at(uri).deliver(ledger, names)


def _draw(path: Path, entries: Collection[Any]) -> None:
    from playscale.report.axes import own_defaults
    from playscale.report.figures import save_figure
    from playscale.report.ledger_section import reliability_plots

    plots = reliability_plots(list(entries))
    if not plots:
        raise ValueError(f"--plot {path}: no forecast with a predictive distribution is scored yet")
    for plot in plots:
        one = len(plots) == 1
        target = path if one else path.with_name(f"{path.stem}_{plot.name.removeprefix('reliability_')}{path.suffix}")
        with own_defaults():
            save_figure(local_path(target), plot)
        echo(f"plot: {target}")
