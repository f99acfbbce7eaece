"""SSIM, weighted SSIM and PSNR of luma frames.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from
   error visibility to structural similarity", IEEE Trans. Image Process. 13(4), 2004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.ssim import kernels

ALPHA = 1.15
"""Exponent of the luminance term in weighted SSIM."""

BETA = 0.95
"""Exponent of the contrast and of the structure term in weighted SSIM."""

PSNR_CEILING_DB = 100.0
"""PSNR reported for frames that agree in every sample, in decibels."""


@dataclass(frozen=True)
class SliceQuality:
    """How well one decoded slice agrees with its source.

    Parameters
    ----------
    ssim, weighted_ssim : float
        Means over the slice, at most 1.
    psnr_db : float
        Luma PSNR in decibels, at most :data:`PSNR_CEILING_DB`.
    """

    ssim: float
    weighted_ssim: float
    psnr_db: float


def luma_range(bit_depth: int) -> int:
    """Return L, the largest full-range luma value of a bit depth."""
    return (1 << bit_depth) - 1


def stabilizers(bit_depth: int) -> tuple[float, float]:
    """Return C1 = (0.01 L)² and C2 = (0.03 L)², in squared luma units [1]_."""
    peak = luma_range(bit_depth)
    return (0.01 * peak) ** 2, (0.03 * peak) ** 2


def ssim_components(
    x: NDArray[Any], y: NDArray[Any], *, bit_depth: int = 8
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the luminance term and the contrast-structure term at every window.

    With C3 = C2/2 the product of contrast and structure is
    ``(2 cov(x, y) + C2) / (var(x) + var(y) + C2)`` [1]_. Windows are 11x11 Gaussians, σ = 1.5.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Full-range luma frames of at least 11x11 samples.
    bit_depth : int
        Bit depth of the luma, which sets L.

    Returns
    -------
    luminance, contrast_structure : ndarray of shape (rows - 10, columns - 10), float32
        Terms of the windows that lie inside the frame.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional or are smaller than a window.
    """
    side = 2 * kernels.RADIUS + 1
    if x.ndim != 2 or x.shape != y.shape or min(x.shape) < side:
        raise ValueError(
            f"SSIM takes two frames of one shape, at least {side}x{side}: "
            f"got {x.shape} and {y.shape}"
        )
    c1, c2 = stabilizers(bit_depth)
    shape = (x.shape[0] - side + 1, x.shape[1] - side + 1)
    luminance = np.empty(shape, np.float32)
    contrast_structure = np.empty(shape, np.float32)
    kernels.ssim_components(
        np.ascontiguousarray(x),
        np.ascontiguousarray(y),
        kernels.gaussian_taps(),
        np.float32(c1),
        np.float32(c2),
        np.float32(luma_range(bit_depth) / 2),
        luminance,
        contrast_structure,
    )
    return luminance, contrast_structure


def ssim_map(x: NDArray[Any], y: NDArray[Any], *, bit_depth: int = 8) -> NDArray[np.float32]:
    """Return SSIM at every window; parameters and errors as in :func:`ssim_components`."""
    luminance, contrast_structure = ssim_components(x, y, bit_depth=bit_depth)
    return luminance * contrast_structure


def weighted_ssim_map(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    bit_depth: int = 8,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> NDArray[np.float32]:
    """Return ``l^α · c^β · s^β`` at every window; else as :func:`ssim_components`.

    Contrast and structure share the exponent β = γ, so they can stay one term. Where structure
    is negative the result is negative too: ``sign(cs) · |cs|^β``.
    """
    return _weigh(*ssim_components(x, y, bit_depth=bit_depth), alpha, beta)


def ssim(x: NDArray[Any], y: NDArray[Any], *, bit_depth: int = 8) -> float:
    """Return the mean SSIM of two frames; parameters and errors as :func:`ssim_components`."""
    return _mean_product(*ssim_components(x, y, bit_depth=bit_depth))


def weighted_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    bit_depth: int = 8,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> float:
    """Return the mean weighted SSIM of two frames; see :func:`weighted_ssim_map`."""
    weighted = weighted_ssim_map(x, y, bit_depth=bit_depth, alpha=alpha, beta=beta)
    return float(weighted.mean(dtype=np.float64))


def psnr_db(x: NDArray[Any], y: NDArray[Any], *, bit_depth: int = 8) -> float:
    """Return the PSNR of two luma frames of one shape in decibels, ``10 log10(L² / MSE)``.

    Frames that agree in every sample get :data:`PSNR_CEILING_DB`.
    """
    difference = (x.astype(np.float32) - y).ravel()
    mse = float(np.vdot(difference, difference)) / difference.size
    if mse == 0:
        return PSNR_CEILING_DB
    return min(10 * math.log10(luma_range(bit_depth) ** 2 / mse), PSNR_CEILING_DB)


def slice_quality(x: NDArray[Any], y: NDArray[Any], *, bit_depth: int = 8) -> SliceQuality:
    """Return all qualities of a decoded slice ``y`` against its source ``x``.

    Parameters and errors as in :func:`ssim_components`.
    """
    luminance, contrast_structure = ssim_components(x, y, bit_depth=bit_depth)
    plain, weighted = kernels.ssim_means(
        luminance, contrast_structure, np.float32(ALPHA), np.float32(BETA)
    )
    return SliceQuality(
        ssim=float(plain),
        weighted_ssim=float(weighted),
        psnr_db=psnr_db(x, y, bit_depth=bit_depth),
    )


def _mean_product(luminance: NDArray[np.float32], contrast: NDArray[np.float32]) -> float:
    return float(np.vdot(luminance, contrast)) / luminance.size


def _weigh(
    luminance: NDArray[np.float32], contrast: NDArray[np.float32], alpha: float, beta: float
) -> NDArray[np.float32]:
    magnitude = luminance ** np.float32(alpha) * np.abs(contrast) ** np.float32(beta)
    return np.copysign(magnitude, contrast)
