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
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return limited_to(value, float(low), float(high), least, most)


def limited_to(value: float | None, low: float, high: float, least: float, most: float) -> Bound:
    """Return a number without the ends of its interval that lie at or beyond `least` and `most`."""
    first, last = (low if least < low < most else None), (high if least < high < most else None)
    if first is not None and last is not None:
        return Bound(value, first, last)
    return Bound(value, first, last, between(first, last) or UNBOUNDED)
