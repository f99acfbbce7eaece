"""One scale of grey for both sides: integer levels from black to white, and what they are in HU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Window, apply_window
from ssimrdo.dicom.grey import hu_of_luma, linear_ends
from ssimrdo.dicom.luma import choose_window, window_source
from ssimrdo.dicom.padding import AIR_HU, PADDING, padding_of, show_padding, with_padding
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.measurement.sides import Damaged, Side, Slice
from ssimrdo.metrics.tissue import GreyScale
from ssimrdo.record.tissue import grey_scale

LEVELS: Final = 4095
"""How many levels a window has at least where both sides are HU: whole HU stay what they are, and
rounding others takes less than an 8000th of the window."""

MOST_LEVELS: Final = 65535

BLACK_HU: Final = -1024.0
"""HU of black where a data range stands in for a window."""

_WINDOWED_DEPTHS: Final = {255: 8, 1023: 10}

Convert: TypeAlias = Callable[[NDArray[Any], NDArray[np.bool_] | None], NDArray[Any]]
"""Takes a slice, and what is padding on either side, which HU show alike."""


@dataclass(frozen=True, slots=True)
class LevelFormat(FrameFormat):
    """Format of frames whose largest level is any number.

    Parameters
    ----------
    levels : int
        L, the largest level.
    """

    levels: int = 255

    @property
    def peak(self) -> int:
        """L, the largest level."""
        return self.levels


@dataclass(frozen=True)
class CommonScale:
    """How slices of both sides become frames that can be compared.

    Parameters
    ----------
    format : LevelFormat
        Of the frames.
    reference, distorted : callable
        Turn slices of a side into frames of the format.
    grey : GreyScale, optional
        What a level is in HU, where that is known and linear.
    step : float
        What a level is in the unit of the user's arrays.
    window : Window, optional
        The one that black and white are of.
    window_source : str, optional
        Where it comes from: ``option``, ``preset``, ``header``, ``fallback`` or ``encode``.
    """

    format: LevelFormat
    reference: Convert
    distorted: Convert
    grey: GreyScale | None
    step: float
    window: Window | None
    window_source: str | None

    @property
    def unit_per_level(self) -> float:
        """What a level is in the unit of errors: HU, or that of the user's samples."""
        return abs(self.grey.hu_per_level) if self.grey is not None else self.step

    @property
    def data_range(self) -> float:
        """L in the unit of errors."""
        return self.format.peak * self.unit_per_level


def common_scale(
    reference: Side, distorted: Side, *, window: Window | None, data_range: float | None
) -> CommonScale:
    """Return the scale of two sides.

    - HU against HU: the window is cut into levels of a whole fraction of a HU, at least 4095 in
      all. Without a window but with a data range L the levels run from -1024 HU to L - 1024 HU.
    - HU against luma: HU are shown through the window as an encode shows them.
    - Luma against luma: what has fewer levels is scaled to the other. With a window, levels are
      told in HU.

    Luma that was made with another window than the one asked for counts as HU; see :func:`as_hu`.

    Parameters
    ----------
    reference, distorted : Side
        The sides.
    window : Window, optional
        What the user asked for; else the one that a record tells, or else the header's.
    data_range : float, optional
        What the user gave.

    Raises
    ------
    InputError
        If their sizes differ, or there is no common scale.
    """
    shape = common_shape(reference, distorted)
    sides = (reference, distorted)
    if reference.has_hu and distorted.has_hu:
        if data_range is not None and window is not None:
            raise InputError(
                "says for HU what a window says already",
                field="data_range",
                remedy="leave out {data_range} or {window}",
            )
        return _of_hu(sides, shape, window, data_range)
    recorded = _recorded(sides)
    if reference.has_hu or distorted.has_hu:
        return _of_hu_and_luma(sides, shape, window, recorded)
    peak = max(side.peak or 0 for side in sides)
    used = window or recorded
    inverted = any(side.inverted for side in sides)
    source = None if used is None else window_source(None, window) if window else "encode"
    return CommonScale(
        _format(shape, peak),
        _to_peak(reference.peak or 0, peak),
        _to_peak(distorted.peak or 0, peak),
        grey_scale(used, peak, inverted=inverted),
        max(side.step * (side.peak or 0) for side in sides) / peak,
        used,
        source,
    )


def as_hu(side: Side, window: Window | None) -> Side:
    """Return a side whose luma was made with another window in HU; any other side as it is.

    HU outside the window that it was made with are those of its ends.

    Parameters
    ----------
    side : Side
        The side.
    window : Window, optional
        What the user asked for.

    Raises
    ------
    InputError
        If its window shows black and white alone.
    """
    made_with, peak = side.window, side.peak
    if window is None or made_with is None or peak is None or window == made_with:
        return side
    hu = hu_of_luma(made_with, peak, inverted=side.inverted)
    if hu is None:
        raise InputError(
            f"{side.name}: was made with {made_with}, which leaves black and white alone",
            field="window",
            remedy="leave out {window}",
        )
    table, read = hu.astype(np.float32), side.frames

    def frames() -> Iterator[Slice]:
        for one in read():
            if isinstance(one, Damaged):
                yield one
            else:
                yield with_padding(table[np.asarray(one)], padding_of(one))

    note = f"was made with {made_with}, and is taken back to HU"
    return replace(side, peak=None, frames=frames, notes=(*side.notes, note))


