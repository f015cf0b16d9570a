"""A run that is stopped at any moment and started again ends exactly as one left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_game

from playscale.agents.checkpoint import load_checkpoint
from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig, budget_name
from playscale.corpus.prepare import prepare
from playscale.points import read_points
from playscale.processes import signals
from playscale.training.trainer import train

TESTS = Path(__file__).parents[2] / "support"
BATCH, UNROLL = 4, 8
BUDGETS = (20, 60)  # optimizer steps
SLOW = [pytest.mark.slow]


class Stopped(Exception):
    pass


class Curves:
    """Keeps every loss by samples; stops the run when it has logged the training loss `stop_after` times."""

    def __init__(self, losses, stop_after=None):
        self.losses, self.left = losses, stop_after

    def log_metrics(self, metrics, samples):
        for name in ("train_loss", "train_loss_cooldown", "dev_loss"):
            if name in metrics:
                self.losses[name, samples] = metrics[name]
        if self.left is not None and any(name.startswith("train_loss") for name in metrics):
            self.left -= 1
            if self.left == 0:
                raise Stopped


def config(steps=BUDGETS, **values):
    per_step = BATCH * UNROLL * training_flops_per_sample(config_for_size(toy_game.Recall(), "10k", "lstm"))
    given = {"size": "10k", "budgets": tuple(float(step * per_step) for step in steps), "batch": BATCH}
    return TrainConfig(**given | {"unroll": UNROLL, "dev_samples": 200, "save_seconds": 1e-9} | values)


@pytest.fixture(
    params=[
        pytest.param({}, id="constant", marks=SLOW),
        pytest.param({"cooldown": 0.4, "average": 0.5}, id="cooldown"),
    ]
)
def left_alone(request, recall, tmp_path):
    """A run left alone: its config, its losses, its directory."""
    asked, losses = config(**request.param, save_seconds=1e9), {}
    train(asked, tmp_path / "alone", recall.uri, Curves(losses))
    return asked, losses, tmp_path / "alone"


def assert_same(out, alone):
    """The same points to the last digit, and every weight, moment and state of the last save too."""
    assert read_points(out / "points.csv") == read_points(alone / "points.csv")
    folders = [*(alone / "checkpoints").iterdir(), *(alone / "resume").iterdir()]
    assert len(folders) == 3
    for folder in folders:
        here, there = load_checkpoint(out / folder.relative_to(alone)), load_checkpoint(folder)
        assert here.digests == there.digests
        assert {**here.meta, "seconds": 0} == {**there.meta, "seconds": 0}


@pytest.mark.parametrize(
    ("save_seconds", "stops"),
    [
        pytest.param(seconds, stops, id=f"{name}-{stops}", marks=[] if len(stops) > 1 and seconds < 1 else SLOW)
        for seconds, name in ((1e-9, "saved at each step"), (1e9, "saved at budgets"))
        for stops in ([1], [13], [2, 2, 17, 3, 9])
    ],
)
def test_stopped_run_resumes_to_the_same_end(recall, tmp_path, left_alone, save_seconds, stops):
    asked, expected, alone = left_alone
    asked = asked.model_copy(update={"save_seconds": save_seconds})
    losses, out = {}, tmp_path / "stopped"
    for stop in stops:
        with pytest.raises(Stopped):
            train(asked, out, recall.uri, Curves(losses, stop_after=stop))
    train(asked, out, recall.uri, Curves(losses))
    assert losses == expected
    assert_same(out, alone)


@pytest.mark.parametrize("name", [pytest.param("train_loss", marks=SLOW), "train_loss_cooldown"])
def test_run_stopped_just_before_a_budget_resumes_to_the_same_end(recall, tmp_path, name):
    """Also within a cooldown branch, whose own save it then goes on from."""
    asked, expected = config(cooldown=0.4, save_seconds=1e9), {}
    train(asked, tmp_path / "alone", recall.uri, Curves(expected))
    last = sum(key.startswith("train_loss") for key, _ in expected) - (1 if name.endswith("cooldown") else 26)
    losses, out = {}, tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(config(cooldown=0.4), out, recall.uri, Curves(losses, stop_after=last))
    assert (out / f"resume-{budget_name(asked.budgets[-1])}").is_dir() == name.endswith("cooldown")
    train(config(cooldown=0.4), out, recall.uri, Curves(losses))
    assert losses == expected
    assert_same(out, tmp_path / "alone")


@pytest.fixture
def in_a_command(monkeypatch):
    """Signals reach this process as they reach a command; its handlers are restored."""
    handlers = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(signals, "_request", signals._StopRequest())
    with signals.stoppable():
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("phase", "number", "code"),
    [
        pytest.param("run", signal.SIGTERM, 143, marks=SLOW),
        pytest.param("run", signal.SIGINT, 130, marks=SLOW),
        pytest.param("cooldown", signal.SIGTERM, 143),
        pytest.param("cooldown", signal.SIGINT, 130, marks=SLOW),
    ],
)
@pytest.mark.usefixtures("in_a_command")
def test_signal_saves_the_step_at_hand_and_ends(recall, tmp_path, phase, number, code):
    asked, out = config(cooldown=0.4, save_seconds=1e9), tmp_path / "stopped"
    train(asked, tmp_path / "alone", recall.uri)

    def report(what, fraction):
        if ("cooldown" in what) == (phase == "cooldown") and signals.stop_signal() is None:
            signal.raise_signal(number)

    with pytest.raises(signals.Stopped) as stopped:
        train(asked, out, recall.uri, progress=report)
    assert stopped.value.code == code
    first = asked.budgets[0]
    folder = "resume" if phase == "run" else f"resume-{budget_name(first)}"
    saves = [int(path.name) for path in (out / folder).iterdir()]
    assert saves == [1 if phase == "run" else 13]
    signals._request.number = None
    train(asked, out, recall.uri)
    assert_same(out, tmp_path / "alone")


def test_run_records_its_threads_and_restores_the_callers(recall, tmp_path):
    before = torch.get_num_threads()
    train(config((20,), threads=3), tmp_path, recall.uri)
    assert torch.get_num_threads() == before
    assert json.loads((tmp_path / "run.json").read_text())["threads"] == 3
    train(config((20, 40)), tmp_path, recall.uri)  # another number is the same run, going on
    assert json.loads((tmp_path / "run.json").read_text())["threads"] == 1
    meta = [load_checkpoint(path).meta["threads"] for path in sorted((tmp_path / "checkpoints").iterdir())]
    assert sorted(meta) == [1, 3]


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import toy_game
toy_game.GAMES["recall"] = "toy_game:Recall"
from playscale.training.trainer import train
from playscale.config import TrainConfig
config = TrainConfig.model_validate_json(sys.argv[4])
def report(what, fraction):
    if fraction >= float(sys.argv[5]):
        print("ready", flush=True)
        time.sleep(600)
train(config, Path(sys.argv[3]), sys.argv[2], progress=report)
"""


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_end(recall, tmp_path):
    asked = config((200, 600), save_seconds=0.05)
    alone, out = tmp_path / "alone", tmp_path / "killed"
    train(asked, alone, recall.uri)
    command = [sys.executable, "-c", CHILD, str(TESTS), recall.uri, str(out), asked.model_dump_json()]
    threads = str(torch.get_num_threads())  # the last digits depend on it
    for fraction in (0.1, 0.6):
        child = subprocess.Popen(
            [*command, str(fraction)], stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": threads}
        )
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
    seen = []
    train(asked, out, recall.uri, progress=lambda what, fraction: seen.append(fraction))
    assert min(seen) > 0.5
    assert_same(out, alone)
    assert not list((out / "resume").glob(".*"))


