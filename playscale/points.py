"""Tables of measurements: points.csv, one row per (run, budget), and curve.csv, the learning curve of a run.

An empty cell is a missing measurement, never zero.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from playscale.config import LARGEST_NUMBER
from playscale.shown import Shown
from playscale.storage.files import atomic_file, read_text
from playscale.storage.sync import local_copy
from playscale.table_file import check_names, read_table

CURVE_COLUMNS = (
    "step",
    "flops",
    "interactions",
    "episodes",
    "train_loss",
    "grad_norm",
    "train_return",
    "entropy",
    "samples_per_second",
)  # fmt: skip; train_return: mean score of the last episodes of training
TEXT_COLUMNS = ("game", "method", "run", "size", "split")
COUNT_COLUMNS = ("seed", "params", "samples", "episodes")
PASSES_COLUMNS = ("epochs", "corpus_samples")
TEACHER_COLUMNS = ("flops_total", "flops_teacher")
NUMBER_COLUMNS = ("flops", "dev_loss", "dev_loss_se", "return_mean", "return_se", *COUNT_COLUMNS)
COLUMNS = (
    "game", "method", "run", "seed", "size", "flops", "params", "samples",
    "dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes", "split",
)  # fmt: skip
REQUIRED_COLUMNS = ("flops", "params", "samples", "dev_loss")
NEVER_EMPTY = ("flops", "params")
SPLITS = ("fit", "held-out")
EXTRA_COLUMNS = (*PASSES_COLUMNS, *TEACHER_COLUMNS, "return_sd", "seeds", "budget", "diverged", "varied")
"""Columns beyond COLUMNS that are used where a table has them."""
FORECAST = "forecast"
"""Column of agents that were trained after a forecast of them: the ids of its entries in the ledger."""
OTHER_NAMES = "name other columns with --columns dev_loss=NAME"
DECIMALS = (*NUMBER_COLUMNS, *PASSES_COLUMNS, *TEACHER_COLUMNS, "return_sd")
NO = ("n", "no", "f", "false", "none", "null", "nan", "na", "n/a", "-")
"""Texts of a column of yes and no, in small letters, that are a no; so is a zero."""
MAYBE_NUMBERS = ("budget", "seeds", "diverged")
"""Columns of numbers or of texts."""
Row = tuple[object, ...]
POSITIVE = ("flops", "params", "samples", "dev_loss")
NOT_NEGATIVE = ("dev_loss_se", "return_se", "episodes")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trained model at one compute budget, and what was measured of it.

    None is "not measured".

    Attributes:
        flops: training FLOPs.
        params: trained parameters.
        samples: transitions trained on.
        dev_loss: mean cross-entropy per action, in nats, on games that no run has trained on.
        return_mean: mean return of `episodes` games; return_se: its standard error.
        split: "fit", or "held-out" for what no law is fitted to.
        extra: all other columns; the numbers among them that are used are checked, too.

    Raises:
        ValueError: a number is not one that could have been measured.
    """

    game: str = ""
    method: str = ""
    run: str = ""
    seed: int | None = None
    size: str = ""
    flops: float
    params: float
    samples: float | None
    dev_loss: float | None = None
    dev_loss_se: float | None = None
    return_mean: float | None = None
    return_se: float | None = None
    episodes: int | None = None
    split: str = "fit"
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in NUMBER_COLUMNS:
            _check_number(name, getattr(self, name))
        _check_extra(self)
        if self.split not in SPLITS:
            raise ValueError(f'column split: "{self.split}" is neither "fit" nor "held-out"; leave it empty for "fit"')

    @property
    def digest(self) -> str:
        """Digest of everything that decides the run's result beside its name; "" in tables of others and of old."""
        return self.extra.get("digest", "")

    @property
    def diverged(self) -> str:
        """Reason for which the training counts as diverged; "" if it does not, also for a no in a table of others."""
        text = self.extra.get("diverged", "").strip()
        return "" if text.lower() in NO or re.fullmatch(r"0+([.,]0*)?", text) else text

    @property
    def varied(self) -> str:
        """Settings in which the run differs from its study's recipe: batch=32 learning_rate=0.001; "": in none."""
        return self.extra.get("varied", "").strip()

    @property
    def held_out(self) -> bool:
        return self.split == "held-out"

    def number(self, name: str) -> float | None:
        """Return the number in an extra column; None where it is missing."""
        return _number(name, self.extra.get(name))


