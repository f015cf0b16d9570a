"""Files of named columns: CSV and its dialects, JSON lines or a JSON list, Parquet; any of them compressed with gzip.

What can be told for sure is read. Anything else is refused in one line that says what was found.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import math
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
# A comma may be of thousands, in numbers that are written so; in all others it is a decimal one.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
COUNTS = ("params", "samples", "episodes", "seed")  # columns whose numbers have no decimals as a rule
HEAD = 200  # bytes by which UTF-16 without a mark is told
MOST_NAMES = 20  # columns that a message names

log = logging.getLogger(__name__)


class TableRow(NamedTuple):
    """A row {column: value} and where it stands: "points.csv, line 3"."""

    place: str
    values: dict[str, Any]


class _Parsed(NamedTuple):
    """The names of the columns, the rows, and how columns are told apart."""

    names: list[str]
    rows: Iterable[TableRow]
    how: str


def read_table(
    path: Path, required: Sequence[str], numbers: Collection[str], remedy: str = "", maybe_numbers: Collection[str] = ()
) -> list[TableRow]:
    """Read the rows of a table; None or "" is a missing cell.

    Args:
        path: a local file.
        required: columns that it must have, by which the separator of a CSV is told.
        numbers: columns of numbers, in which a decimal comma may stand.
        remedy: what mends a missing column, for the message.
        maybe_numbers: columns of numbers or texts; commas in them are decimal ones if those of other columns are.

    Raises:
        ValueError: the file is not there or no such table; one line that names file, line and column.
    """
    table = _parse(_content(path), str(path), required)
    try:
        check_names(table.names, required, f" ({table.how}){remedy and f'; {remedy}'}")
    except ValueError as error:
        raise ValueError(f"{path}, line 1: {error}") from error
    rows = list(table.rows)
    _replace_decimal_commas(rows, numbers, maybe_numbers)
    return rows


def table_name(path: Path) -> str:
    """Return the name of a table: that of its file, without .csv, .csv.gz or the like."""
    return Path(path.name.removesuffix(".gz")).stem


def _content(path: Path) -> bytes:
    """Return the content of a file, decompressed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give the path of a table") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path}: is a directory; give the table inside it") from error
    if not data.startswith(GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged: it cannot be decompressed to its end ({error})") from error


def _parse(data: bytes, where: str, required: Sequence[str]) -> _Parsed:
    if data.startswith(PARQUET):
        return _parquet(data, where)
    if data.startswith(ZIP):
        raise ValueError(f"{where}: a spreadsheet or an archive, not a text file; save the table as CSV in UTF-8")
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        named = encoding.upper().removesuffix("-SIG")
        said = f"not a text file; a table is a CSV in UTF-8 (byte {error.start} is not {named})"
        raise ValueError(f"{where}: {said}") from error
    lines = list(io.StringIO(text, newline=""))
    if re.match(r"\s*\{", text):
        _refuse_lists(text, where)
        return _of_objects(
            [
                TableRow(f"{where}, line {number}", _json(line, f"{where}, line {number}"))
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
        )
    if re.match(r"\s*\[\s*(\{|\]\s*$)", text):
        rows = [TableRow(f"{where}, row {i}", row) for i, row in enumerate(_json(text, where), 1)]
        if not rows:
            raise ValueError(f"{where}: a JSON list without rows; give an object of named values for each")
        return _of_objects(rows)
    return _csv(lines, where, required)


def _encoding(data: bytes) -> str:
    """Return the encoding of a text: UTF-16 by its mark, or by the zeros in names of columns, else UTF-8."""
    if data.startswith(UTF16):
        return "utf-16"
    high, low = data[:HEAD:2], data[1:HEAD:2]
    if 2 * low.count(0) > len(low) > high.count(0):
        return "utf-16-le"
    return "utf-16-be" if 2 * high.count(0) > len(high) > low.count(0) else "utf-8-sig"


def _refuse_lists(text: str, where: str) -> None:
    """Refuse JSON that is one object of lists or objects: {"rows": [...]}, or a list a column."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):  # as JSON lines are, or to be refused line by line
        return
    if whole and all(isinstance(value, list | dict) for value in whole.values()):
        named = ", ".join(name[:40] for name in [*whole][:MOST_NAMES])
        raise ValueError(
            f"{where}: one JSON object, of lists or objects ({named}), is no row; give a list of rows [{{...}}, ...],"
            " or an object a line"
        )


def _csv(lines: list[str], where: str, required: Sequence[str]) -> _Parsed:
    """Return a CSV with the separator that a line `sep=;` names, else with the one that gives the required columns."""
    first, marks = 0, list(SEPARATORS)
    if lines and (given := re.fullmatch(r'"?sep=([^\w\s"]|\t)"?\s*', lines[0], re.IGNORECASE)):
        first, marks = 1, [given[1]]
    while first < len(lines) and _is_comment(lines[first], marks, required):
        first += 1
    headers = {
        (mark, spaced): _header(lines[first:], mark, spaced=spaced) for spaced in (False, True) for mark in marks
    }
    fitting = [one for one, names in headers.items() if set(required) <= set(names)]
    mark, spaced = fitting[0] if fitting else max(headers, key=lambda one: len(headers[one]))
    how = SEPARATORS.get(mark, repr(mark))
    names = headers[mark, spaced]
    told = f"separated by {how}" if len(names) > 1 else f"not separated by {' or '.join(SEPARATORS.values())}"
    records = _records(lines, first, where, {"delimiter": mark, "skipinitialspace": spaced})
    next(records, None)
    return _Parsed(names, _rows(records, names, how), told)


def _records(lines: list[str], first: int, where: str, dialect: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield where each record from line `first` on ends, and its cells: the header, then all that are no comment."""
    number, comments, left = first, 0, iter(lines[first:])
    for line in left:
        if number > first and line.lstrip().startswith("#"):  # where it is quoted, a name begins with #
            number += 1
            comments += 1
            continue
        reader = csv.reader(chain([line], left), **dialect)
        try:
            cells = next(reader)
        except csv.Error as error:
            raise ValueError(f"{where}, line {number + reader.line_num}: {error}") from error
        number += reader.line_num
        yield f"{where}, line {number}", cells
    if comments:
        log.warning("%s: lines that begin with # are left out: %d; quote a name that begins so", where, comments)


def _rows(records: Iterable[tuple[str, list[str]]], names: Sequence[str], how: str) -> Iterator[TableRow]:
    """Yield the rows of records, without empty ones."""
    for place, cells in records:
        if any(cell.strip() for cell in cells):
            own = _without_last(cells, names)
            if len(own) != len(names):
                counted = f"{len(cells)} cells where the header names {len(names)} columns"
                raise ValueError(f"{place}: {counted}; quote cells with {how}")
            yield TableRow(place, dict(zip(names, own, strict=True)))


def _without_last(cells: list[str], names: Sequence[str]) -> list[str]:
    """Return cells without the empty one after a separator at the end of the line, or with it where the header has."""
    if len(cells) == len(names) + 1 and not cells[-1].strip():
        return cells[:-1]
    return [*cells, ""] if len(cells) == len(names) - 1 and not names[-1] else cells


def _header(lines: Sequence[str], mark: str, *, spaced: bool) -> list[str]:
    """Return the names of a header, which may begin with #; spaced: spaces stand after the separator."""
    try:
        names = next(csv.reader(lines, delimiter=mark, skipinitialspace=spaced), [])
    except csv.Error:
        return []
    return [name.strip() for name in [*(name.lstrip("#") for name in names[:1]), *names[1:]]]


def _is_comment(line: str, marks: Sequence[str], required: Sequence[str]) -> bool:
    """Tell whether a line before the header is empty or a comment."""
    if not line.startswith("#"):
        return not line.strip()
    return not any(set(required) <= set(_header([line], mark, spaced=True)) for mark in marks)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not valid JSON ({error.msg}); JSON lines have one object a line") from error
    except RecursionError as error:
        raise ValueError(f"{place}: its lists and objects are nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"column {twice[0]} appears twice in a row; keep one of them")
    return dict(pairs)


def _of_objects(rows: list[TableRow]) -> _Parsed:
    for place, values in rows:
        if not isinstance(values, dict):
            raise ValueError(f"{place}: no object of named values")
    return _Parsed(list(dict.fromkeys(name for row in rows for name in row.values)), rows, "in JSON")


def _parquet(data: bytes, where: str) -> _Parsed:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ValueError(f"{where}: Parquet, which pyarrow reads: pip install pyarrow, or save it as CSV") from error
    try:
        table = parquet.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{where}: damaged Parquet ({' '.join(str(error).split())})") from error
    names, columns = table.column_names, [[_known(value) for value in column.to_pylist()] for column in table.columns]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return _Parsed(names, [TableRow(f"{where}, row {i}", row) for i, row in enumerate(rows, 1)], "in Parquet")


def _known(value: Any) -> Any:
    """Return a cell of a data frame, None where it is missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def check_names(names: Sequence[str], required: Sequence[str], found: str = "") -> None:
    """Refuse the columns of a table where a required one is missing, or one is named twice.

    found: how the columns were found, and what mends a missing one.
    """
    if not any(names):
        raise ValueError(f"no header row; the first line must name the columns, at least {', '.join(required)}")
    if missing := [name for name in required if name not in names]:
        named = ", ".join(name[:40] for name in names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        raise ValueError(
            f"missing column {', '.join(missing)}; the header must name {', '.join(required)}, and names {named}{found}"
        )
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ValueError(f"column {', '.join(twice)} appears twice in the header; keep one of them")


def _texts(rows: Sequence[TableRow], columns: Collection[str]) -> list[tuple[TableRow, str, str]]:
    cells = [(row, name, row.values.get(name)) for row in rows for name in columns]
    return [(row, name, cell.strip()) for row, name, cell in cells if isinstance(cell, str)]


def _replace_decimal_commas(rows: Sequence[TableRow], numbers: Collection[str], maybe_numbers: Collection[str]) -> None:
    """Write numbers with a decimal point where their commas are decimal ones for sure; refuse all other commas."""
    texts = _texts(rows, numbers)
    commas = [one for one in texts if COMMA.fullmatch(one[2]) or THOUSANDS.fullmatch(one[2])]
    if not commas:
        return
    (place, _), name, text = commas[0]
    remedy = "write numbers with a decimal point and without commas"
    if pointed := next((one for one in texts if "." in one[2]), None):
        raise ValueError(f'{place}: column {name}: "{text}" has a comma, but "{pointed[2]}" a point; {remedy}')
    if all(THOUSANDS.fullmatch(text) for _, _, text in commas):
        raise ValueError(
            f'{place}: column {name}: the comma of "{text}" may be a decimal one or of thousands; {remedy}'
        )
    for name in COUNTS:
        own = [(row, text) for row, column, text in commas if column == name]
        if own and all(THOUSANDS.fullmatch(text) for _, text in own):
            (place, _), text = own[0]
            raise ValueError(f'{place}: column {name}: the comma of "{text}" may be one of thousands; {remedy}')
    for row, name, text in [*commas, *(one for one in _texts(rows, maybe_numbers) if COMMA.fullmatch(one[2]))]:
        row.values[name] = text.replace(",", ".")
