"""Text of others: of tables, of the command line, of games. Pages escape it (html.py); this is for all other places."""

from __future__ import annotations

import hashlib
import unicodedata

LONGEST = 40  # characters of a name in a figure


def printable(text: str) -> str:
    """Return a text without what steers a terminal or breaks a page: control characters become a question mark."""
    return "".join("?" if unicodedata.category(character)[0] == "C" else character for character in text)


def short_name(text: str) -> str:
    """Return a printable name for figures and tables; of a long one its beginning and a hash, so that no two agree."""
    name = printable(text)
    if name == text and len(text) <= LONGEST:
        return text
    return f"{name[:LONGEST]}…{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:4]}"
