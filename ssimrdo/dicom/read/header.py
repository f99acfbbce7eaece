"""The header of one CT slice: what is needed of it, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from ssimrdo.dicom.digits import PATIENT_POSITIONS, PlaneDigits, decimal_string, is_decimal
from ssimrdo.dicom.grey import VOI_LUT_FUNCTIONS, Window
from ssimrdo.dicom.read.elements import (
    CUT_OFF,
    MEDIA_STORAGE_SOP_CLASS,
    PIXEL_DATA,
    SYNTAX,
    UNDEFINED,
    WINDOW_BYTES,
    DamagedError,
    DataSet,
    Element,
    Place,
    has_prefix,
    may_be_dicom,
    read_elements,
)
from ssimrdo.dicom.read.kernel import kernel_class
from ssimrdo.dicom.read.values import numbers_of, text_of
from ssimrdo.dicom.registry import CT_IMAGE, DEFLATED_LITTLE_ENDIAN, NATIVE_SYNTAXES, TAG_OF
from ssimrdo.errors import InputError
from ssimrdo.text import printable

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from ssimrdo.dicom.read.archive import Unpacked

NOT_DICOM: Final = "not a DICOM file"
"""Reason given for skipped files that are not DICOM."""

# What tells apart the volumes of a series scanned several times, the most direct first.
_VOLUME_KEYWORDS: Final = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase"),
    *("TriggerTime", "KVP", "ContentTime"),
)
# Nothing else is read, so that no text of the patient or of a user can get into a message.
_KEYWORDS: Final = (
    *_VOLUME_KEYWORDS,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber"),
    *("Modality", "ImageType", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    *("SliceThickness", "GantryDetectorTilt", "PatientPosition"),
    *("ConvolutionKernel", "ConvolutionKernelGroup"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
WANTED: Final = frozenset(TAG_OF[keyword] for keyword in _KEYWORDS)

_SERIES_NUMBER: Final = 0x00200011
_POSITION: Final = 0x00200032
_MEMBERSHIP: Final = frozenset(
    (
        # SOP Class UID, Modality and Image Type: what tells that a file is no CT slice.
        *(0x00080016, 0x00080060, 0x00080008),
        # Series, Study and SOP Instance UID.
        *(0x0020000E, 0x0020000D, 0x00080018),
        _SERIES_NUMBER,
        _POSITION,
    )
)

_FLOAT_PIXEL_DATA: Final = 0x7FE00008
# The item tags and lengths of an empty Basic Offset Table and of one fragment.
_EMPTY_FRAGMENTS_BYTES: Final = 16
_MAX_PIXELS: Final = 1 << 26
"""Of a slice, 8192 x 8192; the widest CT has 2048 x 2048, and memory has an end."""

_UID: Final = re.compile(r"[0-9.]{1,64}")
_SERIES_NUMBER_TEXT: Final = re.compile(r"[0-9]{1,12}")
# In mm; beyond these a value is corrupt, and nothing can be made of their ratio.
_PLAUSIBLE_SPACING_MM: Final = (1e-5, 1e5)

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
MULTI_FRAME: Final = "enhanced (multi-frame) CT image"
ENHANCED_SOP_CLASSES: Final = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT Image Storage, and Legacy Converted Enhanced CT Image Storage."""

DICOMDIR: Final = "DICOMDIR"
"""Reason given for skipped files that list others."""

