"""IsoFLOP profiles: at one budget, a parabola of log cost in log size around the best cell.

Hoffmann et al. (arXiv 2203.15556), approach 2. Coefficients are in log10: log10(value) = a x^2 + b x + c with
x = log10(params).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from playscale.scaling.cells import SIGN, Cells, Excluded, Reason

# The window: cells within this factor of the best cell's size. A parabola is the second-order picture of a minimum;
# on published grids (NetHack, Atari) profiles a decade away from it are no longer symmetric.
WINDOW = 10.0
# A best cell at the edge of the sizes counts as the best of its budget where less than this (a relative cost), and less
# than the scatter of cells about their parabolas, would be gained beyond the edge.
SMALL_GAIN = 0.005

Edge = Literal["below", "above"]


@dataclass(frozen=True)
class Profile:
    """One budget: its best cell (argmin) and, where there is one, its parabola and the vertex.

    low, high: the window's smallest and largest size; value is in the target's unit; rss and degrees: of the cost about
    the parabola (natural logarithm). `excluded` says why there is no vertex. edge: the side on which no size beyond the
    best cell's was trained; step: the cost and the log size of its neighbour, less its own (log size without sign).
    """

    target: str
    flops: float
    argmin_params: float
    argmin_samples: float
    argmin_cost: float
    noise: float
    cells: int
    low: float
    high: float
    coefficients: tuple[float, float, float] | None = None
    vertex_params: float | None = None
    vertex_samples: float | None = None
    vertex_cost: float | None = None
    rss: float = 0.0
    degrees: int = 0
    excluded: Reason | None = None
    edge: Edge | None = None
    step: tuple[float, float] | None = None

    def gain(self, curvature: float) -> float:
        """Return the cost that sizes beyond the edge would gain if the profile had this curvature (cost per ln N^2)."""
        if self.edge is None or self.step is None:
            return 0.0
        rise, apart = self.step
        return curvature * max(0.0, (rise / apart / curvature - apart) / 2) ** 2

    @property
    def curvature(self) -> float | None:
        """Return the curvature of the cost per ln N^2; None without a vertex."""
        if self.coefficients is None or self.vertex_cost is None:
            return None
        return SIGN[self.target] * self.coefficients[0] / float(np.log(10.0))


def bounds(profiles: Sequence[Profile]) -> np.ndarray:
    """Return the mask [B] of the budgets whose best cell bounds what is best there, and does not measure it.

    These are profiles that curve the wrong way, and best cells at the edge of the sizes: those with fewer than 3 cells
    and those beyond whose edge the common curvature (median of the profiles with a vertex) says that more is gained
    than noise explains.
    """
    curvatures = [c for p in profiles if (c := p.curvature) is not None]
    if not curvatures:
        return np.array([p.edge is not None or p.excluded is Reason.WRONG_CURVATURE for p in profiles], dtype=bool)
    common, small = float(np.median(curvatures)), small_gain(profiles)
    return np.array(
        [
            p.excluded is Reason.WRONG_CURVATURE or (p.edge is not None and (p.cells < 3 or p.gain(common) > small))
            for p in profiles
        ],
        dtype=bool,
    )


def scatter_of(profiles: Sequence[Profile]) -> float:
    """Return the standard deviation of cells' costs about their parabolas; 0 where these leave no degree of freedom."""
    degrees = sum(p.degrees for p in profiles)
    return float(np.sqrt(sum(p.rss for p in profiles) / degrees)) if degrees else 0.0


def small_gain(profiles: Sequence[Profile]) -> float:
    """Return the cost up to which a gain beyond the edge of the sizes is none: SMALL_GAIN, or the scatter of cells."""
    return max(scatter_of(profiles), SMALL_GAIN)


def weights_of(error: np.ndarray) -> np.ndarray:
    """Return weights [n] from standard errors: 1/(se^2 + median se^2), equal when any is unknown.

    The median is added so that no cell counts more than twice the typical one: what is left over about a parabola is
    mostly not measurement error.
    """
    if not np.all(np.isfinite(error)) or len(error) == 0:
        return np.ones(len(error))
    weights = 1.0 / (error**2 + np.median(error) ** 2)
    return weights / weights.mean()


def fit_profiles(cells: Cells) -> list[Profile]:
    """Fit one profile to each budget that has cells, in rising order."""
    return [_fit_profile(cells, np.flatnonzero(cells.budget == index)) for index in np.unique(cells.budget)]


