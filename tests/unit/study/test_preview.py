"""The plan that a user sees is the plan that is run, with costs, expected best sizes and warnings."""

from dataclasses import replace

import pytest
import toy_game

from playscale.config import TrainConfig
from playscale.scaling.gpu import hardware
from playscale.study.plan import ABOVE_LIMIT, plan_study
from playscale.study.preview import AgentPlay, ExpectedPlay, gpu_machine, known_play, preview
from playscale.study.spec import parse_spec

COLLECT = "name: q\ngame: recall\nsource: {collect: {games: 100, max_steps: 1000}}\n"
COLLECT += "sizes: [10k, 25k, 40k]\nbudgets: [1e9, 4e9]\n"
NOTHING_PLAYED, GPU = AgentPlay(), gpu_machine(hardware("h100", 0.5))


@pytest.fixture(autouse=True)
def _small_game(monkeypatch):
    toy_game.register(monkeypatch)


def planned(text, play=NOTHING_PLAYED, machine=GPU, **values):
    spec = parse_spec(COLLECT + text)
    return preview(spec, machine, known_play(spec, None), play, **values)


def warnings(plan):
    return {one["code"]: one["text"] for one in plan["warnings"]}


def test_the_grid_that_is_shown_is_the_grid_that_is_run():
    text = "held_out: [2e11]\nmax_budget: {10k: 4e9}\n"
    plan, spec = planned(text), parse_spec(COLLECT + text)
    grid = plan_study(spec, known_play(spec, None))
    shown = {(row["run"], row["budget"]) for row in plan["cells"] if row["reason"] is None}
    assert shown == {(name, budget) for name, run in grid.runs.items() for budget in run.cells}
    assert [row["budget"] for row in plan["cells"] if row["reason"] == ABOVE_LIMIT] == [2e11]
    assert len(plan["cells"]) == 9


def test_a_limited_size_is_trained_to_its_limit_and_no_further():
    spec = parse_spec(COLLECT + "held_out: [2e11]\nmax_budget: {10k: 4e9}\n")
    runs = plan_study(spec, None).runs
    assert runs["bc-lstm-10k-s0"].cells == (1e9, 4e9)
    assert runs["bc-lstm-25k-s0"].cells == (1e9, 4e9, 2e11)
    assert isinstance(runs["bc-lstm-10k-s0"], TrainConfig)


def test_cells_beside_the_grid_are_planned_also_above_a_limit():
    """10k goes on to 2e11, 30k is trained there alone, with a seed of its own."""
    cells = "cells:\n- {size: 10k, budgets: [2e11]}\n- {size: 30k, budgets: [1e11, 2e11], seeds: [5]}\n"
    plan = planned("max_budget: {10k: 1e9}\n" + cells)
    trained = {(row["run"], row["budget"]): row for row in plan["cells"] if row["reason"] is None}
    grid = {(f"bc-lstm-{size}-s0", budget) for size in ("25k", "40k") for budget in (1e9, 4e9)}
    own = {("bc-lstm-10k-s0", 1e9), ("bc-lstm-10k-s0", 2e11), ("bc-lstm-30k-s5", 1e11), ("bc-lstm-30k-s5", 2e11)}
    assert trained.keys() == grid | own
    assert trained["bc-lstm-10k-s0", 2e11]["flops"] == pytest.approx(2e11 - 1e9, rel=1e-2)
    assert trained["bc-lstm-30k-s5", 1e11]["flops"] == pytest.approx(1e11, rel=1e-2)
    assert [(row["run"], row["budget"]) for row in plan["cells"] if row["reason"]] == [("bc-lstm-10k-s0", 4e9)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("max_budget: {30k: 1e9}", "line 6: max_budget: the study has no size 30k; did you mean 25k"),
        ("max_budget: {10q: 1e9}", "'10q' is not a model size"),
        ("max_budget: {10k: 1e8}", "10k: 1e\\+08 is below the smallest budget"),
        ("max_budget: {10k: 1e9, 25k: 1e9, 40k: 1e9}", "no size is left at budget 4e\\+09"),
    ],
)
def test_a_limit_that_leaves_no_grid_is_refused(text, error):
    with pytest.raises(ValueError, match=error):
        parse_spec(COLLECT + text)


def test_totals_are_the_sums_of_the_cells_and_have_a_price():
    plan = planned("", AgentPlay(length=100.0), price=2.0)
    rows, sums = plan["cells"], plan["total"]
    for name in ("flops", "hours", "episodes", "play_steps"):
        assert sums[name] == pytest.approx(sum(row[name] for row in rows))
    assert sums["price"] == pytest.approx(2 * sums["hours"])
    assert sums["play_steps"] == 100 * sums["episodes"] == 100 * 6 * 100
    assert sums["play_steps_most"] == 6 * 100 * 100_000


