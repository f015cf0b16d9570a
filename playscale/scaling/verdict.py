"""The verdict on a table: can it carry a forecast, in three levels, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from playscale.scaling.cells import count_sizes
from playscale.scaling.numbers import counted, number, off
from playscale.scaling.reach import reach_name, reach_of
from playscale.scaling.warning import Code, Warned, why_no_isoflop

if TYPE_CHECKING:
    from playscale.scaling.choice import Record
    from playscale.scaling.target_fit import TargetFit

# Budgets whose best size lies between those trained, and sizes: enough, and the fewest that show a law at all.
ENOUGH, FEWEST = 5, 3
# Sizes at a typical budget, from which on its best one is more than the middle of three.
SIZES = 4
# Share of past forecasts inside their 95 % intervals: as it should be, and where the intervals cannot be relied on.
HELD, FAILED = 0.85, 0.5
# Past forecasts from which on their share says something, and the median miss (a factor) from which on to take care,
# and from which on they say nothing.
MANY, MISSED, LOST = 5, 2.0, 3.0
FITTED = "; the laws of params and samples are fitted"
NO_BUDGETS = "it is of the best cells of budgets, and this is no isoFLOP table; the law of params and samples forecasts"
DOUBTS = {
    Code.LAWS_DISAGREE: "the laws differ in the size that they recommend",
    Code.SIZE_UNKNOWN: "how the best size grows is not known",
    Code.GRID_DECIDES: "the grid of sizes decides how the best cells' size grows",
}


class Answer(IntEnum):
    """An answer to whether a table, or one property of it, can carry a forecast."""

    YES = 0
    WITH_CARE = 1
    NO = 2

    @property
    def text(self) -> str:
        return ("yes", "with care", "no")[self]


@dataclass(frozen=True)
class Ground:
    """One property of a table, and whether it can carry a forecast."""

    level: Answer
    text: str


@dataclass(frozen=True)
class Verdict:
    """The answer for a table and one target, which is that of the weakest of its grounds."""

    grounds: tuple[Ground, ...]

    @property
    def level(self) -> Answer:
        return max(ground.level for ground in self.grounds)


def judge(result: TargetFit, warnings: Sequence[Warned], ahead: Sequence[float] = ()) -> Verdict:
    """Judge the table by its budgets, its sizes, its track record, and the doubts that were warned about.

    ahead: budgets that are forecast; where intervals that reached as far mostly failed, that is the first ground.
    """
    target = result.cells.target
    codes = {warned.code for warned in warnings if warned.text.startswith(f"{target}:")}
    doubts = [Ground(Answer.WITH_CARE, text) for code, text in DOUBTS.items() if code in codes]
    record = result.choice.record
    failed = _failed(record, float(result.cells.budgets[-1]), ahead)
    return Verdict(
        (*failed, *_grid(result), _track_record(record, bool(result.profiles), result.cells.offset), *doubts)
    )


def _failed(record: Sequence[Record], last: float, ahead: Sequence[float]) -> Iterator[Ground]:
    """Warn of forecasts about as far ahead as which, or at most, fewer than half of the past ones held."""
    groups: dict[float, list[bool]] = {}
    for row in record:
        groups.setdefault(reach_of(row.own.decades_ahead), []).append(row.own.inside)
    said: dict[float, float] = {}
    for flops in sorted(c for c in ahead if c > last):
        wanted = reach_of(float(np.log10(flops / last)))
        tested = [reach for reach in groups if reach <= wanted]
        if tested and np.mean(groups[max(tested)]) < FAILED:
            said.setdefault(max(tested), flops)
    for reach, flops in said.items():
        inside, far = groups[reach], reach == max(groups) and reach < reach_of(float(np.log10(flops / last)))
        yield Ground(
            Answer.WITH_CARE,
            f"{sum(inside)} of {len(inside)} past forecasts {reach_name(reach)} ahead"
            f"{', the furthest tested,' if far else ''} inside their 95 % interval: do not rely on the one at"
            f" {flops:.3g} FLOPs",
        )


def _grid(result: TargetFit) -> Iterator[Ground]:
    profiles, a_budget = result.profiles, np.bincount(result.cells.budget)
    count, sizes = len(a_budget), count_sizes(result.cells.params)
    if not result.cells.isoflop:
        fitted = "; there is no law of params and samples either" if result.surface is None else FITTED
        level = Answer.NO if result.surface is None else Answer.WITH_CARE
        yield Ground(level, f"no isoFLOP table: {why_no_isoflop(result.cells)}{fitted}")
    else:
        inner = sum(profile.excluded is None and profile.edge is None for profile in profiles)
        text = f"{inner} of {count} budgets have their best size between the smallest and the largest trained"
        yield Ground(max(_enough(inner), Answer.WITH_CARE if 2 * inner < count else Answer.YES), text)
    text = counted(sizes, "size") + (f", {np.median(a_budget):.2g} at a typical budget" if result.profiles else "")
    few = result.cells.isoflop and np.median(a_budget) < SIZES
    yield Ground(max(_enough(sizes), Answer.WITH_CARE if few else Answer.YES), text)


def _enough(number: int) -> Answer:
    return Answer.YES if number >= ENOUGH else Answer.WITH_CARE if number >= FEWEST else Answer.NO


def _track_record(record: Sequence[Record], at_budgets: bool, offset: float) -> Ground:
    """Judge the track record.

    at_budgets: forecasts are of the best cells of budgets, not by the law of N and D; offset: that of the returns.
    """
    if not record:
        why = "too few budgets to have forecast the later ones from the first" if at_budgets else NO_BUDGETS
        return Ground(Answer.WITH_CARE, f"no track record: {why}")
    held = sum(row.own.inside for row in record)
    missed = float(np.median([abs(row.own.error) for row in record]))
    text = f"{held} of {len(record)} past forecasts inside their 95 % interval, median miss {off(missed)}"
    text += f" of the return above {number(offset)}" if offset else ""
    share = held / len(record)
    if len(record) >= MANY and (share < FAILED or missed >= np.log(LOST)):
        return Ground(Answer.NO, text)
    sound = share >= HELD and len(record) >= MANY and missed < np.log(MISSED)
    return Ground(Answer.YES if sound else Answer.WITH_CARE, text)
