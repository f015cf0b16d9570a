"""Learning curves: return in training against interactions, each seed thin, the mean of a size bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from playscale.points import Point
from playscale.report.drawing import Drawing, Plot
from playscale.report.evidence import Evidence
from playscale.report.palette import Look, size_colours
from playscale.report.text import few_numbers
from playscale.scaling import numbers

Curves = Mapping[str, Sequence[Mapping[str, float]]]
GRID = 200  # points of a mean curve
CAPTION = (
    "Mean score of the last 100 episodes of training, which the running policy played. Thin: a seed; bold: the mean of"
    " the seeds."
)


def sizes_of(evidence: Evidence) -> list[str]:
    """Return the sizes, small to large."""
    params = {point.size: point.params for point in evidence.runs}
    return sorted(params, key=params.__getitem__)


def learning_curves(evidence: Evidence, curves: Curves) -> Plot | None:
    """Draw one method's curves, a colour a size; None where no curve was kept."""
    drawing = Drawing("learning_curves", evidence)
    sizes = sizes_of(evidence)
    finals: dict[str, float] = {}
    for size, (colour, _) in zip(sizes, size_colours(len(sizes)), strict=True):
        end = _curve(drawing, _runs(evidence, size), curves, colour, size)
        if end is not None:
            finals[size] = end
    if not drawing.seen:
        return None
    drawing.scale("interactions", "train_return")
    best = max(finals, key=finals.__getitem__)
    title = f"In training, the {best} model reaches the highest return, {numbers.number(finals[best])}"
    return drawing.finish(title, CAPTION, "Return in training against interactions, by size.", 4)


def compared_curves(evidences: Mapping[str, Evidence], curves: Curves, look: Mapping[str, Look]) -> Plot | None:
    """Draw the curves of several methods, of the largest size that all of them have."""
    played = {method: evidence for method, evidence in evidences.items() if evidence.played}
    if len(played) < 2:
        return None
    first = next(iter(played.values()))
    common = [size for size in sizes_of(first) if all(size in sizes_of(evidence) for evidence in played.values())]
    if not common:
        return None
    drawing = Drawing("learning_compared", first)
    finals = {
        method: _curve(drawing, _runs(evidence, common[-1]), curves, look[method].colour, look[method].label)
        for method, evidence in played.items()
    }
    ends = {method: end for method, end in finals.items() if end is not None}
    if not drawing.seen or not ends:
        return None
    drawing.scale("interactions", "train_return")
    returns = few_numbers(dict(sorted(ends.items(), key=lambda pair: -pair[1])))
    title = f"Return at the end of training, {common[-1]} parameters: {returns}"
    return drawing.finish(title, CAPTION, "Return in training against interactions, by method.", 3)


def _runs(evidence: Evidence, size: str) -> list[str]:
    runs: dict[str, Point] = {point.run: point for point in evidence.runs if point.size == size and point.run}
    return sorted(runs)


def _curve(drawing: Drawing, runs: Sequence[str], curves: Curves, colour: str, label: str) -> float | None:
    """Draw the seeds and their mean; return the mean's last value, None where nothing was measured."""
    seeds = []
    for run in runs:
        rows = [row for row in curves.get(run, []) if row.get("train_return", 0) > 0 and row.get("interactions", 0) > 0]
        x, y = ([row[name] for row in rows] for name in ("interactions", "train_return"))
        if len(rows) < 2:
            continue
        seeds.append((np.array(x), np.array(y)))
        for ends in zip(x, y, strict=True):
            drawing.see(*ends)
        drawing.line(x, y, color=colour, linewidth=0.7, alpha=0.6, series=run, label=None if len(runs) > 1 else label)
        drawing.hover(x, y, f"{run}: {numbers.number(y[-1])} after {numbers.count(x[-1])} interactions")
    if not seeds:
        return None
    low, high = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    if high <= low:
        return None
    grid = np.geomspace(low, high, GRID)
    mean = np.mean([np.interp(grid, x, y) for x, y in seeds], axis=0)
    drawing.line(grid.tolist(), mean.tolist(), color=colour, linewidth=2.2, label=label)
    return float(mean[-1])
