"""The least of a curve between two places, for many curves at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Places at which the curves are tried, and how often again around the least of them: to a thousandth of the range.
STEPS, TIMES = 41, 2


def lowest(cost: Callable[[np.ndarray], np.ndarray], first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of R curves is least between `first` and `last`, and its value there, [R] each.

    cost: places [1, m] or [R, m] -> values [R, m]; inf where a curve has none.
    """
    x, step = np.linspace(first, last, STEPS)[None], (last - first) / (STEPS - 1)
    found = cost(x)
    for _ in range(TIMES):
        centre = np.take_along_axis(np.broadcast_to(x, found.shape), found.argmin(axis=1)[:, None], axis=1)
        x = np.clip(centre + step * np.linspace(-1, 1, STEPS), first, last)
        found, step = cost(x), 2 * step / (STEPS - 1)
    at = found.argmin(axis=1)[:, None]
    return np.take_along_axis(x, at, axis=1)[:, 0], np.take_along_axis(found, at, axis=1)[:, 0]
