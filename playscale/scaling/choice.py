"""The choice of the law that forecasts: the best backtest, or a stated default where budgets are too few for one.

The same choice is made at each earlier budget from what was known there: these forecasts are its track record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import stats

from playscale.scaling.backtest import (
    BREAKING,
    LEVELLING,
    PLAIN,
    Backtest,
    CandidateLaw,
    Frontier,
    Prediction,
    backtest,
    candidates,
    predictions,
)  # fmt: skip
from playscale.scaling.cells import FitError, Target
from playscale.scaling.frontier import SATURATING, FrontierLaw
from playscale.scaling.numbers import counted, in_text, listed
from playscale.scaling.powerlaw import ENDS, LEVEL, LEVELS
from playscale.scaling.two_step import LossSteps

# Laws are compared by at least this many forecasts that all of them made: 6 budgets give three from 4 or more.
FEWEST_PREDICTIONS = 3
# The track record begins with the forecast from this many budgets.
RECORD_FROM = 4
BACKTEST_REPLICATES = 100
# The name of a limit that no return can pass.
LARGEST_RETURN = "the largest return"
# A power law replaces one that levels off when its backtest errors are below this share of the other's and the floor
# does not lower the residuals significantly (F test): a curve that has not bent yet is weak evidence that it will not.
POWER_SHARE, FLOOR_P = 0.9, 0.1
# A law of the last decades alone, or of another frontier than the best cells, replaces the one of the best cells of all
# budgets only below this share of its errors, over at least so many forecasts in which the two differ: of 10 and 20
# the latter has the lower errors on 42 planted tables (docs/scaling.md).
OTHER_SHARE, OTHER_PREDICTIONS = 0.75, 20
# A broken law extrapolates its last exponent, which is nearly free after a recent break: it is chosen when it fits
# far better (F test) and, from origins half a decade past its break, had the smallest errors over at least 8
# predictions. Chosen more easily it forecasts the published tables worse (docs/scaling.md).
BREAK_P, BREAK_PREDICTIONS, PAST_BREAK = 5e-4, 8, 10**0.5
# Laws whose backtest errors are within this factor of the chosen one's, or below, share its intervals.
EQUALLY_GOOD = 1.25
# Where fewer intervals of the later backtests than this held, intervals are widened, by at most WIDEST.
COVERED = 0.9
WIDEST = 3.0
# The draws know what is uncertain within a form; that it was chosen on the same B budgets adds this over B to the
# half-widths. Of 0, 1, 2, 3, 4, 6 and 8 it is the one with the lowest interval scores (geometric mean of loss and
# return) on 42 planted tables (python -m benchmarks.tables --planted; docs/scaling.md).
OF_FORM = 2.0


@dataclass(frozen=True)
class Decision:
    """The candidate chosen from the first budgets, those that share its intervals, and what the intervals take."""

    chosen: CandidateLaw
    sharing: tuple[CandidateLaw, ...]
    widening: float
    why: str


@dataclass(frozen=True)
class Record:
    """A forecast that the procedure would have made from the budgets up to one, beside the plain power law's."""

    own: Prediction
    plain: Prediction | None


class Law(Protocol):
    """A law along compute: its cost [m] at budgets, draws [R, m] of what would be measured, its named parameters."""

    @property
    def first(self) -> float: ...
    @property
    def last(self) -> float: ...
    @property
    def sd(self) -> float: ...
    def cost(self, flops: np.ndarray | float) -> np.ndarray: ...
    def predict(self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None) -> np.ndarray | None: ...


