"""Counting: a game whose every value follows from the recording's number and the step. Register it with `register`.

A recording is NUMBER.count, and its text is the number of transitions, then perhaps a kind of trouble to plant in its
decoding.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from playscale.corpus.layout import Layout
from playscale.corpus.manifest import GameRecord, Manifest, write_manifest
from playscale.corpus.shards import ShardWriter, write_section
from playscale.games.game import GAMES, Column, Recording

ACTIONS = 7
COLUMNS = {"where": Column((2,), "int32"), "pixels": Column((2, 3), "uint8")}


def actions(number: int, length: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, ACTIONS, length)


def transitions(number: int, length: int) -> dict[str, np.ndarray]:
    """The whole game: where = (number, step), pixels from both, score growing with the step."""
    step = np.arange(length)
    where = np.stack([np.full(length, number), step], axis=1).astype(np.int32)
    pixels = (number * 31 + step[:, None, None] * 7 + np.arange(6).reshape(2, 3)).astype(np.uint8)
    score = (step * 3 - number).astype(np.int32)
    return {"where": where, "pixels": pixels, "action": actions(number, length), "score": score}


class Counting:
    name = "counting"
    actions = tuple(f"action {number}" for number in range(ACTIONS))
    num_actions = ACTIONS
    default_task = None
    columns: ClassVar = COLUMNS

    def task(self, text):
        raise ValueError(f"counting has no tasks, so no {text!r}")

    def find_recordings(self, source):
        if not source.is_dir():
            raise ValueError(f"{source}: no such directory")
        paths = sorted(source.glob("*.count"))
        if not paths:
            raise ValueError(f"{source}: no recordings")
        return [Recording(path.stem, (path,), {"number": int(path.stem)}) for path in paths], []

    def decode(self, recording, block):
        length, *trouble = recording.paths[0].read_text().split()
        number = int(recording.key)
        whole = transitions(number, int(length))
        for start in range(0, int(length), block):
            yield {name: array[start : start + block] for name, array in whole.items()}
            if trouble:
                make_trouble(trouble[0])


def make_trouble(kind: str) -> None:
    if kind == "damaged":
        raise ValueError("planted damage")
    if kind == "disk":
        raise OSError(28, "No space left on device")
    if kind == "abort":
        os.abort()
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "slow":
        time.sleep(600)


def register(monkeypatch) -> None:
    """Make `get_game("counting")` work for the length of a test."""
    monkeypatch.setitem(GAMES, "counting", "counting_game:Counting")


def record(folder: Path, lengths: list[int], trouble: dict[int, str] | None = None) -> Path:
    """Leave recordings number 0, 1, ... of these lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(lengths):
        (folder / f"{number:04d}.count").write_text(f"{length} {(trouble or {}).get(number, '')}")
    return folder


def plant(folder: Path, lengths: list[int], dev: set[int] = frozenset(), shard_bytes: int = 3000) -> Path:
    """A corpus of these games, written without worker processes, in many small shards."""
    folder.mkdir(parents=True)
    writer, games = ShardWriter(folder, shard_bytes=shard_bytes), []
    for number, length in enumerate(lengths):
        piece = folder / "piece"
        section = write_section(piece, [transitions(number, length)], Layout(COLUMNS), ACTIONS)
        shard, offset = writer.append(piece)
        split = "dev" if number in dev else "train"
        place = {"shard": shard, "offset": offset, "size": section.size, "checksum": section.checksum}
        games.append(
            GameRecord(key=str(number), split=split, transitions=length, score=section.last_score, metadata={}, **place)
        )
    writer.close()
    manifest = Manifest("counting", ACTIONS, COLUMNS, tuple(writer.shards), tuple(games), (), "planted", "planted")
    write_manifest(folder, manifest)
    return folder
