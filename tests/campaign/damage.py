"""Damage to files, drawn from a seed: flipped bits, cut ends, swapped types, deleted keys, hostile values."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

HOSTILE: tuple[Any, ...] = (
    None, True, [], {}, "", "x" * 5000, "../../../escaped", "</style><script>alert(1)</script>", "a[/b]", "\ud800",
    "\x00\x1b[31m\n", "\u202eyes", "nan", "1e999", float("nan"), float("inf"), -float("inf"), -1, 0, 0.5, -0.0, 1e-320,
    1e308, 10**30, 2**63, 2**64, "12", [[[]]], {"a": 1}, "s3://bucket/x", "~",
)  # fmt: skip
MARKUP = "<script>alert(1)"  # must not stand in a page as it stands in the data


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file; return what was done to it, in a line."""
    structured = {".json": _json, ".yaml": _yaml, ".csv": _csv}.get(path.suffix)
    if path.name.endswith("xlogfile"):
        structured = _xlogfile
    if structured is not None and draw.random() < 0.75:
        return structured(path, draw)
    return _bytes(path, draw)


# --- Bytes -----------------------------------------------------------------------------------------------------------


def _bytes(path: Path, draw: random.Random) -> str:
    """Damage the bytes of any file, or the file itself."""
    data = path.read_bytes()
    kind = draw.choice(tuple(_ON_BYTES))
    if kind == "gone":
        path.unlink()
    elif kind == "a directory":
        path.unlink()
        path.mkdir()
    elif kind == "exchanged" and (others := [p for p in path.parent.iterdir() if p.is_file() and p != path]):
        other = draw.choice(others)
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
        return f"exchanged with {other.name}"
    else:
        changed, place = _ON_BYTES[kind](data, draw)
        path.write_bytes(changed)
        return f"{kind} {place}"
    return kind


def _flip(data: bytes, draw: random.Random, times: int = 1) -> tuple[bytes, str]:
    changed, places = bytearray(data), []
    for _ in range(times if data else 0):
        place, bit = draw.randrange(len(data)), draw.randrange(8)
        changed[place] ^= 1 << bit
        places.append(f"bit {bit} of byte {place:,}")
    return bytes(changed), places[0] if places else "nothing"


