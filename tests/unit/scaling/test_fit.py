"""The whole fit: fit.json's shape, its determinism, what a broken or thin table gives, and the published ones."""

from __future__ import annotations

import json
import math
import operator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resources import PUBLISHED

from playscale.points import Point, read_points
from playscale.scaling.cells import FitError, Reason, make_cells
from playscale.scaling.fit import Fit, fit, write_fit
from playscale.scaling.warning import Code, diverged_warning

KEYS = {
    "points": set(Point.__dataclass_fields__) - {"extra"},
    "excluded": {"target", "flops", "params", "reason"},
    "warnings": {"code", "text"},
    "power_laws": {"target", "quantity", "at", "exponent", "low", "high", "coefficient", "r2", "n"},
    "backtest": {"target", "form", "from_flops", "decades_ahead", "median_log_error", "coverage"},
    "forecasts": {"target", "flops", "params", "samples", "value", "low", "high"},
    "held_out": {"target", "flops", "params", "samples", "measured", "value", "low", "high", "inside"},
    "profiles": {
        "target", "flops", "a", "b", "c", "low", "high", "argmin_params", "argmin_samples", "argmin_value",
        "vertex_params", "vertex_value", "excluded",
    },
}  # fmt: skip


def grid(
    budgets: list[float], sizes: list[float], seed: int = 0, noise: float = 0.01, *, returns: bool = True
) -> list[Point]:
    rng, table = np.random.default_rng(seed), []
    for flops in budgets:
        for params in sizes:
            samples = flops / 6 / params
            loss = (0.3 + 60 / params**0.5 + 40 / samples**0.35) * float(np.exp(noise * rng.standard_normal()))
            ret = 80 * loss**-1.5 * float(np.exp(5 * noise * rng.standard_normal())) if returns else None
            table.append(Point(flops=flops, params=params, samples=samples, dev_loss=loss, return_mean=ret))
    return table


SIZES = [1e4, 3e4, 1e5, 3e5]
FIVE = [1e11, 2e11, 4e11, 8e11, 1.6e12]


def quick(table: list[Point], **more: Any) -> Fit:
    return fit(table, replicates=60, **more)


def codes(result: Fit) -> set[Code]:
    return {warned.code for warned in result.warnings}


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


def test_the_document_has_the_agreed_shape_and_no_nan(tmp_path: Path) -> None:
    table = grid(FIVE, SIZES)
    table += [replace(point, split="held-out") for point in grid([4e12], SIZES, seed=1)]
    result = quick(table, forecast_flops=[1e13], forecast_at=[(1e5, 1e7)])
    path = tmp_path / "fit.json"
    write_fit(result, path)
    document = json.loads(path.read_text())
    assert document == result.to_dict()
    for key, names in KEYS.items():
        assert document[key] or key in {"warnings", "excluded"}
        for row in document[key]:
            assert names <= set(row), key
    for law in document["laws"].values():
        assert {"form", "parameters", "why"} <= set(law)
        assert all(set(row) == {"value", "low", "high", "reason"} for row in law["parameters"].values())
    assert set(document["curves"]) == {"dev_loss", "return_mean"}
    ends = {f"{name}_{end}" for name in ("params", "samples") for end in ("low", "high")}
    curve = {"flops", "value", "low", "high", "reason", "params", "samples", "params_note"} | ends
    assert set(document["curves"]["dev_loss"][0]) == curve
    assert {(row["target"], row["quantity"]) for row in document["power_laws"]} == {
        ("dev_loss", "params"), ("dev_loss", "samples"), ("dev_loss", "dev_loss"),
        ("return_mean", "params"), ("return_mean", "samples"), ("return_mean", "return_mean"),
        ("return_mean", "return_mean of dev_loss"),
        ("return_mean", "return_mean of params"), ("return_mean", "return_mean of samples"),
    }  # fmt: skip
    assert [row["flops"] for row in document["forecasts"] if row["target"] == "dev_loss"] == pytest.approx([1e13, 6e12])
    assert all(math.isfinite(number) for number in numbers(document))


def test_the_same_seed_gives_the_same_document_and_the_order_of_rows_does_not_matter() -> None:
    table = grid(FIVE, SIZES)
    first = quick(table, seed=3, forecast_flops=[1e13]).to_dict()
    assert first == quick(table, seed=3, forecast_flops=[1e13]).to_dict()
    shuffled = quick(table[::-1], seed=3, forecast_flops=[1e13]).to_dict()
    assert shuffled["laws"] == first["laws"]
    other = quick(table, seed=4, forecast_flops=[1e13]).to_dict()
    assert other["forecasts"] != first["forecasts"]
    assert other["forecasts"][0]["value"] == first["forecasts"][0]["value"]


