"""The isoFLOP curves of loss or return against model size, and the optima against compute with their power laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from playscale.report.drawing import DASHED, DOTTED, ROOM, Drawing, Plot
from playscale.report.evidence import NAMES, SAME_BUDGET, TARGETS, Evidence, describe, law_at, offset_of
from playscale.report.palette import FAINT, INK, TARGET_COLOUR
from playscale.scaling import numbers

BESIDE = 2.6  # points between the bars of neighbouring budgets at one size
# Of the horizontal axis, for names of budgets beside their curves: those of returns, with wider bars, rarely have room.
NAMES_ROOM = {"dev_loss": 0.3, "return_mean": 0.0}
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
        style: dict[str, Any] = {"color": colours[evidence.budget_index(budget)], "linestyle": DASHED, "linewidth": 1.1}
        series = f"{numbers.budget(budget)}, line"
        drawing.line([x for x, _ in cells], [y for _, y in cells], series=series, **style)
    for point, value in measured:
        i, aside = evidence.budget_index(point.flops), _aside(evidence, point.flops)
        series = numbers.budget(evidence.budgets[i])
        drawing.point(point, point.params, value, target, colour=colours[i], series=series, shift=aside)
    drawing.seeds(
        target,
        "params",
        lambda point: colours[evidence.budget_index(point.flops)],
        lambda point: _aside(evidence, point.flops),
    )
    marked = [profile for profile in profiles if not evidence.flat(target, profile["flops"])]
    for profile in marked:
        _vertex(drawing, profile, target)
        _edge(drawing, profile)
    for point in evidence.not_positive(target):
        drawing.off_the_axis(point, point.params)
    drawing.scale("params", target, room=NAMES_ROOM[target])
    caption = _isoflop_caption(drawing, marked, bool(held_out))
    alt = f"{NAMES[target]} against model size, by budget."
    return drawing.finish(_isoflop_title(evidence, target), caption, alt, 4)


def _aside(evidence: Evidence, flops: float) -> float:
    """Return how far beside their place the cells of a budget are drawn, in points: bars do not cover each other."""
    return BESIDE * (evidence.budget_index(flops) - (len(evidence.budgets) - 1) / 2)


def _isoflop_caption(drawing: Drawing, profiles: Sequence[Mapping[str, Any]], held_out: bool) -> str:
    caption = (
        "Each colour is one compute budget (FLOPs), spent on small models (left) or large ones (right). Bars: 95%"
        " intervals of what was measured; those of one size stand side by side."
    )
    if any(profile.get("edge") in EDGES for profile in profiles):
        caption += " Triangles: the best is the last size trained, so the true best may lie beyond it."
    if any(profile.get("excluded") for profile in profiles):
        caption += " Dotted, ringed: the parabola has no optimum among the sizes trained (see Left out of the fits)."
    if held_out:
        caption += " Dashed: held out."
    if drawing.off_axis:
        caption += " At the lower edge: returns of 0 or less, which have no logarithm and are left out."
    return caption


def _parabola(drawing: Drawing, profile: Mapping[str, Any], colour: str, target: str) -> None:
    """Draw log10(y - offset) = a x^2 + b x + c with x = log10 N, over the sizes it was fitted to."""
    if not all(numbers.known(profile.get(name)) for name in ("a", "b", "c", "low", "high")):
        return
    x = np.linspace(np.log10(profile["low"]), np.log10(profile["high"]), 60)
    y = offset_of(drawing.evidence.fit, target) + 10 ** (profile["a"] * x**2 + profile["b"] * x + profile["c"])
    style = DOTTED if profile.get("excluded") else "-"
    name = f"{numbers.budget(profile['flops'])}, parabola"
    drawing.line(list(10**x), list(y), series=name, color=colour, zorder=1.8, linestyle=style)
    if profile.get("excluded"):
        drawing.hover(list(10**x), list(y), _no_vertex(profile))


def _no_vertex(profile: Mapping[str, Any]) -> str:
    return f"no optimum at {numbers.budget(profile['flops'])} FLOPs:\n{profile['excluded']}"


def _vertex(drawing: Drawing, profile: Mapping[str, Any], target: str) -> None:
    """Mark the best size with a cross; the best cell of a budget without one, with a ring."""
    params, value = profile.get("vertex_params"), profile.get("vertex_value")
    best, measured = profile.get("argmin_params"), profile.get("argmin_value")
    if profile.get("excluded") and numbers.positive(best) and drawing.shows(measured):
        ring: dict[str, Any] = {
            "marker": "o",
            "markersize": 10.5,
            "color": FAINT,
            "markerfacecolor": "none",
            "zorder": 1.9,
        }
        drawing.mark(
            best,
            measured,
            _no_vertex(profile),
            label="no optimum",
            shift=_aside(drawing.evidence, profile["flops"]),
            **ring,
        )
    if profile.get("excluded") or not numbers.positive(params) or not drawing.shows(value):
        return
    tip = (
        f"best at {numbers.budget(profile['flops'])} FLOPs:\n{numbers.count(params)} parameters, "
        f"{NAMES[target]} {numbers.number(value)}\n(vertex of the parabola)"
    )
    style: dict[str, Any] = {"marker": "X", "markersize": 7.5, "markeredgewidth": 0, "color": INK, "zorder": 4}
    drawing.mark(params, value, tip, label="best size", **style)


def _edge(drawing: Drawing, profile: Mapping[str, Any]) -> None:
    """Point, with a triangle, to where the best size may lie beyond the last size trained."""
    side, params, value = (profile.get(name) for name in ("edge", "argmin_params", "argmin_value"))
    if side not in EDGES or (profile.get("cells") or 2) < 2 or not drawing.shows(value) or not numbers.positive(params):
        return
    last = {"above": "largest", "below": "smallest"}[side]
    tip = f"the best at {numbers.budget(profile['flops'])} FLOPs is the {last} size trained:\na bound, no optimum"
    marker, offset = EDGES[side]
    offset += _aside(drawing.evidence, profile["flops"])
    style: dict[str, Any] = {"marker": marker, "markersize": 5.5, "markeredgewidth": 0, "color": INK, "zorder": 4}
    drawing.mark(params, value, tip, label="last size", transform=drawing.beside(offset), **style)


def _isoflop_title(evidence: Evidence, target: str) -> str:
    what = "Lowest dev loss" if target == "dev_loss" else "Highest return"
    best = _best_sizes(evidence, target)
    if not best:
        return f"{NAMES[target].capitalize()} against model size at each budget"
    (first, size), (last, last_size) = best[0], best[-1]
    sizes = f"{numbers.count(size)} parameters at {numbers.budget(first)} FLOPs"
    if len(best) > 1:
        sizes += f", {numbers.count(last_size)} at {numbers.budget(last)}"
    return f"{what}: {sizes}"


def _best_sizes(evidence: Evidence, target: str) -> list[tuple[float, float]]:
    """Return the budgets with their best sizes: the vertices that are marked, else the best cells."""
    rows = [r for r in evidence.rows("profiles", target=target) if not evidence.flat(target, r.get("flops") or 1.0)]
    vertices = [
        (row["flops"], row["vertex_params"])
        for row in rows
        if numbers.positive(row.get("flops")) and numbers.positive(row.get("vertex_params")) and not row.get("excluded")
    ]
    if len(vertices) > 1:
        return sorted(vertices)
    best = [p for p, _ in evidence.best(target, held_out=False) if not evidence.flat(target, p.flops)]
    return [(evidence.budget_of(point), point.params) for point in best]


def optimum(evidence: Evidence, quantity: str) -> Plot | None:
    """Draw the best `quantity` (params or samples) against compute, for the loss and for the return."""
    drawing = Drawing(f"optimal_{quantity}", evidence)
    for target in TARGETS:
        for profile in evidence.rows("profiles", target=target):
            _optimum(drawing, profile, target, quantity)
        _held_out(drawing, target, quantity)
    if not drawing.seen:
        return None
    banded = next((target for target in TARGETS if evidence.recommends(target, quantity)), None)
    for target in TARGETS:
        for row in evidence.forecasts(target):
            _forecast(drawing, row, target, quantity, barred=target == banded)
    budgets = [flops for flops, _ in drawing.seen]
    for target in TARGETS:
        _line(drawing, target, quantity, min(budgets), max(budgets))
    has_band = banded is not None and _band(drawing, banded, quantity, max(budgets))
    drawing.scale("flops", evidence.noun if quantity == "samples" else quantity, room=ROOM)
    caption = (
        "Each point is the best of one budget: the vertex of its parabola, else the best cell. Lines: C to the power a."
    )
    if banded is not None and has_band:
        caption += f" Band and bars: 95% intervals for the {NAMES[banded]}, by two laws."
    alt = f"Best {NAMES[quantity]} against training compute."
    return drawing.finish(_optimum_title(evidence, quantity), caption, alt, 2)


def _band(drawing: Drawing, target: str, quantity: str, last: float) -> bool:
    """Draw the band of a target's line, and let the axis reach it; return whether there is one."""
    low, high = f"{quantity}_low", f"{quantity}_high"
    curve = (drawing.evidence.fit.get("curves") or {}).get(target) or []
    rows = [row for row in curve if all(numbers.positive(row.get(name)) for name in ("flops", low, high))]
    rows = [row for row in rows if row["flops"] <= last * SAME_BUDGET]
    if not rows:
        return False
    flops, lows, highs = ([row[name] for row in rows] for name in ("flops", low, high))
    drawing.band(flops, lows, highs, TARGET_COLOUR[target], f"best for the {NAMES[target]}")
    for row in (rows[0], rows[-1]):
        for name in (low, high):
            drawing.see_end(row["flops"], row[name], row[quantity])
    return True


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
    drawing.mark(flops, value, tip, label=label, series=f"best for the {NAMES[target]}", **style)


