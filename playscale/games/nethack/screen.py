"""Read the terminal as a player does: the message, what the game waits for, and the status lines."""

from __future__ import annotations

import re

import numpy as np

from playscale.games.game import Observation

COLUMNS = 80
_STATUS = re.compile(rb"(?:Dlvl|Home|Fort|End)\D*(-?\d+) .*?HP:(-?\d+)\((\d+)\) Pw:(\d+)\S* .*?Xp:(\d+)\S* T:(\d+)(.*)")
_LEVEL = re.compile(rb"\bDlvl:(\d+)")
_PAGE = re.compile(rb"\(end\)|\(\d+ of \d+\)")
_ITEM = re.compile(r"(?:^|  )([a-zA-Z]) - (.*?)(?:  |$)")


class Screen:
    """The parsed last observation. Squares are flat indices into the 24x80 terminal: row * 80 + column."""

    def __init__(self) -> None:
        self.level = self.hp = self.max_hp = self.power = self.experience = self.turn = 0
        self.condition = b""  # "Hungry", "Weak", "Blind", ... as shown after the turn counter

    def read(self, observation: Observation) -> None:
        chars = observation["tty_chars"]
        self.row, column = observation["tty_cursor"].tolist()
        self.square = self.row * COLUMNS + column
        self.chars = chars.ravel()
        self.colors = observation["tty_colors"].ravel()
        self.raw = chars.tobytes()
        self.message = self.raw[:COLUMNS].rstrip().decode("latin-1")
        status = _STATUS.search(self.raw, 23 * COLUMNS)
        if status:
            numbers = map(int, status.groups()[:6])
            self.level, self.hp, self.max_hp, self.power, self.experience, self.turn = numbers
            self.condition = status.group(7)

    @property
    def more(self) -> bool:
        """True when the game waits until its message has been read."""
        return b"--More--" in self.raw

    @property
    def menu(self) -> bool:
        """True when a list covers (part of) the map."""
        return _PAGE.search(self.raw) is not None

    @property
    def prompt(self) -> bool:
        """True when the game asks a question in the top line."""
        return self.row == 0

    @property
    def title(self) -> str:
        """The rank of the character: "Digger", "Hatamoto", ..."""
        return self.raw[22 * COLUMNS : 22 * COLUMNS + 31].decode("latin-1").partition(" the ")[2].strip()

    def items(self) -> dict[str, str]:
        """Return the lines "letter - description" of the list on the screen, by letter."""
        lines = (self.raw[row * COLUMNS : (row + 1) * COLUMNS].decode("latin-1") for row in range(24))
        return {letter: text for line in lines for letter, text in _ITEM.findall(line)}


def dungeon_levels(chars: np.ndarray) -> np.ndarray:
    """Return u8 [T], the dungeon level in the status line of each screen, chars u8 [T, 24, 80]; 0: none is shown."""
    found = (_LEVEL.search(line.tobytes()) for line in chars[:, 23])
    return np.array([min(int(level[1]), 255) if level else 0 for level in found], np.uint8)


def plane(bits: np.ndarray) -> int:
    """Return a boolean array over squares as one integer: bit i is square i."""
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
