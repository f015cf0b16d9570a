"""The section on settings that a study varies: their best values, what the recipe's lose, and the laws by setting."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from playscale.report.axes import TEXT, exponent_axis, linear_axis, own_defaults, quantity_axis
from playscale.report.drawing import DASHED, Drawing, Plot
from playscale.report.evidence import NAMES, Evidence, law_at
from playscale.report.html import Content, anchors, join, table, tag, with_powers
from playscale.report.learning import sizes_of
from playscale.report.palette import FAINT, INK, LOSS, SOFT, budget_colours, size_colours
from playscale.report.text import short_name
from playscale.scaling import numbers

Row = Mapping[str, Any]
RECIPE, TUNED = "recipe", "best of all"
LONGEST_ID = 40
ROW_HEIGHT, ROWS = 0.22, 12  # inches of a row of the exponents, and rows that the figure has room for as it is
OF = {"params": ("N", "at equal compute"), "flops": ("C", "at equal size")}
BEST: dict[str, Any] = {"marker": "X", "markersize": 8, "markeredgewidth": 0, "color": INK, "zorder": 4}
OWN: dict[str, Any] = {
    "marker": "D",
    "markersize": 8,
    "markeredgewidth": 1.4,
    "markerfacecolor": "none",
    "color": INK,
    "zorder": 3.5,
}
BOUND = {"below": "<", "above": ">"}


def sensitivity_of(evidence: Evidence) -> Row:
    """Return the part of the fit; empty where nothing was varied."""
    return evidence.fit.get("sensitivity") or {}


def sensitivity(evidence: Evidence, drawn: Markup) -> Markup:
    """Say what was found, for each setting; the figures, as they are drawn; and the best values and the exponents."""
    found = sensitivity_of(evidence)
    sentences = [_setting_sentence(one, evidence) for one in found.get("settings") or []]
    sentences += [text for text in (_tuned_sentence(found), _exponent_sentence(found)) if text]
    noise = found.get("noise")
    if numbers.known(noise):
        sentences.append(
            f"Seeds of one cell scatter by {numbers.percent(noise, '.1%')}: smaller differences say nothing."
        )
    else:
        sentences.append("One seed a run: how far chance alone moves a loss is not known.")
    listed = tag("ul", *(tag("li", with_powers(sentence)) for sentence in sentences))
    return join([listed, drawn, _best_table(found), _exponent_table(found)])


def _name(value: Any) -> str:
    """Write a value of a setting."""
    if isinstance(value, str):
        return short_name(value)
    return f"{value:.4g}" if numbers.known(value) else numbers.NOTHING


def _setting_sentence(one: Row, evidence: Evidence) -> str:
    name, laws = short_name(str(one.get("setting"))), {str(law.get("of")): law for law in one.get("laws") or []}
    parts = [text for of in OF if (text := _law_text(laws.get(of), of))]
    if not parts:
        edges = sum(curve.get("edge") is not None for curve in one.get("curves") or [])
        why = f"{edges} of {numbers.counted(len(one.get('curves') or []), 'minimum')} lie at an end of the values"
        parts = ["no law of its best value" + (f": {why.replace('minimums', 'minima')}" if edges else "")]
    lost = [curve["lost"] for curve in one.get("curves") or [] if numbers.known(curve.get("lost"))]
    text = f"{name}: {'; '.join(parts)}."
    if lost and max(lost) == 0:
        text += " No value that was trained does better than the recipe's."
    elif lost:
        unit = NAMES.get(str(sensitivity_of(evidence).get("target")), "loss")
        text += (
            f" The recipe's value loses {_nats(statistics.median(lost))} of {unit} in the median cell against the best"
            f" value trained, at most {_nats(max(lost))}."
        )
    return text


def _nats(value: float) -> str:
    return "nothing" if value == 0 else numbers.number(value, 2)


def _law_text(law: Row | None, of: str) -> str:
    if not law or not numbers.known(law.get("exponent")):
        return ""
    letter, where = OF[of]
    power = f"{letter}^{numbers.exponent(law['exponent'])}"
    span = numbers.between(law.get("low"), law.get("high"), 2)
    power += f" ({span}, {numbers.counted(law.get('n') or 0, 'size')})" if span else ""
    if law.get("follows"):
        text = f"{where} the best value goes as {power}"
    else:
        reason = "no trend is certain" if law.get("follows") is False else "too few sizes for an interval"
        text = f"{where} {reason}, {power}"
    own = law.get("recipe")
    return text + (f", the recipe's as {letter}^{numbers.exponent(own)}" if numbers.known(own) else "")


def _tuned_sentence(found: Row) -> str:
    rows = [
        row for row in found.get("tuned") or [] if numbers.known(row.get("recipe")) and numbers.known(row.get("best"))
    ]
    if not rows:
        return ""
    each = [
        f"{numbers.number(abs(row['recipe'] - row['best']), 2)} at {numbers.budget(row.get('flops'))} FLOPs"
        + (f" ({short_name(str(row['varied']))})" if row.get("varied") else " (the recipe is the best)")
        for row in rows
    ]
    return f"At the best size of a budget, the best settings gain against the recipe: {'; '.join(each)}."


def _exponent_sentence(found: Row) -> str:
    parts = []
    for quantity, what in (
        ("params", "the best size"),
        (str(found.get("target")), NAMES.get(str(found.get("target")), "")),
    ):
        rows = [row for row in found.get("exponents") or [] if row.get("quantity") == quantity]
        rows = [row for row in rows if numbers.known(row.get("exponent"))]
        own = next((row for row in rows if row.get("settings") == RECIPE), None)
        others = [row["exponent"] for row in rows if row is not own]
        if own is None or not others:
            continue
        span = numbers.between(own.get("low"), own.get("high"), 2)
        text = f"{what} {numbers.exponent(own['exponent'])}" + (f" ({span})" if span else "")
        parts.append(
            f"{text} by the recipe, {numbers.exponent(min(others))} to {numbers.exponent(max(others))} by others"
        )
    return f"Exponents against compute over the same sizes and budgets: {'; '.join(parts)}." if parts else ""


def _best_table(found: Row) -> Markup:
    rows: list[list[Content]] = []
    for one in found.get("settings") or []:
        for curve in one.get("curves") or []:
            span = " to ".join(_name(curve[end]) if curve.get(end) is not None else "?" for end in ("low", "high"))
            edge = {"below": "the smallest trained", "above": "the largest trained"}.get(str(curve.get("edge")))
            rows.append([
                short_name(str(one.get("setting"))), numbers.budget(curve.get("flops")),
                _size(curve),
                _name(curve.get("best")), edge or (span if curve.get("low") is not None else numbers.NOTHING),
                _name(curve.get("recipe_value")), numbers.number(curve.get("best_loss")),
                numbers.number(curve.get("recipe_loss")), numbers.number(curve.get("lost"), 2),
                short_name(str(curve.get("others") or "")) or numbers.NOTHING,
            ])  # fmt: skip
    what = NAMES.get(str(found.get("target")), "loss")
    head = ["setting", "FLOPs", "size", "best value", "between", "recipe's", f"best {what}", f"recipe's {what}", "lost"]
    caption = "Best values: vertices of parabolas around the lowest, between the neighbours of that"
    return table([*head, "other settings"], rows, caption=caption, text=(0, 2, 4, 9)) if rows else Markup("")


def _exponent_table(found: Row) -> Markup:
    groups: dict[str, dict[str, Row]] = {}
    for row in found.get("exponents") or []:
        groups.setdefault(str(row.get("settings")), {})[str(row.get("quantity"))] = row
    quantities = ["params", "samples", str(found.get("target"))]
    rows: list[list[Content]] = [
        [short_name(name), *(_exponent(own.get(quantity)) for quantity in quantities)] for name, own in groups.items()
    ]
    if not rows:
        return tag("p", "No settings have the sizes and budgets that laws of best cells take.", class_="note")
    head = ["settings", *(f"{NAMES.get(quantity, quantity)} ∝ C^a" for quantity in quantities)]
    return table(head, rows, caption="Exponents by setting, over the sizes and budgets that were varied", text=(0,))


def _exponent(row: Row | None) -> Content:
    if row is None or not numbers.known(row.get("exponent")):
        return numbers.NOTHING
    span = numbers.between(row.get("low"), row.get("high"), 2)
    return join([numbers.exponent(row["exponent"]), tag("small", f" {span}") if span else None])


@own_defaults()
def sensitivity_plots(evidence: Evidence) -> list[Plot]:
    """Draw for each setting the loss against its values and its best values against size, and the exponents."""
    found = sensitivity_of(evidence)
    settings = found.get("settings") or []
    names = anchors([str(one.get("setting"))[:LONGEST_ID] for one in settings])
    plots: list[Plot | None] = []
    for one, name in zip(settings, names, strict=True):
        plots += [
            _curves(evidence, one, f"sensitivity_{name}"),
            _best_values(evidence, one, f"sensitivity_{name}_best"),
        ]
    plots += [_exponents(evidence, quantity) for quantity in ("params", str(found.get("target")))]
    return [plot for plot in plots if plot is not None]


def _drawn(drawing: Drawing, one: Row) -> list[Row]:
    """Return the curves that can be drawn."""
    return [
        curve
        for curve in one.get("curves") or []
        if numbers.positive(curve.get("params")) and numbers.positive(curve.get("flops"))
        if len(curve.get("values") or []) == len(curve.get("losses") or []) > 1
        if all(drawing.shows(loss) for loss in curve["losses"])
    ]


def _places(curves: Sequence[Row]) -> dict[Any, float] | None:
    """Return the place of each value on an axis where not all are numbers above zero; None where a log axis does."""
    values = {value for curve in curves for value in (*curve["values"], curve.get("recipe_value")) if value is not None}
    if all(not isinstance(value, str) and numbers.positive(value) for value in values):
        return None
    names = [value for value in values if isinstance(value, str)]
    return {value: float(i) for i, value in enumerate([*sorted(values.difference(names)), *sorted(names)])}


def _curves(evidence: Evidence, one: Row, name: str) -> Plot | None:
    """Draw the loss against the setting's value, a line a size, at the largest budget with the most sizes."""
    target = str(sensitivity_of(evidence).get("target"))
    drawing = Drawing(name, evidence, target)
    curves = _drawn(drawing, one)
    if not curves:
        return None
    budgets = [curve["flops"] for curve in curves]
    budget = max(set(budgets), key=lambda flops: (budgets.count(flops), flops))
    curves = [curve for curve in curves if curve["flops"] == budget]
    places, setting = _places(curves), short_name(str(one.get("setting")))
    for curve in sorted(curves, key=lambda curve: curve["params"]):
        _curve(drawing, curve, places, _size_colour(evidence, curve), setting)
    for curve in curves:
        _best_and_recipe(drawing, curve, places)
    _axes_of_values(drawing, setting, target, places)
    title = f"{setting}: {NAMES.get(target, target)} by value at {numbers.budget(budget)} FLOPs"
    lost = [curve["lost"] for curve in curves if numbers.known(curve.get("lost"))]
    if lost:
        title += f"; the recipe loses at most {_nats(max(lost))}" if max(lost) > 0 else "; the recipe's is the best"
    caption = (
        "A line is one size, the other settings the same. Cross: the best value trained; a triangle where it is the"
        " last one, so that the best may lie beyond. Diamond: the recipe's run."
    )
    return drawing.finish(title, caption, f"{NAMES.get(target, target)} against {setting}, by size.", 4)


