"""Scores of past forecasts: of held-out budgets, of each budget from those before it (track record), of every law."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from markupsafe import Markup

from playscale.report.evidence import NAMES, TARGETS, Evidence, offset_of
from playscale.report.html import Content, join, readable, table, tag
from playscale.scaling import numbers
from playscale.scaling.ledger import Entry
from playscale.scaling.ledger_scores import LedgerGroup, groups, score_of
from playscale.scaling.numbers import known, positive
from playscale.scaling.reach import REACHES, reach_name, reach_of

Row = Mapping[str, Any]
ANEW = "Past forecasts, each from the budgets known then, "


@dataclass(frozen=True)
class Score:
    """error: median |log error|; inside: share within the 95% intervals, None without any; count: of forecasts.

    judged: those of them that have an interval.
    """

    error: float
    inside: float | None
    count: int
    judged: int = 0


def track(fit: Mapping[str, Any], target: str) -> list[Row]:
    """Return the forecasts of the track record that can be scored, each with the offset that its error is above."""
    rows: Sequence[Row] = fit.get("track_record") or []
    offset = offset_of(fit, target)
    own = [{**row, "offset": offset} for row in rows if row.get("target") == target]
    return [
        row
        for row in own
        if all(positive(row.get(name)) for name in ("from_flops", "flops"))
        and all(known(row.get(name)) and row[name] > offset for name in ("measured", "value"))
    ]


def above(fit: Mapping[str, Any], target: str) -> str:
    """Say what misses of `target` are a share of, where it is counted from an offset: " above 21"; else ""."""
    offset = offset_of(fit, target)
    return f" above {numbers.number(offset)}" if offset else ""


def decades(row: Row) -> float:
    """Return how far ahead a forecast of the track record reached, in decades of compute."""
    return math.log10(row["flops"] / row["from_flops"])


def score(rows: Iterable[Row], of: str = "") -> Score | None:
    """Score forecasts of the chosen law, or of the plain power law (of="power_"); None without any."""
    made = [row for row in rows if known(row.get(of + "value")) and row[of + "value"] > row["offset"]]
    if not made:
        return None
    judged = [bool(row[of + "inside"]) for row in made if row.get(of + "inside") is not None]
    error = median(
        abs(math.log((row[of + "value"] - row["offset"]) / (row["measured"] - row["offset"]))) for row in made
    )
    return Score(error, fmean(judged) if judged else None, len(made), len(judged))


def by_reach(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """Group the forecasts of a track record by reach, near ones first."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(reach_of(decades(row)), []).append(row)
    return dict(sorted(groups.items()))


def backtest(fit: Mapping[str, Any], target: str) -> dict[str, dict[float, Score]]:
    """Return {law: {reach: score}} of every law that was backtested, in the order of the fit.

    A row of the backtest sums up the forecasts from one budget to half a decade; a score is the median of their
    errors and the mean of their shares, and its count the rows'.
    """
    rows: Sequence[Row] = fit.get("backtest") or []
    groups: dict[str, dict[float, list[Row]]] = {}
    for row in rows:
        if row.get("target") == target and known(row.get("decades_ahead")) and known(row.get("median_log_error")):
            groups.setdefault(str(row.get("form")), {}).setdefault(reach_of(row["decades_ahead"]), []).append(row)
    return {form: {reach: _summed(own) for reach, own in sorted(found.items())} for form, found in groups.items()}


def _summed(rows: Sequence[Row]) -> Score:
    inside = [row["coverage"] for row in rows if known(row.get("coverage"))]
    return Score(median(row["median_log_error"] for row in rows), fmean(inside) if inside else None, len(rows))


def tested(evidence: Evidence, flops: float | None) -> Markup:
    """Say in a sentence or two how good forecasts were; flops: the budget of the forecast above."""
    held_out = _held_out(evidence)
    lines = [_held_out_line(held_out)] if held_out else []
    sentence = track_sentence(evidence, flops)
    if sentence:
        lines.append(tag("p", sentence, class_="note"))
    if not lines:
        return tag("p", readable(_untested(evidence)), class_="note")
    return join(lines)


