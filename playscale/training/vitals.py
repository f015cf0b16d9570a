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
    """Of a stretch of a run, told by the group's first process for all of it."""

    def __init__(self, state: RunState, device: torch.device, flops_per_sample: int) -> None:
        self._state, self._device, self._flops_per_sample = state, device, flops_per_sample
        self._peak = peak_flops(device)
        self._interactions, self._episodes = state.tally.interactions, state.tally.episodes

    def add(self, samples: int) -> None:
        """So many samples were trained on since this was last said."""
        count("samples", samples)
        count("model_flops", self._flops_per_sample * samples)
        for part, seconds in self._state.watch.untold().items():
            count("training_seconds", seconds, part)
        tally = self._state.tally
        count("environment_steps", tally.interactions - self._interactions)
        count("episodes", tally.episodes - self._episodes)
        self._interactions, self._episodes = tally.interactions, tally.episodes

    def show(self, metrics: Mapping[str, float], devices: int) -> None:
        """What a report says, of so many devices together."""
        if self._peak:
            peak = self._peak * devices
            gauge("device_peak_flops_per_second", peak)
            rate = self._flops_per_sample * metrics["samples_per_second"]
            gauge("model_flops_utilization_ratio", rate / peak)
        for name, value in metrics.items():
            if name in GAUGES:
                gauge(GAUGES[name], value)
            elif name.startswith(ACTOR_SHARE):
                gauge("actor_time_ratio", value, name.removeprefix(ACTOR_SHARE))
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
