"""The section on exponents pooled over tables: each table's own and the pooled one, and which forecast better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from playscale.report.axes import exponent_axis, own_defaults
from playscale.report.drawing import Drawing, Plot
from playscale.report.evidence import NAMES, Evidence
from playscale.report.html import Content, join, table, tag
from playscale.report.palette import FAINT, INK, SOFT, TARGET_COLOUR
from playscale.report.text import short_name
from playscale.scaling import numbers

Row = Mapping[str, Any]
ROW_HEIGHT, ROWS = 0.35, 8  # inches of a table's two lines, and tables that the figure has room for as it is
APART = 0.17  # half the distance of a table's two lines


def pooled_rows(fit: Row) -> list[Row]:
    """Return the pooled exponents of a fit.json; none where none were pooled."""
    return (fit.get("pool") or {}).get("exponents") or []


def pool_section(fit: Row, drawn: Markup) -> Markup:
    """Say for each quantity what was found; the figures, as they are drawn; and all numbers side by side."""
    rows = pooled_rows(fit)
    listed = tag("ul", *(tag("li", sentence(row)) for row in rows))
    return join([listed, drawn, _exponents(rows), _scores(rows), _forecasts(fit)])


def quantity_name(row: Row) -> str:
    """Name a quantity of a pooled row: "best parameters for the return", "return"."""
    target = NAMES.get(str(row.get("target")), str(row.get("target")))
    if row.get("quantity") == row.get("target"):
        return target
    return f"best {NAMES.get(str(row.get('quantity')), str(row.get('quantity')))} for the {target}"


def sentence(row: Row) -> str:
    """Say the mean exponent, the scatter between tables, and whether pooling forecast better."""
    name, count = quantity_name(row), len(row.get("tables") or [])
    low, high = row.get("between_low"), row.get("between_high")
    text = (
        f"{name[0].upper()}{name[1:]}: mean exponent {_three(row.get('mean'))} ({_span(row)}) over {count} tables,"
        f" which scatter by {_three(row.get('between'))} ({_three(low)} to {_three(high)}); a further table's lies from"
        f" {_three(row.get('new_low'))} to {_three(row.get('new_high'))}. "
    )
    ratio = row.get("ratio")
    if not numbers.known(ratio):
        return text + "No table has budgets to forecast from earlier ones, so nothing says that pooling helps."
    than = f"{numbers.number(ratio, 2)} times the error of its own exponent"
    kept = "the pooled exponents are the better guess" if row.get("kept") else "each table's own exponent is kept"
    return text + f"With one table left out, its exponent shrunk to the others forecast with {than}: {kept}."


def _three(value: float | None) -> str:
    return f"{value:.3f}".replace("-", numbers.MINUS) if numbers.known(value) else numbers.NOTHING


def _span(row: Row, of: str = "") -> str:
    return f"{_three(row.get(of + 'low'))} to {_three(row.get(of + 'high'))}"


def _exponents(rows: list[Row]) -> Markup:
    shown: list[list[Content]] = [
        [
            quantity_name(row), short_name(str(one.get("table"))), _three(one.get("exponent")), _span(one),
            _three(one.get("pooled")), _span(one, "pooled_"), numbers.percent(one.get("shrunk")),
        ]
        for row in rows
        for one in row.get("tables") or []
    ]  # fmt: skip
    head = ["exponent of", "table", "its own", "95% interval", "pooled", "95% interval", "shrunk by"]
    return table(head, shown, caption="Exponents of each table alone and pooled", text=(0, 1))


def _scores(rows: list[Row]) -> Markup:
    shown: list[list[Content]] = [
        [
            quantity_name(row), short_name(str(one.get("table"))), str(one.get("forecasts")),
            *(numbers.off(one.get(of + "error")) for of in ("", "pooled_")),
            *(numbers.percent(one.get(of + "coverage")) for of in ("", "pooled_")),
            *(numbers.number(one.get(of + "score")) for of in ("", "pooled_")),
        ]
        for row in rows
        for one in row.get("left_out") or []
    ]  # fmt: skip
    head = ["law of", "table left out", "forecasts", "missed by, own", "pooled", "inside 95%, own", "pooled"]
    caption = (
        "Later budgets of a table forecast from its earlier ones, by its own exponent and by one shrunk to the others"
    )
    return table([*head, "interval score, own", "pooled"], shown, caption=caption, text=(0, 1)) if shown else Markup("")


def _forecasts(fit: Row) -> Markup:
    kept = {(row.get("target"), row.get("quantity")) for row in pooled_rows(fit) if row.get("kept")}
    shown: list[list[Content]] = []
    for row in (fit.get("pool") or {}).get("forecasts") or []:
        own, pooled = _value(row), _value(row, "pooled_")
        better = (row.get("target"), row.get("quantity")) in kept
        shown.append([
            short_name(str(row.get("table"))), quantity_name(row), numbers.budget(row.get("flops")),
            own if better else tag("b", own), tag("b", pooled) if better else pooled,
        ])  # fmt: skip
    head = ["table", "power law of", "FLOPs", "by its own exponent", "by the pooled one"]
    caption = "What the power laws give for forecast budgets; in bold by the exponent that is kept"
    return table(head, shown, caption=caption, text=(0, 1)) if shown else Markup("")


def _value(row: Row, of: str = "") -> str:
    """Write a forecast of a size or amount of data with its unit, of a loss or return as a number."""
    write = numbers.count if row.get("quantity") in ("params", "samples") else numbers.number
    value, low, high = (write(row.get(of + end)) for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


@own_defaults()
def pool_plots(fit: Row) -> list[Plot]:
    """Draw each quantity's exponents with their intervals, a table's own and the pooled one below each other."""
    return [_forest(row) for row in pooled_rows(fit)]


def _forest(row: Row) -> Plot:
    target, tables = str(row.get("target")), row.get("tables") or []
    drawing = Drawing(f"pooled_{target}_{row.get('quantity')}", Evidence.of({}, []))
    drawing.figure.set_figheight(drawing.figure.get_figheight() + ROW_HEIGHT * max(len(tables) - ROWS, 0))
    own = {"color": SOFT, "marker": "o", "markerfacecolor": "none"}
    pooled = {"color": TARGET_COLOUR.get(target, INK), "marker": "o"}
    for i, one in enumerate(tables):
        name = short_name(str(one.get("table")))
        _bar(drawing, one, "", -i + APART, f"{name} alone", "its own", own)
        _bar(drawing, {**one, "exponent": one.get("pooled")}, "pooled_", -i - APART, f"{name} pooled", "pooled", pooled)
    last = -len(tables)
    mean = {**row, "exponent": row.get("mean")}
    drawing.line([row["new_low"], row["new_high"]], [last, last], color=FAINT, linewidth=3, label="a further table's")
    _bar(drawing, mean, "", last, "mean of all tables", "mean", {"color": INK, "marker": "D"})
    drawing.axes.axvline(row["mean"], color=FAINT, linewidth=1, zorder=1)
    names = [*(short_name(str(one.get("table"))) for one in tables), "mean"]
    drawing.axes.set_yticks([-i for i in range(len(names))], labels=names)
    drawing.axes.set_ylim(last - 0.5, 0.5)
    exponent_axis(drawing.axes, [*tables, mean])
    better = "pooling forecasts better" if row.get("kept") else "pooling does not forecast better"
    title = f"Exponent of the {quantity_name(row)} by table: {better}"
    caption = (
        "Hollow: fitted to the table alone. Filled: shrunk towards the others by what tables differ from each other."
        " Bars: 95% intervals, cut where they are far wider than the exponents differ. The grey bar holds the exponent"
        " of a further table."
    )
    return drawing.finish(title, caption, f"Exponents of {len(tables)} tables, alone and pooled.", 4)


def _bar(drawing: Drawing, one: Row, of: str, y: float, what: str, label: str, look: Mapping[str, Any]) -> None:
    tip = f"{what}: {_three(one['exponent'])} ({_span(one, of)})"
    ends = one[of + "low"], one[of + "high"]
    drawing.mark(one["exponent"], y, tip, label=label, interval=ends, across=True, **look)
