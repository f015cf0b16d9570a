"""Tables of the report: the cost of a size that is off, and the best size when inference counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from playscale.report.evidence import NAMES, Evidence
from playscale.report.html import Content, join, table, tag
from playscale.report.law_section import method_name
from playscale.report.track_record import interval_cell
from playscale.scaling import numbers

Row = Mapping[str, Any]
METHODS = {"profiles": "curvature of the profiles"}


def off_best(evidence: Evidence) -> Markup:
    """Return what half and twice the best size give at each forecast budget."""
    rows: list[list[Content]] = [
        [
            NAMES[half["target"]],
            numbers.budget(half["flops"]),
            METHODS.get(half["method"]) or method_name(half["method"]),
            *(cell for row in (half, twice) for cell in (interval_cell(row), lost(row))),
        ]
        for half, twice in pairs(evidence.rows("off_sizes"))
    ]
    if not rows:
        return Markup("")
    head = ["of", "FLOPs", "by", "half the best size (95%)", "lost", "twice the best size (95%)", "lost"]
    note = (
        "Lost: of the best loss that is added, of the best return that is missing, with its 95% interval. Where that is"
        " small, a smaller model is cheaper to play with, and nearly as good."
    )
    whole = table(head, rows, caption="If the size is off", text=(0, 2))
    return join([whole, tag("p", note, class_="note")])


def pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """Return the rows of half and of twice the best size beside each other, by target, budget and method."""
    found: dict[tuple[str, float, str], dict[float, Row]] = {}
    for row in (row for row in rows if numbers.positive(row.get("flops"))):
        found.setdefault((row["target"], row["flops"], row["method"]), {})[row["factor"]] = row
    return [(both[0.5], both[2.0]) for both in found.values()]


def lost(row: Row) -> str:
    """Write the share that is lost, and its interval."""
    share, low, high = (numbers.percent(row[name], ".1%") for name in ("worse", "worse_low", "worse_high"))
    return f"{share} (above {low})" if row["worse_high"] is None else f"{share} ({low} to {high})"


def inference(evidence: Evidence) -> Markup:
    """Return the best size of each budget that pays for inference too."""
    rows: list[list[Content]] = []
    for row in (row for row in evidence.rows("inference") if numbers.positive(row.get("flops"))):
        first = [NAMES[row["target"]], numbers.budget(row["flops"]), numbers.count(row["inference_samples"])]
        if row["params"] is None:
            rows.append([*first, row["reason"], *[numbers.NOTHING] * 4])
            continue
        note = tag("small", " not measured") if row.get("params_note") else None
        size = f" {numbers.count(row['params_low'])} to {numbers.count(row['params_high'])}"
        rows.append([
            *first,
            join([tag("b", numbers.count(row["params"])), tag("small", size), note]),
            numbers.count(row["samples"]),
            numbers.percent(row["inference_flops"] / row["flops"]),
            interval_cell(row),
            _plain(row),
        ])  # fmt: skip
    if not rows:
        return Markup("")
    head = [
        "best for", "FLOPs in all", "inference samples", "parameters (95%)", f"training {evidence.noun}",
        "share of inference", "value (95%)", "with the size that training alone would have",
    ]  # fmt: skip
    text = "A budget pays for training and for inference; a sample of inference costs a third of one of training."
    whole = table(head, rows, caption="When inference counts", text=(0,))
    return join([whole, tag("p", text, class_="note")])


def _plain(row: Row) -> str:
    """Write what the best size of training alone gives on the same budget."""
    size = numbers.count(row["plain_params"])
    return (
        f"{numbers.number(row['plain_value'])} with {size}"
        if numbers.known(row["plain_value"])
        else f"none left with {size}"
    )
