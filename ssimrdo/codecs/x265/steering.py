"""From λ_i / λ of macroblocks to the quantizers of x265's larger units.

x265 gives a unit the mean of its macroblocks' offsets, which is the geometric mean of their λ_i.
But with one quantizer all samples have about the same squared error D, so that the unit loses
Σ θ_i D: its θ is the mean of θ_i, and its λ is the harmonic mean of λ_i. Where the window clips
there is no error to count, so macroblocks count by the share of their samples that it shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.frames import MACROBLOCK
from ssimrdo.metrics import kernels

_LEAST_WEIGHT: Final = 1e-9
"""Of macroblocks that are clipped all over, which count where there is nothing else."""


def unit_ratio(
    lagrange_ratio: NDArray[Any], weight: NDArray[Any], side: int
) -> NDArray[np.float32]:
    """Return the weighted harmonic mean of λ_i / λ over the unit that each macroblock is in.

    Parameters
    ----------
    lagrange_ratio : ndarray of shape (rows, columns)
        λ_i / λ per macroblock, positive.
    weight : ndarray of the same shape
        What each macroblock counts, 0 to 1; where all of a unit have 0, they count alike.
    side : int
        Macroblocks along a side of a unit.

    Returns
    -------
    ndarray of the same shape, float32
    """
    rows, columns = lagrange_ratio.shape

    def summed(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        down = np.add.reduceat(plane, range(0, rows, side), axis=0)
        return np.asarray(np.add.reduceat(down, range(0, columns, side), axis=1))

    counted = np.maximum(weight.astype(np.float64), _LEAST_WEIGHT)
    ratio = summed(counted) / summed(counted / lagrange_ratio)
    return np.asarray(ratio.repeat(side, 0).repeat(side, 1)[:rows, :columns], np.float32)


def unit_offsets(
    luma: NDArray[Any],
    steering: Steering,
    *,
    strength: float,
    unit: int,
    data_range: int = 255,
) -> NDArray[np.float32] | None:
    """Return the quantizer offset of every macroblock of a luma frame, the same all over a unit.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        Full-range luma.
    steering : Steering
        What is asked for.
    strength : float
        See :func:`ssimrdo.codecs.x264.steering.qp_offset`.
    unit : int
        Samples along a side of what has a quantizer of its own: 16, 32 or 64.
    data_range : int
        L, the largest luma.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32, or None
        Offsets in QP steps; None without Lagrange ratios.
    """
    if steering.lagrange_ratio is None:
        return None
    shown = 1 - kernels.clipped_shares(luma, data_range)
    ratio = unit_ratio(steering.lagrange_ratio, shown, unit // MACROBLOCK)
    pooled = replace(steering, lagrange_ratio=ratio)
    return quantizer_offsets(luma, pooled, strength=strength, data_range=data_range)
