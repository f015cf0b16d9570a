"""The optimizers: their state through a save, and RMSProp's step as its formula has it."""

import copy
import json
import sys
from types import SimpleNamespace

import pytest
import torch
import toy_game

from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.training.optimization import make_optimizer, optimizer_to_tensors, set_rate
from playscale.training.run_state import latest, load_state, new_state, save_state, saved_step
from playscale.training.schedule import ADAM_BETAS, ADAM_EPS, RMSPROP_ALPHA, RMSPROP_EPS


@pytest.fixture
def policy(monkeypatch):
    toy_game.register(monkeypatch)
    torch.manual_seed(0)
    return build_policy(config_for_size(toy_game.Recall(), "10k", "lstm"))


def train(state, seeds):
    """A step for each seed, on gradients drawn from it."""
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in state.policy.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        set_rate(state.optimizer, 1e-3 * (1 + seed))
        state.optimizer.step()
        state.step += 1


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_optimizer_resumes_from_its_saved_state(policy, tmp_path, name):
    state = new_state(policy, {}, name)
    train(state, range(3))
    state.play.add(12, [])
    state.lowest_dev_loss = 0.25
    save_state(tmp_path, state)
    other = load_state(latest(tmp_path), torch.device("cpu"), name)
    assert (other.step, other.play.interactions, other.lowest_dev_loss) == (3, 12, 0.25)
    assert type(other.optimizer) is type(state.optimizer)
    for one in (state, other):
        train(one, range(3, 6))
    kept, again = (optimizer_to_tensors(one.policy, one.optimizer) for one in (state, other))
    assert kept.keys() == again.keys()
    assert len(kept) >= 2 * len(list(policy.parameters()))
    for key, value in kept.items():
        assert torch.equal(value, again[key]), key
    weights, others = state.policy.state_dict(), other.policy.state_dict()
    assert all(torch.equal(value, others[key]) for key, value in weights.items())


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_optimizer_does_without_the_import_of_torchs_compiler(policy, monkeypatch, name):
    for module in [module for module in sys.modules if module.startswith("torch._dynamo")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import fails
    state = new_state(policy, {}, name)
    before = policy.head.weight.clone()
    train(state, range(2))
    state.optimizer.zero_grad(set_to_none=True)
    assert not torch.equal(policy.head.weight, before)
    assert policy.head.weight.grad is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adam", lambda weights: torch.optim.Adam(weights, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True)),
        ("rmsprop", lambda weights: torch.optim.RMSprop(weights, alpha=RMSPROP_ALPHA, eps=RMSPROP_EPS, foreach=True)),
    ],
)
def test_optimizer_takes_the_steps_of_torchs_own_to_the_last_bit(policy, name, theirs):
    other = copy.deepcopy(policy)
    for state in (
        new_state(policy, {}, name),
        SimpleNamespace(policy=other, optimizer=theirs(other.parameters()), step=0),
    ):
        train(state, range(5))
    assert all(map(torch.equal, policy.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("has_checksum", [True, False])  # version 0.1 wrote none
def test_a_changed_step_of_a_save_is_refused(policy, tmp_path, has_checksum):
    state = new_state(policy, {})
    train(state, range(3))
    save_state(tmp_path, state)
    path = latest(tmp_path) / "checkpoint.json"
    record = json.loads(path.read_text())
    record["meta"]["step"] = 2
    if not has_checksum:
        del record["checksum"]
    path.write_text(json.dumps(record))
    for read in (saved_step, lambda save: load_state(save, torch.device("cpu"))):
        with pytest.raises(ValueError, match="damaged"):
            read(latest(tmp_path))


def test_rmsprop_divides_by_the_running_root_mean_square(policy):
    optimizer = make_optimizer(policy, "rmsprop")
    weight = policy.head.weight
    expected, square = weight.detach().clone().double(), torch.zeros_like(weight, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for rate in (1e-2, 3e-3, 1e-3):
        policy.zero_grad()
        weight.grad = torch.randn(weight.shape, generator=generator)
        gradient = weight.grad.double()
        square = RMSPROP_ALPHA * square + (1 - RMSPROP_ALPHA) * gradient**2
        expected -= rate * gradient / (square.sqrt() + RMSPROP_EPS)
        set_rate(optimizer, rate)
        optimizer.step()
    torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-6)
