"""Numba kernels: functions of the windows of SSIM, and their gradients at every sample.

A loss is a mean over windows of f(l, c s) or f(l, c, s). Its gradient with respect to a sample of y
is a sum over the windows that the sample lies in. Each of these depends on the sample through its
moments alone, and gives ``g (p + q s + r d)``, with the Gaussian's weight g of the sample, the sum
s and the difference d of the frames there, and p, q and r of the window: three maps of the windows,
filtered once more, are the gradient. As in :mod:`ssimrdo.metrics.kernels`, moments are those of sum
and difference, which keep their precision where the frames nearly agree.

Everything is computed in the type of the taps, float32 or float64.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.kernels import (
    _BAND,
    RADIUS,
    _compiled,
    _filter_columns,
    _filter_rows,
)

PRODUCT: Final = 0
"""f = u v, with u = l^α and v = c^β s^γ."""

SUM: Final = 1
"""f = u + v."""

INVERSE: Final = 2
"""f = 1 / (u v), going on along its tangent below a floor."""

NEAR_ZERO: Final = 1e-4
"""Magnitude of a term below which a power whose slope has no bound there gives way to a cubic."""

FLAT: Final = 1e-8
"""What is added to variances where contrast and structure are apart, over C2."""

Plane = NDArray[Any]


@_compiled
def _powers(terms: Plane, exponent: float, powers: Plane, slopes: Plane) -> None:
    """Fill ``sign(t) |t|^e`` and its derivative; both are continuous and finite."""
    real = terms.dtype.type
    if exponent == 1:
        for i in range(terms.size):
            powers[i] = terms[i]
            slopes[i] = real(1)
        return
    if exponent == 0:
        # SSIM without one of its terms, not its sign.
        for i in range(terms.size):
            powers[i] = real(1)
            slopes[i] = real(0)
        return
    near = real(NEAR_ZERO) if exponent < 1 else real(0)
    linear = real(0)
    cubic = real(0)
    if exponent < 1:
        # Of the same value and slope where the power takes over.
        linear = real((3 - exponent) / 2 * NEAR_ZERO ** (exponent - 1))
        cubic = real((exponent - 1) / 2 * NEAR_ZERO ** (exponent - 3))
    for i in range(terms.size):
        t = terms[i]
        size = abs(t)
        if size < near:
            powers[i] = t * (linear + cubic * t * t)
            slopes[i] = linear + real(3) * cubic * t * t
        elif size == 0:
            powers[i] = real(0)
            slopes[i] = real(0)
        else:
            power = size ** real(exponent)
            powers[i] = power if t > 0 else -power
            slopes[i] = real(exponent) * power / size


@_compiled
def window_sum(
    x: Plane,
    y: Plane,
    taps: Plane,
    data_range: float,
    c1: float,
    c2: float,
    function: int,
    alpha: float,
    beta: float,
    gamma: float,
    floor: float,
    maps: Plane,
) -> float:
    """Return the sum of f over the windows inside two frames; fill the maps of its gradient.

    Parameters
    ----------
    x, y : array of shape (rows, columns), of the taps' type
        Frames.
    taps : array of shape (6,), float32 or float64
        Half of the window, outermost tap first.
    data_range, c1, c2 : float
        L, and the stabilising constants.
    function : int
        :data:`PRODUCT`, :data:`SUM` or :data:`INVERSE`.
    alpha, beta, gamma : float
        Exponents; where β = γ contrast and structure are one term.
    floor : float
        Of :data:`INVERSE`.
    maps : array of shape (3, rows + 10, columns + 10), of the taps' type
        Results p, q and r, in the middle of zeros ten wide, or of no size for the sum alone.
    """
    rows, columns = x.shape
    out_rows, out_columns = rows - 2 * RADIUS, columns - 2 * RADIUS
    real = taps.dtype.type
    half, two = real(0.5), real(2)
    offset = real(data_range)
    middle = real(data_range / 2)
    k1, k2, k3 = real(c1), real(c2), real(c2 / 2)
    flat = real(c2 * FLAT)
    base = real(floor)
    apart = beta != gamma
    wants = maps.size > 0
    count = 5 if apart else 4
    raw = np.empty((count, _BAND + 2 * RADIUS, columns), taps.dtype)
    down = np.empty((_BAND, columns), taps.dtype)
    moments = np.empty((count, _BAND, out_columns), taps.dtype)
    # Rows of terms, their derivatives, and powers of these.
    row = np.empty((16, out_columns), taps.dtype)
    lum, lum_s, lum_d, u, u_slope = row[0], row[1], row[2], row[3], row[4]
    first, first_power, first_slope = row[5], row[6], row[7]
    v_s, v_d, v_k = row[8], row[9], row[10]
    second, second_power, second_slope = row[11], row[12], row[13]
    root, denominator = row[14], row[15]
    total = np.float64(0)
    for top in range(0, out_rows, _BAND):
        height = min(_BAND, out_rows - top)
        for r in range(height + 2 * RADIUS):
            for i in range(columns):
                a = x[top + r, i] - middle
                b = y[top + r, i] - middle
                s = a + b
                d = a - b
                raw[0, r, i] = s
                raw[1, r, i] = d
                raw[2, r, i] = s * s
                raw[3, r, i] = d * d
                if apart:
                    raw[4, r, i] = s * d
        for k in range(count):
            _filter_columns(raw[k], taps, down[:height])
            _filter_rows(down, taps, moments[k, :height])
        for r in range(height):
            mean_s, mean_d = moments[0, r], moments[1, r]
            var_s, var_d = moments[2, r], moments[3, r]
            for i in range(out_columns):
                s = mean_s[i] + offset
                d = mean_d[i]
                below = half * (s * s + d * d) + k1
                lum[i] = (half * (s * s - d * d) + k1) / below
                # From the rest that is missing to 1, which has more digits than lum.
                lum_s[i] = s * (d * d / below) / below
                lum_d[i] = -d * (real(1) + lum[i]) / below
                var_s[i] -= mean_s[i] * mean_s[i]
                var_d[i] -= d * d
            _powers(lum, alpha, u, u_slope)
            if apart:
                for i in range(out_columns):
                    cov = moments[4, r, i] - mean_s[i] * mean_d[i]
                    moments[4, r, i] = cov
                    t = var_s[i] + var_d[i]
                    var_x = max(real(0.25) * (t + two * cov), real(0)) + flat
                    var_y = max(real(0.25) * (t - two * cov), real(0)) + flat
                    root[i] = math.sqrt(var_x * var_y)
                    denominator[i] = var_x + var_y + k2
                    first[i] = (two * root[i] + k2) / denominator[i]
                    second[i] = (real(0.25) * (var_s[i] - var_d[i]) + flat + k3) / (root[i] + k3)
                _powers(first, beta, first_power, first_slope)
                _powers(second, gamma, second_power, second_slope)
                for i in range(out_columns):
                    q = root[i]
                    q_t = (denominator[i] - k2) / (real(8) * q)
                    q_k = -moments[4, r, i] / (real(4) * q)
                    c_t = (two * q_t - half * first[i]) / denominator[i]
                    c_k = two * q_k / denominator[i]
                    below = q + k3
                    at = second[i] * q_t
                    by_c = first_slope[i] * second_power[i]
                    by_s = first_power[i] * second_slope[i]
                    v_s[i] = by_c * c_t + by_s * (real(0.25) - at) / below
                    v_d[i] = by_c * c_t - by_s * (real(0.25) + at) / below
                    v_k[i] = by_c * c_k - by_s * second[i] * q_k / below
                    first_power[i] *= second_power[i]
            else:
                for i in range(out_columns):
                    below = half * (var_s[i] + var_d[i]) + k2
                    first[i] = (half * (var_s[i] - var_d[i]) + k2) / below
                    v_s[i] = half * (var_d[i] / below) / below
                    v_d[i] = -half * (real(1) + first[i]) / below
                    v_k[i] = real(0)
                _powers(first, beta, first_power, first_slope)
                for i in range(out_columns):
                    v_s[i] *= first_slope[i]
                    v_d[i] *= first_slope[i]
            v = first_power
            if function == SUM:
                for i in range(out_columns):
                    total += np.float64(u[i] + v[i])
                    first[i] = real(1)
                    second[i] = real(1)
            else:
                for i in range(out_columns):
                    first[i] = v[i]
                    second[i] = u[i]
                if function == PRODUCT:
                    for i in range(out_columns):
                        total += np.float64(u[i] * v[i])
                else:
                    for i in range(out_columns):
                        value = u[i] * v[i]
                        bounded = max(value, base)
                        slope = -real(1) / (bounded * bounded)
                        total += np.float64(real(1) / bounded + slope * (value - bounded))
                        first[i] *= slope
                        second[i] *= slope
            if wants:
                at_row = top + r + 2 * RADIUS
                for i in range(out_columns):
                    f_u = first[i] * u_slope[i]
                    f_v = second[i]
                    by_s = two * f_v * v_s[i]
                    by_d = two * f_v * v_d[i]
                    by_k = f_v * v_k[i]
                    j = i + 2 * RADIUS
                    maps[0, at_row, j] = (
                        f_u * (lum_s[i] - lum_d[i])
                        - (by_s - by_k) * mean_s[i]
                        + (by_d - by_k) * mean_d[i]
                    )
                    maps[1, at_row, j] = by_s - by_k
                    maps[2, at_row, j] = by_k - by_d
    return total


@_compiled
def add_gradient(
    x: Plane, y: Plane, taps: Plane, data_range: float, maps: Plane, scale: float, out: Plane
) -> None:
    """Add the gradient with respect to ``y`` of what :func:`window_sum` has returned.

    Parameters
    ----------
    x, y, taps, data_range
        As there.
    maps : array of shape (3, rows + 10, columns + 10)
        From there.
    scale : float
        What the gradient is multiplied by.
    out : array of shape (rows, columns), of the taps' type
        What it is added to.
    """
    rows, columns = x.shape
    real = taps.dtype.type
    middle, factor = real(data_range / 2), real(scale)
    down = np.empty((_BAND, columns + 2 * RADIUS), taps.dtype)
    spread = np.empty((3, _BAND, columns), taps.dtype)
    for top in range(0, rows, _BAND):
        height = min(_BAND, rows - top)
        for k in range(3):
            _filter_columns(maps[k, top : top + height + 2 * RADIUS], taps, down[:height])
            _filter_rows(down[:height], taps, spread[k, :height])
        for r in range(height):
            for i in range(columns):
                a = x[top + r, i] - middle
                b = y[top + r, i] - middle
                out[top + r, i] += factor * (
                    spread[0, r, i] + spread[1, r, i] * (a + b) + spread[2, r, i] * (a - b)
                )
