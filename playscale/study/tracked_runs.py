"""Records of training runs and evaluations in an experiment of the tracking server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from playscale.config import TrainConfig, budget_name
from playscale.tracking.tracker import Experiment, RunIdentity, TrackedRun

if TYPE_CHECKING:
    from playscale.points import Point
    from playscale.rollout.evaluation import Evaluation


def start_run(experiment: Experiment, config: TrainConfig, corpus_uri: str | None) -> TrackedRun:
    """Start the record of a training run: its settings, and its corpus where it imitates. Return its tracker."""
    from playscale.training.identity import deciding, run_digest, sources

    learned_from = sources(config, corpus_uri)
    corpus = learned_from.get("corpus")
    game = corpus["game"] if corpus else learned_from["game"]["uri"]
    settings = {name: str(value) for name, value in deciding(config.model_dump()).items()}
    identity = RunIdentity(run_digest(config, learned_from), settings, corpus["digest"] if corpus else "")
    run = experiment.start("run", config.run_name, identity)
    labels = {name: value for name in ("vary", "varied") if (value := getattr(config, name))}
    run.log_params(config.model_dump(exclude={"vary", "varied"}) | labels | {"game": game})
    if corpus:
        run.log_dataset(f"{game} games", corpus["uri"], corpus["digest"], "training")
    return run


def log_points(experiment: Experiment, points: Sequence[Point], folder: Path, played: str | None = None) -> None:
    """Record the points of a training run, with their checkpoints.

    Args:
        experiment: Where to record them.
        points: The points of the run.
        folder: The run's directory.
        played: The task in which the agents will be evaluated, if it is not the game that they learn from.
    """
    for point in points:
        cell = experiment.log_point(replace(point, game=played or point.game))
        cell.log_artifacts(folder / "checkpoints" / budget_name(point.flops), "checkpoint")


def log_evaluations(
    experiment: Experiment,
    evaluations: Sequence[Evaluation],
    folder: Path,
    labelled: Callable[[Sequence[Point]], Sequence[Point]] = list,
) -> None:
    """Add the returns to the recorded points, with the episodes and the kept recordings as artifacts.

    Args:
        experiment: Where to record them.
        evaluations: The evaluations of a run's checkpoints.
        folder: The directory of the evaluations.
        labelled: Returns points with the study's own labels.
    """
    from playscale.rollout.evaluate import point_of

    for evaluation in evaluations:
        if point := point_of(evaluation):
            run = experiment.log_point(*labelled([point]))
            run.log_artifacts(folder / evaluation.name, "evaluation")
