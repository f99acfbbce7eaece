"""VOI windows: named presets, parsing, and the mapping from HU to luma."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from ssimrdo.errors import InputError
from ssimrdo.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

VOI_LUT_FUNCTIONS: Final = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
"""Those of DICOM."""

WIDE: Final = "WIDE"
"""A function of ours, that no header has: see :func:`wide_curve`."""

WINDOW_FUNCTIONS: Final = (*VOI_LUT_FUNCTIONS, WIDE)

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
        VOI LUT Function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``; or ``WIDE``, whose ends are
        those of ``LINEAR_EXACT``.
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

FULL: Final = Window(1023.5, 4096, WIDE, preset="full")
"""All that 12 bits of HU hold, -1024 to 3071 HU, with luma spent where clinical windows are."""

NAMED_WINDOWS: Final[Mapping[str, Window]] = MappingProxyType(
    {**{name: Window(*window, preset=name) for name, window in _PRESETS.items()}, "full": FULL}
)

_WIDE_STEP: Final = 0.5
"""HU; all ends of clinical windows are whole or half HU."""

DISPLAY_LEVELS: Final = 256
"""Grey levels that a window is shown in."""


@cache
def wide_curve(low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of the curve of ``WIDE``, straight between them.

    Its slope at a HU is proportional to ``1 / ∛W``, where W is the width of the narrowest of
    :data:`NAMED_WINDOWS` that shows this HU, or the whole range where none does. W is 256 at least,
    since a window of 256 HU shows each of them already. ``1 / W`` would give every window as many
    grey levels, and takes more rate for the wide ones than it saves in the narrow ones, as
    docs/wide.md has it. The curve rises everywhere, so it can be undone.

    Parameters
    ----------
    low, high : float
        HU of black and of white.

    Returns
    -------
    hu, share : ndarray of shape (corners,), float64
        HU, ascending from ``low`` to ``high``, and the share of the luma range up to there,
        ascending from 0 to 1; not to be changed.
    """
    windows = [(center - width / 2, center + width / 2) for center, width in _PRESETS.values()]
    ends = {end for window in windows for end in window if low < end < high}
    hu = np.array([low, *sorted(ends), high], np.float64)
    middles = (hu[:-1] + hu[1:]) / 2
    widths = [
        min((b - a for a, b in windows if a < middle < b), default=high - low) for middle in middles
    ]
    slopes = 1 / np.cbrt(np.maximum(np.minimum(widths, high - low), DISPLAY_LEVELS))
    levels = slopes * np.diff(hu)
    share = np.concatenate([[0.0], np.cumsum(levels)]) / levels.sum()
    share[-1] = 1
    for corners in (hu, share):
        corners.setflags(write=False)
    return hu, share


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
            f"window '{shown}' is not known",
            remedy=f"{did_you_mean(name, NAMED_WINDOWS)}give CENTRE/WIDTH in HU such as 40/80, "
            f"auto, or one of {', '.join(NAMED_WINDOWS)}",
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
    scaled = _scaled(hu, window, peak)
    # Truncating value + 0.5 rounds non-negative values and is faster than np.rint.
    scaled += np.float32(0.5)
    luma = scaled.astype(np.uint8) if bit_depth == 8 else scaled.astype(np.uint16)
    return np.subtract(peak, luma, dtype=luma.dtype) if inverted else luma


def _scaled(hu: NDArray[np.float32], window: Window, peak: int) -> NDArray[np.float32]:
    """Return what a window shows of HU, 0 to peak, before it is rounded; an array of its own."""
    curve = {"SIGMOID": _sigmoid, WIDE: _wide}.get(window.function, _ramp)
    hu = np.asarray(hu)
    # What float32 cannot hold is beyond the ends of the window, where it goes as infinity.
    with np.errstate(over="ignore"):
        return curve(hu, window, peak)


def shares_of_hu(window: Window, hu: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how far from black, 0, to white, 1, a window shows HU; see :func:`hu_of_shares`."""
    return _scaled(hu.astype(np.float32), window, 1).astype(np.float64)


def linear_ends(window: Window) -> tuple[float, float] | None:
    """Return the HU that a window shows black and white, None where grey is not linear in HU.

    Parameters
    ----------
    window : Window
        The window; that of a sigmoid has no ends, nor has a ``LINEAR`` one of width 1 a ramp.
    """
    low, width = _ramp_of(window)
    is_linear = window.function not in ("SIGMOID", WIDE) and width > 0
    return (low, low + width) if is_linear else None


def hu_of_shares(
    window: Window, shares: NDArray[np.float64], *, step: float
) -> NDArray[np.float64] | None:
    """Return the HU at which a window shows shares of the way from black to white.

    Parameters
    ----------
    window : Window
        The window.
    shares : ndarray of float64
        From 0 to 1.
    step : float
        Share of a grey level. A sigmoid reaches black and white at no HU; they get the HU of half
        a level.

    Returns
    -------
    ndarray of the same shape, float64, or None
        None for a window that shows nothing but black and white.
    """
    if window.function == "SIGMOID":
        grey = np.clip(shares, step / 2, 1 - step / 2)
        return np.asarray(window.center - window.width / 4 * np.log(1 / grey - 1), np.float64)
    low, width = _ramp_of(window)
    if window.function == WIDE:
        hu, corners = wide_curve(low, low + width)
        return np.asarray(np.interp(shares, corners, hu), np.float64)
    return low + shares * width if width else None


def hu_of_luma(window: Window, peak: int, *, inverted: bool = False) -> NDArray[np.float64] | None:
    """Return the HU of every full-range luma code; see :func:`hu_of_shares`.

    Parameters
    ----------
    window : Window
        What luma was made with.
    peak : int
        Largest luma.
    inverted : bool
        Whether the lowest HU are shown white.

    Returns
    -------
    ndarray of shape (peak + 1,), float64, or None
        None for a window that shows nothing but black and white.
    """
    shares = np.arange(peak + 1) / peak
    return hu_of_shares(window, 1 - shares if inverted else shares, step=1 / peak)


def _ramp_of(window: Window) -> tuple[float, float]:
    """Return where the ramp of LINEAR, LINEAR_EXACT or WIDE begins, and its width, in HU."""
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


def _wide(hu: NDArray[np.float32], window: Window, peak: int) -> NDArray[np.float32]:
    """Return the curve of :func:`wide_curve` scaled to 0..peak, float32."""
    low, width = _ramp_of(window)
    table = _wide_table(low, width)
    place = np.clip((hu - np.float32(low)) * np.float32(1 / _WIDE_STEP), 0, table.size - 2)
    index = place.astype(np.int32)
    before = table[index]
    curve = (before + (place - index) * (table[index + 1] - before)) * np.float32(peak)
    return np.asarray(np.clip(curve, 0, peak), np.float32)


@cache
def _wide_table(low: float, width: float) -> NDArray[np.float32]:
    """Return the curve at even steps, whole and half HU: far faster to look up than corners."""
    corners, shares = wide_curve(low, low + width)
    at = low + _WIDE_STEP * np.arange(math.ceil(width / _WIDE_STEP) + 2)
    return np.asarray(np.interp(at, corners, shares), np.float32)
