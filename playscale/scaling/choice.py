"""Which law forecasts: the one with the best backtest, or a stated default where there are too few budgets for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.backtest import CANDIDATES, PLAIN, Candidate, Frontier, Prediction, backtest, scores
from playscale.scaling.cells import Target
from playscale.scaling.exclusion import FitError
from playscale.scaling.frontier import BROKEN, POWER, SATURATING, Law
from playscale.scaling.powerlaw import LEVEL

# A backtest needs a law fitted to 3 budgets and at least two more to predict.
BACKTEST_BUDGETS = 5
# A saturating law contains the power law. The power law replaces it only when its backtest errors are less than this
# share of the saturating law's: a curve that has not bent yet is no evidence that it will not.
# A broken law is backtested and listed but never chosen: after a recent break its extrapolation is nearly free.
POWER_SHARE = 2 / 3
# A law fitted to the last decades alone replaces the one fitted to all budgets only below this share of its errors.
WINDOW_SHARE = 3 / 4
# Laws whose backtest errors are within this factor of the chosen one's, or below, share its intervals.
EQUALLY_GOOD = 1.25
# Where fewer intervals of the later backtests than this held, intervals are widened, by at most WIDEST.
COVERED = 0.9
WIDEST = 3.0

SATURATING_ALL = next(candidate for candidate in CANDIDATES if candidate.form is SATURATING)


@dataclass(frozen=True, eq=False)
class Choice:
    """The law chosen for one target and all that shares its intervals.

    name and why are for the reader; laws are the chosen one and those that backtest equally well; widening multiplies
    the intervals (1 when the backtest's intervals held).
    """

    target: Target
    name: str
    why: str
    law: Law
    laws: tuple[Law, ...]
    widening: float
    predictions: tuple[Prediction, ...]

    def predict(
        self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Cost [m] and the ends of its 95 % interval of what would be measured; (cost, None, None) without one."""
        cost = self.law.cost(flops)
        draws = [d for law in self.laws if (d := law.predict(flops, rng, noise)) is not None]
        if not draws:
            return cost, None, None
        low, high = np.quantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        low, high = np.minimum(low, cost), np.maximum(high, cost)
        return cost, cost - self.widening * (cost - low), cost + self.widening * (high - cost)


def choose(
    frontier: Frontier, rng: np.random.Generator, replicates: int, extra: tuple[float, int] = (0.0, 0)
) -> Choice:
    """Choose and fit the law of a frontier. Raises FitError with fewer than 2 budgets."""
    count = len(frontier.flops)
    if count < 2:
        raise FitError(f"a law of {frontier.target} needs at least 2 budgets; there is {count}")
    predictions = backtest(frontier, rng) if count >= BACKTEST_BUDGETS else []
    score = {c: s for c, s in scores(predictions).items() if c.form is not BROKEN and frontier.fits(c)}
    if SATURATING_ALL in score:
        chosen, pool, why = _by_backtest(frontier.target, score, predictions)
    else:
        chosen, pool, why = _by_default(frontier)
    laws = tuple(frontier.fit(candidate, rng, replicates, extra) for candidate in [chosen, *pool])
    widening, name = _widening(predictions, chosen), chosen.name(frontier.target)
    return Choice(frontier.target, name, why, laws[0], laws, widening, tuple(predictions))


def _by_backtest(
    target: str, score: dict[Candidate, float], predictions: Sequence[Prediction]
) -> tuple[Candidate, list[Candidate], str]:
    bending = min((c for c in score if c.form is SATURATING), key=score.__getitem__)
    if score[bending] > WINDOW_SHARE * score[SATURATING_ALL]:
        bending = SATURATING_ALL
    straight = min((c for c in score if c.form is POWER), key=score.__getitem__, default=bending)
    chosen = straight if score[straight] < POWER_SHARE * score[bending] else bending
    # With a power law the saturating one always shares: a floor not felt yet is what the power law's interval misses.
    shares = {c for c in score if score[c] <= EQUALLY_GOOD * score[chosen]}
    shares |= {SATURATING_ALL} if chosen.form is POWER else set()
    pool = [c for c in score if c in shares and c != chosen]
    own = [p for p in predictions if p.candidate == chosen]
    error = float(np.median([abs(p.error) for p in own]))
    held = sum(p.inside for p in own) / len(own)
    why = (
        f"{chosen.name(target)}: chosen among {len(score)} laws by a rolling backtest; its {len(own)} forecasts have a"
        f" median error of {100 * np.expm1(error):.1f} % and {100 * held:.0f} % lie inside"
        " their intervals"
    )
    if PLAIN in score and chosen != PLAIN:
        why += f"; a power law through all budgets has {score[PLAIN] / score[chosen]:.2g} times its error"
    if pool:
        why += f"; its intervals are shared with {', '.join(c.name(target) for c in pool)}"
    return chosen, pool, why


def _by_default(frontier: Frontier) -> tuple[Candidate, list[Candidate], str]:
    count, name = len(frontier.flops), SATURATING_ALL.name(frontier.target)
    reason = f"{count} budgets are too few for a backtest (it takes {BACKTEST_BUDGETS})"
    if count < SATURATING.budgets:
        return PLAIN, [], f"power: {reason}; a law that levels off needs {SATURATING.budgets} budgets"
    why = (
        f"{name}: {reason}; on published tables it forecasts from {count} budgets better than a power law does;"
        " its intervals are shared with the power law"
    )
    return SATURATING_ALL, [PLAIN], why


def _widening(predictions: Sequence[Prediction], chosen: Candidate) -> float:
    """From the later half of the origins: a law fitted to few budgets says little about it fitted to all of them."""
    middle = np.median([p.from_flops for p in predictions]) if predictions else 0.0
    own = [p for p in predictions if p.candidate == chosen and p.from_flops >= middle]
    if not own or sum(p.inside for p in own) >= COVERED * len(own):
        return 1.0
    return float(np.clip(np.quantile([p.strain for p in own], LEVEL), 1.0, WIDEST))
