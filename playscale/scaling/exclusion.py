"""What a fit leaves out and why, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FitError(ValueError):
    """The table cannot be fitted; one line says what is missing."""


class Reason(StrEnum):
    """Why a point or a budget is not part of a fit. The list is closed."""

    NO_LOSS = "no dev loss"
    NO_RETURN = "no return"
    RETURN_NOT_POSITIVE = "return not positive"
    FEW_CELLS = "fewer than 3 cells"
    WRONG_CURVATURE = "profile curves the wrong way"
    BELOW_SIZES = "minimum below the trained sizes"
    ABOVE_SIZES = "minimum above the trained sizes"


@dataclass(frozen=True)
class Excluded:
    """A point (params given) or a whole budget's parabola (params None) left out of the fits of `target`."""

    target: str
    flops: float
    params: float | None
    reason: Reason
