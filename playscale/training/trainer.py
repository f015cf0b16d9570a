"""The training loop: one model through its compute budgets.

train() is the whole life of a run: it starts or resumes the state and trains it to each budget in turn, reporting and
saving on the way. At a budget the state becomes a cell: a checkpoint, and a row of the points table. With a cooldown,
the cell is the end of a branch that leaves the run before the budget; the run itself goes on from where it was left.

How a run learns is its method's matter (method.py): bc.py, impala.py.

T unroll, B batch, A actions.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from playscale.agents.checkpoint import save_checkpoint
from playscale.agents.device import default_threads, torch_threads
from playscale.config import IMITATING_METHODS, TrainConfig, budget_name
from playscale.points import LearningCurve, Point, to_row
from playscale.processes.signals import Stopped, stop_held, stop_signal
from playscale.storage.files import locked, write_json
from playscale.tracking import monitor
from playscale.tracking.tracker import NullTracker, Tracker
from playscale.training.dev_loss import DevLoss
from playscale.training.distributed import Group, process_group
from playscale.training.identity import sources
from playscale.training.method import Method
from playscale.training.metrics import LossMeter, MonitoredRun, NonFiniteError
from playscale.training.optimization import keep_freed_memory
from playscale.training.run import Run, divergence
from playscale.training.run_state import RunState, latest, load_state, new_state, save_state
from playscale.training.schedule import Cell, Work

REPORT_SECONDS = 30.0
SETTLE_STEPS = 50
"""Steps between two reads of the losses from an accelerator, each of which waits for it. A CPU reads at each step."""

Progress = Callable[[str, float], None]


def train(
    config: TrainConfig,
    out: Path,
    corpus: str | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> list[Point]:
    """Train one model through the config's budgets.

    Run again with the same `out`, it resumes: behavioural cloning to the same losses as if never stopped (on a CPU, bit
    by bit), IMPALA with new episodes. A finished run returns at once. Budgets may be added as long as the run has not
    passed them. Under torchrun the processes share each batch, and the first one writes the outputs. In a command, at
    SIGTERM or SIGINT, the state is saved after the step at hand.

    Args:
        config: The settings of the run.
        out: Its directory; see run.py for what is written there.
        corpus: URI of the corpus, for a method that imitates.
        tracker: Receives the metrics.
        progress: Called with a text and the fraction done.
        log: Called with a line at the start, at each measurement of the dev loss, at each save and at each checkpoint.

    Returns:
        The points of all checkpoints in `out`, by budget, as also written to OUT/points.csv.

    Raises:
        Stopped: At SIGTERM or SIGINT.
        ValueError: A budget is too small or already passed, `out` holds another run or another process trains there,
            there is no such corpus, game, teacher or device, or a save is damaged.
        NonFiniteError: The loss or its gradient is not finite. The last good save stays, and OUT/nonfinite.json
            describes the step and its data.
        WorkerError: Actors fail again and again.
    """
    with process_group() as group, ExitStack() as lock:
        group.columns(config.batch)  # a ValueError comes before anything is written
        method = make_method(config, corpus, group, Path(out))
        run = Run(Path(out), config, method.policy_config, sources(config, corpus))
        threads = config.threads or default_threads(run.params, group.local_size)
        planned = run.cells
        if group.first:
            lock.enter_context(locked(run.out, "training"))
        with group.in_turn():
            run.claim(threads)
            points = run.reached()
        monitor.describe(run=run.name, method=config.method)
        monitor.gauge("parameters", run.params)
        if cells := [cell for cell in planned if cell.budget not in points]:
            run.check_ahead(cells)
            trainer = Trainer(run, method, tracker, progress, log)
            with (
                torch_threads(threads),
                closing(method),
                _own_random_state(method.device),
                trainer.nonfinite_recorded(),
                stop_held(),
            ):
                state = trainer.start()
                for cell in cells:
                    trainer.advance(state, trainer.segment_before(cell))
                    ended = state if cell.step == cell.branch_step else trainer.cool_down(cell)
                    point = trainer.finish(cell, ended, points.values())
                    points[cell.budget] = point
                    trainer.publish(cell, points)
        if group.first:
            run.publish(points)
        return [points[budget] for budget in sorted(points)]


def check(config: TrainConfig, corpus: str | None) -> None:
    """Raise the ValueError that `train` would, in any directory, before it writes something there."""
    method = make_method(config, corpus, Group(), Path())
    Run(Path(), config, method.policy_config, sources(config, corpus)).cells  # noqa: B018 - for its error


def make_method(config: TrainConfig, corpus: str | None, group: Group, out: Path) -> Method:
    """Return the config's method, for a run in `out`. ValueError: its corpus, game, teacher or device is not there."""
    if config.method in IMITATING_METHODS:
        from playscale.training.bc import BehaviouralCloning

        assert corpus is not None
        return BehaviouralCloning(config, corpus, group)
    from playscale.training.impala import Impala

    return Impala(config, group, out)


