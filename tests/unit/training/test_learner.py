"""The fast training step against one written plainly: the same losses, gradients and weights."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import toy_game
from random_unrolls import unroll_of

from playscale.agents.lstm import reset_steps
from playscale.agents.policy import CORES, build_policy
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig
from playscale.games.game import get_game
from playscale.training.batches import Batch
from playscale.training.bc import BehaviouralCloning
from playscale.training.distributed import Group
from playscale.training.method import Method
from playscale.training.optimization import can_compile, compile_features
from playscale.training.run_state import new_state

T, B, STEPS, RATE, CLIP = 9, 3, 4, 2e-3, 0.5
CPU = torch.device("cpu")


class WithoutCorpus(BehaviouralCloning):
    """Behavioural cloning whose batches the test gives."""

    def __init__(self, policy):
        Method.__init__(self, TrainConfig(size="30k", budgets=(1e9,), clip_norm=CLIP, device="cpu"), Group())
        self.begin(new_state(policy, policy.initial_state(B)))


def policy_of(core):
    torch.manual_seed(0)
    config = config_for_size(get_game("nethack"), "30k", core)
    policy = build_policy(replace(config, context=6) if core == "transformer" else config)
    for module in policy.modules():  # convolutions that start at zero hide what lies before them
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.1)
    return policy


def unrolls():
    out = []
    for seed in range(STEPS):
        done = torch.rand(T, B, generator=torch.Generator().manual_seed(seed)) < 0.2
        batch = unroll_of(T, B, seed=seed, done=done)
        batch["action"] = torch.randint(0, 121, (T, B), generator=torch.Generator().manual_seed(seed))
        batch["valid"] = torch.ones(T, B, dtype=torch.bool)
        batch["valid"][T - 1, 0] = seed != 2
        out.append(batch)
    return out


def plainly(core):
    """Step by step through time, one column's reset at a time; Adam from its paper (arXiv 1412.6980, algorithm 1)."""
    policy, losses = policy_of(core), []
    state = policy.initial_state(B)
    first = {name: torch.zeros_like(p) for name, p in policy.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in policy.named_parameters()}
    for number, batch in enumerate(unrolls(), 1):
        loss = torch.zeros(())
        if core == "lstm":
            hidden, state = plain_core(policy, batch, state)
            logits = policy.head(hidden)
        else:  # test_policy.py holds the transformer to what it computes
            logits, _, state = policy(batch, state)
        for t in range(T):
            for b in range(B):
                if batch["valid"][t, b]:
                    loss = loss - F.log_softmax(logits[t, b], 0)[batch["action"][t, b]]
        loss = loss / batch["valid"].sum()
        policy.zero_grad()
        loss.backward()
        norm = sum(p.grad.square().sum() for p in policy.parameters()).sqrt()
        with torch.no_grad():
            for name, p in policy.named_parameters():
                g = p.grad * min(1.0, CLIP / (norm.item() + 1e-6))
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                scale = (second[name] / (1 - 0.999**number)).sqrt() + 1e-8
                p.sub_(RATE * (first[name] / (1 - 0.9**number)) / scale)
        losses.append((loss.item(), norm.item()))
    return policy, losses, state


def plain_core(policy, batch, state):
    """An LSTM as its equations read, a step and a column at a time: outputs [T, B, h] and the state after them."""
    observation = {name: batch[name].flatten(0, 1) for name in policy.columns}
    x = policy.features(observation, batch["prev_action"].flatten()).unflatten(0, (T, B))
    lstm = policy.core.lstm
    outputs = torch.zeros(T, B, lstm.hidden_size)
    after = {"hidden": torch.zeros_like(state["hidden"]), "cell": torch.zeros_like(state["cell"])}
    for b in range(B):
        h, c, column = state["hidden"][b, 0], state["cell"][b, 0], []
        for t in range(T):
            if batch["done"][t, b]:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            gates = lstm.weight_ih_l0 @ x[t, b] + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
            i, f, g, o = gates.chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            column.append(h)
        outputs = torch.cat((outputs[:, :b], torch.stack(column)[:, None], outputs[:, b + 1 :]), 1)
        after["hidden"][b, 0], after["cell"][b, 0] = h.detach(), c.detach()
    return outputs, after


def fast(core):
    policy = policy_of(core)
    method, losses = WithoutCorpus(policy), []
    for tensors in unrolls():
        step = method.update(Batch(tensors, [], reset_steps(tensors["done"])), RATE)
        losses.append((step.loss.item(), step.grad_norm.item()))
    return policy, losses, method.state.recurrent


def assert_same(one, two):
    (a, losses, state), (b, expected, after) = one, two
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=1e-2, atol=3e-4, msg=name)
    for name, value in state.items():
        torch.testing.assert_close(value, after[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("core", CORES)
def test_the_fast_step_equals_the_plain_one(core):
    assert_same(fast(core), plainly(core))


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(CPU), reason="no C++ compiler here")
def test_compiled_it_trains_the_same(tmp_path, monkeypatch):
    """On the small encoder of a toy game: NetHack's takes a minute to compile."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    toy_game.register(monkeypatch)
    trained = []
    for compiled in (True, False):
        torch.manual_seed(0)
        policy = build_policy(config_for_size(toy_game.Recall(), "10k", "lstm"))
        if compiled:
            assert compile_features(policy, CPU)
        method, losses = WithoutCorpus(policy), []
        for batch in unrolls():
            symbol = batch["tty_chars"][:, :, 0, :1] % 5
            few = {"symbol": symbol, "prev_action": batch["prev_action"] % 5, "action": batch["action"] % 5}
            step = method.update(Batch(batch | few, [], reset_steps(batch["done"])), RATE)
            losses.append((step.loss.item(), step.grad_norm.item()))
        trained.append((policy, losses, method.state.recurrent))
    assert trained[0][0].state_dict().keys() == trained[1][0].state_dict().keys()
    assert_same(*trained)


def test_missing_compiler_leaves_training_uncompiled(monkeypatch):
    monkeypatch.setenv("PATH", "")
    policy = policy_of("lstm")
    assert not compile_features(policy, CPU)
    assert "features" not in vars(policy)


def test_nothing_in_a_step_asks_the_device(monkeypatch):
    """A value read off a tensor (item, tolist, bool) would make a GPU wait at every step."""
    policy = policy_of("lstm")
    method, batches = WithoutCorpus(policy), unrolls()
    ready = [Batch(each, [], reset_steps(each["done"])) for each in batches]

    def reads_the_device(*_):
        raise AssertionError("a value was read from the device")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "nonzero", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, reads_the_device)
    for batch in ready:
        method.update(batch, RATE)
