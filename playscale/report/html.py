"""HTML put together from text: whatever is not already Html is escaped."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

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
