"""A study in MLflow: one experiment; a run per model; under it a run per budget that carries a row of the points table.

Every run is found again by its tags, so that logging the same thing twice (a rerun after a kill, a request whose answer
was lost) leaves one run, and every figure in it once.

One run of a study in MLflow, which takes everything as often as it comes and keeps it once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from sqlalchemy import event
from sqlalchemy.engine import Engine

from playscale.points import Point, from_row, to_row

KIND = "playscale.kind"  # run | point | reference | fit
NAME = "playscale.name"
STUDY = "playscale.study"
EXPERIMENT_TAGS = {"mlflow.note.content": "A run per model, under it one per budget: a row of the points table."}


@event.listens_for(Engine, "connect")
def _write_ahead(connection: Any, _: object) -> None:
    """Have SQLite keep a write-ahead log: a write then waits for no disk, and a crash still leaves a whole store.

    As MLflow opens it every write waits for several, which takes three times as long as all of the rest. While
    somebody else writes, the store stays as it is.
    """
    if isinstance(connection, sqlite3.Connection):
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")


class Injected(NamedTuple):
    """Where Kubeflow Pipelines has put a task: an experiment's id, and the run that it began there for the task."""

    experiment: str
    run: str | None

    @classmethod
    def at(cls, tracking_uri: str) -> Injected | None:
        """What the environment says, where that is about this tracking server."""
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if not experiment or tracking_uri != os.environ.get("MLFLOW_TRACKING_URI"):
            return None
        return cls(experiment, os.environ.get("MLFLOW_RUN_ID") or None)


class MlflowExperiment:
    """One study's experiment, made when it is not there.

    Artifacts go to `artifacts` (a directory or URI) when given, else wherever the tracking server puts them.
    With `injected` the study's runs go into that experiment, under that run, and no others there are looked at.
    Raises ValueError when `create` is false and there is no such experiment.
    """

    def __init__(
        self,
        name: str,
        tracking_uri: str,
        *,
        artifacts: str | None = None,
        create: bool = True,
        injected: Injected | None = None,
    ) -> None:
        self.client = MlflowClient(tracking_uri)
        self.name, self._injected = name, injected
        found = None if injected else self.client.get_experiment_by_name(name)
        if injected:
            self.id = injected.experiment
        elif found is not None:
            self.id = found.experiment_id
        elif create:
            self.id = self._create(name, artifacts)
        else:
            raise ValueError(
                f"no MLflow experiment {name!r} at {tracking_uri}; set MLFLOW_TRACKING_URI or --tracking-uri"
            )

    def _create(self, name: str, artifacts: str | None) -> str:
        try:
            made: str = self.client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT_TAGS)
        except MlflowException:  # somebody else was faster, or we were, and the answer was lost
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            made = found.experiment_id
        return made

    def runs(self, kind: str) -> list[Run]:
        """Every run of a kind, oldest first."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], self._filter(kind), order_by=["attributes.start_time ASC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _filter(self, kind: str, name: str | None = None) -> str:
        wanted = {KIND: kind} | ({NAME: name} if name else {}) | ({STUDY: self.name} if self._injected else {})
        return " AND ".join(f"tags.`{tag}` = '{_quoted(value)}'" for tag, value in wanted.items())

    def start(self, kind: str, name: str, *, parent: str | None = None) -> MlflowRun:
        """The run of that kind and name, made when it is not there, now running."""
        run = self.find(kind, name)
        if run:
            self.client.update_run(run.id, status="RUNNING")
            return run
        above = parent or (self._injected.run if self._injected else None)
        tags = {KIND: kind, NAME: name, STUDY: self.name} | ({MLFLOW_PARENT_RUN_ID: above} if above else {})
        return MlflowRun(self.client, self.client.create_run(self.id, run_name=name, tags=tags).info.run_id)

    def find(self, kind: str, name: str) -> MlflowRun | None:
        """The run of that kind and name. A second one, made by a request that was thought lost, is removed."""
        found = self.client.search_runs([self.id], self._filter(kind, name))
        found = sorted(found, key=_filled, reverse=True)
        for double in found[1:]:
            if not _filled(double):
                self.client.delete_run(double.info.run_id)
        return MlflowRun(self.client, found[0].info.run_id) if found else None

    def log_point(self, point: Point) -> MlflowRun:
        """Write a row of the points table as a finished run under its model's run; call again to add its return.

        An agent's point in a task is another run than its point in the whole game.
        """
        model = self.find("run", point.run)
        if model is None:
            model = self.start("run", point.run)
            model.finish()
        run = self.start("point", point_name(point), parent=model.id)
        run.log_row(to_row(point))
        run.finish()
        return run

    def points(self) -> list[Point]:
        """The points table as MLflow holds it, by whomever it was logged.

        A row without a return gives way to the rows of the same agent that have one: it was played in other tasks.
        """
        points = [from_row(_row(run)) for run in self.runs("point") if _filled(run)]
        played = {(point.run, point.flops) for point in points if point.return_mean is not None}
        return [p for p in points if p.return_mean is not None or (p.run, p.flops) not in played]


def point_name(point: Point) -> str:
    """What a point's run is called."""
    where = f" in {point.game}" if "/" in point.game else ""
    return f"{point.run} @ {point.flops:.3g} FLOPs{where}"


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")


