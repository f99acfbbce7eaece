"""The loss of MS-SSIM."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ssimrdo.losses.frames import Windows, float_frames
from ssimrdo.losses.structural import Gradient
from ssimrdo.metrics.components import WINDOW
from ssimrdo.metrics.multiscale import SCALE_WEIGHTS, scale_count

NEAR_ZERO = 0.01
"""Mean of a scale below which its power gives way to a hyperbola."""


@overload
def one_minus_ms_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: Literal[True] = ...
) -> Gradient: ...
@overload
def one_minus_ms_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: bool
) -> float | Gradient: ...
def one_minus_ms_ssim(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float, gradient: bool = True
) -> float | Gradient:
    """Return 1 - MS-SSIM, and its gradient with respect to the second frame.

    MS-SSIM is the product ``Π m^w`` of the scales' means m, as :func:`ssimrdo.metrics.ms_ssim` has
    it: of c s, and of l c s at the coarsest scale. That index is 0 as soon as a mean is 0 or less,
    with a slope that has no bound on one side and is 0 on the other. Here a mean below t = 0.01
    counts ``t^w / (1 + w (1 - m/t))``, which has the power's value and slope at t. So the loss is
    continuous and its gradient finite, and frames of negative structure have one too; but a small
    one, with which a search begins slowly. Where all means are above 0.01 the loss is 1 less the
    index.

    Parameters and errors as for :func:`one_minus_ssim`; the loss is from 0, for equal frames, to 1.
    Frames of less than 161 samples a side have fewer than five scales.
    """
    x, y = float_frames(x, y, title="MS-SSIM", side=WINDOW, data_range=data_range)
    scales = scale_count(min(x.shape))
    share = sum(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS)
    index = 1.0
    steps = []
    for scale, weight in enumerate(SCALE_WEIGHTS[:scales], start=1):
        # Luminance counts at the coarsest scale alone.
        exponents = (float(scale == scales), 1.0, 1.0)
        windows = Windows(x, y, data_range, exponents=exponents, gradient=gradient)
        factor, slope = _power(windows.mean, weight / share)
        index *= factor
        steps.append((windows, slope / factor, x.shape))
        if scale < scales:
            x, y = _halve(x), _halve(y)
    if not gradient:
        return 1 - index
    out = np.zeros(x.shape, y.dtype)
    for windows, slope, shape in reversed(steps):
        if out.shape != shape:
            out = _spread(out, shape)
        windows.add_gradient(-index * slope, out)
    return 1 - index, out


def _power(mean: float, weight: float) -> tuple[float, float]:
    """Return the power of a scale's mean, or what takes its place near 0, and its derivative."""
    power = max(mean, NEAR_ZERO) ** weight
    below = 1 + weight * max(1 - mean / NEAR_ZERO, 0.0)
    slope = weight / max(mean, NEAR_ZERO) * power / below**2
    return power / below, slope


def _halve(plane: NDArray[Any]) -> NDArray[Any]:
    """Return the means of 2x2 samples; an odd last row or column counts twice."""
    rows, columns = plane.shape
    if rows % 2 or columns % 2:
        plane = np.pad(plane, ((0, rows % 2), (0, columns % 2)), mode="edge")
    pairs = plane[0::2] + plane[1::2]
    half: NDArray[Any] = (pairs[:, 0::2] + pairs[:, 1::2]) * plane.dtype.type(0.25)
    return half


def _spread(half: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the adjoint of :func:`_halve` for a plane of a shape."""
    plane = np.repeat(np.repeat(half * half.dtype.type(0.25), 2, axis=0), 2, axis=1)
    rows, columns = shape
    if rows % 2:
        plane[rows - 1] += plane[rows]
    if columns % 2:
        plane[:, columns - 1] += plane[:, columns]
    return np.ascontiguousarray(plane[:rows, :columns])
