"""Collecting expert play: seeded games, played in parallel, left as the game itself records them.

OUT/collect.json        what was asked, and one row a finished game
OUT/game-000007/        the recording of the game with seed 7, moved into place when it was complete
OUT/.game-000007.PID/   a game being played; left behind only by a kill, removed by the next run
"""

from __future__ import annotations

import fcntl
import multiprocessing as mp
import os
import re
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playscale.games.game import get_game
from playscale.processes import follow
from playscale.storage.files import read_json, write_json
from playscale.tracking.monitor import count

SCHEMA = 1
MAX_STEPS = 5_000
SAVING_SHARE = 20  # saving the rows takes at most a twentieth of the time; a game whose row was lost is played again

Progress = Callable[[str, float], None]
Row = dict[str, Any]
PLAYING = ".playing"
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
    seed: int = 0,
    workers: int = 2,
    max_steps: int = MAX_STEPS,
    progress: Progress | None = None,
) -> CollectSummary:
    """The expert plays the games with seeds `seed` .. `seed + games - 1`, each cut after `max_steps` steps.

    A game is the same whatever the number of workers. What `out` holds already is kept, what is missing is played;
    asking for more games later extends the collection. ValueError when `out` was made with other settings or holds
    something else, RuntimeError when a worker dies.
    """
    _check(games, seed, workers, max_steps)
    asked = {
        "schema": SCHEMA,
        "game": game,
        "expert": str(getattr(get_game(game).make_expert(), "version", "")),
        "max_steps": max_steps,
    }
    with _locked(out):
        rows = _resume(out, asked)
        save_at = 0.0
        missing = [number for number in range(seed, seed + games) if number not in rows]
        for done, row in enumerate(_play_all(game, missing, out, max_steps, workers), games - len(missing) + 1):
            rows[row["seed"]] = row
            count("environment_steps", row["steps"])
            count("episodes")
            if time.monotonic() > save_at:
                started = time.monotonic()
                _save(out, asked, rows)
                save_at = time.monotonic() + SAVING_SHARE * (time.monotonic() - started)
            if progress:
                progress(f"game {done} of {games}: score {row['score']:.0f} in {row['steps']} steps", done / games)
        _save(out, asked, rows)
        shutil.rmtree(out / PLAYING, ignore_errors=True)
    wanted = [rows[number] for number in range(seed, seed + games)]
    scores = [row["score"] for row in wanted]
    transitions = sum(row["steps"] for row in wanted)
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


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold `out` against a second collection into it; the lock goes with the process, however that ends."""
    if out.is_dir() and any(out.iterdir()) and not (out / "collect.json").exists() and not (out / ".lock").exists():
        raise ValueError(f"{out} is not empty and is no collection: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{out}: another collect is writing there; wait for it or choose another --out") from None
        yield


def _resume(out: Path, asked: Row) -> dict[int, Row]:
    """The rows of the games that are complete in `out`; everything of ours that is not is removed."""
    sidecar = out / "collect.json"
    rows: dict[int, Row] = {}
    if sidecar.exists():
        found = read_json(sidecar)
        for name, value in asked.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{out} was collected with {name}={found.get(name)}, not {value}: choose another --out"
                )
        rows = {row["seed"]: row for row in found["games"] if _folder(out, row["seed"]).is_dir()}
    shutil.rmtree(out / PLAYING, ignore_errors=True)
    keep = {_folder(out, number) for number in rows}
    for path in list(out.iterdir()):
        if _FOLDER.fullmatch(path.name) and path not in keep:
            shutil.rmtree(path)
    _save(out, asked, rows)
    return rows


def _save(out: Path, asked: Row, rows: dict[int, Row]) -> None:
    write_json(out / "collect.json", {**asked, "games": [rows[number] for number in sorted(rows)]})


def _folder(out: Path, number: int) -> Path:
    return out / f"game-{number:06d}"


def _play_all(game: str, numbers: list[int], out: Path, max_steps: int, workers: int) -> Iterator[Row]:
    """Play in worker processes; rows as games end."""
    if not numbers:
        return
    context = mp.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(numbers)), context, initializer=_begin_worker, initargs=(os.getpid(),))
    try:
        for future in as_completed([pool.submit(_play, game, number, out, max_steps) for number in numbers]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(f"a worker playing {game} died; run the same command again to go on") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(parent: int) -> None:
    """Die with the parent, and silently on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    follow(parent)


def _play(game: str, number: int, out: Path, max_steps: int) -> Row:
    """One game of the expert, recorded aside and moved into place."""
    aside = out / PLAYING / str(os.getpid()) / _folder(out, number).name
    port = get_game(game)
    env, player = port.make_env(max_steps, aside), port.make_expert()
    observation = env.reset(number)
    player.reset(number)
    done = False
    while not done:
        step = env.step(player.act(observation))
        observation, done = step.observation, step.done
    outcome = env.outcome()
    env.close()
    aside.rename(_folder(out, number))
    return {
        "seed": number,
        "score": outcome.score,
        "steps": outcome.steps,
        "terminated": outcome.terminated,
        **outcome.metadata,
    }
