"""Unrolls of recorded games, read once and given to every side as a file. T: unroll; B: batch columns."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from playscale.games.game import Recording, get_game
from playscale.training.batches import Batch

UNROLLS = 4  # different ones, trained on in turn
SKIP = 300  # transitions of a game before the first one taken: beginnings look alike
GAMES = 32
PEER_ACTIONS = 121  # the peer has no "no action yet"


def read_unrolls(games: Path, out: Path, unroll: int, batch: int) -> Path:
    """Write UNROLLS x [T, B] consecutive transitions of recorded games as an npz. Columns beyond GAMES repeat them.

    ValueError: no recordings there, or none long enough.
    """
    wanted = UNROLLS * unroll
    taken: list[dict[str, np.ndarray]] = []
    for recording in get_game("nethack").find_recordings(games)[0]:
        if len(taken) == min(batch, GAMES):
            break
        piece = _piece(recording, SKIP + wanted)
        if len(piece["action"]) == SKIP + wanted:
            taken.append({name: array[SKIP:] for name, array in piece.items()})
    if not taken:
        raise ValueError(f"{games}: no recorded game of {SKIP + wanted} transitions to train on")
    columns = [taken[b % len(taken)] for b in range(batch)]
    arrays = {name: np.stack([column[name] for column in columns], 1) for name in taken[0]}
    arrays["prev_action"] = np.concatenate((arrays["action"][:1] * 0, arrays["action"][:-1]))
    arrays["done"] = np.zeros((wanted, batch), np.bool_)
    arrays["valid"] = np.ones((wanted, batch), np.bool_)
    arrays["done"][unroll // 2, 0] = True  # a game that ends: the reset is part of the work
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out


def _piece(recording: Recording, length: int) -> dict[str, np.ndarray]:
    """Return the first `length` transitions, fewer if the game is shorter."""
    blocks: list[dict[str, np.ndarray]] = []
    for block in get_game("nethack").decode(recording, 512):
        blocks.append(block)
        if sum(len(each["action"]) for each in blocks) >= length:
            break
    return {name: np.concatenate([block[name] for block in blocks])[:length] for name in blocks[0]}


def load_unrolls(path: Path, unroll: int, device: torch.device) -> list[Batch]:
    """Return the unrolls of a file on a device."""
    with np.load(path) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return [
        Batch(
            {name: value[start : start + unroll].to(device) for name, value in tensors.items()},
            [],
            tensors["done"][start : start + unroll].any(1).nonzero().flatten().tolist(),
        )
        for start in itertools.islice(range(0, len(tensors["done"]), unroll), UNROLLS)
    ]
