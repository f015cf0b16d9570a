"""What an actor fills and the learner reads: one unroll of all its environments, in shared memory.

T unroll, E environments of the actor. There are T + 1 frames: the last is the first of the actor's next unroll.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from playscale.games.game import Column
from playscale.rollout.shared_arrays import SharedArrays

RUNNING, TERMINATED, TRUNCATED = range(3)
"""How things stand after an action (column `ended`)."""

FRAME = {
    "prev_action": Column((), "int64"),
    "done": Column((), "bool"),
    "action": Column((), "int64"),
    "log_prob": Column((), "float32"),
    "reward": Column((), "float32"),
    "ended": Column((), "uint8"),
    "valid": Column((), "bool"),
}
"""Beside the game's columns, for every frame of an environment: `done` marks the first frame of an episode; `valid` is
false for the last observation of one, where no action is taken; log_prob is that of the action taken, reward and ended
are what came of it."""


class Unroll:
    """frames: the columns, [T + 1, E, ...] each; state: the core's before the first frame, [E, ...] each.

    `Unroll(...)` makes the memory, with `fds` another process sees the same.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        state: Mapping[str, Tensor],
        unroll: int,
        environments: int,
        fds: tuple[int, int] | None = None,
    ) -> None:
        frames, states = fds or (None, None)
        self._frames = SharedArrays({**columns, **FRAME}, (unroll + 1) * environments, frames)
        carried = {
            name: Column(tuple(value.shape[1:]), str(value.dtype).removeprefix("torch."))
            for name, value in state.items()
        }
        self._states = SharedArrays(carried, environments, states)
        shape = (unroll + 1, environments)
        self.frames = {name: a.reshape(*shape, *a.shape[1:]) for name, a in self._frames.arrays.items()}
        self.state = self._states.arrays

    @property
    def fds(self) -> tuple[int, int]:
        return self._frames.fd, self._states.fd

    def close(self) -> None:
        """Give the descriptors back. The memory itself goes with the last array that looks at it."""
        self._frames.close()
        self._states.close()
