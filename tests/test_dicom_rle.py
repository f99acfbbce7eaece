from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ssimrdo.dicom.rle import decode_rle


def frame_of(*segments: bytes) -> bytes:
    offsets = [64 + sum(map(len, segments[:index])) for index in range(len(segments))]
    header = struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments)))
    return header + b"".join(segments)


def test_runs_by_hand() -> None:
    # PS3.5 G.3.2: 254 repeats a byte 3 times, 1 copies 2 bytes, 128 does nothing.
    segment = bytes([254, 7, 128, 1, 8, 9, 0, 3, 0])
    assert_array_equal(decode_rle(frame_of(segment), 6, 1), [[7], [7], [7], [8], [9], [3]])


def test_first_segment_is_the_most_significant() -> None:
    cells = decode_rle(frame_of(bytes([255, 1]), bytes([1, 2, 3])), 2, 2)
    assert_array_equal(cells.view("<u2"), [[0x102], [0x103]])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(64),
        frame_of(b"\xff\x01", b"\xff\x01"),
        frame_of(b""),
        frame_of(b"\xfe"),
        frame_of(b"\xff\x01"),
        frame_of(b"\xfb\x01"),
        frame_of(b"\x03\x01\x02"),
        struct.pack("<16I", 1, 10**9, *[0] * 14),
    ],
)
def test_corrupt_frame_is_an_error(frame: bytes) -> None:
    with pytest.raises(ValueError, match="RLE"):
        decode_rle(frame, 3, 1)


@given(st.binary(max_size=99), st.integers(1, 40))
def test_any_segment_decodes_or_is_an_error(segment: bytes, count: int) -> None:
    try:
        cells = decode_rle(frame_of(segment), count, 1)
    except ValueError:
        return
    assert cells.shape == (count, 1)
    assert cells.dtype == np.uint8
