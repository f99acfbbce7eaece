"""VIFp: the share of the reference's information that is left, in the pixel domain.

References
----------
.. [1] H. R. Sheikh and A. C. Bovik, "Image information and visual quality", IEEE Trans. Image
   Process. 15(2), 2006.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import float_pair
from ssimrdo.metrics.kernels import Plane, _compiled, log2
from ssimrdo.metrics.registry import FramePair, QualityIndex, register

NOISE: Final = 2.0
"""σ_n²: variance of the noise of perception [1]_, in squared grey levels of 255."""

SCALES: Final = 4
"""Of frames whose shorter side has 41 samples or more."""

_FLAT: Final = 1e-8
"""Variance below which a window is flat, in squared grey levels."""


@_compiled
def _blur_and_halve(x: Plane, taps: Plane, out: Plane) -> None:
    """Fill every second sample of both axes of a blurred frame."""
    down = np.empty(x.shape[1], np.float64)
    for r in range(out.shape[0]):
        down[:] = 0
        for t in range(taps.size):
            line = x[2 * r + t]
            for i in range(down.size):
                down[i] += taps[t] * line[i]
        for i in range(out.shape[1]):
            total = 0.0
            for t in range(taps.size):
                total += taps[t] * down[2 * i + t]
            out[r, i] = total


@_compiled
def _information(x: Plane, y: Plane, taps: Plane, noise: float) -> tuple[float, float]:
    """Return the information that is left of a reference, and that of the reference, in bits.

    Parameters
    ----------
    x, y : float64 array of shape (rows, columns)
        Reference and the other frame.
    taps : float64 array
        Gaussian.
    noise : float
        See :data:`NOISE`.
    """
    size = taps.size
    columns = x.shape[1] - size + 1
    down = np.empty((5, x.shape[1]), np.float64)
    moments = np.empty((5, columns), np.float64)
    left, whole = 0.0, 0.0
    for r in range(x.shape[0] - size + 1):
        down[:] = 0
        for t in range(size):
            first, second, tap = x[r + t], y[r + t], taps[t]
            for i in range(x.shape[1]):
                a, b = first[i], second[i]
                down[0, i] += tap * a
                down[1, i] += tap * b
                down[2, i] += tap * (a * a)
                down[3, i] += tap * (b * b)
                down[4, i] += tap * (a * b)
        moments[:] = 0
        for k in range(5):
            for t in range(size):
                tap = taps[t]
                for i in range(columns):
                    moments[k, i] += tap * down[k, i + t]
        of_row, of_reference = np.float32(0), np.float32(0)
        for i in range(columns):
            vx = max(moments[2, i] - moments[0, i] * moments[0, i], 0.0)
            vy = max(moments[3, i] - moments[1, i] * moments[1, i], 0.0)
            cov = moments[4, i] - moments[0, i] * moments[1, i]
            gain = cov / (vx + _FLAT)
            rest = max(vy - gain * cov, _FLAT)
            known = (vx >= _FLAT) & (vy >= _FLAT) & (gain > 0)
            signal = gain * gain * vx / (rest + noise)
            of_row += log2(np.float32(1 + (signal if known else 0.0)))
            of_reference += log2(np.float32(1 + (vx if vx >= _FLAT else 0.0) / noise))
        left += np.float64(of_row)
        whole += np.float64(of_reference)
    return left, whole


def vifp(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the visual information fidelity of two frames in the pixel domain.

    The authors' approximation without wavelets: of every scale, a Gaussian pyramid, windows of the
    reference are signals of variance σ_x², and the other frame is ``g x + v``, with gain g and rest
    σ_v² from a regression in the window. What is perceived of both has noise σ_n², :data:`NOISE`.
    ``VIFp = Σ log(1 + g² σ_x² / (σ_v² + σ_n²)) / Σ log(1 + σ_x² / σ_n²)`` over all windows of all
    scales [1]_. Gaussians have 17, 9, 5 and 3 samples a side from fine to coarse, with σ a fifth of
    that. The index is not symmetric.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Reference, from 0 to L, of at least 11x11 samples. Below 41 samples a side there are fewer
        scales, whose windows begin smaller, and the index is not comparable with larger frames'.
    y : ndarray of the same shape
        What is compared with it.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    float
        From 0, with 1 for equal frames; more where contrast is enhanced without noise. 1 too where
        the reference is constant and so has no information to lose.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than 11x11, or have NaN
        or infinities.
    """
    x, y = float_pair(x, y, title="VIFp", side=11, data_range=data_range)
    # In doubles: information in the flat background would be that of rounding.
    first, second = x.astype(np.float64), y.astype(np.float64)
    left = whole = 0.0
    for scale in range(scales := _scale_count(min(x.shape))):
        taps = _gaussian(2 ** (scales - scale) + 1)
        if scale:
            first, second = _coarser(first, taps), _coarser(second, taps)
        found, of_reference = _information(first, second, taps, NOISE)
        left += found
        whole += of_reference
    return left / whole if whole > 0 else 1.0


def _scale_count(side: int) -> int:
    """Return the number of scales of which even the coarsest has room for its window."""
    return next(scales for scales in range(SCALES, 0, -1) if _fits(side, scales))


def _fits(side: int, scales: int) -> bool:
    sizes = [2 ** (scales - scale) + 1 for scale in range(scales)]
    for scale, size in enumerate(sizes):
        if scale:
            side = (side - size + 2) // 2
        if side < size:
            return False
    return True


def _gaussian(size: int) -> NDArray[np.float64]:
    distance = np.arange(size) - size // 2
    taps = np.exp(-(distance**2) / (2 * (size / 5) ** 2))
    return np.asarray(taps / taps.sum(), np.float64)


def _coarser(x: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = ((side - taps.size + 2) // 2 for side in x.shape)
    out = np.empty((rows, columns))
    _blur_and_halve(x, taps, out)
    return out


def _value(pair: FramePair) -> float:
    return vifp(pair.source, pair.shown, data_range=pair.format.peak)


def _log_loss(value: float | NDArray[Any]) -> Any:
    """Return about the logarithm of the squared error.

    With a squared error of D a window loses ``ln(1 + D / σ_n²)`` of ``ln(1 + σ_x² / σ_n²)``; the
    latter is 7 where the deviation is 47 grey levels.
    """
    return np.log(np.expm1(7 * np.maximum(np.subtract(1, value), 1e-9)))


VIFP = register(QualityIndex("vifp", "VIFp", _value, log_loss=_log_loss, special=True))
