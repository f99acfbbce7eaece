"""Multi-scale SSIM of luma frames.

References
----------
.. [1] Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity for image
   quality assessment", 37th Asilomar Conf. Signals, Systems and Computers, 2003.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.components import ssim_components
from ssimrdo.metrics.kernels import RADIUS
from ssimrdo.metrics.registry import FramePair, QualityIndex, register

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponent of each scale, finest first [1]_; as published they add up to 1.0001."""


def ms_ssim(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the multi-scale SSIM of two frames [1]_.

    The mean contrast-structure term of every scale but the coarsest, and the mean SSIM of the
    coarsest, which alone counts luminance, are multiplied with :data:`SCALE_WEIGHTS` as
    exponents. Each scale has half the samples of the one before, means of 2x2; an odd last row
    or column counts twice there.

    Five scales need 161 samples a side. A smaller frame has as many scales as hold an 11x11
    window, and their weights are scaled to the sum of all five, so its index is not comparable
    with that of larger frames. A mean that is negative counts as 0, as its powers are not real.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L of at least 11x11 samples.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    float
        At most 1, and 1 for equal frames.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional or are smaller than a window.
    """
    scales = scale_count(min(x.shape, default=0))
    share = sum(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS)
    index = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS[:scales], start=1):
        luminance, contrast_structure = ssim_components(x, y, data_range=data_range)
        if scale == scales:
            contrast_structure *= luminance
        mean = float(contrast_structure.mean(dtype=np.float64))
        index *= max(mean, 0.0) ** (weight / share)
        if scale < scales:
            x, y = _halve(x), _halve(y)
    return index


def scale_count(side: int) -> int:
    """Return the number of scales for frames whose shorter side is ``side``; at least 1."""
    count = 1
    while count < len(SCALE_WEIGHTS) and math.ceil(side / 2) >= 2 * RADIUS + 1:
        side = math.ceil(side / 2)
        count += 1
    return count


def _halve(plane: NDArray[Any]) -> NDArray[np.float32]:
    rows, columns = plane.shape
    if rows % 2 or columns % 2:
        plane = np.pad(plane, ((0, rows % 2), (0, columns % 2)), mode="edge")
    plane = plane.astype(np.float32, copy=False)
    pairs = plane[0::2] + plane[1::2]
    return np.asarray((pairs[:, 0::2] + pairs[:, 1::2]) * np.float32(0.25), np.float32)


def _ms_ssim(pair: FramePair) -> float:
    return ms_ssim(pair.source, pair.shown, data_range=pair.format.peak)


MS_SSIM = register(QualityIndex("ms_ssim", "MS-SSIM", _ms_ssim))
