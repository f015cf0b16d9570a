"""The forecasts of a fit as entries of the ledger."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from playscale.scaling.fit import Fit
from playscale.scaling.forecast import Forecast
from playscale.scaling.ledger import Entry, points_digest
from playscale.scaling.powerlaw import ENDS, LEVELS

KNOWN = 1.01  # budgets up to this factor above the largest of the table have an outcome that is known


class Scored(NamedTuple):
    """A forecast of an outcome that is known: its mean over `seeds` agents, and its standard error."""

    forecast: Entry
    outcome: float
    se: float | None
    seeds: int


def open_entries(fit: Fit, *, version: str, corpus: str = "") -> list[Entry]:
    """Return the forecasts of a fit, to be registered.

    One of a budget that the table reaches is retrospective: what came of it was known.

    Args:
        fit: of one method in one game.
        version: of Playscale.
        corpus: digest of the corpus that the points rest on, where it is known.
    """
    largest = max(point.flops for point in fit.points)
    return [
        _entry(fit, forecast, version, corpus, retrospective=forecast.flops <= KNOWN * largest)
        for forecast in fit.forecasts
        if math.isfinite(forecast.value)
    ]


def held_out_entries(fit: Fit, *, version: str, corpus: str = "") -> list[Scored]:
    """Return the forecasts of a fit's held-out budgets, all of them retrospective, with what was measured there."""
    return [
        Scored(
            _entry(fit, row.forecast, version, corpus, retrospective=True), row.measured, row.measured_se, row.repeats
        )
        for row in fit.held_out
        if row.forecast is not None and math.isfinite(row.value)
    ]


def _entry(fit: Fit, forecast: Forecast, version: str, corpus: str, *, retrospective: bool) -> Entry:
    forecaster = fit.targets[forecast.target].forecaster
    value, quantiles = _plain(fit, forecast)
    low, high = (quantiles[i] for i in ENDS) if quantiles else (None, None)
    named = next((point for point in fit.points if point.game), fit.points[0])
    return Entry(
        game=named.game, method=fit.points[0].method, target=forecast.target, law=forecast.law, at=forecast.at,
        flops=forecast.flops, params=forecast.params, samples=forecast.samples, offset=forecaster.offset,
        value=forecast.value, low=forecast.low, high=forecast.high, quantiles=forecast.quantiles,
        plain_value=value, plain_low=low, plain_high=high, plain_quantiles=quantiles,
        version=version, points=points_digest(fit.points), corpus=corpus, retrospective=retrospective,
    )  # fmt: skip


def _plain(fit: Fit, forecast: Forecast) -> tuple[float | None, tuple[float, ...]]:
    """Return the plain power law's forecast of the best of a budget, and its quantiles; none of a given (N, D)."""
    plain = fit.targets[forecast.target].forecaster.plain
    if plain is None or forecast.at == "cell":
        return None, ()
    offset = fit.targets[forecast.target].forecaster.offset
    quantiles = plain.law.quantiles_at(forecast.flops)
    with np.errstate(over="ignore"):
        value = offset + plain.law.at(forecast.flops)
        of = () if quantiles is None else tuple((offset + np.exp(quantiles)).tolist())
    finite = len(of) == len(LEVELS) and all(map(math.isfinite, of))
    return (value if math.isfinite(value) else None), (of if finite else ())
