"""How far a study is, by what its steps left in its directory."""

import math
import os
import re
import time

import left_study
import pytest
from ledger_entries import normal_entry
from left_study import BUDGETS, RUNS, point

from playscale.cli.study_status import follow
from playscale.points import LearningCurve
from playscale.processes.signals import Stopped
from playscale.study import status as status_module
from playscale.study.cluster_run import ClusterProgress, ClusterStep, StepPod, study_parts
from playscale.study.cluster_status import on_cluster
from playscale.study.outcome import learns_badly
from playscale.study.status import StudyStatus, read_status
from playscale.study.studies import studies_below
from playscale.study.study_files import study_files
from playscale.study.study_process import at_work, read_process
from playscale.tracking.ledger_table import LedgerTable

FORECAST = "playscale study forecast mine.yaml --out here --budget 1e13"


def look(out):
    with study_files(str(out)) as files:
        files.look()
        return read_status(files)


def states(status):
    return {run.run: run.state for run in status.runs}


@pytest.fixture
def half(tmp_path):
    """A study of which the first run is done, the second is trained to its first budget, and at work."""
    left_study.plan(tmp_path, reason="too few optimizer steps")
    first = [point(RUNS[0], flops) for flops in BUDGETS]
    left_study.train(tmp_path, RUNS[0], *first)
    left_study.evaluate(tmp_path, RUNS[0], *first)
    left_study.train(tmp_path, RUNS[1], point(RUNS[1], BUDGETS[0]))
    left_study.progress(tmp_path, f"evaluate-{RUNS[0]}", "done", 1.0, seconds=8.0)
    left_study.progress(tmp_path, f"train-{RUNS[1]}", "running", 0.5)
    left_study.process(tmp_path)
    return tmp_path


def test_running_study_has_its_parts_its_tasks_and_its_time_left(half):
    status = look(half)
    assert (status.name, status.state, status.go_on) == ("planted", "running", "")
    assert states(status) == {RUNS[0]: "done", RUNS[1]: "running"}
    assert {part.name: (part.done, part.total) for part in status.parts} == {
        "collect": (1, 1), "prepare": (1, 1), "plan": (1, 1), "train": (1, 2), "evaluate": (1, 2),
        "references": (0, 1), "fit": (0, 1),
    }  # fmt: skip
    assert status.now == {f"train-{RUNS[1]}": f"50 %, what train-{RUNS[1]} says"}
    assert (status.points, status.planned, status.left_out) == (2, 4, {"too few optimizer steps": 1})
    # half of 4e9 FLOPs at 1000 samples/s of 1e5 FLOPs, then an evaluation as long as the other: of two at once
    assert status.seconds_left == pytest.approx(20.0, abs=1)
    assert not status.at_least
    # 3 steps before the runs, 2 of the first run, and a quarter of the second's training
    assert status.fraction == pytest.approx((3 + 2 + 0.25) / 9, abs=0.01)


def test_killed_study_does_not_run_and_has_the_command_that_goes_on(half):
    left_study.killed_process(half)
    status = look(half)
    assert (status.state, status.now, states(status)[RUNS[1]]) == ("stopped", {}, "unfinished")
    assert "is gone: it was killed" in status.note
    assert status.go_on == "playscale study run mine.yaml --out here"
    assert status.time_left.startswith("about ")


def test_stopped_tasks_are_no_failures(half):
    left_study.process(half, ended=time.time())
    left_study.progress(half, f"train-{RUNS[1]}", "failed", what=str(Stopped(15)))
    status = look(half)
    assert (status.state, status.failed, states(status)[RUNS[1]]) == ("stopped", {}, "unfinished")


def test_failed_run_is_named_while_others_go_on_and_after_the_end(half):
    left_study.progress(half, f"train-{RUNS[1]}", "failed", what="loss became nan")
    status = look(half)
    assert (status.state, states(status)[RUNS[1]]) == ("running", "failed")
    left_study.process(half, ended=time.time())
    status = look(half)
    assert (status.state, status.failed) == ("failed", {f"train-{RUNS[1]}": "loss became nan"})


def test_finished_study_has_its_result_and_its_report(tmp_path):
    left_study.whole(tmp_path)
    status = look(f"{tmp_path}/")
    assert (status.state, status.fraction, status.time_left, status.go_on) == ("finished", 1.0, "", "")
    assert states(status) == dict.fromkeys(RUNS, "done")
    forecast = "dev_loss 1.48 (1.32 to 1.90) at 3e+12 FLOPs with 183k parameters (with care)"
    assert status.result == f"{forecast}, 1 of 2 held-out values inside their 95 %"
    assert status.report == f"{tmp_path}/report.html"
    assert status.best == "dev loss 2.900, return 5.0"


