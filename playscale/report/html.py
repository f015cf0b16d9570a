"""HTML put together from text: whatever is not already Html is escaped.

A matplotlib figure as inline SVG: colours by CSS variable, the page's own font, tooltips on its points.

What the pages share: their style, their figures and how to read them.
"""

from __future__ import annotations

import html
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from playscale.report import numbers
from playscale.report.drawing import Plot
from playscale.report.evidence import Evidence
from playscale.report.numbers import power_of_ten


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | None
MANY_ROWS = 40
_INDEX = re.compile(r"_(max|after|break)\b")
_SCIENTIFIC = re.compile(r"\b\d(?:\.\d+)?e[+-]?\d+\b")
_POWER = re.compile(r"\^([\N{MINUS SIGN}-]?(?:[\d.]*\d|alpha|beta|gamma))")
_GREEK = {name: unicodedata.lookup(f"GREEK SMALL LETTER {name.upper()}") for name in ("alpha", "beta", "gamma")}


def escaped(content: Content) -> Html:
    """`content` as HTML; None is nothing."""
    if content is None:
        return Html("")
    return content if isinstance(content, Html) else Html(html.escape(content))


def tag(name: str, *children: Content, **attributes: str | None) -> Html:
    """An element. `class_` and `data_x` become class and data-x; an attribute that is None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Sequence[Content]) -> Html:
    return Html("".join(escaped(part) for part in parts))


def with_powers(text: str) -> Html:
    """Text in which C^-0.52 and C^-gamma are written with a real superscript, R_max with a subscript."""
    raised = _POWER.sub(lambda found: f"<sup>{symbol(found[1])}</sup>", html.escape(text))
    return Html(_INDEX.sub(r"<sub>\1</sub>", raised))


def readable(text: str) -> Html:
    """A sentence of the fit for a page: names without underscores, 3e+11 as a power of ten, a capital first."""
    for name, word in (("dev_loss", "dev loss"), ("return_mean", "return"), (" %", "%")):
        text = text.replace(name, word)
    text = _SCIENTIFIC.sub(lambda found: power_of_ten(float(found[0])), text)
    return with_powers(text[:1].upper() + text[1:])


def symbol(text: str) -> str:
    """Greek for a name, a minus for a hyphen."""
    for name, letter in _GREEK.items():
        text = text.replace(name, letter)
    return text.replace("-", "\N{MINUS SIGN}")


def table(head: Sequence[str], rows: Sequence[Sequence[Content]], *, caption: str, text: Sequence[int] = ()) -> Html:
    """A table that scrolls by itself where it is too wide or long. `text`: columns of words; the others are numbers."""

    def cell(kind: str, column: int, content: Content) -> Html:
        return tag(kind, content, class_="words" if column in text else "number", scope="col" if kind == "th" else None)

    header = tag("tr", *(cell("th", i, name) for i, name in enumerate(head)))
    body = [tag("tr", *(cell("td", i, content) for i, content in enumerate(row))) for row in rows]
    whole = tag("table", tag("thead", header), tag("tbody", *body), aria_label=caption)
    size = "scroll long" if len(rows) > MANY_ROWS else "scroll"
    return join([tag("h3", caption), tag("div", whole, class_=size, tabindex="0", role="region", aria_label=caption)])


SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(
    figure: Figure, *, name: str, alt: str, tips: Mapping[str, str], variables: Mapping[str, tuple[str, str]]
) -> Html:
    """The figure as an <svg> element for an HTML page.

    name: prefix of its ids, unique in the page; tips: {gid of an artist: text shown on hover};
    variables: {CSS variable: (light, dark)}; each light colour in the drawing becomes var(--name).
    """
    drawing = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(drawing, metadata={"Date": None, "Creator": None})
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    root = ET.fromstring(drawing.getvalue())  # noqa: S314 - drawn just above, not from outside
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    _add_tips(root, tips)
    _rename_ids(root, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return Html(_restyle(text, variables))


def _add_tips(root: ET.Element, tips: Mapping[str, str]) -> None:
    for group in root.iter(f"{{{SVG}}}g"):
        tip = tips.get(group.get("id", ""))
        if tip is not None:
            group.set("class", "tip")
            title = ET.Element(f"{{{SVG}}}title")
            title.text = tip
            group.insert(0, title)


def _rename_ids(root: ET.Element, name: str) -> None:
    """Ids that something refers to get the figure's prefix; the others go, so that ids stay unique in the page."""
    used: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == f"{{{XLINK}}}href":
                used.add(value.removeprefix("#"))
                element.set(key, f"#{name}-{value.removeprefix('#')}")
            elif "url(#" in value:
                used.update(_REFERENCE.findall(value))
                element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in used:
            element.set("id", f"{name}-{identifier}")


def _restyle(text: str, variables: Mapping[str, tuple[str, str]]) -> str:
    for variable, (light, _) in variables.items():
        text = text.replace(light, f"var({variable})")
    text = re.sub(r"font-family: [^;\"]+", "font-family: inherit", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)  # a hundredth of a point is finer than any screen
    return re.sub(r">\s+<", "><", text)


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
