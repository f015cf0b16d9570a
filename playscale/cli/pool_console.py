"""The table of pooled exponents on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from playscale.cli.console import POOLED, interval, plain_table
from playscale.report.pool_section import pooled_rows, quantity_name


def pool_tables(fit: Mapping[str, Any]) -> list[Table]:
    """List each quantity's exponents, a table's own and pooled, and which forecast better; nothing without a pool."""
    if not pooled_rows(fit):
        return []
    exponent, table, kept = POOLED
    columns = (exponent, table, "its own (95 %)", "pooled (95 %)", "error with it left out", kept)
    listed = plain_table("Exponents pooled over tables", *columns)
    for row in pooled_rows(fit):
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} times its own"
        first = [quantity_name(row), ratio, "pooled" if row["kept"] else "its own"]
        for one in row["tables"]:
            own, pooled = (
                f"{one[value]:.3f} {interval(one[of + 'low'], one[of + 'high'], '.3f')}"
                for value, of in (("exponent", ""), ("pooled", "pooled_"))
            )
            listed.add_row(first[0], one["table"], own, pooled, *first[1:])
            first = ["", "", ""]
        mean = f"{row['mean']:.3f} {interval(row['low'], row['high'], '.3f')}"
        listed.add_row("", "mean", "", mean, "", "", end_section=True)
    return [listed]
