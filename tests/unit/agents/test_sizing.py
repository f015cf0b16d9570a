import subprocess
import sys

import pytest
import torch
import toy_game
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.agents import sizing
from playscale.agents.flops import as_policy, flops_by_part, forward_flops, params, params_by_part
from playscale.agents.layers import count_parameters
from playscale.agents.policy import CORES, Policy
from playscale.agents.sizing import config_for_size, heads_for, parse_size, rest_params
from playscale.games.game import get_game

NETHACK = get_game("nethack")
SIZES = ("10k", "30k", "100k", "300k", "1M", "3M", "10M", "30M", "100M", "300M", "500M")


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_within_three_percent_and_add_up(size, core):
    config = config_for_size(NETHACK, size, core)
    with torch.device("meta"):
        policy = Policy(config)
    assert count_parameters(policy) == sum(params_by_part(policy).values()) == params(config)
    assert count_parameters(policy) == pytest.approx(parse_size(size), rel=0.03)
    assert sum(flops_by_part(policy).values()) == forward_flops(policy)


@given(st.floats(4, 8.7), st.sampled_from(CORES))
@settings(max_examples=25, deadline=None)
def test_odd_sizes_too(exponent, core):
    asked = round(10**exponent)
    assert params(config_for_size(NETHACK, str(asked), core)) == pytest.approx(asked, rel=0.03)


@pytest.mark.parametrize("core", CORES)
def test_larger_sizes_cost_more_and_less_a_parameter(core):
    configs = [config_for_size(NETHACK, size, core) for size in SIZES]
    flops = [forward_flops(config) for config in configs]
    assert flops == sorted(flops)
    ratios = [f / params(config) for f, config in zip(flops, configs, strict=True)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] < 200
    assert 2 < ratios[-1] < 6


@pytest.mark.parametrize("core", CORES)
def test_no_part_but_the_core_dominates(core):
    for size in SIZES:
        parts = params_by_part(config_for_size(NETHACK, size, core))
        assert parts["message"] < 0.12 * sum(parts.values())
        assert max(parts[p] for p in parts if p != "core") < 0.4 * sum(parts.values())


@pytest.mark.parametrize("core", CORES)
def test_a_size_is_found_from_few_candidates_however_large(core, monkeypatch):
    """Widths are counted by formula, and so few of them that a size costs milliseconds."""
    counted = []

    def counting(*shape):
        counted.append(shape)
        return rest_params(*shape)

    monkeypatch.setattr(sizing, "rest_params", counting)
    for size in ("12345", "77k", "1.7M", "440M"):
        counted.clear()
        config_for_size(NETHACK, size, core)
        assert 0 < len(counted) < 400


def test_wide_cores_have_round_widths():
    assert config_for_size(NETHACK, "100M", "lstm").width % 16 == 0
    config = config_for_size(NETHACK, "300M", "transformer")
    assert config.width % 64 == 0
    assert config.width // config.heads == 64


def test_heads_divide_into_even_ones():
    for width in range(2, 2048, 2):
        heads = heads_for(width)
        assert width % (2 * heads) == 0


@pytest.mark.parametrize(
    ("text", "count"), [("10k", 10_000), ("250K", 250_000), ("3M", 3_000_000), ("1.5m", 1_500_000), ("12345", 12_345)]
)
def test_parse_size(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "k", "-10k", "10 k", "1e5", "nan", "ten", "100", "1k", "2000B", "10kk"])
def test_sizes_out_of_range_are_refused(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


def test_an_unknown_core_is_refused():
    with pytest.raises(ValueError, match="lstm, transformer"):
        config_for_size(NETHACK, "10k", "gru")


@pytest.mark.usefixtures("registered")
def test_sizes_and_flops_are_counted_without_the_import_of_torchs_compiler(monkeypatch):
    for module in [module for module in sys.modules if module.startswith("torch._dynamo")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import fails
    config = config_for_size(toy_game.Recall(), "10k", "lstm")
    assert 9_700 <= params(config) <= 10_300
    policy = as_policy(config)
    assert {tensor.device.type for tensor in policy.state_dict().values()} == {"meta"}


def test_no_policy_is_made_loaded_or_played_with_the_import_of_torchs_compiler(tmp_path):
    """Which takes 2 s of processor time, in each process of an evaluation."""
    code = f"""
import sys
from pathlib import Path
import torch
from playscale.agents.checkpoint import load_policy, save_checkpoint
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
game = get_game("nethack")
path = Path({str(tmp_path)!r}) / "checkpoint"
save_checkpoint(path, build_policy(config_for_size(game, "10k", "lstm")), {{}})
policy, _ = load_policy(path)
columns = {{name: torch.zeros((1, 2, *c.shape), dtype=getattr(torch, c.dtype)) for name, c in game.columns.items()}}
begun = {{"prev_action": torch.full((1, 2), game.num_actions), "done": torch.ones((1, 2), dtype=torch.bool)}}
with torch.inference_mode():
    policy(columns | begun, policy.initial_state(2))
print(sorted({{"sympy", "torch._dynamo"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