@pytest.mark.slow
def test_another_forecast_changes_no_other() -> None:
    table = grid(FIVE, SIZES)
    assert quick(table, forecast_flops=[1e13]).curves == quick(table, forecast_flops=[2e12, 1e13]).curves


REFUSED: dict[str, tuple[list[Point], str]] = {
    "nothing": ([], "no point to fit"),
    "one budget": (grid([1e12], SIZES), "a law needs at least 2 budgets to fit"),
    "one point": (grid([1e12], [1e4]), "a law needs at least 2 budgets to fit"),
    "all held out": ([replace(p, split="held-out") for p in grid(FIVE, SIZES)], "held-out"),
    "nothing measured": ([Point(flops=c, params=1, samples=1) for c in FIVE], "no point to fit has a dev_loss"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_refused_in_one_line(case: str) -> None:
    table, said = REFUSED[case]
    with pytest.raises(FitError, match=said) as error:
        quick(table)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan"), float("inf")])
def test_a_nonsense_forecast_is_refused(flops: float) -> None:
    with pytest.raises(FitError, match="must be positive numbers"):
        quick(grid(FIVE, SIZES), forecast_flops=[flops])
    with pytest.raises(FitError, match="must be positive numbers"):
        quick(grid(FIVE, SIZES), forecast_at=[(1e4, flops)])


def test_two_budgets_give_laws_without_intervals_and_a_warning() -> None:
    result = quick(grid([1e11, 1e12], [1e4]), forecast_flops=[1e13], forecast_at=[(1e4, 1e6)])
    assert Code.TOO_FEW in codes(result)
    assert all(row.law.low is None for row in result.power_laws)
    (loss, ret) = result.forecasts
    assert (loss.low, loss.high, ret.low, ret.high) == (None, None, None, None)
    assert loss.value > 0


def test_a_table_without_returns_has_no_return_laws_and_says_so() -> None:
    result = quick(grid(FIVE, SIZES, returns=False))
    assert set(result.to_dict()["laws"]) == {"dev_loss"}
    assert "return_mean is not fitted: no point to fit has a return_mean" in [w.text for w in result.warnings]
    assert not [e for e in result.excluded if e.reason is Reason.NO_RETURN]


def test_a_table_of_returns_alone_has_return_laws() -> None:
    result = quick([replace(point, dev_loss=None) for point in grid(FIVE, SIZES)], forecast_flops=[1e13])
    assert set(result.to_dict()["laws"]) == {"return_mean"}
    assert result.forecasts[0].target == "return_mean"


def test_returns_that_are_all_zero_have_no_law() -> None:
    nowhere = quick([replace(p, return_mean=0.0) for p in grid(FIVE, SIZES)])
    assert any("every mean return is 0, so there is no law of returns" in w.text for w in nowhere.warnings)


def test_points_that_diverged_are_left_out_with_their_reason_and_a_warning() -> None:
    table = grid(FIVE, SIZES)
    bad = replace(table[0], dev_loss=2681.0, run="r", seed=1, extra={"diverged": "dev loss above 4.796"})
    ahead = replace(bad, split="held-out", flops=1e13, run="ahead")
    result, without = quick([*table, bad, ahead]), quick(table)
    assert result.to_dict()["power_laws"] == without.to_dict()["power_laws"]
    assert result.held_out_cells == ()
    left_out = {(e.target, e.flops, e.params) for e in result.excluded if e.reason is Reason.DIVERGED}
    assert left_out == {(t, p.flops, p.params) for t in ("dev_loss", "return_mean") for p in (bad, ahead)}
    (warned,) = [w.text for w in result.warnings if w.code is Code.DIVERGED]
    assert "r at" in warned
    assert "dev loss above 4.796" in warned
    with pytest.raises(FitError, match="has not diverged"):
        make_cells([bad], "dev_loss")


def test_a_run_that_learned_later_has_not_diverged() -> None:
    first, later = (Point(flops=c, params=1e4, samples=c / 6e4, dev_loss=2.0, run="r") for c in (1e9, 1e10))
    begun = replace(first, extra={"diverged": "dev loss above 4.796"})
    (warned,) = diverged_warning([begun, later])
    assert "had not learned enough yet" in warned.text
    assert "learning rate" not in warned.text
    never = replace(later, flops=1e11, extra=begun.extra)
    assert [w.text.split(",")[0] for w in diverged_warning([begun, later, never])] == [
        "training diverged", "training had not learned enough yet",
    ]  # fmt: skip


def test_a_minimum_outside_the_sizes_names_the_budgets_and_the_sizes_that_would_fix_it() -> None:
    result = quick(grid([c * 1000 for c in FIVE], [1e3, 2e3, 4e3]))
    (text,) = (w.text for w in result.warnings if w.code is Code.MINIMUM_OUTSIDE and w.text.startswith("dev_loss"))
    assert "1e+14" in text
    assert "(4k parameters)" in text
    assert "train 2 and 4 times it" in text
    assert all(row.at == "argmin" for row in result.power_laws if row.target == "dev_loss")
    assert result.targets["dev_loss"].forecaster.params is not None


@pytest.mark.slow
def test_each_warning_appears_when_it_is_due_and_not_before() -> None:
    clean = quick(grid(FIVE, SIZES, noise=0.001), forecast_flops=[1e13])
    assert not codes(clean) - {Code.LAW_BENDS}
    far = quick(grid(FIVE, SIZES, noise=0.001), forecast_flops=[1e15], expert_return=1e9)
    assert {Code.EXTRAPOLATION, Code.EXPERT_FAR} <= codes(far)
    assert "625 times the largest fitted budget" in next(w.text for w in far.warnings if w.code is Code.EXTRAPOLATION)
    loud = [point for seed in range(2) for point in grid(FIVE, SIZES, seed=seed, noise=0.2)]
    assert Code.HIGH_VARIANCE in codes(quick(loud))
    falling = [replace(p, return_mean=(p.dev_loss or 0) * 10) for p in grid(FIVE, SIZES)]
    assert Code.RETURN_NOT_RISING in codes(quick(falling))
    wrong = [replace(p, dev_loss=2 - math.log(p.params / 5e4) ** 2 / 20 - p.flops / 1e13) for p in grid(FIVE, SIZES)]
    assert Code.NOT_PARABOLIC in codes(quick(wrong))
    bent = [
        Point(flops=float(c), params=1e5, samples=float(c / 6e5), dev_loss=float(0.1 + 5 * (c / 1e11) ** -0.5))
        for c in np.geomspace(1e11, 1e15, 12)
    ]
    assert Code.LAW_BENDS in codes(quick(bent))


def test_constant_measurements_give_a_flat_law() -> None:
    table = [replace(p, dev_loss=1.0, return_mean=7.0) for p in grid(FIVE, SIZES)]
    result = quick(table, forecast_flops=[1e13], forecast_at=[(1e5, 1e7)])
    assert [f.value for f in result.forecasts] == pytest.approx([1, 1, 7, 7], rel=1e-3)
    json.dumps(result.to_dict(), allow_nan=False)


value = st.floats(1e-6, 1e6)
zero_or_more = st.just(0.0) | st.floats(1e-99, 1e6)
wild = st.builds(
    Point,
    flops=st.sampled_from([1e3, 1e10, 1.01e10, 3e10, 1e11, 5e11, 2e12, 1e99]) | st.floats(1e-99, 1e99),
    params=st.sampled_from([1e3, 1e4, 1e5, 1e6]) | value, samples=st.none() | value | st.floats(1e-99, 1e99),
    dev_loss=st.none() | value | st.floats(1e-99, 1e99), dev_loss_se=st.none() | zero_or_more,
    return_mean=st.none() | zero_or_more | zero_or_more.map(operator.neg), return_se=st.none() | zero_or_more,
    split=st.sampled_from(["fit", "fit", "fit", "held-out"]),
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(wild, max_size=14), st.booleans())
def test_any_table_is_fitted_without_nan_or_refused_in_one_line(table: list[Point], far: bool) -> None:
    try:
        with np.errstate(all="ignore"):
            result = fit(table, [1e12, 1e290] if far else [], [(1e5, 1e8)], replicates=20)
    except FitError as error:
        assert "\n" not in str(error)
        return
    document = result.to_dict()
    json.dumps(document, allow_nan=False)
    for row in [*document["forecasts"], *document["held_out"]]:
        if None not in (row["value"], row["low"], row["high"]):
            assert row["low"] <= row["value"] <= row["high"]


@pytest.mark.slow
@pytest.mark.parametrize("table", ["nethack_isoflop", "atari_BattleZone"])
def test_a_published_table_is_fitted_whole(table: str) -> None:
    result = quick(read_points(PUBLISHED / f"{table}.csv"), forecast_flops=[1e20])
    document = result.to_dict()
    json.dumps(document, allow_nan=False)
    assert {row["target"] for row in document["backtest"]} == {"dev_loss", "return_mean"}
    assert all(row["low"] is not None and row["low"] < row["high"] for row in document["forecasts"])
    assert {row["reason"] for row in document["excluded"]} <= set(Reason)
    if table == "nethack_isoflop":
        assert document["laws"]["dev_loss"]["form"] == "saturating"


def scatter(count: int = 60) -> list[Point]:
    """Return runs of any size and amount of data, no two at one budget, of a planted law."""
    rng = np.random.default_rng(0)
    size, data = (
        np.exp(rng.uniform(np.log(1e7), np.log(1e10), count)),
        np.exp(rng.uniform(np.log(1e9), np.log(1e12), count)),
    )
    loss = 1.8 + 480 / size**0.35 + 2000 / data**0.37
    return [Point(flops=6 * n * d, params=n, samples=d, dev_loss=v) for n, d, v in zip(size, data, loss, strict=True)]


def test_scatter_of_runs_is_fitted_by_the_law_of_size_and_data_alone() -> None:
    result = fit(scatter(), forecast_flops=[1e24], replicates=50)
    [forecast] = result.forecasts
    n, d = result.targets["dev_loss"].surface.laws["parametric"].optimum(1e24)
    assert (forecast.params, forecast.samples) == (pytest.approx(n), pytest.approx(d))
    assert forecast.value == pytest.approx(1.8 + 480 / n**0.35 + 2000 / d**0.37, rel=0.01)
    assert not result.power_laws
    assert not result.targets["dev_loss"].profiles
    assert result.to_dict()["laws"]["dev_loss"]["parameters"].keys() == {"E", "A", "alpha", "B", "beta"}


def test_largest_return_below_one_that_was_reached_is_refused() -> None:
    points = [Point(flops=10.0**i, params=1e4, samples=1e6, return_mean=2.0 * i) for i in range(13, 17)]
    with pytest.raises(FitError, match=r"the largest return of the game is given as 20, but the table has one of 32"):
        fit(points, max_return=20.0, replicates=20)
    law = fit(points, max_return=32.0, replicates=20).to_dict()["laws"]["return_mean"]
    assert law["form"] == "bounded by the largest return"


@pytest.mark.slow
def test_no_forecast_passes_the_largest_return() -> None:
    table = [replace(p, return_mean=200 / (p.dev_loss or 1)) for p in grid(FIVE, SIZES, noise=0.001)]
    most = 1.05 * max(p.return_mean or 0 for p in table)
    result = quick(table, forecast_flops=[1e15], forecast_at=[(1e7, 1e10)], max_return=most)
    found = [row for row in result.to_dict()["forecasts"] if row["target"] == "return_mean"]
    assert len(found) == 2
    bounded = result.to_dict()["parametric"]["return_mean"]["parameters"]["R_max"]
    every = [*found, bounded, *(row for row in result.to_dict()["optima"] if row["target"] == "return_mean")]
    assert bounded["reason"] is None
    for end in [row[name] for row in every for name in ("value", "high") if row.get(name) is not None]:
        assert end <= most * (1 + 1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"forecast_flops": 1e19}, "forecast_flops: 1e+19 is no list; give one, even of a single item"),
        ({"forecast_flops": "1e19"}, "forecast_flops: '1e19' is no list"),
        ({"forecast_flops": ["1e19"]}, "forecast_flops: cannot forecast at '1e19'"),
        ({"forecast_flops": [0]}, "cannot forecast at 0: budgets, params and samples must be positive numbers"),
        ({"forecast_at": (1e6, 1e9)}, "forecast_at: 1000000.0 is no pair (params, samples)"),
        ({"forecast_at": [(1e6,)]}, "forecast_at: (1000000.0,) is no pair"),
        ({"min_return": "5"}, "the smallest return: '5' is not a return; give a number"),
        ({"target_returns": [5]}, "target_returns: 5 is no pair (name, return)"),
        ({"target_returns": {"human": 5}}, "target_returns: {'human': 5} is no list"),
        ({"target_returns": [("human", "b")]}, "human: 'b' is not a return"),
        ({"seed": -1}, "seed: -1 is no whole number of at least 0"),
        ({"seed": 1.5}, "seed: 1.5 is no whole number"),
        ({"replicates": 0}, "replicates: 0 is no whole number of at least 1"),
        ({"hardware": "h100"}, "hardware: 'h100' is none; give playscale.scaling.gpu.hardware(name, utilisation)"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, said):
    points = [Point(flops=c, params=n, samples=c / n, dev_loss=1 + 1 / n) for c in (1e9, 2e9) for n in (1e3, 2e3, 4e3)]
    with pytest.raises(FitError) as refused:
        fit(points, **arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("table", [None, 5])
def test_what_is_no_table_is_refused_in_one_line(table):
    with pytest.raises(ValueError, match=r"points: give rows \{column: value\}, columns"):
        fit(table)
