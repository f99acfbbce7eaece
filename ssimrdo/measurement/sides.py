"""The two sides of a measurement: where slices come from, one like the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Series, Volume, Window, geometry_of, open_series
from ssimrdo.dicom.padding import PADDING, hu_of, with_padding
from ssimrdo.dicom.read.archive import is_archive
from ssimrdo.dicom.read.load import load_slice
from ssimrdo.dicom.read.video import holds_video
from ssimrdo.errors import BadSliceError, InputError, SeveralSeriesError
from ssimrdo.measurement.pictures import open_picture, picture_files
from ssimrdo.measurement.videos import VideoRange, open_video
from ssimrdo.text import printable
from ssimrdo.volumes import count_volumes, is_volume_file, open_volume

FLOAT_PEAK: Final = 65535
"""Largest level of frames of real numbers: they are rounded to 16 bits."""

Frames: TypeAlias = NDArray[Any] | Iterable[NDArray[Any]]

SideLike: TypeAlias = Path | str | Series | Volume | Frames
"""A folder, a file, a series that was found, HU as a volume, or frames as arrays."""

Kind: TypeAlias = Literal["series", "video", "pictures", "arrays"]


@dataclass(frozen=True, slots=True)
class Damaged:
    """A slice that cannot be used.

    Parameters
    ----------
    reason : str
        What is wrong with it; neither a path nor text of a header.
    where : str
        Its file or number, for messages alone.
    """

    reason: str
    where: str


Slice: TypeAlias = NDArray[Any] | Damaged


@dataclass(frozen=True)
class Side:
    """Slices of one side.

    Parameters
    ----------
    name : str
        What messages call it: the printable path that was given, or such as "the reference volume".
    kind : {"series", "video", "pictures", "arrays"}
        What it is; volumes count as series, because both have HU.
    shape : tuple of int
        Rows and columns of a slice.
    count : int
        How many slices there are; 0 where nobody knows before the end.
    frames : callable
        Returns an iterator over all slices in their order: HU of float32 or, if there is a peak,
        luma from 0 to it of uint8 or uint16; masked where they are padding. :class:`Damaged` in
        place of what cannot be used.
    peak : int, optional
        Largest luma; None for HU.
    step : float
        What a luma step is in the unit that the user gave.
    window : Window, optional
        The one that HU come with, or that a record says luma was made with.
    inverted : bool
        Whether the lowest HU are shown white.
    positions_mm : tuple of float, optional
        Where the slices lie along their normal.
    inputs : tuple of Path
        Files that no output may replace.
    notes : tuple of str
        What is to be told of how it was read.
    header_windows : mapping of Window to int
        How many slices of a series come with each window.
    padding : {"darkest", "air"}
        How luma shows padding.
    """

    name: str
    kind: Kind
    shape: tuple[int, int]
    count: int
    frames: Callable[[], Iterator[Slice]]
    peak: int | None = None
    step: float = 1.0
    window: Window | None = None
    inverted: bool = False
    positions_mm: tuple[float, ...] | None = None
    inputs: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    header_windows: Mapping[Window, int] = field(default_factory=dict)
    padding: str = PADDING

    @property
    def has_hu(self) -> bool:
        """Whether its slices are HU."""
        return self.peak is None


def open_side(
    source: SideLike,
    *,
    field: str,
    data_range: float | None = None,
    video_range: VideoRange = "auto",
    series_uid: str | None = None,
    skip_bad: bool = False,
) -> Side:
    """Find out what a side is; no slice is read but the first.

    Parameters
    ----------
    source : Path, str, Series, Volume, ndarray or iterable of ndarray
        See :data:`SideLike`. A file or folder may hold a DICOM series, also as a DICOMDIR or an
        archive, a volume in NIfTI or NumPy, pictures or a video. Arrays of uint8 or uint16 are
        luma; others need a data range.
    field : str
        What errors call it, ``reference`` or ``distorted``.
    data_range : float, optional
        Largest luma of pictures, videos and arrays.
    video_range : {"auto", "full", "limited"}
        How the luma of videos is to be read; see :func:`ssimrdo.measurement.videos.open_video`.
    series_uid : str, optional
        Series Instance UID, where a folder holds several CT series.
    skip_bad : bool
        Leave out files whose header cannot be used.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    if isinstance(source, Volume):
        return _of_volume(source, field)
    if isinstance(source, Series):
        return _of_series(source, f"the {field} series")
    if not isinstance(source, Path | str):
        return _of_arrays(source, field, data_range)
    if not str(source):
        raise InputError("is empty", field=field, remedy="give a path")
    path = Path(source)
    pictures = picture_files(path)
    if pictures is not None:
        first = open_picture(pictures, printable(path))
        side = Side(
            printable(path),
            "pictures",
            first.shape,
            len(pictures),
            lambda: (
                one if isinstance(one, np.ndarray) else Damaged(*one) for one in first.frames()
            ),
            peak=first.peak,
            inputs=tuple(pictures),
        )
        return _ranged(side, data_range)
    if is_volume_file(path):
        # A number chooses on the side that has several.
        number = series_uid if count_volumes(path) > 1 else None
        side = _of_volume(open_volume(path, number), field)
        return replace(side, name=printable(path), inputs=(path,))
    is_dicom = _is_dicom(path) and not holds_video(path)
    if path.is_dir() or not path.exists() or is_dicom or is_archive(path):
        return _of_path(path, series_uid, skip_bad)
    video = open_video(path, video_range)
    side = Side(
        printable(path),
        "video",
        video.shape,
        video.count,
        lambda: (one if isinstance(one, np.ndarray) else Damaged(*one) for one in video.frames()),
        peak=video.peak,
        window=video.window,
        inverted=video.inverted,
        positions_mm=video.positions_mm,
        inputs=(path,),
        notes=video.notes,
        padding=video.padding,
    )
    return _ranged(side, data_range)


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _of_path(path: Path, series_uid: str | None, skip_bad: bool) -> Side:
    try:
        series, skipped = open_series(path, skip_bad=skip_bad)
    except SeveralSeriesError:
        if series_uid is None:
            raise
        series, skipped = open_series(path, series_uid=series_uid, skip_bad=skip_bad)
    side = _of_series(series, printable(path))
    reasons = Counter(file.reason for file in skipped if file.duplicate_of is None)
    notes = (
        f"left out {count} file{'s' * (count > 1)}: {reason}" for reason, count in reasons.items()
    )
    return replace(side, notes=tuple(notes))


