"""The tracking port: what training may say of itself while it runs. MLflow stands behind it (mlflow_tracker.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Where the curves of one training run go."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log values at a point of training, counted in samples (transitions) seen so far."""
        ...


class NullTracker:
    """Tracks nothing."""

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        del metrics, samples