def _axes_of_values(drawing: Drawing, setting: str, target: str, places: dict[Any, float] | None) -> None:
    if places is None:
        quantity_axis("x", drawing.axes, setting, [x for x, _ in drawing.seen])
    else:
        drawing.axes.set_xticks([*places.values()], labels=[_name(value) for value in places])
        drawing.axes.set_xlim(-0.4, len(places) - 0.6)
        drawing.axes.set_xlabel(setting, color=INK, fontsize=TEXT)
    losses = [y for _, y in drawing.seen]
    if drawing.linear:
        linear_axis(drawing.axes, NAMES.get(target, target), losses)
    else:
        quantity_axis("y", drawing.axes, target, losses)


def _size_colour(evidence: Evidence, curve: Row) -> str:
    sizes = sizes_of(evidence)
    colours = [light for light, _ in size_colours(len(sizes))]
    size = short_name(str(curve.get("size") or ""))
    return colours[sizes.index(size)] if size in sizes else SOFT


def _curve(drawing: Drawing, curve: Row, places: dict[Any, float] | None, colour: str, setting: str) -> None:
    size, y = _size(curve), list(curve["losses"])
    x = [_at(value, places) for value in curve["values"]]
    drawing.line(x, y, color=colour, label=size)
    for value, place, loss in zip(curve["values"], x, y, strict=True):
        tip = f"{size}, {setting} {_name(value)}:\n{numbers.number(loss)}"
        drawing.mark(place, loss, tip, series=size, color=colour, markersize=5)


