"""Expert play: `playscale collect` and `playscale prepare`."""

from __future__ import annotations

from typing import Annotated

import typer

from playscale.cli.options import Out, Workers
from playscale.processes import usable_cores
from playscale.storage.sync import workspace
from playscale.tracking.prometheus import served


def collect(
    out: Out,
    game: Annotated[str, typer.Option(help="The game.")] = "nethack",
    games: Annotated[int, typer.Option(min=1, help="How many games the expert plays.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Game i is played with seed SEED + i.")] = 0,
    max_steps: Annotated[int, typer.Option(min=1, help="A game is cut after this many actions.")] = 5000,
    workers: Workers = None,
) -> None:
    """Let the game's expert play, and leave the games as NLD-AA has them.

    \b
    Example:
      playscale collect --game nethack --games 4 --max-steps 400 --out games
    """
    from playscale.cli.console import progress
    from playscale.rollout.collect import collect as run

    with served(task="collect"), progress("collect") as report, workspace(out) as folder:
        run(game, games, folder, seed=seed, workers=workers or usable_cores(), max_steps=max_steps, progress=report)
    typer.echo(f"{games} games of {game} in {out}")


def prepare(
    source: Annotated[str, typer.Argument(help="A directory of recordings in NLD-AA layout, here or in S3.")],
    out: Out,
    game: Annotated[str, typer.Option(help="The game that was recorded.")] = "nethack",
    workers: Workers = None,
) -> None:
    """Turn recorded games into a corpus: shards to stream from, split by game into train and dev.

    \b
    Example:
      playscale prepare games --out corpus
    """
    from playscale.cli.console import progress
    from playscale.corpus.prepare import prepare as run

    with served(task="prepare"), progress("prepare") as report:
        corpus = run(source, out, game=game, workers=workers or usable_cores(), progress=report)
    typer.echo(corpus.summary())
