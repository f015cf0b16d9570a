"""Exponents of several tables pooled: the estimate and its slow twin, planted tables, one table left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from playscale.points import Point
from playscale.scaling.cells import FitError
from playscale.scaling.fit import Fit, fit
from playscale.scaling.methods import MethodFits, by_method, joined
from playscale.scaling.pooling import (
    LEAST_ERROR,
    Line,
    left_out,
    measured,
    pool,
    pooled_exponent,
    random_effects,
)
from playscale.scaling.powerlaw import fit_power_law

VALUES, ERRORS = np.array([0.4, 0.5, 0.55, 0.7]), np.array([0.02, 0.1, 0.05, 0.04])


def line(name: str, exponent: float, count: int, noise: float, rng: np.random.Generator, scale: float = 0.0) -> Line:
    x = np.log(1e14) + np.log(3.0) * np.arange(count)
    y = scale + exponent * x + noise * rng.standard_normal(count)
    return Line(name, "argmin", x, y, fit_power_law(x, y))


def test_pooled_exponents_are_those_of_the_joint_normal_distribution() -> None:
    """The slow twin conditions all exponents and their mean, which has next to no prior, at each tau."""
    found = random_effects(VALUES, ERRORS)
    vague, size = 1e3, len(VALUES)
    means, variances, weights = [], [], []
    for tau in found.taus[::10]:
        prior = tau**2 * np.eye(size) + vague
        seen = prior + np.diag(ERRORS**2)
        gain = prior @ np.linalg.inv(seen)
        means.append(gain @ VALUES)
        variances.append(np.diag(prior - gain @ prior))
        weights.append(stats.multivariate_normal(np.zeros(size), seen).pdf(VALUES))
    own = found.weights[::10] / found.weights[::10].sum()
    assert own == pytest.approx(np.array(weights) / np.sum(weights), rel=2e-3)
    for i, one in enumerate(found.own):
        assert one.means[::10] == pytest.approx(np.array(means)[:, i], abs=1e-4)
        assert one.sds[::10] ** 2 == pytest.approx(np.array(variances)[:, i], rel=1e-2, abs=1e-5)


def test_equal_exponents_are_shrunk_to_their_mean_and_far_ones_hardly() -> None:
    near = random_effects(0.5 + 0.001 * np.arange(6), np.full(6, 0.05))
    assert all(abs(one.mean - near.mean.mean) < 0.002 for one in near.own)
    assert all(one.sd < 0.05 for one in near.own)
    far = random_effects(np.array([0.1, 0.4, 0.6, 0.9]), np.full(4, 0.01))
    assert [one.mean for one in far.own] == pytest.approx([0.1, 0.4, 0.6, 0.9], abs=0.005)
    assert far.tau == pytest.approx(0.4, abs=0.15)
    low, high = far.new.interval
    assert low < 0.1
    assert high > 0.9


def test_fewer_tables_are_shrunk_less_and_leave_more_open() -> None:
    values, errors = np.array([0.45, 0.5, 0.55]), np.full(3, 0.05)
    few, many = random_effects(values, errors), random_effects(np.tile(values, 4), np.tile(errors, 4))
    assert few.tau_quantile(0.975) > 2 * many.tau_quantile(0.975)
    assert abs(few.own[0].mean - 0.45) < abs(many.own[0].mean - 0.45)
    assert few.mean.sd > 1.5 * many.mean.sd


def test_exponent_without_an_error_keeps_its_place() -> None:
    found = random_effects(np.array([0.5, 0.4, 0.6, 0.45]), np.array([0.0, 0.05, 0.05, 0.05]))
    assert found.own[0].mean == pytest.approx(0.5, abs=10 * LEAST_ERROR)


@pytest.mark.parametrize("tau", [0.0, 0.05])
def test_intervals_hold_the_truth_of_planted_tables(tau: float) -> None:
    inside, own_errors, errors, new = [], [], [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        error, truth = rng.choice([0.02, 0.05, 0.1], 5), 0.5 + tau * rng.standard_normal(5)
        seen = truth + error * rng.standard_normal(5)
        found = random_effects(seen, error)
        inside += [low <= t <= high for t, one in zip(truth, found.own, strict=True) for low, high in [one.interval]]
        own_errors += (seen - truth).tolist()
        errors += [one.mean - t for t, one in zip(truth, found.own, strict=True)]
        low, high = found.new.interval
        new.append(low <= 0.5 + tau * rng.standard_normal() <= high)
    assert np.mean(inside) > 0.92
    assert np.mean(new) > 0.9
    assert np.std(errors) < 0.9 * np.std(own_errors)


def test_pooling_is_kept_where_it_forecasts_a_table_left_out_better() -> None:
    """Of exponents in common the first budgets of a table say little more; of a table unlike the others they do."""
    rng = np.random.default_rng(0)
    alike = [line(str(i), 0.5, 8, 0.2, rng, scale=float(i)) for i in range(5)]
    row = pooled_exponent("dev_loss", "params", alike, random_effects(*measured(alike)))
    assert row.kept
    assert row.ratio is not None
    assert row.ratio < 0.8
    assert {score.table for score in row.left_out} == set("01234")
    assert all(score.forecasts == 15 for score in row.left_out)
    assert np.mean([score.pooled_score < score.score for score in row.left_out]) > 0.5
    short = [line(str(i), 0.5, 3, 0.1, rng) for i in range(3)]
    none = pooled_exponent("dev_loss", "params", short, random_effects(*measured(short)))
    assert (none.left_out, none.ratio, none.kept) == ((), None, False)


def test_scale_of_a_table_is_its_own() -> None:
    """A table a million times larger in its values has the same exponents and scores."""
    rng = np.random.default_rng(1)
    lines = [line(str(i), 0.5, 6, 0.1, rng) for i in range(4)]
    shifted = [*lines[:3], replace(lines[3], log_value=lines[3].log_value + np.log(1e6))]
    shifted[3] = replace(shifted[3], law=fit_power_law(shifted[3].log_flops, shifted[3].log_value))
    for i in (0, 3):
        one, other = left_out(lines, i), left_out(shifted, i)
        assert one is not None
        assert other is not None
        assert one.pooled_error == pytest.approx(other.pooled_error)


def quick(rows: list[Point]) -> Fit:
    return fit(rows, replicates=10)


def table(game: str, share: float, level: float, method: str = "") -> list[Point]:
    rng = np.random.default_rng([round(1e3 * share), 2])
    return [
        Point(
            game=game, method=method, flops=c, params=n, samples=c / 6 / n,
            dev_loss=float(level * (c / 1e13) ** -0.1 * np.exp(0.03 * np.log(n / best) ** 2 + 0.01 * off)),
        )
        for c in np.geomspace(1e13, 1e15, 4).tolist()
        for best in [0.1 * c**share]
        for n, off in zip((best * np.array([0.3, 0.9, 3.0])).tolist(), rng.standard_normal(3), strict=True)
    ]  # fmt: skip


def test_fits_of_three_tables_are_pooled_and_written() -> None:
    fits = {name: quick(table(name, share, level)) for name, share, level in
            (("pong", 0.5, 1.0), ("boxing", 0.52, 7.0), ("qbert", 0.49, 0.1))}  # fmt: skip
    found = pool(fits, [1e17])
    written = MethodFits(fits, {}, pool=found).to_dict()["pool"]
    assert written["tables"] == ["pong", "boxing", "qbert"]
    rows = {row["quantity"]: row for row in written["exponents"]}
    assert set(rows) == {"params", "samples", "dev_loss"}
    assert rows["params"]["mean"] == pytest.approx(0.503, abs=0.02)
    assert [one["table"] for one in rows["params"]["tables"]] == ["pong", "boxing", "qbert"]
    assert all(one["pooled_low"] < one["pooled"] < one["pooled_high"] for one in rows["params"]["tables"])
    levels = [row["pooled_value"] for row in written["forecasts"] if row["quantity"] == "dev_loss"]
    assert levels == pytest.approx([10 ** (-0.4), 7 * 10 ** (-0.4), 0.1 * 10 ** (-0.4)], rel=0.1)
    with pytest.raises(FitError, match="at least 3 tables .* there are 2: pong, boxing"):
        pool({name: fits[name] for name in ("pong", "boxing")})


def test_tables_of_one_game_are_told_apart_by_their_names() -> None:
    one = [Point(flops=1e9, params=1e3, samples=1e5, dev_loss=1.0, game="nethack", method="bc")]
    other = [replace(one[0], game="pong")]
    nameless = [replace(one[0], game="")]
    whole = joined([("lstm", one), ("transformer", one), ("pong", other), ("mine", nameless), ("lstm", nameless)])
    assert [p.game for p in whole] == ["nethack (lstm)", "nethack (transformer)", "pong", "mine", "lstm (2)"]
    assert len(by_method(whole)) == 5
    assert joined([("a", nameless)]) == nameless
