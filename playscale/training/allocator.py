"""The C library's allocator, told to keep the memory that a training step frees for the next step."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the parameters' numbers in glibc's malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Whether the allocator was told; where it is not glibc's, nothing is done.

    glibc hands every freed block of tens of megabytes back to the kernel, which clears it again page by page at the
    next step: 15 to 20 % of a training step on a CPU. Kept, the process stays at the size of its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, 2**30) and mallopt(TRIM_THRESHOLD, LARGEST))
