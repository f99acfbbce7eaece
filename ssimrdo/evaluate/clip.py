"""The frames that every encoder of a comparison gets: one series in one temporary file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Window, open_series
from ssimrdo.dicom.frames import check_size, choose_window, even, luma_frames, pad_to_even
from ssimrdo.errors import EncoderError


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


def load_clip(
    path: Path,
    name: str,
    raw: Path,
    *,
    window: Window | None,
    bit_depth: int,
    fps: Fraction,
    limit: int | None = None,
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

    Raises
    ------
    InputError
        If the series cannot be used.
    OSError
        If the raw file cannot be written.
    """
    series, _ = open_series(path)
    check_size(series, path)
    rows, columns = series.rows, series.columns
    used = choose_window(series, window, name=name)
    dtype = np.dtype(np.uint8 if bit_depth == 8 else np.uint16)
    digest = hashlib.sha256()
    count = 0
    with raw.open("wb") as stream:
        for luma in luma_frames(series.slices[:limit], used, bit_depth=bit_depth):
            data = np.ascontiguousarray(pad_to_even(luma), dtype).data
            stream.write(data)
            digest.update(data)
            count += 1
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
    )
