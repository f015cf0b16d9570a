import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from random_unrolls import unroll_of
from toy_game import Recall, register, screens

from playscale.agents.policy import CORES, Policy, PolicyConfig, build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game

NETHACK = get_game("nethack")
CONTEXT = 6  # short, so that unrolls run out of it


def small(core: str) -> PolicyConfig:
    config = config_for_size(NETHACK, "10k", core)
    return replace(config, context=CONTEXT) if core == "transformer" else config


def policy_of(core: str, seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    policy = build_policy(small(core))
    for block in policy.core.modules():
        if isinstance(block, torch.nn.Linear):  # at their start the blocks add little: make them count
            block.weight.data.mul_(3)
    return policy


def rows(batch, start, end):
    return {key: value[start:end] for key, value in batch.items()}


def run(policy, batch, pieces):
    """Logits of the whole and the last state, run in pieces of these lengths."""
    state, start, logits = policy.initial_state(batch["done"].shape[1]), 0, []
    for length in pieces:
        output = policy(rows(batch, start, start + length), state)
        logits.append(output.logits)
        state, start = output.state, start + length
    return torch.cat(logits), state


@pytest.mark.parametrize("core", CORES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_stepping_equals_unrolling_wherever_games_end(core, data):
    T, B = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 3))
    done = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=B, max_size=B), min_size=T, max_size=T)))
    cut = data.draw(st.integers(0, T))
    policy, batch = policy_of(core), unroll_of(T, B, seed=T, done=done)
    with torch.no_grad():
        whole, after = run(policy, batch, [T])
        stepped, after_steps = run(policy, batch, [1] * T)
        cut_once, _ = run(policy, batch, [n for n in (cut, T - cut) if n])
    torch.testing.assert_close(stepped, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cut_once, whole, rtol=1e-4, atol=1e-4)
    valid = after.get("valid")
    for key, value in after.items():
        if valid is None:
            torch.testing.assert_close(after_steps[key], value, rtol=1e-4, atol=1e-4)
    if valid is not None:
        assert torch.equal(valid, after_steps["valid"])


@pytest.mark.parametrize("core", CORES)
def test_a_new_game_forgets_the_last_one(core):
    policy = policy_of(core)
    first, second = unroll_of(5, 2, seed=1), unroll_of(4, 2, seed=2)
    second["done"][0] = True
    with torch.no_grad():
        fresh = policy(second, policy.initial_state(2)).logits
        after_a_game = policy(second, policy(first, policy.initial_state(2)).state).logits
        second["done"][0] = False
        carried_on = policy(second, policy(first, policy.initial_state(2)).state).logits
    torch.testing.assert_close(after_a_game, fresh, rtol=1e-5, atol=1e-5)
    assert (carried_on - fresh).abs().max() > 1e-3, "and within a game it does remember"


@pytest.mark.parametrize("core", CORES)
def test_only_the_columns_own_earlier_steps_matter(core):
    """A changed screen changes its own step and later ones of its game and column, and nothing else."""
    done = torch.zeros(8, 2, dtype=torch.bool)
    done[5, 0] = True
    policy, batch = policy_of(core), unroll_of(8, 2, done=done)
    changed = {key: value.clone() for key, value in batch.items()}
    changed["tty_chars"][2, 0] = 35
    with torch.no_grad():
        difference = [policy(b, policy.initial_state(2)).logits for b in (batch, changed)]
    moved = (difference[0] - difference[1]).abs().amax(2) > 1e-6
    want = torch.zeros(8, 2, dtype=torch.bool)
    want[2:5, 0] = True
    assert torch.equal(moved, want)


def test_the_transformer_sees_its_context_and_no_further():
    config = replace(small("transformer"), layers=1)
    torch.manual_seed(0)
    policy = build_policy(config)
    batch = unroll_of(10, 1)
    changed = {key: value.clone() for key, value in batch.items()}
    changed["tty_chars"][1] = 35
    with torch.no_grad():
        logits = [policy(b, policy.initial_state(1)).logits for b in (batch, changed)]
        stepped = [run(policy, b, [1] * 10)[0] for b in (batch, changed)]
    for a, b in (logits, stepped):
        moved = ((a - b).abs().amax((1, 2)) > 1e-6).nonzero().flatten().tolist()
        assert moved == list(range(1, 1 + CONTEXT))


