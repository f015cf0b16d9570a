from __future__ import annotations

import math

import pytest

from playscale.report import track_record
from playscale.scaling.reach import REACHES, reach_name, reach_of


def made(from_flops: float, flops: float, ratio: float, inside: bool | None, **more: object) -> dict[str, object]:
    row = {"target": "dev_loss", "from_flops": from_flops, "flops": flops, "measured": 2.0, "value": 2.0 * ratio}
    return row | {"inside": inside} | more


def test_forecasts_are_scored_by_how_far_ahead_they_reached() -> None:
    rows = [
        made(1e10, 2e10, 1.1, True, power_value=4.0, power_inside=False),
        made(1e10, 3.1622e10, 1 / 1.2, False),
        made(1e10, 1e11, 1.5, True),
        made(1e10, 1e12, 2.0, None),
        made(1e10, 1e15, 3.0, False),
        made(1e10, 1e11, 1.0, True, target="return_mean"),
        made(1e10, 1e11, -1.0, True),
    ]
    groups = track_record.by_reach(track_record.track({"track_record": rows}, "dev_loss"))
    assert {reach: len(own) for reach, own in groups.items()} == {0.5: 2, 1.0: 1, 2.0: 1, math.inf: 1}
    near = track_record.score(groups[0.5])
    assert near is not None
    assert (near.inside, near.count) == (0.5, 2)
    assert near.error == pytest.approx((math.log(1.1) + math.log(1.2)) / 2)
    power = track_record.score(groups[0.5], "power_")
    assert power is not None
    assert (power.error, power.inside, power.count) == (pytest.approx(math.log(2)), 0.0, 1)
    unjudged = track_record.score(groups[2.0])
    assert unjudged is not None
    assert unjudged.inside is None
    assert track_record.score(groups[1.0], "power_") is None
    assert track_record.track({}, "dev_loss") == []


def test_the_backtest_is_summed_by_law_and_reach() -> None:
    def row(form: str, ahead: float, error: float, coverage: float) -> dict[str, object]:
        return {
            "target": "dev_loss", "form": form, "decades_ahead": ahead, "median_log_error": error, "coverage": coverage
        }  # fmt: skip

    rows = [row("b", 1.5, 0.1, 1.0), row("b", 2.0, 0.3, 0.5), row("b", 0.5, 0.7, 0.0), row("a", 4.0, 1.0, 0.0)]
    found = track_record.backtest({"backtest": [*rows, row("c", 1.0, math.nan, 1.0)]}, "dev_loss")
    assert list(found) == ["b", "a"]
    assert list(found["b"]) == [0.5, 2.0]
    assert found["b"][2.0] == track_record.Score(pytest.approx(0.2), 0.75, 2)
    assert found["a"][math.inf].error == 1.0


def test_reaches_have_names() -> None:
    names = ["up to 0.5 decades", "0.5 to 1 decades", "1 to 2 decades", "2 to 3 decades", "over 3 decades"]
    assert [reach_name(reach) for reach in REACHES] == names
    assert reach_of(0.5 + 1e-9) == 0.5
    assert reach_of(0.51) == 1.0
