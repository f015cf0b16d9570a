"""A matplotlib figure as inline SVG: colours by CSS variable, the page's own font, tooltips on its points."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from playscale.report.html import Html

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
