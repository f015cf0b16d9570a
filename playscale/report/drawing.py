"""One figure being drawn: its axes, its legend, and the text shown over each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from playscale.points import Point
from playscale.report.axes import new_axes
from playscale.report.evidence import Evidence, describe
from playscale.report.palette import FAINT, INK


@dataclass(frozen=True)
class Plot:
    """A finished figure. title: what is to be learned; alt: the same for who cannot see it; tips: {artist's gid: text}."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    tips: dict[str, str]


class Drawing:
    """Collects points with their tooltips and a legend below the axes."""

    def __init__(self, name: str, evidence: Evidence, target: str) -> None:
        self.name = name
        self.target = target
        self.evidence = evidence
        self.figure, self.axes = new_axes()
        self.tips: dict[str, str] = {}
        self.entries: dict[str, Line2D] = {}

    def mark(self, x: float, y: float, tip: str, *, label: str | None = None, **style: Any) -> None:
        """One marker. The first with a label is what the legend shows for it."""
        gid = f"{self.name}-tip-{len(self.tips)}"
        style = {"marker": "o", "markersize": 6, "markeredgewidth": 1.2, "linestyle": "none"} | style
        (line,) = self.axes.plot([x], [y], gid=gid, **style)
        self.tips[gid] = tip
        if label:
            self.entries.setdefault(label, line)

    def line(self, x: Sequence[float], y: Sequence[float], *, label: str | None = None, **style: Any) -> None:
        (line,) = self.axes.plot(x, y, **({"linewidth": 1.6} | style))
        if label:
            self.entries.setdefault(label, line)

    def error(self, x: float, low: float, high: float, colour: str) -> None:
        """A 95 % interval; its lower end may be below what a log axis can show."""
        self.axes.plot([x, x], [max(low, high * 1e-6), high], color=colour, linewidth=1.1, zorder=1.5)

    def point(
        self,
        point: Point,
        x: float,
        y: float,
        *,
        error: float | None,
        colour: str,
        size: float = 6,
        label: str | None = None,
    ) -> None:
        """A measured point with its 95 % interval: filled if fitted, a diamond if held out, hollow and grey if left out."""
        reason = self.evidence.reason_excluded(point, self.target)
        if reason is not None:
            self.mark(
                x,
                y,
                describe(point, reason),
                color=FAINT,
                markerfacecolor="none",
                zorder=2,
                label="left out of the fit",
            )
            return
        if error:
            self.error(x, y - 1.96 * error, y + 1.96 * error, colour)
        if point.held_out:
            self.mark(x, y, describe(point), marker="D", color=colour, markersize=size, label=label or "held out")
        else:
            self.mark(x, y, describe(point), color=colour, markersize=size, label=label)

    def finish(self, title: str, caption: str, alt: str, columns: int = 3) -> Plot:
        """Put the legend below the axes and hand the figure out."""
        if self.entries:
            self.figure.legend(
                list(self.entries.values()), list(self.entries), loc="outside lower center", ncols=columns,
                frameon=False, fontsize=9, labelcolor=INK, handletextpad=0.5, columnspacing=1.4, handlelength=1.6,
            )  # fmt: skip
        return Plot(self.name, title, caption, alt, self.figure, self.tips)
