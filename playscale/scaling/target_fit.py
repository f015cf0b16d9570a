"""The fit of one target: its cells, profiles, laws and forecaster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from playscale.points import Point
from playscale.scaling.backtest import Frontier
from playscale.scaling.cells import SAME_COMPUTE, TARGETS, Cells, Excluded, FitError, Target, make_cells
from playscale.scaling.choice import LARGEST_RETURN, Choice, choose, least_cost, loss_steps
from playscale.scaling.exponents import Exponent, fit_exponents
from playscale.scaling.forecast import Forecaster, make_forecaster
from playscale.scaling.isoflop import Profile, excluded_budgets, fit_profiles
from playscale.scaling.numbers import counted
from playscale.scaling.optimum import optimum_choice
from playscale.scaling.repetition import Repetition, fit_repetition
from playscale.scaling.surface import Surface, fit_surface, repeated_warning
from playscale.scaling.two_step import LossSteps
from playscale.scaling.warning import (
    Code,
    Warned,
    bend_warning,
    broken_warning,
    cell_warnings,
    grid_warning,
    isoflop_warning,
    profile_warnings,
    size_warning,
)  # fmt: skip

# Budgets of the two targets within this factor are one: where runs are left out of one of them its mean moves.
SAME_BUDGET = 1.02
# Bootstrap memory: replicates x cells stay below this.
LARGEST = 4e6


@dataclass(frozen=True, eq=False)
class TargetFit:
    """Everything fitted for one target.

    repetition: the law of repeated data; not_repeated: why a table with data seen again has none.
    """

    cells: Cells
    profiles: list[Profile]
    choice: Choice
    surface: Surface | None
    exponents: list[Exponent]
    forecaster: Forecaster
    repetition: Repetition | None = None
    not_repeated: str = ""


def replicates_for(cells: Cells, replicates: int) -> int:
    """Return the replicates of what grows with the number of cells, as the memory of a fit allows."""
    return int(np.clip(LARGEST / len(cells.cost), min(20, replicates), replicates))


def fit_targets(
    seen: Sequence[Point], unmeasured: Collection[Target], seed: int, replicates: int,
    limits: Sequence[tuple[str, float]], min_return: float | None, budget_column: str | None,
) -> tuple[dict[Target, TargetFit], list[Excluded], list[Warned]]:  # fmt: skip
    """Fit each target that can be fitted; also return what was excluded, and warnings.

    unmeasured: targets that are not expected to be measured, whose absence is no reason for a warning.

    Raises:
        FitError: no target can be fitted.
    """
    excluded: list[Excluded] = []
    warnings: list[Warned] = []
    targets: dict[Target, TargetFit] = {}
    for target in TARGETS:
        try:
            cells, left_out = make_cells(seen, target, min_return=min_return, budget_column=budget_column, screen=True)
            rng, loss = np.random.default_rng([seed, len(target)]), targets.get("dev_loss")
            result = _fit_target(cells, rng, replicates, limits, loss)
        except FitError as error:
            if target not in unmeasured:
                warnings.append(Warned(Code.TARGET_ABSENT, f"{target} is not fitted: {error}"))
            continue
        result = targets[target] = with_repetition(result, cells, np.random.default_rng([seed, 15]), replicates)
        excluded += [*left_out, *excluded_budgets(result.profiles)]
        warnings += _warnings(result, left_out)
        warnings += repeated_warning(cells, result.surface, result.cells)
    if not targets:
        raise FitError("; ".join(dict.fromkeys(w.text for w in warnings)))
    return targets, excluded, warnings


def with_repetition(result: TargetFit, cells: Cells, rng: np.random.Generator, replicates: int) -> TargetFit:
    """Add the law of repeated data where cells have data seen again, or why it cannot be fitted."""
    if not (cells.epochs > SAME_COMPUTE).any():
        return result
    try:
        return replace(result, repetition=fit_repetition(cells, rng, replicates_for(cells, replicates)))
    except FitError as error:
        return replace(result, not_repeated=str(error))


def _warnings(result: TargetFit, left_out: Sequence[Excluded]) -> list[Warned]:
    """Return what a table's cells and profiles warn of."""
    cells, target = result.cells, result.cells.target
    at_cells = (row.law for row in result.exponents if (row.quantity, row.at) == ("params", "argmin"))
    return [
        *(profile_warnings(cells, result.profiles) if cells.isoflop else isoflop_warning(cells)),
        *cell_warnings(cells),
        *broken_warning(target, left_out),
        *size_warning(target, result.forecaster.params.law if result.forecaster.params else None),
        *grid_warning(target, cells, next(at_cells, None)),
        *bend_warning(target, np.log(cells.budgets), np.array([p.argmin_cost for p in result.profiles])),
    ]


