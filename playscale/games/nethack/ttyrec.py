"""Read NetHack recordings in NLD-AA layout (ttyrec3.bz2 files beside an xlogfile) as blocks of transitions.

Legend: T transitions of a block, H = 24 rows, W = 80 columns.

nle's own converter decodes them, so that frames and keys pair exactly as in nle.dataset.TtyrecDataset: one transition
per keypress, with the screen at the time when the key was pressed. What the game drew after the last key has no key and
is no transition. In a task that skips menus, the spaces and escapes that skip them are in the recording but are no
actions, so they are no transitions either: the rest are the screens that the player saw and the actions it took.

The converter does not report damaged data: it stops as if the game were over, or continues with garbage. So a recording
is accepted only if its last keypress, found independently at the end of the file, is the last one that was decoded.
"""

from __future__ import annotations

import bz2
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from playscale.games.game import Metadata, Recording, Rejected
from playscale.games.nethack.bzip2 import has_several_streams, join_streams, last_blocks
from playscale.games.nethack.rules import CHALLENGE, ESC, SPACE, Rules, actions_by_key
from playscale.storage.files import atomic_file

HEIGHT, WIDTH = 24, 80
RECORD = struct.Struct("<iiiB")  # of a ttyrec3: seconds, microseconds, length of what follows, channel
KEYPRESS = 1  # channels: 0 terminal output, 1 keypress, 2 score
SUFFIX = ".ttyrec3.bz2"
NO_ACTION, SKIPS_MENU = -1, -2
NUMBERS = {
    "points": "score",
    "turns": "turns",
    "maxlvl": "deepest_level",
    "deathlev": "death_level",
    "hp": "hp",
    "maxhp": "max_hp",
}
TEXTS = {
    "role": "role",
    "race": "race",
    "gender": "gender",
    "align": "alignment",
    "death": "death",
    "version": "version",
}


