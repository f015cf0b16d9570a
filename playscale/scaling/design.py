"""The runs that narrow the forecast at a target compute most for a spend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from playscale.points import Point, PointTable, as_points
from playscale.scaling import numbers
from playscale.scaling.cells import TARGETS, FitError, Target, cost_of
from playscale.scaling.columns import Columns, columns_of
from playscale.scaling.exchange import SHARES, RunSet, Search
from playscale.scaling.fit import REPLICATES, Fit, fit
from playscale.scaling.forecast import Forecast
from playscale.scaling.gpu import Hardware
from playscale.scaling.optimum import OptimumLaw
from playscale.scaling.outlook import Outlook, make_outlook
from playscale.scaling.parametric import compute_of
from playscale.scaling.verdict import Answer
from playscale.shown import Shown
from playscale.storage.files import write_json

LEAST_GAIN = 0.01  # of the width of an interval: less is no reason to run anything
NEAR = 0.2  # of the logarithm of a size: as near as sizes are chosen
EPISODES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of a new agent, over those of the agents so far


@dataclass(frozen=True)
class ProposedRun:
    """Runs of one size that differ in their seed alone.

    Attributes:
        params: model size.
        flops: largest budget, in training FLOPs.
        budgets: those that get a checkpoint, rising, of which `flops` is the last.
        samples: transitions that the largest budget pays for; None where the table's samples do not tell.
        seeds: how many runs there are.
        episodes: of each checkpoint's agent; None where no return is forecast.
        cost: FLOPs of all seeds: their largest budget, and their episodes where these have a rate.
        wider: how much wider the interval would be without one of them, 0.1 for 10 %.
        purpose: what they are for, in words.
    """

    params: float
    flops: float
    budgets: tuple[float, ...]
    samples: float | None
    seeds: int
    episodes: int | None
    cost: float
    wider: float
    purpose: str


@dataclass(frozen=True)
class ExpectedForecast:
    """The forecast of one target as it is, as expected after the runs proposed, and after those of today's sizes.

    Attributes:
        width: expected width of the interval (of the logarithm) over that of now; same_width: with today's sizes.
    """

    target: Target
    flops: float
    value: float
    low: float | None
    high: float | None
    width: float
    low_after: float | None
    high_after: float | None
    same_width: float
    same_low_after: float | None
    same_high_after: float | None


@dataclass(frozen=True)
class Design(Shown):
    """The result of `design`. `to_dict` is design.json, whose fields docs/scaling.md lists.

    Attributes:
        target_flops: compute of the forecast that is to be narrowed.
        spend: FLOPs that there are; spent: those that the runs take.
        runs: the runs proposed, those of the largest budget first.
        forecasts: of each target: now, expected after the runs, and after the same spend on today's sizes.
        same_sizes: these runs of today's sizes at the next budget.
        notes: what to know of the proposal.
        usual_episodes: of the agents so far; None where no return is forecast.
        hardware: GPU that hours are given for.
    """

    target_flops: float
    spend: float
    spent: float
    runs: tuple[ProposedRun, ...]
    forecasts: tuple[ExpectedForecast, ...]
    same_sizes: tuple[ProposedRun, ...]
    notes: tuple[str, ...]
    usual_episodes: int | None = None
    hardware: Hardware | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return design.json: plain JSON types, null for every number that does not exist."""
        rows = {name: [self._run(run) for run in getattr(self, name)] for name in ("runs", "same_sizes")}
        whole: dict[str, Any] = {"target_flops": self.target_flops, "spend": self.spend, "spent": self.spent}
        whole |= {"usual_episodes": self.usual_episodes}
        named = None
        if self.hardware is not None:
            named = {"name": self.hardware.gpu.name, "utilisation": self.hardware.utilisation}
        forecasts = [dict(row.__dict__) for row in self.forecasts]
        return whole | rows | {"forecasts": forecasts, "notes": list(self.notes), "hardware": named}

    def _run(self, run: ProposedRun) -> dict[str, Any]:
        hours = None if self.hardware is None else self.hardware.hours(run.flops * run.seeds)
        return run.__dict__ | {"budgets": list(run.budgets), "gpu_hours": hours}

    def table(self, name: str) -> Columns:
        """Return a list of design.json as columns {name: array}; a number that does not exist is NaN.

        Args:
            name: runs, forecasts or same_sizes.

        Raises:
            ValueError: design.json has no such list.
        """
        return columns_of(self.to_dict(), name)


