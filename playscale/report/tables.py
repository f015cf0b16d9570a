"""The tables of the report: laws, what was left out, points, references, and the details of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playscale.report import numbers
from playscale.report.evidence import NAMES, Evidence
from playscale.report.markup import Content, Html, join, table, tag

MANY_LINES = 3  # a detail longer than this is folded


def power_laws(evidence: Evidence) -> Html:
    rows = [_power_law(row) for row in evidence.rows("power_laws")]
    if not rows:
        return tag("p", "No power law could be fitted: see the warnings.", class_="note")
    head = ["best for", "what", "from", "exponent", "95 % interval", "coefficient", "R²", "budgets"]
    return table(head, rows, caption="Power laws of what is best at a budget", text=(0, 1, 2))


def _power_law(row: Mapping[str, Any]) -> list[Content]:
    quantity = str(row.get("quantity"))
    of = {"flops": "C", "dev_loss": "L"}.get(str(row.get("of", "flops")), "C")
    span = numbers.between(row.get("low"), row.get("high"), 2)
    return [
        _name(row.get("target")),
        join([_name(quantity), " ∝ ", of, tag("sup", "a")]),
        _name(row.get("at")),
        numbers.number(row.get("exponent")),
        span or "not known",
        numbers.number(row.get("coefficient")),
        numbers.number(row.get("r2")),
        str(row.get("n") if row.get("n") is not None else numbers.MISSING),
    ]


def _name(value: Any) -> str:
    if value is None:
        return "–"
    return {"argmin": "best measured", "vertex": "parabola"}.get(str(value), NAMES.get(str(value), str(value)))


def forecasting_laws(evidence: Evidence) -> Html:
    """The law chosen for each target, its parameters and why it was chosen."""
    parts = []
    for target, law in (evidence.fit.get("laws") or {}).items():
        parameters = [
            tag(
                "li",
                tag("b", name),
                " = ",
                numbers.with_interval(given.get("value"), given.get("low"), given.get("high")),
            )
            for name, given in (law.get("parameters") or {}).items()
        ]
        why = law.get("why")
        parts.append(
            tag(
                "div",
                tag("h3", f"{_name(target).capitalize()}: {law.get('form') or 'no law'}"),
                tag("p", why) if why else None,
                tag("ul", *parameters, class_="parameters") if parameters else None,
                class_="law",
            )
        )
    if not parts:
        return Html("")
    return join([tag("h3", "The laws used for forecasting", class_="over"), tag("div", *parts, class_="laws")])


def backtest(evidence: Evidence) -> Html:
    rows = [
        [
            _name(row.get("target")),
            str(row.get("form") or "–"),
            numbers.power_of_ten(row.get("from_flops")),
            numbers.number(row.get("decades_ahead"), 2),
            numbers.number(row.get("median_log_error"), 2),
            f"{row['coverage']:.0%}".replace("%", " %") if numbers.known(row.get("coverage")) else numbers.MISSING,
        ]
        for row in evidence.rows("backtest")
    ]
    if not rows:
        return Html("")
    head = ["target", "law", "fitted up to", "decades ahead", "median log error", "coverage of 95 %"]
    return table(head, rows, caption="Backtest: forecasts from smaller budgets only", text=(0, 1))


def left_out(evidence: Evidence) -> Html:
    excluded = evidence.rows("excluded")
    told = {(row.get("target"), row.get("flops")) for row in excluded if row.get("params") is None}
    excluded = excluded + [
        {"target": row.get("target"), "flops": row.get("flops"), "reason": row["excluded"]}
        for row in evidence.rows("profiles")
        if row.get("excluded") and (row.get("target"), row.get("flops")) not in told
    ]
    rows: list[list[Content]] = [
        [
            _name(row["target"]) if row.get("target") else "all",
            numbers.power_of_ten(row.get("flops")),
            numbers.count(row["params"]) if row.get("params") is not None else "the budget's parabola",
            str(row.get("reason") or "no reason given"),
        ]
        for row in excluded
    ]
    if not rows:
        return tag("p", "Nothing was left out of the fits.", class_="note")
    return table(["target", "FLOPs", "parameters", "reason"], rows, caption="Left out of the fits", text=(0, 3))


def points(evidence: Evidence) -> Html:
    """Every measured point, budget by budget; the best of each budget in bold."""
    best = {id(point) for held in (False, True) for point, _ in evidence.best("dev_loss", held_out=held)}
    rows = []
    for point in sorted(evidence.points, key=lambda point: (evidence.budget_index(point.flops), point.params)):
        loss = numbers.with_error(point.dev_loss, point.dev_loss_se)
        reason = evidence.reason_excluded(point, "dev_loss") or evidence.reason_excluded(point, "return_mean")
        rows.append([
            numbers.power_of_ten(point.flops),
            point.size or "–",
            numbers.count(point.params),
            numbers.count(point.samples),
            tag("b", loss) if id(point) in best else loss,
            numbers.with_error(point.return_mean, point.return_se),
            str(point.episodes) if point.episodes is not None else "–",
            f"left out: {reason}" if reason else "held out" if point.held_out else "fitted",
        ])  # fmt: skip
    head = ["FLOPs", "size", "parameters", "samples", "dev loss ± SE", "return ± SE", "games", "use"]
    caption = f"{len(rows)} points; the lowest dev loss of each budget in bold"
    return table(head, rows, caption=caption, text=(1, 7))


def references(evidence: Evidence) -> Html:
    if not evidence.references:
        return Html("")
    rows = [
        [one.name, numbers.with_error(one.return_mean, one.return_se), str(one.episodes or "–"), one.note]
        for one in evidence.references
    ]
    return table(["player", "return ± SE", "games", "note"], rows, caption="For comparison", text=(0, 3))


def details(entries: Mapping[str, str]) -> Html:
    """What the study was: name and value; long values (a spec) are folded."""
    parts: list[Html] = []
    for name, value in entries.items():
        long = value.count("\n") >= MANY_LINES
        shown = tag("details", tag("summary", "show"), tag("pre", value)) if long else tag("span", value)
        parts += [tag("dt", name), tag("dd", shown)]
    return tag("dl", *parts) if parts else tag("p", "No details were recorded.", class_="note")
