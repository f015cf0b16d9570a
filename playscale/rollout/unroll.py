"""An unroll: what one actor hands to the learner, and the shared memory that the actor writes it into.

T unroll, E environments of the actor. There are T + 1 frames: the last is the first of the actor's next unroll.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from playscale.arrays import SharedArrays
from playscale.games.game import Column
from playscale.rollout.episode import Episode

RUNNING, TERMINATED, TRUNCATED = range(3)
"""Values of the column `ended`: the state of the episode after the action of a frame."""

FRAME = {
    "prev_action": Column((), "int64"),
    "done": Column((), "bool"),
    "action": Column((), "int64"),
    "log_prob": Column((), "float32"),
    "reward": Column((), "float32"),
    "ended": Column((), "uint8"),
    "valid": Column((), "bool"),
}
"""Columns beside the game's own, for every frame of an environment: `done` marks the first frame of an episode; `valid`
is false for the last observation of an episode, where no action is taken; `log_prob` is that of the action taken;
`reward` and `ended` are its result."""


@dataclass(frozen=True)
class Unroll:
    """One actor's unroll, a copy that nobody else writes to.

    Attributes:
        actor: Number of the actor.
        version: Version of the weights that the actor played with.
        frames: The game's columns and those of FRAME, [T + 1, E, ...] each.
        recurrent: State of the core before the first frame, [E, ...] each.
        interactions: Number of actions taken.
        episodes: The episodes that ended in this unroll.
        seconds: Wall seconds of the actor by activity.
    """

    actor: int
    version: int
    frames: Mapping[str, np.ndarray]
    recurrent: Mapping[str, np.ndarray]
    interactions: int
    episodes: list[Episode]
    seconds: Mapping[str, float]

    @property
    def rewards(self) -> np.ndarray:
        """Rewards of the T actions, [T, E]."""
        return self.frames["reward"][:-1]

    @property
    def episode_ended(self) -> np.ndarray:
        """True where the episode ended with the action, [T, E]."""
        return self.frames["ended"][:-1] != RUNNING

    def discounts(self, discount: float) -> np.ndarray:
        """Return the discount of what follows each action, [T, E] float32: 0 where the episode terminated with it."""
        continues = (self.frames["ended"][:-1] != TERMINATED) & self.frames["valid"][:-1]
        return (continues * discount).astype(np.float32)


class UnrollBuffer:
    """The shared memory of one actor's unroll: `frames` [T + 1, E, ...] and `recurrent` [E, ...], as in Unroll.

    `UnrollBuffer(...)` allocates it; with `fds` another process maps the same memory.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        recurrent: Mapping[str, Tensor],
        unroll: int,
        environments: int,
        fds: tuple[int, int] | None = None,
    ) -> None:
        frames_fd, recurrent_fd = fds or (None, None)
        self._frames = SharedArrays({**columns, **FRAME}, (unroll + 1, environments), frames_fd)
        state_columns = {
            name: Column(tuple(value.shape[1:]), str(value.dtype).removeprefix("torch."))
            for name, value in recurrent.items()
        }
        self._recurrent = SharedArrays(state_columns, (environments,), recurrent_fd)
        self.frames = self._frames.arrays
        self.recurrent = self._recurrent.arrays

    @property
    def fds(self) -> tuple[int, int]:
        return self._frames.fd, self._recurrent.fd

    def close(self) -> None:
        """Close the descriptors. The memory is freed with the last array that refers to it."""
        self._frames.close()
        self._recurrent.close()
