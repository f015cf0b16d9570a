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

SPLITS = 400
EXPONENTS = (0.2, 0.5)


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs that a law is fitted to, each [n]."""

    params: np.ndarray
    samples: np.ndarray
    loss: np.ndarray
    flops: np.ndarray


@dataclass(frozen=True, eq=False)
class Terms:
    """The fitted law, and the runs that it was fitted to."""

    floor: float
    size: float
    alpha: float
    data: float
    beta: float
    runs: Runs

    def loss(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return self.floor + self.size / params**self.alpha + self.data / samples**self.beta

    def best(self, flops: np.ndarray) -> np.ndarray:
        """Return the loss of the best split of each budget [m].

        It is sought between the sizes and the data of the runs, and beyond their largest budget up to as many times
        more of either as there is compute, as ours is: an exponent of zero would else recommend no data at all.
        """
        runs = self.runs
        k0, k1, k2 = compute_of(np.log(runs.params), np.log(runs.samples), np.log(runs.flops))
        found = []
        for budget in flops:
            more = max(1.0, budget / runs.flops.max())
            params = np.geomspace(runs.params.min(), runs.params.max() * more, SPLITS)
            samples = np.exp((np.log(budget) - k0 - k1 * np.log(params)) / k2)
            some = (samples >= runs.samples.min()) & (samples <= runs.samples.max() * more)
            found.append(self.loss(params[some], samples[some]).min() if some.any() else np.nan)
        return np.array(found)


Fitter = Callable[[Runs], Terms]


def variable_projection(runs: Runs) -> Terms:
    """Fit by least squares of the loss over both exponents, E, A and B solved at each by linear least squares.

    As Open-Athena's vpnls does (Czech et al., arXiv 2603.22339); negative coefficients are not allowed.
    """
    centre = np.log(runs.params).mean(), np.log(runs.samples).mean()
    x, y = np.log(runs.params) - centre[0], np.log(runs.samples) - centre[1]

    def solve(exponents: np.ndarray) -> tuple[np.ndarray, float]:
        terms = np.stack([np.ones(len(x)), np.exp(-exponents[0] * x), np.exp(-exponents[1] * y)], axis=1)
        return optimize.nnls(terms, runs.loss)

    starts = np.array(np.meshgrid(np.linspace(0.05, 1.0, 8), np.linspace(0.05, 1.0, 8))).reshape(2, -1).T
    start = min(starts, key=lambda exponents: solve(exponents)[1])
    found = optimize.minimize(
        lambda exponents: solve(exponents)[1], start, method="Nelder-Mead", bounds=[(0.01, 3.0)] * 2,
        options={"xatol": 1e-6, "fatol": 1e-9},
    )  # fmt: skip
    floor, size, data = solve(found.x)[0]
    alpha, beta = found.x
    return Terms(floor, size * np.exp(alpha * centre[0]), alpha, data * np.exp(beta * centre[1]), beta, runs)


def chinchilla_package(runs: Runs) -> Terms:
    """Fit by the package's own loss and optimiser (BFGS) from 32 starts about the data's scale."""
    from chinchilla import Chinchilla

    level, floor = float(runs.loss.mean()), float(runs.loss.min())
    near = [float(np.log(level) + 0.35 * np.log(values).mean()) for values in (runs.params, runs.samples)]
    grid = {
        "E": [0.3 * floor, 0.9 * floor], "a": [near[0] - 3, near[0]], "b": [near[1] - 3, near[1]],
        "alpha": EXPONENTS, "beta": EXPONENTS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter = Chinchilla(folder, param_grid=grid, log_level=50)
        fitter.visualizer.optim = lambda *_, **__: None  # draws a figure of each fit
        for n, d, value, c in zip(runs.params, runs.samples, runs.loss, runs.flops, strict=True):
            fitter.append(C=float(c), N=float(n), D=float(d), loss=float(value))
        fitter.fit(parallel=False)
        floor, size, alpha, data, beta = (float(getattr(fitter, name)) for name in ("E", "A", "alpha", "B", "beta"))
        return Terms(floor, size, alpha, data, beta, runs)


def surfaces() -> dict[str, Fitter]:
    """Return the fitters that are installed, by name."""
    known: dict[str, Fitter] = {"variable projection": variable_projection}
    return known | ({"chinchilla 0.2.0": chinchilla_package} if find_spec("chinchilla") else {})
