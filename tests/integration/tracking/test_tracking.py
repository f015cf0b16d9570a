"""The points table through a real MLflow store: what is logged is what is read, however often it is logged."""

import json
import math
import re

import pytest

from playscale.points import Point
from playscale.tracking import client as client_module
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_run import MlflowRun
from playscale.tracking.mlflow_tracker import DIGEST, NAME, MlflowExperiment
from playscale.tracking.tracker import RunIdentity, StudyOwner

POINT = Point(
    game="nethack", method="bc", run="bc-lstm-10k-s0", seed=0, size="10k", flops=3e10, params=10_013, samples=9_216,
    dev_loss=1.75, dev_loss_se=0.03, split="held-out", extra={"flops_6nd": "553678848"},
)  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    return MlflowExperiment("study", f"sqlite:///{folder}/m.db", artifacts=(folder / "artifacts").as_uri())


def test_a_point_logged_twice_is_one_row_and_gains_its_return(experiment):
    experiment.log_point(POINT)
    assert experiment.points() == [POINT]
    played = Point(**{**vars(POINT), "return_mean": 12.5, "return_se": 1.5, "episodes": 32})
    experiment.log_point(played)
    assert experiment.points() == [played]


def test_experiment_opens_as_model_training_and_links_its_report(tmp_path):
    """One that MLflow has guessed to be of generative AI, too; a choice and a description of somebody's stay."""
    client = TrackingClient("study", f"sqlite:///{tmp_path}/m.db")
    owner, there = StudyOwner("1", "/data/a"), client.connect()
    tags = lambda: there.client.get_experiment(there.id).tags  # noqa: E731
    assert tags()["mlflow.experimentKind"] == "custom_model_development"
    there.client.set_experiment_tag(there.id, "mlflow.experimentKind", "genai_development_inferred")
    client.prepare(owner)
    assert tags()["mlflow.experimentKind"] == "custom_model_development"
    there.client.set_experiment_tag(there.id, "mlflow.experimentKind", "genai_development")
    client.prepare(owner)
    assert tags()["mlflow.experimentKind"] == "genai_development"
    there.log_point(POINT)
    fit = there.start("fit", "fit of study")
    there.link_report(fit, "report.html")
    note = tags()["mlflow.note.content"]
    assert f"(#/experiments/{there.id}/runs/{fit.id}/artifacts/report.html?workflowType=machine_learning)" in note
    view = json.loads(tags()[f"mlflow.sharedViewState.{re.search(r'viewStateShareKey=([^)]*)', note).group(1)}"])
    assert view["searchFilter"] in note
    assert "metrics.`dev_loss`" in view["selectedColumns"]
    shown = re.search(r"filter `(.*)`", note).group(1)
    assert [run.data.params["run"] for run in there.client.search_runs([there.id], shown)] == [POINT.run]
    there.client.set_experiment_tag(there.id, "mlflow.note.content", "my own")
    there.link_report(fit, "report.html")
    assert tags()["mlflow.note.content"] == "my own"


def test_names_read_like_the_grid_and_tags_say_what_made_a_run(tmp_path, monkeypatch):
    """Also when a queue delivers them later; a finished run keeps its tags, a fit is made anew."""
    monkeypatch.setattr(client_module, "is_server", lambda uri: True)
    client = TrackingClient("study", f"sqlite:///{tmp_path}/m.db")
    for version in ("1", "2"):
        labels = {"playscale.version": version, "playscale.corpus": "abc", "kfp.pipeline_run_url": "/#/runs/details/r"}
        with client.open(tmp_path / "spool") as experiment:
            experiment.start("run", POINT.run, labels=labels).finish()
            experiment.log_point(POINT)
            fit = experiment.start("fit", "fit of study", labels=labels)
            experiment.link_report(fit, "report.html")
            fit.finish()
    there = client.connect()
    for kind, version in (("run", "1"), ("point", "1"), ("fit", "2")):
        (run,) = there.runs(kind)
        assert {**labels, "playscale.version": version}.items() <= run.data.tags.items()
    assert [run.info.run_name for run in there.runs("point")] == ["10k @ 3e+10 bc s0"]
    assert "report.html" in there.client.get_experiment(there.id).tags["mlflow.note.content"]
    assert client.query(MlflowExperiment.points) == [POINT]


def test_a_return_in_a_task_is_a_row_of_its_own(experiment):
    before = experiment.points()
    in_task = Point(**{**vars(POINT), "game": "nethack/score", "return_mean": 99.0})
    for _ in range(2):
        experiment.log_point(in_task)
    assert experiment.points() == [*before, in_task]


