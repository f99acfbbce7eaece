"""From HU to luma: the window that is taken, and the frames of series and volumes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from ssimrdo.dicom.grey import Window, apply_window
from ssimrdo.dicom.kernels import look_up
from ssimrdo.dicom.padding import PADDING, show_padding
from ssimrdo.dicom.read.load import hu_of_cells, load_cells, load_slice, padding_of_cells
from ssimrdo.errors import BadSliceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from ssimrdo.dicom.read.header import SliceHeader

logger = logging.getLogger(__name__)

Statistics = tuple[float, float]
"""Mean of a slice, and mean difference between its neighbouring pixels, in HU."""

FALLBACK_WINDOW: Final = Window(40.0, 400.0)
"""Soft tissue, for series whose header has no window."""

_LISTED_WINDOWS: Final = 4

# Mean of a slice, and mean difference between its neighbouring pixels, in HU: by how much they may
# be away from what lies between those of the slices around. In real series it is 15 and 2 at most.
_PLAUSIBLE_STEPS_HU: Final = (100.0, 20.0)
# And how many times what the slices around differ by.
_PLAUSIBLE_RATIO: Final = 3
_ROWS_LOOKED_AT: Final = slice(None, None, 4)


WindowSource: TypeAlias = Literal["option", "preset", "header", "fallback"]
"""Where a window comes from: as numbers or by name from the user, from the header, or from us."""


def choose_window(
    own: Window | None,
    asked: Window | None = None,
    *,
    name: str = "",
    counts: Mapping[Window, int] | None = None,
    warn: Callable[[str], object] = logger.warning,
) -> Window:
    """Return the window asked for, else the header's own, else `FALLBACK_WINDOW`.

    There is a warning where nothing tells the window, and where the header's differ.

    Parameters
    ----------
    own : Window or None
        What the slices come with.
    asked : Window or None
        The user's choice.
    name : str
        What the warning calls the series, where there are several.
    counts : mapping of Window to int, optional
        How many slices come with each window.
    warn : callable
        Takes the warning.
    """
    if asked is not None:
        return asked
    prefix = f"{name}: " if name else ""
    if own is None:
        center, width = FALLBACK_WINDOW.center, FALLBACK_WINDOW.width
        warn(f"{prefix}the header has no window: using {center:g}/{width:g} HU; choose another")
        return FALLBACK_WINDOW
    if counts and len(counts) > 1:
        warn(f"{prefix}the windows in the header differ: {shares(counts)}; using {own} for all")
    return own


def window_source(own: Window | None, asked: Window | None) -> WindowSource:
    """Return where :func:`choose_window` takes a window from."""
    if asked is not None:
        return "preset" if asked.preset else "option"
    return "fallback" if own is None else "header"


def shares(counts: Mapping[Window, int]) -> str:
    """Return how many slices have which window, the most common first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], -item[0].width, item[0].center))
    listed = [f"{window} in {count} slice{'s' * (count > 1)}" for window, count in ranked]
    more = len(listed) - _LISTED_WINDOWS
    return ", ".join(listed[:_LISTED_WINDOWS]) + (f" and {more} more" if more > 0 else "")


def load_luma(
    header: SliceHeader, window: Window, *, bit_depth: int = 8, padding: str = PADDING
) -> NDArray[Any]:
    """Load one slice as full-range luma.

    Parameters
    ----------
    header : SliceHeader
        The slice as found by `find_series`.
    window : Window
        Window that maps HU to luma.
    bit_depth : int
        Bits per luma sample.
    padding : {"darkest", "air"}
        How padding is shown.

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, columns)
        Luma as `apply_window` makes it, MONOCHROME1 inverted.

    Raises
    ------
    BadSliceError
        If the file cannot be read or its pixel data cannot be decoded.
    """
    return load_shown(header, window, bit_depth, padding)[0]


