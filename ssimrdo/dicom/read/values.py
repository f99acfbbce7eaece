"""Values of elements as text and as numbers.

Not with pydicom's conversions: they warn of values that do not conform and quote them.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ssimrdo.dicom.registry import VR_OF

if TYPE_CHECKING:
    from ssimrdo.dicom.read.elements import Element

_FORMATS: Final = dict(
    zip(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), "HhIiQqfd", strict=True)
)
_TEXT_VRS: Final = frozenset(
    (
        *("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT"),
        *("PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"),
    )
)
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# The standard allows 16.
_MAX_DECIMAL_LENGTH: Final = 64
# Beyond this a value is corrupt, and HU could leave the range of float32.
_PLAUSIBLE: Final = 1e9


def text_of(tag: int, element: Element | None) -> str:
    """Return the value of an element as text, "" if it is missing or no text."""
    if element is None or element.value is None or _vr(tag, element.vr) not in _TEXT_VRS:
        return ""
    return element.value.decode("latin-1").strip(" \0")


def numbers_of(tag: int, element: Element | None) -> list[float | None]:
    """Return the values of an element, None for each that is no plausible number.

    [] if it is missing, empty or neither text nor numbers.
    """
    if element is None or not element.value:
        return []
    code = _FORMATS.get(_vr(tag, element.vr))
    if code is None:
        text = text_of(tag, element)
        return [_decimal(value.strip(" \0")) for value in text.split("\\")] if text else []
    try:
        numbers = struct.iter_unpack(element.order + code, element.value)
    except struct.error:
        return []
    return [_plausible(number) for (number,) in numbers]


@lru_cache(maxsize=256)
def _vr(tag: int, stated: str) -> str:
    """Return the VR to read an element with: the dictionary's where the file states none."""
    if stated in _TEXT_VRS or stated in _FORMATS:
        return stated
    # Of a choice, such as "US or SS", the first will do.
    return VR_OF[tag][:2] if stated in ("", "UN") else ""


def _decimal(text: str) -> float | None:
    if len(text) > _MAX_DECIMAL_LENGTH or not _DECIMAL.fullmatch(text):
        return None
    return _plausible(float(text))


def _plausible(number: float) -> float | None:
    return float(number) if abs(number) < _PLAUSIBLE else None
