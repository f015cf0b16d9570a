"""The law along compute of a table that is no isoFLOP table: the optimum of the law of params and samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from playscale.scaling.bound import Bound
from playscale.scaling.cells import Cells
from playscale.scaling.choice import Choice
from playscale.scaling.parametric import Parametric
from playscale.scaling.surface import WHOLE, Surface

NAME = "optimum of the law of parameters and samples"


@dataclass(frozen=True, eq=False)
class OptimumLaw:
    """The cost of the best size and data of each budget by the parametric law; first, last: FLOPs of its cells."""

    law: Parametric
    first: float
    last: float

    @property
    def sd(self) -> float:
        return float(np.sqrt(np.sum(self.law.residuals**2) / self.law.degrees))

    def best(self, flops: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Return params and samples [m] of least cost at each budget."""
        pairs = [self.law.optimum(float(c)) or (np.nan, np.nan) for c in np.atleast_1d(flops)]
        params, samples = np.array(pairs).T
        return params, samples

    def cost(self, flops: np.ndarray | float) -> np.ndarray:
        return self.law.cost(*self.best(flops))

    def predict(self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None) -> np.ndarray:
        """Draw [R, m] what would be measured at the best size and data of each budget."""
        drawn = self.law.draw_frontier(flops, rng, noise or 0.0)
        assert drawn is not None  # optimum_choice has seen that there is an optimum
        return drawn

    def parameters(self, offset: float, floor: float) -> dict[str, Bound]:
        return self.law.parameters(offset, floor)


def optimum_choice(cells: Cells, surface: Surface | None, floor: float = -np.inf) -> Choice | None:
    """Return the choice of a table whose budgets have too few sizes for a frontier; None without such a law.

    floor: the least cost possible.
    """
    law = surface.laws[WHOLE] if surface is not None and not cells.flat else None
    if surface is None or not isinstance(law, Parametric) or law.optimum(float(cells.budgets[-1])) is None:
        return None
    own = OptimumLaw(law, float(cells.budgets[0]), float(cells.budgets[-1]))
    why = f"{NAME}: too few sizes at each budget for a frontier of best cells"
    return Choice(cells.target, NAME, why, own, (own,), surface.widening, (), floor=floor)