def window(log_params: np.ndarray, best: int) -> np.ndarray:
    """Return the mask [k] of the cells within a factor WINDOW of the best one's size."""
    return np.abs(log_params - log_params[best]) <= np.log(WINDOW) * (1 + 1e-9)


def in_windows(cells: Cells) -> np.ndarray:
    """Return the mask [n] of the cells within the window of their budget's best one."""
    mask = np.zeros(len(cells.cost), dtype=bool)
    for index in range(len(cells.budgets)):
        rows = np.flatnonzero(cells.budget == index)
        if len(rows):
            mask[rows] = window(np.log(cells.params[rows]), int(np.argmin(cells.cost[rows])))
    return mask


def _fit_profile(cells: Cells, index: np.ndarray) -> Profile:
    log_params, cost = np.log(cells.params[index]), cells.cost[index]
    best = int(np.argmin(cost))
    inside = window(log_params, best)
    sizes = cells.params[index]
    edge, step = _edge(log_params, cost, best)
    flops = float(cells.budgets[cells.budget[index[0]]])
    base = Profile(
        cells.target, flops, float(sizes[best]), float(cells.samples[index][best]),
        float(cost[best]), float(cells.noise()[index][best]), len(index),
        float(sizes[inside].min()), float(sizes[inside].max()), edge=edge, step=step,
    )  # fmt: skip
    if inside.sum() < 3:
        return replace(base, excluded=Reason.FEW_CELLS)
    x, y = log_params[inside] - log_params[best], cost[inside]
    root = np.sqrt(weights_of(cells.error[index][inside]))
    design = np.stack([x**2, x, np.ones_like(x)], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
    rss = float(np.sum((root * (y - design @ np.array([a, b, c]))) ** 2))
    profile = replace(base, coefficients=_log10_coefficients(cells.target, a, b, c, float(log_params[best])))
    if not a > 0:
        return replace(profile, excluded=Reason.WRONG_CURVATURE)
    vertex = log_params[best] - b / (2 * a)
    if not log_params.min() <= vertex <= log_params.max():
        reason = Reason.BELOW_SIZES if vertex < log_params.min() else Reason.ABOVE_SIZES
        return replace(profile, excluded=reason)
    return replace(
        profile, vertex_params=float(np.exp(vertex)), vertex_cost=float(c - b * b / (4 * a)),
        vertex_samples=float(samples_at(log_params, cells.samples[index], vertex)), rss=rss, degrees=len(x) - 3,
    )  # fmt: skip


def _edge(log_params: np.ndarray, cost: np.ndarray, best: int) -> tuple[Edge | None, tuple[float, float] | None]:
    """Return the side on which the best cell is the last, and the step to its neighbour on the other."""
    order = np.argsort(log_params)
    at, last = int(np.flatnonzero(order == best)[0]), len(order) - 1
    if last == 0:
        return "above", None
    if 0 < at < last:
        return None, None
    beside = int(order[1 if at == 0 else last - 1])
    step = float(cost[beside] - cost[best]), float(abs(log_params[beside] - log_params[best]))
    return ("below" if at == 0 else "above"), step


def samples_at(log_params: np.ndarray, samples: np.ndarray, log_size: np.ndarray | float) -> np.ndarray:
    """Interpolate, in logarithms, the samples of a size at this budget; FLOPs need not be 6 x params x samples."""
    known = np.isfinite(samples)
    if not known.any():
        return np.full(np.shape(log_size), np.nan)
    return np.exp(np.interp(log_size, log_params[known], np.log(samples[known])))


def _log10_coefficients(target: str, a: float, b: float, c: float, centre: float) -> tuple[float, float, float]:
    """Convert cost = a (ln N - centre)^2 + b (ln N - centre) + c to log10(value) in x = log10 N."""
    ln10 = np.log(10.0)
    sign = SIGN[target]
    a10 = a * ln10
    b10 = b - 2 * a * centre
    c10 = (a * centre**2 - b * centre + c) / ln10
    return float(sign * a10), float(sign * b10), float(sign * c10)


def excluded_budgets(profiles: list[Profile]) -> list[Excluded]:
    return [Excluded(p.target, p.flops, None, p.excluded) for p in profiles if p.excluded is not None]