def _at(value: Any, places: dict[Any, float] | None) -> float:
    return float(value) if places is None else places[value]


def _size(curve: Row) -> str:
    return short_name(str(curve.get("size") or "")) or numbers.count(curve.get("params"))


def _best_and_recipe(drawing: Drawing, curve: Row, places: dict[Any, float] | None) -> None:
    size, edge = _size(curve), curve.get("edge")
    if curve.get("best_value") in curve["values"] and drawing.shows(curve.get("best_loss")):
        tip = f"{size}: the best value trained is {_name(curve['best_value'])}"
        look: dict[str, Any] = BEST | ({"marker": BOUND[edge], "markersize": 7} if edge in BOUND else {})
        label = "best, at an end" if edge in BOUND else "best value"
        drawing.mark(_at(curve["best_value"], places), curve["best_loss"], tip, label=label, **look)
    own, loss = curve.get("recipe_value"), curve.get("recipe_loss")
    if own is not None and drawing.shows(loss):
        tip = f"{size}: the recipe's value {_name(own)}, {numbers.number(loss)}"
        drawing.mark(_at(own, places), loss, tip, label="recipe", **OWN)


def _best_values(evidence: Evidence, one: Row, name: str) -> Plot | None:
    """Draw the best value against size, a colour a budget, beside the recipe's; None where there is none."""
    drawing = Drawing(name, evidence)
    curves = [c for c in _drawn(drawing, one) if _is_value(c.get("best")) and len(c["values"]) > 2]
    if _places(curves) is not None or len({curve["params"] for curve in curves}) < 2:
        return None
    colours = [light for light, _ in budget_colours(len(evidence.budgets))]
    budgets = sorted({curve["flops"] for curve in curves})
    for curve in curves:
        shift = 4.0 * (budgets.index(curve["flops"]) - (len(budgets) - 1) / 2)
        _best(drawing, curve, colours[evidence.budget_index(curve["flops"])], shift)
    own = sorted({(c["params"], c["recipe_value"]) for c in curves if _is_value(c.get("recipe_value"))})
    own_look: dict[str, Any] = OWN | {"markersize": 6}
    if own:
        drawing.line(
            [x for x, _ in own], [y for _, y in own], color=INK, linewidth=1.1, linestyle=DASHED, label="recipe"
        )
        for x, y in own:
            drawing.mark(x, y, f"the recipe at {numbers.count(x)}: {_name(y)}", **own_look)
    law: Row = next((law for law in one.get("laws") or [] if law.get("of") == "params"), {})
    _law_line(drawing, law, [curve["params"] for curve in curves])
    setting = short_name(str(one.get("setting")))
    quantity_axis("x", drawing.axes, "params", [x for x, _ in drawing.seen])
    quantity_axis("y", drawing.axes, f"best {setting}", [y for _, y in drawing.seen])
    caption = (
        "Vertex of a parabola around the lowest loss; the bar joins the neighbours of that. Sizes of several"
        " budgets are drawn side by side. Hollow: the last value trained, a bound. Line: the law of N at the mean"
        " budget."
    )
    title = f"Best {setting}: {_law_text(law, 'params') or 'too few minima for a law of N'}"
    return drawing.finish(title, caption, f"Best value of {setting} against model size, by budget.", 3)


