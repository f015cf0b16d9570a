"""Expert play: `playscale collect` and `playscale prepare`."""

from __future__ import annotations

from typing import Annotated

import typer

from playscale.cli.options import Out, Workers, echo
from playscale.config import COLLECTING_SEED, LARGEST_SEED, LONGEST_GAME, MOST_GAMES
from playscale.processes.cores import usable_cores
from playscale.storage.sync import workspace
from playscale.tracking.prometheus import served

REASONS = 20  # recordings left out that prepare prints


def collect(
    out: Out,
    game: Annotated[str, typer.Option(help="Game that the expert plays.")] = "nethack",
    games: Annotated[int, typer.Option(min=1, max=MOST_GAMES, help="Number of games.")] = 64,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            help="Seed of the first game; game i has SEED + i. Default: that of the collection in OUT; of a new one "
            f"{COLLECTING_SEED}, apart from the seeds of evaluation.",
        ),
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, max=LONGEST_GAME, help="Actions after which a game is cut.")] = 5000,
    workers: Workers = None,
) -> None:
    """Let the game's built-in expert play, and record its games in NLD-AA layout.

    \b
    Example:
      playscale collect --game nethack --games 4 --max-steps 400 --out games
    """
    from playscale.cli.console import progress
    from playscale.rollout.collect import collect as run

    with served(task="collect"), progress("collect") as report, workspace(out) as folder:
        run(game, games, folder, seed=seed, workers=workers or usable_cores(), max_steps=max_steps, progress=report)
    echo(f"{games} games of {game} in {out}")


def prepare(
    source: Annotated[str, typer.Argument(help="Directory of recordings in NLD-AA layout, local or in S3.")],
    out: Out,
    game: Annotated[str, typer.Option(help="Game of the recordings.")] = "nethack",
    workers: Workers = None,
) -> None:
    """Convert recorded games into a corpus: shards to stream from, split by game into train and dev.

    \b
    Example:
      playscale prepare games --out corpus
    """
    from playscale.cli.console import progress
    from playscale.corpus.prepare import prepare as run

    with served(task="prepare"), progress("prepare") as report:
        corpus = run(source, out, game=game, workers=workers or usable_cores(), progress=report)
    echo(corpus.summary())
    if not corpus.transitions("dev"):
        echo("note: no dev games, without which nothing can be trained on it; prepare more games")
    for rejected in corpus.rejected[:REASONS]:
        echo(f"left out: {rejected.path}: {rejected.reason}")
    if len(corpus.rejected) > REASONS:
        echo(f"{len(corpus.rejected) - REASONS} more are listed in {out}/corpus.json")
