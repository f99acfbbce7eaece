"""Statistics of the source per macroblock, which objectives are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import MACROBLOCK, block_grid
from ssimrdo.metrics import kernels


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of the source per macroblock, in 11x11 Gaussian windows.

    Parameters
    ----------
    mean : ndarray of shape (macroblock rows, macroblock columns), float32
        µ: mean luma.
    variance : ndarray of the same shape, float32
        σ²: arithmetic mean of the windows' variances, squared luma units.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


def block_statistics(luma: NDArray[Any], *, data_range: float = 255) -> BlockStatistics:
    """Return µ and σ² of every macroblock of a luma frame.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), any real dtype
        Full-range luma; windows that reach over the border see it mirrored.
    data_range : float
        L, the largest luma.

    Raises
    ------
    ValueError
        If the frame is empty or not two-dimensional.
    """
    if luma.ndim != 2 or luma.size == 0:
        raise ValueError(f"a luma frame has two dimensions, not shape {luma.shape}")
    shape = block_grid(luma.shape)
    mean = np.empty(shape, np.float32)
    variance = np.empty(shape, np.float32)
    kernels.block_moments(
        np.ascontiguousarray(luma),
        kernels.gaussian_taps(),
        np.float32(data_range / 2),
        mean,
        variance,
    )
    return BlockStatistics(mean, variance)


def block_means(plane: NDArray[Any], *, dtype: type | None = None) -> NDArray[np.float32]:
    """Return the mean of every macroblock; those at the border have the samples that there are.

    Parameters
    ----------
    plane : ndarray of shape (rows, columns)
        Any real samples.
    dtype : type, optional
        What they are summed in; their own by default.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32
    """
    starts = [np.arange(0, side, MACROBLOCK) for side in plane.shape]
    down = np.add.reduceat(plane, starts[0], axis=0, dtype=dtype)
    sums = np.add.reduceat(down, starts[1], axis=1)
    assert sums.shape == block_grid(plane.shape)
    heights, widths = (
        np.diff(np.append(start, side)) for start, side in zip(starts, plane.shape, strict=True)
    )
    return np.asarray(sums / np.outer(heights, widths), np.float32)
