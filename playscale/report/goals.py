"""The compute at which a target return is forecast to be reached, and what a budget costs on the named GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playscale.report import numbers
from playscale.report.evidence import Evidence
from playscale.report.html import Content, Html, join, readable, table, tag

Row = Mapping[str, Any]
EXACT = 1e6  # a target below is shown as it was given


def goals(evidence: Evidence) -> Html:
    """A row for each target return, reached or not; nothing where none was asked for."""
    rows = [row for row in evidence.rows("target_returns") if numbers.known(row.get("value"))]
    if not rows:
        return Html("")
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
    """What is recommended there, and between what: of the compute's interval and of the law that recommends."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    value = numbers.count(row.get(name))
    if not (numbers.known(low) or numbers.known(high)):
        return value
    ends = f" {numbers.count(low) if low else 'no lower end'} to {numbers.count(high) if high else 'no upper end'}"
    return join([value, tag("small", ends)])


def _where(row: Row) -> Content:
    low, high = row.get("low"), row.get("high")
    if not numbers.positive(row.get("flops")):
        may = f" interval reaches it from {numbers.budget(low)}" if low else None
        return join([tag("b", "not reached"), tag("small", may) if may else None])
    ends = f"{numbers.budget(low)} to {numbers.budget(high) if high else 'no upper end'}" if low else ""
    return join([tag("b", numbers.budget(row["flops"])), tag("small", f" {ends}") if ends else None])


def cost_head(evidence: Evidence) -> list[str]:
    """Columns of GPU hours and energy; none without a named GPU."""
    gpu = evidence.fit.get("hardware") or {}
    return [f"{str(gpu['name']).upper()} hours", "kWh"] if gpu.get("name") else []


def cost_cells(evidence: Evidence, row: Row) -> list[Content]:
    names = ("gpu_hours", "energy_kwh") if cost_head(evidence) else ()
    return [numbers.number(row[name]) if numbers.known(row.get(name)) else numbers.NOTHING for name in names]


def cost_note(evidence: Evidence) -> Html:
    """What the hours rest on."""
    gpu = evidence.fit.get("hardware") or {}
    if not (numbers.positive(gpu.get("peak")) and numbers.positive(gpu.get("utilisation"))):
        return Html("")
    text = (
        f"Hours of one {str(gpu['name']).upper()} at {numbers.percent(gpu['utilisation'])} of its"
        f" {gpu['peak'] / 1e12:,.0f} TFLOP/s; energy of the board alone, at {gpu.get('watts', 0):,.0f} W."
        " One training run of that size and budget, not the grid it takes to know it."
    )
    return tag("p", text, class_="note")
