"""The isoFLOP curves: at one compute budget, loss or return against model size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playscale.report import numbers
from playscale.report.drawing import DASHED, DOTTED, Drawing, Plot
from playscale.report.evidence import NAMES, Evidence
from playscale.report.palette import FAINT, INK


def isoflop(evidence: Evidence, target: str) -> Plot | None:
    """`target` against model size, a curve a budget; None when nothing was measured."""
    measured = evidence.measured(target)
    if not measured:
        return None
    drawing = Drawing(f"isoflop_{target}", evidence)
    colours = drawing.budget_legend()
    profiles = [row for row in evidence.rows("profiles", target=target) if numbers.known(row.get("flops"))]
    for profile in profiles:
        _parabola(drawing, profile, colours[evidence.budget_index(profile["flops"])])
    held_out = evidence.measured(target, held_out=True)
    for budget in evidence.held_out_budgets:
        cells = sorted((point.params, value) for point, value in held_out if evidence.same_budget(point.flops, budget))
        colour = colours[evidence.budget_index(budget)]
        drawing.line([x for x, _ in cells], [y for _, y in cells], color=colour, linestyle=DASHED, linewidth=1.1)
    for point, value in measured:
        colour = colours[evidence.budget_index(point.flops)]
        drawing.point(point, point.params, value, target, colour=colour)
    drawing.seeds(target, "params", lambda point: colours[evidence.budget_index(point.flops)])
    for profile in profiles:
        _vertex(drawing, profile, target)
    off = evidence.not_positive(target)
    for point in off:
        drawing.off_the_axis(point, point.params)
    drawing.scale("params", target)
    caption = "Each colour is one compute budget (FLOPs), spent on small models (left) or large ones (right)."
    if any(profile.get("excluded") for profile in profiles):
        caption += " Dotted, ringed: the parabola has no optimum among the sizes trained; hover for why."
    if held_out:
        caption += " Dashed: held out."
    if off:
        caption += " At the lower edge: returns of 0 or less, which have no logarithm and are left out."
    return drawing.finish(_title(evidence, target), caption, f"{NAMES[target]} against model size, by budget.", 4)


def _parabola(drawing: Drawing, profile: Mapping[str, Any], colour: str) -> None:
    """log10 y = a x^2 + b x + c with x = log10 N, over the sizes it was fitted to."""
    if not all(numbers.known(profile.get(name)) for name in ("a", "b", "c", "low", "high")):
        return
    x = np.linspace(np.log10(profile["low"]), np.log10(profile["high"]), 60)
    y = profile["a"] * x**2 + profile["b"] * x + profile["c"]
    style = DOTTED if profile.get("excluded") else "-"
    drawing.line(list(10**x), list(10**y), color=colour, zorder=1.8, linestyle=style)
    if profile.get("excluded"):
        drawing.hover(list(10**x), list(10**y), _no_vertex(profile))


def _no_vertex(profile: Mapping[str, Any]) -> str:
    return f"no optimum at {numbers.budget(profile['flops'])} FLOPs:\n{profile['excluded']}"


def _vertex(drawing: Drawing, profile: Mapping[str, Any], target: str) -> None:
    """A cross at the best size; a ring around the best cell of a budget without one."""
    params, value = profile.get("vertex_params"), profile.get("vertex_value")
    best, measured = profile.get("argmin_params"), profile.get("argmin_value")
    if profile.get("excluded") and numbers.positive(best) and numbers.positive(measured):
        ring = {"marker": "o", "markersize": 10.5, "color": FAINT, "markerfacecolor": "none", "zorder": 1.9}
        drawing.mark(best, measured, _no_vertex(profile), label="no optimum", **ring)
    if profile.get("excluded") or not numbers.positive(params) or not numbers.positive(value):
        return
    tip = (
        f"best at {numbers.budget(profile['flops'])} FLOPs:\n{numbers.count(params)} parameters, "
        f"{NAMES[target]} {numbers.number(value)}\n(vertex of the parabola)"
    )
    style = {"marker": "X", "markersize": 7.5, "markeredgewidth": 0, "color": INK, "zorder": 4}
    drawing.mark(params, value, tip, label="best size", **style)


def _title(evidence: Evidence, target: str) -> str:
    best = [point for point, _ in evidence.best(target, held_out=False)]
    what = "Lowest dev loss" if target == "dev_loss" else "Highest return"
    if not best:
        return f"{NAMES[target].capitalize()} against model size at each budget"
    first, last = best[0], best[-1]
    sizes = f"{numbers.count(first.params)} parameters at {numbers.budget(first.flops)} FLOPs"
    if len(best) > 1:
        sizes += f", {numbers.count(last.params)} at {numbers.budget(last.flops)}"
    return f"{what}: {sizes}"
