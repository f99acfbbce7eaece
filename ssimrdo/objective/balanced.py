"""SSIM and squared error in HU at once, so that neither is bought with the other.

SSIM by itself takes bits from edges and small dense structures, whose variance hides errors from
it [1]_; squared error by itself takes them from flat tissue. This objective trades both alike: it
minimises ``ln Σ θ_i MSE_i + ln Σ MSE_i``, so that a percent less of one loss is worth a percent
less of the other. The derivative by MSE_i is proportional to ``θ_i + w`` with
``w = Σ θ_i MSE_i / Σ MSE_i``, the mean of θ over the squared error: where θ_i is below w, squared
error counts for more, where it is above, SSIM does. With the errors that SSIM itself would choose,
MSE_i ∝ 1/θ_i, w is the harmonic mean of θ, which is θ at the mean variance of the frame: an error
counts by the variance around it and by that of the whole slice, as if SSIM had a second window as
large as the body.

In the window a luma step is so many HU wherever it is, so squared error in luma is squared error
in HU but for a constant, which does not matter here.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat
from ssimrdo.objective.base import Objective, register
from ssimrdo.objective.ssim_mse import effective_samples, reference_theta, theta
from ssimrdo.objective.statistics import block_statistics

SHARE: Final = 0.6
"""What squared error weighs in units of the harmonic mean of θ; the gain is flat around it."""

EMPTY_VARIANCE: Final = 1.0
"""Variance, in squared grey levels of 255, up to which a macroblock has no error to count."""


def squared_error_weight(
    theta: NDArray[Any], variance: NDArray[Any], *, data_range: float = 255
) -> float:
    """Return w, what a squared error costs beside its share in SSIM.

    Parameters
    ----------
    theta, variance : ndarray of one shape
        θ in inverse squared luma units, and σ² in squared luma units.
    data_range : float
        L, the largest luma.

    Returns
    -------
    float
        In the units of θ; 0 for a frame without content.
    """
    inverse = 1 / theta[variance > EMPTY_VARIANCE * (data_range / 255) ** 2]
    return float(SHARE / inverse.mean(dtype=np.float64)) if inverse.size else 0.0


def balanced_theta(theta: NDArray[Any], weight: float, reference: float) -> NDArray[np.float32]:
    """Return θ + w, scaled so that it is θ_ref where θ is.

    That is the mean of θ_i and θ_ref with the weights θ_ref and w: the slope of a weighted mean of
    SSIM's loss and squared error, at a price that frames of another w share.

    Parameters
    ----------
    theta : ndarray
        θ, positive.
    weight : float
        w; see :func:`squared_error_weight`.
    reference : float
        θ_ref.

    Returns
    -------
    ndarray of the same shape, float32
        In the units of θ.
    """
    scale = reference / (reference + weight)
    return np.asarray((theta + np.float32(weight)) * np.float32(scale), np.float32)


def _sensitivity(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.float32]:
    peak = frame_format.peak
    statistics = block_statistics(luma, data_range=peak)
    samples = effective_samples(statistics.variance, data_range=peak)
    structural = theta(statistics.mean, statistics.variance, samples, data_range=peak)
    weight = squared_error_weight(structural, statistics.variance, data_range=peak)
    return balanced_theta(structural, weight, reference_theta(data_range=peak))


CRF_MATCH: Final = 1.3
"""See :data:`ssimrdo.objective.ssim_mse.CRF_MATCH`."""


def _reference(frame_format: FrameFormat) -> float:
    return CRF_MATCH * reference_theta(data_range=frame_format.peak)


BALANCED = register(Objective("balanced", "SSIM and squared error alike", _sensitivity, _reference))
