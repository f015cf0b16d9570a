"""The learning curve: appended, resumed from a save without doubles, readable after a kill."""

import pytest
import toy_game
import toy_run

from playscale.points import CURVE_COLUMNS, LearningCurve, read_curve
from playscale.training.trainer import train

pytestmark = pytest.mark.usefixtures("forked_workers")


def test_lines_are_appended_and_what_is_missing_is_missing(tmp_path):
    curve = LearningCurve(tmp_path / "curve.csv")
    curve.resume(0)
    curve.add(10, {"interactions": 320.0, "train_loss": 0.123456789, "something else": 1.0})
    curve.add(20, {"interactions": 640.0, "train_return": 0.0})
    first, second = read_curve(curve.path)
    assert first == {"step": 10, "interactions": 320, "train_loss": pytest.approx(0.123457)}
    assert second == {"step": 20, "interactions": 640, "train_return": 0}
    assert curve.path.read_text().splitlines()[0] == ",".join(CURVE_COLUMNS)


def test_rows_after_the_save_are_written_again(tmp_path):
    curve = LearningCurve(tmp_path / "curve.csv")
    curve.resume(0)
    for step in (10, 20, 30):
        curve.add(step, {"train_return": float(step)})
    with curve.path.open("a") as file:
        file.write("40,1e9,12")  # killed while it wrote
    assert [row["step"] for row in read_curve(curve.path)] == [10, 20, 30]
    curve.resume(20)
    curve.add(30, {"train_return": 99.0})
    assert [row["train_return"] for row in read_curve(curve.path)] == [10, 20, 99]


@pytest.mark.parametrize(
    ("line", "damaged"),
    [(1, "stop,flops"), (2, "10,nan"), (2, "1o,2"), (2, "10"), (2, "10,1,2"), (2, ",1"), (2, "\0"), (3, '"20,3\n4')],
)
def test_damaged_curve_is_named_with_its_line(tmp_path, line, damaged):
    lines = ["step,flops", "10,1", "20,2", "30,3"]
    lines[line - 1] = damaged
    (tmp_path / "curve.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"curve\.csv, line \d: .*remove the file"):
        LearningCurve(tmp_path / "curve.csv").resume(20)


def test_missing_curve_is_an_empty_one(tmp_path):
    assert read_curve(tmp_path / "curve.csv") == []


def test_a_run_keeps_its_curve_and_resumes_it(tmp_path, monkeypatch):
    toy_game.register(monkeypatch)
    config = toy_run.config(12)
    train(config, tmp_path / "run")
    before = read_curve(tmp_path / "run" / "curve.csv")
    assert before[-1]["step"] == 12
    assert before[-1]["interactions"] > 0
    longer = toy_run.config(12, 24)
    train(longer, tmp_path / "run")
    steps = [row["step"] for row in read_curve(tmp_path / "run" / "curve.csv")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 24
    assert [row for row in read_curve(tmp_path / "run" / "curve.csv") if row["step"] <= 12] == before
