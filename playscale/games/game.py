"""The interface of a game, and the registry of games.

A game is one folder under games/ and one line in GAMES; nothing else in the package names it. A game may have tasks:
other ways to play it, which are games themselves, named GAME/TASK.
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
    """The result of one action. `score` is the game's score so far, in points.

    The step's reward is the gain in score minus `penalty` (points, not negative), which the task defines.
    """

    observation: Observation
    score: int
    terminated: bool
    truncated: bool
    penalty: float = 0.0

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated


class TerminalFrames(NamedTuple):
    """Screens of a terminal of 24 rows and 80 columns, for people to watch.

    chars u8 [T,24,80]; colors i8 [T,24,80], 0..15 in curses order with 8 for bright; cursor i16 [T,2], row and column;
    depth u8 [T], how deep in the game's world the player is, if the game has such a number (0: not shown yet).
    """

    chars: np.ndarray
    colors: np.ndarray
    cursor: np.ndarray
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of an episode: final score (points), actions taken, whether the game itself ended it, and metadata."""

    score: float
    steps: int
    terminated: bool
    metadata: Metadata = field(default_factory=dict)


class Env(Protocol):
    """One environment. Observations are arrays, one per name in Game.columns.

    They are fresh, unless the environment was made to write them `into` the caller's arrays.
    """

    def reset(self, seed: int) -> Observation: ...
    def step(self, action: int) -> Step: ...
    def outcome(self) -> Outcome: ...
    def close(self) -> None: ...


class Player(Protocol):
    """A scripted player. It sees nothing but the observations."""

    def reset(self, seed: int) -> None: ...
    def act(self, observation: Observation) -> int: ...


@dataclass(frozen=True)
class Recording:
    """One recorded game: its key (unique in the source, the same in every run), its files in order, and metadata."""

    key: str
    paths: tuple[Path, ...]
    metadata: Metadata


@dataclass(frozen=True)
class Rejected:
    """A recording that is left out of a corpus, and the reason."""

    path: str
    reason: str


class Game(Protocol):
    """Everything the rest of the package needs from a game. Objects are sent to other processes by pickle."""

    @property
    def name(self) -> str:
        """The name that get_game() takes, its task included; each game has exactly one."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """The name of each action, all different. Actions of the same name in two tasks are the same action."""
        ...

    @property
    def num_actions(self) -> int:
        """The number of actions: action i is actions[i]."""
        ...

    @property
    def columns(self) -> Mapping[str, Column]:
        """The arrays of an observation by name."""
        ...

    @property
    def default_task(self) -> str | None:
        """The task (as `task` takes it) of reinforcement learning where only the game is named; None: the game."""
        ...

    def task(self, text: str) -> Game:
        """Return the task named "<game>/<text>"; ValueError, one line, when there is none."""
        ...

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        """Return an environment that truncates after `max_steps` actions and writes its recordings to `record_dir`.

        With `into`, one C-contiguous array per column, every observation overwrites the one before it there.
        """
        ...

    def make_expert(self) -> Player:
        """Return a scripted player; ValueError, one line, when there is none for this task."""
        ...

    def find_recordings(self, source: Path) -> tuple[list[Recording], list[Rejected]]:
        """Return the recorded games below a directory, sorted by key; ValueError when there is none."""
        ...

    def decode(self, recording: Recording, block: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield blocks of at most `block` transitions: the columns, `action` i64 and `score` i32, each [T, ...].

        ValueError, with a reason for the user, when the recording is damaged or has a key that is no action.
        """
        ...

    def terminal(self, observations: Observation) -> TerminalFrames | None:
        """Return the observations [T, ...] of a game as a person sees them; None for a game that has no terminal."""
        ...

    def encoder_widths(self, scale: float) -> Any:
        """Return the encoder's widths (a frozen dataclass) at a continuous scale; larger is wider."""
        ...

    def make_encoder(self, widths: Any) -> nn.Module:
        """Return a module that maps observations {column: [N, ...]} and prev_action i64 [N] to features [N, F].

        Its `out_features` is F; `params()` and `flops()` count by part; `previous_action` is the nn.Parameter
        [num_actions + 1, width] with a row for each previous action, the last of them for "no action yet".
        """
        ...


def get_game(name: str) -> Game:
    """Return the game GAME or task GAME/TASK; ValueError names the nearest known game, or its tasks."""
    title, slash, task = name.partition("/")
    if title not in GAMES:
        near = difflib.get_close_matches(title, GAMES, n=1, cutoff=0.0)
        raise ValueError(f"unknown game {title!r}: did you mean {near[0]!r}? known: {', '.join(sorted(GAMES))}")
    module, _, attribute = GAMES[title].partition(":")
    game: Game = getattr(importlib.import_module(module), attribute)()
    return game.task(task) if slash else game


def get_task(name: str) -> Game:
    """Return what reinforcement learning plays under a name: as get_game, but a game alone means its default task."""
    game = get_game(name)
    return game if "/" in name or game.default_task is None else game.task(game.default_task)
