"""Training and evaluation with all that came of it in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from playscale.tracking.tracker import Experiment, Spent, TimedTracker, not_timed

if TYPE_CHECKING:
    from playscale.config import TrainConfig
    from playscale.points import Point
    from playscale.rollout.evaluation import Evaluation


def train_tracked(
    experiment: Experiment,
    run: str,
    corpus: str | None,
    folder: Path,
    config: TrainConfig,
    progress: Callable[[str, float], None],
    spent: Spent = not_timed,
    played: str | None = None,
) -> list[Point]:
    """Train by the config's method, with the run's curves, corpus (if it has one), points and checkpoints in MLflow.

    played: the task that its agents will be evaluated in, where that is not what the run learns from
    """
    from playscale.config import IMITATING_METHODS, budget_name
    from playscale.corpus.corpus import Corpus
    from playscale.training.method import train

    data = Corpus.open(corpus) if corpus and config.method in IMITATING_METHODS else None
    game = data.game if data else config.rl.game if config.rl else ""
    with spent("tracking"):
        tracker = experiment.start("run", run)
        tracker.log_params(config.model_dump() | {"game": game})
        if data:
            tracker.log_dataset(f"{game} games", str(data.uri), data.digest, "training")
    with spent("train"):
        points = train(folder, config, corpus, TimedTracker(tracker, spent), progress)
    with spent("tracking"):
        for point in points:
            cell = experiment.log_point(replace(point, game=played or point.game))
            cell.log_artifacts(folder / "checkpoints" / budget_name(point.flops), "checkpoint")
        tracker.finish()
    return points


def log_evaluations(experiment: Experiment, evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Add the returns to the points in MLflow, and the episodes and kept recordings to their artifacts."""
    from playscale.rollout.evaluate import point_of

    for evaluation in evaluations:
        if point := point_of(evaluation):
            run = experiment.log_point(point)
            run.log_artifacts(folder / evaluation.name, "evaluation")
