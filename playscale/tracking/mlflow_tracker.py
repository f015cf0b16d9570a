"""A study in MLflow: one experiment; a run per model; under it a run per budget that holds a row of the points table.

Runs are identified by their tags, so that logging the same thing twice (a rerun after a kill, a request whose answer
was lost) leaves one run, with every value once.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from playscale.points import Point, from_row, in_order, renamed, to_row
from playscale.tracking.store import usable_uri
from playscale.tracking.tracker import RunIdentity, StudyOwner
from playscale.tracking.uris import shown

KIND = "playscale.kind"  # run | point | reference | fit
NAME = "playscale.name"
STUDY = "playscale.study"
OWNER = "playscale.owner"  # of the experiment, with the study's name after it
DIGEST = "playscale.digest"  # of what decides the result; not in runs that earlier versions recorded
EXPERIMENT_TAGS = {"mlflow.note.content": "A run per model, under it one per budget: a row of the points table."}


@dataclass(frozen=True)
class KubeflowRun:
    """The MLflow run that Kubeflow Pipelines began for a task.

    A cluster with Kubeflow's MLflow integration creates an experiment and runs itself, and injects their ids into each
    task's environment: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_ID and MLFLOW_RUN_ID.
    """

    experiment: str
    run: str | None

    @classmethod
    def from_environment(cls, tracking_uri: str) -> KubeflowRun | None:
        """Return the injected run; None when there is none at this tracking server."""
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if not experiment or tracking_uri != os.environ.get("MLFLOW_TRACKING_URI"):
            return None
        return cls(experiment, os.environ.get("MLFLOW_RUN_ID") or None)


def every_page(search: Callable[..., PagedList[Any]], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Yield all that a search of MLflow's client finds, page after page."""
    token = None
    while True:
        page = search(*arguments, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


class NoExperimentError(ValueError):
    """There is no MLflow experiment of a name at a tracking URI."""

    def __init__(self, name: str, uri: str) -> None:
        super().__init__(f"no MLflow experiment {name!r} at {shown(uri)}; set MLFLOW_TRACKING_URI or --tracking-uri")


class MlflowExperiment:
    """One study's experiment, created when it is missing.

    Artifacts go to `artifacts` (a directory or URI) if given, else where the tracking server puts them. With `kubeflow`
    the study's runs go into that experiment, under that run, and other runs there are ignored. NoExperimentError when
    `create` is false and there is no such experiment.
    """

    def __init__(
        self,
        name: str,
        tracking_uri: str,
        *,
        artifacts: str | None = None,
        create: bool = True,
        kubeflow: KubeflowRun | None = None,
    ) -> None:
        where = shown(tracking_uri)
        uri = usable_uri(tracking_uri, create=create)
        if uri is None:
            raise NoExperimentError(name, tracking_uri)
        self.client = MlflowClient(uri)
        self.where = where
        self.name, self._kubeflow = name, kubeflow
        existing = None if kubeflow else self.client.get_experiment_by_name(name)
        if kubeflow:
            self.id = kubeflow.experiment
        elif existing is not None:
            self.id = existing.experiment_id
            if existing.lifecycle_stage == LifecycleStage.DELETED:
                restore = f"MLFLOW_TRACKING_URI={where} mlflow experiments restore -x {self.id}"
                raise ValueError(
                    f"MLflow experiment {name!r} at {where} was deleted; restore it ({restore}) or take another name"
                )
            if artifacts:
                from playscale.tracking.sqlite_store import move_artifacts

                move_artifacts(tracking_uri, self.id, existing.artifact_location, artifacts)
        elif create:
            self.id = self._create(name, artifacts)
        else:
            raise NoExperimentError(name, tracking_uri)

    def _create(self, name: str, artifacts: str | None) -> str:
        try:
            created: str = self.client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT_TAGS)
        except MlflowException:  # another process has created it, or we have, and the answer was lost
            existing = self.client.get_experiment_by_name(name)
            if existing is None:
                raise
            created = existing.experiment_id
        return created

    def claim(self, owner: StudyOwner, *, resumed: bool) -> None:
        """Mark the experiment as that of a study. ValueError: it holds the runs of another one.

        The mark is a tag of the experiment, which several studies may share under Kubeflow. A study that an earlier
        version began has none: with `resumed`, runs without a mark are its own.
        """
        tag = f"{OWNER}.{self.name}"
        text = self.client.get_experiment(self.id).tags.get(tag)
        known = StudyOwner(**json.loads(text)) if text else None
        if known == owner:
            return
        own = resumed if known is None else known.id == owner.id
        if not own and self.client.search_runs([self.id], self._filter("run"), max_results=1):
            other = f"the study {self.name!r} in {known.out}" if known else "runs that no study has logged"
            raise ValueError(
                f"the study {self.name!r} in {owner.out} cannot log to the experiment of its name at {self.where}: it "
                f"holds {other}; give this study another name, or go on with that one"
            )
        self.client.set_experiment_tag(self.id, tag, json.dumps(asdict(owner)))

    def runs(self, kind: str | None = None) -> list[Run]:
        """Return every run, or every run of a kind, oldest first."""
        order = ["attributes.start_time ASC"]
        return list(every_page(self.client.search_runs, [self.id], self._filter(kind), order_by=order))

    def _filter(self, kind: str | None, name: str | None = None) -> str:
        tags = (
            ({KIND: kind} if kind else {})
            | ({NAME: name} if name else {})
            | ({STUDY: self.name} if self._kubeflow else {})
        )
        return " AND ".join(f"tags.`{tag}` = '{_quoted(value)}'" for tag, value in tags.items())

    def start(
        self, kind: str, name: str, identity: RunIdentity | None = None, *, parent: str | None = None
    ) -> MlflowRun:
        """Return the run of that kind, name and digest, created when it is missing, in the state RUNNING.

        A run without a digest, of an earlier version, is taken for it if its settings and corpus are the same; a point,
        if it lies under the same run.
        """
        digest = identity.digest if identity else ""
        run = self.find(kind, name, digest)
        if run is None and identity:
            run = self._adopted(kind, name, identity, parent)
        if run:
            self.client.update_run(run.id, status="RUNNING")
            return run
        parent = parent or (self._kubeflow.run if self._kubeflow else None)
        optional = {MLFLOW_PARENT_RUN_ID: parent, DIGEST: digest}
        tags = {KIND: kind, NAME: name, STUDY: self.name} | {tag: value for tag, value in optional.items() if value}
        return MlflowRun(self.client, self.client.create_run(self.id, run_name=name, tags=tags).info.run_id)

    def find(self, kind: str, name: str, digest: str = "") -> MlflowRun | None:
        """Return the run of that kind, name and digest, if any; without a digest, also the only one of its name.

        Empty duplicates, from requests retried, are deleted.
        """
        named = self._named(kind, name)
        runs = [run for run in named if _digest(run) == digest]
        if not runs and not digest and len({_digest(run) for run in named}) == 1:
            runs = named
        runs = sorted(runs, key=_num_values, reverse=True)
        for duplicate in runs[1:]:
            if not _num_values(duplicate):
                self.client.delete_run(duplicate.info.run_id)
        return MlflowRun(self.client, runs[0].info.run_id) if runs else None

    def _named(self, kind: str, name: str) -> list[Run]:
        return list(self.client.search_runs([self.id], self._filter(kind, name)))

    def _adopted(self, kind: str, name: str, identity: RunIdentity, parent: str | None) -> MlflowRun | None:
        """Return the same run as an earlier version recorded it, and give it its digest; None: there is none."""
        for run in self._named(kind, name):
            known = run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent if kind == "point" else _agrees(run, identity)
            if known and not _digest(run):
                self.client.set_tag(run.info.run_id, DIGEST, identity.digest)
                return MlflowRun(self.client, run.info.run_id)
        return None

    def log_point(self, point: Point) -> MlflowRun:
        """Write a row of the points table as a finished run under its model's run; call again to add its return.

        An agent's point in a task is a run of its own, beside its point in the whole game.
        """
        identity = RunIdentity(point.digest) if point.digest else None
        model = self.find("run", point.run, point.digest)
        if model is None:
            model = self.start("run", point.run, identity)
            model.finish()
        run = self.start("point", point_name(point), identity, parent=model.id)
        run.log_row(to_row(point))
        run.finish()
        return run

    def points(self, columns: Mapping[str, str] | None = None) -> list[Point]:
        """Return the points table, whichever process logged it, in the order of a table.

        A row without a return is dropped when the same agent has rows with one: it was evaluated in other tasks.

        Args:
            columns: other names of params, metrics and tags, {"dev_loss": "eval/loss"}.
        """
        points = in_order(point_of_run(run, columns or {}) for run in self.runs("point") if _num_values(run))
        agent = lambda point: (point.run, point.digest, point.flops)  # noqa: E731
        evaluated = {agent(point) for point in points if point.return_mean is not None}
        return [point for point in points if point.return_mean is not None or agent(point) not in evaluated]


