"""How good the agents are: loss and return against compute with their forecasts, and return against loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from playscale.report import numbers
from playscale.report.axes import quantity_axis
from playscale.report.drawing import Drawing, Plot
from playscale.report.evidence import NAMES, Evidence, Reference
from playscale.report.isoflop import exponent_text
from playscale.report.palette import FAINT, HELD, INK, SOFT, TARGET_COLOUR, budget_colours

NEAR = 30.0  # a reference further than this factor from everything measured is named at the edge, not drawn to scale


def against_compute(evidence: Evidence, target: str) -> Plot | None:
    """`target` against compute: every point, the best of each budget, the forecast with its band, what was held out."""
    measured = evidence.measured(target)
    if not measured:
        return None
    drawing = Drawing(f"{target}_against_compute", evidence, target)
    colour = TARGET_COLOUR[target]
    x, y = [point.flops for point, _ in measured], [value for _, value in measured]
    _band(drawing, evidence, target, colour, x, y)
    chosen = {id(point) for held_out in (False, True) for point, _ in evidence.best(target, held_out=held_out)}
    for point, value in measured:
        error = getattr(point, target.replace("_mean", "") + "_se")
        if id(point) in chosen:
            shade, label = (HELD, "held out, measured") if point.held_out else (colour, "best of its budget")
            drawing.point(point, point.flops, value, error=error, colour=shade, size=7, label=label)
        else:
            drawing.point(point, point.flops, value, error=None, colour=FAINT, size=3.5, label="other sizes")
    _forecasts(drawing, evidence, target, colour, x, y)
    near = [reference for reference in evidence.references if target == "return_mean" and _is_near(reference, y)]
    quantity_axis("x", drawing.axes, "flops", x)
    quantity_axis("y", drawing.axes, target, y + [float(reference.return_mean or 0) for reference in near])
    if target == "return_mean":
        _references(drawing, evidence.references, near, y)
    title = _compute_title(evidence, target)
    caption = "The line is the law used for forecasting, dashed beyond what it was fitted to; the band holds 95 %."
    return drawing.finish(title, caption, f"{title}. {NAMES[target]} against training compute.", 3)


def _band(drawing: Drawing, evidence: Evidence, target: str, colour: str, x: list[float], y: list[float]) -> None:
    curve = [row for row in (evidence.fit.get("curves") or {}).get(target) or [] if _drawable(row, "flops", "value")]
    curve.sort(key=lambda row: float(row["flops"]))
    fitted = evidence.last_fitted_budget() or 0.0
    inside = [row for row in curve if row["flops"] <= fitted * 1.001]
    beyond = curve[max(len(inside) - 1, 0) :]
    for rows, style in ((inside, "-"), (beyond, (0, (4, 3)))):
        label = "law" if style == "-" else None
        drawing.line(
            [r["flops"] for r in rows],
            [r["value"] for r in rows],
            color=colour,
            linestyle=style,
            label=label if rows else None,
        )
    banded = [row for row in curve if _drawable(row, "low", "high")]
    if banded:
        lows, highs = [row["low"] for row in banded], [row["high"] for row in banded]
        drawing.axes.fill_between([row["flops"] for row in banded], lows, highs, color=colour, alpha=0.16, linewidth=0)
    x.extend(row["flops"] for row in curve)
    y.extend(row["value"] for row in curve)


def _forecasts(drawing: Drawing, evidence: Evidence, target: str, colour: str, x: list[float], y: list[float]) -> None:
    for row in evidence.rows("forecasts", target=target):
        if not _drawable(row, "flops", "value"):
            continue
        flops, value = float(row["flops"]), float(row["value"])
        tip = (
            f"forecast at {numbers.power_of_ten(flops)} FLOPs, {numbers.count(row.get('params'))} parameters:\n"
            f"{NAMES[target]} {numbers.with_interval(value, row.get('low'), row.get('high'))}"
        )
        if _drawable(row, "low", "high"):
            drawing.error(flops, row["low"], row["high"], colour)
            y.extend([max(row["low"], value / 30), min(row["high"], value * 30)])
        drawing.mark(
            flops, value, tip, marker=">", markersize=7.5, color=colour, markerfacecolor="none", label="forecast"
        )
        x.append(flops)
        y.append(value)


def _drawable(row: Mapping[str, Any], *names: str) -> bool:
    """Whether these numbers are there and can be drawn on a log axis."""
    return all(numbers.known(row.get(name)) and row[name] > 0 for name in names)


def _is_near(reference: Reference, values: Sequence[float]) -> bool:
    mean = reference.return_mean
    return mean is not None and numbers.known(mean) and min(values) / NEAR <= mean <= max(values) * NEAR and mean > 0


def _references(
    drawing: Drawing, references: Sequence[Reference], near: Sequence[Reference], values: Sequence[float]
) -> None:
    """Labelled horizontal lines; one that is far off (or not above zero) is named at the edge with an arrow."""
    axes = drawing.axes
    style: dict[str, Any] = {
        "fontsize": 9,
        "color": SOFT,
        "ha": "left",
        "xytext": (3, 3),
        "textcoords": "offset points",
    }
    for reference in references:
        if not numbers.known(reference.return_mean):
            continue
        text = f"{reference.name}: {numbers.number(reference.return_mean)}"
        if reference in near:
            axes.axhline(reference.return_mean, color=SOFT, linewidth=1, linestyle=(0, (5, 2, 1, 2)), zorder=1)
            axes.annotate(text, (0, reference.return_mean), xycoords=("axes fraction", "data"), **style)
        else:
            above = (reference.return_mean or 0) > max(values)
            place, arrow = (0.97, "↑") if above else (0.0, "↓")
            axes.annotate(f"{arrow} {text}", (0, place), xycoords="axes fraction", **style)


def _compute_title(evidence: Evidence, target: str) -> str:
    ahead = [
        row
        for row in evidence.rows("forecasts", target=target)
        if numbers.known(row.get("flops")) and numbers.known(row.get("value"))
    ]
    name = NAMES[target].capitalize()
    if ahead:
        row = max(ahead, key=lambda row: float(row["flops"]))
        reach = numbers.with_interval(row["value"], row.get("low"), row.get("high"))
        return f"{name} is forecast to reach {reach} at {numbers.power_of_ten(row['flops'])} FLOPs"
    law = evidence.power_law(target, target)
    if law is not None:
        return f"{name} {'grows' if law['exponent'] > 0 else 'falls'} as {exponent_text(law)}"
    return f"{name} against training compute"


def return_against_loss(evidence: Evidence) -> Plot | None:
    """Mean return against dev loss, a point an agent, with the law between them."""
    pairs = [(point, loss) for point, loss in evidence.measured("dev_loss") if (point.return_mean or 0) > 0]
    if not pairs:
        return None
    drawing = Drawing("return_against_loss", evidence, "return_mean")
    colours = [light for light, _ in budget_colours(len(evidence.budgets))]
    losses, returns = [loss for _, loss in pairs], [float(point.return_mean or 0) for point, _ in pairs]
    law = evidence.return_of_loss()
    if law is not None:
        ends = [min(losses), max(losses)]
        drawing.line(ends, [law["coefficient"] * loss ** law["exponent"] for loss in ends], color=INK, label="law")
    for point, loss in pairs:
        colour = HELD if point.held_out else colours[evidence.budget_index(point.flops)]
        value = float(point.return_mean or 0)
        drawing.point(
            point,
            loss,
            value,
            error=point.return_se,
            colour=colour,
            label=None if point.held_out else "fitted, darker with more compute",
        )
    quantity_axis("x", drawing.axes, "dev_loss", losses)
    quantity_axis("y", drawing.axes, "return_mean", returns)
    drawing.axes.invert_xaxis()
    title = _loss_title(law)
    caption = "Each point is one agent. The loss axis runs from worse (left) to better (right). Bars: 95 % intervals."
    return drawing.finish(title, caption, f"{title}. Return against dev loss.", 2)


def _loss_title(law: Mapping[str, Any] | None) -> str:
    if law is None:
        return "Return against dev loss: a better imitation plays better, if the points rise to the right"
    gain = 0.9 ** law["exponent"] - 1
    words = f"{abs(gain):.0%} {'more' if gain > 0 else 'less'} return".replace("%", " %")
    return f"A tenth less dev loss goes with {words}: return ∝ {exponent_text(law, 'L')}"
