"""A model size as people write it. No torch here: specs are read without it."""

from __future__ import annotations

import re

UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
SMALLEST, LARGEST = 8_000, 1_000_000_000


def parse_size(size: str) -> int:
    """250_000 of "250k"; ValueError for what is not a count, or not between the smallest and the largest."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb]?)", size.strip().lower())
    if match is None:
        raise ValueError(f"size {size!r} is not a parameter count: write it like 30k, 1.5M or 500M")
    count = round(float(match[1]) * UNITS[match[2]])
    if not SMALLEST <= count <= LARGEST:
        raise ValueError(f"size {size!r} is out of range: the smallest is {SMALLEST // 1000}k, the largest 1000M")
    return count
