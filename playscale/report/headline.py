"""The top of the report: what to train next, how good such forecasts were, warnings, target returns, GPU hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from playscale.report.evidence import NAMES, SAME_BUDGET, TARGETS, Evidence
from playscale.report.html import Content, join, readable, table, tag
from playscale.report.seeds import spread_sentence
from playscale.report.size_section import inference, off_best
from playscale.report.track_record import interval_cell, registered, tables, tested
from playscale.scaling import numbers
from playscale.scaling.ledger import Entry

Row = Mapping[str, Any]
Forecasts = dict[float, dict[str, Row]]
MANY_WARNINGS = 4
SAME_SIZE = 0.05  # sizes that differ by less are one
IN_BRACKETS = "In brackets: 95% intervals; those of sizes and data hold what two laws of the best size give."
NO_SIZE = "no size can be recommended: see why below"
LEVELS = {"yes": "yes", "with care": "with care", "no": "no, not by itself"}
FAR_APART = 1000  # the ends of an interval that says nothing
EXACT = 1e6  # a target return below is shown with all its digits
OF_SINGLE_BUDGETS = ("minimum-outside-range", "profile-not-parabolic")


def headline(evidence: Evidence, entries: Sequence[Entry] = (), drawn: Markup | None = None) -> Markup:
    """Return what to train next, and how good such forecasts were.

    Args:
        evidence: the fit and its points.
        entries: registered forecasts of this method.
        drawn: figures of the forecast, for the first screen.
    """
    forecasts = _forecasts(evidence)
    return join([
        _answer(evidence, forecasts),
        tag("p", IN_BRACKETS, class_="note") if forecasts else None,
        tested(evidence, _first(evidence, forecasts)),
        *(tag("p", tag("a", text, href="#ledger"), class_="note") for text in registered(entries)),
        _levels(evidence),
        drawn,
        verdicts(evidence),
        _seeds(evidence),
        _warnings(evidence),
        _next_table(evidence, forecasts),
        goals(evidence),
        _given_table(evidence),
        off_best(evidence),
        inference(evidence),
        cost_note(evidence),
        tables(evidence),
    ])  # fmt: skip


def verdicts(evidence: Evidence) -> Markup:
    """Say whether the table can carry a forecast of each target, and on what grounds."""
    found: Mapping[str, Row] = evidence.fit.get("verdicts") or {}
    parts = []
    for target, verdict in found.items():
        level = str(verdict.get("level"))
        name = join([f"{NAMES.get(target, target).capitalize()}: ", tag("b", LEVELS.get(level, level))])
        grounds = [tag("li", readable(str(g["text"])), class_=_level(g)) for g in verdict.get("grounds") or []]
        parts.append(tag("div", tag("p", name, class_=f"level {_level(verdict)}"), tag("ul", *grounds)))
    if not parts:
        return Markup("")
    return tag("aside", tag("h3", "Grounds for and against a forecast"), tag("div", *parts), class_="verdicts")


def _levels(evidence: Evidence) -> Markup | None:
    """Say in a line whether the table can carry a forecast of each target; the grounds follow further below."""
    found: Mapping[str, Row] = evidence.fit.get("verdicts") or {}
    parts: list[Content] = []
    for target, verdict in found.items():
        level = str(verdict.get("level"))
        parts += ["; " if parts else "Can this table carry a forecast? ", f"{NAMES.get(target, target)}: "]
        parts.append(tag("span", tag("b", LEVELS.get(level, level)), class_=f"level {_level(verdict)}"))
    return tag("p", *parts, ". The grounds are below.", class_="note") if parts else None


def _level(row: Row) -> str:
    return str(row.get("level")).replace(" ", "-")


def _seeds(evidence: Evidence) -> Markup:
    text = spread_sentence({"": evidence.fit})
    return tag("p", text, class_="note") if text else Markup("")


def _forecasts(evidence: Evidence) -> Forecasts:
    """Return the forecasts of budgets, small ones first, without those already trained unless there are no others.

    Then those of the end of the laws' curves follow, ten times the largest budget, so that one is yet to be trained.
    """
    found: Forecasts = {}
    for target in TARGETS:
        for row in evidence.forecasts(target):
            found.setdefault(float(row["flops"]), {})[target] = row
    ahead = {flops: found[flops] for flops in sorted(found) if not _is_trained(evidence, flops)}
    if ahead:
        return ahead
    for target, curve in (evidence.fit.get("curves") or {}).items():
        for row in curve[-1:]:
            if numbers.positive(row.get("flops")) and not _is_trained(evidence, row["flops"]):
                found.setdefault(float(row["flops"]), {})[target] = {"target": target, **row}
    return dict(sorted(found.items()))


def _is_trained(evidence: Evidence, flops: float) -> bool:
    return flops <= max(evidence.budgets, default=0.0) * SAME_BUDGET


def _first(evidence: Evidence, forecasts: Forecasts) -> float | None:
    """Return the smallest budget that is yet to be trained, else the largest of all."""
    return next((flops for flops in forecasts if not _is_trained(evidence, flops)), max(forecasts, default=None))


def _recommended(by_target: Mapping[str, Row]) -> Row:
    """Choose the model to train: that of the best loss, which is measured with less noise than the return."""
    return by_target.get("dev_loss") or by_target["return_mean"]


def _answer(evidence: Evidence, forecasts: Forecasts) -> Markup:
    """Say in one sentence what to train with the next budget."""
    flops = _first(evidence, forecasts)
    if flops is None:
        return tag("p", "No forecast was made: see the warnings, or give budgets to forecast.", class_="answer")
    by_target = forecasts[flops]
    row = _recommended(by_target)
    hours = row.get("gpu_hours")
    cost: list[Content] = []
    if numbers.known(hours) and cost_head(evidence) and numbers.positive(row.get("params")):
        cost = [": about ", tag("b", f"{numbers.number(hours, 2)} {cost_head(evidence)[0]}")]
    size = _trained(evidence, row)
    own, other = _by_size(by_target)
    apart: list[Content] = []
    if other:
        apart = [
            " For the best ",
            NAMES[other[0]["target"]],
            ", ",
            *_trained(evidence, other[0]),
            ".",
            *_expected(other),
        ]
    return tag(
        "p", _already(evidence, forecasts), "With ", tag("b", f"{numbers.budget(flops)} FLOPs"),
        " (already trained), " if _is_trained(evidence, flops) else ", ", *size, *cost, ".", *_expected(own), *apart,
        class_="answer",
    )  # fmt: skip


def _already(evidence: Evidence, forecasts: Forecasts) -> str:
    """Say which budgets that were asked for are trained, where another one is recommended in their place."""
    trained = [numbers.budget(flops) for flops in forecasts if _is_trained(evidence, flops)]
    if not trained or len(trained) == len(forecasts):
        return ""
    return f"{numbers.listed(trained)} FLOPs {'are' if len(trained) > 1 else 'is'} already trained. "


def _by_size(by_target: Mapping[str, Row]) -> tuple[list[Row], list[Row]]:
    """Return the forecasts at the size recommended, and those at another one: a law may recommend its own."""
    rows = [by_target[target] for target in TARGETS if target in by_target]
    other = [row for row in rows if _other_size(row, _recommended(by_target))]
    return [row for row in rows if row not in other], other


def _other_size(row: Row, than: Row) -> bool:
    """Tell whether a forecast is of another size than one, or only one of them is of a size."""
    size, usual = row.get("params"), than.get("params")
    if not (numbers.positive(size) and numbers.positive(usual)):
        return numbers.positive(size) or numbers.positive(usual)
    return abs(size / usual - 1) > SAME_SIZE


def _trained(evidence: Evidence, row: Row) -> list[Content]:
    """Write the size and the data that a forecast is of."""
    if not numbers.positive(row.get("params")):
        return [NO_SIZE]
    size = tag("b", f"{numbers.count(row['params'])} parameters")
    data = tag("b", f"{numbers.count(row.get('samples'))} {evidence.noun}")
    note = row.get("params_note")
    return ["train ", size, _brackets(_ends(row, "params"), note), " on ", data, _brackets(_ends(row, "samples"))]


def _ends(row: Row, name: str) -> str:
    """Write the interval of the size or the data that is recommended; "" where it is not known or says nothing."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if not (numbers.positive(low) and numbers.positive(high)):
        return ""
    if high / low > FAR_APART:
        return f"not known within a factor {FAR_APART:,.0f}"
    return f"{numbers.count(low)} to {numbers.count(high)}"


