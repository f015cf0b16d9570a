"""A study in MLflow: one experiment; a run per model; under it a run per budget that carries a row of the points table.

Every run is found again by its tags, so that logging the same thing twice (a rerun after a kill) leaves one run.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from sqlalchemy import event
from sqlalchemy.engine import Engine

from playscale.points import Point, from_row, to_row

KIND = "playscale.kind"  # run | point | reference | fit
NAME = "playscale.name"
METRICS = ("flops", "params", "samples", "dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes")
TAGS = ("split",)
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


class MlflowExperiment:
    """One study's experiment, made when it is not there.

    Artifacts go to `artifacts` (a directory or URI) when given, else wherever the tracking server puts them.
    Raises ValueError when `create` is false and there is no such experiment.
    """

    def __init__(self, name: str, tracking_uri: str, *, artifacts: str | None = None, create: bool = True) -> None:
        self.client = MlflowClient(tracking_uri)
        found = self.client.get_experiment_by_name(name)
        if found is None and not create:
            raise ValueError(
                f"no MLflow experiment {name!r} at {tracking_uri}; set MLFLOW_TRACKING_URI or --tracking-uri"
            )
        if found is None:
            self.id = self.client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT_TAGS)
        else:
            self.id = found.experiment_id

    def runs(self, kind: str) -> list[Run]:
        """Every run of a kind, oldest first."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], f"tags.`{KIND}` = '{kind}'", order_by=["attributes.start_time ASC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def start(self, kind: str, name: str, *, parent: str | None = None) -> MlflowRun:
        """The run of that kind and name, made when it is not there, now running."""
        run_id = self._find(kind, name)
        if run_id:
            self.client.update_run(run_id, status="RUNNING")
        else:
            tags = {KIND: kind, NAME: name} | ({MLFLOW_PARENT_RUN_ID: parent} if parent else {})
            run_id = self.client.create_run(self.id, run_name=name, tags=tags).info.run_id
        return MlflowRun(self.client, run_id)

    def _find(self, kind: str, name: str) -> str | None:
        quoted = name.replace("'", "\\'")
        found = self.client.search_runs([self.id], f"tags.`{KIND}` = '{kind}' AND tags.`{NAME}` = '{quoted}'")
        return found[0].info.run_id if found else None

    def log_point(self, point: Point) -> MlflowRun:
        """Write a row of the points table as a finished run under its model's run; call again to add its return.

        An agent's point in a task is another run than its point in the whole game.
        """
        parent = self._find("run", point.run) or self.start("run", point.run).finish()
        where = f" in {point.game}" if "/" in point.game else ""
        run = self.start("point", f"{point.run} @ {point.flops:.3g} FLOPs{where}", parent=parent)
        run.log_row(to_row(point))
        run.finish()
        return run

    def points(self) -> list[Point]:
        """The points table as MLflow holds it, by whomever it was logged.

        A row without a return gives way to the rows of the same agent that have one: it was played in other tasks.
        """
        points = [from_row(_row(run)) for run in self.runs("point")]
        played = {(point.run, point.flops) for point in points if point.return_mean is not None}
        return [p for p in points if p.return_mean is not None or (p.run, p.flops) not in played]


class MlflowRun:
    """One run of the experiment; a Tracker for the training loop."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.id = run_id

    @cached_property
    def _logged(self) -> int:
        """The samples up to which curves were there before this process logged any."""
        history = self.client.get_metric_history(self.id, "train_loss")
        return max((metric.step for metric in history), default=-1)

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log curves against samples. What was logged before a kill is not logged again."""
        if samples <= self._logged and "train_loss" in metrics:
            return
        now = int(time.time() * 1000)
        self.client.log_batch(
            self.id, metrics=[Metric(key, float(value), now, samples) for key, value in metrics.items()]
        )

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; those already there keep their value (MLflow's params never change)."""
        self.client.log_batch(self.id, params=self._new_params(params))

    def _new_params(self, params: Mapping[str, object]) -> list[Param]:
        known = self.client.get_run(self.id).data.params
        return [Param(key, str(value)) for key, value in params.items() if key not in known]

    def log_values(self, values: Mapping[str, float | None]) -> None:
        """Log single figures, the missing ones left out."""
        self.client.log_batch(self.id, metrics=_figures(values))

    def log_row(self, row: Mapping[str, str]) -> None:
        """Log a row of the points table: figures as metrics, the split as a tag, everything else as params.

        In one batch: what the store takes for it is nearly all in the number of calls.
        """
        filled = {key: value for key, value in row.items() if value != ""}
        self.client.log_batch(
            self.id,
            metrics=_figures({key: float(filled[key]) for key in METRICS if key in filled}),
            params=self._new_params({key: value for key, value in filled.items() if key not in (*METRICS, *TAGS)}),
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

    def finish(self) -> str:
        """Mark the run as finished; returns its id."""
        self.client.set_terminated(self.id)
        return self.id


def _figures(values: Mapping[str, float | None]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, 0) for key, value in values.items() if value is not None]


def _row(run: Run) -> dict[str, str]:
    """A run's params, metrics and tags as one row; whole numbers without a fraction, as in the CSV."""
    figures = {
        key: repr(int(value)) if float(value).is_integer() else repr(value) for key, value in run.data.metrics.items()
    }
    own = {key: value for key, value in run.data.tags.items() if "." not in key}
    return {**own, **run.data.params, **figures}
