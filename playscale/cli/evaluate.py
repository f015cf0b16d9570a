"""Evaluation: `playscale evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from playscale.cli.options import Device, Experiment, Out, Tracking, Workers, finite, tracking_of
from playscale.config import EVALUATION_SEED, LARGEST_SEED, LONGEST_GAME, MOST_GAMES
from playscale.processes.cores import usable_cores
from playscale.storage.files import locked
from playscale.storage.sync import local_copy, workspace
from playscale.tracking.prometheus import served


def evaluate(
    checkpoints: Annotated[list[str], typer.Argument(help="Checkpoint directories, local or in S3.")],
    out: Out,
    episodes: Annotated[
        int, typer.Option(min=1, max=MOST_GAMES, help="Episodes of each checkpoint, with seeds SEED to SEED+N-1.")
    ] = 100,
    max_steps: Annotated[
        int, typer.Option(min=1, max=LONGEST_GAME, help="Actions after which an episode is cut.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the first episode.")] = EVALUATION_SEED,
    temperature: Annotated[
        float, typer.Option(min=0, callback=finite, help="Temperature of the policy; 0 takes the best action.")
    ] = 1.0,
    game: Annotated[
        str | None,
        typer.Option(
            help="Task to play instead of the checkpoint's own, limited to the task's actions: nethack/score "
            "(NetHackScore-v0's monk), nethack/score/@ (any character), nethack/challenge/val-dwa-law-fem."
        ),
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Corpus whose expert's return is shown too.")] = None,
    workers: Workers = None,
    device: Device = "auto",
    experiment: Experiment = None,
    tracking_uri: Tracking = None,
) -> None:
    """Play episodes with trained agents and a random policy, and write the mean returns to OUT/points.csv.

    \b
    Example:
      playscale evaluate train-10k/checkpoints/* --episodes 4 --max-steps 200 --corpus corpus --out play
      playscale evaluate train-10k/checkpoints/* --game nethack/score --episodes 4 --max-steps 200 --out score
    """
    from playscale.cli.console import evaluations_table, progress, show
    from playscale.corpus.corpus import Corpus
    from playscale.games.game import get_game
    from playscale.rollout.evaluate import checkpoint_candidates
    from playscale.rollout.evaluate import evaluate as run
    from playscale.rollout.references import evaluate_random, expert_reference
    from playscale.study.tracked_runs import log_evaluations

    game = get_game(game).name if game else None
    expert = [expert_reference(Corpus.open(corpus), game)] if corpus else []
    workers = workers or usable_cores()
    if experiment:
        checkpoint_candidates([local_copy(checkpoint) for checkpoint in checkpoints], game)  # before one is made
    tracking = tracking_of(experiment, tracking_uri)
    with (
        served(task="evaluate"),
        progress("evaluate") as report,
        workspace(out) as folder,
        locked(folder, "evaluation"),
    ):
        evaluations = run(
            [local_copy(checkpoint) for checkpoint in checkpoints],
            episodes,
            folder,
            max_steps=max_steps,
            workers=workers,
            seed=seed,
            device=device,
            temperature=temperature,
            game=game,
            progress=report,
        )
        played = get_game(evaluations[0].game)
        random = evaluate_random(
            played, episodes, folder, max_steps=max_steps, workers=workers, seed=seed, progress=report
        )
        if tracking:
            from playscale.tracking.client import QUEUE

            with tracking.open(folder / QUEUE) as logged:
                log_evaluations(logged, evaluations, folder)
    show(evaluations_table([evaluation.reference() for evaluation in (*evaluations, random)] + expert))