def _untested(evidence: Evidence) -> str:
    """Say why there is nothing to score forecasts of best cells by, and how the law of N and D did."""
    if (evidence.fit.get("budgets") or {}).get("isoflop") is not False:
        return "This forecast has not been tested: no budget was held out, and there are too few for a track record."
    text = "No budget was held out, and a table that is no isoFLOP table has no best cells to have been forecast"
    laws: Mapping[str, Row] = evidence.fit.get("parametric") or {}
    found = {t: str(law.get("why") or "").partition(" backtest; ")[2] for t, law in laws.items() if law}
    scores = [f"for {NAMES.get(t, t)}, {score}" for t, score in found.items() if score]
    return text + (f". The law of N and D was backtested: {'; '.join(scores)}." if scores else ".")


def registered(entries: Sequence[Entry]) -> list[str]:
    """Sum up registered forecasts: a sentence for those made before the outcome, one for retrospective ones."""
    found, texts = groups(entries), []
    for retrospective, name in ((False, "registered before the outcome"), (True, "retrospective")):
        own = found.get(LedgerGroup(retrospective))
        if own:
            made = score_of(own)
            states = f"{made.scored} scored, {made.open} open, {made.void} void"
            text = f"{numbers.counted(len(own), 'forecast')} {name}: {states}"
            if made.judged:
                text += f"; {made.inside} of {made.judged} outcomes inside the 95% interval"
            if made.error is not None:
                text += f"; missed by {numbers.off(made.error)} in the median"
            texts.append(f"{text}.")
    return texts


def tables(evidence: Evidence) -> Markup:
    """Return the track record and the held-out results as tables."""
    return join([track_table(evidence), _held_out_table(evidence)])


def _held_out(evidence: Evidence) -> list[Row]:
    return [row for row in evidence.rows("held_out") if numbers.known(row.get("measured"))]


def _held_out_line(held_out: Sequence[Row]) -> Markup:
    judged = [row for row in held_out if row.get("inside") is not None]
    inside = sum(bool(row["inside"]) for row in judged)
    budgets = list(dict.fromkeys(numbers.budget(row.get("flops")) for row in held_out))
    named = f"budget{'s' if len(budgets) > 1 else ''} of {numbers.listed(budgets)}"
    verdict = "inside" if inside == len(judged) else "outside"
    text = (
        f"{inside} of {len(judged)} results within the forecast's 95% interval" if judged else "no interval to judge by"
    )
    result = tag("span", text, class_=f"verdict {verdict}")
    return tag("p", f"Tested on the held-out {named} FLOPs: ", result, ".", class_="note")


def track_sentence(evidence: Evidence, flops: float | None) -> str:
    """Say how good forecasts about as far ahead as `flops` were, else the furthest; "" without any."""
    groups = {target: by_reach(track(evidence.fit, target)) for target in TARGETS}
    reaches = sorted({reach for found in groups.values() for reach in found})
    if not reaches:
        return ""
    fitted = evidence.last_fitted_budget()
    wanted = reach_of(math.log10(flops / fitted)) if flops and fitted and flops > fitted else reaches[0]
    reach = min(reaches, key=lambda reach: (abs(_place(reach) - _place(wanted)), reach))
    own = {target: score(groups[target].get(reach, [])) for target in TARGETS}
    plain = {target: score(groups[target].get(reach, []), "power_") for target in TARGETS}
    missed = [f"{numbers.off(s.error)} for {NAMES[t]}{above(evidence.fit, t)}{_share(s)}" for t, s in own.items() if s]
    also = [f"{numbers.off(s.error)}{_share(s)}" for s in plain.values() if s]
    text = f"{ANEW}{reach_name(reach)} ahead: missed by {' and '.join(missed)} in the median"
    text += f"; the plain power law by {' and '.join(also)}." if len(also) == len(missed) else "."
    text = text.replace(" inside)", " inside the 95% interval)", 1)
    return text + (" None reached as far ahead as this one." if wanted > reach else "")


