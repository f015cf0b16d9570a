"""A fitted number with its 95 % interval, and how much of that interval the data decide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from playscale.scaling.numbers import between
from playscale.scaling.powerlaw import LEVEL

UNBOUNDED = "not bounded by these data"
# Natural logarithm of the factor from which on a floor, a ceiling or an end of an interval is too far from what was
# measured to say anything: a thousand.
TOO_FAR = float(np.log(1e3))


class Bound(NamedTuple):
    """A number and its 95 % interval; None for what the data do not bound.

    reason: what is known where an end was taken out ("below 0.9", "above 0.1", "not bounded by these data"), else None.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


def bound(values: np.ndarray, least: float = -np.inf, most: float = np.inf) -> Bound:
    """Return a fitted number and the central 95 % of its draws.

    Args:
        values: [1 + R], the fitted number and then its draws; without draws there is no interval.
        least: at this and below, the data do not tell one value from another.
        most: at this and above, they do not either.
    """
    value = float(values[0]) if least < values[0] < most else None
    if len(values) == 1:
        return Bound(value, None, None, None if value is not None else UNBOUNDED)
    ends = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return with_ends(value, *(float(end) if least < end < most else None for end in ends))


def with_ends(value: float | None, low: float | None, high: float | None) -> Bound:
    """Return a number with the ends of its interval, and the reason where one of them is not bounded."""
    if low is not None and high is not None:
        return Bound(value, low, high)
    return Bound(value, low, high, between(low, high) or UNBOUNDED)
