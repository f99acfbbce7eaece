"""Which slice of one side belongs to which of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeAlias

from ssimrdo.errors import InputError
from ssimrdo.measurement.sides import Damaged, Side, Slice

Matching: TypeAlias = Literal["auto", "position", "order"]

MATCHINGS: Final = ("auto", "position", "order")

TOLERANCE_MM: Final = 0.01
"""Between positions that are the same: what headers round to."""


@dataclass(frozen=True, slots=True)
class Matched:
    """How slices were matched.

    Parameters
    ----------
    by : {"position", "order"}
        What they were matched by.
    total : int
        How many slices the longer side has; 0 where that is not known.
    places : tuple of (int or None, int or None), optional
        Indices on either side of each slice, None where a side has none; None for equal indices.
    """

    by: Literal["position", "order"]
    total: int
    places: tuple[tuple[int | None, int | None], ...] | None = None


def match(
    reference: Side, distorted: Side, matching: Matching = "auto", *, skip_bad: bool = False
) -> Matched:
    """Match the slices of two sides.

    By position if both sides know theirs, else by order.

    Parameters
    ----------
    reference, distorted : Side
        The sides.
    matching : {"auto", "position", "order"}
        What to match by.
    skip_bad : bool
        Go on where a slice has no counterpart at its position.

    Raises
    ------
    InputError
        If the numbers of slices differ, or slices lie at other positions.
    """
    if matching not in MATCHINGS:
        raise InputError(
            f"{matching!r:.40} is unknown",
            field="match",
            remedy=f"use one of {', '.join(MATCHINGS)}",
        )
    known = reference.positions_mm is not None and distorted.positions_mm is not None
    if matching == "position" and not known:
        side = reference if reference.positions_mm is None else distorted
        raise InputError(
            f"{side.name}: nothing tells where its slices lie",
            field="match",
            remedy="leave out {match}",
        )
    counts = (reference.count, distorted.count)
    are_equal = counts[0] == counts[1] or 0 in counts
    if not are_equal and not (known and skip_bad and matching != "order"):
        raise InputError(
            f"numbers of slices differ: {counts[0]} in {reference.name}, "
            f"{counts[1]} in {distorted.name}",
            remedy="give two of the same slices",
        )
    if matching == "order" or not known:
        return Matched("order", max(counts))
    return _by_position(reference, distorted, skip_bad)


def _by_position(reference: Side, distorted: Side, skip_bad: bool) -> Matched:
    ours, theirs = reference.positions_mm or (), distorted.positions_mm or ()
    if len(ours) == len(theirs) and all(
        abs(one - other) <= TOLERANCE_MM for one, other in zip(ours, theirs, strict=True)
    ):
        return Matched("position", len(ours))
    places = tuple(_merged(ours, theirs))
    lonely = [one or other for one, other in places if one is None or other is None]
    if not skip_bad:
        number = next(n for n, (one, other) in enumerate(places, 1) if one is None or other is None)
        first = places[number - 1]
        side, index = (reference, first[0]) if first[1] is None else (distorted, first[1])
        positions = side.positions_mm or ()
        raise InputError(
            f"{side.name}: nothing lies where its slice {(index or 0) + 1} does, at "
            f"{positions[index or 0]:g} mm",
            field="match",
            remedy="give {match} order if they are the same slices all the same",
        )
    if len(lonely) == len(places):
        raise InputError("no slice of one side lies where one of the other does", field="match")
    return Matched("position", len(places), places)


def _merged(
    ours: tuple[float, ...], theirs: tuple[float, ...]
) -> Iterator[tuple[int | None, int | None]]:
    """Yield the indices of two ascending sequences, together where they agree."""
    i = j = 0
    while i < len(ours) or j < len(theirs):
        if i < len(ours) and j < len(theirs) and abs(ours[i] - theirs[j]) <= TOLERANCE_MM:
            yield i, j
            i, j = i + 1, j + 1
        elif j == len(theirs) or (i < len(ours) and ours[i] < theirs[j]):
            yield i, None
            i += 1
        else:
            yield None, j
            j += 1


def slices(
    reference: Side, distorted: Side, matched: Matched
) -> Iterator[tuple[Slice | None, Slice | None]]:
    """Yield the slices of both sides as they were matched, None where a side has none.

    Raises
    ------
    InputError
        If one side ends before the other.
    """
    ours, theirs = reference.frames(), distorted.frames()
    if matched.places is not None:
        for index, its_index in matched.places:
            yield (
                None if index is None else next(ours),
                None if its_index is None else next(theirs),
            )
        return
    number = 0
    for number, one in enumerate(ours, start=1):
        other = next(theirs, None)
        if other is None:
            raise _ended(distorted, number - 1, reference)
        yield one, other
    if next(islice(theirs, 1), None) is not None:
        raise _ended(reference, number, distorted)


def _ended(side: Side, count: int, other: Side) -> InputError:
    return InputError(
        f"numbers of slices differ: {count} in {side.name}, more in {other.name}",
        remedy="give two of the same slices",
    )


def problem(one: Slice | None, other: Slice | None) -> tuple[str, Damaged] | None:
    """Return which side is why a slice cannot be measured, and what is wrong; None if it can."""
    for side, found in (("reference", one), ("distorted", other)):
        if found is None:
            return side, Damaged("there is no slice at its position", "")
        if isinstance(found, Damaged):
            return side, found
    return None
