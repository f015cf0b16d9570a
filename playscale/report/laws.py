"""The tables of what was fitted: power laws, the laws used for forecasting, their backtest, what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from playscale.report import numbers
from playscale.report.evidence import NAMES, RETURN_OF_LOSS, Evidence
from playscale.report.markup import Content, Html, join, readable, symbol, table, tag, with_powers

FORMULA = {
    ("dev_loss", "power"): "L = A C^-gamma",
    ("dev_loss", "saturating"): "L = E + A C^-gamma",
    ("dev_loss", "broken"): "L = A C^-gamma, with another exponent after a break",
    ("return_mean", "power"): "R = A C^gamma",
    ("return_mean", "bounded"): "1 / R = 1 / R_max + 1 / (A C^gamma)",
    ("return_mean", "broken"): "R = A C^gamma, with another exponent after a break",
}
AHEAD = (0.5, 1.0, 2.0, 3.0)  # decades of compute between the last budget fitted and the one forecast
FEW_POINTS = 6


def power_laws(evidence: Evidence) -> Html:
    rows = [_power_law(row) for row in evidence.rows("power_laws")]
    if not rows:
        return tag("p", "No power law could be fitted: see the warnings.", class_="note")
    head = ["best for", "what", "from", "exponent a", "95% interval", "coefficient", "R²", "budgets"]
    return table(head, rows, caption="Power laws of what is best at a budget", text=(0, 1, 2))


def _power_law(row: Mapping[str, Any]) -> list[Content]:
    quantity, of = str(row.get("quantity")), "compute"
    if quantity == RETURN_OF_LOSS:
        quantity, of = "return_mean", "dev loss"
    return [
        _name(row.get("target")),
        join([_name(quantity), f" ∝ {of}", tag("sup", "a")]),
        {"argmin": "best cells", "vertex": "vertices"}.get(str(row.get("at")), numbers.NOTHING),
        numbers.number(row.get("exponent")),
        numbers.between(row.get("low"), row.get("high"), 2) or "not known",
        numbers.number(row.get("coefficient")),
        numbers.number(row.get("r2")),
        f"{row['n']:.0f}" if numbers.known(row.get("n")) else numbers.NOTHING,
    ]


def _name(value: Any) -> str:
    return numbers.NOTHING if value is None else NAMES.get(str(value), str(value))


def forecasting_laws(evidence: Evidence) -> Html:
    """The law chosen for each target, its parameters and why it was chosen."""
    laws: Mapping[str, Mapping[str, Any]] = evidence.fit.get("laws") or {}
    if not laws:
        return Html("")
    parts = [_forecasting_law(target, law) for target, law in laws.items()]
    return join([tag("h3", "The laws used for forecasting"), tag("div", *parts, class_="laws")])


def _forecasting_law(target: str, law: Mapping[str, Any]) -> Html:
    form = str(law.get("form") or "no law")
    formula = FORMULA.get((target, form.partition(",")[0]))
    parameters = [
        tag("tr", tag("td", _symbol(name)), tag("td", _parameter(given or {}), class_="number"))
        for name, given in (law.get("parameters") or {}).items()
    ]
    why = str(law.get("why") or "").removeprefix(f"{form}: ")
    wider = law.get("widening")
    if numbers.known(wider) and wider > 1:
        why += (
            f". Its intervals are widened {numbers.number(wider, 2)} times, since in the backtest they were too narrow"
        )
    return tag(
        "div",
        tag("h4", f"{_name(target).capitalize()}: {form}"),
        tag("p", with_powers(formula), class_="formula") if formula else None,
        tag("table", tag("tbody", *parameters), aria_label=f"parameters of the {form} law") if parameters else None,
        tag("p", readable(why + "."), class_="why") if why else None,
        class_="law",
    )


def _symbol(name: str) -> Html:
    """R_max as R with a subscript, gamma as the letter."""
    base, _, below = symbol(name).partition("_")
    return join([tag("i", base), tag("sub", below) if below else None])


def _parameter(given: Mapping[str, Any]) -> Html:
    span = numbers.between(given.get("low"), given.get("high"))
    return join([numbers.number(given.get("value")), tag("small", f" ({span})") if span else None])


def backtest(evidence: Evidence) -> Html:
    """How far off each law was when fitted to the smaller budgets only, by how far ahead it forecast."""
    cells: dict[tuple[str, str], dict[float, list[Mapping[str, Any]]]] = {}
    for row in evidence.rows("backtest"):
        if numbers.known(row.get("decades_ahead")) and numbers.known(row.get("median_log_error")):
            ahead = min(AHEAD, key=lambda decades: abs(decades - row["decades_ahead"]))
            key = (str(row.get("target")), str(row.get("form")))
            cells.setdefault(key, {}).setdefault(ahead, []).append(row)
    if not cells:
        return Html("")
    chosen = {(target, law.get("form")) for target, law in (evidence.fit.get("laws") or {}).items()}
    rows: list[list[Content]] = [
        [
            _name(target),
            tag("b", f"{form} (chosen)") if (target, form) in chosen else form,
            *(_errors(found.get(ahead, [])) for ahead in AHEAD),
        ]
        for (target, form), found in cells.items()
    ]
    head = ["target", "law", *(f"{ahead:g} decade{'' if ahead == 1 else 's'} ahead" for ahead in AHEAD)]
    caption = "Backtest: median error of forecasts from smaller budgets, and how many lay inside their 95% interval"
    return table(head, rows, caption=caption, text=(0, 1))


def _errors(rows: list[Mapping[str, Any]]) -> Content:
    if not rows:
        return numbers.NOTHING
    inside = [row["coverage"] for row in rows if numbers.known(row.get("coverage"))]
    error = median(2.718281828459045 ** row["median_log_error"] - 1 for row in rows)
    return join([numbers.percent(error), tag("small", f" {numbers.percent(fmean(inside))} inside") if inside else None])


def left_out(evidence: Evidence) -> Html:
    """What no fit used, and why; budgets and points with one reason are put together."""
    excluded = evidence.rows("excluded")
    told = {(row.get("target"), row.get("flops")) for row in excluded if row.get("params") is None}
    excluded = excluded + [
        {"target": row.get("target"), "flops": row.get("flops"), "reason": row["excluded"]}
        for row in evidence.rows("profiles")
        if row.get("excluded") and (row.get("target"), row.get("flops")) not in told
    ]
    groups: dict[tuple[str, str, bool], list[Mapping[str, Any]]] = {}
    for row in excluded:
        target = _name(row["target"]) if row.get("target") else "all"
        key = (target, str(row.get("reason") or "no reason given"), row.get("params") is None)
        groups.setdefault(key, []).append(row)
    if not groups:
        return tag("p", "Nothing was left out of the fits.", class_="note")
    rows = [[target, _which(group, parabolas), reason] for (target, reason, parabolas), group in groups.items()]
    return table(["target", "left out", "reason"], rows, caption="Left out of the fits", text=(0, 1, 2))


def _which(rows: list[Mapping[str, Any]], parabolas: bool) -> str:
    if parabolas:
        return f"vertices at {', '.join(numbers.budget(row.get('flops')) for row in rows)} FLOPs"
    if len(rows) > FEW_POINTS:
        return f"{len(rows)} points (see the table of points)"
    return ", ".join(f"{numbers.count(row['params'])} at {numbers.budget(row.get('flops'))} FLOPs" for row in rows)
