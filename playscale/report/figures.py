"""The figures of a study, in the order of the report: for the page, or as PNG and SVG with their numbers as CSV."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from playscale.points import Point, Reference
from playscale.report.axes import families, own_defaults
from playscale.report.comparison import comparison_plots, drawn
from playscale.report.drawing import Plot
from playscale.report.evidence import Evidence, evidences_of
from playscale.report.learning import Curves, learning_curves
from playscale.report.palette import INK
from playscale.report.performance import against_compute, return_against_loss
from playscale.report.pool_section import pool_plots
from playscale.report.profile_figures import isoflop, optimum
from playscale.report.repetition_section import repetition_plots
from playscale.report.sensitivity_section import sensitivity_plots
from playscale.report.text import wrapped
from playscale.report.trust import trust
from playscale.scaling.methods import unused
from playscale.storage.files import atomic_file, file_name

DPI = 200
ENDINGS = (".png", ".svg", ".csv")
TITLE_LINE, TITLE_ROW = 52, 0.22  # columns of a line of the title, inches of one after the second
NAMES = (
    "isoflop_*", "optimal_*", "dev_loss_against_compute", "return_mean_against_compute", "return_against_loss",
    "*_forecast_before", "learning_curves", "learning_compared", "methods_against_*", "methods_dev_loss_against_*",
    "sensitivity_*", "pooled_*", "repetition_*",
)  # fmt: skip
# In a report's directory, also those of a method, whose name comes first. Other pictures there are the user's.
FIGURE_FILES = tuple(f"figures/{prefix}{name}{end}" for name in NAMES for prefix in ("", "*_") for end in ENDINGS)


def file_names(texts: Sequence[str]) -> list[str]:
    """Return a file name for each text, no two the same even where upper and lower case are."""
    names: list[str] = []
    taken: set[str] = set()
    for text in texts:
        name = file_name(text)
        folded = unicodedata.normalize("NFC", name).casefold()
        found = unused(folded, taken, "{}-{}")
        taken.add(found)
        names.append(name + found.removeprefix(folded))
    return names


@own_defaults()
def make_plots(evidence: Evidence, curves: Curves | None = None) -> list[Plot]:
    """Draw every figure of one method that there are data for."""
    plots = (
        against_compute(evidence, "dev_loss"),
        against_compute(evidence, "return_mean"),
        trust(evidence, "dev_loss"),
        trust(evidence, "return_mean"),
        isoflop(evidence, "dev_loss"),
        isoflop(evidence, "return_mean"),
        optimum(evidence, "params"),
        optimum(evidence, "samples"),
        return_against_loss(evidence),
        learning_curves(evidence, curves or {}),
    )
    return [plot for plot in plots if plot is not None]


def leading_plots(plots: Sequence[Plot]) -> list[Plot]:
    """Return the figures of the forecast: of the loss, or without one of the return, and of the best size and data."""
    against = [plot for plot in plots if plot.name.endswith("_against_compute")][:1]
    sizes = [plot for plot in plots if plot.name in ("optimal_params", "optimal_samples")]
    return against + sizes if len(sizes) > 1 else []


@own_defaults()
def write_figures(
    folder: Path,
    fit: Mapping[str, Any],
    points: Sequence[Point],
    references: Sequence[Reference] = (),
    curves: Curves | None = None,
) -> list[Path]:
    """Write the report's figures as PNG (200 dpi) and SVG, on white, and the numbers that each draws as CSV.

    Of several methods: those that compare them, and each method's own, whose names begin with it; of many methods the
    best ones'.

    Args:
        folder: where the files go; made if need be.
        fit: the content of fit.json.
        points: the points table.
        references: returns of other players, for comparison.
        curves: learning curves, {run: rows}.

    Returns:
        The paths of the PNG files; the others stand beside them.
    """
    evidences = evidences_of(fit, points, references)
    several, shown = len(evidences) > 1, drawn(evidences)
    plots = [
        (f"{name}_" if several else "", plot)
        for name, method in zip(file_names(shown), shown, strict=True)
        for plot in (
            *make_plots(evidences[method], curves),
            *repetition_plots(evidences[method]),
            *sensitivity_plots(evidences[method]),
        )
    ]
    if several:
        plots = [("", plot) for plot in comparison_plots(evidences, curves or {})] + plots
    plots += [("", plot) for plot in pool_plots(fit)]
    paths = []
    for prefix, plot in plots:
        paths.append(folder / f"{prefix}{plot.name}.png")
        save_figure(paths[-1], plot)
    return paths


def save_figure(path: Path, plot: Plot) -> None:
    """Write a figure with its title as PNG at `path`, beside it as SVG and its numbers as CSV, each atomically.

    Call it within `own_defaults`.
    """
    title = wrapped(plot.title, TITLE_LINE)
    plot.figure.set_figheight(plot.figure.get_figheight() + TITLE_ROW * max(title.count("\n") - 1, 0))
    title = re.sub(r"\^([\N{MINUS SIGN}-]?[\d.,]*\d)", r"$^{\1}$", title.replace("$", r"\$"))
    look: dict[str, Any] = {"fontsize": 11.5, "color": INK, "fontfamily": families(plot.title)}
    plot.figure.suptitle(title, x=0.02, ha="left", parse_math=True, **look)
    with atomic_file(path) as file:
        FigureCanvasAgg(plot.figure).print_figure(file, dpi=DPI, facecolor="white", format="png")
    with mpl.rc_context({"svg.hashsalt": plot.name}), atomic_file(path.with_suffix(".svg")) as file:
        FigureCanvasSVG(plot.figure).print_figure(
            file, facecolor="white", format="svg", metadata={"Date": None, "Title": plot.title}
        )
    with atomic_file(path.with_suffix(".csv")) as file:
        file.write(plot.csv.encode(errors="replace"))
