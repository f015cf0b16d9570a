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
        ({"value": 0.3891, "low": 0.3889, "high": 0.3892}, "0.38910 (0.38890 to 0.38920)"),
        ({"value": 0.690312, "low": 0.690281, "high": 0.690339}, "0.69031 (0.69028 to 0.69034)"),
        ({"value": 0.5, "low": 0.5, "high": 0.5}, "0.5000000 (± under 10⁻⁷)"),
        (
            {"value": 1234561.0, "low": 1234500.0, "high": 1234600.0},
            "1.23456\u00d710⁶ (1.2345\u00d710⁶ to 1.2346\u00d710⁶)",
        ),
        ({"value": 0.0, "low": -0.2, "high": 0.1}, "0 (\u22120.200 to 0.100)"),
        ({"value": 0.0, "low": None, "high": 0.9, "reason": "below 0.900"}, "0 (below 0.900)"),
        ({"value": 0.3, "low": None, "high": None, "reason": UNBOUNDED}, f"0.300 ({UNBOUNDED})"),
        ({"value": None, "low": 2.0, "high": None, "reason": "above 2.00"}, "above 2.00"),
        ({"value": 0.3, "low": None, "high": None, "reason": None}, "0.300"),
        ({"value": None}, numbers.MISSING),
    ],
)
def test_a_value_is_written_with_what_is_known_of_its_interval(row: dict[str, float | None], written: str) -> None:
    assert numbers.with_interval(row) == written


@pytest.mark.parametrize(
    ("value", "error", "written"),
    [
        (82.4, 3.1, "82.4 ± 3.1"), (0.690231, 0.000123, "0.69023 ± 0.00012"), (1234.4, 12.0, "1,234 ± 12"),
        (0.0, 0.1, "0 ± 0.10"), (2.0, 0.0, "2.00 ± 0"), (3.0, None, "3.00"), (2.0, 50.0, "2.00 ± 50"),
    ],
)  # fmt: skip
def test_a_mean_is_as_fine_as_its_error(value: float, error: float | None, written: str) -> None:
    assert numbers.with_error(value, error) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.2, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (90, "1 min 30 s"), (599, "10 min"), (3599, "1 h 0 min"),
        (12_000, "3 h 20 min"), (86_399, "24 h"), (44_442_000, "12,345 h"),
    ],
)  # fmt: skip
def test_a_time_has_the_units_that_suit_it(seconds: float, written: str) -> None:
    assert numbers.duration(seconds) == written


def test_values_have_digits_that_tell_them_apart() -> None:
    assert numbers.told_apart([0.6902, 0.6905, 0.6905]) == ["0.69020", "0.69050", "0.69050"]
    assert numbers.told_apart([0.69021, 0.69022, 3.0]) == ["0.69021", "0.69022", "3.0000"]
    assert numbers.told_apart([2.0, 3.0]) == ["2.00", "3.00"]
    assert numbers.told_apart([]) == []


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
