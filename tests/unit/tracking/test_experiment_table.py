"""Experiments of other software as points tables: each finished run is a row, all others are left out with a reason."""

from __future__ import annotations

import pytest
from mlflow.entities import Metric, Param, RunTag

from playscale.points import Point
from playscale.tracking.experiment_table import experiment_table
from playscale.tracking.mlflow_tracker import MlflowExperiment

NAMES = {"flops": "total_flops", "params": "n_params", "dev_loss": "eval/loss", "samples": "tokens"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/m.db"


def experiment(store, name, runs):
    """Make an experiment of runs (name, status, params, metrics)."""
    made = MlflowExperiment(name, store)
    for run_name, status, params, metrics in runs:
        run = made.client.create_run(made.id, run_name=run_name).info.run_id
        made.client.log_batch(
            run,
            [Metric(key, value, 1, 0) for key, value in metrics.items()],
            [Param(key, value) for key, value in params.items()],
            [RunTag("team", "a")],
        )
        if status != "RUNNING":
            made.client.set_terminated(run, status)
    return made


def test_finished_runs_of_somebody_else_are_rows_and_others_are_left_out_with_the_reason(store):
    size, values = {"n_params": "1000"}, {"total_flops": 1e12, "eval/loss": 2.5, "tokens": 1e8}
    made = experiment(
        store,
        "theirs",
        [
            ("good", "FINISHED", size, values),
            ("broken", "FAILED", size, values),
            ("killed", "KILLED", size, values),
            ("going on", "RUNNING", size, values),
            ("parent", "FINISHED", {}, {}),
            ("diverged", "FINISHED", size, values | {"eval/loss": float("nan")}),
        ],
    )
    points, left_out = experiment_table(made, NAMES)
    assert points == [
        Point(run="good", flops=1e12, params=1000, samples=10**8, dev_loss=2.5, extra={"team": "a"}),
    ]
    assert sorted(left_out) == [
        ("broken", "failed"), ("diverged", "column dev_loss: nan is not a finite number"), ("going on", "still runs"),
        ("killed", "was stopped"),
        ("parent", "has no total_flops, n_params"),
    ]  # fmt: skip
    with pytest.raises(
        ValueError, match=r"'theirs' at .*: its runs have no flops, params, samples, dev_loss, but"
    ) as error:
        experiment_table(made, {})
    assert all(name in str(error.value) for name in ("eval/loss", "n_params", "team", "--columns dev_loss=NAME"))
    assert "\n" not in str(error.value)


def test_an_experiment_with_our_names_needs_no_columns_and_a_value_that_is_none_names_the_run(store):
    made = experiment(store, "ours", [("a", "FINISHED", {"params": "1000", "samples": ""},
                                       {"flops": 1e12, "dev_loss": 2.5})])  # fmt: skip
    assert [point.samples for point in experiment_table(made, {})[0]] == [None]
    made = experiment(store, "words", [("a", "FINISHED", {"params": "1.2M", "samples": "1"},
                                        {"flops": 1e12, "dev_loss": 2.5})])  # fmt: skip
    with pytest.raises(ValueError, match='no run is a point of a table: a column params: "1.2M" is not a number'):
        experiment_table(made, {})


def test_an_experiment_without_a_finished_run_says_so(store):
    made = experiment(store, "begun", [("a", "RUNNING", {}, {}), ("b", "FAILED", {}, {})])
    with pytest.raises(ValueError, match="no run is a point of a table: .*a still runs"):
        experiment_table(made, {})
    made = MlflowExperiment("empty", store)
    wanted = "a row is a finished run with flops, params, samples, dev_loss"
    with pytest.raises(ValueError, match=f"'empty' at .*: it has no runs; {wanted}"):
        experiment_table(made, {})
    made.start("run", "train-10k", None)
    with pytest.raises(ValueError, match=f"'empty' at .*: a study that has no point yet; {wanted}"):
        experiment_table(made, {})


def test_a_study_has_its_own_points(store):
    made = MlflowExperiment("study", store)
    point = Point(run="r", flops=1e12, params=1000, samples=10**8, dev_loss=2.5)
    made.log_point(point)
    points, left_out = experiment_table(made, {})
    assert (points, left_out) == ([point], [])
