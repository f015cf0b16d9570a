"""Choose where to search for hidden doors and corridors when nothing visible is left to explore."""

from __future__ import annotations

import numpy as np

from playscale.games.nethack.level import Level, squares

DECAY = 0.1  # factor on the value of a square after one round: a door there is missed with probability (6/7)^20
ROUND = 20  # turns of one round of searching
DEAD_END = 15.0  # value of the end of a corridor, where a wall square has at most 1
ROWS, COLUMNS = 24, 80


def _array(bits: int) -> np.ndarray:
    """Return a plane (level.py) as f32 [24, 80]."""
    data = np.frombuffer(bits.to_bytes(ROWS * COLUMNS // 8, "little"), dtype=np.uint8)
    return np.unpackbits(data, bitorder="little").reshape(ROWS, COLUMNS).astype(np.float32)


def _box(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Sum over windows of (2 rows + 1) x (2 columns + 1) squares around every square; zero outside the map."""
    padded = np.pad(values, ((rows + 1, rows), (columns + 1, columns))).cumsum(0).cumsum(1)
    height, width = 2 * rows + 1, 2 * columns + 1
    return padded[height:, width:] - padded[:-height, width:] - padded[height:, :-width] + padded[:-height, :-width]


def search_values(level: Level) -> np.ndarray:
    """Return f32 [24 * 80]: the value of a round of searching at each square.

    A wall hides a door with a probability that grows with the unknown area around it; the end of a corridor most likely
    continues.
    """
    blank = _array(level.blank)
    unknown = _box(blank, 4, 8) / (9 * 17)
    suspicious = _array(level.walls) * (_box(blank, 1, 1) > 0) * unknown
    fresh = DECAY ** level.searches.reshape(ROWS, COLUMNS)
    values = _box(suspicious * fresh, 1, 1)
    floor, walls = _array(level.floor), _array(level.walls)
    corridor = level.codes.reshape(ROWS, COLUMNS) >> 4 == ord("#")
    outside = (_array(1 << level.hero) > 0) & (_box(walls, 1, 1) == 0)
    doorway = (floor > 0) & ((_box(walls, 1, 0) == 2) | (_box(walls, 0, 1) == 2))
    ways = _box(floor, 1, 0) + _box(floor, 0, 1)
    ends = ((corridor | outside) & (_box(floor, 1, 1) <= 2)) | (doorway & (ways <= 3))
    values += DEAD_END * ends * unknown * fresh
    values[:, :1] = values[:, 79:] = 0
    return values.ravel()


def best_spot(level: Level, passable: int) -> int:
    """Return the square to search from next: the largest value per turn, the walk there included."""
    values = search_values(level)
    best, best_worth = level.hero, -np.inf
    for distance, layer in enumerate(level.layers(passable)):
        for square in squares(layer):
            worth = values[square] / (ROUND + distance)
            if worth > best_worth:
                best, best_worth = square, worth
    return best


def note_round(level: Level) -> None:
    """Remember that the squares around the hero have been searched once more."""
    for row in (-80, 0, 80):
        level.searches[level.hero + row - 1 : level.hero + row + 2] += 1
