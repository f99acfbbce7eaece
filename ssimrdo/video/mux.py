"""Writing encoded packets: MP4, Matroska or a raw H.264 stream."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from ssimrdo.video.nal import sei_units
from ssimrdo.x264 import Packet

CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".h264": "h264"}
"""FFmpeg's name of the container for each suffix."""

WritePacket = Callable[[Packet], None]


@contextmanager
def packet_writer(
    path: Path, container: str, *, headers: bytes, fps: Fraction
) -> Iterator[WritePacket]:
    """Yield a function that appends packets to a video file; the file is complete afterwards.

    Parameters
    ----------
    path : Path
        File to write; its suffix does not matter.
    container : str
        A value of :data:`CONTAINERS`.
    headers : bytes
        Parameter sets and SEI in Annex B form.
    fps : Fraction
        Frames per second.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if container == "h264":
        with path.open("wb") as stream:
            yield lambda packet: _write_raw(stream, packet)
        return
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with av.open(str(path), "w", format=container, options=options) as output:
        yield _packet_muxer(output, headers, fps)


def _write_raw(stream: io.BufferedWriter, packet: Packet) -> None:
    stream.write(packet.data)


def _packet_muxer(output: OutputContainer, headers: bytes, fps: Fraction) -> WritePacket:
    stream: av.VideoStream | None = None

    def write(packet: Packet) -> None:
        nonlocal stream
        data = packet.data
        if stream is None:
            stream = _video_stream(output, headers + data, fps)
            data = sei_units(headers) + data
        muxed = av.Packet(data)
        muxed.stream = stream
        muxed.time_base = 1 / fps
        muxed.pts, muxed.dts, muxed.duration = packet.pts, packet.dts, 1
        muxed.is_keyframe = packet.keyframe
        output.mux(muxed)

    return write


def _video_stream(output: OutputContainer, first_frame: bytes, fps: Fraction) -> av.VideoStream:
    """Add a stream described by parameter sets and one frame, which FFmpeg's parser reads."""
    with av.open(
        io.BytesIO(first_frame), format="h264", options={"framerate": f"{fps}"}
    ) as template:
        stream = output.add_stream_from_template(template.streams.video[0])
    stream.time_base = 1 / fps
    return stream