def test_point_has_values_for_charts_which_are_no_columns(experiment):
    """The Compare page begins with the first params by name and the first metric; its axes are linear."""
    point = Point(**{**vars(POINT), "run": "charts", "return_mean": 100.0, "extra": {"budget": "big"}})
    run = experiment.log_point(point)
    data = experiment.client.get_run(run.id).data
    assert sorted(data.params)[:3] == ["at_log10_budget", "at_log10_params", "at_log10_samples"]
    assert next(iter(data.metrics)) == "dev_loss"
    assert (data.params["at_log10_budget"], data.params["budget_flops"]) == ("10.4771", "3e+10")
    assert data.metrics["log10_return_mean"] == 2
    assert {name for name in data.metrics if name.startswith("log10_")} == {
        "log10_flops", "log10_params", "log10_dev_loss", "log10_return_mean",
    }  # fmt: skip
    (read,) = [one for one in experiment.points() if one.run == "charts"]
    assert read == point
    experiment.log_point(Point(**{**vars(point), "return_mean": -1.0}))
    assert math.isnan(experiment.client.get_run(run.id).data.metrics["log10_return_mean"])
    (read,) = [one for one in experiment.points() if one.run == "charts"]
    assert (read.return_mean, read.extra) == (-1.0, point.extra)


def test_a_points_run_lies_under_its_models_run(experiment):
    run = experiment.runs("point")[0]
    parent = experiment.client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "bc-lstm-10k-s0"


def test_curves_logged_again_after_a_kill_appear_once(experiment):
    for _ in range(2):
        run = experiment.start("run", "curves")
        for samples in (256, 512):
            run.log_metrics({"train_loss": 1.0 / samples}, samples)
    history = experiment.client.get_metric_history(run.id, "train_loss")
    assert [metric.step for metric in history] == [256, 512]


def test_params_can_be_logged_again(experiment):
    run = experiment.start("run", "params")
    run.log_params({"batch": 8})
    run.log_params({"batch": 8, "unroll": 32})
    assert experiment.client.get_run(run.id).data.params == {"batch": "8", "unroll": "32"}


def test_corpus_is_an_input_of_the_run(experiment, tmp_path):
    run = experiment.start("run", "data")
    run.log_dataset("games", str(tmp_path), "ab" * 32, "training")
    (used,) = experiment.client.get_run(run.id).inputs.dataset_inputs
    assert used.dataset.name == "games"
    assert str(tmp_path) in used.dataset.source


