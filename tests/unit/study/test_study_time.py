"""Where a study's seconds went."""

import pytest

from playscale.progress import TaskProgress, read_progress, reporting
from playscale.study.local_run import StudyTime


def task(name, started, ended, **parts):
    return TaskProgress(name, "", 1.0, started, ended, "done", parts=parts)


def test_planted_study():
    """Two runs side by side after a plan; the second's evaluation waits for the first's to end."""
    tasks = [
        task("plan", 102, 110, plan=6, tracking=1),
        task("train-a", 111, 131, train=15, tracking=2, saves=1),
        task("train-b", 111, 151, train=38),
        task("evaluate-a", 133, 143, play=8, starting=1.5),
        task("evaluate-b", 151, 161, play=10),
    ]
    time = StudyTime.of(tasks, began=100)
    assert time.tasks["plan"] == {"between tasks": 2, "starting": 1, "plan": 6, "tracking": 1}
    assert time.tasks["train-a"] == {"between tasks": 1, "starting": 2, "train": 15, "tracking": 2, "saves": 1}
    assert time.tasks["evaluate-a"] == {"between tasks": 2, "starting": 2, "play": 8}
    assert time.tasks["evaluate-b"]["between tasks"] == 0
    assert sum(time.parts.values()) == pytest.approx(sum(t.seconds for t in tasks) + 2 + 1 + 1 + 2)
    overhead = 6 + (1 + 2 + 2 + 2) + (1 + 2) + 1  # between tasks, starting, tracking, saves
    assert time.overhead == pytest.approx(overhead / sum(time.parts.values()))
    assert next(iter(time.parts)) == "train"


def test_the_seconds_of_a_task_are_counted_once(tmp_path):
    with reporting(tmp_path, "train") as progress:
        with progress.timed("train"):
            spin(0.05)
            with progress.timed("tracking"):
                spin(0.1)
        progress.move(0.01, "train", "saves")
    (done,) = read_progress(tmp_path)
    assert done.parts["tracking"] >= 0.1
    assert done.parts["train"] >= 0.04
    assert done.parts["saves"] == pytest.approx(0.01)
    assert sum(done.parts.values()) <= done.seconds + 1e-3


def spin(seconds):
    """Sleep, which no load of the machine makes shorter."""
    import time

    time.sleep(seconds)