def _is_value(value: Any) -> bool:
    return not isinstance(value, str) and numbers.positive(value)


def _best(drawing: Drawing, curve: Row, colour: str, shift: float) -> None:
    x, y = curve["params"], curve["best"]
    ends: list[Any] = [curve.get("low"), curve.get("high")]
    tip = f"{numbers.count(x)} at {numbers.budget(curve['flops'])} FLOPs:\nbest value {_name(y)}"
    drawing.see(x, y)
    if curve.get("edge") in BOUND:
        look: dict[str, Any] = {
            "color": FAINT,
            "markerfacecolor": "none",
            "marker": "v" if curve["edge"] == "below" else "^",
        }
        drawing.mark(x, y, f"{tip}, the last one trained", label="at an end", shift=shift, **look)
        return
    interval = None
    if all(map(_is_value, ends)):
        interval = (float(ends[0]), float(ends[1]))
        drawing.see(x, ends[0])
        drawing.see(x, ends[1])
    drawing.mark(x, y, tip, label=numbers.budget(curve["flops"]), interval=interval, color=colour, shift=shift)


def _law_line(drawing: Drawing, law: Row, params: Sequence[float]) -> None:
    coefficient = law.get("log_coefficient")
    if not numbers.known(coefficient) or abs(coefficient) > 600:
        return
    whole = {"exponent": law.get("exponent"), "coefficient": math.exp(coefficient)}
    ends = [min(params), max(params)]
    values = [law_at(whole, x) for x in ends]
    if all(map(numbers.positive, values)):
        drawing.line(ends, [value for value in values if value], color=LOSS, label="law of N")


