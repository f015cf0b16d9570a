"""Files as version 0.2 wrote them before runs had digests (commit 324f2a3), which later versions read and continue.

tests/data/made_by_0_2.tar.xz holds, in the toy game:

    games/ corpus/                     recordings, and the corpus prepared from them
    done/                              a finished run of behavioural cloning, two budgets
    half/ cooldown/                    runs stopped: between the two budgets, and within a cooldown branch
    impala/                            a run of IMPALA stopped between its two budgets
    scores/                            an evaluation of done/
    study/ study.yaml                  a study with mlflow.db: one run finished and evaluated, one stopped half-way
    expected.json                      the rows that the runs, continued undisturbed, ended with at that commit

Made in a checkout of that commit, with this file copied into it:

    PYTHONPATH=tests/support:. python tests/support/made_by_0_2.py tests/data/made_by_0_2.tar.xz

It is never made again: a format that changes gets an archive of its own beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

import toy_game
import toy_run
import yaml

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig
from playscale.games.game import GAMES
from playscale.points import read_points, to_row

ARCHIVE = Path(__file__).parents[1] / "data" / "made_by_0_2.tar.xz"
ROOT = "ROOT"  # member of the archive: the directory that it was made in
NOW = 1_795_000_000
BATCH, UNROLL, SIZE = 4, 8, "8k"
STOPPED = "bc-lstm-10k-s0"  # the study's run that was stopped
SPEC = {
    "name": "small",
    "game": "recall",
    "sizes": [SIZE, "10k"],
    "budgets": [2e7, 4e7],
    "training": {"batch": BATCH, "unroll": UNROLL, "dev_samples": 200},
    "evaluate": {"episodes": 2, "max_steps": 40},
}


def config(**values) -> TrainConfig:
    """Return a run of behavioural cloning with budgets at 10 and 20 optimizer steps."""
    per_step = BATCH * UNROLL * training_flops_per_sample(config_for_size(toy_game.Recall(), SIZE, "lstm"))
    given = {"size": SIZE, "budgets": (10.0 * per_step, 20.0 * per_step), "batch": BATCH, "unroll": UNROLL}
    return TrainConfig(**given | {"dev_samples": 200} | values)


def impala() -> TrainConfig:
    return toy_run.config(6, 12, size=SIZE, rl={"max_steps": 40, "actors": 1, "workers": 1})


def rows(path: Path) -> list[dict]:
    return [to_row(point) for point in read_points(path)]


def unpack(into: Path) -> Path:
    """Unpack the archive as if it had been made in `into`: its files and its store name this place."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(into, filter="data")
    old, new = (into / ROOT).read_text().strip(), str(into.resolve())
    for path in [*into.rglob("*.json"), *into.rglob("*.yaml")]:
        if old in (text := path.read_text()):
            path.write_text(text.replace(old, new))
    with closing(sqlite3.connect(into / "study" / "mlflow.db")) as store, store:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))  # noqa: S608
    return into


class Stopped(Exception):
    """Ends a run after so many reports."""


class StopAfter:
    """A tracker that ends the run."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def log_metrics(self, metrics, samples):
        self.left -= any(name.startswith("train_loss") for name in metrics)
        if self.left == 0:
            raise Stopped


def _stopped(given: TrainConfig, out: Path, corpus: str | None, reports: int) -> list[dict]:
    """Leave a stopped run in `out`; return the rows that it ends with when it is continued."""
    from playscale.training.trainer import train

    try:
        train(given.model_copy(update={"save_seconds": 1e-9}), out, corpus, StopAfter(reports))
    except Stopped:
        pass
    else:
        raise AssertionError(f"{out.name} was not stopped")
    aside = out.with_name(f"{out.name}-continued")
    shutil.copytree(out, aside)
    train(given, aside, corpus)
    return rows(aside / "points.csv")


def _study(folder: Path, games: Path) -> list[dict]:
    """Leave a stopped study; return the rows that it ends with."""
    from playscale.study import steps
    from playscale.tracking.mlflow_tracker import MlflowRun

    spec = yaml.safe_dump(SPEC | {"source": {"games": str(games)}})
    (folder / "study.yaml").write_text(spec)
    out, store = str(folder / "study"), f"sqlite:///{folder}/study/mlflow.db"
    (folder / "study").mkdir()
    corpus = steps.prepare(spec, str(games), out)
    finished, stopped = steps.plan(spec, corpus, out, store)
    assert stopped == STOPPED
    steps.evaluate(spec, finished, steps.train(spec, finished, out, store), out, store)
    steps.evaluate(spec, steps.REFERENCES, "", out, store)
    log, left = MlflowRun.log_metrics, 18

    def stopping(self, metrics, samples, at=None):
        nonlocal left
        left -= 1
        if not left:
            raise Stopped
        log(self, metrics, samples, at)

    MlflowRun.log_metrics = stopping
    try:
        steps.train(spec, stopped, out, store)
    except Stopped:
        MlflowRun.log_metrics = log
    shutil.copytree(folder / "study", folder / "kept", ignore=shutil.ignore_patterns("mlflow.db*"))
    with closing(sqlite3.connect(folder / "study" / "mlflow.db")) as opened:
        opened.execute("VACUUM INTO ?", (str(folder / "kept" / "mlflow.db"),))
    steps.evaluate(spec, stopped, steps.train(spec, stopped, out, store), out, store)
    steps.fit(spec, out, store)
    expected = rows(folder / "study" / "points.csv")
    shutil.rmtree(folder / "study")
    (folder / "kept").rename(folder / "study")
    return expected


def make(archive: Path) -> None:
    from playscale.corpus.prepare import prepare
    from playscale.rollout.evaluate import evaluate
    from playscale.training.trainer import train

    GAMES["recall"] = "toy_game:Recall"
    folder = Path(tempfile.mkdtemp(prefix="made-by-0.2-")).resolve()
    games = toy_game.record_games(folder / "games", 8)
    for path in games.iterdir():
        os.utime(
            path, (NOW, NOW)
        )  # whole seconds, which an archive keeps: a corpus knows its recordings by their times
    corpus = str(prepare(games, folder / "corpus", game="recall", workers=1, dev_fraction=0.25).uri)
    train(config(), folder / "done", corpus)
    expected = {
        "done": rows(folder / "done" / "points.csv"),
        "half": _stopped(config(), folder / "half", corpus, reports=14),
        "cooldown": _stopped(config(cooldown=0.4), folder / "cooldown", corpus, reports=19),
        "impala": _stopped(impala(), folder / "impala", None, reports=9),
    }
    evaluate(sorted((folder / "done" / "checkpoints").iterdir()), 2, folder / "scores", max_steps=40, workers=1)
    expected |= {"scores": rows(folder / "scores" / "points.csv"), "study": _study(folder, games)}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))
    (folder / ROOT).write_text(f"{folder}\n")
    names = ["games", "corpus", "done", "half", "cooldown", "impala", "scores", "study", "study.yaml", "expected.json"]
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in [*names, ROOT]:
            tar.add(folder / name, name)
    shutil.rmtree(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
