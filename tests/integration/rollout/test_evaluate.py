"""Evaluation: planted returns, whole files, checkpoints, and what happens when it is interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from counting_agents import diverged
from counting_game import BEST, Counting, length_of
from process_state import gone
from toy_game import Recall, register

from playscale.agents.checkpoint import load_policy, save_checkpoint
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.points import read_points
from playscale.processes.worker import WorkerError
from playscale.rollout.evaluate import EvalCandidate, evaluate, evaluate_candidates
from playscale.rollout.evaluation import EvalSettings, read_evaluation
from playscale.storage import files

pytestmark = pytest.mark.usefixtures("forked_workers")

EPISODES = 40
EXPERT = EvalCandidate("expert", None, "counting", digest="d")  # it scores BEST points a step


def run(out, workers=2, faults=None, episodes=EPISODES, max_steps=20, temperature=1.0, candidate=EXPERT, **more):
    settings = EvalSettings(episodes, max_steps, 0, temperature)
    [evaluation] = evaluate_candidates(Counting(faults or {}), [candidate], settings, out, workers=workers, **more)
    return evaluation


@pytest.mark.parametrize("workers", [1, 5])
def test_planted_returns(tmp_path, workers):
    said = []
    evaluation = run(tmp_path, workers, progress=lambda what, fraction: said.append((what, fraction)))
    lengths = [min(20, length_of(seed)) for seed in range(EPISODES)]
    assert [episode.length for episode in evaluation.episodes] == lengths
    assert evaluation.returns == [float(BEST) * length for length in lengths]
    assert [episode.terminated for episode in evaluation.episodes] == [length_of(s) <= 20 for s in range(EPISODES)]
    assert [episode.metadata["seed"] for episode in evaluation.episodes] == list(range(EPISODES))
    assert evaluation.return_mean == pytest.approx(BEST * np.mean(lengths))
    assert evaluation.return_se == pytest.approx(BEST * np.std(lengths, ddof=1) / EPISODES**0.5)
    assert evaluation.return_median == BEST * np.median(lengths)
    assert evaluation.steps == sum(lengths)
    assert read_evaluation(tmp_path / "expert" / "evaluation.json") == evaluation
    assert said[-1][1] == 1.0
    assert f"expert: {EPISODES}/{EPISODES} episodes, mean return {evaluation.return_mean:.1f}" in said[-1][0]
    fractions = [fraction for _, fraction in said]
    assert fractions == sorted(fractions)


def test_best_median_and_worst_are_kept(tmp_path):
    evaluation = run(tmp_path, episodes=9, max_steps=100)
    folder = tmp_path / "expert"
    kept = {
        role: json.loads((folder / path / "actions.json").read_text()) for role, path in evaluation.recordings.items()
    }
    lengths = sorted(length_of(seed) for seed in range(9))
    wanted = {"best": lengths[-1], "median": lengths[4], "worst": lengths[0]}
    assert {role: len(actions) for role, actions in kept.items()} == wanted
    assert len(list((folder / "recordings").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["expert"]


def test_a_single_episode_has_no_standard_error(tmp_path):
    evaluation = run(tmp_path, episodes=1)
    assert evaluation.return_se is None
    assert set(evaluation.recordings.values()) == {"recordings/episode-00000"}
    assert json.loads((tmp_path / "expert" / "evaluation.json").read_text())["return_se"] is None


def test_an_evaluation_that_is_there_is_not_played_again(tmp_path):
    first = run(tmp_path)
    unplayable = dict.fromkeys(range(EPISODES), "bug")
    assert run(tmp_path, faults=unplayable) == first
    with pytest.raises(WorkerError):
        run(tmp_path, faults=unplayable, max_steps=21)
    with pytest.raises(WorkerError):
        run(tmp_path, faults=unplayable, candidate=EvalCandidate("expert", None, "counting", digest="another"))
    assert read_evaluation(tmp_path / "expert" / "evaluation.json") == first
    (tmp_path / "expert" / "evaluation.json").write_text("{")
    assert run(tmp_path).episodes == first.episodes


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("bug", WorkerError, "^ZeroDivisionError: planted in episode 33 "),
        ("disk", OSError, "No space"),
        ("killed", WorkerError, "SIGKILL"),
    ],
)
def test_a_crash_ends_the_evaluation_with_its_cause(tmp_path, kind, error, text):
    with pytest.raises(error, match=text):
        run(tmp_path, faults={33: kind})
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_diverged_is_named(tmp_path):
    with pytest.raises(ValueError, match="^bad: the agent's logits are not finite at step 0"):
        run(tmp_path, workers=1, candidate=EvalCandidate("bad", diverged, "counting"))


@pytest.mark.parametrize(
    "bad", [{"episodes": 0}, {"max_steps": 0}, {"temperature": -1.0}, {"workers": 0}, {"device": "gpu"}]
)
def test_evaluate_refuses_arguments_out_of_range(tmp_path, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        run(tmp_path / "out", **bad)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_evaluation_leaves_no_process_and_goes_on(tmp_path, how):
    code = f"""
