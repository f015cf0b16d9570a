"""HTML of the report: elements, tables, figures as inline SVG, and the templates (*.html beside this module).

Text is escaped unless it is Markup.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree as ET

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from playscale.report.axes import own_defaults
from playscale.report.drawing import Plot
from playscale.scaling.methods import unused
from playscale.scaling.numbers import power_of_ten

Content = str | None  # of an element: text, Markup, or nothing
MANY_ROWS = 40
TEMPLATES = Environment(
    loader=PackageLoader("playscale.report", "."), autoescape=True, trim_blocks=True, undefined=StrictUndefined
)
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_INDEX = re.compile(r"_(max|after|break)\b")
_SCIENTIFIC = re.compile(r"\b\d(?:\.\d+)?e[+-]?\d+\b")
_POWER = re.compile(r"\^([\N{MINUS SIGN}-]?(?:[\d.,]*\d|alpha|beta|gamma))")
_GREEK = {name: unicodedata.lookup(f"GREEK SMALL LETTER {name.upper()}") for name in ("alpha", "beta", "gamma")}


def render(template: str, **values: Any) -> Markup:
    """Fill a template of this package."""
    return Markup(TEMPLATES.get_template(template).render(values))


def asset(name: str) -> Markup:
    """Return a stylesheet or a script of this package."""
    return Markup(files("playscale.report").joinpath(name).read_text(encoding="utf-8"))


def tag(name: str, *children: Content, **attributes: str | None) -> Markup:
    """Return an element. `class_` and `data_x` become class and data-x; an attribute that is None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Sequence[Content]) -> Markup:
    return Markup("").join(part for part in parts if part is not None)


def anchors(names: Sequence[str]) -> list[str]:
    """Return an id for each name, also good in a CSS variable: letters, digits and hyphens, no two the same."""
    found: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"
        found.append(unused(base, found, "{}-{}"))
    return found


def with_powers(text: str) -> Markup:
    """Write C^-0.52 and C^-gamma with a superscript, R_max with a subscript."""
    raised = _POWER.sub(lambda match: f"<sup>{symbol(match[1])}</sup>", str(escape(text)))
    return Markup(_INDEX.sub(r"<sub>\1</sub>", raised))


def readable(text: str) -> Markup:
    """Write a sentence of the fit for a page: no underscores, 3e+11 as a power of ten, a capital first."""
    for name, word in (("dev_loss", "dev loss"), ("return_mean", "return"), (" %", "%")):
        text = text.replace(name, word)
    text = _SCIENTIFIC.sub(lambda match: power_of_ten(float(match[0])), text)
    return with_powers(text[:1].upper() + text[1:])


def symbol(text: str) -> str:
    """Write Greek letters for their names, a minus sign for a hyphen."""
    for name, letter in _GREEK.items():
        text = text.replace(name, letter)
    return text.replace("-", "\N{MINUS SIGN}")


def table(head: Sequence[str], rows: Sequence[Sequence[Content]], *, caption: str, text: Sequence[int] = ()) -> Markup:
    """Return a table that scrolls by itself where it is too wide or long.

    Args:
        head: names of the columns.
        rows: cells, row by row.
        caption: heading above the table.
        text: columns of words; the others hold numbers.
    """

    def cell(kind: str, column: int, content: Content) -> Markup:
        return tag(kind, content, class_="words" if column in text else "number", scope="col" if kind == "th" else None)

    header = tag("tr", *(cell("th", i, name) for i, name in enumerate(head)))
    body = [tag("tr", *(cell("td", i, content) for i, content in enumerate(row))) for row in rows]
    whole = tag("table", tag("thead", header), tag("tbody", *body), aria_label=caption)
    size = "scroll long" if len(rows) > MANY_ROWS else "scroll"
    return join([tag("h3", caption), tag("div", whole, class_=size, tabindex="0", role="region", aria_label=caption)])


def figures(
    plots: Sequence[Plot],
    variables: Mapping[str, tuple[str, str]],
    *,
    prefix: str = "",
    guide: bool = True,
    leading: bool = False,
) -> Markup:
    """Return figures side by side.

    Args:
        plots: the figures.
        variables: their colours, {CSS variable: (light, dark)}.
        prefix: of their ids, where a page has several studies.
        guide: end with how to read them.
        leading: three in a row, for the first screen.
    """
    drawn = [
        {
            "id": prefix + plot.name,
            "title": with_powers(plot.title),
            "drawing": inline_svg(
                plot.figure, name=prefix + plot.name, alt=plot.alt, tips=plot.tips, variables=variables
            ),
            "caption": with_powers(plot.caption),
            "csv": plot.csv,
        }
        for plot in plots
    ]
    return render("figures.html", figures=drawn, guide=guide, leading=leading)


def inline_svg(
    figure: Figure, *, name: str, alt: str, tips: Mapping[str, str], variables: Mapping[str, tuple[str, str]]
) -> Markup:
    """Return a figure as an <svg> element: colours by CSS variable, the page's own font, tooltips on its points.

    Args:
        figure: what is drawn.
        name: prefix of its ids, unique in the page.
        alt: the figure in words.
        tips: {gid of an artist: text shown on hover}.
        variables: {CSS variable: (light, dark)}; each light colour in the drawing becomes var(--name).
    """
    drawing = io.BytesIO()
    with own_defaults({"svg.hashsalt": name}):
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
    return Markup(_restyle(text, variables))


def _add_tips(root: ET.Element, tips: Mapping[str, str]) -> None:
    for group in root.iter(f"{{{SVG}}}g"):
        tip = tips.get(group.get("id", ""))
        if tip is not None:
            group.set("class", "tip")
            title = ET.Element(f"{{{SVG}}}title")
            title.text = tip
            group.insert(0, title)


def _rename_ids(root: ET.Element, name: str) -> None:
    """Prefix the ids that something refers to with the figure's name, and remove the others."""
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
    """Change colours, fonts and coordinates: of elements alone, since a text may hold the same letters and numbers."""

    def element(match: re.Match[str]) -> str:
        found = match[0]
        for variable, (light, _) in variables.items():
            found = found.replace(light, f"var({variable})")
        found = re.sub(r"font-family: [^;\"]+", "font-family: inherit", found)
        found = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", found)
        return re.sub(r"(\d\.\d\d)\d+", r"\1", found)  # a hundredth of a point is finer than any screen

    return re.sub(r">\s+<", "><", re.sub(r"<(?!svg)[^>]*>", element, text))
