"""Returns in two steps: a law of the dev loss along compute, and a law of the best return over the best dev loss.

The second is one of the forms of `playscale.scaling.frontier` with 1/L in place of C: R = A L^-g, or bounded by R_max.
The draws of the loss are put through the draws of that law, so the intervals hold what is uncertain in both.
Legend: B budgets, R draws, m places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from playscale.scaling.frontier import FrontierLaw


class LossLaw(Protocol):
    """The logarithm of the best dev loss at budgets, [m], and draws [R, m] of what would be measured."""

    def cost(self, flops: np.ndarray | float) -> np.ndarray: ...
    def draw(self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None) -> np.ndarray | None: ...


@dataclass(frozen=True, eq=False)
class LossSteps:
    """The dev loss at the budgets of a frontier of returns.

    cost [B]: logarithm of the best loss measured; laws: the law of the loss that was the choice from the first budgets,
    by how many these are.
    """

    cost: np.ndarray
    laws: Mapping[int, LossLaw]


@dataclass(frozen=True, eq=False)
class TwoStepLaw:
    """loss: the law of the dev loss; law: that of the return over 1/L; first, last: FLOPs of the budgets fitted."""

    loss: LossLaw
    law: FrontierLaw
    first: float
    last: float

    @property
    def sd(self) -> float:
        """Return the standard deviation of a budget's cost about the law of the return of the loss."""
        return self.law.sd

    @property
    def rss(self) -> float:
        return self.law.rss

    def cost(self, flops: np.ndarray | float) -> np.ndarray:
        return self.law.cost(np.exp(-self.loss.cost(flops)))

    def predict(self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None) -> np.ndarray | None:
        """Draw [R, m] what would be measured: each draw has one loss and one law of the return of it."""
        losses = self.loss.draw(np.atleast_1d(flops), rng)
        if losses is None or self.law.draws is None:
            return None
        chosen = losses[rng.integers(len(losses), size=len(self.law.draws))]
        with np.errstate(invalid="ignore"):  # of a loss of which a law says nothing
            return self.law.predict(np.exp(-chosen), rng, noise)
