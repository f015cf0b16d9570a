"""Environment workers: what they answer, how they fail, and that none is left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from counting_game import Counting, length_of
from process_state import gone

from playscale.games.game import get_game
from playscale.processes.worker import WorkerError
from playscale.rollout.env_pool import EnvPool, play_folder
from playscale.rollout.episode import EpisodeSpec

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.mark.parametrize("processes", [1, 3])
def test_every_episode_is_played_to_its_own_end(processes):
    tasks = [EpisodeSpec(i, seed=i) for i in range(7)]
    ends = {}
    with EnvPool(Counting(), processes, slots=8, max_steps=20) as workers:
        for _ in range(2):  # the same slots can be used again
            workers.begin(dict(enumerate(tasks)))
            running, step = set(range(7)), 0
            while running:
                for slot in running:
                    assert workers.arrays["where"][slot].tolist() == [slot, step]
                    workers.arrays["action"][slot] = slot % 5
                step += 1
                for slot, outcome in workers.step().ended:
                    running.remove(slot)
                    ends[slot] = outcome
        pids = workers.pids
    for seed, outcome in ends.items():
        steps = min(20, length_of(seed))
        assert (outcome.steps, outcome.score) == (steps, steps * (seed % 5))
        assert outcome.terminated == (length_of(seed) <= 20)
    assert len(ends) == 7
    assert len(pids) == processes
    assert all(gone(pid, 0.1) for pid in pids)


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("bug", WorkerError, r"ZeroDivisionError: planted in episode 1 \(seed 41\) after 0 steps"),
        ("disk", OSError, "No space left on device"),
        ("killed", WorkerError, "killed by SIGKILL"),
    ],
)
def test_a_failing_worker_says_why(kind, error, text):
    with EnvPool(Counting({41: kind}), 2, slots=2, max_steps=20) as workers:
        workers.begin({0: EpisodeSpec(0, 40), 1: EpisodeSpec(1, 41)})
        with pytest.raises(error, match=text):
            workers.step()
        pids = workers.pids
    assert all(gone(pid, 0.1) for pid in pids)


def test_a_dead_worker_whose_games_cannot_write_names_their_folder(tmp_path):
    with (
        play_folder(tmp_path / "playing") as folder,
        EnvPool(Counting({41: "abort"}), 1, slots=1, max_steps=20, folder=folder) as workers,
    ):
        workers.begin({0: EpisodeSpec(0, 41)})
        folder.rmdir()
        text = r"playing: a game could not write its files: No such file or directory \(.* killed by SIGABRT\)"
        with pytest.raises(OSError, match=text):
            workers.step()


def test_games_keep_their_files_in_the_folder_of_their_pool(tmp_path):
    with EnvPool(get_game("nethack"), 1, slots=1, max_steps=1, folder=tmp_path) as workers:
        workers.begin({0: EpisodeSpec(0, 3)})
        (files,) = tmp_path.iterdir()
        shutil.rmtree(files)
        text = rf"{files}: NetHack's files .* not whole: No such file or directory in episode 0 \(seed 3\)"
        with pytest.raises(OSError, match=text):
            workers.step()
    assert not list(tmp_path.iterdir())


def test_a_play_folder_is_empty_at_first_and_gone_at_the_end(tmp_path):
    leftover = tmp_path / "playing" / "nle1" / "1lock.0"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    with play_folder(tmp_path / "playing") as folder:
        assert not list(folder.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_play_folder_is_elsewhere_where_there_are_no_symbolic_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(Path, "symlink_to", refuse)
    with play_folder(tmp_path / "playing") as folder:
        assert folder.parent == temporary
    assert not list(temporary.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = """
import sys, time
from counting_game import Counting
from playscale.rollout.env_pool import EnvPool
from playscale.processes.worker import WorkerError
from playscale.rollout.episode import EpisodeSpec
workers = EnvPool(Counting(), 2, slots=2, max_steps=20)
workers.begin({0: EpisodeSpec(0, 0), 1: EpisodeSpec(1, 1)})
print(*workers.pids, flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(gone(pid, 0) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert all(gone(pid) for pid in pids)


def test_a_worker_imports_no_torch():
    code = "import sys, playscale.rollout.env_worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
