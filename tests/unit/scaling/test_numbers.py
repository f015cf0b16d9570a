import pytest

from playscale.points import Point
from playscale.scaling import numbers
from playscale.scaling.bound import UNBOUNDED
from playscale.scaling.fit import fit
from playscale.scaling.forecast import HeldOut


@pytest.mark.parametrize(
    ("row", "written"),
    [
        ({"value": 0.52, "low": 0.41, "high": 0.63}, "0.520 (0.410 to 0.630)"),
        ({"value": 0.3891, "low": 0.3889, "high": 0.3892}, "0.389 (± under 0.001)"),
        ({"value": 0.0, "low": None, "high": 0.9, "reason": "below 0.900"}, "0 (below 0.900)"),
        ({"value": 0.3, "low": None, "high": None, "reason": UNBOUNDED}, f"0.300 ({UNBOUNDED})"),
        ({"value": None, "low": 2.0, "high": None, "reason": "above 2.00"}, "above 2.00"),
        ({"value": 0.3, "low": None, "high": None, "reason": None}, "0.300"),
        ({"value": None}, numbers.MISSING),
    ],
)
def test_a_value_is_written_with_what_is_known_of_its_interval(row: dict[str, float | None], written: str) -> None:
    assert numbers.with_interval(row) == written


def test_a_forecast_has_no_end_a_thousand_times_away() -> None:
    returns = {1e13: 10.0, 1e14: 300.0, 1e15: 40.0, 1e16: 900.0}
    table = [Point(flops=c, params=c**0.5 / 1e3, samples=c**0.5, return_mean=r) for c, r in returns.items()]
    (forecast,) = fit(table, [1e24], replicates=100).forecasts
    ends = [end for end in (forecast.low, forecast.high) if end is not None]
    assert all(1e-3 < end / forecast.value < 1e3 for end in ends)
    assert len(ends) < 2
    assert forecast.reason


def test_a_measurement_is_inside_an_interval_without_an_end() -> None:
    row = HeldOut("return_mean", 1e13, 1e4, None, 5.0, 4.0, None, 6.0, "below 6.00")
    assert row.inside is True
    assert HeldOut("return_mean", 1e13, 1e4, None, 7.0, 4.0, None, 6.0, "below 6.00").inside is False
    assert HeldOut("return_mean", 1e13, 1e4, None, 7.0, 4.0, None, None).inside is None
