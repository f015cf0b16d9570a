"""Runs that differ in their seed alone: one cell, which is their mean, beside what each of them measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playscale.points import Point
from playscale.scaling import numbers


@dataclass(frozen=True, kw_only=True)
class MeanPoint(Point):
    """The mean of several runs that differ in their seed alone. returns: what each of them earned."""

    returns: tuple[float | None, ...]


def average(points: Sequence[Point], fit: Mapping[str, Any]) -> tuple[list[Point], list[Point]]:
    """Return the points with the runs of each cell replaced by their mean, and the runs so replaced.

    A run that the fit left out as far from its neighbours stays alone. The standard error of a mean return is the
    larger of that of its episodes and of that of the scatter between seeds, which is pooled over all cells of the fit.
    """
    cells: dict[Any, list[Point]] = {}
    far = {
        (row["flops"], row["params"], row["target"], row["value"])
        for row in fit.get("excluded") or []
        if row.get("value")
    }
    for point in points:
        broken = any((point.flops, point.params, t, getattr(point, t)) in far for t in ("dev_loss", "return_mean"))
        alone = id(point) if point.seed is None or point.diverged or broken else None
        cells.setdefault((point.flops, point.params, point.split, point.method, point.game, alone), []).append(point)
    repeats = [point for own in cells.values() if len(own) > 1 for point in own]
    return [own[0] if len(own) == 1 else _mean(own, fit) for own in cells.values()], repeats


def _mean(own: Sequence[Point], fit: Mapping[str, Any]) -> Point:
    values: dict[str, Any] = {}
    for target, error in (("dev_loss", "dev_loss_se"), ("return_mean", "return_se")):
        measured = [value for point in own if (value := getattr(point, target)) is not None]
        mean = statistics.fmean(measured) if measured else None
        within = [value for point in own if (value := getattr(point, error)) is not None]
        se = math.sqrt(statistics.fmean(value**2 for value in within) / len(own)) if within else None
        among = ((fit.get("repeats") or {}).get(target) or {}).get("sd")
        if target == "return_mean" and mean is not None and numbers.positive(among):
            offset = ((fit.get("laws") or {}).get(target) or {}).get("offset") or 0.0
            se = max(se or 0.0, among * abs(mean - offset) / math.sqrt(len(own)))
        values |= {target: mean, error: se}
    samples = [point.samples for point in own if point.samples is not None]
    episodes = [point.episodes for point in own if point.episodes is not None]
    total = [flops for point in own if (flops := point.number("flops_total"))]
    values |= {
        "run": "",
        "seed": None,
        "samples": statistics.fmean(samples) if samples else None,
        "episodes": sum(episodes) if episodes else None,
        "extra": {"flops_total": repr(statistics.fmean(total))} if total else {},
    }
    return MeanPoint(**{**own[0].__dict__, **values}, returns=tuple(point.return_mean for point in own))


def spread_sentence(fits: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how much the seeds of each method scatter; "" where every cell is one run."""
    names = {"dev_loss": "dev loss", "return_mean": "return"}
    spreads = []
    for method, fit in fits.items():
        rows = {
            t: row for t, row in (fit.get("repeats") or {}).items() if row.get("cells") and numbers.known(row["sd"])
        }
        parts = [f"{_percent(row['sd'])} of the {names[target]}" for target, row in rows.items()]
        if parts:
            most = max(rows.values(), key=lambda row: row["points"])
            pooled = f"{most['points']} runs in {numbers.counted(most['cells'], 'cell')}"
            spreads.append((f"{method} " if len(fits) > 1 else "") + f"{' and '.join(parts)} ({pooled})")
    if not spreads:
        return ""
    return (
        f"Seeds: runs that differ in nothing else scatter about their cell's mean by {'; '.join(spreads)}: the standard"
        " deviation of a single run. The laws are fitted to the means, and their intervals include this scatter."
    )


def _percent(sd: float) -> str:
    return numbers.percent(sd, ".0%" if sd > 0.02 else ".1%")
