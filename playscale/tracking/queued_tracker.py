"""An experiment whose calls become entries of a delivery queue, to be replayed on MLflow later, in order.

An entry names its run by kind and name, since the server's id for it is not known yet, and files by their path relative
to the queue's file, since the process that delivers them may have the study's directory elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from playscale.points import Point, from_row, to_row
from playscale.storage.files import path_below
from playscale.tracking.delivery_queue import DeliveryQueue, Entry, RefusedRunError, transient
from playscale.tracking.mlflow_run import MlflowRun
from playscale.tracking.mlflow_tracker import MlflowExperiment, point_name
from playscale.tracking.tracker import RegisteredAgent, RunIdentity
from playscale.tracking.uris import one_line


class QueuedExperiment:
    """An Experiment (tracker.py). `folder` holds the queue's file."""

    def __init__(self, queue: DeliveryQueue, folder: Path) -> None:
        self._queue, self._folder = queue, folder

    def start(
        self, kind: str, name: str, identity: RunIdentity | None = None, labels: Mapping[str, str] | None = None
    ) -> QueuedRun:
        run = QueuedRun(self._queue, self._folder, kind, name, identity.digest if identity else "")
        given = {"identity": asdict(identity) if identity else None, "labels": dict(labels) if labels else None}
        run.put("start", **{name: value for name, value in given.items() if value})
        return run

    def log_point(self, point: Point) -> QueuedRun:
        run = QueuedRun(self._queue, self._folder, "point", point_name(point), point.digest)
        run.put("log_point", row=to_row(point))
        return run

    def link_report(self, run: QueuedRun, file: str) -> None:
        run.put("link_report", file=file)

    def register(self, agent: RegisteredAgent) -> None:
        name, digest = point_name(agent.point), agent.point.digest
        QueuedRun(self._queue, self._folder, "point", name, digest).put("register", **agent.arguments())


class QueuedRun:
    """A TrackedRun (tracker.py)."""

    def __init__(self, queue: DeliveryQueue, folder: Path, kind: str, name: str, digest: str) -> None:
        self._queue, self._folder = queue, folder
        self._run = {"kind": kind, "name": name, "digest": digest}

    def put(self, call: str, **arguments: object) -> None:
        self._queue.put({**self._run, "call": call, "arguments": arguments})

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        self.put("log_metrics", metrics=dict(metrics), samples=samples, at=int(time.time() * 1000))

    def log_params(self, params: Mapping[str, object]) -> None:
        self.put("log_params", params={key: str(value) for key, value in params.items()})

    def log_values(self, values: Mapping[str, float | None]) -> None:
        self.put("log_values", values=dict(values))

    def log_dataset(self, name: str, uri: str, digest: str, context: str) -> None:
        self.put("log_dataset", name=name, uri=uri, digest=digest, context=context)

    def log_artifacts(self, path: Path, folder: str) -> None:
        self.put("log_artifacts", path=os.path.relpath(path.resolve(), self._folder.resolve()), folder=folder)

    def finish(self) -> None:
        self.put("finish")


class MlflowDelivery:
    """Carry out entries on MLflow. `connect` returns the experiment; `folder` holds the queue's file."""

    def __init__(self, connect: Callable[[], MlflowExperiment], folder: Path) -> None:
        self._connect, self._folder = connect, folder
        self._experiment: MlflowExperiment | None = None
        self._runs: dict[tuple[str, str, str], MlflowRun] = {}

    def __call__(self, entry: Entry) -> None:
        """Carry out an entry; raises what MLflow raises, and RefusedRunError for what concerns all of a run's entries.

        A run that was deleted meanwhile is created again.
        """
        try:
            self._carry_out(**entry)
        except Exception as error:
            self._experiment, self._runs = None, {}
            if transient(error):
                raise
            self._carry_out(**entry)

    def _carry_out(
        self, kind: str, name: str, call: str, arguments: dict[str, Any], digest: str = "", to: object = None
    ) -> None:
        del to
        key, identity = (kind, name, digest), RunIdentity(digest) if digest else None
        with _refused_run():
            experiment = self._experiment = self._experiment or self._connect()
            if call == "start":
                if "identity" in arguments:
                    identity = RunIdentity(**arguments["identity"])
                self._runs[key] = experiment.start(kind, name, identity, arguments.get("labels"))
                return
        if call == "register":
            experiment.register_point(name, digest, **arguments)
            return
        if call == "log_point":
            experiment.log_point(from_row(arguments["row"]))
            return
        run = self._runs.get(key)
        if run is None:
            with _refused_run():
                run = self._runs[key] = experiment.find(*key) or experiment.start(kind, name, identity)
        if call == "link_report":
            experiment.link_report(run, **arguments)
            return
        if "path" in arguments:
            arguments = arguments | {"path": self._file(str(arguments["path"]))}
        getattr(run, call)(**arguments)
        if call == "finish":  # removes a second run, created by a request whose answer was lost
            experiment.find(*key)

    def _file(self, name: str) -> Path:
        """Return the file that an entry names; ValueError: it is not in the directory of the study or command."""
        out = self._folder.parent if self._folder.name == "tracking" else self._folder
        return path_below(out, os.path.normpath(self._folder.relative_to(out) / name))


@contextmanager
def _refused_run() -> Iterator[None]:
    """Raise an error inside that no later attempt changes as RefusedRunError."""
    try:
        yield
    except (MlflowException, ValueError) as error:
        if transient(error):
            raise
        raise RefusedRunError(one_line(error)) from error
