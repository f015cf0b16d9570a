"""The forecasts of a budget by the laws of a study, and the agents to train for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from playscale.agents.policy import PolicyConfig
from playscale.config import (
    CLONE_OF_STUDY,
    LARGEST_SIZE,
    METHODS,
    MOST_GAMES,
    SMALLEST_SIZE,
    Seed,
    TrainConfig,
    budget_name,
    normal_size,
    parse_budget,
)
from playscale.corpus.corpus import Corpus
from playscale.points import FORECAST, Point, Reference, with_forecasts
from playscale.scaling.cells import OPTIONS, SAME_COMPUTE, SAME_SIZE, TARGETS, Target
from playscale.scaling.fit import Fit
from playscale.scaling.forecast import Forecast
from playscale.scaling.gpu import hardware
from playscale.scaling.numbers import count
from playscale.study.analysis import fit_study
from playscale.study.costs import CellCost, GpuPace, cell_costs
from playscale.study.plan import Plan, PlannedCell, plan_grid, trained_policy
from playscale.study.spec import StudySpec

NEAR = (1.0, 0.97, 1.03, 0.94, 1.06, 0.91, 1.1)  # factors at which a size is sought that an agent can have
RELATIVE_SE = 0.1  # of a mean return: enough episodes for a standard error of this share
MOST_EPISODES = 10  # times as many as the study's agents play

Value = TypeVar("Value")


@dataclass(frozen=True)
class Asked:
    """The budget and the targets to be forecast.

    Attributes:
        budget: Training FLOPs.
        targets: What of its best agent; none: all that the study has laws of.
        method: The method that trains it.
        seeds: Seeds of the agents: one run for each.
        episodes: How many episodes an agent plays; None: as many as are enough.
        include_forecasts: Whether the agents of earlier forecasts are fitted, too.
    """

    budget: float
    targets: tuple[Target, ...]
    method: str
    seeds: tuple[int, ...]
    episodes: int | None
    include_forecasts: bool

    @classmethod
    def of(cls, spec: StudySpec, options: Mapping[str, Any]) -> Asked:
        """Read the options of `playscale study forecast`; ValueError, which names the option, for a bad one."""
        return cls(
            _read("--budget", options["budget"], parse_budget),
            tuple(_read("--for", name, _target) for name in _listed("--for", options["targets"])),
            _read("--method", options["method"], lambda name: _method(spec, name)),
            tuple(_read("--seeds", seed, _seed) for seed in _listed("--seeds", options["seeds"])) or spec.seeds,
            _read("--episodes", options["episodes"], _episodes) if options["episodes"] else None,
            bool(options["include_forecasts"]),
        )


def _read(option: str, text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def _listed(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{option}: {twice} is given twice")
    return names


def _target(name: str) -> Target:
    if name not in OPTIONS:
        raise ValueError(f"{name!r} is unknown: what can be forecast is {', '.join(OPTIONS)}")
    return OPTIONS[name]


def _method(spec: StudySpec, name: str) -> str:
    """Return the method whose agents are forecast: as given, else the study's only one."""
    if name and name not in spec.method:
        raise ValueError(f"{name!r} is no method of this study, which has {', '.join(spec.method)}")
    if not name and len(spec.method) > 1:
        raise ValueError(f"the study has several methods; give one of {', '.join(spec.method)}")
    found = name or spec.method[0]
    if METHODS[found].has_teacher and spec.rl is not None and spec.rl.teacher == CLONE_OF_STUDY:
        others = ", ".join(name for name in spec.method if name != found)
        raise ValueError(
            f"{found} cannot be forecast in this study: its teacher would be a clone of the size that is forecast, "
            f"which nobody has trained; name another method: {others}"
        )
    return found


def _seed(text: str) -> int:
    try:
        return TypeAdapter(Seed).validate_python(int(text))
    except (ValueError, ValidationError) as error:
        raise ValueError(f"{text!r} is no seed, which is a whole number from 0 on") from error


def _episodes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_GAMES:
        raise ValueError(f"{text!r} is no number of episodes from 1 to {MOST_GAMES:,}")
    return int(text)


