"""How a run is trained, by the name of its method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playscale.config import IMITATING_METHODS, TrainConfig
from playscale.points import Point
from playscale.tracking.tracker import Tracker


def train(
    out: Path,
    config: TrainConfig,
    corpus: str | None = None,
    tracker: Tracker | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Point]:
    """Train through the config's budgets into `out`: see train_bc, which needs a corpus, and train_impala."""
    if config.method in IMITATING_METHODS:
        from playscale.training.bc import train_bc

        assert corpus is not None
        return train_bc(corpus, out, config, tracker, progress)
    from playscale.training.impala import train_impala

    return train_impala(out, config, tracker, progress)
