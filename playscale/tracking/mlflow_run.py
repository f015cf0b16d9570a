"""One run of a study in MLflow, which takes everything as often as it comes and keeps it once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

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

    def log_row(self, row: Mapping[str, str]) -> None:
        """Log a row of the points table: figures as metrics, the split as a tag, everything else as params.

        In one batch: what the store takes for it is nearly all in the number of calls.
        """
        filled = {key: value for key, value in row.items() if value != ""}
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