def _filled(run: Run) -> int:
    """How much was logged to a run."""
    return len(run.data.metrics) + len(run.data.params)


def _row(run: Run) -> dict[str, str]:
    """A run's params, metrics and tags as one row; whole numbers without a fraction, as in the CSV."""
    figures = {
        key: repr(int(value)) if float(value).is_integer() else repr(value) for key, value in run.data.metrics.items()
    }
    own = {key: value for key, value in run.data.tags.items() if "." not in key}
    return {**own, **run.data.params, **figures}


METRICS = ("flops", "params", "samples", "dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes")
TAGS = ("split",)


class MlflowRun:
    """One run of the experiment; a Tracker for the training loop."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.id = run_id
        self._curves: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: Mapping[str, float], samples: int, at: int | None = None) -> None:
        """Log curves against samples, measured `at` that time (ms). What was logged before a kill is not logged again.

        The first metric stands for all. Cooldown branches overlap in samples, so that only the same value is the same.
        """
        name, value = next(iter(metrics.items()))
        if name not in self._curves:
            history = self.client.get_metric_history(self.id, name)
            self._curves[name] = [(metric.step, metric.value) for metric in history]
        logged = self._curves[name]
        branch = name.endswith("_cooldown")
        if (samples, value) in logged if branch else any(step >= samples for step, _ in logged):
            return
        now = at or int(time.time() * 1000)
        self.client.log_batch(
            self.id, metrics=[Metric(key, float(value), now, samples) for key, value in metrics.items()]
        )
        logged.append((samples, value))

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; those already there keep their value (MLflow's params never change)."""
        known = self.client.get_run(self.id).data
        self.client.log_batch(self.id, params=_new_params(known.params, params))

    def log_values(self, values: Mapping[str, float | None]) -> None:
        """Log single figures, the missing ones left out."""
        known = self.client.get_run(self.id).data
        self.client.log_batch(self.id, metrics=_new_figures(known.metrics, values))

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Log a row of the points table: figures as metrics, the split as a tag, everything else as params.

        In one batch: what the store takes for it is nearly all in the number of calls.
        """
        filled = {key: value for key, value in row.items() if value not in (None, "")}
        known = self.client.get_run(self.id).data
        figures = {key: float(filled[key]) for key in METRICS if key in filled}
        params = {key: value for key, value in filled.items() if key not in (*METRICS, *TAGS)}
        self.client.log_batch(
            self.id,
            metrics=_new_figures(known.metrics, figures),
            params=_new_params(known.params, params),
            tags=[RunTag(key, filled[key]) for key in TAGS if key in filled],
        )

    def log_dataset(self, name: str, uri: str, digest: str, context: str) -> None:
        """Log a corpus as an input of the run.

        Runs that log the same corpus at once trip over each other in the store; the second try finds it there.
        """
        dataset = Dataset(name, digest[:36], source_type="local", source=json.dumps({"uri": uri}))
        entry = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        try:
            self.client.log_inputs(self.id, datasets=[entry])
        except MlflowException:
            self.client.log_inputs(self.id, datasets=[entry])

    def log_artifacts(self, path: Path, folder: str) -> None:
        """Store a file, or every file of a directory, under `folder` of the run's artifacts."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder)
        else:
            self.client.log_artifact(self.id, str(path), folder or None)

    def finish(self) -> None:
        """Mark the run as finished."""
        self.client.set_terminated(self.id)


def _new_params(known: Mapping[str, str], params: Mapping[str, object]) -> list[Param]:
    return [Param(key, str(value)) for key, value in params.items() if key not in known]


def _new_figures(known: Mapping[str, float], values: Mapping[str, float | None]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [
        Metric(key, float(value), now, 0)
        for key, value in values.items()
        if value is not None and known.get(key) != float(value)
    ]