@dataclass(frozen=True)
class Segment:
    """A part of a run: up to step `until`, at learning rate `rate(step)`, saved in `folder`.

    Attributes:
        fraction_done: Fraction of the whole run that is done at a step.
        curve: Where its reports are also written; None for a cooldown branch, whose metrics have names of their own.
    """

    until: int
    rate: Callable[[int], float]
    folder: Path
    fraction_done: Callable[[int], float]
    curve: LearningCurve | None = None

    @property
    def is_branch(self) -> bool:
        return self.curve is None


class Trainer:
    """Trains the states of one run: the run's own, and that of each cooldown branch."""

    def __init__(
        self,
        run: Run,
        method: Method,
        tracker: Tracker | None,
        progress: Progress | None,
        log: Callable[[str], None] | None,
    ) -> None:
        self.run, self.config, self.method = run, run.config, method
        self.group, self.device = method.group, method.device
        self._work = Work(run.cells)
        self._report_steps = max(1, self._work.total // method.reports)
        self._dev_steps = method.dev_steps(run.cells[-1].branch_step)
        self._tracker = tracker if tracker is not None and self.group.first else NullTracker()
        self._progress = progress if progress is not None and self.group.first else _ignore
        self._log = log if self.group.first else None
        if self.device.type == "cpu":
            keep_freed_memory()

    def start(self) -> RunState:
        """Return the saved state of the run, or the state before the first step, with weights from its seed."""
        saved = latest(self.run.resume)
        begins = f"resumes from step {int(saved.name)}" if saved else "starts"
        self._say(f"{begins}, {self.run.params:,} parameters")
        if saved is not None:
            return self._load(saved)
        torch.manual_seed(self.config.seed)
        policy = self.method.initial_policy()
        recurrent = self.method.initial_recurrent(policy)
        averaged = self.config.average > 0
        return self._own_share(new_state(policy, recurrent, self.method.optimizer_name, averaged=averaged))

    def segment_before(self, cell: Cell) -> Segment:
        """Return the part of the constant-rate run that leads to a cell, or to its cooldown branch."""
        curve = LearningCurve(self.run.out / "curve.csv")
        return Segment(cell.branch_step, self.run.rate, self.run.resume, self._work.of_run, curve)

    def advance(self, state: RunState, segment: Segment) -> None:
        """Train a state up to step `segment.until`, in place, and save it.

        Raises:
            NonFiniteError: The last save is a good one.
        """
        config, group, method, timer = self.config, self.group, self.method, state.timer
        method.begin(state)
        settle_every = 1 if self.device.type == "cpu" else min(SETTLE_STEPS, self._report_steps)
        saved = reported = time.monotonic()
        clock, samples = timer.training, 0
        monitored = MonitoredRun(state, self.device, self.run.flops_per_sample)
        if segment.curve is not None and group.first:
            segment.curve.resume(state.step)
        with method.batches() as batches:
            while state.step < segment.until:
                with timer.spent("data"):
                    batch = next(batches)
                with timer.spent("step"):
                    step = method.update(batch, segment.rate(state.step))
                    state.step += 1
                    state.add_to_average(config.average)
                    state.losses.add(state.step, step.loss, step.grad_norm, batch.game_ids)
                    if state.losses.pending >= settle_every:
                        self._settle(state)
                samples += config.samples_per_step
                now = time.monotonic()
                if state.step % self._report_steps == 0 or now - reported > REPORT_SECONDS:
                    with timer.spent("step"):
                        self._settle(state)
                    metrics = self._report(state, segment, samples / (timer.training - clock))
                    if group.first:
                        monitored.add(samples)
                        monitored.show(metrics, group.size)
                    clock, samples, reported = timer.training, 0, now
                due = state.step in self._dev_steps and not segment.is_branch
                if due and (dev := self._measure_dev_loss(state)):
                    state.lowest_dev_loss = min(state.lowest_dev_loss, dev.loss)
                may_save = state.step % settle_every == 0 or (group.size == 1 and stop_signal())
                if may_save and self._save_or_stop(state, segment.folder, due=now - saved > config.save_seconds):
                    saved = now
        self._save_or_stop(state, segment.folder, due=True)
        if group.first:
            monitored.add(samples)

    def cool_down(self, cell: Cell) -> RunState:
        """Train a cell's cooldown branch, from the run's save at the branch step, and return its last state.

        The branch takes the batches that the run will also take.
        """
        folder = self.run.branch_resume(cell)
        saved = latest(folder)
        origin = saved or latest(self.run.resume)
        assert origin is not None
        with _own_random_state(self.device):
            branch = self._load(origin)
            if saved is None:
                branch.losses = LossMeter()  # the steps before the branch are in the run's own curve
            rate = lambda step: cell.cooled(step, self.run.rate(step))  # noqa: E731
            self.advance(branch, Segment(cell.step, rate, folder, self._work.of_branch(cell)))
        return branch

    def finish(self, cell: Cell, state: RunState, reached: Iterable[Point]) -> Point:
        """Measure a cell at its budget and write its checkpoint.

        Whether it has diverged is seen from the lowest dev loss on the way to it: of its state, or of `reached`, the
        points of the run's earlier cells.
        """
        assert state.step == cell.step
        cooled = cell.branch_step < cell.step
        dev = self._measure_dev_loss(state, "dev_loss_cooldown" if cooled else "dev_loss")
        samples, extra = self.method.usage(state)
        extra["flops_6nd"] = 6 * self.run.params * samples
        columns = {name: f"{value:.6g}" for name, value in extra.items()}
        if dev:
            known = [point.dev_loss for point in reached if point.dev_loss is not None]
            lowest = min([dev.loss, state.lowest_dev_loss, *known])
            if reason := divergence(dev.loss, self.run.policy.num_actions, lowest):
                columns["diverged"] = reason
        measured = Point(
            game=self.run.policy.game,
            method=self.config.method,
            run=self.run.name,
            seed=self.config.seed,
            size=self.config.size,
            flops=cell.budget,
            params=self.run.params,
            samples=samples,
            dev_loss=dev.loss if dev else None,
            dev_loss_se=dev.se if dev else None,
            extra=columns,
        )
        point = self.run.labelled(measured)
        meta = {
            "kind": "cell",
            "point": to_row(point),
            "step": state.step,
            "cooldown_steps": cell.step - cell.branch_step,
            "precision": self.method.precision,
            "threads": torch.get_num_threads(),
            "seconds": state.timer.seconds,
            "source": self.run.source,
            "train_seeds": self.method.train_seeds,
            **({"dev_samples": dev.samples, "dev_games": dev.games} if dev else {}),
        }
        if self.group.first:
            save_checkpoint(self.run.checkpoint(cell.budget), state.measured, meta)
            if cooled:
                shutil.rmtree(self.run.branch_resume(cell), ignore_errors=True)
        return point

    def publish(self, cell: Cell, points: dict[float, Point]) -> None:
        """Write the points reached so far, and report that of a cell just reached."""
        if self.group.first:
            self.run.publish(points)
        point = points[cell.budget]
        reached = "through" if point.dev_loss is None else f"dev loss {point.dev_loss:.3f} at"
        text = f"{reached} {budget_name(point.flops)} FLOPs"
        self._say(f"checkpoint, {text}")
        self._progress(f"train {self.config.size}: {text}", self._work.of_branch(cell)(cell.step))

    @contextmanager
    def nonfinite_recorded(self) -> Iterator[None]:
        """Write OUT/nonfinite.json when a NonFiniteError passes."""
        try:
            yield
        except NonFiniteError as error:
            monitor.count("errors", label="non_finite")
            if self.group.first:
                write_json(self.run.out / "nonfinite.json", error.record)
            raise

    def _load(self, saved: Path) -> RunState:
        return self._own_share(load_state(saved, self.device, self.method.optimizer_name))

    def _own_share(self, state: RunState) -> RunState:
        """Keep this process's columns of a batch in the recurrent state, which is saved for all processes."""
        columns = self.group.columns(self.config.batch)
        state.recurrent = {name: value[columns] for name, value in state.recurrent.items()}
        return state

    def _settle(self, state: RunState) -> None:
        """Read the pending losses; NonFiniteError at the first that is not finite."""
        state.losses.settle(self.config.samples_per_step, self.method.game_key)

    def _report(self, state: RunState, segment: Segment, samples_per_second: float) -> dict[str, float]:
        """Log the means since the last report and show the progress. The gradient norm is that before clipping."""
        samples = state.step * self.config.samples_per_step
        metrics = (
            state.losses.report()
            | self.method.report()
            | {
                "learning_rate": segment.rate(state.step - 1),
                "samples_per_second": samples_per_second,
                "flops": float(self.run.flops_per_sample * samples),
            }
        )
        suffix = "_cooldown" if segment.is_branch else ""
        self._tracker.log_metrics({name + suffix: value for name, value in metrics.items()}, samples)
        if segment.curve is not None and self.group.first:
            segment.curve.add(state.step, metrics)
        name = f"train {self.config.size}{' cooldown' if segment.is_branch else ''}"
        quality = f"loss {metrics['train_loss']:.3f}"
        if "train_return" in metrics:
            quality = f"return {metrics['train_return']:.1f}, entropy {metrics['entropy']:.2f}"
        self._progress(f"{name}: {quality}, {samples_per_second:,.0f} samples/s", segment.fraction_done(state.step))
        return metrics

    def _measure_dev_loss(self, state: RunState, name: str = "dev_loss") -> DevLoss | None:
        """Measure and log the dev loss, on the group's first process; NonFiniteError when it is not finite."""
        with state.timer.spent("dev"):
            dev: DevLoss | None = self.group.share(self.method.dev_loss(state.measured) if self.group.first else None)
        if dev is None:
            return None
        samples = state.step * self.config.samples_per_step
        if not dev.finite:
            raise NonFiniteError("dev loss", dev.loss, state.step, samples, ["of the dev split"])
        self._tracker.log_metrics({name: dev.loss}, samples)
        monitor.gauge("dev_loss", dev.loss)
        self._say(f"{name.replace('_', ' ')} {dev.loss:.4f} at step {state.step}")
        return dev

    def _save_or_stop(self, state: RunState, folder: Path, *, due: bool) -> bool:
        """Save the state if it is due for the first process, and return whether it was.

        Raises:
            Stopped: A signal has reached a process of the group; the state is saved. All raise it at the same step.
        """
        asked = self.group.all((due, stop_signal()))
        number = next((number for _, number in asked if number), None)
        if asked[0][0] or number:
            self._save(state, folder)
        if number:
            raise Stopped(number)
        return asked[0][0]

    def _save(self, state: RunState, folder: Path) -> None:
        """Save the state, after a look at its losses: a save is always a good one.

        It holds the recurrent state of all processes, so that a run can be resumed with another number of them.
        """
        self._settle(state)
        with state.timer.spent("save"):
            whole = replace(state, recurrent=self.group.gather(state.recurrent))
            with self.group.in_turn():
                if self.group.first:
                    save_state(folder, whole)
                    monitor.gauge("checkpoint_timestamp_seconds", time.time())
                    self._say(f"saved at step {state.step}")

    def _say(self, text: str) -> None:
        if self._log is not None:
            self._log(f"train {self.config.size}: {text}")


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Restore torch's global random generators at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _ignore(text: str, fraction: float) -> None:
    del text, fraction
