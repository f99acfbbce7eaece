"""The series record: what it takes to make CT slices again from a video; nothing names a patient.

It stands in the sidecar under ``ct``, and inside the video where that can hold it. docs/json.md
describes every key. :data:`SCHEMA` grows when a key changes its meaning.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom.digits import (
    PATIENT_POSITIONS,
    Digits,
    PlaneDigits,
    is_decimal,
    is_orientation,
)
from ssimrdo.dicom.grey import WIDE, Window, linear_ends
from ssimrdo.dicom.padding import AIR, PADDING, PADDINGS, unpacked
from ssimrdo.dicom.spacing import median
from ssimrdo.errors import InputError

SCHEMA: Final = 1

NAME: Final = "ssimrdo.json"
"""Of the attachment."""

MIME_TYPE: Final = "application/json"

MAX_BYTES: Final = 64 << 20
"""Of a record or sidecar that is read; one of 10,000 slices has some 3 MB."""

MAX_FRAMES: Final = 100_000
MAX_PIXELS: Final = 1 << 26
MAX_SIDE: Final = 65535

RANGES: Final = ("full", "limited")
"""Of luma: all codes, or 16 to 235 as in video (at 8 bit)."""

# A step between slices that is this much larger than the usual one is a gap.
_GAP: Final = 1.5
# Of a curve that is looked up in a table; stored values have 16 bits.
_WIDEST_HU: Final = 65536
_SMALLEST_STEP_MM: Final = 1e-3


@dataclass(frozen=True)
class SeriesRecord:
    """What it takes to make a CT series again from its video.

    Parameters
    ----------
    rows, columns : int
        Of a slice; the video's frames may be one larger, with the last row or column repeated.
    bit_depth : int
        Bits per luma sample.
    luma_range : {"full", "limited"}
        Range of the luma in the stream.
    window : Window
        From HU to luma.
    inverted : bool
        Whether the lowest HU are shown white.
    planes : tuple of PlaneDigits
        Where every slice lies, in the order of the video.
    checksums : tuple of int
        CRC-32 of the luma that every frame decodes to, by which damage is told.
    psnr_db : tuple of float
        PSNR of every slice, by which the slices are known that the video was made from.
    patient_position : str
        Patient Position; may be empty.
    padding : {"darkest", "air"}
        How padding is shown.
    padded : tuple of bytes or None
        What is padding in every slice, as :func:`ssimrdo.dicom.padding.packed` has it; empty where
        there is none, or earlier versions did not tell.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    rows: int
    columns: int
    bit_depth: int
    luma_range: str
    window: Window
    inverted: bool
    planes: tuple[PlaneDigits, ...]
    checksums: tuple[int, ...]
    psnr_db: tuple[float, ...]
    patient_position: str = ""
    padding: str = PADDING
    padded: tuple[bytes | None, ...] = ()

    @property
    def frames(self) -> int:
        """Number of slices."""
        return len(self.planes)

    @property
    def along_mm(self) -> tuple[float, ...]:
        """Position of every slice along their normal."""
        orientation = np.array(self.planes[0].orientation, np.float64)
        normal = np.cross(orientation[:3], orientation[3:])
        positions = np.array([plane.position_mm for plane in self.planes])
        return tuple((positions @ normal).tolist())

    def padding_in(self, index: int) -> NDArray[np.bool_] | None:
        """Return what is padding in a slice, by its index; None where nothing is known to be.

        Raises
        ------
        InputError
            If the record is damaged there.
        """
        found = self.padded[index] if self.padded else None
        try:
            return None if found is None else unpacked(found, (self.rows, self.columns))
        except ValueError:
            raise _bad("padded") from None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        first = self.planes[0]
        window = {**self.window.as_dict(), "inverted": self.inverted}
        return {
            "schema": SCHEMA,
            "frames": self.frames,
            "rows": self.rows,
            "columns": self.columns,
            "bit_depth": self.bit_depth,
            "range": self.luma_range,
            "window": window,
            "patient_position": self.patient_position,
            "padding": self.padding,
            **({"padded": _masks_and_places(self.padded)} if self.padded else {}),
            **_common(first),
            "positions": [list(plane.position) for plane in self.planes],
            "differing": {
                str(number): changed
                for number, plane in enumerate(self.planes, start=1)
                if (changed := _changed(first, plane))
            },
            "gaps": gaps(self.planes),
            "slant_degrees": slant_degrees(self.planes),
            "checksums": list(self.checksums),
            "psnr": list(self.psnr_db),
        }

    @classmethod
    def from_dict(cls, record: Any) -> SeriesRecord:
        """Return the record of JSON types that may come from anywhere.

        Raises
        ------
        InputError
            If a value is missing, of another kind, or out of range; it is not quoted.
        """
        fields = _mapping(record, "ct")
        schema = _integer(fields, "schema", 1, MAX_FRAMES)
        if schema != SCHEMA:
            raise InputError(
                f"the record has schema {schema}, and schema {SCHEMA} is known here",
                remedy="use the version of ssimrdo that wrote it",
            )
        rows = _integer(fields, "rows", 1, MAX_SIDE)
        columns = _integer(fields, "columns", 1, MAX_SIDE)
        if rows * columns > MAX_PIXELS:
            raise _bad("rows")
        frames = _integer(fields, "frames", 1, MAX_FRAMES)
        positions = _list(fields, "positions", frames)
        first = _plane({**fields, "position": positions[0]})
        if fields.get("range") not in RANGES:
            raise _bad("range")
        # Those who wrote none showed it as air.
        padding = fields.get("padding", AIR)
        if padding not in PADDINGS:
            raise _bad("padding")
        window = _mapping(fields.get("window"), "window")
        if not isinstance(window.get("inverted"), bool):
            raise _bad("window")
        return cls(
            rows=rows,
            columns=columns,
            bit_depth=_integer(fields, "bit_depth", 8, 16),
            luma_range=fields["range"],
            window=_window(window),
            inverted=window["inverted"],
            planes=_planes(first, positions, fields.get("differing")),
            checksums=_integers(fields, "checksums", frames),
            psnr_db=_numbers(fields, "psnr", frames),
            patient_position=_patient_position(fields),
            padding=padding,
            padded=_padded(fields, frames),
        )

    def text(self) -> bytes:
        """Return the record as it goes into a video: JSON under ``ct``, as in the sidecar."""
        return json.dumps({"ct": self.as_dict()}, allow_nan=False).encode()


