"""Priors: the best size of a budget by an earlier fit, or by a published law, before a study is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import bisect

from playscale.scaling.methods import fits_of

DECADE = 10.0
EVERYWHERE = math.inf


@dataclass(frozen=True)
class Prior:
    """A power law of the best number of parameters.

    Attributes:
        source: What the law was fitted to.
        log_coefficient: ln of the parameters at one FLOP.
        exponent: Exponent of the compute.
        first: Smallest budget that it was fitted to.
        last: Largest one.
        counts_6nd: Its compute is 6 x params x samples; otherwise that of a study's budgets.
        scatters: Standard deviation of an agent's return over its mean, at each point that has both.
        reach: Factor outside the budgets it was fitted to within which it serves.
    """

    source: str
    log_coefficient: float
    exponent: float
    first: float
    last: float
    counts_6nd: bool = False
    scatters: tuple[float, ...] = ()
    reach: float = EVERYWHERE

    @property
    def scatter(self) -> float | None:
        """The median standard deviation of returns over their mean; None where none was measured."""
        return float(np.median(self.scatters)) if self.scatters else None

    def serves(self, flops: float) -> bool:
        """Return whether the law says something of a budget."""
        return self.first / self.reach <= flops <= self.last * self.reach

    def best(self, flops: float, per_sample: Sequence[tuple[float, float]] = ()) -> float:
        """Return the best number of parameters at a budget.

        Args:
            flops: The budget, in training FLOPs as studies count them.
            per_sample: Parameters and training FLOPs a sample of some models, from which those of others are
                interpolated: what a law that counts 6 x params x samples needs.
        """
        if not self.counts_6nd:
            return self._at(flops)
        sizes = np.log(sorted(per_sample))

        def excess(size: float) -> float:
            """Return ln(best size / size) for the compute in 6 N D that the budget pays a model of ln(params)."""
            per = math.exp(_line(sizes[:, 0], sizes[:, 1], size))
            return math.log(self._at(flops * 6 * math.exp(size) / per)) - size

        return math.exp(bisect(excess, 0.0, math.log(1e15), xtol=1e-6))

    def _at(self, flops: float) -> float:
        return math.exp(self.log_coefficient + self.exponent * math.log(flops))


def _line(x: np.ndarray, y: np.ndarray, at: float) -> float:
    """Interpolate y at a point; beyond the ends a sample's FLOPs stay in proportion to the parameters."""
    return float(np.interp(at, x, y)) + min(at - x[0], 0.0) + max(at - x[-1], 0.0)


REFERENCE = Prior("the reference study (docs/results.md)", 9.7788, 0.0299, 1e11, 3.2e12, scatters=(1.83,), reach=3.0)
"""Agents of 8k to 256k parameters, cloned by studies/reference.yaml: the line through the vertices of the profiles, as
`fit` finds it in studies/reference/points.csv. How its best size grows is uncertain (exponent -0.25 to 0.31), so that
it serves within a factor of three."""
NETHACK = Prior(
    "the published NetHack agents (Tuyls et al., arXiv 2307.09423)", -8.2406, 0.6048, 1e14, 1e19, True, (1.09,),
    DECADE,
)  # fmt: skip
"""Cloned NetHack agents. A least-squares line through the best cell of each of the 22 budgets from 1e14 to 1e19 in the
data that the authors published (repository princeton-nlp/il-scaling-in-games, commit 0ea3866), in logarithms; the
scatter is the median of return_se x sqrt(episodes) / return_mean over its 207 points."""


def prior_of(fit: Mapping[str, Any], method: str, source: str, target: str) -> Prior | None:
    """Return the law of the best size in a fit.json.

    Args:
        fit: The content of fit.json.
        method: The method to read, where the fit has several.
        source: What to call it.
        target: dev_loss or return_mean: whose best sizes are preferred.

    Returns:
        The law that recommends sizes for that target, else for the other one; None where the fit has neither.
    """
    own = fits_of(fit)
    one = own.get(method) or (next(iter(own.values())) if len(own) == 1 else None)
    if one is None:
        return None
    laws = [law for law in one["power_laws"] if law["quantity"] == "params" and law.get("used", True)]
    laws.sort(key=lambda law: (law["target"] != target, law["at"] != "vertex"))
    fitted = [point for point in one["points"] if (point.get("split") or "fit") == "fit"]
    budgets = [float(point["flops"]) for point in fitted if point.get("flops")]
    if not laws or not budgets:
        return None
    return Prior(
        source, laws[0]["log_coefficient"], laws[0]["exponent"], min(budgets), max(budgets), scatters=_scatters(fitted)
    )


def _scatters(points: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    names = ("return_mean", "return_se", "episodes")
    rows = [[float(point[name]) for name in names] for point in points if all(point.get(name) for name in names)]
    return tuple(se * math.sqrt(episodes) / mean for mean, se, episodes in rows if mean > 0)
