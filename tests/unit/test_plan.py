"""The plan: cells add up, what cannot be trained is left out with its reason, compute is what a budget says."""

import json
from types import SimpleNamespace

import pytest

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.training.config import TrainConfig
from playscale.training.plan import TOO_FEW_STEPS, plan_grid
from playscale.training.schedule import MIN_STEPS

CORPUS = SimpleNamespace(uri="corpus", game="nethack", transitions=lambda split: {"train": 10_000, "dev": 1_000}[split])


def runs(*sizes, budgets=(1e9, 1e10), held_out=(1e11,)):
    return {f"bc-{size}": TrainConfig(size=size, budgets=budgets, held_out=held_out) for size in sizes}


def test_every_cell_is_planned_or_has_its_reason():
    plan = plan_grid("nethack", runs("10k", "300k"), CORPUS)
    assert len(plan.cells) == 6
    per_step = plan.runs["bc-10k"].samples_per_step
    per_sample = training_flops_per_sample(config_for_size(get_game("nethack"), "300k", "lstm"))
    for cell in plan.cells:
        if cell.size == "300k":
            assert cell.samples == pytest.approx(cell.flops / per_sample)
        assert cell.epochs == pytest.approx(cell.samples / 10_000)
        assert (cell.reason == TOO_FEW_STEPS) == (round(cell.samples / per_step) < MIN_STEPS)
        assert (cell.reason is None) == (cell.flops in plan.runs[cell.run].cells)


def test_held_out_stays_held_out():
    plan = plan_grid("nethack", runs("10k"), CORPUS)
    assert plan.runs["bc-10k"].split(1e11) == "held-out"


def test_the_plan_survives_json():
    plan = plan_grid("nethack", runs("10k"), CORPUS)
    read = json.loads(json.dumps(plan.to_dict()))
    assert TrainConfig.model_validate(read["runs"]["bc-10k"]) == plan.runs["bc-10k"]


def test_budgets_too_small_for_every_size():
    with pytest.raises(ValueError, match="raise the budgets"):
        plan_grid("nethack", runs("300k", budgets=(1e6,), held_out=()), CORPUS)


def test_corpus_of_another_game():
    with pytest.raises(ValueError, match="not of 'chess'"):
        plan_grid("chess", runs("10k"), CORPUS)
