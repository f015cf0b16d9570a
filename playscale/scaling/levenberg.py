"""Damped Gauss-Newton least squares over many problems at once: starts and bootstrap replicates are one leading axis.

Levenberg (1944), Marquardt (1963); a Huber loss enters by reweighting (the majoriser r^2 delta/|r| of its linear part),
so every accepted step lowers the true objective. Legend: R problems, n observations, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Residuals = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

# An objective this small is a perfect fit to double precision.
PERFECT = 1e-22
# Damping beyond which no step changes anything any more.
STUCK = 1e8


def minimise(
    residuals: Residuals,
    start: np.ndarray,
    *,
    delta: float | None = None,
    iterations: int = 80,
    tolerance: float = 1e-7,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise half the sum of squares (or the sum of Huber losses with threshold `delta`) of each problem.

    residuals: (theta [A, P], rows [A]: which of the R problems these are) -> (r [A, n], J [A, n, P] = dr/dtheta).
    start [R, P]. A problem is finished when two accepted steps in a row lower its objective by less than `tolerance` of
    it, or when no step lowers it any more; the others go on without it.
    Returns (theta [R, P], objective [R]); a problem whose objective is never finite keeps its start, and inf.
    """
    theta = np.array(start, dtype=float)
    value = np.full(len(theta), np.inf)
    rows = np.arange(len(theta))
    r, jacobian = residuals(theta, rows)
    value[:] = objective(r, delta)
    damping, calm = np.full(len(theta), 1e-3), np.zeros(len(theta), dtype=int)
    for _ in range(iterations):
        if len(rows) == 0:
            break
        trial = theta[rows] - _step(r, jacobian, damping, delta)
        r_trial, jacobian_trial = residuals(trial, rows)
        value_trial, before = objective(r_trial, delta), value[rows]
        better = value_trial < before
        small = better & (before - value_trial <= tolerance * before)
        calm = np.where(small, calm + 1, np.where(better, 0, calm))
        theta[rows[better]], value[rows[better]] = trial[better], value_trial[better]
        r[better], jacobian[better] = r_trial[better], jacobian_trial[better]
        damping = np.where(better, np.maximum(damping / 5, 1e-12), damping * 4)
        going = (calm < 2) & (damping < STUCK) & (value[rows] > PERFECT)
        rows, r, jacobian, damping, calm = rows[going], r[going], jacobian[going], damping[going], calm[going]
    return theta, value


def _step(r: np.ndarray, jacobian: np.ndarray, damping: np.ndarray, delta: float | None) -> np.ndarray:
    """Return the damped Gauss-Newton step [A, P], each part of it at most 5 long."""
    weighted = (
        jacobian if delta is None else jacobian * np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))[:, :, None]
    )
    across = np.swapaxes(weighted, 1, 2)
    normal = across @ jacobian
    gradient = across @ r[:, :, None]
    size = np.einsum("rpp->rp", normal)
    scale = np.maximum(size, 1e-12 * size.sum(axis=1)[:, None] + 1e-30)
    damped = normal + (damping[:, None] * scale + 1e-30)[:, :, None] * np.eye(jacobian.shape[2])
    return np.clip(np.linalg.solve(damped, gradient)[:, :, 0], -5.0, 5.0)


def objective(r: np.ndarray, delta: float | None) -> np.ndarray:
    """Return half the sum of squares, or the sum of Huber losses, over the last axis; inf where not finite."""
    size = np.abs(r)
    with np.errstate(invalid="ignore", over="ignore"):
        loss = 0.5 * r**2 if delta is None else np.where(size <= delta, 0.5 * r**2, delta * (size - 0.5 * delta))
        total = loss.sum(axis=-1)
    return np.where(np.isfinite(total), total, np.inf)