@pytest.mark.parametrize("core", CORES)
def test_states_are_batch_first_detached_and_can_be_indexed(core):
    policy, batch = policy_of(core), unroll_of(4, 3)
    state = policy.initial_state(3)
    assert all(value.shape[0] == 3 for value in state.values())
    output = policy(batch, state)
    assert {key: (v.shape, v.dtype) for key, v in output.state.items()} == {
        key: (v.shape, v.dtype) for key, v in state.items()
    }
    assert not any(value.requires_grad for value in output.state.values())
    with torch.no_grad():
        step = unroll_of(1, 3, seed=9)
        all_rows = policy(step, output.state).logits
        picked = policy({k: v[:, [2, 0]] for k, v in step.items()}, {k: v[[2, 0]] for k, v in output.state.items()})
    torch.testing.assert_close(picked.logits, all_rows[:, [2, 0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("core", CORES)
def test_every_parameter_learns(core):
    policy, batch = policy_of(core), unroll_of(5, 2)
    for module in policy.modules():  # let the last convolutions of residual blocks, zero at first, pass something on
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.1)
    logits = policy(batch, policy.initial_state(2)).logits
    F.cross_entropy(logits.flatten(0, 1), torch.randint(0, 121, (10,))).backward()
    still = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize("core", CORES)
def test_first_guesses_are_nearly_uniform(core):
    policy, batch = build_policy(small(core)), unroll_of(6, 4)
    loss = F.cross_entropy(policy(batch, policy.initial_state(4)).logits.flatten(0, 1), torch.arange(24))
    assert loss.item() == pytest.approx(torch.tensor(121.0).log().item(), abs=0.9)


@pytest.mark.parametrize("core", CORES)
def test_bf16_autocast_and_inference_mode(core):
    policy, batch = policy_of(core), unroll_of(5, 2)
    batch["done"][3, 1] = True
    with torch.inference_mode():
        exact = policy(batch, policy.initial_state(2))
        policy(batch, exact.state)
    with torch.autocast("cpu", torch.bfloat16):
        rough = policy(batch, policy.initial_state(2))
    assert (rough.logits.float() - exact.logits).abs().mean() < 0.1 * exact.logits.std()
    assert {v.dtype for v in rough.state.values()} == {v.dtype for v in exact.state.values()}
    rough.logits.float().logsumexp(2).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)


def test_the_value_head_is_there_when_asked_for():
    config = small("lstm")
    batch = unroll_of(3, 2)
    without = build_policy(config)
    assert without(batch, without.initial_state(2)).value is None
    policy = build_policy(replace(config, value_head=True))
    assert policy(batch, policy.initial_state(2)).value.shape == (3, 2)


def test_weights_come_from_the_global_generator():
    a, b, c = (policy_of("lstm", seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize("core", CORES)
def test_a_config_survives_json(core):
    config = config_for_size(NETHACK, "30k", core)
    again = PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    a, b = (build_policy(c).state_dict() for c in (config, again))
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}


def test_configs_that_cannot_be_are_refused():
    values = small("lstm").to_dict()
    with pytest.raises(ValueError, match="'widht'"):
        PolicyConfig.from_dict({**values, "widht": 3})
    with pytest.raises(ValueError, match="missing"):
        PolicyConfig.from_dict({"game": "nethack"})
    with pytest.raises(ValueError, match="lstm, transformer"):
        build_policy(PolicyConfig.from_dict({**values, "core": "gru"}))
    with pytest.raises(ValueError, match="encoder widths of nethack"):
        build_policy(PolicyConfig.from_dict({**values, "encoder": {"eyes": 2}}))
    with pytest.raises(ValueError, match="unknown game"):
        build_policy(PolicyConfig.from_dict({**values, "game": "chess"}))


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_a_policy_learns_to_remember_in_another_game(core, monkeypatch):
    """Cloning the expert of Recall needs the cue of up to four steps ago: without memory the loss stays above 0.25."""
    register(monkeypatch)
    torch.manual_seed(0)
    policy = build_policy(config_for_size(Recall(), "10k", core))
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    for i in range(200):
        games = [screens(1000 * i + b)[:40] for b in range(16)]
        symbol, action = torch.tensor(games).permute(2, 1, 0)
        previous = torch.cat((torch.full((1, 16), 5), action[:-1]))
        done = torch.zeros(40, 16, dtype=torch.bool)
        done[0] = True
        batch = {"symbol": symbol[..., None].to(torch.uint8), "prev_action": previous, "done": done}
        logits = policy(batch, policy.initial_state(16)).logits
        loss = F.cross_entropy(logits.flatten(0, 1), action.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
