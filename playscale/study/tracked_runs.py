"""Records of training runs and evaluations in an experiment of the tracking server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from playscale import __version__
from playscale.config import TrainConfig, budget_name
from playscale.tracking.tracker import CORPUS, KFP_RUN, KFP_URL, REVISION, VERSION, Experiment, RunIdentity, TrackedRun

if TYPE_CHECKING:
    from playscale.points import Point
    from playscale.rollout.evaluation import Evaluation


def run_labels(corpus: str = "") -> dict[str, str]:
    """Return what made a run: the version, the digest of its corpus, and Kubeflow's run as far as it is known here.

    The image sets PLAYSCALE_REVISION, the compiled pipeline KFP_RUN_ID, and the ConfigMap of the pipeline's pods may
    have PLAYSCALE_KFP_URL. Without the last, the address lacks the host, as that of Kubeflow's own integration does.
    """
    run, revision = os.environ.get("KFP_RUN_ID", ""), os.environ.get("PLAYSCALE_REVISION", "")
    where = os.environ.get("PLAYSCALE_KFP_URL", "").rstrip("/")
    labels = {
        VERSION: __version__,
        REVISION: "" if revision == "unknown" else revision,
        CORPUS: corpus,
        KFP_RUN: run,
        KFP_URL: run and f"{where}/#/runs/details/{run}",
    }
    return {name: value for name, value in labels.items() if value}


def start_run(experiment: Experiment, config: TrainConfig, corpus_uri: str | None) -> TrackedRun:
    """Start the record of a training run: its settings, and its corpus where it imitates. Return its tracker."""
    from playscale.training.identity import deciding, run_digest, sources

    learned_from = sources(config, corpus_uri)
    corpus = learned_from.get("corpus")
    game = corpus["game"] if corpus else learned_from["game"]["uri"]
    settings = {name: str(value) for name, value in deciding(config.model_dump()).items()}
    identity = RunIdentity(run_digest(config, learned_from), settings, corpus["digest"] if corpus else "")
    run = experiment.start("run", config.run_name, identity, run_labels(identity.corpus))
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


def log_fit(experiment: Experiment, study: str, metrics: Mapping[str, float], folder: Path) -> None:
    """Record the fit of a study in `folder`: its figures, by name, and its files, with a link to the report."""
    run = experiment.start("fit", f"fit of {study}", labels=run_labels())
    run.log_values(metrics)
    for path in ("points.csv", "fit.json", "report.html", "figures"):
        run.log_artifacts(folder / path, "figures" if path == "figures" else "")
    experiment.link_report(run, "report.html")
    run.finish()
