"""Figures of loss and return against compute with their forecasts, and of return against loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from playscale.points import Reference
from playscale.report import track_record
from playscale.report.axes import TEXT, families
from playscale.report.drawing import DASHED, ROOM, Drawing, Plot
from playscale.report.evidence import NAMES, RETURN_OF_LOSS, Evidence, law_at, offset_of
from playscale.report.palette import FAINT, HELD, INK, SOFT, TARGET_COLOUR
from playscale.report.profile_figures import exponent_text, is_uncertain, trend
from playscale.report.text import before_number, short_name
from playscale.scaling import numbers

NEAR = 30.0  # a reference further than this factor from all that was measured is named at the edge, not drawn to scale
# The band is drawn from as many decades before the last fitted budget as the shortest window of a law that shares it:
# before, it would show how far such a law is off where it was never meant to hold.
BAND_DECADES = 2.0


def against_compute(evidence: Evidence, target: str) -> Plot | None:
    """Draw `target` against compute: every point, the best of each budget, the forecast with its band."""
    measured = evidence.measured(target)
    if not measured:
        return None
    drawing = Drawing(f"{target}_against_compute", evidence, target)
    colour = TARGET_COLOUR[target]
    _law(drawing, target)
    chosen = {id(point) for held_out in (False, True) for point, _ in evidence.best(target, held_out=held_out)}
    for point, value in sorted(measured, key=lambda pair: id(pair[0]) in chosen):
        if id(point) in chosen:
            shade, label = (HELD, "held out") if point.held_out else (colour, "best of its budget")
            drawing.point(point, point.flops, value, target, colour=shade, size=7, label=label)
        else:
            drawing.point(point, point.flops, value, target, colour=FAINT, size=3.5, label="other sizes")
    drawing.seeds(target, "flops", lambda point: HELD if point.held_out else colour)
    for row in evidence.forecasts(target):
        _forecast(drawing, row, target)
    off = evidence.not_positive(target)
    for point in off:
        drawing.off_the_axis(point, point.flops)
    near: list[Reference] = []
    if target == "return_mean":
        near = near_references(evidence.references, [y for _, y in drawing.seen])
    for reference in near:
        drawing.see(drawing.seen[0][0], float(reference.return_mean or 0))
    drawing.scale("flops", target, room=ROOM / 2)
    if target == "return_mean":
        mark_references(drawing, near, [value for _, value in measured])
    caption = (
        "The line is the law used for forecasting, dashed beyond what it was fitted to. Band and bars: 95% intervals."
    )
    if off:
        caption += " At the lower edge: returns of 0 or less."
    return drawing.finish(_title(evidence, target), caption, f"{NAMES[target]} against training compute.", 3)


def _law(drawing: Drawing, target: str) -> None:
    """Draw the law used for forecasting and its 95% band."""
    fit = drawing.evidence.fit
    first = ((fit.get("laws") or {}).get(target) or {}).get("from_flops") or 0.0
    curve = [row for row in (fit.get("curves") or {}).get(target) or [] if _drawn(drawing, row, "value")]
    curve = [row for row in curve if row["flops"] >= first * 0.999]
    curve.sort(key=lambda row: float(row["flops"]))
    fitted = (drawing.evidence.last_fitted_budget() or 0.0) * 1.001
    inside = [row for row in curve if row["flops"] <= fitted]
    beyond = curve[max(len(inside) - 1, 0) :]
    colour = TARGET_COLOUR[target]
    for rows, style, label in ((inside, "-", "law"), (beyond, DASHED, None)):
        if rows:
            x, y = [row["flops"] for row in rows], [row["value"] for row in rows]
            drawing.line(x, y, color=colour, linestyle=style, label=label, series="law")
    start = fitted / 10**BAND_DECADES
    banded = [row for row in curve if _drawn(drawing, row, "low", "high") and row["flops"] >= start]
    if banded:
        lows, highs = [row["low"] for row in banded], [row["high"] for row in banded]
        x = [row["flops"] for row in banded]
        drawing.band(x, lows, highs, colour, "law")
    for row in curve:
        drawing.see(row["flops"], row["value"])
    for row in banded:
        _see_interval(drawing, row)


def _see_interval(drawing: Drawing, row: Mapping[str, Any]) -> None:
    drawing.see(row["flops"], row["value"])
    for end in ("low", "high"):
        drawing.see_end(row["flops"], row.get(end), row["value"])


def _forecast(drawing: Drawing, row: Mapping[str, Any], target: str) -> None:
    if not _drawn(drawing, row, "value"):
        return
    tip = f"forecast at {numbers.budget(row['flops'])} FLOPs{_size(row)}:\n{NAMES[target]} {numbers.with_interval(row)}"
    colour = TARGET_COLOUR[target]
    ends = (row["low"], row["high"]) if _drawn(drawing, row, "low", "high") else None
    style: dict[str, Any] = {"marker": ">", "markersize": 7.5, "markerfacecolor": "none", "color": colour}
    drawing.mark(row["flops"], row["value"], tip, label="forecast", interval=ends, **style)
    drawing.note(numbers.as_fine(row["value"], row), row["flops"], row["value"])
    _see_interval(drawing, row)


def _size(row: Mapping[str, Any]) -> str:
    note = f" ({row['params_note']})" if row.get("params_note") else ""
    return f", {numbers.count(row['params'])} parameters{note}" if numbers.known(row.get("params")) else ""


def _drawn(drawing: Drawing, row: Mapping[str, Any], *names: str) -> bool:
    """Tell whether these numbers exist and can be drawn."""
    return numbers.positive(row.get("flops")) and all(drawing.shows(row.get(name)) for name in names)


def near_references(references: Sequence[Reference], values: Sequence[float]) -> list[Reference]:
    """Return the references that are near enough to what was measured to be drawn to scale."""
    low, high = min(values) / NEAR, max(values) * NEAR
    return [one for one in references if one.return_mean is not None and low <= one.return_mean <= high]


def mark_references(drawing: Drawing, near: Sequence[Reference], values: Sequence[float]) -> None:
    """Draw labelled horizontal lines; name at the edge, with an arrow, what is far off or not above zero."""
    axes = drawing.axes
    style: dict[str, Any] = {"fontsize": TEXT, "color": SOFT, "ha": "left", "textcoords": "offset points"}
    edges = {"↑": [1.0, -12.0], "↓": [0.0, 4.0]}  # axes fraction, offset in points of the next label there
    for reference in drawing.evidence.references:
        if reference.return_mean is None or not numbers.known(reference.return_mean):
            continue
        text = f"{before_number(short_name(reference.name))}: {numbers.number(reference.return_mean, 2)}"
        style["fontfamily"] = families(text)
        if reference in near:
            axes.axhline(reference.return_mean, color=SOFT, linewidth=1, linestyle=(0, (5, 2, 1, 2)), zorder=1)
            axes.annotate(text, (0, reference.return_mean), xycoords=("axes fraction", "data"), xytext=(4, 3), **style)
            continue
        arrow = "↑" if reference.return_mean > max(values) else "↓"
        place, offset = edges[arrow]
        axes.annotate(f"{arrow} {text}", (0, place), xycoords="axes fraction", xytext=(4, offset), **style)
        edges[arrow][1] += -12 if arrow == "↑" else 12


def _title(evidence: Evidence, target: str) -> str:
    name = NAMES[target].capitalize()
    ahead = [row for row in evidence.forecasts(target) if numbers.known(row.get("value"))]
    if ahead:
        row = max(ahead, key=lambda row: float(row["flops"]))
        reach = numbers.with_interval(row)
        return f"{name} forecast at {numbers.budget(row['flops'])} FLOPs: {reach}"
    law = evidence.power_law(target, target)
    if law is not None:
        above = track_record.above(evidence.fit, target)
        return f"{name}{above}{trend(law, 'falls')} {exponent_text(law)}"
    return f"{name} against training compute"


def return_against_loss(evidence: Evidence) -> Plot | None:
    """Draw mean return against dev loss, a point an agent, with the law between them."""
    pairs = [(point, value) for point, value in evidence.measured("return_mean") if point.dev_loss is not None]
    if not pairs:
        return None
    drawing = Drawing("return_against_loss", evidence, "return_mean")
    colours = drawing.budget_legend()
    for point, value in pairs:
        colour = colours[evidence.budget_index(point.flops)]
        name = numbers.budget(evidence.budget_of(point))
        drawing.point(point, float(point.dev_loss or 0), value, "return_mean", colour=colour, series=name)
    for point in evidence.not_positive("return_mean"):
        if point.dev_loss is not None:
            drawing.off_the_axis(point, point.dev_loss)
    law = evidence.power_law("return_mean", RETURN_OF_LOSS)
    if law is not None:
        _return_line(drawing, law)
    drawing.scale("dev_loss", "return_mean")
    drawing.axes.invert_xaxis()
    caption = "Each point is one agent, its colour the budget (FLOPs). Loss runs from worse (left) to better (right)."
    return drawing.finish(_loss_title(law, drawing.offset), caption, "Return against dev loss, a point an agent.", 4)


def _return_line(drawing: Drawing, law: Mapping[str, Any]) -> None:
    """Draw the law of the best of each budget, over the losses of those."""
    best = [loss for _, loss in drawing.evidence.best("dev_loss", held_out=False)] or [loss for loss, _ in drawing.seen]
    losses, offset = np.geomspace(min(best), max(best), 60), offset_of(drawing.evidence.fit, "return_mean")
    drawn = [(loss, value) for loss in losses.tolist() if (value := law_at(law, loss, offset)) is not None]
    if drawn:
        x, y = zip(*drawn, strict=True)
        drawing.line(x, y, color=INK, label="law of the best", linewidth=1.3, zorder=3)


def _loss_title(law: Mapping[str, Any] | None, offset: float) -> str:
    if law is None:
        return "Return against dev loss, one point for each agent"
    if is_uncertain(law):
        return f"No relation of return and dev loss is certain: best return ∝ {exponent_text(law, 'L')}"
    gain = law["exponent"] * math.log(0.9)
    above = f" above {numbers.number(offset)}" if offset else ""
    words = f"{numbers.percent(abs(math.expm1(min(gain, 1.0))))} {'more' if gain > 0 else 'less'} return{above}"
    if abs(gain) > math.log(2):
        words = f"a return{above} that is {numbers.off(abs(gain))} {'higher' if gain > 0 else 'lower'}"
    return f"10% less dev loss goes with {words} (return{above} ∝ L^{numbers.exponent(law['exponent'])})"
