"""FFmpeg's errors as those of the system."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av


@contextmanager
def ffmpeg_errors_of(path: Path) -> Iterator[None]:
    """Let FFmpeg's errors about a file be an OSError that names it, whatever PyAV makes of them.

    Some of PyAV's are none, such as one that is an EOFError as well.
    """
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError | MemoryError):
            raise
        raise OSError(errno.EIO, f"FFmpeg: {error.strerror}", str(path)) from error
