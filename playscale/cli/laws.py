"""The analysis: `playscale fit` and `playscale reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playscale.cli.options import (
    BootstrapSeed,
    Out,
    OutFolder,
    Tracking,
    budget_list,
    echo,
    finite,
    given,
    number,
    positive,
    tracking_client,
)
from playscale.storage.files import atomic_files
from playscale.storage.sync import NO_FILES, workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playscale.points import Point
    from playscale.scaling.fit import Fit


def fit(
    context: typer.Context,
    points: Annotated[str, typer.Argument(help="Points CSV, local or in S3, or mlflow:EXPERIMENT.")],
    out: Out,
    forecast: Annotated[
        str, typer.Option(help="Budgets to forecast for, in training FLOPs, comma-separated: 1e13,1e14.")
    ] = "",
    forecast_at: Annotated[
        list[str] | None,
        typer.Option(
            help="Model and data size to forecast for: params=N,samples=D (samples each seen once); repeatable."
        ),
    ] = None,
    target_return: Annotated[
        list[str] | None,
        typer.Option(help="Return whose compute is sought: RETURN or NAME=RETURN; repeatable."),
    ] = None,
    expert_return: Annotated[
        float | None, typer.Option(callback=finite, help="Mean return of the expert that the agents imitate.")
    ] = None,
    max_return: Annotated[
        float | None, typer.Option(callback=finite, help="Largest return that the game allows.")
    ] = None,
    min_return: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Smallest return that the game allows, from which returns are counted. Default: 0, "
            "or fitted where a mean return is not above 0.",
        ),
    ] = None,
    budget_column: Annotated[
        str | None,
        typer.Option(
            help="Column that says to which budget a row belongs. Default: `budget` where it does, else budgets are "
            "found by the gaps between rows in compute."
        ),
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU model to give hours and energy for: a100, h100, l4, ...")] = None,
    utilisation: Annotated[
        float, typer.Option(help="Fraction of the GPU's peak FLOP/s that training reaches; with --gpu.")
    ] = 0.3,
    seed: BootstrapSeed = 0,
    tracking_uri: Tracking = None,
) -> None:
    """Fit the scaling laws of a points table, each method separately: OUT/fit.json, OUT/report.html, OUT/figures.

    \b
    Example:
      playscale fit studies/example/points.csv --out laws --forecast 1e13,1e14 --target-return human=127356 --gpu h100
    """
    from playscale.cli.console import fit_tables, show
    from playscale.points import read_points
    from playscale.report.figures import write_figures
    from playscale.report.report import write_report
    from playscale.scaling.fit import fit as run
    from playscale.scaling.gpu import hardware
    from playscale.scaling.methods import EXPERT, expert_bound, fit_methods

    name, tracked = points.removeprefix("mlflow:"), points.startswith("mlflow:")
    if not name:
        raise ValueError(f"{points}: points of a tracking store are given as mlflow:EXPERIMENT")
    if given(context, "utilisation") and not gpu:
        raise ValueError("--utilisation: it is that of a GPU; give --gpu too")
    machine = hardware(gpu, utilisation) if gpu else None
    budgets, pairs = budget_list(forecast, "--forecast"), [_pair(text) for text in forecast_at or []]
    goals = [_named(text) for text in target_return or []]
    table = (
        tracking_client(name, tracking_uri).query(lambda experiment: experiment.points(), create=False)
        if tracked
        else read_points(points)
    )

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
        )

    result = fit_methods(table, fit_one)
    with workspace(out, NO_FILES) as folder, atomic_files(folder) as aside:
        result.write(aside / "fit.json")
        write_figures(aside / "figures", result.to_dict(), table, ())
        title = f"Scaling laws of {name if tracked else Path(name).name}"
        write_report(aside / "report.html", result.to_dict(), table, title=title)
    show(*fit_tables(result.to_dict()))
    echo(f"report: {out.rstrip('/')}/report.html")


def reproduce(
    tables: Annotated[list[Path], typer.Argument(help="Points CSVs of published results.")],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="CSV of published exponents, with columns table (file name without .csv), from_flops (smallest budget "
            "fitted; may be empty), target (dev_loss, return_mean), quantity (params, samples, ...), at (argmin: best "
            "cell of a budget; vertex: of its parabola), exponent."
        ),
    ] = None,
    out: OutFolder = Path("out/reproduce"),
    seed: BootstrapSeed = 0,
) -> None:
    """Analyse published tables and compare exponents with the published ones: OUT/reproduce.html.

    \b
    Example:
      playscale reproduce studies/example/points.csv --out reproduced
    """
    from playscale.cli.console import progress, reproduction_table, show
    from playscale.report.reproduction import read_published
    from playscale.report.reproduction import reproduce as run
    from playscale.report.reproduction_page import sentences, write_reproductions

    published = read_published(reference) if reference else []
    with progress("reproduce") as report:
        done = run(tables, published, seed=seed, progress=report)
    page = write_reproductions(out, done)
    for one in done:
        show(reproduction_table(one), *sentences(one))
    echo(f"page: {page}")


def _pair(text: str) -> tuple[float, float]:
    values = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if set(values) != {"params", "samples"}:
        raise ValueError(f"--forecast-at: {text!r} is not of the form params=N,samples=D")
    return positive(values["params"], "--forecast-at"), positive(values["samples"], "--forecast-at")


def _named(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    if equals and not name.strip():
        raise ValueError(f"--target-return: {text!r} has no name; give RETURN or NAME=RETURN")
    return name, number(value, "--target-return")