def _brackets(*texts: str | None) -> Markup | None:
    shown = "; ".join(text for text in texts if text)
    return tag("span", f" ({shown})", class_="ends") if shown else None


def _expected(rows: Sequence[Row]) -> list[Content]:
    known = [row for row in rows if numbers.known(row.get("value"))]
    parts: list[Content] = []
    for row in known:
        parts += [
            " and " if parts else " Expect ",
            f"{_article(row['target'])} of ",
            tag("b", numbers.as_fine(row["value"], row)),
        ]
        parts.append(_span(row))
    return [*parts, "."] if parts else []


def _article(target: str) -> str:
    return f"a {NAMES[target]}"


def _span(row: Row) -> Markup | None:
    return _brackets(numbers.interval_of(row))


def _next_table(evidence: Evidence, forecasts: Forecasts) -> Markup:
    if not forecasts:
        return Markup("")
    fitted = evidence.last_fitted_budget()
    targets = [target for target in evidence.targets if any(target in row for row in forecasts.values())]
    rows: list[list[Content]] = []
    for flops, by_target in forecasts.items():
        row = _recommended(by_target)
        size = [join([_recommended_size(row), _small(_ends(row, "params"))])]
        size.append(join([tag("b", _count(row.get("samples"))), _small(_ends(row, "samples"))]))
        cells = [_at_size(by_target.get(target), row) for target in targets]
        rows.append(
            [
                join(
                    [numbers.budget(flops), tag("small", " already trained") if _is_trained(evidence, flops) else None]
                ),
                *size,
                *cells,
                numbers.number(flops / fitted) + numbers.TIMES if fitted else numbers.MISSING,
                *cost_cells(evidence, row),
            ]
        )
    heads = [f"{NAMES[target]} (95%)" for target in targets]
    head = ["FLOPs", "parameters (95%)", f"{evidence.noun} (95%)", *heads, "times the largest fitted"]
    head += cost_head(evidence)
    return table(head, rows, caption="Recommended by budget")