class Points(Shown, list[Point]):
    """The rows of a points table."""


@dataclass(frozen=True)
class Reference:
    """Mean return of a player that is not one of the trained agents: a random policy, the expert."""

    name: str
    return_mean: float | None = None
    return_se: float | None = None
    episodes: int | None = None
    note: str = ""

    @property
    def measured(self) -> dict[str, float | None]:
        """Return what was measured, by the names of the points table."""
        return {"return_mean": self.return_mean, "return_se": self.return_se, "episodes": self.episodes}


def _check_number(name: str, value: float | None) -> None:
    if value is None:
        if name in NEVER_EMPTY:
            raise ValueError(f"column {name}: empty; every row needs its {name}")
        return
    if not math.isfinite(value):
        raise ValueError(f"column {name}: {value} is not a finite number; leave the cell empty if it was not measured")
    if name in POSITIVE and value <= 0:
        raise ValueError(f"column {name}: {value:g} must be greater than zero")
    if name in NOT_NEGATIVE and value < 0:
        raise ValueError(f"column {name}: {value:g} must not be negative")
    if value and not 1 / LARGEST_NUMBER <= abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"column {name}: {value:g} is beyond what can be analysed, 1e-100 to 1e+100")


def to_row(point: Point) -> dict[str, Any]:
    """Return a point as a row of plain values: COLUMNS in their order, then the extra columns; None is missing."""
    row = {name: getattr(point, name) for name in COLUMNS}
    row |= {name: int(row[name]) for name in COUNT_COLUMNS if row[name] is not None and float(row[name]).is_integer()}
    return row | {name: value for name, value in point.extra.items() if name not in row}


def from_row(row: Mapping[str, Any]) -> Point:
    """Make a point of a row: of a CSV, of `to_row`, or of the params, metrics and tags of an MLflow run together.

    None, "" and absent keys are missing. A missing return_se is return_sd / sqrt(seeds) where the row has these, as
    those of published tables do.

    Raises:
        ValueError: a value is not one that could have been measured; the message names the column.
    """
    values: dict[str, Any] = {name: _text(row.get(name)).strip() for name in TEXT_COLUMNS}
    values["split"] = values["split"] or "fit"
    for name in NUMBER_COLUMNS:
        values[name] = _number(name, row.get(name))
    extra = {str(key): _text(value) for key, value in row.items() if key not in COLUMNS}
    if values["return_se"] is None:
        values["return_se"] = _standard_error(row)
    return Point(**values, extra=extra)


def _check_extra(point: Point) -> None:
    """Check the extra columns that laws and reports use: passes over the data, and compute with the teacher's."""
    epochs, corpus = (point.number(name) for name in PASSES_COLUMNS)
    if epochs is not None and not 0 < epochs <= (point.samples or LARGEST_NUMBER):
        raise ValueError(f"column epochs: {epochs:g} must be greater than zero, and no more than the samples")
    if corpus is not None and not 1 <= corpus <= LARGEST_NUMBER:
        raise ValueError(f"column corpus_samples: {corpus:g} must be a number of samples, at least 1")
    for name in TEACHER_COLUMNS:
        flops = point.number(name)
        if flops is not None and not 0 <= flops <= LARGEST_NUMBER:
            raise ValueError(f"column {name}: {flops:g} must be a number of FLOPs; leave the cell empty if missing")


def _standard_error(row: Mapping[str, Any]) -> float | None:
    """Return the standard error of the mean return from `return_sd` over a number of `seeds` (or of episodes)."""
    sd = _number("return_sd", row.get("return_sd"))
    if sd is None or not math.isfinite(sd):
        return None
    if sd < 0:
        raise ValueError(f"column return_sd: {sd:g} must not be negative")
    count = _number("seeds", row.get("seeds")) or _number("episodes", row.get("episodes"))
    if count is not None and count % 1:
        raise ValueError(f"column seeds: {count:g} is not a whole number")
    return sd / math.sqrt(count) if count is not None and count > 0 else None


