"""VVenC as a codec, without steering: what VVC is compared with.

PyAV's FFmpeg decodes VVC and has no encoder for it, so an FFmpeg program that has one is called:
that of the path, or else that of the package imageio-ffmpeg.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from ssimrdo.codecs.base import (
    Closing,
    Mode,
    Packet,
    QualityScale,
    Steering,
    StreamSettings,
    UnsteeredCodec,
    point_of,
)
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.extras import how_to_install
from ssimrdo.frames import FrameFormat

ENCODER: Final = "libvvenc"

PRESET: Final = "medium"
PRESETS: Final = ("faster", "fast", "medium", "slow", "slower")

KEYFRAME_INTERVAL: Final = 256
"""The multiple of VVenC's groups of 32 pictures that is nearest to what others have."""

INPUT_DEPTH: Final = 10
"""Bits of the samples that FFmpeg hands to VVenC, whatever is coded."""

_QP: Final = QualityScale(1, 63, step=1, default=28, log_rate_slope=-math.log(2) / 6, whole=True)


@cache
def program() -> str | None:
    """Return an FFmpeg program that has VVenC, None where there is none."""
    return next((one for one in _programs() if ENCODER in _output(one, "-encoders")), None)


def _programs() -> Iterator[str]:
    on_path = shutil.which("ffmpeg")
    if on_path is not None:
        yield on_path
    if find_spec("imageio_ffmpeg") is not None:
        from imageio_ffmpeg import get_ffmpeg_exe

        try:
            yield get_ffmpeg_exe()
        except RuntimeError:
            # Its wheel has a program for some machines alone.
            return


def _output(program: str, option: str) -> str:
    command = [program, "-hide_banner", option]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


@dataclass(frozen=True)
class Vvenc(UnsteeredCodec):
    """VVenC with a preset, at a constant quantizer.

    Its perceptual adaptation of the quantizer, made for films, is off, as it costs SSIM on CT.
    Pictures are coded with the depth of the source.

    Parameters
    ----------
    preset : str
        One of :data:`PRESETS`, fastest first.

    Raises
    ------
    InputError
        If the preset is unknown.
    """

    preset: str = PRESET

    name = "vvenc"
    syntax = "vvc"
    containers = ("vvc",)
    depths = (8, 10)
    sides = (64, 8192)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(
                f"{self.preset!r} is unknown",
                field="preset",
                remedy=f"use one of {', '.join(PRESETS)}",
            )

    @property
    def label(self) -> str:
        """Name and preset."""
        return f"VVenC {self.preset}"

    @property
    def version(self) -> str:
        """Version of the FFmpeg that it is part of."""
        found = program()
        if found is None:
            return "VVenC, not installed"
        words = _output(found, "-version").split()
        return f"VVenC in FFmpeg {words[2] if len(words) > 2 else 'unknown'}"

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of quantizers, which stand for a constant quality too.

        Raises
        ------
        InputError
            For a bit rate.
        """
        del bit_depth
        if mode == "bitrate":
            raise InputError(
                f"{self.label} has no mean bit rate", field="bitrate_kbps", remedy="give a {crf}"
            )
        return _QP

    def open(self, stream: StreamSettings) -> VvencSession:
        """Start the program.

        Raises
        ------
        InputError
            If there is none that has VVenC.
        """
        found = program()
        if found is None:
            raise InputError(
                f"{self.label} needs an FFmpeg program with {ENCODER}",
                remedy=how_to_install("vvc"),
            )
        return VvencSession(found, self._options(stream), stream.format)

    def describe(self, stream: StreamSettings) -> str:
        """Return preset, parameters and threads."""
        return f"VVenC {' '.join(self._options(stream))}"

    def _options(self, stream: StreamSettings) -> list[str]:
        return [
            *("-preset", self.preset, "-qp", f"{point_of(stream.rate):g}"),
            *("-g", f"{KEYFRAME_INTERVAL}", "-threads", f"{stream.threads}"),
            *("-vvenc-params", f"qpa=0:internalbitdepth={stream.format.bit_depth}"),
        ]


class VvencSession(Closing):
    """A running program; see :class:`ssimrdo.codecs.base.Session`.

    Parameters
    ----------
    program : str
        An FFmpeg program with VVenC.
    options : list of str
        Options of the encoder.
    frames : FrameFormat
        Of the frames that it gets.
    """

    headers = b""
    settings = ""

    def __init__(self, program: str, options: list[str], frames: FrameFormat) -> None:
        self._frames = frames
        neutral = 1 << (INPUT_DEPTH - 1)
        self._chroma = np.full(frames.rows * frames.columns // 2, neutral, "<u2").tobytes()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ssimrdo-vvenc-")))
            # A container keeps times of presentation, as raw streams do not.
            self._path, self._errors = folder / "stream.mp4", folder / "errors"
            command = [
                *(program, "-hide_banner", "-loglevel", "error", "-y"),
                *("-f", "rawvideo", "-pix_fmt", "yuv420p10le"),
                *("-s", f"{frames.columns}x{frames.rows}", "-r", f"{frames.fps}", "-i", "pipe:0"),
                *("-c:v", ENCODER, *options, f"{self._path}"),
            ]
            errors = stack.enter_context(self._errors.open("wb"))
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors)
            self._stack = stack.pop_all()

    def encode(self, luma: NDArray[Any], steering: Steering, index: int) -> tuple[Packet, ...]:
        """Hand over one frame; nothing comes out before the last."""
        del steering, index
        shift = INPUT_DEPTH - self._frames.bit_depth
        samples = (luma.astype("<u2") << shift).tobytes()
        assert self._process.stdin is not None, "it is a pipe"
        try:
            self._process.stdin.write(samples)
            self._process.stdin.write(self._chroma)
        except OSError as error:
            raise self._failed() from error
        return ()

    def flush(self) -> Iterator[Packet]:
        """Yield all packets."""
        try:
            _, _ = self._process.communicate()
        except OSError as error:
            raise self._failed() from error
        if self._process.returncode:
            raise self._failed()
        with av.open(str(self._path)) as source:
            stream = source.streams.video[0]
            to_raw = BitStreamFilterContext("vvc_mp4toannexb", stream)
            packets = [
                raw
                for packet in source.demux(stream)
                # The last one that a demuxer gives is empty.
                for raw in to_raw.filter(packet if packet.size else None)
            ]
        order = sorted(packet.pts or 0 for packet in packets)
        places = [order.index(packet.pts or 0) for packet in packets]
        ahead = max((at - place for at, place in enumerate(places)), default=0)
        for at, (packet, place) in enumerate(zip(packets, places, strict=True)):
            yield Packet(bytes(packet), place, at - ahead, keyframe=packet.is_keyframe)

    def close(self) -> None:
        """End the program if it still runs, and remove what it wrote."""
        with self._stack:
            self._process.kill()
            self._process.communicate()

    def _failed(self) -> EncoderError:
        self._process.kill()
        self._process.communicate()
        said = self._errors.read_text(errors="replace").split("\n")[0].replace(f"{self._path}", "")
        return EncoderError(f"{ENCODER} failed: {said.strip() or 'it does not say why'}")
