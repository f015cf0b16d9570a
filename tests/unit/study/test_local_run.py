"""The process of a study's pipeline: its share of the cores, its end at a signal, and without a task that says why."""

import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from playscale.processes.signals import Stopped
from playscale.progress import TaskProgress
from playscale.storage.files import write_json
from playscale.study import local_run
from playscale.study.local_run import LocalStudy, StudyResult, StudyTime

PIPELINE = """#!/bin/sh
echo $OMP_NUM_THREADS >threads
sh -c 'trap "sleep 0.5; touch saved; exit 143" TERM; touch ready; while :; do sleep 0.1; done'
"""


@pytest.mark.parametrize(("given", "threads"), [(None, "3"), ("5", "5")])
def test_stopped_study_waits_until_its_tasks_have_saved(tmp_path, monkeypatch, given, threads):
    """The two tasks that run side by side share the cores out."""
    (tmp_path / "python").write_text(PIPELINE)
    (tmp_path / "python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(local_run, "usable_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    study = LocalStudy(tmp_path / "spec.yaml", None, str(tmp_path), tmp_path, "", "subprocess")
    with suppress(Stopped), study.pipeline._process() as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        raise Stopped(signal.SIGTERM)
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "threads").read_text() == f"{threads}\n"
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("free", "says"), [(10**9, "code 1; its log"), (100, "code 1, and its disk is full")])
def test_a_pipeline_that_ends_on_a_full_disk_says_so(tmp_path, monkeypatch, free, says):
    monkeypatch.setattr(local_run.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    study = LocalStudy(tmp_path / "s.yaml", None, str(tmp_path), tmp_path, "", "subprocess")
    with pytest.raises(RuntimeError, match=says):
        study.pipeline._failed(1)


def progress(folder, *tasks):
    """Write the progress files of tasks (name, state), which start one after the other."""
    for i, (name, state) in enumerate(tasks):
        task = TaskProgress(name, f"what {name} said", 0.5, float(i), float(i), state)
        write_json(folder / "progress" / f"{name}.json", asdict(task))


def open_study(folder):
    return LocalStudy(folder / "s.yaml", None, str(folder), folder, "", "subprocess")


def test_runs_that_failed_beside_laws_are_returned_and_named(tmp_path):
    progress(tmp_path, ("plan", "done"), ("train-a", "failed"), ("train-b", "running"), ("fit", "done"))
    failed = open_study(tmp_path).pipeline._failed(1)
    assert [task.task for task in failed] == ["train-a", "train-b"]
    complaint = StudyResult([], {}, [], 1.0, StudyTime({}), failed).complaint
    assert complaint.startswith("train-a: what train-a said; train-b: killed. The laws are those of the other runs;")


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([("plan", "done"), ("train-a", "failed"), ("fit", "failed")], "^train-a: what train-a said"),
        ([("prepare", "failed"), ("fit", "failed")], "^prepare: what prepare said"),
        ([("prepare", "running"), ("fit", "failed")], "the pipeline ended with code 1"),
        ([("train-a", "done"), ("plan-taught", "failed"), ("fit", "done")], "^plan-taught: "),
        ([("train-a", "done"), ("fit", "failed")], "^fit: what fit said"),
    ],
)
def test_without_laws_the_first_failure_is_the_error(tmp_path, tasks, says):
    progress(tmp_path, *tasks)
    with pytest.raises(RuntimeError, match=says):
        open_study(tmp_path).pipeline._failed(1)


def test_a_pipeline_that_succeeded_has_no_failed_task(tmp_path):
    progress(tmp_path, ("train-a", "done"), ("fit", "done"))
    assert open_study(tmp_path).pipeline._failed(0) == []


def test_time_left_counts_runs_that_nobody_announced_and_is_not_below_that_of_the_longest():
    """One run was announced. It takes 100 s or 600 s; an evaluation, of which none has begun, as long."""
    short, long = TaskProgress("train-a", "", 0.5, 0, 50), TaskProgress("train-b", "", 0.1, 0, 60)
    assert local_run.StudyProgress(1, [short, long], 60).time_left == "about 9 min left"  # 540 s of the long one
    four = [short, long, replace(short, task="train-c"), replace(long, task="train-d")]
    # (4 - 1.2) x 350 s, twice, by two at once
    assert local_run.StudyProgress(1, four, 60).time_left == "about 16 min left"
