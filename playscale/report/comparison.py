"""Several methods compared: return against compute, against compute with the teacher's, against interactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from playscale.config import PLAYING_METHODS
from playscale.points import Point
from playscale.report.drawing import DASHED, Drawing, Plot
from playscale.report.evidence import Evidence, describe
from playscale.report.html import Content, join, readable, table, tag
from playscale.report.learning import Curves, compared_curves
from playscale.report.palette import METHOD_COLOUR, METHOD_MARKER, SOFT
from playscale.report.performance import mark_references, near_references
from playscale.report.seeds import spread_sentence
from playscale.scaling import numbers

Evidences = Mapping[str, Evidence]
Place = Callable[[Point], float | None]


def compared(evidences: Evidences, failed: Mapping[str, str]) -> Markup:
    """Make the top of a report of several methods."""
    notes = [tag("p", readable(f"{method} has no laws: {why}."), class_="note") for method, why in failed.items()]
    spread = spread_sentence({method: evidence.fit for method, evidence in evidences.items()})
    seeds = tag("p", spread, class_="note") if spread else None
    return join([tag("p", answer(evidences), class_="answer"), seeds, _table(evidences), *notes])


def answer(evidences: Evidences) -> str:
    """Say which method is ahead at the largest budget that all of them reached."""
    budget = common_budget(evidences)
    if budget is None:
        return "No budget was reached by all methods: there is nothing to compare."
    found = {method: _best_at(evidence, budget) for method, evidence in evidences.items()}
    ranked = sorted(((p, m) for m, p in found.items() if p), key=lambda pair: -(pair[0].return_mean or 0))
    scores = ", ".join(f"{m} {numbers.with_error(p.return_mean, p.return_se)}" for p, m in ranked)
    return (
        f"With {numbers.budget(budget)} FLOPs of its own, each method's best agent scores: {scores}." if ranked else ""
    )


def common_budget(evidences: Evidences) -> float | None:
    """Return the largest budget at which every method has an agent with a return."""
    own = [
        {evidence.budgets[evidence.budget_index(p.flops)] for p in _measured(evidence)}
        for evidence in evidences.values()
    ]
    shared = [b for b in own[0] if all(any(abs(b / c - 1) < 0.05 for c in other) for other in own[1:])] if own else []
    return max(shared, default=None)


def _measured(evidence: Evidence) -> list[Point]:
    return [point for point, _ in evidence.measured("return_mean")]


def _best_at(evidence: Evidence, budget: float) -> Point | None:
    here = [point for point in _measured(evidence) if evidence.same_budget(point.flops, budget)]
    return max(here, key=lambda point: point.return_mean or 0, default=None)


def _table(evidences: Evidences) -> Markup:
    """Return each method's best agent at each budget."""
    budgets = sorted({budget for evidence in evidences.values() for budget in evidence.budgets})
    rows: list[list[Content]] = []
    for budget in budgets:
        for method, evidence in evidences.items():
            point = _best_at(evidence, budget)
            if point is not None:
                rows.append([
                    numbers.budget(budget),
                    method,
                    point.size,
                    numbers.with_error(point.return_mean, point.return_se),
                    numbers.count(point.samples) if point.method in PLAYING_METHODS else numbers.NOTHING,
                    numbers.budget(total(point)),
                    "held out" if point.held_out else "fitted",
                ])  # fmt: skip
    head = ["FLOPs", "method", "best size", "return ± SE", "interactions", "FLOPs with the teacher's", "use"]
    return table(head, rows, caption="The best agent of each method, by budget", text=(1, 2, 6))


def total(point: Point) -> float:
    """Return training FLOPs with those of the teacher: its own training, and its forward passes beside the run."""
    return point.number("flops_total") or point.flops


def taught(evidences: Evidences) -> list[Point]:
    """Return the points of runs that had a teacher."""
    return [p for e in evidences.values() for p in e.runs if (p.number("flops_teacher") or 0) > 0]


def interactions(point: Point) -> float | None:
    return point.samples if point.method in PLAYING_METHODS else None


def comparison_plots(evidences: Evidences, curves: Curves) -> list[Plot]:
    """Return the figures of several methods together."""
    plots = [_against(evidences, "flops", lambda point: point.flops, _own_title)]
    if taught(evidences):
        plots.append(_against(evidences, "flops_total", total, _total_title))
    if sum(evidence.played for evidence in evidences.values()) > 1:
        plots.append(_against(evidences, "interactions", interactions, _interactions_title))
    plots.append(compared_curves(evidences, curves))
    return [plot for plot in plots if plot is not None]


