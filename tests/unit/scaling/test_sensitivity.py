"""Sensitivity: a planted best value, its laws, what the recipe loses, and laws that never mix settings."""

from dataclasses import replace

import pytest
import varied_study
from varied_study import OF_FLOPS, OF_PARAMS, best_rate, make_points, recipe_rate

from playscale.scaling.fit import fit
from playscale.scaling.sensitivity import RECIPE, TUNED, analyse


def setting(points, name):
    return next(one for one in analyse(points).settings if one.setting == name)


@pytest.mark.parametrize("design", ["one-at-a-time", "grid"])
def test_best_value_and_its_laws_are_the_planted_ones(design):
    rate = setting(make_points(design), "learning_rate")
    assert len(rate.curves) == len(varied_study.SIZES) * len(varied_study.BUDGETS)
    for curve in rate.curves:
        assert curve.edge is None
        assert curve.low < best_rate(curve.params, curve.flops) < curve.high
        assert curve.best == pytest.approx(best_rate(curve.params, curve.flops), rel=0.1)
        assert curve.recipe_value == pytest.approx(recipe_rate(curve.params), rel=1e-3)
    laws = {law.of: law for law in rate.laws}
    assert laws["params"].exponent == pytest.approx(OF_PARAMS, abs=0.03)
    assert laws["flops"].exponent == pytest.approx(OF_FLOPS, abs=0.03)
    assert laws["params"].low < OF_PARAMS < laws["params"].high
    assert laws["params"].recipe == pytest.approx(2 * OF_PARAMS, abs=1e-3)
    assert laws["params"].follows


def test_loss_lost_by_the_recipe_is_against_the_best_value_trained():
    for curve in setting(make_points(), "learning_rate").curves:
        assert curve.lost == pytest.approx(max(0.0, curve.recipe_loss - min(curve.losses)))
        assert curve.best_loss == min(curve.losses)
    for curve in setting(make_points(), "batch").curves:
        assert (curve.best, curve.recipe_value, curve.lost, curve.edge) == (8.0, 8.0, 0.0, "below")


def test_curve_of_a_grid_has_the_other_settings_at_their_best():
    assert {curve.others for curve in setting(make_points("grid"), "learning_rate").curves} == {""}
    batches = setting(make_points("grid"), "batch").curves
    assert {len(curve.values) for curve in batches} == {2}
    for curve in batches:
        near = min(varied_study.RATES, key=lambda rate: abs(rate / best_rate(curve.params, curve.flops) - 1))
        assert float(curve.others.removeprefix("learning_rate=")) == pytest.approx(near, rel=1.01)


def test_best_value_at_an_end_is_a_bound_and_no_part_of_a_law():
    points = [p for p in make_points() if float(p.extra["learning_rate"]) <= 4e-3]
    rate = setting(points, "learning_rate")
    edges = {curve.edge for curve in rate.curves}
    assert "above" in edges
    law = next(law for law in rate.laws if law.of == "params")
    assert law.n == len({curve.params for curve in rate.curves if curve.edge is None and len(curve.values) >= 3})


def test_laws_are_those_of_the_recipes_rows_alone():
    points = make_points()
    alone = [point for point in points if not point.varied]
    mixed, own = (fit(table, replicates=20).to_dict() for table in (points, alone))
    assert mixed.pop("sensitivity")["target"] == "dev_loss"
    assert mixed == own


def test_exponents_are_given_for_each_combination_that_has_enough_cells():
    found = analyse(make_points())
    names = {row.settings for row in found.exponents if row.quantity == "params"}
    assert names == {RECIPE, TUNED, "batch=32", *(f"learning_rate={rate:g}" for rate in varied_study.RATES)}
    few = [p for p in make_points() if p.varied != "batch=32" or p.size == "10k"]
    assert "batch=32" not in {row.settings for row in analyse(few).exponents}


def test_recipe_is_compared_over_the_sizes_and_budgets_that_are_varied():
    kept = [p for p in make_points() if not p.varied or (p.size != "300k" and p.flops > 1e11)]
    found = analyse(kept)
    assert {row.flops for row in found.tuned} == {3e11, 1e12}
    assert all(row.best <= row.recipe and row.params < 3e5 for row in found.tuned)
    assert {row.budgets for row in found.exponents} == {2}


def test_a_value_that_a_size_has_anyway_is_the_recipes_row():
    """The batch of 300k is 32 by the recipe: its row with batch 32 was not trained again."""
    points = [
        replace(p, extra=p.extra | {"batch": "32"}) if p.size == "300k" and not p.varied else p
        for p in make_points()
        if not (p.size == "300k" and p.varied == "batch=32")
    ]
    (row,) = [row for row in analyse(points).exponents if row.settings == "batch=32" and row.quantity == "params"]
    assert row.budgets == 3
    assert {c.size for c in setting(points, "batch").curves} == {"10k", "30k", "100k"}


def test_seeds_are_averaged_and_their_scatter_is_the_noise():
    found = analyse(make_points(seeds=(0, 1, 2), noise=0.01))
    assert found.noise == pytest.approx(0.01, rel=0.15)
    assert len(found.settings[1].curves) == 12


def test_names_have_a_best_and_no_law():
    points = [
        replace(
            p, extra={"precision": "bf16" if p.varied else "fp32"} | ({"varied": "precision=bf16"} if p.varied else {})
        )
        for p in make_points()
        if p.varied in ("", "batch=32")
    ]
    one = setting(points, "precision")
    assert {(c.values, c.best, c.edge) for c in one.curves} == {(("bf16", "fp32"), "fp32", None)}
    assert one.laws == ()


def test_a_table_that_varies_nothing_has_no_sensitivity():
    assert analyse([p for p in make_points() if not p.varied]) is None
    assert "sensitivity" not in fit([p for p in make_points() if not p.varied], replicates=20).to_dict()