def _small(text: str) -> Markup | None:
    return tag("small", f" {text}") if text else None


def _at_size(row: Row | None, recommended: Row) -> Content:
    """Write a forecast and its interval, and the size and data it is of where they are not those recommended."""
    cell = interval_cell(row)
    if row is None or not _other_size(row, recommended):
        return cell
    note = " (not measured)" if row.get("params_note") else ""
    if not numbers.positive(row.get("params")):
        return join([cell, tag("small", " at a size of its own, not known")])
    return join([cell, tag("small", f" with {numbers.count(row['params'])}{note} on {_count(row.get('samples'))}")])


def _recommended_size(row: Row) -> Markup:
    note = tag("small", " not measured") if row.get("params_note") else None
    return join([tag("b", _count(row.get("params"))), note])


def _count(value: float | None) -> str:
    return numbers.count(value) if numbers.known(value) else "none recommended"


def _given_table(evidence: Evidence) -> Markup:
    """Return the forecasts for given params and samples, which are not recommendations."""
    found: dict[tuple[float, float], dict[str, Row]] = {}
    for target in TARGETS:
        for row in evidence.given_cells(target):
            found.setdefault((row["params"], row["samples"]), {})[target] = row
    if not found:
        return Markup("")
    rows: list[list[Content]] = [
        [
            numbers.count(params),
            numbers.count(samples),
            numbers.budget(_recommended(by_target)["flops"]),
            *(interval_cell(by_target.get(target)) for target in evidence.targets),
            *cost_cells(evidence, _recommended(by_target)),
        ]
        for (params, samples), by_target in found.items()
    ]
    heads = [f"{NAMES[target]} (95%)" for target in evidence.targets]
    head = ["parameters", evidence.noun, "FLOPs", *heads, *cost_head(evidence)]
    return table(head, rows, caption="For the parameters and samples given")


