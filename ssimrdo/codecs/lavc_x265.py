"""x265 as FFmpeg brings it, without steering: what HEVC is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ssimrdo.codecs.base import (
    Mode,
    QualityScale,
    RateControl,
    Session,
    StreamSettings,
    UnsteeredCodec,
    point_of,
)
from ssimrdo.codecs.lavc import LavcSession, ffmpeg, library_version, packed
from ssimrdo.codecs.x264.choices import PRESET, PRESETS
from ssimrdo.errors import InputError

ENCODER: Final = "libx265"

TUNES: Final = ("psnr", "ssim", "grain", "fastdecode", "zerolatency", "animation")

MIN_SIDE: Final = 64
"""x265 4.2 corrupts memory at frames 40 or 48 samples wide; at 64 it has never been seen to."""

MAX_SIDE: Final = 8192

REORDERING: Final = 2
"""Frames that a pyramid of B-frames decodes ahead."""


@dataclass(frozen=True)
class LavcX265(UnsteeredCodec):
    """x265 with a preset.

    Parameters
    ----------
    preset : str
        One of those that x265 has from x264.
    tune : str, optional
        One of its tunings.
    transform_skip : bool
        Whether it may leave out the transform of small blocks.

    Raises
    ------
    InputError
        If a value is unknown.
    """

    preset: str = PRESET
    tune: str | None = None
    transform_skip: bool = False

    name = "x265"
    syntax = "hevc"
    containers = ("mp4", "matroska", "hevc")
    depths = (8, 10)
    sides = (MIN_SIDE, MAX_SIDE)

    def __post_init__(self) -> None:
        for field, value, choices in (
            ("preset", self.preset, PRESETS),
            ("tune", self.tune, (None, *TUNES)),
        ):
            if value not in choices:
                raise InputError(
                    f"{value!r} is unknown",
                    field=field,
                    remedy=f"use one of {', '.join(filter(None, choices))}",
                )

    @property
    def label(self) -> str:
        """Name and preset, and what differs from the default."""
        words = [f"x265 {self.preset}"]
        if self.tune:
            words.append(f"--tune {self.tune}")
        if self.transform_skip:
            words.append("--tskip")
        return " ".join(words)

    @property
    def version(self) -> str:
        """Version of the library and of FFmpeg."""
        return f"x265 {library_version('x265')}, {ffmpeg()}"

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode."""
        del bit_depth
        if mode == "qp":
            return QualityScale(1, 51, step=1, default=32, whole=True, lossless_below=1)
        if mode == "crf":
            return QualityScale(1, 51, step=0.01, default=28, lossless_below=1)
        return QualityScale(1, 2_000_000, step=1, default=1000, log_rate_slope=1e-3)

    def passes(self, rate: RateControl) -> int:
        """Return 2 for a mean bit rate, else 1."""
        return 2 if rate.mode == "bitrate" else 1

    def open(self, stream: StreamSettings) -> Session:
        """Open x265."""
        parameters = {"log-level": "error"}
        if stream.threads:
            parameters["pools"] = f"{stream.threads}"
        if self.transform_skip:
            parameters["tskip"] = "1"
        options = {"preset": self.preset, **({"tune": self.tune} if self.tune else {})}
        mode, point = stream.rate.mode, point_of(stream.rate)
        if mode == "bitrate":
            parameters["bitrate"] = f"{round(point)}"
        else:
            options[mode] = f"{point:g}"
        if stream.stats is not None:
            parameters |= {"pass": f"{stream.pass_number}", "stats": f"{stream.stats}"}
        options["x265-params"] = packed(parameters)
        return LavcSession(ENCODER, stream, options, reordering=REORDERING)

    def describe(self, stream: StreamSettings) -> str:
        """Return preset, tuning, rate control and threads."""
        words = [f"preset={self.preset}"]
        if self.tune:
            words.append(f"tune={self.tune}")
        if self.transform_skip:
            words.append("tskip=1")
        rate = f"{stream.rate.mode}={point_of(stream.rate):g}"
        threads = stream.threads or "auto"
        return f"x265 {' '.join(words)} {rate} threads={threads} range=full"
