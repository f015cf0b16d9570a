"""The tables of a result of the Python API, as HTML and as text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from playscale.cli.console import fit_tables, plain_console, plain_table, points_table, print_table
from playscale.cli.curve import forecast_lines
from playscale.cli.design import design_tables
from playscale.cli.pool_console import pool_tables
from playscale.points import Points
from playscale.report.html import join, tag
from playscale.scaling import numbers
from playscale.scaling.columns import Columns
from playscale.scaling.design import Design
from playscale.scaling.fit import Fit
from playscale.scaling.pooling import Pool
from playscale.scaling.run_curve import CurveForecast
from playscale.shown import Shown

MOST_POINTS = 30  # rows of a points table; of a longer one those of the smallest and the largest budgets


def as_html(shown: Shown) -> str:
    """Return the tables as HTML; everything in them is text, which is escaped."""
    return "\n".join(_table(one) if isinstance(one, Table) else _line(one) for one in tables_of(shown))


def as_text(shown: Shown) -> str:
    """Return the tables as the commands print them to a file."""
    text = io.StringIO()
    for one in tables_of(shown):
        print_table(one, plain_console(file=text, force_terminal=False, force_jupyter=False))
    return "\n".join(line.rstrip() for line in text.getvalue().split("\n")).rstrip("\n")


def tables_of(shown: Shown) -> Sequence[Table | Text | str]:
    """Return the tables of a result, and the lines between them."""
    match shown:
        case Fit():
            return fit_tables(shown.to_dict())
        case Design():
            return design_tables(shown.to_dict())
        case Pool():
            return pool_tables({"pool": shown.to_dict()})
        case CurveForecast():
            return list(forecast_lines(shown, shown.kind))
        case Columns():
            return [_columns(shown)]
        case Points():
            return _points(shown)
    raise TypeError(f"{type(shown).__name__} has no tables")


def _columns(columns: Columns) -> Table:
    """Return the columns that have anything in them."""
    cells = {name: [_cell(value) for value in array] for name, array in columns.items()}
    filled = {name: texts for name, texts in cells.items() if any(texts)}
    table = plain_table("", *filled)
    for row in zip(*filled.values(), strict=True):
        table.add_row(*row)
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return numbers.number(value, 4) if numbers.known(value) else ""
    return "" if value is None else str(value)


def _points(points: Points) -> list[Table | Text | str]:
    if len(points) <= MOST_POINTS:
        return [points_table(points)]
    ordered, end = sorted(points, key=lambda point: (point.flops, point.params)), MOST_POINTS // 2
    ends = points_table([*ordered[:end], *ordered[-end:]])
    return [ends, f"{len(points)} points, of which the first {end} and the last {end} by budget and size are shown"]


def _table(table: Table) -> Markup:
    """Return a table of plain text as HTML, its columns aligned as on a terminal."""

    def row(kind: str, cells: Iterable[object]) -> Markup:
        aligned = zip(cells, table.columns, strict=True)
        return tag("tr", *(tag(kind, str(cell), style=f"text-align: {column.justify}") for cell, column in aligned))

    head = row("th", (column.header for column in table.columns))
    body = [row("td", cells) for cells in zip(*(column.cells for column in table.columns), strict=True)]
    title = tag("p", tag("b", str(table.title))) if table.title else None
    return join([title, tag("table", tag("thead", head), tag("tbody", *body))])


def _line(line: Text | str) -> Markup:
    text = line.plain if isinstance(line, Text) else line
    return tag("p", text) if text else Markup()
