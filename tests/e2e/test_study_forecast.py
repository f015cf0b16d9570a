"""A forecast of a study of the toy game: registered, trained, scored; killed with -9 and run again, several times."""

import json
import os
import shutil
import time

import forks
import psutil
import pytest
import toy_game
import yaml

from playscale.points import read_points
from playscale.tracking.ledger_store import LedgerStore
from playscale.tracking.ledger_table import LedgerTable
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.uris import sqlite_uri

SPEC = {
    "name": "forecast",
    "game": "recall",
    "sizes": ["10k", "14k", "18k"],
    "budgets": [1e8, 2e8],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 128},
    "evaluate": {"episodes": 4, "max_steps": 60},
}
BUDGET = 4e8
FORECAST = ("forecast", "spec.yaml", "--budget", "4e8", "--for", "loss", "--episodes", "4", "--seeds", "0,1")
OF_A_TIME = ("time", "ended", "ledger", "before", "digest")
MOMENTS = {
    "registered": lambda out: (out / "ledger.jsonl").exists(),
    "training": lambda out: any(out.glob("forecasts/*/train/*/run.json")),
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory, cli):
    """Run a study; two copies of it, a forecast of the first, and what runs and starts commands."""
    folder = tmp_path_factory.mktemp("forecast")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = toy_game.python_path(folder)
    games = toy_game.record_games(folder / "games", 16)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"source": {"games": str(games)}}))

    def run(*command):
        return cli("study", *command, cwd=folder, PYTHONPATH=environment["PYTHONPATH"])

    def start(*command):
        log = folder / "log"
        return forks.start_command(["study", *map(str, command)], folder, environment, log, log)

    done = run("run", "spec.yaml", "--out", "whole")
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "whole", folder / "killed")
    return folder, run, start


@pytest.fixture(scope="module")
def undisturbed(studies):
    folder, run, _ = studies
    result = run(*FORECAST, "--out", "whole")
    assert result.returncode == 0, result.stderr + (folder / "whole" / "forecasts" / "pipeline.log").read_text()[-3000:]
    return folder / "whole", result


def entry_of(out):
    """The one forecast of a study, without what differs from one time to another."""
    (entry,) = LedgerTable.beside(out).read().entries.values()
    return {name: value for name, value in vars(entry).items() if name not in OF_A_TIME}


@pytest.mark.slow
def test_a_forecast_is_registered_trained_and_scored(undisturbed):
    out, result = undisturbed
    entry = entry_of(out)
    assert (entry["state"], entry["target"], entry["seeds"]) == ("scored", "dev_loss", 2)
    assert entry["seed_sd"] > 0
    assert "measured" in result.stdout
    (made,) = [path for path in (out / "forecasts").iterdir() if (path / "plan.json").is_file()]
    agents = [read_points(path)[0] for path in sorted(made.glob("train/*/points.csv"))]
    assert entry["outcome"] == pytest.approx(sum(point.dev_loss for point in agents) / 2)
    assert [(point.flops, point.split, point.seed) for point in agents] == [(BUDGET, "held-out", s) for s in (0, 1)]


@pytest.mark.slow
def test_agents_are_held_out_rows_of_the_studys_experiment_and_its_next_fit(undisturbed, studies):
    out, _ = undisturbed
    (entry,) = LedgerTable.beside(out).read().entries.values()
    store = sqlite_uri(out / "mlflow.db")
    tracked = [p for p in MlflowExperiment("forecast", store, create=False).points() if p.extra.get("forecast")]
    assert [(p.extra["forecast"], p.split, p.episodes) for p in tracked] == [(entry.id, "held-out", 4)] * 2
    before = json.loads((out / "fit.json").read_text())
    assert studies[1]("fit", "whole").returncode == 0
    rows = [p for p in read_points(out / "points.csv") if p.extra.get("forecast")]
    assert [p.run for p in rows] == [p.run for p in tracked]
    after = json.loads((out / "fit.json").read_text())
    assert after["power_laws"] == before["power_laws"]
    assert [row["flops"] for row in after["held_out"] if row["target"] == "dev_loss"] == [BUDGET]
    assert studies[1](*FORECAST, "--out", "whole").returncode == 0
    assert len(LedgerTable.beside(out).read().entries) == 1


@pytest.mark.slow
def test_a_forecast_killed_at_any_moment_is_registered_once_and_scored_as_if_undisturbed(undisturbed, studies):
    folder, run, start = studies
    out, reached = folder / "killed", []
    for moment, is_there in MOMENTS.items():
        process = start(*FORECAST, "--out", "killed")
        deadline = time.monotonic() + 300
        while process.is_alive() and not is_there(out):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        if process.is_alive():
            reached.append(moment)
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            assert psutil.wait_procs(children, timeout=60)[1] == []
        process.join()
    assert reached == [*MOMENTS]
    last = run(*FORECAST, "--out", "killed")
    assert last.returncode == 0, last.stderr
    assert entry_of(out) == entry_of(undisturbed[0])
    assert [event["event"] for event in LedgerTable.beside(out).read().events] == ["registered", "scored"]
    store = LedgerStore.at(sqlite_uri(out / "mlflow.db"))
    assert len(store.runs()) == 1
    assert store.check(LedgerTable.beside(out).read()) == []
