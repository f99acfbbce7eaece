"""The loss of the level-weighted SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ssimrdo.losses.frames import Windows, check_exponents, float_frames
from ssimrdo.losses.kernels import SUM
from ssimrdo.losses.structural import Gradient
from ssimrdo.metrics.components import WINDOW
from ssimrdo.metrics.level_weighted import WINDOW_SIZES, level_weights


@overload
def one_minus_lwssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    window_sizes: Sequence[int] = ...,
    weights: Sequence[float] | None = ...,
    alpha: float = ...,
    beta: float = ...,
    gamma: float | None = ...,
    gradient: Literal[True] = ...,
) -> Gradient: ...
@overload
def one_minus_lwssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    window_sizes: Sequence[int] = ...,
    weights: Sequence[float] | None = ...,
    alpha: float = ...,
    beta: float = ...,
    gamma: float | None = ...,
    gradient: bool,
) -> float | Gradient: ...
def one_minus_lwssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    window_sizes: Sequence[int] = WINDOW_SIZES,
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float | None = None,
    gradient: bool = True,
) -> float | Gradient:
    """Return 1 - LWSSIM, and its gradient with respect to the second frame.

    LWSSIM is the mean of ``Σ w (l^α + c^β s^γ) / 2`` over windows, w being the weight of a window's
    size: :func:`ssimrdo.metrics.level_weighted.lwssim`, where it is said what of that is not Lu's.
    Powers, and contrast and structure where β ≠ γ, are as in :func:`one_minus_weighted_ssim`.

    Parameters
    ----------
    x, y, data_range, gradient
        As for :func:`one_minus_ssim`.
    window_sizes, weights
        As for :func:`ssimrdo.metrics.level_weighted.lwssim_map`.
    alpha, beta, gamma : float
        Exponents of luminance, contrast and structure, 0 or more; γ is β unless given.

    Returns
    -------
    loss : float
        From 0, for equal frames, to 2; below 1.5 for frames that are nowhere negative.
    gradient : ndarray
        As of :func:`one_minus_ssim`.

    Raises
    ------
    ValueError
        As :func:`one_minus_ssim`, or if sizes, weights or exponents cannot be used.
    """
    exponents = (alpha, beta, beta if gamma is None else gamma)
    check_exponents(*exponents)
    levels = level_weights(window_sizes, weights)
    x, y = float_frames(x, y, title="LWSSIM", side=WINDOW, data_range=data_range)
    real = y.dtype
    if exponents[1] != exponents[2]:
        x, y = x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
    loss, out = 1.0, np.zeros_like(y)
    for size, weight in levels:
        windows = Windows(
            x,
            y,
            data_range,
            size=size,
            function=SUM,
            exponents=exponents,
            gradient=gradient,
        )
        loss -= weight / 2 * windows.mean
        if gradient:
            windows.add_gradient(-weight / 2, out)
    return (loss, out.astype(real, copy=False)) if gradient else loss
