"""Figures of past forecasts: what would have been forecast from earlier budgets, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from playscale.report import track_record
from playscale.report.drawing import DASHED, Drawing, Plot
from playscale.report.evidence import NAMES, Evidence
from playscale.report.palette import SOFT, TARGET_COLOUR
from playscale.scaling import numbers

Row = Mapping[str, Any]
# How far ahead, in decades, and in words; the first with enough forecasts within a third of it is shown.
AHEAD = ((1.0, "a decade"), (0.5, "half a decade"), (0.3, "a factor 2"))
ENOUGH = 3


def trust(evidence: Evidence, target: str) -> Plot | None:
    """Draw the best of each budget and its forecast from about a decade of compute earlier; None without one."""
    rows, ahead = _one_each(track_record.track(evidence.fit, target))
    if not rows:
        return None
    drawing = Drawing(f"{target}_forecast_before", evidence, target)
    for row in rows:
        drawing.see(row["flops"], row["measured"])
    _forecasts(drawing, rows, "power_", SOFT, DASHED, "power law, forecast")
    _forecasts(drawing, rows, "", TARGET_COLOUR[target], "-", "chosen law, forecast")
    for row in rows:
        style: dict[str, Any] = {"color": TARGET_COLOUR[target], "zorder": 4}
        drawing.mark(row["flops"], row["measured"], _tip(row, target), label="measured", **style)
    drawing.scale("flops", target)
    caption = (
        f"Each place of the lines was forecast from the budgets up to about {ahead} of compute earlier, by the law that"
        " would have been chosen then. Bands: their 95% intervals. Points: what was then measured."
    )
    what = NAMES[target] + track_record.above(evidence.fit, target)
    return drawing.finish(_title(rows, what, ahead), caption, f"{NAMES[target]} forecast and measured.", 3)


def _one_each(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Choose for each budget the forecast made nearest to a decade before, or to half where those are too few."""
    for decades, words in AHEAD:
        near = [row for row in rows if abs(track_record.decades(row) / decades - 1) <= 1 / 3]
        nearest: dict[float, Row] = {}
        for row in sorted(near, key=lambda row: abs(track_record.decades(row) - decades)):
            nearest.setdefault(row["flops"], row)
        if len(nearest) >= ENOUGH:
            return [nearest[flops] for flops in sorted(nearest)], words
    return [], ""


def _forecasts(drawing: Drawing, rows: Sequence[Row], of: str, colour: str, style: Any, label: str) -> None:
    """Draw the line and band of one kind of forecast; what is FAR from the truth does not widen the axis."""
    made = [row for row in rows if drawing.shows(row.get(of + "value"))]
    if not made:
        return
    x = [row["flops"] for row in made]
    drawing.line(x, [row[of + "value"] for row in made], color=colour, linestyle=style, label=label, zorder=3)
    banded = [row for row in made if drawing.shows(row.get(of + "low")) and numbers.known(row.get(of + "high"))]
    lows, highs = ([row[of + end] for row in banded] for end in ("low", "high"))
    drawing.band([row["flops"] for row in banded], lows, highs, colour, label)
    for row in made:
        for value in (row[of + "value"], row.get(of + "low"), row.get(of + "high")):
            drawing.see_end(row["flops"], value, row["measured"])


def _tip(row: Row, target: str) -> str:
    lines = [
        f"{numbers.budget(row['flops'])} FLOPs: {NAMES[target]} {numbers.as_fine(row['measured'], row)} measured",
        f"forecast from {numbers.budget(row['from_flops'])} FLOPs ({row.get('form') or 'law'}): "
        + numbers.with_interval(row),
    ]
    if numbers.known(row.get("power_value")):
        span = numbers.with_interval(row, "power_")
        lines.append(f"the plain power law: {span}")
    return "\n".join(lines)


def _title(rows: Sequence[Row], what: str, ahead: str) -> str:
    own, plain = track_record.score(rows), track_record.score(rows, "power_")
    title = f"Forecast {ahead} ahead, {what} was missed by {numbers.off(own.error if own else None)}"
    return title if plain is None else f"{title}; by a power law, {numbers.off(plain.error)}"
