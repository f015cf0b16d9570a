"""Published tables analysed anew: their exponents beside the published ones, which a CSV holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playscale.points import Point, distinct, read_points
from playscale.report.evidence import SAME_BUDGET
from playscale.scaling.cells import TARGETS, FitError, make_cells
from playscale.scaling.exponents import Exponent, fit_exponents, fit_return_of_loss
from playscale.scaling.fit import REPLICATES, fit
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.target_fit import replicates_for
from playscale.table_file import read_table, table_name

REQUIRED = ("table", "target", "quantity", "exponent")
COLUMNS = (*REQUIRED, "from_flops", "at")
QUANTITIES = {
    "dev_loss": ("params", "samples", "dev_loss"),
    "return_mean": ("params", "samples", "return_mean", "return_mean of dev_loss"),
}
PLACES = ("argmin", "vertex")
Key = tuple[float | None, str, str, str]  # from_flops, target, quantity, at
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Published:
    """One published exponent.

    table: the stem of the table's file; from_flops: of the budgets from there on, None for all; target: what is best at
    a budget; quantity: as in fit.json's power_laws; at: argmin | vertex.
    """

    table: str
    from_flops: float | None
    target: str
    quantity: str
    at: str
    exponent: float


@dataclass(frozen=True)
class Compared:
    """An exponent of the budgets from `from_flops` on (None: of all) with its t-based and bootstrap 95% intervals.

    exponent is None where there was nothing to fit, published where no value was given.
    """

    from_flops: float | None
    target: str
    quantity: str
    at: str
    exponent: float | None = None
    low: float | None = None
    high: float | None = None
    boot_low: float | None = None
    boot_high: float | None = None
    n: int | None = None
    published: float | None = None

    @property
    def difference(self) -> float | None:
        """Return our exponent minus the published one."""
        return None if self.exponent is None or self.published is None else self.exponent - self.published


@dataclass(frozen=True)
class Reproduction:
    """name: of the table; fit: the content of its fit.json."""

    name: str
    points: Sequence[Point]
    fit: Mapping[str, Any]
    compared: Sequence[Compared]


def reproduce(
    tables: Sequence[Path], published: Sequence[Published], *, columns: Mapping[str, str] | None = None, seed: int = 0,
    replicates: int = REPLICATES, progress: Progress = lambda _what, _share: None,
) -> list[Reproduction]:  # fmt: skip
    """Analyse each table, whose other names of columns are `columns`; all are read before the first is fitted.

    ValueError, one line that names the file, for a table that cannot be read or fitted, for two of one name, and for
    reference values none of which is of these tables.
    """
    read: dict[str, tuple[Path, list[Point]]] = {}
    for path in tables:
        name = table_name(path)
        if name in read:
            raise ValueError(f"{path}: has the same name as {read[name][0]}; rename one of them")
        read[name] = path, read_points(path, columns)
    named = {one.table for one in published}
    if published and not named & set(read):
        raise ValueError(f"the reference values are of {', '.join(sorted(named))}; no table given has such a name")
    done = []
    for i, (name, (path, points)) in enumerate(read.items()):
        progress(name, i / len(read))
        try:
            whole = fit(points, seed=seed, replicates=replicates)
        except FitError as error:
            raise ValueError(f"{path}: {error}") from error
        own = [one for one in published if one.table == name]
        compared = compare(distinct(points), own, seed=seed, replicates=replicates)
        done.append(Reproduction(name, distinct(points), whole.to_dict(), compared))
    return done


def not_given(published: Sequence[Published], done: Sequence[Reproduction]) -> list[str]:
    """Return the names of the tables that values were published of, but that are not among those analysed."""
    return sorted({one.table for one in published} - {one.name for one in done})


def compare(points: Sequence[Point], published: Sequence[Published], *, seed: int, replicates: int) -> list[Compared]:
    """Return all exponents of all budgets, then those of fewer budgets that a value was published for.

    As in published analyses, returns are counted from zero, and those that are not above it are left out.
    """
    smallest = min(point.flops for point in points) * SAME_BUDGET
    given: dict[Key, float] = {}
    for one in published:
        start = one.from_flops if one.from_flops is not None and one.from_flops > smallest else None
        given[start, one.target, one.quantity, one.at] = one.exponent
    starts = sorted({key[0] for key in given if key[0] is not None})
    found: dict[Key, Exponent] = {}
    for start in (None, *starts):
        rows = exponents_from(points, start or 0.0, seed=seed, replicates=replicates)
        found |= {(start, row.target, row.quantity, row.at): row for row in rows}
    keys = [key for key in found if key[0] is None]
    keys += [key for key in given if key not in keys]
    return [_compared(key, found.get(key), given.get(key)) for key in keys]


def exponents_from(points: Sequence[Point], flops: float, *, seed: int, replicates: int) -> list[Exponent]:
    """Fit the power laws of the budgets from `flops` on, without those that cannot be fitted."""
    seen = [point for point in points if not point.held_out and point.flops * SAME_BUDGET >= flops]
    fitted, rows = [], []
    for target in TARGETS:
        try:
            cells = make_cells(seen, target, offset=0.0)[0].at_budgets()
        except FitError:
            continue
        profiles, fewer = fit_profiles(cells), replicates_for(cells, replicates)
        rows += fit_exponents(cells, profiles, np.random.default_rng([seed, len(target)]), fewer)
        fitted.append((cells, profiles))
    if len(fitted) == len(TARGETS):
        fewer = replicates_for(fitted[0][0], replicates)
        rows += fit_return_of_loss(fitted[0], fitted[1], np.random.default_rng([seed, 3]), fewer)
    return rows


def _compared(key: Key, row: Exponent | None, value: float | None) -> Compared:
    if row is None:
        return Compared(*key, published=value)
    law = row.law
    return Compared(*key, law.exponent, law.low, law.high, law.boot_low, law.boot_high, law.n, value)


def read_published(path: Path) -> list[Published]:
    """Read a CSV with the columns table, target, quantity, exponent and, optionally, from_flops and at (argmin).

    Raises:
        ValueError: the file is no such table; one line with file, line and column.
    """
    found: dict[tuple[object, ...], Published] = {}
    for place, row in read_table(path, REQUIRED, ("from_flops", "exponent")):
        try:
            one = _published({name: "" if (cell := row.get(name)) is None else str(cell).strip() for name in COLUMNS})
            key = (one.table, one.from_flops, one.target, one.quantity, one.at)
            if key in found:
                raise ValueError("the same table, from_flops, target, quantity and at as in a line above")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        found[key] = one
    if not found:
        raise ValueError(f"{path}: a header but no reference values")
    return list(found.values())


def _published(row: Mapping[str, str]) -> Published:
    _one_of("target", row["target"], tuple(QUANTITIES))
    _one_of("quantity", row["quantity"], QUANTITIES[row["target"]])
    at = row["at"] or PLACES[0]
    _one_of("at", at, PLACES)
    if not row["table"]:
        raise ValueError("column table: empty; give the name of the table's file without .csv")
    from_flops = _number("from_flops", row["from_flops"]) if row["from_flops"] else None
    if from_flops is not None and from_flops <= 0:
        raise ValueError(f"column from_flops: {from_flops:g} must be greater than zero; leave it empty for all budgets")
    return Published(row["table"], from_flops, row["target"], row["quantity"], at, _number("exponent", row["exponent"]))


def _one_of(column: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f'column {column}: "{value}" is not one of {", ".join(known)}')


def _number(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'column {column}: "{text}" is not a number')
    return value
