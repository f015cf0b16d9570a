"""A made-up study that varies the learning rate and the batch, with a known best rate, for tests of the sensitivity."""

from __future__ import annotations

from itertools import product

import numpy as np

from playscale.points import Point

SIZES = {"10k": 10_000, "30k": 30_000, "100k": 100_000, "300k": 300_000}
BUDGETS = (1e11, 3e11, 1e12)
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
BATCHES = (8, 32)
OF_PARAMS, OF_FLOPS = -0.3, -0.1  # exponents of the best rate
OWN_BATCH = 8
COST_OF_BATCH = 0.02  # nats that a batch of 32 loses


def best_rate(params: float, flops: float) -> float:
    return 3e-3 * (params / 6e4) ** OF_PARAMS * (flops / 3e11) ** OF_FLOPS


def recipe_rate(params: float) -> float:
    """The recipe is right at 60k, and falls twice as fast."""
    return 3e-3 * (params / 6e4) ** (2 * OF_PARAMS)


def _point(
    size: str, flops: float, rate: float, batch: int, seed: int, noise: float, varied: dict[str, object]
) -> Point:
    params = SIZES[size]
    samples = flops / (6 * params)
    off = np.log(rate / best_rate(params, flops))
    true = 0.55 + 25 / params**0.33 + 62 / samples**0.33 + 0.04 * off**2 + COST_OF_BATCH * (batch != OWN_BATCH)
    rng = np.random.default_rng([seed, params, int(flops / 1e9), round(rate * 1e7), batch])
    text = " ".join(f"{name}={value}" for name, value in sorted(varied.items()))
    return Point(
        game="nethack", method="bc", run="-".join(["bc", size, f"s{seed}", *text.split()]), seed=seed, size=size,
        flops=flops, params=params, samples=samples, dev_loss=float(true * np.exp(rng.normal(0, noise))),
        extra={"learning_rate": f"{rate:.4g}", "batch": str(batch)} | ({"varied": text} if text else {}),
    )  # fmt: skip


def make_points(design: str = "one-at-a-time", seeds: tuple[int, ...] = (0,), noise: float = 1e-4) -> list[Point]:
    """The recipe's rows, then the others, as a study of that design has them."""
    points = []
    for size, flops, seed in product(SIZES, BUDGETS, seeds):
        own = recipe_rate(SIZES[size])
        points.append(_point(size, flops, own, OWN_BATCH, seed, noise, {}))
        if design == "grid":
            for rate, batch in product(RATES, BATCHES):
                other = {"batch": batch} if batch != OWN_BATCH else {}
                points.append(_point(size, flops, rate, batch, seed, noise, {"learning_rate": rate} | other))
            continue
        points += [_point(size, flops, rate, OWN_BATCH, seed, noise, {"learning_rate": rate}) for rate in RATES]
        points.append(_point(size, flops, own, BATCHES[-1], seed, noise, {"batch": BATCHES[-1]}))
    return points