def test_laws_without_all_points_do_not_finish_a_study(tmp_path):
    left_study.whole(tmp_path)
    left_study.fit(tmp_path, [point(RUNS[0], flops) for flops in BUDGETS])
    left_study.process(tmp_path, ended=time.time())
    assert look(tmp_path).state == "stopped"


def test_percentage_of_what_is_kept_rises_from_step_to_step(tmp_path):
    fractions = []

    def add():
        fractions.append(look(tmp_path).fraction)

    left_study.progress(tmp_path, "collect", "running")
    add()
    left_study.plan(tmp_path)
    add()
    for run in RUNS:
        for step in (100, 200):
            left_study.save(tmp_path, run, step)
            add()
        first, second = (point(run, flops) for flops in BUDGETS)
        left_study.train(tmp_path, run, first)
        add()
        left_study.train(tmp_path, run, first, second)
        add()
        left_study.evaluate(tmp_path, run, first, table=False)
        add()
        left_study.evaluate(tmp_path, run, first, second)
        add()
    left_study.references(tmp_path)
    add()
    left_study.fit(tmp_path, [point(run, flops) for run in RUNS for flops in BUDGETS])
    add()
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len(set(fractions)) >= len(fractions) - 1  # each step counts


@pytest.mark.parametrize(("age", "state"), [(10.0, "running"), (1000.0, "stopped")])
def test_process_of_another_machine_is_told_by_the_last_change(half, age, state):
    left_study.process(half, host="elsewhere")
    for path in half.rglob("*"):
        os.utime(path, (time.time() - age,) * 2)
    status = look(half)
    assert status.state == state
    assert status.note.startswith("by its last change, ")


def test_time_left_is_unknown_without_a_speed_and_a_lower_bound_without_an_evaluation(half):
    (half / "progress" / f"evaluate-{RUNS[0]}.json").unlink()
    assert look(half).time_left.startswith("at least ")
    for run in RUNS:
        (half / "train" / run / "curve.csv").unlink()
    assert look(half).time_left == "time left unknown"


def test_a_run_without_a_curve_is_as_fast_as_the_one_nearest_in_size(half):
    (half / "train" / RUNS[1] / "curve.csv").unlink()
    assert look(half).seconds_left == pytest.approx(2 * 20.0 + 8.0, rel=0.2)  # half the FLOP/s; one longest task


@pytest.fixture
def forecast(tmp_path):
    """A finished study, and a forecast of it that is registered and whose agent trains; its id and its directory."""
    left_study.whole(tmp_path)
    (entry,) = LedgerTable.beside(tmp_path).register([normal_entry(flops=1e13)])
    left_study.progress(tmp_path / "forecasts", "forecast", "done", 1.0)
    left_study.progress(tmp_path / "forecasts", "train-agent", "running", 0.4)
    left_study.process(tmp_path / "forecasts", command=FORECAST)
    return entry.id, tmp_path


def test_forecast_at_work_is_seen_beside_the_finished_study(forecast):
    entry, out = forecast
    status = look(out)
    assert (status.state, status.forecast.state, status.ended) == ("finished", "running", False)
    assert status.forecast.now == {"train-agent": "40 %, what train-agent says"}
    assert status.forecast.open == {entry: "dev_loss at 1e+13 FLOPs"}
    assert (status.now, status.forecast.go_on) == ({}, "")
    assert studies_below(str(out))[0].state == "finished, forecast running"


def test_killed_forecast_is_interrupted_until_it_is_void(forecast, capfd):
    entry, out = forecast
    left_study.killed_process(out / "forecasts", command=FORECAST)
    one = look(out).forecast
    assert (one.state, one.now, one.go_on) == ("interrupted", {}, FORECAST)
    assert "is gone: it was killed" in one.note
    with pytest.raises(RuntimeError, match=f"a forecast was interrupted: its process .*; to go on: {FORECAST}"):
        follow(str(out), as_json=False)
    said = capfd.readouterr().out
    for part in ("finished, 100 %; a forecast was interrupted", f"open     {entry}: dev_loss", f"to go on {FORECAST}"):
        assert part in said
    LedgerTable.beside(out).void(entry, "given up")
    assert look(out).forecast is None


def test_forecast_whose_agent_failed_is_failed_and_one_by_hand_is_open(forecast):
    entry, out = forecast
    left_study.process(out / "forecasts", command=FORECAST, ended=time.time())
    left_study.progress(out / "forecasts", "train-agent", "failed", what="no space left")
    left_study.progress(out / "forecasts", "score", "done", 1.0)
    one = look(out).forecast
    assert (one.state, one.failed, one.go_on) == ("failed", {"train-agent": "no space left"}, FORECAST)
    left_study.progress(out / "forecasts", "train-agent", "done", 1.0)
    one = look(out).forecast
    assert (one.state, [*one.open], one.go_on) == ("open", [entry], "")