def _held_out(drawing: Drawing, target: str, quantity: str) -> None:
    """Mark the best cell of each held-out budget."""
    for point, _ in drawing.evidence.best(target, held_out=True):
        style: dict[str, Any] = {
            "marker": "D",
            "markersize": HELD_OUT_SIZE[target],
            "color": TARGET_COLOUR[target],
            "zorder": 3,
        }
        tip = f"best {NAMES[target]}\n{describe(point, None, drawing.evidence.loss_digits)}"
        drawing.mark(point.flops, getattr(point, quantity), tip, label="held out", **style)


def _forecast(drawing: Drawing, row: Mapping[str, Any], target: str, quantity: str, *, barred: bool) -> None:
    flops, value = row.get("flops"), row.get(quantity)
    if not numbers.positive(flops) or not numbers.positive(value):
        return
    tip = f"for the best {NAMES[target]} at {numbers.budget(flops)} FLOPs:\n{numbers.count(value)} {NAMES[quantity]}"
    low, high = row.get(f"{quantity}_low"), row.get(f"{quantity}_high")
    span = (low, high) if numbers.positive(low) and numbers.positive(high) else None
    tip += f" (forecast{'' if span is None else f', {numbers.count(span[0])} to {numbers.count(span[1])}'})"
    style: dict[str, Any] = {"marker": ">", "markersize": 7, "markerfacecolor": "none", "color": TARGET_COLOUR[target]}
    series = f"forecast for the {NAMES[target]}"
    drawing.mark(flops, value, tip, label="forecast", series=series, interval=span if barred else None, **style)
    drawing.note(numbers.count(value), flops, value)


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
            look: dict[str, Any] = {
                "color": TARGET_COLOUR[target],
                "linestyle": style,
                "series": f"best for the {NAMES[target]}, line",
            }
            drawing.line([start, end], ends, label=label, **look)
            drawing.see(start, ends[0])
            drawing.see(end, ends[1])


