"""The directory of a study as its steps leave it, at any moment: two runs, two budgets, one of them held out."""

import json
import socket
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from playscale.config import TrainConfig
from playscale.points import LearningCurve, Point, write_points
from playscale.progress import TaskProgress
from playscale.storage.files import write_document, write_json
from playscale.study.study_process import StudyProcess

RUNS = ("bc-lstm-10k-s0", "bc-lstm-20k-s0")
BUDGETS = (1e9, 4e9)
PER_SAMPLE = {"10k": 50_000, "20k": 100_000}  # training FLOPs
FORECAST = {"target": "dev_loss", "flops": 3e12, "params": 183e3, "value": 1.48, "low": 1.32, "high": 1.9}
FIT = {
    "points": [{"method": "bc"}],
    "laws": {"dev_loss": {}},
    "verdicts": {"dev_loss": {"level": "with care"}},
    "forecasts": [FORECAST | {"flops": 1e13}, FORECAST],
    "held_out": [{"inside": True}, {"inside": False}, {"inside": None}],
}
"""What is read of fit.json."""
SPEED = 1000.0  # samples per second


def plan(out, budgets=BUDGETS, reason=None):
    """Two runs are planned; with a reason, a cell of a third size is left out."""
    configs = [
        TrainConfig(size=size, budgets=budgets, held_out=budgets[-1:], batch=4, unroll=16) for size in PER_SAMPLE
    ]
    cells = [
        {
            "run": c.run_name,
            "size": c.size,
            "flops": b,
            "samples": b / PER_SAMPLE[c.size],
            "epochs": 1.0,
            "reason": None,
        }
        for c in configs
        for b in budgets
    ]
    cells += [cells[0] | {"run": "bc-lstm-40k-s0", "size": "40k", "reason": reason}] if reason else []
    runs = {config.run_name: config.model_dump(mode="json") for config in configs}
    write_document(out / "plan.json", {"runs": runs, "cells": cells, "corpus": "c", "bigram_dev_loss": 2.0})
    (out / "spec.yaml").write_text("name: planted\n")


def point(run, flops, **values):
    """A point of a run; its dev loss falls with compute."""
    given = {"dev_loss": 3 - 0.1 * BUDGETS.index(flops), "dev_loss_se": 0.01} | values
    extra = {"digest": "d"} | given.pop("extra", {})
    return Point(
        method="bc", run=run, size=run.split("-")[2], flops=flops, params=1e4, samples=1e5, extra=extra, **given
    )


def train(out, run, *points):
    """Checkpoints, table and curve of a run that has reached these points."""
    folder = out / "train" / run
    for one in points:
        write_json(folder / "checkpoints" / f"{one.flops:g}" / "checkpoint.json", {})
    if points:
        write_points(points, folder / "points.csv")
    curve(out, run)


def curve(out, run):
    folder = out / "train" / run
    folder.mkdir(parents=True, exist_ok=True)
    LearningCurve(folder / "curve.csv").resume(0)
    LearningCurve(folder / "curve.csv").add(10, {"samples_per_second": SPEED})


def save(out, run, step):
    """A save of the training state."""
    write_json(out / "train" / run / "resume" / f"{step:09d}" / "checkpoint.json", {})


def evaluate(out, run, *points, table=True):
    for one in points:
        write_json(out / "evaluate" / run / f"{run}-{one.flops:g}" / "evaluation.json", {})
    if table:
        write_points(points, out / "evaluate" / run / "points.csv")


def references(out):
    write_json(out / "evaluate" / "references" / "references.json", [])


def fit(out, points):
    write_points(points, out / "points.csv")
    (out / "fit.json").write_text(json.dumps(FIT))
    (out / "report.html").write_text("<html>")


def progress(out, name, state, fraction=0.5, seconds=10.0, what=None):
    """The progress file of a task that began so many seconds ago."""
    now = time.time()
    task = TaskProgress(name, what or f"what {name} says", fraction, now - seconds, now, state)
    write_json(out / "progress" / f"{name}.json", asdict(task))


def process(folder, *, out="", pid=None, host=None, ended=None, command="playscale study run mine.yaml --out here"):
    """The record of the process that works there: by default this one."""
    own = psutil.Process(pid)
    place = json.dumps([socket.gethostname(), Path("/proc/self/ns/pid").readlink().name])
    record = StudyProcess(own.pid, host or place, own.create_time(), out or str(folder), command, ended)
    write_json(folder / "progress" / "process", asdict(record))


def killed_process(out, **more):
    """The record of a process that is gone."""
    process(out, **more)
    record = json.loads((out / "progress" / "process").read_text())
    write_json(out / "progress" / "process", record | {"began": record["began"] - 1000})


def whole(out):
    """All of it: a finished study."""
    plan(out)
    points = []
    for run in RUNS:
        own = [point(run, flops) for flops in BUDGETS]
        train(out, run, *own)
        own = [point(run, one.flops, return_mean=5.0, return_se=1.0, episodes=4) for one in own]
        evaluate(out, run, *own)
        points += own
    references(out)
    fit(out, points)
    for name in ("collect", "train-" + RUNS[0], "fit"):
        progress(out, name, "done", 1.0)


def everything(folder):
    """The names, contents and times of a directory and all in it."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        stat = path.stat()
        found[str(path.relative_to(folder))] = (stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found
