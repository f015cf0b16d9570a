"""Settings that a study varies: which runs it stands for, their names, and what is refused."""

import pytest
import yaml

from playscale.points import Point
from playscale.study.costs import pace_settings
from playscale.study.forecast_plan import Asked, points_to_fit
from playscale.study.spec import parse_spec
from playscale.training.identity import run_digest

GOOD = {"name": "v", "source": {"collect": {"games": 4}}, "sizes": ["10k", "3M"], "budgets": [1e10, 3e10]}
RATES = {"training.learning_rate": [3e-4, 1e-3]}
BOTH = RATES | {"training.batch": [8, 32]}
CORPUS = {"corpus": {"uri": "here", "digest": "c0ffee", "game": "nethack"}}


def parse(vary=None, **changes):
    return parse_spec(yaml.safe_dump(GOOD | changes | ({} if vary is None else {"vary": vary})))


def varied(vary, **changes):
    """The runs of other settings, by name."""
    return {name: run for name, run in parse(vary, **changes).runs().items() if run.varied}


def test_recipe_runs_are_the_same_runs_with_and_without_vary():
    alone = parse(held_out=[1e11]).runs()
    beside = parse(BOTH, held_out=[1e11]).runs()
    assert list(beside)[:2] == list(alone)
    for name, run in alone.items():
        assert run_digest(beside[name], CORPUS) == run_digest(run, CORPUS)
        assert beside[name].model_copy(update={"vary": ()}) == run


def test_grid_has_a_run_for_every_combination_that_differs_from_the_recipe():
    """Batch 8 is that of a 10k model anyway; at 3M it is 16."""
    runs = varied(BOTH)
    assert list(runs) == [
        "bc-lstm-10k-s0-learning_rate=0.0003",
        "bc-lstm-10k-s0-learning_rate=0.001",
        "bc-lstm-10k-s0-batch=32-learning_rate=0.0003",
        "bc-lstm-10k-s0-batch=32-learning_rate=0.001",
        "bc-lstm-3M-s0-batch=8-learning_rate=0.0003",
        "bc-lstm-3M-s0-batch=8-learning_rate=0.001",
        "bc-lstm-3M-s0-batch=32-learning_rate=0.0003",
        "bc-lstm-3M-s0-batch=32-learning_rate=0.001",
    ]
    assert runs["bc-lstm-10k-s0-batch=32-learning_rate=0.001"].batch == 32
    assert len({run_digest(run, CORPUS) for run in parse(BOTH).runs().values()}) == 10


def test_one_at_a_time_leaves_the_other_settings_as_they_are():
    runs = varied(BOTH | {"design": "one-at-a-time", "sizes": ["10K"], "budgets": [3e10, 1e11]}, held_out=[1e11])
    assert {(run.batch, run.learning_rate) for run in runs.values()} == {(8, 3e-4), (8, 1e-3), (32, None)}
    assert {run.size for run in runs.values()} == {"10k"}
    assert {(run.budgets, run.held_out) for run in runs.values()} == {((3e10, 1e11), (1e11,))}


def test_budgets_that_are_varied_are_by_default_those_that_are_fitted():
    assert {run.cells for run in varied(RATES, held_out=[1e11]).values()} == {(1e10, 3e10)}


def test_cells_beside_the_grid_are_trained_with_the_recipe_alone():
    cells = [{"size": "10k", "budgets": [1e12]}, {"size": "40k", "budgets": [1e12]}]
    runs = parse(RATES, cells=cells).runs()
    assert {run.cells for run in runs.values() if run.varied} == {(1e10, 3e10)}
    assert {name: run.cells[-1] for name, run in runs.items() if not run.varied} == {
        "bc-lstm-10k-s0": 1e12, "bc-lstm-40k-s0": 1e12, "bc-lstm-3M-s0": 3e10,
    }  # fmt: skip


def test_settings_of_playing_are_varied_for_the_runs_that_play():
    vary = {"rl.discount": [0.9], "rl.training.batch": [8], "design": "one-at-a-time"}
    runs = varied(vary, method=["bc", "impala"], sizes=["10k"])
    assert {(name, run.batch, run.rl.discount) for name, run in runs.items()} == {
        ("impala-lstm-10k-s0-rl.discount=0.9", 32, 0.9),
        ("impala-lstm-10k-s0-batch=8", 8, 0.999),
    }


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ({"training.lerning_rate": [1]}, "line 11: vary: unknown setting 'training.lerning_rate'; did you mean"),
        ({"learning_rate": [1]}, "did you mean 'training.learning_rate'?"),
        ({"training.device": ["cpu"]}, "unknown setting 'training.device'"),
        ({"training.dev_samples": [100]}, "unknown setting 'training.dev_samples'"),
        (RATES | {"desing": "grid"}, "did you mean 'design'?"),
        (RATES | {"design": "all"}, "vary.design: must be 'grid' or 'one-at-a-time'"),
        ({"training.learning_rate": [-1]}, "vary: training.learning_rate: must be greater than 0.0, not -1"),
        ({"training.learning_rate": ["fast"]}, "vary: training.learning_rate: must be a number, not 'fast'"),
        ({"training.batch": [8.5]}, "vary: training.batch: must be a whole number"),
        ({"training.batch": 8}, "vary: training.batch: give a list"),
        ({"training.batch": []}, "vary: training.batch: give a list"),
        ({"training.batch": [4, 4.0]}, "vary: training.batch: a value is given twice"),
        ({"design": "grid"}, "vary: names no setting"),
        ("training.batch", "vary: must be a mapping"),
        (RATES | {"sizes": ["20k"]}, "vary.sizes: 20k is none of the study's, which are 10k, 3M"),
        (RATES | {"budgets": [5]}, "vary.budgets: 5 is none of the study's, which are 1e+10, 3e+10"),
        ({"rl.discount": [0.9]}, "vary.rl.discount: no run of this study learns by playing"),
        ({"training.batch": [8], "sizes": ["10k"]}, "every value is the one that the study has anyway"),
        ({"training.batch": [*range(1, 40)], "training.unroll": [*range(1, 40)]}, "1,521 combinations"),
    ],
)
def test_settings_that_cannot_be_varied_are_refused_in_one_line(vary, says):
    with pytest.raises(ValueError, match=r"^spec(, line \d+)?: ") as caught:
        parse(vary)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_forecasts_rest_on_the_recipes_points_alone():
    own = Point(method="bc", flops=1e10, params=1e4, samples=1e5, dev_loss=1.0)
    other = Point(method="bc", flops=3e10, params=1e4, samples=1e5, dev_loss=0.5, extra={"varied": "batch=32"})
    asked = Asked(1e11, (), "bc", (0,), None, include_forecasts=False)
    assert points_to_fit([own, other], asked) == [own]


def test_pace_is_measured_once_for_settings_that_do_not_change_it():
    runs = parse(BOTH | {"design": "one-at-a-time", "sizes": ["10k"]}, sizes=["10k"]).runs().values()
    assert len({pace_settings(run) for run in runs}) == 2
