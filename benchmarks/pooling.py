"""Pool exponents of several tables, beside separate fits: with one table left out, and on planted tables.

    python -m benchmarks.pooling TABLE... [--planted] [--draws 200]

Of given tables (3 or more, one game and method each): each exponent alone and pooled, and the forecasts of each table's
later budgets from its earlier ones with the others' exponents and without (`playscale.scaling.pooling`). `--planted`
draws tables whose exponents scatter by tau, each with budgets, sizes and a scale of its own. Reported: how often the
95 % intervals hold the truth, their widths, how far off exponents are (root mean square), how often pooling was kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from playscale.points import Point, read_points
from playscale.scaling.cells import TARGETS, FitError, Target, make_cells
from playscale.scaling.exponents import SPLIT, fit_exponents
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.pooling import FEWEST_TABLES, Line, line_of, measured, pooled_exponent, random_effects

SHARE, GAMMA, CURVATURE = 0.5, 0.15, 0.03
TAUS = (0.0, 0.02, 0.05)  # with more, best sizes lie outside those that are trained
TABLES = (3, 5, 8)
NOISE = 0.02


def lines_of(name: str, points: Sequence[Point], target: Target) -> dict[str, Line]:
    """Return the law of each quantity of one table, without any other part of its fit."""
    try:
        cells = make_cells(points, target, screen=True)[0].at_budgets()
    except FitError:
        return {}
    profiles = fit_profiles(cells)
    exponents = fit_exponents(cells, profiles, np.random.default_rng(0), 0)
    found = {quantity: line_of(name, target, quantity, profiles, exponents) for quantity in (*SPLIT, target)}
    return {quantity: line for quantity, line in found.items() if line is not None}


def show_tables(paths: Sequence[Path]) -> None:
    """Print each exponent of the tables alone and pooled, and the scores with one table left out."""
    for target in TARGETS:
        found = [lines_of(path.stem, read_points(path), target) for path in paths]
        for quantity in (*SPLIT, target):
            lines = [own[quantity] for own in found if quantity in own]
            if len(lines) < FEWEST_TABLES:
                continue
            row = pooled_exponent(target, quantity, lines, random_effects(*measured(lines)))
            print(
                f"{quantity} best for {target}: mean {row.mean:.3f} ({row.low:.3f} to {row.high:.3f}), tau"
                f" {row.between:.3f} ({row.between_low:.3f} to {row.between_high:.3f}), a further table"
                f" {row.new_low:.3f} to {row.new_high:.3f}; error {row.ratio or np.nan:.2f} times, kept {row.kept}"
            )
            scores = {score.table: score for score in row.left_out}
            for one in row.tables:
                text = (
                    f"  {one.table:20} {one.at:6} {one.exponent:.3f} ({one.low:.3f} to {one.high:.3f})  pooled"
                    f" {one.pooled:.3f} ({one.pooled_low:.3f} to {one.pooled_high:.3f})"
                )
                if score := scores.get(one.table):
                    text += (
                        f"  {score.forecasts} forecasts: error {score.error:.3f}, {score.pooled_error:.3f}  coverage"
                        f" {score.coverage:.0%}, {score.pooled_coverage:.0%}  interval score {score.score:.2f},"
                        f" {score.pooled_score:.2f}"
                    )
                print(text)


def planted_table(share: float, gamma: float, rng: np.random.Generator) -> list[Point]:
    """Return the cells of one table: 4 to 12 budgets over 2 to 5 decades, 7 sizes, a scale of its own."""
    first = 10 ** rng.uniform(12, 15)
    flops = np.geomspace(first, first * 10 ** rng.uniform(2, 5), rng.integers(4, 13))
    scale, level = np.exp(rng.standard_normal(2))
    sizes = np.geomspace(1e2, 1e10, 40) * np.exp(rng.uniform(0, 0.4))
    points = []
    for c in flops.tolist():
        away = np.log(sizes / (scale * 0.1 * c**share))
        for i in np.sort(np.argsort(np.abs(away))[:7]):
            loss = level * (c / first) ** -gamma * np.exp(CURVATURE * away[i] ** 2 + NOISE * rng.standard_normal())
            size = float(sizes[i])
            points.append(Point(flops=c, params=size, samples=c / 6 / size, dev_loss=float(loss)))
    return points


def planted(count: int, tau: float, draws: int) -> dict[str, str]:
    """Return what `count` tables, whose exponents scatter by tau, give for the best size and for the loss."""
    rows: dict[str, list[tuple[float, ...]]] = {"params": [], "dev_loss": []}
    for draw in range(draws):
        rng = np.random.default_rng([draw, count, round(1e3 * tau)])
        truth = {
            "params": SHARE + tau * rng.standard_normal(count),
            "dev_loss": GAMMA + tau / 3 * rng.standard_normal(count),
        }
        tables = [
            lines_of(str(i), planted_table(truth["params"][i], truth["dev_loss"][i], rng), "dev_loss")
            for i in range(count)
        ]
        for quantity, own in rows.items():
            kept = [i for i, lines in enumerate(tables) if quantity in lines]
            if len(kept) < FEWEST_TABLES:
                continue
            lines = [tables[i][quantity] for i in kept]
            pooled = pooled_exponent("dev_loss", quantity, lines, random_effects(*measured(lines)))
            sign = -1.0 if quantity == "dev_loss" else 1.0
            for i, one in zip(kept, pooled.tables, strict=True):
                true = sign * truth[quantity][i]
                own.append((
                    one.low <= true <= one.high, one.pooled_low <= true <= one.pooled_high, one.exponent - true,
                    one.pooled - true, one.high - one.low, one.pooled_high - one.pooled_low, pooled.kept,
                    pooled.ratio or np.nan,
                ))  # fmt: skip
    return {quantity: _summary(np.array(own, dtype=float)) for quantity, own in rows.items() if own}


def _summary(rows: np.ndarray) -> str:
    held, pooled_held, error, pooled_error, width, pooled_width, kept, ratio = rows.T
    off = np.sqrt([np.mean(np.square(e)) for e in (error, pooled_error)])
    chosen = np.where(kept > 0, pooled_error, error)
    return (
        f"coverage {held.mean():.3f}, pooled {pooled_held.mean():.3f}; width {np.median(width):.3f},"
        f" {np.median(pooled_width):.3f}; error {off[0]:.4f}, {off[1]:.4f}; kept in {kept.mean():.0%}, with it"
        f" {np.sqrt(np.mean(chosen**2)):.4f}; median ratio {np.nanmedian(ratio):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    show_tables(options.tables)
    for count in TABLES if options.planted else ():
        for tau in TAUS:
            for quantity, text in planted(count, tau, options.draws).items():
                print(
                    f"{count} tables, tau {tau if quantity == 'params' else tau / 3:.3f}, {quantity}: {text}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