def test_a_finished_run_answers_without_training(recall, tmp_path):
    points = train(config(), tmp_path, recall.uri)

    def never(what, fraction):
        raise AssertionError(what)

    (tmp_path / "points.csv").unlink()
    assert train(config(), tmp_path, recall.uri, progress=never) == points
    assert read_points(tmp_path / "points.csv") == points


@pytest.mark.slow
def test_a_larger_budget_added_later_goes_on_from_the_run(recall, tmp_path):
    train(config((20, 60, 90), held_out=config((90,)).budgets), tmp_path / "at once", recall.uri)
    train(config((20, 60), held_out=config((60,)).budgets), tmp_path / "later", recall.uri)
    seen = []
    asked = config((20, 60, 90), held_out=config((90,)).budgets)
    points = train(asked, tmp_path / "later", recall.uri, progress=lambda what, fraction: seen.append(fraction))
    assert min(seen) > 60 / 90
    assert [point.split for point in points] == ["fit", "fit", "held-out"]
    assert read_points(tmp_path / "later" / "points.csv") == read_points(tmp_path / "at once" / "points.csv")
    relabelled = load_checkpoint(tmp_path / "later" / "checkpoints" / budget_name(points[1].flops))
    assert relabelled.meta["point"]["split"] == "fit"


def test_a_budget_the_run_has_passed_is_refused(recall, tmp_path):
    train(config((20, 60)), tmp_path, recall.uri)
    with pytest.raises(
        ValueError, match=r"gone past budget.*its step is 40, the run is at 60.*add larger budgets only"
    ):
        train(config((20, 40, 60)), tmp_path, recall.uri)


