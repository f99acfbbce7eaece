"""Order and consistency of the slices of one series."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ssimrdo.dicom.read.header import SliceHeader

# Slices nearer to each other than this along the normal share a position.
_SAME_POSITION_MM: Final = 1e-3
_ORIENTATION_TOLERANCE: Final = 1e-3
_SPACING_TOLERANCE: Final = 1e-3


def slice_normal(orientation: Sequence[float]) -> NDArray[Any]:
    """Return the unit normal of a slice: the cross product of its row and column directions."""
    normal = np.cross(orientation[:3], orientation[3:])
    return normal / np.linalg.norm(normal)


def sort_slices(slices: Iterable[SliceHeader]) -> tuple[SliceHeader, ...]:
    """Sort the slices of one series along their normal.

    Where slices share a position, the series is ordered volume by volume if acquisition,
    temporal position, cardiac phase, trigger time or content time separates it into volumes in
    which none do; otherwise by position, then Instance Number, then SOP Instance UID. The result
    does not depend on the order of the input or on file names.
    """
    # The normal of one slice serves all: with header jitter each slice's own would mix up the
    # positions of slices far from the origin.
    headers = sorted(slices, key=lambda header: header.slice_uid)
    normal = slice_normal(headers[0].orientation)
    along = {header.slice_uid: float(normal @ header.position) for header in headers}
    headers.sort(key=lambda header: along[header.slice_uid])
    ranks = _ranks(headers, along)
    if ranks[-1] == len(headers) - 1:
        return tuple(headers)
    _, volumes = _separated(headers, along)
    if volumes:
        return tuple(header for volume in volumes for header in volume)
    keys_of = zip(ranks, map(_instance, headers), headers, strict=True)
    return tuple(header for *_, header in sorted(keys_of, key=lambda keys: keys[:2]))


def volumes_of(
    slices: Sequence[SliceHeader],
) -> tuple[int, tuple[tuple[SliceHeader, ...], ...]]:
    """Separate the slices of one series, as :func:`sort_slices` returns them, into volumes.

    Returns
    -------
    int, tuple of tuples of SliceHeader
        Which of the slices' `volume_keys` tells the volumes apart, and the volumes in its order;
        0 and all slices where none share a position, or no key separates them.
    """
    normal = slice_normal(slices[0].orientation)
    along = {header.slice_uid: float(normal @ header.position) for header in slices}
    ordered = sorted(slices, key=lambda header: (along[header.slice_uid], header.slice_uid))
    if _ranks(ordered, along)[-1] == len(ordered) - 1:
        return 0, (tuple(slices),)
    index, volumes = _separated(ordered, along)
    return index, tuple(map(tuple, volumes)) or (tuple(slices),)


def check_consistent(slices: Sequence[SliceHeader], folder: str) -> None:
    """Refuse a series whose slices differ in size, orientation or pixel spacing."""
    different = first_difference(slices)
    if different is not None:
        header, difference = different
        raise InputError(
            f"{folder}: the slices of the series differ in {difference} ({slices[0].name} and "
            f"{header.name})",
            remedy="keep the slices of one kind in a folder of their own",
        )


def first_difference(slices: Sequence[SliceHeader]) -> tuple[SliceHeader, str] | None:
    """Return the first slice that does not go with the first of all, and in what they differ."""
    for header in slices[1:]:
        difference = _difference(slices[0], header)
        if difference is not None:
            return header, difference
    return None


def _separated(
    headers: Sequence[SliceHeader], along: Mapping[str, float]
) -> tuple[int, list[list[SliceHeader]]]:
    """Return the first key that gives volumes in which no slices share a position, and these."""
    for index, keys in enumerate(zip(*(header.volume_keys for header in headers), strict=True)):
        volumes = _volumes(headers, keys)
        if volumes and all(_ranks(volume, along)[-1] == len(volume) - 1 for volume in volumes):
            return index, volumes
    return 0, []


def _ranks(headers: Sequence[SliceHeader], along: Mapping[str, float]) -> list[int]:
    """Return the rank of the position of each sorted slice; those that share one share a rank."""
    ranks = [0]
    for before, after in pairwise(along[header.slice_uid] for header in headers):
        ranks.append(ranks[-1] + (after - before > _SAME_POSITION_MM))
    return ranks


def _volumes(
    headers: Sequence[SliceHeader], keys: Sequence[float | None]
) -> list[list[SliceHeader]]:
    """Group the slices by a key, lowest first; [] if that does not give volumes."""
    groups: dict[float, list[SliceHeader]] = {}
    for header, key in zip(headers, keys, strict=True):
        if key is None:
            return []
        groups.setdefault(key, []).append(header)
    # A key with a value of its own for each slice, such as a time, says nothing about volumes.
    if 2 * len(groups) > len(headers):
        return []
    return [groups[key] for key in sorted(groups)]


def _instance(header: SliceHeader) -> tuple[bool, float, str]:
    number = header.instance_number
    return number is None, number or 0, header.slice_uid


def _difference(first: SliceHeader, other: SliceHeader) -> str | None:
    """Return in what two slices differ, None if they go together."""
    if (first.rows, first.columns) != (other.rows, other.columns):
        return f"size: {first.columns}x{first.rows} and {other.columns}x{other.rows}"
    if not np.allclose(first.orientation, other.orientation, rtol=0, atol=_ORIENTATION_TOLERANCE):
        return "ImageOrientationPatient"
    one, two = first.pixel_spacing_mm, other.pixel_spacing_mm
    if one == two or (one and two and np.allclose(one, two, rtol=_SPACING_TOLERANCE, atol=0)):
        return None
    return "PixelSpacing"
