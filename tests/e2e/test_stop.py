"""SIGTERM and SIGINT end every long command: its state is saved, the exit code is 143 or 130, no process is left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SPEC = Path(__file__).parents[2] / "studies" / "smoke.yaml"
PLAYSCALE = ("-m", "playscale.cli")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LONG = ("--size", "10k", "--budgets", "1e15", "--save-seconds", "100000", "--out", "out")


def stop(folder, number, pattern, *arguments, files=1):
    """Start Python in a folder, and send a signal as soon as so many files there match.

    No process may be left, and no temporary file, but for torch's caches and torchrun's own.

    Returns the exit code, and the lines on stderr.
    """
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    environment["TMPDIR"] = str(temporary)
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
    signal.signal(signal.SIGINT, usual)
    deadline = time.monotonic() + 600
    while len(list(folder.glob(pattern))) < files:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=600)
    _, left = psutil.wait_procs(children, timeout=60)
    assert left == []
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torch")] == []
    return process.returncode, err.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_collect_keeps_every_finished_game(tmp_path, number, code):
    collect = ("collect", "--games", 500, "--max-steps", 50, "--workers", 2, "--out", "games")
    assert stop(tmp_path, number, "games/game-*", *PLAYSCALE, *collect, files=3)[0] == code
    rows = json.loads((tmp_path / "games/collect.json").read_text())["games"]
    assert [f"game-{row['seed']:06d}" for row in rows] == sorted(path.name for path in tmp_path.glob("games/game-*"))
    assert not (tmp_path / "games/.playing").exists()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, cli):
    folder = tmp_path_factory.mktemp("stop")
    for command in ("collect --games 3 --max-steps 300 --out games", "prepare games --out corpus"):
        result = cli(*command.split(), cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder / "corpus"


def saved_steps(run):
    return [int(path.name) for path in run.glob("resume/*") if path.name.isdigit()]


@pytest.mark.slow
def test_stopped_training_saves_its_last_step(tmp_path, corpus):
    train = ("train", "bc", "--corpus", corpus, *LONG)
    code, err = stop(tmp_path, signal.SIGTERM, "out/curve.csv", *PLAYSCALE, *train)
    assert code == 143
    assert err[-1] == "playscale: stopped by SIGTERM; run the same command again to go on"
    assert saved_steps(tmp_path / "out")[0] > 0


@pytest.mark.slow
def test_processes_of_torchrun_save_their_last_step_together(tmp_path, corpus):
    train = ("train", "bc", "--corpus", corpus, *LONG)
    _, err = stop(tmp_path, signal.SIGTERM, "out/curve.csv", *TORCHRUN, *PLAYSCALE, *train)  # its own code is 1
    assert len([line for line in err if line.startswith("playscale: stopped by SIGTERM")]) == 2
    assert saved_steps(tmp_path / "out")[0] > 0


@pytest.mark.slow
def test_stopped_reinforcement_learning_saves_its_last_step(tmp_path):
    train = ("train", "impala", *LONG, "--batch", 4)
    assert stop(tmp_path, signal.SIGINT, "out/curve.csv", *PLAYSCALE, *train)[0] == 130
    assert saved_steps(tmp_path / "out")[0] > 0


@pytest.mark.slow
def test_stopped_evaluation_and_preparation_leave_nothing_half_written(tmp_path, corpus, cli):
    train = ("train", "bc", "--corpus", corpus, "--size", "10k", "--budgets", "1e9", "--batch", 2, "--unroll", 4)
    assert cli(*train, "--out", "t", cwd=tmp_path).returncode == 0
    play = ("evaluate", "t/checkpoints/1e+09", "--episodes", 100, "--out", "play")
    assert stop(tmp_path, signal.SIGTERM, "play/.*.playing/recordings/*/*", *PLAYSCALE, *play)[0] == 143
    assert [path for path in tmp_path.glob("play/*") if path.name != ".lock"] == []
    prepare = ("prepare", corpus.parent / "games", "--out", "corpus")
    assert stop(tmp_path, signal.SIGTERM, ".corpus.*.partial", *PLAYSCALE, *prepare)[0] == 143
    assert list(tmp_path.glob("*corpus*")) == []


@pytest.mark.slow
def test_stopped_study_saves_the_runs_that_are_training(tmp_path):
    text = SPEC.read_text().replace("[4e9, 8e9]", "[1e13, 2e13]").replace("[1.6e10]", "[4e13]")
    (tmp_path / "long.yaml").write_text(text.replace("batch: 4", "save_seconds: 100000, batch: 4"))
    study = ("study", "run", "long.yaml", "--out", "out")
    code, err = stop(tmp_path, signal.SIGTERM, "out/train/*/curve.csv", *PLAYSCALE, *study, files=2)
    assert code == 143
    assert not [line for line in err if "Traceback" in line]
    saves = [saved_steps(run) for run in tmp_path.glob("out/train/*")]
    assert len(saves) == 2
    assert all(step > 0 for (step,) in saves)


@pytest.mark.slow
def test_commands_work_with_closed_standard_streams(tmp_path):
    """As a daemon's wrapper may start them."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    train = "train impala --size 10k --steps 640 --batch 4 --unroll 20 --actors 2 --max-steps 100 --out run"
    play = "evaluate run/checkpoints/* --episodes 2 --max-steps 30 --out play"
    for command, closed in ((train, "<&-"), (play, "<&- >&-")):
        shell = f"exec {sys.executable} -m playscale.cli {command} {closed}"
        done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "10k" in (tmp_path / "play/points.csv").read_text()
