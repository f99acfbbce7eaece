"""What a folder holds, series by series, without a word that tells whose they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom.config import IGNORE
from pydicom.uid import UID

from ssimrdo.dicom import SearchResult, Series, SkippedFile, Window, find_series, geometry_of
from ssimrdo.dicom.read.geometry import first_difference, slice_normal
from ssimrdo.dicom.read.identity import identity_texts
from ssimrdo.dicom.read.load import decoding_problem
from ssimrdo.dicom.read.phases import rows_of
from ssimrdo.dicom.spacing import Spacing, spacing_of
from ssimrdo.record.ct import slant_degrees

# By how much a normal may be off an axis of the patient.
_AXIAL_COSINE: Final = 0.999
_PLANES: Final = ("sagittal", "coronal", "axial")
_LEAST_SLANT_DEGREES: Final = 0.05


@dataclass(frozen=True)
class Row:
    """One series, or one phase of a series.

    Parameters
    ----------
    number : int
        By which it can be chosen, from 1.
    slices, rows, columns : int
        Number of slices, and their size.
    plane : str
        ``axial``, ``coronal``, ``sagittal`` or ``oblique``.
    slant_degrees : float
        Angle between the normal of the slices and the line through their first pixels, which is
        the tilt of the gantry.
    pixel_spacing_mm : tuple of 2 floats, optional
        Row spacing and column spacing.
    thickness_mm : float, optional
        Nominal thickness of a slice.
    spacing : Spacing
        The steps between the slices.
    phase : str
        Which phase of its series it is; empty where there are none.
    kernel : str
        ``sharp`` or ``soft``; empty where that cannot be told, ``mixed`` where slices differ.
    windows : mapping of Window to int
        How many slices come with each window.
    window : Window, optional
        The one that an encode takes.
    inverted : bool
        Whether the lowest HU are shown white.
    syntaxes : tuple of str
        Names of the transfer syntaxes.
    enhanced : bool
        Whether the slices are frames of larger objects.
    problem : str
        Why it cannot be encoded; empty where nothing of the headers is in the way.
    damaged : int
        Files of its series that are damaged.
    identity : mapping of str to str
        Patient, study and series, where that was asked for.
    """

    number: int
    slices: int
    rows: int
    columns: int
    plane: str
    slant_degrees: float
    pixel_spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    spacing: Spacing
    phase: str
    kernel: str
    windows: Mapping[Window, int]
    window: Window | None
    inverted: bool
    syntaxes: tuple[str, ...]
    enhanced: bool
    problem: str
    damaged: int
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON types, as docs/json.md describes them."""
        record: dict[str, Any] = {
            "number": self.number,
            "slices": self.slices,
            "rows": self.rows,
            "columns": self.columns,
            "plane": self.plane,
            "slant_degrees": self.slant_degrees,
            "pixel_spacing_mm": self.pixel_spacing_mm and list(self.pixel_spacing_mm),
            "thickness_mm": self.thickness_mm,
            "spacing": self.spacing.as_dict(),
            "phase": self.phase or None,
            "kernel": self.kernel or None,
            "window": self.window and self.window.as_dict(),
            "header_windows": [
                {**one.as_dict(), "slices": slices} for one, slices in self.windows.items()
            ],
            "inverted": self.inverted,
            "transfer_syntaxes": list(self.syntaxes),
            "enhanced": self.enhanced,
            "problem": self.problem or None,
            "damaged": self.damaged,
        }
        return {**record, "identity": dict(self.identity)} if self.identity else record


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Parameters
    ----------
    rows : tuple of Row
        Series and phases, in an order that is that of their UIDs and so hangs on no file's name.
    left_out : mapping of str to int
        How many files are left out, by reason.
    damaged : mapping of str to int
        How many files are damaged, by reason.
    """

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]
    damaged: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the list as JSON types."""
        return {
            "series": [row.as_dict() for row in self.rows],
            "left_out": _counted(self.left_out),
            "damaged": _counted(self.damaged),
        }


def list_series(path: Path | str, *, identity: bool = False) -> Listing:
    """Return what a folder, or a file, holds; only headers are read.

    Parameters
    ----------
    path : Path or str
        As `find_series` takes it.
    identity : bool
        Tell patient, study and series as well.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    result = find_series(path)
    rows = rows_of(result.series)
    return Listing(
        tuple(_row(number, one, result, identity) for number, one in enumerate(rows, start=1)),
        _reasons(result.skipped),
        _reasons(result.bad),
    )


def _row(number: int, series: Series, result: SearchResult, identity: bool) -> Row:
    slices = series.slices
    first = slices[0]
    difference = first_difference(slices)
    kernels = {header.kernel for header in slices}
    syntaxes = sorted({header.transfer_syntax_uid for header in slices})
    problem = next(filter(None, map(decoding_problem, syntaxes)), "")
    if difference is not None:
        problem = f"its slices differ in {difference[1]}"
    geometry = geometry_of(series)
    slant = slant_degrees([header.plane for header in slices])
    return Row(
        number=number,
        slices=len(slices),
        rows=first.rows,
        columns=first.columns,
        plane=_plane(first.orientation),
        slant_degrees=slant if slant >= _LEAST_SLANT_DEGREES else 0.0,
        pixel_spacing_mm=series.pixel_spacing_mm,
        thickness_mm=first.slice_thickness_mm,
        spacing=spacing_of(geometry.along_mm),
        phase=series.phase,
        kernel=kernels.pop() if len(kernels) == 1 else "mixed",
        windows=series.header_windows,
        window=series.header_window,
        inverted=first.inverted,
        syntaxes=tuple(map(_syntax, syntaxes)),
        enhanced=first.extent is not None,
        problem=problem,
        damaged=sum(file.series_uid == series.uid for file in result.bad),
        identity=identity_texts(first) if identity else {},
    )


def _plane(orientation: Sequence[float]) -> str:
    normal = np.abs(slice_normal(orientation))
    axis = int(normal.argmax())
    return _PLANES[axis] if normal[axis] >= _AXIAL_COSINE else "oblique"


def _syntax(uid: str) -> str:
    """Return the name of a transfer syntax; one that is none of DICOM's is not quoted."""
    name = UID(uid, IGNORE).name
    return name if name != uid else "unknown"


def _reasons(files: Sequence[SkippedFile]) -> Mapping[str, int]:
    return dict(Counter(file.reason for file in files).most_common())


def _counted(reasons: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"reason": reason, "files": files} for reason, files in reasons.items()]
