"""A made-up study like the quickstart: 5 sizes, 4 budgets and a held-out one, with everything a fit can say of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from playscale.points import Point
from playscale.report.evidence import Reference

SIZES = {"10k": 10_150, "30k": 29_800, "100k": 101_000, "300k": 297_000, "1M": 1_010_000}
BUDGETS = (3e10, 1e11, 3e11, 1e12)
HELD_OUT = 3e12
NEXT = (3e12, 1e13, 1e14)
REFERENCES = (
    Reference("random policy", 0.3, 0.05, 100, "uniform over the 121 actions"),
    Reference("expert", 640.0, 31.0, 64, "the games of the corpus"),
)
WARNINGS = [
    {"code": "few-budgets", "text": "Only 4 budgets were fitted, over 1.5 decades: exponents are uncertain and forecasts far ahead are guesses."},
    {"code": "edge", "text": "At 3×10¹⁰ FLOPs the best size is the smallest one trained: add a smaller size."},
]  # fmt: skip
LAW = {"params": (0.5, 0.16), "samples": (0.5, 1.04)}  # exponent, coefficient: N = 0.16 C^0.5 / ...


def loss(params: float, samples: float) -> float:
    return 0.55 + 21 / params**0.33 + 95 / samples**0.33


def game_return(dev_loss: float) -> float:
    return 190 * dev_loss**-3.6


def make_points(seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    points = []
    for budget in (*BUDGETS, HELD_OUT):
        for size, params in SIZES.items():
            flops = budget * (1 + 0.01 * rng.random())
            samples = round(flops / (6 * params))
            true = loss(params, samples)
            mean = game_return(true) * np.exp(rng.normal(0, 0.08))
            points.append(Point(
                game="nethack", method="bc", run=f"bc-{size}", seed=0, size=size, flops=flops, params=params, samples=samples,
                dev_loss=true * float(np.exp(rng.normal(0, 0.006))), dev_loss_se=0.006 * true, return_mean=float(mean),
                return_se=float(mean * 0.11), episodes=32, split="held-out" if budget == HELD_OUT else "fit",
            ))  # fmt: skip
    return points


def _profile(target: str, budget: float, points: list[Point]) -> dict[str, Any]:
    cells = [point for point in points if abs(point.flops / budget - 1) < 0.05]
    x = np.log10([point.params for point in cells])
    y = np.log10([getattr(point, target) for point in cells])
    a, b, c = (float(value) for value in np.polyfit(x, y, 2))
    best = cells[int(np.argmin(y) if target == "dev_loss" else np.argmax(y))]
    top = -b / (2 * a)
    good = (a > 0) == (target == "dev_loss") and x.min() < top < x.max()
    vertex = 10**top if good else None
    return {
        "target": target, "flops": budget, "a": a, "b": b, "c": c, "low": float(10 ** x.min()), "high": float(10 ** x.max()),
        "argmin_params": best.params, "argmin_samples": best.samples, "argmin_value": getattr(best, target),
        "vertex_params": vertex, "vertex_samples": budget / (6 * vertex) if vertex else None,
        "vertex_value": float(10 ** (a * top**2 + b * top + c)) if good else None,
        "excluded": None if good else "the vertex lies outside the sizes trained",
    }  # fmt: skip


def _law(target: str, quantity: str, at: str, x: list[float], y: list[float]) -> dict[str, Any]:
    slope, intercept = (float(value) for value in np.polyfit(np.log(x), np.log(y), 1))
    return {
        "target": target, "quantity": quantity, "at": at, "exponent": slope, "low": slope - 0.09, "high": slope + 0.09,
        "coefficient": float(np.exp(intercept)), "r2": 0.987, "n": len(x),
    }  # fmt: skip


def make_fit(points: list[Point]) -> dict[str, Any]:
    """The dict of fit.json, from simple least squares: right in form, not an example of how to fit."""
    profiles = [
        _profile(target, budget, points) for target in ("dev_loss", "return_mean") for budget in (*BUDGETS, HELD_OUT)
    ]
    fitted = [p for p in profiles if p["flops"] != HELD_OUT]
    laws = []
    curves: dict[str, list[dict[str, float]]] = {}
    forecasts, held_out = [], []
    for target in ("dev_loss", "return_mean"):
        mine = [p for p in fitted if p["target"] == target]
        flops = [p["flops"] for p in mine]
        for quantity in ("params", "samples"):
            laws.append(_law(target, quantity, "argmin", flops, [p["argmin_" + quantity] for p in mine]))
            good = [p for p in mine if p["vertex_params"]]
            if len(good) > 1:
                laws.append(
                    _law(
                        target, quantity, "vertex", [p["flops"] for p in good], [p["vertex_" + quantity] for p in good]
                    )
                )
        law = _law(target, target, "argmin", flops, [p["argmin_value"] for p in mine])
        laws.append(law)
        size = next(row for row in laws if row["target"] == target and row["quantity"] == "params")
        wide = 0.02 if target == "dev_loss" else 0.16

        def at(c: float, law=law, size=size, wide=wide) -> dict[str, float]:
            value = law["coefficient"] * c ** law["exponent"]
            spread = wide * (1 + max(0.0, np.log10(c / 1e12)) * 1.5)
            params = size["coefficient"] * c ** size["exponent"]
            ends = {"low": value * np.exp(-2 * spread), "high": value * np.exp(2 * spread)}
            return {"flops": c, "params": params, "samples": c / (6 * params), "value": value, **ends}

        curves[target] = [at(float(c)) for c in np.geomspace(3e10, 1e14, 40)]
        forecasts += [{"target": target, **at(c)} for c in NEXT]
        best = min if target == "dev_loss" else max
        point = best((p for p in points if p.held_out), key=lambda p, target=target: getattr(p, target))
        row = {"target": target, **at(point.flops), "params": point.params, "samples": point.samples}
        measured = getattr(point, target)
        held_out.append(row | {"measured": measured, "inside": bool(row["low"] <= measured <= row["high"])})
    pairs = [(p.dev_loss, p.return_mean) for p in points if not p.held_out]
    laws.append(
        _law("return_mean", "return_mean", "argmin", *map(list, zip(*pairs, strict=True)))
        | {"of": "dev_loss", "at": None}
    )
    return {
        "points": [], "excluded": [{"flops": points[4].flops, "params": points[4].params, "reason": "less than 2 epochs of warm-up"}],
        "warnings": WARNINGS, "power_laws": laws,
        "laws": {
            "dev_loss": {
                "form": "L = E + A C^-g", "why": "lowest error in the backtest; the floor E is positive with 95 % certainty.",
                "parameters": {
                    "E": {"value": 0.52, "low": 0.31, "high": 0.66}, "A": {"value": 161.0, "low": 40.2, "high": 640.0},
                    "g": {"value": 0.21, "low": 0.15, "high": 0.28},
                },
            },
            "return_mean": {"form": "power law", "why": None, "parameters": {"A": {"value": 3e-4, "low": None, "high": None}}},
        },
        "backtest": [
            {"target": "dev_loss", "form": "power law", "from_flops": 3e11, "decades_ahead": 0.52, "median_log_error": 0.021, "coverage": 1.0}
        ],
        "forecasts": forecasts, "held_out": held_out, "profiles": profiles, "curves": curves,
    }  # fmt: skip
