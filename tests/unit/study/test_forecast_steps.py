"""Forecasts of a study: registered once before their agents are trained, scored once, void where an agent diverged."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from ledger_entries import normal_entry

from playscale.cli.study_status import status_of
from playscale.points import Point, read_points, with_forecasts, write_points
from playscale.scaling.fit import fit as fit_laws
from playscale.scaling.ledger import points_digest
from playscale.storage.files import read_json, write_json
from playscale.storage.s3 import S3Storage
from playscale.study import analysis, forecast_plan, forecast_run, forecast_steps
from playscale.study.forecast_plan import Asked, enough_episodes, near_size
from playscale.study.local_run import LocalPipeline, LocalStudy
from playscale.study.spec import parse_spec
from playscale.study.studies import studies_below
from playscale.tracking.ledger_table import LedgerTable

SIZES = {"10k": 10_000, "14k": 14_000, "20k": 20_000, "28k": 28_000}
BUDGETS = (1e9, 2e9, 4e9)
BUDGET = 1.6e10
OPTIONS = {
    "budget": "1.6e10",
    "targets": "",
    "method": "",
    "seeds": "",
    "episodes": "",
    "include_forecasts": False,
}
SPEC = {
    "name": "toy",
    "game": "recall",
    "sizes": list(SIZES),
    "budgets": list(BUDGETS),
    "cells": [{"size": "40k", "budgets": [4e9]}],  # no part of a forecast's run
    "training": {"batch": 4, "unroll": 8, "dev_samples": 64},
    "evaluate": {"episodes": 20, "max_steps": 60},
}


def points():
    """dev_loss = (1 + squared distance of ln N from the best) C^-0.1, a return that rises, and 20 episodes each."""
    rows = []
    for budget in BUDGETS:
        for size, params in SIZES.items():
            off = np.log(params / (14_000 * (budget / 1e9) ** 0.3))
            loss = float((1 + 0.2 * off**2) * 2 * (budget / 1e9) ** -0.1)
            measured = {"dev_loss": loss, "return_mean": 10 / loss, "return_se": 0.5, "episodes": 20}
            agent = {"game": "recall", "method": "bc", "run": f"bc-lstm-{size}-s0", "seed": 0, "size": size}
            samples = round(budget / 6 / params)
            rows.append(Point(**agent, flops=budget, params=params, samples=samples, **measured))
    return rows


@pytest.fixture(scope="module")
def fits():
    """Fits of this module by the points and the budget: each takes a second."""
    return {}


@pytest.fixture
def study(recall, tmp_path, monkeypatch, fits):
    """The spec of a study that was run, and its directory."""

    def fit_study(spec, points, *others):
        key = points_digest(points), spec.forecast
        if key not in fits:
            fits[key] = analysis.fit_study(spec, points, *others)
        return fits[key]

    monkeypatch.setattr(analysis, "fit_laws", partial(fit_laws, replicates=60))
    monkeypatch.setattr(forecast_plan, "fit_study", fit_study)
    monkeypatch.setattr(forecast_steps, "deliver", lambda *_: None)  # MLflow's part has tests of its own
    out = tmp_path / "out"
    out.mkdir()
    write_json(out / "plan.json", {"runs": {}, "corpus": str(recall.uri)})
    write_points(points(), out / "points.csv")
    return yaml.safe_dump(SPEC | {"source": {"corpus": str(recall.uri)}}), out


def ask(study, step=forecast_steps.forecast, **options):
    spec, out = study
    return step(spec, str(out), OPTIONS | options, "")


def entries(study):
    return list(LedgerTable.beside(study[1]).read().entries.values())


def train(made, losses, returns, **extra):
    """Write what training and evaluating the runs leave."""
    plan = read_json(made.folder / "plan.json")
    for name, loss, mean in zip(made.runs, losses, returns, strict=True):
        config = plan["runs"][name]
        point = Point(
            game="recall", method="bc", run=name, seed=config["seed"], size=config["size"], flops=BUDGET,
            params=20_000, samples=1000, dev_loss=loss, split="held-out", extra=extra,
        )  # fmt: skip
        write_points([point], made.folder / "train" / name / "points.csv")
        played = replace(point, return_mean=mean, return_se=0.1, episodes=20)
        write_points([played], made.folder / "evaluate" / name / "points.csv")


def path_of(made):
    return forecast_steps.ForecastRuns(Path(made.folder), made.runs)


def test_a_forecast_is_registered_with_what_it_rests_on_before_its_agent_is_planned(study, recall):
    made = path_of(ask(study))
    loss, ret = entries(study)
    assert [(e.target, e.state, e.flops, e.at) for e in (loss, ret)] == [
        ("dev_loss", "open", BUDGET, "budget"), ("return_mean", "open", BUDGET, "budget"),
    ]  # fmt: skip
    assert loss.low < loss.value < loss.high
    assert loss.value == pytest.approx(2 * 16**-0.1, rel=0.05)
    assert loss.params == pytest.approx(14_000 * 16**0.3, rel=0.1)
    assert loss.corpus == recall.digest
    assert loss.points
    assert loss.law
    plan = read_json(made.folder / "plan.json")
    assert set(plan["runs"]) == set(made.runs)
    assert all(run["held_out"] == [BUDGET] == run["budgets"] for run in plan["runs"].values())
    assert plan["forecasts"] == {name: plan["forecasts"][name] for name in made.runs}
    assert plan["entries"][loss.id] == [made.runs[0]]
    assert plan["episodes"] >= 20


def test_the_same_forecast_asked_again_is_found_again_also_without_its_plan(study):
    first = path_of(ask(study))
    before = (study[1] / "ledger.jsonl").read_bytes()
    (first.folder / "plan.json").unlink()  # as a kill between the two leaves it
    assert path_of(ask(study)) == first
    assert (study[1] / "ledger.jsonl").read_bytes() == before


def test_a_forecast_of_one_target_is_joined_by_that_of_the_other(study):
    ask(study, targets="loss")
    made = path_of(ask(study, targets="return"))
    assert [e.target for e in entries(study)] == ["dev_loss", "return_mean"]
    assert set(read_json(made.folder / "plan.json")["entries"]) == {e.id for e in entries(study)}


def test_a_forecast_of_a_study_in_s3_is_kept_there_and_found_again(study, s3):
    storage = S3Storage("s3://bucket/study")
    for name in ("plan.json", "points.csv"):
        storage.upload(study[1] / name, name)
    made = [forecast_steps.forecast(study[0], "s3://bucket/study", OPTIONS, "") for _ in range(2)]
    assert made[0] == made[1]
    name = made[0].folder.removeprefix("s3://bucket/study/")
    assert {"ledger.jsonl", f"{name}/plan.json"} <= storage.walk().keys()
    events = storage.read_whole("ledger.jsonl").splitlines()
    assert len(events) == 2
    assert [one.place for one in studies_below("s3://bucket")] == ["s3://bucket/study"]
    assert status_of("s3://bucket/study").forecast.state == "running"  # by its last change: of no process it is known


def test_more_points_are_another_forecast(study):
    first = ask(study, targets="loss")
    write_points(points()[:-1], study[1] / "points.csv")
    assert ask(study, targets="loss").folder != first.folder
    assert len(entries(study)) == 2


def test_the_table_of_a_later_fit_with_the_agents_own_row_is_the_same_points(study):
    first = ask(study, targets="loss")
    own = replace(points()[-1], flops=BUDGET, split="held-out", extra={"forecast": "abc"})
    write_points([*points(), own], study[1] / "points.csv")
    assert ask(study, targets="loss") == first
    (entry,) = entries(study)
    assert not entry.retrospective
    assert ask(study, targets="loss", budget="3.2e10", include_forecasts=True)
    assert entries(study)[1].points != entry.points


def test_a_scored_forecast_has_the_mean_of_the_seeds_and_is_scored_once(study):
    made = path_of(ask(study, targets="loss", seeds="0,1"))
    ask(study, forecast_steps.score, targets="loss", seeds="0,1")
    assert [e.state for e in entries(study)] == ["open"]
    train(made, [1.4, 1.6], [7, 8])
    for _ in range(2):
        ask(study, forecast_steps.score, targets="loss", seeds="0,1")
    (entry,) = entries(study)
    assert (entry.state, entry.outcome, entry.seeds) == ("scored", 1.5, 2)
    assert entry.seed_sd == pytest.approx(0.1414, rel=1e-3)
    scatter = (entry.seed_sd / 1.5) ** 2
    law = max(entry.error**2 - scatter / 2, 0)
    assert entry.seed_share == pytest.approx(scatter / (scatter + law))
    assert len((study[1] / "ledger.jsonl").read_text().splitlines()) == 2


def test_a_forecast_that_another_writer_of_the_ledger_has_replaced_is_named(study):
    made, ledger = path_of(ask(study, targets="loss")), study[1] / "ledger.jsonl"
    lost = entries(study)[0].id
    train(made, [1.4], [7])
    ledger.unlink()  # as a later upload of another table leaves it in S3
    LedgerTable(ledger).register([normal_entry()])
    with pytest.raises(RuntimeError, match=f"has lost {lost}, which was registered: another process wrote it"):
        ask(study, forecast_steps.score, targets="loss")
    ask(study, targets="loss")
    ask(study, forecast_steps.score, targets="loss")
    assert [(e.id == lost, e.state) for e in entries(study)] == [(False, "open"), (True, "scored")]


def test_a_return_is_scored_by_the_evaluation_with_its_error(study):
    made = path_of(ask(study, targets="return"))
    train(made, [1.5], [6.5])
    ask(study, forecast_steps.score, targets="return")
    (entry,) = entries(study)
    assert (entry.outcome, entry.outcome_se) == (6.5, 0.1)


def test_an_agent_that_diverged_voids_its_forecast_for_good(study):
    made = path_of(ask(study, targets="loss"))
    train(made, [9.0], [0.0], diverged="dev loss above 1.609 (uniform actions)")
    ask(study, forecast_steps.score, targets="loss")
    ask(study, targets="loss")
    (entry,) = entries(study)
    assert entry.state == "void"
    assert entry.reason == f"{made.runs[0]} diverged: dev loss above 1.609 (uniform actions)"


def test_a_loss_that_was_not_finite_voids_the_forecast(study):
    made = path_of(ask(study, targets="loss"))
    record = {"what": "loss", "value": "nan", "step": 7, "samples": 224, "games": []}
    (made.folder / "train" / made.runs[0]).mkdir(parents=True)
    write_json(made.folder / "train" / made.runs[0] / "nonfinite.json", record)
    ask(study, forecast_steps.score, targets="loss")
    assert entries(study)[0].reason == f"{made.runs[0]}: loss became nan at step 7"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": "4e9"}, "--budget: 4e+09 is not beyond the largest budget that is fitted, 4e\\+09"),
        ({"budget": "much"}, "--budget: 'much' is not a compute budget"),
        ({"targets": "score"}, "--for: 'score' is unknown: what can be forecast is loss, return"),
        ({"targets": "loss,loss"}, "--for: loss is given twice"),
        ({"method": "impala"}, "--method: 'impala' is no method of this study, which has bc"),
        ({"seeds": "a"}, "--seeds: 'a' is no seed"),
        ({"episodes": "0"}, "--episodes: '0' is no number of episodes"),
    ],
)
def test_what_cannot_be_forecast_is_one_line_and_registers_nothing(study, options, says):
    with pytest.raises(ValueError, match=says.replace("4e+09 is", "4e\\+09 is")):
        ask(study, **options)
    assert entries(study) == []


def test_other_seeds_than_the_registered_agents_have_are_refused(study):
    ask(study, targets="loss")
    with pytest.raises(ValueError, match="--seeds: the agents of this forecast have the seeds 0"):
        ask(study, targets="loss", seeds="0,1")


def test_a_budget_that_was_measured_already_makes_the_forecast_retrospective(study):
    held_out = replace(points()[-1], flops=BUDGET, split="held-out")
    write_points([*points(), held_out], study[1] / "points.csv")
    ask(study, targets="loss")
    assert entries(study)[0].retrospective


def test_forecast_agents_are_fitted_only_where_they_are_included(tmp_path):
    agent = replace(points()[0], split="held-out", extra={"forecast": "abc"})
    write_points([*points(), agent], tmp_path / "p.csv")
    table = read_points(tmp_path / "p.csv")
    assert [p.held_out for p in table] == [False] * 12 + [True]
    assert not any(p.held_out for p in with_forecasts(table))


def test_a_number_of_parameters_becomes_a_size_that_an_agent_can_have():
    def policy_of(size):
        if size != "11.6k":
            raise ValueError("no width")

    assert near_size(12_345, policy_of) == "11.6k"
    assert near_size(12_345, lambda _: None) == "12.3k"
    with pytest.raises(ValueError, match=r"no agent has about the .* recommended: no width"):
        near_size(50_000, policy_of)


def test_enough_episodes_are_those_for_a_tenth_of_the_mean_within_ten_times_the_studys():
    rows = points()
    assert enough_episodes([replace(p, return_mean=5.0, return_se=0.5) for p in rows], 20) == 20
    assert enough_episodes([replace(p, return_mean=5.0, return_se=1.0) for p in rows], 20) == 80
    assert enough_episodes([replace(p, return_mean=0.5, return_se=1.0) for p in rows], 20) == 200
    assert enough_episodes([replace(p, return_mean=None) for p in rows], 20) == 20


def test_a_dry_run_writes_nothing_and_what_is_void_by_hand_stays_so(study, main_here, tmp_path, monkeypatch):
    spec, out = study
    (tmp_path / "s.yaml").write_text(spec)
    command = ("study", "forecast", "s.yaml", "--budget", "1.6e10", "--for", "loss", "--out", "out")
    before = sorted(out.rglob("*"))
    assert main_here(*command, "--dry-run") == (None, "")
    assert sorted(out.rglob("*")) == before
    ask(study, targets="loss")
    monkeypatch.setattr(forecast_run, "deliver", lambda *_: None)
    assert main_here(*command, "--void", "the machine is gone") == (None, "")
    assert [(e.state, e.reason) for e in entries(study)] == [("void", "the machine is gone")]
    code, said = main_here(*command)
    assert (code, len(said.splitlines())) == (1, 1), said
    assert "is void: the machine is gone" in said
    assert main_here(*command, "--void", "again")[0] == 2


def test_a_forecast_at_work_is_recorded_with_the_command_that_goes_on(study, main_here, tmp_path, monkeypatch):
    spec, out = study
    (tmp_path / "s.yaml").write_text(spec)
    seen = []

    def pipeline(self, on_progress, runs):
        ask(study, targets="loss", seeds="0,1")
        seen.append(status_of("out").forecast)
        return []

    monkeypatch.setattr(LocalPipeline, "run", pipeline)
    command = ("study", "forecast", "s.yaml", "--budget", "1.6e10", "--for", "loss", "--out", "out", "--seeds", "0,1")
    assert main_here(*command)[0] == 1
    after = status_of("out").forecast
    assert [one.state for one in (*seen, after)] == ["running", "interrupted"]
    words = f"playscale study forecast {tmp_path}/s.yaml --out {out} --budget 1.6e10 --for loss --seeds 0,1"
    assert after.go_on == words
    assert list(after.open) == [entries(study)[0].id]


def test_a_study_in_s3_is_read_once_and_after_the_pipeline_its_ledger_alone(study, s3, monkeypatch, tmp_path):
    storage = S3Storage("s3://bucket/read-once")
    for name in ("plan.json", "points.csv"):
        storage.upload(study[1] / name, name)
    (tmp_path / "s.yaml").write_text(study[0])
    read, options = [], OPTIONS | {"targets": "loss"}
    download = S3Storage.download

    def pipeline(self, on_progress, runs):
        with monkeypatch.context() as unseen:
            unseen.setattr(S3Storage, "download", download)
            forecast_steps.forecast(study[0], "s3://bucket/read-once", options, "")
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LocalPipeline, "run", pipeline)
    monkeypatch.setattr(S3Storage, "download", lambda self, name, file: (read.append(name), download(self, name, file)))
    with forecast_run.opened(tmp_path / "s.yaml", "s3://bucket/read-once", options) as question:
        local = LocalStudy.open(tmp_path / "s.yaml", "s3://bucket/read-once", "http://localhost:1")
        result = forecast_run.LocalForecast(local, options, question).run(lambda _: None)
    assert [entry.state for entry in result.entries] == ["open"]
    assert sorted(read) == ["ledger.jsonl", "plan.json", "points.csv"]


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("", "--method: the study has several methods; give one of bc, kickstart"),
        ("kickstart", "--method: kickstart cannot be forecast in this study: .* clone .*; name another method: bc"),
    ],
)
def test_of_several_methods_one_is_named_whose_teacher_is_there(registered, method, says):
    several = {"method": ["bc", "kickstart"], "rl": {"teacher": "bc"}, "source": {"corpus": "c"}}
    with pytest.raises(ValueError, match=says):
        Asked.of(parse_spec(yaml.safe_dump(SPEC | several)), OPTIONS | {"method": method})
