"""A list of rows of a document as columns of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playscale.shown import Shown


class Columns(Shown, dict[str, np.ndarray]):
    """Columns {name: array} of the same length."""


def columns_of(whole: Mapping[str, Any], name: str) -> Columns:
    """Return a list of rows of a document as columns {name: array}; ValueError where it has no such list."""
    rows = whole.get(name)
    if not isinstance(rows, list):
        known = ", ".join(key for key, value in whole.items() if isinstance(value, list))
        raise ValueError(f"{name}: no list of rows; known: {known}")
    return Columns((key, _array([row.get(key) for row in rows])) for key in (rows or [{}])[0])


def _array(values: list[Any]) -> np.ndarray:
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    if numbers and not all(value is None or isinstance(value, bool) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    if any(isinstance(value, list) for value in values):
        return np.fromiter((np.array(value) for value in values), dtype=object, count=len(values))
    return np.array(values, dtype=object if None in values or not values else None)
