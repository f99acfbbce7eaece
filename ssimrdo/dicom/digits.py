"""Geometry as the header writes it: decimal strings, so that nothing is lost on the way back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ssimrdo.dicom.volume import Geometry

Digits = tuple[str, ...]
"""Values of an element with VR DS, one string each."""

PATIENT_POSITIONS: Final = frozenset(
    (
        *("HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"),
        *("LFP", "LFS", "RFP", "RFS", "AFDR", "AFDL", "PFDR", "PFDL"),
    )
)
"""Defined Terms of Patient Position (PS3.3 C.7.3.1.1.2); any other text is not passed on."""

MAX_DS_LENGTH: Final = 16
"""Characters of a decimal string (PS3.5 6.2)."""

_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MAX_STORED_LENGTH: Final = 64
_PLAUSIBLE: Final = 1e9
# Of the length of a direction, and of the product of two: cosines rounded to two decimals.
_DIRECTION_TOLERANCE: Final = 0.01


@dataclass(frozen=True, slots=True)
class PlaneDigits:
    """Where one slice lies, as its header writes it.

    Parameters
    ----------
    position : tuple of 3 str
        Image Position (Patient), mm.
    orientation : tuple of 6 str
        Image Orientation (Patient): direction cosines of a row, then of a column.
    pixel_spacing : tuple of 2 str, optional
        Pixel Spacing: row spacing and column spacing, mm.
    thickness : str, optional
        Slice Thickness, mm.
    tilt : str, optional
        Gantry/Detector Tilt, degrees.
    """

    position: Digits
    orientation: Digits
    pixel_spacing: Digits | None = None
    thickness: str | None = None
    tilt: str | None = None

    @property
    def position_mm(self) -> tuple[float, ...]:
        """The position as numbers."""
        return tuple(map(float, self.position))


def is_decimal(text: object) -> bool:
    """Tell whether something is a decimal string of a plausible number."""
    return (
        isinstance(text, str)
        and len(text) <= _MAX_STORED_LENGTH
        and _DECIMAL.fullmatch(text) is not None
        and abs(float(text)) < _PLAUSIBLE
    )


def is_orientation(digits: Sequence[str]) -> bool:
    """Tell whether six decimal strings are two directions at right angles."""
    numbers = [float(text) for text in digits]
    row, column = numbers[:3], numbers[3:]
    product = sum(a * b for a, b in zip(row, column, strict=True))
    off = max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), abs(product))
    return off <= _DIRECTION_TOLERANCE


def decimal_string(number: float) -> str:
    """Return the decimal string nearest to a finite number, of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(number) + 0.0)


def valid_ds(stored: str) -> str:
    """Return stored digits as they are where DS allows them, else the nearest that it allows."""
    return stored if len(stored) <= MAX_DS_LENGTH else decimal_string(float(stored))


def planes_of(geometry: Geometry) -> tuple[PlaneDigits, ...] | None:
    """Return the digits of slices whose geometry is known as numbers, None where it is not."""
    if geometry.positions_mm is None or geometry.orientation is None:
        return None
    orientation = _digits(geometry.orientation)
    spacing = None if geometry.pixel_spacing_mm is None else _digits(geometry.pixel_spacing_mm)
    thickness = None if geometry.thickness_mm is None else decimal_string(geometry.thickness_mm)
    return tuple(
        PlaneDigits(_digits(position), orientation, spacing, thickness)
        for position in geometry.positions_mm
    )


def _digits(numbers: Iterable[float]) -> Digits:
    return tuple(map(decimal_string, numbers))
