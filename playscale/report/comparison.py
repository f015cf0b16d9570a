"""Several methods compared: return against compute, against compute with the teacher's, against interactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from playscale.config import PLAYING_METHODS
from playscale.points import Point
from playscale.report.axes import own_defaults
from playscale.report.drawing import DASHED, Drawing, Plot
from playscale.report.evidence import NAMES, SAME_BUDGET, TARGETS, Evidence, describe, error_of
from playscale.report.html import Content, anchors, join, readable, table, tag
from playscale.report.learning import Curves, compared_curves
from playscale.report.palette import SMALL, Look, leading_looks, looks
from playscale.report.performance import mark_references, near_references
from playscale.report.seeds import spread_sentence
from playscale.report.text import FEW_NAMED, few, few_numbers, short_name
from playscale.scaling import numbers
from playscale.scaling.methods import UNNAMED, named_games, unused

Evidences = Mapping[str, Evidence]
Place = Callable[[Point], float | None]
OF_GAMES = "Losses and returns of different games have no common scale: methods are compared within a game."
NO_PAIR = "No game has two methods, so none are compared."
UNNAMED_GAME = "no game"
MANY_METHODS = 10  # a figure names and colours so many
MOST_DRAWN = 4  # methods with figures of their own, of about 9 each


def compared(evidences: Evidences, failed: Mapping[str, str]) -> Markup:
    """Make the top of a report of several methods, game by game."""
    games = by_game(evidences)
    notes = [
        tag("p", join([short_name(method) or UNNAMED, " has no laws: ", readable(f"{why}.")]), class_="note")
        for method, why in failed.items()
    ]
    spread = spread_sentence({method: evidence.fit for method, evidence in evidences.items()})
    seeds = tag("p", spread, class_="note") if spread else None
    if len(games) == 1:
        return join(
            [tag("p", answer(evidences), class_="answer"), seeds, _table(evidences, target_of(evidences)), *notes]
        )
    pairs = _with_several(games)
    parts = [tag("p", OF_GAMES if pairs else f"{OF_GAMES} {NO_PAIR}", class_="answer"), seeds, _exponents(evidences)]
    for game, own in pairs.items():
        parts += [tag("p", answer(own, game), class_="answer"), _table(own, target_of(own), game)]
    return join([*parts, *notes])


def _with_several(games: Mapping[str, Evidences]) -> dict[str, Evidences]:
    return {game: own for game, own in games.items() if len(own) > 1}


def by_game(evidences: Evidences) -> dict[str, dict[str, Evidence]]:
    """Return the methods of each game, by the names of their own where there are several games."""
    games: dict[str, dict[str, Evidence]] = {}
    named = named_games([point for evidence in evidences.values() for point in evidence.points])
    if len(named) < 2:
        return {"": dict(evidences)}
    for evidence in evidences.values():
        game = next((point.game for point in evidence.points if point.game), "")
        own = games.setdefault(game, {})
        method = evidence.points[0].method if evidence.points else ""
        own[unused(method or UNNAMED, own)] = evidence
    names: dict[str, dict[str, Evidence]] = {}
    for game, own in games.items():
        names[unused(short_name(game) or UNNAMED_GAME, names)] = own
    return names


def target_of(evidences: Evidences) -> str:
    """Return what methods are compared by: the return, or where none was measured the dev loss."""
    return "return_mean" if any(evidence.measured("return_mean") for evidence in evidences.values()) else "dev_loss"


def answer(evidences: Evidences, game: str = "") -> str:
    """Say which method is ahead at the largest budget that all of them reached."""
    target, where = target_of(evidences), f"{game}: with" if game else "With"
    budget = common_budget(evidences, target)
    if budget is None:
        start = f"{game}: no" if game else "No"
        return f"{start} budget was reached by all methods: there is nothing to compare."
    found = _ranked(evidences, target, budget)
    digits = numbers.digits_among([getattr(point, target) for point in found.values()][:FEW_NAMED])
    scores = few({method: _value(point, target, digits) for method, point in found.items()})
    verb = "scores" if target == "return_mean" else "has a dev loss of"
    return f"{where} {numbers.budget(budget)} FLOPs of its own, each method's best agent {verb}: {scores}."


def _value(point: Point, target: str, digits: int = 3) -> str:
    return numbers.with_error(getattr(point, target), error_of(point, target), digits)


def common_budget(evidences: Evidences, target: str) -> float | None:
    """Return the largest budget at which `target` of every method was measured."""
    own = [{evidence.budget_of(p) for p, _ in evidence.measured(target)} for evidence in evidences.values()]
    shared = [b for b in own[0] if all(any(_same(b, c) for c in other) for other in own[1:])] if own else []
    return max(shared, default=None)


def _same(budget: float, other: float) -> bool:
    """Tell whether a budget of one method is that of another one: each is the mean of its own runs' compute."""
    return max(budget / other, other / budget) < SAME_BUDGET


