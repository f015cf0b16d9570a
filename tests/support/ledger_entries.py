"""Forecasts whose predictive distribution is a normal one of the logarithm."""

from __future__ import annotations

import numpy as np
from scipy import stats

from playscale.scaling.ledger import LEVELS, Entry


def normal_entry(mean: float = 1.0, sd: float = 0.1, flops: float = 1e12, **more: object) -> Entry:
    """Return a forecast of a dev loss with median exp(mean)."""
    low, *_, high = ends = np.exp(mean + sd * stats.norm.ppf([0.025, 0.5, 0.975])).tolist()
    quantiles = tuple(np.exp(mean + sd * stats.norm.ppf(LEVELS)).tolist())
    values = {"game": "pong", "method": "bc", "target": "dev_loss", "law": "saturating", "points": "a digest"}
    values |= {"flops": flops, "params": 1e5, "samples": flops / 6e5, "value": ends[1], "low": low, "high": high}
    return Entry(**{**values, "quantiles": quantiles, **more})  # type: ignore[arg-type]
