"""The outcome of a study in a few words: its best values, what its laws say, and runs that will end badly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playscale.config import budget_name
from playscale.points import Point, read_curve
from playscale.scaling import numbers

if TYPE_CHECKING:
    from playscale.scaling.run_posterior import Kind

VERDICTS = {"with care": " (with care)", "no": " (no forecast to rely on)"}


def learns_badly(reached: Sequence[Point]) -> str:
    """Return why a run will probably end badly, by its points in the order of their compute; "" if it does not."""
    if bad := [point for point in reached if point.diverged]:
        return f"diverged at {budget_name(bad[-1].flops)} FLOPs: {bad[-1].diverged}"
    losses = [(p.dev_loss, p.dev_loss_se) for p in reached if p.dev_loss is not None and p.dev_loss_se is not None]
    if len(losses) > 1:
        (before, error), (last, last_error) = losses[-2:]
        if last - before > 2 * math.hypot(error or 0.0, last_error or 0.0):
            return f"its dev loss rises: {before:.3f} to {last:.3f}"
    return ""


def outlook(curve: Path, flops: float) -> str:
    """Return what the learning curve of a running run forecasts of its end at `flops`, or that it gets worse.

    "" where neither can be told. A curve is fitted again only when it has changed.
    """
    with suppress(OSError, ValueError):  # a damaged curve is the training's matter
        return _outlook(curve, flops, curve.stat().st_mtime_ns)
    return ""


@lru_cache
def _outlook(curve: Path, flops: float, _: int) -> str:
    rows = [row for row in read_curve(curve) if "flops" in row]
    column = "train_return" if any("train_return" in row for row in rows) else "train_loss"
    measured = [(row["flops"], row[column]) for row in rows if column in row]
    if len(measured) < 2 or measured[-1][0] >= flops:
        return ""
    from playscale.scaling.run_curve import Untold, forecast_curve  # scipy, which takes a second to import

    kind: Kind = "loss" if column == "train_loss" else "return"
    found = forecast_curve([c for c, _ in measured], [y for _, y in measured], flops, kind=kind)
    if found.untold == Untold.WORSE:
        return f"its {column} gets worse"
    return f"{column} {found.text} at its end" if found.value is not None else ""


def best_of(points: Sequence[Point]) -> str:
    """Return the lowest dev loss and the highest return of points; "" where nothing was measured."""
    losses = [point.dev_loss for point in points if point.dev_loss is not None]
    returns = [point.return_mean for point in points if point.return_mean is not None]
    texts = [f"dev loss {min(losses):.3f}"] if losses else []
    return ", ".join([*texts, f"return {max(returns):,.1f}"] if returns else texts)


def result_of(fit: Mapping[str, Any]) -> str:
    """Return what a fit.json says in a line: the first forecast of each target, and how the held-out ones came out."""
    from playscale.scaling.methods import fits_of  # which takes seconds to import

    texts, fits = [], fits_of(fit)
    for method, one in fits.items():
        parts = []
        for target in one.get("laws", {}):
            rows = [row for row in one["forecasts"] if row["target"] == target]
            if rows:
                row = min(rows, key=lambda row: float(row["flops"]))
                size = f" with {numbers.count(row['params'])} parameters" if row.get("params") else ""
                level = one.get("verdicts", {}).get(target, {}).get("level", "")
                where = f"at {budget_name(row['flops'])} FLOPs{size}{VERDICTS.get(level, '')}"
                parts.append(f"{target} {numbers.with_interval(row)} {where}")
        inside = [row["inside"] for row in one["held_out"] if row["inside"] is not None]
        if inside:
            parts.append(f"{sum(inside)} of {len(inside)} held-out values inside their 95 %")
        if parts:
            texts.append((f"{method}: " if len(fits) > 1 else "") + ", ".join(parts))
    return "; ".join(texts)
