"""The context of a study's step: the study, its directory, its tracking server, and the report of progress."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playscale.points import FORECAST, Point, Reference, in_order, read_points
from playscale.processes.signals import follow, stoppable
from playscale.progress import ProgressFile, reporting
from playscale.storage.files import read_document, read_json, write_json
from playscale.storage.storage import is_s3
from playscale.storage.sync import patient_reads, workspace
from playscale.study.spec import EvaluationSpec, StudySpec, parse_spec
from playscale.tracking.monitor import describe
from playscale.tracking.prometheus import served
from playscale.tracking.tracker import StudyOwner

if TYPE_CHECKING:
    from playscale.tracking.client import TrackingClient

SUPERVISOR = "PLAYSCALE_SUPERVISOR"  # id of the process whose end ends the study's steps
PROGRESS = "PLAYSCALE_PROGRESS"  # directory of the steps' progress files; default: OUT/progress
PER_RUN = ("train", "evaluate")  # steps that are run once for each training run
REFERENCES = "references"  # the run that stands for the random policy and the expert
FORECASTS = "forecasts"  # directory in OUT: below it the agents of each forecast, in a directory like a study's


@dataclass(frozen=True)
class StudyContext:
    """A study and its place.

    Attributes:
        spec: The study's specification.
        uri: The study's directory OUT as given: a path, or s3://BUCKET/PREFIX.
        folder: The same directory on this machine.
        tracking_uri: URI of the MLflow server or store; "" for the default.
    """

    spec: StudySpec
    uri: str
    folder: Path
    tracking_uri: str

    def uri_of(self, *parts: str) -> str:
        """Return the URI of a part of the study, for other steps."""
        return "/".join((self.uri.rstrip("/"), *parts))

    def plan(self) -> dict[str, Any]:
        """Return the plan as the plan step wrote it. RuntimeError: there is none, since an earlier step was killed."""
        path = self.folder / "plan.json"
        if not path.exists():
            raise RuntimeError(f"{self.uri} has no plan.json: a step before this one did not end; run the study again")
        plan: dict[str, Any] = read_document(path, dict[str, Any], "run the study again")
        return plan

    @property
    def evaluation(self) -> EvaluationSpec:
        """The settings of evaluations; a forecast's plan has a number of episodes of its own."""
        settings = self.spec.evaluate
        episodes = self.plan().get("episodes", settings.episodes)
        return settings.model_copy(update={"episodes": episodes})

    def labelled(self, points: Sequence[Point]) -> list[Point]:
        """Return points, those of forecast agents with the ids of their forecasts in the column `forecast`."""
        ids = self.plan().get(FORECASTS, {})
        return [
            replace(point, extra={**point.extra, FORECAST: " ".join(ids[point.run])}) if ids.get(point.run) else point
            for point in points
        ]

    def owner(self) -> StudyOwner:
        """Return the study as the owner of its experiment, by the id in OUT/study.json, made when it is missing."""
        path = self.folder / "study.json"
        if not path.is_file():
            write_json(path, {"id": uuid.uuid4().hex})
        record = read_json(path)
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise ValueError(f"{path}: damaged: it holds no id of the study")
        return StudyOwner(record["id"], self.uri if is_s3(self.uri) else str(self.folder.resolve()))

    def own_points(self, points: Sequence[Point]) -> list[Point]:
        """Return those of an experiment's points that this study's runs have made, in the order of a table.

        Other studies, and runs with other settings, may have logged to the experiment, too.
        """
        own = self.own_cells()
        return in_order(point for point in points if cell(point) in own)

    def own_cells(self) -> set[tuple[str, str, float]]:
        """Return the cells that this study's runs, and its forecasts' agents, have made so far: see `cell`."""
        of_forecasts = self.folder.glob(f"{FORECASTS}/*/train/*/points.csv")
        return own_cells(self.folder, self.plan()) | {cell(p) for path in of_forecasts for p in read_points(path)}

    def missing_runs(self) -> dict[str, str]:
        """Return the planned runs that are not trained and evaluated at all their budgets, each with what it lacks."""
        return missing_runs(self.folder, self.plan())

    @cached_property
    def tracking(self) -> TrackingClient:
        """The client of the study's experiment."""
        from playscale.tracking.client import TrackingClient

        uri = self.tracking_uri or default_tracking_uri(self.uri)
        study = self.folder.parents[1] if self.folder.parent.name == FORECASTS else self.folder
        artifacts = (study / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite") else None
        return TrackingClient(self.spec.name, uri, artifacts, injected=True)

    def queue_file(self, run: str) -> Path:
        """Return the file that keeps entries of a run, from one step to the next, while the tracking server is down."""
        return self.folder / "tracking" / f"{run}.spool"


def cell(point: Point) -> tuple[str, str, float]:
    """Return what tells a cell from those of other runs, and of runs with other settings."""
    return point.run, point.digest, point.flops


def own_cells(folder: Path, plan: Mapping[str, Any]) -> set[tuple[str, str, float]]:
    """Return the cells that the planned runs have made so far in a study's directory, without those left out."""
    left_out = {(one["run"], one["flops"]) for one in plan.get("cells", ()) if one["reason"] is not None}
    tables = [folder / step / run / "points.csv" for step in PER_RUN for run in plan["runs"]]
    points = [point for path in tables if path.is_file() for point in read_points(path)]
    return {cell(point) for point in points if (point.run, point.flops) not in left_out}


def missing_runs(folder: Path, plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the planned runs that are not trained and evaluated at all their budgets, each with what it lacks.

    The references count as a run. An evaluation of another number of episodes than is planned is none.
    """
    lacks, episodes = {}, plan.get("episodes")  # which plans of earlier versions do not have
    for name, run in plan["runs"].items():
        budgets = len(planned_budgets(run))
        trained = len(measured(folder / "train" / name / "points.csv", run))
        evaluated = len(measured(folder / "evaluate" / name / "points.csv", run, episodes))
        if max(trained, evaluated) < budgets:
            lacks[name] = f"trained to {trained} of {budgets} budgets" if trained else "not trained"
        elif evaluated < budgets:
            lacks[name] = "trained, not evaluated"
    if not _has_references(folder / "evaluate" / REFERENCES / "references.json", episodes):
        lacks[REFERENCES] = "not evaluated"
    return lacks


def _has_references(path: Path, episodes: int | None) -> bool:
    """Tell whether the references are there, of so many episodes where that is known. ValueError: they are damaged."""
    if not path.is_file():
        return False
    rows = read_document(path, list[Reference], "run the study again")
    return episodes is None or episodes == sum(row.get("episodes") or 0 for row in rows if row["name"] == "random")


def planned_budgets(run: Mapping[str, Any]) -> set[float]:
    """Return the budgets of a planned run, held-out ones too."""
    return {*run["budgets"], *run["held_out"]}


def measured(path: Path, run: Mapping[str, Any], episodes: int | None = None) -> dict[float, Point]:
    """Return the points of a planned run at its budgets that a table holds; none when the table is not there.

    With `episodes` those alone whose agents have played so many.
    """
    points = read_points(path) if path.is_file() else []
    played = [point for point in points if episodes is None or (point.episodes or 0) == episodes]
    return {point.flops: point for point in played if point.flops in planned_budgets(run)}


def default_tracking_uri(out: str | Path) -> str:
    """Return MLFLOW_TRACKING_URI, else an SQLite file in the study's directory.

    Raises:
        ValueError: The study's directory is in S3, where no SQLite file can be.
    """
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    if is_s3(out):
        raise ValueError(f"{out}: a study in S3 needs an MLflow server: set MLFLOW_TRACKING_URI or give --tracking-uri")
    from playscale.tracking.uris import sqlite_uri

    return sqlite_uri(Path(out) / "mlflow.db")


@contextmanager
def study_step(
    task: str, spec: str, out: str, *needs: str, tracking_uri: str = ""
) -> Iterator[tuple[StudyContext, ProgressFile]]:
    """Run a step of a study inside: its context and its progress file.

    Args:
        task: Name of the step, with the run where there is one per run: `train-RUN`.
        spec: YAML text of the study's specification.
        out: The study's directory, or s3://BUCKET/PREFIX.
        needs: Patterns of the files that the step reads from an `out` in S3; none: all.
        tracking_uri: URI of the MLflow server or store; "" for the default.
    """
    if supervisor := os.environ.get(SUPERVISOR):
        follow(int(supervisor))
    kind, _, run = task.partition("-")
    monitored = served(task=kind, run=run if kind in PER_RUN else "")
    with stoppable(), monitored, patient_reads(), workspace(out, *needs) as folder:
        progress_folder = Path(os.environ.get(PROGRESS) or folder / "progress")
        with reporting(progress_folder, task) as progress:
            context = StudyContext(parse_spec(spec), out, folder, tracking_uri)
            describe(study=context.spec.name)
            yield context, progress