_EXCLUDED_SOP_CLASSES: Final = {
    "1.2.840.10008.1.3.10": DICOMDIR,
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
}


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was left out.

    Parameters
    ----------
    path : str
        Relative to the search root, printable.
    reason : str
        Why, without the path of any file.
    duplicate_of : str or None
        The path of the file whose duplicate it is.
    """

    path: str
    reason: str
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class BadFile(SkippedFile):
    """A file that is damaged; `series_uid` is None if it cannot be told which series it is of."""

    series_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """What a file, probably a CT slice, belongs to; missing UIDs but the series' are empty.

    ``position`` is Image Position (Patient) as it is written, and ``enhanced`` tells of a file that
    may hold several slices.
    """

    series_uid: str
    study_uid: str
    sop_instance_uid: str
    series_number: int | None
    position: str = ""
    enhanced: bool = False


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a file of several frames has one of them.

    Parameters
    ----------
    frame : int
        Its number, from 1.
    parts : tuple of tuples of 2 ints
        Where its bytes begin and how many there are, part by part.
    """

    frame: int
    parts: tuple[tuple[int, int], ...]


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
    plane : PlaneDigits
        Position, orientation, spacing, thickness and tilt as the header writes them.
    patient_position : str
        Patient Position, such as ``HFS``; empty where it is missing or none of the Defined Terms.
    kernel : str
        ``sharp`` or ``soft``, as the reconstruction kernel is; empty where that cannot be told.
    extent : Extent, optional
        Where the slice is in a file of several frames.
    unpacked : Unpacked, optional
        The archive that the slice was extracted from.
    pixels : Place, optional
        Where the pixel data begins, unless a data set has to be inflated up to it.
    """

    path: Path
    name: str
    sop_class_uid: str
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
    plane: PlaneDigits
    patient_position: str
    kernel: str = ""
    extent: Extent | None = None
    unpacked: Unpacked | None = field(default=None, compare=False, repr=False)
    pixels: Place | None = field(default=None, compare=False, repr=False)

    @property
    def shown(self) -> str:
        """What messages call the slice: the path that it is found at, and its frame's number."""
        frame = "" if self.extent is None else f", frame {self.extent.frame}"
        if self.unpacked is None:
            return printable(self.path) + frame
        return printable(self.unpacked.path / self.name.removesuffix(frame.lstrip(","))) + frame

    @property
    def file(self) -> Path:
        """The file that the user has: that of the slice, or the archive that it is in."""
        return self.path if self.unpacked is None else self.unpacked.path

    @property
    def slice_uid(self) -> str:
        """What tells the slice from all others: the SOP Instance UID, and its frame."""
        if self.extent is None:
            return self.sop_instance_uid
        return f"{self.sop_instance_uid}#{self.extent.frame:06d}"

    @property
    def inverted(self) -> bool:
        """Whether the lowest values are shown white (MONOCHROME1)."""
        return self.photometric_interpretation == "MONOCHROME1"

    def __repr__(self) -> str:
        # Neither path nor UID, which may tell whose slice it is.
        return f"SliceHeader({self.columns}x{self.rows}, position={self.position})"


Elements = Mapping[int, Element]
"""Elements by their tag."""