def _of_series(series: Series, name: str) -> Side:
    def frames() -> Iterator[Slice]:
        for header in series.slices:
            try:
                yield with_padding(*load_slice(header))
            except BadSliceError as error:
                yield Damaged(error.cause, error.path)

    return Side(
        name,
        "series",
        (series.rows, series.columns),
        len(series),
        frames,
        window=series.header_window,
        inverted=series.slices[0].inverted,
        positions_mm=geometry_of(series).along_mm,
        inputs=tuple(dict.fromkeys(header.file for header in series.slices)),
        header_windows=series.header_windows,
    )


def _of_volume(volume: Volume, field: str) -> Side:
    first, again = _first_and_all(volume.slices, field)
    rows, columns = first.shape

    def frames() -> Iterator[Slice]:
        for number, given in enumerate(again(), start=1):
            bad = _checked(np.asarray(given), (rows, columns), number)
            yield (
                replace(bad, where=f"{field}, {bad.where}") if bad else with_padding(*hu_of(given))
            )

    return Side(
        f"the {field} volume",
        "series",
        (rows, columns),
        len(volume) if isinstance(volume.hu, Sized) else 0,
        frames,
        window=volume.window,
        inverted=volume.inverted,
        positions_mm=volume.geometry.along_mm,
    )


def _of_arrays(source: Frames, field: str, data_range: float | None) -> Side:
    if isinstance(source, np.ndarray) and source.ndim == 2:
        source = source[None]
    if isinstance(source, np.ndarray) and source.ndim != 3:
        raise InputError(f"arrays have 2 or 3 dimensions, not shape {source.shape}", field=field)
    first, again = _first_and_all(source, field)
    rows, columns = first.shape
    dtype = first.dtype
    is_luma = dtype in (np.dtype(np.uint8), np.dtype(np.uint16))
    if dtype.kind not in "iuf":
        raise InputError(f"{dtype} are no samples", field=field)
    if data_range is None and not is_luma:
        raise InputError(
            f"the range of {dtype} samples is not known",
            field=field,
            remedy="give a {data_range}, or HU as ssimrdo.Volume",
        )
    # All integers that fit stay what they are; others are rounded to 16 bits.
    whole = dtype.kind != "f" and (data_range is None or _is_peak(data_range))
    span = float(np.iinfo(dtype).max) if data_range is None else data_range
    peak = int(span) if whole else FLOAT_PEAK

    def frames() -> Iterator[Slice]:
        for number, given in enumerate(again(), start=1):
            samples = np.asarray(given)
            bad = _checked(samples, (rows, columns), number) or _outside(samples, span, number)
            yield (
                replace(bad, where=f"{field}, {bad.where}") if bad else _levels(samples, span, peak)
            )

    return Side(
        f"the {field} arrays",
        "arrays",
        (rows, columns),
        len(source) if isinstance(source, Sized) else 0,
        frames,
        peak=peak,
        step=span / peak,
    )


