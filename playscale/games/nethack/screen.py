"""What a player reads off the terminal: the message, what the game waits for, and the status line."""

from __future__ import annotations

import re

import numpy as np

from playscale.games.game import Observation

COLUMNS = 80
_STATUS = re.compile(rb"(?:Dlvl|Home|Fort|End)\D*(-?\d+) .*?HP:(-?\d+)\((\d+)\).*?Xp?:?(\d+)[^T]*T:(\d+)(.*)")
_PAGE = re.compile(rb"\(end\)|\(\d+ of \d+\)")


class Screen:
    """One observation, read. Squares are flat indices into the 24x80 terminal: row * 80 + column."""

    def __init__(self) -> None:
        self.level = self.hp = self.max_hp = self.experience = self.turn = 0
        self.condition = b""  # "Hungry", "Weak", "Blind", ... as they stand behind the turn counter
        self.update_marks: tuple[str, ...] = ()

    def read(self, observation: Observation) -> None:
        chars = observation["tty_chars"]
        row, column = observation["tty_cursor"].tolist()
        self.chars = chars.ravel()
        self.colors = observation["tty_colors"].ravel()
        self.raw = chars.tobytes()
        self.row = row
        self.square = row * COLUMNS + column
        self.message = self.raw[:COLUMNS].rstrip().decode("latin-1")
        status = _STATUS.search(self.raw, 23 * COLUMNS)
        if status:
            self.level, self.hp, self.max_hp, self.experience, self.turn = (int(group) for group in status.groups()[:5])
            self.condition = status.group(6)

    @property
    def more(self) -> bool:
        """The game waits until its message has been read."""
        return b"--More--" in self.raw

    @property
    def menu(self) -> bool:
        """A list covers (part of) the map."""
        return _PAGE.search(self.raw) is not None

    @property
    def prompt(self) -> bool:
        """The game asks something in the top line."""
        return self.row == 0

    @property
    def positioning(self) -> bool:
        """The game wants a place on the map."""
        return "(For instructions type a ?)" in self.message or self.message.startswith("Where do you want to travel")


def plane(bits: np.ndarray) -> int:
    """A boolean array over squares as one integer: bit i is square i."""
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
