"""The map of one dungeon level, as far as it was seen, as bit planes, and path search over them.

A plane is one Python integer of 24 x 80 bits; bit i is the square i = row * 80 + column of the terminal. One step of a
flood fill is a dozen shifts of 240 bytes: about 1 microsecond, where a queue over squares takes 100.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from playscale.games.nethack.screen import COLUMNS, plane

SQUARES = 24 * COLUMNS
STRAIGHT = {"k": -80, "l": 1, "j": 80, "h": -1}
DIAGONAL = {"u": -79, "n": 81, "b": 79, "y": -81}
DIRECTIONS = {**STRAIGHT, **DIAGONAL}
"""The offset (in squares) of each direction key."""
KEY_OF_STEP = {step: key for key, step in DIRECTIONS.items()}
MAP = (1 << 22 * COLUMNS) - (1 << COLUMNS)
"""The squares of the map: rows 1 to 21. Its column 79 is never used, so that shifted rows do not run together."""

_ROW = (1 << COLUMNS) - 1

FLOOR, DOOR, CLOSED, WALL, BLANK, MONSTER, BOULDER, TRAP = (1 << bit for bit in range(8))
"""Contents of a square, as flags of one byte. Monsters and objects are on FLOOR."""

BLACK, RED, GREEN, BROWN, BLUE, MAGENTA, CYAN, GRAY, _, ORANGE, LIME, YELLOW, _, _, _, WHITE = range(16)
"""NetHack's colours."""


def code(char: str, color: int) -> int:
    """Return a character in a colour as one number, as in Level.codes."""
    return ord(char) << 4 | color


def _kinds() -> np.ndarray:
    """Return u8 [128 * 16]: the flags of a character in a colour, by code()."""
    kinds = np.full((128, 16), FLOOR, dtype=np.uint8)
    kinds[:33] = BLANK
    for char in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ@&';:~":
        kinds[ord(char)] = MONSTER | FLOOR
    kinds[ord("I")] = FLOOR  # something unseen was here: walking there attacks it
    for char in "|-":
        kinds[ord(char), [GRAY, GREEN, RED, WHITE, BLUE, YELLOW]] = WALL
        kinds[ord(char), BROWN] = FLOOR | DOOR
    kinds[ord("+"), BROWN] = CLOSED
    kinds[ord("#"), [GREEN, CYAN]] = WALL  # trees and iron bars
    kinds[ord("}")] = kinds[ord("]")] = WALL  # water and lava; a mimic
    kinds[ord("0")] = kinds[ord("`")] = BOULDER
    kinds[ord("^")] = TRAP
    kinds[ord("^"), MAGENTA] = TRAP | FLOOR  # trap doors and teleporters are useful
    return kinds.ravel()


KINDS = _kinds()


