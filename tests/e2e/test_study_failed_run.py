"""A study with a hopeless run, in the toy game: the laws of the others, made again from what is there; then of all."""

import json
import shutil

import pytest
import toy_game
import yaml

from playscale.points import read_points
from playscale.tracking.uris import sqlite_uri

HOPELESS = "bc-lstm-18k-s7"
SPEC = {
    "name": "hopeless",
    "game": "recall",
    "method": ["bc", "kickstart"],
    "sizes": ["10k", "18k"],
    "seeds": [7],
    "budgets": [1e8, 2e8],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 512},
    "rl": {"teacher": "bc", "max_steps": 60, "actors": 1, "discount": 0.9},
    "evaluate": {"episodes": 4, "max_steps": 60},
}


def fits(out):
    return json.loads((out / "fit.json").read_text())["methods"]


def missing(out):
    """The texts of the warnings of missing runs, by method."""
    return {
        method: [row["text"] for row in one["warnings"] if row["code"] == "runs-missing"]
        for method, one in fits(out).items()
    }


@pytest.fixture(scope="module")
def failed(tmp_path_factory, cli):
    """Run a study one of whose runs cannot begin: its directory, the result, and what runs other commands."""
    folder = tmp_path_factory.mktemp("study")
    path, out = toy_game.python_path(folder), folder / "out"
    games = toy_game.record_games(folder / "games", 16)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"source": {"games": str(games)}}))
    (out / "train" / HOPELESS).mkdir(parents=True)
    (out / "train" / HOPELESS / "run.json").write_text("{}")

    def run(*command):
        return cli("study", *command, cwd=folder, PYTHONPATH=path)

    return out, run("run", "spec.yaml", "--out", out), run


@pytest.mark.slow
def test_the_other_runs_are_trained_evaluated_and_fitted_and_the_missing_ones_named(failed):
    out, result, _ = failed
    assert result.returncode == 1, result.stderr + (out / "pipeline.log").read_text()[-3000:]
    assert {point.run for point in read_points(out / "points.csv")} == {"bc-lstm-10k-s7", "kickstart-lstm-10k-s7"}
    assert all(point.return_mean is not None for point in read_points(out / "points.csv"))
    for method, name in (("bc", HOPELESS), ("kickstart", "kickstart-lstm-18k-s7")):
        (text,) = missing(out)[method]
        assert text.startswith(f"1 planned run without all points: {name}: not trained; run or submit the study again")
    assert HOPELESS in (out / "report.html").read_text()
    assert f"{HOPELESS}: not trained" in result.stdout
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"playscale: train-{HOPELESS}: ")
    assert "The laws are those of the other runs" in last


@pytest.mark.slow
def test_the_laws_of_what_a_failed_study_left_are_made_from_anywhere(failed, tmp_path, cli):
    out, _, run = failed
    before = fits(out)
    for name in ("fit.json", "report.html", "points.csv"):
        (out / name).unlink()
    shutil.rmtree(out / "figures")
    result = run("fit", out)
    assert result.returncode == 0, result.stderr
    assert fits(out) == before
    assert (out / "figures").is_dir()
    assert f"{out}/report.html" in result.stdout
    assert f"{HOPELESS}: not trained" in result.stdout


@pytest.mark.slow
def test_the_laws_of_a_study_in_s3_are_made_there(failed, s3):
    out, _, run = failed
    shutil.copytree(out, s3 / "failed", ignore=shutil.ignore_patterns("fit.json", "report.html", "mlflow.db", ".*"))
    result = run("fit", "s3://bucket/failed", "--tracking-uri", sqlite_uri(out / "mlflow.db"))
    assert result.returncode == 0, result.stderr
    assert "s3://bucket/failed/report.html" in result.stdout
    assert fits(s3 / "failed") == fits(out)
    assert HOPELESS in (s3 / "failed" / "report.html").read_text()
    without = run("fit", "s3://bucket/failed")
    assert (without.returncode, len(without.stderr.splitlines())) == (2, 1)
    assert "needs an MLflow server" in without.stderr


@pytest.mark.slow
def test_the_same_command_adds_the_missing_runs(failed):
    out, _, run = failed
    shutil.rmtree(out / "train" / HOPELESS)
    result = run("run", "spec.yaml", "--out", out)
    assert result.returncode == 0, result.stderr
    assert len({point.run for point in read_points(out / "points.csv")}) == 4
    assert missing(out) == {"bc": [], "kickstart": []}


@pytest.mark.parametrize(
    ("there", "options", "says"),
    [
        ([], [], "no study was planned there"),
        (["plan.json"], [], "kept no spec.yaml; give its --spec"),
        (["plan.json"], ["--spec", "none.yaml"], "none.yaml: no such study spec"),
        (["plan.json", "spec.yaml"], ["--tracking-uri", "ftp://x"], "not a tracking server"),
    ],
)
def test_fit_of_no_study_is_one_line(cli, tmp_path, there, options, says):
    for name in there:
        (tmp_path / name).write_text("{}")
    result = cli("study", "fit", tmp_path, *options, cwd=tmp_path)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert says in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(there)
