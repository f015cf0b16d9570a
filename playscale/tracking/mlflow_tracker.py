"""A study in MLflow: one experiment; a run per model; under it a run per budget that holds a row of the points table.

Runs are identified by their tags, so that logging the same thing twice (a rerun after a kill, a request whose answer
was lost) leaves one run, with every value once.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from playscale.config import budget_name
from playscale.points import Point, in_order, to_row
from playscale.tracking.experiment_page import NEW, note_to_set, tags_to_set
from playscale.tracking.mlflow_run import KIND, MlflowRun, point_of_run
from playscale.tracking.registry import register, registered_name
from playscale.tracking.store import usable_uri
from playscale.tracking.tracker import LABELS, RegisteredAgent, RunIdentity, StudyOwner
from playscale.tracking.uris import shown

log = logging.getLogger(__name__)

NAME = "playscale.name"
STUDY = "playscale.study"
OWNER = "playscale.owner"  # of the experiment, with the study's name after it
DIGEST = "playscale.digest"  # of what decides the result; not in runs that earlier versions recorded


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
            created: str = self.client.create_experiment(name, artifact_location=artifacts, tags=NEW)
        except MlflowException:  # another process has created it, or we have, and the answer was lost
            existing = self.client.get_experiment_by_name(name)
            if existing is None:
                raise
            created = existing.experiment_id
        return created

    def claim(self, owner: StudyOwner, *, resumed: bool) -> None:
        """Mark the experiment as that of a study. ValueError: it holds the runs of another one.

        The mark is a tag of the experiment, which several studies may share under Kubeflow. A study that an earlier
        version began has none: with `resumed`, runs without a mark are its own. What its experiment lacks of the tags
        of a new one is set, too; one of Kubeflow's stays as it is.
        """
        tag = f"{OWNER}.{self.name}"
        tags = self.client.get_experiment(self.id).tags
        known = StudyOwner(**json.loads(tags[tag])) if tags.get(tag) else None
        missing = {} if self._kubeflow else tags_to_set(tags)
        if known != owner:
            self._check_owner(owner, known, resumed)
            missing[tag] = json.dumps(asdict(owner))
        for name, value in missing.items():
            self.client.set_experiment_tag(self.id, name, value)

    def _check_owner(self, owner: StudyOwner, known: StudyOwner | None, resumed: bool) -> None:
        """Refuse to log runs of a study beside those of another one."""
        own = resumed if known is None else known.id == owner.id
        if not own and self.client.search_runs([self.id], self._filter("run"), max_results=1):
            other = f"the study {self.name!r} in {known.out}" if known else "runs that no study has logged"
            raise ValueError(
                f"the study {self.name!r} in {owner.out} cannot log to the experiment of its name at {self.where}: it "
                f"holds {other}; give this study another name, or go on with that one"
            )

    def link_report(self, run: MlflowRun, file: str) -> None:
        """Link a file among a run's artifacts from the experiment's description, unless somebody wrote another one.

        The description of an experiment of Kubeflow's stays as it is.
        """
        if self._kubeflow:
            return
        tags = self.client.get_experiment(self.id).tags
        for name, value in note_to_set(tags, self.id, run.id, file).items():
            self.client.set_experiment_tag(self.id, name, value)

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
        self,
        kind: str,
        name: str,
        identity: RunIdentity | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        parent: str | None = None,
        title: str = "",
    ) -> MlflowRun:
        """Return the run of that kind, name and digest, created when it is missing, in the state RUNNING.

        A run without a digest, of an earlier version, is taken for it if its settings and corpus are the same; a point,
        if it lies under the same run. It gets `labels` as tags, but for one that is finished: what made it stays there.
        A fit is always made anew. `title` is its name in MLflow, by default `name`.
        """
        digest = identity.digest if identity else ""
        run = self.find(kind, name, digest)
        if run is None and identity:
            run = self._adopted(kind, name, identity, parent)
        if run:
            self.client.update_run(run.id, status="RUNNING")
            if labels and (kind == "fit" or not run.finished):
                run.log_tags(labels)
            return run
        parent = parent or (self._kubeflow.run if self._kubeflow else None)
        optional = {MLFLOW_PARENT_RUN_ID: parent, DIGEST: digest}
        tags = {KIND: kind, NAME: name, STUDY: self.name} | {tag: value for tag, value in optional.items() if value}
        created = self.client.create_run(self.id, run_name=title or name, tags={**(labels or {}), **tags})
        return MlflowRun(self.client, created.info.run_id)

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
        return MlflowRun(self.client, runs[0].info.run_id, runs[0]) if runs else None

    def _named(self, kind: str, name: str) -> list[Run]:
        return list(self.client.search_runs([self.id], self._filter(kind, name)))

    def _adopted(self, kind: str, name: str, identity: RunIdentity, parent: str | None) -> MlflowRun | None:
        """Return the same run as an earlier version recorded it, and give it its digest; None: there is none."""
        for run in self._named(kind, name):
            known = run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent if kind == "point" else _agrees(run, identity)
            if known and not _digest(run):
                self.client.set_tag(run.info.run_id, DIGEST, identity.digest)
                return MlflowRun(self.client, run.info.run_id, run)
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
        labels = {name: model.tags[name] for name in LABELS if name in model.tags}
        run = self.start("point", point_name(point), identity, labels, parent=model.id, title=point_title(point))
        run.log_row(to_row(point))
        run.finish()
        return run

    def register(self, agent: RegisteredAgent) -> None:
        """Register the agent of a point; one that cannot be is named in the log: its study is done without it."""
        try:
            self.register_point(point_name(agent.point), agent.point.digest, **agent.arguments())
        except ValueError as error:
            log.warning("tracking: %s", error)

    def register_point(self, name: str, digest: str, *, study: str, **card: Any) -> None:
        """Register the agent of the point of that name and digest. ValueError: there is none, or MLflow refuses it."""
        run = self.find("point", name, digest)
        if run is None:
            raise ValueError(f"{name}: not registered: the experiment {self.name!r} has no such point")
        register(self.client, run.id, registered_name(study), **card)

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
    """Return the name by which a point's run is found again."""
    return f"{point.run} @ {point.flops:.3g} FLOPs{_task(point)}"


def point_title(point: Point) -> str:
    """Return the name of a point's run as MLflow shows it, its cell of the grid first: 10k @ 3e+11 bc s0."""
    seed = "" if point.seed is None else f" s{point.seed}"
    varied = f" {point.varied}" if point.varied else ""
    cell = f"{point.size} @ {budget_name(point.flops)} {point.method}{seed}{varied}{_task(point)}"
    return cell if point.size and point.method else point_name(point)


def _task(point: Point) -> str:
    return f" in {point.game}" if "/" in point.game else ""


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
