"""Costs of cells add up to those of their run, and one cell costs what a run with one budget does."""

import pytest
import toy_game

from playscale.agents.flops import params, training_flops_per_sample
from playscale.agents.policy import Policy
from playscale.config import Reinforcement, TrainConfig
from playscale.scaling.gpu import hardware
from playscale.study.costs import STATE_BYTES, GpuPace, activation_bytes, cell_costs, model_cost
from playscale.study.plan import trained_policy
from playscale.training.schedule import Work, plan_cells

H100 = GpuPace(hardware("h100", 0.5))


@pytest.fixture(autouse=True)
def _small_game(monkeypatch):
    toy_game.register(monkeypatch)


def run(**values):
    return TrainConfig(**({"size": "10k", "budgets": (1e9, 2e9, 8e9)} | values))


@pytest.mark.parametrize("cooldown", [0.0, 0.4])
def test_the_cells_of_a_run_add_up_to_its_steps_flops_and_time(cooldown):
    config = run(cooldown=cooldown)
    per_sample = training_flops_per_sample(trained_policy("10k", "lstm", None, "recall"))
    costs = cell_costs(config, "recall", H100)
    steps = Work(plan_cells(config, per_sample)).total
    assert sum(cell.own_steps for cell in costs) == steps
    flops = steps * config.samples_per_step * per_sample
    assert sum(cell.flops for cell in costs) == pytest.approx(flops)
    assert sum(cell.hours for cell in costs) == pytest.approx(flops / (989e12 * 0.5) / 3600)


def test_an_agent_of_one_budget_costs_the_budget():
    (cost,) = cell_costs(run(budgets=(8e9,)), "recall", H100)
    assert cost.flops == pytest.approx(8e9, rel=0.01)
    assert (cost.steps, cost.own_steps) == (cost.own_steps, cost.steps)


def test_actors_and_a_teacher_take_forward_passes_of_a_gpu_too():
    own = {}
    for method, teacher in (("impala", None), ("kickstart", "bc")):
        rl = Reinforcement(game="recall", teacher=teacher)
        (cost,) = cell_costs(run(method=method, rl=rl, budgets=(8e9,)), "recall", H100)
        own[method] = cost.seconds / (cost.flops / (989e12 * 0.5))
    assert own == {"impala": pytest.approx(4 / 3), "kickstart": pytest.approx(5 / 3)}


def test_memory_is_that_of_weights_optimizer_and_what_the_backward_pass_needs():
    policy = trained_policy("10k", "lstm", None, "recall")
    small, large = (activation_bytes(policy, 16, batch)[0] for batch in (8, 32))
    assert large == pytest.approx(4 * small, rel=0.05)
    saved, batch = activation_bytes(policy, 16, 8)
    cost = model_cost(run(), "recall")
    assert cost.params == params(Policy(policy))
    assert cost.memory == pytest.approx(STATE_BYTES * cost.params + saved + 3 * batch)
    assert model_cost(run(), "recall", "bf16").memory < cost.memory
