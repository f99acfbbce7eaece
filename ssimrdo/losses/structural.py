"""Losses of SSIM and weighted SSIM."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ssimrdo.losses.frames import Windows, check_exponents, float_frames
from ssimrdo.losses.kernels import INVERSE, PRODUCT
from ssimrdo.metrics.components import WINDOW
from ssimrdo.metrics.similarity import ALPHA, BETA

Gradient = tuple[float, NDArray[Any]]
"""A loss and its gradient."""


@overload
def one_minus_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: Literal[True] = ...
) -> Gradient: ...
@overload
def one_minus_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: bool
) -> float | Gradient: ...
def one_minus_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: bool = True
) -> float | Gradient:
    """Return 1 - SSIM of two frames, and its gradient with respect to the second.

    SSIM is the mean of :func:`ssimrdo.metrics.ssim_map`, of windows inside the frame.

    All losses here are the same with x and y exchanged, so the gradient with respect to the
    reference x is what the loss of (y, x) returns.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Reference and distorted frame, of at least 11x11 samples. All is computed in float32 where
        that holds the samples of both, as it does those of 8 and 16 bit, and else in float64.
        Samples may lie outside 0 to L.
    data_range : float
        L: 1 for frames from 0 to 1, 255 for 8 bit, the width of the window for HU.
    gradient : bool
        Whether the gradient is wanted.

    Returns
    -------
    loss : float
        From 0, for equal frames, to 2.
    gradient : ndarray of shape (rows, columns), float32 or float64
        Derivative of the loss with respect to every sample of y. Returned with the loss, as a pair,
        unless it is not wanted.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are too small, or have NaN or
        infinities, or if L is not above 0.
    """
    return _mean(x, y, data_range, gradient, "SSIM", PRODUCT, (1.0, 1.0, 1.0), constant=1, sign=-1)


@overload
def reciprocal_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: Literal[True] = ...
) -> Gradient: ...
@overload
def reciprocal_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: bool
) -> float | Gradient: ...
def reciprocal_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: bool = True
) -> float | Gradient:
    """Return the mean of 1/SSIM over windows, and its gradient with respect to the second frame.

    The index is :func:`ssimrdo.metrics.inverse.inverse_ssim`: where a window's SSIM q is below 0.1,
    and where it is negative, 1/q goes on along its tangent at 0.1. So the loss is continuous and
    convex in q, and its slope is never steeper than -100.

    Parameters and errors as for :func:`one_minus_ssim`; the loss is from 1, for equal frames, to
    120.
    """
    return _mean(x, y, data_range, gradient, "1/SSIM", INVERSE, (1.0, 1.0, 1.0), constant=0, sign=1)


@overload
def one_minus_weighted_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    alpha: float = ...,
    beta: float = ...,
    gamma: float | None = ...,
    gradient: Literal[True] = ...,
) -> Gradient: ...
@overload
def one_minus_weighted_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    alpha: float = ...,
    beta: float = ...,
    gamma: float | None = ...,
    gradient: bool,
) -> float | Gradient: ...
def one_minus_weighted_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float | None = None,
    gradient: bool = True,
) -> float | Gradient:
    """Return 1 - weighted SSIM, and its gradient with respect to the second frame.

    Weighted SSIM is the mean of ``l^α c^β s^γ`` over windows, as
    :func:`ssimrdo.metrics.weighted_ssim`. A term t below 0 keeps its sign, ``sign(t) |t|^e``. Where
    e < 1 the slope of that has no bound at 0; so for ``|t| < 0.0001`` it is replaced by the odd
    cubic that has the same value and slope at either end. A term whose exponent is 0 is left out,
    and its sign with it.

    Where β ≠ γ, contrast and structure are two terms, and everything is computed in doubles. Their
    σx σy has no slope where a window of either frame is flat; so both variances count as larger by
    C2/10⁸, and the covariance too, as if both frames had that much noise in common.

    Parameters
    ----------
    x, y, data_range, gradient
        As for :func:`one_minus_ssim`.
    alpha, beta, gamma : float
        Exponents of luminance, contrast and structure, 0 or more; γ is β unless given.

    Returns
    -------
    loss : float
        From 0, for equal frames, to 2.
    gradient : ndarray
        As of :func:`one_minus_ssim`.

    Raises
    ------
    ValueError
        As :func:`one_minus_ssim`, or if an exponent is negative.
    """
    exponents = (alpha, beta, beta if gamma is None else gamma)
    check_exponents(*exponents)
    title = "weighted SSIM"
    return _mean(x, y, data_range, gradient, title, PRODUCT, exponents, constant=1, sign=-1)


def _mean(
    x: NDArray[Any],
    y: NDArray[Any],
    data_range: float,
    gradient: bool,
    title: str,
    function: int,
    exponents: tuple[float, float, float],
    *,
    constant: int,
    sign: int,
) -> float | Gradient:
    x, y = float_frames(x, y, title=title, side=WINDOW, data_range=data_range)
    real = y.dtype
    if exponents[1] != exponents[2]:
        x, y = x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
    windows = Windows(x, y, data_range, function=function, exponents=exponents, gradient=gradient)
    loss = float(constant + sign * windows.mean)
    if not gradient:
        return loss
    out = np.zeros_like(y)
    windows.add_gradient(sign, out)
    return loss, out.astype(real, copy=False)