def point_name(point: Point) -> str:
    """Return the name of a point's run."""
    task = f" in {point.game}" if "/" in point.game else ""
    return f"{point.run} @ {point.flops:.3g} FLOPs{task}"


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")


def _digest(run: Run) -> str:
    return str(run.data.tags.get(DIGEST, ""))


def _agrees(run: Run, identity: RunIdentity) -> bool:
    """Return whether what a run has recorded is what decides the result of another."""
    recorded: dict[str, str] = {}
    for name, value in run.data.params.items():
        recorded[name] = value
        with contextlib.suppress(ValueError, SyntaxError):  # settings of reinforcement learning are a dict as text
            nested = ast.literal_eval(value) if value.startswith("{") else {}
            recorded |= {f"{name}.{key}": str(item) for key, item in nested.items()}
    used = {one.dataset.digest for one in run.inputs.dataset_inputs} if run.inputs else set()
    same = all(recorded.get(name, value) == value for name, value in identity.settings.items())
    return bool(identity.settings) and same and (not used or identity.corpus in used)


def _num_values(run: Run) -> int:
    """Return the number of metrics and params of a run."""
    return len(run.data.metrics) + len(run.data.params)


def point_of_run(run: Run, columns: Mapping[str, str]) -> Point:
    """Return the point that a run is. ValueError: a value is not one that could have been measured."""
    try:
        return from_row(renamed(row_of_run(run), columns))
    except ValueError as error:
        raise ValueError(f"MLflow run {run.info.run_name}: {error}") from error


def row_of_run(run: Run) -> dict[str, str]:
    """Return a run's params, metrics and tags as one row; whole numbers without a fraction, as in the CSV."""
    metrics = {
        key: repr(int(value)) if float(value).is_integer() else repr(value) for key, value in run.data.metrics.items()
    }
    tags = {key: value for key, value in run.data.tags.items() if "." not in key}
    return {**tags, **run.data.params, **metrics}


METRICS = ("flops", "params", "samples", "dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes")
TAGS = ("split",)


class MlflowRun:
    """One run of the experiment; a Tracker for the training loop."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.id = run_id
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

        In one batch: nearly all of the time goes into the number of calls.
        """
        values = {key: value for key, value in row.items() if value not in (None, "")}
        known = self.client.get_run(self.id).data
        metrics = {key: float(values[key]) for key in METRICS if key in values}
        params = {key: value for key, value in values.items() if key not in (*METRICS, *TAGS)}
        self.client.log_batch(
            self.id,
            metrics=_new_metrics(known.metrics, metrics),
            params=_new_params(known.params, params),
            tags=[RunTag(key, values[key]) for key in TAGS if key in values],
        )

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
