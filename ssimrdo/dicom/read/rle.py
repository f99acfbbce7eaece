"""RLE Lossless (PS3.5 annex G), decoded no further than a slice goes."""

from __future__ import annotations

from struct import unpack_from
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom.read.elements import DamagedError

_HEADER_BYTES: Final = 64


def decode_rle(data: bytes, rows: int, columns: int, bits_allocated: int) -> NDArray[Any]:
    """Decode one frame of one sample per pixel.

    Parameters
    ----------
    data : bytes
        Header and segments, one of each byte of a pixel, highest first.
    rows, columns : int
        Size of the frame.
    bits_allocated : int
        8 or 16.

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, columns)
        Pixel cells.

    Raises
    ------
    DamagedError
        If a segment is missing or ends early.
    """
    count = bits_allocated // 8
    if len(data) < _HEADER_BYTES:
        raise DamagedError("it is cut off")
    segments, *offsets = unpack_from(f"<{count + 1}I", data)
    if segments != count or sorted(offsets) != offsets or offsets[0] < _HEADER_BYTES:
        raise DamagedError("the RLE header is corrupt")
    planes = [
        np.frombuffer(_unpacked(data[start:end], rows * columns), np.uint8)
        for start, end in zip(offsets, [*offsets[1:], len(data)], strict=True)
    ]
    cells = planes[0].astype(f"u{count}")
    for plane in planes[1:]:
        cells <<= 8
        cells |= plane
    return cells.reshape(rows, columns)


def _unpacked(segment: bytes, size: int) -> bytearray:
    """Decode a segment (PackBits) until it has given `size` bytes."""
    unpacked = bytearray()
    at, end = 0, len(segment) - 1
    while len(unpacked) < size and at < end:
        head = segment[at]
        if head < 128:
            unpacked += segment[at + 1 : at + head + 2]
            at += head + 2
        elif head > 128:
            unpacked += segment[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    if len(unpacked) < size:
        raise DamagedError("an RLE segment ends early")
    return unpacked[:size]
