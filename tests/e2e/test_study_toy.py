"""The smallest study of the toy game, through kfp.local: what `make test` has of whole studies. The others are slow."""

import json

import pytest
import toy_game
import yaml

from playscale.points import read_points
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.uris import sqlite_uri

SPEC = {
    "name": "toy",
    "game": "recall",
    "sizes": ["10k", "18k"],
    "budgets": [1e8, 2e8],
    "held_out": [4e8],
    "cells": [{"size": "18k", "budgets": [3e8]}],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 128},
    "evaluate": {"episodes": 4, "max_steps": 60},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory, cli):
    folder = tmp_path_factory.mktemp("study")
    games = toy_game.record_games(folder / "games", 16)
    (folder / "toy.yaml").write_text(yaml.safe_dump(SPEC | {"source": {"games": str(games)}}))
    result = cli("study", "run", "toy.yaml", "--out", "out", cwd=folder, PYTHONPATH=toy_game.python_path(folder))
    assert result.returncode == 0, result.stderr
    return folder / "out", result


def test_each_cell_has_a_point_with_a_return_in_the_table_and_in_mlflow(study):
    out, _ = study
    points = read_points(out / "points.csv")
    assert {(p.size, p.flops, p.split) for p in points} == {
        (size, flops, split)
        for size in SPEC["sizes"]
        for flops, split in ((1e8, "fit"), (2e8, "fit"), (4e8, "held-out"))
    } | {("18k", 3e8, "fit")}
    assert all(point.episodes == 4 and point.return_mean is not None for point in points)
    tracked = MlflowExperiment("toy", sqlite_uri(out / "mlflow.db"), create=False).points()
    assert sorted(map(repr, tracked)) == sorted(map(repr, points))


def test_best_agents_are_in_mlflows_registry_with_a_card(study):
    out, _ = study
    client = MlflowExperiment("toy", sqlite_uri(out / "mlflow.db"), create=False).client
    best = max((p for p in read_points(out / "points.csv") if not p.held_out), key=lambda point: point.return_mean)
    version = client.get_model_version_by_alias("playscale.toy", "best-return")
    run = client.get_run(version.run_id)
    assert (run.data.params["run"], run.data.metrics["flops"]) == (best.run, best.flops)
    assert version.source == f"runs:/{version.run_id}/checkpoint"
    assert f"{best.return_mean:.4g} (" in version.tags["return"]
    assert "behavioural cloning of recorded games" in version.description
    assert client.get_model_version_by_alias("playscale.toy", "best-loss").source.startswith("runs:/")


def test_the_study_ends_with_its_laws_its_report_and_five_lines(study, cli):
    out, result = study
    assert {row["target"] for row in json.loads((out / "fit.json").read_text())["held_out"]} >= {"dev_loss"}
    assert "toy" in (out / "report.html").read_text()
    words = [line.split(maxsplit=1) for line in result.stdout.splitlines()[-5:]]
    assert [word for word, _ in words] == ["trained", "law", "forecast", "report", "next"]
    assert words[0][1].startswith("7 agents by behavioural cloning, 2 sizes from ")
    assert words[3][1] == f"{out}/report.html"
    assert "study forecast" in words[4][1]
    status = cli("study", "status", out, "--json", cwd=out.parent)
    assert json.loads(status.stdout)["state"] == "finished"
