"""Read the end of a bzip2 file without decompressing what comes before it; join several streams to one.

A bzip2 stream is "BZh" and a level; then blocks of at most 900 kB, which may begin at any bit: a 48-bit mark, a CRC-32,
the data; then a 48-bit end mark, the CRCs combined (rotated left by one, then XOR), and zero bits up to a whole byte.
Blocks do not depend on one another. A file may have several streams, one after the other, as pbzip2 writes it.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterator

BLOCK_MARK, END_MARK = 0x314159265359, 0x177245385090
MARK_BITS, CRC_BITS = 48, 32
STREAM = re.compile(
    rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"
)  # the beginning of a stream: a block mark or an end mark follows
CHUNK = 2**20  # bytes decompressed at a time
LONGEST = 1_000_000  # bytes a stored block of 900 kB can take (it grows by 1 % at worst)


def has_several_streams(data: bytes) -> bool:
    """Return whether a bzip2 file has more than one stream."""
    return STREAM.search(data, 1) is not None


def join_streams(data: bytes) -> bytes:
    """Return a bzip2 file of one stream with the content of all streams; ValueError when they are damaged."""
    compressor = bz2.BZ2Compressor()
    try:
        parts = [compressor.compress(piece) for piece in _decompressed(data)]
    except (OSError, ValueError) as error:
        raise ValueError(f"damaged ({error})") from error
    return b"".join([*parts, compressor.flush()])


def _decompressed(data: bytes) -> Iterator[bytes]:
    """Yield the content of all streams in pieces, however much it is; OSError or ValueError when they are damaged."""
    while data:
        decompressor = bz2.BZ2Decompressor()
        piece = decompressor.decompress(data, CHUNK)
        while not decompressor.eof:
            if decompressor.needs_input:
                raise ValueError("the file ends before its last bzip2 stream does")
            yield piece
            piece = decompressor.decompress(b"", CHUNK)
        yield piece
        data = decompressor.unused_data


def last_blocks(data: bytes, count: int) -> bytes:
    """Decompress the last `count` blocks of a bzip2 file (all of them when it has fewer).

    ValueError when the file is not bzip2, does not end where a stream ends, or these blocks are damaged.
    """
    if not data:
        raise ValueError("empty file")
    if data[:3] != b"BZh":
        raise ValueError("not a bzip2 file")
    end = _end_mark(data)
    starts: list[int] = []
    for _ in range(count):
        start = _find_block(data, starts[-1] if starts else end)
        if start is None:
            break
        starts.append(start)
    if not starts:
        raise ValueError("damaged: no bzip2 block in it")
    try:
        return bz2.decompress(_stream(data, starts[::-1], end))
    except (OSError, ValueError) as error:
        raise ValueError(f"damaged at its end ({error})") from error


def _end_mark(data: bytes) -> int:
    """Return the position of the end mark in bits; ValueError when there is none."""
    tail = int.from_bytes(data[-11:], "big")
    for padding in range(8):
        if tail >> (padding + CRC_BITS) & (1 << MARK_BITS) - 1 == END_MARK:
            return len(data) * 8 - padding - CRC_BITS - MARK_BITS
    raise ValueError("truncated: the file ends before its bzip2 stream does")


def _find_block(data: bytes, end: int) -> int | None:
    """Return the position in bits of the last block mark before bit `end`; None when there is none."""
    best = None
    low = max(0, end // 8 - LONGEST)
    for shift in range(8):
        # A mark that starts `shift` bits into a byte covers all of the five bytes after that one.
        inner = (BLOCK_MARK << 8 - shift).to_bytes(7, "big")[1:6]
        at = data.rfind(inner, low, -(-end // 8))
        while at > 0:
            start = (at - 1) * 8 + shift
            if start < end and _bits(data, start, MARK_BITS) == BLOCK_MARK:
                best = max(best or 0, start)
                break
            at = data.rfind(inner, low, at)
    return best


def _bits(data: bytes, start: int, count: int) -> int:
    last = -(-(start + count) // 8)
    return int.from_bytes(data[start // 8 : last], "big") >> last * 8 - start - count & (1 << count) - 1


def _stream(data: bytes, starts: list[int], end: int) -> bytes:
    """Assemble a bzip2 file of the blocks that begin at the bits `starts`, the last of them ending at bit `end`."""
    crc = 0
    for start in starts:
        crc = (crc << 1 | crc >> 31) & 0xFFFFFFFF ^ _bits(data, start + MARK_BITS, CRC_BITS)
    blocks = _bits(data, starts[0], end - starts[0])
    bits = (blocks << MARK_BITS | END_MARK) << CRC_BITS | crc
    count = end - starts[0] + MARK_BITS + CRC_BITS
    padding = -count % 8
    return data[:4] + (bits << padding).to_bytes((count + padding) // 8, "big")
