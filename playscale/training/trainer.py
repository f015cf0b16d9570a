"""The training loop: optimizer steps on a stream of unrolls, with reports, dev losses in between, and saves.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from playscale.config import TrainConfig
from playscale.points import LearningCurve
from playscale.tracking import monitor
from playscale.tracking.tracker import Tracker
from playscale.training.batches import Batch
from playscale.training.dev_loss import DevLoss
from playscale.training.distributed import Group
from playscale.training.metrics import MonitoredRun, NonFiniteError
from playscale.training.optimization import Updates
from playscale.training.run_state import RunState, save_state

REPORT_SECONDS = 30.0
SETTLE_STEPS = 50
"""Steps between two looks at the losses on an accelerator, where a look waits for the device. A CPU looks at each."""


@dataclass(frozen=True)
class Method:
    """How a run learns: batches for a state, and who learns from them; the dev loss, where there is a corpus.

    game_key: the name of a batch's game by its id, for an error's text.
    """

    batches: Callable[[RunState], AbstractContextManager[Iterator[Batch]]]
    learner: Callable[[RunState], Updates]
    dev_loss: Callable[[RunState], DevLoss] | None = None
    game_key: Callable[[int], str] = str


@dataclass(frozen=True)
class TrainContext:
    """What a run needs beside its state. `flops_per_sample`: training FLOPs; `dev_steps`: looks between the cells."""

    config: TrainConfig
    method: Method
    device: torch.device
    precision: str
    flops_per_sample: int
    report_steps: int
    dev_steps: frozenset[int]
    tracker: Tracker
    progress: Callable[[str, float], None]
    group: Group = field(default_factory=Group)


@dataclass(frozen=True)
class Segment:
    """A part of a run: to step `until` at `rate(step)`, saved in `folder`; `done(step)` is the share of the whole run.

    `curve` is where its reports are also kept; a cooldown, marked by `branch`, has none, and its metrics other names.
    """

    until: int
    rate: Callable[[int], float]
    folder: Path
    done: Callable[[int], float]
    branch: bool = False
    curve: LearningCurve | None = None


def advance(setting: TrainContext, state: RunState, stretch: Segment) -> None:
    """Train `state` up to step `stretch.until`, in place, and save it. NonFiniteError: the last save is a good one."""
    config, watch, group = setting.config, state.watch, setting.group
    learner = setting.method.learner(state)
    settle_every = 1 if setting.device.type == "cpu" else min(SETTLE_STEPS, setting.report_steps)
    saved = reported = time.monotonic()
    clock, samples = watch.training, 0
    vitals = MonitoredRun(state, setting.device, setting.flops_per_sample)
    if stretch.curve is not None and group.first:
        stretch.curve.resume(state.step)
    with setting.method.batches(state) as unrolls:
        while state.step < stretch.until:
            with watch.spent("data"):
                batch = next(unrolls)
            with watch.spent("step"):
                loss, grad_norm, state.recurrent = learner.step(batch, state.recurrent, stretch.rate(state.step))
                state.step += 1
                state.meter.add(state.step, loss, grad_norm, batch.game_ids)
                if state.meter.pending >= settle_every:
                    settle(setting, state)
            samples += config.samples_per_step
            now = time.monotonic()
            if state.step % setting.report_steps == 0 or now - reported > REPORT_SECONDS:
                with watch.spent("step"):
                    settle(setting, state)
                metrics = report(setting, state, learner, stretch, samples / (watch.training - clock))
                if group.first:
                    vitals.add(samples)
                    vitals.show(metrics, group.size)
                clock, samples, reported = watch.training, 0, now
            if state.step in setting.dev_steps and not stretch.branch:
                measure(setting, state)
            if state.step % settle_every == 0 and group.share(now - saved > config.save_seconds):
                save(setting, state, stretch.folder)
                saved = now
    save(setting, state, stretch.folder)
    if group.first:
        vitals.add(samples)


def settle(setting: TrainContext, state: RunState) -> None:
    """Look at the losses since the last look; NonFiniteError when one is not a number to go on with."""
    state.meter.settle(setting.config.samples_per_step, setting.method.game_key)


def report(
    setting: TrainContext, state: RunState, learner: Updates, stretch: Segment, samples_per_second: float
) -> dict[str, float]:
    """Log the means since the last report, and tell the progress. The gradient norm is the one before clipping."""
    samples = state.step * setting.config.samples_per_step
    metrics = (
        state.meter.report()
        | learner.report()
        | {
            "learning_rate": stretch.rate(state.step - 1),
            "samples_per_second": samples_per_second,
            "flops": float(setting.flops_per_sample * samples),
        }
    )
    ending = "_cooldown" if stretch.branch else ""
    setting.tracker.log_metrics({name + ending: value for name, value in metrics.items()}, samples)
    if stretch.curve is not None and setting.group.first:
        stretch.curve.add(state.step, metrics)
    what = f"train {setting.config.size}{' cooldown' if stretch.branch else ''}"
    known = f"loss {metrics['train_loss']:.3f}"
    if "train_return" in metrics:
        known = f"return {metrics['train_return']:.1f}, entropy {metrics['entropy']:.2f}"
    setting.progress(f"{what}: {known}, {samples_per_second:,.0f} samples/s", stretch.done(state.step))
    return metrics


def measure(setting: TrainContext, state: RunState, name: str = "dev_loss") -> DevLoss:
    """The dev loss of the policy as it is now, logged; NonFiniteError when it is not finite.

    The group's first process takes it.
    """
    config, group = setting.config, setting.group
    assert setting.method.dev_loss is not None
    with state.watch.spent("dev"):
        found: DevLoss = group.share(setting.method.dev_loss(state) if group.first else None)
    samples = state.step * config.samples_per_step
    if not found.finite:
        raise NonFiniteError("dev loss", found.loss, state.step, samples, ["of the dev split"])
    setting.tracker.log_metrics({name: found.loss}, samples)
    monitor.gauge("dev_loss", found.loss)
    return found


def save(setting: TrainContext, state: RunState, folder: Path) -> None:
    """Save the state to go on from, after a look at its losses: a save is always a good one.

    What is saved is that of all columns, so that a run can go on with another number of processes.
    """
    settle(setting, state)
    with state.watch.spent("save"):
        whole = replace(state, recurrent=setting.group.gather(state.recurrent))
        with setting.group.in_turn():
            if setting.group.first:
                save_state(folder, whole)
                monitor.gauge("checkpoint_timestamp_seconds", time.time())
