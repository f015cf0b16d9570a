"""Dev loss: the same transitions for every cell, the state carried, the standard error over games."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy_game

from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.training import dev_loss as module
from playscale.training.dev_loss import dev_loss, mean_over_games

CPU = torch.device("cpu")


@pytest.fixture
def corpus(recall):
    return recall


@pytest.fixture
def policy(recall):
    torch.manual_seed(3)
    policy = build_policy(config_for_size(toy_game.Recall(), "10k", "lstm"))
    with torch.no_grad():
        policy.head.weight.mul_(30)  # so that what the state holds shows in the loss
    return policy


def slow_twin(policy, corpus):
    """Each dev game by itself, one transition at a time: losses by game."""
    losses = []
    for index in [i for i, game in enumerate(corpus.games) if game.split == "dev"]:
        game = corpus.read_game(index)
        state, total = policy.initial_state(1), []
        for t in range(len(game["action"])):
            step = {name: torch.from_numpy(values[t : t + 1, None].copy()) for name, values in game.items()}
            logits, _, state = policy(step, state)
            total.append(float(F.cross_entropy(logits.double()[0], step["action"][0])))
        losses.append(np.array(total))
    return losses


def test_dev_loss_is_the_mean_over_every_transition_of_the_dev_games(corpus, policy):
    found = dev_loss(policy, corpus, 10**9, CPU, "fp32")
    with torch.inference_mode():
        expected = slow_twin(policy, corpus)
    assert found.games == len(expected) > 1
    assert found.samples == corpus.transitions("dev") == sum(map(len, expected))
    assert found.loss == pytest.approx(np.concatenate(expected).mean(), rel=1e-5)


def test_the_unroll_does_not_matter(corpus, policy, monkeypatch):
    whole = dev_loss(policy, corpus, 10**9, CPU, "fp32")
    monkeypatch.setattr(module, "UNROLL", 7)
    assert dev_loss(policy, corpus, 10**9, CPU, "fp32").loss == pytest.approx(whole.loss, rel=1e-5)


@pytest.mark.parametrize("samples", [1, 100, 150])
def test_dev_loss_takes_the_same_transitions_each_time(corpus, policy, samples):
    first = dev_loss(policy, corpus, samples, CPU, "fp32")
    assert first.samples == samples
    assert dev_loss(policy, corpus, samples, CPU, "fp32") == first


def test_dev_loss_leaves_the_policy_unchanged(corpus, policy):
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.train()
    dev_loss(policy, corpus, 100, CPU, "fp32")
    assert policy.training
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_bf16_is_near_fp32(corpus, policy):
    fp32, bf16 = (dev_loss(policy, corpus, 500, CPU, precision).loss for precision in ("fp32", "bf16"))
    assert bf16 == pytest.approx(fp32, rel=0.05)
    assert bf16 != fp32


def test_the_standard_error_is_that_of_choosing_other_games():
    """Planted: games of uneven length, each with a mean of its own; the truth is the spread over many such choices."""
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(4000):
        counts = rng.integers(100, 900, 24)
        sums = counts * rng.normal(2.0, 0.3, 24)  # as if a game's transitions were all alike
        mean, se = mean_over_games(sums, counts)
        means.append(mean)
        errors.append(se)
    assert np.mean(means) == pytest.approx(2.0, abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.07)


def test_a_single_game_has_no_standard_error():
    assert mean_over_games(np.array([30.0]), np.array([10])) == (3.0, None)
