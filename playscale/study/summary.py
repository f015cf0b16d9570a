"""The summary of a finished study: five lines for a newcomer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from playscale.config import METHODS, budget_name
from playscale.points import Point
from playscale.scaling import numbers


def summary(points: Sequence[Point], fit: Mapping[str, Any], report: str, next_step: str) -> dict[str, str]:
    """Return what was trained, the laws, the forecasts and what came of them, the report, and what to do next.

    Args:
        points: The points of the study, at least one.
        fit: The content of its fit.json.
        report: Where its report is.
        next_step: A command that goes on from the study.
    """
    from playscale.scaling.methods import fits_of  # which takes seconds to import

    fits = fits_of(fit)
    each = {"law": _law, "forecast": _forecast}
    told = {
        name: "; ".join(
            (f"{method}: " if len(fits) > 1 else "") + text for method, one in fits.items() if (text := tell(one))
        )
        for name, tell in each.items()
    }
    return {
        "trained": _trained(points),
        "law": told["law"] or "none: see the warnings above",
        "forecast": told["forecast"] or "none: see the warnings above",
        "report": report,
        "next": next_step,
    }


def _trained(points: Sequence[Point]) -> str:
    """Name the agents: their methods, sizes and budgets, and how they were played."""
    params = [numbers.count(count) for count in sorted({point.params for point in points})]
    budgets = [budget_name(budget) for budget in sorted({point.flops for point in points})]
    methods = numbers.listed([METHODS[name].label for name in dict.fromkeys(point.method for point in points)])
    played = sorted({point.episodes for point in points if point.episodes})
    many = " to ".join(dict.fromkeys(str(number) for number in (*played[:1], *played[-1:])))
    parts = [
        f"{numbers.counted(len(points), 'agent')} by {methods}",
        f"{numbers.counted(len(params), 'size')} from {params[0]} to {params[-1]} parameters",
        f"{numbers.counted(len(budgets), 'budget')} from {budgets[0]} to {budgets[-1]} FLOPs",
        *([f"{many} episodes each"] if many else []),
    ]
    return ", ".join(parts)


def _law(fit: Mapping[str, Any]) -> str:
    """Say how the value and the parameters of the best agent go with compute, by the first target; "" without laws."""
    for target in fit["laws"]:
        used = {row["quantity"]: row for row in fit["power_laws"] if row["target"] == target and row["used"]}
        if {"params", target} <= used.keys():
            value, params = _exponent(used[target]), _exponent(used["params"])
            return f"with compute C the best {target} goes as C^{value}, the best agent's parameters as C^{params}"
    return ""


def _exponent(row: Mapping[str, Any]) -> str:
    ends = numbers.between(row["low"], row["high"], 2)
    return numbers.exponent(row["exponent"]) + (f" (95 %: {ends})" if ends else "")


def _forecast(fit: Mapping[str, Any]) -> str:
    """Say what was forecast of each target for the first held-out budget, and what came; else for the first beyond."""
    held_out = {row["target"]: row for row in reversed(fit["held_out"])}
    beyond = {row["target"]: row for row in sorted(fit["forecasts"], key=lambda row: -float(row["flops"]))}
    texts = []
    for target, row in (held_out or beyond).items():
        ends = numbers.interval_of(row)
        text = f"{target} {numbers.as_fine(row['value'], row)}" + (f" (95 %: {ends})" if ends else "")
        texts.append(f"{text} at {budget_name(row['flops'])} FLOPs, {_came(row)}")
    return "; ".join(sorted(texts))


def _came(row: Mapping[str, Any]) -> str:
    """Say what came of a forecast."""
    if row.get("measured") is None:
        return "not trained"
    inside = {True: ": inside", False: ": outside"}.get(row["inside"], "")
    return f"measured {numbers.number(row['measured'])}{inside}"
