"""Decide which monsters to fight."""

from __future__ import annotations

import re

from playscale.games.nethack.level import (
    BLUE,
    BROWN,
    DIRECTIONS,
    GRAY,
    LIME,
    MAGENTA,
    RED,
    WHITE,
    YELLOW,
    Level,
    code,
    squares,
)

PETS = {code("d", WHITE), code("f", WHITE), code("u", BROWN)}
"""Dogs, cats and ponies: pets if they are adjacent on arrival on a level, or swap places."""
UNTOUCHABLE = {code("e", BLUE), code("e", GRAY), code("j", BLUE), code("c", YELLOW)} | {
    code("F", color) for color in range(16) if color not in (LIME, MAGENTA)
}
"""Floating eyes, gas spores, blue jellies, cockatrices and moulds harm who hits them, otherwise they are harmless."""
_WILD = re.compile(
    r"The (?:kitten|housecat|large cat|little dog|dog|large dog|pony|horse) (?:just )?(?:bites|kicks|misses)"
)
DWARF = code("h", RED)
MEMORY = 20  # turns for which a peaceful monster out of sight is remembered
RANGE = 7  # squares that a missile flies


class Monsters:
    """The monsters of one level: which are peaceful, tame or dangerous to touch, and which to fight now."""

    def __init__(self) -> None:
        self._peaceful: dict[int, tuple[int, int]] = {}  # square: (code, turn when last seen there)
        self._tame: set[int] | None = None
        self.hostile = self.barred = self.untouchable = 0

    def spare(self, level: Level, square: int, turn: int) -> None:
        """Remember that the monster on this square is peaceful."""
        self._peaceful[square] = int(level.codes[square]), turn

    def learn(self, message: str) -> None:
        """Distinguish pets from wild animals of their kind by the messages about them."""
        if self._tame is not None and message:
            if "swap places" in message or "in the way" in message:
                self._tame = PETS
            elif _WILD.search(message):
                self._tame = set()

    def look(self, level: Level, turn: int) -> None:
        """Sort the monsters in sight: `hostile`, `barred` (squares not to be entered) and, of these, `untouchable`."""
        if self._peaceful:
            self._follow(level, turn)
        if self._tame is None:
            near = {int(level.codes[level.hero + step]) for step in DIRECTIONS.values()}
            self._tame = near & PETS
        self.hostile = level.monsters
        self.barred = self.untouchable = 0
        for square in squares(level.monsters):
            kind = int(level.codes[square])
            if square in self._peaceful or kind in UNTOUCHABLE:
                self.hostile &= ~(1 << square)
                self.barred |= 1 << square
                self.untouchable |= (kind in UNTOUCHABLE) << square
            elif kind in self._tame:
                self.hostile &= ~(1 << square)

    def adjacent(self, hero: int) -> list[str]:
        """Return the keys of the directions in which a hostile monster stands beside the hero."""
        return [key for key, step in DIRECTIONS.items() if self.hostile >> (hero + step) & 1]

    def in_line(self, level: Level) -> str:
        """Return the key of the direction in which a missile would first hit a hostile monster; "" if there is none."""
        for key, step in DIRECTIONS.items():
            square = level.hero + step
            for distance in range(1, RANGE):
                if not level.floor >> square & 1:
                    break
                if level.monsters >> square & 1:
                    if self.hostile >> square & 1 and distance > 1:
                        return key
                    break
                square += step
        return ""

    def _follow(self, level: Level, turn: int) -> None:
        """Update the squares of peaceful monsters that have moved by one step."""
        followed = {}
        for square, (kind, seen) in self._peaceful.items():
            nearby = (square, *(square + step for step in DIRECTIONS.values()))
            now = next((near for near in nearby if level.monsters >> near & 1 and level.codes[near] == kind), None)
            if now is not None:
                followed[now] = kind, turn
            elif turn - seen < MEMORY:
                followed[square] = kind, seen
        self._peaceful = followed
