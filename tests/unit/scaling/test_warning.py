import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.cells import FitError
from playscale.scaling.fit import fit
from playscale.scaling.warning import Code, extrapolation_warning

BUDGETS = [float(c) for c in 1e13 * 4.0 ** np.arange(5)]


def loss(flops: float, params: float) -> float:
    """Return a loss with its minimum at N = sqrt(C) / 1000."""
    return float(3 * (flops / 1e13) ** -0.1 * np.exp(0.05 * np.log(params / flops**0.5 * 1e3) ** 2))


def table(factors: list[float]) -> list[Point]:
    """At each budget these sizes, as factors of its best one."""
    sizes = {flops: [factor * flops**0.5 / 1e3 for factor in factors] for flops in BUDGETS}
    return [Point(flops=c, params=n, samples=c / 6 / n, dev_loss=loss(c, n)) for c, own in sizes.items() for n in own]


def texts(points: list[Point], code: Code) -> list[str]:
    return [warned.text for warned in fit(points, replicates=20).warnings if warned.code is code]


def test_best_cells_on_a_line_by_the_grid_alone_are_warned_about() -> None:
    (text,) = texts(table([0.25, 1.0, 4.0]), Code.GRID_DECIDES)
    assert "exponent 0.500" in text
    assert "a factor 4 apart" in text
    # At each budget the same sizes: a factor 2.4 apart, the best is the next one each time; 1.8 apart, now and then the
    # next but one.
    for count, exponent in ((9, "0.623"), (13, None)):
        sizes = np.geomspace(1e3, 1e6, count)
        fixed = [Point(flops=c, params=n, samples=c / 6 / n, dev_loss=loss(c, n)) for c in BUDGETS for n in sizes]
        assert [f"exponent {exponent}" in text for text in texts(fixed, Code.GRID_DECIDES)] == [True] * bool(exponent)


@pytest.mark.parametrize(
    ("sizes", "side", "last"), [([1.5, 3.0, 6.0], "below", "4.74k"), ([0.2, 0.4, 0.8], "above", "2.53k")]
)
def test_a_best_cell_that_is_the_last_size_is_warned_about_with_that_size(
    sizes: list[float], side: str, last: str
) -> None:
    (text,) = texts(table(sizes), Code.MINIMUM_OUTSIDE)
    assert f"may lie {side} the trained ones at budgets 1e+13 ({last} parameters)" in text
    assert text.endswith("at these budgets")


def test_one_budget_is_this_budget() -> None:
    points = [
        p for p in table([0.25, 0.5, 1.0, 2.0, 4.0]) if p.flops != BUDGETS[2] or p.params < BUDGETS[2] ** 0.5 / 2e3
    ]
    (text,) = texts(points, Code.NOT_PARABOLIC)
    assert text.endswith("at this budget")
    with pytest.raises(FitError, match=r"only one budget, 1e\+13 FLOPs, has a dev_loss \(1 cell\)"):
        fit(table([1.0])[:1])


def test_forecasts_far_above_and_far_below_the_fitted_budgets_are_warned_about() -> None:
    assert extrapolation_warning(1e12, 1e15, [1e12, 1e16, 1e11]) == []
    above, below = (w.text for w in extrapolation_warning(1e12, 1e15, [1e18, 1e5, 1e14]))
    assert "forecasts to 1e+18 FLOPs reach up to 1,000 times the largest fitted budget (1e+15)" in above
    assert "forecasts to 1e+05 FLOPs lie up to 10⁷ times below the smallest one (1e+12)" in below
