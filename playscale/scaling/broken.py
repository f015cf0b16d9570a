"""Runs that broke: rows far from their neighbours in size and compute. Legend: n rows, K neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

# Rows are compared with the least absolute deviations surface through their nearest neighbours, themselves among them,
# linear in ln C and quadratic in ln N. A row breaks if it is off by so many robust standard deviations of the whole
# table, and by so much of the logarithm: a loss 16 % higher, a return 3 times lower; what is better must be absurd.
# Chosen on planted tables (tests/unit/scaling/test_broken.py).
NEIGHBOURS, FEWEST, DEVIATIONS = 16, 12, 8.0
# Samples follow from size and compute; where they are off by a factor 5 either way they are a slip of the pen.
BETTER = float(np.log(5.0))
WORSE = {"dev_loss": 0.15, "return_mean": 1.1, "samples": BETTER}
# More rows than this share (or two) are no accidents: none is left out then.
SHARE, FEW = 0.05, 2
ITERATIONS, SMALLEST = 20, 1e-4


def broken(quantity: str, params: np.ndarray, flops: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the mask [n] of rows that are far from their neighbours.

    cost: of a target, or the logarithm of the samples; not finite where it is unknown.
    """
    none, known = np.zeros(len(cost), dtype=bool), np.flatnonzero(np.isfinite(cost))
    if len(known) < FEWEST:
        return none
    off = _residuals(np.log(params[known]), np.log(flops[known]), cost[known])
    least = DEVIATIONS * 1.4826 * float(np.median(np.abs(off)))
    far = (off > max(least, WORSE[quantity])) | (-off > max(least, BETTER))
    if far.sum() > max(FEW, SHARE * len(known)):
        return none
    none[known[far]] = True
    return none


def _residuals(x: np.ndarray, z: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the cost less the robust surface through each row's neighbours."""
    place = np.stack([x / max(np.ptp(x), 1e-9), z / max(np.ptp(z), 1e-9)], axis=1)
    near = cKDTree(place).query(place, min(NEIGHBOURS, len(x)))[1]
    dx, dz, y = x[near] - x[:, None], z[near] - z[:, None], cost[near]
    design = np.stack([np.ones_like(dx), dx, dz, dx**2], axis=2)
    weight, fitted = np.ones_like(y), y
    for _ in range(ITERATIONS):
        normal = np.einsum("nk,nki,nkj->nij", weight, design, design)
        normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4)
        right = np.einsum("nk,nki,nk->ni", weight, design, y)
        fitted = np.einsum("nki,ni->nk", design, np.linalg.solve(normal, right[:, :, None])[:, :, 0])
        weight = 1 / np.maximum(np.abs(y - fitted), SMALLEST)
    at = near == np.arange(len(x))[:, None]
    own = np.where(at.any(axis=1), fitted[np.arange(len(x)), at.argmax(axis=1)], cost)
    return cost - own
