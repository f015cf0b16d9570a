"""The ledger: digests find every change; scores agree with closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ledger_entries import normal_entry
from scipy import stats

from playscale.points import Point
from playscale.scaling.ledger import Ledger, check, compare, digest_of, points_digest, question, register, score, void

TIME = "2026-11-30T03:00:00Z"


def ledger_of(count: int) -> Ledger:
    """Return a ledger of `count` forecasts, the first scored and the second void."""
    ledger = Ledger("a ledger")
    for i in range(count):
        ledger, _ = register(ledger, normal_entry(flops=10.0 ** (12 + i)), TIME)
    names = list(ledger.entries)
    ledger, _ = score(ledger, names[0], [2.8, 2.9], TIME)
    return void(ledger, names[1], "diverged", TIME)[0]


def test_scores_of_a_normal_distribution_agree_with_its_closed_forms():
    mean, sd = 1.0, 0.1
    for z in (-3.0, -0.7, 0.0, 1.2, 2.5):
        outcome = float(np.exp(mean + sd * z))
        ledger, entry = register(Ledger("a"), normal_entry(mean, sd), TIME)
        _, entry = score(ledger, entry.id, [outcome], TIME)
        closed = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
        assert entry.error == pytest.approx(sd * z)
        assert entry.crps == pytest.approx(closed, rel=0.03)
        assert entry.rank == pytest.approx(stats.norm.cdf(z) if abs(z) < 2.57 else 0.0, abs=0.01)
        assert entry.inside is (abs(z) < 1.96)


def test_a_return_is_scored_above_its_offset_and_one_without_a_logarithm_is_a_factor_1000_off():
    entry = replace(normal_entry(), target="return_mean", offset=-10.0, value=10.0, quantiles=(), low=0.0, high=20.0)
    ledger, entry = register(Ledger("a"), entry, TIME)
    assert score(ledger, entry.id, [30.0], TIME)[1].error == pytest.approx(np.log(2))
    assert score(ledger, entry.id, [-11.0], TIME)[1].crps == pytest.approx(np.log(1000))


def test_an_interval_without_ends_is_judged_by_the_rank():
    for outcome, inside in ((2.8, True), (4.5, False)):
        ledger, entry = register(Ledger("a"), normal_entry(low=None, high=None), TIME)
        assert score(ledger, entry.id, [outcome], TIME)[1].inside is inside
    ledger, entry = register(Ledger("a"), normal_entry(low=None, high=None, quantiles=()), TIME)
    assert score(ledger, entry.id, [2.8], TIME)[1].inside is None


def test_several_seeds_say_how_much_of_the_error_is_theirs():
    ledger, entry = register(Ledger("a"), normal_entry(), TIME)
    _, entry = score(ledger, entry.id, [2.0, 2.2], TIME, se=0.01)
    assert (entry.seeds, entry.outcome) == (2, pytest.approx(2.1))
    assert entry.seed_sd == pytest.approx(0.2 / np.sqrt(2))
    assert entry.outcome_se == pytest.approx(0.1)
    assert entry.seed_error == pytest.approx(0.1 / 2.1)


def test_the_same_question_is_one_entry_and_its_first_answer_stands():
    ledger, first = register(Ledger("a"), normal_entry(), TIME)
    again, second = register(ledger, normal_entry(mean=1.3), "later")
    assert again == ledger
    assert second == first
    assert question(normal_entry(flops=2e12)) != first.id


def test_a_forecast_that_is_void_can_be_registered_again():
    ledger, first = register(Ledger("a"), normal_entry(), TIME)
    ledger, _ = void(ledger, first.id, "the run diverged", TIME)
    ledger, second = register(ledger, normal_entry(), TIME)
    assert second.id == f"{first.id}-2"
    assert [entry.state for entry in ledger.entries.values()] == ["void", "open"]


def test_an_end_is_written_once_and_never_changed():
    ledger = ledger_of(3)
    scored, voided, opened = ledger.entries
    assert score(ledger, scored, [2.8, 2.9], TIME)[0] == ledger
    assert void(ledger, voided, "diverged", TIME)[0] == ledger
    with pytest.raises(ValueError, match="has a score already"):
        score(ledger, scored, [2.7], TIME)
    with pytest.raises(ValueError, match="is void"):
        score(ledger, voided, [2.7], TIME)
    with pytest.raises(ValueError, match="is scored"):
        void(ledger, scored, "a reason", TIME)
    with pytest.raises(ValueError, match="give one"):
        void(ledger, opened, " ", TIME)
    for bad in ([], [float("nan")], [-1.0]):
        with pytest.raises(ValueError, match=opened):
            score(ledger, opened, bad, TIME)
    with pytest.raises(ValueError, match="no such forecast"):
        score(ledger, "nothing", [1.0], TIME)


def test_a_forecast_is_found_by_its_id_the_beginning_of_it_or_its_target_and_budget():
    ledger = ledger_of(3)
    first, *_ = ledger.entries.values()
    for name in (first.id, first.id[:6], "dev_loss@1e12"):
        assert ledger.entry(name) == first
    ledger, _ = register(ledger, normal_entry(game="breakout"), TIME)
    with pytest.raises(ValueError, match="several forecasts"):
        ledger.entry("dev_loss@1e12")
    for name in ("", "dev_loss@", "return_mean@1e12", "dev_loss@much"):
        with pytest.raises(ValueError, match="no such forecast"):
            ledger.entry(name)


def test_check_accepts_what_was_written():
    assert check(ledger_of(4)) == []


def test_check_names_an_event_that_was_changed():
    ledger = ledger_of(4)
    for place in range(len(ledger.events)):
        events = list(ledger.events)
        events[place] = {**events[place], "time": "2020-01-01T00:00:00Z"}
        (finding,) = check(replace(ledger, events=tuple(events)))
        assert f"event {place + 1} " in finding
        assert "was changed" in finding


def test_check_names_an_event_that_was_changed_with_its_digest():
    ledger = ledger_of(4)
    events = list(ledger.events)
    events[2] = {**events[2], "value": 1.0}
    events[2]["digest"] = digest_of(events[2])
    (finding,) = check(replace(ledger, events=tuple(events)))
    assert "event 4 " in finding


def test_check_names_events_that_were_removed_inserted_or_moved():
    ledger = ledger_of(4)
    one, two, *rest = ledger.events
    other, _ = register(Ledger("a ledger"), normal_entry(flops=7e12), TIME)
    assert "removed or inserted" in check(replace(ledger, events=(one, *rest)))[0]
    assert "removed or inserted" in check(replace(ledger, events=(two, *rest)))[0]
    assert "event 2 " in check(replace(ledger, events=(one, *other.events, two, *rest)))[0]
    assert "order was changed" in check(replace(ledger, events=(two, one, *rest)))[0]


def test_check_names_a_second_registration_and_a_second_end():
    ledger = ledger_of(3)
    events = list(ledger.events)
    for event in (events[0], events[-1]):
        twice = {**event, "before": ledger.last}
        twice["digest"] = digest_of(twice)
        (finding,) = check(replace(ledger, events=(*events, twice)))
        assert "the forecast was" in finding


def test_compare_names_what_another_store_lacks_and_what_it_has_twice():
    ledger = ledger_of(2)
    assert compare(ledger, ledger.events) == []
    assert compare(ledger, []) == ["MLflow has none of the 4 events of the ledger a ledger"]
    (finding,) = compare(ledger, [*ledger.events, ledger.events[0]])
    assert finding.endswith("(registered) is 2 times in MLflow")


def test_entries_of_a_damaged_ledger_are_those_that_can_be_read():
    ledger = ledger_of(3)
    events = list(ledger.events)
    events[2] = {**events[2], "value": "much"}
    events[3] = {**events[3], "outcome": "much"}
    entries = replace(ledger, events=tuple(events)).entries
    assert [entry.state for entry in entries.values()] == ["open", "void"]


def test_the_digest_of_points_is_that_of_the_fitted_ones_in_any_order():
    points = [Point(flops=1e12 * i, params=1e4, samples=1e6, dev_loss=2.0) for i in range(1, 4)]
    held_out = replace(points[0], split="held-out")
    assert points_digest(points) == points_digest([*reversed(points), held_out])
    assert points_digest(points) != points_digest(points[1:])
