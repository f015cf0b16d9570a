"""Counting: a game whose every value is known, for tests of what carries transitions, and with faults planted in it.

Played: the episode of a seed has `length_of(seed)` steps, and each action scores its own number.
Recorded: NUMBER.count holds the number of transitions, and perhaps a fault; values follow from NUMBER and the step.

Faults: "damaged" (ValueError), "bug" (ZeroDivisionError), "disk" (no space left), "abort" (SIGABRT), "killed"
(SIGKILL), "slow" (50 ms a step), "hang" (ten minutes).
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from playscale.corpus.layout import Layout
from playscale.corpus.manifest import GameRecord, Manifest, write_manifest
from playscale.corpus.shards import ShardWriter, write_section
from playscale.games.game import GAMES, Column, Observation, Outcome, Recording, Step

ACTIONS = 7
BEST = ACTIONS - 1  # the action that scores most
COLUMNS = {"where": Column((2,), "int32"), "pixels": Column((2, 3), "uint8")}
SECONDS = {"slow": 0.05, "hang": 600.0}


def inject(fault: str) -> None:
    """Make the fault of that name happen here."""
    if fault == "damaged":
        raise ValueError("planted damage")
    if fault == "bug":
        raise ZeroDivisionError("planted")
    if fault == "disk":
        raise OSError(28, "No space left on device")
    if fault == "abort":
        os.abort()
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(SECONDS[fault])


def length_of(seed: int) -> int:
    """Return the steps of the episode of that seed: 3 to 25."""
    return 3 + seed * 7 % 23


def pixels(number: int, step: np.ndarray | int) -> np.ndarray:
    """Return the pixels [..., 2, 3] of these steps."""
    return (number * 31 + np.asarray(step)[..., None, None] * 7 + np.arange(6).reshape(2, 3)).astype(np.uint8)


def actions(number: int, length: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, ACTIONS, length)


def transitions(number: int, length: int) -> dict[str, np.ndarray]:
    """Return a whole recorded game: where = (number, step), pixels from both, score growing with the step."""
    step = np.arange(length)
    where = np.stack([np.full(length, number), step], axis=1).astype(np.int32)
    score = (step * 3 - number).astype(np.int32)
    return {"where": where, "pixels": pixels(number, step), "action": actions(number, length), "score": score}


class CountingEnv:
    """The observation has where = (seed, step). The recording of an episode is the list of its actions."""

    def __init__(
        self, faults: dict[int, str], max_steps: int, record_dir: Path | None, into: Observation | None
    ) -> None:
        self.faults, self.max_steps, self.record_dir, self.into = faults, max_steps, record_dir, into

    def reset(self, seed: int) -> Observation:
        self.seed, self.actions, self.terminated = seed, [], False
        return self._observation()

    def step(self, action: int) -> Step:
        fault = self.faults.get(self.seed)
        if fault and (fault == "slow" or not self.actions):
            inject(fault)
        self.actions.append(action)
        self.terminated = len(self.actions) == length_of(self.seed)
        truncated = not self.terminated and len(self.actions) == self.max_steps
        return Step(self._observation(), sum(self.actions), self.terminated, truncated)

    def outcome(self) -> Outcome:
        return Outcome(float(sum(self.actions)), len(self.actions), self.terminated, {"role": "Tou", "seed": self.seed})

    def close(self) -> None:
        if self.record_dir is not None:
            self.record_dir.mkdir(parents=True)
            (self.record_dir / "actions.json").write_text(json.dumps(self.actions))

    def _observation(self) -> Observation:
        fresh = {name: np.empty(column.shape, column.dtype) for name, column in COLUMNS.items()}
        observation = fresh if self.into is None else self.into
        observation["where"][:] = self.seed, len(self.actions)
        observation["pixels"][:] = pixels(self.seed, len(self.actions))
        return observation


class CountingExpert:
    """Always takes the best action; checks that it is shown the observation of the step it is in."""

    def reset(self, seed: int) -> None:
        self.seed, self.steps = seed, 0

    def act(self, observation: Observation) -> int:
        assert observation["where"].tolist() == [self.seed, self.steps]
        self.steps += 1
        return BEST


@dataclass
class Counting:
    """`faults`: what happens in the played episode of that seed, at its first step (slow: at each)."""

    faults: dict[int, str] = field(default_factory=dict)
    name = "counting"
    actions: ClassVar = tuple(f"action {number}" for number in range(ACTIONS))
    num_actions = ACTIONS
    default_task: ClassVar = None
    columns: ClassVar = COLUMNS

    def task(self, text):
        raise ValueError(f"counting has no tasks, so no {text!r}")

    def make_env(self, max_steps, record_dir=None, into=None):
        return CountingEnv(self.faults, max_steps, record_dir, into)

    def make_expert(self):
        return CountingExpert()

    def find_recordings(self, source):
        if not source.is_dir():
            raise ValueError(f"{source}: no such directory")
        paths = sorted(source.glob("*.count"))
        if not paths:
            raise ValueError(f"{source}: no recordings")
        return [Recording(path.stem, (path,), {"number": number_of(path.stem)}) for path in paths], []

    def decode(self, recording, block):
        length, *fault = recording.paths[0].read_text().split()
        whole = transitions(number_of(recording.key), int(length))
        for start in range(0, int(length), block):
            yield {name: array[start : start + block] for name, array in whole.items()}
            if fault:
                inject(fault[0])


def number_of(key: str) -> int:
    """Return the number of a recording: 7 for 0007 and for a copy of it, 0007_copy."""
    return int(key.partition("_")[0])


def register(monkeypatch) -> None:
    """Make `get_game("counting")` work for the length of a test."""
    monkeypatch.setitem(GAMES, "counting", "counting_game:Counting")


def record(folder: Path, lengths: list[int], faults: dict[int, str] | None = None) -> Path:
    """Leave recordings number 0, 1, ... of these lengths; decoding those of `faults` fails after the first block."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(lengths):
        (folder / f"{number:04d}.count").write_text(f"{length} {(faults or {}).get(number, '')}")
    return folder


def plant(folder: Path, lengths: list[int], dev: set[int] = frozenset(), shard_bytes: int = 3000) -> Path:
    """Write a corpus of these games, without worker processes and in many small shards."""
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
    of = ("planted",) * 3
    manifest = Manifest("counting", ACTIONS, COLUMNS, tuple(writer.shards), tuple(games), (), *of)
    write_manifest(folder, manifest)
    return folder