def _ranked(evidences: Evidences, target: str, budget: float | None) -> dict[str, Point]:
    """Return each method's best agent at a budget, or at any, the best method first."""
    found = {method: point for method, evidence in evidences.items() if (point := _best_at(evidence, target, budget))}
    return dict(sorted(found.items(), key=lambda pair: _rank(pair[1], target)))


def _best_at(evidence: Evidence, target: str, budget: float | None) -> Point | None:
    measured = [point for point, _ in evidence.measured(target)]
    here = [point for point in measured if budget is None or _same(evidence.budget_of(point), budget)]
    return min(here, key=lambda point: _rank(point, target), default=None)


def _rank(point: Point, target: str) -> float:
    """Return a number that is lower for a better point."""
    value = float(getattr(point, target))
    return value if target == "dev_loss" else -value


def _exponents(evidences: Evidences) -> Markup:
    """Return the exponents of each method in each game: these have no scale, and can be compared."""
    rows: list[list[Content]] = []
    shown = [(target, quantity) for target in TARGETS for quantity in ("params", target)]
    found = {
        method: [evidence.power_law(target, quantity) for target, quantity in shown]
        for method, evidence in evidences.items()
    }
    kept = [i for i in range(len(shown)) if any(laws[i] for laws in found.values())]
    for method, laws in found.items():
        rows.append([method, *(_exponent(laws[i]) for i in kept)])
    head = [
        f"best {NAMES[quantity]} for the {NAMES[target]}" if quantity == "params" else NAMES[target]
        for target, quantity in (shown[i] for i in kept)
    ]
    caption = "Exponents of compute, which games have in common: what grows or falls as C to this power"
    return table(["", *head], rows, caption=caption, text=(0,)) if kept else Markup("")


def _exponent(law: Mapping[str, Any] | None) -> Content:
    if law is None:
        return numbers.NOTHING
    span = numbers.interval_of(law)
    return join([numbers.as_fine(law["exponent"], law), tag("small", f" {span}") if span else None])


def _table(evidences: Evidences, target: str, game: str = "") -> Markup:
    """Return each method's best agent at each budget."""
    budgets: list[float] = []
    for budget in sorted(budget for evidence in evidences.values() for budget in evidence.budgets):
        if not budgets or not _same(budget, budgets[-1]):
            budgets.append(budget)
    has_played = any(evidence.played for evidence in evidences.values())
    has_teacher = bool(taught(evidences))
    rows: list[list[Content]] = []
    for budget in budgets:
        for method, evidence in evidences.items():
            point = _best_at(evidence, target, budget)
            if point is not None:
                rows.append([
                    numbers.budget(budget),
                    method,
                    point.size or f"{numbers.count(point.params)} parameters",
                    _value(point, target, evidence.loss_digits if target == "dev_loss" else 3),
                    *([numbers.count(interactions(point)) if interactions(point) else numbers.NOTHING] * has_played),
                    *([numbers.budget(total(point))] * has_teacher),
                    "held out" if point.held_out else "fitted",
                ])  # fmt: skip
    head = ["FLOPs", "method", "best size", f"{NAMES[target]} ± SE"]
    head += ["interactions"] * has_played + ["FLOPs with the teacher's"] * has_teacher + ["use"]
    caption = "The best agent of each method, by budget"
    return table(head, rows, caption=f"{game}: {caption}" if game else caption, text=(1, 2, len(head) - 1))


def total(point: Point) -> float:
    """Return training FLOPs with those of the teacher: its own training, and its forward passes beside the run."""
    return point.number("flops_total") or point.flops


def taught(evidences: Evidences) -> list[Point]:
    """Return the points of runs that had a teacher."""
    return [p for e in evidences.values() for p in e.runs if (p.number("flops_teacher") or 0) > 0]


def _own_flops(point: Point) -> float:
    return point.flops


def interactions(point: Point) -> float | None:
    return point.samples if point.method in PLAYING_METHODS else None