def design(
    points: PointTable,
    target_flops: float,
    spend: float,
    seed: int = 0,
    *,
    targets: Sequence[Target] = TARGETS,
    episode_flops: tuple[float, float] = (0.0, 0.0),
    sizes: tuple[float, float] = (0.0, math.inf),
    expert_return: float | None = None,
    max_return: float | None = None,
    min_return: float | None = None,
    budget_column: str | None = None,
    hardware: Hardware | None = None,
    replicates: int = REPLICATES,
) -> Design:
    """Return the runs that narrow the forecast at a target compute most for a spend.

    The laws are fitted as `fit` does. Their draws say how much a budget that is measured would narrow the forecast
    (`playscale.scaling.outlook`), and exchanges find the runs (`playscale.scaling.exchange`). docs/scaling.md describes
    both, and how well the expectation holds on planted laws.

    Args:
        points: a table of one method in one game, as for `fit`. Held-out points are not counted.
        target_flops: compute of the forecast, in training FLOPs, beyond the largest budget fitted.
        spend: FLOPs that the new runs may take. A run costs its largest budget; its smaller checkpoints come free.
        seed: of the draws; the same seed gives the same result.
        targets: what is forecast: dev_loss, return_mean, or both, which then count the same.
        episode_flops: what an episode takes: FLOPs, and FLOPs a parameter of the agent; by default nothing.
        sizes: the smallest and the largest size that can be trained.
        expert_return: as of `fit`.
        max_return: as of `fit`.
        min_return: as of `fit`.
        budget_column: as of `fit`.
        hardware: GPU to give hours for.
        replicates: as of `fit`.

    Raises:
        FitError: the target is not beyond the budgets, the spend pays more runs there than are proposed, the laws carry
            no forecast, or no run within the spend narrows it; one line says which.
    """
    target_flops, spend = _positive("target", target_flops), _positive("spend", spend)
    table = as_points(points)
    _check_ahead(table, target_flops)
    _check_spend(spend, target_flops)
    fitted = fit(
        table, [target_flops], seed=seed, expert_return=expert_return, max_return=max_return, min_return=min_return,
        budget_column=budget_column, hardware=hardware, replicates=replicates,
    )  # fmt: skip
    return next_runs(fitted, target_flops, spend, seed, targets=targets, episode_flops=episode_flops, sizes=sizes)


def next_runs(
    fitted: Fit, target_flops: float, spend: float, seed: int = 0, *, targets: Sequence[Target] = TARGETS,
    episode_flops: tuple[float, float] = (0.0, 0.0), sizes: tuple[float, float] = (0.0, math.inf),
) -> Design:  # fmt: skip
    """Return the runs to add to a fit that has a forecast at the target; see `design`."""
    outlooks, notes = _outlooks(fitted, target_flops, targets, np.random.default_rng([seed, 21]))
    held_out = {point.flops for point in fitted.points if point.held_out}
    if held_out:
        notes.append(
            f"{numbers.counted(len(held_out), 'held-out budget')} measured already: fitting them costs nothing"
        )
    usual = _usual_episodes(fitted.points) if any(o.forecast.target == "return_mean" for o in outlooks) else 0
    search = Search(outlooks, spend, usual, usual, episode_flops, tuple(held_out), sizes)
    tried = [search]
    if usual and any(episode_flops):
        tried = [replace(search, episodes=max(1, round(usual * share))) for share in EPISODES]
    search, plan = min(((one, one.best()) for one in tried), key=lambda pair: pair[1].score)
    if plan.score > math.log1p(-LEAST_GAIN):
        raise FitError(_too_little(spend, target_flops, search))
    same = replace(search, episodes=usual).as_before()
    if usual and not any(episode_flops):
        notes.append(f"{usual} episodes for each agent, as so far; no rate of theirs is given, so they cost nothing")
    pairs = [(one, plan.levels[i], same.levels[i]) for i, one in enumerate(outlooks)]
    more = search.episodes / usual if usual else 1.0
    return Design(
        target_flops, spend, plan.spent, tuple(_runs(search, plan)),
        tuple(_expected(o, o.width(own, plan.runs, more), o.width(old, same.runs)) for o, own, old in pairs),
        tuple(_runs(search, same)), tuple(notes), usual or None, fitted.hardware,
    )  # fmt: skip


def write_design(result: Design, path: str | Path) -> None:
    """Write design.json atomically."""
    write_json(Path(path), result.to_dict())


