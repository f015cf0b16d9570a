"""Where to look for what is hidden, when nothing seen is left to explore."""

from __future__ import annotations

import numpy as np

from playscale.games.nethack.level import Level, squares

FORGETTING = 0.1  # what one round of searching leaves of the hope put in a square: a door is missed with (6/7)^20
ROUND = 20  # turns that a round of searching takes
DEAD_END = 15.0  # hope put in the end of a corridor, where a wall square has at most one
ROWS, COLUMNS = 24, 80


def _array(bits: int) -> np.ndarray:
    """A plane as f32 [24, 80]."""
    data = np.frombuffer(bits.to_bytes(ROWS * COLUMNS // 8, "little"), dtype=np.uint8)
    return np.unpackbits(data, bitorder="little").reshape(ROWS, COLUMNS).astype(np.float32)


def _box(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Sums over windows of (2 rows + 1) x (2 columns + 1) squares around every square; nothing lies outside."""
    padded = np.pad(values, ((rows + 1, rows), (columns + 1, columns))).cumsum(0).cumsum(1)
    height, width = 2 * rows + 1, 2 * columns + 1
    return padded[height:, width:] - padded[:-height, width:] - padded[height:, :-width] + padded[:-height, :-width]


def hopes(level: Level) -> np.ndarray:
    """f32 [24 * 80]: how much a round of searching is worth at each square.

    A wall hides a door with a chance that grows with the unknown land around it; a corridor's end most likely goes on.
    """
    blank = _array(level.blank)
    unknown = _box(blank, 4, 8) / (9 * 17)
    suspicious = _array(level.walls) * (_box(blank, 1, 1) > 0) * unknown
    fresh = FORGETTING ** level.searches.reshape(ROWS, COLUMNS)
    hope = _box(suspicious * fresh, 1, 1)
    floor, walls = _array(level.floor), _array(level.walls)
    corridor = level.codes.reshape(ROWS, COLUMNS) >> 4 == ord("#")
    outside = (_array(1 << level.hero) > 0) & (_box(walls, 1, 1) == 0)
    doorway = (floor > 0) & ((_box(walls, 1, 0) == 2) | (_box(walls, 0, 1) == 2))
    ways = _box(floor, 1, 0) + _box(floor, 0, 1)
    ends = ((corridor | outside) & (_box(floor, 1, 1) <= 2)) | (doorway & (ways <= 3))
    hope += DEAD_END * ends * unknown * fresh
    hope[:, :1] = hope[:, 79:] = 0
    return hope.ravel()


def best_spot(level: Level, passable: int) -> int:
    """The square worth searching from next, the way there counted."""
    hope = hopes(level)
    best, value = level.hero, -np.inf
    for distance, layer in enumerate(level.layers(passable)):
        for square in squares(layer):
            worth = hope[square] / (ROUND + distance)
            if worth > value:
                best, value = square, worth
    return best


def note_round(level: Level) -> None:
    """Remember that the squares around the hero have been searched once more."""
    for row in (-80, 0, 80):
        level.searches[level.hero + row - 1 : level.hero + row + 2] += 1
