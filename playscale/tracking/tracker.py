"""The tracking port: what training may say of itself while it runs. MLflow stands behind it (mlflow_tracker.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Spent = Callable[[str], AbstractContextManager[None]]


class Tracker(Protocol):
    """Where the curves of one training run go."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log values at a point of training, counted in samples (transitions) seen so far."""
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
