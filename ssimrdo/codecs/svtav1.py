"""SVT-AV1 as a codec: FFmpeg's libsvtav1, without steering.

SVT-AV1 writes its settings to stderr, past FFmpeg's log. Only its environment variable
``SVT_LOG`` can stop that (1 leaves errors), which whoever owns the process may set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ssimrdo.codecs.base import (
    Mode,
    QualityScale,
    Session,
    StreamSettings,
    UnsteeredCodec,
    point_of,
)
from ssimrdo.codecs.lavc import (
    KEYFRAME_INTERVAL,
    LavcSession,
    ffmpeg,
    library_version,
    packed,
)
from ssimrdo.errors import InputError

ENCODER: Final = "libsvtav1"

PRESET: Final = 6
PRESETS: Final = range(14)

TUNES: Final = MappingProxyType({"vq": "0", "psnr": "1", "ssim": "2"})

QP_PER_STEP: Final = 0.5
"""A step of its scale of 1 to 63 is about half a QP of x264."""

_STEP = QualityScale(
    1,
    63,
    step=1,
    default=35,
    log_rate_slope=-math.log(2) / 6 * QP_PER_STEP,
    qp_per_step=QP_PER_STEP,
    whole=True,
)


@dataclass(frozen=True)
class SvtAv1(UnsteeredCodec):
    """SVT-AV1 with a preset.

    Parameters
    ----------
    preset : int
        0 to 13, slowest first.
    tune : {"ssim", "psnr", "vq"}
        What it is tuned for; at a mean bit rate, where SVT-AV1 refuses SSIM, that is PSNR.

    Raises
    ------
    InputError
        If a value is unknown.
    """

    preset: int = PRESET
    tune: str = "ssim"

    name = "svtav1"
    syntax = "obu"
    containers = ("mp4", "matroska", "ivf", "obu")
    depths = (8, 10)
    sides = (16, 8704)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(
                f"{self.preset!r} is unknown",
                field="preset",
                remedy=f"use one of {', '.join(map(str, PRESETS))}",
            )
        if self.tune not in TUNES:
            raise InputError(
                f"{self.tune!r} is unknown", field="tune", remedy=f"use one of {', '.join(TUNES)}"
            )

    @property
    def label(self) -> str:
        """Name and preset."""
        return f"SVT-AV1 {self.preset}" + (f" --tune {self.tune}" if self.tune != "ssim" else "")

    @property
    def version(self) -> str:
        """Version of the library and of FFmpeg."""
        return f"SVT-AV1 {library_version('SvtAv1Enc')}, {ffmpeg()}"

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode."""
        del bit_depth
        if mode == "bitrate":
            return QualityScale(1, 100_000, step=1, default=1000, log_rate_slope=1e-3)
        return _STEP

    def open(self, stream: StreamSettings) -> Session:
        """Open SVT-AV1."""
        mode, point = stream.rate.mode, point_of(stream.rate)
        options = {
            "preset": f"{self.preset}",
            "g": f"{KEYFRAME_INTERVAL}",
            "svtav1-params": packed(self._parameters(stream)),
        }
        if mode == "bitrate":
            options["b"] = f"{round(1000 * point)}"
        else:
            options[mode] = f"{point:g}"
        # A packet holds all that one frame takes to be shown.
        return LavcSession(ENCODER, stream, options, reordering=0)

    def describe(self, stream: StreamSettings) -> str:
        """Return preset, parameters and rate control."""
        words = [f"{key}={value}" for key, value in self._parameters(stream).items()]
        point = f"{point_of(stream.rate):g}"
        control = {
            "crf": f"crf={point}",
            "qp": f"rc=0 qp={point}",
            "bitrate": f"rc=1 bitrate={point}",
        }
        return (
            f"SVT-AV1 preset={self.preset} g={KEYFRAME_INTERVAL} {' '.join(words)} range=full "
            f"{control[stream.rate.mode]}"
        )

    def _parameters(self, stream: StreamSettings) -> dict[str, str]:
        mode = stream.rate.mode
        tune = "psnr" if mode == "bitrate" and self.tune == "ssim" else self.tune
        parameters = {"tune": TUNES[tune]}
        if mode == "qp":
            parameters["aq-mode"] = "0"
        if stream.threads:
            parameters["lp"] = f"{stream.threads}"
        return parameters
