"""Sizes and budgets have one rule each, everywhere; every setting is described; the registry holds the methods."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from playscale.config import (
    IMITATING_METHODS,
    LARGEST_SIZE,
    METHODS,
    PLAYING_METHODS,
    SMALLEST_SIZE,
    Reinforcement,
    TrainConfig,
    Training,
    normal_size,
    parse_budget,
    parse_budgets,
    parse_size,
)
from playscale.study.spec import SourceSpec, StudySpec

ROOT = Path(__file__).parents[2]
SIZES = [
    ("10k", 10_000, "10k"),
    ("10K", 10_000, "10k"),
    ("250000", 250_000, "250k"),
    (250_000, 250_000, "250k"),
    ("1.5M", 1_500_000, "1.5M"),
    ("0.5m", 500_000, "500k"),
    ("12345", 12_345, "12.345k"),
    ("1B", 10**9, "1B"),
    ("1000M", 10**9, "1B"),
]


@pytest.mark.parametrize(("size", "count", "name"), SIZES)
def test_a_size_has_one_spelling_in_a_run_and_in_a_study(size, count, name):
    assert parse_size(size) == count
    assert TrainConfig(size=size, budgets=(1e18,)).run_name == f"bc-lstm-{name}-s0"
    spec = StudySpec.model_validate({"name": "q", "source": {"corpus": "c"}, "sizes": [size, "20k"], "budgets": [1, 2]})
    assert spec.sizes == (name, "20k")
    assert [run.size for run in spec.runs().values()] == sorted([name, "20k"], key=parse_size)


@given(st.integers(SMALLEST_SIZE, LARGEST_SIZE))
def test_the_normal_spelling_stands_for_the_same_count(count):
    assert parse_size(normal_size(count)) == count
    assert normal_size(normal_size(count)) == normal_size(count)


@pytest.mark.parametrize("size", ["", "10 k", "-10k", "1e5", "ten", "7999", "2B", "nan", None, True, [1]])
def test_invalid_size_is_refused_in_one_line_by_a_run_and_by_a_study(size):
    with pytest.raises(ValueError, match=r"size[^\n]*$"):
        parse_size(size)
    with pytest.raises(ValueError, match="size"):
        TrainConfig(size=size, budgets=(1e9,))
    with pytest.raises(ValueError, match=r"sizes\.0"):
        StudySpec.model_validate({"name": "q", "source": {"corpus": "c"}, "sizes": [size], "budgets": [1, 2]})


def test_budgets_are_numbers_or_texts_of_training_flops():
    assert parse_budget("3e11") == parse_budget(3e11) == parse_budget(3 * 10**11) == 3e11
    assert parse_budgets("3e11, 1e11,") == [3e11, 1e11]
    assert parse_budgets("") == []


@pytest.mark.parametrize("budget", ["", "much", 0, -1, "nan", "inf", None, True, [1e9], 10**400])
def test_invalid_budget_is_refused_in_one_line(budget):
    with pytest.raises(ValueError, match=r"^[^\n]* is not a compute budget[^\n]*$"):
        parse_budget(budget)


def models(model):
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)


@pytest.mark.parametrize("model", dict.fromkeys([TrainConfig, *models(StudySpec)]))
def test_every_setting_is_described(model):
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_the_page_on_studies_lists_every_key():
    page = (ROOT / "docs" / "studies.md").read_text()
    keys = {f"source.{key}" for key in SourceSpec.model_fields} | (StudySpec.model_fields.keys() - {"source"})
    keys |= Training.model_fields.keys() | Reinforcement.model_fields.keys()
    assert [key for key in keys if f"| `{key}` |" not in page] == []


def test_every_method_imitates_or_plays_and_looks_like_no_other():
    assert set(METHODS) == IMITATING_METHODS | PLAYING_METHODS
    assert not IMITATING_METHODS & PLAYING_METHODS
    for attribute in ("label", "colour", "marker"):
        assert len({getattr(method, attribute) for method in METHODS.values()}) == len(METHODS)
    assert all(METHODS[name].has_dev_loss for name in IMITATING_METHODS)
