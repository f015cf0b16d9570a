import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from playscale.agents.flops import flops_by_part, forward_flops, params_by_part, training_flops_per_sample
from playscale.agents.policy import CORES, Policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.games.nethack.encoder import MapEncoder

NETHACK = get_game("nethack")
LARGE = [pytest.param(size, marks=pytest.mark.slow) for size in ("1M", "10M")]


def counted(policy: Policy, unroll: int, batch: int) -> FlopCounterMode:
    """Torch's own count of a forward pass. oneDNN's fused LSTM and the fused attention kernels are invisible to it."""
    columns = {
        name: torch.zeros(unroll, batch, *column.shape, dtype=getattr(torch, column.dtype))
        for name, column in NETHACK.columns.items()
    }
    columns["prev_action"] = torch.zeros(unroll, batch, dtype=torch.long)
    columns["done"] = torch.zeros(unroll, batch, dtype=torch.bool)
    with (
        FlopCounterMode(display=False) as counter,
        torch.backends.mkldnn.flags(enabled=False),
        sdpa_kernel(SDPBackend.MATH),
    ):
        policy(columns, policy.initial_state(batch))
    return counter


@pytest.fixture(autouse=True)
def every_cell(monkeypatch):
    """FLOPs are those of the layers as defined: what a CPU saves on blank cells of the map does not count."""
    monkeypatch.setattr(MapEncoder, "drawn_patches", MapEncoder.all_patches)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("size", ["10k", "100k", *LARGE])
@pytest.mark.parametrize(("unroll", "batch"), [(1, 2), (32, 2)])
def test_the_analytic_count_agrees_with_torchs(size, core, unroll, batch):
    policy = Policy(config_for_size(NETHACK, size, core))
    total = counted(policy, unroll, batch).get_total_flops() / (unroll * batch)
    assert forward_flops(policy) == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("core", CORES)
def test_flops_of_each_part_agree_with_torchs_counter(core):
    policy = Policy(config_for_size(NETHACK, "300k", core))
    modules = counted(policy, 1, 1).get_flop_counts()
    parts = flops_by_part(policy)
    names = {"core": ["core"], "fc": ["fc1", "fc2"], "policy head": ["head"], "map": ["encoder.map"]}
    for part, paths in names.items():
        assert parts[part] == sum(sum(modules[f"Policy.{path}"].values()) for path in paths), part


def test_training_costs_three_forward_passes():
    config = config_for_size(NETHACK, "10k", "lstm")
    assert training_flops_per_sample(config) == 3 * sum(flops_by_part(config).values())


def test_config_and_policy_count_the_same_by_the_same_parts():
    for core in CORES:
        config = config_for_size(NETHACK, "30k", core)
        policy = Policy(config)
        assert flops_by_part(config) == flops_by_part(policy)
        assert params_by_part(config) == params_by_part(policy)
        assert list(params_by_part(config)) == list(flops_by_part(config))
