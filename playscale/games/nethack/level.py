"""The seen map of one dungeon level as bit planes, and path search over them.

A plane is one Python integer of 24 x 80 bits; bit i is the square i = row * 80 + column of the terminal. One step of a
flood is then a dozen shifts of 240 bytes: about a microsecond, where a queue over squares takes a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from playscale.games.nethack.screen import COLUMNS

SQUARES = 24 * COLUMNS
DIRECTIONS = {"k": -80, "l": 1, "j": 80, "h": -1, "u": -79, "n": 81, "b": 79, "y": -81}
"""The step of each direction key, the straight ones first."""
KEY_OF_STEP = {step: key for key, step in DIRECTIONS.items()}
STRAIGHT = (-80, 1, 80, -1)
DIAGONAL = (-79, 81, 79, -81)
MAP = ((1 << SQUARES) - 1) ^ ((1 << COLUMNS) - 1) ^ (((1 << 2 * COLUMNS) - 1) << 22 * COLUMNS)

# What a square shows, as flags of one byte
FLOOR, DOOR, CLOSED, WALL, BLANK, MONSTER, ITEM, TRAP = (1 << bit for bit in range(8))
YELLOW, BROWN, GREEN, CYAN, BLUE, WHITE, GRAY = 11, 3, 2, 6, 4, 15, 7


def _kinds() -> np.ndarray:
    """u8 [128 * 16]: what a character in a colour is, indexed by character * 16 + colour."""
    kinds = np.zeros((128, 16), dtype=np.uint8)
    for char in range(33, 127):
        kinds[char] = ITEM | FLOOR
    for char in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ@&';:~":
        kinds[ord(char)] = MONSTER | FLOOR
    kinds[ord(" ")] = BLANK
    for char in ".#<>{_\\":
        kinds[ord(char)] = FLOOR
    for char in "|-":
        kinds[ord(char)] = WALL
        kinds[ord(char), BROWN] = FLOOR | DOOR
        kinds[ord(char), CYAN] = ITEM | FLOOR  # an iron chain or a wand
    kinds[ord("+"), BROWN] = CLOSED
    kinds[ord("#"), [GREEN, CYAN]] = WALL  # trees and iron bars
    kinds[ord("}")] = WALL  # water, lava
    for char in "0`":
        kinds[ord(char)] = WALL  # boulders: pushed only when nothing else is left
    kinds[ord("^")] = TRAP
    kinds[ord("]")] = WALL  # a mimic
    kinds[ord("I")] = FLOOR  # something unseen was here: walking there attacks it
    return kinds.ravel()


KINDS = _kinds()
_NOT_WEST_EDGE = MAP & ~sum(1 << (row * COLUMNS) for row in range(24))


def squares(plane: int) -> Iterator[int]:
    """The squares of a plane in reading order."""
    while plane:
        low = plane & -plane
        yield low.bit_length() - 1
        plane ^= low


def straight_spread(plane: int) -> int:
    return plane << 1 | plane >> 1 | plane << 80 | plane >> 80


def spread(plane: int) -> int:
    """The plane and its eight neighbourhoods. Column 79 of the map is never used, so that rows do not run together."""
    wide = plane | plane << 1 | plane >> 1
    return wide | wide << 80 | wide >> 80


class Level:
    """One level as seen so far. What is not on the screen any more but matters is kept here."""

    def __init__(self) -> None:
        self.visited = 0
        self.downstairs = 0
        self.upstairs = 0
        self.locked = 0
        self.blocked = 0  # squares that turned out not to be enterable
        self.searched: dict[int, int] = {}

    def look(self, chars: np.ndarray, colors: np.ndarray, hero: int) -> None:
        """Read the map of one frame (flat u8 and i8 arrays of the terminal) with the hero standing on `hero`."""
        codes = (chars & 127).astype(np.int16) << 4 | (colors & 15)
        kinds = KINDS[codes]
        bits = np.packbits(np.unpackbits(kinds[None, :], axis=0, bitorder="little"), axis=1, bitorder="little")
        planes = [int.from_bytes(row.tobytes(), "little") & MAP for row in bits]
        floor, self.doors, self.closed, self.walls, self.blank, self.monsters, self.items, self.traps = planes
        here = 1 << hero
        self.monsters &= ~here
        self.visited |= here
        self.floor = (floor | here) & ~self.blocked
        self.hero = hero
        self.codes = codes
        stairs = chars == 62
        if stairs.any():
            self.downstairs = (self.downstairs | _plane(stairs)) & MAP
        if not self.upstairs:
            self.upstairs = _plane(chars == 60) & MAP

    def frontier(self) -> int:
        """Squares from which something new may be seen: not yet stood upon, beside the unknown."""
        return self.floor & ~self.visited & spread(self.blank)

    def path(self, targets: int, passable: int) -> list[int]:
        """The squares of a shortest path from the hero to the nearest target, without the first; [] when there is none.

        `passable` are the squares that may be entered; closed and open doors are entered and left straight on.
        Of targets equally near, the first in reading order is taken.
        """
        cornered = self.doors | self.closed
        layers = self._flood(targets, passable, cornered)
        if not layers:
            return []
        square = next(squares(layers[-1] & targets))
        path = [square]
        for layer in reversed(layers[1:-1]):
            square = next(before for before in self._neighbours(square, cornered) if layer >> before & 1)
            path.append(square)
        return path[::-1]

    def reachable(self, passable: int) -> int:
        """Every square that the hero can walk to."""
        cornered = self.doors | self.closed
        seen = front = 1 << self.hero
        while front:
            front = self._step(front, cornered) & passable & ~seen
            seen |= front
        return seen

    def _flood(self, targets: int, passable: int, cornered: int) -> list[int]:
        front = 1 << self.hero
        rest = passable & ~front
        layers = [front]
        if not targets & rest:
            return []
        while front:
            front = self._step(front, cornered) & rest
            rest ^= front
            layers.append(front)
            if front & targets:
                return layers
        return []

    @staticmethod
    def _step(front: int, cornered: int) -> int:
        free = front & ~cornered
        sides = free << 1 | free >> 1
        return front << 1 | front >> 1 | front << 80 | front >> 80 | (sides << 80 | sides >> 80) & ~cornered

    @staticmethod
    def _neighbours(square: int, cornered: int) -> Iterator[int]:
        for step in STRAIGHT:
            yield square + step
        if not cornered >> square & 1:
            for step in DIAGONAL:
                if not cornered >> (square + step) & 1:
                    yield square + step


def _plane(bits: np.ndarray) -> int:
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
