"""Play games in the terminal: the keyboard, what is shown, and when."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Self

from playscale.cli.terminal_screen import View, draw
from playscale.report.replay import SCREENS_PER_SECOND, SPEEDS, Replay

if TYPE_CHECKING:
    from playscale.study.kept_games import KeptGame

FAR = 100  # steps of the long keys
DRAWN_SECONDS = 1 / 30  # between two screens at least
LONGEST_SECONDS = 1.0  # that playing goes on at once: a suspended one does not jump
IDLE_SECONDS = 0.25  # until the size of the terminal is looked at again
ESCAPE = "\x1b"
ESCAPE_SECONDS = 0.05  # that the rest of a key's sequence may take
KEYS = {
    " ": "toggle", "\x1b[D": "back", "\x1b[C": "forward", "h": "back", "l": "forward",
    "\x1b[1;2D": "far back", "\x1b[1;2C": "far forward", "[": "far back", "]": "far forward",
    "\x1b[5~": "far back", "\x1b[6~": "far forward",
    "\x1b[A": "faster", "\x1b[B": "slower", "k": "faster", "j": "slower", "+": "faster", "-": "slower",
    "\x1b[H": "start", "\x1b[1~": "start", "\x1bOH": "start", "\x1b[F": "end", "\x1b[4~": "end", "\x1bOF": "end",
    "\r": "go", "\n": "go", "\x7f": "rub", "\x08": "rub",
    "n": "next", "p": "previous", "q": "quit", "\x04": "quit",
}  # fmt: skip
ARROWS_OF_APPLICATIONS = {f"\x1bO{letter}": KEYS[f"\x1b[{letter}"] for letter in "ABCD"}
DIGITS = 9  # of a step's number at most


class Playback:
    """Where a game is, and whether and at what speed it plays. `typed`: the digits of a step to go to."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.frame = 0
        self.playing = frames > 1
        self.speed = 0
        self.typed = ""
        self._due = 0.0

    def go(self, frame: int) -> None:
        self.frame = max(0, min(self.frames - 1, frame))
        self._due = float(self.frame)

    def key(self, name: str) -> None:
        """Do what a key is for; the keys that change the game or end it are not its own."""
        far = {
            "back": -1,
            "forward": 1,
            "far back": -FAR,
            "far forward": FAR,
            "start": -self.frames,
            "end": self.frames,
        }
        if name.isdigit():
            self.typed = (self.typed + name)[-DIGITS:]
            return
        if name == "rub":
            self.typed = self.typed[:-1]
            return
        if name == "go" and self.typed:
            self.playing = False
            self.go(int(self.typed) - 1)
        elif name in far:
            self.playing = False
            self.go(self.frame + far[name])
        elif name == "toggle":
            if not self.playing and self.frame == self.frames - 1:
                self.go(0)
            self.playing = not self.playing
        elif name in {"faster", "slower"}:
            self.speed = max(0, min(len(SPEEDS) - 1, self.speed + (1 if name == "faster" else -1)))
        self.typed = ""

    def advance(self, seconds: float) -> None:
        """Play on for so many seconds; it pauses at the last screen."""
        if not self.playing:
            return
        self._due += seconds * SCREENS_PER_SECOND * SPEEDS[self.speed]
        self.frame = min(int(self._due), self.frames - 1)
        if self.frame == self.frames - 1:
            self.playing = False


class RawTerminal:
    """The terminal, with keys as they are pressed and a screen of its own; as before at the end and while suspended.

    `resumed`: nothing is on the screen since a suspension (Ctrl-Z).
    """

    def __enter__(self) -> Self:
        self._modes = termios.tcgetattr(sys.stdin)
        self._handler = signal.signal(signal.SIGTSTP, self._suspend)
        self.resumed = False
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        signal.signal(signal.SIGTSTP, self._handler)

    def _begin(self) -> None:
        tty.setcbreak(sys.stdin)
        _write("\x1b[?1049h\x1b[?25l")

    def _end(self) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)
        _write("\x1b[0m\x1b[?25h\x1b[?1049l")

    def _suspend(self, number: int, frame: object) -> None:
        del number, frame
        self._end()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._begin()
        self.resumed = True


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def read_key(seconds: float) -> str | None:
    """Return the name of the next key, "" for one without a meaning; None when there is none within `seconds`."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return None
    pressed = os.read(sys.stdin.fileno(), 1)
    if not pressed:
        return "quit"  # the terminal is gone
    while pressed.startswith(ESCAPE.encode()) and pressed[-1:] not in b"ABCDFH~":
        if not select.select([sys.stdin], [], [], ESCAPE_SECONDS)[0]:
            break
        more = os.read(sys.stdin.fileno(), 1)
        if not more:
            return "quit"
        pressed += more
    key = pressed.decode("ascii", errors="replace")
    return key if key.isdigit() else {**KEYS, **ARROWS_OF_APPLICATIONS}.get(key, "")


def play_in_terminal(games: Sequence[KeptGame], device: str) -> None:
    """Play the games, the first one first, until the user quits.

    ValueError: a recording is damaged. termios.error: standard input is no terminal.
    """
    index, known = 0, dict[int, Replay]()
    with RawTerminal() as terminal:
        while True:
            if index not in known:
                _write(f"\x1b[2J\x1b[Hreading {games[index].title} ...")
                known = {index: _replay(games[index], device)}
            step = _play(known[index], index, len(games), terminal)
            if step is None:
                return
            index = (index + step) % len(games)


def _replay(game: KeptGame, device: str) -> Replay:
    from playscale.agents.device import resolve_device
    from playscale.study.kept_games import replays

    found = replays([game], _same, device=str(resolve_device(device)), workers=1, progress=lambda *_: None)
    with closing(found):
        return next(found)


def _same(replay: Replay) -> Replay:
    return replay


def _play(replay: Replay, index: int, count: int, terminal: RawTerminal) -> int | None:
    """Play one game; return 1 or -1 for the next or the previous game, None to quit."""
    playback, view = Playback(len(replay)), View(replay, index, count)
    now, size, dirty = time.monotonic(), None, True
    while True:
        if dirty or terminal.resumed or size != shutil.get_terminal_size():
            size, terminal.resumed = shutil.get_terminal_size(), False
            _write(draw(view, playback.frame, playback.playing, SPEEDS[playback.speed], playback.typed, size))
        key = read_key(DRAWN_SECONDS if playback.playing else IDLE_SECONDS)
        before, now = now, time.monotonic()
        frame, was_playing = playback.frame, playback.playing
        playback.advance(min(now - before, LONGEST_SECONDS))
        if key == "quit":
            return None
        if key in {"next", "previous"} and count > 1:
            return 1 if key == "next" else -1
        if key:
            playback.key(key)
        dirty = bool(key) or (frame, was_playing) != (playback.frame, playback.playing)
