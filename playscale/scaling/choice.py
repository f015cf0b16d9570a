"""The choice of the law that forecasts: the best backtest, or a stated default where budgets are too few for one.

The same choice is made at each earlier budget from what was known there: these forecasts are its track record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from playscale.scaling.powerlaw import LEVEL

# A backtest needs a law fitted to 3 budgets and at least two more to predict.
BACKTEST_BUDGETS = 5
BACKTEST_REPLICATES = 100
# A power law replaces one that levels off when its backtest errors are below this share of the other's and the floor
# does not lower the residuals significantly (F test): a curve that has not bent yet is weak evidence that it will not.
POWER_SHARE, FLOOR_P = 0.9, 0.1
# A law fitted to the last decades alone replaces the one fitted to all budgets only below this share of its errors.
WINDOW_SHARE = 3 / 4
# A broken law extrapolates its last exponent, which is nearly free after a recent break: it is chosen when it fits
# far better (F test) and, from origins half a decade past its break, had the smallest errors over at least 8
# predictions. Chosen more easily it forecasts the published tables worse (docs/scaling.md).
BREAK_P, BREAK_PREDICTIONS, PAST_BREAK = 5e-4, 8, 10**0.5
# Laws whose backtest errors are within this factor of the chosen one's, or below, share its intervals.
EQUALLY_GOOD = 1.25
# Where fewer intervals of the later backtests than this held, intervals are widened, by at most WIDEST.
COVERED = 0.9
WIDEST = 3.0


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


@dataclass(frozen=True, eq=False)
class Choice:
    """The law chosen for one target and all that shares its intervals.

    name and why are for the reader; laws are the chosen one and those that backtest equally well; widening multiplies
    the intervals (1 when the backtest's intervals held); record: its track record.
    """

    target: Target
    name: str
    why: str
    law: FrontierLaw
    laws: tuple[FrontierLaw, ...]
    widening: float
    predictions: tuple[Prediction, ...]
    record: tuple[Record, ...] = ()

    def predict(
        self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return cost [m] and the ends of the 95 % prediction interval; (cost, None, None) without an interval."""
        cost = self.law.cost(flops)
        draws = [(law, d) for law in self.laws if (d := law.predict(flops, rng, noise)) is not None]
        if not draws:
            return cost, None, None
        # A law of the last decades says nothing of the budgets before them, unless it is the chosen one.
        outside = [law is not self.law and flops < law.first * (1 - 1e-6) for law, _ in draws]
        pooled = np.concatenate([np.where(out, np.nan, d) for out, (_, d) in zip(outside, draws, strict=True)])
        low, high = np.nanquantile(pooled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        low, high = np.minimum(low, cost), np.maximum(high, cost)
        return cost, cost - self.widening * (cost - low), cost + self.widening * (high - cost)


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
    among = candidates(frontier.target, limits) if count >= BACKTEST_BUDGETS else ()
    tested = backtest(frontier, among, rng, min(BACKTEST_REPLICATES, replicates))
    decision = decide(tested, count)
    fitted = (decision.chosen, *decision.sharing)
    laws = tuple(frontier.fit(candidate, rng, replicates, extra) for candidate in fitted)
    name = decision.chosen.name(frontier.target)
    made = tuple(tested.predictions())
    return Choice(
        frontier.target, name, decision.why, laws[0], laws, decision.widening, made, tuple(track_record(tested))
    )


def track_record(tested: Backtest) -> list[Record]:
    """Return, for each origin, the forecasts of the law that would have been chosen there."""
    whole, records = len(tested.frontier.flops), []
    for origin in tested.origins:
        if origin >= BACKTEST_BUDGETS and tested.rolling:
            then = decide(tested, origin)
            sharing = [tested.rolling[c] for c in then.sharing]
            own = predictions(tested.rolling[then.chosen], sharing, origin, whole, then.widening)
            plain = {p.flops: p for p in predictions(tested.rolling[PLAIN], [], origin, whole)}
            records += [Record(p, plain.get(p.flops)) for p in own]
    return records


def decide(tested: Backtest, upto: int) -> Decision:
    """Choose from the first `upto` budgets alone."""
    seen = tested.frontier.upto(upto)
    open_to = [c for c in tested.rolling if upto in tested.rolling[c].laws]
    score = tested.scores(upto, [c for c in open_to if not c.broken])
    if LEVELLING not in score:
        return _default(seen)
    levelling = min((c for c in score if not c.straight and np.isinf(c.decades)), key=score.__getitem__)
    recent = min((c for c in score if not c.straight), key=score.__getitem__)
    levelling = recent if score[recent] <= WINDOW_SHARE * score[levelling] else levelling
    straight = min((c for c in score if c.straight), key=score.__getitem__, default=levelling)
    floor = _significance(tested, LEVELLING, PLAIN, upto)
    chosen = straight if score[straight] < POWER_SHARE * score[levelling] and floor > FLOOR_P else levelling
    if _breaks(tested, chosen, upto):
        return _explained(tested, BREAKING, [], upto, "")
    # With a power law the levelling one always shares: a floor not felt yet is what the power law's interval misses.
    shares = {c for c in score if score[c] <= EQUALLY_GOOD * score[chosen]}
    shares |= {levelling} if chosen.straight else set()
    reason = f"a floor is not significant (F test, p = {floor:.2g})" if chosen.straight else ""
    return _explained(tested, chosen, [c for c in score if c in shares and c != chosen], upto, reason)


def _significance(tested: Backtest, larger: CandidateLaw, smaller: CandidateLaw, upto: int) -> float:
    """Return the p-value (F test) of the larger form over the smaller one within it, on the first `upto` budgets."""
    big, small = (tested.rolling[c].laws.get(upto) for c in (larger, smaller))
    if big is None or small is None:
        return 1.0
    degrees, more = len(big.residuals) - larger.form.size, larger.form.size - smaller.form.size
    gain = max(small.rss - big.rss, 0.0) / more
    return float(stats.f.sf(gain / max(big.rss / degrees, 1e-24), more, degrees))


def _breaks(tested: Backtest, chosen: CandidateLaw, upto: int) -> bool:
    law = tested.rolling[BREAKING].laws.get(upto)
    if law is None or max(_significance(tested, BREAKING, c, upto) for c in (PLAIN, LEVELLING)) > BREAK_P:
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
    why = (
        f"{chosen.name(target)}: chosen among {len(tested.rolling)} laws by a rolling backtest; its {len(own)}"
        f" forecasts have a median error of {100 * np.expm1(error):.1f} % and {100 * held:.0f} % lie inside their"
        " intervals"
    )
    score = tested.scores(upto, [chosen, PLAIN])
    if chosen != PLAIN and len(score) == 2:
        why += f"; a power law through all budgets has {score[PLAIN] / score[chosen]:.2g} times its error"
    why += f"; {reason}" if reason else ""
    if sharing:
        why += f"; its intervals are shared with {', '.join(c.name(target) for c in sharing)}"
    return Decision(chosen, tuple(sharing), _widening(tested, chosen, upto), why)


def _default(seen: Frontier) -> Decision:
    count, name = len(seen.flops), LEVELLING.name(seen.target)
    reason = f"{count} budgets are too few for a backtest (it takes {BACKTEST_BUDGETS})"
    if count < SATURATING.budgets:
        return Decision(PLAIN, (), 1.0, f"power: {reason}; a law that levels off needs {SATURATING.budgets} budgets")
    why = (
        f"{name}: {reason}; on published tables it forecasts from {count} budgets better than a power law does;"
        " its intervals are shared with the power law"
    )
    return Decision(LEVELLING, (PLAIN,), 1.0, why)


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
