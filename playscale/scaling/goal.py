"""The compute at which a target return (an expert's, a human's) is forecast to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.exponents import Exponent
from playscale.scaling.forecast import Forecaster
from playscale.scaling.numbers import count, number

# How far beyond the last fitted budget it is looked for, in decades, and the steps of a decade.
DECADES, STEPS = 12, 100


@dataclass(frozen=True)
class Goal:
    """flops: where the law reaches the return, None where it does not; params and samples: recommended there.

    low, high: the budgets between which the 95 % prediction interval holds the return; None: not within 12 decades; low
    also where it is not above the smallest budget fitted.
    at_smallest: the law reaches it at the smallest budget fitted, `flops`; what less compute gives was not measured.
    params_low, ..., samples_high: what is recommended from the one to the other, with the 95 % interval of that law at
    each end; None where an end, or the law's interval, is missing. params_note: as of a Forecast.
    """

    name: str
    value: float
    flops: float | None
    low: float | None
    high: float | None
    params: float | None
    samples: float | None
    text: str
    params_low: float | None = None
    params_high: float | None = None
    samples_low: float | None = None
    samples_high: float | None = None
    params_note: str | None = None
    at_smallest: bool = False


def reach(name: str, value: float, forecaster: Forecaster, rng: np.random.Generator) -> Goal:
    """Find where the forecast of the return, and each end of its interval, first reaches `value`."""
    choice = forecaster.choice
    first, last = choice.law.first, choice.law.last
    goal = forecaster.cost(value)
    flops = np.geomspace(first, last * 10.0**DECADES, int(STEPS * (np.log10(last / first) + DECADES)))
    at, soonest, latest = (_crossing(flops, cost, goal) for cost in choice.predict(flops, rng))
    soonest = None if soonest == first else soonest
    text = _text(name, value, (at, soonest, latest), forecaster, last)
    if at is None:
        return Goal(name, value, None, soonest, latest, None, None, text + _plainly(value, forecaster, last))
    best = forecaster.at_flops([at], rng)[0]
    if at == first:
        return Goal(
            name, value, at, None, latest, best.params, best.samples, text,
            params_note=best.params_note, at_smallest=True,
        )  # fmt: skip
    return Goal(
        name, value, at, soonest, latest, best.params, best.samples, text,
        *_span(forecaster.params, soonest, latest), *_span(forecaster.samples, soonest, latest), best.params_note,
    )  # fmt: skip


def _plainly(value: float, forecaster: Forecaster, last: float) -> str:
    """Say where the plain power law, which has no ceiling, would reach the return."""
    law = None if forecaster.plain is None else forecaster.plain.law
    if law is None or law.exponent <= 0:
        return ""
    log_flops = (-forecaster.cost(value) - law.log_coefficient) / law.exponent
    if not np.log(last) < log_flops < np.log(last) + DECADES * np.log(10):
        return ""
    flops = float(np.exp(log_flops))
    sizes = zip(forecaster.recommended(flops), ("parameters", "samples"), strict=True)
    with_ = " and ".join(f"{count(size)} {what}" for size, what in sizes if size is not None)
    return (
        f"; a power law without a ceiling would reach it at {flops:.2g} FLOPs, {number(flops / last)} times the"
        f" largest fitted budget{f', with {with_}' if with_ else ''}"
    )


def _span(law: Exponent | None, soonest: float | None, latest: float | None) -> tuple[float | None, float | None]:
    """Return the range that a law recommends between two budgets, with its own interval at each of them."""
    spans = [None if law is None or end is None else law.law.interval_at(end) for end in (soonest, latest)]
    first, last = spans
    if law is None or law.law.exponent < 0:
        first, last = last, first
    return None if first is None else first[0], None if last is None else last[1]


def _crossing(flops: np.ndarray, cost: np.ndarray | None, goal: float) -> float | None:
    """Return the first budget whose cost is at most `goal`, between grid points by a line in logarithms."""
    if cost is None or not np.any(cost <= goal):
        return None
    i = int(np.argmax(cost <= goal))
    if i == 0:
        return float(flops[0])
    share = (cost[i - 1] - goal) / (cost[i - 1] - cost[i])
    return float(np.exp(np.log(flops[i - 1]) + share * np.log(flops[i] / flops[i - 1])))


def _text(name: str, value: float, at: Sequence[float | None], forecaster: Forecaster, last: float) -> str:
    reached, soonest, latest = at
    whose = f"a return of {value:,.6g}" + (f" ({name})" if name else "")
    if reached is None:
        end = forecaster.value(float(forecaster.choice.cost(last * 10.0**DECADES)[0]))
        text = f"{whose} is not reached under this law, which gives {end:,.4g} within {DECADES} decades of compute"
        return text if soonest is None else f"{text}; its 95 % interval reaches it from {soonest:.2g} FLOPs on"
    if reached == forecaster.choice.law.first:
        until = f" (95 %: at {latest:.2g} or less)" if latest not in (None, reached) else ""
        return f"{whose} is reached at the smallest budget fitted, {reached:.2g} FLOPs{until}"
    ends = (
        f"{soonest:.2g}" if soonest is not None else "no lower end",
        (f"{latest:.2g}" if latest is not None else "no upper end"),
    )
    beyond = f", {number(reached / last)} times the largest fitted budget" if reached > last else ""
    return f"{whose} is forecast to be reached at {reached:.2g} FLOPs (95 %: {ends[0]} to {ends[1]}){beyond}"
