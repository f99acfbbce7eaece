"""What machine this is, and how its memory is used."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


@cache
def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


_MMAP_THRESHOLD: Final = -3
_TRIM_THRESHOLD: Final = -1
_LARGE_BYTES: Final = 64 << 20


def keep_memory() -> None:
    """Let this process use freed memory again instead of giving it back; for glibc.

    It gives back what slices are computed in, some hundred kB at a time, and gets it anew for the
    next slice, page by page, which takes a twentieth of the time of an encode.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)