def _positive(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
    if not 0 < number < math.inf:
        raise FitError(f"{name}: {value!r} is no number of FLOPs above zero")
    return number


def _check_ahead(table: Sequence[Point], target_flops: float) -> None:
    largest = max((point.flops for point in table if not point.held_out and not point.varied), default=0.0)
    if target_flops <= largest:
        raise FitError(
            f"target: {target_flops:g} is not beyond the largest budget that is fitted, {largest:g}: there is nothing"
            " to forecast"
        )


def _check_spend(spend: float, target_flops: float) -> None:
    if spend > SHARES[-1] * target_flops:
        raise FitError(
            f"spend: {spend:g} FLOPs pay more than {SHARES[-1]} runs at the target, {target_flops:g}: train there, or"
            " give a smaller spend or a target further ahead"
        )


def _outlooks(
    fitted: Fit, target_flops: float, targets: Sequence[Target], rng: np.random.Generator
) -> tuple[list[Outlook], list[str]]:
    """Return what is known of each forecast; also say which targets have none, and why. FitError: none has one."""
    outlooks, lacks = [], []
    for target in targets:
        forecast = next((f for f in fitted.forecasts if (f.target, f.flops) == (target, target_flops)), None)
        why = _lacks(fitted, target, forecast)
        if why:
            lacks.append(f"{target}: {why}")
        elif forecast is not None:
            outlooks.append(make_outlook(fitted.targets[target], forecast, rng))
    if not outlooks:
        raise FitError("; ".join(lacks))
    return outlooks, lacks


def _lacks(fitted: Fit, target: Target, forecast: Forecast | None) -> str:
    """Say why the laws of a target cannot say what to run; "" where they can."""
    if forecast is None:
        return next((w.text.partition(": ")[2] for w in fitted.warnings if w.text.startswith(target)), "has no law")
    if isinstance(fitted.targets[target].choice.law, OptimumLaw):
        return "this is no isoFLOP table: train 3 sizes or more at each of several budgets first"
    verdict = fitted.verdicts[target]
    if verdict.level is Answer.NO:
        worst = next(ground.text for ground in verdict.grounds if ground.level is Answer.NO)
        return f"the laws cannot carry a forecast, which new runs could narrow: {worst}"
    if forecast.params is None or not any(p.curvature is not None for p in fitted.targets[target].profiles):
        return "the laws recommend no size: train sizes on both sides of the best one first"
    return "" if forecast.quantiles else "the forecast has no interval: train a third budget first"


def _usual_episodes(points: Sequence[Point]) -> int:
    played = [point.episodes for point in points if point.episodes and not point.held_out]
    return round(float(np.median(played))) if played else 0


def _too_little(spend: float, target_flops: float, search: Search) -> str:
    dear = 3 * float(search.budgets[-1]) * math.exp(search.step)
    return (
        f"spend: no runs of {spend:g} FLOPs in all narrow the forecast at {target_flops:g} by {100 * LEAST_GAIN:g} %;"
        f" three sizes at the next budget take {dear:.2g}"
    )


def _expected(one: Outlook, width: float, same_width: float) -> ExpectedForecast:
    now, (low, high), (same_low, same_high) = one.forecast, _ends(one, width), _ends(one, same_width)
    return ExpectedForecast(
        now.target, now.flops, now.value, now.low, now.high, width, low, high, same_width, same_low, same_high
    )  # fmt: skip


def _ends(one: Outlook, width: float) -> tuple[float | None, float | None]:
    """Return the interval of a forecast at another width; no ends where it has not both."""
    now, offset = one.forecast, one.cells.offset
    if now.low is None or now.high is None:
        return None, None
    at, low, high = (cost_of(now.target, value, offset) for value in (now.value, now.low, now.high))
    return float(one.cells.value(at + width * (low - at))), float(one.cells.value(at + width * (high - at)))


def _runs(search: Search, plan: RunSet) -> list[ProposedRun]:
    """Return the runs of a plan, those of the largest budget first."""
    places = ((int(i), int(level)) for i, level in zip(*np.nonzero(plan.runs), strict=True))
    return sorted((_run(search, plan, *place) for place in places), key=lambda row: (-row.flops, row.params))


def _run(search: Search, plan: RunSet, size: int, level: int) -> ProposedRun:
    fewer = plan.runs.copy()
    fewer[size, level] -= 1
    params, flops = float(plan.levels[0].sizes[size]), plan.levels[0].flops[: level + 1]
    useful = np.any([own.useful[size, : level + 1] for own in plan.levels], axis=0)
    seeds = int(plan.runs[size, level])
    return ProposedRun(
        params, float(flops[-1]), tuple(float(budget) for budget in flops[useful]),
        _samples(search.outlooks[0], params, float(flops[-1])), seeds, int(search.episodes) or None,
        float(seeds * plan.cost[size, level]), math.expm1(search.score(plan.levels, fewer) - plan.score),
        _purpose(search, plan, size, level),
    )  # fmt: skip


def _samples(one: Outlook, params: float, flops: float) -> float | None:
    """Return the samples that a budget pays for, by how compute goes with size and data in the table."""
    known = np.isfinite(one.cells.samples)
    columns = [np.log(column[known]) for column in (one.cells.params, one.cells.samples, one.cells.flops)]
    if known.sum() < 3:
        return None
    k0, k1, k2 = compute_of(*columns)
    return float(np.exp((np.log(flops) - k0 - k1 * np.log(params)) / k2)) if k2 > 0 else None


def _purpose(search: Search, plan: RunSet, size: int, level: int) -> str:
    """Say what a run is for."""
    flops, last = plan.levels[0].flops, float(search.budgets[-1])
    params, top = float(plan.levels[0].sizes[size]), float(flops[level])
    best = search.best_size(top)
    there = f"the best size expected at {numbers.budget(top)} FLOPs, {numbers.count(best)}"
    if abs(math.log(params / best)) <= NEAR:
        text = f"about {there}"
    else:
        side = "smaller" if params < best else "larger"
        text = f"{side} than {there}, which is measured only between two sizes"
    if top <= last:
        known = all(own.known[level] for own in plan.levels)
        return text + ("; one more measurement there" if known else "; trained sizes do not measure the best there yet")
    way = [float(c) for c in flops[:level] if c > last and abs(math.log(params / search.best_size(float(c)))) <= NEAR]
    return text + (f"; on its way about the best one of {numbers.budget(way[0])}" if way else "")
