"""A policy of the 121 actions in a task of 23: the same agent, told which actions there are."""

import pytest
import torch
from toy_game import Recall, register

from playscale.agents.policy import build_policy, restrict
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game

SCORE = get_game("nethack/score")
CHALLENGE = get_game("nethack")
IDS = torch.tensor([CHALLENGE.actions.index(name) for name in SCORE.actions])
T, B = 7, 3


@pytest.fixture(params=["lstm", "transformer"])
def policy(request):
    torch.manual_seed(1)
    return build_policy(config_for_size(CHALLENGE, "30k", request.param)).eval()


def unroll(seed, num_actions):
    """Random screens, a new game in column 1 at step 3, and previous actions of the task."""
    generator = torch.Generator().manual_seed(seed)
    done = torch.zeros(T, B, dtype=torch.bool)
    done[0], done[3, 1] = True, True
    previous = torch.randint(num_actions, (T, B), generator=generator)
    previous[done] = num_actions
    return {
        "tty_chars": torch.randint(32, 127, (T, B, 24, 80), generator=generator, dtype=torch.uint8),
        "tty_colors": torch.randint(16, (T, B, 24, 80), generator=generator, dtype=torch.int8),
        "tty_cursor": torch.randint(24, (T, B, 2), generator=generator, dtype=torch.int16),
        "prev_action": previous,
        "done": done,
    }


def test_restricted_policy_acts_as_the_whole_one_with_other_actions_masked(policy):
    restricted = restrict(policy, SCORE)
    assert (restricted.config.game, restricted.config.num_actions) == ("nethack/score", 23)
    of_policy = torch.cat((IDS, torch.tensor([121])))  # the last: no action yet
    state, theirs = restricted.initial_state(B), policy.initial_state(B)
    for seed in range(3):  # the state is carried
        batch = unroll(seed, 23)
        with torch.no_grad():
            logits, value, state = restricted(batch, state)
            whole, _, theirs = policy(batch | {"prev_action": of_policy[batch["prev_action"]]}, theirs)
        assert logits.shape == (T, B, 23)
        assert value is None
        torch.testing.assert_close(logits, whole[..., IDS])
        among = whole.softmax(-1)[..., IDS]
        torch.testing.assert_close(logits.softmax(-1), among / among.sum(-1, keepdim=True))
        for name in state:
            torch.testing.assert_close(state[name], theirs[name])
        assert logits.std(dim=(0, 1)).min() > 0.01  # what is compared does depend on what is seen


def test_a_value_head_is_added_or_kept(policy):
    torch.manual_seed(3)
    added = restrict(policy, SCORE, value_head=True)
    torch.manual_seed(3)
    assert torch.equal(added.value.weight, restrict(policy, SCORE, value_head=True).value.weight)
    assert not torch.equal(added.value.weight, restrict(policy, SCORE, value_head=True).value.weight)
    assert 0 < added.value.weight.std() < 0.1  # as small as a new policy's
    for asked in (True, False):
        again = restrict(added, SCORE, value_head=asked)
        assert again.config == added.config
        assert torch.equal(again.value.weight, added.value.weight)
    batch = unroll(0, 23)
    with torch.no_grad():
        torch.testing.assert_close(
            added(batch, added.initial_state(B)).logits, restrict(policy, SCORE)(batch, added.initial_state(B)).logits
        )


def test_restriction_to_all_actions_is_an_equal_policy_that_shares_no_tensor(policy):
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    generator = torch.random.get_rng_state()
    same = restrict(policy, CHALLENGE)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert same.config == policy.config
    assert not same.training
    assert same.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in same.state_dict().items())
    for tensor in same.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert restrict(policy.train(), get_game("nethack/challenge/mon-hum-neu-mal")).training


def test_the_row_of_an_action_is_its_own(policy):
    """Every row is marked with its action's number, so that a wrong one shows."""
    with torch.no_grad():
        policy.encoder.previous_action[:] = torch.arange(122.0)[:, None]
        policy.head.bias[:] = torch.arange(121.0)
    restricted = restrict(policy, SCORE)
    assert restricted.head.bias.tolist() == IDS.tolist()
    assert restricted.encoder.previous_action[:, 0].tolist() == [*IDS.tolist(), 121]
    assert restricted.encoder.previous_action is restricted.encoder.action_table


def test_restriction_to_unknown_actions_is_refused(policy, monkeypatch):
    with pytest.raises(ValueError, match="an agent of nethack/score cannot play nethack: it has no action 'Command"):
        restrict(restrict(policy, SCORE), CHALLENGE)
    register(monkeypatch)
    with pytest.raises(ValueError, match="an agent of nethack cannot play recall: it does not see the same columns"):
        restrict(policy, Recall())
    toy = build_policy(config_for_size(Recall(), "10k", "lstm"))
    assert torch.equal(restrict(toy, Recall()).encoder.previous_action, toy.encoder.action.weight)
