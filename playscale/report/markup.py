"""HTML put together from text: whatever is not already Html is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | None


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
    """Text in which C^0.52 is written with a real superscript."""
    return Html(re.sub(r"\^(\(?[−-]?[\d.]*\d\)?)", r"<sup>\1</sup>", html.escape(text)))


def table(head: Sequence[str], rows: Sequence[Sequence[Content]], *, caption: str, text: Sequence[int] = ()) -> Html:
    """A table that scrolls sideways on a narrow screen. `text`: columns of words; the others are numbers, at the right."""

    def cell(kind: str, column: int, content: Content) -> Html:
        return tag(kind, content, class_=None if column in text else "number", scope="col" if kind == "th" else None)

    header = tag("tr", *(cell("th", i, name) for i, name in enumerate(head)))
    body = [tag("tr", *(cell("td", i, content) for i, content in enumerate(row))) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", header), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)
