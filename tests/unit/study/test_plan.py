"""The plan: cells add up, what cannot be trained is left out with its reason, compute is what a budget says."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.config import Reinforcement, TrainConfig
from playscale.games.game import get_game
from playscale.points import Point, write_points
from playscale.study.context import own_cells
from playscale.study.plan import ABOVE_LIMIT, NO_TEACHER, TOO_FEW_STEPS, plan_grid, trained_policy
from playscale.study.teachers import choose_teachers
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


RL = Reinforcement(game="nethack/score")
TAUGHT = Reinforcement(game="nethack/score", teacher="bc")


def played(method="impala", rl=RL, size="10k", **values):
    return TrainConfig(method=method, rl=rl, size=size, **({"budgets": (1e10, 1e11)} | values))


def test_runs_that_play_are_planned_without_a_corpus_with_the_tasks_policy():
    plan = plan_grid("nethack", {"impala": played()}, None)
    policy = trained_policy("10k", "lstm", RL)
    assert policy.value_head
    assert policy.num_actions == 23
    assert [cell.samples for cell in plan.cells] == [b / training_flops_per_sample(policy) for b in (1e10, 1e11)]
    assert {cell.epochs for cell in plan.cells} == {None}
    assert "interactions" in plan.summary()
    assert "epochs" not in plan.summary()


def test_a_run_that_starts_from_a_clone_has_the_clones_widths_and_the_tasks_actions():
    clone, taught = trained_policy("10k", "lstm", None, "nethack"), trained_policy("10k", "lstm", TAUGHT, "nethack")
    assert (taught.width, taught.encoder, taught.num_actions) == (clone.width, clone.encoder, 23)
    scratch = TAUGHT.model_copy(update={"start": "scratch"})
    assert trained_policy("10k", "lstm", scratch, "nethack") == trained_policy("10k", "lstm", RL)


def test_a_run_whose_clone_is_not_trained_is_left_out_with_its_reason():
    grid = runs("10k") | {f"kickstart-{size}": played("kickstart", TAUGHT, size) for size in ("10k", "20k")}
    plan = plan_grid("nethack", grid, CORPUS)
    assert set(plan.runs) == {"bc-10k", "kickstart-10k"}
    assert {cell.reason for cell in plan.cells if cell.run == "kickstart-20k"} == {NO_TEACHER}


def test_the_teacher_is_the_clone_of_the_size_with_the_lowest_dev_loss_at_the_largest_budget(tmp_path):
    losses = {
        ("bc-10k-s0", "10k"): {1e9: 0.5, 1e10: 1.2},
        ("bc-10k-s1", "10k"): {1e9: 2.0, 1e10: 1.1},
        ("bc-20k-s0", "20k"): {1e9: 0.1, 1e10: 0.2},
    }
    planned = {}
    for (name, size), of in losses.items():
        points = [Point(run=name, size=size, flops=c, params=1e4, samples=1e5, dev_loss=y) for c, y in of.items()]
        write_points(points, tmp_path / name / "points.csv")
        planned[name] = {"method": "bc", "size": size, "rl": None, "budgets": [1e9], "held_out": [1e10]}
    planned["taught"] = {"method": "kickstart", "size": "10k", "rl": {"teacher": "bc"}}
    planned["by another"] = {"method": "kickstart", "size": "10k", "rl": {"teacher": "elsewhere"}}
    assert choose_teachers(planned, tmp_path, str(tmp_path)) == ["taught"]
    assert planned["taught"]["rl"]["teacher"] == str(tmp_path / "bc-10k-s1" / "checkpoints" / "1e+10")
    assert planned["by another"]["rl"]["teacher"] == "elsewhere"


def test_a_run_has_no_teacher_before_all_clones_of_its_size_are_trained(tmp_path):
    """The missing one could be the better teacher, and the run would not go on with another."""
    planned = {}
    for name, size, budgets in (("a-s0", "10k", (1e9, 1e10)), ("a-s1", "10k", (1e9,)), ("b-s0", "20k", (1e9, 1e10))):
        points = [Point(run=name, size=size, flops=c, params=1e4, samples=1e5, dev_loss=1.0) for c in budgets]
        write_points(points, tmp_path / name / "points.csv")
        planned[name] = {"method": "bc", "size": size, "rl": None, "budgets": [1e9, 1e10], "held_out": [1e10]}
    planned["c-s0"] = planned["b-s0"] | {"size": "30k"}  # it failed at once
    for size in ("10k", "20k", "30k"):
        planned[f"taught-{size}"] = {"method": "kickstart", "size": size, "rl": {"teacher": "bc"}}
    assert choose_teachers(planned, tmp_path, str(tmp_path)) == ["taught-20k"]
    assert planned["taught-10k"]["rl"]["teacher"] == "bc"


def test_a_clone_of_other_settings_than_the_recipe_is_no_teacher(tmp_path):
    planned = {}
    for name, loss, varied in (("own", 1.0, ""), ("other", 0.5, "batch=4"), ("untrained", None, "batch=2")):
        if loss:
            point = Point(run=name, size="10k", flops=1e9, params=1e4, samples=1e5, dev_loss=loss)
            write_points([point], tmp_path / name / "points.csv")
        run = {"method": "bc", "size": "10k", "rl": None, "budgets": [1e9], "held_out": [], "varied": varied}
        planned[name] = run
    planned["taught"] = {"method": "kickstart", "size": "10k", "rl": {"teacher": "bc"}}
    assert choose_teachers(planned, tmp_path, str(tmp_path)) == ["taught"]
    assert planned["taught"]["rl"]["teacher"] == str(tmp_path / "own" / "checkpoints" / "1e+09")


def test_corpus_of_another_game():
    with pytest.raises(ValueError, match="not of 'chess'"):
        plan_grid("chess", runs("10k"), CORPUS)


def test_teachers_are_chosen_without_the_import_of_torch():
    code = "import sys, playscale.study.steps, playscale.study.teachers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_cells_that_the_plan_leaves_out_are_not_the_studys_though_they_were_trained_before(tmp_path):
    points = [Point(run="a", size="10k", flops=c, params=1e4, samples=1e5, dev_loss=1.0) for c in (1e9, 1e10)]
    write_points(points, tmp_path / "train" / "a" / "points.csv")
    left_out = {"run": "a", "flops": 1e10, "reason": ABOVE_LIMIT}
    plan = {"runs": {"a": {}}, "cells": [{"run": "a", "flops": 1e9, "reason": None}, left_out]}
    assert {flops for _, _, flops in own_cells(tmp_path, plan)} == {1e9}
    assert {flops for _, _, flops in own_cells(tmp_path, {"runs": {"a": {}}})} == {1e9, 1e10}  # a plan of version 0.1
