"""A figure under construction: marks with tooltips, lines and bands; labels beside them, or a legend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Transform, offset_copy

from playscale.points import Point
from playscale.report.axes import HEIGHT, QUANTITY, TEXT, families, linear_axis, new_axes, quantity_axis
from playscale.report.direct_labels import Label, Place, place_labels
from playscale.report.evidence import Evidence, describe, error_of, off_axis_tip, offset_of
from playscale.report.palette import FAINT, INK, SOFT, budget_colours
from playscale.report.series import Number, csv_text
from playscale.report.text import text_columns
from playscale.scaling import numbers

DASHED = (0, (4, 3))
DOTTED = (0, (1, 2))
BAND = 0.16  # opacity of the band of an interval
MANY_POINTS = 80  # with more than this, markers are smaller
EDGE = 0.022  # of the axis's length: where what a logarithmic axis cannot show is marked
SAME_PLACE = 1.02  # marks at the edge closer than this are one
FAR = 10.0  # largest factor by which an interval widens the axis beyond its value
NEAR_ENOUGH = 1.5  # the same on a linear axis
FEW_BUDGETS = 9  # with more than this, every second or third is named
LEGEND_LINE, LEGEND_HANDLE = 55, 6  # columns of text that a line of the legend holds, and that a handle takes
LEGEND_ROW, LEGEND_ROWS = 0.22, 3  # inches of a row, and rows that the figure has room for as it is
ROOM = 0.12  # of the axis's length, for labels beside the right ends of lines


@dataclass(frozen=True)
class Plot:
    """A finished figure. title: its message; alt: the figure in words; tips: {artist's gid: text}; numbers: drawn."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    tips: dict[str, str]
    numbers: tuple[Number, ...]

    @property
    def csv(self) -> str:
        """Return the numbers as CSV, under the labels of the axes."""
        (axes,) = self.figure.axes
        return csv_text(self.numbers, axes.get_xlabel(), axes.get_ylabel())


class Drawing:
    """Collect points with their tooltips, names of series, numbers, and how far the axes must reach."""

    def __init__(self, name: str, evidence: Evidence, target: str = "") -> None:
        """Begin a figure whose vertical axis is of `target`, linear where its values are counted from an offset."""
        self.name = name
        self.offset = offset_of(evidence.fit, target)
        self.linear = evidence.linear(target)
        self.evidence = evidence
        self.figure, self.axes = new_axes()
        self.tips: dict[str, str] = {}
        self.entries: dict[str, Line2D] = {}
        self.anchors: dict[str, list[Place]] = {}
        self.groups: dict[str, str] = {}
        self.placed: list[Text] = []
        self.spread = 0.0
        self.without_room: tuple[float, float] | None = None
        self.notes: list[Label] = []
        self.numbers: list[Number] = []
        self.seen: list[tuple[float, float]] = []
        self.off_axis: list[tuple[float, Point]] = []

    def mark(
        self, x: float, y: float, tip: str, *, label: str | None = None, series: str = "",
        interval: tuple[float, float] | None = None, across: bool = False, shift: float = 0.0, **style: Any,
    ) -> None:  # fmt: skip
        """Draw a marker at (x, y), both > 0, and its interval.

        Args:
            x: its place.
            y: its place.
            tip: shown on hover.
            label: the name that it has in the figure.
            series: the name that it has in the table of numbers, by default the label.
            interval: low and high, of y.
            across: the interval is of x.
            shift: points to the right of its place where it is drawn, so that bars do not cover each other.
            style: of the marker.
        """
        look: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgewidth": 1.2, "linestyle": "none"}
        own = "transform" in style
        if shift:
            style["transform"] = self.beside(shift)
            self.spread = max(self.spread, abs(shift))
        (line,) = self.axes.plot([x], [y], gid=self._tip(tip), **(look | style))
        if interval is not None:
            self._interval(y if across else x, *interval, across, style)
        if not own:
            self.see(x, y)
            low, high = interval or (None, None)
            self.numbers.append(Number(series or label or "", x, y, low, high, tip))
        for name in {label, series} - {None}:
            self.anchors.setdefault(str(name), []).append((x, y))
        if label:
            self.entries.setdefault(label, line)

    def beside(self, points: float) -> Transform:
        """Return the transform of marks that are drawn so many points to the right of their place."""
        return offset_copy(self.axes.transData, self.figure, x=points, units="points")

    def line(self, x: Sequence[float], y: Sequence[float], *, label: str | None = None, series: str = "",
             **style: Any) -> None:  # fmt: skip
        (line,) = self.axes.plot(x, y, **({"linewidth": 1.6} | style))
        places = list(zip(map(float, x), map(float, y), strict=True))
        self.numbers += [Number(series or label or "line", *place) for place in places]
        if label:
            self.entries.setdefault(label, line)
            self.anchors.setdefault(label, []).extend(places)

    def band(self, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, series: str) -> None:
        """Draw the 95% band of a series."""
        self.axes.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0)
        ends = zip(x, low, high, strict=True)
        self.numbers += [Number(f"{series}, 95% band", float(c), None, float(a), float(b)) for c, a, b in ends]

    def note(self, text: str, x: float, y: float) -> None:
        """Write a text beside a place, where there is room."""
        self.notes.append(Label(text, [(x, y)], f"note {len(self.notes)}"))

    def hover(self, x: Sequence[float], y: Sequence[float], tip: str) -> None:
        """Show a text over a line, by an invisible one wide enough to hover over."""
        self.axes.plot(x, y, gid=self._tip(tip), color=SOFT, linewidth=9, alpha=0, zorder=1.2)

    def _tip(self, text: str) -> str:
        gid = f"{self.name}-tip-{len(self.tips)}"
        self.tips[gid] = text
        return gid

    def _interval(self, at: float, low: float, high: float, across: bool, style: Mapping[str, Any]) -> None:
        """Draw the bar of a marker; its lower end may be below what a log axis can show."""
        look: dict[str, Any] = {"color": style.get("color"), "linewidth": 1.1, "zorder": 1.5}
        look |= {name: style[name] for name in ("transform",) if name in style}
        if across:
            self.axes.plot([low, high], [at, at], **look)
        elif self.linear:
            self.axes.plot([at, at], [low, high], **look)
        elif high > 0:
            self.axes.plot([at, at], [max(low, high * 1e-6), high], **look)

    def point(
        self, point: Point, x: float, y: float, target: str, *, colour: str, size: float = 6, label: str | None = None,
        series: str = "", shift: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw a point with its 95% interval: filled if fitted, a diamond if held out, hollow grey if left out."""
        size = size if len(self.evidence.points) < MANY_POINTS else 0.7 * size
        style: dict[str, Any]
        reason = self.evidence.reason_excluded(point, target)
        tip = describe(point, reason, self.evidence.loss_digits)
        if reason is not None:
            style = {"color": FAINT, "markerfacecolor": "none", "markersize": size, "zorder": 2}
            self.mark(x, y, tip, label="left out of the fit", shift=shift, **style)
            return
        error = error_of(point, target)
        ends = (y - 1.96 * error, y + 1.96 * error) if error and size >= 4 else None
        style = {"marker": "D", "zorder": 2.5} if point.held_out else {}
        style |= {"label": label or ("held out" if point.held_out else None), "series": series}
        self.mark(x, y, tip, color=colour, markersize=size, interval=ends, shift=shift, **style)

    def seeds(
        self, target: str, x: str, colour: Callable[[Point], str], shift: Callable[[Point], float] = lambda _: 0.0
    ) -> None:
        """Draw the single runs behind the means as small dots; x: a column of the points table."""
        for point in self.evidence.repeats:
            value, place = getattr(point, target), getattr(point, x)
            if self.shows(value) and numbers.positive(place):
                tip = f"seed {point.seed}\n{describe(point, None, self.evidence.loss_digits)}"
                style: dict[str, Any] = {"markersize": 3, "markeredgewidth": 0, "alpha": 0.75, "zorder": 1.7}
                self.mark(place, value, tip, label="single seeds", color=colour(point), shift=shift(point), **style)

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
        style: dict[str, Any] = {
            "marker": "v",
            "markersize": 6,
            "color": FAINT,
            "markerfacecolor": "none",
            "clip_on": False,
        }
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
        """Name the colours of the budgets; return the colours."""
        budgets = self.evidence.budgets
        colours = [light for light, _ in budget_colours(len(budgets))]
        step = -(-len(budgets) // FEW_BUDGETS)
        for i, budget in enumerate(budgets):
            if (len(budgets) - 1 - i) % step == 0:
                self.line([], [], color=colours[i], marker="o", markersize=5, label=numbers.budget(budget))
                self.groups[numbers.budget(budget)] = "budgets"
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

    def scale(self, x: str, y: str, room: float = 0.0) -> None:
        """Make the axes logarithmic for two quantities (linear for returns from an offset), wide enough for all.

        room: share of the horizontal axis that is added at its right end, for names of budgets; without them it goes.
        """
        places = [x for x, _ in self.seen] + [x for x, _ in self.off_axis]
        x, y = ("loss" if name == "dev_loss" and self.evidence.anonymous else name for name in (x, y))
        quantity_axis("x", self.axes, x, places)
        if room:
            self.without_room = self.axes.get_xlim()
            quantity_axis("x", self.axes, x, places, room=room)
        if self.linear:
            linear_axis(self.axes, QUANTITY[y][0], [y for _, y in self.seen])
        else:
            quantity_axis("y", self.axes, y, [y for _, y in self.seen])
        self._mark_off_axis()

    def finish(self, title: str, caption: str, alt: str, columns: int = 3) -> Plot:
        """Name the series beside them where that fits, else in a legend of up to so many columns; return the figure.

        The legend of all of them is drawn while labels are placed: the axes are no smaller without it.
        """
        self._legend(self.entries, columns)
        drawn = self._place(self.entries)
        if self.without_room is not None and self.groups and not drawn & set(self.groups):
            for text in self.placed:
                text.remove()
            self.axes.set_xlim(self.without_room)
            drawn = self._place([name for name in self.entries if name not in self.groups])
        for legend in [*self.figure.legends]:
            legend.remove()
        self._legend({name: line for name, line in self.entries.items() if name not in drawn}, columns)
        return Plot(self.name, title, caption, f"{title}. {alt}", self.figure, self.tips, tuple(self.numbers))

    def _place(self, names: Iterable[str]) -> set[str]:
        """Write names beside what they name, and notes, where there is room; return the texts written."""
        labels = [
            Label(name, self.anchors.get(name, []), self.groups.get(name, name), name in self.groups, self.spread)
            for name in names
        ]
        before = [*self.axes.texts]
        drawn = place_labels(self.axes, [label for label in [*self.notes, *labels] if len(label.anchors)])
        self.placed = [text for text in self.axes.texts if text not in before]
        return set(drawn)

    def _legend(self, entries: Mapping[str, Line2D], most: int) -> None:
        if not entries:
            return
        columns = legend_columns([*entries], most)
        rows = -(-len(entries) // columns)
        self.figure.set_figheight(max(self.figure.get_figheight(), HEIGHT + LEGEND_ROW * max(rows - LEGEND_ROWS, 0)))
        self.figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=columns,
            prop={"family": families("".join(entries)), "size": TEXT}, frameon=False, labelcolor=INK,
            handletextpad=0.5, columnspacing=1.3, handlelength=1.5,
        )  # fmt: skip


def legend_columns(names: Sequence[str], most: int) -> int:
    """Return in how many columns a legend fits below the axes, filled column by column; at least 1."""
    widths = [text_columns(name) + LEGEND_HANDLE for name in names]
    fitting = (
        n
        for n in range(min(most, len(names)), 1, -1)
        if sum(max(own, default=0) for own in np.array_split(widths, n)) <= LEGEND_LINE
    )
    return next(fitting, 1)
