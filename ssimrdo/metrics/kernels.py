"""Numba kernels: Gaussian-windowed moments of luma frames.

Kernels are handed the memory that they work in: code that takes none runs without Numba.

The kernels release the interpreter lock and use one thread each; frames are measured in parallel
from several Python threads. Numba's own ``parallel=True`` is not used because its threading
layers either abort when two Python threads enter them (workqueue) or end forked children (OpenMP).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ssimrdo.frames import MACROBLOCK as BLOCK
from ssimrdo.frames import block_grid
from ssimrdo.metrics.caching import compiled

RADIUS = 5
"""Radius of the 11x11 window in samples."""

SIGMA = 1.5
"""Standard deviation of the Gaussian window in samples."""

_BAND = 32

Plane = NDArray[Any]


def _compiled(function: Callable[..., Any]) -> Any:
    return compiled(
        function,
        nogil=True,
        error_model="numpy",
        fastmath={"contract", "nsz", "reassoc"},
        boundscheck=False,
    )


def _inlined(function: Callable[..., Any]) -> Any:
    return compiled(function, inline="always")


@cache
def gaussian_taps() -> NDArray[np.float32]:
    """Return half of the normalised 11-tap Gaussian, outermost tap first.

    Shape (6,), float32, read-only.
    """
    distance = np.arange(-RADIUS, 1)
    taps = np.exp(-(distance**2) / (2 * SIGMA**2))
    total = 2 * taps.sum() - taps[-1]
    half = np.asarray(taps / total, np.float32)
    half.setflags(write=False)
    return half


@_compiled
def _filter_columns(plane: Plane, taps: Plane, out: Plane) -> None:
    """Filter down the columns: ``out[r]`` is centred at ``plane[r + 5]``."""
    t0, t1, t2, t3, t4, t5 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    # Two rows at a time share ten of their eleven loads; an odd last row is done twice.
    for pair in range((out.shape[0] + 1) // 2):
        r = min(2 * pair, max(out.shape[0] - 2, 0))
        below = min(1, out.shape[0] - 1)
        for i in range(out.shape[1]):
            a1, a2, a3 = plane[r + 1, i], plane[r + 2, i], plane[r + 3, i]
            a4, a5, a6 = plane[r + 4, i], plane[r + 5, i], plane[r + 6, i]
            a7, a8, a9 = plane[r + 7, i], plane[r + 8, i], plane[r + 9, i]
            a10 = plane[r + 10, i]
            lower = (
                t0 * (a1 + plane[r + 10 + below, i])
                + t1 * (a2 + a10)
                + t2 * (a3 + a9)
                + t3 * (a4 + a8)
                + t4 * (a5 + a7)
                + t5 * a6
            )
            out[r + below, i] = lower
            out[r, i] = (
                t0 * (plane[r, i] + a10)
                + t1 * (a1 + a9)
                + t2 * (a2 + a8)
                + t3 * (a3 + a7)
                + t4 * (a4 + a6)
                + t5 * a5
            )


@_compiled
def _filter_rows(plane: Plane, taps: Plane, out: Plane) -> None:
    """Filter along the rows: ``out[:, i]`` is centred at ``plane[:, i + 5]``."""
    t0, t1, t2, t3, t4, t5 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    for r in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[r, i] = (
                t0 * (plane[r, i] + plane[r, i + 10])
                + t1 * (plane[r, i + 1] + plane[r, i + 9])
                + t2 * (plane[r, i + 2] + plane[r, i + 8])
                + t3 * (plane[r, i + 3] + plane[r, i + 7])
                + t4 * (plane[r, i + 4] + plane[r, i + 6])
                + t5 * plane[r, i + 5]
            )


def _scratch(moments: int, columns: int, dtype: DTypeLike) -> tuple[Plane, Plane, Plane]:
    """Return room for a band of frames, filtered down the columns, and filtered both ways."""
    return (
        np.empty((moments, _BAND + 2 * RADIUS, columns), dtype),
        np.empty((_BAND, columns), dtype),
        np.empty((moments, _BAND, columns - 2 * RADIUS), dtype),
    )


def ssim_components(
    x: Plane,
    y: Plane,
    taps: Plane,
    c1: np.float32,
    c2: np.float32,
    middle: np.float32,
    luminance: Plane,
    contrast_structure: Plane,
) -> None:
    """Fill the luminance and contrast-structure maps of two frames.

    Works on the sum and the difference of the frames instead of the frames: their windowed
    moments give both terms, one moment less is filtered, and the variance of the difference
    keeps its precision where the frames nearly agree.

    Parameters
    ----------
    x, y : array of shape (rows, columns), uint8, uint16 or float32
        Luma frames.
    taps : float32 array of shape (6,)
        From :func:`gaussian_taps`.
    c1, c2 : float32
        Stabilising constants, squared luma units.
    middle : float32
        Half of the luma range, taken off before squaring for precision.
    luminance, contrast_structure : float32 array of shape (rows - 10, columns - 10)
        Results, for windows that lie inside the frame.
    """
    scratch = _scratch(4, x.shape[1], np.float32)
    _ssim_components(x, y, taps, c1, c2, middle, *scratch, luminance, contrast_structure)


@_compiled
def _ssim_components(
    x: Plane,
    y: Plane,
    taps: Plane,
    c1: np.float32,
    c2: np.float32,
    middle: np.float32,
    raw: Plane,
    down: Plane,
    moments: Plane,
    luminance: Plane,
    contrast_structure: Plane,
) -> None:
    columns = x.shape[1]
    out_rows, out_columns = luminance.shape
    half = np.float32(0.5)
    offset = middle + middle
    for top in range(0, out_rows, _BAND):
        height = min(_BAND, out_rows - top)
        for r in range(height + 2 * RADIUS):
            for i in range(columns):
                a = np.float32(x[top + r, i])
                b = np.float32(y[top + r, i])
                s = a + b - offset
                d = a - b
                raw[0, r, i] = s
                raw[1, r, i] = d
                raw[2, r, i] = s * s
                raw[3, r, i] = d * d
        for k in range(4):
            _filter_columns(raw[k], taps, down[:height])
            _filter_rows(down, taps, moments[k, :height])
        for r in range(height):
            for i in range(out_columns):
                s = moments[0, r, i]
                d = moments[1, r, i]
                d2 = d * d
                var_s = moments[2, r, i] - s * s
                var_d = moments[3, r, i] - d2
                s2 = (s + offset) * (s + offset)
                luminance[top + r, i] = (half * (s2 - d2) + c1) / (half * (s2 + d2) + c1)
                contrast_structure[top + r, i] = (half * (var_s - var_d) + c2) / (
                    half * (var_s + var_d) + c2
                )


def contrast_and_structure(
    x: Plane,
    y: Plane,
    taps: Plane,
    c2: float | np.float32,
    middle: float | np.float32,
    contrast: Plane,
    structure: Plane,
) -> None:
    """Fill the contrast map and the structure map of two frames, with C3 = C2/2.

    As :func:`ssim_components`, with the covariance of sum and difference as one moment more:
    16 var(x) var(y) is the difference of the squares of (var(s) + var(d)) and 2 cov(s, d). In
    doubles: where one frame is flat, the root of the product would turn what singles lose into
    hundreds of times as much.

    Parameters
    ----------
    x, y : array of shape (rows, columns), uint8, uint16 or float32
        Luma frames.
    taps : float64 array of shape (6,)
        From :func:`gaussian_taps`, normalised again.
    c2 : float
        Stabilising constant, squared luma units.
    middle : float
        Half of the luma range, taken off before squaring for precision.
    contrast, structure : float32 array of shape (rows - 10, columns - 10)
        Results, for windows that lie inside the frame.
    """
    scratch = _scratch(5, x.shape[1], np.float64)
    _contrast_and_structure(x, y, taps, c2, middle, *scratch, contrast, structure)


@_compiled
def _contrast_and_structure(
    x: Plane,
    y: Plane,
    taps: Plane,
    c2: float,
    middle: float,
    raw: Plane,
    down: Plane,
    moments: Plane,
    contrast: Plane,
    structure: Plane,
) -> None:
    columns = x.shape[1]
    out_rows, out_columns = contrast.shape
    offset = middle + middle
    c3 = c2 / 2
    for top in range(0, out_rows, _BAND):
        height = min(_BAND, out_rows - top)
        for r in range(height + 2 * RADIUS):
            for i in range(columns):
                a = np.float64(x[top + r, i])
                b = np.float64(y[top + r, i])
                s = a + b - offset
                d = a - b
                raw[0, r, i] = s
                raw[1, r, i] = d
                raw[2, r, i] = s * s
                raw[3, r, i] = d * d
                raw[4, r, i] = s * d
        for k in range(5):
            _filter_columns(raw[k], taps, down[:height])
            _filter_rows(down, taps, moments[k, :height])
        for r in range(height):
            for i in range(out_columns):
                s = moments[0, r, i]
                d = moments[1, r, i]
                var_s = moments[2, r, i] - s * s
                var_d = moments[3, r, i] - d * d
                cov = moments[4, r, i] - s * d
                total = var_s + var_d
                # In two factors, which lose less than the difference of squares.
                square = max((total - cov - cov) * (total + cov + cov), 0.0)
                deviations = np.sqrt(square) / 4
                contrast[top + r, i] = (deviations + deviations + c2) / (total / 2 + c2)
                structure[top + r, i] = ((var_s - var_d) / 4 + c3) / (deviations + c3)


@_compiled
def _mirror(index: int, size: int) -> int:
    while index < 0 or index >= size:
        index = -index - 1 if index < 0 else 2 * size - 1 - index
    return index


@_compiled
def _spread(taps: Plane, samples: int, weights: Plane) -> None:
    """Fill the summed weights that ``samples`` neighbouring windows give to what they cover."""
    weights[:] = 0
    for first in range(samples):
        for k in range(2 * RADIUS + 1):
            weights[first + k] += taps[min(k, 2 * RADIUS - k)]


@_compiled
def _copy_mirrored(x: Plane, top: int, middle: np.float32, band: Plane) -> None:
    """Copy rows of ``x`` from ``top - 5`` on, with five mirrored samples on either side."""
    rows, columns = x.shape
    for r in range(band.shape[0]):
        source = _mirror(top + r - RADIUS, rows)
        for i in range(columns):
            band[r, i + RADIUS] = np.float32(x[source, i]) - middle
        for k in range(1, RADIUS + 1):
            band[r, RADIUS - k] = np.float32(x[source, _mirror(-k, columns)]) - middle
            band[r, RADIUS + columns - 1 + k] = (
                np.float32(x[source, _mirror(columns - 1 + k, columns)]) - middle
            )


def block_moments(x: Plane, taps: Plane, middle: np.float32, mean: Plane, variance: Plane) -> None:
    """Fill the mean and the mean Gaussian-window variance of every macroblock.

    Only the squares of the windows' means need the filter at every sample: the windows' second
    moments are summed over a macroblock, so their weights can be summed beforehand.

    Parameters
    ----------
    x : array of shape (rows, columns), uint8, uint16 or float32
        Luma frame; windows that reach over its border see it mirrored.
    taps : float32 array of shape (6,)
        From :func:`gaussian_taps`.
    middle : float32
        Half of the luma range, taken off before squaring for precision.
    mean, variance : float32 array of shape (ceil(rows / 16), ceil(columns / 16))
        Results; a macroblock that reaches over the border counts only its samples inside.
    """
    columns = x.shape[1]
    padded = (columns + 2 * RADIUS + 15) // 16 * 16
    _block_moments(
        x,
        taps,
        middle,
        np.zeros((BLOCK + 2 * RADIUS, padded), np.float32),
        np.empty((BLOCK, padded), np.float32),
        np.empty((BLOCK, columns), np.float32),
        np.empty((2, columns), np.float32),
        np.empty(padded, np.float32),
        np.empty(BLOCK + 2 * RADIUS, np.float32),
        mean,
        variance,
    )


@_compiled
def _block_moments(
    x: Plane,
    taps: Plane,
    middle: np.float32,
    band: Plane,
    down: Plane,
    means: Plane,
    sums: Plane,
    squares: Plane,
    weights: Plane,
    mean: Plane,
    variance: Plane,
) -> None:
    rows, columns = x.shape
    padded = band.shape[1]
    for block_row in range(mean.shape[0]):
        top = block_row * BLOCK
        height = min(BLOCK, rows - top)
        _copy_mirrored(x, top, middle, band[: height + 2 * RADIUS])
        _filter_columns(band, taps, down[:height])
        _filter_rows(down, taps, means[:height])
        sums[:] = 0
        for r in range(height):
            for i in range(columns):
                sums[0, i] += means[r, i]
                sums[1, i] += means[r, i] * means[r, i]
        squares[:] = 0
        _spread(taps, height, weights)
        for r in range(height + 2 * RADIUS):
            weight = weights[r]
            for i in range(padded):
                squares[i] += weight * (band[r, i] * band[r, i])
        for block in range(mean.shape[1]):
            left = block * BLOCK
            width = min(BLOCK, columns - left)
            if block == 0 or width < BLOCK:
                _spread(taps, width, weights)
            first = np.float32(0)
            second = np.float32(0)
            for i in range(left, left + width):
                first += sums[0, i]
                second -= sums[1, i]
            for k in range(width + 2 * RADIUS):
                second += weights[k] * squares[left + k]
            samples = np.float32(width * height)
            mean[block_row, block] = first / samples + middle
            variance[block_row, block] = max(second / samples, np.float32(0))


def clipped_shares(x: Plane, peak: int) -> Plane:
    """Return the share of every macroblock's samples that are at either end of the luma range.

    Parameters
    ----------
    x : array of shape (rows, columns), uint8 or uint16
        Luma frame.
    peak : int
        Largest luma.

    Returns
    -------
    float32 array of shape (ceil(rows / 16), ceil(columns / 16))
        A macroblock that reaches over the border counts only its samples inside.
    """
    shares = np.empty(block_grid(x.shape), np.float32)
    _clipped_shares(np.ascontiguousarray(x), peak, np.empty(x.shape[1], np.uint8), shares)
    return shares


@_compiled
def _clipped_shares(x: Plane, peak: int, counts: Plane, shares: Plane) -> None:
    rows, columns = x.shape
    for block_row in range(shares.shape[0]):
        top = block_row * BLOCK
        height = min(BLOCK, rows - top)
        counts[:] = 0
        for r in range(top, top + height):
            for i in range(columns):
                counts[i] += np.uint8((x[r, i] == 0) | (x[r, i] == peak))
        for block in range(shares.shape[1]):
            left = block * BLOCK
            width = min(BLOCK, columns - left)
            clipped = 0
            for i in range(left, left + width):
                clipped += counts[i]
            shares[block_row, block] = np.float32(clipped) / (height * width)


def _fit(
    function: Callable[[Plane], Plane], low: float, high: float, degree: int
) -> tuple[np.float32, ...]:
    """Return the coefficients, highest first, of a near-minimax polynomial."""
    nodes = np.cos(np.pi * (np.arange(4 * degree) + 0.5) / (4 * degree))
    x = (low + high) / 2 + (high - low) / 2 * nodes
    return tuple(np.float32(c) for c in np.polyfit(x, function(x), degree))


_LOG2 = _fit(lambda x: np.log2(1 + x) / x, -(1 - 0.5**0.5), 2**0.5 - 1, 8)
_EXP2 = _fit(np.exp2, -0.5, 0.5, 6)


@_inlined
def log2(x: np.float32) -> Any:
    """Return the binary logarithm of a positive number to 1e-6, in a form that vectorises."""
    bits = np.float32(x).view(np.int32)
    scale = np.int32((bits - np.int32(0x3F3504F3)) >> 23)
    m = np.int32(bits - (scale << 23)).view(np.float32) - np.float32(1)
    p = _LOG2[0]
    for k in _LOG2[1:]:
        p = p * m + k
    return np.float32(scale) + m * p


@_inlined
def _power(x: np.float32, exponent: np.float32) -> Any:
    """Return ``x ** exponent`` for positive ``x`` to 1e-6, in a form that vectorises."""
    t = exponent * log2(x)
    t = max(t, np.float32(-126))
    whole = np.floor(t + np.float32(0.5))
    f = t - whole
    q = _EXP2[0]
    for k in _EXP2[1:]:
        q = q * f + k
    return q * np.int32((np.int32(whole) + 127) << 23).view(np.float32)


@_compiled
def ssim_mean(luminance: Plane, contrast_structure: Plane) -> float:
    """Return the mean of SSIM over two component maps of one shape, summed in doubles."""
    total = np.float64(0)
    for r in range(luminance.shape[0]):
        for i in range(luminance.shape[1]):
            total += np.float64(luminance[r, i] * contrast_structure[r, i])
    return total / luminance.size


@_compiled
def weighted_mean(
    luminance: Plane, contrast_structure: Plane, alpha: np.float32, beta: np.float32
) -> float:
    """Return the mean of weighted SSIM over two component maps, summed in doubles.

    Parameters
    ----------
    luminance, contrast_structure : float32 array of the same shape
        From :func:`ssim_components`.
    alpha, beta : float32
        Exponents of the luminance and of the contrast-structure term; a negative term keeps its
        sign.
    """
    total = np.float64(0)
    for r in range(luminance.shape[0]):
        for i in range(luminance.shape[1]):
            lum, con = luminance[r, i], contrast_structure[r, i]
            magnitude = _power(abs(lum), alpha) * _power(abs(con), beta)
            total += np.float64(magnitude if (lum > 0) == (con > 0) else -magnitude)
    return total / luminance.size


@_compiled
def mean_squared_error(x: Plane, y: Plane) -> float:
    """Return the mean squared difference of two frames of one shape, summed in doubles."""
    total = np.float64(0)
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            difference = np.float64(x[r, i]) - np.float64(y[r, i])
            total += difference * difference
    return total / x.size


@_compiled
def largest_error(x: Plane, y: Plane) -> float:
    """Return the largest magnitude of the difference of two frames of one shape."""
    largest = np.float64(0)
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            largest = max(largest, abs(np.float64(x[r, i]) - np.float64(y[r, i])))
    return largest
