"""The frames that every encoder of a comparison gets: one series in one temporary file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import SliceHeader, Window, open_series
from ssimrdo.dicom.luma import check_size, choose_window, even, luma_frames, pad_to_even
from ssimrdo.errors import BadSliceError, EncoderError, InputError


@dataclass(frozen=True)
class ClipFacts:
    """What a report says of a clip.

    Parameters
    ----------
    slices, rows, columns : int
        Number and size of the slices.
    fps : Fraction
        Slices per second.
    window : Window
        Window the luma was made with.
    left_out : int
        Files of the folder that are not in it.
    """

    slices: int
    rows: int
    columns: int
    fps: Fraction
    window: Window
    left_out: int


@dataclass(frozen=True)
class Clip:
    """One series as luma, on disk.

    Parameters
    ----------
    name : str
        What the comparison calls the series.
    samples : memmap of shape (slices, even rows, even columns), uint8 or uint16
        What encoders get: the slices, with an odd last row or column repeated.
    rows, columns : int
        Size of a slice; quality is measured on these.
    bit_depth : int
        8 or 10.
    fps : Fraction
        Slices per second.
    window : Window
        Window the luma was made with.
    digest : str
        Hash of the samples and their shape.
    left_out : int
        Files of the folder that are not in it: other modalities, duplicates, damaged ones.
    cancelled : threading.Event
        Set to end encodes that other threads have begun.
    """

    name: str
    samples: NDArray[Any]
    rows: int
    columns: int
    bit_depth: int
    fps: Fraction
    window: Window
    digest: str
    left_out: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def luma(self) -> Iterator[NDArray[Any]]:
        """Yield what encoders get, frame by frame.

        Raises
        ------
        EncoderError
            If the clip is cancelled.
        """
        for samples in self.samples:
            if self.cancelled.is_set():
                raise EncoderError("cancelled")
            yield samples

    @property
    def frames(self) -> NDArray[Any]:
        """The slices in their own size, as a view of the file."""
        return self.samples[:, : self.rows, : self.columns]

    @property
    def facts(self) -> ClipFacts:
        """What is left to say of the clip when its samples are gone."""
        return ClipFacts(
            len(self.samples), self.rows, self.columns, self.fps, self.window, self.left_out
        )


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
) -> Clip:
    """Read a series slice by slice into a raw file and map that file into memory.

    Parameters
    ----------
    path : Path
        Folder of the series, or a DICOM file.
    name : str
        What to call it.
    raw : Path
        File to write; it must stay as long as the clip is used.
    window : Window, optional
        Window; the header's own when None.
    bit_depth, fps
        As in :class:`Clip`.
    limit : int, optional
        Take only so many slices, from the first on.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files that cannot be used instead of refusing the series.

    Raises
    ------
    InputError
        If the series cannot be used.
    OSError
        If the raw file cannot be written.
    """
    series, skipped = open_series(path, series_uid=series_uid, skip_bad=skip_bad)
    bad: list[str] = []

    def note_bad(header: SliceHeader, error: BadSliceError) -> None:
        del error
        bad.append(header.name)

    check_size(series, path)
    rows, columns = series.rows, series.columns
    used = choose_window(series, window, name=name)
    dtype = np.dtype(np.uint8 if bit_depth == 8 else np.uint16)
    digest = hashlib.sha256()
    count = 0
    with raw.open("wb") as stream:
        frames = luma_frames(
            series.slices, used, bit_depth=bit_depth, on_bad=note_bad if skip_bad else None
        )
        for luma in islice(frames, limit):
            data = np.ascontiguousarray(pad_to_even(luma), dtype).data
            stream.write(data)
            digest.update(data)
            count += 1
    if count == 0:
        raise InputError(f"{path}: no slice could be decoded")
    shape = (count, even(rows), even(columns))
    digest.update(repr((shape, rows, columns, dtype.str)).encode())
    return Clip(
        name=name,
        # Numba compiles anew for read-only arrays, in the middle of a timed encode; "c" is
        # writable in memory alone.
        samples=np.memmap(raw, dtype, mode="c", shape=shape),
        rows=rows,
        columns=columns,
        bit_depth=bit_depth,
        fps=fps,
        window=used,
        digest=digest.hexdigest(),
        left_out=len(skipped) + len(bad),
    )
