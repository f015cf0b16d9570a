"""The power laws of what is best at a budget: size, data, loss and return against compute, return against loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from playscale.scaling.bootstrap import Optima, resample
from playscale.scaling.cells import SIGN, Cells, Target
from playscale.scaling.exclusion import FitError
from playscale.scaling.isoflop import Profile
from playscale.scaling.powerlaw import PowerLaw, fit_power_law, interval, slopes

At = Literal["argmin", "vertex"]
ATS: tuple[At, ...] = ("argmin", "vertex")
RETURN_OF_LOSS = "return_mean of dev_loss"


@dataclass(frozen=True)
class Exponent:
    """One row of the table of power laws. quantity: params | samples | dev_loss | return_mean, each of flops, or
    "return_mean of dev_loss", "... of params", "... of samples"; target: what is best at a budget.
    """

    target: Target
    quantity: str
    at: At
    law: PowerLaw


def best(profiles: list[Profile], at: At) -> dict[str, np.ndarray]:
    """flops, params, samples, cost [B] at the best cell or at the vertex, NaN for a budget without."""
    columns = {
        "params": [getattr(p, f"{at}_params") for p in profiles],
        "samples": [getattr(p, f"{at}_samples") for p in profiles],
        "cost": [getattr(p, f"{at}_cost") for p in profiles],
    }
    flops = {"flops": np.array([p.flops for p in profiles])}
    return flops | {name: np.array([np.nan if v is None else v for v in column]) for name, column in columns.items()}


def fit_exponents(cells: Cells, profiles: list[Profile], rng: np.random.Generator, replicates: int) -> list[Exponent]:
    """Laws of params, samples and the target against flops, at argmin and vertex; those with 2 budgets or more.

    Of a return also against params and against samples: what the best agent of each budget earns, by its size and by
    the transitions (interactions, where it learned by playing) that it learned from.
    """
    resampled = resample(cells, rng, replicates)
    rows = []
    for at in ATS:
        found, optima = best(profiles, at), resampled[at]
        log_flops = np.broadcast_to(np.log(cells.budgets), optima.cost.shape)
        sign = SIGN[cells.target]
        values: dict[str, tuple[np.ndarray, np.ndarray]] = {
            "params": (np.log(found["params"]), optima.params),
            "samples": (np.log(found["samples"]), optima.samples),
            cells.target: (sign * found["cost"], sign * optima.cost),
        }
        for quantity, (log_value, draws) in values.items():
            law = _fit(np.log(found["flops"]), log_value)
            if law is not None:
                low, high = interval(slopes(log_flops, draws))
                rows.append(Exponent(cells.target, quantity, at, replace(law, boot_low=low, boot_high=high)))
        if cells.target == "return_mean":
            gain, gain_draws = values[cells.target]
            for variable in ("params", "samples"):
                log_x, draws = values[variable]
                law = _fit(log_x, gain)
                if law is not None:
                    low, high = interval(slopes(draws, gain_draws))
                    boot = replace(law, boot_low=low, boot_high=high)
                    rows.append(Exponent(cells.target, f"return_mean of {variable}", at, boot))
    return rows


def fit_return_of_loss(
    loss: tuple[Cells, list[Profile]], ret: tuple[Cells, list[Profile]], rng: np.random.Generator, replicates: int
) -> list[Exponent]:
    """The best return of a budget against the best dev loss of the same budget, over budgets that have both."""
    draws = [resample(cells, rng, replicates) for cells, _ in (loss, ret)]
    rows = []
    for at in ATS:
        x, y = best(loss[1], at), best(ret[1], at)
        _, in_loss, in_return = np.intersect1d(loss[0].budgets, ret[0].budgets, return_indices=True)
        law = _fit(x["cost"][in_loss], -y["cost"][in_return])
        if law is not None:
            low, high = interval(slopes(_cost(draws[0][at], in_loss), -_cost(draws[1][at], in_return)))
            rows.append(Exponent("return_mean", RETURN_OF_LOSS, at, replace(law, boot_low=low, boot_high=high)))
    return rows


def _cost(optima: Optima, budgets: np.ndarray) -> np.ndarray:
    return optima.cost[:, budgets]


def _fit(log_x: np.ndarray, log_y: np.ndarray) -> PowerLaw | None:
    try:
        return fit_power_law(log_x, log_y)
    except FitError:
        return None


def recommend(exponents: list[Exponent], quantity: str, budgets: int) -> Exponent | None:
    """The law that recommends a size or an amount of data, None without one: of the vertices where at least 3 budgets
    and half of all have one, else of the best cells.
    """
    rows = {row.at: row for row in exponents if row.quantity == quantity}
    vertex = rows.get("vertex")
    if vertex is not None and vertex.law.n >= 3 and 2 * vertex.law.n >= budgets:
        return vertex
    return rows.get("argmin")
