"""What is encoded: a series or a volume as luma frames, with all that a record tells of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import (
    Geometry,
    Series,
    SkippedFile,
    SliceHeader,
    Volume,
    Window,
    geometry_of,
    open_series,
)
from ssimrdo.dicom.digits import PlaneDigits, planes_of
from ssimrdo.dicom.grey import apply_window
from ssimrdo.dicom.luma import WindowSource, choose_window, luma_frames, window_source
from ssimrdo.dicom.padding import PADDING, hu_of, packed, show_padding, unpacked
from ssimrdo.dicom.spacing import check_regular, spacing_of
from ssimrdo.dicom.volume import sample_aspect_ratio
from ssimrdo.errors import BadSliceError, InputError
from ssimrdo.frames import FrameFormat, FrameSource
from ssimrdo.observer import Event, Observer
from ssimrdo.text import counted, printable
from ssimrdo.volumes import is_volume_file, open_volume

logger = logging.getLogger(__name__)

_MAX_REASONS: Final = 5

SeriesLike: TypeAlias = Path | str | Series | Volume
"""A folder that is searched recursively, a DICOM file, a DICOMDIR, an archive, a file of NIfTI or
NumPy, a series that was found, or a volume."""


@dataclass
class SourceNotes:
    """What going through the slices has shown; each passage begins anew.

    Parameters
    ----------
    used : list of int
        Indices of the slices that became frames, in their order.
    bad : dict of str to str
        Reason by name of the files that could not be decoded.
    odd : list of int
        Numbers, from 1, of the frames whose HU are implausible between those around them.
    padded : list of bytes or None
        What is padding in every frame, as :func:`ssimrdo.dicom.padding.packed` has it.
    """

    used: list[int] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    odd: list[int] = field(default_factory=list)
    padded: list[bytes | None] = field(default_factory=list)

    def begin(self) -> None:
        """Forget the last passage."""
        self.used, self.bad, self.odd, self.padded = [], {}, [], []

    def take(self, index: int, padded: NDArray[np.bool_] | None) -> None:
        """Note that a slice becomes the next frame, and what is padding in it."""
        self.used.append(index)
        found = None if padded is None or not padded.any() else packed(padded)
        # Most slices have that of the one before, which is then kept once.
        is_same = bool(self.padded) and self.padded[-1] == found
        self.padded.append(self.padded[-1] if is_same else found)


@dataclass(frozen=True)
class OpenedSource:
    """Slices, ready to be encoded.

    Parameters
    ----------
    name : str
        What messages name: the path that the user gave, printable, or "the volume".
    frames : FrameSource
        The luma frames.
    window : Window, optional
        What they are made with; None where luma was given.
    inverted : bool
        Whether the lowest HU are shown white.
    geometry : Geometry
        Of all slices.
    skipped : tuple of SkippedFile
        Files that are left out for what their headers say.
    paths : tuple of Path
        Files of the slices.
    notes : SourceNotes
        What the last passage has shown.
    window_source : str, optional
        Where the window comes from.
    header_windows : mapping of Window to int
        How many slices of a series come with each window.
    planes : tuple of PlaneDigits, optional
        Where all slices lie as their headers write it; None where that is not known.
    patient_position : str
        Patient Position; may be empty.
    padding : {"darkest", "air"}
        How padding is shown.
    source_bytes : int, optional
        Size of the files of the slices; None where they have none of their own.
    """

    name: str
    frames: FrameSource
    window: Window | None
    inverted: bool = False
    geometry: Geometry = field(default_factory=Geometry)
    skipped: tuple[SkippedFile, ...] = ()
    paths: tuple[Path, ...] = ()
    notes: SourceNotes = field(default_factory=SourceNotes)
    window_source: WindowSource | None = None
    header_windows: Mapping[Window, int] = field(default_factory=dict)
    planes: tuple[PlaneDigits, ...] | None = None
    patient_position: str = ""
    padding: str = PADDING
    source_bytes: int | None = None


def open_source(
    source: SeriesLike,
    *,
    window: Window | None,
    bit_depth: int,
    fps: Fraction,
    files: Collection[str] | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
    name: str = "",
    limit: int | None = None,
    padding: str = PADDING,
    warn: Callable[[str], object] = logger.warning,
) -> OpenedSource:
    """Find what is to be encoded and choose its window; no pixel is read.

    Parameters
    ----------
    source : Path, str, Series or Volume
        See :data:`SeriesLike`.
    window : Window, optional
        The slices' own when None.
    bit_depth : int
        Bits per luma sample.
    fps : Fraction
        Slices per second.
    files, series_uid, skip_bad
        As :func:`ssimrdo.dicom.open_series`; the first two for a folder only.
    name : str
        What the warning about a missing window calls the source, where there are several.
    limit : int, optional
        Take only so many slices, from the first on.
    padding : {"darkest", "air"}
        How padding is shown.
    warn : callable
        Takes each warning, now and while slices are read.

    Raises
    ------
    InputError
        If the source cannot be used.
    """
    wanted = _Wanted(window, bit_depth, fps, skip_bad, name, limit, warn, padding)
    if isinstance(source, Volume):
        return _opened_volume(source, wanted)
    if isinstance(source, Series):
        return _opened_series(source, (), source.slices[0].path.parent, wanted)
    if not isinstance(source, Path | str):
        raise InputError(
            f"{source!r:.60} is neither a path nor a series nor a volume", field="series"
        )
    if is_volume_file(source):
        shown = name or printable(source)
        return replace(
            _opened_volume(open_volume(source, series_uid), replace(wanted, name=shown)),
            paths=(Path(source),),
            source_bytes=_size_of((Path(source),)),
        )
    found, skipped = open_series(source, files=files, series_uid=series_uid, skip_bad=skip_bad)
    return _opened_series(found, skipped, source, wanted)


def look_at_spacing(opened: OpenedSource, *, strict: bool) -> None:
    """Warn of missing slices and uneven steps, or refuse them.

    Raises
    ------
    InputError
        If there are any and the source has to be ``strict``.
    """
    spacing = spacing_of(opened.geometry.along_mm)
    if strict:
        check_regular(spacing, opened.name)
    for text in spacing.texts().values():
        logger.warning("%s", text)


def tell_left_out(skipped: Sequence[SkippedFile], slices: int, observer: Observer) -> None:
    """Tell how many files are left out and why, if any are, before anything is encoded."""
    if not skipped:
        return
    reasons = Counter(file.reason for file in skipped).most_common(_MAX_REASONS)
    more = len(skipped) - sum(count for _, count in reasons)
    listed = [*reasons, *([("other reasons", more)] if more else ())]
    told = [f"{reason} ({count})" for reason, count in listed] if listed[1:] else [listed[0][0]]
    note = f"{counted(len(skipped), 'file')} left out: {'; '.join(told)}"
    observer.tell(Event(0, slices, note=note))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How slices are to be shown, and which of them."""

    window: Window | None
    bit_depth: int
    fps: Fraction
    skip_bad: bool
    name: str
    limit: int | None
    warn: Callable[[str], object]
    padding: str


