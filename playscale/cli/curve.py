"""The forecast of a single run from its learning curve: `playscale fit --curve`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playscale.cli.options import assignments, echo, given
from playscale.points import CURVE_COLUMNS, check_columns, read_curve
from playscale.scaling import numbers
from playscale.storage.files import atomic_files
from playscale.storage.sync import local_copy, workspace
from playscale.table_file import TableRow, read_table

if TYPE_CHECKING:
    import typer

    from playscale.scaling.run_curve import CurveForecast
    from playscale.scaling.run_posterior import Kind

CURVE_OPTIONS = ("curve", "to", "column", "as_json")
SHARED_OPTIONS = ("out", "columns", "seed")
KINDS: Mapping[str, Kind] = {
    "train_return": "return", "return_mean": "return", "train_loss": "loss", "dev_loss": "loss",
}  # fmt: skip
FIGURE = "curve_forecast.png"
FIGURE_FILES = tuple(f"curve_forecast{end}" for end in (".png", ".svg", ".csv"))


def check_options(context: typer.Context, curve: str | None, to: float | None) -> None:
    """Refuse options of points with --curve, and those of a curve without."""
    options = [name for name, value in context.params.items() if value not in (None, [], ()) and given(context, name)]
    options = [name for name in options if name not in SHARED_OPTIONS]
    if curve is None:
        if own := [name for name in options if name in CURVE_OPTIONS]:
            raise ValueError(f"{_flag(context, own[0])}: it is of a curve; give --curve too")
        return
    if others := [name for name in options if name not in CURVE_OPTIONS]:
        raise ValueError(f"{_flag(context, others[0])}: it is of a points table; leave it out with --curve")
    if to is None:
        raise ValueError("--to: missing; give the compute to forecast --curve for, in training FLOPs")


def show_forecast(
    curve: str, to: float, column: str | None, columns: str, out: str | None, *, as_json: bool, seed: int
) -> None:
    """Forecast a curve at `to` FLOPs; print the forecast, and draw OUT/curve_forecast.png (and .svg, .csv)."""
    from playscale.scaling.run_curve import forecast_curve

    names = _names(columns)
    column, flops, values = _read(curve, names, column)
    try:
        forecast = forecast_curve(flops, values, to, kind=KINDS[column], seed=seed)
    except ValueError as error:
        raise ValueError(f"{curve}: {error}") from error
    if out is not None:
        from playscale.report.curve_figure import write_curve_forecast

        with workspace(out, *FIGURE_FILES) as folder, atomic_files(folder, *FIGURE_FILES) as aside:
            write_curve_forecast(aside / FIGURE, flops, values, forecast, column)
    if as_json:
        echo(json.dumps({"curve": curve, "column": column} | forecast.to_dict()))
        return
    for line in forecast_lines(forecast, column):
        echo(line)
    if out is not None:
        echo(f"figure: {out.rstrip('/')}/{FIGURE}")


def _flag(context: typer.Context, name: str) -> str:
    """Return a parameter as it is written on the command line: --for of `column`."""
    return next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)


def forecast_lines(forecast: CurveForecast, column: str) -> Iterator[str]:
    """Say what is forecast of a column, and from what."""
    left = f"; {numbers.counted(forecast.left_out, 'point')} before them left out" if forecast.left_out else ""
    last = f"{numbers.number(forecast.last_value)} at {numbers.power_of_ten(forecast.last_flops)} FLOPs"
    yield f"{column} at {numbers.power_of_ten(forecast.flops)} FLOPs: {forecast.text}"
    yield f"from {numbers.counted(forecast.points, 'point')}, the last {last}{left}"
    if forecast.parameters:
        told = (f"{name} {numbers.with_interval(one._asdict())}" for name, one in forecast.parameters.items())
        yield f"{', '.join(told)}; neighbouring residuals correlate by {numbers.number(forecast.correlation, 2)}"


def _names(text: str) -> dict[str, str]:
    """Return {our column: theirs} of --columns."""
    names = assignments(text, "--columns") if text else {}
    for name in names:
        if name not in ("flops", *KINDS):
            raise ValueError(f"--columns: {name!r} is no column of a curve; ours are flops, {', '.join(KINDS)}")
    try:
        check_columns(names)
    except ValueError as error:
        raise ValueError(f"--columns: {error}") from error
    return names


def _read(curve: str, names: Mapping[str, str], column: str | None) -> tuple[str, list[float], list[float]]:
    """Return the column that is forecast, and the compute and value of each row where it was measured."""
    if column not in (None, *KINDS):
        raise ValueError(f"--for: {column!r} is no column of a curve; it has {', '.join(KINDS)}")
    theirs = {name: names.get(name, name) for name in ("flops", *KINDS)}
    required = ["flops", *names, *([column] if column else [])]
    rows = _rows(local_copy(curve), [theirs[name] for name in required], list(theirs.values()))
    wanted = [column] if column else list(KINDS)
    column = next((name for name in wanted if any(not _empty(row.values.get(theirs[name])) for row in rows)), None)
    if column is None:
        of = " one of" * (len(wanted) > 1)
        raise ValueError(
            f"{curve}: nothing to forecast: no row has{of} {', '.join(theirs[name] for name in wanted)}; name another"
            " with --columns"
        )
    flops, values = list[float](), list[float]()
    for row in rows:
        if _empty(row.values.get(theirs[column])):
            continue
        c, value = _number(row, theirs["flops"]), _number(row, theirs[column])
        if flops and c <= flops[-1]:
            raise ValueError(
                f"{row.place}: column {theirs['flops']}: {c:g} after {flops[-1]:g}; a curve is of one run, in its order"
            )
        flops.append(c)
        values.append(value)
    return column, flops, values


def _rows(path: Path, required: Sequence[str], numbers: Sequence[str]) -> list[TableRow]:
    """Return the rows of a table; of a run's own curve without the line that it is writing."""
    with suppress(OSError), path.open("rb") as file:
        if file.readline().strip() == ",".join(CURVE_COLUMNS).encode() and set(required) <= set(CURVE_COLUMNS):
            return [TableRow(f"{path}, line {line}", row) for line, row in enumerate(read_curve(path), 2)]
    remedy = "name other columns with --columns train_return=NAME"
    return read_table(path, list(dict.fromkeys(required)), numbers, remedy)


def _empty(cell: Any) -> bool:
    return cell is None or not str(cell).strip()


def _number(row: TableRow, name: str) -> float:
    text = str(row.values.get(name, "")).strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'{row.place}: column {name}: "{text[:40]}" is not a finite number; leave out the row')
    return value
