"""A run in MLflow: what steps log to it, and the row of the points table that it is.

Beside its row a point has values for MLflow's charts, which have linear axes: logarithms, and params whose names come
first, since the Compare page begins with the first params and the first metric. They are no part of the row.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from playscale.config import budget_name
from playscale.points import Point, from_row, renamed

KIND = "playscale.kind"  # run | point | reference | fit
METRICS = ("dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes", "flops", "params", "samples")
"""In the order in which they are logged, and shown: MLflow's Compare page begins with the first."""
TAGS = ("split",)
LOGARITHMS = {name: f"log10_{name}" for name in ("flops", "params", "dev_loss", "return_mean")}
BUDGET = "budget_flops"
AT = {"at_log10_budget": "flops", "at_log10_params": "params", "at_log10_samples": "samples"}
FOR_CHARTS = (*LOGARITHMS.values(), BUDGET, *AT)


def point_of_run(run: Run, columns: Mapping[str, str]) -> Point:
    """Return the point that a run is. ValueError: a value is not one that could have been measured."""
    try:
        return from_row(renamed(row_of_run(run), columns))
    except ValueError as error:
        raise ValueError(f"MLflow run {run.info.run_name}: {error}") from error


def row_of_run(run: Run) -> dict[str, str]:
    """Return a run's params, metrics and tags as one row; whole numbers without a fraction, as in the CSV.

    A study's points have other values for MLflow's charts, which are left out.
    """
    metrics = {
        key: repr(int(value)) if float(value).is_integer() else repr(value) for key, value in run.data.metrics.items()
    }
    tags = {key: value for key, value in run.data.tags.items() if "." not in key}
    row = {**tags, **run.data.params, **metrics}
    return {key: value for key, value in row.items() if key not in FOR_CHARTS} if KIND in run.data.tags else row


def _params_for_charts(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the params that MLflow's Compare page begins with: the first three by name, and right on linear axes."""
    logs = {name: math.log10(metrics[of]) for name, of in AT.items() if of in metrics}
    return {BUDGET: budget_name(metrics["flops"])} | {name: f"{value:.4f}" for name, value in logs.items()}


def _logarithms(metrics: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """Return the logarithms of metrics; NaN, which MLflow shows as missing, where one is known and no longer there."""
    logs = {
        log: math.log10(metrics[name]) if metrics[name] > 0 else math.nan
        for name, log in LOGARITHMS.items()
        if name in metrics
    }
    return {log: value for log, value in logs.items() if log in known or not math.isnan(value)}


class MlflowRun:
    """One run of the experiment; a Tracker for the training loop. `found`: as the store had it, if it was looked up."""

    def __init__(self, client: MlflowClient, run_id: str, found: Run | None = None) -> None:
        self.client = client
        self.id = run_id
        self.tags: Mapping[str, str] = found.data.tags if found else {}
        self.finished = found is not None and found.info.status == RunStatus.to_string(RunStatus.FINISHED)
        self._curves: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: Mapping[str, float], samples: int, at: int | None = None) -> None:
        """Log metrics at a number of samples, measured at the unix time `at` (ms; default: now).

        What was logged before a kill is not logged again: the history of the first metric decides for all. Cooldown
        branches overlap in samples, so for them an entry is a repetition only if its value is the same too.
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
        """Log single values, the missing ones left out."""
        known = self.client.get_run(self.id).data
        self.client.log_batch(self.id, metrics=_new_metrics(known.metrics, values))

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Log a row of the points table: numbers as metrics, the split as a tag, everything else as params.

        With the values for MLflow's charts, in one batch: nearly all of the time goes into the number of calls.
        """
        values = {key: value for key, value in row.items() if value not in (None, "")}
        known = self.client.get_run(self.id).data
        metrics = {key: float(values[key]) for key in METRICS if key in values}
        params = {key: value for key, value in values.items() if key not in (*METRICS, *TAGS)}
        params |= _params_for_charts(metrics)
        metrics |= _logarithms(metrics, known.metrics)
        self.client.log_batch(
            self.id,
            metrics=_new_metrics(known.metrics, metrics),
            params=_new_params(known.params, params),
            tags=[RunTag(key, values[key]) for key in TAGS if key in values],
        )

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, those that differ from what the store had."""
        if changed := [RunTag(key, value) for key, value in tags.items() if self.tags.get(key) != value]:
            self.client.log_batch(self.id, tags=changed)

    @retry(retry=retry_if_exception_type(MlflowException), stop=stop_after_attempt(2), reraise=True)
    def log_dataset(self, name: str, uri: str, digest: str, context: str) -> None:
        """Log a corpus as an input of the run.

        When two runs log the same corpus at the same time, the store rejects one of them; its second attempt succeeds.
        """
        dataset = Dataset(name, digest[:36], source_type="local", source=json.dumps({"uri": uri}))
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
        self.client.log_inputs(self.id, datasets=[DatasetInput(dataset, tags)])

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


def _new_metrics(known: Mapping[str, float], values: Mapping[str, float | None]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [
        Metric(key, float(value), now, 0)
        for key, value in values.items()
        if value is not None and known.get(key) != float(value)
    ]
