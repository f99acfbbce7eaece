"""Encoding into a DICOM object: what its transfer syntax asks of the stream, and the object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Codec
from ssimrdo.codecs.x264 import level as h264
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x265 import level as hevc
from ssimrdo.codecs.x265.codec import X265
from ssimrdo.dicom import Series, SliceHeader, open_series
from ssimrdo.dicom.luma import load_luma
from ssimrdo.dicom.write.identity import identity_of, matching_slices
from ssimrdo.dicom.write.objects import Derivation, SeriesIds, sources_of
from ssimrdo.dicom.write.video import VideoObject, transfer_syntax, write_video_object
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.source import OpenedSource, SeriesLike
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.text import printable

_BYTES_PER_PIXEL: Final = 2

Level: TypeAlias = h264.Level | hevc.Level


@dataclass(frozen=True)
class _Standard:
    """What DICOM's transfer syntaxes for a codec hold.

    Parameters
    ----------
    title : str
        What people call the codec.
    deeper : str
        Why more than 8 bits per sample are refused.
    highest : str
        The highest level.
    level_of : callable
        Returns the level that frames of a format are given.
    at_level : callable
        Returns a codec whose streams keep to a level.
    """

    title: str
    deeper: str
    highest: str
    level_of: Callable[[FrameFormat], Level | None]
    at_level: Callable[[Any, Any, FrameFormat], Codec]


_STANDARDS: Final[Mapping[type, _Standard]] = MappingProxyType(
    {
        X264: _Standard(
            "H.264",
            "DICOM has no transfer syntax for H.264 of 10 bit (High 10)",
            h264.LEVELS[-1].name,
            h264.level_of,
            h264.at_level,
        ),
        X265: _Standard(
            "HEVC",
            "the class for video of CT in DICOM takes 8 bits per sample",
            hevc.LEVELS[-1].name,
            hevc.level_of,
            hevc.at_level,
        ),
    }
)
"""By the kind of the codec."""


@dataclass(frozen=True)
class Original:
    """Patient and study, and the images that frames come from.

    Parameters
    ----------
    ids : SeriesIds
        For what is written.
    slices : tuple of SliceHeader
        One for each slice of the source.
    """

    ids: SeriesIds
    slices: tuple[SliceHeader, ...]


def check_settings(settings: EncodeSettings) -> None:
    """Check that a DICOM object may hold what is asked for, before any work is done for it.

    Raises
    ------
    InputError
        If it may not.
    """
    standard = _STANDARDS.get(type(settings.codec))
    if standard is None:
        raise InputError("only x264 and x265 write video for DICOM", field="codec")
    if settings.bit_depth != 8:
        raise InputError(
            standard.deeper, field="bit_depth", remedy="take 8 bit, or write .mkv or .mp4"
        )


def for_dicom(
    settings: EncodeSettings, opened: OpenedSource
) -> tuple[EncodeSettings, OpenedSource, Level]:
    """Return settings and source as the transfer syntax asks for, and the level.

    Frames are coded in the limited range: H.264 at level 4.1 or 4.2 of the High profile, HEVC at
    level 4.1 or 5.1 of the Main profile.

    Raises
    ------
    InputError
        If pixels are not square, or slices are too large for these levels.
    """
    shown, standard = opened.frames.format, _STANDARDS[type(settings.codec)]
    if shown.aspect != 1:
        raise InputError(
            f"{opened.name}: video in DICOM has square pixels, and those of the slices are "
            f"{float(shown.aspect):.4g} times as wide as high",
            remedy="write .mkv or .mp4, which keep their shape",
        )
    level = standard.level_of(shown)
    if level is None:
        raise InputError(
            f"{opened.name}: {shown.columns}x{shown.rows} at {float(shown.fps):g} per second "
            f"are beyond level {standard.highest} of {standard.title}, the highest in DICOM",
            remedy="take a lower {fps}, or write .mkv or .mp4",
        )
    codec = standard.at_level(settings.codec, level, shown)
    frames = replace(opened.frames, format=replace(shown, full_range=False))
    return replace(settings, codec=codec), replace(opened, frames=frames), level


def original_of(
    template: Path | str, source: SeriesLike, opened: OpenedSource, series_uid: str | None
) -> Original:
    """Return patient and study of a series that is shown to be the source, or its original.

    Raises
    ------
    InputError
        If the series cannot be used, or its slices lie elsewhere or are other images.
    """
    is_source = (
        isinstance(source, Path | str) and Path(source).resolve() == Path(template).resolve()
    )
    found, _ = open_series(template, series_uid=series_uid if is_source else None)
    if opened.planes is None:
        raise InputError(
            "the slices have no positions by which to know the original", field="template"
        )
    shape = opened.frames.format.shape
    slices = matching_slices(found, opened.planes, shape, template)
    if not is_source and not (isinstance(source, Series) and source == found):
        _check_same(slices, opened, template)
    return Original(SeriesIds(identity_of(slices[0])), slices)


def _luma(original: SliceHeader, opened: OpenedSource, depth: int) -> NDArray[Any]:
    assert opened.window is not None, "sources with positions have one"
    return load_luma(original, opened.window, bit_depth=depth, padding=opened.padding)


def _check_same(slices: Sequence[SliceHeader], opened: OpenedSource, template: Path | str) -> None:
    assert opened.window is not None, "sources with positions have one"
    depth = opened.frames.format.bit_depth
    for index, luma in enumerate(opened.frames.frames()):
        original = slices[opened.notes.used[index]]
        if not np.array_equal(_luma(original, opened, depth), luma):
            raise InputError(
                f"{printable(template)}: slice {index + 1} lies where that of the source does, but "
                "is another image",
                field="template",
                remedy="give the original of the source",
            )


def write_object(
    path: Path,
    payload: Path,
    opened: OpenedSource,
    original: Original | None,
    *,
    codec: Codec,
    level: Level,
    payload_bytes: int,
) -> None:
    """Write a finished MP4 file as a DICOM object.

    Parameters
    ----------
    path, payload : Path
        The object, and the MP4 file.
    opened : OpenedSource
        What was encoded.
    original : Original, optional
        Patient, study and sources; nothing without it.
    codec : Codec
        Of the stream.
    level : Level
        Of the stream.
    payload_bytes : int
        Size of the stream without its container.
    """
    shown, used = opened.frames.format, opened.notes.used
    coded, count = shown.padded(), len(used) or opened.frames.count
    ratio = shown.rows * shown.columns * count * _BYTES_PER_PIXEL / payload_bytes
    window = "" if opened.window is None else f" in the window {opened.window}"
    title = _STANDARDS[type(codec)].title
    derivation = Derivation(
        codec.syntax, ratio, f"Slices of CT{window} as {title}, compressed {ratio:.1f}:1 with loss"
    )
    sources = () if original is None else sources_of(original.slices[index] for index in used)
    plane = opened.planes[0] if opened.planes else None
    video = VideoObject(
        rows=coded.rows,
        columns=coded.columns,
        frames=count,
        fps=shown.fps,
        syntax=transfer_syntax(codec.syntax, level.name),
        pixel_spacing=None if plane is None else plane.pixel_spacing,
        sources=sources,
    )
    ids = SeriesIds() if original is None else original.ids
    write_video_object(path, payload, video, ids, derivation)
