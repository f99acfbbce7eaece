"""Videos as slices: every frame in its place, and what the record beside our own tells."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import av
from av.container import InputContainer
from numpy.typing import NDArray

from ssimrdo.decoding.video import opened_video, record_of
from ssimrdo.dicom import Window
from ssimrdo.dicom.padding import PADDING, with_padding
from ssimrdo.errors import InputError, cause_of
from ssimrdo.measurement.samples import (
    JPEG2000,
    ColourError,
    grey_samples,
    is_limited,
    jpeg2000_bits,
)
from ssimrdo.record.ct import SeriesRecord
from ssimrdo.record.sidecar import recorded_padding, sidecar_path
from ssimrdo.text import printable
from ssimrdo.video.decode import luma_plane
from ssimrdo.video.errors import ffmpeg_errors_of

VideoRange: TypeAlias = Literal["auto", "full", "limited"]

RANGES: Final = ("auto", "full", "limited")

LOOKED_AT: Final = 8
"""Frames that are decoded to see whether a record is of this video."""


@dataclass(frozen=True)
class Video:
    """What a video file holds.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    count : int
        Frames.
    peak : int
        Largest luma of its bit depth.
    frames : callable
        Returns an iterator over its frames in the order in which they are shown: luma of full
        range, masked where its record tells of padding, or reason and number of what does not
        decode.
    window : Window, optional
        The one that it was made with, as its record tells.
    inverted : bool
        Whether the lowest HU are shown white.
    positions_mm : tuple of float, optional
        Where its slices lie.
    notes : tuple of str
        What is to be told of how it was read.
    padding : {"darkest", "air"}
        How padding is shown.
    """

    shape: tuple[int, int]
    count: int
    peak: int
    frames: Callable[[], Iterator[NDArray[Any] | tuple[str, str]]]
    window: Window | None = None
    inverted: bool = False
    positions_mm: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    padding: str = PADDING


@dataclass(frozen=True, slots=True)
class _Record:
    """What the record in or beside a video tells.

    Without that of its series nothing is known of single frames, and they are not cropped.
    """

    bit_depth: int
    frames: int
    window: Window
    inverted: bool
    positions_mm: tuple[float, ...] | None
    padding: str
    series: SeriesRecord | None = None

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows and columns of the slices."""
        return None if self.series is None else (self.series.rows, self.series.columns)

    @property
    def checksums(self) -> tuple[int, ...]:
        """CRC-32 of every frame."""
        return () if self.series is None else self.series.checksums


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the frames of a video are read."""

    shape: tuple[int, int]
    limited: bool | None
    bits: int | None
    record: _Record | None

    def samples(self, frame: av.VideoFrame | None, number: int) -> NDArray[Any] | str:
        """Return the samples of a frame, or why there are none."""
        if frame is None:
            return "the frame does not decode"
        if frame.is_corrupt:
            return "the frame is damaged"
        if self.record is not None and not _is_as_encoded(frame, number - 1, self.record):
            return "the frame does not decode to what was encoded"
        try:
            samples, _ = grey_samples(frame, limited=self.limited, coded_bits=self.bits)
        except ValueError as error:
            return str(error)
        if samples.shape != self.shape:
            rows, columns = self.shape
            return f"is {samples.shape[1]}x{samples.shape[0]}, the first {columns}x{rows}"
        if self.record is None or self.record.series is None:
            return samples
        series = self.record.series
        return with_padding(samples[: series.rows, : series.columns], series.padding_in(number - 1))


def open_video(path: Path, video_range: VideoRange = "auto") -> Video:
    """Look at a video file, plain or in DICOM: packets are counted, its first frame is decoded.

    Parameters
    ----------
    path : Path
        Video file.
    video_range : {"auto", "full", "limited"}
        Whether luma runs from 0 to 255 or from 16 to 235 (at 8 bit), and is then expanded. By
        default the stream says; a YUV stream that does not is limited, as players take it.

    Raises
    ------
    InputError
        If it cannot be decoded, has no video, or is in colour as RGB.
    """
    shown = printable(path)
    limited = None if video_range == "auto" else video_range == "limited"
    try:
        places, bits = _places(path)
        early = [(time, frame) for time, frame in islice(_decoded(path), LOOKED_AT) if frame]
    except OSError as error:
        raise _unreadable(shown, cause_of(error)) from error
    if not early:
        raise _unreadable(shown, "no frame of it decodes")
    first = early[0][1]
    try:
        samples, peak = grey_samples(first, limited=limited, coded_bits=bits)
    except ColourError as error:
        raise InputError(f"{shown}: {error}", remedy="give a grey video") from error
    except ValueError as error:
        raise InputError(f"{shown}: {error}") from error
    notes = []
    if is_limited(first) if limited is None else limited:
        notes.append("luma is of limited range, and is expanded")
    shape = (int(samples.shape[0]), int(samples.shape[1]))
    record = _record(path)
    if record is not None and not _is_of(record, peak, places, early):
        notes.append("its record is of another video, and is not used")
        record = None
    reading = _Reading(shape, limited, bits, record)

    def frames() -> Iterator[NDArray[Any] | tuple[str, str]]:
        number = 0
        try:
            for number, frame in enumerate(_in_order(path, places), start=1):
                found = reading.samples(frame, number)
                yield (found, f"{shown}, frame {number}") if isinstance(found, str) else found
        except OSError as error:
            raise _unreadable(f"{shown}, frame {number + 1}", cause_of(error)) from error

    return Video(
        (record and record.shape) or shape,
        len(places),
        peak,
        frames,
        record.window if record else None,
        record.inverted if record else False,
        record.positions_mm if record else None,
        tuple(notes),
        record.padding if record else PADDING,
    )


def _is_of(
    record: _Record,
    peak: int,
    places: list[int | None],
    early: list[tuple[int | None, av.VideoFrame]],
) -> bool:
    """Tell whether a record is of a video: by depth, number, size, and some frame that is equal."""
    if (1 << record.bit_depth, record.frames) != (peak + 1, len(places)):
        return False
    first = early[0][1]
    if record.shape is not None:
        padded = tuple(side + side % 2 for side in record.shape)
        if (first.height, first.width) not in (record.shape, padded):
            return False
    return not record.checksums or any(
        _is_as_encoded(frame, places.index(time) if time in places else place, record)
        for place, (time, frame) in enumerate(early)
    )


def _is_as_encoded(frame: av.VideoFrame, index: int, record: _Record) -> bool:
    """Tell whether a frame has the checksum of its record, as far as there is one."""
    if not record.checksums:
        return True
    return zlib.crc32(luma_plane(frame, record.bit_depth).tobytes()) == record.checksums[index]


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    with (
        ffmpeg_errors_of(path),
        opened_video(path.absolute()) as video,
        av.open(str(video) if isinstance(video, Path) else video, "r") as source,
    ):
        if not source.streams.video:
            raise InputError(f"{printable(path)}: has no video", remedy="give another file")
        yield source


def _places(path: Path) -> tuple[list[int | None], int | None]:
    """Return when each frame is shown, in that order; None where the stream does not tell.

    And the bits per sample, where FFmpeg does not tell how many were coded.
    """
    bits = None
    with _opened(path) as source:
        stream = source.streams.video[0]
        times: list[int | None] = []
        for packet in source.demux(stream):
            if packet.size and not packet.is_discard:
                if not times and stream.codec.name in JPEG2000:
                    bits = jpeg2000_bits(bytes(packet))
                times.append(packet.pts)
    known = {time for time in times if time is not None}
    # Two frames at one time, or no time at all: they can only be counted.
    return ([*sorted(known)] if len(known) == len(times) else [None] * len(times)), bits


def _decoded(path: Path) -> Iterator[tuple[int | None, av.VideoFrame | None]]:
    """Yield every frame with its time, and None where something did not decode."""
    with _opened(path) as source:
        stream = source.streams.video[0]
        # With threads an error comes late and takes frames that are good with it.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        for packet in source.demux(stream):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, EOFError):
                yield packet.pts, None
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                yield frame.pts, frame


def _in_order(path: Path, places: list[int | None]) -> Iterator[av.VideoFrame | None]:
    """Yield as many frames as there are places, None in those that no frame came for."""
    index_of = {time: index for index, time in enumerate(places) if time is not None}
    done = 0
    for time, frame in _decoded(path):
        if frame is None:
            if not index_of:
                raise OSError(0, "frames without times cannot be told apart once one is damaged")
            continue
        index = index_of.get(time, done) if time is not None else done
        # Frames come in the order in which they are shown.
        if index < done or index >= len(places):
            continue
        yield from [None] * (index - done)
        yield frame
        done = index + 1
    if not index_of and done < len(places):
        raise OSError(0, f"only {done} of {len(places)} frames decode, and no times tell which")
    yield from [None] * (len(places) - done)


def _record(path: Path) -> _Record | None:
    """Return what the record in or beside a video tells; None where there is none of ours."""
    try:
        with opened_video(path) as video:
            found = record_of(video, path)
    except InputError:
        return _sidecar(path)
    return _Record(
        found.bit_depth,
        found.frames,
        found.window,
        found.inverted,
        found.along_mm,
        found.padding,
        found,
    )


def _sidecar(path: Path) -> _Record | None:
    """Return what the sidecar of an encode of arrays tells, or of one by an earlier version."""
    try:
        text = sidecar_path(path).read_text(encoding="utf-8")
        found = json.loads(text)
        grey, along = found["grey"], found["geometry"]["along_mm"]
        positions = None if along is None else tuple(map(float, along))
        frames = int(found["frames"])
        if positions is not None and (
            len(positions) != frames or not all(map(math.isfinite, positions))
        ):
            positions = None
        window = Window(grey["center"], grey["width"], grey["function"])
        padding = recorded_padding(found)
        depth, inverted = int(grey["bit_depth"]), bool(grey["inverted"])
        return _Record(depth, frames, window, inverted, positions, padding)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, InputError):
        return None


def _unreadable(where: str, reason: str) -> InputError:
    return InputError(f"{where}: cannot be decoded: {reason}")
