"""The offset of returns: what is taken from every return before its logarithm, in games whose returns may be negative.

A return is a power of compute, or levels off, above the smallest that the game gives, not above zero. Where that is not
given it is fitted by profile likelihood, as the threshold of a three-parameter lognormal law is (Cohen 1951, J. Am.
Stat. Assoc. 46, 206; Hill 1963, ibid. 58, 72). Legend: B budgets, K offsets, T ceilings.
"""

from __future__ import annotations

import numpy as np

# The likelihood grows without bound as the offset nears the smallest return (Hill 1963): it stays this share of the
# range of returns below. On planted laws with 5 % growth is lost (a power law's forecast a decade ahead is off by 17 %
# in place of 2 %), with 1 % one low return decides.
MARGIN = 0.02
# Four parameters need five budgets; with fewer the offset is this share of the range below the smallest return.
BUDGETS, UNFITTED_MARGIN = 5, 0.05
# An error of less than 1 % of a return is not told from none, so that no curve through all points has all likelihood.
LEAST_ERROR = 0.01
# A ceiling is one more parameter (Akaike).
PENALTY = 1.0


def fit_offset(flops: np.ndarray, best: np.ndarray, returns: np.ndarray, error: float) -> float:
    """Return the offset o of greatest likelihood for 1/(R - o) = 1/(R_max - o) + 1/(A C^g), R_max infinite or not.

    With errors normal in ln(R - o) the log likelihood of the best returns is -B/2 ln(RSS/B) - sum ln(R - o). Offsets
    lie between one range of returns, and a margin, below the smallest.

    Args:
        flops: budgets [B].
        best: the best return of each [B].
        returns: mean returns of all cells, not all of them equal.
        error: standard error of the smallest of them, which the margin is no less than.
    """
    smallest, span = float(returns.min()), float(np.ptp(returns))
    if len(flops) < BUDGETS:
        return smallest - max(error, UNFITTED_MARGIN * span)
    margin = min(max(error, MARGIN * span), span)
    offsets = smallest - np.geomspace(margin, span, 60)
    ceilings = np.concatenate([[np.inf], best.max() + span * np.geomspace(0.01, 30, 24)])
    x = np.log(flops) - np.log(flops).mean()
    above = (best - offsets[:, None])[:, None]  # [K, 1, B]
    limit = 1 / (ceilings - offsets[:, None])[:, :, None]  # [K, T, 1]
    line = -np.log(1 / above - limit)
    level, slope = line.mean(axis=2, keepdims=True), (line * x).sum(axis=2, keepdims=True) / (x @ x)
    fitted = -np.log(np.exp(-level - slope * x) + limit)
    rss = np.sum((np.log(above) - fitted) ** 2, axis=2)
    count = len(flops)
    likelihood = -count / 2 * np.log(rss / count + LEAST_ERROR**2) - np.log(above).sum(axis=2)
    likelihood[:, 1:] -= PENALTY
    return float(offsets[np.unravel_index(np.argmax(likelihood), likelihood.shape)[0]])
