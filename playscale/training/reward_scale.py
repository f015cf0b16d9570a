"""Rewards in units of their own returns' spread, so that learning rates and costs mean the same in every game.

T unroll, E environments of an actor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FLOOR = 1e-4


@dataclass
class Moments:
    """Of values seen so far: how many, their mean, the sum of squared deviations from it."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Merge in a batch of values (Chan, Golub and LeVeque 1979)."""
        count, mean = float(values.size), float(values.mean())
        gap, total = mean - self.mean, self.count + count
        self.squares += float(((values - mean) ** 2).sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total

    @property
    def spread(self) -> float:
        """Their standard deviation; 1 before anything differs."""
        return max(FLOOR, math.sqrt(self.squares / self.count)) if self.squares > 0 else 1.0


class DiscountedSums:
    """The discounted sum of rewards up to each step of every environment: what the spread is taken of, as VecNormalize
    of Stable-Baselines3 does.
    """

    def __init__(self, discount: float, moments: Moments) -> None:
        self._discount, self._moments = discount, moments
        self._sums: dict[int, np.ndarray] = {}

    def add(self, actor: int, reward: np.ndarray, over: np.ndarray) -> None:
        """Rewards [T, E] of one actor's next unroll; over [T, E]: with this action an episode ended."""
        sums = self._sums.get(actor, np.zeros(reward.shape[1]))
        seen = np.empty(reward.shape)
        for t in range(len(reward)):
            seen[t] = sums = sums * self._discount + reward[t]
            sums = sums * ~over[t]
        self._sums[actor] = sums
        self._moments.add(seen)
