"""The tables of what was fitted: the laws that forecast and their backtest, power laws, optima, what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from playscale.report import track_record
from playscale.report.evidence import NAMES, TARGETS, Evidence
from playscale.report.html import Content, join, readable, symbol, table, tag, with_powers
from playscale.report.track_record import cell
from playscale.scaling import numbers
from playscale.scaling.backtest import THROUGH_LOSS
from playscale.scaling.optimum import NAME as OPTIMUM
from playscale.scaling.reach import reach_name

Row = Mapping[str, Any]
FORMULA = {
    ("dev_loss", "power"): "L = A C^-gamma",
    ("dev_loss", "saturating"): "L = E + A C^-gamma",
    ("dev_loss", "broken"): "L = A C^-gamma, with another exponent after a break",
    ("return_mean", "power"): "R = A C^gamma",
    ("return_mean", "bounded"): "1 / R = 1 / R_max + 1 / (A C^gamma)",
    ("return_mean", "broken"): "R = A C^gamma, with another exponent after a break",
}
FEW_POINTS = 6
CHOSEN = "the form was chosen on the same budgets, and intervals of the backtest may have been too narrow"
NOT_POSITIVE = "return not positive"
NAMES_OF_LAWS = {
    "argmin": "best cells",
    "argmin, inner": "best cells between other sizes",
    "vertex": "vertices",
    "parametric": "law of N and D, all cells",
    "parametric, window": "law of N and D, cells near the best",
    "translog, window": "translog, cells near the best",
}
TERMS = {"1": "1", "n": "ln N", "d": "ln D", "n^2": "(ln N)²", "d^2": "(ln D)²", "n d": "ln N · ln D"}
MANY_BUDGETS = 3


def method_name(method: str) -> str:
    """Name for people the place or law that an optimum comes from."""
    return NAMES_OF_LAWS.get(method, method)


def power_laws(evidence: Evidence) -> Markup:
    rows = [_power_law(row, evidence.noun) for row in evidence.rows("power_laws")]
    if not rows:
        isoflop = (evidence.fit.get("budgets") or {}).get("isoflop") is not False
        text = "could be fitted: see the warnings" if isoflop else "of best cells is fitted: this is no isoFLOP table"
        return tag("p", f"No power law {text}.", class_="note")
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
        numbers.as_fine(row.get("exponent"), row),
        *(numbers.between(row.get(b + "low"), row.get(b + "high"), 2) or "not known" for b in ("", "boot_")),
        numbers.number(row.get("coefficient")),
        numbers.number(row.get("r2")),
        f"{row['n']:.0f}" if numbers.known(row.get("n")) else numbers.NOTHING,
    ]


def _name(value: Any) -> str:
    return numbers.NOTHING if value is None else NAMES.get(str(value), str(value))


def forecasting_laws(evidence: Evidence) -> Markup:
    """Show the law chosen for each target, its parameters and why it was chosen."""
    laws: Mapping[str, Mapping[str, Any]] = evidence.fit.get("laws") or {}
    if not laws:
        return Markup("")
    parts = [_forecasting_law(target, law) for target, law in laws.items()]
    return join([tag("h3", "The laws used for forecasting"), tag("div", *parts, class_="laws")])


def law_sentence(target: str, law: Mapping[str, Any]) -> str:
    """Write the chosen law with its parameters in a line: dev loss: saturating, L = E + A C^-gamma with A = ..."""
    form = str(law.get("form") or "no law")
    formula = _formula(target, law)
    given = [
        f"{symbol(name)} = "
        # the interval of A, at one FLOP, says nothing to a reader
        + (numbers.number(one.get("value")) if name == "A" else numbers.with_interval(one))
        for name, one in (law.get("parameters") or {}).items()
    ]
    return (
        f"{_name(target)}: {form}"
        + (f", {formula}" if formula else "")
        + (f" with {', '.join(given)}" if given else "")
    )


def _formula(target: str, law: Mapping[str, Any]) -> str | None:
    form = str(law.get("form") or "no law")
    bounded = form.startswith("bounded by")
    formula = FORMULA.get((target, "bounded" if bounded else form.partition(",")[0]))
    if formula is None:
        return None
    if form.endswith(THROUGH_LOSS):
        formula = formula.replace("A C^gamma", "A L^-gamma") + ", L by the law of the dev loss"
    counted = f", R and R_max counted from {numbers.number(law['offset'])}" if law.get("offset") else ""
    return formula + (", R_max given" if bounded else "") + counted


def _forecasting_law(target: str, law: Mapping[str, Any]) -> Markup:
    form = str(law.get("form") or "no law")
    formula = _formula(target, law)
    parameters = [
        tag("tr", tag("td", _symbol(name)), tag("td", parameter(given or {}), class_="number"))
        for name, given in (law.get("parameters") or {}).items()
    ]
    why = str(law.get("why") or "").removeprefix(f"{form}: ")
    wider = law.get("widening")
    if numbers.known(wider) and wider > 1:
        why += f". Its intervals are widened {numbers.number(wider, 2)} times: " + (
            "intervals of its backtest on cells of larger budgets were too narrow" if form == OPTIMUM else CHOSEN
        )
    return tag(
        "div",
        tag("h4", f"{_name(target).capitalize()}: {form}"),
        tag("p", with_powers(formula), class_="formula") if formula else None,
        tag("table", tag("tbody", *parameters), aria_label=f"parameters of the {form} law") if parameters else None,
        tag("p", readable(why + "."), class_="why") if why else None,
        class_="law",
    )


def _symbol(name: str) -> Markup:
    """Write R_max as R with a subscript, gamma as the letter."""
    base, _, below = symbol(name).partition("_")
    return join([tag("i", base), tag("sub", below) if below else None])


def backtest(evidence: Evidence) -> Markup:
    """Show how far off each law was when fitted to the smaller budgets only, by how far ahead it forecast."""
    return join([_backtest(evidence, target) for target in TARGETS])


def _backtest(evidence: Evidence, target: str) -> Markup:
    found = track_record.backtest(evidence.fit, target)
    if not found:
        return Markup("")
    chosen = ((evidence.fit.get("laws") or {}).get(target) or {}).get("form")
    reaches = sorted({reach for scores in found.values() for reach in scores})
    rows: list[list[Content]] = [
        [_law_name(form, chosen), *(cell(scores.get(reach)) for reach in reaches)]
        for form, scores in sorted(found.items(), key=lambda pair: pair[0] != chosen)
    ]
    head = ["law", *map(reach_name, reaches)]
    what = f"{_name(target)}{track_record.above(evidence.fit, target)}"
    caption = (
        f"Backtest of the {what}, each law alone at every earlier budget, by how far ahead: median miss, share"
        " inside the 95% interval"
    )
    return table(head, rows, caption=caption, text=(0,))


def _law_name(form: str, chosen: str | None) -> Markup:
    name = method_name(form)
    return tag("b", f"{name} (chosen)", class_="name") if form == chosen else tag("span", name, class_="name")


def left_out(evidence: Evidence) -> Markup:
    """List what no fit used, and why; budgets and points with one reason are put together."""
    excluded = evidence.rows("excluded")
    listed = {(row.get("target"), row.get("flops")) for row in excluded if row.get("params") is None}
    excluded = excluded + [
        {"target": row.get("target"), "flops": row.get("flops"), "reason": row["excluded"]}
        for row in evidence.rows("profiles")
        if row.get("excluded") and (row.get("target"), row.get("flops")) not in listed
    ]
    groups: dict[tuple[str, str, bool], list[Mapping[str, Any]]] = {}
    for row in excluded:
        target = _name(row["target"]) if row.get("target") else "all"
        key = (target, str(row.get("reason") or "no reason given"), row.get("params") is None)
        groups.setdefault(key, []).append(row)
    if not groups:
        return tag("p", "Every point is in at least one of the fits.", class_="note")
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


def allocation(evidence: Evidence) -> Markup:
    """Show for each target and method the exponents of the best N and D, and the best of each forecast budget."""
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
        return Markup("")
    head = ["best for", "by", "exponent of N", "exponent of D"]
    head += [f"N and D at {numbers.budget(flops)} FLOPs" for flops in budgets]
    note = "N is parameters, D samples: the best N grows as C to its exponent. Where the rows differ, so may the truth."
    note += (
        " A best cell that is the last size trained is too large or too small: the exponent without these budgets is"
    )
    note += " that of the cells which measure the best, of fewer budgets."
    whole = table(head, rows, caption="How each law splits a budget", text=(0, 1))
    return join([whole, tag("p", note, class_="note")])


def _exponent(row: Row | None) -> Content:
    if row is None or not numbers.known(row.get("exponent")):
        return (row or {}).get("reason") or numbers.NOTHING
    span = numbers.interval_of(row)
    return join([numbers.as_fine(row["exponent"], row), tag("small", f" {span}") if span else None])


def _best(row: Row | None) -> Content:
    if row is None or not numbers.positive(row.get("params")):
        return numbers.NOTHING
    samples = row.get("samples")
    return numbers.count(row["params"]) + (f" on {numbers.count(samples)}" if numbers.positive(samples) else "")


def surfaces(evidence: Evidence) -> Markup:
    """Show the laws of parameters and samples, folded: they forecast a given N and D."""
    found: Mapping[str, Row] = evidence.fit.get("parametric") or {}
    if not found:
        return Markup("")
    parts = [_surface(target, law or {}) for target, law in found.items()]
    summary = tag("summary", "The laws of parameters and samples, with all their terms")
    return tag("details", summary, tag("div", *parts, class_="laws"), class_="more")


def _surface(target: str, law: Row) -> Markup:
    why = str(law.get("why") or "")
    for method in sorted(NAMES_OF_LAWS, key=len, reverse=True)[:3]:
        why = why.replace(method, method_name(method))
    translog = law.get("translog") or {}
    return tag(
        "div",
        tag("h4", f"{NAMES.get(target, target).capitalize()} of N and D"),
        tag("p", with_powers(str(law["form"])), class_="formula") if law.get("form") else None,
        _parameters(law),
        tag("p", _translog_sentence(target, translog)) if translog.get("terms") else None,
        _terms(translog),
        tag("p", readable(why + "."), class_="why") if why else None,
        class_="law",
    )


def _parameters(law: Row) -> Markup:
    rows = [
        tag("tr", tag("td", tag("i", with_powers(symbol(name)))), tag("td", parameter(given or {}), class_="number"))
        for name, given in (law.get("parameters") or {}).items()
    ]
    return tag("table", tag("tbody", *rows), aria_label="parameters of the law") if rows else Markup("")


def parameter(given: Row) -> Markup:
    """Write a parameter and its interval."""
    value, span = numbers.as_fine(given.get("value"), given), numbers.interval_of(given)
    if not numbers.known(given.get("value")) and span:
        return join([span])
    return join([value, tag("small", f" ({span})") if span else None])


def _translog_sentence(target: str, translog: Row) -> str:
    left = "ln L" if target == "dev_loss" else f"{numbers.MINUS}ln R"
    cells = f" over {translog['n']:.0f} cells near the best" if numbers.known(translog.get("n")) else ""
    return f"Translog: {left} as a quadratic of ln N and ln D about their means{cells}; terms ± standard error"


def _terms(translog: Row) -> Markup:
    rows = [
        tag("tr", tag("td", TERMS.get(name, name)), tag("td", _term(given or {}), class_="number"))
        for name, given in (translog.get("terms") or {}).items()
    ]
    return tag("table", tag("tbody", *rows), aria_label="terms of the translog law") if rows else Markup("")


def _term(given: Row) -> str:
    return numbers.with_error(given.get("value"), given.get("se"))
