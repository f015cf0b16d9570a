"""The figure of one run: its curve so far, and the band that its later points are forecast in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from playscale.report.axes import (
    HEIGHT,
    QUANTITY,
    TEXT,
    WIDTH,
    linear_axis,
    new_axes,
    own_defaults,
    quantity_axis,
)  # fmt: skip
from playscale.report.drawing import BAND, Plot
from playscale.report.figures import save_figure
from playscale.report.palette import FAINT, INK, LOSS, RETURN
from playscale.report.series import Number
from playscale.scaling import numbers
from playscale.scaling.run_curve import CurveForecast

LABELS = QUANTITY | {"train_loss": ("loss in training (nats per action)", str)}
COLOURS = {"return": RETURN, "loss": LOSS}


@own_defaults()
def write_curve_forecast(
    path: Path, flops: Sequence[float], values: Sequence[float], forecast: CurveForecast, column: str
) -> None:
    """Write a curve with its forecast, or the reason why there is none, as PNG, SVG and CSV."""
    figure, axes = new_axes()
    figure.set_size_inches(1.3 * WIDTH, HEIGHT)
    c, y = np.array(flops), np.array(values)
    first = int(np.searchsorted(c, forecast.first_flops))
    colour = COLOURS[forecast.kind]
    if first:
        axes.plot(c[:first], y[:first], ".", color=FAINT, label="measured, left out of the fit")
    axes.plot(c[first:], y[first:], ".", color=colour, label="measured")
    seen = [*values]
    drawn = [
        Number("measured" if i >= first else "measured, left out of the fit", x, value)
        for i, (x, value) in enumerate(zip(flops, values, strict=True))
    ]
    if forecast.value is not None:
        at, middle, low, high = (
            np.array([row[name] for row in forecast.band]) for name in ("flops", "value", "low", "high")
        )
        axes.fill_between(at, low, high, color=colour, alpha=BAND, linewidth=0, label="95% of what is measured")
        axes.plot(at, middle, color=colour, label="fitted curve")
        ends = [[middle[-1] - low[-1]], [high[-1] - middle[-1]]]
        axes.errorbar([forecast.flops], [forecast.value], ends, fmt="o", color=INK, capsize=4, label="forecast, 95%")
        seen += [*low, *high]
        drawn += [Number("fitted curve", *row) for row in np.column_stack([at, middle, low, high]).tolist()]
        drawn.append(Number("forecast", forecast.flops, forecast.value, float(low[-1]), float(high[-1])))
    quantity_axis("x", axes, "flops", [c[0], forecast.flops])
    linear_axis(axes, LABELS[column][0], seen)
    figure.legend(loc="outside lower center", ncols=3, fontsize=TEXT, frameon=False, labelcolor=INK)
    where = f"{column} at {numbers.power_of_ten(forecast.flops)} FLOPs"
    save_figure(path, Plot("curve_forecast", f"{where}: {forecast.text}", "", where, figure, {}, tuple(drawn)))
