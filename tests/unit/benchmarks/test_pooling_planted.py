"""Exponents pooled over planted tables, and returns by way of the loss, as `benchmarks` compares them."""

from __future__ import annotations

import re

import numpy as np

from playscale_benchmarks.pooling import planted
from playscale_benchmarks.tables import PLAYSCALE, summary
from playscale_benchmarks.two_steps import DIRECT, PAIRS, TWO_STEPS, forecasts, planted_table


def test_pooled_exponents_of_planted_tables_are_nearer_to_the_truth() -> None:
    text = planted(5, 0.0, 4)["params"]
    own, pooled = map(float, re.findall(r"error ([\d.]+), ([\d.]+);", text)[0])
    assert pooled < own


def test_a_return_of_the_loss_is_forecast_by_all_three() -> None:
    points = planted_table(PAIRS["power of a loss with a floor"], 0.005, np.random.default_rng(0))
    made = list(forecasts("planted", points, 10, 2))
    found = {law: summary([m for m in made if m.law == law]) for law in (PLAYSCALE, DIRECT, TWO_STEPS)}
    assert len({row["forecasts"] for row in found.values()}) == 1
    assert found[TWO_STEPS]["error"] < 0.3
