"""Collect expert play: seeded games, played in parallel, recorded as the game itself records them.

OUT/collect.json        the settings, and one row a finished game
OUT/game-000007/        the recording of the game with seed 7, moved into place when it was complete
OUT/.playing/           games being played and their files; left behind only by a kill, removed by the next run
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from playscale.config import COLLECTING_SEED
from playscale.games.game import get_game
from playscale.processes.worker import WorkerDiedError, run_tasks
from playscale.rollout.env_pool import PLAYING, check_disk, play_folder
from playscale.storage.files import locked, read_document, write_document
from playscale.tracking.monitor import count

SCHEMA = 1
MAX_STEPS = 5_000  # of a game, by default
SAVING_SHARE = 20  # saving the rows takes at most a twentieth of the time; a game whose row was lost is played again

Progress = Callable[[str, float], None]
Row = dict[str, Any]
_FOLDER = re.compile(r"game-\d{6,}")


@dataclass(frozen=True)
class CollectSummary:
    """A finished collection: its games, how many of them this call played, transitions (steps), scores in points."""

    out: Path
    games: int
    played: int
    transitions: int
    score_mean: float
    score_median: float


def collect(
    game: str,
    games: int,
    out: Path,
    *,
    seed: int | None = None,
    workers: int = 2,
    max_steps: int = MAX_STEPS,
    progress: Progress | None = None,
) -> CollectSummary:
    """Let the expert play games and record them.

    A game is the same whatever the number of workers. Games that `out` already holds are kept, missing ones are played:
    a later call for more games extends the collection.

    Args:
        game: Name of the game.
        games: Number of games.
        out: Directory of the collection.
        seed: Seed of the first game; the others have the seeds after it. By default that of the collection in `out`;
            a new one begins at COLLECTING_SEED, so that agents are not evaluated on the games that they imitate.
        workers: Number of worker processes.
        max_steps: A game is truncated after so many steps.
        progress: Called with a text and the fraction done (0 to 1).

    Raises:
        ValueError: `out` was made with other settings or holds something else, or a setting is out of range.
        OSError: `out` cannot be written.
        RuntimeError: A worker died.
    """
    _check(games, seed or 0, workers, max_steps)
    settings: Row = {
        "schema": SCHEMA,
        "game": game,
        "expert": str(getattr(get_game(game).make_expert(), "version", "")),
        "max_steps": max_steps,
    }
    _check_place(out)
    with locked(out, "collect"):
        settings["seed"], rows = _resume(out, settings, seed)
        first = settings["seed"] if seed is None else seed
        save_at = 0.0
        missing = [number for number in range(first, first + games) if number not in rows]
        try:
            with (
                play_folder(out / PLAYING) as files,
                closing(_play_all(game, missing, out, files, max_steps, workers)) as played,
            ):
                for done, row in enumerate(played, games - len(missing) + 1):
                    rows[row["seed"]] = row
                    count("environment_steps", row["steps"])
                    count("episodes")
                    if time.monotonic() > save_at:
                        started = time.monotonic()
                        _save(out, settings, rows)
                        save_at = time.monotonic() + SAVING_SHARE * (time.monotonic() - started)
                    if progress:
                        text = f"game {done} of {games}: score {row['score']:.0f} in {row['steps']} steps"
                        progress(text, done / games)
        finally:
            _save(out, settings, rows)
    selected = [rows[number] for number in range(first, first + games)]
    scores = [row["score"] for row in selected]
    transitions = sum(row["steps"] for row in selected)
    return CollectSummary(out, games, len(missing), transitions, statistics.fmean(scores), statistics.median(scores))


def _check(games: int, seed: int, workers: int, max_steps: int) -> None:
    for name, value, least in (
        ("games", games, 1),
        ("workers", workers, 1),
        ("max_steps", max_steps, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}: it must be at least {least}")


class _GameTask(NamedTuple):
    game: str
    seed: int
    out: Path
    files: Path  # where running games keep their files
    max_steps: int


def _check_place(out: Path) -> None:
    """Raise ValueError when a directory holds something that no collection writes."""
    if (out / "collect.json").exists() or not out.is_dir():
        return
    if not all(path.name.startswith(".") or _FOLDER.fullmatch(path.name) for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and is no collection: choose another --out")


def _resume(out: Path, settings: Row, seed: int | None) -> tuple[int, dict[int, Row]]:
    """Return the first seed of the collection in `out` and the rows of its complete games; remove incomplete ones."""
    collection = out / "collect.json"
    first = COLLECTING_SEED if seed is None else seed
    rows: dict[int, Row] = {}
    if collection.exists():
        existing = read_document(collection, _Collection, "remove the file, and all games are played again")
        for name, value in settings.items():
            if existing.get(name) != value:
                raise ValueError(
                    f"{out} was collected with {name}={existing.get(name)}, not {value}: choose another --out"
                )
        first = existing.get("seed", 0)  # version 0.1 wrote no seed and no checksum, and began at 0 by default
        rows = {row["seed"]: row for row in existing["games"] if _folder(out, row["seed"]).is_dir()}
    keep = {_folder(out, number) for number in rows}
    for path in list(out.iterdir()):
        if _FOLDER.fullmatch(path.name) and path not in keep:
            shutil.rmtree(path)
    _save(out, settings | {"seed": first}, rows)
    return first, rows


class _Game(BaseModel, extra="allow", strict=True):
    """A row of collect.json; beside these fields stands the game's metadata."""

    seed: int = Field(ge=0)
    score: float = Field(allow_inf_nan=False)
    steps: int = Field(ge=0)
    terminated: bool


class _Collection(BaseModel, extra="allow", strict=True):
    """The content of collect.json, for a check of it; beside these fields stand the settings."""

    seed: int = Field(default=0, ge=0)
    games: list[_Game]


def _save(out: Path, settings: Row, rows: dict[int, Row]) -> None:
    write_document(out / "collect.json", {**settings, "games": [rows[number] for number in sorted(rows)]})


def _folder(out: Path, number: int) -> Path:
    return out / f"game-{number:06d}"


def _play_all(game: str, numbers: list[int], out: Path, files: Path, max_steps: int, workers: int) -> Generator[Row]:
    """Play in worker processes; yield the rows as games end."""
    tasks = [_GameTask(game, number, out, files, max_steps) for number in numbers]
    with closing(run_tasks(_play, tasks, workers)) as results:
        for _, result in results:
            if isinstance(result, WorkerDiedError):
                check_disk(files, result)
                text = f"playing {game}: {result}; run the same command again to go on"
                raise RuntimeError(text) from result
            if isinstance(result, Exception):
                raise result
            row, recorded = result
            recorded.rename(_folder(out, row["seed"]))  # here, not in the worker: a game in its place has its row
            yield row


def _play(task: _GameTask) -> tuple[Row, Path]:
    """In a worker, let the expert play one game; return its row and the folder in which it is recorded."""
    game, number, out, files, max_steps = task
    tempfile.tempdir = str(files)
    aside = out / PLAYING / str(os.getpid()) / _folder(out, number).name
    played = get_game(game)
    env, expert = played.make_env(max_steps, aside), played.make_expert()
    observation = env.reset(number)
    expert.reset(number)
    done = False
    while not done:
        step = env.step(expert.act(observation))
        observation, done = step.observation, step.done
    outcome = env.outcome()
    env.close()
    row = {
        "seed": number,
        "score": outcome.score,
        "steps": outcome.steps,
        "terminated": outcome.terminated,
        **outcome.metadata,
    }
    return row, aside