@pytest.mark.parametrize(("age", "state"), [(10.0, "running"), (1000.0, "interrupted")])
def test_forecast_in_pods_is_told_by_the_last_change_and_is_no_part_of_the_study(half, age, state):
    for path in half.rglob("*"):
        os.utime(path, (time.time() - 1000,) * 2)
    left_study.process(half, host="elsewhere")
    before = look(half)
    left_study.progress(half, "forecast", "done", 1.0)
    left_study.progress(half / "forecasts" / "1e13-ab", "train-agent", "running")
    for path in [half / "progress" / "forecast.json", *half.glob("forecasts/*/progress/*")]:
        os.utime(path, (time.time() - age,) * 2)
    LedgerTable.beside(half).register([normal_entry()])
    if state == "interrupted":
        os.utime(half / "ledger.jsonl", (time.time() - age,) * 2)
    status = look(half)
    assert (status.forecast.state, status.state, status.now) == (state, before.state, before.now)


def test_looking_changes_nothing_not_even_a_time(half):
    before = left_study.everything(half)
    assert look(half).state == studies_below(str(half))[0].state == "running"
    assert left_study.everything(half) == before


def test_no_study_and_a_damaged_plan_are_one_line(tmp_path, half):
    (half / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan.json: not valid JSON"):
        look(half)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no study there"):
        look(empty)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (
            [point(RUNS[0], BUDGETS[0], dev_loss=1.0), point(RUNS[0], BUDGETS[1], dev_loss=1.2)],
            "dev loss rises: 1.000 to",
        ),
        ([point(RUNS[0], BUDGETS[0], dev_loss=1.0), point(RUNS[0], BUDGETS[1], dev_loss=1.01)], ""),
        (
            [point(RUNS[0], BUDGETS[0], extra={"diverged": "dev loss above 4.8"})],
            "diverged at 1e+09 FLOPs: dev loss above",
        ),
        ([], ""),
    ],
)
def test_a_run_that_diverged_or_whose_dev_loss_rises_is_named(points, says):
    assert says in learns_badly(points)
    assert bool(learns_badly(points)) == bool(says)


@pytest.mark.parametrize(
    ("ending", "says"),
    [(0.0, r"train_loss 1\.\d+ \(.*\) at its end"), (1.0, "its train_loss gets worse")],
)
def test_run_at_work_has_the_outlook_of_its_curve(half, ending, says):
    curve = LearningCurve(half / "train" / RUNS[1] / "curve.csv")
    for i in range(20, 60):
        loss = 1 + (i / 20) ** -1.0 + 0.01 * math.sin(7 * i) + ending * max(0, i - 40) / 20
        curve.add(i, {"flops": i / 100 * BUDGETS[-1], "train_loss": loss})
    for _ in range(2):  # the second time from what is remembered
        outlooks = {run.run: run.outlook for run in look(half).runs}
        assert re.fullmatch(says, outlooks[RUNS[1]])
        assert not outlooks[RUNS[0]]
    curve.path.write_text("step\nx\n")
    assert not look(half).runs[1].outlook


def test_process_at_work_is_recorded_and_its_end_too(tmp_path):
    with at_work(tmp_path, command="go on"):
        assert read_process(tmp_path).runs
    assert not read_process(tmp_path).runs
    with at_work(tmp_path):
        assert read_process(tmp_path).command == "go on"


def test_percentages_of_a_watched_study_only_rise_and_it_ends_with_the_study(half, monkeypatch):
    from playscale.cli import study_status

    seen, fractions = [], iter([0.5, 0.4, 1.0])
    monkeypatch.setattr(study_status, "LOCAL_SECONDS", 0.0)

    def read(files):
        fraction = next(fractions)
        state = "finished" if fraction == 1 else "running"
        return status_module.StudyStatus("n", "p", state, fraction=fraction)

    monkeypatch.setattr(study_status, "read_status", read)
    study_status._until_ended(str(half), lambda status: seen.append(status.fraction))
    assert seen == [0.5, 0.5, 1.0]


def test_runs_that_share_a_pod_are_at_work_as_their_files_say():
    steps = [
        ClusterStep("train", "a,b", "running", "1"),
        ClusterStep("train", "c,d", "running", "2"),
        ClusterStep("train", "e,f", "failed", "3", (StepPod("p", "failed", "Error (exit code 1)"),)),
        ClusterStep("collect", "", "running", "4"),
    ]
    files = StudyStatus("q", "s3://b/q", "running", now={"train-b": "dev loss 1.5", "collect": "game 3"})
    status = on_cluster("s3://b/q", "q", "", "RUNNING", ClusterProgress(steps, study_parts(6), 0.0), "http://k", files)
    assert status.now == {"train-b": "dev loss 1.5", "train-c, d": "at work", "collect": "game 3"}
    assert status.failed == {"train-e, f": "Error (exit code 1)"}
