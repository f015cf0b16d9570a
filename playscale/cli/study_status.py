"""Console output of `playscale study status` and `playscale study list`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from playscale.cli.console import plain_console, show
from playscale.cli.options import echo
from playscale.processes.signals import Stopped
from playscale.report.text import printable
from playscale.scaling import numbers
from playscale.storage.files import local_path
from playscale.storage.storage import is_s3
from playscale.study.cluster_status import on_cluster
from playscale.study.status import StudyStatus, read_status
from playscale.study.study_files import study_files
from playscale.study.study_process import QUIET

if TYPE_CHECKING:
    from playscale.study.cluster_run import ClusterProgress
    from playscale.study.forecast_status import ForecastStatus
    from playscale.study.studies import ListedStudy

LINE_SECONDS = 15.0
FORECAST = {
    "running": "a forecast is running",
    "failed": "a forecast failed",
    "interrupted": "a forecast was interrupted",
    "open": "forecasts are open",
}
LOCAL_SECONDS, S3_SECONDS = 2.0, 10.0  # between two looks


def check_place(study: str) -> None:
    """Raise ValueError for what is neither a directory nor in S3."""
    if not is_s3(study) and not local_path(study).is_dir():
        kind = "not a directory" if local_path(study).exists() else "no such directory"
        raise ValueError(f"{study}: {kind}; of a run in Kubeflow, give its --endpoint")


def status_of(place: str) -> StudyStatus:
    """Return how far the study in a directory or in S3 is."""
    with study_files(place) as files:
        files.look()
        return read_status(files)


def cluster_status(
    out: str, name: str, budget: str, state: str, progress: ClusterProgress, url: str, *, read: bool = True
) -> StudyStatus:
    """Return how far a run on a cluster is; with `read`, with what the study's directory adds where it can be read."""
    files = None
    if read:
        with suppress(OSError, ValueError, ModuleNotFoundError):
            files = status_of(out)
    return on_cluster(out, name, budget, state, progress, url, files)


def print_status(status: StudyStatus, *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(to_json(status)))
        return
    for part in _shown(status):
        echo(part) if isinstance(part, str) else show(part)  # a line is whole: its command can be copied


def to_json(status: StudyStatus) -> dict[str, Any]:
    return asdict(status) | {"parts": {part.name: [part.done, part.total] for part in status.parts}}


def _shown(status: StudyStatus) -> list[str | Table]:
    """Return the study and its parts in two lines, its runs, then what there is to say of it."""
    percent = f"{math.floor(100 * status.fraction)} %"
    head = ", ".join(text for text in (status.state, percent, status.time_left) if text)
    note = f" ({status.note})" if status.note else ""
    forecast = f"; {FORECAST[status.forecast.state]}" if status.forecast else ""
    first = [f"study {status.name} in {status.place}: {head}{note}{forecast}", parts_line(status)]
    left_out = [f"{numbers.counted(count, 'cell')} not trained: {why}" for why, count in status.left_out.items()]
    last = [
        *(f"now      {task}: {what}" for task, what in status.at_work.items()),
        *(f"failed   {task}: {why}" for task, why in status.failures.items()),
        *left_out,
        f"best     {status.best}" if not status.result and status.best else "",
        f"result   {status.result}" if status.result else "",
        f"report   {status.report}" if status.report else "",
        f"to go on {status.go_on}" if status.go_on else "",
        *(_forecast_lines(status.forecast) if status.forecast else []),
    ]
    table = _runs_table(status)
    texts = [[printable(line) for line in lines if line] for lines in (first, last)]
    return [*texts[0], *([table] if table else []), *texts[1]]


def _forecast_lines(forecast: ForecastStatus) -> list[str]:
    """Return what there is to say of forecasts beside their tasks."""
    note = f" ({forecast.note})" if forecast.note else ""
    return [
        f"forecast {forecast.state}{note}" if forecast.state != "open" else "",
        *(f"open     {name}: {what}" for name, what in forecast.open.items()),
        f"to go on {forecast.go_on}" if forecast.go_on else "",
    ]


def parts_line(status: StudyStatus) -> str:
    """Return how many steps of each part are done."""
    several = [f"{part.name} {part.done} of {part.total}" for part in status.parts if part.total > 1]
    done = [part.name for part in status.parts if part.total == 1 and part.done]
    return "; ".join([*([f"{', '.join(done)} done"] if done else []), *([", ".join(several)] if several else [])])


