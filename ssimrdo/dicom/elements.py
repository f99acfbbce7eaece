"""Reading of single elements from a DICOM file.

pydicom's reader is not used here: it reports malformed values through :mod:`warnings`, whose
filters are shared by all threads and so cannot be silenced safely, and it does not say that a
header is cut off. Only the elements in `WANTED` are read, none of which describes the patient.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_KEYWORDS: Final = (
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "ContentTime",
    "Modality",
    "SliceThickness",
    "TriggerTime",
    "ConvolutionKernel",
    "SeriesInstanceUID",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
)


def _wanted() -> dict[int, tuple[str, str]]:
    """Return tag -> (keyword, standard VR) of the elements to read; "US or SS" becomes "US"."""
    tags = ((keyword, tag_for_keyword(keyword)) for keyword in _KEYWORDS)
    return {tag: (keyword, dictionary_VR(tag)[:2]) for keyword, tag in tags if tag is not None}


WANTED: Final[Mapping[int, tuple[str, str]]] = _wanted()

_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_PIXEL_DATA: Final = 0x7FE00010
_ITEM: Final = 0xFFFEE000
_ITEM_DELIMITER: Final = 0xFFFEE00D
_SEQUENCE_DELIMITER: Final = 0xFFFEE0DD

_SOP_CLASS_UID: Final = re.compile(rb"[0-9.]{2,64}[ \0]?")

_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_UNDEFINED: Final = 0xFFFFFFFF

# No wanted element is near this long; the limit keeps a corrupt length from filling the memory.
_MAX_VALUE_BYTES: Final = 16384
_MAX_INFLATED_BYTES: Final = 2**28
_MAX_NESTING: Final = 64

# Enough for an end marker and the padding that writers put behind it.
_TAIL_BYTES: Final = 16


class Element(NamedTuple):
    """The undecoded value of one element; `vr` is the standard VR where none is encoded."""

    vr: str
    value: bytes
    little_endian: bool


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the value of Pixel Data lies.

    Parameters
    ----------
    offset : int
        First byte, counted in the file, or in the inflated data set where `deflated_at` is set.
    length : int
        Bytes declared, or found by following the fragments of encapsulated pixel data.
    vr : str
        VR as encoded, "OW" if none is.
    fragmented : bool
        True where the length is undefined, as for encapsulated pixel data.
    complete : bool
        False where the file ends before the value does.
    tail : bytes
        The last bytes of the last fragment, b"" where the length is defined.
    deflated_at : int or None
        First byte of the deflated data set in the file, None if it is not deflated.
    """

    offset: int
    length: int
    vr: str
    fragmented: bool
    complete: bool
    tail: bytes
    deflated_at: int | None


@dataclass(frozen=True, slots=True)
class FileElements:
    """What was read of one DICOM file.

    Parameters
    ----------
    values : Mapping[str, Element]
        The elements of `WANTED` that are present, by keyword.
    transfer_syntax_uid : str or None
        Transfer Syntax UID of the File Meta Information, if present.
    pixel_data : PixelElement or None
        Pixel Data, if present.
    problem : str or None
        Why reading stopped early; `values` then holds what was read before.
    """

    values: Mapping[str, Element]
    transfer_syntax_uid: str | None
    pixel_data: PixelElement | None
    problem: str | None


class _MalformedError(Exception):
    """The data set cannot be followed further; the message is the reason."""


class _Position(NamedTuple):
    """Tag, VR and place of one element; `length` is None if undefined."""

    tag: int
    vr: bytes
    start: int
    offset: int
    length: int | None


class _Reader(NamedTuple):
    """A stream of elements with its byte count and encoding."""

    stream: BinaryIO
    size: int
    little_endian: bool
    explicit: bool

    def position(self, start: int) -> _Position:
        """Read tag, VR and length of the element at byte `start`."""
        self.stream.seek(start)
        head = self.stream.read(12)
        if len(head) < 8:
            raise _MalformedError("the header is cut off")
        order = "<" if self.little_endian else ">"
        group, number = struct.unpack_from(order + "HH", head)
        vr = head[4:6]
        # Some writers switch to Implicit VR inside sequences, so each element is looked at.
        if not self.explicit or group == 0xFFFE or not _is_vr(vr):
            vr, offset = b"", start + 8
            (length,) = struct.unpack_from(order + "I", head, 4)
        elif vr in _LONG_VRS:
            if len(head) < 12:
                raise _MalformedError("the header is cut off")
            offset = start + 12
            (length,) = struct.unpack_from(order + "I", head, 8)
        else:
            offset = start + 8
            (length,) = struct.unpack_from(order + "H", head, 6)
        return _Position(
            group << 16 | number, vr, start, offset, None if length == _UNDEFINED else length
        )

    def positions(self, start: int, depth: int = 0) -> Iterator[_Position]:
        """Yield the elements from byte `start` on, skipping values and sequences."""
        while start < self.size:
            element = self.position(start)
            yield element
            start = self._end(element, depth)
            if start > self.size:
                raise _MalformedError("the header is cut off")

    def value(self, element: _Position) -> bytes:
        """Return the value of an element of defined length."""
        self.stream.seek(element.offset)
        value = self.stream.read(element.length or 0)
        if len(value) < (element.length or 0):
            raise _MalformedError("the header is cut off")
        return value

    def _end(self, element: _Position, depth: int) -> int:
        if element.length is not None:
            return element.offset + element.length
        if depth >= _MAX_NESTING:
            raise _MalformedError("sequences are nested too deeply")
        start = element.offset
        while True:
            item = self.position(start)
            if item.tag == _SEQUENCE_DELIMITER:
                return item.offset
            if item.tag != _ITEM:
                raise _MalformedError("a sequence in the header is corrupt")
            start = self._item_end(item, depth)

    def _item_end(self, item: _Position, depth: int) -> int:
        if item.length is not None:
            return item.offset + item.length
        for element in self.positions(item.offset, depth + 1):
            if element.tag == _ITEM_DELIMITER:
                return element.offset
        raise _MalformedError("the header is cut off")


