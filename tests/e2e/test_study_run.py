"""A tiny study through kfp.local with real NetHack, MLflow, the report in a browser; killed half-way, and run again."""

import csv
import fcntl
import json
import os
import shlex
import time
from pathlib import Path

import forks
import left_study
import psutil
import pytest

from playscale.points import COLUMNS, read_points
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.uris import sqlite_uri

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "studies" / "smoke.yaml"


@pytest.fixture(scope="module")
def killed(tmp_path_factory, cli):
    """A study killed with -9 when its first training run has a checkpoint.

    Its directory, its processes that outlived it, and what `study status` says before and after the kill.
    """
    out = tmp_path_factory.mktemp("study") / "a%20b?#c"  # characters with a meaning in the URI of its database
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    log = tmp_path_factory.mktemp("log") / "log"
    process = forks.start_command(["study", "run", SPEC, "--out", out], out.parent, environment, log, log)
    deadline = time.time() + 300
    while not list(out.glob("train/*/points.csv")):
        assert process.is_alive(), log.read_text()
        assert time.time() < deadline, "no run got to its first budget"
        time.sleep(0.1)
    before = cli("study", "status", out, "--json", cwd=out.parent)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    _, alive = psutil.wait_procs(children, timeout=60)
    left = left_study.everything(out)
    after = cli("study", "status", out, "--json", cwd=out.parent)
    assert left_study.everything(out) == left
    return out, alive, [json.loads(status.stdout) for status in (before, after)]


@pytest.fixture(scope="module")
def study(killed, cli):
    """The same command again, to its end."""
    out, *_ = killed
    before = {path: path.stat().st_mtime for path in [*out.glob("games/**/*.bz2"), out / "corpus" / "corpus.json"]}
    result = cli("study", "run", SPEC, "--out", out, cwd=out.parent)
    assert result.returncode == 0, result.stderr + (out / "pipeline.log").read_text()[-3000:]
    return out, result, before


def test_killed_study_leaves_no_process(killed):
    assert killed[1] == []


def test_status_of_a_study_that_runs_was_killed_and_is_finished(killed, study, cli):
    out, _, (running, stopped) = killed
    finished = json.loads(cli("study", "status", out, "--json", cwd=out.parent).stdout)
    looks = running, stopped, finished
    assert [look["state"] for look in looks] == ["running", "stopped", "finished"]
    assert 0.25 < running["fraction"] <= stopped["fraction"] < finished["fraction"] == 1
    assert running["now"]
    assert not stopped["now"]
    assert stopped["go_on"] == shlex.join(["playscale", "study", "run", str(SPEC.resolve()), "--out", str(out)])
    assert finished["report"] == f"{out}/report.html"
    assert "at 1e+12 FLOPs" in finished["result"]
    listed = json.loads(cli("study", "list", out.parent, "--json", cwd=out.parent).stdout)
    assert [(one["name"], one["state"], one["points"]) for one in listed] == [("smoke", "finished", 9)]


def test_rerun_of_a_killed_study_keeps_finished_outputs(study):
    _, _, before = study
    assert len(before) > 1
    assert all(path.stat().st_mtime == then for path, then in before.items())


def test_study_has_a_point_with_a_return_for_each_planned_cell(study):
    out, result, _ = study
    plan = json.loads((out / "plan.json").read_text())
    planned = {(cell["run"], cell["flops"]) for cell in plan["cells"] if cell["reason"] is None}
    points = read_points(out / "points.csv")
    assert {(p.run, p.flops) for p in points} == planned
    assert len(points) == len(planned)
    assert all(p.episodes == 4 and p.return_mean is not None and p.dev_loss > 0 for p in points)
    assert {p.split for p in points} == {"fit", "held-out"}
    assert "held-out" in result.stdout
    assert "Wall time" in result.stdout


def test_mlflow_has_a_run_per_model_with_a_nested_run_per_point(study):
    out, _, _ = study
    experiment = MlflowExperiment("smoke", sqlite_uri(out / "mlflow.db"), create=False)
    rows = read_points(out / "points.csv")
    assert sorted(map(repr, experiment.points())) == sorted(map(repr, rows))
    models = {run.info.run_id: run for run in experiment.runs("run")}
    assert {run.info.run_name for run in models.values()} == {p.run for p in rows}
    for run in models.values():
        steps = [metric.step for metric in experiment.client.get_metric_history(run.info.run_id, "train_loss")]
        assert steps == sorted(set(steps))
        assert len(steps) > 1
        assert run.inputs.dataset_inputs
    for run in experiment.runs("point"):
        assert run.data.tags["mlflow.parentRunId"] in models
        assert {item.path for item in experiment.client.list_artifacts(run.info.run_id)} == {"checkpoint", "evaluation"}
    (fit,) = experiment.runs("fit")
    stored = {item.path for item in experiment.client.list_artifacts(fit.info.run_id)}
    assert stored == {"points.csv", "fit.json", "report.html", "figures"}


def test_fit_from_mlflow_equals_fit_from_the_csv(study, cli, tmp_path):
    out, _, _ = study
    for source, folder in (("mlflow:smoke", "a"), (out / "points.csv", "b")):
        result = cli("fit", source, "--out", folder, "--tracking-uri", sqlite_uri(out / "mlflow.db"), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    first, second = (json.loads((tmp_path / folder / "fit.json").read_text()) for folder in "ab")
    assert first["power_laws"] == second["power_laws"]


def test_fit_from_mlflow_includes_a_run_added_by_hand(study, cli, tmp_path):
    out, _, _ = study
    store = sqlite_uri(out / "mlflow.db")
    arguments = ["--corpus", out / "corpus", "--size", "14k", "--budgets", "4e9", "--batch", 4, "--unroll", 16]
    log = ["--experiment", "smoke", "--tracking-uri", store]
    result = cli("train", "bc", *arguments, "--out", tmp_path / "t", *log, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert cli("fit", "mlflow:smoke", "--out", "laws", "--tracking-uri", store, cwd=tmp_path).returncode == 0
    fitted = json.loads((tmp_path / "laws" / "fit.json").read_text())
    assert len(fitted["points"]) == len(read_points(out / "points.csv")) + 1


def test_the_forecast_of_the_example_of_help_says_what_it_would_do(study, cli):
    out, _, _ = study
    asked = ("--budget", "3.2e10", "--for", "loss", "--dry-run")
    result = cli("study", "forecast", SPEC, *asked, "--out", out, cwd=out.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("would register: dev_loss of ")
    assert "would train: bc-lstm-" in result.stdout
    assert not (out / "ledger.jsonl").exists()
    assert not (out / "forecasts").exists()


@pytest.mark.browser
def test_report_of_a_study_opens_without_an_error(study, browser):
    out, _, _ = study
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.goto((out / "report.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert "smoke" in page.title()
    assert page.locator("svg").count() >= 5
    assert page.get_by_role("button", name="Play").count() >= 1
    assert errors == []


def test_study_refuses_a_directory_that_another_study_has_locked(study, cli):
    out, _, _ = study
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = cli("study", "run", SPEC, "--out", out, cwd=out.parent)
    assert result.returncode == 2
    assert "another study is writing there" in result.stderr


def test_points_csv_begins_with_the_fixed_header(study):
    with (study[0] / "points.csv").open() as file:
        header = next(csv.reader(file))
    assert header[:14] == list(COLUMNS)


def test_a_study_lies_in_its_directory_alone(study):
    out, _, _ = study
    assert [path.name for path in out.parent.iterdir()] == [out.name]
