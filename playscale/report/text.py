"""Text of others: of tables, of the command line, of games. Pages escape it (html.py); this is for all other places."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from itertools import accumulate

from playscale.scaling.numbers import told_apart

LONGEST = 40  # columns of a name in a figure
LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"
END = 15  # of these, the last of a long name
FEW_NAMED, FEW_COLUMNS = 6, 110  # that a sentence has room for


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
    """Return a printable name for figures and tables; of a long one both ends and a hash, so that no two agree."""
    name = printable(text)
    if name == text and text_columns(text) <= LONGEST:
        return text
    if text_columns(name) > LONGEST:
        name = f"{_start(name, LONGEST - END - 1)}…{_start(name[::-1], END)[::-1]}"
    return f"{name}~{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:4]}"


def _start(text: str, most: int) -> str:
    """Return as much of the beginning of a text as so many columns hold."""
    return text[: sum(width <= most for width in accumulate(map(_columns, text)))]


def before_number(name: str) -> str:
    """Return a name for a number to follow: one that is written from right to left is ended by a mark."""
    return f"{name}{LEFT_TO_RIGHT}" if _is_reversed(name) else name


def _is_reversed(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)


def few(values: Mapping[str, str]) -> str:
    """Write names with their values in a sentence, which has room for the first few."""
    parts = [f"{before_number(name)} {value}" for name, value in values.items()]
    widths = accumulate(text_columns(part) for part in parts)
    named = max(1, sum(width <= FEW_COLUMNS for width in [*widths][:FEW_NAMED]))
    more = len(parts) - named
    return ", ".join(parts[:named]) + (f" and {more} more" if more else "")


def few_numbers(values: Mapping[str, float]) -> str:
    """Write names with numbers in a sentence, with as many digits as tell those named apart."""
    return few(dict(zip(values, told_apart([*values.values()], FEW_NAMED), strict=True)))


def wrapped(text: str, most: int) -> str:
    """Break a text between words into lines of at most so many columns, each from left to right."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_columns(longer := f"{lines[-1]} {word}") <= most:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(f"{LEFT_TO_RIGHT}{line}" if _is_reversed(line) else line for line in lines)
