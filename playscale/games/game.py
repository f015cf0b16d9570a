"""What a game must offer, and the registry of games.

A game is one folder under games/ and one line in GAMES. Nothing else in the package names it. A game may know tasks:
other ways to play it, which are games themselves. Their names are GAME/TASK, and what TASK may be the game knows.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import nn

GAMES = {"nethack": "playscale.games.nethack.game:NetHack"}

Observation = dict[str, np.ndarray]
Metadata = Mapping[str, str | int | float | None]


@dataclass(frozen=True)
class Column:
    """One array of an observation: its shape (without time and batch) and numpy dtype."""

    shape: tuple[int, ...]
    dtype: str


class Step(NamedTuple):
    """What the environment answers to one action. `score` is the game's score so far, in points.

    `penalty` is what the task takes off, beside the gain in score, in points and not negative: the step's reward is the
    gain in score minus the penalty.
    """

    observation: Observation
    score: int
    terminated: bool
    truncated: bool
    penalty: float = 0.0

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Outcome:
    """How an episode went: final score (points), actions taken, whether the game itself ended it, and what it was."""

    score: float
    steps: int
    terminated: bool
    metadata: Metadata = field(default_factory=dict)


class Env(Protocol):
    """One environment. Observations are arrays, one per name in Game.columns.

    They are fresh (the caller may keep them), unless the environment was made to write them `into` the caller's own.
    """

    def reset(self, seed: int) -> Observation: ...
    def step(self, action: int) -> Step: ...
    def outcome(self) -> Outcome: ...
    def close(self) -> None: ...


class Player(Protocol):
    """A scripted player. It sees only what the observation holds."""

    def reset(self, seed: int) -> None: ...
    def act(self, observation: Observation) -> int: ...


@dataclass(frozen=True)
class Recording:
    """One recorded game: its key (unique in the source, stable over runs), its files in order, what is known of it."""

    key: str
    paths: tuple[Path, ...]
    metadata: Metadata


@dataclass(frozen=True)
class Rejected:
    """Something in a source that is left out, and why."""

    path: str
    reason: str


class Game(Protocol):
    """Everything the rest of the package asks of a game. Its objects travel to other processes (they are pickled)."""

    @property
    def name(self) -> str:
        """What get_game() knows it by, its task included; one game has one name."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """The name of each action, all different. An action of the same name in another task is the same action."""
        ...

    @property
    def num_actions(self) -> int:
        """How many actions there are: action i is actions[i]."""
        ...

    @property
    def columns(self) -> Mapping[str, Column]:
        """The arrays of an observation by name."""
        ...

    @property
    def default_task(self) -> str | None:
        """The task (as `task` takes it) that is learned by reinforcement where only the game is named; None: itself."""
        ...

    def task(self, text: str) -> Game:
        """The task that get_game("<game>/<text>") asks for; ValueError, one line, when there is none such."""
        ...

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        """An environment that truncates after `max_steps` actions and leaves its recordings in `record_dir`.

        With `into`, one C-contiguous array per column, every observation is written there, over the one before it.
        """
        ...

    def make_expert(self) -> Player:
        """A scripted player; ValueError, one line, when it cannot play this task."""
        ...

    def find_recordings(self, source: Path) -> tuple[list[Recording], list[Rejected]]:
        """The recorded games below a directory, sorted by key; ValueError when there is none."""
        ...

    def decode(self, recording: Recording, block: int) -> Iterator[dict[str, np.ndarray]]:
        """Blocks of at most `block` transitions: the observation columns, `action` i64, `score` i32, each [T, ...].

        Raises ValueError, with a reason for the user, when the recording is damaged or holds what is no action.
        """
        ...

    def encoder_widths(self, scale: float) -> Any:
        """The encoder's widths (a frozen dataclass) at a continuous scale; larger is wider."""
        ...

    def make_encoder(self, widths: Any) -> nn.Module:
        """Observation tensors {column: [N, ...]} and prev_action i64 [N] to features [N, F].

        `out_features` is F; `params()` and `flops()` count by part; `previous_action` is the nn.Parameter
        [num_actions + 1, width] with a row for each previous action, the last of them for "no action yet".
        """
        ...


def get_game(name: str) -> Game:
    """The game of that name, or a game's task: GAME/TASK. ValueError naming the nearest known game, or its tasks."""
    title, slash, task = name.partition("/")
    if title not in GAMES:
        near = difflib.get_close_matches(title, GAMES, n=1, cutoff=0.0)
        raise ValueError(f"unknown game {title!r}: did you mean {near[0]!r}? known: {', '.join(sorted(GAMES))}")
    module, _, attribute = GAMES[title].partition(":")
    game: Game = getattr(importlib.import_module(module), attribute)()
    return game.task(task) if slash else game


def get_task(name: str) -> Game:
    """What reinforcement learning plays: a full name as get_game takes it; a game alone means its default task."""
    game = get_game(name)
    return game if "/" in name or game.default_task is None else game.task(game.default_task)