@dataclass(frozen=True)
class Recommended:
    """The agent that the laws recommend for a budget, by its forecast for one target.

    Attributes:
        forecast: Its forecast, with the law's own params and samples, if it recommends any.
        why: Why the law was chosen.
        params: The number of parameters that is sought.
        note: Where that number comes from, if not from the law as it is.
    """

    forecast: Forecast
    why: str
    params: float
    note: str


@dataclass(frozen=True)
class ForecastPlan:
    """The forecasts of a budget, and the agents for it.

    Attributes:
        asked: What was asked.
        fit: The laws that forecast.
        points: The points that they are fitted to.
        recommended: One for each target.
        sizes: The size of the agent for each target, as in specs.
        grid: The runs of these agents, and their cells.
        episodes: How many episodes each of them plays.
        spec: The study's specification.
    """

    asked: Asked
    fit: Fit
    points: Sequence[Point]
    recommended: Mapping[Target, Recommended]
    sizes: Mapping[Target, str]
    grid: Plan
    episodes: int
    spec: StudySpec

    def costs(self) -> dict[str, CellCost]:
        """Return the cost of each run, with its hours where the study names a GPU."""
        given = self.spec.hardware
        pace = GpuPace(hardware(given.gpu, given.utilisation)) if given else None
        return {name: cell_costs(run, self.spec.game, pace)[0] for name, run in self.grid.runs.items()}

    def cell_of(self, target: Target) -> PlannedCell:
        """Return the cell of a target's agent, of the first seed."""
        return next(cell for cell in self.grid.cells if cell.size == self.sizes[target])

    def runs_of(self, target: Target) -> list[str]:
        """Return the names of the runs of a target's agent, one for each seed."""
        return [name for name, run in self.grid.runs.items() if run.size == self.sizes[target]]


def plan_forecast(
    spec: StudySpec,
    table: Sequence[Point],
    references: Sequence[Reference],
    asked: Asked,
    corpus: Corpus | None,
    registered: Mapping[Target, float],
) -> ForecastPlan:
    """Fit the laws, and plan the agents that they recommend.

    Args:
        spec: The study's specification.
        table: Its points.
        references: What its agents are compared with, in return.
        asked: What is to be forecast.
        corpus: The expert play that clones learn from.
        registered: The parameters of forecasts that are registered already, by target.

    Raises:
        ValueError: There are no laws, the budget is one of those fitted, or no agent can be trained with it.
    """
    points = points_to_fit(table, asked)
    ahead = spec.model_copy(update={"forecast": (asked.budget,)})
    (fitted,) = fit_study(ahead, points, references, {}).fits.values()
    recommended = {target: _recommended(fitted, target, asked.budget) for target in _targets(fitted, asked)}
    rl = _settings(spec, asked, "10k").rl
    sought = {target: registered.get(target, one.params) for target, one in recommended.items()}
    sizes = {
        target: trained_size(points, params)
        or near_size(params, lambda size: trained_policy(size, spec.core, rl, spec.game))
        for target, params in sought.items()
    }
    runs = [_settings(spec, asked, size, seed) for size in dict.fromkeys(sizes.values()) for seed in asked.seeds]
    grid = plan_grid(spec.game, {run.run_name: run for run in runs}, corpus)
    if lost := next((cell for cell in grid.cells if cell.reason), None):
        raise ValueError(f"--budget: {budget_name(asked.budget)} gives {lost.reason} at size {lost.size}")
    episodes = asked.episodes or enough_episodes(points, spec.evaluate.episodes)
    return ForecastPlan(asked, fitted, points, recommended, sizes, grid, episodes, spec)


def points_to_fit(table: Sequence[Point], asked: Asked) -> list[Point]:
    """Return the points of a study's table that forecasts rest on.

    Raises:
        ValueError: There are none, or the budget is not beyond theirs.
    """
    own = [point for point in table if point.method == asked.method and not point.varied]
    points = [point for point in (with_forecasts(own) if asked.include_forecasts else own) if not point.held_out]
    if not points:
        raise ValueError(f"the study has no point of {asked.method} to fit: run it first")
    largest = max(point.flops for point in points)
    if asked.budget <= largest * SAME_COMPUTE:
        raise ValueError(
            f"--budget: {budget_name(asked.budget)} is not beyond the largest budget that is fitted, "
            f"{budget_name(largest)}: there is nothing to forecast"
        )
    return points


