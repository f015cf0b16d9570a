"""Benchmarks: `playscale bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from playscale.cli.options import finite


def bench(
    part: Annotated[str, typer.Argument(help="Benchmark to run: data, train, rollout, fit, impala or all.")] = "all",
    json: Annotated[Path | None, typer.Option(help="Also write the results to this JSON file.")] = None,
    games: Annotated[Path | None, typer.Option(help="Recorded games in NLD-AA layout. Default: collect some.")] = None,
    peer: Annotated[
        Path | None,
        typer.Option(help="Clone of the paper's code, whose training is then measured too."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each side, in alternation.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, callback=finite, help="Seconds of one measurement.")] = 2.0,
) -> None:
    """Measure speed beside a reference implementation: medians, spreads and ratios; see docs/performance.md.

    \b
    Example:
      playscale bench fit --rounds 1 --json bench.json
    """
    from playscale.cli.console import show
    from playscale_benchmarks.bench import PARTS, Options
    from playscale_benchmarks.bench import bench as run

    run(tuple(PARTS) if part == "all" else (part,), Options(games, peer, rounds, seconds), json, show)
