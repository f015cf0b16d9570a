"""Games to watch in a page: each is what changed from screen to screen, compressed.

T screens of 24 rows and 80 columns. A screen is given by the cells in which it differs from the one before (the first
from a blank one), so that a browser shows screen k by applying the changes up to k.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from playscale.report.html import render

if TYPE_CHECKING:
    from playscale.rollout.decisions import Decisions

ROWS, COLUMNS = 24, 80
CELLS = ROWS * COLUMNS
SPEEDS = (1, 2, 5, 10, 20, 50, 100)  # times 10 screens a second
SCREENS_PER_SECOND = 10  # at speed 1
ICONS = {"start": "M3 2h2v12H3zM14 2v12L6 8z", "back": "M12 2v12L4 8z", "forward": "M4 2v12l8-6z"}
PARTS = 1000  # that a probability is rounded to
_TYPES = {"<f4": "f32", "<i4": "i32", "<u2": "u16", "|u1": "u8"}


@dataclass(frozen=True)
class ScreenChanges:
    """T screens as n changed cells.

    changed u16 [T], the number of cells in which a screen differs from the one before; cell u16 [n], row * 80 + column
    of each, ascending in a screen; chars u8 [n]; colors u8 [n], 0..15; cursor u8 [T,2], row and column.
    """

    changed: NDArray[np.uint16]
    cell: NDArray[np.uint16]
    chars: NDArray[np.uint8]
    colors: NDArray[np.uint8]
    cursor: NDArray[np.uint8]

    @classmethod
    def of(cls, blocks: Iterable[Sequence[NDArray]]) -> ScreenChanges:
        """Return the changes of consecutive blocks of screens.

        Args:
            blocks: chars u8 [t,24,80]; colors i8 [t,24,80], 0..15 in curses order with 8 for bright; cursor i16 [t,2].

        Raises:
            ValueError: The arrays do not fit together, or there is no screen.
        """
        before = np.full((1, CELLS), 32, np.uint8), np.zeros((1, CELLS), np.uint8)
        parts = []
        for chars, colors, cursor in blocks:
            _check_screens(chars, colors, cursor)
            whole = chars.reshape(-1, CELLS), colors.reshape(-1, CELLS).astype(np.uint8) & 15
            all_chars, all_colors = (np.concatenate(pair) for pair in zip(before, whole, strict=True))
            frame, cell = np.nonzero((all_chars[1:] != all_chars[:-1]) | (all_colors[1:] != all_colors[:-1]))
            parts.append((
                np.bincount(frame, minlength=len(chars)).astype(np.uint16),
                cell.astype(np.uint16),
                whole[0][frame, cell],
                whole[1][frame, cell],
                np.clip(cursor, 0, (ROWS - 1, COLUMNS - 1)).astype(np.uint8),
            ))  # fmt: skip
            before = all_chars[-1:], all_colors[-1:]
        if not sum(len(changed) for changed, *_ in parts):
            raise ValueError("it has no screens")
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.changed)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.changed, dtype=np.int64)

    def advance(self, chars: NDArray[np.uint8], colors: NDArray[np.uint8], shown: int, frame: int) -> None:
        """Turn the cells [24*80] of screen `shown` into those of a later screen; -1 is the blank one before the first.

        Where a cell changes several times, numpy keeps the last value assigned.
        """
        some = slice(int(self._ends[shown]) if shown >= 0 else 0, int(self._ends[frame]))
        chars[self.cell[some]], colors[self.cell[some]] = self.chars[some], self.colors[some]


def _check_screens(chars: NDArray, colors: NDArray, cursor: NDArray) -> None:
    screens = (len(chars), ROWS, COLUMNS)
    wanted = {"chars": (chars, screens), "colors": (colors, screens), "cursor": (cursor, (len(chars), 2))}
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} is {array.shape}, not {shape}")


@dataclass(frozen=True)
class Replay:
    """A game to watch. ValueError when the arrays do not fit together.

    score i32 [T], if known; depth u8 [T], if the game has one; actions: their names, and action i64 [T], the one taken
    at each screen, if known; decisions: what the agent expected, if its checkpoint is known.
    """

    title: str
    caption: str
    screens: ScreenChanges
    score: NDArray[np.int32] | None = None
    depth: NDArray[np.uint8] | None = None
    actions: tuple[str, ...] = ()
    action: NDArray[np.int64] | None = None
    decisions: Decisions | None = None

    def __post_init__(self) -> None:
        for name in ("score", "depth", "action"):
            array = getattr(self, name)
            if array is not None and array.shape != (len(self),):
                raise ValueError(f'replay "{self.title}": {name} is {array.shape}, not {(len(self),)}')

    def __len__(self) -> int:
        return len(self.screens)


def encode(replay: Replay) -> str:
    """Return the game without the agent's decisions, packed.

    changed u16 [T] as in ScreenChanges; step u16 [n], cell (row * 80 + column) minus the previous one changed; chars,
    colours u8 [n]; rows, columns u8 [T] of the cursor; and what is known of score i32 [T], depth u8 [T], action u16 [T]
    and actions (their names).
    """
    screens = replay.screens
    step = np.diff(screens.cell.astype(np.int64), prepend=0)
    first = (np.cumsum(screens.changed, dtype=np.int64) - screens.changed)[screens.changed > 0]
    step[first] = screens.cell[first]
    known = {"score": replay.score, "depth": replay.depth, "action": replay.action}
    return _pack(
        {
            "score": np.int32, "depth": np.uint8, "action": np.uint16, "changed": np.uint16, "step": np.uint16,
            "chars": np.uint8, "colours": np.uint8, "rows": np.uint8, "columns": np.uint8,
        },
        {
            **{name: array for name, array in known.items() if array is not None},
            "changed": screens.changed, "step": step, "chars": screens.chars, "colours": screens.colors,
            "rows": screens.cursor[:, 0], "columns": screens.cursor[:, 1],
        },
        actions=replay.actions,
    )  # fmt: skip


def encode_decisions(decisions: Decisions) -> str:
    """Return the agent's decisions, packed; probabilities in thousandths.

    likely u16 [K*T], the most likely action of each screen, then the second, ...; probability u16 [K*T] of these; taken
    u16 [T], that of the action taken; value f32 [T], if the agent has a value head.
    """
    types = {"likely": np.uint16, "probability": np.uint16, "taken": np.uint16, "value": np.float32}
    arrays = {
        "likely": decisions.likely.ravel(),
        "probability": np.rint(PARTS * decisions.probability.ravel()),
        "taken": np.rint(PARTS * decisions.taken),
    }
    return _pack(types, arrays if decisions.value is None else {**arrays, "value": decisions.value})


def _pack(types: Mapping[str, type], arrays: Mapping[str, NDArray], **more: Any) -> str:
    """Return base64 of deflated (zlib): u32 length of what follows, JSON, the arrays one after the other, widest first.

    JSON: {"arrays": [[name, type, length], ...], and `more`}, with spaces at its end to a multiple of 4 bytes.
    """
    packed = {name: array.astype(np.dtype(types[name]).newbyteorder("<")) for name, array in arrays.items()}
    ordered = sorted(packed.items(), key=lambda item: -item[1].itemsize)
    head = json.dumps({**more, "arrays": [[name, _TYPES[a.dtype.str], len(a)] for name, a in ordered]}).encode()
    head += b" " * (-len(head) % 4)
    parts = [np.array([len(head)], "<u4").tobytes(), head, *(array.tobytes() for _, array in ordered)]
    return base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()


def players(replays: Sequence[Replay]) -> Markup:
    """Return the games to watch: the first open, the others folded. replay.js brings them to life."""
    shown = [{"title": one.title, "caption": one.caption, "frames": encode(one)} for one in replays]
    return render("replays.html", replays=shown, icons=ICONS, speeds=SPEEDS)