def squares(bits: int) -> Iterator[int]:
    """Yield the squares of a plane in reading order."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def spread(bits: int) -> int:
    """Return a plane together with the eight neighbours of each of its squares."""
    wide = bits | bits << 1 | bits >> 1
    return wide | wide << 80 | wide >> 80


class Level:
    """One level as seen so far, with what the screen no longer shows."""

    def __init__(self) -> None:
        self.hero = self.monsters = self.boulders = 0
        self.visited = 0
        self.downstairs = 0
        self.upstairs = 0
        self.wrong = 0  # stairs down into the mines
        self.cornered = 0  # doors, which cannot be entered or left diagonally
        self.tried = 0  # trap doors and teleporters that were stepped upon
        self.locked = 0  # closed doors that do not open
        self.blocked = 0  # squares that could not be entered
        self.immovable = 0  # boulders that cannot be pushed
        self.undiggable = 0
        self.loot = 0  # where a dwarf was killed, who may have had a pick-axe
        self.travel = True  # whether the game's own travel command reaches the stairs
        self.spot = 0  # the square to be searched from next, 0 when none is chosen
        self.statues: dict[int, int] = {}  # squares with something that looks like a monster, and its code
        self.searches = np.zeros(SQUARES, dtype=np.float32)  # how often each square has been searched from beside it

    def look(self, chars: np.ndarray, colors: np.ndarray, hero: int) -> None:
        """Read the map of one frame (flat u8 and i8 arrays of the terminal) with the hero standing on `hero`."""
        self.codes = (chars & 127).astype(np.int16) << 4 | (colors & 15)
        kinds = KINDS[self.codes]
        bits = np.packbits(np.unpackbits(kinds[None, :], axis=0, bitorder="little"), axis=1, bitorder="little")
        planes = [int.from_bytes(row.tobytes(), "little") & MAP for row in bits]
        floor, doors, self.closed, self.walls, self.blank, monsters, self.boulders, self.traps = planes
        here = 1 << hero
        self.hero = hero
        self.monsters = monsters & ~here
        for square, kind in self.statues.items():
            if self.codes[square] == kind:
                self.monsters &= ~(1 << square)
        self.visited |= here
        floors = plane(self.codes >> 4 == ord("."))
        self.cornered = (self.cornered & ~floors) | doors | self.closed
        self.floor = (floor | self.closed | here) & ~self.blocked & ~self.locked
        self.upstairs = (self.upstairs | plane(chars == ord("<")) & MAP) & ~self.closed
        self.downstairs |= plane(chars == ord(">")) & MAP
        self.shafts = plane(self.codes == code("^", MAGENTA)) & MAP & ~self.tried

    def cave(self) -> bool:
        """Return whether the hero is in a cave: the visible floor without doorways does not fill a rectangle."""
        walls = self.walls
        doorways = (walls << 1 & walls >> 1) | (walls << 80 & walls >> 80) | plane(self.codes >> 4 == ord("#"))
        seen = 0
        for layer in self.layers(self.floor & ~doorways & ~self.cornered):
            seen |= layer
        rows = [row for row in range(1, 22) if seen >> row * COLUMNS & _ROW]
        columns = 0
        for row in rows:
            columns |= seen >> row * COLUMNS & _ROW
        width = columns.bit_length() - (columns & -columns).bit_length() + 1
        return seen.bit_count() < 0.7 * width * (rows[-1] - rows[0] + 1)

    def frontier(self) -> int:
        """Return the squares that may reveal something new: unvisited ones beside unknown squares, or closed doors."""
        return self.floor & ~self.visited & (spread(self.blank) | self.closed)

    def path(self, targets: int, passable: int) -> list[int]:
        """Return the squares of a shortest path from the hero to the nearest target, without the first; [] if none.

        `passable` are the squares that may be entered. Of several nearest targets the first in reading order is taken;
        of several shortest paths, one whose last steps are straight.
        """
        targets &= ~(1 << self.hero)
        layers = self._flood(targets, passable | targets) if targets else []
        if not layers:
            return []
        square = next(squares(layers[-1] & targets))
        path = [square]
        for layer in reversed(layers[1:-1]):
            square = next(before for before in self._neighbours(square) if layer >> before & 1)
            path.append(square)
        return path[::-1]

    def layers(self, passable: int) -> list[int]:
        """Return the squares that the hero can reach, one plane per distance."""
        return self._flood(0, passable)

    def _flood(self, targets: int, passable: int) -> list[int]:
        """Return planes of equal distance up to the first with a target ([] if none has one); without targets, all."""
        front = 1 << self.hero
        rest = passable & ~front
        layers = [front]
        if targets and not targets & rest:
            return []
        while True:
            free = front & ~self.cornered
            sides = free << 1 | free >> 1
            front = (
                front << 1 | front >> 1 | front << 80 | front >> 80 | (sides << 80 | sides >> 80) & ~self.cornered
            ) & rest
            if not front:
                return [] if targets else layers
            rest ^= front
            layers.append(front)
            if front & targets:
                return layers

    def _neighbours(self, square: int) -> Iterator[int]:
        for step in STRAIGHT.values():
            yield square + step
        if not self.cornered >> square & 1:
            for step in DIAGONAL.values():
                if not self.cornered >> (square + step) & 1:
                    yield square + step