def _place(reach: float) -> int:
    return REACHES.index(reach)


def _share(score: Score) -> str:
    """Write how many of how many lay inside: 100% of one forecast says little."""
    return "" if score.inside is None else f" ({score.inside * score.judged:.0f} of {score.judged} inside)"


def track_table(evidence: Evidence) -> Markup:
    """Return, by how far ahead, the forecasts of the law chosen anew beside the plain power law's."""
    groups = {target: by_reach(track(evidence.fit, target)) for target in TARGETS}
    shown = [target for target in TARGETS if groups[target]]
    if not shown:
        return Markup("")
    rows: list[list[Content]] = []
    for reach in sorted({reach for found in groups.values() for reach in found}):
        cells: list[Content] = [tag("span", reach_name(reach), class_="name")]
        for target in shown:
            found = groups[target].get(reach, [])
            own = score(found)
            cells += [str(own.count) if own else "0", cell(own, strong=True), cell(score(found, "power_"))]
        rows.append(cells)
    head = ["how far ahead"]
    for target in shown:
        head += ["forecasts", f"{NAMES[target]}{above(evidence.fit, target)}: missed by", "the plain power law"]
    caption = (
        "Track record of the law that was the choice at each earlier budget: median miss, share inside the 95% interval"
    )
    return table(head, rows, caption=caption, text=(0,))


def cell(score: Score | None, *, strong: bool = False) -> Content:
    """Write a median error and a share inside the intervals, for a table."""
    if score is None:
        return numbers.NOTHING
    error = numbers.off(score.error, short=True)
    share = None if score.inside is None else tag("small", f" {numbers.percent(score.inside)} inside")
    return join([tag("b", error) if strong else error, share])


def interval_cell(row: Row | None) -> Content:
    """Write a forecast and its interval, for a table."""
    if row is None or not numbers.known(row.get("value")):
        return "no forecast"
    span = numbers.interval_of(row)
    return join([numbers.as_fine(row["value"], row), tag("small", f" {span}") if span else None])


def _held_out_table(evidence: Evidence) -> Markup:
    held_out = _held_out(evidence)
    if not held_out:
        return Markup("")
    of_return = above(evidence.fit, "return_mean")
    off = "forecast is off by" + (f" (returns:{of_return})" if of_return else "")
    head = ["target", "FLOPs", "parameters", "forecast (95%)", "measured", off, "verdict"]
    rows = [_held_out_row(row, offset_of(evidence.fit, str(row.get("target")))) for row in held_out]
    whole = table(head, rows, caption="Forecast against held-out truth", text=(0, 6))
    judged = [row for row in evidence.rows("held_out_cells") if row.get("inside") is not None]
    if not judged:
        return whole
    inside = sum(bool(row["inside"]) for row in judged)
    text = f"All held-out cells, forecast from their size and data: {inside} of {len(judged)} inside the 95% interval."
    return join([whole, tag("p", text, class_="note")])


def _held_out_row(row: Row, offset: float) -> list[Content]:
    value, measured, inside = row.get("value"), row.get("measured"), row.get("inside")
    off = None
    if known(value) and known(measured) and measured > offset:
        off = numbers.percent((value - measured) / (measured - offset), "+.1%")
    verdict = "no interval" if inside is None else "inside" if inside else "outside"
    return [
        NAMES.get(str(row.get("target")), str(row.get("target"))),
        numbers.budget(row.get("flops")),
        numbers.count(row.get("params")),
        interval_cell(row),
        numbers.as_fine(measured, row),
        off or numbers.MISSING,
        tag("span", {"inside": "✓ ", "outside": "✗ "}.get(verdict, "") + verdict, class_=f"verdict {verdict}"),
    ]
