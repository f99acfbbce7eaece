"""Order and consistency of the slices of one series."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ssimrdo.dicom.header import SliceHeader

SAME_POSITION_MM: Final = 1e-3
"""Slices nearer to each other than this along the normal share a position."""

_ORIENTATION_TOLERANCE: Final = 1e-3
_SPACING_TOLERANCE: Final = 1e-3

# What tells apart the volumes of a series scanned several times, the most direct first.
_VOLUME_KEYS: Final[tuple[Callable[[SliceHeader], float | None], ...]] = (
    lambda header: header.acquisition_number,
    lambda header: header.temporal_position_identifier,
    lambda header: header.temporal_position_index,
    lambda header: header.cardiac_phase_percent,
    lambda header: header.trigger_time_ms,
    lambda header: header.content_time,
)


def slice_normal(
    orientation: tuple[float, float, float, float, float, float],
) -> tuple[float, float, float]:
    """Return the unit normal of a slice: the cross product of its row and column directions.

    Parameters
    ----------
    orientation : tuple of 6 floats
        Image Orientation (Patient).

    Returns
    -------
    tuple of 3 floats
    """
    a, b, c, d, e, f = orientation
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    length = math.hypot(x, y, z)
    return x / length, y / length, z / length


def sort_slices(slices: Iterable[SliceHeader]) -> tuple[SliceHeader, ...]:
    """Sort the slices of one series along their normal.

    Where slices share a position, the series is ordered volume by volume if acquisition,
    temporal position, cardiac phase, trigger time or content time separates it into volumes in
    which none do; otherwise by position, then Instance Number, then SOP Instance UID.

    Parameters
    ----------
    slices : iterable of SliceHeader
        At least one slice, in any order.

    Returns
    -------
    tuple of SliceHeader
        The result does not depend on the order of the input or on file names.
    """
    # The normal of one slice serves all: with header jitter each slice's own would mix up the
    # positions of slices far from the origin.
    headers = sorted(slices, key=lambda header: header.sop_instance_uid)
    x, y, z = slice_normal(headers[0].orientation)
    place = {
        header.sop_instance_uid: header.position[0] * x
        + header.position[1] * y
        + header.position[2] * z
        for header in headers
    }
    headers.sort(key=lambda header: place[header.sop_instance_uid])
    along = [place[header.sop_instance_uid] for header in headers]
    if _are_distinct(along):
        return tuple(headers)
    for key in _VOLUME_KEYS:
        volumes = _volumes(headers, key)
        if volumes and all(
            _are_distinct([place[header.sop_instance_uid] for header in volume])
            for volume in volumes
        ):
            return tuple(header for volume in volumes for header in volume)
    return tuple(_by_position(headers, along))


def check_consistent(slices: Sequence[SliceHeader], folder: Path) -> None:
    """Check that all slices of a series have the same size, orientation and pixel spacing.

    Parameters
    ----------
    slices : sequence of SliceHeader
        The slices of one series.
    folder : Path
        The folder, for messages.

    Raises
    ------
    InputError
        If two slices differ; the message names both.
    """
    first = slices[0]
    for header in slices[1:]:
        difference = _difference(first, header)
        if difference is not None:
            raise InputError(
                f"{folder}: the slices of the series differ in {difference} ({first.name} and "
                f"{header.name}); keep the slices of one kind in a folder of their own"
            )


def _are_distinct(along: Sequence[float]) -> bool:
    """Whether no two of the sorted positions are the same."""
    return all(after - before > SAME_POSITION_MM for before, after in pairwise(along))


def _volumes(
    headers: Sequence[SliceHeader], key: Callable[[SliceHeader], float | None]
) -> list[list[SliceHeader]]:
    """Group the slices by a key, lowest first; [] if that does not give volumes."""
    groups: dict[float, list[SliceHeader]] = {}
    for header in headers:
        value = key(header)
        if value is None:
            return []
        groups.setdefault(value, []).append(header)
    # A key with a value of its own for each slice, such as a time, says nothing about volumes.
    if 2 * len(groups) > len(headers):
        return []
    return [groups[value] for value in sorted(groups)]


def _by_position(headers: Sequence[SliceHeader], along: Sequence[float]) -> list[SliceHeader]:
    """Order by position, and within one position by Instance Number and SOP Instance UID."""
    steps = [after - before > SAME_POSITION_MM for before, after in pairwise(along)]
    ranks = [0]
    for step in steps:
        ranks.append(ranks[-1] + step)
    ranked = sorted(
        zip(ranks, headers, strict=True), key=lambda pair: (pair[0], _instance(pair[1]))
    )
    return [header for _, header in ranked]


def _instance(header: SliceHeader) -> tuple[bool, int, str]:
    number = header.instance_number
    return number is None, number or 0, header.sop_instance_uid


def _difference(first: SliceHeader, other: SliceHeader) -> str | None:
    """Return in what two slices differ, None if they go together."""
    if (first.rows, first.columns) != (other.rows, other.columns):
        return f"size: {first.columns}x{first.rows} and {other.columns}x{other.rows}"
    if not _close(first.orientation, other.orientation, _ORIENTATION_TOLERANCE):
        return "ImageOrientationPatient"
    one, two = first.pixel_spacing_mm, other.pixel_spacing_mm
    if one is None or two is None:
        return None if one is two else "PixelSpacing"
    return None if _close(one, two, _SPACING_TOLERANCE * one[0]) else "PixelSpacing"


def _close(one: Sequence[float], two: Sequence[float], tolerance: float) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, two, strict=True))
