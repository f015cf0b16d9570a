"""fit.json: a Fit as plain JSON types. Every number that is not finite is null."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from playscale.points import COLUMNS, to_row
from playscale.scaling.allocation import vertex_bias
from playscale.scaling.backtest import Prediction
from playscale.scaling.bound import Bound
from playscale.scaling.cells import Cells
from playscale.scaling.choice import Choice, Record
from playscale.scaling.exponents import SPLIT, Exponent, used_laws
from playscale.scaling.forecast import Forecast, HeldOut
from playscale.scaling.frontier import FrontierLaw, parameters
from playscale.scaling.gpu import Hardware
from playscale.scaling.isoflop import Profile
from playscale.scaling.optimum import OptimumLaw
from playscale.scaling.parametric import Parametric
from playscale.scaling.repetition_rows import repetition
from playscale.scaling.surface import TRANSLOG, WHOLE, Surface
from playscale.scaling.translog import TERMS, Translog
from playscale.scaling.two_step import TwoStepLaw
from playscale.scaling.verdict import Verdict

if TYPE_CHECKING:
    from playscale.scaling.fit import Fit
    from playscale.scaling.target_fit import TargetFit


def document(fit: Fit) -> dict[str, Any]:
    """Return the dictionary described in docs/scaling.md."""
    whole = {
        "points": [{name: row[name] for name in COLUMNS} for row in map(to_row, fit.points)],
        "budgets": fit.budgets,
        "excluded": [
            {
                "target": e.target,
                "flops": e.flops,
                "params": e.params,
                "reason": e.reason.value,
                "run": e.run,
                "value": e.value,
            }
            for e in fit.excluded
        ],
        "warnings": [{"code": warned.code.value, "text": warned.text} for warned in fit.warnings],
        "verdicts": {target: _verdict(verdict) for target, verdict in fit.verdicts.items()},
        "power_laws": _power_laws(fit),
        "laws": {target: _law(result) for target, result in fit.targets.items()},
        "backtest": _rows(fit.backtest),
        "track_record": [
            _record(t, result, record) for t, result in fit.targets.items() for record in result.choice.record
        ],
        "forecasts": [_forecast(forecast) | _spent(fit.hardware, forecast.flops) for forecast in fit.forecasts],
        "target_returns": [dict(goal.__dict__) | _spent(fit.hardware, goal.flops) for goal in fit.target_returns],
        "repeats": {t: _repeats(result.cells) for t, result in fit.targets.items()},
        "hardware": None
        if fit.hardware is None
        else fit.hardware.gpu.__dict__ | {"utilisation": fit.hardware.utilisation},
        "held_out": [_held_out(row) for row in fit.held_out],
        "held_out_cells": [_held_out(row) for row in fit.held_out_cells],
        "profiles": [row for result in fit.targets.values() for row in _profiles(result)],
        "curves": {t: [_without(_forecast(f), "target") for f in curve] for t, curve in fit.curves.items()},
        "optimal_exponents": _rows(fit.optimal_exponents),
        "optima": _rows(fit.optima),
        "off_sizes": _rows(fit.off_sizes),
        "inference": [dict(row.__dict__) | _spent(fit.hardware, row.training_flops) for row in fit.inference],
        "repetition": repetition(fit.targets),
        "corpora": _rows(fit.corpora),
        "corpus_passes": _rows(fit.corpus_passes),
        "parametric": {t: _parametric(r, r.surface) for t, r in fit.targets.items() if r.surface is not None},
    }
    if fit.sensitivity is not None:
        whole["sensitivity"] = fit.sensitivity.to_dict()
    return finite(whole)


def _rows(items: Iterable[object]) -> list[dict[str, Any]]:
    """Return the fields of each item, the items being flat dataclasses."""
    return [dict(vars(item)) for item in items]


def finite(value: Any) -> Any:
    """Replace every NaN and infinity with None, and numpy's numbers with Python's."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _verdict(verdict: Verdict) -> dict[str, Any]:
    grounds = [{"level": ground.level.text, "text": ground.text} for ground in verdict.grounds]
    return {"level": verdict.level.text, "grounds": grounds}


def _power_laws(fit: Fit) -> list[dict[str, Any]]:
    used = {
        (target, quantity, law.at)
        for target, result in fit.targets.items()
        for quantity, law in used_laws(fit.power_laws, target, len(result.cells.budgets)).items()
        if quantity not in SPLIT or result.forecaster.params is not None
    }
    return [_exponent(row) | {"used": (row.target, row.quantity, row.at) in used} for row in fit.power_laws]


def _exponent(row: Exponent) -> dict[str, Any]:
    law = row.law
    return {
        "target": row.target, "quantity": row.quantity, "at": row.at, "exponent": law.exponent,
        "low": law.low, "high": law.high, "coefficient": law.coefficient, "r2": law.r2, "n": law.n,
        "boot_low": law.boot_low, "boot_high": law.boot_high, "log_coefficient": law.log_coefficient,
        "residuals": list(law.residuals),
    }  # fmt: skip


