"""Exponents that somebody published of a table, to put beside ours: a CSV of reference values."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REQUIRED = ("table", "target", "quantity", "exponent")
COLUMNS = (*REQUIRED, "from_flops", "at")
QUANTITIES = {
    "dev_loss": ("params", "samples", "dev_loss"),
    "return_mean": ("params", "samples", "return_mean", "return_mean of dev_loss"),
}
PLACES = ("argmin", "vertex")


@dataclass(frozen=True)
class Published:
    """One published exponent. table: the stem of the table's file; from_flops: of the budgets from there on, None for
    all; target: what is best at a budget; quantity: as in fit.json's power_laws; at: argmin | vertex.
    """

    table: str
    from_flops: float | None
    target: str
    quantity: str
    at: str
    exponent: float


def read_published(path: Path) -> list[Published]:
    """Columns table, target, quantity, exponent, and, where wanted, from_flops and at (default: argmin).

    ValueError, one line with file, line and column, for what is not such a file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a CSV of reference values ({error})") from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}, line 1: no column {', '.join(missing)}; the header is {','.join(COLUMNS)}")
    found: dict[tuple[object, ...], Published] = {}
    for row in reader:
        try:
            one = _published({name: (row.get(name) or "").strip() for name in COLUMNS})
            key = (one.table, one.from_flops, one.target, one.quantity, one.at)
            if key in found:
                raise ValueError("the same table, from_flops, target, quantity and at as in a line above")
        except ValueError as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
        found[key] = one
    if not found:
        raise ValueError(f"{path}: a header but no reference values")
    return list(found.values())


def _published(row: Mapping[str, str]) -> Published:
    _one_of("target", row["target"], tuple(QUANTITIES))
    _one_of("quantity", row["quantity"], QUANTITIES[row["target"]])
    at = row["at"] or PLACES[0]
    _one_of("at", at, PLACES)
    if not row["table"]:
        raise ValueError("column table: empty; give the name of the table's file without .csv")
    from_flops = _number("from_flops", row["from_flops"]) if row["from_flops"] else None
    if from_flops is not None and from_flops <= 0:
        raise ValueError(f"column from_flops: {from_flops:g} must be greater than zero; leave it empty for all budgets")
    return Published(row["table"], from_flops, row["target"], row["quantity"], at, _number("exponent", row["exponent"]))


def _one_of(column: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f'column {column}: "{value}" is not one of {", ".join(known)}')


def _number(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'column {column}: "{text}" is not a number')
    return value
