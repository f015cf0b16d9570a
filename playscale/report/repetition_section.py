"""Repeated data: the returns of more passes as figures, the law's constants, and what a limited corpus gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from playscale.report.drawing import DASHED, DOTTED, Drawing, Plot
from playscale.report.evidence import NAMES, Evidence
from playscale.report.html import Content, join, readable, symbol, table, tag, with_powers
from playscale.report.law_section import parameter
from playscale.report.palette import CYCLE, FAINT, INK, MARKERS, SOFT, TARGET_COLOUR
from playscale.report.track_record import interval_cell
from playscale.scaling import numbers

Row = Mapping[str, Any]
PASSES = "passes over the data"
WORTH = "worth (corpora seen once)"
LANGUAGE_MODELS = "language models (Muennighoff et al. 2023)"


def repetition_of(evidence: Evidence) -> Mapping[str, Row]:
    """Return the law of repeated data of each target, or why there is none; {} where no data were seen again."""
    return evidence.fit.get("repetition") or {}


def repetition_plots(evidence: Evidence) -> list[Plot]:
    """Draw for each target the loss or return against passes, and what the passes are worth."""
    plots = []
    for target, law in repetition_of(evidence).items():
        plots += [plot for plot in (_against_passes(evidence, target, law), _worth(evidence, target, law)) if plot]
    return plots


def _against_passes(evidence: Evidence, target: str, law: Row) -> Plot | None:
    curves = [curve for curve in law.get("curves") or [] if numbers.positive(curve.get("params"))]
    if not curves:
        return None
    drawing = Drawing(f"repetition_{target}", evidence, target)
    left_out = 0
    for i, curve in enumerate(curves):
        colour, marker = CYCLE[i % len(CYCLE)][0], MARKERS[i % len(MARKERS)]
        name = f"{numbers.count(curve['params'])} on {numbers.count(curve['unique'])}"
        x = [row["epochs"] for row in curve["law"]]
        drawing.line(x, [row["value"] for row in curve["law"]], series=f"{name}, law", color=colour, zorder=1.8)
        lows, highs = ([row[end] for row in curve["law"]] for end in ("low", "high"))
        drawing.band(x, lows, highs, colour, name)
        for row in curve["measured"]:
            tip = f"{name} {evidence.noun}, {numbers.number(row['epochs'])} passes:\n{NAMES[target]} "
            tip += numbers.number(row["value"], evidence.loss_digits)
            style: dict[str, Any] = {"marker": marker, "markersize": 5.5}
            if row["fitted"]:
                drawing.mark(row["epochs"], row["value"], tip, label=name, color=colour, **style)
            else:
                left_out += 1
                look: dict[str, Any] = {"color": FAINT, "markerfacecolor": "none"}
                drawing.mark(
                    row["epochs"], row["value"], f"{tip}\noverfitted, not fitted", label="overfitted", **(style | look)
                )
    drawing.scale(PASSES, target)
    caption = (
        f"Each colour is one model size on one number of unique {evidence.noun}. Points: measured. Lines and 95% bands:"
        " the law of repeated data."
    )
    if left_out:
        caption += " Hollow: worse than a cell of no more parameters, data and passes, so not fitted."
    alt = f"{NAMES[target]} against passes over the data, by size and unique data."
    return drawing.finish(_passes_title(target, curves, evidence), caption, alt, 3)


def _passes_title(target: str, curves: list[Row], evidence: Evidence) -> str:
    """Say what passes brought the curve that was measured over the most data."""
    curve = max(curves, key=lambda row: (row["unique"], row["params"]))
    fitted = [row for row in curve["measured"] if row["fitted"]] or curve["measured"]
    first, last = fitted[0], fitted[-1]
    digits = evidence.loss_digits if target == "dev_loss" else 3
    values = [numbers.number(row["value"], digits) for row in (first, last)]
    return (
        f"{numbers.count(curve['params'])} parameters on {numbers.count(curve['unique'])} unique {evidence.noun}:"
        f" {NAMES[target]} {values[0]} after {numbers.count(first['epochs'])}"
        f" {'pass' if first['epochs'] == 1 else 'passes'}, {values[1]} after {numbers.count(last['epochs'])}"
    )


def _worth(evidence: Evidence, target: str, law: Row) -> Plot | None:
    rows = [row for row in law.get("worth") or [] if numbers.positive(row.get("worth"))]
    if not rows:
        return None
    drawing = Drawing(f"repetition_worth_{target}", evidence)
    x = [row["epochs"] for row in rows]
    colour = TARGET_COLOUR[target]
    drawing.line(x, x, color=SOFT, linestyle=DASHED, label="fresh data", linewidth=1.2)
    theirs = [row["published"] for row in rows]
    drawing.line(x, theirs, color=INK, linestyle=DOTTED, label="language models", linewidth=1.4)
    drawing.line(x, [row["worth"] for row in rows], color=colour, label="these data", zorder=3)
    lows, highs = ([row[end] for row in rows] for end in ("low", "high"))
    drawing.band(x, lows, highs, colour, "these data")
    for row in rows:
        drawing.see(row["epochs"], row["worth"])
        drawing.see(row["epochs"], row["high"])
    half = law.get("half_worth") or {}
    if numbers.known(half.get("value")) and half["value"] <= x[-1]:
        nearest = min(rows, key=lambda row: abs(row["epochs"] - half["value"]))
        tip = f"after {numbers.number(half['value'], 2)} passes a further one is worth half of the first"
        drawing.mark(nearest["epochs"], nearest["worth"], tip, label="a pass worth half", color=colour, marker="D")
    drawing.scale(PASSES, WORTH)
    caption = (
        "Passes over a corpus give what so many corpora seen once would give. Dashed: if each pass were new data."
        f" Dotted: {LANGUAGE_MODELS}. Band: 95%."
    )
    return drawing.finish(_worth_title(law), caption, "What passes over the data are worth.", 2)


def _worth_title(law: Row) -> str:
    half, most = law.get("half_worth") or {}, law.get("most_worth") or {}
    if not numbers.known(half.get("value")) or not numbers.known(most.get("value")):
        return "The value of repeated data is not bounded by these data"
    return (
        f"A pass is worth half of the first after {numbers.number(half['value'], 2)} passes"
        f" ({numbers.interval_of(half, digits=2)}); all passes, {numbers.number(most['value'], 2)} corpora at most"
    )


def repetition_section(evidence: Evidence, shown: Markup) -> Markup:
    """Return the section: sentences, figures, constants, and what a corpus gives; shown: the figures."""
    laws = repetition_of(evidence)
    absent = [
        tag("p", readable(f"{NAMES[target]}: {law['reason']}."), class_="note")
        for target, law in laws.items()
        if law.get("reason")
    ]
    fitted = {target: law for target, law in laws.items() if not law.get("reason")}
    said = [tag("p", readable(sentence(target, law))) for target, law in fitted.items()]
    return join(
        [
            *absent,
            *said,
            shown,
            *(_constants(t, law) for t, law in fitted.items()),
            _corpora(evidence),
            _by_passes(evidence),
        ]
    )


def sentence(target: str, law: Row) -> str:
    """Say when a further pass is worth little, and how much of the table says so."""
    worth = {name: law.get(name) or {} for name in ("half_worth", "little_worth")}
    when = [
        f"{share} of the first after {numbers.with_interval(worth[name], digits=2)} passes"
        if numbers.known(worth[name].get("value"))
        else f"{share} of the first after a number of passes that these data do not bound"
        + (f" ({numbers.interval_of(worth[name], digits=2)})" if numbers.interval_of(worth[name]) else "")
        for name, share in (("half_worth", "half"), ("little_worth", "a twentieth, next to nothing,"))
    ]
    if not numbers.known(law.get("n")):
        return f"{NAMES[target]}: the law of repeated data is {numbers.MISSING}."
    out = law.get("left_out") or 0
    return (
        f"{NAMES[target]}: a further pass over the same data is worth {when[0]}, and {when[1]}. Fitted to"
        f" {numbers.counted(law['n'], 'cell')}, {law['again']} of which saw data again, up to"
        f" {numbers.number(law['passes'], 2)} times"
        + (f"; {numbers.counted(out, 'cell')} that had overfitted {'are' if out > 1 else 'is'} left out" if out else "")
        + "."
    )


def _constants(target: str, law: Row) -> Markup:
    published = law.get("published") or {}
    rows: list[list[Content]] = [
        [
            with_powers(symbol(name)),
            parameter(given or {}),
            numbers.number(published.get(name)) if name in published else "",
        ]
        for name, given in (law.get("parameters") or {}).items()
    ]
    caption = f"The law of repeated data, {NAMES[target]}: {law.get('form')}"
    head = ["constant", "value (95%)", LANGUAGE_MODELS]
    whole = table(head, rows, caption=symbol(caption), text=(0,))
    text = (
        "R_D: passes over which repeated data lose their value; R_N: the same of parameters beyond those that are best"
        " for the unique data."
    )
    return join([whole, tag("p", with_powers(text), class_="note")])


def _corpora(evidence: Evidence) -> Markup:
    rows: list[list[Content]] = [
        [
            NAMES[row["target"]],
            numbers.count(row["corpus_samples"]),
            numbers.budget(row["flops"]),
            join([numbers.count(row["params"]), tag("small", f" {_counts(row)}")]),
            numbers.count(row["samples"]),
            join([numbers.number(row["epochs"]), tag("small", " not measured") if row.get("note") else None]),
            interval_cell(row),
            join([numbers.number(row["fresh_value"]), tag("small", f" with {numbers.count(row['fresh_params'])}")]),
            gain(row, "twice_gain"),
            gain(row, "fresh_gain"),
        ]
        for row in evidence.rows("corpora")
    ]
    if not rows:
        return Markup("")
    head = [
        "best for", f"unique {evidence.noun}", "FLOPs", "parameters (95%)", evidence.noun, "passes", "value (95%)",
        "without a limit", "gain of twice the corpus", "gain without a limit",
    ]  # fmt: skip
    return table(head, rows, caption="The best of a budget on a limited corpus", text=(0,))


def _counts(row: Row) -> str:
    return f"{numbers.count(row['params_low'])} to {numbers.count(row['params_high'])}"


def gain(row: Row, of: str) -> str:
    """Write a gain and its interval as percentages."""
    value, low, high = (numbers.percent(row[name], ".1%") for name in (of, f"{of}_low", f"{of}_high"))
    return f"{value} ({low} to {high})"


def _by_passes(evidence: Evidence) -> Markup:
    rows: list[list[Content]] = [
        [
            NAMES[row["target"]],
            numbers.count(row["corpus_samples"]),
            numbers.count(row["params"]),
            numbers.number(row["epochs"]),
            interval_cell(row),
            numbers.number(row["worth"]),
        ]
        for row in evidence.rows("corpus_passes")
    ]
    if not rows:
        return Markup("")
    head = ["of", f"unique {evidence.noun}", "parameters", "passes", "value (95%)", "worth in corpora seen once"]
    return table(head, rows, caption="What more passes buy", text=(0,))
