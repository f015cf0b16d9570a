"""The fit of a table depends on what was measured alone, not on how the table is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.scaling.fit import Fit, fit
from playscale.scaling.warning import Code

names = st.text("abcdefgh_", min_size=1, max_size=6).map(lambda name: f"x_{name}")
cells = st.none() | st.floats(allow_nan=False) | st.text(max_size=4)
units = st.sampled_from([1e-6, 1e-3, 0.25, 1.0, 3.0, 1e3, 1e9])


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw an isoFLOP table of 4 budgets and 4 sizes, with noise of 1 % and some cells of two runs."""
    exponent, floor, rate = draw(st.floats(0.3, 0.7)), draw(st.floats(0.5, 2)), draw(st.floats(0.05, 0.3))
    noise, rows = np.random.default_rng(draw(st.integers(0, 99))), []
    for flops in (1e12, 3e12, 1e13, 3e13):
        for away in (-1.5, -0.5, 0.5, 1.5):
            params = 1e-2 * flops**exponent * np.exp(away)
            loss = floor + 3 * (flops / 1e12) ** -rate * np.exp(0.1 * away**2)
            for seed in range(draw(st.integers(1, 2))):
                value = loss * (1 + 0.01 * noise.standard_normal())
                rows.append(
                    {"seed": seed, "flops": flops, "params": params, "samples": flops / 6 / params, "dev_loss": value}
                )
    return rows


def found(result: Fit) -> dict[str, Any]:
    """Return what a fit has found, without units."""
    laws = {(r.target, r.quantity, r.at): (r.law.exponent, r.law.low, r.law.high) for r in result.power_laws}
    return {
        "laws": laws,
        "repeats": result.targets["dev_loss"].cells.repeat_sd,
        "left out": sorted((row.reason, row.params is None) for row in result.excluded),
        "warned": {warned.code for warned in result.warnings} - {Code.ROWS_TWICE},
        "verdict": result.verdicts["dev_loss"].level,
        "budgets": result.budgets["count"],
    }


@settings(max_examples=5, deadline=None)
@given(st.data(), tables())
def test_order_other_columns_units_and_identical_rows_leave_the_fit_as_it_is(
    data: st.DataObject, rows: list[dict[str, Any]]
) -> None:
    expected = found(fit(rows, replicates=10))
    again = data.draw(st.lists(st.sampled_from(rows), max_size=5))
    other = {name: data.draw(cells) for name in data.draw(st.sets(names, max_size=3))}
    scale = {name: data.draw(units, name) for name in ("flops", "params", "samples", "dev_loss")}
    written = [
        {name: row[name] * scale.get(name, 1) for name in data.draw(st.permutations(list(row)))} | other
        for row in data.draw(st.permutations([*rows, *again]))
    ]
    actual = found(fit(written, replicates=10))
    assert actual.pop("laws") == {key: pytest.approx(law, rel=1e-6) for key, law in expected.pop("laws").items()}
    assert actual.pop("repeats") == pytest.approx(expected.pop("repeats"), rel=1e-6, nan_ok=True)
    assert actual == expected
