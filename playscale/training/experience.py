"""What a learner learns from: its actors' unrolls, one a batch.

T unroll, B batch (columns: the environments of one actor).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from playscale.rollout.actor import UnrollStats
from playscale.rollout.actor_pool import ActorPool
from playscale.rollout.unroll import RUNNING, TERMINATED
from playscale.training.batches import Batch
from playscale.training.metrics import DiscountedSums, Moments
from playscale.training.teacher import Teacher

STATE = "state."


class Origin(NamedTuple):
    """The actor whose unroll a batch is, what it was filled with, its rewards [T, B], and whether an episode ended with
    the action [T, B].
    """

    actor: int
    filled: UnrollStats
    reward: np.ndarray
    over: np.ndarray


class Experience:
    """The stream of batches; `origins` tells, in the same order, where they come from.

    stream() may be read in another thread; the other methods are for the thread that trains.
    """

    def __init__(self, actors: ActorPool, discount: float) -> None:
        self._actors, self._discount = actors, discount
        self._rewards: Moments | None = None
        self.origins: deque[Origin] = deque()

    def begin(self, rewards: Moments, version: int) -> None:
        """Serve the state with these moments from now on; its weights were just published as `version`.

        If another state was served before, unrolls played with older weights are its own, and discounted sums begin
        anew.
        """
        if rewards is not self._rewards:
            self._rewards, self._oldest = rewards, version
            self._sums = DiscountedSums(self._discount, rewards)

    def own(self, unrolls: Iterator[Batch], teacher: Teacher | None) -> Iterator[Batch]:
        """Yield the batches of stream() that were played with weights of the state served.

        The teacher sees the others too, because the games go on after them.
        """
        for batch in unrolls:
            origin = self.origins[0]
            if origin.filled.version >= self._oldest:
                yield batch
                continue
            self.origins.popleft()
            if teacher is not None:
                teacher.logits(batch, origin.actor)

    def take(self) -> Origin:
        """Return the origin of the batch that is learned from, and add its rewards to the moments of the state."""
        origin = self.origins.popleft()
        self._sums.add(origin.actor, origin.reward, origin.over)
        return origin

    def stream(self) -> Iterator[dict[str, np.ndarray]]:
        """Dicts of the game's columns, prev_action, done, valid, action, log_prob [T + 1, B, ...]; reward, discount
        [T, B]; and the core's state before the first frame [1, B, ...], each name after "state.".
        """
        while True:
            actor, filled, unroll = self._actors.next()
            batch = {name: array.copy() for name, array in unroll.frames.items()}
            batch |= {STATE + name: array[None].copy() for name, array in unroll.state.items()}
            self._actors.release(actor)
            ended, reward = batch.pop("ended")[:-1], batch["reward"][:-1]
            goes_on = (ended != TERMINATED) & batch["valid"][:-1]
            batch |= {"reward": reward, "discount": (goes_on * self._discount).astype(np.float32)}
            self.origins.append(Origin(actor, filled, reward, ended != RUNNING))
            yield batch
