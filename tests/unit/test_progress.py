"""Progress files: what a watcher in another process reads."""

import errno

import pytest

from playscale.progress import read_progress, reporting


def test_a_task_is_reported_from_start_to_end(tmp_path):
    with reporting(tmp_path, "train"):
        assert read_progress(tmp_path)[0].state == "running"
    (task,) = read_progress(tmp_path)
    assert (task.state, task.fraction) == ("done", 1.0)


def test_the_last_thing_said_is_kept_however_soon_it_comes(tmp_path):
    with reporting(tmp_path, "train") as progress:
        for step in range(1000):
            progress(f"step {step}", step / 1000)
    assert read_progress(tmp_path)[0].what == "step 999"


@pytest.mark.parametrize(
    ("error", "user"),
    [
        (ValueError("no corpus\nhere"), True),
        (RuntimeError("broken"), False),
        (FileNotFoundError(errno.ENOENT, "no such file", "x"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_a_failure_is_reported_with_its_first_line_and_raised(tmp_path, error, user):
    with pytest.raises(type(error)), reporting(tmp_path, "train"):
        raise error
    (task,) = read_progress(tmp_path)
    assert (task.state, task.what, task.user_error) == ("failed", str(error).splitlines()[0], user)


def test_tasks_come_in_the_order_they_started(tmp_path):
    for name in ("b", "a"):
        with reporting(tmp_path, name):
            pass
    assert [task.task for task in read_progress(tmp_path)] == ["b", "a"]


def test_log_has_the_start_the_end_one_message_in_30_seconds_and_every_line_given_to_it(tmp_path, caplog, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("playscale.progress.time.time", lambda: now[0])
    caplog.set_level("INFO", "playscale")
    with reporting(tmp_path, "train-a") as progress:
        for step in range(100):
            progress(f"step {step}", step / 100)
            now[0] += 1
        progress.log("saved at step 99")
    assert caplog.messages == [
        "train-a: starts", "step 0 (0 %)", "step 30 (30 %)", "step 60 (60 %)", "step 90 (90 %)", "saved at step 99",
        "train-a: done after 100 s: step 99",
    ]  # fmt: skip


def test_log_has_the_failure_of_a_step(tmp_path, caplog):
    caplog.set_level("INFO", "playscale")
    with pytest.raises(ValueError, match="no corpus"), reporting(tmp_path, "train-a"):
        raise ValueError("no corpus\nhere")
    assert caplog.messages[-1] == "train-a: failed after 0 s: no corpus"