def read_record(data: bytes, what: str) -> SeriesRecord:
    """Return the record in a sidecar or in what a video holds.

    Parameters
    ----------
    data : bytes
        JSON.
    what : str
        What messages name.

    Raises
    ------
    InputError
        If there is none, or it is damaged; the message is one line and quotes nothing of it.
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(f"{what}: is not JSON", remedy="copy the file again") from None
    if not isinstance(record, dict) or record.get("ct") is None:
        raise InputError(
            f"{what}: does not say where the slices lie",
            remedy="encode the series again: older versions, and arrays without positions, have no "
            "such record",
        )
    try:
        return SeriesRecord.from_dict(record["ct"])
    except InputError as error:
        raise InputError(f"{what}: {error.reason}", remedy=error.remedy) from None


def gaps(planes: Sequence[PlaneDigits]) -> list[dict[str, float]]:
    """Return where the step between slices is more than half as large again as the usual one.

    Each has ``after``, the slice before it from 1 on, and ``mm``, its step.
    """
    steps = _steps_mm(planes)
    if steps.size < 2:
        return []
    usual = median(steps)
    if usual < _SMALLEST_STEP_MM:
        return []
    return [
        {"after": int(index) + 1, "mm": round(float(steps[index]), 6)}
        for index in np.flatnonzero(steps > _GAP * usual)
    ]


def slant_degrees(planes: Sequence[PlaneDigits]) -> float:
    """Return the angle between the slices' normal and the line through their first pixels.

    It is the tilt of the gantry where the table moved between slices that lie above each other.
    """
    if len(planes) < 2:
        return 0.0
    numbers = [float(text) for text in planes[0].orientation]
    normal = np.cross(numbers[:3], numbers[3:])
    line = np.subtract(planes[-1].position_mm, planes[0].position_mm)
    lengths = float(np.linalg.norm(normal) * np.linalg.norm(line))
    if lengths == 0:
        return 0.0
    return round(math.degrees(math.acos(min(1.0, abs(float(normal @ line)) / lengths))), 4)


def _steps_mm(planes: Sequence[PlaneDigits]) -> NDArray[np.float64]:
    positions = np.array([plane.position_mm for plane in planes])
    return np.asarray(np.linalg.norm(np.diff(positions, axis=0), axis=1))


def _common(plane: PlaneDigits) -> dict[str, Any]:
    """Return all of a plane but its position."""
    return {
        "orientation": list(plane.orientation),
        "pixel_spacing": plane.pixel_spacing and list(plane.pixel_spacing),
        "thickness": plane.thickness,
        "tilt": plane.tilt,
    }


def _changed(first: PlaneDigits, plane: PlaneDigits) -> dict[str, Any]:
    usual = _common(first)
    return {key: value for key, value in _common(plane).items() if value != usual[key]}


def _planes(
    first: PlaneDigits, positions: Sequence[Any], differing: Any
) -> tuple[PlaneDigits, ...]:
    changes = _mapping(differing, "differing")
    numbers = {str(number) for number in range(1, len(positions) + 1)}
    if not changes.keys() <= numbers:
        raise _bad("differing")
    usual = _common(first)
    return tuple(
        _plane(
            {**usual, **_mapping(changes.get(str(number), {}), "differing"), "position": position}
        )
        for number, position in enumerate(positions, start=1)
    )


def _plane(fields: Mapping[str, Any]) -> PlaneDigits:
    orientation = _digits(fields.get("orientation"), 6, "orientation")
    if not is_orientation(orientation):
        raise _bad("orientation")
    spacing = None
    if fields.get("pixel_spacing") is not None:
        spacing = _digits(fields["pixel_spacing"], 2, "pixel_spacing")
        if min(map(float, spacing)) <= 0:
            raise _bad("pixel_spacing")
    thickness = _digit(fields.get("thickness"), "thickness")
    if thickness is not None and float(thickness) <= 0:
        raise _bad("thickness")
    return PlaneDigits(
        position=_digits(fields.get("position"), 3, "positions"),
        orientation=orientation,
        pixel_spacing=spacing,
        thickness=thickness,
        tilt=_digit(fields.get("tilt"), "tilt"),
    )


def _masks_and_places(padded: Sequence[bytes | None]) -> dict[str, Any]:
    """Return the masks of slices, each once, and which of them every slice has."""
    places = {mask: place for place, mask in enumerate(dict.fromkeys(filter(None, padded)))}
    return {
        "masks": [base64.b64encode(mask).decode() for mask in places],
        "slices": [None if mask is None else places[mask] for mask in padded],
    }


def _padded(fields: Mapping[str, Any], frames: int) -> tuple[bytes | None, ...]:
    if "padded" not in fields:
        return ()
    found = _mapping(fields["padded"], "padded")
    texts = found.get("masks")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _bad("padded")
    try:
        masks = [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError):
        raise _bad("padded") from None
    places = _list(found, "slices", frames)
    if not all(one is None or (_is_integer(one) and 0 <= one < len(masks)) for one in places):
        raise _bad("padded")
    return tuple(None if one is None else masks[one] for one in places)


def _window(fields: Mapping[str, Any]) -> Window:
    center, width, function = (fields.get(key) for key in ("center", "width", "function"))
    if not _is_number(center) or not _is_number(width) or not isinstance(function, str):
        raise _bad("window")
    try:
        window = Window(float(center), float(width), function)
    except (InputError, OverflowError):
        raise _bad("window") from None
    if window.function == WIDE and window.width > _WIDEST_HU:
        raise _bad("window")
    ends = linear_ends(window) or (window.center, window.width)
    if not all(abs(end) < 1e9 for end in (*ends, window.width)):
        raise _bad("window")
    return window


def _patient_position(fields: Mapping[str, Any]) -> str:
    found = fields.get("patient_position")
    if found == "" or (isinstance(found, str) and found in PATIENT_POSITIONS):
        return found
    raise _bad("patient_position")


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(key)
    return value


def _list(fields: Mapping[str, Any], key: str, count: int) -> list[Any]:
    found = fields.get(key)
    if not isinstance(found, list) or len(found) != count:
        raise _bad(key)
    return found


def _integer(fields: Mapping[str, Any], key: str, low: int, high: int) -> int:
    found = fields.get(key)
    if not _is_integer(found) or not low <= found <= high:
        raise _bad(key)
    return found


def _integers(fields: Mapping[str, Any], key: str, count: int) -> tuple[int, ...]:
    found = _list(fields, key, count)
    if not all(_is_integer(one) and 0 <= one < 1 << 32 for one in found):
        raise _bad(key)
    return tuple(found)


def _numbers(fields: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
    found = _list(fields, key, count)
    if not all(_is_number(one) and abs(one) < 1e9 for one in found):
        raise _bad(key)
    return tuple(map(float, found))


def _digits(value: Any, count: int, key: str) -> Digits:
    if not isinstance(value, list) or len(value) != count or not all(map(is_decimal, value)):
        raise _bad(key)
    return tuple(value)


def _digit(value: Any, key: str) -> str | None:
    if value is not None and not is_decimal(value):
        raise _bad(key)
    return None if value is None else str(value)


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _bad(key: str) -> InputError:
    return InputError(f"the record is damaged: {key} cannot be used", remedy="copy the file again")
