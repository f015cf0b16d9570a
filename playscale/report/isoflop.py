"""The isoFLOP curves, and where their optima go as compute grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playscale.report import numbers
from playscale.report.axes import quantity_axis
from playscale.report.drawing import Drawing, Plot
from playscale.report.evidence import NAMES, TARGETS, Evidence
from playscale.report.palette import FAINT, HELD, INK, TARGET_COLOUR, budget_colours

FEW_BUDGETS = 9  # more than this and the legend names every second or third


def isoflop(evidence: Evidence, target: str) -> Plot | None:
    """`target` against model size, a curve a budget; None when nothing was measured."""
    measured = evidence.measured(target)
    if not measured:
        return None
    drawing = Drawing(f"isoflop_{target}", evidence, target)
    colours = [light for light, _ in budget_colours(len(evidence.budgets))]
    _budget_legend(drawing, colours)
    profiles = [row for row in evidence.rows("profiles", target=target) if numbers.known(row.get("flops"))]
    for profile in profiles:
        _parabola(drawing, profile, colours[evidence.budget_index(profile["flops"])])
    for point, value in measured:
        colour = colours[evidence.budget_index(point.flops)]
        drawing.point(
            point, point.params, value, error=getattr(point, target.replace("_mean", "") + "_se"), colour=colour
        )
    for profile in profiles:
        _optimum(drawing, profile, target)
    quantity_axis("x", drawing.axes, "params", [point.params for point, _ in measured])
    quantity_axis("y", drawing.axes, target, [value for _, value in measured])
    title = _isoflop_title(evidence, target)
    caption = f"Each curve is one compute budget: small models left, large ones right, for the same FLOPs. Bars: 95 % intervals."
    return drawing.finish(title, caption, f"{title}. {NAMES[target]} against model size, one curve for each budget.", 4)


def _budget_legend(drawing: Drawing, colours: list[str]) -> None:
    budgets = drawing.evidence.budgets
    step = -(-len(budgets) // FEW_BUDGETS)
    for i, budget in enumerate(budgets):
        if (len(budgets) - 1 - i) % step == 0:
            drawing.line(
                [], [], color=colours[i], marker="o", markersize=5, label=numbers.power_of_ten(_rounded(budget))
            )


def _rounded(budget: float) -> float:
    """A checkpoint is taken a little after its budget is crossed: 3.004e11 is read as 3e11."""
    return float(f"{budget:.2g}")


def _parabola(drawing: Drawing, profile: Mapping[str, Any], colour: str) -> None:
    """log10 y = a x^2 + b x + c with x = log10 N, over the sizes it was fitted to."""
    if not all(numbers.known(profile.get(name)) for name in ("a", "b", "c", "low", "high")):
        return
    x = np.linspace(np.log10(profile["low"]), np.log10(profile["high"]), 60)
    y = profile["a"] * x**2 + profile["b"] * x + profile["c"]
    left_out = bool(profile.get("excluded"))
    style = {"linestyle": (0, (1, 2)), "alpha": 0.8} if left_out else {}
    drawing.line(list(10**x), list(10**y), color=colour, zorder=1.8, **style)


def _optimum(drawing: Drawing, profile: Mapping[str, Any], target: str) -> None:
    params, value = profile.get("vertex_params"), profile.get("vertex_value")
    if not profile.get("excluded") and params is not None and value is not None and numbers.known(params + value):
        tip = (
            f"best at {numbers.power_of_ten(profile['flops'])} FLOPs:\n{numbers.count(params)} parameters, "
            f"{NAMES[target]} {numbers.number(value)} (vertex of the parabola)"
        )
        drawing.mark(
            params,
            value,
            tip,
            marker="X",
            color=INK,
            markersize=7.5,
            zorder=4,
            markeredgecolor="none",
            label="best size (vertex)",
        )


def _isoflop_title(evidence: Evidence, target: str) -> str:
    best = [point for point, _ in evidence.best(target, held_out=False)]
    verb = "has the lowest loss" if target == "dev_loss" else "plays best"
    if not best:
        return f"{NAMES[target].capitalize()} against model size at each budget"
    first, last = best[0], best[-1]
    if len(best) == 1 or first.params == last.params:
        sizes = f"{numbers.count(last.params)} parameters {verb}"
        return f"At {numbers.power_of_ten(_rounded(last.flops))} FLOPs, {sizes}"
    return (
        f"The size that {verb} goes from {numbers.count(first.params)} at {numbers.power_of_ten(_rounded(first.flops))} "
        f"to {numbers.count(last.params)} at {numbers.power_of_ten(_rounded(last.flops))} FLOPs"
    )


def optimum(evidence: Evidence, quantity: str) -> Plot | None:
    """The best `quantity` (params or samples) against compute, for the loss and for the return, with their power laws."""
    drawing = Drawing(f"optimal_{quantity}", evidence, "dev_loss")
    x: list[float] = []
    y: list[float] = []
    for target in TARGETS:
        _optima(drawing, target, quantity, x, y)
    if not x:
        return None
    _forecast_sizes(drawing, quantity, x, y)
    for target in TARGETS:
        _power_law_line(drawing, target, quantity, min(x), max(x))
    quantity_axis("x", drawing.axes, "flops", x)
    quantity_axis("y", drawing.axes, quantity, y)
    title = _optimum_title(evidence, quantity)
    caption = (
        "Each point is the best of one budget: the vertex of its parabola, or the best measured size where it has none."
    )
    return drawing.finish(title, caption, f"{title}. Best {NAMES[quantity]} against training compute.", 2)


def _optima(drawing: Drawing, target: str, quantity: str, x: list[float], y: list[float]) -> None:
    for profile in drawing.evidence.rows("profiles", target=target):
        flops = profile.get("flops")
        value, how = profile.get("argmin_" + quantity), "best measured size"
        vertex = profile.get("vertex_params")
        if numbers.known(vertex) and not profile.get("excluded"):
            how = "vertex of the parabola"
            value = vertex if quantity == "params" else _samples_at(profile, vertex)
        if not numbers.known(flops) or not numbers.known(value) or not value or not flops:
            continue
        held_out = any(abs(flops / budget - 1) < 0.05 for budget in drawing.evidence.held_out_budgets)
        reason = profile.get("excluded")
        style: dict[str, Any] = {"color": TARGET_COLOUR[target], "marker": "o" if target == "dev_loss" else "s"}
        label = None
        if held_out:
            style |= {"marker": "D", "color": HELD, "markersize": 7 if target == "dev_loss" else 5}
            label = "held out"
        elif reason:
            style |= {"color": FAINT, "markerfacecolor": "none"}
            label = "left out of the fit"
        tip = f"best {NAMES[target]} at {numbers.power_of_ten(flops)} FLOPs:\n{numbers.count(value)} {NAMES[quantity]} ({how})"
        drawing.mark(flops, value, tip + (f"\nleft out: {reason}" if reason else ""), label=label, **style)
        x.append(flops)
        y.append(value)


def _samples_at(profile: Mapping[str, Any], params: float) -> float | None:
    """Samples at the vertex. FLOPs a sample are near proportional to parameters, so samples go as 1 / parameters here."""
    given = profile.get("vertex_samples")
    if numbers.known(given):
        return float(given)  # type: ignore[arg-type]
    if numbers.known(profile.get("argmin_params")) and numbers.known(profile.get("argmin_samples")):
        return float(profile["argmin_samples"] * profile["argmin_params"] / params)
    return None


def _forecast_sizes(drawing: Drawing, quantity: str, x: list[float], y: list[float]) -> None:
    for row in drawing.evidence.rows("forecasts"):
        flops, value = row.get("flops"), row.get(quantity)
        if flops is None or value is None or not numbers.known(flops + value) or row.get("target") not in TARGETS:
            continue
        tip = f"for the best {NAMES[row['target']]} at {numbers.power_of_ten(flops)} FLOPs:\n{numbers.count(value)} {NAMES[quantity]} (forecast)"
        drawing.mark(
            flops, value, tip, marker=">", markerfacecolor="none", color=TARGET_COLOUR[row["target"]], label="forecast"
        )
        x.append(flops)
        y.append(value)


def _power_law_line(drawing: Drawing, target: str, quantity: str, low: float, high: float) -> None:
    law = drawing.evidence.power_law(target, quantity)
    if law is None or not numbers.known(law.get("coefficient")):
        return
    fitted = drawing.evidence.last_fitted_budget() or high
    colour = TARGET_COLOUR[target]
    label = (
        f"for {NAMES[target]}: exponent {numbers.with_interval(law['exponent'], law.get('low'), law.get('high'), 2)}"
    )

    def at(flops: float) -> float:
        return float(law["coefficient"] * flops ** law["exponent"])

    drawing.line([low, fitted], [at(low), at(fitted)], color=colour, label=label)
    if high > fitted:
        drawing.line([fitted, high], [at(fitted), at(high)], color=colour, linestyle=(0, (4, 3)))


def exponent_text(law: Mapping[str, Any], variable: str = "C") -> str:
    """ "C^0.52 (0.41 to 0.63)": superscript in the page and in the PNG alike."""
    span = numbers.between(law.get("low"), law.get("high"), 2)
    return f"{variable}^{numbers.number(law.get('exponent'), 2)}" + (f" ({span})" if span else "")


def _optimum_title(evidence: Evidence, quantity: str) -> str:
    what = {"params": "The best model size", "samples": "The best amount of data"}[quantity]
    law = evidence.power_law("dev_loss", quantity) or evidence.power_law("return_mean", quantity)
    if law is None:
        return f"{what} at each budget; too few budgets for a law"
    verb = "grows" if law["exponent"] > 0 else "changes"
    return f"{what} {verb} as {exponent_text(law)}"
