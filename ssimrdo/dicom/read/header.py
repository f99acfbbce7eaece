"""The header of one CT slice, read with pydicom."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Container, MutableSequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filereader import data_element_generator, read_partial
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UncompressedTransferSyntaxes,
)

from ssimrdo.dicom.grey import Window
from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

NOT_DICOM: Final = "not a DICOM file"
"""Reason given for skipped files that are not DICOM."""

# What tells apart the volumes of a series scanned several times, the most direct first.
_VOLUME_KEYWORDS: Final = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("NominalPercentageOfCardiacPhase", "TriggerTime", "ContentTime"),
)
# Nothing else is read, so that no text of the patient or of a user can get into a message.
_KEYWORDS: Final = (
    *_VOLUME_KEYWORDS,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber"),
    *("Modality", "ImageType", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    "SliceThickness",
    *("SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
WANTED: Final[list[BaseTag | int]] = [tag for tag in map(tag_for_keyword, _KEYWORDS) if tag]

_SYNTAX: Final = 0x00020010
_SOP_CLASS: Final = 0x00080016
_SERIES_NUMBER: Final = 0x00200011
_EXCLUDING_TAGS: Final = (_SOP_CLASS, 0x00080060, 0x00080008)
"""SOP Class UID, Modality and Image Type: what tells that a file is no CT slice."""

_IDENTIFYING_TAGS: Final = (0x0020000E, 0x0020000D, 0x00080018, _SERIES_NUMBER)
"""Series, Study and SOP Instance UID, and Series Number."""

_MEMBERSHIP: Final = {tag: keyword_for_tag(tag) for tag in (*_EXCLUDING_TAGS, *_IDENTIFYING_TAGS)}
_MEMBERSHIP_TAGS: Final[list[BaseTag | int]] = list(_MEMBERSHIP)
_MEMBERSHIP_BYTES: Final = 4096
"""Few headers have Series Number further back; those are read once more."""

_ORDINARY: Final = {
    uid: uid.is_implicit_VR
    for uid in AllTransferSyntaxes
    if uid.is_little_endian and not uid.is_deflated
}
"""Transfer syntaxes whose elements are read as they stand, and whether VRs are implicit."""

_FLOAT_PIXEL_DATA: Final = 0x7FE00008
_PIXEL_DATA: Final = 0x7FE00010
# The item tags and lengths of an empty Basic Offset Table and of one fragment.
_EMPTY_FRAGMENTS_BYTES: Final = 16

_UID: Final = re.compile(r"[0-9.]{1,64}")
# Beyond this a value is corrupt, and HU could leave the range of float32.
_PLAUSIBLE: Final = 1e9

_EXCLUDED_IMAGE_TYPES: Final = {
    **dict.fromkeys(("LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"), "localizer"),
    "SCREEN SAVE": "screen capture",
    "DOSE_INFO": "dose report",
}
# Any other text in Modality might be somebody's name.
_KNOWN_MODALITIES: Final = frozenset(
    (
        *("CR", "DX", "ES", "IO", "IVUS", "KO", "MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT"),
        *("PX", "REG", "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SC", "SEG", "SM", "SR"),
        *("US", "XA", "XC"),
    )
)
_MULTI_FRAME: Final = "enhanced (multi-frame) CT image"
_EXCLUDED_SOP_CLASSES: Final = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.2.1": _MULTI_FRAME,
    "1.2.840.10008.5.1.4.1.1.2.2": _MULTI_FRAME,
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
}


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was left out: its printable path relative to the search root, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class BadFile(SkippedFile):
    """A file that is damaged; `series_uid` is None if it cannot be told which series it is of."""

    series_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """What a file, probably a CT slice, belongs to; missing UIDs but the series' are empty."""

    series_uid: str
    study_uid: str
    sop_instance_uid: str
    series_number: int | None


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What is needed of one CT slice, without its pixels.

    Fields that are not listed are the attributes of the same name.

    Parameters
    ----------
    name : str
        The path relative to the search root, POSIX style, printable.
    volume_keys : tuple of float or None
        Values that may tell apart the volumes of a series scanned several times.
    orientation : tuple of 6 floats
        Image Orientation (Patient): direction cosines of a row, then of a column.
    position : tuple of 3 floats
        Image Position (Patient) in mm.
    pixel_spacing_mm : tuple of 2 floats, or None
        Row spacing and column spacing in mm.
    slice_thickness_mm : float, or None
        Slice Thickness, above 0.
    windows : tuple of Window
        The valid windows of the header, first one first.
    signed : bool
        Pixel Representation: True for two's complement.
    padding : tuple of 2 ints, or None
        Lowest and highest value of padding, read with the signedness of the pixels.
    """

    path: Path
    name: str
    sop_instance_uid: str
    series_uid: str
    instance_number: float | None
    volume_keys: tuple[float | None, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float] | None
    slice_thickness_mm: float | None
    rescale_slope: float
    rescale_intercept: float
    windows: tuple[Window, ...]
    transfer_syntax_uid: str
    photometric_interpretation: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None

    @property
    def inverted(self) -> bool:
        """Whether the lowest values are shown white (MONOCHROME1)."""
        return self.photometric_interpretation == "MONOCHROME1"

    def __repr__(self) -> str:
        # Neither path nor UID, which may tell whose slice it is.
        return f"SliceHeader({self.columns}x{self.rows}, position={self.position})"


class _BadValueError(Exception):
    """A required element is missing or malformed; the message is the reason."""


def printable(text: object) -> str:
    """Return text fit for one line of a message or for JSON: unprintable characters become "?"."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def read_header(path: Path, name: str) -> SliceHeader | SkippedFile:
    """Read the header of a regular file, or say why it is left out.

    Files without the preamble are recognised by starting with group 0002 or 0008, little endian,
    and holding a SOPClassUID. OSError is raised if the file cannot be read.
    """
    with path.open("rb") as stream:
        dataset, pixel_bytes = _identify(stream, name, _read)
    if isinstance(dataset, SkippedFile):
        return dataset
    try:
        return _parse(path, name, dataset, pixel_bytes)
    except _BadValueError as error:
        return BadFile(name, str(error), _uid(dataset, "SeriesInstanceUID"))


