"""The tables of what was fitted: power laws, the laws used for forecasting, their backtest, what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playscale.report import numbers
from playscale.report import track_record as record
from playscale.report.allocation import method_name, parameter
from playscale.report.evidence import NAMES, TARGETS, Evidence
from playscale.report.html import Content, Html, join, readable, symbol, table, tag, with_powers
from playscale.report.tested import cell

FORMULA = {
    ("dev_loss", "power"): "L = A C^-gamma",
    ("dev_loss", "saturating"): "L = E + A C^-gamma",
    ("dev_loss", "broken"): "L = A C^-gamma, with another exponent after a break",
    ("return_mean", "power"): "R = A C^gamma",
    ("return_mean", "bounded"): "1 / R = 1 / R_max + 1 / (A C^gamma)",
    ("return_mean", "broken"): "R = A C^gamma, with another exponent after a break",
}
ENDS = ("value", "low", "high")
FEW_POINTS = 6
NOT_POSITIVE = "return not positive"


def power_laws(evidence: Evidence) -> Html:
    rows = [_power_law(row, evidence.noun) for row in evidence.rows("power_laws")]
    if not rows:
        return tag("p", "No power law could be fitted: see the warnings.", class_="note")
    head = ["best for", "what", "from", "exponent a", "95% interval", "bootstrap 95%", "coefficient", "R²", "budgets"]
    return table(head, rows, caption="Power laws of what is best at a budget", text=(0, 1, 2))


def _power_law(row: Mapping[str, Any], noun: str) -> list[Content]:
    quantity, of = str(row.get("quantity")).replace("samples", noun), "compute"
    if " of " in quantity:
        quantity, of = quantity.split(" of ")
    return [
        _name(row.get("target")),
        join([_name(quantity), f" ∝ {_name(of)}", tag("sup", "a")]),
        {"argmin": "best cells", "vertex": "vertices"}.get(str(row.get("at")), numbers.NOTHING),
        numbers.number(row.get("exponent")),
        *(numbers.between(row.get(b + "low"), row.get(b + "high"), 2) or "not known" for b in ("", "boot_")),
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


def law_sentence(target: str, law: Mapping[str, Any]) -> str:
    """The chosen law with its parameters in a line: dev loss: saturating, L = E + A C^-gamma with A = ..."""
    form = str(law.get("form") or "no law")
    formula = _formula(target, form)
    given = [
        f"{symbol(name)} = "
        # the interval of A, at one FLOP, says nothing to a reader
        + (numbers.number(one.get("value")) if name == "A" else numbers.with_interval(*map(one.get, ENDS)))
        for name, one in (law.get("parameters") or {}).items()
    ]
    return (
        f"{_name(target)}: {form}"
        + (f", {formula}" if formula else "")
        + (f" with {', '.join(given)}" if given else "")
    )


def _formula(target: str, form: str) -> str | None:
    if form.startswith("bounded by"):
        return f"{FORMULA['return_mean', 'bounded']}, R_max given"
    return FORMULA.get((target, form.partition(",")[0]))


def _forecasting_law(target: str, law: Mapping[str, Any]) -> Html:
    form = str(law.get("form") or "no law")
    formula = _formula(target, form)
    parameters = [
        tag("tr", tag("td", _symbol(name)), tag("td", parameter(given or {}), class_="number"))
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


def backtest(evidence: Evidence) -> Html:
    """How far off each law was when fitted to the smaller budgets only, by how far ahead it forecast."""
    return join([_backtest(evidence, target) for target in TARGETS])


def _backtest(evidence: Evidence, target: str) -> Html:
    found = record.backtest(evidence.fit, target)
    if not found:
        return Html("")
    chosen = ((evidence.fit.get("laws") or {}).get(target) or {}).get("form")
    reaches = sorted({reach for scores in found.values() for reach in scores})
    rows: list[list[Content]] = [
        [_law_name(form, chosen), *(cell(scores.get(reach)) for reach in reaches)]
        for form, scores in sorted(found.items(), key=lambda pair: pair[0] != chosen)
    ]
    head = ["law", *map(record.reach_name, reaches)]
    caption = (
        f"Backtest of every law of the {_name(target)}, by how far ahead: median miss, share inside the 95% interval"
    )
    return table(head, rows, caption=caption, text=(0,))


def _law_name(form: str, chosen: str | None) -> Html:
    name = method_name(form)
    return tag("b", f"{name} (chosen)", class_="name") if form == chosen else tag("span", name, class_="name")


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
    whole = table(["target", "left out", "reason"], rows, caption="Left out of the fits", text=(0, 1, 2))
    if not any(reason == NOT_POSITIVE for _, reason, _ in groups):
        return whole
    text = (
        "The laws are fitted to logarithms, and a return of 0 or less has none: cells with such a mean return are left"
        " out of every fit of the return, and drawn at the lower edge of its figures. Their dev losses are fitted."
    )
    return join([whole, tag("p", text, class_="note")])


def _which(rows: list[Mapping[str, Any]], parabolas: bool) -> str:
    if parabolas:
        return f"vertices at {', '.join(numbers.budget(row.get('flops')) for row in rows)} FLOPs"
    if len(rows) > FEW_POINTS:
        return f"{len(rows)} points (see the table of points)"
    return ", ".join(f"{numbers.count(row['params'])} at {numbers.budget(row.get('flops'))} FLOPs" for row in rows)
