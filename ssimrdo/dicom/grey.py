"""VOI windows: named presets, parsing, and the mapping from HU to luma."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WINDOW_FUNCTIONS: Final = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_CENTER_WIDTH = re.compile(rf"\s*({_NUMBER})\s*/\s*({_NUMBER})\s*", re.ASCII)

# exp() overflows float32 from about 88 on; beyond 40 the sigmoid is flat at any bit depth.
_SIGMOID_LIMIT: Final = 40.0


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window (DICOM PS3.3 C.11.2.1).

    Parameters
    ----------
    center : float
        Window Center in HU; finite.
    width : float
        Window Width in HU; finite, at least 1 for ``LINEAR`` and above 0 otherwise.
    function : str
        VOI LUT Function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    preset : str
        Name in :data:`NAMED_WINDOWS` that it was asked for by; windows that differ in it are equal.

    Raises
    ------
    InputError
        If a value is outside what the VOI LUT Function allows.
    """

    center: float
    width: float
    function: str = "LINEAR"
    preset: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        function = "" if self.function == "LINEAR" else f" {self.function}"
        return f"{self.center:g}/{self.width:g} HU{function}"

    def as_dict(self) -> dict[str, float | str]:
        """Return the window as JSON types: ``center``, ``width`` and ``function``."""
        return {"center": self.center, "width": self.width, "function": self.function}

    def __post_init__(self) -> None:
        if self.function not in WINDOW_FUNCTIONS:
            raise InputError(f"the window function must be one of {', '.join(WINDOW_FUNCTIONS)}")
        if not math.isfinite(self.center):
            raise InputError("the window centre must be a finite number of HU")
        if not math.isfinite(self.width) or self.width <= 0:
            raise InputError("the window width must be a finite number of HU above 0")
        if self.function == "LINEAR" and self.width < 1:
            raise InputError(f"the window width must be at least 1 HU, not {self.width:g}")


_PRESETS: Final = {
    "abdomen": (50, 400),
    "angio": (300, 600),
    "bone": (400, 1800),
    "brain": (40, 80),
    "liver": (30, 150),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "pelvis": (40, 400),
    "soft-tissue": (40, 400),
    "spine": (50, 250),
    "stroke": (40, 40),
    "subdural": (75, 215),
    "temporal-bone": (600, 2800),
}

NAMED_WINDOWS: Final[Mapping[str, Window]] = MappingProxyType(
    {name: Window(*window, preset=name) for name, window in _PRESETS.items()}
)


def parse_window(text: str) -> Window | None:
    """Parse a window as a user writes it.

    Parameters
    ----------
    text : str
        A name of `NAMED_WINDOWS` (any case), ``CENTRE/WIDTH`` in HU, or ``auto``.

    Returns
    -------
    Window or None
        None for ``auto``: the window of the DICOM header.

    Raises
    ------
    InputError
        If the text is none of these or the width is below 1 HU.
    """
    name = "-".join(text.lower().replace("_", " ").split())
    if name == "auto":
        return None
    if name in NAMED_WINDOWS:
        return NAMED_WINDOWS[name]
    match = _CENTER_WIDTH.fullmatch(text)
    if match is None:
        shown = text[:40] if text.isprintable() else "this text"
        raise InputError(
            f"window '{shown}' is not known; give CENTRE/WIDTH in HU such as 40/80, auto, "
            f"or one of {', '.join(NAMED_WINDOWS)}"
        )
    return Window(float(match[1]), float(match[2]))


def common_window(counts: Mapping[Window, int]) -> Window | None:
    """Return the window that most slices have, chosen so that it does not hang on one file.

    All that more than half as many slices have count as common; of several the widest is taken,
    because it loses least, then that with the lowest centre. None where there is none.

    Parameters
    ----------
    counts : mapping of Window to int
        How many slices have each.
    """
    most = max(counts.values(), default=0)
    common = (window for window, count in counts.items() if 2 * count > most)
    return min(common, key=lambda one: (-one.width, one.center, one.function), default=None)


def apply_window(
    hu: NDArray[np.float32], window: Window, *, bit_depth: int = 8, inverted: bool = False
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Map HU to full-range luma with a VOI window.

    Parameters
    ----------
    hu : ndarray of float32, shape (rows, cols)
        Finite HU values; never modified.
    window : Window
        The window; its VOI LUT Function decides the mapping (PS3.3 C.11.2.1.2 and C.11.2.1.3).
    bit_depth : int
        8 for uint8 in 0..255, 10 for uint16 in 0..1023.
    inverted : bool
        True for MONOCHROME1, whose lowest values are shown white.

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, cols)
        Luma rounded to the nearest integer.

    Raises
    ------
    ValueError
        If `bit_depth` is neither 8 nor 10.
    """
    if bit_depth not in (8, 10):
        raise ValueError(f"bit_depth must be 8 or 10, not {bit_depth}")
    peak = 2**bit_depth - 1
    # What float32 cannot hold is beyond the ends of the window, where it goes as infinity.
    with np.errstate(over="ignore"):
        curve = _sigmoid if window.function == "SIGMOID" else _ramp
        scaled = curve(hu, window, peak)
    # Truncating value + 0.5 rounds non-negative values and is faster than np.rint.
    scaled += np.float32(0.5)
    luma = scaled.astype(np.uint8) if bit_depth == 8 else scaled.astype(np.uint16)
    return np.subtract(peak, luma, dtype=luma.dtype) if inverted else luma


def linear_ends(window: Window) -> tuple[float, float] | None:
    """Return the HU that a window shows black and white, None where grey is not linear in HU.

    Parameters
    ----------
    window : Window
        The window; that of a sigmoid has no ends, nor has a ``LINEAR`` one of width 1 a ramp.
    """
    low, width = _ramp_of(window)
    return None if window.function == "SIGMOID" or width == 0 else (low, low + width)


def _ramp_of(window: Window) -> tuple[float, float]:
    """Return where the ramp of LINEAR or LINEAR_EXACT begins, and its width, in HU."""
    center, width = window.center, window.width
    if window.function == "LINEAR":
        center, width = center - 0.5, width - 1
    return center - width / 2, width


def _ramp(hu: NDArray[np.float32], window: Window, peak: int) -> NDArray[np.float32]:
    """Return the linear ramps LINEAR and LINEAR_EXACT scaled to 0..peak, float32."""
    start, width = _ramp_of(window)
    low = np.float32(start)
    if width == 0:
        return np.where(hu > low, np.float32(peak), np.float32(0))
    ramp = np.subtract(hu, low, dtype=np.float32)
    # A tiny width gives a slope that float32 cannot hold; the largest one it can is as steep.
    ramp *= np.float32(min(peak / width, 1e30))
    return np.clip(ramp, 0, peak, out=ramp)


def _sigmoid(hu: NDArray[np.float32], window: Window, peak: int) -> NDArray[np.float32]:
    """Return the sigmoid of PS3.3 C.11.2.1.3.1 scaled to 0..peak, float32."""
    curve = np.subtract(np.float32(window.center), hu, dtype=np.float32)
    curve *= np.float32(min(4 / window.width, 1e30))
    np.clip(curve, -_SIGMOID_LIMIT, _SIGMOID_LIMIT, out=curve)
    np.exp(curve, out=curve)
    curve += 1
    return np.divide(np.float32(peak), curve, out=curve)
