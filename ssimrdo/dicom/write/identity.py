"""Patient and study of an original series, and which of its slices goes with which of ours.

Values pass as the bytes that the original has. Only text elements are taken, and none in sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from ssimrdo.dicom.digits import PlaneDigits
from ssimrdo.dicom.read.elements import WINDOW_BYTES, DamagedError, Element, read_elements
from ssimrdo.dicom.read.find import Series
from ssimrdo.dicom.read.header import SliceHeader
from ssimrdo.errors import BadSliceError, InputError, cause_of
from ssimrdo.text import printable

SAME_PLACE_MM: Final = 1e-3
"""By which numbers of a position may differ that was written with other digits."""

_SAME_DIRECTION: Final = 1e-3
_SAME_SPACING: Final = 1e-3

_CHARACTER_SET: Final = "SpecificCharacterSet"
_KEYWORDS: Final = (
    _CHARACTER_SET,
    # Patient (PS3.3 C.7.1.1)
    *("PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "PatientBirthDate"),
    *("PatientBirthTime", "PatientSex", "OtherPatientNames", "EthnicGroup", "PatientComments"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
    # General Study (C.7.2.1) and Patient Study (C.7.2.2)
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID"),
    *("AccessionNumber", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight"),
    *("Occupation", "AdditionalPatientHistory"),
    # Frame of Reference (C.7.4.1)
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
)
_TAGS: Final = {keyword: tag_for_keyword(keyword) or 0 for keyword in _KEYWORDS}
_LAST: Final = max(_TAGS.values()) + 1


@dataclass(frozen=True)
class Identity:
    """Patient and study.

    Parameters
    ----------
    elements : mapping of str to RawDataElement
        By keyword; values are bytes in the original's character set.
    """

    elements: Mapping[str, RawDataElement] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Identity({len(self.elements)} elements)"


def identity_of(header: SliceHeader) -> Identity:
    """Return patient and study of a slice.

    Raises
    ------
    BadSliceError
        If the file cannot be read, or its text is in a character set that is none.
    """
    path = printable(header.path)
    wanted = frozenset(_TAGS.values())
    try:
        with header.path.open("rb", buffering=0) as stream:
            found = read_elements(stream, stream.read(WINDOW_BYTES), wanted, _LAST).elements
    except (DamagedError, OSError) as error:
        cause = cause_of(error) if isinstance(error, OSError) else str(error)
        raise BadSliceError(path, f"the header cannot be read ({cause})") from None
    elements = {
        keyword: _raw(tag, found[tag]) for keyword, tag in _TAGS.items() if _is_text(found, tag)
    }
    if "DeidentificationMethod" not in elements:
        # The one may not stand without the other.
        elements.pop("PatientIdentityRemoved", None)
    character_set = elements.get(_CHARACTER_SET)
    if character_set is not None:
        names = (character_set.value or b"").decode("ascii", "replace").split("\\")
        if not all(name.strip(" \0") in python_encoding for name in names):
            raise BadSliceError(path, "the character set of its text is none of DICOM's")
    return Identity(elements)


def matching_slices(
    template: Series, planes: Sequence[PlaneDigits], shape: tuple[int, int], shown: Path | str
) -> tuple[SliceHeader, ...]:
    """Return the slice of a series for each of ours, by its place.

    Parameters
    ----------
    template : Series
        The original; it may have more slices.
    planes : sequence of PlaneDigits
        Where ours lie, in the order in which series are sorted.
    shape : tuple of 2 ints
        Rows and columns of ours.
    shown : Path or str
        What messages name.

    Raises
    ------
    InputError
        If one of ours has none.
    """
    name = printable(shown)
    remedy = "give the series that the video was made from"
    if (template.rows, template.columns) != shape:
        raise InputError(
            f"{name}: its slices are {template.columns}x{template.rows}, those of the video "
            f"{shape[1]}x{shape[0]}",
            field="template",
            remedy=remedy,
        )
    found = []
    remaining = iter(template.slices)
    for number, plane in enumerate(planes, start=1):
        header = next((one for one in remaining if _is_same(one.plane, plane)), None)
        if header is None:
            raise InputError(
                f"{name}: no slice lies where slice {number} of the video does",
                field="template",
                remedy=remedy,
            )
        found.append(header)
    return tuple(found)


def _is_same(one: PlaneDigits, other: PlaneDigits) -> bool:
    def near(first: Sequence[str], second: Sequence[str], tolerance: float) -> bool:
        pairs = zip(map(float, first), map(float, second), strict=True)
        return all(abs(a - b) <= tolerance for a, b in pairs)

    if not near(one.position, other.position, SAME_PLACE_MM):
        return False
    if not near(one.orientation, other.orientation, _SAME_DIRECTION):
        return False
    if one.pixel_spacing is None or other.pixel_spacing is None:
        return one.pixel_spacing is other.pixel_spacing
    largest = max(map(float, one.pixel_spacing))
    return near(one.pixel_spacing, other.pixel_spacing, _SAME_SPACING * largest)


def _is_text(found: Mapping[int, Element], tag: int) -> bool:
    # What has to be there though it is empty is there already.
    return tag in found and bool((found[tag].value or b"").strip(b" \0"))


def _raw(tag: int, element: Element) -> RawDataElement:
    value = element.value or b""
    vr = dictionary_VR(tag)
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
