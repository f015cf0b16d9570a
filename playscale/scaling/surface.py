"""Laws of params and samples over all cells, and the choice of the one that forecasts a given (N, D).

Backtested as the laws of the frontier are: fitted to the cells of the budgets up to one, compared with those beyond.
Legend: n cells, m places (N, D), R draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from playscale.scaling.backtest import Prediction
from playscale.scaling.bound import Bound
from playscale.scaling.cells import MOST_PASSES, Cells, FitError, Target
from playscale.scaling.choice import EQUALLY_GOOD, widening
from playscale.scaling.isoflop import in_windows
from playscale.scaling.numbers import counted
from playscale.scaling.parametric import SIZE, fit_parametric
from playscale.scaling.powerlaw import ENDS, LEVEL, LEVELS
from playscale.scaling.translog import fit_translog
from playscale.scaling.warning import Code, Warned

WHOLE, NEAR, TRANSLOG = "parametric", "parametric, window", "translog, window"
KINDS = (WHOLE, NEAR, TRANSLOG)
ORIGINS = 8
FIRST = 4
BACKTEST_DRAWS = 40
# Cells of few passes that a law takes: four for each parameter. On planted laws 10 are enough (docs/scaling.md).
FEWEST = 4 * SIZE


class SurfaceLaw(Protocol):
    """A law of (N, D): its cost [m], draws [R, m] of what would be measured, the best (N, D) of a budget."""

    def cost(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray: ...
    def draw(
        self, params: np.ndarray, samples: np.ndarray, rng: np.random.Generator, noise: float = 0.0
    ) -> np.ndarray: ...
    def optimum(self, flops: float) -> tuple[float, float] | None: ...
    def exponents(self) -> dict[str, Bound] | None: ...
    def flops(self, params: float, samples: float) -> float: ...


@dataclass(frozen=True, eq=False)
class Surface:
    """laws: every law that could be fitted, by name; chosen: the one with the best backtest; sharing: those as good and
    that over all cells, or every other where there is no backtest.

    predictions: of the best cell of each budget beyond an origin, from the law's own optimum there; counted: repeated
    data count for what they are worth.
    """

    target: Target
    laws: Mapping[str, SurfaceLaw]
    chosen: str
    sharing: tuple[str, ...]
    widening: float
    predictions: tuple[Prediction, ...]
    why: str
    counted: bool

    def samples(self, cells: Cells) -> np.ndarray:
        """Return the samples of cells [n] as the laws count them."""
        return cells.fresh if self.counted else cells.samples

    def predict(
        self, params: float, samples: float, rng: np.random.Generator, noise: float
    ) -> tuple[float, float, float]:
        """Return cost and its 95 % prediction interval at one (N, D)."""
        cost, quantiles = self.distribution(params, samples, rng, noise)
        low, high = quantiles[list(ENDS)]
        return cost, min(low, cost), max(high, cost)

    def distribution(
        self, params: float, samples: float, rng: np.random.Generator, noise: float
    ) -> tuple[float, np.ndarray]:
        """Return cost and the quantiles [LEVELS] of what would be measured at one (N, D)."""
        at = np.array([params]), np.array([samples])
        cost = float(self.laws[self.chosen].cost(*at)[0])
        draws = np.concatenate([self.laws[name].draw(*at, rng, noise)[:, 0] for name in (self.chosen, *self.sharing)])
        return cost, cost + self.widening * (np.quantile(draws, LEVELS) - cost)

    def flops(self, params: float, samples: float) -> float:
        return self.laws[self.chosen].flops(params, samples)


def fit_surface(cells: Cells, rng: np.random.Generator, replicates: int) -> Surface:
    """Fit and backtest every kind. Raises FitError where the parametric law over all cells cannot be fitted."""
    counted = int((cells.epochs <= MOST_PASSES).sum()) >= FEWEST
    cells, left_out = _without_overfitting(cells) if counted else (replace(cells, epochs=np.ones(len(cells.cost))), "")
    near = in_windows(cells)
    laws = _fit_kinds(cells, near, rng, replicates, required=True)
    errors, strains, made = _backtest(cells, near, rng)
    score = {kind: float(np.exp(np.mean(np.log(np.abs(e) + 1e-3)))) for kind, e in errors.items() if kind in laws}
    chosen = min(score, key=score.__getitem__) if score else WHOLE
    # The law over all cells always shares: one of a window does not know where cost levels off.
    good = EQUALLY_GOOD * score.get(chosen, np.inf)
    sharing = tuple(k for k in laws if k != chosen and (k == WHOLE or score.get(k, 0.0) <= good))
    if not score:
        why = f"parametric: too few budgets for a backtest{left_out}"
        return Surface(cells.target, laws, chosen, sharing, 1.0, (), why, counted)
    strain = strains[chosen]
    held = float(np.mean(strain <= 1))
    error = np.expm1(float(np.median(np.abs(errors[chosen]))))
    why = (
        f"{chosen}: the best of {len(score)} laws of parameters and samples in a rolling backtest; median error of"
        f" {len(strain)} cells near the best of larger budgets {100 * error:.1f} %, {100 * held:.0f} % inside{left_out}"
    )
    return Surface(cells.target, laws, chosen, sharing, widening(strain), tuple(made), why, counted)


def repeated_warning(cells: Cells, surface: Surface | None, best: Cells) -> list[Warned]:
    """Warn where data seen again decide a law: cells left out or taken as fresh, budgets whose best cell overfits.

    cells: all that the surface was fitted to; best: one of each size at a budget.
    """
    target, passes = cells.target, f"{MOST_PASSES:.0f} passes over their data"
    many, again = int((cells.epochs > MOST_PASSES).sum()), int((cells.epochs > 1).sum())
    found = []
    if surface is not None and surface.counted and many:
        found.append(f"{many} of {len(cells.cost)} cells have more than {passes}; the law of N and D leaves them out")
    if surface is not None and not surface.counted and again:
        found.append(
            f"{again} of {len(cells.cost)} cells have data seen again, and fewer than {FEWEST} have at most {passes}:"
            " the law of N and D takes all samples as seen once, and its floor is not to be relied on"
        )
    rows = [np.flatnonzero(best.budget == i) for i in range(len(best.budgets))] if best.isoflop else []
    at = [row[np.argmin(best.cost[row])] for row in rows if len(row)]
    worn = [float(best.budgets[best.budget[i]]) for i in at if best.epochs[i] > MOST_PASSES]
    if worn:
        listed = ", ".join(f"{flops:.3g}" for flops in worn[-3:])
        found.append(
            f"the best cells of {counted(len(worn), 'budget')} (the last: {listed} FLOPs) have more than {passes}:"
            " the law of best cells says what this corpus gives, and more data would give more"
        )
    return [Warned(Code.REPEATED_DATA, f"{target}: {text}") for text in found]


def _without_overfitting(cells: Cells) -> tuple[Cells, str]:
    """Return the cells whose last pass over the data was still worth something, and what to say of the others.

    More passes overfit, for which the laws have no term.
    """
    fresh = cells.epochs <= MOST_PASSES
    if fresh.all():
        return cells, ""
    many = int((~fresh).sum())
    return cells.where(fresh), f"; {many} cells with more than {MOST_PASSES:.0f} passes over their data are left out"


def _fit_kinds(
    cells: Cells, near: np.ndarray, rng: np.random.Generator, replicates: int, *, required: bool = False
) -> dict[str, SurfaceLaw]:
    laws: dict[str, SurfaceLaw] = {}
    if required:
        laws[WHOLE] = fit_parametric(cells, rng, replicates)
    for kind in KINDS:
        if kind not in laws:
            try:
                laws[kind] = _fit_kind(kind, cells, near, rng, replicates)
            except FitError:
                continue
    return laws


def _fit_kind(kind: str, cells: Cells, near: np.ndarray, rng: np.random.Generator, replicates: int) -> SurfaceLaw:
    if kind == WHOLE:
        return fit_parametric(cells, rng, replicates)
    if kind == NEAR:
        return fit_parametric(cells.where(near), rng, replicates)
    return fit_translog(cells.where(near), replicates)


def _backtest(
    cells: Cells, near: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[Prediction]]:
    """Return errors and strains of the cells near the best beyond each origin, by kind, and predictions of the best.

    Only origins at which every kind could be fitted count, so that all are judged by the same cells.
    """
    errors: dict[str, list[np.ndarray]] = {}
    strains: dict[str, list[np.ndarray]] = {}
    made: list[Prediction] = []
    count = len(cells.budgets)
    known = np.isfinite(cells.samples)
    for origin in np.unique(np.linspace(FIRST, count - 1, ORIGINS).astype(int)) if count > FIRST else ():
        seen, ahead = cells.budget < origin, known & near & (cells.budget >= origin)
        laws = _fit_kinds(cells.where(seen), near[seen], rng, BACKTEST_DRAWS)
        if len(laws) < len(KINDS) or not ahead.any():
            continue
        noise = float(np.median(cells.noise()[seen]))
        for kind, law in laws.items():
            error, strain = _strain(law, cells.where(ahead), rng, noise)
            errors.setdefault(kind, []).append(error)
            strains.setdefault(kind, []).append(strain)
            made += _of_best(kind, law, cells, int(origin), rng, noise)
    joined = [{kind: np.concatenate(parts) for kind, parts in found.items()} for found in (errors, strains)]
    return joined[0], joined[1], made


def _strain(law: SurfaceLaw, ahead: Cells, rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the log error, and its size in units of the interval's half on its side."""
    cost = law.cost(ahead.params, ahead.fresh)
    low, high = np.quantile(law.draw(ahead.params, ahead.fresh, rng, noise), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    error = ahead.cost - cost
    half = np.where(error > 0, np.maximum(high - cost, 0), np.maximum(cost - low, 0))
    return error, np.abs(error) / np.maximum(half, 1e-12)


def _of_best(
    kind: str, law: SurfaceLaw, cells: Cells, origin: int, rng: np.random.Generator, noise: float
) -> list[Prediction]:
    made = []
    for budget in np.unique(cells.budget[cells.budget >= origin]):
        flops = float(cells.budgets[budget])
        best, measured = law.optimum(flops), float(cells.cost[cells.budget == budget].min())
        if best is None or not np.all(np.isfinite(best)):
            continue
        at = np.array([best[0]]), np.array([best[1]])
        cost = float(law.cost(*at)[0])
        low, high = np.quantile(law.draw(*at, rng, noise)[:, 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        ends = min(low - cost, 0.0), max(high - cost, 0.0)
        made.append(Prediction(kind, float(cells.budgets[origin - 1]), flops, measured - cost, *map(float, ends)))
    return made
