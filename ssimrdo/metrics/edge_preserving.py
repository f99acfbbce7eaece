"""SSIM whose windows stop at the edges of the reference.

In SSIM's Gaussian window the step of a hard edge counts as variance, and hides noise and blur in
the flat tissue beside it. Pambrun and Noumeir name this as one of SSIM's limits in diagnostic
images and propose edge-preserving statistics [1]_; the weights here are the objective ``edge``'s.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import bilateral, kernels
from ssimrdo.metrics.bilateral import REACH
from ssimrdo.metrics.components import WINDOW, stabilizers
from ssimrdo.metrics.inputs import LUMA_RANGE, float_pair
from ssimrdo.metrics.registry import FramePair, QualityIndex, register


def edge_ssim_map(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255, reach: float = REACH
) -> NDArray[np.float32]:
    """Return edge-preserving SSIM at every window; see :func:`edge_ssim`.

    Returns
    -------
    ndarray of shape (rows - 10, columns - 10), float32
        Of the windows that lie inside the frame.
    """
    if not reach > 0:
        raise ValueError(f"the reach of differences is above 0, not {reach}")
    x, y = float_pair(x, y, title="edge-preserving SSIM", side=WINDOW, data_range=data_range)
    half = kernels.gaussian_taps()
    found = np.empty((x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1), np.float32)
    c1, c2 = stabilizers(LUMA_RANGE)
    taps = np.concatenate([half, half[-2::-1]])
    bilateral.ssim_map(x, y, taps, float(reach), np.float32(c1), np.float32(c2), found)
    return found


def edge_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255, reach: float = REACH
) -> float:
    """Return the mean edge-preserving SSIM of two frames.

    SSIM with means, variances and covariance weighted by ``w = G · (1 + (d / d₀)²)⁻²``, where G is
    the 11x11 Gaussian, σ = 1.5, and d the difference of a sample of the *reference* from the
    window's centre. Both frames have the same weights, so the index is not symmetric. Where the
    reference is flat it is SSIM.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Reference, from 0 to L, of at least 11x11 samples.
    y : ndarray of the same shape
        What is compared with it.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.
    reach : float
        d₀ in grey levels of 255; infinity gives SSIM.

    Returns
    -------
    float
        From -1 to 1, and 1 for equal frames.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than a window, or have
        NaN or infinities.
    """
    return float(edge_ssim_map(x, y, data_range=data_range, reach=reach).mean(dtype=np.float64))


def _value(pair: FramePair) -> float:
    return edge_ssim(pair.source, pair.shown, data_range=pair.format.peak)


def _map(pair: FramePair) -> NDArray[np.float32]:
    return edge_ssim_map(pair.source, pair.shown, data_range=pair.format.peak)


EDGE_SSIM = register(QualityIndex("edge_ssim", "Edge-preserving SSIM", _value, _map, special=True))
