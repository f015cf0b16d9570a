"""The law of params and samples as others fit it: the `chinchilla` package, and variable projection by scipy.

Both fit L = E + A / N^alpha + B / D^beta to losses and give no interval.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from scipy import optimize

from playscale.scaling.parametric import compute_of

SPLITS = 2000
EXPONENTS = (0.2, 0.5)


@dataclass(frozen=True)
class Terms:
    """The fitted law; compute: (k0, k1, k2) of ln C = k0 + k1 ln N + k2 ln D over the runs."""

    floor: float
    size: float
    alpha: float
    data: float
    beta: float
    compute: tuple[float, float, float]

    def loss(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return self.floor + self.size / params**self.alpha + self.data / samples**self.beta

    def best(self, flops: np.ndarray) -> np.ndarray:
        """Return the loss of the best split of each budget [m] into params and samples."""
        k0, k1, k2 = self.compute
        log_params = np.linspace(np.log(10), np.log(1e14), SPLITS)
        log_samples = (np.log(flops)[:, None] - k0 - k1 * log_params) / k2
        return self.loss(np.exp(log_params), np.exp(log_samples)).min(axis=1)


Fitter = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Terms]


def variable_projection(params: np.ndarray, samples: np.ndarray, loss: np.ndarray, flops: np.ndarray) -> Terms:
    """Fit by least squares of the loss over both exponents, E, A and B solved at each by linear least squares.

    As Open-Athena's vpnls does (Czech et al., arXiv 2603.22339); negative coefficients are not allowed.
    """
    x, y = np.log(params / np.exp(np.log(params).mean())), np.log(samples / np.exp(np.log(samples).mean()))

    def solve(exponents: np.ndarray) -> tuple[np.ndarray, float]:
        terms = np.stack([np.ones(len(loss)), np.exp(-exponents[0] * x), np.exp(-exponents[1] * y)], axis=1)
        return optimize.nnls(terms, loss)

    starts = np.array(np.meshgrid(np.linspace(0.05, 1.0, 8), np.linspace(0.05, 1.0, 8))).reshape(2, -1).T
    start = min(starts, key=lambda exponents: solve(exponents)[1])
    found = optimize.minimize(
        lambda exponents: solve(exponents)[1], start, method="Nelder-Mead", bounds=[(0.01, 3.0)] * 2,
        options={"xatol": 1e-6, "fatol": 1e-9},
    )  # fmt: skip
    floor, size, data = solve(found.x)[0]
    alpha, beta = found.x
    centre = np.log(params).mean(), np.log(samples).mean()
    compute = compute_of(np.log(params), np.log(samples), np.log(flops))
    return Terms(floor, size * np.exp(alpha * centre[0]), alpha, data * np.exp(beta * centre[1]), beta, compute)


def chinchilla_package(params: np.ndarray, samples: np.ndarray, loss: np.ndarray, flops: np.ndarray) -> Terms:
    """Fit by the package's own loss and optimiser (BFGS) from 32 starts about the data's scale."""
    from chinchilla import Chinchilla

    level, floor = float(loss.mean()), float(loss.min())
    near = [float(np.log(level) + 0.35 * np.log(values).mean()) for values in (params, samples)]
    grid = {
        "E": [0.3 * floor, 0.9 * floor], "a": [near[0] - 3, near[0]], "b": [near[1] - 3, near[1]],
        "alpha": EXPONENTS, "beta": EXPONENTS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter = Chinchilla(folder, param_grid=grid, log_level=50)
        fitter.visualizer.optim = lambda *_, **__: None  # draws a figure of each fit
        for c, n, d, value in zip(flops, params, samples, loss, strict=True):
            fitter.append(C=float(c), N=float(n), D=float(d), loss=float(value))
        fitter.fit(parallel=False)
        compute = compute_of(np.log(params), np.log(samples), np.log(flops))
        floor, size, alpha, data, beta = (float(getattr(fitter, name)) for name in ("E", "A", "alpha", "B", "beta"))
        return Terms(floor, size, alpha, data, beta, compute)


def surfaces() -> dict[str, Fitter]:
    """Return the fitters that are installed, by name."""
    known: dict[str, Fitter] = {"variable projection": variable_projection}
    return known | ({"chinchilla 0.2.0": chinchilla_package} if find_spec("chinchilla") else {})
