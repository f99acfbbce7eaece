"""What FFmpeg's encoders have in common: sessions over PyAV's codec contexts, without containers.

Frames are full-range 4:2:0 with neutral chroma. Packets come in raw syntax with their parameter
sets in band. Decoding times are our own: those of x265 are random numbers where a clip ends before
the first B-frames are decided.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.codec.context import CodecContext
from numpy.typing import NDArray

from ssimrdo.codecs.base import Closing, Packet, Steering, StreamSettings
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.frames import FrameFormat

FULL_RANGE: Final = 2
"""FFmpeg's number of samples from 0 to the peak."""

PIXEL_FORMATS: Final = {8: "yuv420p", 10: "yuv420p10le"}

KEYFRAME_INTERVAL: Final = 250
"""x264's and x265's default; SVT-AV1's own follows from the frame rate."""


class LavcSession(Closing):
    """One of FFmpeg's encoders, open; see :class:`ssimrdo.codecs.base.Session`.

    Parameters
    ----------
    encoder : str
        FFmpeg's name of it, such as ``libx265``.
    stream : StreamSettings
        Frames and threads.
    options : mapping of str to str
        FFmpeg's options of the encoder.
    reordering : int
        How many frames it decodes at most ahead of their presentation.

    Raises
    ------
    InputError
        If PyAV's FFmpeg lacks the encoder.
    EncoderError
        If it cannot be opened.
    """

    headers = b""
    settings = ""

    def __init__(
        self, encoder: str, stream: StreamSettings, options: Mapping[str, str], *, reordering: int
    ) -> None:
        self._encoder = encoder
        self._format = stream.format
        self._first_dts = -reordering
        self._packets = 0
        self._context = _open(encoder, stream.format, options)

    def encode(self, luma: NDArray[Any], steering: Steering, index: int) -> Iterator[Packet]:
        """Take one frame; yield the packets that come out."""
        del steering
        frame = video_frame(luma, self._format)
        frame.pts, frame.time_base = index, 1 / self._format.fps
        yield from self._run(frame)

    def flush(self) -> Iterator[Packet]:
        """Yield the packets that the encoder still holds."""
        yield from self._run(None)

    def close(self) -> None:
        """Let go of the encoder: PyAV closes what nobody refers to any more."""
        vars(self).pop("_context", None)

    def _run(self, frame: av.VideoFrame | None) -> Iterator[Packet]:
        try:
            packets = self._context.encode(frame)
        except av.error.FFmpegError as error:
            raise _failed(self._encoder, "encode", error) from error
        for packet in packets:
            assert packet.pts is not None, "frames have one"
            yield Packet(
                data=bytes(packet),
                pts=packet.pts,
                dts=self._first_dts + self._packets,
                keyframe=packet.is_keyframe,
            )
            self._packets += 1


def _open(encoder: str, frames: FrameFormat, options: Mapping[str, str]) -> av.VideoCodecContext:
    context = _context(encoder)
    context.width, context.height = frames.columns, frames.rows
    context.pix_fmt = PIXEL_FORMATS[frames.bit_depth]
    context.framerate, context.time_base = frames.fps, 1 / frames.fps
    context.sample_aspect_ratio = frames.aspect
    context.color_range = FULL_RANGE
    context.thread_count = 0
    context.options = dict(options)
    try:
        with own_scheduling():
            context.open()
    except av.error.FFmpegError as error:
        raise _failed(encoder, "open", error) from error
    return context


@contextmanager
def own_scheduling() -> Iterator[None]:
    """Give all threads of the process the caller's scheduling policy again in the end.

    SVT-AV1, run as root, makes the thread that opens it and its own threads real-time ones of the
    highest priority, which leave nothing to others, and whose children inherit that.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for task in Path("/proc/self/task").iterdir():
            # Threads may end meanwhile.
            with suppress(OSError):
                if os.sched_getscheduler(int(task.name)) != policy:
                    os.sched_setscheduler(int(task.name), policy, parameters)


def _context(encoder: str) -> av.VideoCodecContext:
    try:
        context = CodecContext.create(encoder, "w")
    except ValueError:
        raise InputError(
            f"the installed PyAV has no {encoder}", remedy="install a PyAV that has"
        ) from None
    assert isinstance(context, av.VideoCodecContext)
    return context


def _failed(encoder: str, what: str, error: av.error.FFmpegError) -> EncoderError:
    return EncoderError(f"{encoder} failed to {what}: {error.strerror or error}")


def video_frame(luma: NDArray[Any], frames: FrameFormat) -> av.VideoFrame:
    """Return luma as a full-range 4:2:0 frame with neutral chroma.

    Parameters
    ----------
    luma : ndarray of the format's shape and dtype
        With even sides.
    frames : FrameFormat
        Its format; 8 or 10 bit.
    """
    frame = av.VideoFrame(frames.columns, frames.rows, PIXEL_FORMATS[frames.bit_depth])
    for index, plane in enumerate(frame.planes):
        samples: NDArray[Any] = np.frombuffer(memoryview(plane), frames.dtype)
        rows = samples.reshape(plane.height, plane.line_size // frames.dtype.itemsize)
        rows[:, : plane.width] = luma if index == 0 else frames.peak // 2 + 1
    frame.color_range = FULL_RANGE
    return frame


def packed(parameters: Mapping[str, str]) -> str:
    """Return an encoder's own parameters as FFmpeg splits them: ``name=value:name=value``."""
    return ":".join(f"{name}={_escaped(value)}" for name, value in parameters.items())


def _escaped(value: str) -> str:
    return re.sub(r"([\\':=])", r"\\\1", value)


def has_encoder(encoder: str) -> bool:
    """Tell whether PyAV's FFmpeg has an encoder."""
    return encoder in av.codecs_available


def ffmpeg() -> str:
    """Return the versions of what stands between an encoder and us."""
    return f"FFmpeg {av.ffmpeg_version_info}, PyAV {av.__version__}"


@cache
def library_version(library: str) -> str:
    """Return what a library that FFmpeg is linked to says about its version.

    Parameters
    ----------
    library : str
        ``x265`` or ``SvtAv1Enc``: part of its file's name.
    """
    import ctypes

    found = [Path(path) for path in re.findall(r"/\S+\.so\S*", Path("/proc/self/maps").read_text())]
    # A process may have loaded another one too.
    beside = {path.parent for path in found if "avcodec" in path.name}
    for path in sorted(set(found), key=lambda path: (path.parent not in beside, path)):
        if library not in path.name:
            continue
        loaded = ctypes.CDLL(str(path))
        try:
            if library == "x265":
                text = ctypes.c_char_p.in_dll(loaded, "x265_version_str").value
            else:
                function = loaded.svt_av1_get_version
                function.restype = ctypes.c_char_p
                text = function()
        except (AttributeError, ValueError):
            break
        return (text or b"").decode(errors="replace") or "unknown"
    return "unknown"
