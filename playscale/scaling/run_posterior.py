"""Weigh what a part of one training run says of its course: a grid of shapes, correlations and courses of the noise.

A course is start + gain u(C), u going from 0 at the first point to 1 at the last one. For a return it is the S-curve of
Khatri et al. (2025, arXiv 2510.13786), R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B), for a loss L(C) = E + K C^-gamma.
Residuals are AR(1), of the same size everywhere or growing with the gain. Start, gain and the size of the noise have
Jeffreys' prior and are integrated out (Zellner 1971, chapters 3 and 4); ln C_mid, ln B and ln gamma are uniform.

Legend: n points, S shapes, F courses of the noise, P correlations, k terms of a course; x = ln C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, stdtr

Kind = Literal["return", "loss"]
RHO = np.array([0.0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.985])
NOISE_AT_FIRST = np.array([1.0, 0.1])  # over that at the last point
STEEPNESS = (0.3, 8.0)  # B
GAMMA = (0.02, 5.0)
BEFORE, BEYOND = 3.0, 10.0  # factors by which C_mid may lie before the first point and beyond the one forecast
GRID = {"return": (48, 20), "loss": (96,)}
ZOOMS, NEGLIGIBLE = 2, -12.0  # grids around the shapes likelier than e^-12 of the best
TURNS = 8  # points from which on a course may leave its shape
RIDGE = 1e-10


@dataclass(frozen=True)
class Posterior:
    """Every combination, with its weight [F, S, P] and what the points say of its coefficients.

    shapes [S, 2]: ln C_mid, ln B; [S, 1]: ln gamma. beta [F, S, P, k]. spread [F, S, P, k, k]: its covariance
    over `variance` [F, S, P], that of the innovations.
    """

    kind: Kind
    x: np.ndarray
    shapes: np.ndarray
    weight: np.ndarray
    beta: np.ndarray
    spread: np.ndarray
    variance: np.ndarray
    degrees: int

    def chance(self, contrast: np.ndarray) -> float:
        """Return the probability that the terms times contrast [k] or [S, k] sum to more than zero."""
        by = np.broadcast_to(contrast, (len(self.shapes), self.beta.shape[-1]))
        value = np.einsum("fspk,sk->fsp", self.beta, by)
        error = np.sqrt(self.variance * np.einsum("fspkl,sk,sl->fsp", self.spread, by, by))
        return float(np.sum(self.weight * stdtr(self.degrees, value / error)))

    def draw(self, at: np.ndarray, count: int, rng: np.random.Generator) -> Draws:
        """Return courses of two terms at x [m], and what would be measured there; a draw has one noise for all x."""
        which = np.unravel_index(rng.choice(self.weight.size, count, p=self.weight.ravel()), self.weight.shape)
        sd = np.sqrt(self.variance[which] * self.degrees / rng.chisquare(self.degrees, count))
        root = np.linalg.cholesky(self.spread[which])
        beta = self.beta[which] + sd[:, None] * (root @ rng.standard_normal((count, 2, 1)))[..., 0]
        shapes, first = self.shapes[which[1]], NOISE_AT_FIRST[which[0]][:, None]
        u = rise(self.kind, self.x, at, shapes)
        noise = (first + (1 - first) * np.maximum(u, 0)) * (sd / np.sqrt(1 - RHO[which[2]] ** 2))[:, None]
        mean = beta[:, :1] + beta[:, 1:] * u
        return Draws(shapes, beta, RHO[which[2]], mean, mean + noise * rng.standard_normal((count, 1)))


@dataclass(frozen=True)
class Draws:
    """R draws: shapes [R, 1 or 2], beta [R, 2] = start and gain, correlation [R], course and measured [R, m]."""

    shapes: np.ndarray
    beta: np.ndarray
    correlation: np.ndarray
    course: np.ndarray
    measured: np.ndarray


def posterior(kind: Kind, x: np.ndarray, y: np.ndarray, to: float) -> Posterior:
    """Weigh the courses of points (x, y) [n] that are to be forecast at x = to."""
    box = _box(kind, x, to)
    for zoom in range(ZOOMS + 1):
        axes, shapes = _grid(box, GRID[kind])
        u = rise(kind, x, x, shapes)
        found = _weigh(kind, x, y, shapes, np.stack([np.ones_like(u), u], axis=1))
        each = found.weight.sum(axis=(0, 2))
        likely = shapes[each > each.max() * np.exp(NEGLIGIBLE)] if zoom < ZOOMS else shapes
        step = [axis[1] - axis[0] for axis in axes]
        near = zip(likely.min(axis=0) - step, likely.max(axis=0) + step, strict=True)
        box = [(max(low, least), min(high, most)) for (low, high), (least, most) in zip(box, near, strict=True)]
    return found


def leaves(kind: Kind, x: np.ndarray, y: np.ndarray, to: float) -> tuple[float, float]:
    """Return the probabilities that the last point lies below one before, and that the curve rises more at its end.

    For a loss above, and falls more. From one of TURNS points on a course may have a term linear in C beside its shape.
    """
    _, shapes = _grid(_box(kind, x, to), [count // 2 for count in GRID[kind]])
    u = rise(kind, x, x, shapes)
    at = np.unique(np.linspace(len(x) // 4, len(x) - 3, TURNS).astype(int))
    c = np.exp(x - x[-1])
    hinges = np.array([np.maximum(c - c[i], 0) / (1 - c[i]) for i in at])
    courses, turned = np.repeat(u, len(at), axis=0), np.tile(hinges, (len(u), 1))
    basis = np.stack([np.ones_like(courses), courses, turned], axis=1)
    found = _weigh(kind, x, y, np.repeat(shapes, len(at), axis=0), basis)
    since = np.stack([np.zeros(len(basis)), 1 - u[:, at].ravel(), np.ones(len(basis))], axis=1)
    better = 1 if kind == "return" else -1
    return found.chance(-better * since), found.chance(better * np.array([0.0, 0.0, 1.0]))


def rise(kind: Kind, x: np.ndarray, at: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return u [S, m] at x = at [m], which is 0 at the first of x [n] and 1 at the last."""

    def raw(place: np.ndarray) -> np.ndarray:
        if kind == "loss":
            return -np.expm1(-np.exp(shapes) * (place - x[0]))
        inside = np.exp(shapes[:, 1:]) * (place - shapes[:, :1])
        # Of the two the one that does not lose its digits near 1.
        return np.where(shapes[:, :1] > x.mean(), expit(inside), -expit(-inside))

    first, last = raw(x[:1]), raw(x[-1:])
    return (raw(at) - first) / (last - first)


