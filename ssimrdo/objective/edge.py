"""SSIM with statistics that stop at edges.

In a Gaussian window beside an edge the step counts as variance, so that SSIM's relation takes flat
tissue there for texture and lets noise pile up in it [1]_. Here a sample counts in a window less
the more it differs from the window's centre, as in the bilateral filter: beside an edge σ² is
mostly that of the tissue on the centre's own side. ``metrics/bilateral.py`` has the weights. With a
Gaussian's tail, or none, more is lost in flat tissue than is won at edges.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import MACROBLOCK, FrameFormat, block_grid
from ssimrdo.metrics import kernels
from ssimrdo.metrics.bilateral import REACH, block_moments
from ssimrdo.objective.base import Objective, register
from ssimrdo.objective.ssim_mse import effective_samples, reference_theta, theta
from ssimrdo.objective.statistics import BlockStatistics

STEP: Final = 4
"""Samples from one window to the next: 16 windows tell a macroblock's mean as well as 256."""


def edge_statistics(
    luma: NDArray[Any], *, data_range: float = 255, reach: float = REACH
) -> BlockStatistics:
    """Return µ and σ² of every macroblock in windows that stop at edges.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), any real dtype
        Full-range luma; windows that reach over the border see it mirrored.
    data_range : float
        L, the largest luma.
    reach : float
        See :data:`REACH`.

    Raises
    ------
    ValueError
        If the frame is empty or not two-dimensional.
    """
    if luma.ndim != 2 or luma.size == 0:
        raise ValueError(f"a luma frame has two dimensions, not shape {luma.shape}")
    grid = block_grid(luma.shape)
    radius = kernels.RADIUS
    missing = [MACROBLOCK * n - side for n, side in zip(grid, luma.shape, strict=True)]
    # One more column makes the width of the planes whole.
    pads = ((radius, radius + missing[0]), (radius, radius + 2 + missing[1]))
    padded = np.pad(luma, pads, mode="symmetric")
    planes = padded.reshape(padded.shape[0], -1, STEP).transpose(2, 0, 1)
    half = kernels.gaussian_taps()
    mean, variance = np.empty(grid, np.float32), np.empty(grid, np.float32)
    block_moments(
        np.ascontiguousarray(planes, np.float32),
        np.concatenate([half, half[-2::-1]]),
        reach * data_range / 255,
        mean,
        variance,
    )
    return BlockStatistics(mean, np.maximum(variance, 0))


def _sensitivity(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.float32]:
    peak = frame_format.peak
    statistics = edge_statistics(luma, data_range=peak)
    samples = effective_samples(statistics.variance, data_range=peak)
    return theta(statistics.mean, statistics.variance, samples, data_range=peak)


CRF_MATCH: Final = 1.2
"""See :data:`ssimrdo.objective.ssim_mse.CRF_MATCH`."""


def _reference(frame_format: FrameFormat) -> float:
    return CRF_MATCH * reference_theta(data_range=frame_format.peak)


EDGE = register(
    Objective("edge", "SSIM with statistics that stop at edges", _sensitivity, _reference)
)
