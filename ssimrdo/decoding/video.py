"""Opening a video file, plain or in DICOM, with the record of its series."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

import av
from av.container import InputContainer
from numpy.typing import NDArray

from ssimrdo.codecs.base import FFMPEG_MARGIN
from ssimrdo.dicom.read.elements import DamagedError
from ssimrdo.dicom.read.video import encapsulated_video, is_dicom
from ssimrdo.errors import InputError, cause_of
from ssimrdo.frames import FrameFormat
from ssimrdo.record.ct import MAX_BYTES, NAME, SeriesRecord, read_record
from ssimrdo.record.sidecar import sidecar_path
from ssimrdo.text import printable
from ssimrdo.video.attachment import attached
from ssimrdo.video.decode import luma_plane

COPY_AGAIN: Final = "copy the file again, or encode the series again"

DAMAGED: Final = (OSError, av.error.FFmpegError, UnicodeError)
"""What PyAV raises of files: FFmpeg's errors, and its own of metadata that is no UTF-8."""

ITS_OWN: Final = "give the record that was written with the video"

Video: TypeAlias = Path | BinaryIO
"""What FFmpeg opens."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video file is.

    Parameters
    ----------
    codec : str
        FFmpeg's name of its codec.
    payload_bytes : int
        Size of its packets.
    """

    codec: str
    payload_bytes: int


@contextmanager
def opened_video(path: Path) -> Iterator[Video]:
    """Yield what FFmpeg opens: the file, or the video in it if it is DICOM.

    Raises
    ------
    InputError
        If the file cannot be read, or is DICOM without a video.
    """
    shown = printable(path)
    try:
        if not is_dicom(path):
            yield path
            return
        parts = encapsulated_video(path)
    except DamagedError as error:
        raise InputError(f"{shown}: {error}", remedy="give a video") from None
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {cause_of(error)}") from error
    with parts:
        yield cast(BinaryIO, parts)


def record_of(video: Video, path: Path, given: Path | None = None) -> SeriesRecord:
    """Return the record of a video: that given, else the one inside, else that of the sidecar.

    Parameters
    ----------
    video : Path or binary stream
        As :func:`opened_video` yields it.
    path : Path
        The file, which messages name, and beside which the sidecar stands.
    given : Path, optional
        A sidecar of another name.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    if given is not None:
        return read_record(_content(given), printable(given))
    try:
        data = attached(video, NAME, MAX_BYTES)
    except DAMAGED as error:
        raise _undecodable(path, error) from error
    if data is not None:
        return read_record(data, f"{printable(path)}: the record inside")
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        raise InputError(
            f"{printable(path)}: holds no record of the series, and {printable(sidecar.name)} is "
            "not beside it",
            remedy="give it with {record}",
        )
    return read_record(_content(sidecar), printable(sidecar))


def facts_of(video: Video, path: Path, record: SeriesRecord) -> VideoFacts:
    """Return what a video file is, checked against its record before anything is decoded.

    Raises
    ------
    InputError
        If it cannot be read, or is not of the record's size.
    """
    coded = frames_of(record).padded()
    try:
        with _opened(video, coded) as source:
            if not source.streams.video:
                raise InputError(f"{printable(path)}: has no video", remedy="give a video")
            stream = source.streams.video[0]
            # PyAV has none for codecs that FFmpeg does not know, whatever its types say.
            if getattr(stream, "codec_context", None) is None:
                raise InputError(f"{printable(path)}: its codec is unknown", remedy=COPY_AGAIN)
            context = stream.codec_context
            found = context.height, context.width
            payload = sum(packet.size for packet in source.demux(stream))
            codec = context.name
    except DAMAGED as error:
        raise _undecodable(path, error) from error
    if found != coded.shape:
        rows, columns = found
        raise InputError(
            f"{printable(path)}: is {columns}x{rows}, its record {coded.columns}x{coded.rows}",
            remedy=ITS_OWN,
        )
    return VideoFacts({"libdav1d": "av1"}.get(codec, codec), payload)


def decoded_frames(video: Video, path: Path, record: SeriesRecord) -> Iterator[NDArray[Any]]:
    """Yield the luma of every slice as it is coded, cropped, and checked against the record.

    Raises
    ------
    InputError
        If the file cannot be decoded, or a frame is not the one that was encoded.
    """
    frames = frames_of(record)
    coded = frames.padded()
    number = 0
    try:
        with _opened(video, coded) as source:
            stream = source.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = _limits(coded)
            for frame in source.decode(stream):
                number += 1
                if number > record.frames or (frame.height, frame.width) != coded.shape:
                    raise InputError(
                        f"{printable(path)}: shows more than the slices of its record",
                        remedy=ITS_OWN,
                    )
                luma = luma_plane(frame, record.bit_depth)
                if luma.dtype != frames.dtype:
                    raise InputError(
                        f"{printable(path)}: has other samples than its record", remedy=ITS_OWN
                    )
                if zlib.crc32(luma.tobytes()) != record.checksums[number - 1]:
                    raise InputError(
                        f"{printable(path)}: slice {number} does not decode to what was encoded: "
                        "the file or its record is damaged",
                        remedy=COPY_AGAIN,
                    )
                yield frames.crop(luma)
    except DAMAGED as error:
        raise _undecodable(path, error) from error
    if number != record.frames:
        raise InputError(
            f"{printable(path)}: only {number} of {record.frames} slices can be decoded",
            remedy=COPY_AGAIN,
        )


def frames_of(record: SeriesRecord) -> FrameFormat:
    """Return the format of a record's slices."""
    return FrameFormat(
        record.rows,
        record.columns,
        record.bit_depth,
        full_range=record.luma_range == "full",
    )


def _opened(video: Video, coded: FrameFormat) -> InputContainer:
    if isinstance(video, Path):
        return av.open(str(video), "r", options=_limits(coded))
    video.seek(0)
    return av.open(video, "r", options=_limits(coded))


def _limits(coded: FrameFormat) -> dict[str, str]:
    """Return FFmpeg's options by which a stream that claims to be larger gets no memory."""
    rows, columns = coded.shape
    return {"max_pixels": f"{(rows + FFMPEG_MARGIN) * (columns + FFMPEG_MARGIN)}"}


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read: {cause_of(error)}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{printable(path)}: is too large for a record", remedy="give another")
    return data


def _undecodable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or "it is not a video"
    return InputError(f"{printable(path)}: cannot be decoded: {reason}", remedy=COPY_AGAIN)