def test_artifacts_of_files_and_folders(experiment, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.json").write_text("{}")
    run = experiment.start("run", "artifacts")
    run.log_artifacts(tmp_path / "a", "checkpoint")
    run.log_artifacts(tmp_path / "a" / "x.json", "")
    assert [item.path for item in experiment.client.list_artifacts(run.id)] == ["checkpoint", "x.json"]


def test_an_experiment_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no MLflow experiment 'nothing'"):
        MlflowExperiment("nothing", f"sqlite:///{tmp_path}/m.db", create=False)


def test_a_return_logged_later_leaves_the_models_run_finished(experiment):
    experiment.start("run", POINT.run).finish()
    experiment.log_point(POINT)
    (parent,) = [run for run in experiment.runs("run") if run.info.run_name == POINT.run]
    assert parent.info.status == "FINISHED"


def test_figures_logged_again_are_there_once(experiment):
    for _ in range(2):
        run = experiment.start("fit", "figures")
        run.log_values({"exponent": 0.5, "missing": None})
    assert len(experiment.client.get_metric_history(run.id, "exponent")) == 1
    run.log_values({"exponent": 0.6})
    assert experiment.client.get_run(run.id).data.metrics == {"exponent": 0.6}


def test_cooldown_branches_overlap(experiment):
    """Two branches may report at the same samples; a branch that is trained again does so with the same losses."""
    for _ in range(2):
        run = experiment.start("run", "branches")
        for loss, samples in ((0.5, 256), (0.4, 512), (0.45, 512)):
            run.log_metrics({"train_loss_cooldown": loss}, samples)
    history = experiment.client.get_metric_history(run.id, "train_loss_cooldown")
    assert [(metric.step, metric.value) for metric in history] == [(256, 0.5), (512, 0.4), (512, 0.45)]


def test_an_empty_double_of_a_run_goes(experiment):
    """As a request leaves it that was given up, sent again, and then came late."""
    run = experiment.start("run", "double")
    run.log_params({"batch": 8})
    tags = experiment.client.get_run(run.id).data.tags
    experiment.client.create_run(experiment.id, tags=tags)
    assert experiment.find("run", "double").id == run.id
    assert [found.info.run_id for found in experiment.runs("run") if found.data.tags[NAME] == "double"] == [run.id]


def test_under_kubeflow_runs_go_below_the_injected_one(tmp_path, monkeypatch):
    """Into its experiment, where another study's runs of the same names may lie."""
    uri = f"sqlite:///{tmp_path}/m.db"
    backend = MlflowExperiment("kfp", uri)
    task = backend.client.create_run(backend.id, run_name="task of the pipeline").info.run_id
    for name, value in (("TRACKING_URI", uri), ("EXPERIMENT_ID", backend.id), ("RUN_ID", task)):
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    for study, loss in (("one", 1.0), ("two", 2.0)):
        point = Point(**{**vars(POINT), "dev_loss": loss})
        with TrackingClient(study, uri, injected=True).open(tmp_path / "spool") as experiment:
            experiment.start("run", POINT.run).log_params({"study": study})
            experiment.log_point(point)
        assert TrackingClient(study, uri, injected=True).query(MlflowExperiment.points) == [point]
    models = backend.runs("run")
    assert [run.data.params["study"] for run in models] == ["one", "two"]
    assert {run.data.tags["mlflow.parentRunId"] for run in models} == {task}
    assert {run.data.tags["mlflow.parentRunId"] for run in backend.runs("point")} == {r.info.run_id for r in models}
    assert backend.client.get_run(task).info.status == "RUNNING"
    assert {e.name for e in backend.client.search_experiments()} == {"Default", "kfp"}
    backend.client.set_experiment_tag(backend.id, "mlflow.experimentKind", "genai_development_inferred")
    TrackingClient("one", uri, injected=True).prepare(StudyOwner("1", "/data/a"), resumed=True)
    TrackingClient("one", uri, injected=True).connect().link_report(MlflowRun(backend.client, task), "report.html")
    tags = backend.client.get_experiment(backend.id).tags
    assert tags["mlflow.experimentKind"] == "genai_development_inferred"
    assert "report" not in tags["mlflow.note.content"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    with TrackingClient("three", uri, injected=True).open(tmp_path / "spool") as experiment:
        experiment.start("run", POINT.run)
    assert backend.client.get_experiment_by_name("three") is not None


def of_digest(digest, **values):
    return Point(**{**vars(POINT), "extra": {"digest": digest}, **values})


def named(experiment, name):
    return [run for run in experiment.runs("run") if run.data.tags[NAME] == name]


def test_runs_of_one_name_and_other_digests_are_two(experiment):
    for rate, loss in ((0.1, 1.5), (0.2, 1.25)):
        run = experiment.start("run", "swept", RunIdentity(f"d{rate}", {"learning_rate": str(rate)}))
        run.log_params({"learning_rate": rate})
        experiment.log_point(of_digest(f"d{rate}", run="swept", dev_loss=loss))
    assert [run.data.params["learning_rate"] for run in named(experiment, "swept")] == ["0.1", "0.2"]
    points = [point for point in experiment.points() if point.run == "swept"]
    assert [(point.digest, point.dev_loss) for point in points] == [("d0.1", 1.5), ("d0.2", 1.25)]
    played = of_digest("d0.2", run="swept", dev_loss=1.25, return_mean=7.0)
    experiment.log_point(played)
    assert [point for point in experiment.points() if point.run == "swept"] == [points[0], played]


def test_run_of_an_earlier_version_is_adopted_where_its_settings_agree(experiment):
    old = experiment.start("run", "old")
    old.log_params({"learning_rate": 0.1, "batch": 8, "rl": {"game": "recall", "actors": 2}})
    old.log_dataset("games", "somewhere", "c" * 32, "training")
    experiment.log_point(Point(**{**vars(POINT), "run": "old"}))
    settings = {"learning_rate": "0.1", "batch": "8", "rl.game": "recall", "added later": "1"}
    for digest, corpus, changed in (
        ("other rate", "c" * 32, {"learning_rate": "0.2"}),
        ("other game", "c" * 32, {"rl.game": "chess"}),
        ("other corpus", "d" * 32, {}),
    ):
        assert experiment.start("run", "old", RunIdentity(digest, settings | changed, corpus)).id != old.id
    assert experiment.start("run", "old", RunIdentity("same", settings, "c" * 32)).id == old.id
    assert experiment.start("run", "old", RunIdentity("same", settings, "c" * 32)).id == old.id
    assert sorted(run.data.tags[DIGEST] for run in named(experiment, "old")) == [
        "other corpus", "other game", "other rate", "same",
    ]  # fmt: skip
    experiment.log_point(of_digest("same", run="old", return_mean=3.0))
    assert [p.return_mean for p in experiment.points() if p.run == "old"] == [3.0]


def test_experiment_of_another_study_is_refused_with_both_places(tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = TrackingClient("mine", uri)
    client.prepare(StudyOwner("killed before its first run", "/gone"))
    first, second = StudyOwner("1", "/data/a"), StudyOwner("2", "/data/b")
    client.prepare(first)
    client.connect().start("run", "r")
    for resumed in (False, True):
        with pytest.raises(ValueError, match="study 'mine' in /data/b .* the study 'mine' in /data/a; give") as caught:
            client.prepare(second, resumed=resumed)
        assert "\n" not in str(caught.value)
    client.prepare(StudyOwner("1", "/moved/a"), resumed=True)
    with pytest.raises(ValueError, match="in /moved/a; give"):
        client.prepare(second)


def test_experiment_without_a_mark_belongs_to_the_study_that_goes_on(tmp_path):
    client = TrackingClient("mine", f"sqlite:///{tmp_path}/m.db")
    client.connect().start("run", "r")
    with pytest.raises(ValueError, match="holds runs that no study has logged"):
        client.prepare(StudyOwner("1", "/data/a"))
    client.prepare(StudyOwner("1", "/data/a"), resumed=True)
