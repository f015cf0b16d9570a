"""fit.json: a Fit as plain JSON types. Every number that is not finite is null."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from playscale.points import COUNT_COLUMNS, Point
from playscale.scaling.cells import value_of
from playscale.scaling.exponents import Exponent
from playscale.scaling.forecast import Forecast, HeldOut
from playscale.scaling.frontier import parameters
from playscale.scaling.isoflop import Profile

if TYPE_CHECKING:
    from playscale.scaling.fit import Fit, TargetFit


def document(fit: Fit) -> dict[str, Any]:
    """The dictionary described in docs/scaling.md."""
    whole = {
        "points": [_point(point) for point in fit.points],
        "excluded": [
            {"target": e.target, "flops": e.flops, "params": e.params, "reason": e.reason.value} for e in fit.excluded
        ],
        "warnings": [{"code": warned.code.value, "text": warned.text} for warned in fit.warnings],
        "power_laws": [_exponent(row) for row in fit.power_laws],
        "laws": {target: _law(result) for target, result in fit.targets.items()},
        "backtest": [dict(row.__dict__) for row in fit.backtest],
        "forecasts": [_forecast(forecast) for forecast in fit.forecasts],
        "held_out": [_held_out(row) for row in fit.held_out],
        "held_out_cells": [_held_out(row) for row in fit.held_out_cells],
        "profiles": [_profile(p) for result in fit.targets.values() for p in result.profiles],
        "curves": {t: [_without(_forecast(f), "target") for f in curve] for t, curve in fit.curves.items()},
        "parametric": {t: _parametric(r) for t, r in fit.targets.items() if r.parametric is not None},
    }
    return _finite(whole)


def _finite(value: Any) -> Any:
    """The same with None for every NaN and infinity, and Python numbers for numpy's."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _point(point: Point) -> dict[str, Any]:
    row = {name: value for name, value in point.__dict__.items() if name != "extra"}
    return row | {name: _count(row[name]) for name in COUNT_COLUMNS}


def _count(value: float | None) -> float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _exponent(row: Exponent) -> dict[str, Any]:
    law = row.law
    return {
        "target": row.target, "quantity": row.quantity, "at": row.at, "exponent": law.exponent,
        "low": law.low, "high": law.high, "coefficient": law.coefficient, "r2": law.r2, "n": law.n,
        "boot_low": law.boot_low, "boot_high": law.boot_high, "log_coefficient": law.log_coefficient,
        "residuals": list(law.residuals),
    }  # fmt: skip


def _law(result: TargetFit) -> dict[str, Any]:
    choice = result.choice
    named = parameters(choice.law, choice.target)
    rows = {name: {"value": value, "low": low, "high": high} for name, (value, low, high) in named.items()}
    fitted = {"from_flops": choice.law.first, "to_flops": choice.law.last, "scatter": choice.law.sd}
    return {"form": choice.name, "parameters": rows, "why": choice.why, "widening": choice.widening} | fitted


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return dict(forecast.__dict__)


def _held_out(row: HeldOut) -> dict[str, Any]:
    return dict(row.__dict__) | {"inside": row.inside}


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _profile(profile: Profile) -> dict[str, Any]:
    a, b, c = profile.coefficients or (None, None, None)
    vertex = None if profile.vertex_cost is None else float(value_of(profile.target, np.array(profile.vertex_cost)))
    return {
        "target": profile.target, "flops": profile.flops, "a": a, "b": b, "c": c,
        "low": profile.low, "high": profile.high, "cells": profile.cells,
        "argmin_params": profile.argmin_params, "argmin_samples": profile.argmin_samples,
        "argmin_value": float(value_of(profile.target, np.array(profile.argmin_cost))),
        "vertex_params": profile.vertex_params, "vertex_samples": profile.vertex_samples, "vertex_value": vertex,
        "excluded": None if profile.excluded is None else profile.excluded.value,
    }  # fmt: skip


def _parametric(result: TargetFit) -> dict[str, Any]:
    law = result.parametric
    assert law is not None
    rows = {name: {"value": value, "low": low, "high": high} for name, (value, low, high) in law.parameters().items()}
    left = "L" if law.target == "dev_loss" else "1/R"
    floor = "E" if law.target == "dev_loss" else "1/R_max"
    return {
        "form": f"{left} = {floor} + A/N^alpha + B/D^beta", "parameters": rows, "n": len(law.residuals),
        "scatter": float(1.4826 * np.median(np.abs(law.residuals))),
    }  # fmt: skip
