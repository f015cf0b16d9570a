"""Text of a game's screen for a terminal, with the agent's decision beside it, and curves and keys below it."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from playscale.report.replay import CELLS, COLUMNS, ROWS, Replay
from playscale.report.text import printable

PANEL = 34  # columns of the agent's decision beside the game
BARS = " ▁▂▃▄▅▆▇█"
KEYS_LINE = "space plays, ←→ step, [ ] 100 steps, ↑↓ speed, Home End, number Enter, n p game, q quits"
BLACK = 90  # of a terminal: NetHack's black is shown in dark grey, as on a page


class View:
    """A game as it is drawn, `index` of `count`; keeps the cells of the screen drawn last."""

    def __init__(self, replay: Replay, index: int = 0, count: int = 1) -> None:
        self.replay, self.index, self.count = replay, index, count
        self._clear()

    def _clear(self) -> None:
        self._chars, self._colors, self._shown = np.full(CELLS, 32, np.uint8), np.zeros(CELLS, np.uint8), -1

    def lines(self, frame: int, columns: int, *, coloured: bool) -> list[str]:
        """Return the rows of the game's screen, the first `columns` of each."""
        if frame < self._shown:
            self._clear()
        if frame > self._shown:
            self.replay.screens.advance(self._chars, self._colors, self._shown, frame)
            self._shown = frame
        cursor_row, cursor_column = self.replay.screens.cursor[frame].tolist()
        chars, colors = self._chars.reshape(ROWS, COLUMNS), self._colors.reshape(ROWS, COLUMNS)
        return [
            _row(chars[r, :columns], colors[r, :columns], cursor_column if r == cursor_row else -1, coloured)
            for r in range(ROWS)
        ]


def _row(chars: NDArray, colors: NDArray, cursor: int, coloured: bool) -> str:
    parts, look = [], ""
    for column, (code, color) in enumerate(zip(chars.tolist(), colors.tolist(), strict=True)):
        shade = (BLACK if color % 8 == 0 else (82 if color > 7 else 30) + color) if coloured else 0
        wanted = "\x1b[0;7m" if column == cursor else f"\x1b[0;{shade}m" if shade else "\x1b[0m"
        if wanted != look:
            parts.append(wanted)
            look = wanted
        parts.append(" " if code < 32 or 126 < code < 160 else chr(code))
    return "".join([*parts, "\x1b[0m"])


def panel(replay: Replay, frame: int) -> list[str]:
    """Return the lines of what the agent did and expected at a step; none if nothing is known."""
    if replay.action is None:
        return []
    taken = replay.actions[replay.action[frame]]
    decisions = replay.decisions
    if decisions is None:
        return [f"action {taken}"]
    likely = zip(decisions.likely[:, frame].tolist(), decisions.probability[:, frame].tolist(), strict=True)
    rows = [f"{'>' if a == replay.action[frame] else ' '}{share:6.1%} {replay.actions[a]}" for a, share in likely]
    value = [] if decisions.value is None else [f"value {decisions.value[frame]:.3g}"]
    return [f"takes {taken} ({decisions.taken[frame]:.1%})", *rows, *value]


def sparkline(values: NDArray, columns: int, frame: int) -> str:
    """Return a curve over the steps in one line of text, with the cell of step `frame` in reverse."""
    bins = min(columns, len(values))
    starts = np.arange(bins) * len(values) // bins
    highest = np.maximum.reduceat(values.astype(float), starts)
    low, high = highest.min(), highest.max()
    level = np.zeros(bins, int) if high == low else np.rint((highest - low) / (high - low) * 7).astype(int)
    cells = [BARS[1 + step] for step in level.tolist()]
    here = int(np.searchsorted(starts, frame, side="right")) - 1
    return "".join([*cells[:here], "\x1b[7m", cells[here], "\x1b[0m", *cells[here + 1 :]])


def draw(view: View, frame: int, playing: bool, speed: int, typed: str, size: os.terminal_size) -> str:
    """Return what the terminal is to show, as one text.

    A terminal that is too small shows the upper left part; of one without a line below the game, the last line says in
    a pause which step it is.
    """
    replay, (columns, rows) = view.replay, size
    coloured = not os.environ.get("NO_COLOR")
    lines = view.lines(frame, columns, coloured=coloured)
    side = [printable(line) for line in panel(replay, frame)]
    beside = columns >= COLUMNS + PANEL
    if beside:
        lines = [
            f"{line}  {text[: columns - COLUMNS - 2]}" for line, text in zip(lines, side + [""] * ROWS, strict=False)
        ]
    of_games = f"game {view.index + 1} of {view.count}: " if view.count > 1 else ""
    state = [f"step {frame + 1:,} of {len(replay):,}"]
    state += [] if replay.score is None else [f"score {replay.score[frame]:,}"]
    state += [] if replay.depth is None or not replay.depth[frame] else [f"depth {replay.depth[frame]}"]
    state += ["playing" if playing else "paused", f"speed {speed}x", *([f"go to {typed}"] if typed else [])]
    below = [printable(", ".join(state)), *([] if beside else side), *_curves(replay, frame, columns)]
    below += [printable(of_games + replay.title), KEYS_LINE]
    whole = [*lines, *(line if "\x1b" in line else line[:columns] for line in below)][: max(1, rows)]
    if rows <= ROWS and not playing:
        whole[-1] = below[0][:columns]
    return "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in whole) + "\x1b[J"


def _curves(replay: Replay, frame: int, columns: int) -> list[str]:
    curves = {"score": replay.score, "depth": replay.depth}
    wide = min(columns, COLUMNS + PANEL) - 7
    return [
        f"{name:6} {sparkline(values, wide, frame)}"
        for name, values in curves.items()
        if values is not None and wide > 0
    ]