def _repeats(cells: Cells) -> dict[str, Any]:
    """Return the relative scatter of runs that differ in their seed alone about their cell's mean."""
    repeated = cells.repeats > 1
    return {"sd": cells.repeat_sd, "cells": int(repeated.sum()), "points": int(cells.repeats[repeated].sum())}


def _law(result: TargetFit) -> dict[str, Any]:
    choice = result.choice
    offset = result.cells.offset
    rows = {name: found._asdict() for name, found in _parameters(choice, offset).items()}
    fitted = {"offset": offset, "from_flops": choice.law.first, "to_flops": choice.law.last, "scatter": choice.law.sd}
    return {"form": choice.name, "parameters": rows, "why": choice.why, "widening": choice.widening} | fitted


def _parameters(choice: Choice, offset: float) -> dict[str, Bound]:
    if isinstance(choice.law, OptimumLaw):
        return choice.law.parameters(offset, choice.floor)
    law = choice.law.law if isinstance(choice.law, TwoStepLaw) else choice.law
    assert isinstance(law, FrontierLaw)
    return parameters(law, choice.target, offset)


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return _without(forecast.__dict__, "law", "at", "quantiles")


def _spent(hardware: Hardware | None, flops: float | None) -> dict[str, Any]:
    if hardware is None or flops is None:
        return {"gpu_hours": None, "energy_kwh": None}
    return {"gpu_hours": hardware.hours(flops), "energy_kwh": hardware.energy(flops)}


def _record(target: str, result: TargetFit, record: Record) -> dict[str, Any]:
    """Return one forecast of the track record in the target's unit, beside the plain power law's."""
    measured = float(result.cells.cost[result.cells.flops == record.own.flops].min())

    def value(cost: float) -> float:
        return float(result.cells.value(cost))

    def made(prediction: Prediction, before: str) -> dict[str, Any]:
        cost = measured - prediction.error
        ends = sorted(value(cost + end) for end in (prediction.low, prediction.high))
        return {before + "value": value(cost), before + "low": ends[0], before + "high": ends[1]}

    row = {"target": target, "from_flops": record.own.from_flops, "flops": record.own.flops, "form": record.own.name}
    row |= {"measured": value(measured), **made(record.own, ""), "inside": record.own.inside}
    return row | (made(record.plain, "power_") | {"power_inside": record.plain.inside} if record.plain else {})


def _held_out(row: HeldOut) -> dict[str, Any]:
    return _without(row.__dict__, "forecast", "measured_se", "repeats") | {"inside": row.inside}


def _without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in names}


def _profiles(result: TargetFit) -> list[dict[str, Any]]:
    bias = vertex_bias(result.cells, result.surface)
    return [_profile(p, result.cells) | {"vertex_bias": bias.get(p.flops)} for p in result.profiles]


def _profile(profile: Profile, cells: Cells) -> dict[str, Any]:
    a, b, c = profile.coefficients or (None, None, None)
    vertex = None if profile.vertex_cost is None else float(cells.value(profile.vertex_cost))
    return {
        "target": profile.target, "flops": profile.flops, "a": a, "b": b, "c": c,
        "low": profile.low, "high": profile.high, "cells": profile.cells,
        "argmin_params": profile.argmin_params, "argmin_samples": profile.argmin_samples,
        "argmin_value": float(cells.value(profile.argmin_cost)),
        "vertex_params": profile.vertex_params, "vertex_samples": profile.vertex_samples, "vertex_value": vertex,
        "excluded": None if profile.excluded is None else profile.excluded.value, "edge": profile.edge,
    }  # fmt: skip


def _parametric(result: TargetFit, surface: Surface) -> dict[str, Any]:
    """Return the laws of params and samples: the parametric one over all cells, the translog one, the chosen one."""
    cells, law = result.cells, surface.laws[WHOLE]
    assert isinstance(law, Parametric)
    rows = {name: found._asdict() for name, found in law.parameters(cells.offset, result.choice.floor).items()}
    left, floor = ("L", "E") if cells.target == "dev_loss" else ("1/R", "1/R_max")
    if cells.offset:
        left, floor = "1/(R - offset)", "1/(R_max - offset)"
    translog = surface.laws.get(TRANSLOG)
    return {
        "form": f"{left} = {floor} + A/N^alpha + B/D^beta", "parameters": rows, "n": len(law.residuals),
        "scatter": float(1.4826 * np.median(np.abs(law.residuals))),
        "chosen": surface.chosen, "why": surface.why, "widening": surface.widening,
        "translog": _translog(translog) if isinstance(translog, Translog) else None,
    }  # fmt: skip


def _translog(law: Translog) -> dict[str, Any]:
    errors = np.sqrt(np.diag(law.covariance))
    terms = zip(TERMS, law.beta, errors, strict=True)
    return {
        "terms": {name: {"value": float(b), "se": float(e)} for name, b, e in terms},
        "centre": {"ln_params": law.centre[0], "ln_samples": law.centre[1]},
        "n": law.n, "r2": law.r2, "scatter": law.sd,
    }  # fmt: skip
