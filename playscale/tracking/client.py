"""Where a step's runs go: straight into a local store; to a tracking server by way of a spool on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException

from playscale.tracking.delivery_queue import DeliveryQueue, one_line, persist
from playscale.tracking.mlflow_tracker import Injected, MlflowExperiment
from playscale.tracking.queued_tracker import QueuedCall, QueuedExperiment
from playscale.tracking.tracker import Experiment

WAIT = "PLAYSCALE_TRACKING_WAIT"
STEP_SECONDS = 60.0
"""How long a step whose work is done waits for a tracking server: what is left, the next one delivers."""
FIT_SECONDS = 600.0
"""How long a step waits that cannot do without: its points are there."""
ABORT_SECONDS = 5.0

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class TrackingClient:
    """One experiment at one tracking URI. `artifacts`: see MlflowExperiment. `injected`: may Kubeflow's run be used."""

    name: str
    uri: str
    artifacts: str | None = None
    injected: bool = False

    @property
    def served(self) -> bool:
        """Whether it is a server's, which may not be there for a while."""
        return self.uri.startswith(("http://", "https://"))

    def connect(self, *, create: bool = True) -> MlflowExperiment:
        """The experiment, made when it is not there. Raises MlflowException; ValueError without `create`."""
        if self.served:  # the outbox and persist() wait and try again: a client that did too would hide an outage
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
            for way in ("UPLOAD", "DOWNLOAD"):  # through the server, never past it: only the server reaches its S3
                os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "false")
        injected = Injected.at(self.uri) if self.injected else None
        return MlflowExperiment(self.name, self.uri, artifacts=self.artifacts, create=create, injected=injected)

    @contextmanager
    def open(self, spool: Path) -> Iterator[Experiment]:
        """The experiment to log to. What an earlier process left in `spool` goes first.

        Leaving waits for a server that does not answer, but not for long: what it has not taken stays in the spool.
        ValueError: another process has the spool open.
        """
        if not self.served:
            yield self.connect()
            return
        outbox = self._outbox(spool)
        try:
            yield QueuedExperiment(outbox, spool.parent)
        except BaseException:
            outbox.close(ABORT_SECONDS)
            raise
        outbox.close(patience(STEP_SECONDS))

    def _outbox(self, spool: Path) -> DeliveryQueue:
        return DeliveryQueue(spool, QueuedCall(self.connect, spool.parent), self.uri)

    def deliver(self, spools: Sequence[Path]) -> None:
        """Deliver what earlier steps left. ValueError when the server does not take it in time."""
        for spool in spools:
            if left := self._outbox(spool).close(patience(FIT_SECONDS)):
                raise ValueError(
                    f"{self.uri} does not answer: {left} entries wait in {spool}, and more may; "
                    "run the same command again when it does"
                )

    def ask(self, question: Callable[[MlflowExperiment], T], *, create: bool = True) -> T:
        """What the experiment answers. ValueError when its server does not for long, or there is no such experiment."""
        if not self.served:
            return question(self.connect(create=create))
        return persist(lambda: question(self.connect(create=create)), patience(FIT_SECONDS), self.uri)

    def prepare(self) -> None:
        """Make the experiment. A server that is down may come later; ValueError when it does not let us in."""
        try:
            self.connect()
        except MlflowException as error:
            if not self.served:
                raise
            if requests.codes.bad_request <= error.get_http_status_code() < requests.codes.server_error:
                raise ValueError(f"{self.uri} does not let us in: {one_line(error)}") from error
            log.warning("tracking: %s does not answer (%s): what is logged waits on disk", self.uri, one_line(error))


def patience(seconds: float) -> float:
    """So long, unless PLAYSCALE_TRACKING_WAIT says otherwise. ValueError when that is no number of seconds."""
    asked = os.environ.get(WAIT)
    if not asked:
        return seconds
    try:
        return max(0.0, float(asked))
    except ValueError as error:
        raise ValueError(f"{WAIT}: {asked!r} is not a number of seconds") from error
