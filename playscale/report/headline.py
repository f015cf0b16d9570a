"""The top of the report: what to train next, how good its forecast was where it was tested, and what to beware of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playscale.report import numbers
from playscale.report.evidence import NAMES, SAME_BUDGET, TARGETS, Evidence
from playscale.report.markup import Content, Html, join, readable, table, tag

Row = Mapping[str, Any]
Forecasts = dict[float, dict[str, Row]]
MANY_WARNINGS = 4
OF_SINGLE_BUDGETS = ("minimum-outside-range", "profile-not-parabolic")


def headline(evidence: Evidence) -> Html:
    forecasts = _forecasts(evidence)
    held_out = [row for row in evidence.rows("held_out") if numbers.known(row.get("measured"))]
    return join([
        _answer(forecasts),
        _tested(held_out),
        _warnings(evidence),
        _next_table(evidence, forecasts),
        _track_record(held_out, evidence.rows("held_out_cells")),
    ])  # fmt: skip


def _forecasts(evidence: Evidence) -> Forecasts:
    """{FLOPs: {target: forecast}}, small budgets first, without those already trained unless there are no others."""
    found: Forecasts = {}
    for row in evidence.rows("forecasts"):
        if numbers.positive(row.get("flops")) and row.get("target") in TARGETS:
            found.setdefault(float(row["flops"]), {})[row["target"]] = row
    trained = max(evidence.budgets, default=0.0) * SAME_BUDGET
    ahead = {flops: found[flops] for flops in sorted(found) if flops > trained}
    return ahead or dict(sorted(found.items()))


def _recommended(by_target: Mapping[str, Row]) -> Row:
    """The model to train: the one for the best loss, which is measured with less noise than the return."""
    return by_target.get("dev_loss") or by_target["return_mean"]


def _answer(forecasts: Forecasts) -> Html:
    """The next budget, in one sentence."""
    if not forecasts:
        return tag("p", "No forecast was made: see the warnings, or give budgets to forecast.", class_="answer")
    flops, by_target = next(iter(forecasts.items()))
    row = _recommended(by_target)
    expected: list[Content] = []
    for target in TARGETS:
        if numbers.known(by_target.get(target, {}).get("value")):
            given = by_target[target]
            expected += [
                " and " if expected else " Expect ",
                f"{_article(target)} of ",
                tag("b", numbers.number(given["value"])),
            ]
            expected.append(_span(given))
    train = [
        tag("b", f"{numbers.count(row.get('params'))} parameters"),
        " on ",
        tag("b", f"{numbers.count(row.get('samples'))} samples"),
    ]
    return tag(
        "p", "With ", tag("b", f"{numbers.budget(flops)} FLOPs"), ", train ", *train, ".",
        *expected, "." if expected else None, class_="answer",
    )  # fmt: skip


def _article(target: str) -> str:
    return f"a {NAMES[target]}"


def _span(row: Row) -> str:
    span = numbers.between(row.get("low"), row.get("high"))
    return f" ({span})" if span else ""


def _tested(held_out: list[Row]) -> Html:
    """One line: how the forecast did on the budgets that were held out."""
    if not held_out:
        return tag("p", "This forecast has not been tested: no budget was held out.", class_="note")
    judged = [row for row in held_out if row.get("inside") is not None]
    inside = sum(bool(row["inside"]) for row in judged)
    budgets = " and ".join(dict.fromkeys(numbers.budget(row.get("flops")) for row in held_out))
    verdict = "inside" if inside == len(judged) else "outside"
    text = (
        f"{inside} of {len(judged)} results within the forecast's 95% interval" if judged else "no interval to judge by"
    )
    return tag(
        "p",
        f"Tested on the held-out budget of {budgets} FLOPs: ",
        tag("span", text, class_=f"verdict {verdict}"),
        ".",
        class_="note",
    )


def _next_table(evidence: Evidence, forecasts: Forecasts) -> Html:
    if not forecasts:
        return Html("")
    fitted = evidence.last_fitted_budget()
    rows: list[list[Content]] = []
    for flops, by_target in forecasts.items():
        row = _recommended(by_target)
        size = [tag("b", numbers.count(row.get("params"))), tag("b", numbers.count(row.get("samples")))]
        cells = [_interval_cell(by_target.get(target)) for target in TARGETS]
        rows.append(
            [
                numbers.budget(flops),
                *size,
                *cells,
                numbers.number(flops / fitted, 2) + numbers.TIMES if fitted else numbers.MISSING,
            ]
        )
    head = ["FLOPs", "parameters", "samples", "dev loss (95%)", "return (95%)", "times the largest fitted"]
    return join([table(head, rows, caption="Recommended by budget"), _other_optimum(forecasts)])


def _interval_cell(row: Row | None) -> Content:
    if row is None or not numbers.known(row.get("value")):
        return "no forecast"
    span = numbers.between(row.get("low"), row.get("high"))
    return join([numbers.number(row["value"]), tag("small", f" {span}") if span else None])


def _other_optimum(forecasts: Forecasts) -> Html:
    """Says where the best size for the return is another one than for the loss."""
    apart = []
    for flops, by_target in forecasts.items():
        given = [by_target[target].get("params") for target in TARGETS if target in by_target]
        sizes = [size for size in given if numbers.positive(size)]
        if len(sizes) == 2 and abs(sizes[1] / sizes[0] - 1) > 0.05:
            apart.append(f"{numbers.count(sizes[1])} at {numbers.budget(flops)} FLOPs")
    if not apart:
        return Html("")
    text = (
        f"Sizes are those for the best dev loss. Fitted to returns alone, the best sizes would be {', '.join(apart)}."
    )
    return tag("p", text, class_="note")


def _track_record(held_out: list[Row], cells: list[Row]) -> Html:
    """Forecast against what was measured on the budgets that were held out."""
    if not held_out:
        return Html("")
    head = ["target", "FLOPs", "parameters", "forecast (95%)", "measured", "forecast is off by", "verdict"]
    whole = table(
        head, [_held_out_row(row) for row in held_out], caption="Forecast against held-out truth", text=(0, 6)
    )
    judged = [row for row in cells if row.get("inside") is not None]
    if not judged:
        return whole
    inside = sum(bool(row["inside"]) for row in judged)
    text = f"All held-out cells, forecast from their size and data: {inside} of {len(judged)} inside the 95% interval."
    return join([whole, tag("p", text, class_="note")])


def _held_out_row(row: Row) -> list[Content]:
    value, measured, inside = row.get("value"), row.get("measured"), row.get("inside")
    off = (
        numbers.percent(value / measured - 1, "+.1%")
        if numbers.known(value) and numbers.positive(measured)
        else numbers.MISSING
    )
    verdict = "no interval" if inside is None else "inside" if inside else "outside"
    return [
        NAMES.get(str(row.get("target")), str(row.get("target"))),
        numbers.budget(row.get("flops")),
        numbers.count(row.get("params")),
        _interval_cell(row),
        numbers.number(measured),
        off,
        tag("span", {"inside": "✓ ", "outside": "✗ "}.get(verdict, "") + verdict, class_=f"verdict {verdict}"),
    ]


def _warnings(evidence: Evidence) -> Html:
    """What the whole forecast rests on first; what concerns single budgets is folded where there is much of it."""
    rows = evidence.rows("warnings")
    if not rows:
        return Html("")
    folded = [row for row in rows if row.get("code") in OF_SINGLE_BUDGETS] if len(rows) > MANY_WARNINGS else []
    shown = [row for row in rows if row not in folded]
    more = (
        tag("details", tag("summary", f"{len(folded)} more about single budgets"), _items(folded)) if folded else None
    )
    return tag("aside", tag("h3", "Before you rely on it"), _items(shown), more, class_="warnings")


def _items(rows: list[Row]) -> Html:
    return tag("ul", *(tag("li", readable(str(row.get("text") or row.get("code")))) for row in rows))
