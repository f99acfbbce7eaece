"""IW-SSIM: multi-scale SSIM in which a place counts by the information that it holds.

References
----------
.. [1] Z. Wang and Q. Li, "Information content weighting for perceptual image quality assessment",
   IEEE Trans. Image Process. 20(5), 2011.
.. [2] P. J. Burt and E. H. Adelson, "The Laplacian pyramid as a compact image code", IEEE Trans.
   Commun. 31(4), 1983.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.components import WINDOW, stabilizers
from ssimrdo.metrics.inputs import LUMA_RANGE, float_pair
from ssimrdo.metrics.kernels import RADIUS, Plane, _compiled, log2
from ssimrdo.metrics.multiscale import SCALE_WEIGHTS, scale_count
from ssimrdo.metrics.registry import FramePair, QualityIndex, register

NOISE: Final = 0.4
"""σ²: variance of the noise of perception [1]_, in squared grey levels of 255."""

_FLAT: Final = 1e-12
"""Variance of a neighbourhood below which it is flat, in squared grey levels."""

_GAIN = 2**0.5 / 16


@_compiled
def _reduce(padded: Plane, out: Plane) -> None:
    """Blur a frame that has two more samples on every side, and keep every second sample."""
    rows, columns = out.shape
    across = np.empty((padded.shape[0], columns), np.float64)
    for r in range(padded.shape[0]):
        for i in range(columns):
            across[r, i] = _GAIN * (
                (padded[r, 2 * i] + padded[r, 2 * i + 4])
                + 4 * (padded[r, 2 * i + 1] + padded[r, 2 * i + 3])
                + 6 * padded[r, 2 * i + 2]
            )
    for r in range(rows):
        for i in range(columns):
            out[r, i] = _GAIN * (
                (across[2 * r, i] + across[2 * r + 4, i])
                + 4 * (across[2 * r + 1, i] + across[2 * r + 3, i])
                + 6 * across[2 * r + 2, i]
            )


@_compiled
def _band(x: Plane, padded: Plane, out: Plane) -> None:
    """Fill in what a frame has beyond its reduced copy, which has one more sample on every side."""
    rows, columns = x.shape
    across = np.empty((padded.shape[0], columns), np.float64)
    for r in range(padded.shape[0]):
        for i in range(columns):
            k = i // 2 + 1
            if i % 2:
                across[r, i] = 4 * _GAIN * (padded[r, k] + padded[r, k + 1])
            else:
                across[r, i] = _GAIN * (padded[r, k - 1] + 6 * padded[r, k] + padded[r, k + 1])
    for r in range(rows):
        k = r // 2 + 1
        for i in range(columns):
            if r % 2:
                blurred = 4 * _GAIN * (across[k, i] + across[k + 1, i])
            else:
                blurred = _GAIN * (across[k - 1, i] + 6 * across[k, i] + across[k + 1, i])
            out[r, i] = np.float32(x[r, i] - blurred)


@_compiled
def _enlarge(x: Plane, lower: Plane, share: Plane, out: Plane) -> None:
    """Interpolate in a band between the samples that are given for rows and for columns."""
    for r in range(out.shape[0]):
        below, of_row = lower[0, r], share[0, r]
        for i in range(out.shape[1]):
            left, of_column = lower[1, i], share[1, i]
            upper = x[below, left] + of_column * (x[below, left + 1] - x[below, left])
            under = x[below + 1, left] + of_column * (x[below + 1, left + 1] - x[below + 1, left])
            out[r, i] = upper + of_row * (under - upper)


@_compiled
def _scatter(x: Plane, parent: Plane, out: Plane) -> None:
    """Fill the mean products of neighbours, 3x3 and the parent if ``out`` has room for it."""
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    size = out.shape[0]
    out[:] = 0
    for r in range(rows):
        for a in range(size):
            first = x[r + a // 3, a % 3 : a % 3 + columns] if a < 9 else parent[r + 1, 1:-1]
            for b in range(a + 1):
                second = x[r + b // 3, b % 3 : b % 3 + columns] if b < 9 else parent[r + 1, 1:-1]
                total = np.float32(0)
                for i in range(columns):
                    total += first[i] * second[i]
                out[a, b] += np.float64(total)
    for a in range(size):
        for b in range(a + 1):
            out[a, b] /= rows * columns
            out[b, a] = out[a, b]


@_compiled
def _information(
    x: Plane,
    y: Plane,
    parent: Plane,
    whitening: Plane,
    variances: Plane,
    noise: np.float32,
    out: Plane,
) -> None:
    """Fill the information that both frames share with what is perceived of them, in bits.

    Parameters
    ----------
    x, y : float32 array of shape (rows, columns)
        Band of the reference and of the other frame.
    parent : float32 array of the same shape
        The reference's next coarser band, enlarged; not looked at if there are nine variances.
    whitening : float32 array of shape (neighbours, neighbours)
        Turns neighbours into independent components of variance 1.
    variances : float32 array of shape (neighbours,)
        Of the components.
    noise : float32
        See :data:`NOISE`.
    out : float32 array of shape (rows - 10, columns - 10)
        Result, of the neighbourhoods amid the windows of SSIM.
    """
    rows, columns = out.shape
    size = variances.size
    one, ninth = np.float32(1), np.float32(1 / 9)
    flat = np.float32(_FLAT)
    whole = one / (noise * noise)
    gains, innovations, energies, component, info = (
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
    )
    for r in range(rows):
        top = r + RADIUS - 1
        for i in range(columns):
            left = i + RADIUS - 1
            mx, my = np.float32(0), np.float32(0)
            for k in range(9):
                mx += x[top + k // 3, left + k % 3]
                my += y[top + k // 3, left + k % 3]
            mx *= ninth
            my *= ninth
            vx, vy, cov = np.float32(0), np.float32(0), np.float32(0)
            for k in range(9):
                a = x[top + k // 3, left + k % 3] - mx
                b = y[top + k // 3, left + k % 3] - my
                vx += a * a
                vy += b * b
                cov += a * b
            vx, vy, cov = vx * ninth, vy * ninth, cov * ninth
            known = (vx >= flat) & (vy >= flat)
            gain = cov / max(vx, flat)
            gains[i] = gain if known else np.float32(0)
            rest = max(vy - gain * cov, np.float32(0)) if known else vy
            innovations[i] = rest if vy >= flat else np.float32(0)
        energies[:] = 0
        for k in range(size):
            component[:] = 0
            for m in range(size):
                weight = whitening[k, m]
                if m < 9:
                    start = RADIUS - 1 + m % 3
                    line = x[top + m // 3, start : start + columns]
                else:
                    line = parent[top + 1, RADIUS : RADIUS + columns]
                for i in range(columns):
                    component[i] += weight * line[i]
            for i in range(columns):
                energies[i] += component[i] * component[i]
        info[:] = 0
        for i in range(columns):
            energies[i] *= (innovations[i] + (one + gains[i] * gains[i]) * noise) / size
        for k in range(size):
            variance = variances[k]
            for i in range(columns):
                info[i] += log2(one + (energies[i] * variance + noise * innovations[i]) * whole)
        for i in range(columns):
            out[r, i] = info[i]


@_compiled
def _weighted_mean(values: Plane, weights: Plane) -> float:
    total, weight = np.float64(0), np.float64(0)
    for r in range(values.shape[0]):
        for i in range(values.shape[1]):
            total += np.float64(values[r, i] * weights[r, i])
            weight += np.float64(weights[r, i])
    return total / weight if weight > 0 else values.mean()


def iw_ssim(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the information content weighted SSIM of two frames [1]_.

    Of every band of a Laplacian pyramid [2]_ the contrast-structure term is averaged, weighted with
    ``Σ_k log2(1 + ((σ_v² + (1 + g²) σ²) s² λ_k + σ² σ_v²) / σ⁴)``: the information that reference
    and frame share with what is perceived of them, where g and σ_v² are gain and rest in 3x3 of a
    regression of the frame on the reference, λ_k the eigenvalues of the covariance C_u of the
    reference's neighbours u (3x3, and the one at the next scale), s² = uᵀ C_u⁻¹ u / K, and σ² is
    :data:`NOISE`. The coarsest scale is a low-pass with plain SSIM and equal weights. The means of
    the scales are multiplied with the exponents of MS-SSIM. Where both frames are flat, such as in
    the background, the weight is 0.

    As in :func:`ssimrdo.metrics.ms_ssim`, frames whose shorter side is below 161 samples have fewer
    scales and are not comparable with larger ones, and a mean that is negative counts as 0. The
    index is not symmetric.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Reference, from 0 to L, of at least 11x11 samples.
    y : ndarray of the same shape
        What is compared with it.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    float
        From 0 to 1, and 1 for equal frames. A band without information, as of constant frames,
        counts with equal weights.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than a window, or have
        NaN or infinities.
    """
    x, y = float_pair(x, y, title="IW-SSIM", side=WINDOW, data_range=data_range)
    scales = scale_count(min(x.shape))
    first, second = _pyramid(x, scales), _pyramid(y, scales)
    weights = np.asarray(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    index = 1.0
    parents = [*pairwise(first[:-1]), (first[-2], None)] if scales > 1 else []
    for (band, parent), other, weight in zip(parents, second, weights, strict=False):
        structure = _band_components(band, other)[1]
        mean = _weighted_mean(structure, _weights(band, other, parent))
        index *= max(mean, 0.0) ** weight
    luminance, structure = _band_components(first[-1], second[-1])
    coarsest = max(float(kernels.ssim_mean(luminance, structure)), 0.0)
    return float(index * coarsest ** weights[-1])


def _pyramid(x: NDArray[np.float32], scales: int) -> list[NDArray[np.float32]]:
    """Return the bands from fine to coarse, and at last what is left; each scale gains 2."""
    bands = []
    # In doubles, so that flat areas stay flat.
    low = x.astype(np.float64)
    for _ in range(scales - 1):
        fine = low
        low = np.empty(((fine.shape[0] + 1) // 2, (fine.shape[1] + 1) // 2))
        _reduce(np.pad(fine, 2, mode="reflect"), low)
        band = np.empty(fine.shape, np.float32)
        # What follows the last sample is taken for the same; what precedes the first is mirrored.
        padded = np.pad(
            np.pad(low, ((1, 0), (1, 0)), mode="reflect"), ((0, 1), (0, 1)), mode="edge"
        )
        _band(fine, padded, band)
        bands.append(band)
    return [*bands, low.astype(np.float32)]


def _band_components(
    x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return luminance and contrast-structure of two bands, whose constants are the frame's."""
    c1, c2 = (np.float32(constant) for constant in stabilizers(LUMA_RANGE))
    shape = (x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1)
    luminance, structure = np.empty(shape, np.float32), np.empty(shape, np.float32)
    taps = kernels.gaussian_taps()
    kernels.ssim_components(x, y, taps, c1, c2, np.float32(0), luminance, structure)
    return luminance, structure


def _weights(
    x: NDArray[np.float32], y: NDArray[np.float32], coarser: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the information at every window of a band of the reference and the other frame."""
    parent = x if coarser is None else _enlarged(coarser, x.shape)
    size = 9 if coarser is None else 10
    scatter = np.empty((size, size))
    _scatter(x, parent, scatter)
    variances, vectors = np.linalg.eigh(scatter)
    total = variances.sum()
    variances = np.maximum(variances, 0)
    information = np.zeros((x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1), np.float32)
    if not variances.any():
        return information
    variances *= total / variances.sum()
    known = variances > 1e-12 * variances[-1]
    whitening = np.zeros((size, size))
    whitening[known] = vectors.T[known] / np.sqrt(variances[known])[:, None]
    _information(
        x,
        y,
        parent,
        whitening.astype(np.float32),
        variances.astype(np.float32),
        np.float32(NOISE),
        information,
    )
    return information


def _enlarged(x: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a band at about twice its size, as MATLAB's program of the authors interpolates."""
    lower = np.zeros((2, max(shape)), np.int64)
    share = np.zeros((2, max(shape)), np.float32)
    for axis, (small, large) in enumerate(zip(x.shape, shape, strict=True)):
        # Every second sample of four times as many less three.
        at = (2 * np.arange(large) - 0.5) * small / (4 * small - 3) - 0.5
        at = np.clip(at, 0, small - 1)
        lower[axis, :large] = np.minimum(at.astype(np.int64), small - 2)
        share[axis, :large] = at - lower[axis, :large]
    enlarged = np.empty(shape, np.float32)
    _enlarge(x, lower, share, enlarged)
    return enlarged


def _value(pair: FramePair) -> float:
    return iw_ssim(pair.source, pair.shown, data_range=pair.format.peak)


IW_SSIM = register(QualityIndex("iw_ssim", "IW-SSIM", _value, special=True))
