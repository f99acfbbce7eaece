"""Frames at a fraction of their size, as indices take them that stand for a viewing distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.kernels import Plane, _compiled


@_compiled
def _halve(x: Plane, out: Plane) -> None:
    quarter = np.float32(0.25)
    rows, columns = x.shape[0] // 2, x.shape[1] // 2
    for r in range(rows):
        for i in range(columns):
            out[r, i] = quarter * (
                (x[2 * r, 2 * i] + x[2 * r, 2 * i + 1])
                + (x[2 * r + 1, 2 * i] + x[2 * r + 1, 2 * i + 1])
            )
    if x.shape[1] % 2:
        for r in range(rows):
            out[r, columns] = quarter * (x[2 * r, 2 * columns] + x[2 * r + 1, 2 * columns])
    if x.shape[0] % 2:
        for i in range(columns):
            out[rows, i] = quarter * (x[2 * rows, 2 * i] + x[2 * rows, 2 * i + 1])
    if x.shape[0] % 2 and x.shape[1] % 2:
        out[rows, columns] = quarter * x[2 * rows, 2 * columns]


def halved(x: NDArray[np.float32], *, border: tuple[int, int] = (0, 0)) -> NDArray[np.float32]:
    """Return the means of 2x2 samples, with zeros beyond the border of the frame.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), float32, contiguous
        Frame.
    border : (int, int)
        Zeros before and behind on both axes.

    Returns
    -------
    ndarray of shape (ceil(rows / 2), ceil(columns / 2)) with the borders, float32
        A last odd row or column is half of what it would be with more of the frame.
    """
    before, behind = border
    rows, columns = -(-x.shape[0] // 2), -(-x.shape[1] // 2)
    framed = np.zeros((before + rows + behind, before + columns + behind), np.float32)
    _halve(x, framed[before : before + rows, before : before + columns])
    return framed


def block_means(x: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return the means of square blocks; those that are not whole are left out.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), float32
        Frame.
    factor : int
        Side of a block, at most that of the frame.

    Returns
    -------
    ndarray of shape (rows // factor, columns // factor), float32, contiguous
    """
    if factor == 1:
        return x
    rows, columns = (side // factor for side in x.shape)
    whole = x[: rows * factor, : columns * factor]
    total = np.zeros((rows, columns), np.float32)
    for r in range(factor):
        for i in range(factor):
            total += whole[r::factor, i::factor]
    total /= factor * factor
    return total


def spread(
    small: NDArray[np.float32], shape: tuple[int, ...], factor: int = 2
) -> NDArray[np.float32]:
    """Return a map of blocks at a frame's own size, with every value repeated.

    Parameters
    ----------
    small : ndarray of shape (block rows, block columns), float32
        Map.
    shape : (int, int)
        Rows and columns of the frame; what no block covers gets the value beside it.
    factor : int
        Side of a block.
    """
    whole = np.repeat(np.repeat(small, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]
    missing = [(0, side - found) for side, found in zip(shape, whole.shape, strict=True)]
    return np.ascontiguousarray(np.pad(whole, missing, mode="edge"))
