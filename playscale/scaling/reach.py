"""Ranges of decades by which forecasts reached ahead, in which they are scored."""

from __future__ import annotations

import math

REACHES = (0.5, 1.0, 2.0, 3.0, math.inf)  # decades of compute between the last budget fitted and the one forecast


def reach_of(decades: float) -> float:
    """Return the first of REACHES that is not exceeded."""
    return next(reach for reach in REACHES if decades <= reach + 1e-6)


def reach_name(reach: float) -> str:
    """Name a reach for a table: "up to 0.5 decades", "1 to 2 decades", "over 3 decades"."""
    i = REACHES.index(reach)
    if i == 0:
        return f"up to {reach:g} decades"
    return f"{REACHES[i - 1]:g} to {reach:g} decades" if reach < math.inf else f"over {REACHES[i - 1]:g} decades"
