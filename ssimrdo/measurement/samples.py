"""From what FFmpeg decodes to grey samples of full range."""

from __future__ import annotations

from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat
from ssimrdo.video.decode import luma_plane

NEUTRAL_REACH: Final = 1
"""Steps of 8 bits by which the colour of a grey picture may be off: what JPEG rounds to."""

_FULL: Final = 2
"""FFmpeg's number of full range; 1 is limited range, and 0 says nothing."""


JPEG2000: Final = ("jpeg2000", "libopenjpeg")
"""FFmpeg's names of its decoders of JPEG 2000."""

_JPEG2000: Final = b"\xff\x4f\xff\x51"
"""Markers that a JPEG 2000 codestream begins with: its start, and the size of its picture."""

_PRECISION_AT: Final = 42
"""Where the precision of the first component stands, from these on (ISO/IEC 15444-1, A.5.1)."""


class ColourError(ValueError):
    """The picture is in colour."""


def is_limited(frame: av.VideoFrame) -> bool:
    """Return whether the luma of a frame runs from 16 to 235 of 255, as players take it.

    YUV is, unless it says that it is not. Grey alone and RGB never are, as FFmpeg has it: its
    encoders mark grey of full range as limited.
    """
    name = frame.format.name
    is_yuv = name.startswith(("yuv", "nv", "uyvy", "yvyu")) and not name.startswith("yuvj")
    return is_yuv and frame.color_range != _FULL


def grey_samples(
    frame: av.VideoFrame,
    *,
    limited: bool | None = None,
    neutral: bool = False,
    coded_bits: int | None = None,
) -> tuple[NDArray[Any], int]:
    """Return the grey samples of a decoded frame from 0 to their peak, and the peak.

    Parameters
    ----------
    frame : av.VideoFrame
        Of any pixel format: of YUV the luma, of RGB what its planes have in common.
    limited : bool, optional
        Whether luma runs from 16 to 235 of 255, and is to be expanded; :func:`is_limited` tells
        when None.
    neutral : bool
        Refuse YUV in colour too.
    coded_bits : int, optional
        Bits per sample that were coded, where FFmpeg may have put them into the upper ones of more;
        see :func:`jpeg2000_bits`.

    Returns
    -------
    ndarray of shape (rows, columns), uint8 or uint16
        Samples, rounded to the nearest.
    int
        255 for 8 bits, and so on.

    Raises
    ------
    ColourError
        If it is in colour.
    ValueError
        If it has samples of another kind, such as real numbers.
    """
    samples, peak = _as_decoded(
        frame, is_limited(frame) if limited is None else limited, neutral=neutral
    )
    surplus = 0 if coded_bits is None else peak.bit_length() - coded_bits
    return (samples >> surplus, peak >> surplus) if surplus > 0 else (samples, peak)


def jpeg2000_bits(data: bytes) -> int | None:
    """Return the bits per sample that a JPEG 2000 codestream says it has, 8 or more.

    None for what is none. FFmpeg decodes 9 to 15 of them into the upper bits of 16.
    """
    begin = data.find(_JPEG2000)
    if begin < 0 or len(data) <= begin + _PRECISION_AT:
        return None
    return max((data[begin + _PRECISION_AT] & 0x7F) + 1, 8)


def _as_decoded(frame: av.VideoFrame, limited: bool, *, neutral: bool) -> tuple[NDArray[Any], int]:
    name, bits = frame.format.name, frame.format.components[0].bits
    if bits > 16 or "f32" in name or "f16" in name:
        raise ValueError(f"samples of the kind {name} cannot be used")
    if frame.format.is_big_endian:
        frame, name = frame.reformat(format=f"{name[:-2]}le"), f"{name[:-2]}le"
    if frame.format.is_rgb or name.startswith(("pal", "bgr", "rgb", "argb", "abgr")):
        return _common(frame, bits)
    if name.startswith(("ya", "mono")):
        # The plane holds more than luma.
        samples = frame.to_ndarray(format="gray" if bits <= 8 else "gray16le")
        return samples, 255 if bits <= 8 else 65535
    if name.startswith(("yuyv", "uyvy", "yvyu")):
        frame = frame.reformat(format="yuv422p")
    if neutral and len(frame.planes) >= 3:
        _check_neutral(frame, bits)
    samples, peak = luma_plane(frame), (1 << bits) - 1
    if limited:
        rows, columns = samples.shape
        samples = FrameFormat(rows, columns, bits, full_range=False).shown(samples)
    return samples, peak


def _common(frame: av.VideoFrame, bits: int) -> tuple[NDArray[Any], int]:
    """Return what red, green and blue have in common."""
    if frame.format.name.startswith("gbr") and bits > 8:
        planes = np.stack([_plane(frame, index) for index in range(3)], axis=-1)
        peak = (1 << bits) - 1
    else:
        planes = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
        peak = 255 if bits <= 8 else 65535
    first = planes[..., 0]
    if not all(np.array_equal(first, planes[..., index]) for index in (1, 2)):
        raise ColourError("is in colour")
    return np.ascontiguousarray(first), peak


def _plane(frame: av.VideoFrame, index: int) -> NDArray[Any]:
    plane = frame.planes[index]
    dtype = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
    samples: NDArray[Any] = np.frombuffer(memoryview(plane), dtype)
    return samples.reshape(plane.height, plane.line_size // dtype.itemsize)[:, : plane.width]


def _check_neutral(frame: av.VideoFrame, bits: int) -> None:
    middle, reach = 1 << (bits - 1), NEUTRAL_REACH << (bits - 8)
    for index in (1, 2):
        chroma = _plane(frame, index).astype(np.int32)
        if chroma.size and int(np.abs(chroma - middle).max()) > reach:
            raise ColourError("is in colour")
