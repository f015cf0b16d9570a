"""Scores of groups of entries, and the reliability of intervals."""

from __future__ import annotations

import numpy as np
import pytest
from ledger_entries import normal_entry

from playscale.scaling.ledger import Ledger, register, score, void
from playscale.scaling.ledger_scores import LedgerGroup, groups, ranks, reliability, score_of


def entries_of(outcomes: list[float], **more: object) -> list:
    ledger = Ledger("a")
    for i, outcome in enumerate(outcomes):
        ledger, entry = register(ledger, normal_entry(flops=1e12 + i, **more), "now")
        ledger, _ = score(ledger, entry.id, [outcome], "now")
    return list(ledger.entries.values())


def test_retrospective_entries_are_never_scored_with_others():
    entries = entries_of([2.7, 2.8]) + entries_of([2.7], retrospective=True)
    found = groups(entries)
    assert {(group.retrospective, len(own)) for group, own in found.items()} == {(False, 2), (True, 1)}
    assert next(iter(found)) == LedgerGroup(False)
    assert len(ranks(entries, retrospective=True)) == 1


def test_open_and_void_entries_are_counted_and_not_scored():
    ledger = Ledger("a")
    for flops in (1e12, 2e12, 3e12):
        ledger, entry = register(ledger, normal_entry(flops=flops), "now")
    ledger, _ = void(ledger, entry.id, "diverged", "now")
    found = score_of(list(ledger.entries.values()))
    assert (found.scored, found.open, found.void, found.judged, found.error) == (0, 2, 1, 0, None)


def test_a_plain_power_law_is_compared_on_the_same_entries():
    with_plain = entries_of([3.0, 3.1], plain_value=2.0, plain_low=1.9, plain_high=2.1)
    found = score_of([*with_plain, *entries_of([9.0])])
    assert (found.scored, found.compared, found.plain_inside, found.plain_judged) == (3, 2, 0, 2)
    assert found.plain_crps == pytest.approx(np.mean(np.log([1.5, 1.55])))
    assert found.own_error < found.plain_error
    assert found.crps > found.own_crps


def test_reliability_counts_ranks_and_gives_the_binomial_band():
    rows = {row.nominal: row for row in reliability(np.linspace(0.05, 0.95, 10).tolist())}
    assert rows[0.5].actual in (0.4, 0.6)
    assert rows[0.95].actual == 1.0
    assert (rows[0.5].low, rows[0.5].high) == (0.2, 0.8)
    assert reliability([]) == []
