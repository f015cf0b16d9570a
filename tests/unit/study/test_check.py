"""What a study lacks after a run failed: the last step of a pipeline on a cluster."""

from dataclasses import replace

import pytest
import yaml

from playscale.points import Point, write_points
from playscale.progress import read_progress
from playscale.storage.files import write_document, write_json
from playscale.study import steps

SPEC = yaml.safe_dump({"name": "q", "source": {"corpus": "c"}, "sizes": ["10k", "20k"], "budgets": [1e9, 1e10]})
RUNS = ("bc-lstm-10k-s0", "bc-lstm-20k-s0")
PLANNED = {run: {"method": "bc", "budgets": [1e9, 1e10], "held_out": [1e10], "rl": None} for run in RUNS}


def points(run, budgets=(1e9, 1e10)):
    return [Point(run=run, flops=c, params=1e4, samples=1e5, dev_loss=1.0, extra={"digest": "d"}) for c in budgets]


@pytest.fixture
def study(tmp_path):
    """A whole study."""
    write_document(tmp_path / "plan.json", {"runs": PLANNED})
    for run in RUNS:
        for step in ("train", "evaluate"):
            write_points(points(run), tmp_path / step / run / "points.csv")
    write_json(tmp_path / "evaluate" / "references" / "references.json", [])
    write_points([point for run in RUNS for point in points(run)], tmp_path / "points.csv")
    return tmp_path


def test_a_whole_study_passes(study):
    assert steps.check(SPEC, str(study)) == "4 points, no run is missing"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": None, "evaluate": None}, f"{RUNS[1]}: not trained"),
        ({"train": (1e9,), "evaluate": None}, f"{RUNS[1]}: trained to 1 of 2 budgets"),
        ({"evaluate": None}, f"{RUNS[1]}: trained, not evaluated"),
        ({"evaluate": (1e9,)}, f"{RUNS[1]}: trained, not evaluated"),
    ],
)
def test_a_run_that_is_not_whole_is_named_with_what_it_lacks(study, change, says):
    for step, budgets in change.items():
        table = study / step / RUNS[1] / "points.csv"
        table.unlink()
        if budgets:
            write_points(points(RUNS[1], budgets), table)
    with pytest.raises(RuntimeError, match=f"^{says}$"):
        steps.check(SPEC, str(study))


def test_missing_references_are_named(study):
    (study / "evaluate" / "references" / "references.json").unlink()
    with pytest.raises(RuntimeError, match="^references: not evaluated$"):
        steps.check(SPEC, str(study))


def test_damaged_references_are_one_line(study):
    write_json(study / "evaluate" / "references" / "references.json", [1])
    with pytest.raises(ValueError, match=r"references.json: damaged \(.*\); run the study again"):
        steps.check(SPEC, str(study))


@pytest.mark.parametrize(("before", "planned"), [(0, 4), (4, 20), (4, 0)])
def test_evaluations_of_another_number_of_episodes_are_none(study, before, planned):
    """They are what an evaluation leaves that fails after the study's `evaluate.episodes` was changed."""

    def leave(episodes):
        rows = [{"name": "random", "return_mean": 1.0, "return_se": 0.1, "episodes": episodes}] if episodes else []
        write_json(study / "evaluate" / "references" / "references.json", rows)
        for run in RUNS:
            played = [replace(point, episodes=episodes or None) for point in points(run)]
            write_points(played, study / "evaluate" / run / "points.csv")

    write_document(study / "plan.json", {"runs": PLANNED, "episodes": planned})
    leave(before)
    lacks = "; ".join([*(f"{run}: trained, not evaluated" for run in RUNS), "references: not evaluated"])
    with pytest.raises(RuntimeError, match=f"^{lacks}$"):
        steps.check(SPEC, str(study))
    leave(planned)
    assert steps.check(SPEC, str(study)) == "4 points, no run is missing"


@pytest.mark.parametrize("fitted", [None, points(RUNS[0])])
def test_laws_that_are_not_those_of_all_points_are_a_failed_fit(study, fitted):
    (study / "points.csv").unlink()
    if fitted:
        write_points(fitted, study / "points.csv")
    with pytest.raises(RuntimeError, match="the step fit has failed"):
        steps.check(SPEC, str(study))


def test_fit_after_a_plan_that_was_never_made_says_so_and_is_no_bad_input(study, monkeypatch):
    """kfp.local goes on with the fit after a step that was killed."""
    monkeypatch.setenv("PLAYSCALE_PROGRESS", str(study / "progress"))
    (study / "plan.json").unlink()
    with pytest.raises(RuntimeError, match=r"has no plan.json: a step before this one did not end; run the study"):
        steps.fit(SPEC, str(study), "")
    assert [(task.state, task.user_error) for task in read_progress(study / "progress")] == [("failed", False)]