def read_membership(stream: BinaryIO, name: str) -> Membership | SkippedFile:
    """Read only which series a file is of, or say why it is left out.

    Several times as fast as `read_header`, because little is read and nothing is checked that an
    encode will check. `stream` is unbuffered and seekable; OSError is raised if it cannot be read.
    """
    elements = _first_elements(stream.read(_MEMBERSHIP_BYTES))
    if elements is None:
        stream.seek(0)
        dataset, reached = _identify(stream, name, _read_start)
        if isinstance(dataset, SkippedFile):
            return dataset
        if not reached:
            return BadFile(name, "the header is cut off")
        values = {tag: _text(dataset, keyword) for tag, keyword in _MEMBERSHIP.items()}
    else:
        reason = _known_exclusion(*map(elements.get, _EXCLUDING_TAGS))
        if reason is not None:
            return SkippedFile(name, reason)
        values = {tag: value.decode("latin-1").strip(" \0") for tag, value in elements.items()}
    series, study, instance, number = (values.get(tag, "") for tag in _IDENTIFYING_TAGS)
    if not _UID.fullmatch(series):
        return BadFile(name, "SeriesInstanceUID is malformed or missing")
    return Membership(series, study, instance, int(number) if number.isdecimal() else None)


def _identify(
    stream: BinaryIO, name: str, read: Callable[[BinaryIO], tuple[FileDataset, int | None]]
) -> tuple[FileDataset | SkippedFile, int | None]:
    """Read elements of a file that may be a CT slice, or say why it is left out."""
    head = stream.read(132)
    stream.seek(0)
    has_preamble = head[128:] == b"DICM"
    if not has_preamble and head[:2] not in (b"\x02\0", b"\x08\0"):
        return SkippedFile(name, NOT_DICOM), None
    try:
        dataset, found = read(stream)
        # Looked at before any value is converted.
        is_cut_off = _is_cut_off(dataset)
    except Exception as error:
        # pydicom raises whatever it likes on corrupt files, OSError without a number included.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        bad = BadFile(name, "the header is corrupt or cut off")
        return (bad if has_preamble else SkippedFile(name, NOT_DICOM)), None
    if not has_preamble and _uid(dataset, "SOPClassUID") is None:
        return SkippedFile(name, NOT_DICOM), None
    if is_cut_off:
        # Its series, if it has one, is not to be trusted.
        return BadFile(name, "the header is cut off"), None
    reason = _exclusion_reason(dataset)
    return (dataset if reason is None else SkippedFile(name, reason)), found


