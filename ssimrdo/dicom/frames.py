"""Luma frames of a series: its window, the sizes that can be encoded, padding to even sides."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ssimrdo.dicom.load import load_hu
from ssimrdo.dicom.window import Window, apply_window
from ssimrdo.errors import BadSliceError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ssimrdo.dicom.find import Series
    from ssimrdo.dicom.header import SliceHeader

logger = logging.getLogger("ssimrdo")

FALLBACK_WINDOW: Final = Window(40.0, 400.0)
"""Soft tissue, for series whose header has no window."""

MIN_SIDE: Final = 16
MAX_SIDE: Final = 16384
"""Rows and columns of slices that can be encoded."""


def choose_window(series: Series, asked: Window | None = None, *, name: str = "") -> Window:
    """Return the window asked for, else the header's own, else `FALLBACK_WINDOW` with a warning.

    Parameters
    ----------
    series : Series
        The series to be shown.
    asked : Window or None
        The user's choice.
    name : str
        What the warning calls the series, where there are several.
    """
    chosen = asked or series.header_window
    if chosen is not None:
        return chosen
    logger.warning(
        "%sthe header has no window: using %g/%g HU; choose another with --window",
        f"{name}: " if name else "",
        FALLBACK_WINDOW.center,
        FALLBACK_WINDOW.width,
    )
    return FALLBACK_WINDOW


def check_size(series: Series, path: Path | str) -> None:
    """Check that slices of this size can be encoded.

    Parameters
    ----------
    series : Series
        The series to be encoded.
    path : Path or str
        What the message names.

    Raises
    ------
    InputError
        If a side is shorter than `MIN_SIDE` or longer than `MAX_SIDE`.
    """
    rows, columns = series.rows, series.columns
    if min(rows, columns) < MIN_SIDE or max(rows, columns) > MAX_SIDE:
        raise InputError(
            f"{path}: slices of {columns}x{rows} cannot be encoded: "
            f"sides are {MIN_SIDE} to {MAX_SIDE}"
        )


def load_luma(header: SliceHeader, window: Window, *, bit_depth: int = 8) -> NDArray[Any]:
    """Load one slice as full-range luma.

    Parameters
    ----------
    header : SliceHeader
        The slice as found by `find_series`.
    window : Window
        Window that maps HU to luma.
    bit_depth : int
        Bits per luma sample.

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, columns)
        Luma as `apply_window` makes it, MONOCHROME1 inverted.

    Raises
    ------
    BadSliceError
        If the file cannot be read or its pixel data cannot be decoded.
    """
    return apply_window(load_hu(header), window, bit_depth=bit_depth, inverted=header.inverted)


def luma_frames(
    slices: Iterable[SliceHeader],
    window: Window,
    *,
    bit_depth: int = 8,
    on_bad: Callable[[SliceHeader, BadSliceError], None] | None = None,
) -> Iterator[NDArray[Any]]:
    """Yield slices as luma, one after another.

    Parameters
    ----------
    slices : iterable of SliceHeader
        Slices in the order to yield them in.
    window, bit_depth
        As in `load_luma`.
    on_bad : callable or None
        Called with each slice that cannot be decoded, which is then left out.

    Yields
    ------
    ndarray of uint8 or uint16, shape (rows, columns)
        Luma of one slice.

    Raises
    ------
    BadSliceError
        If a slice cannot be decoded and there is no `on_bad`.
    """
    for header in slices:
        try:
            luma = load_luma(header, window, bit_depth=bit_depth)
        except BadSliceError as error:
            if on_bad is None:
                raise
            on_bad(header, error)
            continue
        yield luma


def even(side: int) -> int:
    """Return the side of a 4:2:0 picture that holds `side` rows or columns."""
    return side + side % 2


def pad_to_even(luma: NDArray[Any]) -> NDArray[Any]:
    """Return luma with an odd last row or column repeated; luma of even sides is not copied."""
    rows, columns = luma.shape
    if rows % 2 == 0 and columns % 2 == 0:
        return luma
    return np.pad(luma, ((0, rows % 2), (0, columns % 2)), mode="edge")