def read_points(path: str | Path, columns: Mapping[str, str] | None = None, budget_column: str | None = None) -> Points:
    """Read a points table: a CSV, JSON lines or Parquet (`playscale.table_file`).

    Args:
        path: a file, or a URI s3://...
        columns: the table's own names of columns, {"dev_loss": "eval/loss"}.
        budget_column: a column whose numbers, if any, are budgets; decimal commas are read there, too.

    Returns:
        One point per row, in the order of the file. Unknown columns are in `extra`, an empty cell is None.

    Raises:
        ValueError: the file is not there or no such table; one line that names file, line and column.
    """
    path, theirs = local_copy(path), dict(columns or {})
    check_columns(theirs)
    required = list(dict.fromkeys([*(theirs.get(name, name) for name in REQUIRED_COLUMNS), *theirs.values()]))
    points = Points()
    numbers, maybe = ([theirs.get(name, name) for name in names] for names in (DECIMALS, MAYBE_NUMBERS))
    maybe += [budget_column] if budget_column and budget_column not in numbers else []
    for place, values in read_table(path, required, numbers, OTHER_NAMES, maybe):
        try:
            points.append(from_row(renamed(values, theirs)))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    if not points:
        raise ValueError(
            f"{path}: the table has a header but no rows (lines that begin with # are comments);"
            " train and evaluate some points first"
        )
    return points


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse {ours: theirs} where one of theirs would be read as two columns, or as another one of ours."""
    used: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs in used:
            raise ValueError(f"{theirs} is given for {used[theirs]} and for {ours}; one column is one of them")
        used[theirs] = ours
        if theirs in COLUMNS and theirs not in columns:
            raise ValueError(f"{ours}={theirs}, but {theirs} has a use of its own; give {theirs}=NAME, too")


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with the columns {ours: theirs} under our names."""
    kept = {name: value for name, value in row.items() if name not in (*columns, *columns.values())}
    return kept | {ours: row.get(theirs) for ours, theirs in columns.items()}


NO_TABLE = "points: give rows {column: value}, columns {name: values}, or a DataFrame"


class ColumnTable(Protocol):
    """A table that gives its columns by name: a pandas or polars DataFrame, or a mapping made one."""

    @property
    def columns(self) -> Iterable[Any]: ...
    def __getitem__(self, name: Any, /) -> Iterable[Any]: ...


PointTable = Sequence[Point] | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | ColumnTable


def as_points(table: PointTable) -> list[Point]:
    """Make points of any table of named columns.

    Args:
        table: points, rows {column: value}, columns {name: values}, or a DataFrame; None, NaN and "" are missing.

    Returns:
        One point per row, in order. Unknown columns are in `extra`.

    Raises:
        ValueError: it is no such table; one line that names row and column.
    """
    rows = _rows(table)
    if all(isinstance(row, Point) for row in rows):
        return rows
    try:
        check_names(list(dict.fromkeys(str(name) for row in rows for name in row)), REQUIRED_COLUMNS)
    except (TypeError, AttributeError) as error:
        raise ValueError(NO_TABLE) from error
    points = []
    for index, row in enumerate(rows):
        try:
            points.append(from_row({str(name): None if _missing(value) else value for name, value in row.items()}))
        except ValueError as error:
            raise ValueError(f"row {index}: {error}") from error
    return points


def _rows(table: Any) -> list[Any]:
    """Return the rows of a table; of columns they are put together."""
    if isinstance(table, str | bytes | Path):
        raise ValueError(f"{table!r} is no table: read a file with read_points")
    names = list(table) if isinstance(table, Mapping) else getattr(table, "columns", None)
    if names is None:
        if not isinstance(table, Iterable):
            raise ValueError(NO_TABLE)
        return list(table)
    try:
        columns = {str(name): list(table[name]) for name in names}
    except TypeError as error:
        raise ValueError("points: the columns of a table are lists or arrays, one value a row") from error
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the columns have different lengths: {each}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _missing(value: Any) -> bool:
    """Tell whether a cell is missing: None, or what a DataFrame has in its place."""
    return value is None or str(value) in {"nan", "NaN", "<NA>", "NaT"}