def _opened_series(
    series: Series, skipped: tuple[SkippedFile, ...], path: Path | str, wanted: _Wanted
) -> OpenedSource:
    shown, first = printable(path), series.slices[0]
    aspect = sample_aspect_ratio(series.pixel_spacing_mm, lambda: first.shown)
    own, counts = series.header_window, series.header_windows
    used = choose_window(own, wanted.window, name=wanted.name, counts=counts, warn=wanted.warn)
    notes = SourceNotes()
    told: set[str] = set()
    # Every passage has to have the same slices.
    readable: dict[str, bool] = {}

    def note_odd(header: SliceHeader) -> None:
        # It is told once the slice behind it has been read.
        notes.odd.append(len(notes.used))
        if header.name not in told:
            told.add(header.name)
            wanted.warn(f"{header.name}: not like the slices around it; it may be damaged")

    def frames() -> Iterator[NDArray[Any]]:
        notes.begin()

        def note_bad(header: SliceHeader, error: BadSliceError) -> None:
            if readable.setdefault(header.name, False):
                cause = f"{error.cause}; it could be read before"
                raise BadSliceError(header.shown, cause) from error
            notes.bad[header.name] = error.cause

        for index, luma, padded in luma_frames(
            series.slices,
            used,
            bit_depth=wanted.bit_depth,
            padding=wanted.padding,
            on_bad=note_bad if wanted.skip_bad else None,
            on_odd=note_odd,
        ):
            header = series.slices[index]
            if not readable.setdefault(header.name, True):
                raise BadSliceError(header.shown, "can be read now, but could not be before")
            notes.take(index, padded)
            yield luma
            if len(notes.used) == wanted.limit:
                return
        if not notes.used:
            raise InputError(f"{shown}: no slice could be decoded")

    frame_format = FrameFormat(series.rows, series.columns, wanted.bit_depth, wanted.fps, aspect)
    count = min(len(series), wanted.limit or len(series))
    paths = tuple(dict.fromkeys(header.file for header in series.slices))
    # An archive may hold more than this series.
    is_packed = any(header.unpacked is not None for header in series.slices)
    return OpenedSource(
        shown,
        FrameSource(frame_format, count, frames, _padding_in(notes, frame_format)),
        used,
        series.slices[0].inverted,
        geometry_of(series),
        skipped,
        paths,
        notes,
        window_source(own, wanted.window),
        counts,
        tuple(header.plane for header in series.slices),
        series.slices[0].patient_position,
        wanted.padding,
        None if is_packed else _size_of(paths),
    )


