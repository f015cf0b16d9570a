"""The top of the report: what to train next, how good earlier forecasts were, and what to beware of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playscale.report import numbers
from playscale.report.evidence import NAMES, TARGETS, Evidence
from playscale.report.markup import Content, Html, join, table, tag

Row = Mapping[str, Any]


def headline(evidence: Evidence) -> Html:
    return join([_answer(evidence), _next_table(evidence), _track_record(evidence), _warnings(evidence)])


def _forecasts(evidence: Evidence) -> dict[float, dict[str, Row]]:
    """{FLOPs: {target: forecast}}, small budgets first; forecasts at a given model (no budget) have FLOPs from their own row."""
    found: dict[float, dict[str, Row]] = {}
    for row in evidence.rows("forecasts"):
        if numbers.known(row.get("flops")) and row.get("target") in TARGETS:
            found.setdefault(float(row["flops"]), {})[row["target"]] = row
    return dict(sorted(found.items()))


def _recommended(by_target: Mapping[str, Row]) -> Row:
    """The model to train: the one for the best loss, which is measured with less noise than the return."""
    return by_target.get("dev_loss") or by_target["return_mean"]


def _answer(evidence: Evidence) -> Html:
    """The next budget, in one sentence."""
    forecasts = _forecasts(evidence)
    if not forecasts:
        return tag("p", "No forecast was asked for, or none could be made: see the warnings.", class_="answer")
    fitted = evidence.last_fitted_budget() or 0.0
    flops = next((flops for flops in forecasts if flops > fitted), max(forecasts))
    by_target = forecasts[flops]
    row = _recommended(by_target)
    sentence: list[Content] = [
        "With ", tag("b", f"{numbers.power_of_ten(flops)} FLOPs"), ", train ",
        tag("b", f"{numbers.count(row.get('params'))} parameters"), " on ",
        tag("b", f"{numbers.count(row.get('samples'))} samples"), ".",
    ]  # fmt: skip
    expected = [
        tag(
            "span",
            f"{NAMES[target]} ",
            tag("b", numbers.number(by_target[target].get("value"))),
            _span(by_target[target]),
        )
        for target in TARGETS
        if target in by_target
    ]
    sentence += [" Expect ", *_listed(expected), "."]
    return tag("p", *sentence, class_="answer")


def _span(row: Row) -> str:
    span = numbers.between(row.get("low"), row.get("high"))
    return f" ({span})" if span else ""


def _listed(parts: list[Html]) -> list[Content]:
    listed: list[Content] = []
    for i, part in enumerate(parts):
        listed += [" and " if i else "", part]
    return listed


def _next_table(evidence: Evidence) -> Html:
    forecasts = _forecasts(evidence)
    if not forecasts:
        return Html("")
    fitted = evidence.last_fitted_budget()
    rows: list[list[Content]] = []
    for flops, by_target in forecasts.items():
        row = _recommended(by_target)
        cells = [_interval_cell(by_target.get(target)) for target in TARGETS]
        reach = f"{flops / fitted:.3g}×" if fitted else numbers.MISSING
        size = [tag("b", numbers.count(row.get("params"))), tag("b", numbers.count(row.get("samples")))]
        rows.append([numbers.power_of_ten(flops), reach, *size, *cells])
    head = ["FLOPs", "beyond the largest fitted", "parameters", "samples", "dev loss (95 %)", "return (95 %)"]
    return join([table(head, rows, caption="What to train next"), _other_optimum(forecasts)])


def _interval_cell(row: Row | None) -> Content:
    if row is None:
        return "no law"
    span = numbers.between(row.get("low"), row.get("high"))
    return join([numbers.number(row.get("value")), tag("small", f" {span}") if span else None])


def _other_optimum(forecasts: Mapping[float, Mapping[str, Row]]) -> Html:
    """Says where the best size for the return is another one than for the loss."""
    apart = []
    for flops, by_target in forecasts.items():
        sizes = [by_target[target].get("params") for target in TARGETS if target in by_target]
        if (
            len(sizes) == 2
            and all(numbers.known(size) and size for size in sizes)
            and abs(sizes[1] / sizes[0] - 1) > 0.01
        ):
            apart.append(f"{numbers.count(sizes[1])} at {numbers.power_of_ten(flops)} FLOPs")
    if not apart:
        return Html("")
    return tag(
        "p",
        f"Sizes are those for the best dev loss. The fit of returns alone would choose {', '.join(apart)}.",
        class_="note",
    )


def _track_record(evidence: Evidence) -> Html:
    """Forecast against what was measured on the budgets that were held out."""
    held_out = [row for row in evidence.rows("held_out") if numbers.known(row.get("measured"))]
    if not held_out:
        return tag("p", "Track record: no budget was held out, so this forecast has not been tested.", class_="note")
    inside = sum(bool(row.get("inside")) for row in held_out)
    rows = [_held_out_row(row) for row in held_out]
    head = ["target", "FLOPs", "parameters", "forecast (95 %)", "measured", "off by", "verdict"]
    caption = f"Track record: {inside} of {len(held_out)} held-out results inside the forecast's 95 % interval"
    return table(head, rows, caption=caption, text=(0, 6))


def _held_out_row(row: Row) -> list[Content]:
    value, measured = row.get("value"), row.get("measured")
    off = numbers.MISSING
    if value is not None and measured is not None and numbers.known(value) and measured:
        off = f"{value / measured - 1:+.1%}".replace("%", " %").replace("-", "−")
    inside = row.get("inside")
    verdict = "no interval" if inside is None else "inside" if inside else "outside"
    return [
        NAMES.get(str(row.get("target")), str(row.get("target"))),
        numbers.power_of_ten(row.get("flops")),
        numbers.count(row.get("params")),
        _interval_cell(row),
        numbers.number(measured),
        off,
        tag("span", {"inside": "✓ ", "outside": "✗ "}.get(verdict, "") + verdict, class_=f"verdict {verdict}"),
    ]


def _warnings(evidence: Evidence) -> Html:
    warnings = [str(row.get("text") or row.get("code")) for row in evidence.rows("warnings")]
    if not warnings:
        return Html("")
    items = [tag("li", warning) for warning in warnings]
    return tag("aside", tag("h3", "Before you rely on it"), tag("ul", *items), class_="warnings")