def is_known(table: Sequence[Point], asked: Asked) -> bool:
    """Return whether an outcome at the budget or a larger one was measured before any forecast of it."""
    own = [point for point in table if point.method == asked.method and not point.extra.get(FORECAST)]
    return any(point.flops * SAME_COMPUTE >= asked.budget for point in own)


def _settings(spec: StudySpec, asked: Asked, size: str, seed: int = 0) -> TrainConfig:
    """Return the run of an agent: the study's settings, another size, and the one budget, held out."""
    alone = spec.model_copy(update={"sizes": (size,), "method": (asked.method,), "seeds": (seed,), "cells": ()})
    (run,) = alone.recipe_runs().values()
    return run.model_copy(update={"budgets": (asked.budget,), "held_out": (asked.budget,)})


def _targets(fitted: Fit, asked: Asked) -> list[Target]:
    """Return the targets to forecast; ValueError for one that has no law."""
    for target in asked.targets:
        if target not in fitted.targets:
            why = next((warned.text for warned in fitted.warnings if warned.text.startswith(target)), "it has no law")
            raise ValueError(f"--for: {why}")
    return [target for target in TARGETS if target in (asked.targets or fitted.targets)]


def _recommended(fitted: Fit, target: Target, budget: float) -> Recommended:
    (forecast,) = [row for row in fitted.forecasts if row.target == target and row.flops == budget]
    choice, cells = fitted.targets[target].choice, fitted.targets[target].cells
    params, note = forecast.params, forecast.params_note or ""
    if params is None or not math.isfinite(params):
        last = cells.budget == len(cells.budgets) - 1
        params = float(cells.params[last][cells.cost[last].argmin()])
        note = "no law recommends a size: this is the best at the largest budget"
    if not SMALLEST_SIZE <= params <= LARGEST_SIZE:
        note = f"the law recommends {count(params)}; agents have from 8k to 1B"
        params = min(max(params, SMALLEST_SIZE), LARGEST_SIZE)
    return Recommended(forecast, choice.why, params, note)


def trained_size(points: Sequence[Point], params: float) -> str:
    """Return the size of the study that has this number of parameters; "" for none."""
    return next((p.size for p in points if 1 / SAME_SIZE <= p.params / params <= SAME_SIZE), "")


def near_size(params: float, policy_of: Callable[[str], PolicyConfig]) -> str:
    """Return the size, as in specs, nearest to a number of parameters that a policy can have; ValueError for none.

    Args:
        params: The number that is sought.
        policy_of: Returns the policy of a size; raises ValueError where there is none.
    """
    error = ValueError("no such size")
    for factor in NEAR:
        try:
            size = normal_size(str(round(float(f"{params * factor:.3g}"))))
            policy_of(size)
        except ValueError as failed:
            error = failed
        else:
            return size
    raise ValueError(f"no agent has about the {count(params)} parameters that are recommended: {error}")


def enough_episodes(points: Sequence[Point], least: int) -> int:
    """Return the episodes that bring the standard error of a mean return to RELATIVE_SE of it, at least `least`.

    The scatter of single episodes is that of the points near the largest budget. There are at most MOST_EPISODES times
    `least`: a return near zero would take any number.
    """
    rows = [p for p in points if p.return_mean and p.return_se and p.episodes]
    last = max((p.flops for p in rows), default=0.0)
    shares = sorted(
        abs(p.return_se / p.return_mean) * math.sqrt(p.episodes)  # type: ignore[operator, arg-type]
        for p in rows
        if p.flops * SAME_COMPUTE >= last
    )
    needed = math.ceil(round((shares[len(shares) // 2] / RELATIVE_SE) ** 2, 6)) if shares else least
    return min(max(least, needed), MOST_EPISODES * least, MOST_GAMES)
