"""Damped Gauss-Newton least squares over many problems at once: starts and bootstrap replicates are one leading axis.

Levenberg (1944), Marquardt (1963); a Huber loss enters by reweighting (the majoriser r^2 delta/|r| of its linear part),
so every accepted step lowers the true objective. Legend: R problems, n observations, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Residuals = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def minimise(
    residuals: Residuals,
    start: np.ndarray,
    *,
    delta: float | None = None,
    iterations: int = 80,
    tolerance: float = 1e-9,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise sum of squares/2 (or of Huber losses with threshold `delta`) per problem.

    residuals: theta [R, P] -> (r [R, n], J [R, n, P] with J = dr/dtheta). start [R, P]. Stops when every problem's last
    accepted step lowered its objective by less than `tolerance` of it, or its damping is exhausted.
    Returns (theta [R, P], objective [R]); a problem whose objective is not finite keeps its start and inf.
    """
    theta = np.array(start, dtype=float)
    r, jacobian = residuals(theta)
    value = objective(r, delta)
    damping = np.full(len(theta), 1e-3)
    eye = np.eye(theta.shape[1])
    for _ in range(iterations):
        weights = 1.0 if delta is None else np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))
        weighted = np.nan_to_num(jacobian) * (np.ones_like(r) * weights)[:, :, None]
        normal = np.swapaxes(weighted, 1, 2) @ np.nan_to_num(jacobian)
        gradient = np.einsum("rnp,rn->rp", weighted, np.nan_to_num(r))
        scale = np.maximum(np.einsum("rpp->rp", normal), 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None] + 1e-30)
        damped = normal + (damping[:, None] * scale)[:, :, None] * eye + 1e-30 * eye
        step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
        trial = theta - np.clip(step, -5.0, 5.0)
        r_trial, jacobian_trial = residuals(trial)
        value_trial = objective(r_trial, delta)
        better = value_trial < value
        settled = (better & (value - value_trial <= tolerance * value)) | (~better & (damping > 1e8))
        theta[better], r[better], jacobian[better] = trial[better], r_trial[better], jacobian_trial[better]
        value[better] = value_trial[better]
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e12)
        damping[settled & ~better] = 1e9
        if settled.all():
            break
    return theta, value


def objective(r: np.ndarray, delta: float | None) -> np.ndarray:
    """Half the sum of squares, or the sum of Huber losses, over the last axis; inf where a residual is not finite."""
    size = np.abs(r)
    with np.errstate(invalid="ignore", over="ignore"):
        loss = 0.5 * r**2 if delta is None else np.where(size <= delta, 0.5 * r**2, delta * (size - 0.5 * delta))
        total = loss.sum(axis=-1)
    return np.where(np.isfinite(total), total, np.inf)
