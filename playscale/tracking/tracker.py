"""The tracking port: what training may say of itself while it runs. MLflow stands behind it (mlflow_tracker.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from playscale.points import Point

Spent = Callable[[str], AbstractContextManager[None]]


class Tracker(Protocol):
    """Where the curves of one training run go."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log values at a point of training, counted in samples (transitions) seen so far."""
        ...


class TrackedRun(Tracker, Protocol):
    """One run of an experiment, and all that is kept of it."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; those already there keep their value."""
        ...

    def log_values(self, values: Mapping[str, float | None]) -> None:
        """Log single figures, the missing ones left out."""
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
    """Where the runs of a study go. Everything may be logged again: it will be there once."""

    def start(self, kind: str, name: str) -> TrackedRun:
        """The run of that kind (run, reference, fit) and name, made when it is not there, now running."""
        ...

    def log_point(self, point: Point) -> TrackedRun:
        """Write a row of the points table as a finished run under its model's run; call again to add its return."""
        ...


class NullTracker:
    """Tracks nothing."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        del metrics, samples


def not_timed(part: str) -> AbstractContextManager[None]:
    """Counts nothing."""
    del part
    return nullcontext()


class TimedTracker:
    """A tracker whose seconds are counted as `tracking`."""

    def __init__(self, tracker: Tracker, spent: Spent) -> None:
        self._tracker = tracker
        self._spent = spent

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        with self._spent("tracking"):
            self._tracker.log_metrics(metrics, samples)
