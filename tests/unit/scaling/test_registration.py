"""Entries of a fit: open ones of budgets ahead, retrospective ones of what the table has."""

from __future__ import annotations

import numpy as np
import pytest
from report_study import HELD_OUT, make_points

from playscale.scaling.fit import fit
from playscale.scaling.ledger import LEVELS, Ledger, check, question, register, score
from playscale.scaling.registration import held_out_entries, open_entries


@pytest.fixture(scope="module")
def fitted():
    """Return the fit of the planted study, whose largest budget is held out."""
    return fit(make_points(), [HELD_OUT, 3 * HELD_OUT], [(3e4, 1e6)], replicates=60)


def test_a_forecast_is_retrospective_where_its_outcome_was_known(fitted):
    entries = open_entries(fitted, version="0.2.0")
    assert {(e.target, e.at, e.flops > HELD_OUT) for e in entries if not e.retrospective} == {
        ("dev_loss", "budget", True),
        ("return_mean", "budget", True),
    }
    assert all(held_out.forecast.retrospective for held_out in held_out_entries(fitted, version="0.2.0"))


def test_an_entry_holds_the_interval_and_the_distribution_of_its_forecast(fitted):
    for entry, forecast in zip(open_entries(fitted, version="0.2.0"), fitted.forecasts, strict=True):
        assert (entry.value, entry.low, entry.high) == (forecast.value, forecast.low, forecast.high)
        quantiles = dict(zip(LEVELS, entry.quantiles, strict=True))
        assert quantiles[0.025] == pytest.approx(entry.low)
        assert quantiles[0.975] == pytest.approx(entry.high)
        assert list(entry.quantiles) == sorted(entry.quantiles)
        assert (entry.plain_value is None) == (entry.at == "cell")


def test_entries_of_a_fit_can_be_registered_and_scored(fitted):
    ledger = Ledger("a")
    for entry in open_entries(fitted, version="0.2.0", corpus="c"):
        ledger, _ = register(ledger, entry, "now")
    for known in held_out_entries(fitted, version="0.2.0"):
        ledger, entry = register(ledger, known.forecast, "now")
        ledger, entry = score(ledger, entry.id, [known.outcome], "now", known.se, known.seeds)
        assert abs(entry.error) < 0.5
        assert entry.plain_crps > 0
        assert 0 <= entry.rank <= 1
    assert check(ledger) == []
    assert len({question(entry) for entry in ledger.entries.values()}) == len(ledger.entries)


def test_a_plain_power_law_predicts_by_the_t_distribution():
    from scipy import stats

    from playscale.scaling.powerlaw import fit_power_law

    rng = np.random.default_rng(0)
    x = np.linspace(0, 4, 8)
    y = 1 - 0.2 * x + 0.05 * rng.standard_normal(8)
    law, at = fit_power_law(x, y), 5.0
    s = np.sqrt(np.sum((y - np.polyval(np.polyfit(x, y, 1), x)) ** 2) / 6)
    sd = s * np.sqrt(1 + 1 / 8 + (at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    expected = np.polyval(np.polyfit(x, y, 1), at) + sd * stats.t.ppf(LEVELS, 6)
    assert law.quantiles_at(np.exp(at)) == pytest.approx(expected)