def test_run_refuses_another_config_in_the_same_directory(recall, tmp_path):
    train(config((20,)), tmp_path, recall.uri)
    with pytest.raises(ValueError, match=r"another run \(batch 4, not 2; seed 0, not 1\): use another output"):
        train(config((20,), batch=2, seed=1), tmp_path, recall.uri)


def test_run_refuses_another_corpus_in_the_same_directory(recall, tmp_path):
    other = prepare(toy_game.record_games(tmp_path / "games", 12), tmp_path / "other", game="recall", workers=1)
    train(config((20,)), tmp_path / "out", recall.uri)
    with pytest.raises(ValueError, match=r"another run \(corpus "):
        train(config((20,)), tmp_path / "out", other.uri)


def test_resumed_run_removes_what_a_killed_save_left(recall, tmp_path):
    train(config((20,)), tmp_path, recall.uri)
    torn = tmp_path / "resume" / ".000000021.99.partial"
    torn.mkdir()
    (torn / "policy.safetensors").write_bytes(b"half of i")
    train(config((20, 40)), tmp_path, recall.uri)
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["000000040"]


def test_a_damaged_save_is_named(recall, tmp_path):
    train(config((20,)), tmp_path, recall.uri)
    (tmp_path / "resume" / "000000020" / "extra.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"resume/000000020: damaged checkpoint"):
        train(config((20, 40)), tmp_path, recall.uri)


def test_the_record_of_a_run_is_readable(recall, tmp_path):
    train(config((20,)), tmp_path, recall.uri)
    record = json.loads((tmp_path / "run.json").read_text())
    assert TrainConfig.model_validate(record["config"]) == config((20,))
    assert record["source"]["corpus"] == {"uri": recall.uri, "digest": recall.digest, "game": "recall"}


def test_run_logs_its_start_each_dev_loss_each_save_and_each_checkpoint(recall, tmp_path):
    lines = []
    asked = config(save_seconds=1e9)
    train(asked, tmp_path / "run", recall.uri, log=lines.append)
    kinds = [line.removeprefix("train 10k: ").split(" ")[0].rstrip(",") for line in lines]
    assert kinds[0] == "starts"
    assert kinds.count("checkpoint") == len(BUDGETS)
    assert kinds.count("saved") == len(BUDGETS)
    assert kinds.count("dev") >= len(BUDGETS)
    again = []
    more = config((*BUDGETS, 80), save_seconds=1e9)
    train(more, tmp_path / "run", recall.uri, log=again.append)
    assert again[0].startswith("train 10k: resumes from step 60, ")
