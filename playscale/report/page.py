"""What the pages share: their style, their figures and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template

from playscale.report import numbers
from playscale.report.drawing import Plot
from playscale.report.evidence import Evidence
from playscale.report.html import Html, tag, with_powers
from playscale.report.svg import inline_svg


def asset(name: str) -> str:
    """A file of the package, as text."""
    return files("playscale.report").joinpath(name).read_text(encoding="utf-8")


def section(name: str, title: str, content: Html) -> Html:
    """A part of the page with its heading; name: its id."""
    return tag("section", tag("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def make_page(kind: str, texts: Mapping[str, str], *, styles: str, scripts: str) -> str:
    """A whole page: page.html around the sections in KIND.html, both filled with the texts."""
    sections = Template(asset(f"{kind}.html")).substitute(texts)
    return Template(asset("page.html")).substitute(texts, style=styles, script=scripts, sections=sections.strip())


def subtitle(evidence: Evidence) -> str:
    """What was measured, in one line."""
    sizes = len({point.size or point.params for point in evidence.points})
    games = sum(point.episodes or 0 for point in evidence.points)
    points = evidence.measured_points or len(evidence.runs)
    methods, seeds = ({getattr(point, name) for point in evidence.runs} for name in ("method", "seed"))
    counts = [(points, "point"), (sizes, "model size"), (len(evidence.budgets), "compute budget")]
    more = ((len(methods), "method"), (len(seeds), "seed"))
    counts += [(number, noun) for number, noun in more if number > 1]
    parts = [f"{number:,} {noun}{'s' if number != 1 else ''}" for number, noun in counts]
    if evidence.budgets:
        parts.append(f"{numbers.budget(evidence.budgets[0])} to {numbers.budget(evidence.budgets[-1])} FLOPs")
    if evidence.measured_points and points > len(evidence.points):
        parts.append(f"{len(evidence.points):,} of the points are shown, the best of each budget among them")
    elif games:
        parts.append(f"{games:,} games played")
    return " · ".join(parts)


def figures(
    plots: Sequence[Plot], variables: Mapping[str, tuple[str, str]], *, prefix: str = "", guide: bool = True
) -> Html:
    """The figures side by side. prefix: of their ids, where a page has several studies; variables: their colours."""
    if not plots:
        return tag("p", "There is nothing to draw: no point was measured.", class_="note")
    drawn = [_figure(plot, variables, prefix + plot.name) for plot in plots]
    return tag("div", *drawn, _reading_guide() if guide else None, class_="figures")


def _figure(plot: Plot, variables: Mapping[str, tuple[str, str]], name: str) -> Html:
    drawing = inline_svg(plot.figure, name=name, alt=plot.alt, tips=plot.tips, variables=variables)
    return tag(
        "figure", tag("h3", with_powers(plot.title)), drawing, tag("figcaption", with_powers(plot.caption)), id=name
    )


def _reading_guide() -> Html:
    lines = (
        ("Filled points", "were fitted. Hover over any point for its numbers."),
        ("Diamonds", "are the held-out budget: measured, never fitted, so they test the forecast."),
        ("Hollow grey points", "were left out of the fits; hover for why. At the lower edge: returns of 0 or less."),
        ("Hollow triangles", "that point right are forecasts, their bars the 95% interval."),
        ("Crosses", "are the best size of a budget, the lowest (for returns the highest) place of its parabola."),
        ("Small dots", "are single seeds, where the point is their mean and its bar knows of their scatter."),
        ("All axes are logarithmic", "so that a power law is a straight line and its exponent the slope."),
    )
    items = [tag("li", tag("b", name), " ", text) for name, text in lines]
    return tag("aside", tag("h3", "How to read the figures"), tag("ul", *items), class_="guide")