def common_shape(reference: Side, distorted: Side) -> tuple[int, int]:
    """Return the shape of the frames of two sides.

    A video may have one row and column more, which encoders add to an odd size.

    Raises
    ------
    InputError
        If the sizes differ otherwise.
    """
    if reference.shape == distorted.shape:
        return reference.shape
    for odd, even in ((reference, distorted), (distorted, reference)):
        padded = tuple(side + side % 2 for side in odd.shape)
        if even.kind == "video" and even.shape == padded:
            return odd.shape
    sizes = [f"{side.shape[1]}x{side.shape[0]}" for side in (reference, distorted)]
    raise InputError(
        f"sizes differ: {sizes[0]} in {reference.name}, {sizes[1]} in {distorted.name}",
        remedy="give two of one size",
    )


def _of_hu(
    sides: tuple[Side, Side], shape: tuple[int, int], window: Window | None, span: float | None
) -> CommonScale:
    if span is not None:
        window = Window(BLACK_HU + span / 2, span, "LINEAR_EXACT")
    # Most are the same on both sides.
    side = sides[0] if sides[0].window else sides[1]
    own = side.window
    used = choose_window(own, window, name=side.name, counts=side.header_windows)
    source = window_source(own, window)
    inverted = sides[0].inverted
    ends = linear_ends(used)
    if ends is None:
        # Grey is no measure of HU there, so levels are those of the finest luma.
        return _shown(sides, shape, used, source, 1023, inverted, PADDING)
    low, high = ends
    width = high - low
    peak = min(round(width * max(1, math.ceil(LEVELS / width))), MOST_LEVELS)

    def levels(hu: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[Any]:
        # Halves are rounded up wherever they lie, so that differences of whole HU stay whole.
        share = (np.clip(hu, low, high) - np.float64(low)) * (peak / width)
        found = np.floor(share + 0.5).astype(np.uint16)
        shown = np.asarray(np.subtract(peak, found, dtype=found.dtype) if inverted else found)
        show_padding(shown, padded, PADDING)
        return shown

    return CommonScale(
        _format(shape, peak),
        levels,
        levels,
        grey_scale(used, peak, inverted=inverted),
        1.0,
        used,
        source,
    )


def _of_hu_and_luma(
    sides: tuple[Side, Side], shape: tuple[int, int], window: Window | None, recorded: Window | None
) -> CommonScale:
    hu, luma = sides if sides[0].has_hu else sides[::-1]
    peak = luma.peak or 0
    if peak not in _WINDOWED_DEPTHS:
        raise InputError(
            f"{luma.name}: luma goes up to {peak}, and HU are shown with 255 or 1023",
            field="data_range",
            remedy="give 255 or 1023 if that is its white",
        )
    if recorded is not None and window is None:
        used, source, inverted = recorded, "encode", luma.inverted
    else:
        used = choose_window(hu.window, window, name=hu.name, counts=hu.header_windows)
        source, inverted = window_source(hu.window, window), hu.inverted or luma.inverted
    return _shown(sides, shape, used, source, peak, inverted, luma.padding)


def _shown(
    sides: tuple[Side, Side],
    shape: tuple[int, int],
    window: Window,
    source: str,
    peak: int,
    inverted: bool,
    padding: str,
) -> CommonScale:
    """Return the scale of luma that a window makes of HU."""
    form = _format(shape, peak)

    def shown(hu: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[Any]:
        air = hu if padded is None else np.where(padded, np.float32(AIR_HU), hu)
        luma = apply_window(air, window, bit_depth=_WINDOWED_DEPTHS[peak], inverted=inverted)
        show_padding(luma, padded, padding)
        return luma

    def as_it_is(luma: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[Any]:
        del padded
        return luma

    def convert(side: Side) -> Convert:
        return shown if side.has_hu else as_it_is

    grey = grey_scale(window, peak, inverted=inverted)
    return CommonScale(form, convert(sides[0]), convert(sides[1]), grey, 1.0, window, source)


def _to_peak(own: int, peak: int) -> Convert:
    dtype = np.uint8 if peak <= 255 else np.uint16

    def scaled(luma: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[Any]:
        del padded
        if own == peak:
            return np.asarray(luma, dtype)
        return np.floor(luma * (peak / own) + 0.5).astype(dtype)

    return scaled


def _recorded(sides: tuple[Side, Side]) -> Window | None:
    """Return the window that records tell, None where none does."""
    windows = [side.window for side in sides if not side.has_hu and side.window is not None]
    if len(windows) == 2 and windows[0] != windows[1]:
        raise InputError(
            f"the two videos were made with different windows, {windows[0]} and {windows[1]}",
            field="window",
            remedy="give the {window} that both are to be seen in",
        )
    return windows[0] if windows else None


def _format(shape: tuple[int, int], peak: int) -> LevelFormat:
    rows, columns = shape
    return LevelFormat(rows, columns, max(peak.bit_length(), 8), levels=peak)