@own_defaults()
def comparison_plots(evidences: Evidences, curves: Curves) -> list[Plot]:
    """Return the figures of several methods together; of several games those of the first with several methods."""
    games = by_game(evidences)
    if len(games) == 1:
        return _plots(evidences, curves)
    pairs = [*_with_several(games).items()][:MOST_DRAWN]
    ends = anchors([game.casefold() for game, _ in pairs])
    return [
        replace(plot, name=f"{plot.name}_in_{end}", title=f"{game}: {plot.title[0].lower()}{plot.title[1:]}")
        for (game, own), end in zip(pairs, ends, strict=True)
        for plot in _plots(own, curves)
    ]


def drawn(evidences: Evidences) -> list[str]:
    """Return the methods that have figures of their own: all, or of many the best, in several games the first."""
    if len(evidences) <= MOST_DRAWN:
        return [*evidences]
    chosen = [*evidences] if len(by_game(evidences)) > 1 else _best_first(evidences, target_of(evidences))
    return [method for method in evidences if method in chosen[:MOST_DRAWN]]


def not_drawn(evidences: Evidences) -> Markup | None:
    """Say which methods have no figures of their own, or none that compare them, and how to get them."""
    shown, lines = drawn(evidences), list[str]()
    if len(shown) < len(evidences):
        lines.append(f"Figures of single methods are drawn for {numbers.listed(shown)}, of {len(evidences)}.")
    games = _with_several(by_game(evidences))
    if len(games) > MOST_DRAWN:
        lines.append(f"Figures that compare methods are drawn for {MOST_DRAWN} games of {len(games)}.")
    how = tag("code", "playscale fit TABLE --method NAME --method ...")
    return tag("p", " ".join(lines), " Those of others: ", how, ".", class_="note") if lines else None


def _plots(evidences: Evidences, curves: Curves) -> list[Plot]:
    leaders = {target: leading(evidences, target) for target in TARGETS}
    shared = looks(method for method in evidences if any(method in own for own in leaders.values()))
    look = leading_looks(shared, evidences, leaders["return_mean"])
    losses = {method: evidence for method, evidence in evidences.items() if evidence.measured("dev_loss")}
    plots = [_against(evidences, look, "flops", _own_flops, _own_title(evidences, "return_mean"))]
    if len(losses) > 1:
        by_loss = leading_looks(shared, evidences, leaders["dev_loss"])
        plots.append(_against(losses, by_loss, "flops", _own_flops, _own_title(losses, "dev_loss"), "dev_loss"))
    if taught(evidences):
        plots.append(_against(evidences, look, "flops_total", total, _total_title(evidences)))
    if sum(evidence.played for evidence in evidences.values()) > 1:
        plots.append(_against(evidences, look, "interactions", interactions, _interactions_title(evidences)))
    plots.append(compared_curves(evidences, curves, look))
    return [plot for plot in plots if plot is not None]


def leading(evidences: Evidences, target: str) -> list[str]:
    """Return the methods that figures of `target` name and colour, in their order: all, or of many the best."""
    if len(evidences) <= MANY_METHODS:
        return [*evidences]
    chosen = _best_first(evidences, target)[: MANY_METHODS - 1]
    return [method for method in evidences if method in chosen]


def _best_first(evidences: Evidences, target: str) -> list[str]:
    """Return the methods, the best at the largest common budget first, then the best at any."""
    first = [*_ranked(evidences, target, common_budget(evidences, target)), *_ranked(evidences, target, None)]
    return [*dict.fromkeys([*first, *evidences])]


def _against(
    evidences: Evidences, look: Mapping[str, Look], axis: str, place: Place, title: str, target: str = "return_mean"
) -> Plot | None:
    """Draw the best of each budget of each method, its seeds, and against own compute also the laws."""
    first = next(iter(evidences.values()))
    drawing = Drawing(f"methods{'_dev_loss' * (target == 'dev_loss')}_against_{axis}", first)
    drawing.linear = any(evidence.linear(target) for evidence in evidences.values())
    values: list[float] = []
    seeds = unused("single seeds", evidences)
    for method, evidence in evidences.items():
        if axis == "flops":
            _law(drawing, method, evidence, look[method].colour, target)
        values += _best_points(drawing, method, evidence, look[method], place, target, seeds, has_line=axis != "flops")
    if not drawing.seen:
        return None
    named = [method for method, one in look.items() if one.label == method]
    for label in [label for label in drawing.entries if label not in named]:  # last in the legend, after all methods
        drawing.entries[label] = drawing.entries.pop(label)
    references = first.references if target == "return_mean" else ()
    near = near_references(references, values)
    for reference in near:
        drawing.see(drawing.seen[0][0], float(reference.return_mean or 0))
    drawing.scale(axis, target)
    if references:
        mark_references(drawing, near, values)
    caption = "Each point is the best size of one budget, hollow where it was held out; bars: 95% intervals."
    if axis == "flops":
        caption += " Lines: the law of each method, dashed beyond what it was fitted to."
    if len(named) < len(look):
        caption += f" Of {len(look)} methods the {len(named)} best have a colour."
    return drawing.finish(title, caption, f"{NAMES[target]} of each method against {axis}.", 4)


