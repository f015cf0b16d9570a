"""A made-up study like the quickstart, for the tests of the report: 5 sizes, 4 budgets, and a held-out one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from playscale.points import Point, Reference
from playscale.report.replay import Replay, ScreenChanges
from playscale.scaling.fit import fit

SIZES = {"10k": 10_150, "30k": 29_800, "100k": 101_000, "300k": 297_000, "1M": 1_010_000}
BUDGETS = (3e10, 1e11, 3e11, 1e12)
HELD_OUT = 3e12
MANY_BUDGETS = (1e8, 3e8, 1e9, 3e9, 1e10, 3e10, 1e11, 3e11, 1e12, 3e12)  # enough for a track record
NEXT = (3e12, 1e13, 1e14)
REFERENCES = (
    Reference("random policy", 0.3, 0.05, 100, "uniform over the 121 actions"),
    Reference("expert", 640.0, 31.0, 64, "the games of the corpus"),
)


def make_points(seed: int = 0, budgets: tuple[float, ...] = BUDGETS, sizes: Mapping[str, int] = SIZES) -> list[Point]:
    """dev_loss = E + A / N^0.33 + B / D^0.33 with 0.6 % noise; return = 190 / dev_loss^3.6 with 8 % noise."""
    rng = np.random.default_rng(seed)
    points = []
    for budget in dict.fromkeys((*budgets, HELD_OUT)):
        for size, params in sizes.items():
            flops = budget * (1 + 0.01 * rng.random())
            samples = round(flops / (6 * params))
            true = 0.55 + 25 / params**0.33 + 62 / samples**0.33
            mean = float(190 * true**-3.6 * np.exp(rng.normal(0, 0.08)))
            measured: dict[str, Any] = {
                "dev_loss": true * float(np.exp(rng.normal(0, 0.006))), "dev_loss_se": 0.006 * true,
                "return_mean": mean, "return_se": 0.11 * mean, "episodes": 32,
            }  # fmt: skip
            split = "held-out" if budget == HELD_OUT and budgets == BUDGETS else "fit"
            point = Point(
                game="nethack", size=size, flops=flops, params=params, samples=samples, split=split, **measured
            )
            points.append(point)
    return points


def make_fit(points: list[Point], **more: Any) -> dict[str, Any]:
    """The content of fit.json for these points."""
    return fit(points, forecast_flops=NEXT, replicates=60, **more).to_dict()


def with_returns_of_zero(points: list[Point], count: int) -> list[Point]:
    """The first `count` points have a mean return of 0 or less."""
    return [replace(p, return_mean=-0.5 * i) for i, p in enumerate(points[:count])] + points[count:]


def nulled(value: Any) -> Any:
    """The fit with null for every number: what JSON has where nothing could be computed."""
    if isinstance(value, dict):
        return {key: nulled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nulled(item) for item in value]
    return value if isinstance(value, str) else None


def make_replay(frames: int = 40, seed: int = 0) -> Replay:
    """An @ that walks to the right under a line that counts; colours and a score that change."""
    rng = np.random.default_rng(seed)
    chars = np.full((frames, 24, 80), ord(" "), np.uint8)
    colors = np.zeros((frames, 24, 80), np.int8)
    cursor = np.zeros((frames, 2), np.int16)
    for frame in range(frames):
        line = f"Turn {frame}."
        chars[frame, 0, : len(line)] = np.frombuffer(line.encode(), np.uint8)
        chars[frame, 12, 1 + frame % 70] = ord("@")
        colors[frame, 12, 1 + frame % 70] = rng.integers(16)
        cursor[frame] = 12, 1 + frame % 70
    score = np.arange(frames, dtype=np.int32) * 10
    screens = ScreenChanges.of([(chars, colors, cursor)])
    return Replay("A walk", "It walks <to> the right & on.", screens, score)
