"""The spec: what is accepted, what is refused and how, and the grid it stands for."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from playscale.study.spec import StudySpec, parse_spec, read_spec

ROOT = Path(__file__).parents[3]
GOOD = {"name": "q", "source": {"collect": {"games": 4}}, "sizes": ["10k", "3M"], "budgets": [1e10, 3e10]}


def parse(**changes) -> StudySpec:
    return parse_spec(yaml.safe_dump(GOOD | changes))


def test_yaml_budgets_written_as_3e10_are_numbers():
    spec = parse_spec("name: q\nsource: {games: here}\nsizes: [10k]\nbudgets: [3e10, 1e+11, 2.5e11]\n")
    assert spec.budgets == (3e10, 1e11, 2.5e11)


def test_a_game_is_known_by_its_one_name():
    assert parse(game="nethack/score/mon-hum-neu-mal").game == "nethack/score"
    assert parse(game="nethack/score/@").game == "nethack/score/@"


def test_grid_has_one_run_per_size_and_seed_smallest_first_through_all_budgets():
    runs = parse(held_out=[1e11], seeds=[0, 1]).runs()
    assert list(runs) == ["bc-lstm-10k-s0", "bc-lstm-10k-s1", "bc-lstm-3M-s0", "bc-lstm-3M-s1"]
    assert {run.budgets for run in runs.values()} == {(1e10, 3e10, 1e11)}
    assert {run.held_out for run in runs.values()} == {(1e11,)}


def test_cells_beside_the_grid_extend_its_runs_and_add_others():
    cells = [
        {"size": "10K", "budgets": [1e12]},
        {"size": "1M", "budgets": [1e11, 3e10], "seeds": [2]},
        {"size": "1M", "budgets": [1e12], "seeds": [2, 3]},
    ]
    runs = parse(held_out=[1e11], cells=cells).runs()
    assert {name: (run.budgets, run.held_out) for name, run in runs.items()} == {
        "bc-lstm-10k-s0": ((1e10, 3e10, 1e11, 1e12), (1e11,)),
        "bc-lstm-1M-s2": ((3e10, 1e11, 1e12), (1e11,)),
        "bc-lstm-1M-s3": ((1e12,), ()),
        "bc-lstm-3M-s0": ((1e10, 3e10, 1e11), (1e11,)),
    }
    assert list(runs) == sorted(runs, key=lambda name: runs[name].batch)  # the smallest first


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cells": [{"size": "10k"}]}, "cells.0.budgets"),
        ({"cells": [{"size": "10k", "budgets": []}]}, "cells.0.budgets"),
        ({"cells": [{"size": "10k", "budgets": [1e9], "seed": 1}]}, "did you mean 'seeds'?"),
        ({"cells": [{"size": "10k", "budgets": [1e9, 1e9]}]}, "budgets of 10k: a value is given twice"),
        ({"cells": [{"size": "10q", "budgets": [1e9]}]}, "not a model size"),
        ({"cells": {"size": "10k", "budgets": [1e9]}}, "cells"),
        ({"sise": 1}, "unknown key 'sise'; did you mean 'sizes'?"),
        ({"source": {"collect": {"games": 4, "max_step": 5}}}, "did you mean 'max_steps'?"),
        ({"training": {"batches": 5}}, "did you mean 'batch'?"),
        ({"source": {}}, "exactly one of collect, games, corpus"),
        ({"source": {"games": "a", "corpus": "b"}}, "exactly one of collect, games, corpus"),
        ({"sizes": ["10 k"]}, "not a model size"),
        ({"sizes": []}, "sizes"),
        ({"sizes": ["10k", "10k"]}, "given twice"),
        ({"budgets": [1e10, -1e10]}, "budgets.1"),
        ({"budgets": [1e10]}, "budgets"),
        ({"budgets": "many"}, "budgets"),
        ({"held_out": [1e9]}, "held_out"),
        ({"game": "nethak"}, "nethack"),
        ({"game": "nethack/skore"}, "known are challenge, score"),
        ({"method": "ppo"}, "method"),
        ({"method": ["bc", "bc"]}, "method: a value is given twice"),
        ({"method": []}, "method"),
        ({"source": None}, "source: behavioural cloning needs expert play"),
        ({"rl": {}}, "rl: no run of this study learns by playing"),
        ({"method": "impala", "rl": {"entropy": 1}}, "did you mean 'entropy_cost'?"),
        ({"method": "impala", "rl": {"game": "nethack/skore"}}, "known are challenge, score"),
        ({"method": "impala", "rl": {"teacher": "somewhere"}}, "rl.teacher: no run of this study is taught"),
        ({"method": "kickstart"}, "rl.teacher: kickstart needs one"),
        ({"method": "kickstart", "rl": {"teacher": "bc"}}, "rl.teacher: bc is the study's own clone"),
        ({"name": "a/b"}, "name"),
        ({"evaluate": {"episodes": -1}}, "evaluate.episodes"),
        ({"method": "impala", "evaluate": {"episodes": 0}}, "runs that learn by playing have no measurement"),
    ],
)
def test_bad_spec_is_one_line_that_names_the_place(changes, says):
    with pytest.raises(ValueError, match=r"^spec(, line \d+)?: ") as caught:
        parse(**changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "a: [1", "{}", "\t"])
def test_spec_that_is_none_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="^spec: [^\n]*$"):
        parse_spec(text)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(["name", "source", "sizes", "budgets", "collect", "games", "x"])


def grown(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)


@given(st.recursive(SCALARS, grown, max_leaves=12))
def test_any_yaml_is_a_spec_or_one_clear_line(value):
    try:
        parse_spec(yaml.safe_dump(value))
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_is_valid_and_holds_out_its_largest_budget(path):
    spec = read_spec(path)
    assert spec.name == path.stem
    assert max(spec.held_out) > max(spec.budgets)


def test_missing_spec(tmp_path):
    with pytest.raises(ValueError, match="no such study spec"):
        read_spec(tmp_path / "none.yaml")


def test_forecast_settings_are_part_of_the_spec() -> None:
    text = "name: x\nsource: {corpus: c}\nsizes: [10k]\nbudgets: [1e9, 2e9]\n"
    spec = parse_spec(text + "target_returns: {human: 127356}\nhardware: {gpu: h100, utilisation: 0.4}\n")
    assert spec.target_returns == {"human": 127356}
    assert spec.hardware is not None
    assert spec.hardware.utilisation == 0.4
    for wrong, said in (("hardware: {gpu: h900}", "no GPU"), ("target_returns: {human: .nan}", "human")):
        with pytest.raises(ValueError, match=said):
            parse_spec(text + wrong)


def test_every_method_has_a_run_of_each_size_and_seed_and_all_play_one_task():
    spec = parse(
        method=["bc", "impala", "kickstart"],
        sizes=["10k"],
        seeds=[0, 1],
        training={"batch": 4, "learning_rate": 1e-3},
        rl={"teacher": "bc", "discount": 0.9, "training": {"batch": 16}},
    )
    runs = spec.runs()
    assert list(runs) == [f"{m}-lstm-10k-s{s}" for m in ("bc", "impala", "kickstart") for s in (0, 1)]
    assert spec.played == "nethack/score"
    impala, taught = runs["impala-lstm-10k-s1"], runs["kickstart-lstm-10k-s0"]
    assert (impala.rl.teacher, taught.rl.teacher) == (None, "bc")
    assert (impala.teacher_is_clone_of_study, taught.teacher_is_clone_of_study) == (False, True)
    assert impala.rl.discount == taught.rl.discount == 0.9
    assert [run.batch for run in runs.values()] == [4, 4, 16, 16, 16, 16]  # what rl.training says is of rl's runs
    assert {run.learning_rate for run in runs.values()} == {1e-3}
    assert runs["bc-lstm-10k-s0"].rl is None


@pytest.mark.parametrize(
    ("asked", "played"),
    [
        ({}, "nethack/score"),
        ({"game": "nethack/score/@"}, "nethack/score/@"),
        ({"game": "nethack/challenge"}, "nethack"),
        ({"rl": {"game": "nethack"}}, "nethack/score"),
        ({"rl": {"game": "nethack/challenge"}}, "nethack"),
    ],
)
def test_a_game_alone_is_played_in_its_default_task_and_a_task_as_it_is_given(asked, played):
    assert parse(method="impala", source=None, **asked).played == played


def test_a_study_of_clones_plays_their_own_game():
    assert parse().played is None
