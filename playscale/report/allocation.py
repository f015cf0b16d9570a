"""How each law splits a budget between parameters and samples, and the laws of the two behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playscale.report import numbers
from playscale.report.evidence import NAMES, TARGETS, Evidence
from playscale.report.html import Content, Html, join, readable, symbol, table, tag, with_powers

Row = Mapping[str, Any]
METHODS = {
    "argmin": "best cells",
    "vertex": "vertices",
    "parametric": "law of N and D, all cells",
    "parametric, window": "law of N and D, cells near the best",
    "translog, window": "translog, cells near the best",
}
TERMS = {"1": "1", "n": "ln N", "d": "ln D", "n^2": "(ln N)²", "d^2": "(ln D)²", "n d": "ln N · ln D"}
MANY_BUDGETS = 3


def method_name(method: str) -> str:
    return METHODS.get(method, method)


def allocation(evidence: Evidence) -> Html:
    """A row for each target and method: the exponents of the best N and D, and the best of each forecast budget."""
    optima = [row for row in evidence.rows("optima") if numbers.positive(row.get("flops"))]
    budgets = sorted({row["flops"] for row in optima})[-MANY_BUDGETS:]
    rows: list[list[Content]] = []
    for target in TARGETS:
        found: dict[str, dict[str, Row]] = {}
        for row in evidence.rows("optimal_exponents", target=target):
            found.setdefault(str(row.get("method")), {})[str(row.get("quantity"))] = row
        used = (evidence.power_law(target, "params") or {}).get("at")
        for method, split in found.items():
            best = {row["flops"]: row for row in optima if row.get("target") == target and row.get("method") == method}
            name = method_name(method)
            rows.append([
                NAMES[target],
                tag("b", f"{name} (used)", class_="name") if method == used else tag("span", name, class_="name"),
                *(_exponent(split.get(quantity)) for quantity in ("params", "samples")),
                *(_best(best.get(flops)) for flops in budgets),
            ])  # fmt: skip
    if not rows:
        return Html("")
    head = ["best for", "by", "exponent of N", "exponent of D"]
    head += [f"N and D at {numbers.budget(flops)} FLOPs" for flops in budgets]
    note = "N is parameters, D samples: the best N grows as C to its exponent. Where the rows differ, so may the truth."
    whole = table(head, rows, caption="How each law splits a budget", text=(0, 1))
    return join([whole, tag("p", note, class_="note")])


def _exponent(row: Row | None) -> Content:
    if row is None or not numbers.known(row.get("exponent")):
        return numbers.NOTHING
    span = numbers.between(row.get("low"), row.get("high"))
    return join([numbers.number(row["exponent"]), tag("small", f" {span}") if span else None])


def _best(row: Row | None) -> Content:
    if row is None or not numbers.positive(row.get("params")):
        return numbers.NOTHING
    samples = row.get("samples")
    return numbers.count(row["params"]) + (f" on {numbers.count(samples)}" if numbers.positive(samples) else "")


def surfaces(evidence: Evidence) -> Html:
    """The laws of parameters and samples, folded: what answers for a given N and D."""
    found: Mapping[str, Row] = evidence.fit.get("parametric") or {}
    if not found:
        return Html("")
    parts = [_surface(target, law or {}) for target, law in found.items()]
    summary = tag("summary", "The laws of parameters and samples, with all their terms")
    return tag("details", summary, tag("div", *parts, class_="laws"), class_="more")


def _surface(target: str, law: Row) -> Html:
    why = str(law.get("why") or "")
    for method in sorted(METHODS, key=len, reverse=True)[:3]:
        why = why.replace(method, method_name(method))
    translog = law.get("translog") or {}
    return tag(
        "div",
        tag("h4", f"{NAMES.get(target, target).capitalize()} of N and D"),
        tag("p", with_powers(str(law["form"])), class_="formula") if law.get("form") else None,
        _parameters(law),
        tag("p", _translog_words(target, translog)) if translog.get("terms") else None,
        _terms(translog),
        tag("p", readable(why + "."), class_="why") if why else None,
        class_="law",
    )


def _parameters(law: Row) -> Html:
    rows = [
        tag("tr", tag("td", tag("i", with_powers(symbol(name)))), tag("td", parameter(given or {}), class_="number"))
        for name, given in (law.get("parameters") or {}).items()
    ]
    return tag("table", tag("tbody", *rows), aria_label="parameters of the law") if rows else Html("")


def parameter(given: Row) -> Html:
    """A parameter and its interval."""
    span = numbers.between(given.get("low"), given.get("high"))
    return join([numbers.number(given.get("value")), tag("small", f" ({span})") if span else None])


def _translog_words(target: str, translog: Row) -> str:
    left = "ln L" if target == "dev_loss" else f"{numbers.MINUS}ln R"
    cells = f" over {translog['n']:.0f} cells near the best" if numbers.known(translog.get("n")) else ""
    return f"Translog: {left} as a quadratic of ln N and ln D about their means{cells}; terms ± standard error"


def _terms(translog: Row) -> Html:
    rows = [
        tag("tr", tag("td", TERMS.get(name, name)), tag("td", _term(given or {}), class_="number"))
        for name, given in (translog.get("terms") or {}).items()
    ]
    return tag("table", tag("tbody", *rows), aria_label="terms of the translog law") if rows else Html("")


def _term(given: Row) -> str:
    error = given.get("se")
    return numbers.number(given.get("value")) + (f" ± {numbers.number(error, 2)}" if numbers.known(error) else "")
