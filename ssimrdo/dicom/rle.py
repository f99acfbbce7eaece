"""Decoding of RLE Lossless (DICOM PS3.5 annex G).

The decoder of pylibjpeg panics on corrupt data, printing a backtrace, and that of pydicom warns.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER_BYTES: Final = 64


def decode_rle(frame: bytes, count: int, cell_bytes: int) -> NDArray[np.uint8]:
    """Decode one frame of single-sample pixels.

    Parameters
    ----------
    frame : bytes
        RLE header and segments.
    count : int
        Number of pixel cells.
    cell_bytes : int
        Bytes of one cell.

    Returns
    -------
    ndarray of uint8, shape (count, cell_bytes)
        The cells, little endian.

    Raises
    ------
    ValueError
        If the data is corrupt.
    """
    if len(frame) < _HEADER_BYTES:
        raise ValueError("the RLE header is cut off")
    segments, *offsets = struct.unpack_from("<16I", frame)
    if segments != cell_bytes:
        raise ValueError(f"{segments} RLE segments instead of {cell_bytes}")
    ends = [*offsets[1:segments], len(frame)]
    planes = np.empty((count, cell_bytes), np.uint8)
    for index, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        # The first segment holds the most significant bytes.
        plane = _decode_segment(frame[start:end], count)
        planes[:, cell_bytes - 1 - index] = np.frombuffer(plane, np.uint8)
    return planes


def _decode_segment(segment: bytes, count: int) -> bytearray:
    """Decode one segment to exactly `count` bytes; what follows them is padding."""
    decoded = bytearray()
    position = 0
    try:
        while len(decoded) < count:
            control = segment[position]
            if control < 128:
                decoded += segment[position + 1 : position + 2 + control]
                position += 2 + control
            elif control > 128:
                decoded += segment[position + 1 : position + 2] * (257 - control)
                position += 2
            else:
                position += 1
    except IndexError:
        raise ValueError("an RLE segment is cut off") from None
    if len(decoded) != count or position > len(segment):
        raise ValueError("an RLE segment is corrupt")
    return decoded
