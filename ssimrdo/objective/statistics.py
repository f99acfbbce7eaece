"""Statistics of the source per macroblock, which objectives are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import block_grid
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