def _against(evidences: Evidences, axis: str, place: Place, title: Callable[[Evidences], str]) -> Plot | None:
    """Draw the best of each budget of each method, its seeds, and against own compute also the laws."""
    first = next(iter(evidences.values()))
    drawing = Drawing(f"methods_against_{axis}", first)
    values: list[float] = []
    for method, evidence in evidences.items():
        colour, marker = METHOD_COLOUR.get(method, SOFT), METHOD_MARKER.get(method, "o")
        if axis == "flops":
            _law(drawing, evidence, colour)
        best = [p for held in (False, True) for p, _ in evidence.best("return_mean", held_out=held)]
        placed = sorted((x, p.return_mean or 0.0, p) for p in best if numbers.positive(x := place(p)))
        if axis != "flops":
            drawing.line([x for x, _, _ in placed], [y for _, y, _ in placed], color=colour, linewidth=1.2)
        for x, y, point in placed:
            error = point.return_se
            if error:
                drawing.interval(x, y - 1.96 * error, y + 1.96 * error, colour)
            hollow = {"markerfacecolor": "none"} if point.held_out else {}
            label = None if point.held_out else method
            drawing.mark(x, y, f"{method}\n{describe(point)}", color=colour, marker=marker, label=label, **hollow)
            values.append(y)
        shown = {(point.flops, point.params) for point in best}
        for point in evidence.repeats:
            x_seed = place(point) if (point.flops, point.params) in shown else None
            if numbers.positive(x_seed) and numbers.positive(point.return_mean):
                tip = f"{method}, seed {point.seed}\n{describe(point)}"
                style: dict[str, Any] = {"markersize": 3, "markeredgewidth": 0, "alpha": 0.6, "zorder": 1.6}
                drawing.mark(x_seed, point.return_mean, tip, color=colour, label="single seeds", **style)
    if not drawing.seen:
        return None
    if "single seeds" in drawing.entries:  # last in the legend, after all methods
        drawing.entries["single seeds"] = drawing.entries.pop("single seeds")
    near = near_references(first.references, values)
    for reference in near:
        drawing.see(drawing.seen[0][0], float(reference.return_mean or 0))
    drawing.scale(axis, "return_mean")
    mark_references(drawing, near, values)
    caption = "Each point is the best size of one budget, hollow where it was held out; bars: 95% intervals."
    if axis == "flops":
        caption += " Lines: the law of each method, dashed beyond what it was fitted to."
    return drawing.finish(title(evidences), caption, f"Return of each method against {axis}.", 4)


def _law(drawing: Drawing, evidence: Evidence, colour: str) -> None:
    rows = [r for r in (evidence.fit.get("curves") or {}).get("return_mean") or [] if numbers.positive(r.get("value"))]
    last = (evidence.last_fitted_budget() or 0.0) * 1.001
    end = max(evidence.budgets, default=0.0) * 1.5
    inside = [row for row in rows if row["flops"] <= last]
    beyond = [row for row in rows[max(len(inside) - 1, 0) :] if row["flops"] <= end]
    for part, style in ((inside, "-"), (beyond, DASHED)):
        if part:
            x, y = [row["flops"] for row in part], [row["value"] for row in part]
            drawing.line(x, y, color=colour, linestyle=style, linewidth=1.2)


def _own_title(evidences: Evidences) -> str:
    budget = common_budget(evidences)
    if budget is None:
        return "Return against each method's own compute"
    found = {method: _best_at(evidence, budget) for method, evidence in evidences.items()}
    returns = ", ".join(f"{m} {numbers.number(p.return_mean)}" for m, p in found.items() if p)
    return f"Return with {numbers.budget(budget)} FLOPs of its own: {returns}"


def _total_title(evidences: Evidences) -> str:
    """Say what the teacher adds: total compute over own compute at the largest budget."""
    largest = max(taught(evidences), key=lambda point: point.flops)
    factor = numbers.number(total(largest) / largest.flops, 2)
    return (
        f"With the teacher counted, a taught run of {numbers.budget(largest.flops)} FLOPs costs {factor} times as much"
    )


def _interactions_title(evidences: Evidences) -> str:
    """Compare the interactions needed for the highest return that all methods that play reached."""
    played = {m: e for m, e in evidences.items() if e.played and _measured(e)}
    if len(played) < 2:
        return "Return against interactions"
    goal = min(max(point.return_mean or 0 for point in _measured(e)) for e in played.values())
    needed = {m: min(p.samples or 0 for p in _measured(e) if (p.return_mean or 0) >= goal) for m, e in played.items()}
    counts = ", ".join(f"{method} {numbers.count(count)}" for method, count in needed.items())
    return f"Interactions at which a return of {numbers.number(goal)} was first measured: {counts}"
