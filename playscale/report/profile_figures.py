"""The isoFLOP curves of loss or return against model size, and the optima against compute with their power laws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playscale.report.drawing import DASHED, DOTTED, Drawing, Plot
from playscale.report.evidence import NAMES, TARGETS, Evidence, describe, law_at, offset_of
from playscale.report.palette import FAINT, INK, TARGET_COLOUR
from playscale.scaling import numbers

UNCHANGED = 0.005  # an exponent nearer to 0 is no change: 7 % in six decades of compute
MARKER = {"dev_loss": "o", "return_mean": "s"}
EDGES = {"below": ("<", -8.0), "above": (">", 8.0)}  # marker, and how far beside the best cell in points
HELD_OUT_SIZE = {"dev_loss": 7.5, "return_mean": 5.0}  # the smaller shows on top of the larger where they agree


def isoflop(evidence: Evidence, target: str) -> Plot | None:
    """Draw `target` against model size, a curve a budget; None when nothing was measured."""
    measured = evidence.measured(target)
    if not measured:
        return None
    drawing = Drawing(f"isoflop_{target}", evidence, target)
    colours = drawing.budget_legend()
    profiles = [row for row in evidence.rows("profiles", target=target) if numbers.known(row.get("flops"))]
    for profile in profiles:
        _parabola(drawing, profile, colours[evidence.budget_index(profile["flops"])], target)
    held_out = evidence.measured(target, held_out=True)
    for budget in evidence.held_out_budgets:
        cells = sorted((point.params, value) for point, value in held_out if evidence.same_budget(point.flops, budget))
        colour = colours[evidence.budget_index(budget)]
        drawing.line([x for x, _ in cells], [y for _, y in cells], color=colour, linestyle=DASHED, linewidth=1.1)
    for point, value in measured:
        colour = colours[evidence.budget_index(point.flops)]
        drawing.point(point, point.params, value, target, colour=colour)
    drawing.seeds(target, "params", lambda point: colours[evidence.budget_index(point.flops)])
    profiles = [profile for profile in profiles if not evidence.flat(target, profile["flops"])]
    for profile in profiles:
        _vertex(drawing, profile, target)
        _edge(drawing, profile)
    off = evidence.not_positive(target)
    for point in off:
        drawing.off_the_axis(point, point.params)
    drawing.scale("params", target)
    caption = "Each colour is one compute budget (FLOPs), spent on small models (left) or large ones (right)."
    if any(profile.get("edge") in EDGES for profile in profiles):
        caption += " Triangles: the best is the last size trained, so the true best may lie beyond it."
    if any(profile.get("excluded") for profile in profiles):
        caption += " Dotted, ringed: the parabola has no optimum among the sizes trained; hover for why."
    if held_out:
        caption += " Dashed: held out."
    if off:
        caption += " At the lower edge: returns of 0 or less, which have no logarithm and are left out."
    return drawing.finish(
        _isoflop_title(evidence, target), caption, f"{NAMES[target]} against model size, by budget.", 4
    )


def _parabola(drawing: Drawing, profile: Mapping[str, Any], colour: str, target: str) -> None:
    """Draw log10(y - offset) = a x^2 + b x + c with x = log10 N, over the sizes it was fitted to."""
    if not all(numbers.known(profile.get(name)) for name in ("a", "b", "c", "low", "high")):
        return
    x = np.linspace(np.log10(profile["low"]), np.log10(profile["high"]), 60)
    y = offset_of(drawing.evidence.fit, target) + 10 ** (profile["a"] * x**2 + profile["b"] * x + profile["c"])
    style = DOTTED if profile.get("excluded") else "-"
    drawing.line(list(10**x), list(y), color=colour, zorder=1.8, linestyle=style)
    if profile.get("excluded"):
        drawing.hover(list(10**x), list(y), _no_vertex(profile))


def _no_vertex(profile: Mapping[str, Any]) -> str:
    return f"no optimum at {numbers.budget(profile['flops'])} FLOPs:\n{profile['excluded']}"


def _vertex(drawing: Drawing, profile: Mapping[str, Any], target: str) -> None:
    """Mark the best size with a cross; the best cell of a budget without one with a ring."""
    params, value = profile.get("vertex_params"), profile.get("vertex_value")
    best, measured = profile.get("argmin_params"), profile.get("argmin_value")
    if profile.get("excluded") and numbers.positive(best) and drawing.shows(measured):
        ring = {"marker": "o", "markersize": 10.5, "color": FAINT, "markerfacecolor": "none", "zorder": 1.9}
        drawing.mark(best, measured, _no_vertex(profile), label="no optimum", **ring)
    if profile.get("excluded") or not numbers.positive(params) or not drawing.shows(value):
        return
    tip = (
        f"best at {numbers.budget(profile['flops'])} FLOPs:\n{numbers.count(params)} parameters, "
        f"{NAMES[target]} {numbers.number(value)}\n(vertex of the parabola)"
    )
    style = {"marker": "X", "markersize": 7.5, "markeredgewidth": 0, "color": INK, "zorder": 4}
    drawing.mark(params, value, tip, label="best size", **style)


def _edge(drawing: Drawing, profile: Mapping[str, Any]) -> None:
    """Point, with a triangle, to where the best size may lie beyond the last size trained."""
    side, params, value = (profile.get(name) for name in ("edge", "argmin_params", "argmin_value"))
    if side not in EDGES or (profile.get("cells") or 2) < 2 or not drawing.shows(value) or not numbers.positive(params):
        return
    last = {"above": "largest", "below": "smallest"}[side]
    tip = f"the best at {numbers.budget(profile['flops'])} FLOPs is the {last} size trained:\na bound, no optimum"
    marker, offset = EDGES[side]
    style = {"marker": marker, "markersize": 5.5, "markeredgewidth": 0, "color": INK, "zorder": 4}
    drawing.mark(params, value, tip, label="last size", transform=drawing.beside(offset), **style)


def _isoflop_title(evidence: Evidence, target: str) -> str:
    best = [p for p, _ in evidence.best(target, held_out=False) if not evidence.flat(target, p.flops)]
    what = "Lowest dev loss" if target == "dev_loss" else "Highest return"
    if not best:
        return f"{NAMES[target].capitalize()} against model size at each budget"
    first, last = best[0], best[-1]
    sizes = f"{numbers.count(first.params)} parameters at {numbers.budget(evidence.budget_of(first))} FLOPs"
    if len(best) > 1:
        sizes += f", {numbers.count(last.params)} at {numbers.budget(evidence.budget_of(last))}"
    return f"{what}: {sizes}"


def optimum(evidence: Evidence, quantity: str) -> Plot | None:
    """Draw the best `quantity` (params or samples) against compute, for the loss and for the return."""
    drawing = Drawing(f"optimal_{quantity}", evidence)
    for target in TARGETS:
        for profile in evidence.rows("profiles", target=target):
            _optimum(drawing, profile, target, quantity)
        _held_out(drawing, target, quantity)
    if not drawing.seen:
        return None
    for target in TARGETS:
        for row in evidence.forecasts(target):
            _forecast(drawing, row, target, quantity)
    budgets = [flops for flops, _ in drawing.seen]
    for target in TARGETS:
        _line(drawing, target, quantity, min(budgets), max(budgets))
    drawing.scale("flops", evidence.noun if quantity == "samples" else quantity)
    caption = (
        "Each point is the best of one budget: the vertex of its parabola, else the best cell. Lines: C to the power a."
    )
    alt = f"Best {NAMES[quantity]} against training compute."
    return drawing.finish(_optimum_title(evidence, quantity), caption, alt, 2)


def _optimum(drawing: Drawing, profile: Mapping[str, Any], target: str, quantity: str) -> None:
    """Mark the vertex, or the best cell: filled when the law is fitted to it, hollow when not."""
    law = drawing.evidence.power_law(target, quantity) or {}
    vertex, reason, flops = profile.get("vertex_" + quantity), profile.get("excluded"), profile.get("flops")
    at_vertex = law.get("at") != "argmin" and numbers.positive(vertex) and not reason
    value = vertex if at_vertex else profile.get("argmin_" + quantity)
    if not numbers.positive(flops) or not numbers.positive(value):
        return
    how = "vertex of the parabola" if at_vertex else "best cell measured"
    tip = f"best {NAMES[target]} at {numbers.budget(flops)} FLOPs:\n{numbers.count(value)} {NAMES[quantity]} ({how})"
    style: dict[str, Any] = {"color": TARGET_COLOUR[target], "marker": MARKER[target]}
    label = None
    if law.get("at") == "vertex" and not at_vertex:
        style |= {"color": FAINT, "markerfacecolor": "none"}
        label = "no vertex, not fitted"
        tip += f"\nno vertex: {reason}" if reason else ""
    drawing.mark(flops, value, tip, label=label, **style)


def _held_out(drawing: Drawing, target: str, quantity: str) -> None:
    """Mark the best cell of each held-out budget."""
    for point, _ in drawing.evidence.best(target, held_out=True):
        style = {"marker": "D", "markersize": HELD_OUT_SIZE[target], "color": TARGET_COLOUR[target], "zorder": 3}
        tip = f"best {NAMES[target]}\n{describe(point, None, drawing.evidence.loss_digits)}"
        drawing.mark(point.flops, getattr(point, quantity), tip, label="held out, best cell", **style)


def _forecast(drawing: Drawing, row: Mapping[str, Any], target: str, quantity: str) -> None:
    flops, value = row.get("flops"), row.get(quantity)
    if not numbers.positive(flops) or not numbers.positive(value):
        return
    tip = f"for the best {NAMES[target]} at {numbers.budget(flops)} FLOPs:\n{numbers.count(value)} {NAMES[quantity]}"
    style = {"marker": ">", "markersize": 7, "markerfacecolor": "none", "color": TARGET_COLOUR[target]}
    drawing.mark(flops, value, tip + " (forecast)", label="forecast", **style)


def _line(drawing: Drawing, target: str, quantity: str, low: float, high: float) -> None:
    """Draw what is recommended from the smallest budget to the largest forecast, dashed beyond what was fitted."""
    law = drawing.evidence.recommends(target, quantity)
    if law is None:
        return
    exponent = _exponent(law)
    fitted = drawing.evidence.last_fitted_budget() or high
    for start, end, style in ((low, fitted, "-"), (fitted, high, DASHED)):
        label = f"{NAMES[target]}: a = {exponent}" if style == "-" else None
        if end > start:
            ends = [law_at(law, start) or start, law_at(law, end) or end]
            drawing.line([start, end], ends, color=TARGET_COLOUR[target], linestyle=style, label=label)
            drawing.see(start, ends[0])
            drawing.see(end, ends[1])


def _optimum_title(evidence: Evidence, quantity: str) -> str:
    data = "The best number of interactions" if evidence.played else "The best amount of data"
    what = {"params": "The best model size", "samples": data}[quantity]
    law = evidence.recommends("dev_loss", quantity) or evidence.recommends("return_mean", quantity)
    if law is None:
        return f"{what} at each budget: too few optima for a law"
    if numbers.known(law.get("low")) and numbers.known(law.get("high")) and law["low"] < 0 < law["high"]:
        return f"{what}: no trend is certain, {exponent_text(law)}"
    return f"{what} {trend(law, 'shrinks')} {exponent_text(law)}"


def trend(law: Mapping[str, Any], falls: str) -> str:
    """Say whether what a law is of grows, falls or does neither, as in "grows as" before the power."""
    if abs(law["exponent"]) < UNCHANGED:
        return "does not change with compute:"
    return "grows as" if law["exponent"] > 0 else f"{falls} as"


def exponent_text(law: Mapping[str, Any], variable: str = "C") -> str:
    """Write a law in short: C^0.52 (0.41 to 0.63)."""
    return f"{variable}^{_exponent(law)}"


def _exponent(law: Mapping[str, Any]) -> str:
    span, digits = (
        numbers.between(law.get("low"), law.get("high"), 2),
        numbers.digits_of(law.get("low"), law.get("high"), 2),
    )
    return numbers.exponent(law.get("exponent"), digits) + (f" ({span})" if span else "")
