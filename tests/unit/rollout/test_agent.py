"""An agent at its episodes: what it is shown, how its actions are drawn, and that they are always the same."""

import json

import numpy as np
import pytest
import torch
from counting_agents import Always, Diverged, Network
from counting_game import ACTIONS, Counting, length_of

from playscale.rollout.agent import EpisodeUniforms, play, sample_actions
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import EpisodeSpec
from playscale.rollout.evaluation import EvalSettings

pytestmark = pytest.mark.usefixtures("forked_workers")

EPISODES = 12


def played(agent, processes=2, record=None, temperature=1.0):
    """The episodes in order, and the number of steps that were reported."""
    tasks = [EpisodeSpec(index, 100 + index, record and record / str(index)) for index in range(EPISODES)]
    with EnvPool(Counting(), processes, EPISODES, max_steps=20) as workers:
        settings = EvalSettings(EPISODES, 20, 100, temperature)
        advances = list(play(agent, workers, tasks, ACTIONS, settings, "cpu"))
    episodes = sorted((e for advance in advances for e in advance.ended), key=lambda episode: episode.index)
    return episodes, sum(advance.steps for advance in advances)


def test_planted_returns():
    episodes, steps = played(Always(3))
    lengths = [min(20, length_of(100 + index)) for index in range(EPISODES)]
    assert [episode.length for episode in episodes] == lengths
    assert [episode.score for episode in episodes] == [3.0 * length for length in lengths]
    assert steps == sum(lengths)


def test_the_same_actions_with_any_number_of_workers(tmp_path):
    runs = {}
    for processes in (1, 2, 4):
        folder = tmp_path / str(processes)
        episodes, _ = played(Network(), processes, folder)
        runs[processes] = (episodes, [json.loads((folder / f"{i}/actions.json").read_text()) for i in range(EPISODES)])
    assert runs[1] == runs[2] == runs[4]
    assert len({tuple(actions[:3]) for actions in runs[1][1]}) > 3  # each episode draws on its own
    greedy, _ = played(Network(), 1, temperature=0)
    assert greedy != runs[1][0]


def test_logits_that_are_not_finite():
    with pytest.raises(ValueError, match="logits are not finite at step 0"):
        played(Diverged(0))


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


def test_uniforms_belong_to_the_episode():
    specs = [EpisodeSpec(index, index) for index in range(3)]
    alone, together = EpisodeUniforms(specs[2:], seed=5), EpisodeUniforms(specs, seed=5)
    for step in range(2500):
        drawn = together.draw(step, np.arange(3))
        assert drawn[2] == alone.draw(step, np.arange(1))[0]
        assert len(set(drawn)) == 3
    first = [EpisodeUniforms(specs, seed).draw(0, np.arange(3)).tolist() for seed in (5, 6)]
    assert first[0] != first[1]
