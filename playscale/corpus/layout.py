"""The bytes of one block of transitions.

Legend: t transitions in the block; A the game's number of actions, which as a previous action means "none" (at a game's
first transition).

A block is, one after the other and without padding, every observation column as a C-ordered little-endian
[t, ...] array, in the order of the manifest; then the actions, u16 [t + 1], of which the first is the action
*before* the block (so that a block can be read alone); then the score, i32 [t]. It is stored as one zstd frame
with its content size. The frame has no content checksum: checking that would take a third of the decoding time,
where the CRC-32 of the stored bytes (shards.py), a hundred times fewer, finds the same damage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import zstandard

from playscale.games.game import Column

BLOCK = 640  # transitions; NetHack: 2.5 MB raw, about 20 KB stored
LEVEL = 3
ACTION, SCORE = np.dtype("<u2"), np.dtype("<i4")
WORD = np.dtype("<u4")  # of the index of a section

Arrays = dict[str, np.ndarray]


class Layout:
    """The arrays of a block and their order; encodes arrays as stored bytes."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = {
            name: (tuple(column.shape), np.dtype(column.dtype).newbyteorder("<")) for name, column in columns.items()
        }
        self.frame_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.columns.values())

    def block_bytes(self, t: int) -> int:
        """Return the bytes of a decoded block of `t` transitions."""
        return t * (self.frame_bytes + ACTION.itemsize + SCORE.itemsize) + ACTION.itemsize

    def encode(self, arrays: Mapping[str, np.ndarray], before: int, compressor: zstandard.ZstdCompressor) -> bytes:
        """Encode the columns, `action` and `score`, each [t, ...], as a stored block; `before`: the action before."""
        actions = np.concatenate(([before], arrays["action"])).astype(ACTION)
        t = len(actions) - 1
        parts = []
        for name, (shape, dtype) in self.columns.items():
            assert arrays[name].shape == (t, *shape), f"{name} has shape {arrays[name].shape}"
            parts.append(np.ascontiguousarray(arrays[name], dtype).data.cast("B"))
        parts += [actions.data.cast("B"), np.ascontiguousarray(arrays["score"], SCORE).data.cast("B")]
        return compressor.compress(b"".join(parts))

    def played(self, arrays: Mapping[str, np.ndarray], first: bool) -> Iterator[bytes]:
        """Yield the bytes of `action` and `score` [t] and, of a game's first block, before them its first frame."""
        if first:
            for name, (_, dtype) in self.columns.items():
                yield arrays[name][0].astype(dtype).tobytes()
        yield arrays["action"].astype(ACTION).tobytes()
        yield arrays["score"].astype(SCORE).tobytes()


class Decoder:
    """Decode stored blocks of a layout into one buffer; each block overwrites the one before it.

    One buffer for all readers of a stream stays in the processor's cache: decoding into it takes two thirds of the time
    that decoding into new memory takes.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._buffer = bytearray(layout.block_bytes(BLOCK))
        self._decompressor = zstandard.ZstdDecompressor()

    def decode(self, stored: bytes, t: int) -> Arrays:
        """Decode a block of `t` transitions: views by column name, and `score` [t], `actions` [t + 1].

        ValueError when the stored bytes are damaged.
        """
        expected = self._layout.block_bytes(t)
        try:
            # Directly into the buffer; decompress() allocates memory, which is up to 20 times slower.
            reader = self._decompressor.stream_reader(stored)
            size = reader.readinto(memoryview(self._buffer)[:expected]) + len(reader.read(1))
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged block ({error})") from error
        if size != expected:
            raise ValueError(f"damaged block ({size} bytes or more in place of {expected})")
        arrays: Arrays = {}
        offset = 0
        for name, (shape, dtype) in self._layout.columns.items():
            arrays[name] = np.ndarray((t, *shape), dtype, self._buffer, offset)
            offset += arrays[name].nbytes
        arrays["actions"] = np.ndarray(t + 1, ACTION, self._buffer, offset)
        arrays["score"] = np.ndarray(t, SCORE, self._buffer, offset + arrays["actions"].nbytes)
        return arrays


def make_compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
