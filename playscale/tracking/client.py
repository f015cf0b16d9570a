"""Access to the tracking store: directly when it is local, by way of a queue on disk when it is a server."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException

from playscale.tracking.delivery_queue import DeliveryQueue, retry_until_answered
from playscale.tracking.mlflow_tracker import KubeflowRun, MlflowExperiment
from playscale.tracking.queued_tracker import MlflowDelivery, QueuedExperiment
from playscale.tracking.store import store_errors
from playscale.tracking.tracker import Experiment
from playscale.tracking.uris import is_server, one_line, shown

WAIT = "PLAYSCALE_TRACKING_WAIT"
STEP_SECONDS = 60.0
"""Time for which a step whose work is done waits for a tracking server. The next step delivers what is left."""
FIT_SECONDS = 600.0
"""Time for which a step waits that needs the server, since it reads the points from there."""
ABORT_SECONDS = 5.0

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class TrackingClient:
    """One experiment at one tracking URI.

    artifacts: where artifacts go, see MlflowExperiment
    injected: log under the MLflow run that Kubeflow Pipelines has set for this task, if it has (see KubeflowRun)

    What MLflow or its database raises becomes ValueError (an invalid request) or RuntimeError (a failure).
    """

    name: str
    uri: str
    artifacts: str | None = None
    injected: bool = False

    @property
    def served(self) -> bool:
        """True when the store is a server, which may be unreachable for a while."""
        return is_server(self.uri)

    def connect(self, *, create: bool = True) -> MlflowExperiment:
        """Return the experiment, created when it is missing; ValueError without `create`, or when it was deleted.

        Raises what MLflow and its database raise.
        """
        if self.served:  # the queue and query() retry themselves: a client that retries too would hide an outage
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
            for way in ("UPLOAD", "DOWNLOAD"):  # through the server: only it can reach its S3
                os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "false")
        kubeflow = KubeflowRun.from_environment(self.uri) if self.injected else None
        return MlflowExperiment(self.name, self.uri, artifacts=self.artifacts, create=create, kubeflow=kubeflow)

    @contextmanager
    def open(self, queue_file: Path) -> Iterator[Experiment]:
        """Yield the experiment to log to; what an earlier process left in `queue_file` is delivered first.

        At the end, wait a while for a server that does not answer; what it has not accepted stays in the file.
        ValueError: another process has the file open.
        """
        if not self.served:
            with store_errors(self.uri):
                yield self.connect()
            return
        queue = self._queue(queue_file)
        try:
            yield QueuedExperiment(queue, queue_file.parent)
        except BaseException:
            queue.close(ABORT_SECONDS)
            raise
        queue.close(patience(STEP_SECONDS))

    def _queue(self, queue_file: Path) -> DeliveryQueue:
        return DeliveryQueue(queue_file, MlflowDelivery(self.connect, queue_file.parent), self.uri)

    def deliver(self, queue_files: Sequence[Path]) -> None:
        """Deliver what earlier steps left; RuntimeError when the server does not accept it in time."""
        for path in queue_files:
            queue = self._queue(path)
            if left := queue.close(patience(FIT_SECONDS)):
                raise RuntimeError(
                    f"{shown(self.uri)} does not take the {left} entries that wait in {path}, and more may wait "
                    f"({queue.reason}); run the same command again when it does"
                )

    def query(self, question: Callable[[MlflowExperiment], T], *, create: bool = True) -> T:
        """Return question(experiment); ValueError: no such experiment; RuntimeError: the server stays away."""
        with store_errors(self.uri):
            if not self.served:
                return question(self.connect(create=create))
            server = shown(self.uri)
            return retry_until_answered(lambda: question(self.connect(create=create)), patience(FIT_SECONDS), server)

    def prepare(self) -> None:
        """Create the experiment. A server that is down is only logged; ValueError when it was deleted or is refused."""
        server = shown(self.uri)
        try:
            with nullcontext() if self.served else store_errors(self.uri):
                self.connect()
        except MlflowException as error:
            if requests.codes.bad_request <= error.get_http_status_code() < requests.codes.server_error:
                raise ValueError(f"{server} refuses the experiment {self.name!r}: {one_line(error)}") from error
            log.warning("tracking: %s does not answer (%s): what is logged waits on disk", server, one_line(error))


def patience(seconds: float) -> float:
    """Return PLAYSCALE_TRACKING_WAIT if it is set, else `seconds`; ValueError when it is no number."""
    text = os.environ.get(WAIT)
    if not text:
        return seconds
    try:
        return max(0.0, float(text))
    except ValueError as error:
        raise ValueError(f"{WAIT}: {text!r} is not a number of seconds") from error
