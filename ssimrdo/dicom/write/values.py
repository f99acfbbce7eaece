"""From luma back to HU, and from HU to stored values with slope and intercept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom.digits import MAX_DS_LENGTH, decimal_string
from ssimrdo.dicom.grey import Window, hu_of_shares
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat

BITS_STORED: Final = 12
"""The least that CT images have (PS3.3 C.8.2.1)."""

MOST_ROUNDING_HU: Final = 1e-6
"""By which HU may be off because slope and intercept are decimal strings, where luma is stored."""

# Between stored values of 16 bits, one of which is for padding.
_MOST_STEPS: Final = 65534

# Of a step between stored values, below which steps count as equal.
_EVEN: Final = 1e-9


@dataclass(frozen=True, eq=False)
class StoredScale:
    """How luma is stored.

    Parameters
    ----------
    stored : ndarray of shape (luma codes,), uint16
        Stored value of every luma code.
    slope, intercept : str
        Rescale Slope and Rescale Intercept as decimal strings: HU of a stored value.
    bits_stored : int
        Bits Stored.
    rounding_hu : float
        By how much the HU of a code may be off because of rounding; nothing of the codec's error.
    padding : int
        A value beyond those of all codes at their dark end, which stands for padding.
    """

    stored: NDArray[np.uint16]
    slope: str
    intercept: str
    bits_stored: int
    rounding_hu: float
    padding: int


def hu_of_codes(window: Window, frames: FrameFormat, *, inverted: bool) -> NDArray[np.float64]:
    """Return the HU of every luma code: the inverse of :func:`ssimrdo.dicom.grey.apply_window`.

    Codes beyond the ends of a limited range are those ends. A sigmoid reaches black and white at
    no HU; they get the HU of half a grey level.

    Parameters
    ----------
    window : Window
        What luma was made with.
    frames : FrameFormat
        Depth and range of the luma.
    inverted : bool
        Whether the lowest HU are shown white.

    Returns
    -------
    ndarray of shape (2 ** bit depth,), float64

    Raises
    ------
    InputError
        If the window shows nothing but black and white.
    """
    black, white = frames.ends
    codes = np.arange(1 << frames.bit_depth, dtype=np.float64)
    shown = (np.clip(codes, black, white) - black) / (white - black)
    if inverted:
        shown = 1 - shown
    hu = hu_of_shares(window, shown, step=1 / (white - black))
    if hu is None:
        raise InputError(
            f"the window {window} shows black and white alone: there are no HU to go back to",
            remedy="encode with a wider window",
        )
    return hu


def stored_scale(hu: NDArray[np.float64], *, inverted: bool = False) -> StoredScale:
    """Return how luma codes of these HU are stored.

    Where HU go with luma in even steps, grey levels are stored as they are. Otherwise HU are
    rounded to 65,535 steps from the lowest to the highest. One value more stands for padding, as
    PS3.3 C.7.5.1.1.2 has it: the lowest of all, or the highest of all where these are shown black.

    Parameters
    ----------
    hu : ndarray of shape (luma codes,), float64
        HU of every code; finite, ascending or descending.
    inverted : bool
        Whether the lowest HU are shown white.

    Raises
    ------
    InputError
        If decimal strings of 16 characters cannot hold slope and intercept.
    """
    levels, place = np.unique(hu, return_inverse=True)
    low, span = float(levels[0]), float(levels[-1] - levels[0])
    step = span / (levels.size - 1)
    even = np.abs(np.diff(levels) - step).max() <= _EVEN * max(step, abs(low), span)
    steps = levels.size - 1 if even else _MOST_STEPS
    bits = max(BITS_STORED, (steps + 1).bit_length())
    first = 0 if inverted else 1
    slope = decimal_string(span / steps)
    intercept = decimal_string(low - first * float(slope))
    if even:
        stored = (place + first).astype(np.uint16)
    else:
        values = np.rint((hu - float(intercept)) / float(slope))
        stored = np.clip(values, first, first + steps).astype(np.uint16)
    off = float(np.abs(stored * float(slope) + float(intercept) - hu).max())
    allowed = max(MOST_ROUNDING_HU, _EVEN * span) if even else step
    if max(len(slope), len(intercept)) > MAX_DS_LENGTH or float(slope) == 0 or off > allowed:
        raise InputError("the window is too narrow or too far out for DICOM's decimal strings")
    return StoredScale(stored, slope, intercept, bits, off, steps + 1 if inverted else 0)
