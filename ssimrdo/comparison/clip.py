"""The frames that every encoder of a comparison gets: one series in one temporary file."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Window, load_hu, open_series
from ssimrdo.encoding.ct_series import StoredScale
from ssimrdo.encoding.source import open_source
from ssimrdo.encoding.views import TissueCount
from ssimrdo.frames import FrameFormat, FrameSource, no_padding
from ssimrdo.metrics.tissue import TissueMap
from ssimrdo.volumes import is_volume_file, open_volume

logger = logging.getLogger(__name__)

STORED_DEPTH: Final = 16
"""Bits of stored values."""

WHOLE_HU: Final = StoredScale("1", "-32768")
"""Of what has no stored values of its own, or slices of several scales."""


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What a report says of a clip.

    Parameters
    ----------
    slices : int
        How many there are.
    format : FrameFormat
        Of the slices.
    window : Window
        Window the luma was made with.
    left_out : int
        Files of the folder that are not in it: other modalities, duplicates, damaged ones.
    window_source : str, optional
        Where the window comes from.
    """

    slices: int
    format: FrameFormat
    window: Window
    left_out: int
    window_source: str | None = None


@dataclass(frozen=True)
class StoredSlices:
    """The slices of a clip in HU, on disk.

    Parameters
    ----------
    samples : memmap of shape (slices, rows, columns), uint16
        Stored values.
    scale : StoredScale
        What they mean in HU.
    digest : str
        Hash of the samples and their scale.
    """

    samples: NDArray[np.uint16]
    scale: StoredScale
    digest: str

    def hu(self, index: int) -> NDArray[np.float32]:
        """Return a slice in HU, an ndarray of shape (rows, columns)."""
        return self.scale.hu(np.asarray(self.samples[index]))


@dataclass(frozen=True)
class Clip:
    """One series as luma, on disk.

    Parameters
    ----------
    name : str
        What the comparison calls the series.
    samples : memmap of shape (slices, rows, columns), uint8 or uint16
        The slices.
    facts : ClipFacts
        What is left to say of the clip when its samples are gone.
    digest : str
        Hash of the samples and their shape: what was made of the DICOM files, however.
    tissues : memmap of shape (slices, rows, columns), uint8
        What the samples belong to, as :class:`ssimrdo.metrics.tissue.TissueMap` has it.
    count : TissueCount
        Counts errors by tissue.
    inverted : bool
        Whether the lowest HU are shown white.
    stored : StoredSlices, optional
        The slices in HU, where an encoder takes them.
    padding : callable
        As :class:`ssimrdo.frames.FrameSource` has it.
    """

    name: str
    samples: NDArray[Any]
    facts: ClipFacts
    digest: str
    tissues: NDArray[np.uint8]
    count: TissueCount
    inverted: bool = False
    stored: StoredSlices | None = None
    padding: Callable[[int], NDArray[np.bool_] | None] = no_padding

    @property
    def format(self) -> FrameFormat:
        """Format of the slices."""
        return self.facts.format

    def tissue_map(self, index: int) -> TissueMap:
        """Return what the samples of a slice belong to."""
        return TissueMap(self.tissues[index])

    def source(self, most: int | None = None) -> FrameSource:
        """Return the slices, or the first of them, for the loop that encodes."""
        return _source(self.samples[:most], self.format)

    def stored_source(self, most: int | None = None) -> FrameSource:
        """Return the slices, or the first of them, as stored values."""
        assert self.stored is not None, "an encoder takes them"
        samples = self.stored.samples[:most]
        return _source(samples, replace(self.format, bit_depth=STORED_DEPTH))


def _source(samples: NDArray[Any], frames: FrameFormat) -> FrameSource:
    def each() -> Iterator[NDArray[Any]]:
        for frame in samples:
            yield np.asarray(frame)

    return FrameSource(frames, len(samples), each)


