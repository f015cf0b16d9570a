"""Watching games: `playscale watch`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from playscale.cli.options import Device, budget_list, echo, finite, given
from playscale.config import EVALUATION_SEED, LARGEST_SEED, LONGEST_GAME
from playscale.processes.cores import usable_cores
from playscale.storage.files import local_path
from playscale.storage.storage import is_s3
from playscale.storage.sync import local_copy, scratch_folder, workspace

if TYPE_CHECKING:
    from playscale.study.kept_games import KeptGame

RECORDED = ".bz2"  # how the names of recordings in S3 end
NEEDED = ("checkpoint.json", "*evaluation.json", "*recordings/*")  # files in S3 that are read
OF_CHECKPOINT, OF_RECORDING, OF_OUT = ("seed", "max_steps", "temperature"), ("checkpoint",), ("run", "budget", "which")
KINDS = {"checkpoint": OF_CHECKPOINT, "recording": OF_RECORDING, "directory": OF_OUT}
PRIORITY = {"best": 0, "worst": 1, "median": 2}  # what a page keeps first


def watch(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, a recording (ttyrec3), or the directory of a study, of an evaluation or of recordings."
        ),
    ],
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page of the games there instead of playing them.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Of a directory: the games of this run; of recordings, the one of this name.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Of a directory: the games at this budget.")] = None,
    which: Annotated[
        Literal["best", "median", "worst"] | None, typer.Option(help="Of a directory: this game of each agent.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Of a recording: the checkpoint of the agent that played.")
    ] = None,
    game: Annotated[
        str | None, typer.Option(help="Of a checkpoint: the task to play. Of recordings: their game.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of a checkpoint: seed of the game that it plays.")
    ] = EVALUATION_SEED,
    max_steps: Annotated[
        int, typer.Option(min=1, max=LONGEST_GAME, help="Of a checkpoint: actions after which its game is cut.")
    ] = 5000,
    temperature: Annotated[
        float, typer.Option(min=0, callback=finite, help="Of a checkpoint: temperature; 0 takes the best action.")
    ] = 1.0,
    device: Device = "auto",
) -> None:
    """Watch recorded games, or an agent play, with the agent's action probabilities: in the terminal, or as a page.

    \b
    Keys: space plays and pauses, left and right step (with Shift or [ ] 100 steps), up and down change the speed,
    Home and End go to the ends, a number and Enter goes to that step, n and p change the game, q quits.

    \b
    Example:
      playscale watch out/smoke --run bc-lstm-10k-s0 --which best
      playscale watch out/smoke --html games.html
      playscale watch out/smoke/train/bc-lstm-10k-s0/checkpoints/8e+09 --seed 3 --max-steps 500
    """
    if html is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("watch plays in a terminal, and here is none: give --html FILE for a page")
    page = None if html is None else _page_path(html)
    options = {"run": run, "budget": budget, "which": which, "checkpoint": checkpoint, "game": game}
    plays = {"seed": seed, "max_steps": max_steps, "temperature": temperature, "device": device}
    with workspace_of(target) as folder, scratch_folder() as scratch:
        kind = _kind(folder)
        for other, names in KINDS.items():
            if other != kind and (stray := [name for name in names if given(context, name)]):
                raise ValueError(f"--{stray[0].replace('_', '-')}: only for a {other}, but {target} is a {kind}")
        games = _games(kind, folder, target, scratch, options, plays)
        if page is not None:
            echo(_write_page(page, games, target, device))
            return
        from playscale.cli.terminal_player import play_in_terminal

        play_in_terminal(games, device)


def _page_path(html: str) -> Path:
    path = local_path(html)
    if path.is_dir():
        raise ValueError(f"--html: {html} is a directory; give a file")
    if not path.parent.is_dir():
        raise ValueError(f"--html: {path.parent} is no directory; make it first")
    return path


def workspace_of(target: str) -> Any:
    """Return the context of a local folder or file that holds what is read of the target."""
    if is_s3(target) and target.endswith(RECORDED):
        return workspace(local_copy(target))
    return workspace(target, *NEEDED, store=False)


def _kind(path: Path) -> str:
    from playscale.agents.checkpoint import is_checkpoint

    if path.is_dir():
        return "checkpoint" if is_checkpoint(path) else "directory"
    if not path.exists():
        raise ValueError(f"{path}: there is nothing there")
    return "recording"


def _games(
    kind: str, folder: Path, target: str, scratch: Path, options: dict[str, Any], plays: dict[str, Any]
) -> list[KeptGame]:
    from playscale.games.game import get_game
    from playscale.study.kept_games import choose, kept_games, recorded_game, recorded_games

    game = get_game(options["game"]).name if options["game"] else None
    if kind == "recording":
        return [recorded_game(folder, game, options["checkpoint"])]
    if kind == "checkpoint":
        from playscale.cli.console import progress
        from playscale.rollout.evaluate import evaluate

        with progress("watch") as report:
            evaluate([local_copy(target)], 1, scratch, workers=1, game=game, progress=report, **plays)
        return kept_games(scratch, str(scratch))
    found = kept_games(folder, target)
    if found and game is not None:
        raise ValueError(f"--game: the games of {target} are known; leave it out")
    if not found:
        try:
            found = recorded_games(folder, game)
        except ValueError as error:
            raise ValueError(
                f"{target}: neither a checkpoint, nor with kept or recorded games in it: {error}"
            ) from error
    budgets = budget_list(options["budget"], "--budget") if options["budget"] else []
    if len(budgets) > 1:
        raise ValueError("--budget: give one budget")
    return choose(found, options["run"], budgets[0] if budgets else None, options["which"])


def _write_page(path: Path, games: Sequence[KeptGame], target: str, device: str) -> str:
    """Write the page, the first of the games as far as there is room; return what to print."""
    from playscale.agents.device import resolve_device
    from playscale.cli.console import progress
    from playscale.report.watch_page import EncodedReplay, PageEntry, fitted, write_watch_page
    from playscale.scaling.numbers import counted
    from playscale.study.kept_games import replays

    order = sorted(range(len(games)), key=lambda i: (_rank(games[i]), -(games[i].budget or 0), i))
    chosen, device = [games[i] for i in order], str(resolve_device(device))
    with progress("watch") as report:
        encoded = replays(chosen, EncodedReplay.of, device=device, workers=usable_cores(), progress=report)
        with closing(encoded):
            kept, note = fitted(encoded, len(games))
    if not kept:
        raise ValueError(f"{target}: its first game alone is larger than a page may be; watch it in the terminal")
    listed = sorted(zip(order, kept, strict=False))
    entries = [PageEntry(games[i].agent, games[i].label, (games[i].roles or ("",))[0]) for i, _ in listed]
    agents = len({game.agent for game in games if game.play})
    counts = counted(len(kept), "game") + (f" of {counted(agents, 'agent')}" if agents else "")
    write_watch_page(
        path,
        entries,
        [one for _, one in listed],
        title="Games to watch",
        subtitle=f"{target} · {counts}",
        note=note,
    )
    return f"{counts} in {path}" + (f"\nnote: {note}" if note else "")


def _rank(game: KeptGame) -> int:
    return min((PRIORITY[role] for role in game.roles), default=0)
