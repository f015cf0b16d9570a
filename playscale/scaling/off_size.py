"""The cost of being off: what a budget gives at half and at twice its best size.

By the law of params and samples, each draw of it about its own best size; and by the curvature a of the isoFLOP
profiles, parabolas that rise by a (ln f)^2 at f times the best size. Profiles become flatter where a loss levels off:
a is taken as a power law of compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from playscale.scaling.bound import TOO_FAR, with_ends
from playscale.scaling.cells import FitError, Target
from playscale.scaling.forecast import Forecast, Forecaster
from playscale.scaling.isoflop import Profile
from playscale.scaling.parametric import Parametric
from playscale.scaling.powerlaw import LEVEL, LEVELS, central, fit_power_law
from playscale.scaling.surface import WHOLE
from playscale.scaling.target_fit import TargetFit

FACTORS = (0.5, 2.0)
PROFILES = "profiles"
# Budgets with a vertex that a law of the curvature takes, and its draws.
FEWEST, DRAWS = 4, 1000


@dataclass(frozen=True)
class OffSize:
    """The forecast of a budget spent on `factor` times its best size.

    method: "parametric" (the law of params and samples) or "profiles" (their curvature). params: that size, None where
    none is recommended. value, low, high, reason: as of a Forecast. worse: the share of the best loss that is added, or
    of the best return (above its offset) that is lost, with the 95 % interval of the law's shape alone; no upper end
    beyond a factor 1,000.
    """

    target: Target
    method: str
    flops: float
    factor: float
    params: float | None
    value: float
    low: float | None
    high: float | None
    reason: str | None
    worse: float
    worse_low: float
    worse_high: float | None


def off_sizes(targets: Mapping[Target, TargetFit], flops: Sequence[float], seed: int) -> list[OffSize]:
    """Return the rows of each target and budget, by every method that has them."""
    rows = []
    for target, result in targets.items():
        rng = np.random.default_rng([seed, 16, len(target)])
        for forecast in result.forecaster.at_flops(flops, rng):
            for factor in FACTORS:
                for method, rise in _rises(result, forecast.flops, factor, rng):
                    rows.append(_row(result.forecaster, forecast, method, factor, rise, rng))
    return rows


def _rises(
    result: TargetFit, flops: float, factor: float, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield by how much the cost [1 + R] rises by each method, by its fit and its draws."""
    law = result.surface.laws[WHOLE] if result.surface and not result.cells.flat else None
    if isinstance(law, Parametric) and (rise := law.off_size(flops, factor)) is not None:
        yield WHOLE, rise
    if (curvature := curvatures(result.profiles, flops, rng)) is not None:
        yield PROFILES, curvature * np.log(factor) ** 2


def curvatures(profiles: Sequence[Profile], flops: float, rng: np.random.Generator) -> np.ndarray | None:
    """Return the curvature [1 + R] per ln N^2 at a budget, by its power law and draws; None with too few vertices."""
    known = [(p.flops, p.curvature) for p in profiles if p.curvature is not None and p.curvature > 0]
    if len(known) < FEWEST:
        return None
    try:
        law = fit_power_law(*np.log(np.array(known)).T)
    except FitError:
        return None
    ends = law.interval_at(flops)
    assert ends is not None  # from 3 budgets on
    spread = np.log(ends[1] / ends[0]) / 2 / stats.t.ppf((1 + LEVEL) / 2, law.n - 2)
    draws = np.clip(spread * rng.standard_t(law.n - 2, DRAWS), -TOO_FAR, TOO_FAR)
    return np.exp(np.log(law.at(flops)) + np.concatenate([[0.0], draws]))


def _row(
    forecaster: Forecaster, forecast: Forecast, method: str, factor: float, rise: np.ndarray, rng: np.random.Generator
) -> OffSize:
    value = forecaster.value(cost := forecaster.cost(forecast.value) + float(rise[0]))
    ends: list[float | None] = [None, None]
    if forecast.quantiles:
        best = np.sort([forecaster.cost(quantile) for quantile in forecast.quantiles])
        drawn = np.interp(rng.uniform(size=len(rise) - 1), LEVELS, best) + rise[1:]
        found = sorted(central(drawn), key=forecaster.value)
        ends = [forecaster.value(end) if abs(end - cost) < TOO_FAR else None for end in found]
    with np.errstate(over="ignore"):  # so much is no end
        lost = np.expm1(rise) if forecast.target == "dev_loss" else -np.expm1(-rise)
    low, high = ends
    least, most = central(lost[1:])
    reason = with_ends(value, low, high).reason if forecast.quantiles else None
    return OffSize(
        forecast.target, method, forecast.flops, factor, forecast.params and factor * forecast.params,
        value, low, high, reason, float(lost[0]), least, most if most < np.exp(TOO_FAR) else None,
    )  # fmt: skip
