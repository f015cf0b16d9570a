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
from playscale.training.metrics import DiscountedSums, Moments

STATE = "state."


class Origin(NamedTuple):
    """Whose unroll a batch is, and what it was filled with."""

    actor: int
    filled: UnrollStats


class Experience:
    """The stream of batches; `origins` tells, in the same order, where they come from."""

    def __init__(self, actors: ActorPool, discount: float, rewards: Moments) -> None:
        self._actors, self._discount = actors, discount
        self._sums = DiscountedSums(discount, rewards)
        self.origins: deque[Origin] = deque()

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
            self._sums.add(actor, reward, ended != RUNNING)
            goes_on = (ended != TERMINATED) & batch["valid"][:-1]
            batch |= {"reward": reward, "discount": (goes_on * self._discount).astype(np.float32)}
            self.origins.append(Origin(actor, filled))
            yield batch
