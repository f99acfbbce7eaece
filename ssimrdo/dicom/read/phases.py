"""Phases: the volumes of a series that was scanned or reconstructed several times in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ssimrdo.dicom.read.geometry import volumes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssimrdo.dicom.read.find import Series

# What tells apart the volumes of a series, in the order of a slice's `volume_keys`.
_NAMES: Final = (
    "acquisition {value:g}",
    "temporal position {value:g}",
    "temporal position {value:g}",
    "cardiac phase {value:g} %",
    "respiratory phase {value:g} %",
    "trigger time {value:g} ms",
    "{value:g} kV",
    # The time itself would tell when somebody was scanned.
    "time {number} of {count}",
)


def phases_of(series: Series) -> tuple[Series, ...]:
    """Return the phases of a series, each named; the series itself where there are none.

    Slices that share a position and that nothing in their headers separates are no phases.
    """
    if series.phase:
        return (series,)
    index, volumes = volumes_of(series.slices)
    if len(volumes) < 2:
        return (series,)
    return tuple(
        replace(
            series,
            slices=volume,
            phase=_NAMES[index].format(
                value=volume[0].volume_keys[index], number=number, count=len(volumes)
            ),
        )
        for number, volume in enumerate(volumes, start=1)
    )


def rows_of(series: Iterable[Series]) -> tuple[Series, ...]:
    """Return what can be chosen by its number, from 1: each phase of each series."""
    return tuple(phase for one in series for phase in phases_of(one))
