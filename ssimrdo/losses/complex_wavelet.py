"""The loss of CW-SSIM."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ssimrdo.losses.frames import float_frames
from ssimrdo.losses.structural import Gradient
from ssimrdo.metrics.complex_wavelet import (
    BOX,
    LEVELS,
    ORIENTATIONS,
    STABILIZER,
    box_mean,
    pyramid_of,
    ratio,
    window_weights,
)


@overload
def one_minus_cw_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    levels: int = ...,
    orientations: int = ...,
    stabilizer: float = ...,
    gradient: Literal[True] = ...,
) -> Gradient: ...
@overload
def one_minus_cw_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    levels: int = ...,
    orientations: int = ...,
    stabilizer: float = ...,
    gradient: bool,
) -> float | Gradient: ...
def one_minus_cw_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float,
    levels: int = LEVELS,
    orientations: int = ORIENTATIONS,
    stabilizer: float = STABILIZER,
    gradient: bool = True,
) -> float | Gradient:
    """Return 1 - CW-SSIM, and its gradient with respect to the second frame.

    The index is :func:`ssimrdo.metrics.complex_wavelet.cw_ssim`. It hears one octave of frequencies
    and neither the mean nor the sign of a frame: two frames may look nothing like each other and
    have a loss of 0. As a loss it wants company, such as 1 - SSIM or the squared error.

    The magnitude of a sum of coefficients has no gradient where it is 0, and counts with one of 0
    there.

    Parameters
    ----------
    x, y, data_range, gradient
        As for :func:`one_minus_ssim`, but frames of 7x7 samples suffice.
    levels, orientations, stabilizer
        As for :func:`ssimrdo.metrics.complex_wavelet.cw_ssim`.

    Returns
    -------
    loss : float
        From 0, for equal frames, to 1.
    gradient : ndarray
        As of :func:`one_minus_ssim`.

    Raises
    ------
    ValueError
        As :func:`one_minus_ssim`, or if the pyramid cannot be made.
    """
    x, y = float_frames(x, y, title="CW-SSIM", side=BOX, data_range=data_range)
    pyramid = pyramid_of(x.shape, levels, orientations)
    k = (stabilizer * data_range) ** 2
    a, b = pyramid.bands(x), pyramid.bands(y)
    cross = box_mean(a * b.conj())
    size = np.abs(cross)
    energy = box_mean(np.abs(a) ** 2 + np.abs(b) ** 2)
    index = ratio(2 * size, energy, k)
    weights = window_weights(index.shape[1:]) / len(index)
    loss = 1 - float((index * weights).sum(dtype=np.float64))
    if not gradient:
        return loss
    real = energy.dtype
    tiny = np.finfo(real).tiny
    slope = weights.astype(real) / (energy + real.type(k) + tiny)
    direction = cross.conj() / np.maximum(size, tiny)
    by_cross = _spread(2 * slope * direction, a.shape)
    by_energy = _spread(slope * index, a.shape)
    return loss, pyramid.frame(2 * b * by_energy - a * by_cross)


def _spread(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the adjoint of :func:`box_mean` for bands of a shape."""
    padded = np.zeros((shape[0], shape[1] + BOX - 1, shape[2] + BOX - 1), values.dtype)
    padded[:, BOX - 1 : shape[1], BOX - 1 : shape[2]] = values
    return box_mean(padded)
