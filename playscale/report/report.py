"""One HTML file that holds a whole study: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from playscale.points import Point
from playscale.report import laws, numbers, tables
from playscale.report.allocation import allocation, surfaces
from playscale.report.drawing import Plot
from playscale.report.evidence import Evidence, Reference
from playscale.report.figures import make_plots
from playscale.report.headline import headline
from playscale.report.markup import Html, escaped, join, tag, with_powers
from playscale.report.palette import css_declarations, css_variables
from playscale.report.player import players
from playscale.report.replay import Replay
from playscale.report.svg import inline_svg
from playscale.storage import atomic_file


def write_report(
    path: Path,
    fit: Mapping[str, Any],
    points: Sequence[Point],
    *,
    title: str,
    replays: Sequence[Replay] = (),
    references: Sequence[Reference] = (),
    details: Mapping[str, str] | None = None,
) -> None:
    """Write the report of a study as one self-contained HTML file, atomically.

    fit: the content of fit.json, with `profiles` and `curves` for the figures; missing parts are left out of the page.
    replays: games to watch, the best first. details: what else to keep of the study, name and text.
    """
    evidence = Evidence(fit, points, references)
    variables = css_variables(len(evidence.budgets))
    page = Template(_asset("template.html")).substitute(
        title=escaped(title),
        style=f":root {{ {css_declarations(variables)} }}\n{_asset('style.css')}",
        script=_asset("replay.js"),
        subtitle=escaped(_subtitle(evidence)),
        headline=headline(evidence),
        figures=_figures(make_plots(evidence), variables),
        laws=join(
            [
                laws.forecasting_laws(evidence),
                laws.backtest(evidence),
                laws.power_laws(evidence),
                allocation(evidence),
                surfaces(evidence),
                laws.left_out(evidence),
            ]
        ),
        points=join([tables.points(evidence), tables.references(evidence)]),
        replays=players(replays),
        details=tables.details(details or {}),
    )
    with atomic_file(path) as file:
        file.write(page.encode())


def _asset(name: str) -> str:
    return files("playscale.report").joinpath(name).read_text(encoding="utf-8")


def _subtitle(evidence: Evidence) -> str:
    """What was measured, in one line."""
    sizes = len({point.size or point.params for point in evidence.points})
    games = sum(point.episodes or 0 for point in evidence.points)
    counts = ((len(evidence.points), "point"), (sizes, "model size"), (len(evidence.budgets), "compute budget"))
    parts = [f"{number} {noun}{'s' if number != 1 else ''}" for number, noun in counts]
    if evidence.budgets:
        parts.append(f"{numbers.budget(evidence.budgets[0])} to {numbers.budget(evidence.budgets[-1])} FLOPs")
    if games:
        parts.append(f"{games:,} games played")
    return " · ".join(parts)


def _figures(plots: Sequence[Plot], variables: Mapping[str, tuple[str, str]]) -> Html:
    if not plots:
        return tag("p", "There is nothing to draw: no point was measured.", class_="note")
    return tag("div", *(_figure(plot, variables) for plot in plots), _reading_guide(), class_="figures")


def _figure(plot: Plot, variables: Mapping[str, tuple[str, str]]) -> Html:
    drawing = inline_svg(plot.figure, name=plot.name, alt=plot.alt, tips=plot.tips, variables=variables)
    return tag(
        "figure",
        tag("h3", with_powers(plot.title)),
        drawing,
        tag("figcaption", with_powers(plot.caption)),
        id=plot.name,
    )


def _reading_guide() -> Html:
    lines = (
        ("Filled points", "were fitted. Hover over any point for its numbers."),
        ("Diamonds", "are the held-out budget: measured, never fitted, so they test the forecast."),
        ("Hollow grey points", "were left out of the fits; hover for why. At the lower edge: returns of 0 or less."),
        ("Hollow triangles", "that point right are forecasts, their bars the 95% interval."),
        ("Crosses", "are the best size of a budget, the lowest (for returns the highest) place of its parabola."),
        ("All axes are logarithmic", "so that a power law is a straight line and its exponent the slope."),
    )
    items = [tag("li", tag("b", name), " ", text) for name, text in lines]
    return tag("aside", tag("h3", "How to read the figures"), tag("ul", *items), class_="guide")
