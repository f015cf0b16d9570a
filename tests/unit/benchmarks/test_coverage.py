"""Intervals of the law of params and samples hold the truth where errors of a size or a run belong together.

`python -m benchmarks.coverage` is the same at 400 draws with the residuals of real tables; docs/scaling.md has it.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from playscale.points import Point
from playscale_benchmarks.coverage import QUANTITIES, Case, case, covered

DRAWS = 60


def table(rng: np.random.Generator, *, epochs: bool = False) -> list[Point]:
    """Return 12 sizes at 8 budgets; half of the error is common to a size, and every second cell has 5 times it."""
    points = []
    for params in np.geomspace(1e8, 1e10, 12):
        common = rng.standard_normal()
        for i, flops in enumerate(np.geomspace(1e18, 1e21, 8)):
            samples = float(flops / 6 / params)
            error = 0.004 * (1, 5)[i % 2] * (common + rng.standard_normal())
            loss = (1.69 + 406.4 / params**0.34 + 410.7 / samples**0.28) * float(np.exp(error))
            extra = {"epochs": str(1 + i)} if epochs else {}
            points.append(Point(flops=float(flops), params=float(params), samples=samples, dev_loss=loss, extra=extra))
    return points


def test_a_draw_flips_the_residuals_of_a_size_together() -> None:
    one = case("planted", table(np.random.default_rng(0)), "dev_loss")
    assert int(one.cluster.max()) + 1 == 12
    cells = one.sample(np.random.default_rng(1))
    flipped = (cells.cost - one.law.cost(cells.params, cells.samples)) / np.array(
        [one.residuals[_place(one, n, c)] for n, c in zip(cells.params, cells.flops, strict=True)]
    )
    assert np.abs(flipped) == pytest.approx(np.ones(96))
    for size in np.unique(cells.params):
        assert len(set(np.round(flipped[cells.params == size]))) == 1


def _place(one: Case, params: float, flops: float) -> int:
    away = [abs(np.log(p.params / params)) + abs(np.log(p.flops / flops)) for p in one.points]
    return int(np.argmin(away))


def test_a_table_with_epochs_is_planted_about_a_law_of_repeated_data() -> None:
    plain, repeated = (case("planted", table(np.random.default_rng(0), epochs=e), "dev_loss") for e in (False, True))
    assert np.all(np.isfinite(repeated.residuals))
    assert not np.allclose(plain.law.theta, repeated.law.theta)


@pytest.mark.slow
def test_the_intervals_cover_where_errors_are_clustered_and_uneven() -> None:
    one = case("planted", table(np.random.default_rng(0)), "dev_loss")
    inside = np.array([covered(one, seed, 100)[0] for seed in range(DRAWS)])
    for quantity, count in zip(QUANTITIES, inside.sum(axis=0), strict=True):
        assert stats.binomtest(int(count), DRAWS, 0.92, alternative="less").pvalue > 0.01, (quantity, count)
