"""Access to the tracking store: directly when it is local, by way of a queue on disk when it is a server."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException

from playscale.tracking.delivery_queue import DeliveryQueue, destination, refused_path, retry_until_answered
from playscale.tracking.mlflow_tracker import KubeflowRun, MlflowExperiment
from playscale.tracking.queued_tracker import MlflowDelivery, QueuedExperiment
from playscale.tracking.store import LOGIN_REFUSED, store_errors
from playscale.tracking.tracker import Experiment, StudyOwner
from playscale.tracking.uris import is_server, one_line, shown

WAIT = "PLAYSCALE_TRACKING_WAIT"
STEP_SECONDS = 60.0
"""Time for which a step whose work is done waits for a tracking server. The next step delivers what is left."""
FIT_SECONDS = 600.0
"""Time for which a step waits that needs the server, since it reads the points from there."""
ABORT_SECONDS = 5.0
SUFFIX = ".spool"
QUEUE = f"tracking{SUFFIX}"
"""Queue file in the directory of `train` and `evaluate`. A study has one for each run, in OUT/tracking."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class TrackingClient:
    """One experiment at one tracking URI.

    artifacts: where artifacts go, see MlflowExperiment
    injected: log under the MLflow run that Kubeflow Pipelines has set for this task, if it has (see KubeflowRun)
    kubeflow: the injected run, where it is that of another process

    What MLflow or its database raises becomes ValueError (an invalid request) or RuntimeError (a failure).
    """

    name: str
    uri: str
    artifacts: str | None = None
    injected: bool = False
    kubeflow: KubeflowRun | None = None

    @property
    def served(self) -> bool:
        """True when the store is a server, which may be unreachable for a while."""
        return is_server(self.uri)

    def connect(self, *, create: bool = True) -> MlflowExperiment:
        """Return the experiment, created when it is missing; ValueError without `create`, or when it was deleted.

        Raises what MLflow and its database raise.
        """
        if self.served:  # the queue and query() retry themselves: a client that retries too would hide an outage
            without_retries()
            settle_client()
        return MlflowExperiment(self.name, self.uri, artifacts=self.artifacts, create=create, kubeflow=self._parent)

    @property
    def _parent(self) -> KubeflowRun | None:
        return self.kubeflow or (KubeflowRun.from_environment(self.uri) if self.injected else None)

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
        parent = asdict(self._parent) if self._parent else None
        to = {"experiment": self.name, "uri": shown(self.uri), "kubeflow": parent}
        deliver = MlflowDelivery(self.connect, queue_file.parent)
        if (waits_for := destination(queue_file).get("experiment", self.name)) != self.name:
            raise ValueError(
                f"{queue_file}: entries for the experiment {waits_for!r} wait there; "
                f"deliver them first: playscale tracking deliver {queue_file.parent}"
            )
        return DeliveryQueue(queue_file, deliver, shown(self.uri), to)

    def deliver(self, queue_files: Sequence[Path]) -> int:
        """Deliver what earlier steps left, also what was refused then; return the number of entries delivered.

        RuntimeError: the server does not accept it in time.
        """
        delivered = 0
        for path in queue_files:
            queue = self._queue(path)
            queue.retry_refused()
            waiting = len(queue)
            if left := queue.close(patience(FIT_SECONDS)):
                raise RuntimeError(
                    f"{shown(self.uri)} does not take the {left} entries that wait in {path}, and more may wait "
                    f"({queue.reason}); run the same command again when it does"
                )
            delivered += waiting
        return delivered

    def query(self, question: Callable[[MlflowExperiment], T], *, create: bool = True) -> T:
        """Return question(experiment); ValueError: no such experiment; RuntimeError: the server stays away."""
        with store_errors(self.uri):
            if not self.served:
                return question(self.connect(create=create))
            server = shown(self.uri)
            return retry_until_answered(lambda: question(self.connect(create=create)), patience(FIT_SECONDS), server)

    def prepare(self, owner: StudyOwner | None = None, *, resumed: bool = False) -> None:
        """Create the experiment, and mark it as that of a study, `owner` (see MlflowExperiment.claim).

        A server that is down is only logged. ValueError: it was deleted, is refused, or is another study's.
        """
        server = shown(self.uri)
        try:
            with nullcontext() if self.served else store_errors(self.uri):
                experiment = self.connect()
                if owner:
                    experiment.claim(owner, resumed=resumed)
        except MlflowException as error:
            if error.get_http_status_code() == requests.codes.unauthorized:
                raise ValueError(f"{server}: {LOGIN_REFUSED}") from error
            if requests.codes.bad_request <= error.get_http_status_code() < requests.codes.server_error:
                raise ValueError(f"{server} refuses the experiment {self.name!r}: {one_line(error)}") from error
            log.warning("tracking: %s does not answer (%s): what is logged waits on disk", server, one_line(error))


def settle_client() -> None:
    """Let MLflow's own client print nothing, and pass artifacts through the server, which alone can reach its S3."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for each point
    for way in ("UPLOAD", "DOWNLOAD"):
        os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "false")


def without_retries() -> None:
    """Let MLflow's own client report a server that does not answer, in place of trying it again for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def deliver_all(folder: Path, experiment: str | None, tracking_uri: str | None) -> int:
    """Deliver the entries that wait in a directory OUT; return their number.

    Args:
        folder: The directory of a study, or the --out of `train` or `evaluate`.
        experiment: The experiment, if not the one that the entries were meant for.
        tracking_uri: The server, if not the one that the entries were meant for.

    Raises:
        ValueError: Entries that version 0.1 wrote do not say where they go; or another process is logging there.
        RuntimeError: The server does not accept all of them.
    """
    delivered, refused = 0, []
    for path in queue_files(folder):
        to = destination(path)
        name, uri = experiment or to.get("experiment"), tracking_uri or to.get("uri")
        if not name or not uri:
            raise ValueError(f"{path}: does not say where its entries go; give --experiment and --tracking-uri")
        kubeflow = KubeflowRun(**to["kubeflow"]) if to.get("kubeflow") and not experiment else None
        client = TrackingClient(name, uri, kubeflow=kubeflow)
        if not client.served:
            raise ValueError(f"{shown(uri)}: entries are delivered to a server, http://HOST:PORT")
        client.query(lambda there: there.name)
        delivered += client.deliver([path])
        refused += [str(file) for file in [refused_path(path)] if file.exists()]
    if refused:
        raise RuntimeError(
            f"{delivered} entries are delivered; some were refused, for the reasons in {', '.join(refused)}"
        )
    return delivered


def queue_files(folder: Path) -> list[Path]:
    """Return the queue files in OUT and in its forecasts, also those of which only refused entries are left."""
    patterns = (QUEUE, f"tracking/*{SUFFIX}", f"forecasts/*/tracking/*{SUFFIX}")
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    refused = [path for pattern in patterns for path in folder.glob(str(refused_path(Path(pattern))))]
    return sorted({*found, *(path.with_suffix("") for path in refused)})


def patience(seconds: float) -> float:
    """Return PLAYSCALE_TRACKING_WAIT if it is set, else `seconds`; ValueError when it is no number."""
    text = os.environ.get(WAIT)
    if not text:
        return seconds
    try:
        return max(0.0, float(text))
    except ValueError as error:
        raise ValueError(f"{WAIT}: {text!r} is not a number of seconds") from error