def _exponents(evidence: Evidence, quantity: str) -> Plot | None:
    """Draw an exponent and its interval for each combination of settings, the recipe's first."""
    rows = [row for row in sensitivity_of(evidence).get("exponents") or [] if row.get("quantity") == quantity]
    rows = [row for row in rows if numbers.known(row.get("exponent"))]
    if len(rows) < 2:
        return None
    drawing = Drawing(f"sensitivity_exponent_{quantity}", evidence)
    axes = drawing.axes
    drawing.figure.set_figheight(drawing.figure.get_figheight() + ROW_HEIGHT * max(len(rows) - ROWS, 0))
    for i, row in enumerate(rows):
        named = row.get("settings")
        colour = INK if named == RECIPE else LOSS
        low, high = row.get("low"), row.get("high")
        span = (low, high) if numbers.known(low) and numbers.known(high) else None
        if named == RECIPE:
            axes.axvline(row["exponent"], color=FAINT, linewidth=1, zorder=1)
        name, marker = short_name(str(named)), "D" if named == TUNED else "o"
        tip = f"{name}: {numbers.exponent(row['exponent'])}"
        drawing.mark(row["exponent"], -i, tip, series=name, interval=span, across=True, color=colour, marker=marker)
    axes.set_yticks([-i for i in range(len(rows))], labels=[short_name(str(row.get("settings"))) for row in rows])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    exponent_axis(axes, rows)
    what = {"params": "best size", "dev_loss": "lowest dev loss", "return_mean": "highest return"}.get(
        quantity, quantity
    )
    values = [row["exponent"] for row in rows]
    title = f"Exponent of the {what} by setting: {numbers.exponent(min(values))} to {numbers.exponent(max(values))}"
    caption = (
        "Laws of best cells over the sizes and budgets that were varied, fitted to each combination of settings alone;"
        " diamond: to the best of all settings of each cell. Bars: 95% intervals, cut where they are far wider than the"
        " exponents differ. Line: the recipe's."
    )
    return drawing.finish(title, caption, f"Exponent of the {what} by setting.", 3)