def _levels(samples: NDArray[Any], span: float, peak: int) -> NDArray[Any]:
    dtype = np.uint8 if peak <= 255 else np.uint16
    if peak == span and samples.dtype.kind != "f":
        return samples.astype(dtype)
    return np.floor(samples.astype(np.float64) * (peak / span) + 0.5).astype(dtype)


def _is_peak(data_range: float) -> bool:
    return data_range == int(data_range) and 1 <= data_range <= FLOAT_PEAK


def _checked(samples: NDArray[Any], shape: tuple[int, int], number: int) -> Damaged | None:
    where = f"slice {number}"
    if samples.shape != shape:
        return Damaged(f"has shape {samples.shape}, the first one {shape}", where)
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        return Damaged("has values that are no finite numbers", where)
    return None


def _outside(samples: NDArray[Any], span: float, number: int) -> Damaged | None:
    low, high = samples.min(), samples.max()
    if low >= 0 and high <= span:
        return None
    return Damaged(
        f"has samples from {low:g} to {high:g}, outside 0 to {span:g}", f"slice {number}"
    )


def _ranged(side: Side, data_range: float | None) -> Side:
    """Return a side with another peak, whose samples are checked as they come."""
    if data_range is None or data_range == side.peak:
        return side
    if not _is_peak(data_range):
        raise InputError(
            f"must be a whole number from 1 to {FLOAT_PEAK} for luma, not {data_range:g}",
            field="data_range",
        )
    peak, read = int(data_range), side.frames

    def frames() -> Iterator[Slice]:
        for number, one in enumerate(read(), start=1):
            if isinstance(one, Damaged):
                yield one
                continue
            bad = _outside(one, peak, number)
            if bad is not None:
                raise InputError(
                    f"{side.name}, {bad.where} {bad.reason}",
                    field="data_range",
                    remedy="give the largest",
                )
            yield one.astype(np.uint8 if peak <= 255 else np.uint16)

    return replace(side, peak=peak, frames=frames)


def _first_and_all(
    items: Frames, field: str
) -> tuple[NDArray[Any], Callable[[], Iterator[NDArray[Any]]]]:
    """Return the first slice, and what goes through all of them; an iterator's once."""
    try:
        remaining = iter(items)
    except TypeError:
        raise InputError(
            f"{type(items).__name__} is nothing that can be read", field=field
        ) from None
    found = next(remaining, None)
    if found is None:
        raise InputError("has no slices", field=field)
    first = np.asarray(found)
    if first.ndim != 2 or 0 in first.shape:
        raise InputError(f"a slice has rows and columns, not shape {first.shape}", field=field)
    if iter(items) is not items:
        return first, lambda: iter(items)
    return first, lambda: chain((first,), remaining)
