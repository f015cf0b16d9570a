"""Axes of a figure: logarithmic or linear, with few round ticks, and matplotlib's settings while they are drawn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullLocator

from playscale.report.palette import GRID, INK, SOFT
from playscale.report.text import text_columns
from playscale.scaling import numbers

# A figure fills a phone of 390 pixels, where text of 10.5 points in 4.7 inches has 11 pixels.
WIDTH, HEIGHT = 4.7, 4.0  # inches, of 72 points
TEXT = 10.5  # points
MANTISSAS: tuple[tuple[float, ...], ...] = (
    (1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7),
    (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8),
)  # fmt: skip
NARROWEST = 1e-7  # decades of a loss or a return, below which its values are one
NARROWEST_CELLS = 0.05  # the same of compute, sizes and data: those of one budget differ by a few per cent
MOST_TICKS, AXIS_LINE = 7, 46  # of an axis; columns of text beside each other below it
DEFAULT_FONT = "DejaVu Sans"
OWN_DEFAULTS = {
    "text.parse_math": False,  # names hold dollar signs
    "svg.fonttype": "none",
}


@contextmanager
def own_defaults(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw with matplotlib's defaults and our own, whatever a user's matplotlibrc says (usetex, sketch, fonts)."""
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    with mpl.rc_context(defaults | OWN_DEFAULTS | dict(more or {})), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a page has the text; in a PNG a box stands for it
        yield


@cache
def families(text: str) -> list[str]:
    """Return the fonts for a text: the default one, and where that lacks a script, installed ones that have it."""
    missing = {ord(character) for character in text if not character.isspace()}
    found = []
    fonts = sorted(fontManager.ttflist, key=lambda font: (font.name != DEFAULT_FONT, font.weight != 400, font.name))
    for font in fonts:
        if missing and (own := missing & _characters(font.fname)):
            found.append(font.name)
            missing -= own
    return found or [DEFAULT_FONT]


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the characters that a font can draw in any size; none of a font that cannot be read."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


def new_axes() -> tuple[Figure, Axes]:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(WIDTH, HEIGHT), layout=layout, facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelcolor=INK, labelsize=TEXT, length=3.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def log_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Return round values from low to high (both > 0), nearly even in the logarithm: at least 3 if possible."""
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
        best = _linear_ticks(low, high, most)
    return best


def _linear_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Return round values evenly spaced, for a range much less than a decade: at least 3."""
    rough = (high - low) / (most - 2)
    unit = 10.0 ** math.floor(math.log10(rough))
    steps = [m * unit for m in (10, 5, 2, 1, 0.5) if m * unit >= rough / 2.5]
    ticks: list[float] = []
    for step in sorted(steps, key=lambda step: (step < rough, abs(step - rough))):
        ticks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(ticks) > 2:
            break
    return ticks


def quantity_axis(
    axis_name: str, axes: Axes, quantity: str, values: Sequence[float], pad: float = 0.07, room: float = 0.0
) -> None:
    """Make one axis logarithmic around `values` (all > 0), with a margin of `pad` of its length at each end.

    room: more of its length at the upper end.
    """
    label, text = QUANTITY.get(quantity, (quantity, plain))
    narrowest = NARROWEST if text is plain else NARROWEST_CELLS
    logs = np.log10(np.array(values, dtype=float))
    low, high = float(logs.min()), float(logs.max())
    if high - low < narrowest:  # one value: give it room
        low, high = low - 0.15, high + 0.15
    margin = pad * (high - low)
    limits = 10 ** (low - margin), 10 ** (high + margin + room * (high - low))
    axis = axes.xaxis if axis_name == "x" else axes.yaxis
    # The limits first: a change of scale would look for limits of its own, and warn where there is only one value.
    (axes.set_xlim if axis_name == "x" else axes.set_ylim)(*limits)
    (axes.set_xscale if axis_name == "x" else axes.set_yscale)("log")
    ticks, labels = _log_labels(*limits, text, is_wide=axis_name == "x")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, labels=labels)
    axis.set_label_text(label, color=INK, fontsize=TEXT)


def _log_labels(
    low: float, high: float, text: Callable[[float], str], *, is_wide: bool
) -> tuple[list[float], list[str]]:
    """Return ticks and their labels; fewer where labels side by side (is_wide) would touch."""
    ticks: list[float] = []
    labels: list[str] = []
    for most in range(MOST_TICKS, 2, -1):
        ticks = log_ticks(low, high, most)
        labels = tick_labels(ticks) if text is plain else [text(tick) for tick in ticks]
        places = AXIS_LINE * np.log10(np.array(ticks) / low) / math.log10(high / low)
        widths = np.array([text_columns(label) + 1 for label in labels])
        if not is_wide or np.all(np.diff(places) >= (widths[1:] + widths[:-1]) / 2):
            break
    return ticks, labels


def linear_axis(axes: Axes, label: str, values: Sequence[float], pad: float = 0.07) -> None:
    """Make the vertical axis linear around `values`."""
    low, high = min(values), max(values)
    largest = max(abs(low), abs(high))
    margin = pad * (high - low) if high - low > NARROWEST * largest else 0.1 * largest or 1.0
    limits = low - margin, high + margin
    axes.set_ylim(*limits)
    ticks = _linear_ticks(*limits)
    axes.set_yticks(ticks, labels=tick_labels(ticks))
    axes.set_ylabel(label, color=INK, fontsize=TEXT)


def exponent_axis(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make the horizontal axis hold all exponents, and their intervals as far as they are not far wider."""
    values = [row["exponent"] for row in rows]
    room = max(max(values) - min(values), 0.1 * max(map(abs, values)), 1e-6)
    low = min([min(values), *(row["low"] for row in rows if numbers.known(row.get("low")))])
    high = max([max(values), *(row["high"] for row in rows if numbers.known(row.get("high")))])
    axes.set_xlim(max(low, min(values) - room) - 0.05 * room, min(high, max(values) + room) + 0.05 * room)
    axes.set_xlabel("exponent against compute", color=INK, fontsize=TEXT)


def plain(value: float, digits: int = 6) -> str:
    """Write a tick of a loss or a return: 0.5, 1.2, 30, 1,000."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return numbers.power_of_ten(value, digits - 3)
    return f"{value:,.{digits}g}".replace("-", numbers.MINUS)


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write ticks of a loss or a return, with as many digits as tell them apart."""
    labels: list[str] = []
    for digits in range(6, 17):
        labels = [plain(tick, digits) for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


QUANTITY: dict[str, tuple[str, Callable[[float], str]]] = {
    "flops": ("training compute (FLOPs)", numbers.power_of_ten),
    "params": ("model size (parameters)", numbers.count),
    "samples": ("data (samples)", numbers.count),
    "interactions": ("interactions with the game", numbers.count),
    "flops_total": ("compute, the teacher's included (FLOPs)", numbers.power_of_ten),
    "dev_loss": ("dev loss (nats per action)", plain),
    "loss": ("dev loss (nats)", plain),
    "return_mean": ("return (points per game)", plain),
    "train_return": ("return in training (points per game)", plain),
}
