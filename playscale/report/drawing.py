"""A figure under construction: logarithmic axes with few ticks, marks with tooltips, a legend."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Transform, offset_copy

from playscale.points import Point
from playscale.report.evidence import Evidence, describe, error_of, off_axis_tip, offset_of
from playscale.report.palette import FAINT, GRID, INK, SOFT, budget_colours
from playscale.report.text import text_columns
from playscale.scaling import numbers

WIDTH, HEIGHT = 5.2, 4.3  # inches; at 72 points an inch, text of 9.5 points stays legible on a phone
MANTISSAS: tuple[tuple[float, ...], ...] = (
    (1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7),
    (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8),
)  # fmt: skip
DASHED = (0, (4, 3))
DOTTED = (0, (1, 2))
MANY_POINTS = 80  # with more than this, markers are smaller
EDGE = 0.022  # of the axis's length: where what a logarithmic axis cannot show is marked
SAME_PLACE = 1.02  # marks at the edge closer than this are one
FAR = 10.0  # largest factor by which an interval widens the axis beyond its value
NEAR_ENOUGH = 1.5  # the same on a linear axis
FEW_BUDGETS = 9  # with more than this, the legend names every second or third
NARROWEST = 1e-7  # decades of a loss or a return, below which its values are one
NARROWEST_CELLS = 0.05  # the same of compute, sizes and data: those of one budget differ by a few per cent
LEGEND_LINE, LEGEND_HANDLE = 68, 6  # columns of text that a line of the legend holds, and that a handle takes
MOST_TICKS, AXIS_LINE = 7, 58  # of an axis; columns of text beside each other below it
LEGEND_ROW, LEGEND_ROWS = 0.2, 3  # inches of a row, and rows that the figure has room for as it is
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


@dataclass(frozen=True)
class Plot:
    """A finished figure. title: its message; alt: the figure in words; tips: {artist's gid: text}."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    tips: dict[str, str]


class Drawing:
    """Collect points with their tooltips, a legend below the axes, and how far the axes must reach."""

    def __init__(self, name: str, evidence: Evidence, target: str = "") -> None:
        """Begin a figure whose vertical axis is of `target`, linear where its values are counted from an offset."""
        self.name = name
        self.offset = offset_of(evidence.fit, target)
        self.linear = evidence.linear(target)
        self.evidence = evidence
        self.figure, self.axes = new_axes()
        self.tips: dict[str, str] = {}
        self.entries: dict[str, Line2D] = {}
        self.seen: list[tuple[float, float]] = []
        self.off_axis: list[tuple[float, Point]] = []

    def mark(self, x: float, y: float, tip: str, *, label: str | None = None, **style: Any) -> None:
        """Draw a marker at (x, y), both > 0. The legend shows the first with a label."""
        look: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgewidth": 1.2, "linestyle": "none"}
        (line,) = self.axes.plot([x], [y], gid=self._tip(tip), **(look | style))
        if "transform" not in style:
            self.see(x, y)
        if label:
            self.entries.setdefault(label, line)

    def beside(self, points: float) -> Transform:
        """Return the transform of marks that are drawn so many points to the right of their place."""
        return offset_copy(self.axes.transData, self.figure, x=points, units="points")

    def line(self, x: Sequence[float], y: Sequence[float], *, label: str | None = None, **style: Any) -> None:
        (line,) = self.axes.plot(x, y, **({"linewidth": 1.6} | style))
        if label:
            self.entries.setdefault(label, line)

    def hover(self, x: Sequence[float], y: Sequence[float], tip: str) -> None:
        """Show a text over a line, by an invisible one wide enough to hover over."""
        self.axes.plot(x, y, gid=self._tip(tip), color=SOFT, linewidth=9, alpha=0, zorder=1.2)

    def _tip(self, text: str) -> str:
        gid = f"{self.name}-tip-{len(self.tips)}"
        self.tips[gid] = text
        return gid

    def interval(self, x: float, low: float, high: float, colour: str) -> None:
        """Draw a vertical bar; its lower end may be below what a log axis can show."""
        if self.linear:
            self.axes.plot([x, x], [low, high], color=colour, linewidth=1.1, zorder=1.5)
        elif high > 0:
            self.axes.plot([x, x], [max(low, high * 1e-6), high], color=colour, linewidth=1.1, zorder=1.5)

    def point(
        self, point: Point, x: float, y: float, target: str, *, colour: str, size: float = 6, label: str | None = None
    ) -> None:
        """Draw a point with its 95% interval: filled if fitted, a diamond if held out, hollow grey if left out."""
        size = size if len(self.evidence.points) < MANY_POINTS else 0.7 * size
        style: dict[str, Any]
        reason = self.evidence.reason_excluded(point, target)
        tip = describe(point, reason, self.evidence.loss_digits)
        if reason is not None:
            style = {"color": FAINT, "markerfacecolor": "none", "markersize": size, "zorder": 2}
            self.mark(x, y, tip, label="left out of the fit", **style)
            return
        error = error_of(point, target)
        if error and size >= 4:
            self.interval(x, y - 1.96 * error, y + 1.96 * error, colour)
        style = {"marker": "D", "zorder": 2.5} if point.held_out else {}
        label = label or ("held out" if point.held_out else None)
        self.mark(x, y, tip, color=colour, markersize=size, label=label, **style)

    def seeds(self, target: str, x: str, colour: Callable[[Point], str]) -> None:
        """Draw the single runs behind the means as small dots; x: a column of the points table."""
        for point in self.evidence.repeats:
            value, place = getattr(point, target), getattr(point, x)
            if self.shows(value) and numbers.positive(place):
                tip = f"seed {point.seed}\n{describe(point, None, self.evidence.loss_digits)}"
                style = {"markersize": 3, "markeredgewidth": 0, "alpha": 0.75, "zorder": 1.7}
                self.mark(place, value, tip, label="single seeds", color=colour(point), **style)

    def off_the_axis(self, point: Point, x: float) -> None:
        """Mark a return of 0 or less, at x > 0, at the lower edge."""
        self.off_axis.append((x, point))

    def _mark_off_axis(self) -> None:
        """Draw one hollow triangle for all that share a place, so that each can be hovered over."""
        groups: list[tuple[float, list[Point]]] = []
        for x, point in sorted(self.off_axis, key=lambda pair: pair[0]):
            if not groups or x > groups[-1][0] * SAME_PLACE:
                groups.append((x, []))
            groups[-1][1].append(point)
        style = {"marker": "v", "markersize": 6, "color": FAINT, "markerfacecolor": "none", "clip_on": False}
        for x, points in groups:
            reasons = [self.evidence.reason_excluded(point, "return_mean") for point in points]
            tips = [off_axis_tip(point, reason) for point, reason in zip(points, reasons, strict=True)]
            tip = (
                describe(points[0], reasons[0])
                if len(points) == 1
                else "\n".join([f"{len(points)} returns of 0 or less", *tips])
            )
            place = self.axes.get_xaxis_transform()
            self.mark(x, EDGE, tip, label="return of 0 or less", transform=place, **style)

    def budget_legend(self) -> list[str]:
        """Name the colours of the budgets in the legend; return the colours."""
        budgets = self.evidence.budgets
        colours = [light for light, _ in budget_colours(len(budgets))]
        step = -(-len(budgets) // FEW_BUDGETS)
        for i, budget in enumerate(budgets):
            if (len(budgets) - 1 - i) % step == 0:
                self.line([], [], color=colours[i], marker="o", markersize=5, label=numbers.budget(budget))
        return colours

    def shows(self, value: float | None) -> TypeGuard[float]:
        """Tell whether the vertical axis can show a value."""
        return numbers.known(value) if self.linear else numbers.positive(value)

    def see(self, x: float, y: float) -> None:
        """Make the axes reach (x, y)."""
        self.seen.append((x, y))

    def see_end(self, x: float, end: float | None, of: float) -> None:
        """Make the axes reach an end of an interval, but not far beyond the value that it is of."""
        if self.shows(end):
            far, above = NEAR_ENOUGH if self.linear else FAR, of - self.offset
            self.see(x, self.offset + min(max(end - self.offset, above / far), above * far))

    def scale(self, x: str, y: str) -> None:
        """Make the axes logarithmic for two quantities (linear for returns from an offset), wide enough for all."""
        x, y = ("loss" if name == "dev_loss" and self.evidence.anonymous else name for name in (x, y))
        quantity_axis("x", self.axes, x, [x for x, _ in self.seen] + [x for x, _ in self.off_axis])
        if self.linear:
            linear_axis(self.axes, QUANTITY[y][0], [y for _, y in self.seen])
        else:
            quantity_axis("y", self.axes, y, [y for _, y in self.seen])
        self._mark_off_axis()

    def finish(self, title: str, caption: str, alt: str, columns: int = 3) -> Plot:
        """Put the legend below the axes, in up to so many columns, and return the figure."""
        if self.entries:
            columns = legend_columns([*self.entries], columns)
            rows = -(-len(self.entries) // columns)
            self.figure.set_figheight(HEIGHT + LEGEND_ROW * max(rows - LEGEND_ROWS, 0))
            self.figure.legend(
                list(self.entries.values()), list(self.entries), loc="outside lower center", ncols=columns,
                prop={"family": families("".join(self.entries)), "size": 9.5}, frameon=False, labelcolor=INK,
                handletextpad=0.5, columnspacing=1.3, handlelength=1.5,
            )  # fmt: skip
        return Plot(self.name, title, caption, f"{title}. {alt}", self.figure, self.tips)


def legend_columns(names: Sequence[str], most: int) -> int:
    """Return in how many columns a legend fits below the axes, filled column by column; at least 1."""
    widths = [text_columns(name) + LEGEND_HANDLE for name in names]
    fitting = (
        n
        for n in range(min(most, len(names)), 1, -1)
        if sum(max(own, default=0) for own in np.array_split(widths, n)) <= LEGEND_LINE
    )
    return next(fitting, 1)


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


def quantity_axis(axis_name: str, axes: Axes, quantity: str, values: Sequence[float], pad: float = 0.07) -> None:
    """Make one axis logarithmic around `values` (all > 0), with a margin of `pad` of its length at each end."""
    label, text = QUANTITY.get(quantity, (quantity, plain))
    narrowest = NARROWEST if text is plain else NARROWEST_CELLS
    logs = np.log10(np.array(values, dtype=float))
    low, high = float(logs.min()), float(logs.max())
    if high - low < narrowest:  # one value: give it room
        low, high = low - 0.15, high + 0.15
    margin = pad * (high - low)
    limits = 10 ** (low - margin), 10 ** (high + margin)
    axis = axes.xaxis if axis_name == "x" else axes.yaxis
    # The limits first: a change of scale would look for limits of its own, and warn where there is only one value.
    (axes.set_xlim if axis_name == "x" else axes.set_ylim)(*limits)
    (axes.set_xscale if axis_name == "x" else axes.set_yscale)("log")
    ticks, labels = _log_labels(*limits, text, is_wide=axis_name == "x")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, labels=labels)
    axis.set_label_text(label, color=INK, fontsize=10)


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
    axes.set_ylabel(label, color=INK, fontsize=10)


def exponent_axis(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make the horizontal axis hold all exponents, and their intervals as far as they are not far wider."""
    values = [row["exponent"] for row in rows]
    room = max(max(values) - min(values), 0.1 * max(map(abs, values)), 1e-6)
    low = min([min(values), *(row["low"] for row in rows if numbers.known(row.get("low")))])
    high = max([max(values), *(row["high"] for row in rows if numbers.known(row.get("high")))])
    axes.set_xlim(max(low, min(values) - room) - 0.05 * room, min(high, max(values) + room) + 0.05 * room)
    axes.set_xlabel("exponent against compute", color=INK, fontsize=10)


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
