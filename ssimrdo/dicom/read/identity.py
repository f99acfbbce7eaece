"""Whose a slice is, and what it was called: for a list that asks for it, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom.charset import python_encoding

from ssimrdo.dicom.read.elements import WINDOW_BYTES, DamagedError, read_elements
from ssimrdo.dicom.read.values import text_of
from ssimrdo.dicom.registry import TAG_OF
from ssimrdo.text import shortened

if TYPE_CHECKING:
    from ssimrdo.dicom.read.header import SliceHeader

_KEYWORDS: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"),
    *("StudyDescription", "SeriesNumber", "SeriesDescription", "ConvolutionKernel"),
    *("StudyInstanceUID", "SeriesInstanceUID"),
)
_TAGS: Final = {keyword: TAG_OF[keyword] for keyword in _KEYWORDS}
_CHARACTER_SET: Final = 0x00080005
_MOST_SHOWN: Final = 200


def identity_texts(header: SliceHeader) -> dict[str, str]:
    """Return what a slice says of patient, study and series, by keyword; printable.

    What is missing, and what cannot be read, is left out.
    """
    wanted = {_CHARACTER_SET, *_TAGS.values()}
    try:
        with header.path.open("rb", buffering=0) as stream:
            head = stream.read(WINDOW_BYTES)
            found = read_elements(stream, head, wanted, max(wanted) + 1).elements
    except (DamagedError, OSError):
        return {}
    names = text_of(_CHARACTER_SET, found.get(_CHARACTER_SET)).split("\\")
    # With code extensions the first one is what most of the text is in.
    encoding = python_encoding.get(names[0].strip(), "latin-1")
    texts = {}
    for keyword, tag in _TAGS.items():
        text = text_of(tag, found.get(tag)).encode("latin-1").decode(encoding, "replace")
        if text:
            texts[keyword] = shortened(text, _MOST_SHOWN)
    return texts