def write_points(points: Sequence[Point], path: str | Path) -> None:
    """Write a points CSV atomically.

    Args:
        points: the rows, in order.
        path: the file to write.

    Columns are COLUMNS, then those of `extra` in the order in which they first appear.
    """
    columns = list(COLUMNS) + _extra_columns(points)
    rows = [{name: _text(value) for name, value in to_row(point).items()} for point in points]
    # csv leaves a lone carriage return unquoted, which its reader refuses, and a first cell "#...", a comment.
    texts = [text for row in [dict.fromkeys(columns, ""), *rows] for item in row.items() for text in item]
    quoted = any("\r" in text or text.lstrip().startswith("#") for text in texts)
    out = io.StringIO(newline="")
    quoting: Any = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(Path(path)) as file:
        file.write(out.getvalue().encode())


def distinct(points: Iterable[Point]) -> list[Point]:
    """Return points without those that are another one again, in every column: later ones, and held-out copies."""
    points, seen = list(points), dict[Any, Point]()
    fitted = fitted_rows(points)
    for point in points:
        row = row_of(point)
        if not (point.held_out and row in fitted):
            seen.setdefault((point.held_out, row), point)
    return list(seen.values())


def fitted_rows(points: Iterable[Point]) -> set[Row]:
    """Return the rows of points that are not held out."""
    return {row_of(point) for point in points if not point.held_out}


def row_of(point: Point) -> Row:
    """Return what stands in every column but the split."""
    columns = tuple(getattr(point, name) for name in COLUMNS if name != "split")
    return *columns, frozenset((name, str(value)) for name, value in point.extra.items())


def with_forecasts(points: Iterable[Point]) -> list[Point]:
    """Return points with those of forecast agents, which are held out, as points to fit."""
    return [replace(point, split="fit") if point.extra.get(FORECAST) else point for point in points]


def in_order(points: Iterable[Point]) -> list[Point]:
    """Return points in the order of a table: by method, parameters, run, compute and game."""
    return sorted(points, key=lambda p: (p.method, p.params, p.run, p.digest, p.flops, p.game))


def _extra_columns(points: Iterable[Point]) -> list[str]:
    names = dict.fromkeys(name for point in points for name in point.extra)
    return [name for name in names if name not in COLUMNS]


def _number(name: str, value: Any) -> float | int | None:
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f'column {name}: "{text[:40]}" is not a number; leave the cell empty if missing') from None
    if name not in COUNT_COLUMNS or not math.isfinite(number):
        return number
    if number.is_integer():
        return int(text) if text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() else int(number)
    if name in {"seed", "episodes"}:
        raise ValueError(f"column {name}: {text} is not a whole number")
    return number


def _text(value: Any) -> str:
    """Write the shortest text that reads back as the same value: 3e+11 for a budget, 500000 for a count."""
    if value is None:
        return ""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(float(value))
    return str(value)


@dataclass(frozen=True)
class LearningCurve:
    """The learning curve of a run. A run that resumes from a save drops the later lines: it will write them again."""

    path: Path

    def resume(self, step: int) -> None:
        """Keep the lines up to optimizer step `step`."""
        rows = [row for row in read_curve(self.path) if row["step"] <= step]
        lines = [
            ",".join(CURVE_COLUMNS),
            *(",".join(_curve_text(row.get(name)) for name in CURVE_COLUMNS) for row in rows),
        ]
        with atomic_file(self.path, "w") as file:
            file.write("\n".join(lines) + "\n")

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line."""
        values: dict[str, float] = {**metrics, "step": step}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(",".join(_curve_text(values.get(name)) for name in CURVE_COLUMNS) + "\n")


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the lines, each with what was measured; [] without a curve. A line cut off by a kill is left out.

    Raises:
        ValueError: the file is damaged; one line that names file and line.
    """
    if not path.is_file():
        return []
    text = read_text(path)
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    try:
        if "step" not in (reader.fieldnames or ["step"]):
            raise ValueError("no column step")
        return [_curve_row(row) for row in reader]
    except (ValueError, csv.Error) as error:
        remedy = "remove the file, and the run goes on with a new curve"
        raise ValueError(f"{path}, line {max(reader.line_num, 1)}: {error}; {remedy}") from error


def _curve_row(row: Mapping[Any, Any]) -> dict[str, float]:
    """Return the numbers of a line; ValueError for a line that cannot have been written."""
    if None in row or None in row.values():
        raise ValueError("another number of cells than in the first line")
    values = {name: float(value) for name, value in row.items() if value}
    if "step" not in values or not all(map(math.isfinite, values.values())):
        raise ValueError("step is missing or a number is not finite")
    return values


def _curve_text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if value != round(value) else str(round(value))