def _best_points(
    drawing: Drawing, method: str, evidence: Evidence, look: Look, place: Place, target: str, seeds: str, *,
    has_line: bool,
) -> list[float]:  # fmt: skip
    """Draw the best point of each budget and its seeds, called `seeds` in the legend; return what was drawn."""
    colour, marker, name, size = look
    best = [p for held in (False, True) for p, _ in evidence.best(target, held_out=held)]
    placed = sorted((x, getattr(p, target), p) for p in best if numbers.positive(x := place(p)))
    if has_line:
        x_best, y_best = [x for x, _, _ in placed], [y for _, y, _ in placed]
        drawing.line(x_best, y_best, color=colour, linewidth=1.2, series=f"{method}, line")
    for x, y, point in placed:
        error = error_of(point, target)
        ends = (y - 1.96 * error, y + 1.96 * error) if error and size > SMALL else None
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": size, "zorder": 2 + (size > SMALL)}
        style |= {"markerfacecolor": "none"} if point.held_out else {}
        drawing.mark(
            x,
            y,
            f"{method}\n{describe(point, None, evidence.loss_digits)}",
            label=None if point.held_out else name,
            series=method,
            interval=ends,
            **style,
        )
    shown = {(point.flops, point.params) for point in best}
    for point in evidence.repeats:
        x_seed, y_seed = place(point), getattr(point, target)
        if (point.flops, point.params) in shown and numbers.positive(x_seed) and drawing.shows(y_seed):
            tip = f"{method}, seed {point.seed}\n{describe(point, None, evidence.loss_digits)}"
            style = {"markersize": SMALL, "markeredgewidth": 0, "alpha": 0.6, "zorder": 1.6}
            drawing.mark(x_seed, y_seed, tip, color=colour, label=seeds, **style)
    return [y for _, y, _ in placed]


def _law(drawing: Drawing, method: str, evidence: Evidence, colour: str, target: str) -> None:
    rows = [r for r in (evidence.fit.get("curves") or {}).get(target) or [] if drawing.shows(r.get("value"))]
    last = (evidence.last_fitted_budget() or 0.0) * 1.001
    end = max(evidence.budgets, default=0.0) * 1.5
    inside = [row for row in rows if row["flops"] <= last]
    beyond = [row for row in rows[max(len(inside) - 1, 0) :] if row["flops"] <= end]
    for part, style in ((inside, "-"), (beyond, DASHED)):
        if part:
            x, y = [row["flops"] for row in part], [row["value"] for row in part]
            drawing.line(x, y, color=colour, linestyle=style, linewidth=1.2, series=f"{method}, law")


def _own_title(evidences: Evidences, target: str) -> str:
    name = NAMES[target].capitalize()
    budget = common_budget(evidences, target)
    if budget is None:
        return f"{name} against each method's own compute"
    found = _ranked(evidences, target, budget)
    values = few_numbers({method: getattr(point, target) for method, point in found.items()})
    return f"{name} with {numbers.budget(budget)} FLOPs of its own: {values}"


def _total_title(evidences: Evidences) -> str:
    """Say what the teacher adds: total compute over own compute at the largest budget."""
    largest = max(taught(evidences), key=lambda point: point.flops)
    factor = numbers.number(total(largest) / largest.flops, 2)
    return (
        f"With the teacher counted, a taught run of {numbers.budget(largest.flops)} FLOPs costs {factor} times as much"
    )


def _interactions_title(evidences: Evidences) -> str:
    """Compare the interactions needed for the highest return that all methods that play reached."""
    played = {m: own for m, e in evidences.items() if e.played and (own := [p for p, _ in e.measured("return_mean")])}
    if len(played) < 2:
        return "Return against interactions"
    goal = min(max(point.return_mean or 0 for point in own) for own in played.values())
    needed = {m: min(p.samples or 0 for p in own if (p.return_mean or 0) >= goal) for m, own in played.items()}
    counts = few({method: numbers.count(count) for method, count in needed.items()})
    return f"Interactions at which a return of {numbers.number(goal)} was first measured: {counts}"