def _optimum_title(evidence: Evidence, quantity: str) -> str:
    data = "The best number of interactions" if evidence.played else "The best amount of data"
    what = {"params": "The best model size", "samples": data}[quantity]
    law = evidence.recommends("dev_loss", quantity) or evidence.recommends("return_mean", quantity)
    if law is None:
        return f"{what} at each budget: too few optima for a law"
    return f"{what}{trend(law, 'shrinks')} {exponent_text(law)}"


def trend(law: Mapping[str, Any], falls: str) -> str:
    """Say whether what a law is of grows, falls, does neither, or cannot be told to, before the power."""
    if is_uncertain(law):
        return ": no trend is certain,"
    if abs(law["exponent"]) < UNCHANGED:
        return " does not change with compute:"
    return " grows as" if law["exponent"] > 0 else f" {falls} as"


def is_uncertain(law: Mapping[str, Any]) -> bool:
    """Tell whether the interval of an exponent holds 0."""
    return numbers.known(law.get("low")) and numbers.known(law.get("high")) and law["low"] < 0 < law["high"]


def exponent_text(law: Mapping[str, Any], variable: str = "C") -> str:
    """Write a law in short: C^0.52 (0.41 to 0.63)."""
    return f"{variable}^{_exponent(law)}"


def _exponent(law: Mapping[str, Any]) -> str:
    span, digits = (
        numbers.between(law.get("low"), law.get("high"), 2),
        numbers.digits_of(law.get("low"), law.get("high"), 2),
    )
    return numbers.exponent(law.get("exponent"), digits) + (f" ({span})" if span else "")
