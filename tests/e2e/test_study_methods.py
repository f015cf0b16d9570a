"""A study of all methods through kfp.local in the toy game: cloned, IMPALA and kickstarted agents.

The processes of a study know the toy game because each of them imports `sitecustomize` when it starts.
"""

import csv
import json
from pathlib import Path

import pytest
import toy_game
import yaml

from playscale.points import read_curve, read_points

pytestmark = pytest.mark.slow

TESTS = Path(toy_game.__file__).parent
BUDGETS = [1e8, 2e8, 4e8]
SPEC = {
    "name": "methods",
    "game": "recall",
    "sizes": ["10k"],
    "budgets": BUDGETS[:2],
    "held_out": BUDGETS[2:],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 512},
    "evaluate": {"episodes": 4, "max_steps": 60},
    "forecast": [1e9],
}
ALL = {"method": ["bc", "impala", "kickstart"], "seeds": [7]}  # several seeds: tests/unit/scaling/test_methods.py


@pytest.fixture(scope="module")
def run(tmp_path_factory, cli):
    """Run a study of the toy game; its directory."""
    folder = tmp_path_factory.mktemp("study")
    path = toy_game.python_path(folder)

    def study(name, **spec):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SPEC | spec | {"name": name}))
        result = cli("study", "run", f"{name}.yaml", "--out", name, cwd=folder, PYTHONPATH=path)
        log = folder / name / "pipeline.log"
        assert result.returncode == 0, result.stderr + (log.read_text()[-3000:] if log.is_file() else "")
        return folder / name

    return study


@pytest.fixture(scope="module")
def methods(run, tmp_path_factory):
    games = toy_game.record_games(tmp_path_factory.mktemp("games"), 16)
    rl = {"teacher": "bc", "max_steps": 60, "actors": 1, "discount": 0.9}
    return run("methods", **ALL, source={"games": str(games)}, rl=rl)


def test_study_has_a_row_with_a_return_for_each_method_and_budget(methods):
    points = read_points(methods / "points.csv")
    rows = sorted((p.method, p.seed, p.flops) for p in points)
    assert rows == sorted((m, s, c) for m in ALL["method"] for s in ALL["seeds"] for c in BUDGETS)
    assert all(point.episodes == 4 and point.return_mean is not None for point in points)
    assert {point.method for point in points if point.dev_loss is not None} == {"bc"}
    assert {p.flops for p in points if p.held_out} == set(BUDGETS[2:])


def test_kickstarted_runs_start_from_the_best_clone_and_count_its_compute(methods):
    points = read_points(methods / "points.csv")
    clones = [p for p in points if p.method == "bc" and p.flops == BUDGETS[-1]]
    best = min(clones, key=lambda point: point.dev_loss)
    planned = json.loads((methods / "plan.json").read_text())["runs"]
    kickstarted = {name: run["rl"]["teacher"] for name, run in planned.items() if run["method"] == "kickstart"}
    assert len(kickstarted) == 1
    assert {Path(teacher) for teacher in kickstarted.values()} == {
        methods / "train" / best.run / "checkpoints" / "4e+08"
    }
    for point in points:
        if point.method != "bc":
            more = float(point.extra["flops_total"]) - point.flops
            assert (more >= best.flops * 0.99) == (point.method == "kickstart")


def test_study_fits_each_method_alone_and_the_report_compares_them(methods):
    fitted = json.loads((methods / "fit.json").read_text())
    assert set(fitted["methods"]) | set(fitted["failed"]) == set(ALL["method"])
    assert "bc" in fitted["methods"]
    for method, one in fitted["methods"].items():
        assert {point["method"] for point in one["points"]} == {method}
    page = (methods / "report.html").read_text()
    assert all(f'id="{method}-figures"' in page for method in fitted["methods"])
    assert 'id="methods_against_flops_total"' in page
    drawn = {path.stem for path in (methods / "figures").glob("*.png")}
    assert {"methods_against_interactions", "bc_isoflop_dev_loss", "kickstart_isoflop_return_mean"} <= drawn


def test_study_keeps_the_learning_curve_of_each_run(methods):
    for path in methods.glob("train/*/curve.csv"):
        rows = read_curve(path)
        assert rows
        assert ("train_return" in rows[-1]) == (not path.parent.name.startswith("bc"))
    with (methods / "points.csv").open() as file:
        assert {"flops_total", "flops_teacher", "flops_acting", "train_return"} <= set(next(csv.reader(file)))


def test_study_of_impala_alone_needs_no_expert(run):
    out = run("plays", method="impala", rl={"max_steps": 60, "actors": 1})
    assert [point.method for point in read_points(out / "points.csv")] == ["impala"] * 3
    plan = json.loads((out / "plan.json").read_text())
    assert plan["corpus"] is None
    assert not (out / "corpus").exists()
    references = json.loads((out / "evaluate" / "references" / "references.json").read_text())
    assert [reference["name"] for reference in references] == ["random"]
    assert "warnings" in json.loads((out / "fit.json").read_text())  # of one method: its fit alone