@pytest.mark.parametrize(("cores", "length"), [(4, 100.0), (4, None), (None, 100.0)])
def test_what_a_user_waits_is_training_and_play_on_all_cores(cores, length):
    """Agents of 6 cells and a random policy play, 100 episodes each; the expert 100 games of 1000 actions."""
    own = replace(GPU, cores=cores, steps_per_second=lambda _: 100.0, expert_steps_per_second=1000.0, at_once=2)
    sums = planned("", AgentPlay(length=length), own)["total"]
    if cores is None:
        assert sums["total_elapsed_hours_most"] is None
        return
    most, about = ((7 * 100 * steps / 100 + 100 * 1000 / 1000) / 4 / 3600 for steps in (100_000, 100))
    assert sums["play_elapsed_hours_most"] == pytest.approx(most)
    assert sums["total_elapsed_hours_most"] == pytest.approx(sums["elapsed_hours"] + most)
    expected = None if length is None else pytest.approx(sums["elapsed_hours"] + about)
    assert sums["total_elapsed_hours"] == expected
    unplayed = planned("evaluate: {episodes: 0}\n", NOTHING_PLAYED, own)["total"]
    assert unplayed["play_elapsed_hours_most"] == pytest.approx(100 / 4 / 3600)


def test_cells_of_varied_settings_are_shown_by_them_and_expect_nothing_of_the_best_size():
    vary = "vary: {training.batch: [16], training.learning_rate: [1e-3], design: one-at-a-time, budgets: [4e9]}\n"
    plan, own = planned(vary + "evaluate: {episodes: 0}\n"), planned("evaluate: {episodes: 0}\n")
    rows = [row for row in plan["cells"] if row["varied"]]
    assert {(row["varied"], row["budget"]) for row in rows} == {("batch=16", 4e9), ("learning_rate=0.001", 4e9)}
    assert len(rows) == 6
    assert plan["best"] == own["best"]
    assert plan["total"]["flops"] == pytest.approx(own["total"]["flops"] + sum(row["flops"] for row in rows))


def test_what_a_collection_will_hold_is_at_most_its_games_times_their_limit():
    plan = planned("")
    assert plan["corpus"] == {"uri": "collect", "train": 90000, "basis": "at most"}
    row = plan["cells"][0]
    assert row["epochs"] == pytest.approx(row["samples"] / 90000)
    assert known_play(parse_spec(COLLECT.replace("collect: {games: 100, max_steps: 1000}", "games: dir")), None) is None


def test_a_size_that_is_expected_to_be_best_comes_from_the_prior_and_is_warned_of_outside_the_sizes():
    law = {"target": "dev_loss", "quantity": "params", "at": "argmin", "exponent": 1.0, "log_coefficient": -10.7}
    fit = {"points": [{"method": "bc", "flops": 1e9}], "power_laws": [law | {"used": True}]}
    plan = planned("", fit=fit, fit_name="fit.json")
    assert [(row["side"], row["size"]) for row in plan["best"]] == [("inside", "25k"), ("above", "40k")]
    assert (
        "at 4e+09 FLOPs the best size is expected above the sizes trained: 90.2k"
        in warnings(plan)["best-outside-sizes"]
    )
    assert "of 25k at 1e+09" in warnings(plan)["few-steps"]
    assert plan["priors"] == {"bc": "fit.json"}


def test_no_size_is_guessed_where_no_prior_serves():
    plan = planned("")
    assert [row["params"] for row in plan["best"]] == [None, None]
    assert not {"best-outside-sizes", "few-steps"} & warnings(plan).keys()


def test_warnings_of_repeated_data_few_episodes_and_memory():
    assert not {"many-epochs", "memory"} & warnings(planned("")).keys()
    many = planned("held_out: [4e10]\nevaluate: {episodes: 25}\n", AgentPlay(scatter=1.0))
    assert "up to at least" in warnings(many)["many-epochs"]
    assert warnings(many)["few-episodes"].startswith(
        "25 episodes give a return a standard error of about 20 %; about 100"
    )
    assert "few-episodes" not in warnings(planned("", AgentPlay(scatter=1.0)))
    small = gpu_machine(hardware("t4", 0.5))
    tight = planned("", machine=small.__class__(**{**vars(small), "memory": 1e5}))
    assert warnings(tight)["memory"].startswith("10k, 25k, 40k: training takes about")


def test_a_step_shorter_than_the_start_of_its_kernels_is_warned_of_on_a_gpu():
    assert warnings(planned(""))["utilisation"].startswith("10k, 25k, 40k: an optimizer step would take")
    slow = gpu_machine(hardware("t4", 1e-9))
    assert "utilisation" not in warnings(planned("", machine=slow))


def test_expected_play_splits_its_transitions():
    play = ExpectedPlay("collect", "nethack", 900, "at most")
    assert (play.transitions("train"), round(play.transitions("dev"))) == (900, 100)
