"""Games to watch in the page: each is what changed from screen to screen, compressed.

T screens of 24 rows and 80 columns. A screen is given by the cells in which it differs from the one before (the first
from a blank one), so that a browser shows screen k by applying the changes up to k.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from playscale.report.html import render

ROWS, COLUMNS = 24, 80
CELLS = ROWS * COLUMNS
SPEEDS = (1, 2, 5, 10, 20, 50, 100)  # times 10 screens a second
ICONS = {"start": "M3 2h2v12H3zM14 2v12L6 8z", "back": "M12 2v12L4 8z", "forward": "M4 2v12l8-6z"}


@dataclass(frozen=True)
class Replay:
    """The terminal of one game. ValueError when the arrays do not fit together.

    chars u8 [T,24,80]; colors i8 [T,24,80], 0..15 in curses order with 8 for bright; cursor i16 [T,2], row and column;
    score i32 [T], if known.
    """

    title: str
    caption: str
    chars: NDArray[np.uint8]
    colors: NDArray[np.int8]
    cursor: NDArray[np.int16]
    score: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        frames = len(self.chars)
        wanted = {"chars": (frames, ROWS, COLUMNS), "colors": (frames, ROWS, COLUMNS), "cursor": (frames, 2)}
        if self.score is not None:
            wanted["score"] = (frames,)
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f'replay "{self.title}": {name} is {getattr(self, name).shape}, not {shape}')
        if frames == 0:
            raise ValueError(f'replay "{self.title}": it has no screens')

    def __len__(self) -> int:
        return len(self.chars)


def encode(replay: Replay) -> str:
    """Return the replay as base64 of deflated (zlib) little-endian arrays, one after the other.

    u32 T, u32 n (changed cells), u32 1 if there is a score else 0; i32 score [T] (0 without); u16 changed [T], the
    number of cells that change; u16 step [n], cell (row * 80 + column) minus the previous one changed; u8 chars [n];
    u8 colours [n]; u8 rows [T], u8 columns [T] of the cursor.
    """
    frames = len(replay)
    chars = np.concatenate([np.full((1, CELLS), 32, np.uint8), replay.chars.reshape(frames, CELLS)])
    colours = np.concatenate(
        [np.zeros((1, CELLS), np.uint8), replay.colors.reshape(frames, CELLS).astype(np.uint8) & 15]
    )
    frame, cell = np.nonzero((chars[1:] != chars[:-1]) | (colours[1:] != colours[:-1]))
    step = np.diff(cell, prepend=0)
    first = np.diff(frame, prepend=-1) > 0
    step[first] = cell[first]
    score = np.zeros(frames, "<i4") if replay.score is None else replay.score.astype("<i4")
    cursor = np.clip(replay.cursor, 0, (ROWS - 1, COLUMNS - 1)).astype(np.uint8)
    parts = (
        np.array([frames, len(cell), replay.score is not None], "<u4"),
        score,
        np.bincount(frame, minlength=frames).astype("<u2"),
        step.astype("<u2"),
        chars[1:][frame, cell],
        colours[1:][frame, cell],
        cursor[:, 0],
        cursor[:, 1],
    )
    return base64.b64encode(zlib.compress(b"".join(part.tobytes() for part in parts), 9)).decode()


def players(replays: Sequence[Replay]) -> Markup:
    """Return the games to watch: the first open, the others folded. replay.js brings them to life."""
    shown = [{"title": one.title, "caption": one.caption, "frames": encode(one)} for one in replays]
    return render("replay.html", replays=shown, icons=ICONS, speeds=SPEEDS)
