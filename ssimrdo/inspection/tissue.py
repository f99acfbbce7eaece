"""Classes of tissue as colours over a slice, and the errors of an encode in each."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.inspection.inspect import Inspection
from ssimrdo.metrics.tissue import Area, ErrorSummary
from ssimrdo.record.tissue import GREY_LEVELS, HU

COLOURS: Final = MappingProxyType(
    {
        Area.BODY: "#8f86c9",
        Area.LUNG: "#56b4e9",
        Area.FLAT: "#009e73",
        Area.EDGE: "#d55e00",
        Area.DENSE: "#f0e442",
    }
)
"""Of classes, each painted over those before; people who see few colours tell them apart."""

OPACITY: Final = 0.6


@dataclass(frozen=True)
class ErrorRow:
    """What is told of a class.

    Parameters
    ----------
    area : Area
        The class.
    share : str
        Share of the slice's samples.
    unit : str
        Of errors.
    errors : list of str, optional
        RMSE, bias, what 99 % do not exceed, and the largest; None without an encode.
    """

    area: Area
    share: str
    unit: str
    errors: list[str] | None


def painted(inspection: Inspection) -> NDArray[np.uint8]:
    """Return the slice with its classes in colour, an array of shape (rows, columns, 3)."""
    assert inspection.tissue is not None, "classes were asked for"
    grey = inspection.luma.astype(np.float32) * np.float32(255 / inspection.format.peak)
    image = np.repeat(grey[:, :, None], 3, axis=2)
    # Each is painted on the slice, not on what is below.
    slice_only = image.copy()
    for area, colour in COLOURS.items():
        inside = inspection.tissue.mask(area)
        rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float32)
        image[inside] = (1 - OPACITY) * slice_only[inside] + OPACITY * rgb
    return image.round().astype(np.uint8)


def error_map(inspection: Inspection) -> NDArray[np.float32] | None:
    """Return decoded minus source in the unit of errors, None without an encode."""
    if inspection.shown is None:
        return None
    difference = inspection.shown.astype(np.float32) - inspection.luma
    step = 1.0 if inspection.scale is None else inspection.scale.hu_per_level
    return np.asarray(difference * np.float32(step), np.float32)


def error_rows(inspection: Inspection) -> tuple[ErrorRow, ...]:
    """Return what is told of each class."""
    tissue, found = inspection.tissue, inspection.errors
    assert tissue is not None, "classes were asked for"
    unit = GREY_LEVELS if inspection.scale is None else HU
    return tuple(
        ErrorRow(
            area,
            f"{100 * float(tissue.mask(area).mean()):.1f} %",
            unit,
            None if found is None else _texts(found.errors[area]),
        )
        for area in Area
    )


def _texts(errors: ErrorSummary | None) -> list[str] | None:
    if errors is None:
        return None
    numbers: tuple[Any, ...] = (errors.rmse, errors.bias, errors.p99, errors.maximum)
    return [f"{value:.1f}".replace("-", "\u2212") for value in numbers]