def load_shown(
    header: SliceHeader, window: Window, bit_depth: int, padding: str
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Load one slice as luma, and where it is padding; the rest is as with `load_luma`.

    Returns
    -------
    ndarray of uint8 or uint16, ndarray of bool or None; both of shape (rows, columns)
        Luma; and what is padding, None where the header tells of none.
    """
    hu, padded = load_slice(header)
    return _shown(hu, padded, header, window, bit_depth, padding), padded


def _shown(
    hu: NDArray[np.float32],
    padded: NDArray[np.bool_] | None,
    header: SliceHeader,
    window: Window,
    bit_depth: int,
    padding: str,
) -> NDArray[Any]:
    luma = apply_window(hu, window, bit_depth=bit_depth, inverted=header.inverted)
    show_padding(luma, padded, padding)
    return luma


def luma_frames(
    slices: Iterable[SliceHeader],
    window: Window,
    *,
    bit_depth: int = 8,
    padding: str = PADDING,
    on_bad: Callable[[SliceHeader, BadSliceError], None] | None = None,
    on_odd: Callable[[SliceHeader], None] | None = None,
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.bool_] | None]]:
    """Yield slices as luma, one after another, each with its place among all and its padding.

    Parameters
    ----------
    slices : iterable of SliceHeader
        Slices in the order to yield them in.
    window, bit_depth, padding
        As in `load_luma`.
    on_bad : callable or None
        Called with each slice that cannot be decoded, which is then left out.
    on_odd : callable or None
        Called with each slice whose HU are implausible between those of the slices around it, as
        of a damaged file that decodes all the same.

    Yields
    ------
    int, ndarray of uint8 or uint16, ndarray of bool or None
        Place among the slices, from 0, luma, and what is padding.

    Raises
    ------
    BadSliceError
        If a slice cannot be decoded and there is no `on_bad`.
    """
    recent: list[tuple[SliceHeader, Statistics]] = []
    scale: tuple[Any, ...] = ()
    for index, header in enumerate(slices):
        try:
            cells = load_cells(header)
        except BadSliceError as error:
            if on_bad is None:
                raise
            on_bad(header, error)
            continue
        if on_odd is not None:
            hu, _ = hu_of_cells(cells[_ROWS_LOOKED_AT], header)
            recent = [*recent[-2:], (header, _statistics(hu))]
            if len(recent) == 3 and _is_odd(*(statistics for _, statistics in recent)):
                on_odd(recent[1][0])
        # Slices of a series have one scale as a rule.
        if _scale_of(header) != scale:
            scale, table = _scale_of(header), _table(header, window, bit_depth, padding)
        luma = np.empty(cells.shape, table.dtype)
        look_up(table, cells.view(f"u{cells.itemsize}"), luma)
        yield index, luma, padding_of_cells(cells, header)


def _scale_of(header: SliceHeader) -> tuple[Any, ...]:
    """Return what it depends on which luma a cell of a slice becomes."""
    return (
        *(header.bits_allocated, header.bits_stored, header.high_bit, header.signed),
        *(header.rescale_slope, header.rescale_intercept, header.padding, header.inverted),
    )


def _table(header: SliceHeader, window: Window, bit_depth: int, padding: str) -> NDArray[Any]:
    """Return the luma of every cell that there can be, by the bits of the cell."""
    size = header.bits_allocated // 8
    cells = np.arange(1 << header.bits_allocated, dtype=f"u{size}")
    hu, padded = hu_of_cells(cells.view(f"{'i' if header.signed else 'u'}{size}"), header)
    return _shown(hu, padded, header, window, bit_depth, padding)


def _statistics(rows: NDArray[np.float32]) -> Statistics:
    hu = rows.astype(np.float64)
    return float(hu.mean()), float(np.abs(np.diff(hu, axis=1)).sum() / hu.size)


def _is_odd(before: Statistics, this: Statistics, behind: Statistics) -> bool:
    for one, value, other, step in zip(before, this, behind, _PLAUSIBLE_STEPS_HU, strict=True):
        away = abs(value - (one + other) / 2)
        if away > max(step, _PLAUSIBLE_RATIO * abs(one - other)):
            return True
    return False
