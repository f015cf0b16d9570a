"""Labels beside what they name in a figure, where they fit: on nothing else that is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties

from playscale.report.axes import TEXT, families
from playscale.report.palette import INK

INKED = 175  # a pixel darker than this in some channel is drawn on; bands and the grid are not
AWAY, SLANTED = 8.0, 5.0  # points from what is labelled: to a side, and to both of a corner
MOST_ANCHORS = 60  # places that a label is tried at
MARGIN = 1.0  # points around a label that are free too

Place = tuple[float, float]


class Side(NamedTuple):
    """Where a label stands beside its place: so many points away, with this alignment."""

    dx: float
    dy: float
    ha: Literal["left", "center", "right"]
    va: Literal["bottom", "center", "top"]


RIGHT, LEFT = Side(AWAY, 0, "left", "center"), Side(-AWAY, 0, "right", "center")
SIDES = (
    RIGHT, LEFT,
    Side(SLANTED, SLANTED, "left", "bottom"), Side(SLANTED, -SLANTED, "left", "top"),
    Side(-SLANTED, SLANTED, "right", "bottom"), Side(-SLANTED, -SLANTED, "right", "top"),
    Side(0, AWAY, "center", "bottom"), Side(0, -AWAY, "center", "top"),
)  # fmt: skip
SHARE = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}  # of a text, left of or below its place


@dataclass(frozen=True)
class Label:
    """A text for one of several places (data coordinates). Labels of one group are all drawn, or none of them.

    at_ends: only beside the right end or the left one of the places, as names of curves are.
    spread: points by which what is drawn at a place may lie to its sides.
    """

    text: str
    anchors: Sequence[Place]
    group: str
    at_ends: bool = False
    spread: float = 0.0


def place_labels(axes: Axes, labels: Sequence[Label]) -> list[str]:
    """Draw the labels that fit inside the axes; return their texts. The figure must be complete but for them."""
    groups: dict[str, list[Label]] = {}
    for label in labels:
        groups.setdefault(label.group, []).append(label)
    if not groups:
        return []
    paper, placed = _Paper(axes), []
    for group in groups.values():
        before = paper.drawn.copy()
        found = [paper.find(label) for label in group]
        if None in found:
            paper.drawn = before
            continue
        for label, where in zip(group, found, strict=True):
            assert where is not None
            anchor, side = where
            axes.annotate(
                label.text, anchor, (side.dx, side.dy), textcoords="offset points", color=INK, fontsize=TEXT,
                fontfamily=families(label.text), ha=side.ha, va=side.va, zorder=6,
            )  # fmt: skip
            placed.append(label.text)
    return placed


class _Paper:
    """The figure as pixels: where something is drawn, and the boxes of labels found so far."""

    def __init__(self, axes: Axes) -> None:
        figure = axes.get_figure(root=True)
        assert figure is not None
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.axes, self.renderer, self.scale = axes, canvas.get_renderer(), figure.dpi / 72
        rgba = np.asarray(canvas.buffer_rgba())[::-1].astype(float)  # from the lower edge, as coordinates are
        alpha = rgba[..., 3:] / 255
        self.drawn = (rgba[..., :3] * alpha + 255 * (1 - alpha)).min(axis=2) < INKED

    def find(self, label: Label) -> tuple[Place, Side] | None:
        """Find an anchor and a side of it where the label is free, and take that room; None without one."""
        font = FontProperties(family=families(label.text), size=TEXT)
        width, height, _ = self.renderer.get_text_width_height_descent(label.text, font, False)
        pixels = self.axes.transData.transform(np.array(label.anchors, dtype=float).reshape(-1, 2))
        inside = self.axes.get_window_extent()
        margin = MARGIN * self.scale
        for i, side in _tries(pixels, label):
            x, y = pixels[i] + self.scale * np.array([side.dx, side.dy])
            left, low = x - width * SHARE[side.ha], y - height * SHARE[side.va]
            box = np.array([left - margin, left + width + margin, low - margin, low + height + margin])
            if box[0] < inside.x0 or box[1] > inside.x1 or box[2] < inside.y0 or box[3] > inside.y1:
                continue
            x0, x1, y0, y1 = np.round(box).astype(int)
            if not self.drawn[y0:y1, x0:x1].any():
                self.drawn[y0:y1, x0:x1] = True
                return label.anchors[i], side
        return None


def _tries(pixels: np.ndarray, label: Label) -> Iterator[tuple[int, Side]]:
    """Yield an anchor's index and a side of it: the right end first, then the left one, then from right to left."""
    order = np.argsort(-pixels[:, 0], kind="stable").tolist()
    yield order[0], RIGHT._replace(dx=AWAY + label.spread)
    yield order[-1], LEFT._replace(dx=-AWAY - label.spread)
    for i in [] if label.at_ends else order[:: max(1, len(order) // MOST_ANCHORS)]:
        for side in SIDES:
            yield i, side
