"""The law of repeated data in fit.json: its constants, the value of passes, its curves beside what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from playscale.scaling.cells import Target
from playscale.scaling.powerlaw import LEVEL
from playscale.scaling.repetition import PUBLISHED, Repetition, worth
from playscale.scaling.target_fit import TargetFit

# Curves have at least so many numbers of passes measured, and are at most so many; the furthest reach of passes.
FEWEST, MOST_CURVES, FURTHEST = 3, 6, 64.0
PLACES = 40
ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def repetition(targets: Mapping[Target, TargetFit]) -> dict[str, Any]:
    """Return the law of each target whose data were seen again, or {reason} where it cannot be fitted."""
    found: dict[str, Any] = {}
    for target, result in targets.items():
        if result.repetition is not None:
            found[target] = _law(result, result.repetition)
        elif result.not_repeated:
            found[target] = {"reason": result.not_repeated}
    return found


def _law(result: TargetFit, law: Repetition) -> dict[str, Any]:
    offset = result.cells.offset
    left = "L" if result.cells.target == "dev_loss" else "1/(R - offset)" if offset else "1/R"
    rows = {name: found._asdict() for name, found in law.parameters(offset, result.choice.floor).items()}
    again = law.parameters()["R_D"]
    most = [None if value is None else 1 + value for value in again[:3]]
    return {
        "form": f"{left} = {'E' if left == 'L' else left.replace('R', 'R_max', 1)} + A/N'^alpha + B/D'^beta",
        "parameters": rows, "published": PUBLISHED, "n": len(law.residuals), "again": law.again,
        "left_out": int(law.over.sum()), "passes": law.passes,
        "scatter": float(1.4826 * np.median(np.abs(law.residuals))),
        "half_worth": law.passes_until(0.5)._asdict(), "little_worth": law.passes_until(0.05)._asdict(),
        "most_worth": {"value": most[0], "low": most[1], "high": most[2], "reason": again.reason},
        "worth": _worth(law), "curves": _curves(result, law), "reason": None,
    }  # fmt: skip


def _worth(law: Repetition) -> list[dict[str, float | None]]:
    """Return D' / U after rising numbers of passes, with its interval, and with the published constant."""
    passes = np.geomspace(1, max(FURTHEST, min(law.passes, 4 * FURTHEST)), PLACES)
    whole = law.worth(passes)
    ends = np.quantile(whole[1:], ENDS, axis=0)
    columns = zip(passes, whole[0], *ends, worth(PUBLISHED["R_D"], passes), strict=True)
    return [{"epochs": e, "worth": w, "low": low, "high": high, "published": p} for e, w, low, high, p in columns]


def _curves(result: TargetFit, law: Repetition) -> list[dict[str, Any]]:
    """Return the curves of loss or return against passes of those sizes and corpora that have the most passes."""
    cells = law.cells
    groups = defaultdict(list)
    unique = cells.samples / cells.epochs
    for i, (params, data) in enumerate(zip(cells.params, unique, strict=True)):
        groups[round(float(np.log(params)), 2), round(float(np.log(data)), 2)].append(i)
    long = sorted((rows for rows in groups.values() if len(rows) >= FEWEST), key=len, reverse=True)[:MOST_CURVES]
    found = []
    for rows in long:
        order = sorted(rows, key=lambda i: cells.epochs[i])
        first, last = float(cells.epochs[order[0]]), float(cells.epochs[order[-1]])
        passes = np.geomspace(first, last, PLACES)
        params, data = float(cells.params[order[0]]), float(unique[order[0]])
        cost = law.cost(np.log([params]), np.log([data]), passes)
        low, high = (result.cells.value(end) for end in np.quantile(cost[1:], ENDS, axis=0))
        columns = zip(passes, result.cells.value(cost[0]), np.minimum(low, high), np.maximum(low, high), strict=True)
        found.append({
            "params": params, "unique": data,
            "measured": [_measured(result, law, i) for i in order],
            "law": [{"epochs": e, "value": v, "low": a, "high": b} for e, v, a, b in columns],
        })  # fmt: skip
    return sorted(found, key=lambda row: (row["unique"], row["params"]))


def _measured(result: TargetFit, law: Repetition, row: int) -> dict[str, Any]:
    value = float(result.cells.value(law.cells.cost[row]))
    return {"epochs": float(law.cells.epochs[row]), "value": value, "fitted": not law.over[row]}