def _box(kind: Kind, x: np.ndarray, to: float) -> list[tuple[float, float]]:
    if kind == "loss":
        return [(float(np.log(GAMMA[0])), float(np.log(GAMMA[1])))]
    return [(x[0] - np.log(BEFORE), to + np.log(BEYOND)), (float(np.log(STEEPNESS[0])), float(np.log(STEEPNESS[1])))]


def _grid(box: list[tuple[float, float]], counts: list[int] | tuple[int, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the axes of a grid over a box, and its shapes [S, axes]."""
    axes = [np.linspace(low, high, count) for (low, high), count in zip(box, counts, strict=True)]
    return axes, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def _weigh(kind: Kind, x: np.ndarray, y: np.ndarray, shapes: np.ndarray, basis: np.ndarray) -> Posterior:
    """Weigh every combination by its likelihood; basis [S, k, n]: the terms of a course, 1 and u before others."""
    k = basis.shape[1]
    degrees, rho = len(y) - k, RHO[:, None, None]
    table = np.concatenate([basis, np.broadcast_to(y, (len(basis), 1, len(y)))], axis=1)
    weights, betas, spreads, variances = [], [], [], []
    for first in NOISE_AT_FIRST:
        sd = first + (1 - first) * basis[:, 1]
        z = table / sd[:, None]
        lagged = z[:, :, 1:] @ np.swapaxes(z[:, :, :-1], 1, 2)
        # Of whitened columns z_t - rho z_(t-1), the first one times the root of 1 - rho^2.
        gram = (z @ np.swapaxes(z, 1, 2))[:, None] - rho * (lagged + np.swapaxes(lagged, 1, 2))[:, None]
        gram = gram + rho**2 * (z[:, :, 1:-1] @ np.swapaxes(z[:, :, 1:-1], 1, 2))[:, None]
        own = gram[..., :k, :k]
        spread = np.linalg.inv(own + RIDGE * np.trace(own, axis1=-2, axis2=-1)[..., None, None] * np.eye(k))
        beta = (spread @ gram[..., :k, k:])[..., 0]
        rss = np.maximum(gram[..., k, k] - np.sum(beta * gram[..., :k, k], axis=-1), RIDGE * gram[..., k, k])
        weights.append(
            0.5 * (np.linalg.slogdet(spread)[1] + np.log1p(-(RHO**2)) - degrees * np.log(rss))
            - np.log(sd).sum(axis=1)[:, None]
        )
        betas.append(beta)
        spreads.append(spread)
        variances.append(rss / degrees)
    weight = np.exp(np.array(weights) - np.max(weights))
    beta, spread, variance = (np.array(part) for part in (betas, spreads, variances))
    return Posterior(kind, x, shapes, weight / weight.sum(), beta, spread, variance, degrees)