import sys
from pathlib import Path
from counting_game import Counting
from playscale.rollout.evaluate import EvalCandidate, evaluate_candidates
from playscale.rollout.evaluation import EvalSettings
quick, slow = (EvalCandidate(name, None, "counting", digest="d") for name in ("expert", "slow"))
out = Path({str(tmp_path)!r})
settings = EvalSettings(40, 20, 0, 1.0)
evaluate_candidates(Counting(), [quick], settings, out, workers=2)
print("played", flush=True)
evaluate_candidates(Counting({{seed: "slow" for seed in range(40)}}), [slow], settings, out, workers=2)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert parent.stdout.readline() == "played\n"
    family = descendants(parent.pid, at_least=4)  # two evaluation workers, an environment worker each
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    assert all(gone(pid) for pid in family)
    assert run(tmp_path, faults=dict.fromkeys(range(EPISODES), "bug")).return_mean > 0  # the finished one stays
    slow = EvalCandidate("slow", None, "counting", digest="d")
    assert run(tmp_path, candidate=slow).returns == run(tmp_path).returns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expert", "slow"]


def descendants(pid: int, at_least: int) -> list[int]:
    """All processes below `pid`, once there are so many."""
    for _ in range(1000):
        table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        children: dict[int, list[int]] = {}
        for line in table.splitlines():
            child, parent = map(int, line.split())
            children.setdefault(parent, []).append(child)
        found, queue = [], [pid]
        while queue:
            below = children.get(queue.pop(), [])
            found += below
            queue += below
        if len(found) >= at_least:
            return found
        time.sleep(0.02)
    raise AssertionError(f"only {found}")


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Two untrained policies of the toy game, at the same budget of two runs."""
    register(monkeypatch)
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        policy = build_policy(config_for_size(Recall(), "10k", "lstm"))
        point = {"game": "recall", "run": f"r{seed}", "flops": 3e11, "params": 1e4, "samples": 5e6, "dev_loss": 1.5}
        paths.append(tmp_path / f"r{seed}" / "3e+11")
        save_checkpoint(paths[-1], policy, {"point": point})
    return paths


def test_checkpoints(tmp_path, checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules["playscale.rollout.evaluation_pool"].ROWS, "cpu", 4)
    out = tmp_path / "out"
    evaluations = evaluate(checkpoints, 10, out, max_steps=50, workers=1, device="cpu")
    assert [evaluation.name for evaluation in evaluations] == ["r0-3e+11", "r1-3e+11"]
    assert [episode.seed for episode in evaluations[0].episodes] == list(range(10))
    assert evaluations[0].returns != evaluations[1].returns
    again = evaluate(checkpoints[::-1], 10, tmp_path / "again", max_steps=50, workers=2, device="cpu")
    assert [evaluation.episodes for evaluation in again[::-1]] == [evaluation.episodes for evaluation in evaluations]
    points = read_points(out / "points.csv")
    assert [(p.run, p.dev_loss, p.return_mean, p.return_se, p.episodes) for p in points] == [
        (run, 1.5, e.return_mean, pytest.approx(e.return_se), 10)
        for run, e in zip(("r0", "r1"), evaluations, strict=True)
    ]


def test_points_has_a_row_for_every_evaluation_of_its_directory(tmp_path, checkpoints):
    for path in checkpoints[::-1]:
        [evaluation] = evaluate([path], 2, tmp_path / "out", max_steps=5, workers=1, device="cpu")
        assert evaluation.name == f"{path.parent.name}-3e+11"
    assert [(p.run, p.episodes) for p in read_points(tmp_path / "out" / "points.csv")] == [("r0", 2), ("r1", 2)]


def test_damaged_evaluation_is_played_again_and_that_of_another_agent_is_refused(tmp_path, checkpoints):
    out = tmp_path / "out"
    evaluate(checkpoints, 2, out, max_steps=5, workers=1, device="cpu")
    before = (out / "points.csv").read_bytes()
    damaged = out / "r0-3e+11" / "evaluation.json"
    damaged.write_text("{")
    with pytest.raises(ValueError, match=r"r0-3e\+11/evaluation\.json"):
        evaluate(checkpoints[1:], 2, out, max_steps=5, workers=1, device="cpu")
    evaluate(checkpoints[:1], 2, out, max_steps=5, workers=1, device="cpu")
    assert read_evaluation(damaged).episode_count == 2
    assert (out / "points.csv").read_bytes() == before


def test_evaluations_of_runs_that_differ_in_settings_lie_side_by_side(tmp_path, checkpoints):
    for path, digest in zip(checkpoints, ("aa", "bb"), strict=True):
        policy, checkpoint = load_policy(path)
        point = checkpoint.meta["point"] | {"run": "r", "digest": digest}
        save_checkpoint(path, policy, {"point": point})
        evaluate([path], 2, tmp_path / "out", max_steps=5, workers=1, device="cpu")
    evaluate(checkpoints, 2, tmp_path / "out", max_steps=5, workers=1, device="cpu")
    assert [(p.run, p.digest) for p in read_points(tmp_path / "out" / "points.csv")] == [("r", "aa"), ("r", "bb")]


def test_evaluation_refuses_a_directory_that_another_one_writes_to(tmp_path, checkpoints, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    lock = files.locked(tmp_path / "out", "evaluation")
    with ThreadPoolExecutor(1) as other:
        other.submit(lock.__enter__).result()
        with pytest.raises(ValueError, match="out: another evaluation is writing there; wait for it or choose another"):
            evaluate(checkpoints, 2, tmp_path / "out", max_steps=5, workers=1, device="cpu")


def test_an_evaluation_on_games_that_the_agent_learned_from_says_so(tmp_path, checkpoints, caplog):
    policy, checkpoint = load_policy(checkpoints[0])
    save_checkpoint(checkpoints[0], policy, checkpoint.meta | {"train_seeds": [[2, 2], [9, 20]]})
    seen, unseen = evaluate(checkpoints, 11, tmp_path / "out", max_steps=5, workers=1, device="cpu")
    said = "3 of 11 episodes (seeds 2 to 10) may be games that r0-3e+11 learned from: choose another --seed"
    assert caplog.text.count(said) == 1
    assert seen.train_seeds == ((2, 2), (9, 10))
    assert unseen.train_seeds == ()
    assert read_evaluation(tmp_path / "out" / seen.name / "evaluation.json").train_seeds == seen.train_seeds
    save_checkpoint(checkpoints[0], policy, {"train_seeds": [5]})
    with pytest.raises(ValueError, match="damaged checkpoint .*train_seeds"):
        evaluate(checkpoints, 1, tmp_path / "other", max_steps=5, workers=1, device="cpu")


def test_checkpoints_that_cannot_be_played(tmp_path, checkpoints):
    shutil.copytree(checkpoints[0], tmp_path / "copy")
    with pytest.raises(ValueError, match="the same as"):
        evaluate([checkpoints[0], checkpoints[0]], 1, tmp_path / "out", max_steps=5, workers=1)
    with pytest.raises(ValueError, match="not a checkpoint"):
        evaluate([checkpoints[0], tmp_path], 1, tmp_path / "out", max_steps=5, workers=1)
    weights = checkpoints[1] / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        evaluate(checkpoints, 1, tmp_path / "out", max_steps=5, workers=1)
    record = json.loads((checkpoints[1] / "checkpoint.json").read_text())
    del record["checksum"]  # as version 0.1 wrote it
    record["game"] = record["policy"]["game"] = "nethack"
    (checkpoints[1] / "checkpoint.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="a checkpoint of nethack, but recall is played here"):
        evaluate(checkpoints, 1, tmp_path / "out", max_steps=5, workers=1)
    with pytest.raises(ValueError, match="no checkpoint"):
        evaluate([], 1, tmp_path / "out", max_steps=5, workers=1)
    assert not (tmp_path / "out").exists()
