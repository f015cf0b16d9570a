"""Choose the widths of a policy for a parameter count.

One scale sets the encoder's widths; the core's width uses the rest of the count. Candidates are counted by formula (the
encoder's on the meta device), so any size takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

from playscale.agents.layers import on_meta
from playscale.agents.lstm import lstm_params
from playscale.agents.policy import CORES, PolicyConfig
from playscale.agents.transformer import transformer_params
from playscale.config import parse_size
from playscale.games.game import Game

TOLERANCE = 0.03
CLOSE_ENOUGH = 0.015  # relative error up to which a rounder width is preferred
STEPS = (64, 32, 16, 8, 4, 2)
NUDGES = (1.0, 0.97, 1.03, 0.94, 1.06, 0.91, 1.09)
CONTEXT = 128  # steps the transformer sees


def config_for_size(game: Game, size: str, core: str) -> PolicyConfig:
    """Return a policy config within 3 % of `size` parameters; ValueError for an invalid size or core."""
    if core not in CORES:
        raise ValueError(f"unknown core {core!r}: known are {', '.join(CORES)}")
    target = parse_size(size)
    best, best_off = None, math.inf
    for nudge in NUDGES:  # small policies may have no width that comes close: then the encoder is varied a little
        widths = game.encoder_widths(nudge * math.sqrt(target / 1e6))
        width, layers, count = choose_shape(target, core, game, widths)
        off = abs(count - target) / target
        if off < best_off:
            heads, context = (heads_for(width), CONTEXT) if core == "transformer" else (1, 1)
            best = PolicyConfig(
                game.name, size, core, game.num_actions, width, layers, asdict(widths), heads=heads, context=context
            )
            best_off = off
        if off <= CLOSE_ENOUGH:
            break
    if best is None or best_off > TOLERANCE:
        raise ValueError(f"size {size!r}: no {core} policy for {game.name} has that count within 3 %")
    return best


def rest_params(core: str, features: int, num_actions: int, width: int, layers: int) -> int:
    """Return the number of parameters after the encoder: fc layers, core, policy head."""
    core_params = lstm_params(width, layers) if core == "lstm" else transformer_params(width, layers)
    return (features + 1 + width + 1) * width + core_params + (width + 1) * num_actions


def choose_shape(target: int, core: str, game: Game, widths: object) -> tuple[int, int, int]:
    """Return width, layers and count: the roundest width that comes close enough, if possible at the usual depth."""
    with on_meta():
        encoder = game.make_encoder(widths)
    fixed = sum(encoder.params().values())  # type: ignore[operator]
    features = int(encoder.out_features)  # type: ignore[arg-type]

    def count(shape: tuple[int, int]) -> int:
        return fixed + rest_params(core, features, game.num_actions, *shape)

    def off(shape: tuple[int, int]) -> float:
        return abs(count(shape) - target) / target

    depth = 1 if core == "lstm" else max(1, round((target / 1e4) ** 0.25))
    depths = [depth] if core == "lstm" else [d for d in (depth, depth - 1, depth + 1) if d > 0]
    best = (STEPS[-1], depth)
    for step in STEPS:
        for layers in depths:
            best = min(best, (nearest_width(step, layers, off), layers), key=off)
            if off(best) <= CLOSE_ENOUGH:
                return *best, count(best)
    return *best, count(best)


def nearest_width(step: int, layers: int, off: Callable[[tuple[int, int]], float]) -> int:
    """Return the multiple of `step` with the smallest `off`, which falls to one minimum and then rises."""
    width, stride = step, step
    while off((width + stride, layers)) < off((width, layers)):
        width += stride
        stride *= 2
    while stride >= step:
        width = min((width - stride, width, width + stride), key=lambda w: off((w, layers)) if w > 0 else math.inf)
        stride //= 2
    return width


def heads_for(width: int) -> int:
    """Return the number of heads: of width 64 in wide cores, less in narrow ones, always even and dividing `width`."""
    head = 64 if width >= 512 else 32 if width >= 128 else 16
    divisors = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
    return min(divisors, key=lambda n: abs(math.log(width / n / head)))
