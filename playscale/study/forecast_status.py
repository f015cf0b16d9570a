"""The status of a study's forecasts: whether `study forecast` is at work, what it does, and which forecasts are open.

Like that of the study itself it is read from what is left: the record of the process, the progress of the tasks, the
ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from playscale.config import budget_name
from playscale.study.context import FORECASTS
from playscale.study.study_files import LEDGER, StudyFiles
from playscale.study.study_process import evidence, read_process, seems_to_run


@dataclass(frozen=True)
class ForecastStatus:
    """The status of a study's forecasts.

    Attributes:
        state: running; failed or interrupted (it is not at work, and forecasts are open); open (nothing of it is known
            but that forecasts are open).
        note: What the state was taken from, where that needs to be said.
        now: The tasks at work, each with what it does.
        failed: The tasks that failed, each with the reason.
        open: The forecasts that are neither scored nor void, by id.
        go_on: The command that goes on with it; "" when it runs, and where it is not known.
    """

    state: str
    note: str = ""
    now: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    open: Mapping[str, str] = field(default_factory=dict)
    go_on: str = ""


def forecast_status(files: StudyFiles) -> ForecastStatus | None:
    """Return the status of the forecasts; None where none is at work, interrupted or open."""
    process, tasks = read_process(files.folder / FORECASTS), files.tasks(of_forecasts=True)
    changed, still = files.last_change(of_forecasts=True), _open(files)
    begun, states = process is not None or bool(tasks), {task.task: task.state for task in tasks}
    ended = states.get("score", "running") != "running"
    runs = seems_to_run(process, changed if tasks and not ended else None)
    if not (runs or still or (begun and states.get("forecast") != "done")):
        return None
    failed = {task.task: task.what for task in tasks if task.state == "failed" and not task.stopped}
    state = "failed" if failed else "interrupted" if begun and not ended else "open"
    return ForecastStatus(
        "running" if runs else state,
        evidence(process, changed) if begun else "",
        {
            task.task: f"{math.floor(100 * task.fraction)} %, {task.what}"
            for task in tasks
            if runs and task.state == "running"
        },
        failed,
        still,
        process.command if process and not runs and state != "open" else "",
    )


def _open(files: StudyFiles) -> dict[str, str]:
    """Return the forecasts that are neither scored nor void, by id."""
    if LEDGER not in files.changed:
        return {}
    from playscale.tracking.ledger_table import LedgerTable  # which takes a while to import

    entries = LedgerTable.beside(files.folder).read().entries.values()
    return {one.id: f"{one.target} at {budget_name(one.flops)} FLOPs" for one in entries if one.state == "open"}
