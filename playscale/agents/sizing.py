"""From an asked parameter count to widths.

One scale sets the encoder's widths; the core's width takes what is left of the count. Candidate widths are counted by
formula (the encoder's on the meta device), so a size takes milliseconds however large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import torch

from playscale.agents.lstm import lstm_params
from playscale.agents.policy import CORES, PolicyConfig
from playscale.agents.transformer import transformer_params
from playscale.config import parse_size
from playscale.games.game import Game

TOLERANCE = 0.03
CLOSE_ENOUGH = 0.015  # a rounder width is preferred as long as the count is this near
STEPS = (64, 32, 16, 8, 4, 2)
NUDGES = (1.0, 0.97, 1.03, 0.94, 1.06, 0.91, 1.09)
CONTEXT = 128  # steps the transformer sees


def config_for_size(game: Game, size: str, core: str) -> PolicyConfig:
    """The policy of that size, within 3 % of the asked count; ValueError for a bad size or core."""
    if core not in CORES:
        raise ValueError(f"unknown core {core!r}: known are {', '.join(CORES)}")
    asked = parse_size(size)
    best, best_off = None, math.inf
    for nudge in NUDGES:  # of small policies no width may come close: then the encoder gives or takes a little
        widths = game.encoder_widths(nudge * math.sqrt(asked / 1e6))
        width, layers, count = choose_shape(asked, core, game, widths)
        off = abs(count - asked) / asked
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
    """Parameters of everything behind the encoder: fc layers, core, policy head."""
    core_params = lstm_params(width, layers) if core == "lstm" else transformer_params(width, layers)
    return (features + 1 + width + 1) * width + core_params + (width + 1) * num_actions


def choose_shape(asked: int, core: str, game: Game, widths: object) -> tuple[int, int, int]:
    """Width, layers and count: the roundest width that comes close enough, at the meant depth if possible."""
    with torch.device("meta"):
        encoder = game.make_encoder(widths)
    fixed = sum(encoder.params().values())  # type: ignore[operator]
    features = int(encoder.out_features)  # type: ignore[arg-type]

    def count(shape: tuple[int, int]) -> int:
        return fixed + rest_params(core, features, game.num_actions, *shape)

    def off(shape: tuple[int, int]) -> float:
        return abs(count(shape) - asked) / asked

    depth = 1 if core == "lstm" else max(1, round((asked / 1e4) ** 0.25))
    depths = [depth] if core == "lstm" else [d for d in (depth, depth - 1, depth + 1) if d > 0]
    best = (STEPS[-1], depth)
    for step in STEPS:
        for layers in depths:
            best = min(best, (nearest_width(step, layers, off), layers), key=off)
            if off(best) <= CLOSE_ENOUGH:
                return *best, count(best)
    return *best, count(best)


def nearest_width(step: int, layers: int, off: Callable[[tuple[int, int]], float]) -> int:
    """The multiple of `step` whose count is nearest. `off` falls to one minimum and rises again: walk down to it."""
    width, stride = step, step
    while off((width + stride, layers)) < off((width, layers)):
        width += stride
        stride *= 2
    while stride >= step:
        width = min((width - stride, width, width + stride), key=lambda w: off((w, layers)) if w > 0 else math.inf)
        stride //= 2
    return width


def heads_for(width: int) -> int:
    """Heads of 64 in wide cores, fewer in narrow ones: the divisor with an even head nearest to that."""
    target = 64 if width >= 512 else 32 if width >= 128 else 16
    divisors = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
    return min(divisors, key=lambda n: abs(math.log(width / n / target)))
