import numpy as np
import pytest
import torch
import toy_run
from toy_game import record_games

from playscale.games.game import get_game
from playscale.rollout.decisions import KEPT, DecisionReader

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def game(tmp_path):
    """A recorded game: one block with all of its transitions."""
    recall = get_game("recall")
    (recording,), _ = recall.find_recordings(record_games(tmp_path, 1))
    (block,) = recall.decode(recording, 10_000)
    return block


def played(policy, block, temperature):
    """The distributions [T, A] and values [T] of the policy, step by step, as an agent plays."""
    state, previous, distributions, values = policy.initial_state(1), policy.config.num_actions, [], []
    for step, action in enumerate(block["action"].tolist()):
        batch = {name: torch.from_numpy(block[name][step])[None, None] for name in policy.columns}
        batch |= {"prev_action": torch.tensor([[previous]]), "done": torch.tensor([[step == 0]])}
        with torch.inference_mode():
            output = policy(batch, state)
        distributions.append((output.logits[0, 0].double() / temperature).softmax(-1).numpy())
        values.append(None if output.value is None else float(output.value))
        state, previous = output.state, action
    return np.array(distributions), values


@pytest.mark.parametrize(("value_head", "temperature"), [(True, 1.0), (False, 0.5)])
def test_decisions_are_those_of_the_agent_as_it_played(game, value_head, temperature, monkeypatch):
    monkeypatch.setattr("playscale.rollout.decisions.CHUNK", 7)
    policy = toy_run.policy(3, value_head=value_head).eval()
    reader = DecisionReader(policy, temperature)
    for start in range(0, len(game["action"]), 20):
        reader.read({name: array[start : start + 20] for name, array in game.items()})
    found = reader.decisions()
    wanted, values = played(policy, game, temperature)
    steps = np.arange(len(wanted))
    assert found.likely.shape == (KEPT, len(wanted))
    np.testing.assert_allclose(found.probability, -np.sort(-wanted, axis=1).T[:KEPT], atol=1e-5)
    np.testing.assert_allclose(found.probability, wanted[steps, found.likely.astype(int)], atol=1e-5)
    np.testing.assert_allclose(found.taken, wanted[steps, game["action"]], atol=1e-5)
    assert (found.value is not None) == value_head
    if found.value is not None:
        np.testing.assert_allclose(found.value, values, atol=1e-5)


def test_decisions_of_an_agent_that_took_the_best_action_are_read_at_temperature_one(game):
    policy = toy_run.policy(3).eval()
    readers = [DecisionReader(policy, temperature) for temperature in (0.0, 1.0)]
    for reader in readers:
        reader.read(game)
    assert np.array_equal(*(reader.decisions().taken for reader in readers))


def test_logits_that_are_not_finite_are_refused(game):
    policy = toy_run.policy(3).eval()
    with torch.no_grad():
        policy.head.bias[0] = float("nan")
    with pytest.raises(ValueError, match="the agent's logits are not finite"):
        DecisionReader(policy, 1.0).read(game)
