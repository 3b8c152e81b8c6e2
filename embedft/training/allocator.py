"""How memory is handled that a step frees and the next one needs again."""

from __future__ import annotations

import ctypes
import os
import platform

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Lets a process keep what it frees, instead of giving it back and fetching it anew.

    By default glibc returns large blocks to the system at once. A training step on a CPU frees and
    fetches gigabytes of activations, and the system clears each page it hands out. Does nothing
    where the C library is another one.
    """
    # oneDNN compiles a matrix product for each new shape, and would keep 1,024: a gigabyte.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
