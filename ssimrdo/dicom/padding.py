"""Padding: pixels outside of the reconstructed field, which are no image (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AIR: Final = "air"
DARKEST: Final = "darkest"

PADDINGS: Final = (DARKEST, AIR)
"""How padding is shown: as the darkest grey whatever the window, or as air, of -1000 HU."""

PADDING: Final = DARKEST
"""How it is shown where nothing else is said: as viewers show it."""

AIR_HU: Final = -1000.0
"""HU that padding has in arrays, whatever is stored."""


def padding_of(*slices: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where any of some slices is masked, as slices of HU are in their padding.

    Parameters
    ----------
    *slices : ndarray or masked array of shape (rows, columns)
        Slices of one shape.

    Returns
    -------
    ndarray of bool of the same shape, or None
        None where nothing is masked.
    """
    found: NDArray[np.bool_] | None = None
    for one in slices:
        # NumPy imports masked arrays when they are first asked for, which takes a while.
        mask = getattr(one, "mask", None)
        if mask is not None and mask.any():
            found = np.asarray(mask) if found is None else found | mask
    return found


def hu_of(samples: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return a slice that may be masked as HU, :data:`AIR_HU` in the padding, and its padding."""
    padded = padding_of(samples)
    hu = np.asarray(samples, np.float32)
    return hu if padded is None else np.where(padded, np.float32(AIR_HU), hu), padded


def with_padding(samples: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return samples as a masked array where they are padding, as they are where there is none."""
    return samples if padded is None else np.ma.MaskedArray(samples, padded)


def show_padding(luma: NDArray[Any], padded: NDArray[np.bool_] | None, padding: str) -> None:
    """Make padding black in luma that shows it as air.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        Changed in place.
    padded : ndarray of bool of the same shape, optional
        What is padding.
    padding : {"darkest", "air"}
        How it is to be shown.
    """
    if padded is not None and padding == DARKEST:
        luma[padded] = 0


def packed(padded: NDArray[np.bool_]) -> bytes:
    """Return a mask as bytes: its bits, row by row, compressed with zlib."""
    return zlib.compress(np.packbits(padded).tobytes())


@lru_cache(maxsize=4)
def unpacked(data: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of what :func:`packed` returned; it is not to be changed.

    Parameters
    ----------
    data : bytes
        It may come from anywhere: no more is unpacked than a mask of the shape has.
    shape : tuple of 2 ints
        Rows and columns.

    Raises
    ------
    ValueError
        If it is no mask of this shape.
    """
    pixels = shape[0] * shape[1]
    size = -(-pixels // 8)
    try:
        bits = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error:
        bits = b""
    if len(bits) != size:
        raise ValueError("it is no mask of this shape")
    ones = np.unpackbits(np.frombuffer(bits, np.uint8), count=pixels)
    mask = np.asarray(ones.reshape(shape), np.bool_)
    mask.setflags(write=False)
    return mask
