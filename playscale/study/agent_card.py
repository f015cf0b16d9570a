"""The agents of a study that are registered in MLflow, each with a card that says what it is and what it is not for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from playscale.config import METHODS, budget_name
from playscale.points import Point, Reference
from playscale.scaling import numbers
from playscale.study.spec import StudySpec
from playscale.tracking.tracker import RegisteredAgent

ALIASES = {"best-loss": "dev_loss", "best-return": "return_mean"}
NOT_FOR = (
    "it was trained to find a scaling law, at a budget that was set beforehand, and is no attempt at the best agent of "
    "its size. It knows {game} alone, with the actions and observations of this version; what it does elsewhere, or "
    "under other rules, was not measured."
)
NINETY_FIVE = 1.96  # standard errors of the 95 % interval of a mean of many episodes


@dataclass(frozen=True)
class Best:
    """The best agent by a target, and the number of those that it was chosen from."""

    point: Point
    chosen_from: int


def best_agents(points: Sequence[Point]) -> dict[str, Best]:
    """Return the best fitted agents by alias, of what was measured.

    Fitted are those of the study's recipe that are not held out and have not diverged. As in a fit the mean of the
    seeds is the cell: the best seed of the best cell is taken.
    """
    best = {}
    for alias, target in ALIASES.items():
        sign = 1 if target == "dev_loss" else -1
        value = lambda point, target=target, sign=sign: sign * getattr(point, target)  # noqa: E731
        fitted = [p for p in points if not (p.held_out or p.diverged or p.varied) and getattr(p, target) is not None]
        cells = defaultdict(list)
        for point in fitted:
            cells[point.method, point.size, point.flops].append(point)
        if cells:
            cell = min(cells.values(), key=lambda own: fmean(map(value, own)))
            best[alias] = Best(min(cell, key=value), len(fitted))
    return best


def registered_agents(
    spec: StudySpec, points: Sequence[Point], references: Sequence[Reference], details: Mapping[str, str]
) -> list[RegisteredAgent]:
    """Return the agents of a study to register: those with an alias, or all of its points; none if the spec says so.

    Args:
        spec: The study's specification.
        points: Its points.
        references: What its agents are compared with.
        details: The details of its report.
    """
    best = best_agents(points) if spec.registry != "none" else {}
    aliases: dict[int, list[str]] = defaultdict(list)
    for alias, one in best.items():
        aliases[id(one.point)].append(alias)
    chosen = [point for point in points if id(point) in aliases or (best and spec.registry == "all")]
    about = f"Agents of the Playscale study {spec.name} in {spec.played or spec.game}. Aliases: {', '.join(best)}."
    return [
        RegisteredAgent(
            point,
            spec.name,
            tuple(aliases[id(point)]),
            about,
            card(spec, point, references, details, {alias: best[alias] for alias in aliases[id(point)]}),
            _tags(point),
        )
        for point in chosen
    ]


def _tags(point: Point) -> dict[str, str]:
    """Return the tags of a version: what its page shows in a column, and what a search can ask for."""
    values = {
        "method": point.method,
        "size": point.size,
        "params": f"{point.params:.0f}",
        "flops": budget_name(point.flops),
        "dev_loss": with_interval(point.dev_loss, point.dev_loss_se),
        "return": with_interval(point.return_mean, point.return_se),
        "game": point.game,
    }
    return {name: value for name, value in values.items() if value}


def with_interval(value: float | None, se: float | None) -> str:
    """Return a mean with its 95 % interval, as far as they are known: 12.5 (9.6 to 15.4)."""
    if value is None:
        return ""
    ends = [f"{value + sign * NINETY_FIVE * se:.4g}" for sign in (-1, 1)] if se is not None else []
    return f"{value:.4g} ({' to '.join(ends)})" if ends else f"{value:.4g}"


def card(
    spec: StudySpec,
    point: Point,
    references: Sequence[Reference],
    details: Mapping[str, str],
    best: Mapping[str, Best],
) -> str:
    """Return the model card of an agent, Markdown."""
    game, played = spec.played or spec.game, spec.evaluate
    loss = with_interval(point.dev_loss, point.dev_loss_se)
    mean = with_interval(point.return_mean, point.return_se)
    rows = {
        "parameters": f"{point.params:,.0f} ({point.size}, {spec.core})",
        "training": f"{budget_name(point.flops)} FLOPs, {numbers.count(point.samples)} transitions",
        "dev loss": f"{loss} nats per action" if loss else "not measured",
        f"return in {game}": f"{mean}, {point.episodes} episodes" if mean else "not measured",
    }
    others = [f"{one.name} {one.return_mean:.4g}" for one in references if one.return_mean is not None]
    plays = f"draws its actions from its policy at temperature {played.temperature:g}"
    if played.temperature == 0:
        plays = "takes its most likely action"
    parts = [
        f"{_capital(METHODS[point.method].label)}: {point.size} parameters, {budget_name(point.flops)} FLOPs.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]),
        f"Intervals are of 95 %.{_chosen(best)}",
        f"**Trained on**: {_source(spec, point, details)}. Run `{point.run}` of the study `{spec.name}`.",
        f"**How it plays**: it {plays}, at most {played.max_steps:,} actions an episode."
        + (f" For comparison: {', '.join(others)}." if others else ""),
        f"**What it is not for**: {NOT_FOR.format(game=game)}",
    ]
    return "\n\n".join(parts)


def _chosen(best: Mapping[str, Best]) -> str:
    """Say what an agent is the best by, of how many; "" for one without an alias."""
    if not best:
        return ""
    names = numbers.listed([f"`{alias}` of {numbers.counted(one.chosen_from, 'agent')}" for alias, one in best.items()])
    return f" It is {names} by these measurements. The best of many is likely to be worse when it is measured again."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _source(spec: StudySpec, point: Point, details: Mapping[str, str]) -> str:
    """Return what an agent has learned from."""
    label = METHODS[point.method].label
    if "corpus" in details and point.method == "bc":
        return f"{label} of recorded games: {details['corpus']}"
    return f"{label} in {spec.played or spec.game}, from its own play"
