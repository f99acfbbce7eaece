"""What indices take: two frames of one shape, large enough, without NaN."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LUMA_RANGE: Final = 255.0
"""L of the frames that published constants are for."""

_KEPT: Final = {"B": np.uint8, "H": np.uint16, **dict.fromkeys("?bhef", np.float32)}
"""Dtypes by their character; others become float64."""


def check_pair(x: NDArray[Any], y: NDArray[Any], *, title: str, side: int = 1) -> None:
    """Check that two arrays are frames that can be compared.

    Parameters
    ----------
    x, y : ndarray
        Arrays.
    title : str
        Of the index, for the error.
    side : int
        Fewest rows and columns.

    Raises
    ------
    ValueError
        If they differ in shape, are not two-dimensional, are smaller, or have NaN or infinities.
    """
    if x.ndim != 2 or x.shape != y.shape or min(x.shape) < side:
        least = f", at least {side}x{side}" if side > 1 else ""
        raise ValueError(
            f"{title} takes two frames of one shape{least}: got {x.shape} and {y.shape}"
        )
    if not (_is_finite(x) and _is_finite(y)):
        raise ValueError(f"{title} takes two frames without NaN and infinities")


def check_frame(x: NDArray[Any], *, title: str, side: int = 1) -> None:
    """Check that an array is a frame; parameters and errors as of :func:`check_pair`."""
    if x.ndim != 2 or min(x.shape) < side:
        least = f" of at least {side}x{side}" if side > 1 else ""
        raise ValueError(f"{title} takes a frame{least}: got shape {x.shape}")
    if not _is_finite(x):
        raise ValueError(f"{title} takes a frame without NaN and infinities")


def float_pair(
    x: NDArray[Any], y: NDArray[Any], *, title: str, side: int = 1, data_range: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two frames on the scale of 255 that published constants are for.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L.
    title, side
        As in :func:`check_pair`.
    data_range : float
        L.

    Returns
    -------
    x, y : ndarray of the same shape, float32, contiguous
        Multiplied by 255 / L.

    Raises
    ------
    ValueError
        If the frames are unusable, or L is not above 0.
    """
    check_pair(x, y, title=title, side=side)
    return _scaled(x, title, data_range), _scaled(y, title, data_range)


def float_frame(
    x: NDArray[Any], *, title: str, side: int = 1, data_range: float
) -> NDArray[np.float32]:
    """Return a frame on the scale of 255; as :func:`float_pair`."""
    check_frame(x, title=title, side=side)
    return _scaled(x, title, data_range)


def contiguous(x: NDArray[Any]) -> NDArray[Any]:
    """Return a frame of one of the few kinds that kernels are compiled for; copied if it is not.

    These are contiguous arrays that can be written to, of uint8, uint16, float32, which holds
    smaller integers too, or float64.
    """
    dtype = _KEPT.get(x.dtype.newbyteorder("=").char, np.float64)
    return np.require(x, dtype, ("C", "W"))


def check_range(data_range: float, *, title: str) -> None:
    """Check that a data range is a number above 0.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not 0 < data_range < np.inf:
        raise ValueError(f"{title} takes a data range above 0, not {data_range}")


def _scaled(x: NDArray[Any], title: str, data_range: float) -> NDArray[np.float32]:
    check_range(data_range, title=title)
    scaled = np.require(x, np.float32, ("C", "W"))
    factor = LUMA_RANGE / data_range
    return scaled if factor == 1 else scaled * np.float32(factor)


def _is_finite(x: NDArray[Any]) -> bool:
    # A sum is NaN or infinite where a sample is, or where it overflows, which it is looked at for.
    with np.errstate(over="ignore", invalid="ignore"):
        return x.dtype.kind != "f" or bool(np.isfinite(x.sum()) or np.isfinite(x).all())
