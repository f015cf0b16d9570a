"""Measured paces become the seconds of cells, at one speed of the machine."""

import pytest

from playscale.config import Reinforcement, TrainConfig
from playscale.study.costs import CellCost, pace_settings
from playscale.study.local_run import AT_ONCE
from playscale.study.measure import MeasuredPace, RunPace, at_one_rate

RUN = TrainConfig(size="10k", budgets=(1e9, 2e9))
PACE = RunPace(start=5.0, step=0.1, cell=0.5, dev=2.0, matmul=100.0)
FIRST = CellCost(budget=1e9, samples=1, steps=10, own_steps=10, flops=1, dev_losses=1.5)
SECOND = CellCost(budget=2e9, samples=1, steps=30, own_steps=20, flops=1, dev_losses=1.0)


def test_seconds_are_those_of_steps_dev_losses_cells_and_once_the_start():
    pace = MeasuredPace({pace_settings(RUN): PACE})
    assert pace.seconds(RUN, FIRST) == pytest.approx(10 * 0.1 + 1.5 * 2 + 0.5 + 5)
    assert pace.seconds(RUN, SECOND) == pytest.approx(20 * 0.1 + 2 + 0.5)


def test_runs_of_another_seed_rate_or_budget_have_the_same_pace_and_of_another_size_none():
    pace = MeasuredPace({pace_settings(RUN): PACE})
    alike = RUN.model_copy(
        update={
            "seed": 7,
            "learning_rate": 1e-3,
            "varied": "learning_rate=0.001",
            "budgets": (5e9,),
            "held_out": (6e9,),
        }
    )
    assert pace.seconds(alike, SECOND) == pace.seconds(RUN, SECOND)
    assert pace.seconds(RUN.model_copy(update={"size": "20k"}), SECOND) is None
    assert pace.seconds(RUN.model_copy(update={"batch": 64}), SECOND) is None


def test_runs_that_play_share_the_cores():
    run = TrainConfig(size="10k", budgets=(1e9,), method="impala", rl=Reinforcement(game="nethack/score"))
    pace = MeasuredPace({pace_settings(run): PACE})
    assert pace.seconds(run, SECOND) == pytest.approx(AT_ONCE * (20 * 0.1 + 2 + 0.5))


def test_paces_are_corrected_to_one_rate_of_the_matmul():
    other = RUN.model_copy(update={"size": "20k"})
    slow = RunPace(start=10.0, step=0.2, cell=1.0, dev=4.0, matmul=50.0)  # while the machine had half its speed
    third = RUN.model_copy(update={"size": "30k"})
    corrected = at_one_rate({pace_settings(RUN): PACE, pace_settings(other): slow, pace_settings(third): PACE}).runs
    assert corrected[pace_settings(other)] == corrected[pace_settings(RUN)] == PACE
