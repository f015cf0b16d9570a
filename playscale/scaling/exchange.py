"""The search for the runs that narrow forecasts most for a spend: brackets of sizes, then additions and exchanges.

A single run at a new budget measures nothing there: a best cell needs a smaller and a larger size beside it. So the
search begins with every bracket of 3 to 5 sizes at a new largest budget, and then adds, drops and exchanges runs while
that helps (exchange algorithms for optimal designs: Fedorov 1972). A run costs its largest budget and the play of its
checkpoints; the checkpoints at smaller budgets come free. Legend: I sizes, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.outlook import FAR_SIZE, Levels, Outlook

BRACKETS = (3, 4, 5)
STEP = math.sqrt(2.0)  # between candidate sizes
STEPS = range(-5, 5)  # of the candidate sizes about the best ones at the largest budget
SAME = 1.15  # a candidate nearer than this to a size trained is that size
SHARES = range(3, 9)  # runs that the largest budget may leave room for
OLD_LEVELS = 3  # at which runs may have checkpoints, beside those whose best is not measured
NEARBY = (2, 1)  # sizes and levels that an exchange moves a run by at most
KEPT = 2  # largest budgets whose brackets are exchanged further
# Relative change of the width from which on an addition or an exchange is worth it, and below which a run is dropped.
WORTH, DROPPED = 0.002, 0.01
NEAREST_LEVEL = 2 / 3  # of the usual step between budgets: how far beyond the largest one a new one is at least


@dataclass(frozen=True, eq=False)
class RunSet:
    """Runs [I, L]: how many of each size end at each level. levels: one for each outlook. score: mean ln width."""

    levels: tuple[Levels, ...]
    runs: np.ndarray
    cost: np.ndarray
    score: float

    @property
    def spent(self) -> float:
        return float(np.sum(self.runs * self.cost))


@dataclass(frozen=True, eq=False)
class Search:
    """The task: outlooks to narrow, FLOPs to spend, how many episodes each agent plays and their FLOPs.

    episode_flops: (of each episode, of each episode and parameter). episodes, usual: of a new agent, of those so far.
    taken: budgets that are held out; sizes: the smallest and the largest that can be trained.
    """

    outlooks: Sequence[Outlook]
    spend: float
    episodes: float = 0.0
    usual: float = 0.0
    episode_flops: tuple[float, float] = (0.0, 0.0)
    taken: tuple[float, ...] = ()
    sizes: tuple[float, float] = (0.0, math.inf)

    @property
    def budgets(self) -> np.ndarray:
        """The budgets trained so far, rising."""
        return np.unique(np.concatenate([one.cells.budgets for one in self.outlooks]))

    @property
    def target_flops(self) -> float:
        """The compute of the forecasts to narrow: no run is longer."""
        return self.outlooks[0].forecast.flops

    @property
    def step(self) -> float:
        """The usual step between budgets, a logarithm."""
        return float(np.median(np.diff(np.log(self.budgets))))

    def best_size(self, flops: float) -> float:
        """Return the best size, the geometric mean of those by each law."""
        return float(np.exp(np.mean(np.log(self.best_sizes(flops)))))

    def best_sizes(self, flops: float) -> np.ndarray:
        """Return the best size by each law."""
        return np.array([one.params.at(flops) for one in self.outlooks])

    def play(self, params: float) -> float:
        """Return the FLOPs of the episodes of one agent."""
        each, by_size = self.episode_flops
        return self.episodes * (each + by_size * params)

    def score(self, levels: Sequence[Levels], runs: np.ndarray) -> float:
        """Return the mean of the logarithms of the widths that are expected."""
        more = self.episodes / self.usual if self.usual and self.episodes else 1.0
        pairs = zip(self.outlooks, levels, strict=True)
        return float(np.mean([math.log(one.width(own, runs, more)) for one, own in pairs]))

    def run_set(self, sizes: np.ndarray, flops: np.ndarray, runs: np.ndarray, far: float = FAR_SIZE) -> RunSet:
        """Return runs with their cost and score; far: as of `Outlook.levels`."""
        levels = tuple(one.levels(sizes, flops, far) for one in self.outlooks)
        useful = np.any([own.useful for own in levels], axis=0)
        checkpoints = np.cumsum(useful, axis=1)
        play = np.array([self.play(float(size)) for size in sizes])
        return RunSet(levels, runs, flops + play[:, None] * checkpoints, self.score(levels, runs))

    def best(self) -> RunSet:
        """Return the best plan that is found within the spend."""
        begun = [self._bracket(top) for top in self._tops()]
        ahead = sorted((found for found in begun if found is not None), key=lambda found: found.score)[:KEPT]
        starts = ahead or [self._empty(float(self.budgets[-1]))]
        return min((self._exchanged(start) for start in starts), key=lambda found: found.score)

    def as_before(self) -> RunSet:
        """Return the plan of the same spend on the sizes of the largest budget at the next one, nearest to best first.

        Where the spend is more than all of them take, it goes on with other seeds.
        """
        last, cells = float(self.budgets[-1]), self.outlooks[0].cells
        flops = self._free(last * math.exp(self.step))
        sizes = np.unique(cells.params[cells.flops == cells.budgets[-1]])
        order = np.argsort(np.abs(np.log(sizes / self.best_size(flops))))
        runs, flops_of = np.zeros((len(sizes), 1)), np.array([flops])
        cost = flops + np.array([self.play(float(size)) for size in sizes])
        left = self.spend * (1 + 1e-9)
        runs[:, 0] = left // cost.sum()
        left %= cost.sum()
        for i in order:
            if cost[i] <= left:
                runs[i, 0] += 1
                left -= cost[i]
        return self.run_set(sizes, flops_of, runs, math.inf)

    def _tops(self) -> Iterator[float]:
        """Yield the new largest budgets that the spend pays several runs."""
        last = float(self.budgets[-1])
        seen = set()
        for share in SHARES:
            top = min(self.spend / share, self.target_flops)
            between = max(1, round(math.log(max(top / last, 1)) / self.step))
            top -= self.play(float(self.best_sizes(max(top, last)).max())) * between
            if top >= last * math.exp(NEAREST_LEVEL * self.step) and (free := self._free(top)) not in seen:
                seen.add(free)
                yield free

    def _free(self, flops: float) -> float:
        """Return a budget of two digits, at most the one given, that is no held-out one."""
        rounded = rounded_down(flops)
        return rounded_down(0.96 * rounded) if any(abs(rounded / t - 1) < 0.01 for t in self.taken) else rounded

    def _empty(self, top: float) -> RunSet:
        """Return a plan without runs: the last budgets so far, and those up to `top` at the usual steps."""
        last = float(self.budgets[-1])
        count = max(1, round(math.log(top / last) / self.step)) if top > last else 0
        ahead = [self._free(last * (top / last) ** (i / count)) for i in range(1, count)] + [top] * (count > 0)
        unknown = [budget for one in self.outlooks for budget in one.cells.budgets[~one.measured]]
        flops = np.unique([*unknown, *self.budgets[-OLD_LEVELS:], *ahead])
        sizes = self._sizes(top)
        return self.run_set(sizes, flops, np.zeros((len(sizes), len(flops))))

    def _sizes(self, top: float) -> np.ndarray:
        """Return candidate sizes about the best ones at `top`; one near to a size trained is that size."""
        best = self.best_sizes(top)
        least, most = self.sizes
        first = min(max(best.min() * STEP ** STEPS[0], least), most)
        last = max(min(best.max() * STEP ** STEPS[-1], most), first)
        wanted = np.geomspace(first, last, 1 + round(math.log(last / first) / math.log(STEP)))
        trained = np.unique(np.concatenate([one.cells.params for one in self.outlooks]))
        near = trained[np.argmin(np.abs(np.log(wanted[:, None] / trained)), axis=1)]
        close = np.abs(np.log(wanted / near)) < math.log(SAME)
        rounded = np.array([float(f"{size:.2g}") for size in wanted])
        return np.unique(np.where(close, near, rounded))

    def _bracket(self, top: float) -> RunSet | None:
        """Return the best plan of a few sizes at `top` alone; None where the spend pays none."""
        empty = self._empty(top)
        best = None
        for count in BRACKETS:
            for step in (1, 2, 3):
                for first in range(len(empty.runs) - (count - 1) * step):
                    runs = np.zeros_like(empty.runs)
                    runs[first : first + (count - 1) * step + 1 : step, -1] = 1
                    if np.sum(runs * empty.cost) <= self.spend * (1 + 1e-9):
                        plan = RunSet(empty.levels, runs, empty.cost, self.score(empty.levels, runs))
                        best = plan if best is None or plan.score < best.score else best
        return best

    def _exchanged(self, found: RunSet) -> RunSet:
        """Return the runs after the additions and exchanges that narrow the most, and without what narrows little."""
        for nearby in (self._with_one_more, self._with_one_moved):
            while (better := min(nearby(found), key=_score, default=found)).score < found.score - WORTH:
                found = better
        while (
            found.runs.any() and (fewer := min(self._with_one_less(found), key=_score)).score <= found.score + DROPPED
        ):
            found = fewer
        return found

    def _with_one_more(self, found: RunSet) -> Iterator[RunSet]:
        useful = np.any([own.useful for own in found.levels], axis=0)
        for place in zip(*np.nonzero(useful & (found.cost <= self.spend * (1 + 1e-9) - found.spent)), strict=True):
            yield self._changed(found, {place: 1})

    def _with_one_moved(self, found: RunSet) -> Iterator[RunSet]:
        useful = np.any([own.useful for own in found.levels], axis=0)
        for place in zip(*np.nonzero(found.runs), strict=True):
            left = self.spend * (1 + 1e-9) - found.spent + found.cost[place]
            by = [np.abs(np.arange(n) - at) <= most for n, at, most in zip(useful.shape, place, NEARBY, strict=True)]
            for other in zip(*np.nonzero(useful & by[0][:, None] & by[1] & (found.cost <= left)), strict=True):
                if other != place:
                    yield self._changed(found, {place: -1, other: 1})

    def _with_one_less(self, found: RunSet) -> Iterator[RunSet]:
        for place in zip(*np.nonzero(found.runs), strict=True):
            yield self._changed(found, {place: -1})

    def _changed(self, found: RunSet, changes: Mapping[tuple, int]) -> RunSet:
        """Return the runs with more or fewer of them at some places."""
        runs = found.runs.copy()
        for place, more in changes.items():
            runs[place] += more
        return RunSet(found.levels, runs, found.cost, self.score(found.levels, runs))


def _score(found: RunSet) -> float:
    return found.score


def rounded_down(flops: float) -> float:
    """Return a budget of two digits, not above the one given."""
    unit = 10.0 ** (math.floor(math.log10(flops)) - 1)
    return float(f"{math.floor(flops / unit * (1 + 1e-9)) * unit:.2g}")
