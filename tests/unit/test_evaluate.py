"""Evaluation: planted returns, the same whatever the workers, whole files, and what happens when it is interrupted."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from planted_agents import always, broken, network
from planted_game import length_of, planted

from playscale.rollout.agent import Dice, sample_actions
from playscale.rollout.child import ChildError
from playscale.rollout.episode import Task
from playscale.rollout.evaluate import Candidate, evaluate_candidates
from playscale.rollout.evaluation import Settings, read_evaluation

EPISODES = 40


def run(out, agent, workers=2, trouble=None, episodes=EPISODES, max_steps=20, temperature=1.0, digest="d", **more):
    settings = Settings(episodes, max_steps, 0, temperature)
    candidate = Candidate("agent", agent, "planted", digest=digest)
    [evaluation] = evaluate_candidates(planted(trouble), [candidate], settings, out, workers=workers, **more)
    return evaluation


def test_planted_returns(tmp_path):
    said = []
    evaluation = run(tmp_path, partial(always, 3), progress=lambda what, fraction: said.append((what, fraction)))
    lengths = [min(20, length_of(seed)) for seed in range(EPISODES)]
    assert [episode.length for episode in evaluation.episodes] == lengths
    assert evaluation.returns == [3.0 * length for length in lengths]
    assert [episode.terminated for episode in evaluation.episodes] == [length_of(s) <= 20 for s in range(EPISODES)]
    assert [episode.metadata["seed"] for episode in evaluation.episodes] == list(range(EPISODES))
    assert evaluation.return_mean == pytest.approx(3 * np.mean(lengths))
    assert evaluation.return_se == pytest.approx(3 * np.std(lengths, ddof=1) / EPISODES**0.5)
    assert evaluation.return_median == 3 * np.median(lengths)
    assert evaluation.steps == sum(lengths)
    assert read_evaluation(tmp_path / "agent" / "evaluation.json") == evaluation
    assert said[-1][1] == 1.0
    assert f"agent: {EPISODES}/{EPISODES} episodes, mean return {evaluation.return_mean:.1f}" in said[-1][0]
    fractions = [fraction for _, fraction in said]
    assert fractions == sorted(fractions)


def test_best_median_and_worst_are_kept(tmp_path):
    evaluation = run(tmp_path, partial(always, 1), episodes=9, max_steps=100)
    by_role = {
        role: json.loads((tmp_path / "agent" / path / "actions.json").read_text())
        for role, path in evaluation.recordings.items()
    }
    lengths = sorted(length_of(seed) for seed in range(9))
    assert {role: len(actions) for role, actions in by_role.items()} == {
        "best": lengths[-1],
        "median": lengths[4],
        "worst": lengths[0],
    }
    assert len(list((tmp_path / "agent" / "recordings").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]


def test_the_same_actions_with_any_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("playscale.rollout.evaluate._notable", lambda episodes: [(str(e.index), e) for e in episodes])
    played = {}
    for workers in (1, 2, 4, 7):
        evaluation = run(tmp_path / str(workers), network, workers=workers)
        folder = tmp_path / str(workers) / "agent"
        actions = [json.loads((folder / path / "actions.json").read_text()) for path in evaluation.recordings.values()]
        assert len(actions) == EPISODES
        played[workers] = (evaluation.episodes, actions)
    assert len({json.dumps(actions) for _, actions in played.values()}) == 1
    assert played[1] == played[2] == played[4] == played[7]
    assert len({tuple(actions) for actions in played[1][1]}) > EPISODES / 2  # episodes differ from each other


def test_an_evaluation_that_is_there_is_not_played_again(tmp_path):
    first = run(tmp_path, network)
    assert run(tmp_path, broken) == first
    for other in ({"digest": "other weights"}, {"max_steps": 21}):
        with pytest.raises(ValueError, match="not finite"):
            run(tmp_path, broken, **other)
    assert read_evaluation(tmp_path / "agent" / "evaluation.json") == first
    (tmp_path / "agent" / "evaluation.json").write_text("{")
    assert run(tmp_path, network).episodes == first.episodes


def test_after_a_kill_the_finished_ones_stay(tmp_path):
    settings = Settings(4, 20, 0, 1.0)
    good, bad = Candidate("good", partial(always, 2), "planted"), Candidate("bad", broken, "planted")
    (tmp_path / ".bad.playing" / "recordings" / "episode-00000").mkdir(parents=True)  # left by a kill -9
    with pytest.raises(ValueError, match="bad: the agent's logits are not finite at step 0"):
        evaluate_candidates(planted(), [good, bad], settings, tmp_path, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    both = evaluate_candidates(planted(), [good, replace(bad, load=partial(always, 1))], settings, tmp_path, workers=1)
    assert [evaluation.name for evaluation in both] == ["good", "bad"]


@pytest.mark.parametrize(("kind", "error"), [("bug", ChildError), ("disk", OSError), ("killed", ChildError)])
def test_a_crash_ends_the_evaluation_with_its_cause(tmp_path, kind, error):
    with pytest.raises(error, match={"bug": "episode 33", "disk": "No space", "killed": "SIGKILL"}[kind]):
        run(tmp_path, network, trouble={33: kind})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad", [{"episodes": 0}, {"max_steps": 0}, {"temperature": -1.0}, {"workers": 0}, {"device": "gpu"}]
)
def test_nonsense_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        run(tmp_path, network, **bad)


def test_sampling_follows_the_softmax():
    logits = torch.tensor([[0.0, 1.0, -2.0, 0.5]]).repeat(200_000, 1)
    uniforms = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 0.5):
        seen = torch.bincount(sample_actions(logits, uniforms, temperature), minlength=4) / 200_000
        assert torch.allclose(seen, (logits[0] / temperature).softmax(-1), atol=5e-3)
    assert (sample_actions(logits, uniforms, 0) == 1).all()


def test_an_impossible_action_is_never_drawn():
    logits = torch.tensor([[-1e9, 0.0, -1e9, 0.0, -1e9]] * 3)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert sample_actions(logits, uniforms, 1.0).tolist() == [1, 3, 3]


def test_dice_belong_to_the_episode():
    tasks = [Task(index, index) for index in range(3)]
    alone, together = Dice(tasks[2:], seed=5), Dice(tasks, seed=5)
    for step in range(2500):
        rolled = together.roll(step, np.arange(3))
        assert rolled[2] == alone.roll(step, np.arange(1))[0]
        assert len(set(rolled)) == 3
    assert Dice(tasks, seed=6).roll(0, np.arange(3)).tolist() != Dice(tasks, seed=5).roll(0, np.arange(3)).tolist()