def load_clip(
    path: Path,
    name: str,
    raw: Path,
    *,
    window: Window | None,
    bit_depth: int,
    fps: Fraction,
    limit: int | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
    with_hu: bool = False,
    warn: Callable[[str], object] = logger.warning,
) -> Clip:
    """Read a series slice by slice into a raw file and map that file into memory.

    Beside it is a nameless one with what the samples belong to, for all encoders alike.

    Parameters
    ----------
    path : Path
        Folder of the series, or a DICOM file.
    name : str
        What to call it.
    raw : Path
        File to write; it must stay as long as the clip is used.
    window, bit_depth, fps, limit, series_uid, skip_bad, warn
        As :func:`ssimrdo.encoding.source.open_source`.
    with_hu : bool
        Whether the slices are kept in HU as well.

    Raises
    ------
    InputError
        If the series cannot be used.
    OSError
        If the raw file cannot be written.
    """
    opened = open_source(
        path,
        window=window,
        bit_depth=bit_depth,
        fps=fps,
        series_uid=series_uid,
        skip_bad=skip_bad,
        name=name,
        limit=limit,
        warn=warn,
    )
    assert opened.window is not None, "series have one"
    frames = opened.frames.format
    count_errors = TissueCount.of(opened.window, frames, inverted=opened.inverted)
    digest, count = hashlib.sha256(), 0
    with raw.open("wb") as stream, tempfile.TemporaryFile(dir=raw.parent) as codes:
        for luma in opened.frames.frames():
            padding = opened.frames.padding(count)
            data = np.ascontiguousarray(luma, frames.dtype).data
            stream.write(data)
            digest.update(data)
            codes.write(count_errors.tissue_map(luma, frames, padding).codes.data)
            count += 1
        shape = (count, *frames.shape)
        tissues = np.memmap(codes, np.uint8, mode="c", shape=shape)
    digest.update(repr((shape, frames.dtype.str)).encode())
    left_out = len(opened.skipped) + len(opened.notes.bad)
    return Clip(
        name,
        # Numba compiles anew for read-only arrays, in the middle of a timed encode; "c" is
        # writable in memory alone.
        np.memmap(raw, frames.dtype, mode="c", shape=shape),
        ClipFacts(count, frames, opened.window, left_out, opened.window_source),
        digest.hexdigest(),
        tissues,
        count_errors,
        opened.inverted,
        _stored(path, series_uid, skip_bad, opened.notes.used, raw.parent) if with_hu else None,
        opened.frames.padding,
    )


def _stored(
    path: Path, series_uid: str | None, skip_bad: bool, used: Sequence[int], folder: Path
) -> StoredSlices:
    """Read slices in HU, by their places in a series, into a nameless file in a folder."""
    scale, slices = _slices_in_hu(path, series_uid, skip_bad, used)
    digest = hashlib.sha256(repr(scale).encode())
    shape: tuple[int, ...] = ()
    with tempfile.TemporaryFile(dir=folder) as stream:
        for hu in slices:
            stored = scale.stored(hu)
            shape = (len(used), *stored.shape)
            stream.write(stored.data)
            digest.update(stored.data)
        samples = np.memmap(stream, np.uint16, mode="c", shape=shape)
    return StoredSlices(samples, scale, digest.hexdigest())


def _slices_in_hu(
    path: Path, series_uid: str | None, skip_bad: bool, used: Sequence[int]
) -> tuple[StoredScale, Iterator[NDArray[np.float32]]]:
    """Return what stored values mean, and slices in HU by their places."""
    if is_volume_file(path):
        # These are the first ones.
        slices = islice(open_volume(path, series_uid).hu, len(used))
        return WHOLE_HU, (np.asarray(hu, np.float32) for hu in slices)
    series, _ = open_series(path, series_uid=series_uid, skip_bad=skip_bad)
    scales = {StoredScale.of(header) for header in series.slices}
    scale = scales.pop() if len(scales) == 1 else WHOLE_HU
    return scale, (load_hu(series.slices[index]) for index in used)
