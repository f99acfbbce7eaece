"""Writing encoded packets: MP4, Matroska or a raw stream."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer

from ssimrdo.codecs.base import Codec, Packet
from ssimrdo.codecs.stills import STILLS
from ssimrdo.errors import InputError
from ssimrdo.video.errors import ffmpeg_errors_of
from ssimrdo.video.nal import settings_units
from ssimrdo.video.stills import still_writer

SUFFIXES: Final = {
    ".mp4": "mp4",
    ".mkv": "matroska",
    ".h264": "h264",
    ".hevc": "hevc",
    ".h265": "hevc",
    ".m4v": "m4v",
    ".ivf": "ivf",
    ".obu": "obu",
}
"""FFmpeg's name of the container for each suffix; raw streams are called after their syntax."""

DICOM: Final = "dicom"
"""The container that :file:`.dcm` asks for: an MP4 file in a DICOM object; not one of FFmpeg's."""

_DICOM_SUFFIX: Final = ".dcm"
_DICOM_SYNTAXES: Final = ("h264", "hevc")

_TAGS: Final = {("mp4", "hevc"): "hvc1"}
"""What streams are called in a container, where FFmpeg's own choice is one that not all play."""

WritePacket = Callable[[Packet], None]


def container_of(output: Path, codec: Codec) -> str:
    """Return FFmpeg's name of the container that an output path's suffix asks for, or `DICOM`.

    Raises
    ------
    InputError
        If the suffix is none that the codec's streams go into.
    """
    suffix, in_dicom = output.suffix.lower(), codec.syntax in _DICOM_SYNTAXES
    if suffix == _DICOM_SUFFIX and in_dicom:
        return DICOM
    known = suffixes_of(codec)
    if suffix not in known:
        known += (_DICOM_SUFFIX,) * in_dicom
        takers = " or ".join(_takers(suffix))
        other = f", or take {{codec}} {takers}" if takers else ""
        raise InputError(
            f"{output}: the suffix tells the container, and {codec.name} goes into others",
            remedy=f"use one of {', '.join(known)}{other}",
        )
    return SUFFIXES[suffix]


def _takers(suffix: str) -> list[str]:
    """Return the names of the codecs that go into what a suffix asks for."""
    from ssimrdo.codecs.named import NAMED

    if suffix == _DICOM_SUFFIX:
        return [name for name in NAMED if name in _DICOM_SYNTAXES]
    return [name for name, one in NAMED.items() if SUFFIXES.get(suffix) in one.containers]


def suffixes_of(codec: Codec) -> tuple[str, ...]:
    """Return the suffixes of video files that a codec's streams go into."""
    return tuple(suffix for suffix, name in SUFFIXES.items() if name in codec.containers)


@contextmanager
def packet_writer(
    path: Path, container: str, *, syntax: str, headers: bytes, fps: Fraction
) -> Iterator[WritePacket]:
    """Yield a function that appends packets to a video file; the file is complete afterwards.

    Parameters
    ----------
    path : Path
        File to write; its suffix does not matter.
    container : str
        FFmpeg's name of the container; that of the syntax writes the packets as they are, and
        :data:`ssimrdo.codecs.stills.STILLS` an archive of them.
    syntax : str
        FFmpeg's name of the raw stream that headers and packets make.
    headers : bytes
        Parameter sets ahead of the packets; empty where these bring their own.
    fps : Fraction
        Frames per second.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if container == STILLS:
        with still_writer(path, syntax) as write:
            yield write
        return
    if container == syntax:
        with path.open("wb") as stream:
            yield lambda packet: _write_raw(stream, packet)
        return
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with (
        ffmpeg_errors_of(path),
        av.open(str(path), "w", format=container, options=options) as output,
    ):
        yield _packet_muxer(output, syntax, headers, fps, _TAGS.get((container, syntax)))


def _write_raw(stream: io.BufferedWriter, packet: Packet) -> None:
    stream.write(packet.data)


def _packet_muxer(
    output: OutputContainer, syntax: str, headers: bytes, fps: Fraction, tag: str | None
) -> WritePacket:
    stream: av.VideoStream | None = None

    def write(packet: Packet) -> None:
        nonlocal stream
        data = packet.data
        if stream is None:
            stream = _video_stream(output, syntax, headers + data, fps)
            if tag is not None:
                stream.codec_context.codec_tag = tag
            data = settings_units(headers, syntax) + data
        muxed = av.Packet(data)
        muxed.stream = stream
        muxed.time_base = 1 / fps
        muxed.pts, muxed.dts, muxed.duration = packet.pts, packet.dts, 1
        muxed.is_keyframe = packet.keyframe
        output.mux(muxed)

    return write


def _video_stream(
    output: OutputContainer, syntax: str, first_frame: bytes, fps: Fraction
) -> av.VideoStream:
    """Add a stream described by parameter sets and one frame, which FFmpeg's parser reads."""
    with av.open(
        io.BytesIO(first_frame), format=syntax, options={"framerate": f"{fps}"}
    ) as template:
        # FFmpeg's decoder need not be called like one of its encoders, as PyAV would else expect.
        stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
    stream.time_base = 1 / fps
    return stream