def _warnings(evidence: Evidence) -> Markup:
    """List the warnings; those about single budgets are folded where there are many."""
    rows = evidence.rows("warnings")
    if not rows:
        return Markup("")
    folded = [row for row in rows if row.get("code") in OF_SINGLE_BUDGETS] if len(rows) > MANY_WARNINGS else []
    shown = [row for row in rows if row not in folded]
    more = (
        tag("details", tag("summary", f"{len(folded)} more about single budgets"), _items(folded)) if folded else None
    )
    return tag("aside", tag("h3", "Before you rely on it"), _items(shown), more, class_="warnings")


def _items(rows: list[Row]) -> Markup:
    return tag("ul", *(tag("li", readable(str(row.get("text") or row.get("code")))) for row in rows))


def goals(evidence: Evidence) -> Markup:
    """Return a row for each target return, reached or not; nothing without targets."""
    rows = [row for row in evidence.rows("target_returns") if numbers.known(row.get("value"))]
    if not rows:
        return Markup("")
    head = [
        "target",
        "return",
        "reached at FLOPs (95%)",
        "parameters (95%)",
        f"{evidence.noun} (95%)",
        *cost_head(evidence),
    ]
    whole = table(head, [_goal(evidence, row) for row in rows], caption="When a return is reached", text=(0,))
    missed = [readable(f"{row['text']}.") for row in rows if row.get("flops") is None and row.get("text")]
    return join([whole, *(tag("p", text, class_="note") for text in missed)])


def _goal(evidence: Evidence, row: Row) -> list[Content]:
    reached = numbers.positive(row.get("flops"))
    sizes = [_size(row, name) if reached else numbers.NOTHING for name in ("params", "samples")]
    cost = cost_cells(evidence, row)
    value = f"{row['value']:,.6g}" if abs(row["value"]) < EXACT else numbers.number(row["value"])
    return [row.get("name") or numbers.NOTHING, value, _where(row), *sizes, *cost]


def _size(row: Row, name: str) -> Content:
    """Return the recommended size or data with their interval: from the compute's interval and the law's."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    value: Content = numbers.count(row.get(name))
    if name == "params":
        value = _recommended_size(row)
    if not (numbers.known(low) or numbers.known(high)):
        return value
    ends = f" {numbers.count(low) if low else 'no lower end'} to {numbers.count(high) if high else 'no upper end'}"
    return join([value, tag("small", ends)])


def _where(row: Row) -> Content:
    low, high = row.get("low"), row.get("high")
    if not numbers.positive(row.get("flops")):
        may = f" interval reaches it from {numbers.budget(low)}" if low else None
        return join([tag("b", "not reached"), tag("small", may) if may else None])
    if row.get("at_smallest"):
        until = None if high in (None, row["flops"]) else tag("small", f" up to {numbers.budget(high)}")
        return join(["at the smallest budget fitted, ", tag("b", numbers.budget(row["flops"])), until])
    starts, ends = (numbers.budget(low) if low else "no lower end"), (numbers.budget(high) if high else "no upper end")
    interval = tag("small", f" {starts} to {ends}") if low or high else None
    return join([tag("b", numbers.budget(row["flops"])), interval])


def cost_head(evidence: Evidence) -> list[str]:
    """Return the columns of GPU hours and energy; none without a named GPU."""
    gpu = evidence.fit.get("hardware") or {}
    return [f"{str(gpu['name']).upper()} hours", "kWh"] if gpu.get("name") else []


def cost_cells(evidence: Evidence, row: Row) -> list[Content]:
    names = ("gpu_hours", "energy_kwh") if cost_head(evidence) else ()
    return [numbers.number(row[name]) if numbers.known(row.get(name)) else numbers.NOTHING for name in names]


def cost_note(evidence: Evidence) -> Markup:
    """Say what the GPU hours are of."""
    gpu = evidence.fit.get("hardware") or {}
    if not (numbers.positive(gpu.get("peak")) and numbers.positive(gpu.get("utilisation"))):
        return Markup("")
    text = (
        f"Hours of one {str(gpu['name']).upper()} at {numbers.percent(gpu['utilisation'])} of its"
        f" {gpu['peak'] / 1e12:,.0f} TFLOP/s; energy of the board alone, at {gpu.get('watts', 0):,.0f} W."
        " One training run of that size and budget, not the grid it takes to know it."
    )
    return tag("p", text, class_="note")
