"""Windows that stop at edges: the objective ``edge`` and the index of edge-preserving SSIM.

In a Gaussian window a sample counts the less the more it differs from the window's centre, as in
the bilateral filter. The weight of a difference d is ``1 / (1 + (d / d₀)²)²``: near the centre a
Gaussian's, with a longer tail, as an edge hides some errors after all.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ssimrdo.metrics.kernels import Plane, _compiled, _inlined

REACH: Final = 140.0
"""d₀ in grey levels of 255: the difference at which a sample counts a quarter."""


@_inlined
def _weight(d: np.float32, tap: np.float32, steepness: np.float32) -> Any:
    likeness = np.float32(1) / (np.float32(1) + d * d * steepness)
    return tap * likeness * likeness


def block_moments(
    phases: Plane,
    taps: Plane,
    reach: float,
    mean: Plane,
    variance: Plane,
) -> None:
    """Fill mean and variance of the windows of every macroblock, weighed by likeness.

    Parameters
    ----------
    phases : float32 array of shape (4, rows, columns)
        The mirrored frame with every fourth column in a plane of its own.
    taps : float32 array of shape (11,)
        Gaussian.
    reach : float
        See :data:`REACH`, in luma units.
    mean, variance : float32 array of shape (macroblock rows, macroblock columns)
        Results.
    """
    sums = np.empty((3, 4 * mean.shape[1]), np.float32)
    _block_moments(phases, taps, reach, sums, mean, variance)


@_compiled
def _block_moments(
    phases: Plane, taps: Plane, reach: float, sums: Plane, mean: Plane, variance: Plane
) -> None:
    side = taps.size
    radius = side // 2
    per_block = 16 // 4
    count = mean.shape[1] * per_block
    steepness = np.float32(1 / (reach * reach))
    weight_sums, first, second = sums[0], sums[1], sums[2]
    mean[:] = 0
    variance[:] = 0
    for line in range(mean.shape[0] * per_block):
        y = 4 * line + 2 + radius
        at = 2 + radius
        centre = phases[at % 4, y, at // 4 : at // 4 + count]
        weight_sums[:] = 0
        first[:] = 0
        second[:] = 0
        for i in range(side):
            for j in range(side):
                tap = taps[i] * taps[j]
                x = 2 + j
                other = phases[x % 4, y - radius + i, x // 4 : x // 4 + count]
                for k in range(count):
                    d = other[k] - centre[k]
                    w = _weight(d, tap, steepness)
                    weight_sums[k] += w
                    first[k] += w * d
                    second[k] += w * d * d
        block_row = line // per_block
        for k in range(count):
            m = first[k] / weight_sums[k]
            mean[block_row, k // per_block] += centre[k] + m
            variance[block_row, k // per_block] += second[k] / weight_sums[k] - m * m
    share = np.float32(1 / (per_block * per_block))
    mean *= share
    variance *= share


@_compiled
def ssim_map(
    x: Plane,
    y: Plane,
    taps: Plane,
    reach: float,
    c1: np.float32,
    c2: np.float32,
    out: Plane,
) -> None:
    """Fill SSIM of two frames in windows that stop at the edges of the first.

    As in :func:`ssimrdo.metrics.kernels.ssim_components`, the moments are those of the sum and the
    difference of the frames.

    Parameters
    ----------
    x, y : float32 array of shape (rows, columns)
        Reference, which gives the weights, and what is compared with it.
    taps : float32 array of shape (11,)
        Gaussian.
    reach : float
        See :data:`REACH`, in luma units.
    c1, c2 : float32
        Stabilising constants, squared luma units.
    out : float32 array of shape (rows - 10, columns - 10)
        Results, for windows that lie inside the frame.
    """
    side = taps.size
    radius = side // 2
    rows, columns = out.shape
    half = np.float32(0.5)
    steepness = np.float32(1 / (reach * reach))
    errors = y - x
    sums = np.empty((5, columns), np.float32)
    for r in range(rows):
        centre = x[r + radius, radius : radius + columns]
        sums[:] = 0
        for i in range(side):
            for j in range(side):
                tap = taps[i] * taps[j]
                other = x[r + i, j : j + columns]
                error = errors[r + i, j : j + columns]
                for k in range(columns):
                    d = other[k] - centre[k]
                    w = _weight(d, tap, steepness)
                    e = error[k]
                    s = d + d + e
                    sums[0, k] += w
                    sums[1, k] += w * s
                    sums[2, k] += w * e
                    sums[3, k] += w * (s * s)
                    sums[4, k] += w * (e * e)
        for k in range(columns):
            share = np.float32(1) / sums[0, k]
            s = sums[1, k] * share
            e = sums[2, k] * share
            var_s = sums[3, k] * share - s * s
            var_e = sums[4, k] * share - e * e
            s += centre[k] + centre[k]
            s2, e2 = s * s, e * e
            luminance = (half * (s2 - e2) + c1) / (half * (s2 + e2) + c1)
            out[r, k] = luminance * (half * (var_s - var_e) + c2) / (half * (var_s + var_e) + c2)
