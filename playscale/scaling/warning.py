"""Warnings about a fit, from a closed list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from playscale.points import Point, fitted_rows, row_of
from playscale.scaling.cells import ISOFLOP_BUDGETS, ISOFLOP_SIZES, Cells, Excluded, Reason
from playscale.scaling.isoflop import Profile
from playscale.scaling.numbers import count, counted, number
from playscale.scaling.powerlaw import LEVEL, PowerLaw

# Run-to-run scatter above which a single run per cell says little: of dev loss, of return.
HIGH_VARIANCE = {"dev_loss": 0.05, "return_mean": 0.25}
FAR = 10.0
# Width of an exponent's interval from which on it says nothing: the best size might as well stay as grow like compute.
UNKNOWN = 1.0
# Share of the scatter that rounding to the grid of sizes gives, below which best cells lie on a line by the grid alone.
BELOW_GRID = 0.03


class Code(StrEnum):
    """Kinds of warnings: a closed list."""

    MINIMUM_OUTSIDE = "minimum-outside-range"
    NOT_PARABOLIC = "profile-not-parabolic"
    LAW_BENDS = "law-bends"
    HIGH_VARIANCE = "high-variance"
    RETURN_NOT_RISING = "return-not-rising"
    EXTRAPOLATION = "extrapolation"
    EXPERT_FAR = "not-approaching-expert"
    TOO_FEW = "too-few"
    TARGET_ABSENT = "target-absent"
    DIVERGED = "diverged"
    SIZE_UNKNOWN = "best-size-unknown"
    GRID_DECIDES = "grid-decides"
    LAWS_DISAGREE = "laws-disagree"
    VERTEX_BIASED = "vertex-biased"
    OFFSET_FITTED = "offset-fitted"
    BROKEN = "far-from-neighbours"
    NO_ISOFLOP = "no-isoflop-table"
    REPEATED_DATA = "repeated-data"
    ROWS_TWICE = "rows-twice"
    RUN_TWICE = "run-twice"
    HELD_OUT_FITTED = "held-out-fitted"
    RUNS_MISSING = "runs-missing"
    NAME_MISSING = "name-missing"


@dataclass(frozen=True)
class Warned:
    code: Code
    text: str


def profile_warnings(cells: Cells, profiles: Sequence[Profile]) -> list[Warned]:
    """Warn about budgets without a usable vertex; name the sizes or runs that would give them one."""
    target, found = cells.target, []
    sizes = {p.flops: cells.params[cells.budgets[cells.budget] == p.flops] for p in profiles}
    sides = ((Reason.ABOVE_SIZES, "above", "2 and 4 times it"), (Reason.BELOW_SIZES, "below", "1/2 and 1/4 of it"))
    for reason, side, more in sides:
        at = [p for p in profiles if p.excluded is reason or (p.edge == side and p.cells >= 3)]
        if at:
            end, largest = (np.max, "largest") if side == "above" else (np.min, "smallest")
            last = {p.flops: f"{count(end(sizes[p.flops]))} parameters" for p in at}
            text = (
                f"{target}: the best size may lie {side} the trained ones at {_budgets(at, last)}; in brackets: the"
                f" {largest} size trained; train {more} at {_these(at)}"
            )
            found.append(Warned(Code.MINIMUM_OUTSIDE, text))
    wrong = [p for p in profiles if p.excluded is Reason.WRONG_CURVATURE]
    if wrong:
        text = f"{target}: the profile has no minimum (it curves the wrong way) at {_budgets(wrong)};"
        found.append(Warned(Code.NOT_PARABOLIC, text + " more sizes, repeats or episodes there would show one"))
    few = [p for p in profiles if p.excluded is Reason.FEW_CELLS]
    if few:
        text = f"{target}: fewer than 3 sizes within a factor 10 of the best at {_budgets(few)};"
        found.append(Warned(Code.NOT_PARABOLIC, text + f" train at least 3 sizes around it at {_these(few)}"))
    return found


def _these(profiles: Sequence[Profile]) -> str:
    return "these budgets" if len(profiles) > 1 else "this budget"


def _budgets(profiles: Sequence[Profile], notes: Mapping[float, str] | None = None) -> str:
    each = [f"{p.flops:.3g}" + (f" ({notes[p.flops]})" if notes else "") for p in profiles]
    shown = ", ".join(each[:6])
    more = f" and {len(profiles) - 6} more" if len(profiles) > 6 else ""
    return f"budget{'s' if len(profiles) > 1 else ''} {shown}{more} FLOPs"


def isoflop_warning(cells: Cells) -> list[Warned]:
    """Warn about a table without budgets at which several sizes were trained: a scatter, learning curves."""
    if cells.isoflop:
        return []
    text = (
        f"{cells.target}: this is no isoFLOP table: {why_no_isoflop(cells)}; power laws of best cells are not fitted,"
        " or not to be relied on; where there is a law of N and D, that one is; name the budgets with --budget-column"
        " if there are any"
    )
    return [Warned(Code.NO_ISOFLOP, text)]


def why_no_isoflop(cells: Cells) -> str:
    """Say why cells, one for each budget and size, are no isoFLOP table."""
    if not cells.separate:
        return "its runs are at no separate budgets, but at any compute (a scatter, or checkpoints of learning curves)"
    several = np.bincount(cells.budget) >= ISOFLOP_SIZES
    some = f"{several.sum()} of {counted(len(several), 'budget')} have {ISOFLOP_SIZES} sizes or more"
    return some if several.sum() < ISOFLOP_BUDGETS else f"{some}, and most cells are not at these"


def cell_warnings(cells: Cells) -> list[Warned]:
    """Repeats that scatter widely, and too few budgets for intervals."""
    found = []
    limit = HIGH_VARIANCE[cells.target]
    if cells.repeat_sd > limit:
        text = (
            f"{cells.target}: repeats of a cell scatter by {100 * cells.repeat_sd:.0f} %"
            f" (more than {100 * limit:.0f} %); differences between single runs of that size mean nothing; add seeds"
        )
        found.append(Warned(Code.HIGH_VARIANCE, text))
    if cells.offset_fitted:
        text = (
            f"{cells.target}: returns are counted from {cells.offset:.4g}, which is fitted to them, since the smallest"
            f" mean return, {cells.value(cells.cost.max()):.4g}, is not above zero or the --min-return given; if you"
            " know the smallest return of the game, give it as --min-return"
        )
        found.append(Warned(Code.OFFSET_FITTED, text))
    if len(cells.budgets) == 2:
        text = f"{cells.target}: 2 budgets give a power law without an interval; add a third budget"
        found.append(Warned(Code.TOO_FEW, text))
    return found


def size_warning(target: str, law: PowerLaw | None) -> list[Warned]:
    """Warn where the law that recommends sizes is too uncertain to recommend any."""
    if law is None or law.low is None or law.high is None or law.high - law.low <= UNKNOWN:
        return []
    text = (
        f"{target}: how the best size grows with compute is not known from these points (exponent {law.exponent:.2f},"
        f" 95 %: {law.low:.2f} to {law.high:.2f}); do not rely on the sizes recommended: add seeds, episodes or budgets"
    )
    return [Warned(Code.SIZE_UNKNOWN, text)]


def grid_warning(target: str, cells: Cells, law: PowerLaw | None) -> list[Warned]:
    """Warn where the sizes of the best cells lie on a line far more closely than the grid of sizes can show.

    law: of the best cells' sizes. Were the best sizes anywhere between those trained, the nearest one would be off by
    up to half a step of the grid: a scatter of a step over the root of 12.
    """
    if law is None or law.n < 3:
        return []
    steps = [np.diff(np.unique(np.log(cells.params[cells.budget == i]))) for i in range(len(cells.budgets))]
    step = float(np.median(np.concatenate(steps))) if any(map(len, steps)) else 0.0
    scatter = float(np.sqrt(np.mean(np.square(law.residuals))))
    if scatter >= BELOW_GRID * step / np.sqrt(12):
        return []
    text = (
        f"{target}: the grid of sizes decides how the best cells' size grows (exponent {law.exponent:.3f}): they lie"
        f" on a line to within {100 * max(np.expm1(scatter), 1e-3):.2g} %, where neighbouring sizes are a factor"
        f" {np.exp(step):.2g} apart; the interval of this exponent says nothing; train sizes between them"
    )
    return [Warned(Code.GRID_DECIDES, text)]


def bend_warning(target: str, log_flops: np.ndarray, cost: np.ndarray) -> list[Warned]:
    """Warn where the exponents of the lower and the upper half of the budgets differ (t test, 5 %)."""
    if len(cost) < 6:
        return []
    half = len(cost) // 2
    lower, upper = (stats.linregress(log_flops[part], cost[part]) for part in (slice(0, half), slice(half, None)))
    gap, error = abs(lower.slope - upper.slope), float(np.hypot(lower.stderr, upper.stderr))
    if not gap > stats.t.ppf((1 + LEVEL) / 2, len(cost) - 4) * error or gap < 0.01:
        return []
    text = (
        f"{target}: the power law bends: exponent {abs(lower.slope):.3f} over the lower half of the budgets,"
        f" {abs(upper.slope):.3f} over the upper half; do not extrapolate the plain power law"
    )
    return [Warned(Code.LAW_BENDS, text)]


def return_warning(points: Sequence[Point]) -> list[Warned]:
    """Warn where better dev loss does not go with better return (Spearman, one-sided 5 %)."""
    measured = [p for p in points if p.dev_loss is not None and p.return_mean is not None and not p.diverged]
    both = [(p.dev_loss, p.return_mean) for p in measured]
    if len(both) < 4:
        return []
    loss, ret = (np.array(column, dtype=float) for column in zip(*both, strict=True))
    if np.ptp(loss) == 0 or np.ptp(ret) == 0:
        rank, p = 0.0, 1.0
    else:
        rank, p = stats.spearmanr(-loss, ret, alternative="greater")
    if p <= 0.05:
        return []
    text = (
        f"return_mean does not rise as dev_loss falls (rank correlation {rank:.2f} over {len(both)} points);"
        " play more episodes or train at larger budgets before trusting a forecast of the return"
    )
    return [Warned(Code.RETURN_NOT_RISING, text)]


def twice_warnings(given: Sequence[Point], points: Sequence[Point]) -> list[Warned]:
    """Warn about rows that stood in the table twice, `points` being the others, and about runs with differing rows."""
    found, fitted = [], fitted_rows(given)
    copies = sum(p.held_out and row_of(p) in fitted for p in given)
    if copies:
        text = (
            f"{counted(copies, 'held-out row')} {'is' if copies == 1 else 'are'} the same as a fitted one in all"
            " columns but split, and left out: what was fitted is no test of a forecast; keep one of the two"
        )
        found.append(Warned(Code.HELD_OUT_FITTED, text))
    if dropped := len(given) - len(points) - copies:
        text = (
            f"{counted(dropped, 'row')} of the table {'is' if dropped == 1 else 'are'} the same as another one in every"
            " column, and counted once; if they are measurements of their own, tell them apart by a column seed"
        )
        found.append(Warned(Code.ROWS_TWICE, text))
    rows = Counter(
        (target, p.run, p.seed, p.digest, p.params, p.flops)
        for p in points for target in HIGH_VARIANCE if p.run and getattr(p, target) is not None
    )  # fmt: skip
    if twice := [f"{run} at {flops:.3g} FLOPs" for (_, run, *_, flops), count in rows.items() if count > 1]:
        text = f"rows of the same run, size and compute differ, and count as repeats: {_first([*dict.fromkeys(twice)])}"
        text += "; keep one of them, or name the runs or their seeds apart"
        found.append(Warned(Code.RUN_TWICE, text))
    return found


def game_warning(points: Sequence[Point]) -> list[Warned]:
    """Warn about rows that name no game where others name the one game of the table."""
    (game, *_) = sorted({point.game for point in points if point.game}) or [""]
    unnamed = sum(not point.game for point in points)
    return unnamed_warning("game", unnamed, len(points), f"are taken for rows of {game}") if game else []


def unnamed_warning(column: str, unnamed: int, rows: int, use: str) -> list[Warned]:
    """Warn about rows that name no game or method, where others do."""
    if not unnamed:
        return []
    text = f"{unnamed} of {counted(rows, 'row')} name no {column}, and {use}; fill in the column {column} in every row"
    return [Warned(Code.NAME_MISSING, text)]


def diverged_warning(points: Sequence[Point]) -> list[Warned]:
    """Warn about points that are left out because their training diverged, or had only begun."""
    diverged = [p for p in points if p.diverged]
    learned: dict[str, float] = {}  # the largest budget at which a run was well
    for p in points:
        if p.run and not p.diverged:
            learned[p.run] = max(p.flops, learned.get(p.run, 0.0))
    begun = [p for p in diverged if p.flops < learned.get(p.run, 0.0)]
    groups = (
        ([p for p in diverged if p not in begun], "training diverged", "lower the learning rate"),
        (
            begun,
            "training had not learned enough yet, of runs that did at larger budgets",
            "give such sizes no budget so small",
        ),
    )
    return [
        Warned(Code.DIVERGED, f"{why}, so these points are left out ({_first([_left_out(p) for p in own])}); {remedy}")
        for own, why, remedy in groups
        if own
    ]


def _left_out(point: Point) -> str:
    return f"{point.run or count(point.params) + ' parameters'} at {point.flops:.3g} FLOPs: {point.diverged}"


def missing_warning(lacks: Mapping[str, str]) -> list[Warned]:
    """Warn about planned runs whose points are not in the table, or not all; lacks: what they lack, by run."""
    if not lacks:
        return []
    each = "; ".join(f"{name}: {what}" for name, what in lacks.items())
    text = f"{counted(len(lacks), 'planned run')} without all points: {each}; run or submit the study again to add them"
    return [Warned(Code.RUNS_MISSING, text)]


def broken_warning(target: str, excluded: Sequence[Excluded]) -> list[Warned]:
    """Warn about points that are left out because they, or their samples, are far from their neighbours."""
    return [
        Warned(Code.BROKEN, f"{target}: left out, since {why}: {_first(rows)}; {remedy}")
        for why, rows, remedy in (
            (
                "far from their neighbours in size and compute",
                [f"{_run(e)}: {e.value:.4g}" for e in excluded if e.reason is Reason.BROKEN],
                "look at these runs, and train them again if they diverged",
            ),
            (
                "samples do not fit size and compute as those of the other rows do",
                [_run(e) for e in excluded if e.reason is Reason.SAMPLES],
                "correct the column samples",
            ),
        )
        if rows
    ]


def _run(point: Excluded) -> str:
    return f"{point.run or f'{count(point.params or 0)} parameters'} at {point.flops:.3g} FLOPs"


def _first(rows: Sequence[str]) -> str:
    """Name the first three rows and count the others."""
    return "; ".join(rows[:3]) + (f", and {len(rows) - 3} more" if len(rows) > 3 else "")


def extrapolation_warning(first: float, last: float, flops: Sequence[float]) -> list[Warned]:
    """Warn about forecasts to more than FAR times the largest fitted budget, or less than 1/FAR of the smallest."""
    above = [c for c in flops if c > FAR * last * (1 + 1e-9)]
    below = [c for c in flops if c < first / FAR * (1 - 1e-9)]
    reach = [
        (above, f"reach up to {number(max(above, default=last) / last)} times the largest fitted budget ({last:.3g})"),
        (below, f"lie up to {number(first / min(below, default=first))} times below the smallest one ({first:.3g})"),
    ]
    each = [
        f"forecasts to {', '.join(dict.fromkeys(f'{c:.3g}' for c in far))} FLOPs {how}" for far, how in reach if far
    ]
    rule = f"beyond {FAR:g} times, the form of the law decides more than the data"
    return [Warned(Code.EXTRAPOLATION, f"{text}; {rule}") for text in each]


def goal_warning(last: float, goals: Sequence[tuple[str, float]]) -> list[Warned]:
    """Warn about returns reached more than FAR times beyond the largest fitted budget; goals: (name, flops)."""
    far = [f"{name} at {number(flops / last)} times" for name, flops in goals if flops > FAR * last * (1 + 1e-9)]
    if not far:
        return []
    text = (
        f"target returns are reached far beyond the largest fitted budget ({last:.3g} FLOPs): {', '.join(far)} it;"
        " nothing measured shows that the law holds so far, and its interval is valid only if it does"
    )
    return [Warned(Code.EXTRAPOLATION, text)]


def expert_warning(reached: float, high: float | None, flops: float, expert: float, offset: float) -> list[Warned]:
    """Warn where the best return is below half of the expert's, and the law below the expert's at `flops`."""
    if reached - offset >= (expert - offset) / 2 or high is None or high >= expert:
        return []
    text = (
        f"agents are not approaching the expert: the best return is {reached:.3g} of its {expert:.3g}, and by"
        f" {flops:.3g} FLOPs the law gives at most {high:.3g}"
    )
    return [Warned(Code.EXPERT_FAR, text)]
