"""The encoding of DICOM files: elements as they stand, and where the rest begins (PS3.5, PS3.10).

pydicom's reader is not used, because nothing bounds what it does with a damaged file: it reads
nested sequences by recursion, inflates whole data sets, and converts values on the way, quoting
them in warnings. Here only wanted values are kept, as bytes, sequences are passed over, and depth,
number of elements and inflated bytes have limits.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO, Final

from ssimrdo.dicom.read.values import text_of
from ssimrdo.dicom.registry import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    LONG_VRS,
    SHORT_VRS,
)

WINDOW_BYTES: Final = 4096
"""Read at once; the start of a file that tells whether it is DICOM, and most of a header."""

CUT_OFF: Final = "the header is cut off"
TOO_MANY: Final = "the header has too many elements"
UNDEFINED: Final = 0xFFFFFFFF
"""Length of a sequence or of encapsulated pixel data that a delimiter ends."""

# Headers of CT slices have some hundred elements, the largest of other kinds some ten thousand.
_MAX_ELEMENTS: Final = 200_000
_MAX_DEPTH: Final = 64
# The longest value of a 16-bit length; no value that is wanted comes near.
_MAX_VALUE_BYTES: Final = 0xFFFF
# Private elements of some vendors make for headers of a few MB.
_MAX_HEADER_BYTES: Final = 64 << 20
_DEFLATED_BYTES: Final = 4096
_SKIP_BYTES: Final = 1 << 16

MEDIA_STORAGE_SOP_CLASS: Final = 0x00020002
SYNTAX: Final = 0x00020010
PIXEL_DATA: Final = 0x7FE00010
_META_GROUP: Final = 2
_META: Final = (0x00020000, 0x00030000)
_DELIMITERS: Final = 0xFFFE
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD

_EXPLICIT: Final = {order: Struct(f"{order}HH2sH").unpack_from for order in "<>"}
_IMPLICIT: Final = {order: Struct(f"{order}HHI").unpack_from for order in "<>"}
_LENGTH: Final = {order: Struct(f"{order}I").unpack_from for order in "<>"}
# Little endian, a group from here on is one of the usual groups in big endian.
_BIG_ENDIAN_GROUP: Final = 0x0400


class DamagedError(Exception):
    """A file does not hold what it has to; the message says what, quoting nothing of it."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element as it stands in the file.

    Parameters
    ----------
    vr : str
        Its Value Representation; empty where the encoding does not state it.
    value : bytes or None
        None for sequences, and for what is too long to be a value that is wanted.
    order : str
        ``<`` for little endian numbers, ``>`` for big endian.
    """

    vr: str
    value: bytes | None
    order: str = "<"


@dataclass(frozen=True, slots=True)
class Place:
    """The element that reading stopped at: where it begins, and where and how long its value is."""

    tag: int
    vr: str
    at: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """What was read of a file.

    Parameters
    ----------
    meta, elements : dict of Element
        The wanted ones by tag, of the File Meta Information and of the data set.
    syntax : str
        Transfer Syntax UID by which it was read: the stated one, or else what it looks like.
    stop : Place or None
        The first element from `stop_at` on, if there is one.
    problem : str or None
        Why there may be wanted elements that were not read.
    source : Source
        To go on reading from.
    implicit : bool
        Whether VRs are implicit.
    order : str
        ``<`` for little endian, ``>`` for big endian.
    """

    meta: dict[int, Element]
    elements: dict[int, Element]
    syntax: str
    stop: Place | None
    problem: str | None
    source: Source
    implicit: bool = False
    order: str = "<"


class Source:
    """A stream that is read forwards, in windows."""

    __slots__ = ("base", "stream", "window")

    def __init__(self, stream: BinaryIO | _Inflated, window: bytes = b"") -> None:
        # The window begins at `base`, and the stream stands at its end.
        self.stream = stream
        self.window = window
        self.base = 0

    def cover(self, at: int, size: int) -> int:
        """Have `size` bytes from `at` on in the window, or all there are; return where there."""
        offset = at - self.base
        missing = offset + size - len(self.window)
        if missing > 0 or offset < 0:
            if not 0 <= offset <= len(self.window):
                self.stream.seek(at)
                self.window = b""
                missing = size
            kept = self.window[offset:]
            self.window = kept + self.stream.read(max(WINDOW_BYTES, missing))
            self.base = at
            offset = 0
        return offset

    def read(self, at: int, size: int) -> bytes:
        """Return `size` bytes from `at` on, fewer where the stream ends."""
        offset = self.cover(at, size)
        return self.window[offset : offset + size]

    def take(self, at: int, size: int) -> bytes:
        """Return what `read` does, but do not keep it in the window."""
        if isinstance(self.stream, _Inflated):
            # It cannot go back to what is in the window.
            offset = self.cover(at, min(size, WINDOW_BYTES))
            data = self.window[offset : offset + size]
            data += self.stream.read(size - len(data))
        else:
            self.stream.seek(at)
            data = self.stream.read(size)
        self.window = b""
        self.base = at + len(data)
        return data

    def end(self, at: int) -> int:
        """Return where the stream ends; a deflated one is inflated no further than `at`."""
        if isinstance(self.stream, _Inflated):
            self.base = self.stream.seek(at)
        else:
            self.base = self.stream.seek(0, os.SEEK_END)
        self.window = b""
        return self.base

    def allow(self, size: int) -> None:
        """Let so many more bytes be inflated, if it is a deflated data set."""
        if isinstance(self.stream, _Inflated):
            self.stream.limit = self.stream.at + size


class _Inflated:
    """A deflated data set (PS3.5 A.5), inflated as far as it is read, and not beyond a limit."""

    def __init__(self, stream: BinaryIO, at: int) -> None:
        stream.seek(at)
        self._deflated = stream
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self.at = 0
        self.limit = _MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        parts = list(self._parts(size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seek(self, at: int) -> int:
        """Go forwards to `at`; return where that is, which is less where the data set ends."""
        while self.at < at:
            if not self.read(min(at - self.at, _SKIP_BYTES)):
                break
        return self.at

    def _parts(self, size: int) -> Iterator[bytes]:
        if self.at + size > self.limit + WINDOW_BYTES:
            raise DamagedError("it inflates to more than it may hold")
        while size > 0 and not self._inflater.eof:
            deflated = self._inflater.unconsumed_tail or self._deflated.read(_DEFLATED_BYTES)
            try:
                part = self._inflater.decompress(deflated, size)
            except zlib.error:
                raise DamagedError("the deflated data is corrupt") from None
            if not (part or deflated):
                return
            self.at += len(part)
            size -= len(part)
            yield part


def may_be_dicom(head: bytes) -> bool:
    """Tell whether a file may be DICOM: whether it has the prefix, or begins as without it."""
    return has_prefix(head) or head[:2] in (b"\x02\0", b"\x08\0")


def has_prefix(head: bytes) -> bool:
    """Tell whether a file has the preamble and the prefix of DICOM files."""
    return head[128:132] == b"DICM"


def read_elements(stream: BinaryIO, head: bytes, wanted: Container[int], stop_at: int) -> DataSet:
    """Read elements of a DICOM file, up to the first whose tag is `stop_at` or higher.

    Parameters
    ----------
    stream : BinaryIO
        Seekable; stands behind `head`.
    head : bytes
        The first bytes of the file, `WINDOW_BYTES` if it has as many.
    wanted : container of int
        Tags of the elements to keep.
    stop_at : int
        Tag.

    Raises
    ------
    DamagedError
        If the elements do not follow one another as they have to.
    OSError
        If the stream cannot be read.
    """
    source = Source(stream, head)
    meta, begin = _read_meta(source)
    stated = text_of(SYNTAX, meta.get(SYNTAX))
    first = source.read(begin, 6)
    syntax = stated or _guessed_syntax(first)
    if syntax == DEFLATED_LITTLE_ENDIAN:
        source = Source(_Inflated(stream, begin))
        begin = 0
        first = source.read(begin, 6)
    # Some writers state the one and write the other.
    implicit = len(first) == 6 and not _are_letters(first[4:6])
    order = ">" if syntax == EXPLICIT_BIG_ENDIAN else "<"
    elements, stop, problem = _scan(source, begin, wanted, (0, stop_at), implicit, order)
    return DataSet(meta, elements, syntax, stop, problem, source, implicit, order)


def next_place(dataset: DataSet, at: int, stop_at: int) -> Place | None:
    """Return the first element from `at` on whose tag is `stop_at` or higher, None without one.

    Raises
    ------
    DamagedError
        If the elements do not follow one another as they have to.
    """
    _, stop, _ = _scan(dataset.source, at, (), (0, stop_at), dataset.implicit, dataset.order)
    return stop


def _read_meta(source: Source) -> tuple[dict[int, Element], int]:
    """Return the wanted elements of the File Meta Information, and where the data set begins."""
    begin = 132 if has_prefix(source.window) else 0
    first = source.window[begin : begin + 6]
    if first[:2] != b"\x02\0":
        return {}, begin
    wanted = (MEDIA_STORAGE_SOP_CLASS, SYNTAX)
    implicit = not _are_letters(first[4:6])
    elements, stop, _ = _scan(source, begin, wanted, _META, implicit, "<", is_meta=True)
    return elements, source.base if stop is None else stop.at


def _guessed_syntax(first: bytes) -> str:
    if first[4:6] not in SHORT_VRS and first[4:6] not in LONG_VRS:
        return IMPLICIT_LITTLE_ENDIAN
    is_big = int.from_bytes(first[:2], "little") >= _BIG_ENDIAN_GROUP
    return EXPLICIT_BIG_ENDIAN if is_big else EXPLICIT_LITTLE_ENDIAN


def _are_letters(vr: bytes) -> bool:
    return vr.isalpha() and vr.isupper()


def _scan(
    source: Source,
    at: int,
    wanted: Container[int],
    tags: tuple[int, int],
    implicit: bool,
    order: str,
    *,
    is_meta: bool = False,
) -> tuple[dict[int, Element], Place | None, str | None]:
    """Read the elements from `at` on whose tags are in a range, and find the first that is not.

    Sequences of undefined length are gone through element by element, all others are skipped. That
    takes no more than the encodings of the data sets around the one that is read.
    """
    low, high = tags
    explicit_head, implicit_head, long_length = _EXPLICIT[order], _IMPLICIT[order], _LENGTH[order]
    found: dict[int, Element] = {}
    around: list[bool] = []
    between_items = False
    for _ in range(_MAX_ELEMENTS):
        offset = at - source.base
        if offset + 12 > len(source.window):
            offset = source.cover(at, 12)
        window = source.window
        if offset + 8 > len(window):
            break
        if implicit:
            group, number, length = implicit_head(window, offset)
            vr, start = b"", at + 8
        else:
            group, number, vr, length = explicit_head(window, offset)
            start = at + 8
            if group == _DELIMITERS:
                (length,) = long_length(window, offset + 4)
            elif vr in LONG_VRS:
                if offset + 12 > len(window):
                    break
                (length,) = long_length(window, offset + 8)
                start = at + 12
            elif vr not in SHORT_VRS and not _are_letters(vr):
                if is_meta and group == _META_GROUP:
                    raise DamagedError("the File Meta Information is corrupt")
                # Some writers change to implicit VRs on the way.
                (length,) = long_length(window, offset + 4)
                vr = b""
        tag = group << 16 | number
        if group == _DELIMITERS:
            if around and tag == _ITEM_END:
                if between_items:
                    raise DamagedError("an item ends that has not begun")
                between_items = True
                at = start
            elif around and tag == _SEQUENCE_END and between_items:
                implicit = around.pop()
                between_items = False
                at = start
            elif tag == _ITEM and between_items and length == UNDEFINED:
                offset = source.cover(start, 6)
                implicit = around[-1] or not _are_letters(source.window[offset + 4 : offset + 6])
                between_items = False
                at = start
            elif tag == _ITEM_END or length == UNDEFINED:
                break
            else:
                at = start + length
            continue
        if between_items:
            raise DamagedError("a sequence holds something other than items")
        if not around:
            if not low <= tag < high:
                return found, Place(tag, vr.decode("latin-1"), at, start, length), None
            if tag in wanted:
                value: bytes | None = None
                if length <= _MAX_VALUE_BYTES:
                    value = source.read(start, length)
                    if len(value) < length:
                        break
                found[tag] = Element(vr.decode("latin-1"), value, order)
        if length == UNDEFINED:
            if len(around) == _MAX_DEPTH:
                raise DamagedError("sequences are nested too deeply")
            around.append(implicit)
            between_items = True
            at = start
        else:
            at = start + length
    else:
        return found, None, TOO_MANY
    is_whole = not around and at == source.end(at)
    return found, None, None if is_whole else CUT_OFF