def _read(stream: BinaryIO) -> tuple[FileDataset, int | None]:
    """Read the wanted elements; return them and how many bytes of Pixel Data there are, if any.

    pydicom stops silently where the file ends.
    """
    size = os.fstat(stream.fileno()).st_size
    pixel_bytes: int | None = None

    def at_pixel_data(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal pixel_bytes
        del vr
        if tag == _PIXEL_DATA:
            pixel_bytes = min(length, size - stream.tell())
        return int(tag) >= _FLOAT_PIXEL_DATA

    dataset = read_partial(stream, at_pixel_data, force=True, specific_tags=WANTED)
    return dataset, pixel_bytes


def _first_elements(head: bytes) -> dict[int, bytes] | None:
    """Return the values that `read_membership` needs, if the file is an ordinary one.

    None where they do not all lie in `head`, and for what takes a closer look.
    """
    stream = io.BytesIO(head)
    if head[128:132] != b"DICM":
        return None
    stream.seek(132)
    reached = False

    def is_behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal reached
        del vr, length
        reached = int(tag) > _SERIES_NUMBER
        return reached

    try:
        meta = data_element_generator(
            stream, False, True, lambda tag, *_: int(tag) >> 16 != 2, specific_tags=[_SYNTAX]
        )
        syntax = {int(element.tag): element.value or b"" for element in meta}[_SYNTAX]
        is_implicit = _ORDINARY[UID(syntax.rstrip(b"\0").decode())]
        body = data_element_generator(
            stream, is_implicit, True, is_behind, specific_tags=_MEMBERSHIP_TAGS
        )
        elements = {int(element.tag): element.value or b"" for element in body}
    except Exception:
        # pydicom raises whatever it likes on corrupt files.
        return None
    return elements if reached and _SOP_CLASS in elements else None


@lru_cache(maxsize=1024)
def _known_exclusion(*values: bytes | None) -> str | None:
    """Return the `_exclusion_reason` of raw values, which are the same in many files."""
    raw: dict[BaseTag, DataElement | RawDataElement] = {
        tag: RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        for tag, value in zip(map(Tag, _EXCLUDING_TAGS), values, strict=True)
        if value is not None
    }
    return _exclusion_reason(FileDataset("", raw))


def _read_start(stream: BinaryIO) -> tuple[FileDataset, int | None]:
    """Read up to Series Number; the number is 1 if the file goes on behind it."""
    reached: int | None = None

    def is_behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal reached
        del vr, length
        if int(tag) > _SERIES_NUMBER:
            reached = 1
        return bool(reached)

    return read_partial(stream, is_behind, force=True, specific_tags=_MEMBERSHIP_TAGS), reached


def _is_cut_off(dataset: FileDataset) -> bool:
    """Whether the file ends inside an element that was read."""
    return any(
        isinstance(element, RawDataElement) and len(element.value or b"") < element.length
        for element in (*dataset.file_meta.elements(), *dataset.elements())
    )


def _exclusion_reason(dataset: FileDataset) -> str | None:
    """Say what a DICOM file is instead of a CT slice, None for one or if that cannot be told."""
    sop_class = _uid(dataset, "SOPClassUID") or _uid(dataset.file_meta, "MediaStorageSOPClassUID")
    if sop_class in _EXCLUDED_SOP_CLASSES:
        return _EXCLUDED_SOP_CLASSES[sop_class]
    if sop_class and sop_class != CTImageStorage:
        known = UID(sop_class).name
        return known.removesuffix(" Storage") if known != sop_class else "unknown kind of object"
    modality = _text(dataset, "Modality")
    if modality and modality != "CT":
        return f"{modality} image" if modality in _KNOWN_MODALITIES else "no CT image"
    image_type = _text(dataset, "ImageType").upper()
    for mark, reason in _EXCLUDED_IMAGE_TYPES.items():
        if mark in image_type:
            return reason
    return _MULTI_FRAME if (_first_number(dataset, "NumberOfFrames") or 1) > 1 else None


def _parse(path: Path, name: str, dataset: FileDataset, pixel_bytes: int | None) -> SliceHeader:
    if pixel_bytes is None:
        raise _BadValueError("there is no pixel data")
    _required_uid(dataset, "SOPClassUID")
    _required_integer(dataset, "SamplesPerPixel", (1,))
    rows = _required_integer(dataset, "Rows", range(1, 65536))
    columns = _required_integer(dataset, "Columns", range(1, 65536))
    allocated = _required_integer(dataset, "BitsAllocated", (8, 16))
    stored = _required_integer(dataset, "BitsStored", range(1, allocated + 1))
    high_bit = stored - 1
    if "HighBit" in dataset:
        high_bit = _required_integer(dataset, "HighBit", range(high_bit, allocated))
    signed = _required_integer(dataset, "PixelRepresentation", (0, 1)) == 1
    (intercept,) = _required_numbers(dataset, "RescaleIntercept", 1)
    (slope,) = _required_numbers(dataset, "RescaleSlope", 1)
    if slope == 0:
        raise _bad(dataset, "RescaleSlope")
    photometric_interpretation = _text(dataset, "PhotometricInterpretation")
    if photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise _bad(dataset, "PhotometricInterpretation")
    return SliceHeader(
        path=path,
        name=name,
        sop_instance_uid=_required_uid(dataset, "SOPInstanceUID"),
        series_uid=_required_uid(dataset, "SeriesInstanceUID"),
        instance_number=_first_number(dataset, "InstanceNumber"),
        volume_keys=tuple(_first_number(dataset, keyword) for keyword in _VOLUME_KEYWORDS),
        orientation=_orientation(dataset),
        position=_required_numbers(dataset, "ImagePositionPatient", 3),
        pixel_spacing_mm=_pixel_spacing(dataset),
        slice_thickness_mm=_slice_thickness(dataset),
        rescale_slope=slope,
        rescale_intercept=intercept,
        windows=_windows(dataset),
        transfer_syntax_uid=_transfer_syntax(dataset, pixel_bytes, rows * columns * allocated // 8),
        photometric_interpretation=photometric_interpretation,
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=signed,
        padding=_padding(dataset, allocated, signed),
    )


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    """Return the values of an element, [] if it is missing, empty or malformed."""
    try:
        value = dataset.get(keyword)
    except Exception:
        # What pydicom raises on malformed values depends on the VR and on the values.
        return []
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(map(str, _values(dataset, keyword))).strip(" \0")


def _uid(dataset: Dataset, keyword: str) -> str | None:
    """Return a UID, None if it is missing or malformed."""
    text = _text(dataset, keyword)
    return text if _UID.fullmatch(text) else None


def _numbers(dataset: Dataset, keyword: str) -> list[float | None]:
    """Return the values of an element, None for each that is no plausible number."""
    return [_number(value) for value in _values(dataset, keyword)]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < _PLAUSIBLE else None


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    return next(iter(_numbers(dataset, keyword)), None)


def _required_uid(dataset: Dataset, keyword: str) -> str:
    uid = _uid(dataset, keyword)
    if uid is None:
        raise _bad(dataset, keyword)
    return uid


def _required_numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    found = _numbers(dataset, keyword)
    numbers = tuple(number for number in found if number is not None)
    if not len(found) == len(numbers) == count:
        raise _bad(dataset, keyword)
    return numbers


def _required_integer(dataset: Dataset, keyword: str, allowed: Container[int]) -> int:
    (number,) = _required_numbers(dataset, keyword, 1)
    if not number.is_integer() or int(number) not in allowed:
        raise _bad(dataset, keyword)
    return int(number)


def _bad(dataset: Dataset, keyword: str) -> _BadValueError:
    wrong = "malformed or not supported" if keyword in dataset else "missing"
    return _BadValueError(f"{keyword} is {wrong}")


def _orientation(dataset: Dataset) -> tuple[float, ...]:
    numbers = _required_numbers(dataset, "ImageOrientationPatient", 6)
    row, column = numbers[:3], numbers[3:]
    product = sum(a * b for a, b in zip(row, column, strict=True))
    # 0.01 allows for cosines rounded to two decimals; more than that is no direction at all.
    if max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), abs(product)) > 0.01:
        raise _bad(dataset, "ImageOrientationPatient")
    return numbers