@dataclass(frozen=True, eq=False)
class Choice:
    """The law chosen for one target and all that shares its intervals.

    name and why are for the reader; laws are the chosen one and those that backtest equally well; widening multiplies
    the intervals (1 when the backtest's intervals held); record: its track record; floor: the least cost possible, that
    of the largest return of the game where it is given; tested: the backtest that it was chosen by.
    """

    target: Target
    name: str
    why: str
    law: Law
    laws: tuple[Law, ...]
    widening: float
    predictions: tuple[Prediction, ...]
    record: tuple[Record, ...] = ()
    floor: float = -np.inf
    tested: Backtest | None = field(default=None, repr=False)

    def cost(self, flops: np.ndarray | float) -> np.ndarray:
        return np.maximum(self.law.cost(flops), self.floor)

    def predict(
        self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return cost [m] and the ends of the 95 % prediction interval; (cost, None, None) without an interval."""
        cost, quantiles = self.distribution(flops, rng, noise)
        if quantiles is None:
            return cost, None, None
        low, high = quantiles[list(ENDS)]
        return cost, np.maximum(np.minimum(low, cost), self.floor), np.maximum(high, cost)

    def distribution(
        self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return cost [m] and the quantiles [LEVELS, m] of what would be measured; (cost, None) without draws."""
        cost, pooled = self.cost(flops), self.draw(flops, rng, noise)
        if pooled is None:
            return cost, None
        quantiles = np.nanquantile(pooled, LEVELS, axis=0)
        return cost, np.maximum(cost + self.widening * (quantiles - cost), self.floor)

    def draw(self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None) -> np.ndarray | None:
        """Draw [R, m] what would be measured, by all laws that share the interval, before it is widened.

        NaN where a law says nothing.
        """
        draws = [(law, d) for law in self.laws if (d := law.predict(flops, rng, noise)) is not None]
        if not draws:
            return None
        # A law of the last decades says nothing of the budgets before them, unless it is the chosen one.
        outside = [law is not self.law and flops < law.first * (1 - 1e-6) for law, _ in draws]
        return np.concatenate([np.where(out, np.nan, d) for out, (_, d) in zip(outside, draws, strict=True)])


def choose(
    frontier: Frontier, rng: np.random.Generator, replicates: int, extra: tuple[float, int] = (0.0, 0),
    limits: Sequence[tuple[str, float]] = (),
) -> Choice:  # fmt: skip
    """Choose and fit the law of a frontier; limits: known largest returns, by name.

    Raises FitError with fewer than 2 budgets.
    """
    count = len(frontier.flops)
    if count < 2:
        raise FitError(f"a law of {frontier.target} needs at least 2 budgets; there is {count}")
    tested = backtest(frontier, candidates(frontier, limits), rng, min(BACKTEST_REPLICATES, replicates))
    decision = decide(tested, count)
    fitted = (decision.chosen, *decision.sharing)
    laws = tuple(frontier.fit(candidate, rng, replicates, extra) for candidate in fitted)
    name = decision.chosen.name(frontier.target)
    made = tuple(tested.predictions())
    return Choice(
        frontier.target, name, decision.why, laws[0], laws, decision.widening, made, tuple(track_record(tested)),
        least_cost(limits), tested,
    )  # fmt: skip


def loss_steps(choice: Choice) -> LossSteps | None:
    """Return what laws of returns take from the dev loss: its law, and those that were the choice at each origin."""
    tested = choice.tested
    if tested is None:
        return None
    laws = {origin: chosen_then(tested, origin) for origin in tested.origins if origin < len(tested.frontier.flops)}
    return LossSteps(tested.frontier.cost, {**laws, len(tested.frontier.flops): choice})


def chosen_then(tested: Backtest, origin: int) -> Choice:
    """Return the choice from the first budgets alone, with the draws of the backtest."""
    then = decide(tested, origin)
    laws = tuple(tested.rolling[c].laws[origin] for c in (then.chosen, *then.sharing))
    name = then.chosen.name(tested.frontier.target)
    return Choice(tested.frontier.target, name, then.why, laws[0], laws, then.widening, ())


def least_cost(limits: Sequence[tuple[str, float]]) -> float:
    """Return the cost of the largest return of the game; -inf where it is not among the known largest returns."""
    return max((-float(np.log(value)) for name, value in limits if name == LARGEST_RETURN), default=-np.inf)


def track_record(tested: Backtest) -> list[Record]:
    """Return, for each origin, the forecasts of the law that would have been chosen there.

    Of budgets with a measured best: a bound tells only on which side of it the best lies.
    """
    whole, records = len(tested.frontier.flops), []
    measured = set(tested.frontier.flops[~tested.frontier.bounds].tolist())
    for origin in tested.origins:
        if origin >= RECORD_FROM:
            then = decide(tested, origin)
            sharing = [tested.rolling[c] for c in then.sharing]
            own = predictions(tested.rolling[then.chosen], sharing, origin, whole, then.widening)
            plain = {p.flops: p for p in predictions(tested.rolling[PLAIN], [], origin, whole)}
            records += [Record(p, plain.get(p.flops)) for p in own if p.flops in measured]
    return records


def decide(tested: Backtest, upto: int) -> Decision:
    """Choose from the first `upto` budgets alone."""
    open_to = [c for c in tested.rolling if upto in tested.rolling[c].laws]
    score = tested.scores(upto, [c for c in open_to if not c.broken])
    floor = _significance(tested, LEVELLING, PLAIN, upto)
    refuted = {c for c in score if c.straight} if floor <= FLOOR_P else set()
    if LEVELLING not in score or tested.shared(upto, list(score), 0) < FEWEST_PREDICTIONS:
        return _default(tested, upto, floor)
    levelling = min((c for c in score if not c.straight and _of_all(c)), key=score.__getitem__)
    levelling = _better(tested, levelling, [c for c in score if not c.straight and not _of_all(c)], upto)
    straight = min((c for c in score if c.straight), key=score.__getitem__, default=levelling)
    chosen = straight if score[straight] < POWER_SHARE * score[levelling] and floor > FLOOR_P else levelling
    if _breaks(tested, chosen, upto):
        return _explained(tested, BREAKING, [], upto, "")
    # With a power law the levelling one always shares: a floor not felt yet is what the power law's interval misses.
    shares = {c for c in score if score[c] <= EQUALLY_GOOD * score[chosen]} - refuted
    shares |= {levelling} if chosen.straight else set()
    reason = f"a floor is not significant (F test, p = {floor:.2g})" if chosen.straight else ""
    return _explained(tested, chosen, [c for c in score if c in shares and c != chosen], upto, reason)


def _better(tested: Backtest, levelling: CandidateLaw, others: Sequence[CandidateLaw], upto: int) -> CandidateLaw:
    """Return the best of the others where its forecasts were far better than those of `levelling`, else that."""
    ratios = {c: tested.ratio(c, levelling, upto) for c in others}
    share = {c: ratio for c, (ratio, count) in ratios.items() if count >= OTHER_PREDICTIONS}
    best = min(share, key=share.__getitem__, default=levelling)
    return best if best in share and share[best] <= OTHER_SHARE else levelling


def _of_all(candidate: CandidateLaw) -> bool:
    return candidate.source == "best cells" and np.isinf(candidate.decades)


def _significance(tested: Backtest, larger: CandidateLaw, smaller: CandidateLaw, upto: int) -> float:
    """Return the p-value (F test) of the larger form over the smaller one within it, on the first `upto` budgets."""
    big, small = (tested.rolling[c].laws.get(upto) for c in (larger, smaller))
    if not (isinstance(big, FrontierLaw) and isinstance(small, FrontierLaw)):
        return 1.0
    degrees, more = len(big.residuals) - larger.form.size, larger.form.size - smaller.form.size
    gain = max(small.rss - big.rss, 0.0) / more
    return float(stats.f.sf(gain / max(big.rss / degrees, 1e-24), more, degrees))


def _breaks(tested: Backtest, chosen: CandidateLaw, upto: int) -> bool:
    law = tested.rolling[BREAKING].laws.get(upto)
    if (
        not isinstance(law, FrontierLaw)
        or max(_significance(tested, BREAKING, c, upto) for c in (PLAIN, LEVELLING)) > BREAK_P
    ):
        return False
    at = law.reference * float(np.exp(np.clip(law.theta[3], -700, 700)))
    past = 1 + int(np.searchsorted(tested.frontier.flops, at * PAST_BREAK))
    among = list({BREAKING, PLAIN, LEVELLING, chosen})
    if tested.shared(upto, among, past) < BREAK_PREDICTIONS:
        return False
    score = tested.scores(upto, among, past)
    return BREAKING in score and score[BREAKING] == min(score.values())


def _explained(tested: Backtest, chosen: CandidateLaw, sharing: list[CandidateLaw], upto: int, reason: str) -> Decision:
    target, own = tested.frontier.target, tested.rolling[chosen].predictions(upto)
    error = float(np.median([abs(p.error) for p in own]))
    held = sum(p.inside for p in own) / len(own)
    compared = {chosen, *tested.scores(upto, [c for c, rolling in tested.rolling.items() if upto in rolling.laws])}
    why = (
        f"{chosen.name(target)}: chosen among {counted(len(compared), 'law')} by a rolling backtest; its {len(own)}"
        f" forecasts have a median error of {100 * np.expm1(error):.1f} % and {100 * held:.0f} % lie inside their"
        " intervals"
    )
    score = tested.scores(upto, [chosen, PLAIN])
    if chosen != PLAIN and len(score) == 2:
        why += f"; a power law through all budgets has {score[PLAIN] / score[chosen]:.2g} times its error"
    why += f"; {reason}" if reason else ""
    if sharing:
        why += f"; its intervals are shared with {listed([in_text(c.name(target)) for c in sharing])}"
    return Decision(chosen, tuple(sharing), _widening(tested, chosen, upto) * (1 + OF_FORM / upto), why)


def _default(tested: Backtest, upto: int, floor: float) -> Decision:
    """Choose where too few forecasts could be compared: a given limit, else the law that levels off."""
    target = tested.frontier.target
    known = [c for c in tested.rolling if c.form.floor is not None and upto in tested.rolling[c].laws]
    levels = LEVELLING if upto in tested.rolling[LEVELLING].laws else None
    reason = f"{upto} budgets leave too few forecasts to compare laws by (at least {FEWEST_PREDICTIONS})"
    if not known and levels is None:
        more = SATURATING.size + 1
        return Decision(PLAIN, (), 1 + OF_FORM / upto, f"power: {reason}; a law that levels off needs {more} budgets")
    chosen = min(known, key=lambda c: tested.rolling[c].laws[upto].rss) if known else LEVELLING
    refuted = levels is not None and floor <= FLOOR_P
    among = (levels, None if refuted else PLAIN)
    sharing = tuple(c for c in among if c not in {None, chosen} and upto in tested.rolling[c].laws)
    why = f"{chosen.name(target)}: {reason}"
    why += "; on published tables it forecasts better than a power law does from so few" if not known else ""
    why += f"; its intervals are shared with {listed([in_text(c.name(target)) for c in sharing])}" if sharing else ""
    why += f"; the power law is refuted (F test, p = {floor:.2g})" if refuted else ""
    return Decision(chosen, sharing, 1 + OF_FORM / upto, why)


def _widening(tested: Backtest, chosen: CandidateLaw, upto: int) -> float:
    """Widen by the later half of the origins: a law fitted to few budgets says little about it fitted to all."""
    middle = np.median([o for o in tested.origins if o < upto])
    own = [p for o in tested.origins if middle <= o < upto for p in predictions(tested.rolling[chosen], [], o, upto)]
    return widening(np.array([p.strain for p in own]))


def widening(strain: np.ndarray) -> float:
    """Return the factor for intervals whose backtest errors were `strain` half-widths; 1 where they held."""
    if len(strain) == 0 or np.mean(strain <= 1) >= COVERED:
        return 1.0
    return float(np.clip(np.quantile(strain, LEVEL), 1.0, WIDEST))
