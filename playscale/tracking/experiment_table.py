"""The points table of any MLflow experiment: a study's points, or the runs of somebody else's, each of them a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlflow.entities import Run

from playscale.points import NEVER_EMPTY, OTHER_NAMES, REQUIRED_COLUMNS, Point, in_order
from playscale.tracking.mlflow_run import KIND, point_of_run, row_of_run
from playscale.tracking.mlflow_tracker import MlflowExperiment

FINISHED = "FINISHED"
UNFINISHED = {"FAILED": "failed", "KILLED": "was stopped", "RUNNING": "still runs", "SCHEDULED": "has not begun"}
MOST_NAMES = 40  # names of an experiment that a message lists
LeftOut = list[tuple[str, str]]


def experiment_table(experiment: MlflowExperiment, columns: Mapping[str, str]) -> tuple[list[Point], LeftOut]:
    """Return the points table of an experiment, and the runs that are no part of it, each with the reason.

    Args:
        experiment: A study's, or one without any points of a study: each of its finished runs is a row then.
        columns: The names of params, metrics and tags that are columns, {"dev_loss": "eval/loss"}.

    Raises:
        ValueError: No run has the columns that a table must have; the message says which names there are.
    """
    if points := experiment.points(columns):
        return points, []
    every = experiment.runs()
    runs = [run for run in every if KIND not in run.data.tags]
    finished = [run for run in runs if run.info.status == FINISHED]
    left_out = [(_name(run), UNFINISHED.get(run.info.status, run.info.status)) for run in runs if run not in finished]
    where = f"MLflow experiment {experiment.name!r} at {experiment.where}"
    if not runs:
        found = "a study that has no point yet" if every else "it has no runs"
        raise ValueError(f"{where}: {found}; a row is a finished run with {', '.join(REQUIRED_COLUMNS)}")
    if finished:
        _check_columns(finished, columns, where)
    points = []
    for run in finished:
        row = row_of_run(run)
        if missing := [name for name in (columns.get(name, name) for name in NEVER_EMPTY) if not row.get(name)]:
            left_out.append((_name(run), f"has no {', '.join(missing)}"))
            continue
        try:
            point = point_of_run(run, columns)
        except ValueError as error:  # "MLflow run NAME: column ...: nan is not ...; leave the cell empty ..."
            left_out.append((_name(run), str(error).partition(": ")[2].partition(";")[0]))
            continue
        points.append(replace(point, run=point.run or _name(run)))
    if left_out and not points:
        reasons = [f"{name} {reason}" for name, reason in left_out[:MOST_NAMES]]
        raise ValueError(f"{where}: no run is a point of a table: {', '.join(reasons)}")
    return in_order(points), left_out


def _check_columns(runs: Sequence[Run], columns: Mapping[str, str], where: str) -> None:
    """Refuse runs none of which has a column that a table must have."""
    names = list(dict.fromkeys(name for run in runs for name in row_of_run(run)))
    required = dict.fromkeys([*(columns.get(name, name) for name in REQUIRED_COLUMNS), *columns.values()])
    if missing := [name for name in required if name not in names]:
        there = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        raise ValueError(f"{where}: its runs have no {', '.join(missing)}, but {there or 'no values'}; {OTHER_NAMES}")


def _name(run: Run) -> str:
    return str(run.info.run_name or run.info.run_id)
