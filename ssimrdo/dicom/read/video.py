"""Where the video lies in a DICOM object that encapsulates one (PS3.5 A.4)."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path
from struct import unpack
from typing import Any, Final

from ssimrdo.dicom.read.elements import (
    PIXEL_DATA,
    UNDEFINED,
    WINDOW_BYTES,
    DamagedError,
    has_prefix,
    read_elements,
)

SYNTAXES: Final = tuple(
    f"1.2.840.10008.1.2.4.{number}{fragmentable}"
    for number in (102, 103, 104, 105, 107, 108)
    for fragmentable in ("", ".1")
)
"""Transfer syntaxes of H.264 and HEVC; that for stereo is left out."""

_ITEM: Final = (0xFFFE, 0xE000)
_SEQUENCE_END: Final = (0xFFFE, 0xE0DD)
_MAX_FRAGMENTS: Final = 100_000


class FileParts(io.RawIOBase):
    """Parts of a file, one behind the other, as a stream of their own that can be read.

    Parameters
    ----------
    path : Path
        The file.
    parts : list of (int, int)
        Where each begins, and its length.
    """

    def __init__(self, path: Path, parts: list[tuple[int, int]]) -> None:
        self._file = path.open("rb")
        self._starts = [start for start, _ in parts]
        self._ends = list(accumulate(length for _, length in parts))
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return where the stream stands."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; return where it is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    @property
    def _size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return how many bytes."""
        for number, end in enumerate(self._ends):
            if self._at < end:
                begin = self._ends[number - 1] if number else 0
                self._file.seek(self._starts[number] + self._at - begin)
                data = self._file.read(min(len(buffer), end - self._at))
                buffer[: len(data)] = data
                self._at += len(data)
                return len(data)
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def is_dicom(path: Path) -> bool:
    """Tell whether a file has the preamble and prefix of DICOM."""
    with path.open("rb") as stream:
        return has_prefix(stream.read(WINDOW_BYTES))


def holds_video(path: Path) -> bool:
    """Tell whether a file is a DICOM object with a video in it."""
    try:
        encapsulated_video(path).close()
    except (DamagedError, OSError):
        return False
    return True


def encapsulated_video(path: Path) -> FileParts:
    """Return the video in a DICOM file.

    Raises
    ------
    DamagedError
        If it holds none, or is damaged; nothing of it is quoted.
    OSError
        If it cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        dataset = read_elements(stream, stream.read(WINDOW_BYTES), (), PIXEL_DATA)
        place, source = dataset.stop, dataset.source
        if dataset.syntax not in SYNTAXES:
            raise DamagedError("holds no H.264 or HEVC video")
        if place is None or place.tag != PIXEL_DATA or place.length != UNDEFINED:
            raise DamagedError("its pixel data is cut off or corrupt")
        size = path.stat().st_size
        at = place.start
        parts: list[tuple[int, int]] = []
        for number in range(_MAX_FRAGMENTS):
            head = source.read(at, 8)
            if len(head) < 8:
                break
            group, element, length = unpack("<HHI", head)
            if (group, element) == _SEQUENCE_END:
                return FileParts(path, parts)
            if (group, element) != _ITEM or at + 8 + length > size:
                break
            # The first item is the offset table.
            if number:
                parts.append((at + 8, length))
            at += 8 + length
    raise DamagedError("its pixel data is cut off or corrupt")
