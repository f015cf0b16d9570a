"""The analysis: `playscale fit` and `playscale reproduce`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playscale.cli.curve import check_options, show_forecast
from playscale.cli.ledger import LEDGER, read_ledger, register_fits
from playscale.cli.options import (
    BootstrapSeed,
    GpuName,
    IncludeForecasts,
    OutFolder,
    Tracking,
    Utilisation,
    assignments,
    budget_list,
    check_once,
    chosen_hardware,
    each_named,
    echo,
    finite,
    named,
    number,
    output_folder,
    positive,
    tracking_client,
)
from playscale.report.text import printable
from playscale.storage.files import atomic_files, local_path
from playscale.storage.sync import workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from playscale.points import Point
    from playscale.scaling.fit import Fit

REASONS = 20  # runs left out that are printed
ExpertReturn = Annotated[
    float | None, typer.Option(callback=finite, help="Mean return of the expert that the agents imitate.")
]
MaxReturn = Annotated[float | None, typer.Option(callback=finite, help="Largest return that the game allows.")]
Columns = Annotated[
    str,
    typer.Option(
        help="Other names of columns, or of params, metrics and tags in MLflow: dev_loss=eval/loss,params=n_params."
    ),
]


def fit(
    context: typer.Context,
    points: Annotated[
        list[str] | None,
        typer.Argument(
            callback=each_named,
            help="Points table (CSV, JSON lines, Parquet), local or in S3, or mlflow:EXPERIMENT; with --pool several.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            callback=output_folder, help="Output directory, or s3://BUCKET/PREFIX; with --curve only for its figure."
        ),
    ] = None,
    forecast: Annotated[
        str, typer.Option(help="Budgets to forecast for, in training FLOPs, comma-separated: 1e13,1e14.")
    ] = "",
    forecast_at: Annotated[
        list[str] | None,
        typer.Option(
            help="Model and data size to forecast for: params=N,samples=D (samples each seen once); repeatable."
        ),
    ] = None,
    corpus_samples: Annotated[
        str,
        typer.Option(
            help="Unique samples that a budget's data are limited to, comma-separated: 1e9,1e10. Default: the largest "
            "corpus of a table whose data were seen again."
        ),
    ] = "",
    inference_samples: Annotated[
        str, typer.Option(help="Samples of inference that a budget pays for beside training, comma-separated: 1e10.")
    ] = "",
    target_return: Annotated[
        list[str] | None,
        typer.Option(help="Return whose compute is sought: RETURN or NAME=RETURN; repeatable."),
    ] = None,
    expert_return: ExpertReturn = None,
    max_return: MaxReturn = None,
    min_return: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Smallest return that the game allows, from which returns are counted. Default: 0, "
            "or fitted where a mean return is not above 0.",
        ),
    ] = None,
    columns: Columns = "",
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method, or METHOD in GAME, to fit and draw; repeatable. Default: all of the table."),
    ] = None,
    budget_column: Annotated[
        str | None,
        typer.Option(
            callback=named,
            help="Column that says to which budget a row belongs. Default: `budget` where it does, else budgets are "
            "found by the gaps between rows in compute.",
        ),
    ] = None,
    gpu: GpuName = None,
    utilisation: Utilisation = 0.3,
    seed: BootstrapSeed = 0,
    include_forecasts: IncludeForecasts = False,
    register: Annotated[
        bool,
        typer.Option(
            "--register",
            help="Register the forecasts in OUT/ledger.jsonl and in MLflow; score those of held-out rows, as "
            "retrospective.",
        ),
    ] = False,
    pooled: Annotated[
        bool,
        typer.Option(
            "--pool",
            help="Also shrink the exponents of 3 or more tables (or games of a table) towards each other, and say "
            "where that forecasts better: A.csv B.csv C.csv --pool.",
        ),
    ] = False,
    tracking_uri: Tracking = None,
    curve: Annotated[
        str | None,
        typer.Option(callback=named, help="Instead of points: the learning curve of one run (curve.csv) to forecast."),
    ] = None,
    to: Annotated[
        float | None, typer.Option(callback=finite, help="Compute to forecast --curve for, in training FLOPs.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Column of --curve to forecast: train_return, return_mean, train_loss or dev_loss. Default: the first "
            "of them that has values.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --curve: print JSON.")] = False,
) -> None:
    """Fit the scaling laws of a points table, of each method and game: OUT/fit.json, OUT/report.html, OUT/figures.

    With --curve: forecast a later point of one run from its learning curve. It advises, and stops no run.

    \b
    Example:
      playscale fit studies/example/points.csv --out laws --forecast 1e13,1e14 --target-return 9000 --gpu l4 --register
      playscale fit --curve train-10k/curve.csv --to 2e10
    """
    check_options(context, curve, to)
    if curve is not None and to is not None:
        show_forecast(curve, to, column, columns, out, as_json=as_json, seed=seed)
        return
    if not points or out is None:
        missing = "option '--out'" if points else "argument 'points'"
        raise ValueError(f"Missing {missing}; see playscale fit --help")
    from playscale.cli.console import fit_tables, show
    from playscale.cli.pool_console import pool_tables
    from playscale.points import distinct, with_forecasts
    from playscale.report.figures import FIGURE_FILES, write_figures
    from playscale.report.report import write_report
    from playscale.scaling.fit import fit as run
    from playscale.scaling.methods import EXPERT, expert_bound, fit_methods
    from playscale.scaling.pooling import pool

    machine = chosen_hardware(context, gpu, utilisation)
    budgets, pairs = budget_list(forecast, "--forecast"), _pairs(forecast_at or [])
    corpora, inference = (
        [positive(each, option) for each in text.split(",")] if text.strip() else []
        for text, option in ((corpus_samples, "--corpus-samples"), (inference_samples, "--inference-samples"))
    )
    check_once(corpora, "--corpus-samples")
    check_once(inference, "--inference-samples")
    goals = _goals(target_return or [])
    name, table, left_out = _read_all(points, column_names(columns), budget_column, tracking_uri, is_pooled=pooled)
    table = with_forecasts(table) if include_forecasts else table
    table = of_methods(table, method or [])
    returns = {"target": goals or None, "expert": expert_return, "max": max_return, "min": min_return}
    _check_games(table, [f"--{which}-return" for which, value in returns.items() if value is not None])

    def fit_one(method: str, rows: Sequence[Point]) -> Fit:
        bound, targets = expert_bound(method, {} if expert_return is None else {EXPERT: expert_return})
        return run(
            rows,
            budgets,
            pairs,
            seed,
            expert_return=bound,
            max_return=max_return,
            min_return=min_return,
            budget_column=budget_column,
            target_returns=[*goals, *targets],
            hardware=machine,
            corpus_samples=corpora,
            inference_samples=inference,
        )

    result = replace(fit_methods(table, fit_one), left_out=left_out)
    if pooled:
        result = replace(result, pool=pool(result.fits, budgets))
    table = distinct(table)
    registered: list[str] = []
    with workspace(out, *FIGURE_FILES, LEDGER) as folder, atomic_files(folder, *FIGURE_FILES) as aside:
        if register:
            registered = register_fits(folder, out, result, tracking_uri)
        result.write(aside / "fit.json")
        write_figures(aside / "figures", result.to_dict(), table, ())
        write_report(
            aside / "report.html", result.to_dict(), table, title=f"Scaling laws of {name}", ledger=read_ledger(folder)
        )
    show(*fit_tables(result.to_dict()), *pool_tables(result.to_dict()))
    for one, reason in left_out[:REASONS]:
        echo(printable(f"left out: {one} {reason}"))
    if len(left_out) > REASONS:
        echo(f"{len(left_out) - REASONS} more runs left out are listed in {out.rstrip('/')}/fit.json")
    for line in registered:
        echo(line)
    echo(f"report: {out.rstrip('/')}/report.html")


def reproduce(
    tables: Annotated[list[Path], typer.Argument(help="Points tables of published results.")],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="CSV of published exponents, with columns table (file name without .csv), from_flops (smallest budget "
            "fitted; may be empty), target (dev_loss, return_mean), quantity (params, samples, ...), at (argmin: best "
            "cell of a budget; vertex: of its parabola), exponent."
        ),
    ] = None,
    columns: Columns = "",
    out: OutFolder = "out/reproduce",
    seed: BootstrapSeed = 0,
) -> None:
    """Analyse published tables and compare exponents with the published ones: OUT/reproduce.html.

    \b
    Example:
      playscale reproduce studies/example/points.csv --out reproduced
    """
    from playscale.cli.console import marked, progress, reproduction_table, show
    from playscale.report.reproduction import not_given, read_published
    from playscale.report.reproduction import reproduce as run
    from playscale.report.reproduction_page import sentences, write_reproductions

    published = read_published(reference) if reference else []
    with progress("reproduce") as report:
        done = run(tables, published, columns=column_names(columns), seed=seed, progress=report)
    page = write_reproductions(local_path(out), done)
    for one in done:
        show(reproduction_table(one), *sentences(one))
    if names := not_given(published, done):
        text = f" {reference}: its values of {', '.join(names)} are left out: no table given has such a name"
        show(marked("warning", "yellow", text))
    echo(f"page: {page}")


def _read_all(
    points: Sequence[str], columns: Mapping[str, str], budget_column: str | None, tracking_uri: str | None, *,
    is_pooled: bool,
) -> tuple[str, list[Point], list[tuple[str, str]]]:  # fmt: skip
    """Return the names of the tables, their points as one table, and the runs that are left out, with the reason."""
    from playscale.scaling.methods import joined
    from playscale.scaling.numbers import listed

    if len(points) > 1 and not is_pooled:
        raise ValueError(
            f"{len(points)} tables are given: fit each by a command of its own, or all of them with --pool"
        )
    check_once(points, "POINTS")
    read = [read_table(one, columns, budget_column, tracking_uri) for one in points]
    table = joined([(name.rpartition(".")[0] or name, rows) for name, rows, _ in read])
    return listed([name for name, _, _ in read]), table, [run for _, _, runs in read for run in runs]


def read_table(
    points: str, columns: Mapping[str, str], budget_column: str | None, tracking_uri: str | None
) -> tuple[str, list[Point], list[tuple[str, str]]]:
    """Return the name of a table or experiment, its points, and the runs that are left out, with the reason."""
    from playscale.points import read_points

    name = points.removeprefix("mlflow:")
    if not name:
        raise ValueError(f"{points}: points of a tracking store are given as mlflow:EXPERIMENT")
    if name == points:
        return Path(points).name, read_points(points, columns, budget_column), []
    from playscale.tracking.experiment_table import experiment_table

    client = tracking_client(name, tracking_uri)
    table, left_out = client.query(lambda experiment: experiment_table(experiment, columns), create=False)
    return name, table, left_out


def of_methods(table: Sequence[Point], names: Sequence[str]) -> list[Point]:
    """Return the rows of the methods named by --method, or all."""
    from playscale.scaling.methods import by_method

    if not names:
        return list(table)
    check_once(names, "--method")
    groups = by_method(table)
    for name in names:
        if name not in groups:
            raise ValueError(f"--method: no {name!r}; the table has {', '.join(map(repr, groups))}")
    return [point for name in names for point in groups[name]]


def _pairs(texts: Sequence[str]) -> list[tuple[float, float]]:
    """Return the params and samples of each --forecast-at."""
    option, pairs = "--forecast-at", []
    for text in texts:
        values = assignments(text, option)
        if set(values) != {"params", "samples"}:
            raise ValueError(f"{option}: {text!r} is not of the form params=N,samples=D")
        pairs.append((positive(values["params"], option), positive(values["samples"], option)))
    check_once(pairs, option)
    return pairs


def column_names(text: str) -> dict[str, str]:
    """Return {our column: theirs} of --columns."""
    from playscale.points import COLUMNS, EXTRA_COLUMNS, check_columns

    names = assignments(text, "--columns") if text else {}
    for name in names:
        if name not in (*COLUMNS, *EXTRA_COLUMNS):
            known = ", ".join((*COLUMNS, *EXTRA_COLUMNS))
            raise ValueError(f"--columns: {name!r} is no column of a points table; write OURS=THEIRS; ours are {known}")
    try:
        check_columns(names)
    except ValueError as error:
        raise ValueError(f"--columns: {error}") from error
    return names


def _check_games(table: Sequence[Point], options: Sequence[str]) -> None:
    """Refuse options that give returns of one game where the table has several."""
    games = {point.game for point in table if point.game}
    if options and len(games) > 1:
        named = ", ".join(sorted(games))
        raise ValueError(f"{options[0]}: a return is of one game, and the table has {named}; give a table of one game")


def _goals(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Return the name and the return of each --target-return."""
    option, goals = "--target-return", []
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if equals and not name:
            raise ValueError(f"{option}: {text!r} has no name; give RETURN or NAME=RETURN")
        goals.append((name, number(value, option)) if equals else ("", number(text, option)))
    check_once((name or value for name, value in goals), option)
    return goals
