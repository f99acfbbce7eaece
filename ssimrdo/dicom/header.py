"""The header of one CT slice, parsed defensively from its raw element values."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydicom import config
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from ssimrdo.dicom.window import WINDOW_FUNCTIONS, Window
from ssimrdo.errors import BadSliceError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ssimrdo.dicom.elements import Element, FileElements, PixelElement

NATIVE_TRANSFER_SYNTAXES: Final = frozenset(
    (
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    )
)

# All of these codestreams end with this marker, be it called EOI or EOC.
_MARKED_TRANSFER_SYNTAXES: Final = frozenset(
    (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
)
_END_MARKER: Final = b"\xff\xd9"
_CUT_OFF: Final = "the pixel data is cut off; copy the file again"

_BINARY_VRS: Final = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
}
# float() alone would also take "nan", "1_000" and non-ASCII digits.
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_UID: Final = re.compile(r"[0-9.]{1,64}")
# Beyond this a value is corrupt, and HU could leave the range of float32.
_PLAUSIBLE: Final = 1e9

_EXCLUDED_IMAGE_TYPES: Final = (
    ("LOCALIZER", "localizer"),
    ("SCOUT", "localizer"),
    ("TOPOGRAM", "localizer"),
    ("SURVIEW", "localizer"),
    ("SCREEN SAVE", "screen capture"),
    ("DOSE_INFO", "dose report"),
)
_EXCLUDED_SOP_CLASSES: Final = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.2.1": "enhanced (multi-frame) CT image",
    "1.2.840.10008.5.1.4.1.1.2.2": "enhanced (multi-frame) CT image",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
}


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What is needed of one CT slice, without its pixels.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Its path relative to the search root, POSIX style, printable.
    sop_instance_uid, series_uid : str
        SOP Instance UID and Series Instance UID.
    rows, columns : int
        Size in pixels.
    orientation : tuple of 6 floats
        Image Orientation (Patient): direction cosines of a row, then of a column.
    position : tuple of 3 floats
        Image Position (Patient) in mm.
    pixel_spacing_mm : tuple of 2 floats, or None
        Row spacing and column spacing in mm.
    rescale_slope, rescale_intercept : float
        HU = slope * stored value + intercept.
    windows : tuple of Window
        The valid windows of the header, first one first.
    photometric_interpretation : str
        MONOCHROME1 or MONOCHROME2.
    transfer_syntax_uid : str
        Transfer Syntax UID.
    bits_allocated, bits_stored, high_bit : int
        Layout of one pixel cell; `bits_allocated` is 8 or 16.
    signed : bool
        Pixel Representation: True for two's complement.
    padding_value, padding_range_limit : int or None
        Pixel Padding Value and Pixel Padding Range Limit, read with the signedness of the pixels.
    pixel_data : PixelElement
        Where Pixel Data lies in the file.
    acquisition_number, instance_number : int or None
        As in the header.
    temporal_position_identifier, temporal_position_index : int or None
        As in the header.
    cardiac_phase_percent, trigger_time_ms, content_time : float or None
        Nominal Percentage of Cardiac Phase, Trigger Time in ms and Content Time as HHMMSS.F.
    slice_thickness_mm : float or None
        Slice Thickness in mm.
    kernel : str or None
        Convolution Kernel.
    """

    path: Path
    name: str
    sop_instance_uid: str
    series_uid: str
    rows: int
    columns: int
    orientation: tuple[float, float, float, float, float, float]
    position: tuple[float, float, float]
    pixel_spacing_mm: tuple[float, float] | None
    rescale_slope: float
    rescale_intercept: float
    windows: tuple[Window, ...]
    photometric_interpretation: str
    transfer_syntax_uid: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding_value: int | None
    padding_range_limit: int | None
    pixel_data: PixelElement
    acquisition_number: int | None
    instance_number: int | None
    temporal_position_identifier: int | None
    temporal_position_index: int | None
    cardiac_phase_percent: float | None
    trigger_time_ms: float | None
    content_time: float | None
    slice_thickness_mm: float | None
    kernel: str | None

    @property
    def inverted(self) -> bool:
        """Whether the lowest values are shown white (MONOCHROME1)."""
        return self.photometric_interpretation == "MONOCHROME1"


class _BadValueError(Exception):
    """A required element is missing or malformed; the message is the reason."""


