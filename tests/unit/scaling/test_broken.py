"""Runs that broke are left out by name; honest noise, however heavy, is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from playscale.points import Point
from playscale.report.evidence import Evidence
from playscale.scaling.broken import broken
from playscale.scaling.cells import Excluded, Reason, Target, make_cells
from playscale.scaling.fit import fit
from playscale.scaling.warning import Code, broken_warning

NOISES: tuple[tuple[Target, float], ...] = (("dev_loss", 0.005), ("dev_loss", 0.05), ("return_mean", 0.2))


def planted(target: Target, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return params, flops and cost of 8 budgets with 7 sizes over 2.6 decades."""
    flops = np.repeat(np.geomspace(1e13, 1e18, 8), 7)
    params = 0.004 * flops**0.5 * np.tile(np.exp(np.linspace(-3, 3, 7)), 8)
    cost = np.log(1.5 + 60 / params**0.3 + 60 / (flops / 6 / params) ** 0.3) * (1 if target == "dev_loss" else 3)
    return params, flops, cost + noise


@pytest.mark.parametrize(("target", "noise"), NOISES)
@pytest.mark.parametrize("heavy", [False, True])
def test_honest_noise_loses_nearly_nothing_and_broken_runs_are_found(target: Target, noise: float, heavy: bool) -> None:
    rng, lost, found = np.random.default_rng(0), 0, 0
    for _ in range(60):
        error = noise * (rng.standard_t(3, 56) if heavy else rng.standard_normal(56))
        params, flops, cost = planted(target, error)
        lost += int(broken(target, params, flops, cost).sum())
        off = rng.choice(56, 2, replace=False)
        cost[off] += max(1.5, 15 * noise)
        found += int(broken(target, params, flops, cost)[off].sum())
    assert lost <= (0.005 if heavy else 0.0003) * 60 * 56
    assert found >= 0.75 * 120


def table() -> list[Point]:
    params, flops, cost = planted("dev_loss", 0.003 * np.random.default_rng(1).standard_normal(56))
    rows = zip(params.tolist(), flops.tolist(), np.exp(cost).tolist(), strict=True)
    return [Point(params=n, flops=c, samples=c / 6 / n, dev_loss=v, run=f"r{i}") for i, (n, c, v) in enumerate(rows)]


def test_diverged_losses_are_left_out_by_name_and_shown_as_left_out() -> None:
    points = table()
    bad = [replace(points[i], dev_loss=9.0) for i in (24, 45)]
    points[24], points[45] = bad
    result = fit(points, replicates=20)
    left_out = [row for row in result.excluded if row.reason is Reason.BROKEN]
    assert [(row.run, row.value) for row in left_out] == [("r24", 9.0), ("r45", 9.0)]
    (text,) = [w.text for w in result.warnings if w.code is Code.BROKEN]
    assert "r24 at" in text
    evidence = Evidence.of(result.to_dict(), points)
    reasons = [evidence.reason_excluded(point, "dev_loss") for point in evidence.points]
    assert [i for i, why in enumerate(reasons) if why == "far from its neighbours"] == [24, 45]


def test_one_seed_far_too_high_is_left_out_and_its_siblings_stay() -> None:
    rng = np.random.default_rng(2)
    points = [
        replace(
            p,
            seed=seed,
            run="",
            dev_loss=None,
            return_mean=float((p.dev_loss or 1) ** -3 * 100 * np.exp(0.03 * rng.normal())),
        )
        for p in table()
        for seed in range(3)
    ]
    high = points[100] = replace(points[100], return_mean=12 * (points[100].return_mean or 0))
    cells, left_out = make_cells(points, "return_mean", screen=True)
    assert [(row.params, row.value) for row in left_out] == [(high.params, high.return_mean)]
    assert sorted(cells.repeats) == [2] + [3] * 55
    evidence = Evidence.of(fit(points, replicates=20).to_dict(), points)
    assert sum(evidence.reason_excluded(p, "return_mean") is not None for p in evidence.points) == 1
    assert len(evidence.points) == 57


def test_a_tenth_of_a_table_is_no_accident_and_a_small_table_is_left_alone() -> None:
    params, flops, cost = planted("dev_loss", np.zeros(56))
    cost[::10] += 2
    assert not broken("dev_loss", params, flops, cost).any()
    assert not broken("dev_loss", params[:11], flops[:11], cost[:11] + 3.0 * (np.arange(11) == 5)).any()


def test_samples_that_do_not_fit_size_and_compute_are_a_slip() -> None:
    points = table()
    slip = replace(points[17], samples=1e99)
    result = fit([*points[:17], slip, *points[18:]], [1e20], replicates=20)
    without = fit([*points[:17], *points[18:]], [1e20], replicates=20)
    (gone,) = [e for e in result.excluded if e.reason is Reason.SAMPLES]
    assert (gone.flops, gone.params) == (slip.flops, slip.params)
    (warning,) = [w.text for w in result.warnings if w.code is Code.BROKEN]
    assert warning.startswith("dev_loss: left out, since samples do not fit size and compute")
    assert result.forecasts == without.forecasts


def test_repeats_without_a_name_are_all_counted() -> None:
    bad = Excluded("dev_loss", 1e15, 1e6, Reason.BROKEN, "", 9.0)
    (warned,) = broken_warning("dev_loss", [bad] * 5)
    assert warned.text.count(": 9") == 3
    assert ", and 2 more" in warned.text


def test_a_size_beyond_the_largest_integer_of_a_machine_is_a_size() -> None:
    points = [*table(), replace(table()[0], params=10**30)]
    assert "57 points" in Evidence.of(fit(points, replicates=20).to_dict(), points).subtitle
