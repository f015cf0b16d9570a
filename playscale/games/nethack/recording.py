"""What NetHack leaves of a game: the records of a ttyrec3 file, and the lines of an xlogfile."""

from __future__ import annotations

import bz2
import struct
from pathlib import Path

from playscale.storage.files import atomic_file

RECORD = struct.Struct("<iiiB")  # seconds, microseconds, length of what follows, channel
KEYPRESS = 1  # channels of a ttyrec3: 0 terminal output, 1 keypress, 2 score


def cut_after(path: Path, keys: int) -> None:
    """Cut a ttyrec3 file after the answer to its first `keys` keypresses. Atomic."""
    data = bz2.decompress(path.read_bytes())
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


def read_xlogfile(path: Path) -> list[dict[str, str]]:
    """The games of an xlogfile, in order: field to text."""
    lines = path.read_text(encoding="latin-1").splitlines()
    return [dict(field.split("=", 1) for field in line.split("\t") if "=" in field) for line in lines]