def printable(text: object) -> str:
    """Return text fit for one line of a message or for JSON: unprintable characters become "?"."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def exclusion_reason(elements: FileElements) -> str | None:
    """Say why a DICOM file is no CT slice.

    Parameters
    ----------
    elements : FileElements
        The elements of the file, possibly incomplete.

    Returns
    -------
    str or None
        What the file is instead, as a noun; None for a CT slice or if that cannot be told.
    """
    values = elements.values
    sop_class = _uid(values, "SOPClassUID")
    if sop_class in _EXCLUDED_SOP_CLASSES:
        return _EXCLUDED_SOP_CLASSES[sop_class]
    if sop_class and sop_class != CTImageStorage:
        return _sop_class_name(sop_class)
    modality = _text(values, "Modality")
    if modality and modality != "CT":
        return f"{modality} image" if re.fullmatch("[A-Z]{2,8}", modality) else "no CT image"
    image_type = "\\".join(_texts(values, "ImageType")).upper()
    for mark, reason in _EXCLUDED_IMAGE_TYPES:
        if mark in image_type:
            return reason
    frames = _integer(values, "NumberOfFrames")
    return "enhanced (multi-frame) CT image" if frames is not None and frames > 1 else None


def series_uid_of(elements: FileElements) -> str | None:
    """Return the Series Instance UID, None if missing or malformed."""
    return _uid(elements.values, "SeriesInstanceUID")


def parse_header(path: Path, name: str, elements: FileElements) -> SliceHeader:
    """Parse the header of one CT slice.

    Malformed optional values become None; no value, however malformed, causes anything but the
    error below.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Its path relative to the search root.
    elements : FileElements
        Its elements.

    Returns
    -------
    SliceHeader

    Raises
    ------
    BadSliceError
        If the header is cut off, lacks a required value or announces pixel data that is not there.
    """
    try:
        if elements.problem is not None:
            raise _BadValueError(elements.problem)
        return _parse(path, name, elements)
    except _BadValueError as error:
        raise BadSliceError(printable(path), str(error)) from None


def _parse(path: Path, name: str, elements: FileElements) -> SliceHeader:
    values = elements.values
    _required_uid(values, "SOPClassUID")
    rows = _required_integer(values, "Rows", 1, 65535)
    columns = _required_integer(values, "Columns", 1, 65535)
    bits_allocated, bits_stored, high_bit = _bits(values)
    signed = _required_integer(values, "PixelRepresentation", 0, 1) == 1
    transfer_syntax, pixel_data = _pixel_data(elements, rows * columns * bits_allocated // 8)
    return SliceHeader(
        path=path,
        name=name,
        sop_instance_uid=_required_uid(values, "SOPInstanceUID"),
        series_uid=_required_uid(values, "SeriesInstanceUID"),
        rows=rows,
        columns=columns,
        orientation=_orientation(values),
        position=_position(values),
        pixel_spacing_mm=_pixel_spacing(values),
        rescale_slope=_slope(values),
        rescale_intercept=_required_numbers(values, "RescaleIntercept", 1)[0],
        windows=_windows(values),
        photometric_interpretation=_photometric_interpretation(values),
        transfer_syntax_uid=transfer_syntax,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=signed,
        padding_value=_padding(values, "PixelPaddingValue", bits_allocated, signed),
        padding_range_limit=_padding(values, "PixelPaddingRangeLimit", bits_allocated, signed),
        pixel_data=pixel_data,
        acquisition_number=_integer(values, "AcquisitionNumber"),
        instance_number=_integer(values, "InstanceNumber"),
        temporal_position_identifier=_integer(values, "TemporalPositionIdentifier"),
        temporal_position_index=_integer(values, "TemporalPositionIndex"),
        cardiac_phase_percent=_number(values, "NominalPercentageOfCardiacPhase"),
        trigger_time_ms=_number(values, "TriggerTime"),
        content_time=_number(values, "ContentTime"),
        slice_thickness_mm=_positive(_number(values, "SliceThickness")),
        kernel=_kernel(values),
    )


def _texts(values: Mapping[str, Element], keyword: str) -> tuple[str, ...]:
    """Return the values of a text element, () if it is missing or empty."""
    element = values.get(keyword)
    if element is None:
        return ()
    text = element.value.decode("latin-1")
    texts = tuple(part.strip(" \0") for part in text.split("\\"))
    return texts if any(texts) else ()


def _text(values: Mapping[str, Element], keyword: str) -> str | None:
    """Return the first value of a text element, None if it is missing or empty."""
    return next(iter(_texts(values, keyword)), None) or None


def _uid(values: Mapping[str, Element], keyword: str) -> str | None:
    """Return a UID, None if it is missing or malformed."""
    text = _text(values, keyword)
    return text if text and _UID.fullmatch(text) else None


def _numbers(values: Mapping[str, Element], keyword: str) -> tuple[float | None, ...]:
    """Return the values of a numeric element, None for each malformed one, () if missing."""
    element = values.get(keyword)
    if element is None:
        return ()
    if element.vr not in _BINARY_VRS:
        return tuple(_decimal(text) for text in _texts(values, keyword))
    code = ("<" if element.little_endian else ">") + _BINARY_VRS[element.vr]
    if len(element.value) % struct.calcsize(code):
        return (None,)
    return tuple(_finite(number) for (number,) in struct.iter_unpack(code, element.value))


def _decimal(text: str) -> float | None:
    return _finite(float(text)) if _DECIMAL.fullmatch(text) else None


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _number(values: Mapping[str, Element], keyword: str) -> float | None:
    return next(iter(_numbers(values, keyword)), None)


def _integer(values: Mapping[str, Element], keyword: str) -> int | None:
    number = _number(values, keyword)
    return int(number) if number is not None and number.is_integer() else None


def _positive(number: float | None) -> float | None:
    return number if number is not None and 0 < number < _PLAUSIBLE else None


def _required_integer(values: Mapping[str, Element], keyword: str, low: int, high: int) -> int:
    """Return an integer of low..high or raise _BadValueError naming the attribute."""
    _require(values, keyword)
    number = _integer(values, keyword)
    if number is None or not low <= number <= high:
        raise _BadValueError(f"{keyword} is not an integer of {low} to {high}")
    return number


def _required_numbers(values: Mapping[str, Element], keyword: str, count: int) -> tuple[float, ...]:
    """Return exactly `count` plausible numbers or raise _BadValueError naming the attribute."""
    _require(values, keyword)
    found = _numbers(values, keyword)
    numbers = tuple(n for n in found if n is not None and abs(n) < _PLAUSIBLE)
    if len(found) != count or len(numbers) != count:
        raise _BadValueError(
            f"{keyword} is malformed; it should be {count} number{'s' * (count > 1)}"
        )
    return numbers


def _required_uid(values: Mapping[str, Element], keyword: str) -> str:
    _require(values, keyword)
    uid = _uid(values, keyword)
    if uid is None:
        raise _BadValueError(f"{keyword} is malformed; it should be a UID")
    return uid


def _require(values: Mapping[str, Element], keyword: str) -> None:
    element = values.get(keyword)
    if element is None or not element.value:
        raise _BadValueError(f"{keyword} is missing")
    if element.vr not in _BINARY_VRS and not element.value.strip(b" \0"):
        raise _BadValueError(f"{keyword} is empty")


def _bits(values: Mapping[str, Element]) -> tuple[int, int, int]:
    """Return Bits Allocated, Bits Stored and High Bit of a single-sample image."""
    if _required_integer(values, "SamplesPerPixel", 1, 65535) != 1:
        raise _BadValueError("SamplesPerPixel is not 1: a colour image is no CT slice")
    allocated = _required_integer(values, "BitsAllocated", 1, 65535)
    if allocated not in (8, 16):
        raise _BadValueError(f"BitsAllocated is {allocated}; only 8 and 16 are supported")
    stored = _required_integer(values, "BitsStored", 1, allocated)
    if "HighBit" not in values:
        return allocated, stored, stored - 1
    return allocated, stored, _required_integer(values, "HighBit", stored - 1, allocated - 1)


def _photometric_interpretation(values: Mapping[str, Element]) -> str:
    text = _text(values, "PhotometricInterpretation")
    if text is None:
        raise _BadValueError("PhotometricInterpretation is missing")
    if text not in ("MONOCHROME1", "MONOCHROME2"):
        raise _BadValueError("PhotometricInterpretation is neither MONOCHROME1 nor MONOCHROME2")
    return text


def _slope(values: Mapping[str, Element]) -> float:
    (slope,) = _required_numbers(values, "RescaleSlope", 1)
    if slope == 0:
        raise _BadValueError("RescaleSlope is 0")
    return slope


def _position(values: Mapping[str, Element]) -> tuple[float, float, float]:
    x, y, z = _required_numbers(values, "ImagePositionPatient", 3)
    return x, y, z


def _orientation(
    values: Mapping[str, Element],
) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = _required_numbers(values, "ImageOrientationPatient", 6)
    row, column = math.hypot(a, b, c), math.hypot(d, e, f)
    # 0.01 allows for cosines rounded to two decimals; more than that is no direction at all.
    if max(abs(row - 1), abs(column - 1), abs(a * d + b * e + c * f)) > 0.01:
        raise _BadValueError("ImageOrientationPatient is not two perpendicular unit vectors")
    return a, b, c, d, e, f


def _pixel_spacing(values: Mapping[str, Element]) -> tuple[float, float] | None:
    spacings = [_positive(number) for number in _numbers(values, "PixelSpacing")]
    if len(spacings) != 2 or spacings[0] is None or spacings[1] is None:
        return None
    return spacings[0], spacings[1]


def _windows(values: Mapping[str, Element]) -> tuple[Window, ...]:
    function = (_text(values, "VOILUTFunction") or "LINEAR").upper()
    if function not in WINDOW_FUNCTIONS:
        return ()
    pairs = zip(_numbers(values, "WindowCenter"), _numbers(values, "WindowWidth"), strict=False)
    windows = (_window(center, width, function) for center, width in pairs)
    return tuple(window for window in windows if window is not None)


def _window(center: float | None, width: float | None, function: str) -> Window | None:
    if center is None or width is None or max(abs(center), abs(width)) >= _PLAUSIBLE:
        return None
    try:
        return Window(center, width, function)
    except InputError:
        return None


def _padding(
    values: Mapping[str, Element], keyword: str, bits_allocated: int, signed: bool
) -> int | None:
    """Return a padding value read with the signedness of the pixels, whatever its VR says."""
    number = _integer(values, keyword)
    if number is None or not -(2**15) <= number < 2**16:
        return None
    cells = 1 << bits_allocated
    cell = number % cells
    return cell - cells if signed and cell >= cells // 2 else cell


def _kernel(values: Mapping[str, Element]) -> str | None:
    kernel = "\\".join(_texts(values, "ConvolutionKernel"))
    return kernel if kernel and len(kernel) <= 64 and _is_printable_ascii(kernel) else None


def _is_printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _pixel_data(elements: FileElements, native_bytes: int) -> tuple[str, PixelElement]:
    """Return Transfer Syntax UID and Pixel Data, checked to be as long as announced."""
    pixel_data = elements.pixel_data
    if pixel_data is None:
        raise _BadValueError("there is no pixel data")
    transfer_syntax = elements.transfer_syntax_uid
    if transfer_syntax is None:
        if pixel_data.fragmented:
            raise _BadValueError("TransferSyntaxUID is missing")
        # Little endian pixels are the same in Implicit and Explicit VR.
        transfer_syntax = str(ImplicitVRLittleEndian)
    if not _UID.fullmatch(transfer_syntax):
        raise _BadValueError("TransferSyntaxUID is malformed")
    problem = _pixel_data_problem(transfer_syntax, pixel_data, native_bytes)
    if problem is not None:
        raise _BadValueError(problem)
    return transfer_syntax, pixel_data


def _pixel_data_problem(
    transfer_syntax: str, pixel_data: PixelElement, native_bytes: int
) -> str | None:
    """Say what is wrong with the length of Pixel Data, None if nothing is."""
    if not pixel_data.complete:
        return _CUT_OFF
    if transfer_syntax in NATIVE_TRANSFER_SYNTAXES:
        if pixel_data.fragmented:
            return "the pixel data is not of the transfer syntax the file states"
        if pixel_data.length < native_bytes:
            return (
                f"the pixel data has {pixel_data.length} bytes instead of {native_bytes}; "
                "copy the file again"
            )
        return None
    # Decoders return a partial image, without an error, where such a codestream just ends.
    marked = pixel_data.fragmented and transfer_syntax in _MARKED_TRANSFER_SYNTAXES
    return _CUT_OFF if marked and _END_MARKER not in pixel_data.tail else None


def _sop_class_name(uid: str) -> str:
    """Return the registered name of a SOP class as a noun, without the word Storage."""
    # Validation would warn about a malformed UID.
    known = UID(uid, validation_mode=config.IGNORE)
    return known.name.removesuffix(" Storage") if known.name != uid else "unknown kind of object"
