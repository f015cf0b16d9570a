"""What somebody who watches a run from outside is told of it, at each report."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from playscale.scaling.gpu import GPUS
from playscale.tracking.monitor import count, gauge
from playscale.training.run_state import RunState

PEAK = "PLAYSCALE_PEAK_FLOPS"
GAUGES = {
    "train_loss": "train_loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "train_return": "train_return",
    "entropy": "policy_entropy_nats",
    "policy_lag": "policy_lag_updates",
    "policy_lag_max": "policy_lag_max_updates",
}
"""Of what is reported: the gauge that shows it."""
ACTOR_SHARE = "actor_share_"


class Vitals:
    """Of a stretch of a run. Counters grow by what was done since the last `tell`."""

    def __init__(self, state: RunState, device: torch.device, flops_per_sample: int) -> None:
        self._state, self._device, self._flops_per_sample = state, device, flops_per_sample
        self._peak = peak_flops(device)
        self._interactions, self._episodes = state.tally.interactions, state.tally.episodes
        self._restarts = 0.0

    def tell(self, metrics: Mapping[str, float], samples: int, devices: int) -> None:
        """`samples` since the last time, by so many devices together."""
        count("samples", samples)
        count("model_flops", self._flops_per_sample * samples)
        if self._peak:
            peak = self._peak * devices
            gauge("device_peak_flops_per_second", peak)
            rate = self._flops_per_sample * metrics["samples_per_second"]
            gauge("model_flops_utilization_ratio", rate / peak)
        for part, seconds in self._state.watch.untold().items():
            count("training_seconds", seconds, part)
        for name, shown in GAUGES.items():
            if name in metrics:
                gauge(shown, metrics[name])
        self._tell_of_actors(metrics)
        self._tell_of_memory()

    def _tell_of_actors(self, metrics: Mapping[str, float]) -> None:
        tally = self._state.tally
        count("environment_steps", tally.interactions - self._interactions)
        count("episodes", tally.episodes - self._episodes)
        self._interactions, self._episodes = tally.interactions, tally.episodes
        restarts = metrics.get("actor_restarts", 0.0)
        count("errors", max(0.0, restarts - self._restarts), "actor")
        self._restarts = restarts
        for name, share in metrics.items():
            if name.startswith(ACTOR_SHARE):
                gauge("actor_time_ratio", share, name.removeprefix(ACTOR_SHARE))

    def _tell_of_memory(self) -> None:
        if self._device.type == "cuda":  # kept by torch on the host: the device is not asked
            gauge("device_memory_bytes", torch.cuda.memory_allocated(self._device), "allocated")
            gauge("device_memory_bytes", torch.cuda.memory_reserved(self._device), "reserved")
            gauge("device_memory_bytes", torch.cuda.max_memory_allocated(self._device), "peak")


def peak_flops(device: torch.device) -> float | None:
    """Dense 16-bit peak FLOP/s: as PLAYSCALE_PEAK_FLOPS says, else by the data sheet of a CUDA device that is known.

    ValueError when the variable is no positive number.
    """
    if asked := os.environ.get(PEAK):
        try:
            peak = float(asked)
        except ValueError:
            peak = 0.0
        if not 0 < peak < float("inf"):
            raise ValueError(f"{PEAK}: {asked!r} is no number of FLOP/s; give one such as 989e12, or unset it")
        return peak
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).lower().replace("-", " ").replace("geforce rtx ", "rtx").split()
    return next((GPUS[word].peak for word in words if word in GPUS), None)