def find_recordings(source: Path) -> tuple[list[Recording], list[Rejected]]:
    """Return the finished games in `source` or up to two folders below it, sorted by key (the path without suffix).

    As in nle.dataset, a recording counts when an xlogfile beside it has a line for it: NetHack writes that line when
    the game ends. ValueError when there is no recording at all.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: no such directory")
    paths = sorted({path for depth in ("", "*/", "*/*/") for path in source.glob(f"{depth}*.ttyrec*.bz2")})
    if not paths:
        raise ValueError(f"{source}: no recordings (nle.*{SUFFIX}) in it or its folders")
    recordings, rejected = [], []
    games: dict[str, dict[str, str]] = {}
    folder = None
    for path in paths:
        if path.parent != folder:
            folder = path.parent
            games, unreadable = _games_of(folder)
            rejected += [Rejected(log.relative_to(source).as_posix(), reason) for log, reason in unreadable]
        name = path.relative_to(source).as_posix()
        try:
            if not name.endswith(SUFFIX):
                raise ValueError(f"not a {SUFFIX} file: other versions lack keys or scores")
            if path.name not in games:
                raise ValueError("no line for it in an xlogfile: the game was cut before its end")
            recordings.append(Recording(name.removesuffix(SUFFIX), (path,), describe(games[path.name])))
        except ValueError as error:
            rejected.append(Rejected(name, str(error)))
    return sorted(recordings, key=lambda recording: recording.key), rejected


def _games_of(folder: Path) -> tuple[dict[str, dict[str, str]], list[tuple[Path, str]]]:
    """Return the games in a folder's xlogfiles by their recordings' names, and the xlogfiles that cannot be read."""
    games, unreadable = {}, []
    for path in sorted(folder.glob("*xlogfile*")):
        if path.is_fifo():  # opening it would wait
            unreadable.append((path, "not an xlogfile: a pipe"))
            continue
        try:
            games.update({game["ttyrecname"]: game for game in read_xlogfile(path) if "ttyrecname" in game})
        except OSError as error:
            unreadable.append((path, f"the xlogfile cannot be read: {error.strerror}"))
    return games, unreadable


def describe(game: dict[str, str]) -> Metadata:
    """Return the metadata in an xlogfile line; ValueError when a number is missing."""
    try:
        numbers = {ours: int(game[theirs]) for theirs, ours in NUMBERS.items()}
    except (KeyError, ValueError) as error:
        raise ValueError(f"its line in the xlogfile is damaged ({error})") from error
    if game.get("seed", "").isdecimal():  # playscale's own recordings have it
        numbers["seed"] = int(game["seed"])
    texts = {ours: game.get(theirs) for theirs, ours in TEXTS.items()}
    if texts["death"] and "while" in game:
        texts["death"] += f" while {game['while']}"
    return texts | numbers


def decode(recording: Recording, block: int, rules: Rules = CHALLENGE) -> Iterator[dict[str, np.ndarray]]:
    """Yield blocks of at most `block` transitions.

    Each holds tty_chars u8 [T, H, W], tty_colors i8 [T, H, W], tty_cursor i16 [T, 2] (row, column), action i64 [T] and
    score i32 [T] (in-game points when the screen was shown). ValueError, possibly after some blocks, when a key is none
    of the rules' actions, or the recording is damaged. The converter may then have corrupted the memory of the process:
    decode unknown files in a process of their own.
    """
    (path,) = recording.paths
    data = path.read_bytes()
    if not has_several_streams(data):
        yield from _decode(str(path), data, block, rules)
        return
    with tempfile.TemporaryFile() as file:  # the converter takes the end of the first stream for that of the game
        data = join_streams(data)
        file.write(data)
        file.flush()
        yield from _decode(f"/dev/fd/{file.fileno()}", data, block, rules)


def _decode(path: str, data: bytes, block: int, rules: Rules) -> Iterator[dict[str, np.ndarray]]:
    """Implement decode() for the file `path`, one bzip2 stream with the bytes `data`."""
    from nle import _pyconverter

    tail = last_blocks(data, 1)
    converter = _pyconverter.Converter(HEIGHT, WIDTH, 3)
    last = (0, 0)
    remaining, done = 0, 0
    try:
        converter.load_ttyrec(path, 1, 0)
        while not remaining:
            chars, colors = np.empty((block, HEIGHT, WIDTH), np.uint8), np.empty((block, HEIGHT, WIDTH), np.int8)
            cursor, score = np.empty((block, 2), np.int16), np.empty(block, np.int32)
            times, keys = np.empty(block, np.int64), np.empty(block, np.uint8)
            remaining = converter.convert(chars, colors, cursor, times, keys, score)
            t = block - remaining
            if t:
                last = (int(times[t - 1]), int(keys[t - 1]))
                actions = _actions(keys[:t], done, rules)
                whole: dict[str, np.ndarray] = {
                    "tty_chars": chars[:t],
                    "tty_colors": colors[:t],
                    "tty_cursor": cursor[:t],
                    "action": actions,
                    "score": score[:t],
                }
                kept = actions != SKIPS_MENU
                if kept.all():
                    yield whole
                elif kept.any():
                    yield {name: array[kept] for name, array in whole.items()}
            done += t
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"damaged after transition {done} ({error})") from error
    if not _is_last(tail, *last) and not _is_last(last_blocks(data, 2), *last):
        raise ValueError(f"damaged after transition {done}: the rest cannot be decoded")


def _actions(keys: np.ndarray, done: int, rules: Rules) -> np.ndarray:
    """Return the action of each key, SKIPS_MENU for those that only skip menus; ValueError for any other key."""
    table = actions_by_key(rules.keys)
    if rules.skips_menus:
        table[[ESC, SPACE]] = SKIPS_MENU
    actions = table[keys]
    if (actions == NO_ACTION).any():
        t = int(np.argmax(actions == NO_ACTION))
        raise ValueError(f"key {int(keys[t])} at transition {done + t} is none of the game's {len(rules.keys)} actions")
    return actions


def _is_last(tail: bytes, time: int, key: int) -> bool:
    """Return whether the keypress at `time` (microseconds since 1970) is the last one in `tail`, a ttyrec3's end."""
    at = tail.rfind(RECORD.pack(*divmod(time, 1_000_000), 1, KEYPRESS) + bytes([key]))
    if at < 0:
        return False
    at += RECORD.size + 1
    while at + RECORD.size <= len(tail):
        _, _, length, channel = RECORD.unpack_from(tail, at)
        if channel == KEYPRESS or length < 0:
            return False
        at += RECORD.size + length
    return at == len(tail)


def cut_after(path: Path, keys: int) -> None:
    """Cut a ttyrec3 file after the output that follows its first `keys` keypresses; atomic. OSError: not whole."""
    data = read_recorded(path)
    offset = seen = 0
    while offset < len(data):
        _, _, length, channel = RECORD.unpack_from(data, offset)
        if channel == KEYPRESS:
            if seen == keys:
                break
            seen += 1
        offset += RECORD.size + length
    with atomic_file(path) as file:
        file.write(bz2.compress(data[:offset]))


def read_recorded(path: Path) -> bytes:
    """Return the content of a ttyrec3 file that was just written; OSError when it is not whole.

    nle does not report what it cannot write.
    """
    stored = path.read_bytes()
    try:
        if stored:
            return bz2.decompress(stored)
    except (OSError, ValueError):
        pass
    raise OSError(f"{path}: the recording was not written to its end: is the disk full?")


def read_xlogfile(path: Path) -> list[dict[str, str]]:
    """Return the games of an xlogfile in order, each as texts by field."""
    lines = path.read_text(encoding="latin-1").split("\n")  # splitlines() also ends lines at bytes such as 0x85
    return [dict(field.split("=", 1) for field in line.split("\t") if "=" in field) for line in lines if line]
