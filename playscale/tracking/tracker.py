"""The tracking port: the interface through which steps log runs. mlflow_tracker.py implements it with MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from playscale.points import Point

VERSION, CORPUS = "playscale.version", "playscale.corpus"
KFP_RUN, KFP_URL = "kfp.pipeline_run_id", "kfp.pipeline_run_url"  # as Kubeflow's own integration with MLflow has them
REVISION = "mlflow.source.git.commit"
LABELS = (VERSION, REVISION, CORPUS, KFP_RUN, KFP_URL)
"""Tags of a run that say what made it; a point has those of its model's run."""
Spent = Callable[[str], AbstractContextManager[None]]
"""Returns a context whose seconds are counted as spent on the named part, as ProgressFile.timed does."""


@dataclass(frozen=True)
class StudyOwner:
    """The study whose an experiment is: an id that moves with its directory, and that directory, for messages."""

    id: str
    out: str


@dataclass(frozen=True)
class RunIdentity:
    """The identity of a run beside its kind and name: runs of one name with different digests are different runs.

    Attributes:
        digest: Of everything that decides the run's result.
        settings: The settings among that, as text; corpus: the digest of its corpus. By these a run that an earlier
            version recorded without a digest is known as the same one.
    """

    digest: str
    settings: Mapping[str, str] = field(default_factory=dict)
    corpus: str = ""


@dataclass(frozen=True)
class RegisteredAgent:
    """The agent of a point, to be a version of its study's registered model.

    Attributes:
        point: The point; its run has the checkpoint.
        study: Name of the study.
        aliases: Names that are to stand for the version.
        about: Description of the registered model, Markdown.
        card: Description of the version, Markdown.
        tags: Tags of the version.
    """

    point: Point
    study: str
    aliases: tuple[str, ...]
    about: str
    card: str
    tags: Mapping[str, str]

    def arguments(self) -> dict[str, Any]:
        """Return all but the point, as plain values."""
        named = {name: getattr(self, name) for name in ("study", "about", "card")}
        return {**named, "aliases": list(self.aliases), "tags": dict(self.tags)}


class Tracker(Protocol):
    """Takes the learning curves of one training run."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log values at a point of training, counted in samples (transitions) seen so far."""
        ...


class TrackedRun(Tracker, Protocol):
    """One run of an experiment."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; those already there keep their value."""
        ...

    def log_values(self, values: Mapping[str, float | None]) -> None:
        """Log single values, the missing ones left out."""
        ...

    def log_dataset(self, name: str, uri: str, digest: str, context: str) -> None:
        """Log a corpus as an input of the run."""
        ...

    def log_artifacts(self, path: Path, folder: str) -> None:
        """Store a file, or every file of a directory, under `folder` of the run's artifacts."""
        ...

    def finish(self) -> None:
        """Mark the run as finished."""
        ...


class Experiment(Protocol):
    """Takes the runs of a study. What is logged again, after a kill, is stored once."""

    def start(
        self, kind: str, name: str, identity: RunIdentity | None = None, labels: Mapping[str, str] | None = None
    ) -> TrackedRun:
        """Return the run of that kind (run, reference, fit), name and digest, made when it is missing, now running.

        labels: its tags by name (see LABELS); those of a finished run stay as they are, but for a fit.
        """
        ...

    def log_point(self, point: Point) -> TrackedRun:
        """Write a row of the points table as a finished run under its model's run; call again to add its return."""
        ...

    def link_report(self, run: Any, file: str) -> None:
        """Link a file among the artifacts of a run of this experiment from the experiment's description."""
        ...

    def register(self, agent: RegisteredAgent) -> None:
        """Make the agent of a point a version of its study's registered model, unless it is one."""
        ...


class NullTracker:
    """A tracker that logs nothing."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        del metrics, samples


def not_timed(part: str) -> AbstractContextManager[None]:
    """A Spent that counts nothing."""
    del part
    return nullcontext()


class TimedTracker:
    """A tracker whose seconds are counted as spent on "tracking"."""

    def __init__(self, tracker: Tracker, spent: Spent) -> None:
        self._tracker = tracker
        self._spent = spent

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        with self._spent("tracking"):
            self._tracker.log_metrics(metrics, samples)
