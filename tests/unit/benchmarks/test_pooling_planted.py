"""Exponents pooled over planted tables, and returns by way of the loss, as `benchmarks` compares them."""

from __future__ import annotations

import re

import numpy as np

from playscale.scaling.backtest import THROUGH_LOSS
from playscale_benchmarks.pooling import planted
from playscale_benchmarks.tables import PLAYSCALE
from playscale_benchmarks.two_steps import DIRECT, PAIRS, TWO_STEPS, forecasts, planted_table


def test_pooled_exponents_of_planted_tables_are_nearer_to_the_truth() -> None:
    text = planted(5, 0.0, 4)["params"]
    own, pooled = map(float, re.findall(r"error ([\d.]+), ([\d.]+);", text)[0])
    assert pooled < own


def test_a_return_of_the_loss_is_forecast_by_all_three() -> None:
    points = planted_table(PAIRS["power of a loss with a floor"], 0.005, np.random.default_rng(0))
    made = list(forecasts("planted", points, 10, 2))
    found = {law: [m for m in made if m.law == law] for law in (PLAYSCALE, DIRECT, TWO_STEPS)}
    assert len({len(own) for own in found.values()}) == 1
    assert all(m.name.endswith(THROUGH_LOSS) for m in found[TWO_STEPS])
    assert not any(m.name.endswith(THROUGH_LOSS) for m in found[DIRECT])
    assert all(m.low <= 0 <= m.high for m in made)
