"""How good forecasts were, by how far ahead they reached: the track record of the choice, the backtest of each law."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from playscale.report.numbers import known, positive

Row = Mapping[str, Any]
REACHES = (0.5, 1.0, 2.0, 3.0, math.inf)  # decades of compute between the last budget fitted and the one forecast


@dataclass(frozen=True)
class Score:
    """error: median |log error|; inside: share within the 95% intervals, None without any; count: of forecasts."""

    error: float
    inside: float | None
    count: int


def reach_of(decades: float) -> float:
    """The first of REACHES that is not exceeded."""
    return next(reach for reach in REACHES if decades <= reach + 1e-6)


def reach_name(reach: float) -> str:
    """For a table: "up to 0.5 decades", "1 to 2 decades", "over 3 decades"."""
    i = REACHES.index(reach)
    if i == 0:
        return f"up to {reach:g} decades"
    return f"{REACHES[i - 1]:g} to {reach:g} decades" if reach < math.inf else f"over {REACHES[i - 1]:g} decades"


def track(fit: Mapping[str, Any], target: str) -> list[Row]:
    """The forecasts of the track record that can be scored."""
    rows: Sequence[Row] = fit.get("track_record") or []
    numbers = ("from_flops", "flops", "measured", "value")
    return [row for row in rows if row.get("target") == target and all(positive(row.get(name)) for name in numbers)]


def decades(row: Row) -> float:
    """How far ahead a forecast of the track record reached."""
    return math.log10(row["flops"] / row["from_flops"])


def score(rows: Iterable[Row], of: str = "") -> Score | None:
    """Of the choice's own forecasts, or of the plain power law's (of "power_"); None without any."""
    made = [row for row in rows if positive(row.get(of + "value"))]
    if not made:
        return None
    judged = [bool(row[of + "inside"]) for row in made if row.get(of + "inside") is not None]
    error = median(abs(math.log(row[of + "value"] / row["measured"])) for row in made)
    return Score(error, fmean(judged) if judged else None, len(made))


def by_reach(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """The forecasts of a track record, near ones first."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(reach_of(decades(row)), []).append(row)
    return dict(sorted(groups.items()))


def backtest(fit: Mapping[str, Any], target: str) -> dict[str, dict[float, Score]]:
    """{law: {reach: score}} of every law that was backtested, in the order of the fit.

    A row of the backtest sums up the forecasts from one budget to half a decade; a score is the median of their
    errors and the mean of their shares, and its count the rows'.
    """
    rows: Sequence[Row] = fit.get("backtest") or []
    groups: dict[str, dict[float, list[Row]]] = {}
    for row in rows:
        if row.get("target") == target and known(row.get("decades_ahead")) and known(row.get("median_log_error")):
            groups.setdefault(str(row.get("form")), {}).setdefault(reach_of(row["decades_ahead"]), []).append(row)
    return {form: {reach: _summed(own) for reach, own in sorted(found.items())} for form, found in groups.items()}


def _summed(rows: Sequence[Row]) -> Score:
    inside = [row["coverage"] for row in rows if known(row.get("coverage"))]
    return Score(median(row["median_log_error"] for row in rows), fmean(inside) if inside else None, len(rows))