def _runs_table(status: StudyStatus) -> Table | None:
    if not status.runs:
        return None
    notes = {run.run: "; ".join(filter(None, (run.note, run.outlook))) for run in status.runs}
    noted = any(notes.values())
    table = Table(header_style="bold")
    for name in ("run", "state", "trained", "evaluated", "dev loss", "return", *(["note"] if noted else [])):
        table.add_column(name, justify="left" if name in {"run", "state", "note"} else "right", no_wrap=name != "note")
    for run in status.runs:
        table.add_row(
            printable(run.run),
            run.state,
            f"{run.trained} of {run.budgets}",
            f"{run.evaluated} of {run.budgets}",
            "" if run.dev_loss is None else numbers.number(run.dev_loss, 4),
            "" if run.return_mean is None else f"{run.return_mean:,.1f}",
            *([printable(notes[run.run])] if noted else []),
        )
    return table


def follow(place: str, *, as_json: bool) -> None:
    """Show a study until it ends, and a forecast of it that is at work.

    RuntimeError: one of them failed, or does not run and is unfinished. Stopped: by a signal, which ends the watching
    alone.
    """
    terminal = plain_console().is_terminal and not as_json
    console = plain_console()
    with Live(console=console, auto_refresh=False, transient=True) if terminal else nullcontext() as live:

        def show_live(status: StudyStatus) -> None:
            assert live is not None
            unfinished = [
                run for run in status.runs if run.state not in {"done", "waiting"}
            ]  # all may be too many lines
            live.update(Group(*_shown(replace(status, runs=unfinished))), refresh=True)

        lines = _JsonLines() if as_json else _Lines()
        try:
            status = _until_ended(place, show_live if terminal else lines)
        except Stopped as stop:
            raise Stopped(stop.number, "the study goes on") from stop
    if not as_json:
        print_status(status, as_json=False)
    if status.state != "finished":
        why = "; ".join(f"{task}: {what}" for task, what in status.failed.items()) or "not running, and unfinished"
        raise RuntimeError(f"{place}: {status.state}: {why}; to go on: {status.go_on}")
    if status.forecast and status.forecast.state != "open":
        why = "; ".join(f"{task}: {what}" for task, what in status.forecast.failed.items()) or status.forecast.note
        raise RuntimeError(f"{place}: {FORECAST[status.forecast.state]}: {why}; to go on: {status.forecast.go_on}")


def _until_ended(place: str, show_one: Callable[[StudyStatus], None]) -> StudyStatus:
    """Show a study until it has ended, and return it as it is then. Its percentage only rises."""
    least, answered = 0.0, time.monotonic()
    with study_files(place) as files:
        while True:
            try:
                files.look()
                answered = time.monotonic()
            except OSError:  # S3 may be away for a while
                if not is_s3(files.place) or time.monotonic() - answered > QUIET:
                    raise
            else:
                status = read_status(files)
                status = replace(status, fraction=max(least, status.fraction))
                least = status.fraction
                show_one(status)
                if status.ended:
                    return status
            time.sleep(S3_SECONDS if is_s3(files.place) else LOCAL_SECONDS)


class _Lines:
    """Prints a line when a part, a task or a failure is new, and every 15 s."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._line = -LINE_SECONDS
        self._said: Any = None

    def __call__(self, status: StudyStatus) -> None:
        elapsed = time.monotonic() - self._began
        now = (status.parts, tuple(status.at_work), tuple(status.failures))
        if now == self._said and elapsed - self._line < LINE_SECONDS:
            return
        self._said, self._line = now, elapsed
        failed = [f"failed {task}: {why}" for task, why in status.failures.items()]
        at_work = [f"now {', '.join(status.at_work)}"] if status.at_work else []
        texts = [text for text in (parts_line(status), *failed, *at_work, status.time_left) if text]
        clock = f"{int(elapsed) // 60}:{int(elapsed) % 60:02d}"
        echo(printable(f"{clock} {math.floor(100 * status.fraction)} %: {'; '.join(texts)}"))


class _JsonLines:
    """Prints a line of JSON when something has changed but the times."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, status: StudyStatus) -> None:
        text = json.dumps(to_json(replace(status, note="", changed=None, seconds_left=None)))
        if text != self._said:
            self._said = text
            echo(json.dumps(to_json(status)))


def print_list(studies: Sequence[ListedStudy], where: str, *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps([asdict(study) for study in studies]))
        return
    if not studies:
        show(f"{where}: no study there")
        return
    table = Table(header_style="bold")
    for name in ("study", "state", "points", "last change", "best", "where"):
        table.add_column(name, justify="right" if name == "points" else "left", no_wrap=True)
    for study in studies:
        planned = "" if study.planned is None else f" of {study.planned}"
        row = (study.name, study.state, f"{study.points}{planned}", _when(study.changed), study.best, study.place)
        table.add_row(*map(printable, row))
    show(table)


def _when(changed: float | None) -> str:
    if changed is None:
        return ""
    ago = max(0.0, time.time() - changed)
    day = datetime.fromtimestamp(changed).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{day} ({numbers.duration(ago)} ago)"
