"""Forecasts of planted studies: intervals cover what is then measured, recommendations follow the planted optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.fit import Fit, fit
from playscale.scaling.forecast import HeldOut

BUDGETS = (1e11, 2.5e11, 6e11, 1.2e12)
SIZES = (1e4, 3e4, 1e5, 3e5)


def loss_of(params: float, samples: float) -> float:
    return 0.6 + 60 / params**0.5 + 40 / samples**0.35


def study(
    rng: np.random.Generator, noise: float, budgets: tuple[float, ...] = BUDGETS, held_out: tuple[float, ...] = (3e12,)
) -> list[Point]:
    """The quickstart's grid: four sizes, four budgets and a held-out one, 32 episodes a point."""
    table = []
    for flops in (*budgets, *held_out):
        for params in SIZES:
            samples = flops / 6 / params
            loss = loss_of(params, samples) * float(np.exp(noise * rng.standard_normal()))
            ret = 80 * (loss / 2) ** -1.5 * float(np.exp(20 * noise * rng.standard_normal()))
            split = "held-out" if flops in held_out else "fit"
            point = Point(flops=flops, params=params, samples=samples, dev_loss=loss, split=split)
            table.append(replace(point, return_mean=ret, return_se=20 * noise * ret, episodes=32))
    return table


def quick(table: list[Point], **more: object) -> Fit:
    return fit(table, replicates=100, **more)  # type: ignore[arg-type]


@pytest.mark.slow
def test_held_out_measurements_fall_inside_their_intervals() -> None:
    inside: dict[str, list[bool]] = {"dev_loss": [], "return_mean": [], "cells": []}
    errors = []
    for seed in range(15):
        result = quick(study(np.random.default_rng(seed), 0.01), seed=seed)
        assert len(result.held_out) == 2
        for row in result.held_out:
            assert row.inside is not None
            inside[row.target].append(row.inside)
            if row.target == "dev_loss":
                errors.append(abs(np.log(row.measured / row.value)))
        inside["cells"] += [bool(row.inside) for row in result.held_out_cells if row.target == "dev_loss"]
    for name, held in inside.items():
        assert np.mean(held) >= 0.9, name
    assert np.median(errors) < 0.03


def test_the_held_out_row_is_the_best_cell_of_its_budget() -> None:
    table = study(np.random.default_rng(0), 0.0001)
    best = min((p for p in table if p.held_out), key=lambda p: p.dev_loss or np.inf)
    (row,) = (row for row in quick(table).held_out if row.target == "dev_loss")
    assert (row.flops, row.params, row.measured) == (best.flops, best.params, pytest.approx(best.dev_loss))
    assert row.value == pytest.approx(best.dev_loss, rel=0.04)


def test_held_out_points_never_touch_the_fit() -> None:
    table = study(np.random.default_rng(0), 0.01)
    spoiled = [replace(p, dev_loss=50.0, return_mean=1e6) if p.held_out else p for p in table]
    honest, changed = quick(table).to_dict(), quick(spoiled).to_dict()
    for part in ("power_laws", "laws", "profiles", "excluded", "backtest", "parametric", "curves"):
        assert honest[part] == changed[part]
    assert not any(row["inside"] for row in changed["held_out"])


def test_a_forecast_recommends_the_planted_optimum_and_spends_the_budget() -> None:
    result = quick(study(np.random.default_rng(0), 0.0005), forecast_flops=[4e12])
    (forecast,) = (f for f in result.forecasts if f.target == "dev_loss")
    sizes = np.geomspace(1e4, 1e7, 4000)
    optimum = sizes[np.argmin([loss_of(n, 4e12 / 6 / n) for n in sizes])]
    assert forecast.params == pytest.approx(optimum, rel=0.35)
    assert 6 * (forecast.params or 0) * (forecast.samples or 0) == pytest.approx(4e12, rel=0.05)
    assert forecast.low is not None
    assert forecast.high is not None
    assert forecast.low <= loss_of(optimum, 4e12 / 6 / optimum) <= forecast.high


def test_a_forecast_of_a_size_and_data_is_the_planted_loss() -> None:
    result = quick(study(np.random.default_rng(0), 0.001), forecast_at=[(2e5, 1e6)])
    (forecast,) = (f for f in result.forecasts if f.target == "dev_loss")
    assert (forecast.params, forecast.samples) == (2e5, 1e6)
    assert forecast.flops == pytest.approx(6 * 2e5 * 1e6)
    assert forecast.value == pytest.approx(loss_of(2e5, 1e6), rel=0.01)
    assert forecast.low is not None
    assert forecast.high is not None
    assert forecast.low < forecast.value < forecast.high


@pytest.mark.slow
def test_intervals_grow_with_distance_and_with_noise() -> None:
    def width(noise: float, flops: float) -> float:
        table = study(np.random.default_rng(3), noise)
        (forecast,) = (f for f in quick(table, forecast_flops=[flops]).forecasts if f.target == "dev_loss")
        return float(np.log((forecast.high or 0) / (forecast.low or 1)))

    assert width(0.01, 2e12) < width(0.01, 1e13) < width(0.01, 1e14)
    assert width(0.002, 3e12) < width(0.02, 3e12)


@pytest.mark.slow
def test_the_curve_runs_from_the_first_budget_to_the_furthest_forecast_or_tenfold() -> None:
    table = study(np.random.default_rng(0), 0.01)
    for flops, end in (([], 1.2e13), ([5e13], 5e13)):
        curve = quick(table, forecast_flops=flops).curves["dev_loss"]
        assert (curve[0].flops, curve[-1].flops) == (pytest.approx(1e11), pytest.approx(end))
        assert all(f.low is not None and f.high is not None and f.low <= f.value <= f.high for f in curve)


def test_inside_is_unknown_without_an_interval() -> None:
    row = HeldOut("dev_loss", 1e12, 1e5, None, 1.0, 1.1, None, None)
    assert row.inside is None
    assert replace(row, low=0.9, high=1.2).inside is True
    assert replace(row, low=1.05, high=1.2).inside is False
    assert replace(row, reason="not bounded").inside is None
    assert replace(row, value=float("inf"), high=1.2).inside is None
