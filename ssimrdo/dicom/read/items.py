"""Items of a sequence, as far as they are wanted; depth and number of elements have limits."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from ssimrdo.dicom.read.elements import (
    CUT_OFF,
    TOO_MANY,
    UNDEFINED,
    DamagedError,
    DataSet,
    Element,
    Place,
    Source,
)
from ssimrdo.dicom.registry import LONG_VRS

ITSELF: Final = 0
"""Stands for the item itself among the sequences in it."""

Items = list[dict[int, Element]]

_EXPLICIT: Final = {order: Struct(f"{order}HH2sH").unpack_from for order in "<>"}
_TAG_LENGTH: Final = {order: Struct(f"{order}HHI").unpack_from for order in "<>"}
_LENGTH: Final = {order: Struct(f"{order}I").unpack_from for order in "<>"}
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_DELIMITERS: Final = 0xFFFE
_MAX_DEPTH: Final = 64
_MAX_VALUE_BYTES: Final = 0xFFFF

# What is open where an element of an item stands, and one of a sequence in it.
_IN_ITEM: Final = 2
_IN_GROUP: Final = 4


@dataclass(frozen=True, slots=True)
class _Open:
    """A sequence or an item that has begun; `end` is None where a delimiter ends it."""

    is_item: bool
    end: int | None
    implicit: bool
    tag: int


def read_items(
    dataset: DataSet, place: Place, wanted: Mapping[int, Container[int]], limit: int
) -> tuple[Items, int]:
    """Read the items of a sequence.

    Parameters
    ----------
    dataset : DataSet
        What holds it.
    place : Place
        Where the sequence is.
    wanted : mapping of int to container of int
        By tag of a sequence in an item, or :data:`ITSELF`, the tags of the elements to keep there.
    limit : int
        How many elements there may be, wanted or not.

    Returns
    -------
    list of dict of int to Element, int
        For each item its wanted elements by tag, the first of each; and where the sequence ends.

    Raises
    ------
    DamagedError
        If the elements do not follow one another as they have to.
    """
    source, order = dataset.source, dataset.order
    items: Items = []
    end = None if place.length == UNDEFINED else place.start + place.length
    open_ = [_Open(False, end, dataset.implicit, place.tag)]
    at = place.start
    for _ in range(limit):
        while open_ and open_[-1].end is not None and at >= open_[-1].end:
            if at > open_.pop().end:  # type: ignore[operator]
                raise DamagedError("an item is longer than what holds it")
        if not open_:
            return items, at
        top = open_[-1]
        tag, vr, start, length = _head(source, at, top, order)
        if not top.is_item:
            at = start
            if tag == _SEQUENCE_END and top.end is None:
                open_.pop()
                continue
            if tag != _ITEM:
                raise DamagedError("a sequence holds something other than items")
            if len(open_) == 1:
                items.append({})
            offset = source.cover(start, 6)
            implicit = top.implicit or not _are_letters(source.window[offset + 4 : offset + 6])
            end = None if length == UNDEFINED else start + length
            open_.append(_Open(True, end, implicit, top.tag))
        elif tag == _ITEM_END and top.end is None:
            open_.pop()
            at = start
        elif tag >> 16 == _DELIMITERS:
            raise DamagedError("an item ends that has not begun")
        elif _is_entered(tag, vr, length, len(open_), wanted):
            if len(open_) >= _MAX_DEPTH:
                raise DamagedError("sequences are nested too deeply")
            end = None if length == UNDEFINED else start + length
            open_.append(_Open(False, end, top.implicit or vr == b"UN", tag))
            at = start
        else:
            here = ITSELF if len(open_) == _IN_ITEM else top.tag
            if len(open_) <= _IN_GROUP and tag in wanted.get(here, ()):
                value = source.read(start, length) if length <= _MAX_VALUE_BYTES else None
                if value is not None and len(value) < length:
                    raise DamagedError(CUT_OFF)
                items[-1].setdefault(tag, Element(vr.decode("latin-1"), value, order))
            at = start + length
    raise DamagedError(TOO_MANY)


def _is_entered(
    tag: int, vr: bytes, length: int, depth: int, wanted: Mapping[int, Container[int]]
) -> bool:
    """Tell whether an element is a sequence that is gone through; others are passed over."""
    if length == UNDEFINED:
        return True
    return depth == _IN_ITEM and tag in wanted and vr in (b"SQ", b"UN", b"")


def _head(source: Source, at: int, top: _Open, order: str) -> tuple[int, bytes, int, int]:
    """Return tag, VR, where the value begins, and its length."""
    offset = at - source.base
    if offset < 0 or offset + 12 > len(source.window):
        offset = source.cover(at, 12)
    window = source.window
    if offset + 8 > len(window):
        raise DamagedError(CUT_OFF)
    if not top.is_item or top.implicit:
        group, number, length = _TAG_LENGTH[order](window, offset)
        return group << 16 | number, b"", at + 8, length
    group, number, vr, length = _EXPLICIT[order](window, offset)
    tag = group << 16 | number
    if group == _DELIMITERS:
        (length,) = _LENGTH[order](window, offset + 4)
        return tag, b"", at + 8, length
    if vr in LONG_VRS:
        if offset + 12 > len(window):
            raise DamagedError(CUT_OFF)
        (length,) = _LENGTH[order](window, offset + 8)
        return tag, vr, at + 12, length
    if not _are_letters(vr):
        # Some writers change to implicit VRs on the way.
        (length,) = _LENGTH[order](window, offset + 4)
        return tag, b"", at + 8, length
    return tag, vr, at + 8, length


def _are_letters(vr: bytes) -> bool:
    return vr.isalpha() and vr.isupper()