def read_elements(path: Path) -> FileElements | None:
    """Read the elements of `WANTED` and find Pixel Data; no pixel is read.

    Files without the preamble are recognised by starting with group 0002 or 0008, little endian,
    and holding a SOPClassUID.

    Parameters
    ----------
    path : Path
        A regular file.

    Returns
    -------
    FileElements or None
        None if the file is not DICOM.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(132)
        size = os.fstat(stream.fileno()).st_size
        if head[128:] == b"DICM":
            return _read_part10(stream, size, 132)
        if head[:2] not in (b"\x02\x00", b"\x08\x00"):
            return None
        elements = _read_part10(stream, size, 0)
        sop_class = elements.values.get("SOPClassUID")
        return elements if sop_class and _SOP_CLASS_UID.fullmatch(sop_class.value) else None


def inflate(deflated: bytes) -> bytes:
    """Inflate a deflated data set.

    Raises
    ------
    ValueError
        If it is corrupt, cut off or larger than any CT slice.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(deflated, _MAX_INFLATED_BYTES)
    except zlib.error:
        raise ValueError("the deflated data set is corrupt") from None
    if not inflater.eof:
        raise ValueError("the deflated data set is cut off or too large")
    return data


def _is_vr(vr: bytes) -> bool:
    return vr.isalpha() and vr.isupper()


def _read_part10(stream: BinaryIO, size: int, start: int) -> FileElements:
    """Read File Meta Information and data set from byte `start`."""
    values: dict[str, Element] = {}
    transfer_syntax: str | None = None
    try:
        meta, start = _read_meta(_Reader(stream, size, little_endian=True, explicit=True), start)
        transfer_syntax = _uid(meta.get(_TRANSFER_SYNTAX_UID))
        if _MEDIA_STORAGE_SOP_CLASS_UID in meta:
            values["SOPClassUID"] = Element("UI", meta[_MEDIA_STORAGE_SOP_CLASS_UID], True)
        deflated_at = None
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            deflated_at = start
            stream.seek(start)
            data = inflate(stream.read())
            stream, size, start = io.BytesIO(data), len(data), 0
        stream.seek(start)
        reader = _Reader(
            stream,
            size,
            little_endian=transfer_syntax != ExplicitVRBigEndian,
            explicit=_is_vr(stream.read(6)[4:]),
        )
        pixel_data = _read_data_set(reader, start, values, deflated_at)
    except (_MalformedError, ValueError) as error:
        return FileElements(values, transfer_syntax, None, str(error))
    return FileElements(values, transfer_syntax, pixel_data, None)


def _read_meta(reader: _Reader, start: int) -> tuple[dict[int, bytes], int]:
    """Return the wanted elements of group 0002 and the first byte after the group."""
    meta: dict[int, bytes] = {}
    for element in reader.positions(start):
        if element.tag >> 16 != 2:
            return meta, element.start
        if element.tag in (_MEDIA_STORAGE_SOP_CLASS_UID, _TRANSFER_SYNTAX_UID):
            meta[element.tag] = reader.value(element)[:_MAX_VALUE_BYTES]
    return meta, reader.size


def _read_data_set(
    reader: _Reader, start: int, values: dict[str, Element], deflated_at: int | None
) -> PixelElement | None:
    """Add the wanted elements to `values` and return Pixel Data, None if there is none."""
    for element in reader.positions(start):
        if element.tag >= _PIXEL_DATA:
            found = element.tag == _PIXEL_DATA
            return _pixel_element(reader, element, deflated_at) if found else None
        if element.tag not in WANTED or element.length is None:
            continue
        if element.length <= _MAX_VALUE_BYTES:
            keyword, standard_vr = WANTED[element.tag]
            vr = element.vr.decode("ascii") if element.vr not in (b"", b"UN") else standard_vr
            values[keyword] = Element(vr, reader.value(element), reader.little_endian)
    return None


def _pixel_element(reader: _Reader, element: _Position, deflated_at: int | None) -> PixelElement:
    offset, length = element.offset, element.length
    vr = element.vr.decode("ascii") or "OW"
    if length is not None:
        complete = offset + length <= reader.size
        return PixelElement(offset, length, vr, False, complete, b"", deflated_at)
    end = _fragments_end(reader, offset)
    if end is None:
        return PixelElement(offset, reader.size - offset, vr, True, False, b"", deflated_at)
    reader.stream.seek(end - _TAIL_BYTES)
    tail = reader.stream.read(_TAIL_BYTES)
    return PixelElement(offset, end - offset, vr, True, True, tail, deflated_at)


def _fragments_end(reader: _Reader, start: int) -> int | None:
    """Return the first byte after the last fragment, None if one is cut off or there is none."""
    fragments = 0
    # A missing delimiter after the last complete fragment loses no pixels.
    while start < reader.size:
        try:
            item = reader.position(start)
        except _MalformedError:
            return None
        if item.tag == _SEQUENCE_DELIMITER:
            break
        if item.tag != _ITEM or item.length is None:
            return None
        fragments += 1
        start = item.offset + item.length
    # The first item is the Basic Offset Table.
    return start if fragments >= 2 and start <= reader.size else None


def _uid(value: bytes | None) -> str | None:
    return value.decode("ascii", "replace").strip(" \0") if value else None
