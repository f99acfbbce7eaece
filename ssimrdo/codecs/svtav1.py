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
from ssimrdo.codecs.x264.choices import Options
from ssimrdo.errors import InputError

ENCODER: Final = "libsvtav1"

PRESET: Final = 6
PRESETS: Final = range(14)

TUNES: Final = MappingProxyType({"vq": "0", "psnr": "1", "ssim": "2"})

VARIANCE_BOOST: Final = 1
"""Strength; 2, SVT-AV1's own default, and more cost rate on CT."""

VARIANCE_BOOSTS: Final = range(5)

LOWEST_CRF: Final = 1.0
HIGHEST_CRF: Final = 70.0
CRF_STEP: Final = 0.25
"""What it takes as a CRF, which reaches farther than its quantizers, and between them."""

QP_PER_STEP: Final = 0.5
"""A step of its scale of 1 to 63 is about half a QP of x264."""

COLOURS: Final = MappingProxyType(
    {"color_primaries": "bt709", "color_trc": "iec61966-2-1", "colorspace": "bt709"}
)
"""What luma and its neutral chroma are: grey as a screen shows it. Where a stream does not say so,
Chromium takes its range for the limited one, whatever the stream says of that."""

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
    variance_boost : int
        Strength, 1 to 4, of its adaptive quantization for flat areas; 0 turns it off. It is off
        at a constant quantizer.
    screen_content : bool
        Whether it uses the tools for screen content on every frame. By itself it does so on frames
        that look like a screen, and hardly ever takes CT for one.
    params : tuple of (str, str)
        More of its parameters; they come last and so win.

    Raises
    ------
    InputError
        If a value is unknown.
    """

    preset: int = PRESET
    tune: str = "ssim"
    variance_boost: int = VARIANCE_BOOST
    screen_content: bool = False
    params: Options = ()

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
        if self.variance_boost not in VARIANCE_BOOSTS:
            raise InputError(
                f"{self.variance_boost!r} is out of range",
                field="variance_boost",
                remedy=f"use {VARIANCE_BOOSTS[0]} to {VARIANCE_BOOSTS[-1]}",
            )

    @property
    def label(self) -> str:
        """Name and preset, and what differs from the default."""
        words = [f"SVT-AV1 {self.preset}"]
        if self.tune != "ssim":
            words.append(f"--tune {self.tune}")
        if self.variance_boost != VARIANCE_BOOST:
            words.append(f"--variance-boost-strength {self.variance_boost}")
        if self.screen_content:
            words.append("--scm 1")
        words += [f"--{name} {value}" for name, value in self.params]
        return " ".join(words)

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
            **COLOURS,
        }
        parameters = self._parameters(stream)
        if mode == "bitrate":
            options["b"] = f"{round(1000 * point)}"
        elif mode == "qp":
            options["qp"] = f"{point:g}"
        else:
            # FFmpeg's own option takes whole numbers alone.
            parameters["crf"] = f"{point:g}"
        options["svtav1-params"] = packed(parameters)
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
        colours = f"range=full colorspace={COLOURS['colorspace']}"
        return (
            f"SVT-AV1 preset={self.preset} g={KEYFRAME_INTERVAL} {' '.join(words)} {colours} "
            f"{control[stream.rate.mode]}"
        )

    def _parameters(self, stream: StreamSettings) -> dict[str, str]:
        mode = stream.rate.mode
        tune = "psnr" if mode == "bitrate" and self.tune == "ssim" else self.tune
        parameters = {"tune": TUNES[tune]}
        if mode == "qp":
            parameters["aq-mode"] = "0"
        elif self.variance_boost:
            parameters["enable-variance-boost"] = "1"
            parameters["variance-boost-strength"] = f"{self.variance_boost}"
        if self.screen_content:
            parameters["scm"] = "1"
        if mode == "bitrate":
            # With more, quantizers depend on which frame is done first.
            parameters["lp"] = "1"
        elif stream.threads:
            parameters["lp"] = f"{stream.threads}"
        return parameters | dict(self.params)
