"""When what happens in a run: learning rates, and the step of each budget's cell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from playscale.config import TrainConfig, budget_name
from playscale.training.schedule import (
    DEV_SHARE,
    MIN_STEPS,
    Cell,
    Work,
    constant_rate,
    dev_looks,
    plan_cells,
    recipe_learning_rate,
)

budgets = st.lists(st.floats(1e9, 1e21), min_size=1, max_size=6, unique=True).map(tuple)


def test_the_rate_warms_up_linearly_and_stays():
    rates = [constant_rate(step, 8.0, warmup_steps=3) for step in range(6)]
    assert rates == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]
    assert constant_rate(0, 8.0, warmup_steps=0) == 8.0


def test_a_cooldown_decays_from_the_whole_rate_to_nothing_just_after_the_budget():
    cell = Cell(budget=1e12, branch_step=6, step=10)
    rates = [cell.cooled(step, 5.0) for step in range(5, 11)]
    assert rates == pytest.approx([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])


@given(budgets, st.integers(10**5, 10**9), st.floats(0, 0.9), st.integers(1, 64), st.integers(1, 128))
def test_cells_lie_nearest_to_their_budgets(budgets, flops_per_sample, cooldown, batch, unroll):
    config = TrainConfig(size="10k", budgets=budgets, cooldown=cooldown, batch=batch, unroll=unroll)
    step_flops = flops_per_sample * batch * unroll
    if round(min(budgets) / step_flops) < MIN_STEPS:
        with pytest.raises(ValueError, match="raise it to at least"):
            plan_cells(config, flops_per_sample)
        return
    cells = plan_cells(config, flops_per_sample)
    assert sorted(cell.budget for cell in cells) == sorted(budgets)
    assert [cell.branch_step for cell in cells] == sorted(cell.branch_step for cell in cells)
    for cell in cells:
        assert abs(cell.step * step_flops - cell.budget) <= step_flops / 2 + 1e-12 * cell.budget
        assert 0 <= cell.branch_step <= cell.step
        assert cell.branch_step == cell.step or cooldown > 0


def test_a_budget_of_too_few_steps_says_what_to_do():
    config = TrainConfig(size="100k", budgets=(1e9, 1e12), batch=8, unroll=32)
    with pytest.raises(ValueError, match=r"budget 1e\+09 pays for 1,000 samples at size 100k.*at least 1.3e\+09"):
        plan_cells(config, 10**6)


def test_the_budget_a_message_asks_for_is_enough():
    assert plan_cells(TrainConfig(size="100k", budgets=(1.3e9,), batch=8, unroll=32), 10**6)[0].step == MIN_STEPS


def test_held_out_budgets_are_trained_and_marked():
    config = TrainConfig(size="10k", budgets=(3e11, 1e11), held_out=(1e12, 3e11))
    assert config.cells == (1e11, 3e11, 1e12)
    assert [config.split(budget) for budget in config.cells] == ["fit", "held-out", "held-out"]


@pytest.mark.parametrize("bad", [(), (0.0,), (-1e9,), (float("nan"),), (float("inf"),)])
def test_budgets_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError, match="budget"):
        TrainConfig(size="10k", budgets=bad)


@given(st.floats(1e-300, 1e300))
def test_a_budget_name_reads_back_as_the_budget(budget):
    assert float(budget_name(budget)) == budget
    assert budget_name(3e11) == "3e+11"


def test_work_goes_from_nothing_to_all_through_run_and_branches():
    cells = [Cell(1.0, 8, 10), Cell(2.0, 16, 20)]
    work = Work(cells)
    seen = [work.of_run(step) for step in range(9)]
    seen += [work.of_branch(cells[0])(step) for step in range(9, 11)]
    seen += [work.of_run(step) for step in range(9, 17)]
    seen += [work.of_branch(cells[1])(step) for step in range(17, 21)]
    assert work.total == 16 + 2 + 4
    assert seen == pytest.approx([i / work.total for i in range(work.total + 1)])


@given(st.integers(5, 10**6), st.integers(1, 10**4), st.integers(1, 10**6))
def test_looks_at_dev_loss_between_cells_cost_little(steps, samples_per_step, dev_samples):
    looks = dev_looks(steps, samples_per_step, dev_samples)
    assert len(looks) * dev_samples / 3 <= DEV_SHARE * steps * samples_per_step
    assert all(0 <= step <= steps for step in looks)


def test_the_recipe_falls_with_size_within_its_bounds():
    rates = [recipe_learning_rate(n) for n in (10_000, 100_000, 1_000_000, 10_000_000, 500_000_000)]
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 <= rates[-1] <= 4e-4
    assert rates[0] <= 1e-2
