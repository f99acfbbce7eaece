"""JPEG 2000 as a codec: OpenJPEG, every slice by itself, grey alone."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import (
    MeanBitrate,
    Mode,
    QualityScale,
    StreamSettings,
    UnsteeredCodec,
    point_of,
)
from ssimrdo.codecs.stills import StillSession
from ssimrdo.errors import EncoderError, InputError

_LOCK = threading.Lock()
"""pylibjpeg-openjpeg 2.6 corrupts memory when two threads encode at a time."""

QP_PER_DB: Final = -1 / 0.72
"""What a dB is worth in steps of x264's CRF."""


@dataclass(frozen=True)
class Jpeg2000(UnsteeredCodec):
    """JPEG 2000 with the irreversible 9-7 transform, one tile and one layer.

    Constant quality is the PSNR in dB that every slice gets, so that a higher number is better; a
    mean bit rate gives every slice the same share. There is no quantizer to ask for.
    """

    name = "jpeg2000"
    label = "JPEG 2000"
    syntax = "j2k_pipe"
    containers = ("matroska",)
    depths = (8, 10)
    sides = (32, 16384)

    @property
    def version(self) -> str:
        """Version of the package around OpenJPEG."""
        return f"pylibjpeg-openjpeg {version('pylibjpeg-openjpeg')}"

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode.

        Raises
        ------
        InputError
            For a quantizer.
        """
        del bit_depth
        if mode == "qp":
            raise InputError("JPEG 2000 has no quantizer", field="qp", remedy="give a {crf}")
        if mode == "bitrate":
            return QualityScale(1, 2_000_000, step=1, default=1000, log_rate_slope=1e-3)
        slope = -math.log(2) / 6 * QP_PER_DB
        return QualityScale(
            10, 100, step=0.001, default=40, log_rate_slope=slope, qp_per_step=QP_PER_DB
        )

    def open(self, stream: StreamSettings) -> StillSession:
        """Open a session."""
        point = point_of(stream.rate)
        quality: dict[str, Any] = {"signal_noise_ratios": [point]}
        if isinstance(stream.rate, MeanBitrate):
            frames = stream.format
            raw_kbps = frames.rows * frames.columns * frames.bit_depth * float(frames.fps) / 1000
            quality = {"compression_ratios": [max(raw_kbps / point, 1.0)]}
        return StillSession(partial(_encoded, bit_depth=stream.format.bit_depth, quality=quality))

    def describe(self, stream: StreamSettings) -> str:
        """Return the transform and the rate control."""
        point = f"{point_of(stream.rate):g}"
        control = f"{point} dB PSNR per slice"
        if isinstance(stream.rate, MeanBitrate):
            control = f"equal bytes per slice for {point} kbit/s"
        return f"OpenJPEG irreversible 9-7, grey, 1 tile, 1 layer, {control}"


def _encoded(luma: NDArray[Any], *, bit_depth: int, quality: dict[str, Any]) -> bytes:
    from openjpeg.utils import encode_array

    try:
        with _LOCK:
            data: bytes = encode_array(
                np.ascontiguousarray(luma), bit_depth, photometric_interpretation=2, **quality
            )
    except (RuntimeError, ValueError) as error:
        raise EncoderError(f"OpenJPEG failed to encode: {error}") from error
    return data
