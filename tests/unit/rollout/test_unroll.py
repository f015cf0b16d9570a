import pytest

from playscale.config import LARGEST_STEP, TrainConfig, Training, recipe_batch
from playscale.study.spec import StudySpec


@pytest.mark.parametrize("size", ["10k", "60k", "350k", "1M"])
def test_small_models_take_small_steps(size):
    assert recipe_batch(size) == (8, 16)


def test_samples_a_step_grow_with_parameters_up_to_the_papers():
    sizes = [f"{size}M" for size in (2, 3, 5, 10, 20, 30, 65, 100, 500)]
    steps = [batch * unroll for batch, unroll in map(recipe_batch, sizes)]
    assert steps == sorted(steps)
    assert steps[-1] == LARGEST_STEP
    assert recipe_batch("100M") == (104, 80)
    assert 10 * 128 * 0.8 < steps[3] < 10 * 128 * 1.25
    assert all(batch % 8 == 0 for batch, _ in map(recipe_batch, sizes))


def test_unroll_keeps_its_arrays():
    def batch_of(**values):
        config = TrainConfig(size="10M", budgets=(1e15,), **values)
        return config.batch, config.unroll

    assert batch_of() == recipe_batch("10M") == (40, 32)
    assert batch_of(batch=6) == (6, 32)
    assert batch_of(unroll=5) == (40, 5)
    assert batch_of(batch=6, unroll=None) == (6, 32)


def test_each_size_of_a_study_has_an_unroll_layout_of_its_own():
    values = {"name": "s", "source": {"corpus": "c"}, "sizes": ["30k", "10M"], "budgets": [1e12, 1e13]}
    runs = StudySpec.model_validate(values).runs().values()
    assert [(run.batch, run.unroll) for run in runs] == [(8, 16), (40, 32)]
    given = StudySpec.model_validate(values | {"training": Training(batch=16)}).runs().values()
    assert [(run.batch, run.unroll) for run in given] == [(16, 16), (16, 32)]
