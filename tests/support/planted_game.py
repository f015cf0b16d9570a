"""A game whose every number is known: an episode's length follows from its seed, its score from its actions."""

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from playscale.games.game import Column, Env, Game, Observation, Outcome, Step


def length_of(seed: int) -> int:
    return 3 + seed * 7 % 23


class PlantedEnv:
    """Each action scores its own number. The observation is (seed, step). Its recording is the list of its actions."""

    def __init__(self, game: "Planted", max_steps: int, record_dir: Path | None, into: Observation | None) -> None:
        self.game, self.max_steps, self.record_dir, self.into = game, max_steps, record_dir, into

    def reset(self, seed: int) -> Observation:
        self.seed, self.actions, self.terminated = seed, [], False
        return self._observation()

    def step(self, action: int) -> Step:
        if self.seed in self.game.trouble and (not self.actions or self.game.trouble[self.seed] == "slow"):
            self._trouble(self.game.trouble[self.seed])
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
        observation = {"where": np.empty(2, np.int16)} if self.into is None else self.into
        observation["where"][:] = self.seed, len(self.actions)
        return observation

    def _trouble(self, kind: str) -> None:
        if kind == "bug":
            raise ZeroDivisionError("planted")
        if kind == "disk":
            raise OSError(28, "No space left on device")
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)


class PlantedExpert:
    """Always the best action; it wants the observation of the step it is in."""

    def reset(self, seed: int) -> None:
        self.seed, self.steps = seed, 0

    def act(self, observation: Observation) -> int:
        assert observation["where"].tolist() == [self.seed, self.steps]
        self.steps += 1
        return 4


@dataclass
class Planted:
    """`trouble`: what happens in the episode with that seed."""

    trouble: dict[int, str] = field(default_factory=dict)
    name = "planted"
    actions: ClassVar = tuple(f"score {points}" for points in range(5))
    num_actions = 5
    default_task: ClassVar = None
    columns: ClassVar = {"where": Column((2,), "int16")}

    def task(self, text: str) -> Game:
        raise ValueError(f"planted has no tasks, so no {text!r}")

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        return PlantedEnv(self, max_steps, record_dir, into)

    def make_expert(self) -> PlantedExpert:
        return PlantedExpert()


def planted(trouble: dict[int, str] | None = None) -> Game:
    return Planted(trouble or {})  # type: ignore[return-value]


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends within that time; a zombie that nobody waits for has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
