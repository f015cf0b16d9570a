"""Unrolls of random NetHack screens."""

import torch


def unroll_of(T: int, B: int, seed: int = 0, done: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return the columns of a batch [T, B, ...], without actions; `done` bool [T, B], by default nowhere."""
    rng = torch.Generator().manual_seed(seed)
    return {
        "tty_chars": torch.randint(32, 127, (T, B, 24, 80), generator=rng, dtype=torch.uint8),
        "tty_colors": torch.randint(0, 16, (T, B, 24, 80), generator=rng, dtype=torch.int8),
        "tty_cursor": torch.randint(0, 24, (T, B, 2), generator=rng, dtype=torch.int16),
        "prev_action": torch.randint(0, 122, (T, B), generator=rng),
        "done": torch.zeros(T, B, dtype=torch.bool) if done is None else done,
    }
