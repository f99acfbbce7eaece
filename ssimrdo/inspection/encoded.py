"""What an encode shows of a slice, and the window that it was made with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ssimrdo.dicom import Window
from ssimrdo.dicom.padding import PADDING
from ssimrdo.errors import InputError, cause_of
from ssimrdo.frames import FrameFormat
from ssimrdo.record.sidecar import recorded_padding, sidecar_path
from ssimrdo.text import counted
from ssimrdo.video.decode import decoded_luma


@dataclass(frozen=True, slots=True)
class GreyUsed:
    """How the slices of an encode were made grey, as its sidecar tells.

    Parameters
    ----------
    window : Window
        The window.
    bit_depth : int
        Bits per luma sample.
    padding : {"darkest", "air"}
        How padding is shown.
    """

    window: Window
    bit_depth: int
    padding: str = PADDING


def grey_used(encode: Path) -> GreyUsed | None:
    """Return how the slices of an encode were made grey; None where no sidecar tells."""
    try:
        record = json.loads(sidecar_path(encode).read_text(encoding="utf-8"))
        grey = record["grey"]
        window = Window(grey["center"], grey["width"], grey["function"])
        return GreyUsed(window, int(grey["bit_depth"]), recorded_padding(record))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, InputError):
        return None


def shown_slice(encode: Path, number: int, slices: int, shown: FrameFormat) -> NDArray[Any]:
    """Return a slice of a series as an encode shows it.

    Parameters
    ----------
    encode : Path
        Video file.
    number : int
        Which slice, from 1.
    slices : int
        How many the series has; 0 where that is not known.
    shown : FrameFormat
        Of the series' slices.

    Raises
    ------
    InputError
        If the file cannot be decoded, or is not of such a series.
    """
    found, count = None, 0
    try:
        for luma in decoded_luma(encode, bit_depth=shown.bit_depth):
            count += 1
            if count == number:
                found = luma
    except OSError as error:
        raise InputError(
            f"{encode}: cannot be decoded: {cause_of(error)}", field="encode"
        ) from error
    if found is None or (slices and count != slices):
        raise InputError(
            f"{encode}: shows {counted(count, 'slice')}, the series has {slices or 'more'}",
            field="encode",
            remedy="give the encode of this series",
        )
    if found.shape != shown.padded().shape or found.dtype != shown.dtype:
        rows, columns = found.shape
        raise InputError(
            f"{encode}: is {columns}x{rows} in {found.dtype}, not as the slices of the series",
            field="encode",
            remedy="give the encode of this series",
        )
    return shown.crop(found)
