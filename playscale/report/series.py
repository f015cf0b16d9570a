"""The numbers that a figure draws, by series: written as CSV beside the figure and in the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

DIGITS = 10  # significant ones of a number


class Number(NamedTuple):
    """A place in a figure. low, high: its 95 % interval, or without y the band there; note: more about it."""

    series: str
    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def csv_text(numbers: Sequence[Number], x: str, y: str) -> str:
    """Write the numbers of a figure as CSV, a place a row; x, y: labels of its axes, with their units."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["series", x or "x", y or "y", "low", "high", "note"])
    for one in numbers:
        values = [_written(value) for value in (one.x, one.y, one.low, one.high)]
        writer.writerow([one.series, *values, one.note.replace("\n", "; ")])
    return file.getvalue()


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"
