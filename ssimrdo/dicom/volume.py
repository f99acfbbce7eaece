"""Volumes: CT slices in HU with their geometry, from a series or from arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence, Sized
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom.grey import Window
from ssimrdo.dicom.read.find import Series
from ssimrdo.dicom.read.geometry import slice_normal
from ssimrdo.dicom.read.load import load_slice
from ssimrdo.dicom.read.select import open_series
from ssimrdo.errors import InputError

MAX_ASPECT_RATIO: Final = 16
"""Of a pixel; decoders drop frames whose shape on the screen they think absurd."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where slices lie in the patient; no text of a header.

    Parameters
    ----------
    pixel_spacing_mm : tuple of 2 floats, optional
        Row spacing and column spacing.
    orientation : tuple of 6 floats, optional
        Direction cosines of a row, then of a column.
    positions_mm : tuple of tuples of 3 floats, optional
        Centre of the first pixel of every slice.
    along_mm : tuple of float, optional
        Position of every slice along their normal.
    thickness_mm : float, optional
        Nominal thickness of a slice.
    """

    pixel_spacing_mm: tuple[float, float] | None = None
    orientation: tuple[float, ...] | None = None
    positions_mm: tuple[tuple[float, ...], ...] | None = None
    along_mm: tuple[float, ...] | None = None
    thickness_mm: float | None = None

    def of(self, slices: Sequence[int]) -> Geometry:
        """Return the geometry of some of the slices, by their indices."""

        def some(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
            return None if values is None else tuple(values[index] for index in slices)

        return Geometry(
            self.pixel_spacing_mm,
            self.orientation,
            some(self.positions_mm),
            some(self.along_mm),
            self.thickness_mm,
        )

    def __repr__(self) -> str:
        slices = 0 if self.along_mm is None else len(self.along_mm)
        return f"Geometry(pixel_spacing_mm={self.pixel_spacing_mm}, slices={slices})"


@dataclass(frozen=True, repr=False)
class Volume:
    """CT slices in HU, in the order in which they are shown.

    Parameters
    ----------
    hu : ndarray of shape (slices, rows, columns), or iterable of ndarrays of shape (rows, columns)
        HU values, of any real dtype. An iterator can be
        encoded in one pass only; what can be gone through again, such as a list or a memory-mapped
        array, in several.
    pixel_spacing_mm : tuple of 2 floats, optional
        Row spacing and column spacing.
    positions_mm : sequence of float, optional
        Position of every slice along their normal.
    window : Window, optional
        The one that the slices come with, as from a DICOM header.
    geometry : Geometry, optional
        All that is known of the geometry, in place of spacing and positions.
    inverted : bool
        Whether the lowest HU are shown white, as in MONOCHROME1.
    padding : ndarray of bool of the shape of ``hu``, optional
        What is no image; ``hu`` is an array then. In masked arrays it is what they mask.

    Raises
    ------
    InputError
        If a value is of a wrong type, an array is no volume, or there are positions for another
        number of slices.
    """

    hu: NDArray[Any] | Iterable[NDArray[Any]]
    pixel_spacing_mm: tuple[float, float] | None = None
    positions_mm: Sequence[float] | None = None
    window: Window | None = None
    geometry: Geometry = field(default_factory=Geometry)
    inverted: bool = False
    padding: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.hu, Iterable):
            raise InputError(f"{self.hu!r:.40} are no slices", field="hu")
        if isinstance(self.hu, np.ndarray) and (self.hu.ndim != 3 or 0 in self.hu.shape):
            raise InputError(
                f"a volume has slices, rows and columns, not shape {self.hu.shape}", field="hu"
            )
        if self.padding is not None and np.shape(self.padding) != getattr(self.hu, "shape", None):
            raise InputError("is of another shape than hu", field="padding")
        for name, kind in (("window", Window | None), ("geometry", Geometry)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InputError(f"{value!r:.40} is not a {name}", field=name)
        if self.geometry == Geometry():
            object.__setattr__(self, "geometry", self._own_geometry())
        object.__setattr__(self, "pixel_spacing_mm", self.geometry.pixel_spacing_mm)
        object.__setattr__(self, "positions_mm", self.geometry.along_mm)
        if isinstance(self.hu, Sized):
            self.check_positions(len(self.hu))

    @property
    def slices(self) -> Iterable[NDArray[Any]]:
        """The slices; what is padding in them is masked."""
        return self.hu if self.padding is None else np.ma.MaskedArray(self.hu, self.padding)

    def _own_geometry(self) -> Geometry:
        spacing = _numbers(self.pixel_spacing_mm, "pixel_spacing_mm")
        if spacing is not None and (len(spacing) != 2 or min(spacing) <= 0):
            raise InputError(
                f"{self.pixel_spacing_mm!r:.40} is not two lengths", field="pixel_spacing_mm"
            )
        return Geometry(
            pixel_spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
            along_mm=_numbers(self.positions_mm, "positions_mm"),
        )

    def check_positions(self, slices: int) -> None:
        """Check that there are positions for so many slices, or none.

        Raises
        ------
        InputError
            If there are for another number.
        """
        along = self.geometry.along_mm
        if along is not None and len(along) != slices:
            raise InputError(f"{len(along)} positions for {slices} slices", field="positions_mm")

    def __len__(self) -> int:
        if not isinstance(self.hu, Sized):
            raise TypeError("the number of slices of an iterable is not known")
        return len(self.hu)

    def __repr__(self) -> str:
        slices = len(self) if isinstance(self.hu, Sized) else "some"
        shape: tuple[int, ...] = getattr(self.hu, "shape", ())
        size = f" of {shape[2]}x{shape[1]}" if len(shape) == 3 else ""
        return f"Volume({slices} slice{'s' * (slices != 1)}{size})"


def _numbers(values: Any, field: str) -> tuple[float, ...] | None:
    if values is None:
        return None
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{values!r:.40} are no numbers", field=field)
    return numbers


def load_volume(
    folder: Path | str,
    *,
    files: Collection[str] | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
) -> Volume:
    """Load the CT series of a folder into memory.

    Parameters
    ----------
    folder : Path or str
        Folder that is searched recursively, or a single DICOM file.
    files : collection of str, optional
        Look at these files only, named relative to ``folder``.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files whose header cannot be used instead of refusing the series.

    Returns
    -------
    Volume
        HU as float32 of shape (slices, rows, columns), geometry, the header's window, and what is
        padding, of -1000 HU, where headers tell of it.

    Raises
    ------
    InputError
        If the series cannot be used.
    """
    series, _ = open_series(folder, files=files, series_uid=series_uid, skip_bad=skip_bad)
    hu = np.empty((len(series), series.rows, series.columns), np.float32)
    outside: NDArray[np.bool_] | None = None
    for index, header in enumerate(series.slices):
        hu[index], padded = load_slice(header)
        if padded is not None:
            outside = np.zeros(hu.shape, np.bool_) if outside is None else outside
            outside[index] = padded
    return Volume(
        hu,
        window=series.header_window,
        geometry=geometry_of(series),
        inverted=series.slices[0].inverted,
        padding=outside,
    )


def geometry_of(series: Series) -> Geometry:
    """Return where the slices of a series lie."""
    first = series.slices[0]
    normal = slice_normal(first.orientation)
    return Geometry(
        pixel_spacing_mm=series.pixel_spacing_mm,
        orientation=first.orientation,
        positions_mm=tuple(header.position for header in series.slices),
        along_mm=tuple(float(normal @ header.position) for header in series.slices),
        thickness_mm=first.slice_thickness_mm,
    )


def sample_aspect_ratio(spacing: tuple[float, float] | None, what: Callable[[], str]) -> Fraction:
    """Return the width of a pixel over its height.

    Parameters
    ----------
    spacing : tuple of 2 floats, optional
        Row spacing and column spacing in mm; None for square pixels.
    what : callable
        Says what an error message names.

    Raises
    ------
    InputError
        If the one is more than 16 times the other.
    """
    if spacing is None:
        return Fraction(1)
    row_spacing, column_spacing = spacing
    if min(spacing) <= 0 or abs(column_spacing / row_spacing - 1) < 1e-4:
        return Fraction(1)
    exact = column_spacing / row_spacing
    ratio = Fraction(exact).limit_denominator(1000) if math.isfinite(exact) else Fraction(0)
    if not 1 <= ratio * MAX_ASPECT_RATIO <= MAX_ASPECT_RATIO**2:
        raise InputError(
            f"{what()}: PixelSpacing {row_spacing:g} by {column_spacing:g} mm cannot be shown: the "
            f"larger is at most {MAX_ASPECT_RATIO} times the smaller"
        )
    return ratio
