"""The measuring of a plan trains and plays through the code that a study runs."""

import pytest
import toy_game

from playscale.study.measure import environment_rate, measured_machine, training_pace
from playscale.study.preview import AgentPlay, known_play, preview
from playscale.study.spec import parse_spec

pytestmark = pytest.mark.slow
SPEC = """
name: q
game: recall
source: {collect: {games: 40, max_steps: 200}}
sizes: [10k]
budgets: [1e8, 4e8]
training: {batch: 4, unroll: 8, dev_samples: 256, device: cpu}
evaluate: {episodes: 4, max_steps: 100}
"""


def test_a_plan_measured_here_has_hours_of_training_and_play(tmp_path, monkeypatch):
    toy_game.register(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", toy_game.python_path(tmp_path))
    spec, told = parse_spec(SPEC), []
    machine, expert_play = measured_machine(
        spec, known_play(spec, None), tmp_path / "aside", 0.05, lambda what, _: told.append(what)
    )
    plan = preview(spec, machine, expert_play, AgentPlay())
    assert told == ["the expert plays", "train bc 10k", "play"]
    assert plan["corpus"]["basis"] == "estimated"  # games of recall end by themselves
    assert 40 * 0.9 * 60 < plan["corpus"]["train"] < 40 * 0.9 * 160
    for row in plan["cells"]:
        assert row["hours"] > 0
        assert row["play_core_hours_most"] > 0
        assert row["play_core_hours"] is None
    assert plan["total"]["elapsed_hours"] == pytest.approx(plan["total"]["hours"] / 2)
    assert plan["machine"]["matmul_flops_per_second"] > 0
    assert (tmp_path / "aside" / "run-0" / "agent" / "checkpoint.json").is_file()


def test_actors_are_measured_as_they_play(tmp_path, monkeypatch):
    toy_game.register(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", toy_game.python_path(tmp_path))
    spec = parse_spec(
        "name: q\ngame: recall\nmethod: impala\nrl: {actors: 2, workers: 2, max_steps: 80}\nsizes: [10k]\n"
        "budgets: [1e9, 4e9]\ntraining: {batch: 4, unroll: 8, device: cpu}\nevaluate: {episodes: 4, max_steps: 50}\n"
    )
    (run,) = spec.runs().values()
    pace = training_pace(spec, run, None, tmp_path / "run", 0.05, 0.0)
    assert pace.step > 0
    assert pace.dev == 0
    assert environment_rate(spec, tmp_path / "play") > 0