def read_header(path: Path, name: str) -> SliceHeader | SkippedFile:
    """Read the header of a regular file, or say why it is left out.

    Files without the preamble are recognised by starting with group 0002 or 0008, little endian,
    and holding a SOPClassUID. OSError is raised if the file cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        dataset = _identify(stream, name, WANTED, _FLOAT_PIXEL_DATA)
        if isinstance(dataset, SkippedFile):
            return dataset
        try:
            return _parse(path, name, dataset)
        except DamagedError as error:
            series_uid = uid_of(dataset.elements, "SeriesInstanceUID")
            return BadFile(name, str(error), series_uid=series_uid)


def read_membership(stream: BinaryIO, name: str) -> Membership | SkippedFile:
    """Read only which series a file is of, or say why it is left out.

    Several times as fast as `read_header`, because little is read and nothing is checked that an
    encode will check. `stream` is unbuffered and seekable; OSError is raised if it cannot be read.
    """
    dataset = _identify(stream, name, _MEMBERSHIP, _POSITION + 1, several_too=True)
    if isinstance(dataset, SkippedFile):
        return dataset
    if dataset.stop is None:
        return BadFile(name, CUT_OFF)
    series_uid = uid_of(dataset.elements, "SeriesInstanceUID")
    if series_uid is None:
        return BadFile(name, "SeriesInstanceUID is malformed or missing")
    number = _text(dataset.elements, "SeriesNumber")
    return Membership(
        series_uid,
        uid_of(dataset.elements, "StudyInstanceUID") or "",
        uid_of(dataset.elements, "SOPInstanceUID") or "",
        int(number) if _SERIES_NUMBER_TEXT.fullmatch(number) else None,
        text_of(_POSITION, dataset.elements.get(_POSITION)),
        uid_of(dataset.elements, "SOPClassUID") in ENHANCED_SOP_CLASSES,
    )


def _identify(
    stream: BinaryIO | FileIO,
    name: str,
    wanted: Container[int],
    stop_at: int,
    *,
    several_too: bool = False,
) -> DataSet | SkippedFile:
    """Read elements of a file that may be a CT slice, or several, or say why it is left out."""
    head = stream.read(WINDOW_BYTES)
    if not may_be_dicom(head):
        return SkippedFile(name, NOT_DICOM)
    is_dicom = has_prefix(head)
    try:
        dataset = read_elements(stream, head, wanted, stop_at)
    except DamagedError as error:
        if not is_dicom:
            return SkippedFile(name, NOT_DICOM)
        return BadFile(name, f"the header is corrupt: {error}")
    if not is_dicom and uid_of(dataset.elements, "SOPClassUID") is None:
        return SkippedFile(name, NOT_DICOM)
    if dataset.problem == CUT_OFF:
        # Its series, if it has one, is not to be trusted.
        return BadFile(name, dataset.problem)
    reason = _exclusion_reason(dataset)
    if reason is not None and not (several_too and reason == MULTI_FRAME):
        return SkippedFile(name, reason)
    return dataset if dataset.problem is None else BadFile(name, dataset.problem)


def _exclusion_reason(dataset: DataSet) -> str | None:
    """Say what a DICOM file is instead of a CT slice, None for one or if that cannot be told."""
    elements = dataset.elements
    stated = text_of(MEDIA_STORAGE_SOP_CLASS, dataset.meta.get(MEDIA_STORAGE_SOP_CLASS))
    sop_class = uid_of(elements, "SOPClassUID") or (stated if _UID.fullmatch(stated) else None)
    if sop_class in _EXCLUDED_SOP_CLASSES:
        return _EXCLUDED_SOP_CLASSES[sop_class]
    is_enhanced = sop_class in ENHANCED_SOP_CLASSES
    if sop_class and sop_class != CT_IMAGE and not is_enhanced:
        from pydicom.config import IGNORE
        from pydicom.uid import UID

        # Without the mode it warns of those that do not conform, and quotes them.
        known = UID(sop_class, IGNORE).name
        return known.removesuffix(" Storage") if known != sop_class else "unknown kind of object"
    modality = _text(elements, "Modality")
    if modality and modality != "CT":
        return f"{modality} image" if modality in _KNOWN_MODALITIES else "no CT image"
    image_type = _text(elements, "ImageType").upper()
    for mark, reason in _EXCLUDED_IMAGE_TYPES.items():
        if mark in image_type:
            return reason
    is_several = is_enhanced or (_first_number(elements, "NumberOfFrames") or 1) >= 2
    return MULTI_FRAME if is_several else None


def _parse(path: Path, name: str, dataset: DataSet) -> SliceHeader:
    elements = dataset.elements
    if dataset.stop is None or dataset.stop.tag != PIXEL_DATA:
        raise DamagedError("there is no pixel data")
    is_deflated = dataset.syntax == DEFLATED_LITTLE_ENDIAN
    pixels = None if is_deflated else dataset.stop
    header = parse_slice(path, name, elements, dataset.syntax, pixels=pixels)
    if _is_given(elements, "NumberOfFrames"):
        _required_integer(elements, "NumberOfFrames", (0, 1))
    _check_pixels(dataset, dataset.stop, header.rows * header.columns * header.bits_allocated // 8)
    return header


def parse_slice(
    path: Path,
    name: str,
    elements: Elements,
    syntax: str,
    extent: Extent | None = None,
    *,
    pixels: Place | None = None,
) -> SliceHeader:
    """Return the header of a slice, its elements checked; its pixel data is not looked at.

    Raises
    ------
    DamagedError
        If an element that is needed is missing or cannot be used; its value is not quoted.
    """
    sop_class_uid = _required_uid(elements, "SOPClassUID")
    _required_integer(elements, "SamplesPerPixel", (1,))
    rows = _required_integer(elements, "Rows", range(1, 65536))
    columns = _required_integer(elements, "Columns", range(1, 65536))
    _check_size(rows, columns)
    allocated = _required_integer(elements, "BitsAllocated", (8, 16))
    stored = _required_integer(elements, "BitsStored", range(1, allocated + 1))
    high_bit = stored - 1
    if TAG_OF["HighBit"] in elements:
        high_bit = _required_integer(elements, "HighBit", range(high_bit, allocated))
    signed = _required_integer(elements, "PixelRepresentation", (0, 1)) == 1
    (intercept,) = _required_numbers(elements, "RescaleIntercept", 1)
    (slope,) = _required_numbers(elements, "RescaleSlope", 1)
    if np.float32(slope) == 0:
        raise _bad(elements, "RescaleSlope")
    photometric_interpretation = _text(elements, "PhotometricInterpretation")
    if photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise _bad(elements, "PhotometricInterpretation")
    spacing, thickness = _pixel_spacing(elements), _slice_thickness(elements)
    patient_position = _text(elements, "PatientPosition")
    return SliceHeader(
        path=path,
        name=name,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=_required_uid(elements, "SOPInstanceUID"),
        series_uid=_required_uid(elements, "SeriesInstanceUID"),
        instance_number=_first_number(elements, "InstanceNumber"),
        volume_keys=tuple(_first_number(elements, keyword) for keyword in _VOLUME_KEYWORDS),
        orientation=_orientation(elements),
        position=_required_numbers(elements, "ImagePositionPatient", 3),
        pixel_spacing_mm=spacing,
        slice_thickness_mm=thickness,
        rescale_slope=slope,
        rescale_intercept=intercept,
        windows=_windows(elements),
        transfer_syntax_uid=syntax,
        photometric_interpretation=photometric_interpretation,
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=signed,
        padding=_padding(elements, allocated, signed),
        plane=PlaneDigits(
            position=_digits(elements, "ImagePositionPatient"),
            orientation=_digits(elements, "ImageOrientationPatient"),
            pixel_spacing=None if spacing is None else _digits(elements, "PixelSpacing"),
            thickness=None if thickness is None else _digits(elements, "SliceThickness")[0],
            tilt=next(iter(_digits(elements, "GantryDetectorTilt")), None),
        ),
        patient_position=patient_position if patient_position in PATIENT_POSITIONS else "",
        kernel=kernel_class(
            _text(elements, "ConvolutionKernel"), _text(elements, "ConvolutionKernelGroup")
        ),
        extent=extent,
        pixels=pixels,
    )


def _text(elements: Elements, keyword: str) -> str:
    tag = TAG_OF[keyword]
    return text_of(tag, elements.get(tag))


def uid_of(elements: Elements, keyword: str) -> str | None:
    """Return a UID, None if it is missing or malformed."""
    text = _text(elements, keyword)
    return text if _UID.fullmatch(text) else None


def _numbers(elements: Elements, keyword: str) -> list[float | None]:
    """Return the values of an element, None for each that is no plausible number."""
    tag = TAG_OF[keyword]
    return numbers_of(tag, elements.get(tag))


def _digits(elements: Elements, keyword: str) -> tuple[str, ...]:
    """Return the plausible numbers of an element as it writes them."""
    texts = [text.strip(" \0") for text in _text(elements, keyword).split("\\")]
    if all(map(is_decimal, texts)):
        return tuple(texts)
    # Numbers that are no text, against the standard.
    return tuple(
        decimal_string(number) for number in _numbers(elements, keyword) if number is not None
    )


def _first_number(elements: Elements, keyword: str) -> float | None:
    return next(iter(_numbers(elements, keyword)), None)


def _is_given(elements: Elements, keyword: str) -> bool:
    """Tell whether there is an element that is not empty, whatever it holds."""
    element = elements.get(TAG_OF[keyword])
    return element is not None and element.value != b""


def _required_uid(elements: Elements, keyword: str) -> str:
    uid = uid_of(elements, keyword)
    if uid is None:
        raise _bad(elements, keyword)
    return uid


def _required_numbers(elements: Elements, keyword: str, count: int) -> tuple[float, ...]:
    found = _numbers(elements, keyword)
    numbers = tuple(number for number in found if number is not None)
    if not len(found) == len(numbers) == count:
        raise _bad(elements, keyword)
    return numbers


def _required_integer(elements: Elements, keyword: str, allowed: Container[int]) -> int:
    (number,) = _required_numbers(elements, keyword, 1)
    if not number.is_integer() or int(number) not in allowed:
        raise _bad(elements, keyword)
    return int(number)


def _bad(elements: Elements, keyword: str) -> DamagedError:
    wrong = "malformed or not supported" if TAG_OF[keyword] in elements else "missing"
    return DamagedError(f"{keyword} is {wrong}")


def _orientation(elements: Elements) -> tuple[float, ...]:
    numbers = _required_numbers(elements, "ImageOrientationPatient", 6)
    row, column = numbers[:3], numbers[3:]
    product = sum(a * b for a, b in zip(row, column, strict=True))
    # 0.01 allows for cosines rounded to two decimals; more than that is no direction at all.
    if max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), abs(product)) > 0.01:
        raise _bad(elements, "ImageOrientationPatient")
    return numbers


def _pixel_spacing(elements: Elements) -> tuple[float, float] | None:
    low, high = _PLAUSIBLE_SPACING_MM
    match _numbers(elements, "PixelSpacing"):
        case [float(row), float(column)] if low <= min(row, column) <= max(row, column) <= high:
            return row, column
    return None


def _slice_thickness(elements: Elements) -> float | None:
    thickness = _first_number(elements, "SliceThickness")
    return thickness if thickness is not None and thickness > 0 else None


def _windows(elements: Elements) -> tuple[Window, ...]:
    function = _text(elements, "VOILUTFunction").upper() or "LINEAR"
    if function not in VOI_LUT_FUNCTIONS:
        return ()
    centers, widths = _numbers(elements, "WindowCenter"), _numbers(elements, "WindowWidth")
    windows = []
    for center, width in zip(centers, widths, strict=False):
        if center is not None and width is not None:
            with suppress(InputError):
                windows.append(Window(center, width, function))
    return tuple(windows)


def _padding(elements: Elements, bits_allocated: int, signed: bool) -> tuple[int, int] | None:
    """Return the range of padding values, read as a pixel would be, whatever their VR says."""
    cells = 1 << bits_allocated
    low = -cells // 2 if signed else 0
    ends = [
        (int(number) - low) % cells + low
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for number in _numbers(elements, keyword)[:1]
        if number is not None
    ]
    return (min(ends), max(ends)) if ends and TAG_OF["PixelPaddingValue"] in elements else None


def frames_of(elements: Elements, most: int) -> tuple[int, int, int]:
    """Return how many frames a file claims to have, the bytes of each, and the bits of a cell.

    Raises
    ------
    DamagedError
        If there are none, more than `most`, or frames are larger than slices that are read.
    """
    count = _required_integer(elements, "NumberOfFrames", range(1, 1 << 31))
    if count > most:
        raise DamagedError(f"{count} frames are too many: at most {most} are read")
    rows = _required_integer(elements, "Rows", range(1, 65536))
    columns = _required_integer(elements, "Columns", range(1, 65536))
    _check_size(rows, columns)
    bits = _required_integer(elements, "BitsAllocated", (8, 16))
    return count, rows * columns * bits // 8, bits


def _check_size(rows: int, columns: int) -> None:
    if rows * columns > _MAX_PIXELS:
        raise DamagedError(f"{columns}x{rows} is too large: at most {_MAX_PIXELS} pixels are read")


def is_native(dataset: DataSet) -> bool:
    """Tell whether a file's transfer syntax leaves pixels uncompressed."""
    return dataset.syntax in NATIVE_SYNTAXES


def check_syntax(dataset: DataSet, pixels: Place) -> bool:
    """Check the Transfer Syntax UID; return whether pixel data is native.

    Raises
    ------
    DamagedError
        If it is malformed, or pixel data is of another kind.
    """
    if SYNTAX in dataset.meta and not _UID.fullmatch(dataset.syntax):
        raise DamagedError("TransferSyntaxUID is malformed or not supported")
    if is_native(dataset) and pixels.length == UNDEFINED:
        raise DamagedError("the pixel data is encapsulated, but the transfer syntax is for native")
    return is_native(dataset)


def _check_pixels(dataset: DataSet, pixels: Place, native_bytes: int) -> None:
    """Check that the pixel data is there."""
    needed = native_bytes if check_syntax(dataset, pixels) else _EMPTY_FRAGMENTS_BYTES + 1
    dataset.source.allow(needed)
    if min(pixels.length, dataset.source.end(pixels.start + needed) - pixels.start) < needed:
        raise DamagedError("the pixel data is cut off; copy the file again")
