"""The monitoring port: what this process counts and how things stand in it, for somebody who watches from outside.

Prometheus stands behind it (prometheus.py) when it is asked for; until then nobody listens and a call does nothing.
The catalogue holds every metric there is. All have the labels of LABELS, which are set once for what a process does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

LABELS = ("study", "task", "run", "method")
"""A study's name; collect, prepare, plan, train, evaluate or fit; a training run's name; its method. Or empty."""


@dataclass(frozen=True)
class Metric:
    """`name` without prefix and, of a counter, without "_total"; `values`: a label of its own, and all it can be."""

    kind: Literal["counter", "gauge"]
    help: str
    label: str = ""
    values: tuple[str, ...] = field(default=())


CATALOGUE = {
    "samples": Metric("counter", "Transitions trained on."),
    "model_flops": Metric("counter", "Training FLOPs by the analytic count (3 x forward), acting not included."),
    "training_seconds": Metric(
        "counter", "Wall seconds of training by what they went into.", "part", ("data", "step", "dev", "save")
    ),
    "environment_steps": Metric("counter", "Steps of the game: by the actors, in evaluation, or by the expert."),
    "episodes": Metric("counter", "Episodes that ended."),
    "corpus_games": Metric("counter", "Recorded games read into a corpus.", "outcome", ("kept", "rejected")),
    "corpus_transitions": Metric("counter", "Transitions written to a corpus."),
    "errors": Metric("counter", "Errors by kind.", "kind", ("non_finite", "user", "internal", "actor", "tracking")),
    "train_loss": Metric("gauge", "Mean loss since the last report (nats an action; IMPALA's summed losses)."),
    "dev_loss": Metric("gauge", "Last cross-entropy on the dev games (nats an action)."),
    "gradient_norm": Metric("gauge", "Mean norm of the gradient before clipping since the last report."),
    "learning_rate": Metric("gauge", "Learning rate of the last step."),
    "train_return": Metric("gauge", "Mean score of the last 100 episodes of training."),
    "policy_entropy_nats": Metric("gauge", "Mean entropy of the policy since the last report."),
    "policy_lag_updates": Metric("gauge", "Updates that actors' weights were behind, mean since the last report."),
    "policy_lag_max_updates": Metric("gauge", "Updates that actors' weights were behind, largest since last report."),
    "actor_time_ratio": Metric(
        "gauge",
        "Share of actors' time since the last report.",
        "part",
        ("waiting", "weights", "forward", "environment"),
    ),
    "read_ahead_batches": Metric("gauge", "Batches that are ready for the learner (0: it waits for data)."),
    "model_flops_utilization_ratio": Metric("gauge", "MFU since the last report: FLOP/s by the device's peak."),
    "device_peak_flops_per_second": Metric("gauge", "Dense 16-bit peak of the devices, by the data sheet or as told."),
    "device_memory_bytes": Metric(
        "gauge", "Memory of the CUDA device that torch holds.", "state", ("allocated", "reserved", "peak")
    ),
    "parameters": Metric("gauge", "Parameters that are trained."),
    "checkpoint_timestamp_seconds": Metric("gauge", "Unix time of the last save or checkpoint."),
    "task_progress_ratio": Metric("gauge", "How much of the task is done, 0 to 1."),
    "task_start_timestamp_seconds": Metric("gauge", "Unix time at which the task began."),
    "tracking_up": Metric("gauge", "Whether the tracking server took the last entry (1) or did not answer (0)."),
    "tracking_spool_entries": Metric("gauge", "Entries on disk that the tracking server has not taken."),
}


class Listener(Protocol):
    """Who is told. `own` is the value of the metric's own label."""

    def describe(self, labels: dict[str, str]) -> None:
        """These are the labels from now on."""
        ...

    def count(self, name: str, amount: float, own: str) -> None: ...

    def gauge(self, name: str, value: float, own: str) -> None: ...

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """The gauge is what `read` says when somebody looks."""
        ...


class _Nobody:
    def describe(self, labels: dict[str, str]) -> None: ...

    def count(self, name: str, amount: float, own: str) -> None: ...

    def gauge(self, name: str, value: float, own: str) -> None: ...

    def watch(self, name: str, read: Callable[[], float]) -> None: ...


_listener: Listener = _Nobody()
_labels: dict[str, str] = dict.fromkeys(LABELS, "")
_watched: dict[str, list[Callable[[], float]]] = {}


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell this one, inside. Labels begin empty: what was done before in this process is not what is done now."""
    global _listener, _labels
    before = _listener, _labels
    _listener, _labels = listener, dict.fromkeys(LABELS, "")
    try:
        yield
    finally:
        _listener, _labels = before


def describe(**labels: str) -> None:
    """Say what this process does: some of LABELS; the others stay as they are."""
    global _labels  # noqa: PLW0603
    assert labels.keys() <= set(LABELS)
    _labels = _labels | labels
    _listener.describe(_labels)


def count(name: str, amount: float = 1.0, own: str = "") -> None:
    """Add to a counter."""
    _listener.count(name, amount, own)


def gauge(name: str, value: float, own: str = "") -> None:
    """Say how things stand."""
    _listener.gauge(name, value, own)


@contextmanager
def watched(name: str, read: Callable[[], float]) -> Iterator[None]:
    """Inside, a gauge is what `read` says whenever somebody looks; it is asked in another thread.

    Afterwards it is again what it was before (the dev loss has a queue of its own), and in the end 0.
    """
    reads = _watched.setdefault(name, [])
    reads.append(read)
    _listener.watch(name, read)
    try:
        yield
    finally:
        reads.remove(read)
        _listener.watch(name, reads[-1] if reads else float)