def _pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    match _numbers(dataset, "PixelSpacing"):
        case [float(row), float(column)] if min(row, column) > 0:
            return row, column
    return None


def _slice_thickness(dataset: Dataset) -> float | None:
    thickness = _first_number(dataset, "SliceThickness")
    return thickness if thickness is not None and thickness > 0 else None


def _windows(dataset: Dataset) -> tuple[Window, ...]:
    function = _text(dataset, "VOILUTFunction").upper() or "LINEAR"
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    windows = []
    for center, width in zip(centers, widths, strict=False):
        if center is not None and width is not None:
            with suppress(InputError):
                windows.append(Window(center, width, function))
    return tuple(windows)


def _padding(dataset: Dataset, bits_allocated: int, signed: bool) -> tuple[int, int] | None:
    """Return the range of padding values, read as a pixel would be, whatever their VR says."""
    cells = 1 << bits_allocated
    low = -cells // 2 if signed else 0
    ends = [
        (int(number) - low) % cells + low
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for number in _numbers(dataset, keyword)[:1]
        if number is not None
    ]
    return (min(ends), max(ends)) if ends and "PixelPaddingValue" in dataset else None


def _transfer_syntax(dataset: FileDataset, pixel_bytes: int, native_bytes: int) -> str:
    """Return the Transfer Syntax UID, having checked that the pixel data is there."""
    # Without File Meta Information, little endian pixels are the same in Implicit and Explicit VR.
    uid = _text(dataset.file_meta, "TransferSyntaxUID") or str(ImplicitVRLittleEndian)
    if not _UID.fullmatch(uid):
        raise _bad(dataset.file_meta, "TransferSyntaxUID")
    is_native = uid in UncompressedTransferSyntaxes
    needed = native_bytes if is_native else _EMPTY_FRAGMENTS_BYTES + 1
    # A deflated data set that is cut off cannot be inflated in the first place.
    if pixel_bytes < needed and uid != DeflatedExplicitVRLittleEndian:
        raise _BadValueError("the pixel data is cut off; copy the file again")
    return uid
