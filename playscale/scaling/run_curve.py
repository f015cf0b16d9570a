"""Forecast a later point of one training run from its first part, or say why that cannot be told yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from playscale.scaling.bound import Bound, bound
from playscale.scaling.numbers import between, number
from playscale.scaling.powerlaw import ENDS, LEVELS
from playscale.scaling.run_posterior import GAMMA, STEEPNESS, Draws, Kind, leaves, posterior
from playscale.shown import Shown

FEWEST = 8  # points that a forecast takes
MOST = 300  # of more, every second, third, ... counts
LEFT_OUT = {"return": 0.05, "loss": 0.1}  # of the last point's compute: points before that are left out
FURTHEST = 10.0  # times the last point's compute
WIDEST = 1.0  # width of the interval over the gain so far
MOST_AHEAD = 1.0  # gain that lies ahead over the gain so far
CHANGED = 0.975  # probability of a gain from which on there is one
TURNED = 0.9  # probability from which on it gets worse
SPEEDS_UP = 0.95  # and from which on it leaves the curve
DRAWS = 4000
MOST_GAINS = 10.0  # from the last value to an end of A, E or R0
MARGIN = 1.1  # factor from what is searched, within which an end is not bounded
BAND = 61  # places at which the interval is given
MIDDLE = [LEVELS[ENDS[0]], 0.5, LEVELS[ENDS[1]]]


class Untold(StrEnum):
    """Reasons for which a curve has no forecast yet: a closed list."""

    FEW = "too few points"
    FAR = "too far ahead"
    FLAT = "no change beyond the noise"
    WORSE = "gets worse"
    LEAVES = "leaves the curve"
    WIDE = "the interval is too wide"
    AHEAD = "most of the gain lies ahead"


@dataclass(frozen=True)
class CurveForecast(Shown):
    """A later point of a training run, forecast from its first part.

    Attributes:
        kind: "return" or "loss".
        points: Number of points that count.
        left_out: Number of points before them, which are left out.
        first_flops: Compute from which on points count.
        last_flops: Compute of the last point.
        last_value: Its value.
        flops: Compute forecast for.
        value: The forecast, None where it cannot be told yet; low, high: 95 % interval of what would be measured.
        untold: Why it cannot be told yet, from a closed list; None where it can.
        text: The forecast, or why there is none, in a sentence.
        parameters: R0, A, C_mid and B of a return's S-curve, or E and gamma of a loss; none without a forecast.
        correlation: That of neighbouring residuals; None without a forecast.
        band: {flops, value, low, high} from the first point that counts to the one forecast; none without a forecast.
    """

    kind: Kind
    points: int
    left_out: int
    first_flops: float
    last_flops: float
    last_value: float
    flops: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    untold: Untold | None = None
    text: str = ""
    parameters: Mapping[str, Bound] = field(default_factory=dict)
    correlation: float | None = None
    band: Sequence[Mapping[str, float]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self) | {"parameters": {name: one._asdict() for name, one in self.parameters.items()}}


def forecast_curve(
    flops: ArrayLike, values: ArrayLike, to: float, *, kind: Kind = "return", seed: int = 0
) -> CurveForecast:
    """Forecast the value of one training run at `to` FLOPs from its curve so far.

    A return follows the S-curve of Khatri et al. (2025, arXiv 2510.13786), a loss a power law with a floor.
    docs/scaling.md states every rule. It advises: a run that ends badly after all is not seen before it turns.

    Args:
        flops: training compute of the points [n], increasing.
        values: what was measured there [n], in order; a single measurement each.
        to: compute to forecast for, beyond the last point.
        kind: "return" (rises) or "loss" (falls).
        seed: of the draws; the same seed gives the same result.

    Raises:
        ValueError: values or compute that no curve has, fewer than 2 points, or `to` is not beyond the last point.
    """
    c, y = _checked(flops, values, to, kind)
    used, left_out = _used(c, kind)
    base = CurveForecast(
        kind=kind, points=len(used), left_out=left_out, first_flops=float(c[left_out]), last_flops=float(c[-1]),
        last_value=float(y[-1]), flops=float(to),
    )  # fmt: skip
    c, y = c[used], y[used]
    if len(c) < FEWEST:
        return _none(base, Untold.FEW, f"{len(c)} of the {FEWEST} that it takes")
    if to > FURTHEST * c[-1]:
        return _none(base, Untold.FAR, f"{to / c[-1]:.3g} times the last point's compute; at most {FURTHEST:g} times")
    scale = float(np.ptp(y))
    if not scale:
        return _none(base, Untold.FLAT, f"every value is {number(y[-1])}")
    x, centre = np.log(c), float(y.mean())
    return _forecast(base, x, (y - centre) / scale, centre, scale, np.random.default_rng(seed))


def _checked(flops: ArrayLike, values: ArrayLike, to: float, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    c, y = np.asarray(flops, dtype=float), np.asarray(values, dtype=float)
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r}: neither 'return' nor 'loss'")
    if c.ndim != 1 or c.shape != y.shape:
        raise ValueError(f"a curve is two lists of one length; flops has shape {c.shape}, values {y.shape}")
    if len(c) < 2:
        raise ValueError(f"a curve needs 2 points at least, and has {len(c)}")
    for name, array in (("flops", c), ("values", y)):
        if len(bad := np.flatnonzero(~np.isfinite(array))):
            raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}; leave out points that were not measured")
    if c[0] <= 0:
        raise ValueError(f"flops[0] is {c[0]:g}; compute is above zero")
    if len(bad := np.flatnonzero(np.diff(c) <= 0)):
        i = int(bad[0]) + 1
        raise ValueError(f"flops[{i}] is {c[i]:g} after {c[i - 1]:g}; the points of one run have increasing compute")
    if not (math.isfinite(to) and to > c[-1]):
        raise ValueError(f"a forecast to {to:g} FLOPs is not beyond the last point, at {c[-1]:g}")
    return c, y


def _used(c: np.ndarray, kind: Kind) -> tuple[np.ndarray, int]:
    """Return the indices of the points that count, at most MOST, and how many are left out before them."""
    first = min(int(np.searchsorted(c, LEFT_OUT[kind] * c[-1])), max(len(c) - FEWEST, 0))
    step = -(-(len(c) - first) // MOST)
    return np.arange(len(c) - 1, first - 1, -step)[::-1], first


def _none(base: CurveForecast, untold: Untold, why: str) -> CurveForecast:
    return replace(base, untold=untold, text=f"cannot be told yet: {untold}: {why}")


def _forecast(
    base: CurveForecast, x: np.ndarray, y: np.ndarray, centre: float, scale: float, rng: np.random.Generator
) -> CurveForecast:
    """Forecast from points (x, y), y less `centre` and over `scale`."""
    kind, to = base.kind, math.log(base.flops)
    better = 1 if kind == "return" else -1
    found = posterior(kind, x, y, to)
    gained = found.chance(np.array([0.0, better]))
    turned, speeds_up = leaves(kind, x, y, to)
    if (worse := max(1 - gained, turned)) > TURNED:
        return _none(base, Untold.WORSE, f"it {'falls' if better > 0 else 'rises'} (probability {worse:.2f})")
    if gained < CHANGED:
        return _none(base, Untold.FLAT, "it has not begun to learn, or had ended before the points that count")
    if speeds_up > SPEEDS_UP:
        return _none(
            base, Untold.LEAVES, f"it speeds up again (probability {speeds_up:.2f}), which none of its kind does"
        )
    at = np.append(np.linspace(x[0], to, BAND)[:-1], to)
    draws = found.draw(at, DRAWS, rng)
    low, value, high = centre + scale * np.quantile(draws.measured, MIDDLE, axis=0)
    gain = scale * float(np.median(np.abs(draws.beta[:, 1])))
    if high[-1] - low[-1] > WIDEST * gain:
        span = between(low[-1], high[-1])
        return _none(base, Untold.WIDE, f"{span} (95 %) is wider than the gain so far, {number(gain)}")
    ahead = scale * float(np.median(np.abs(draws.course[:, -1] - draws.beta.sum(axis=1))))
    if ahead > MOST_AHEAD * gain:
        return _none(base, Untold.AHEAD, f"{number(ahead)} of it, after {number(gain)} so far")
    rows = zip(np.exp(at).tolist(), value.tolist(), low.tolist(), high.tolist(), strict=True)
    return replace(
        base, value=float(value[-1]), low=float(low[-1]), high=float(high[-1]),
        text=f"{number(value[-1])} ({between(low[-1], high[-1])})",
        parameters=_parameters(kind, x, draws, centre, scale), correlation=float(np.median(draws.correlation)),
        band=[dict(zip(("flops", "value", "low", "high"), row, strict=True)) for row in rows],
    )  # fmt: skip


def _parameters(kind: Kind, x: np.ndarray, draws: Draws, centre: float, scale: float) -> dict[str, Bound]:
    """Return the parameters of the curve. What lies at the edge of the grid, or far from all values, is not bounded."""
    start, gain = centre + scale * draws.beta[:, 0], scale * draws.beta[:, 1]
    seen, far = float(np.median(start + gain)), MOST_GAINS * abs(float(np.median(gain)))
    if kind == "loss":
        gamma = np.exp(draws.shapes[:, 0])
        floor = start - gain / np.expm1(-gamma * (x[-1] - x[0]))
        return {"E": _bound(floor, seen - far), "gamma": _bound(gamma, *(np.array(GAMMA) * [MARGIN, 1 / MARGIN]))}
    middle, steepness = draws.shapes[:, 0], np.exp(draws.shapes[:, 1])
    first, last = (expit(steepness * (place - middle)) for place in (x[0], x[-1]))
    rise = gain / (last - first)
    begin = start - rise * first
    return {
        "R0": _bound(begin, seen - far),
        "A": _bound(begin + rise, most=seen + far),
        "C_mid": _bound(np.exp(middle)),
        "B": _bound(steepness, *(np.array(STEEPNESS) * [MARGIN, 1 / MARGIN])),
    }


def _bound(draws: np.ndarray, least: float = -np.inf, most: float = np.inf) -> Bound:
    return bound(np.append(np.median(draws), draws), least, most)
