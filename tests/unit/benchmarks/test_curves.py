"""Planted curves of single runs: counts add up, and the intervals of those that are forecast cover.

`python -m benchmarks.curves` is the same with more curves; its figures are in docs/scaling.md.
"""

import numpy as np
import pytest

from playscale.points import LearningCurve, Point, write_points
from playscale_benchmarks.curves import (
    COURSES,
    KINDS,
    PARTS,
    curve_of_run,
    curves_of_table,
    groups_of,
    planted,
    summarise_curves,
    table_line,
)


def test_answers_and_reasons_add_up_and_runs_that_diverge_are_told_apart():
    curves = [planted("loss", group, i) for group in ("saturated", "diverging") for i in range(4)]
    rows = [summarise_curves(group, 0.5, own) for group, own in groups_of(curves, 0.5)]
    assert sum(row.curves for row in rows) == len(curves)
    assert all(row.answers + sum(row.untold.values()) == row.curves for row in rows)
    assert rows[0].group == "loss, saturated"
    assert {row.group for row in rows[1:]} <= {"loss, diverging before", "loss, diverging after"}
    assert all(table_line(row).startswith(f"| {row.group} | 50% |") for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_plants_one_curve_and_diverging_ones_get_worse(kind):
    better = 1 if kind == "return" else -1
    for group in COURSES[kind]:
        curve, again = planted(kind, group, 5), planted(kind, group, 5)
        np.testing.assert_array_equal(curve.values, again.values)
        assert np.isfinite(curve.turned) == (group == "diverging")
    lost = [better * (c.values[-1] - np.interp(c.turned, c.flops, c.values)) for c in
            (planted(kind, "diverging", i) for i in range(10))]  # fmt: skip
    assert np.median(lost) < -0.2


def test_curves_are_read_from_tables_and_from_runs(tmp_path):
    points = [Point(flops=c, params=n, samples=c / n, return_mean=c / n) for n in (1e3, 2e3) for c in (1e9, 2e9, 4e9)]
    write_points(points, tmp_path / "p.csv")
    assert [curve.values.tolist() for curve in curves_of_table(tmp_path / "p.csv")] == [
        [1e6, 2e6, 4e6],
        [5e5, 1e6, 2e6],
    ]
    curve = LearningCurve(tmp_path / "curve.csv")
    curve.resume(0)
    for i in range(1, 30):
        curve.add(i, {"flops": 1e6 * i, "train_loss": 1 / i} | ({"train_return": 1.0} if i > 20 else {}))
    found = curve_of_run(tmp_path / "curve.csv")
    assert (found.kind, len(found.flops)) == ("loss", 29)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_of_planted_curves_cover_and_forecasts_beat_the_last_value(kind):
    for group, part in (("saturated", PARTS[1]), ("not saturated", PARTS[1])):
        row = summarise_curves(group, part, [planted(kind, group, i) for i in range(24)])
        if row.answers > 5:
            assert row.coverage >= 0.8, row
            assert row.error < 1.1 * row.last, row
