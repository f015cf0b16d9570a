"""Measurements: `playscale bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    part: Annotated[str, typer.Argument(help="data, train, rollout, fit, impala or all.")] = "all",
    json: Annotated[Path | None, typer.Option(help="Also write the figures here, as JSON.")] = None,
    games: Annotated[Path | None, typer.Option(help="Recorded games, NLD-AA layout (default: collect some).")] = None,
    peer: Annotated[Path | None, typer.Option(help="Where the code of the peer in training lies.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side is measured, in turns.")] = 5,
    seconds: Annotated[float, typer.Option(help="How long one side is measured in one round.")] = 2.0,
) -> None:
    """Measure ours and the peer in alternating rounds: medians, spreads, ratios; see docs/performance.md.

    \b
    Example:
      playscale bench fit --rounds 1 --json bench.json
    """
    from playscale.cli.console import show
    from playscale_benchmarks.bench import PARTS, Options
    from playscale_benchmarks.bench import bench as run

    run(PARTS if part == "all" else (part,), Options(games, peer, rounds, seconds), json, show)
