"""The SSIM-MSE relation: how much a squared error in a macroblock lowers SSIM.

With mean µ and variance σ² of the source in a window, v and m variance and mean of the coding error
(source minus decoded) and k its covariance with the source over v, SSIM's terms are exactly

    1/cs = 1 + v / (2σ² - 2k v + C2),    1/l = 1 + m² / (2µ² - 2µ m + C1).

Quantization, whose error is nearly uncorrelated with what is decoded, has k near 1; noise that is
added to the source would have k = 0. For small errors k does not matter: per macroblock the
weighted SSIM's inverse grows linearly with the mean squared error, ``D = 1 + θ · MSE`` [1]_. For
larger ones the slope grows; docs/method.md has by how much, and where else the relation is off.

References
----------
.. [1] C. Yeo, H. L. Tan and Y. H. Tan, "On rate distortion optimization using SSIM",
   IEEE Trans. Circuits Syst. Video Technol. 23(7), 2013.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import ALPHA, BETA, kernels, stabilizers
from ssimrdo.objective.base import Objective, register
from ssimrdo.objective.statistics import block_statistics


@cache
def window_samples() -> float:
    """Return N of the SSIM window, ``(Σw)² / Σw²``: about 28 samples for σ = 1.5."""
    half = kernels.gaussian_taps().astype(np.float64)
    taps = np.concatenate([half, half[-2::-1]])
    return float((taps.sum() ** 2 / (taps**2).sum()) ** 2)


def effective_samples(variance: NDArray[Any], *, data_range: float = 255) -> NDArray[np.float32]:
    """Return N_eff, the number of independent coding errors in a window, per macroblock.

    In texture the errors of neighbouring samples are taken as independent, so that N_eff is the
    window's own number of samples N, and in a flat block as one shift of the whole block, so that
    it is 1. Between the two it follows ``N - (N - 1) · C / (σ² + C)`` with C = C2/2, where SSIM
    itself passes from flat to textured. Measured N_eff falls as quantization gets coarser.

    Parameters
    ----------
    variance : ndarray
        σ² in squared luma units.
    data_range : float
        L, the largest luma, which sets C2.

    Returns
    -------
    ndarray of the same shape, float32
        From 1 to :func:`window_samples`.
    """
    _, c2 = stabilizers(data_range)
    flatness = np.float32(c2 / 2) / (variance.astype(np.float32) + np.float32(c2 / 2))
    n = window_samples()
    return np.asarray(n - (n - 1) * flatness, np.float32)


def theta(
    mean: NDArray[Any],
    variance: NDArray[Any],
    samples: NDArray[Any] | float,
    *,
    data_range: float = 255,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> NDArray[np.float32]:
    """Return θ, the slope of 1/SSIM over MSE: ``β / (2σ² + C2) + α / (N_eff (2µ² + C1))``.

    The first term is the linear SSIM-MSE relation [1]_, the tangent at small errors. The second
    holds for errors with zero mean that do not depend on µ: the mean error over a window of N_eff
    independent errors has variance MSE / N_eff.

    Parameters
    ----------
    mean, variance : ndarray of one shape
        µ in luma units and σ² in squared luma units.
    samples : ndarray of the same shape, or float
        N_eff; see :func:`effective_samples`.
    data_range : float
        L, the largest luma, which sets C1 and C2.
    alpha, beta : float
        Exponents of the luminance and the contrast-structure term.

    Returns
    -------
    ndarray of the same shape, float32
        θ per macroblock, in inverse squared luma units.
    """
    c1, c2 = stabilizers(data_range)
    contrast = beta / (2 * variance.astype(np.float32) + np.float32(c2))
    mean = mean.astype(np.float32)
    luminance = alpha / (samples * (2 * mean * mean + np.float32(c1)))
    return np.asarray(contrast + luminance, np.float32)


def reference_theta(*, data_range: float = 255) -> float:
    """Return θ of a texture with σ² = 2 C2, about 11 grey levels rms.

    Its QP stays about as it is; objectives take a multiple of it, see :data:`CRF_MATCH`. One
    reference for all slices gives an error the same price in each of them, as the sum over a
    series asks for; one taken from each slice, such as the mean of ln θ, would move with the share
    of empty background.
    """
    _, c2 = stabilizers(data_range)
    return BETA / (5 * c2)


def _sensitivity(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.float32]:
    statistics = block_statistics(luma, data_range=frame_format.peak)
    samples = effective_samples(statistics.variance, data_range=frame_format.peak)
    return theta(statistics.mean, statistics.variance, samples, data_range=frame_format.peak)


CRF_MATCH: Final = 1.0
"""θ_ref over :func:`reference_theta` at which a CRF means what it means in x264's medium preset."""


def _reference(frame_format: FrameFormat) -> float:
    return CRF_MATCH * reference_theta(data_range=frame_format.peak)


SSIM = register(Objective("ssim", "SSIM by the SSIM-MSE relation", _sensitivity, _reference))