def _padding_in(
    notes: SourceNotes, frames: FrameFormat
) -> Callable[[int], NDArray[np.bool_] | None]:
    """Return a function that tells what is padding in a frame that has been read."""

    def padding(index: int) -> NDArray[np.bool_] | None:
        found = notes.padded[index]
        return None if found is None else unpacked(found, frames.shape)

    return padding


def _size_of(paths: Iterable[Path]) -> int | None:
    """Return the size of files together; None where one is gone."""
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError:
        return None


def _opened_volume(volume: Volume, wanted: _Wanted) -> OpenedSource:
    used = choose_window(volume.window, wanted.window, name=wanted.name, warn=wanted.warn)
    first, again = _first_and_all(volume.slices, "hu")
    if np.ndim(first) != 2:
        raise InputError("a slice has rows and columns", field="hu")
    rows, columns = shape = np.shape(first)
    notes = SourceNotes()

    def frames() -> Iterator[NDArray[Any]]:
        notes.begin()
        for index, given in enumerate(again()):
            hu, padded = hu_of(given)
            if hu.shape != shape:
                raise InputError(f"slice {index + 1} is {hu.shape}, the first one {shape}")
            if not np.isfinite(hu).all():
                raise InputError(f"slice {index + 1} has values that are no finite numbers")
            notes.take(index, padded)
            luma = apply_window(hu, used, bit_depth=wanted.bit_depth, inverted=volume.inverted)
            show_padding(luma, padded, wanted.padding)
            yield luma
            if len(notes.used) == wanted.limit:
                return
        volume.check_positions(len(notes.used))

    spacing = volume.geometry.pixel_spacing_mm
    aspect = sample_aspect_ratio(spacing, lambda: "the volume")
    count = len(volume) if isinstance(volume.hu, Sized) else 0
    frame_format = FrameFormat(rows, columns, wanted.bit_depth, wanted.fps, aspect)
    return OpenedSource(
        wanted.name or "the volume",
        FrameSource(frame_format, count, frames, _padding_in(notes, frame_format)),
        used,
        volume.inverted,
        volume.geometry,
        notes=notes,
        window_source=window_source(volume.window, wanted.window),
        planes=planes_of(volume.geometry),
        padding=wanted.padding,
    )


def open_frames(
    frames: Iterable[NDArray[Any]],
    frame_format: FrameFormat | None,
    *,
    bit_depth: int,
    fps: Fraction,
) -> OpenedSource:
    """Return luma frames as a source, each checked as it comes.

    Parameters
    ----------
    frames : iterable of ndarray of shape (rows, columns)
        Full-range luma; an iterator can be gone through once.
    frame_format : FrameFormat, optional
        Of the frames; that of the first one, with square samples, when None.
    bit_depth : int
        Bits per luma sample, where there is no format.
    fps : Fraction
        Slices per second, where there is no format.

    Raises
    ------
    InputError
        If there is no frame.
    """
    first, again = _first_and_all(frames, "frames")
    if np.ndim(first) != 2:
        raise InputError("a frame has rows and columns", field="frames")
    rows, columns = np.shape(first)
    expected = frame_format or FrameFormat(rows, columns, bit_depth, fps)

    def checked() -> Iterator[NDArray[Any]]:
        for number, luma in enumerate(again(), start=1):
            try:
                expected.check(luma)
            except (ValueError, AttributeError) as error:
                raise InputError(f"frame {number}: {error}", field="frames") from error
            yield luma

    count = len(frames) if isinstance(frames, Sized) else 0
    return OpenedSource("the frames", FrameSource(expected, count, checked), None)


def _first_and_all(
    items: Iterable[NDArray[Any]], field_name: str
) -> tuple[NDArray[Any], Callable[[], Iterator[NDArray[Any]]]]:
    """Return the first item, and a function that returns an iterator over all.

    An iterator can be gone through once; what else is iterable, as often as need be.
    """
    try:
        remaining = iter(items)
    except TypeError:
        raise InputError(f"{items!r:.40} are no {field_name}", field=field_name) from None
    first = next(remaining, None)
    if first is None:
        raise InputError("is empty", field=field_name)
    if iter(items) is not items:
        return first, lambda: iter(items)
    unused = [chain((first,), remaining)]

    def once() -> Iterator[NDArray[Any]]:
        if not unused:
            raise InputError(
                "an iterator can be encoded in one pass only",
                field=field_name,
                remedy="give a list or an array, or a {crf}",
            )
        return unused.pop()

    return first, once