def _fit_target(
    cells: Cells, rng: np.random.Generator, replicates: int, limits: Sequence[tuple[str, float]], loss: TargetFit | None
) -> TargetFit:
    """Fit one target; loss: the fit of the dev loss of the same table, for laws of returns that go by way of it."""
    if len(cells.budgets) < 2:
        raise FitError(
            f"only one budget, {cells.budgets[0]:.3g} FLOPs, has a {cells.target} ({counted(len(cells.cost), 'cell')});"
            " a law needs at least 2 budgets to fit"
        )
    fewer = replicates_for(cells, replicates)
    try:
        surface = fit_surface(cells, rng, max(20, fewer))
    except FitError:
        surface = None
    at_budgets = cells.at_budgets()
    limits = _limits(at_budgets, limits)
    found = None if cells.isoflop else optimum_choice(at_budgets, surface, least_cost(limits))
    if found is not None:
        return TargetFit(at_budgets, [], found, surface, [], make_forecaster(found, [], surface, at_budgets, []))
    profiles = fit_profiles(at_budgets)
    steps = None if loss is None else steps_of(loss.choice, at_budgets.budgets, rng, replicates)
    choice = choose(
        replace(frontier_of(at_budgets, profiles), loss=steps), rng, replicates,
        about(profiles), limits,
    )  # fmt: skip
    exponents = fit_exponents(at_budgets, profiles, rng, fewer)
    forecaster = make_forecaster(choice, exponents, surface, at_budgets, profiles)
    return TargetFit(at_budgets, profiles, choice, surface, exponents, forecaster)


def frontier_of(cells: Cells, profiles: Sequence[Profile]) -> Frontier:
    """Return the frontier of the best cells of profiles."""
    cost, noise = (np.array([getattr(p, name) for p in profiles]) for name in ("argmin_cost", "noise"))
    return Frontier(cells.target, cells.budgets, cost, noise, tuple(profiles))


def steps_of(loss: Choice, flops: np.ndarray, rng: np.random.Generator, replicates: int) -> LossSteps | None:
    """Return the dev loss and its laws at the budgets of the returns; None where one of them has no dev loss.

    From these budgets alone, so that an origin of the backtest is the same number of budgets for both.
    """
    if loss.tested is None:
        return None
    own = loss.tested.frontier
    at = np.abs(np.log(own.flops[:, None] / flops)).argmin(axis=0)
    if np.any(np.abs(np.log(own.flops[at] / flops)) > np.log(SAME_BUDGET)) or len(np.unique(at)) < len(at):
        return None
    if len(at) == len(own.flops):
        return loss_steps(loss)
    profiles = tuple(own.profiles[i] for i in at) if own.profiles else ()
    part = replace(own, flops=own.flops[at], cost=own.cost[at], noise=own.noise[at], profiles=profiles)
    return loss_steps(choose(part, rng, replicates, about(profiles)))


def about(profiles: Sequence[Profile]) -> tuple[float, int]:
    """Return the residual sum of squares and degrees of freedom of cells about their parabolas."""
    return sum(p.rss for p in profiles), sum(p.degrees for p in profiles)


def _limits(cells: Cells, limits: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the known largest returns, above the offset. An expert that an agent has passed is no limit."""
    if cells.target != "return_mean":
        return []
    best = float(cells.value(cells.cost).max())
    return [(name, value - cells.offset) for name, value in limits if value > best or name == LARGEST_RETURN]
