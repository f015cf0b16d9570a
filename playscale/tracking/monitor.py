"""The monitoring port: counters and gauges of this process, for monitoring from outside.

prometheus.py implements it when PLAYSCALE_METRICS_PORT is set; otherwise a call does nothing. CATALOGUE lists every
metric. All metrics have the labels of LABELS, which are set once for the task that a process runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

LABELS = ("study", "task", "run", "method")
"""Name of the study; its step, such as train or fit; name of the training run; its method; or empty."""


@dataclass(frozen=True)
class Metric:
    """One metric of the catalogue.

    label, values: name of a label of this metric alone, and all values it can have
    """

    kind: Literal["counter", "gauge"]
    help: str
    label: str = ""
    values: tuple[str, ...] = field(default=())


CATALOGUE = {  # by name without the prefix "playscale_" and the "_total" of a counter
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
    "device_peak_flops_per_second": Metric(
        "gauge", "Dense 16-bit peak of the devices, by the data sheet or as configured."
    ),
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


class MetricsBackend(Protocol):
    """Takes the metrics of this process. `label` is the value of the metric's own label."""

    def describe(self, labels: dict[str, str]) -> None:
        """Set the values of LABELS from now on."""
        ...

    def count(self, name: str, amount: float, label: str) -> None: ...

    def gauge(self, name: str, value: float, label: str) -> None: ...

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Call `read` for the value of the gauge whenever it is scraped."""
        ...


class _NullBackend:
    def describe(self, labels: dict[str, str]) -> None: ...

    def count(self, name: str, amount: float, label: str) -> None: ...

    def gauge(self, name: str, value: float, label: str) -> None: ...

    def watch(self, name: str, read: Callable[[], float]) -> None: ...


_backend: MetricsBackend = _NullBackend()
_labels: dict[str, str] = dict.fromkeys(LABELS, "")
_watched: dict[str, list[Callable[[], float]]] = {}


@contextmanager
def use_backend(backend: MetricsBackend) -> Iterator[None]:
    """Send metrics to `backend` inside the block. Its labels begin empty: those of earlier work do not apply."""
    global _backend, _labels
    before = _backend, _labels
    _backend, _labels = backend, dict.fromkeys(LABELS, "")
    try:
        yield
    finally:
        _backend, _labels = before


def describe(**labels: str) -> None:
    """Set some of LABELS for what this process does; the others stay as they are."""
    global _labels  # noqa: PLW0603
    assert labels.keys() <= set(LABELS)
    _labels = _labels | labels
    _backend.describe(_labels)


def count(name: str, amount: float = 1.0, label: str = "") -> None:
    """Add to a counter; `label`: value of the metric's own label, if it has one."""
    _backend.count(name, amount, label)


def gauge(name: str, value: float, label: str = "") -> None:
    """Set a gauge; `label`: value of the metric's own label, if it has one."""
    _backend.gauge(name, value, label)


@contextmanager
def watched(name: str, read: Callable[[], float]) -> Iterator[None]:
    """Inside the block, take a gauge's value from `read` whenever it is scraped; `read` runs in another thread.

    Blocks may nest (the dev loss has a queue of its own): afterwards the outer `read` applies, and in the end 0.
    """
    reads = _watched.setdefault(name, [])
    reads.append(read)
    _backend.watch(name, read)
    try:
        yield
    finally:
        reads.remove(read)
        _backend.watch(name, reads[-1] if reads else float)
