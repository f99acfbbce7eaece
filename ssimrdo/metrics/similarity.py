"""SSIM and weighted SSIM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.components import ssim_components
from ssimrdo.metrics.registry import FramePair, QualityIndex, register

ALPHA = 1.15
"""Exponent of the luminance term in weighted SSIM."""

BETA = 0.95
"""Exponent of the contrast and of the structure term in weighted SSIM."""


def ssim_map(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> NDArray[np.float32]:
    """Return SSIM at every window; parameters and errors as in :func:`ssim_components`."""
    luminance, contrast_structure = ssim_components(x, y, data_range=data_range)
    return luminance * contrast_structure


def weighted_ssim_map(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> NDArray[np.float32]:
    """Return ``l^α · c^β · s^β`` at every window; else as :func:`ssim_components`.

    Contrast and structure share the exponent β = γ, so they can stay one term. Where structure
    is negative the result is negative too: ``sign(cs) · |cs|^β``.
    """
    return _weigh(*ssim_components(x, y, data_range=data_range), alpha, beta)


def ssim(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the mean SSIM of two frames; parameters and errors as :func:`ssim_components`."""
    return float(kernels.ssim_mean(*ssim_components(x, y, data_range=data_range)))


def weighted_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> float:
    """Return the mean weighted SSIM of two frames; see :func:`weighted_ssim_map`."""
    terms = ssim_components(x, y, data_range=data_range)
    return float(kernels.weighted_mean(*terms, np.float32(alpha), np.float32(beta)))


def _weigh(
    luminance: NDArray[np.float32], contrast: NDArray[np.float32], alpha: float, beta: float
) -> NDArray[np.float32]:
    magnitude = luminance ** np.float32(alpha) * np.abs(contrast) ** np.float32(beta)
    return np.copysign(magnitude, contrast)


def _ssim(pair: FramePair) -> float:
    return float(kernels.ssim_mean(*pair.ssim_components))


def _ssim_map(pair: FramePair) -> NDArray[np.float32]:
    luminance, contrast_structure = pair.ssim_components
    return luminance * contrast_structure


def _weighted(pair: FramePair) -> float:
    return float(kernels.weighted_mean(*pair.ssim_components, np.float32(ALPHA), np.float32(BETA)))


def _weighted_map(pair: FramePair) -> NDArray[np.float32]:
    return _weigh(*pair.ssim_components, ALPHA, BETA)


SSIM = register(QualityIndex("ssim", "SSIM", _ssim, _ssim_map, everyday=True, in_db=True))
WEIGHTED_SSIM = register(
    QualityIndex("weighted_ssim", "Weighted SSIM", _weighted, _weighted_map, everyday=True)
)
