"""Behavioural cloning: one model trained through its compute budgets, each one's checkpoint an isoFLOP cell.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from playscale.corpus.corpus import Corpus
from playscale.points import Point
from playscale.storage import write_json
from playscale.tracking.tracker import NullTracker, Tracker
from playscale.training.allocator import keep_freed_memory
from playscale.training.config import TrainConfig, budget_name
from playscale.training.device import resolve_device, resolve_precision
from playscale.training.group import Group, process_group
from playscale.training.loop import Setting, Stretch, advance
from playscale.training.meter import Meter, NonFiniteError
from playscale.training.run import Run
from playscale.training.run_state import RunState, latest, load_state
from playscale.training.schedule import Cell, Work, dev_looks

REPORTS = 100
"""Reports a run, so that one stands for 1 % of it."""


def bc_loss(logits: Tensor, action: Tensor, valid: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of logits [T, B, A] on the expert's action [T, B] over the valid [T, B] transitions."""
    loss = F.cross_entropy(logits.flatten(0, 1), action.flatten(), reduction="none")
    weight = valid.flatten().to(loss.dtype)
    return (loss * weight).sum() / weight.sum()


def train_bc(
    corpus_uri: str,
    out: Path,
    config: TrainConfig,
    tracker: Tracker | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Point]:
    """Train one model through the config's budgets; the points, by budget, as also written to OUT/points.csv.

    Run again with the same OUT, it goes on where it was, to the same losses as if never stopped (on a CPU, bit by bit);
    a finished run answers at once. Budgets may be added as long as they lie ahead of the run. ValueError: a budget too
    small or already passed, OUT holding another run, a corpus or device that is not there, a damaged save.
    NonFiniteError: the loss ran away; the last good save stays, and OUT/nonfinite.json describes the step and its data.
    Under torchrun the processes share each batch's columns, and the first one writes what the run leaves.
    """
    corpus = Corpus.open(corpus_uri)
    with process_group() as group:
        group.columns(config.batch)
        device = group.device(resolve_device(config.device))
        if device.type == "cpu":
            keep_freed_memory()
        with group.in_turn():
            run = Run.claim(Path(out), config, corpus)
            points = run.reached()
        left = [cell for cell in run.cells if cell.budget not in points]
        if left:
            run.check_ahead(left)
            if tracker is None or not group.first:
                tracker = NullTracker()
            if progress is None or not group.first:
                progress = _silent
            setting = _setting(run, corpus, device, group, tracker, progress)
            try:
                with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                    _train(run, setting, left, points)
            except NonFiniteError as error:
                if group.first:
                    write_json(run.out / "nonfinite.json", error.record)
                raise
        if group.first:
            run.publish(points)
    return [points[budget] for budget in sorted(points)]


def _train(run: Run, setting: Setting, left: list[Cell], points: dict[float, Point]) -> None:
    """Train the constant-rate run through the cells that are left, each cell's cooldown branch as it comes."""
    work = Work(run.cells)
    main = _own_columns(setting, run.state(setting.device))
    for cell in left:
        advance(setting, main, Stretch(cell.branch_step, run.rate, run.resume, work.of_run))
        point = run.finish(cell, main, setting) if cell.branch_step == cell.step else _cool(run, setting, cell, work)
        points[cell.budget] = point
        if setting.group.first:
            run.publish(points)
        reached = f"train {run.config.size}: dev loss {point.dev_loss:.3f} at {budget_name(cell.budget)} FLOPs"
        setting.progress(reached, work.of_branch(cell)(cell.step))


def _cool(run: Run, setting: Setting, cell: Cell, work: Work) -> Point:
    """Train a cell's cooldown branch, from the run as saved at its branch step, over the data the run will also see."""
    folder = run.branch_resume(cell)
    saved = latest(folder)
    start = saved or latest(run.resume)
    assert start is not None
    devices = [setting.device] if setting.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        branch = _own_columns(setting, load_state(start, setting.device))
        if saved is None:
            branch.meter = Meter()  # the steps before the branch are in the run's own curve
        rate = lambda step: cell.cooled(step, run.rate(step))  # noqa: E731
        advance(setting, branch, Stretch(cell.step, rate, folder, work.of_branch(cell), branch=True))
        point = run.finish(cell, branch, setting)
    if setting.group.first:
        shutil.rmtree(folder, ignore_errors=True)
    return point


def _own_columns(setting: Setting, state: RunState) -> RunState:
    """The state with this process's columns of what was saved for all of them."""
    columns = setting.group.columns(setting.config.batch)
    state.recurrent = {name: value[columns] for name, value in state.recurrent.items()}
    return state


def _setting(
    run: Run,
    corpus: Corpus,
    device: torch.device,
    group: Group,
    tracker: Tracker,
    progress: Callable[[str, float], None],
) -> Setting:
    end = run.cells[-1].branch_step
    return Setting(
        config=run.config,
        corpus=corpus,
        device=device,
        precision=resolve_precision(run.config.precision, device),
        flops_per_sample=run.flops_per_sample,
        report_steps=max(1, Work(run.cells).total // REPORTS),
        dev_steps=dev_looks(end, run.config.samples_per_step, run.config.dev_samples),
        loss=bc_loss,
        tracker=tracker,
        progress=progress,
        group=group,
    )


def _silent(what: str, fraction: float) -> None:
    del what, fraction
