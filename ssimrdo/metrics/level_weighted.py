"""The level-weighted SSIM of Lu, in which luminance is added instead of multiplied.

References
----------
.. [1] Y. Lu, "The level weighted structural similarity loss: a step away from MSE", AAAI 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.components import WINDOW, stabilizers
from ssimrdo.metrics.inputs import check_pair, contiguous
from ssimrdo.metrics.registry import FramePair, QualityIndex, register

WINDOW_SIZES: Final = (3, 7, 11)
"""Sides of the windows of LWSSIM's levels in samples."""


def lwssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    window_sizes: Sequence[int] = WINDOW_SIZES,
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float | None = None,
) -> float:
    """Return the mean level-weighted SSIM of two frames; see :func:`lwssim_map`."""
    options = (data_range, window_sizes, weights, alpha, beta, gamma)
    return float(_map(x, y, *options).mean(dtype=np.float64))


def lwssim_map(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    window_sizes: Sequence[int] = WINDOW_SIZES,
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float | None = None,
) -> NDArray[np.float32]:
    """Return the level-weighted SSIM at every window.

    ``Σ w (l^α + c^β s^γ) / 2``, where Σ goes over windows of several sizes about the same sample,
    and l, c and s are the terms of SSIM. As luminance is added, an error in it counts the same
    whatever the structure; in SSIM, which is the product, it counts less the less structure is
    kept.

    That l is added to the product of c and s, and that window sizes have weights, is Lu's [1]_. The
    sizes, their weights, the exponents and the half, which makes 1 of equal frames, are chosen
    here, and Lu's experiments may have had others. Windows are Gaussians whose σ is to their side
    as in SSIM.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L of at least 11x11 samples.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.
    window_sizes : sequence of int
        Sides of the windows, odd, from 3 to 11 samples.
    weights : sequence of float, optional
        One for each size, 0 or more; scaled to the sum of 1. Equal unless given.
    alpha, beta, gamma : float
        Exponents of luminance, contrast and structure, 0 or more; γ is β unless given. A term
        below 0 keeps its sign: ``sign(s) |s|^γ``.

    Returns
    -------
    ndarray of shape (rows - 10, columns - 10), float32
        From -1 to 1, at the samples about which a window of 11x11 lies inside the frame, whatever
        the sizes. For frames that are nowhere negative all values lie above -1/2.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than 11x11 or have NaN,
        or if sizes, weights or exponents are not such.
    """
    return _map(x, y, data_range, window_sizes, weights, alpha, beta, gamma)


def level_weights(
    window_sizes: Sequence[int], weights: Sequence[float] | None
) -> tuple[tuple[int, float], ...]:
    """Return pairs of a window's side and its share of the whole.

    Raises
    ------
    ValueError
        If a side is not odd and from 3 to 11, or the weights do not fit.
    """
    sizes = tuple(window_sizes)
    if not sizes or any(size not in range(3, WINDOW + 1, 2) for size in sizes):
        raise ValueError(f"LWSSIM takes window sizes of 3, 5, 7, 9 or 11, not {sizes}")
    given = (1.0,) * len(sizes) if weights is None else tuple(float(one) for one in weights)
    total = sum(given)
    if len(given) != len(sizes) or min(given) < 0 or not 0 < total < np.inf:
        raise ValueError(f"LWSSIM takes a weight of 0 or more for each window size, not {given}")
    return tuple((size, one / total) for size, one in zip(sizes, given, strict=True))


@cache
def window_taps(size: int) -> NDArray[np.float64]:
    """Return half of a normalised Gaussian of a side, padded with zeros to SSIM's window.

    Shape (6,), float64, outermost tap first, read-only; σ is 1.5 for 11 samples.
    """
    distance = np.arange(-kernels.RADIUS, 1)
    sigma = kernels.SIGMA * size / WINDOW
    taps = np.exp(-(distance**2) / (2 * sigma**2)) * (np.abs(distance) <= size // 2)
    half: NDArray[np.float64] = taps / (2 * taps.sum() - taps[-1])
    half.setflags(write=False)
    return half


def signed_power(term: NDArray[np.float32], exponent: float) -> NDArray[np.float32]:
    """Return ``sign(t) |t|^e``; 1 everywhere for an exponent of 0, which leaves the term out."""
    if exponent == 1:
        return term
    if exponent == 0:
        return np.ones_like(term)
    return np.copysign(np.abs(term) ** np.float32(exponent), term)


def _map(
    x: NDArray[Any],
    y: NDArray[Any],
    data_range: float,
    window_sizes: Sequence[int],
    weights: Sequence[float] | None,
    alpha: float,
    beta: float,
    gamma: float | None,
) -> NDArray[np.float32]:
    check_pair(x, y, title="LWSSIM", side=WINDOW)
    gamma = beta if gamma is None else gamma
    if min(alpha, beta, gamma) < 0:
        raise ValueError(f"exponents are 0 or more, not {alpha}, {beta} and {gamma}")
    c1, c2 = (np.float32(one) for one in stabilizers(data_range))
    middle = np.float32(data_range / 2)
    x, y = contiguous(x), contiguous(y)
    shape = (x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1)
    luminance, contrast, structure = np.empty((3, *shape), np.float32)
    total = np.zeros(shape, np.float32)
    for size, weight in level_weights(window_sizes, weights):
        taps = window_taps(size).astype(np.float32)
        kernels.ssim_components(x, y, taps, c1, c2, middle, luminance, structure)
        second = signed_power(structure, beta)
        if gamma != beta:
            kernels.contrast_and_structure(x, y, taps, c2, middle, contrast, structure)
            second = signed_power(contrast, beta) * signed_power(structure, gamma)
        total += np.float32(weight / 2) * (signed_power(luminance, alpha) + second)
    return total


def _lwssim(pair: FramePair) -> float:
    return float(_lwssim_map(pair).mean(dtype=np.float64))


def _lwssim_map(pair: FramePair) -> NDArray[np.float32]:
    return lwssim_map(pair.source, pair.shown, data_range=pair.format.peak)


LWSSIM = register(QualityIndex("lwssim", "LWSSIM", _lwssim, _lwssim_map, special=True))
