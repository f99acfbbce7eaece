"""SSIM and weighted SSIM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.components import ssim_components, ssim_terms
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
    gamma: float | None = None,
) -> NDArray[np.float32]:
    """Return ``l^α · c^β · s^γ`` at every window; else as :func:`ssim_components`.

    Where structure is negative the result is negative too: ``sign(s) · |s|^γ``; likewise for
    luminance, which can be negative in frames that are, such as HU.

    Parameters
    ----------
    x, y, data_range
        As for :func:`ssim_components`.
    alpha, beta, gamma : float
        Exponents of luminance, contrast and structure, 0 or more; γ is β unless given. With
        γ = β contrast and structure stay one term.

    Raises
    ------
    ValueError
        As :func:`ssim_components`, or if an exponent is negative.
    """
    return _weigh(*_terms(x, y, data_range, alpha, beta, gamma))


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
    gamma: float | None = None,
) -> float:
    """Return the mean weighted SSIM of two frames; see :func:`weighted_ssim_map`."""
    terms = _terms(x, y, data_range, alpha, beta, gamma)
    return float(kernels.weighted_mean(*terms))


def _terms(
    x: NDArray[Any],
    y: NDArray[Any],
    data_range: float,
    alpha: float,
    beta: float,
    gamma: float | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32, np.float32]:
    """Return two terms and their exponents."""
    if min(alpha, beta, beta if gamma is None else gamma) < 0:
        raise ValueError(f"exponents are 0 or more, not {alpha}, {beta} and {gamma}")
    if gamma is None or gamma == beta:
        terms = ssim_components(x, y, data_range=data_range)
        return *terms, np.float32(alpha), np.float32(beta)
    luminance, contrast, structure = ssim_terms(x, y, data_range=data_range)
    others = _power(luminance, np.float32(alpha)) * contrast ** np.float32(beta)
    return others, structure, np.float32(1), np.float32(gamma)


def _weigh(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    first: np.float32,
    second: np.float32,
) -> NDArray[np.float32]:
    return _power(one, first) * _power(other, second)


def _power(term: NDArray[np.float32], exponent: np.float32) -> NDArray[np.float32]:
    """Return powers that keep the sign."""
    return np.copysign(np.abs(term) ** exponent, term)


def _ssim(pair: FramePair) -> float:
    return float(kernels.ssim_mean(*pair.ssim_components))


def _ssim_map(pair: FramePair) -> NDArray[np.float32]:
    return pair.ssim_map


def _weighted(pair: FramePair) -> float:
    return float(kernels.weighted_mean(*pair.ssim_components, np.float32(ALPHA), np.float32(BETA)))


def _weighted_map(pair: FramePair) -> NDArray[np.float32]:
    return _weigh(*pair.ssim_components, np.float32(ALPHA), np.float32(BETA))


SSIM = register(QualityIndex("ssim", "SSIM", _ssim, _ssim_map, everyday=True, in_db=True))
WEIGHTED_SSIM = register(
    QualityIndex("weighted_ssim", "Weighted SSIM", _weighted, _weighted_map, everyday=True)
)
