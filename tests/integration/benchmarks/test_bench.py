"""The bench command: alternating rounds, honest statistics, JSON kept part by part."""

import importlib
import json
import sys
import types

import pytest

from playscale_benchmarks import bench as benches
from playscale_benchmarks.bench import Options, Row, bench
from playscale_benchmarks.rounds import alternate, compare, rate, row, spread


def test_sides_alternate_and_the_order_is_reversed():
    calls = []
    sides = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert alternate(sides, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(calls) == "abbaab"


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    """The machine is half as fast in the last two of three rounds: the ratio is untouched."""
    figure = row("x", "frames/s", [400.0, 200.0, 210.0], [10.0, 5.0, 5.0], dtype="fp32")
    assert (figure.ours, figure.peer, figure.ratio) == (210, 5, 40)
    assert figure.spread == pytest.approx(2 / 40)
    assert figure.detail["dtype"] == "fp32"
    alone = compare("x", "frames/s", iter([3.0, 1.0, 2.0]).__next__, None, 3)
    assert (alone.ours, alone.peer, alone.ratio, alone.spread) == (2, None, None, 1)
    assert spread([5.0]) == 0


def test_rate_counts_units_over_the_time_they_took():
    now = iter([0.0, 1.0, 2.0, 4.0])
    assert rate(lambda: 6, 3.0, lambda: next(now)) == 18 / 4


def test_parts_are_shown_and_kept_one_by_one(tmp_path, monkeypatch):
    """A part that fails costs nothing of what was measured before it."""
    shown, path = [], tmp_path / "bench.json"

    def broken(options):
        raise ValueError("planted")

    for name, run in (("data", lambda options: [Row("r", "s", 1.0)]), ("fit", broken)):
        module = types.ModuleType(f"playscale_benchmarks.{name}")
        module.__spec__ = types.SimpleNamespace(name=name)
        module.run = run
        monkeypatch.setitem(sys.modules, f"playscale_benchmarks.{name}", module)
    monkeypatch.setattr(benches, "PARTS", {"data": "data", "fit": "fit"})
    with pytest.raises(ValueError, match="planted"):
        bench(("data", "fit"), Options(games=tmp_path), path, shown.append)
    kept = json.loads(path.read_text())
    assert kept["parts"] == {"data": [{"name": "r", "unit": "s", "ours": 1.0, "detail": {}, "spread": 0.0} | NONE]}
    assert kept["options"]["games"] == str(tmp_path)
    assert kept["machine"]["cores"] >= 1
    assert kept["machine"]["versions"]["torch"]
    assert len(shown) == 2, "the machine, and the table of data"


NONE = {"peer": None, "ratio": None}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sound",), "unknown benchmark 'sound': data, train, rollout, fit, impala or all"),
        (("fit", "--rounds", "0"), "rounds"),
        (("data", "--games", "nowhere"), "--games nowhere: no such directory"),
        (("data", "--seconds", "0"), "seconds above 0"),
    ],
)
def test_bad_input_is_one_line(cli, tmp_path, arguments, says):
    result = cli("bench", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert says in result.stderr


def test_every_part_has_its_module():
    for part, module in benches.PARTS.items():
        assert callable(importlib.import_module(f"playscale_benchmarks.{module}").run), part
