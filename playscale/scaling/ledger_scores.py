"""Scores of a ledger: coverage, errors and CRPS by kind of law, game and target, and how reliable intervals were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

from scipy import stats

from playscale.scaling.ledger import Entry
from playscale.scaling.powerlaw import LEVEL

NOMINAL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class LedgerGroup(NamedTuple):
    """Entries that are scored together; retrospective ones never with others. "": all laws, games or targets."""

    retrospective: bool
    kind: str = ""
    game: str = ""
    target: str = ""


@dataclass(frozen=True)
class LedgerScore:
    """Scores of a group.

    scored, open, void: how many. inside of judged: outcomes within their 95 % interval. error: median |ln|; crps: mean.
    compared: how many a plain power law forecast too, with the scores of both over these: own_*, plain_*.
    """

    scored: int
    open: int
    void: int
    inside: int
    judged: int
    error: float | None
    crps: float | None
    compared: int
    own_error: float | None
    own_crps: float | None
    plain_error: float | None
    plain_crps: float | None
    plain_inside: int
    plain_judged: int


class Reliability(NamedTuple):
    """Share of outcomes in the central interval of a nominal coverage, with the band for so many outcomes.

    low, high: shares between which 95 % of tables of so many independent forecasts lie if the intervals are right.
    """

    nominal: float
    actual: float
    low: float
    high: float
    outcomes: int


def groups(entries: Iterable[Entry]) -> dict[LedgerGroup, list[Entry]]:
    """Return the entries of each group: first all registered ahead, by law, game and target, then the retrospective."""
    found: dict[LedgerGroup, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.retrospective, e.kind, e.game, e.target)):
        found.setdefault(LedgerGroup(entry.retrospective), []).append(entry)
        found.setdefault(LedgerGroup(entry.retrospective, entry.kind, entry.game, entry.target), []).append(entry)
    return dict(sorted(found.items()))


def score_of(entries: Sequence[Entry]) -> LedgerScore:
    """Return the scores of a group of entries."""
    scored = [entry for entry in entries if entry.state == "scored"]
    inside = [entry.inside for entry in scored if entry.inside is not None]
    both = [entry for entry in scored if entry.plain_crps is not None]
    plain = [entry.plain_inside for entry in both if entry.plain_inside is not None]
    waiting, void = (sum(entry.state == state for entry in entries) for state in ("open", "void"))
    return LedgerScore(
        len(scored), waiting, void,
        sum(inside), len(inside), _error(scored, lambda e: e.error), _mean(scored, lambda e: e.crps),
        len(both), _error(both, lambda e: e.error), _mean(both, lambda e: e.crps),
        _error(both, lambda e: e.plain_error), _mean(both, lambda e: e.plain_crps), sum(plain), len(plain),
    )  # fmt: skip


def _error(entries: Sequence[Entry], error: Callable[[Entry], float | None]) -> float | None:
    return median(abs(error(entry) or 0.0) for entry in entries) if entries else None


def _mean(entries: Sequence[Entry], score: Callable[[Entry], float | None]) -> float | None:
    return fmean(score(entry) or 0.0 for entry in entries) if entries else None


def reliability(ranks: Sequence[float]) -> list[Reliability]:
    """Return nominal and actual coverage of the central intervals, from the ranks of outcomes; [] without any."""
    count = len(ranks)
    if not count:
        return []
    rows = []
    for nominal in NOMINAL:
        low, high = (stats.binom.ppf(q, count, nominal) / count for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        inside = sum(abs(2 * rank - 1) <= nominal + 1e-9 for rank in ranks)
        rows.append(Reliability(nominal, inside / count, float(low), float(high), count))
    return rows


def ranks(entries: Iterable[Entry], *, retrospective: bool) -> list[float]:
    """Return the ranks of the outcomes that have one, of one sort of entries."""
    return [e.rank for e in entries if e.retrospective == retrospective and e.state == "scored" and e.rank is not None]
