"""One copy of NetHack's machine code for all games of a process.

NetHack keeps its state in global variables, so nle loads its library anew for every game, from a copy in memory. 32
games that take turns then run through 32 copies of the same 2.2 MB of code: a step took four times as long as that of a
game alone. With the code shared it takes half to two thirds of that (docs/performance.md). The code is position
independent, so only its addresses differ; data stays each game's own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

from nle.nethack.nethack import DLPATH

_READ_EXECUTE, _PRIVATE_FIXED = 0x1 | 0x4, 0x02 | 0x10


def share_code(copy: int) -> None:
    """Let the loaded library whose file descriptor is `copy` run the code of nle's own file, in the place of its copy.

    The pages are the same bytes at the same addresses. Does nothing elsewhere than on Linux. OSError if it fails.
    """
    if sys.platform != "linux":
        return
    inode = str(os.fstat(copy).st_ino)
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, offset, _, owner, *name = line.split(maxsplit=5)
        if owner == inode and permissions == "r-xp" and "memfd:nle.so" in name[0]:
            start, end = (int(address, 16) for address in addresses.split("-"))
            found = _mmap()(start, end - start, _READ_EXECUTE, _PRIVATE_FIXED, _library(), int(offset, 16))
            if found != start:
                raise OSError(ctypes.get_errno(), f"{DLPATH}: cannot map its code")


@cache
def _library() -> int:
    return os.open(DLPATH, os.O_RDONLY | os.O_CLOEXEC)


@cache
def _mmap() -> ctypes._NamedFuncPointer:
    mmap = ctypes.CDLL(None, use_errno=True).mmap
    mmap.restype = ctypes.c_void_p
    mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    return mmap
