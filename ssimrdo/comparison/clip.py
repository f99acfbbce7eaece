"""The frames that every encoder of a comparison gets: one series in one temporary file."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Window
from ssimrdo.encoding.source import open_source
from ssimrdo.frames import FrameFormat, FrameSource
from ssimrdo.metrics.tissue import GreyScale, TissueMap, tissue_map
from ssimrdo.record.tissue import grey_scale

logger = logging.getLogger(__name__)


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
    scale : GreyScale, optional
        What luma means in HU, where it is linear in HU.
    """

    slices: int
    format: FrameFormat
    window: Window
    left_out: int
    window_source: str | None = None
    scale: GreyScale | None = None


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
    """

    name: str
    samples: NDArray[Any]
    facts: ClipFacts
    digest: str
    tissues: NDArray[np.uint8]

    @property
    def format(self) -> FrameFormat:
        """Format of the slices."""
        return self.facts.format

    def tissue_map(self, index: int) -> TissueMap:
        """Return what the samples of a slice belong to."""
        return TissueMap(self.tissues[index])

    def source(self, most: int | None = None) -> FrameSource:
        """Return the slices, or the first of them, for the loop that encodes."""
        samples = self.samples[:most]

        def frames() -> Iterator[NDArray[Any]]:
            for frame in samples:
                yield np.asarray(frame)

        return FrameSource(self.format, len(samples), frames)


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
    scale = grey_scale(opened.window, frames.peak, inverted=opened.inverted)
    digest, count = hashlib.sha256(), 0
    with raw.open("wb") as stream, tempfile.TemporaryFile(dir=raw.parent) as codes:
        for luma in opened.frames.frames():
            data = np.ascontiguousarray(luma, frames.dtype).data
            stream.write(data)
            digest.update(data)
            codes.write(tissue_map(luma, data_range=frames.peak, scale=scale).codes.data)
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
        ClipFacts(count, frames, opened.window, left_out, opened.window_source, scale),
        digest.hexdigest(),
        tissues,
    )
