"""A study that is watched: its lines, its end, and the end of the watching."""

import json
import signal
import time

import left_study
import pytest
from left_study import BUDGETS, RUNS, point

from playscale.cli import study_status
from playscale.cli.study_status import follow, print_status, status_of
from playscale.processes.signals import Stopped


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A study at work, watched without pauses."""
    monkeypatch.setattr(study_status, "LOCAL_SECONDS", 0.0)
    left_study.plan(tmp_path)
    left_study.train(tmp_path, RUNS[0], point(RUNS[0], BUDGETS[0]))
    left_study.progress(tmp_path, f"train-{RUNS[0]}", "running")
    left_study.process(tmp_path)
    return tmp_path


def then(monkeypatch, change):
    """Let something happen in the first pause between two looks."""
    changes = iter([change])
    monkeypatch.setattr(study_status.time, "sleep", lambda _: next(changes, lambda: None)())


def test_watching_ends_with_a_finished_study(at_work, monkeypatch, capsys):
    then(monkeypatch, lambda: left_study.whole(at_work))
    left_study.progress(at_work, f"train-{RUNS[0]}", "done", 1.0)
    follow(str(at_work), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0:00 ")
    assert "100 %: collect, prepare, plan, references, fit done; train 2 of 2, evaluate 2 of 2" in lines[1]
    assert lines[2] == f"study planted in {at_work}: finished, 100 %"


def test_watching_a_study_that_is_killed_fails_with_what_goes_on(at_work, monkeypatch):
    then(monkeypatch, lambda: left_study.killed_process(at_work))
    says = "stopped: not running, and unfinished; to go on: playscale study run mine.yaml --out here"
    with pytest.raises(RuntimeError, match=says):
        follow(str(at_work), as_json=False)


def test_watching_a_study_that_fails_names_the_reason(at_work, monkeypatch):
    def fail():
        left_study.progress(at_work, f"train-{RUNS[0]}", "failed", what="loss became nan")
        left_study.process(at_work, ended=time.time())

    then(monkeypatch, fail)
    with pytest.raises(RuntimeError, match=f"failed: train-{RUNS[0]}: loss became nan"):
        follow(str(at_work), as_json=False)


def test_a_signal_ends_the_watching_alone(at_work, monkeypatch):
    def stop():
        raise Stopped(signal.SIGINT)

    then(monkeypatch, stop)
    with pytest.raises(Stopped, match="stopped by SIGINT; the study goes on") as stopped:
        follow(str(at_work), as_json=False)
    assert stopped.value.code == 130


def test_watching_in_json_prints_a_line_when_something_has_changed(at_work, monkeypatch, capsys):
    then(monkeypatch, lambda: left_study.whole(at_work))
    left_study.progress(at_work, f"train-{RUNS[0]}", "done", 1.0)
    follow(str(at_work), as_json=True)
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["running", "finished"]


def test_a_run_that_diverged_has_a_note_in_the_table(at_work, capsys):
    bad = point(RUNS[0], BUDGETS[0], extra={"digest": "d", "diverged": "dev loss above 4.796"})
    left_study.train(at_work, RUNS[0], bad)
    print_status(status_of(str(at_work)), as_json=False)
    text = capsys.readouterr().out
    assert "note" in text
    assert "diverged at 1e+09 FLOPs: dev loss above 4.796" in text
