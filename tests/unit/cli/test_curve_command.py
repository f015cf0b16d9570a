"""`playscale fit --curve`: what it prints, its JSON and its figure, and what it refuses."""

import json

import numpy as np
import pytest

from playscale.points import CURVE_COLUMNS, LearningCurve

C = np.linspace(1e10, 1e12, 100)
RETURNS = 2 + 20 / (1 + (1.5e11 / C) ** 2) + 0.1 * np.random.default_rng(0).standard_normal(100)
LOSSES = 1.5 + (C / 1e10) ** -0.5 + 0.01 * np.random.default_rng(1).standard_normal(100)
FIT = ["fit", "--curve", "c.csv", "--to", "1e12"]


def write_run(path, count=50, **columns):
    curve = LearningCurve(path)
    curve.resume(0)
    for i in range(count):
        curve.add(i + 1, {"flops": C[i], **{name: values[i] for name, values in columns.items() if i >= 3}})


def test_a_run_is_forecast_from_its_own_curve(command_here, tmp_path):
    write_run(tmp_path / "c.csv", train_return=RETURNS, train_loss=LOSSES)
    with (tmp_path / "c.csv").open("a") as file:
        file.write("51,5.1e11,,")  # as it is being written
    code, out, err = command_here(*FIT)
    assert not code, err
    first, second, third = out.splitlines()
    assert first.startswith("train_return at 10¹² FLOPs: 21.")
    assert second.startswith("from 47 points, the last ")
    assert third.startswith("R0 ")
    assert "neighbouring residuals correlate by" in third
    assert {path.name for path in tmp_path.iterdir()} == {"c.csv"}


def test_json_has_the_forecast_of_the_column_that_is_named(command_here, tmp_path):
    write_run(tmp_path / "c.csv", train_return=RETURNS, train_loss=LOSSES)
    code, out, err = command_here(*FIT, "--for", "train_loss", "--json")
    assert not code, err
    found = json.loads(out)
    assert (found["curve"], found["column"], found["kind"]) == ("c.csv", "train_loss", "loss")
    assert found["low"] < 1.6 < found["high"]
    assert set(found["parameters"]) == {"E", "gamma"}


@pytest.mark.parametrize("count", [5, 50])
def test_a_figure_is_drawn_with_and_without_a_forecast(count, command_here, tmp_path):
    write_run(tmp_path / "c.csv", count, train_return=RETURNS)
    code, out, err = command_here(*FIT, "--out", "o")
    assert not code, err
    assert ("cannot be told yet: too few points: 2 of the 8" in out) == (count == 5)
    assert out.splitlines()[-1] == "figure: o/curve_forecast.png"
    files = {f"curve_forecast.{kind}" for kind in ("png", "svg", "csv")}
    assert {path.name for path in (tmp_path / "o").iterdir()} == files


def test_tables_of_others_are_read_with_other_names(command_here, tmp_path):
    rows = zip(C[:50], RETURNS[:50], strict=True)
    (tmp_path / "c.csv").write_text("compute;score\n" + "".join(f"{c};{y}\n" for c, y in rows))
    code, out, err = command_here(*FIT, "--columns", "flops=compute,return_mean=score")
    assert not code, err
    assert out.startswith("return_mean at 10¹² FLOPs: 2")


GOOD = "flops,train_return\n" + "".join(f"{c},{y}\n" for c, y in zip(C, RETURNS, strict=True))
BAD = {
    "no file": ([*FIT], None, "c.csv: no such file"),
    "no compute": ([*FIT], "step,train_return\n1,2\n", "missing column flops"),
    "no such column": ([*FIT, "--for", "dev_loss"], GOOD, "missing column dev_loss"),
    "no column of a curve": ([*FIT, "--for", "entropy"], GOOD, "--for: 'entropy' is no column of a curve"),
    "nothing measured": ([*FIT], "flops,train_loss\n1e9,\n", "nothing to forecast"),
    "an own curve without values": ([*FIT], ",".join(CURVE_COLUMNS) + "\n1,1e9,,,,,,,\n", "nothing to forecast"),
    "nothing measured of the column asked for": (
        [*FIT, "--for", "dev_loss"], "flops,train_loss,dev_loss\n1e9,1,\n2e9,1,\n", "forecast: no row has dev_loss;",
    ),
    "too few points": ([*FIT], "flops,train_loss\n1e9,2\n", "needs 2 points"),
    "before the last point": ([*FIT[:-1], "1e11"], GOOD, "is not beyond the last point, at 1e+12"),
    "decreasing compute": (
        [*FIT], "flops,train_loss\n2e9,1\n1e9,2\n", "line 3: column flops: 1e+09 after 2e+09; a curve is of one run",
    ),
    "not a number": ([*FIT], "flops,train_loss\n1e9,1\n2e9,nan\n", 'line 3: column train_loss: "nan" is not a finite'),
    "no compute of a value": ([*FIT], "flops,train_loss\n,1\n", 'column flops: "" is not a finite'),
    "negative compute": ([*FIT], "flops,train_loss\n-1,1\n2,3\n", "compute is above zero"),
    "unknown name": ([*FIT, "--columns", "params=n"], GOOD, "--columns: 'params' is no column of a curve"),
    "no compute to forecast for": ([*FIT[:-2]], GOOD, "--to: missing"),
    "options of points": ([*FIT, "--forecast", "1e13"], GOOD, "--forecast: it is of a points table"),
    "an option whose field has another name": ([*FIT, "--pool"], GOOD, "--pool: it is of a points table"),
    "points too": (["fit", "p.csv", *FIT[1:]], GOOD, "points: it is of a points table"),
    "a curve's options of points": (["fit", "c.csv", "--out", "o", "--to", "1e12"], GOOD, "--to: it is of a curve"),
    "JSON of points": (["fit", "c.csv", "--out", "o", "--json"], GOOD, "--json: it is of a curve"),
    "neither": (["fit", "--out", "o"], GOOD, "Missing argument 'points'; see playscale fit --help"),
    "no output": (["fit", "c.csv"], GOOD, "Missing option '--out'; see playscale fit --help"),
    "a file as output": ([*FIT, "--out", "c.csv"], GOOD, "c.csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, main_here, tmp_path):
    arguments, text, says = BAD[case]
    if text is not None:
        (tmp_path / "c.csv").write_text(text)
    before = set(tmp_path.rglob("*"))
    code, err = main_here(*arguments)
    assert code == 2, err
    assert says in err
    assert err.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before
