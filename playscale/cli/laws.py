"""The analysis: `playscale fit` and `playscale reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playscale.cli.options import Out, Tracking, logbook, numbers
from playscale.storage.sync import NO_FILES, workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playscale.points import Point
    from playscale.scaling.fit import Fit


def fit(
    points: Annotated[str, typer.Argument(help="A points CSV, here or in S3, or mlflow:EXPERIMENT.")],
    out: Out,
    forecast: Annotated[str, typer.Option(help="Budgets to forecast for, in FLOPs, comma-separated.")] = "",
    forecast_at: Annotated[list[str] | None, typer.Option(help="params=N,samples=D; may be given again.")] = None,
    target_return: Annotated[
        list[str] | None,
        typer.Option(help="Compute at which a return is reached: RETURN or NAME=RETURN; repeatable."),
    ] = None,
    expert_return: Annotated[float | None, typer.Option(help="Mean return of whom the agents imitate.")] = None,
    max_return: Annotated[float | None, typer.Option(help="The largest return that the game allows.")] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU to give hours and energy for: a100, h100, l4, ...")] = None,
    utilisation: Annotated[float, typer.Option(help="Share of its peak FLOP/s that training reaches.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    tracking_uri: Tracking = None,
) -> None:
    """Fit the scaling laws of a points table, each method's apart: OUT/fit.json, OUT/report.html and OUT/figures.

    \b
    Example:
      playscale fit studies/example/points.csv --out laws --forecast 1e13,1e14 \
        --target-return human=127356 --gpu h100 --utilisation 0.3
    """
    from playscale.cli.console import fit_tables, show
    from playscale.points import read_points
    from playscale.report.figures import write_figures
    from playscale.report.report import write_report
    from playscale.scaling.fit import fit as run
    from playscale.scaling.gpu import hardware
    from playscale.scaling.methods import EXPERT, expert_bound, fit_methods

    name = points.removeprefix("mlflow:")
    table = (
        logbook(name, tracking_uri).ask(lambda experiment: experiment.points(), create=False)
        if points.startswith("mlflow:")
        else read_points(points)
    )
    budgets, pairs = numbers(forecast, "--forecast"), [_pair(text) for text in forecast_at or []]
    goals = [_named(text) for text in target_return or []]

    def fit_one(method: str, rows: Sequence[Point]) -> Fit:
        bound, targets = expert_bound(method, {} if expert_return is None else {EXPERT: expert_return})
        return run(
            rows,
            budgets,
            pairs,
            seed,
            expert_return=bound,
            max_return=max_return,
            target_returns=[*goals, *targets],
            hardware=hardware(gpu, utilisation) if gpu else None,
        )

    result = fit_methods(table, fit_one)
    with workspace(out, NO_FILES) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        result.write(folder / "fit.json")
        write_figures(folder / "figures", result.to_dict(), table, ())
        write_report(folder / "report.html", result.to_dict(), table, title=f"Scaling laws of {name}")
    show(*fit_tables(result.to_dict()))
    typer.echo(f"report: {out.rstrip('/')}/report.html")


def reproduce(
    tables: Annotated[list[Path], typer.Argument(help="Points CSVs, as published.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="CSV of published exponents: table,from_flops,target,quantity,at,exponent."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory to write.")] = Path("out/reproduce"),
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Analyse published tables: exponents beside the published ones, all figures on OUT/reproduce.html.

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
    typer.echo(f"page: {page}")


def _pair(text: str) -> tuple[float, float]:
    values = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if set(values) != {"params", "samples"}:
        raise ValueError(f"--forecast-at: {text!r} is not of the form params=N,samples=D")
    (params,), (samples,) = (numbers(values[name], "--forecast-at") for name in ("params", "samples"))
    return params, samples


def _named(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    (number,) = numbers(value, "--target-return") or [float("nan")]
    return name, number
