"""Axes for figures: logarithmic, with few ticks, each with a label a person can read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullLocator

from playscale.report import numbers
from playscale.report.palette import GRID, INK, SOFT

WIDTH, HEIGHT = 5.2, 4.3  # inches; at 72 points an inch, text of 9.5 points stays legible on a phone
MANTISSAS: tuple[tuple[float, ...], ...] = (
    (1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7),
    (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8),
)  # fmt: skip


def new_axes() -> tuple[Figure, Axes]:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(WIDTH, HEIGHT), layout=layout, facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelcolor=INK, labelsize=9.5, length=3.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values from low to high (both > 0), nearly even in the logarithm: 3 or more if possible, at most `most`."""
    decades = math.log10(high / low)
    if decades > most - 1:
        step = math.ceil(decades / (most - 1))
        first = math.ceil(math.log10(low) - 1e-9)
        return [10.0**e for e in range(first, math.floor(math.log10(high) + 1e-9) + 1, step)]
    best: list[float] = []
    for mantissas in MANTISSAS:
        ticks = [
            m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in mantissas
        ]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) <= most:
            best = ticks
    if len(best) < 3:
        best = _linear_ticks(low, high)
    return best


def _linear_ticks(low: float, high: float) -> list[float]:
    """Round values evenly spaced: for a range much less than a decade."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_axis(
    axis_name: str, axes: Axes, values: Sequence[float], label: str, text: Callable[[float], str], pad: float = 0.07
) -> None:
    """Make one axis logarithmic around `values` (all > 0), with a margin of `pad` of its length at each end."""
    logs = np.log10(np.array(values, dtype=float))
    low, high = float(logs.min()), float(logs.max())
    if high - low < 0.05:  # one value, or nearly: give it room
        low, high = low - 0.15, high + 0.15
    margin = pad * (high - low)
    limits = 10 ** (low - margin), 10 ** (high + margin)
    axis = axes.xaxis if axis_name == "x" else axes.yaxis
    # The limits first: a change of scale would look for limits of its own, and warn where there is only one value.
    (axes.set_xlim if axis_name == "x" else axes.set_ylim)(*limits)
    (axes.set_xscale if axis_name == "x" else axes.set_yscale)("log")
    ticks = log_ticks(*limits)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, labels=[text(tick) for tick in ticks])
    axis.set_label_text(label, color=INK, fontsize=10)


def plain(value: float) -> str:
    """A tick of a loss or a return: 0.5, 1.2, 30, 1,000."""
    if value >= 1e6 or value < 1e-4:
        return numbers.power_of_ten(value)
    return f"{value:,.6g}"


QUANTITY: dict[str, tuple[str, Callable[[float], str]]] = {
    "flops": ("training compute (FLOPs)", numbers.power_of_ten),
    "params": ("model size (parameters)", numbers.count),
    "samples": ("data (samples)", numbers.count),
    "interactions": ("interactions with the game", numbers.count),
    "flops_total": ("compute, the teacher's included (FLOPs)", numbers.power_of_ten),
    "dev_loss": ("dev loss (nats per action)", plain),
    "return_mean": ("return (points per game)", plain),
    "train_return": ("return in training (points per game)", plain),
}


def quantity_axis(axis_name: str, axes: Axes, quantity: str, values: Sequence[float], pad: float = 0.07) -> None:
    label, text = QUANTITY[quantity]
    log_axis(axis_name, axes, values, label, text, pad)