def _cut(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    length = draw.randrange(len(data)) if data else 0
    return data[:length], f"after {length:,} of {len(data):,} bytes"


def _zeros(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    start = draw.randrange(max(1, len(data)))
    return data[:start] + bytes(len(data[start : start + 64])) + data[start + 64 :], f"from byte {start:,}"


def _repeat(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    start = draw.randrange(max(1, len(data)))
    part = data[start : start + draw.randrange(1, 200)]
    return data[: start + len(part)] + part + data[start + len(part) :], f"{len(part)} bytes from {start:,}"


_ON_BYTES: dict[str, Callable[[bytes, random.Random], tuple[bytes, str]]] = {
    "flipped": _flip,
    "one bit flipped": _flip,
    "eight bits flipped": lambda data, draw: _flip(data, draw, 8),
    "cut": _cut,
    "cut short": _cut,
    "zeroed": _zeros,
    "repeated": _repeat,
    "longer": lambda data, draw: (data + draw.randbytes(100), "by 100 random bytes"),
    "emptied": lambda data, _: (b"", f"of {len(data):,} bytes"),
    "random": lambda data, draw: (draw.randbytes(len(data)), "bytes"),
    "exchanged": _flip,  # without another file to exchange it with
    "gone": _flip,
    "a directory": _flip,
}

# --- Documents -------------------------------------------------------------------------------------------------------


def _json(path: Path, draw: random.Random) -> str:
    document = json.loads(path.read_bytes())
    document, text = change(document, draw)
    path.write_text(json.dumps(document))
    return text


def change(document: Any, draw: random.Random) -> tuple[Any, str]:
    """Change one value, key or item somewhere in a document."""
    if not isinstance(document, dict | list) or not document or draw.random() < 0.03:
        return _other(document, draw)
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = draw.choice(keys)
    inner = document[key]
    if isinstance(inner, dict | list) and inner and draw.random() < 0.85:
        document[key], text = change(inner, draw)
        return document, f"{key}.{text}" if not text.startswith(" ") else f"{key}{text}"
    kind = draw.choice(("deleted", "value", "value", "value", "near", "near", "exchanged", "added"))
    if kind == "deleted":
        del document[key]
        return document, f"{key} deleted"
    if kind == "added":
        if isinstance(document, dict):
            document["unknown"] = inner
        else:
            document.insert(key, inner)
        return document, f"{key} twice"
    if kind == "exchanged" and len(keys) > 1:
        other = draw.choice([k for k in keys if k != key])
        document[key], document[other] = document[other], document[key]
        return document, f"{key} and {other} exchanged"
    document[key], text = _near(inner, draw) if kind == "near" else _other(inner, draw)
    return document, f"{key}{text}"


def _other(value: Any, draw: random.Random) -> tuple[Any, str]:
    new = draw.choice(HOSTILE)
    return new, f" {_short(value)} becomes {_short(new)}"


def _near(value: Any, draw: random.Random) -> tuple[Any, str]:
    """Return a value that is as plausible as the one that was there."""
    new: Any
    if isinstance(value, bool):
        new = not value
    elif isinstance(value, int):
        new = value + draw.choice((-1, 1, 8))
    elif isinstance(value, float):
        new = value * draw.choice((0.5, 0.999, 1.001, 2.0))
    elif isinstance(value, str) and value:
        place = draw.randrange(len(value))
        new = value[:place] + draw.choice("0123456789abcdef") + value[place + 1 :]
    else:
        return _other(value, draw)
    return new, f" {_short(value)} becomes {_short(new)}"


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


_LEVELS = "xabcdefgh"  # nine times nine times ... the one before: 43 million items of 500 bytes
_NINE = "\n".join(
    f"{name}: &{name} [{', '.join(9 * ['x' if before == 'x' else f'*{before}'])}]" for before, name in pairwise(_LEVELS)
)
YAML_TEXTS = (
    f"{_NINE}\nname: *h\n",
    "training: &x {batch: *x}\n",
    "training: &x\n  batch: 4\n  <<: *x\n",
    "seeds: &s [*s]\n",
    "name: !!python/object/apply:os.system [true]\n",
    "\tname: x\n",
    "? [a, b]\n: c\n",
    "name: [unclosed\n",
    "--- {}\n--- {}\n",
    "[" * 5000,
    "batch: 4\nbatch: 8\n",
    "1: 2\n",
    "null: 1\n",
    "\x85name: x\n",
    "name: \ud800\n",
)  # fmt: skip


def _yaml(path: Path, draw: random.Random) -> str:
    text = path.read_text()
    if draw.random() < 0.2:
        more = draw.choice(YAML_TEXTS)
        text = draw.choice((more, text + more, more + text))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return f"with {_short(more)}"
    document, what = change(yaml.safe_load(text), draw)
    try:
        text = yaml.safe_dump(document, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        text = json.dumps(document)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what


def _csv(path: Path, draw: random.Random) -> str:
    rows = list(csv.reader(path.read_text().splitlines()))
    kind = draw.choice(
        ("cell", "cell", "cell", "header", "row deleted", "row twice", "column deleted", "short", "long")
    )
    row = 0 if kind == "header" else draw.randrange(1, len(rows))
    column = draw.randrange(len(rows[0]))
    text = kind
    if kind in ("cell", "header"):
        was = rows[row][column]
        changed, text = (_near if draw.random() < 0.3 else _other)(was, draw)
        rows[row][column] = str(changed)
        text = f"line {row + 1}, {rows[0][column]}{text}"
    elif kind == "row deleted":
        del rows[row]
    elif kind == "row twice":
        rows.insert(row, rows[row])
    elif kind == "column deleted":
        text = f"column {rows[0][column]} deleted"
        for each in rows:
            del each[column : column + 1]
    elif kind == "short":
        rows[row] = rows[row][:column]
    else:
        rows[row] = [*rows[row], "1", "2"]
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    path.write_bytes(written.getvalue().encode("utf-8", "surrogatepass"))
    return text if kind in ("cell", "header", "column deleted") else f"line {row + 1}: {kind}"


def _xlogfile(path: Path, draw: random.Random) -> str:
    fields = path.read_bytes().split(b"\t")
    at = draw.randrange(len(fields))
    name = fields[at].partition(b"=")[0]
    value = draw.choice(
        (b"", b"\x85", b"\xff\xfe", b"-1", b"nan", b"9" * 400, b"x" * 5000, b"../../x", b"a=b=c", b"1e5")
    )
    fields[at] = draw.choice((name + b"=" + value, name, b"=" + value, b""))
    path.write_bytes(b"\t".join(fields))
    return f"{name.decode()} becomes {_short(fields[at])}"


def remove(path: Path) -> None:
    """Remove a file or a directory."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
