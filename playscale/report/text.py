"""Text of others: of tables, of the command line, of games. Pages escape it (html.py); this is for all other places."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

LONGEST = 40  # columns of a name in a figure
FEW_NAMED = 5  # a sentence names so many


def printable(text: str) -> str:
    """Return a text without what steers a terminal or breaks a page: control characters become a question mark."""
    return "".join("?" if unicodedata.category(character)[0] == "C" else character for character in text)


def text_columns(text: str) -> int:
    """Return the width of a text in letters: a wide character takes two, a combining one none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def short_name(text: str) -> str:
    """Return a printable name for figures and tables; of a long one its beginning and a hash, so that no two agree."""
    name = printable(text)
    if name == text and text_columns(text) <= LONGEST:
        return text
    kept = sum(width <= LONGEST for width in accumulate(map(_columns, name)))
    return f"{name[:kept]}…{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:4]}"


def few(parts: Sequence[str]) -> str:
    """Write a list of which a sentence names the first few."""
    more = len(parts) - FEW_NAMED
    return ", ".join(parts) if more <= 1 else f"{', '.join(parts[:FEW_NAMED])} and {more} more"
