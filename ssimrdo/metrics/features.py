"""FSIM: how alike two frames are where they have features, by phase congruency.

References
----------
.. [1] L. Zhang, L. Zhang, X. Mou and D. Zhang, "FSIM: a feature similarity index for image quality
   assessment", IEEE Trans. Image Process. 20(8), 2011.
.. [2] P. Kovesi, "Image features from phase congruency", Videre 1(3), 1999.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import float_frame, float_pair
from ssimrdo.metrics.kernels import Plane, _compiled
from ssimrdo.metrics.registry import FramePair, QualityIndex, register
from ssimrdo.metrics.resampling import block_means, spread

CONGRUENCY_STABILIZER: Final = 0.85
"""T1 of the paper."""

GRADIENT_STABILIZER: Final = 160.0
"""T2 of the paper, in squared grey levels of 255."""

VIEWED_SIDE: Final = 256
"""Samples that the shorter side is brought down to, by a whole factor."""

_SCALES: Final = 4
_ORIENTATIONS: Final = 4
_SHORTEST: Final = 6.0
"""Wavelength of the finest filters in samples; each scale's is twice that of the one before."""

_BANDWIDTH: Final = 0.55
"""Deviation of the logarithm of a filter's frequencies, as a quotient."""

_SPREAD: Final = math.pi / _ORIENTATIONS / 1.2
"""Deviation of a filter's directions in radians."""

_NOISE_DEVIATIONS: Final = 2.0
"""Deviations of the noise's energy above its mean that are taken off."""

_NOISE_RESCALING: Final = 1.7
_SMALLEST_SIDE: Final = 8
_EPSILON: Final = 1e-4
"""Added to amplitudes that are divided by, in grey levels."""


@dataclass(frozen=True)
class _Filters:
    """Log-Gabor filters of a shape, in the frequency domain.

    Parameters
    ----------
    transfer : ndarray of shape (orientations, scales, rows, columns), float32
        Transfer functions.
    noise : tuple of float
        By orientation, the energy of noise that is taken off, over the median amplitude of the
        finest scale.
    """

    transfer: NDArray[np.float32]
    noise: tuple[float, ...]


@_compiled
def _add_energy(responses: Plane, threshold: np.float32, energy: Plane, amplitude: Plane) -> None:
    """Add energy and amplitude of the responses of one orientation.

    Parameters
    ----------
    responses : float32 array of shape (scales, rows, columns, 2)
        Even and odd part.
    threshold : float32
        Energy of noise.
    energy, amplitude : float32 array of shape (rows, columns)
        Sums.
    """
    tiny = np.float32(1e-12)
    for r in range(energy.shape[0]):
        for i in range(energy.shape[1]):
            even, odd, size = np.float32(0), np.float32(0), np.float32(0)
            for s in range(responses.shape[0]):
                a, b = responses[s, r, i, 0], responses[s, r, i, 1]
                even += a
                odd += b
                size += np.sqrt(a * a + b * b)
            length = np.float32(1) / (np.sqrt(even * even + odd * odd) + tiny)
            even, odd = even * length, odd * length
            found = np.float32(0)
            for s in range(responses.shape[0]):
                a, b = responses[s, r, i, 0], responses[s, r, i, 1]
                found += a * even + b * odd - abs(a * odd - b * even)
            energy[r, i] += max(found - threshold, np.float32(0))
            amplitude[r, i] += size


@_compiled
def _similarity(
    x: Plane, y: Plane, of_x: Plane, of_y: Plane, t1: np.float32, t2: np.float32, out: Plane
) -> tuple[float, float]:
    """Return the sum of similarities by weight, and the sum of weights; fill in similarities.

    Parameters
    ----------
    x, y : float32 array of shape (rows + 2, columns + 2)
        Frames with a border of zeros.
    of_x, of_y : float32 array of shape (rows, columns)
        Their phase congruencies.
    t1, t2 : float32
        Constants of congruency and gradient.
    out : float32 array of shape (rows, columns)
        Result.
    """
    side, middle = np.float32(3 / 16), np.float32(10 / 16)
    total, weights = np.float64(0), np.float64(0)
    for r in range(out.shape[0]):
        of_row, weights_of_row = np.float32(0), np.float32(0)
        for i in range(out.shape[1]):
            across = side * ((x[r, i + 2] - x[r, i]) + (x[r + 2, i + 2] - x[r + 2, i])) + middle * (
                x[r + 1, i + 2] - x[r + 1, i]
            )
            down = side * ((x[r + 2, i] - x[r, i]) + (x[r + 2, i + 2] - x[r, i + 2])) + middle * (
                x[r + 2, i + 1] - x[r, i + 1]
            )
            first = across * across + down * down
            across = side * ((y[r, i + 2] - y[r, i]) + (y[r + 2, i + 2] - y[r + 2, i])) + middle * (
                y[r + 1, i + 2] - y[r + 1, i]
            )
            down = side * ((y[r + 2, i] - y[r, i]) + (y[r + 2, i + 2] - y[r, i + 2])) + middle * (
                y[r + 2, i + 1] - y[r, i + 1]
            )
            second = across * across + down * down
            both = np.sqrt(first * second)
            gradient = (both + both + t2) / (first + second + t2)
            a, b = of_x[r, i], of_y[r, i]
            congruency = (a * b + a * b + t1) / (a * a + b * b + t1)
            similarity = gradient * congruency
            weight = max(a, b)
            out[r, i] = similarity
            of_row += similarity * weight
            weights_of_row += weight
        total += np.float64(of_row)
        weights += np.float64(weights_of_row)
    return total, weights


def phase_congruency(x: NDArray[Any], *, data_range: float = 255) -> NDArray[np.float32]:
    """Return how far the phases of a frame's frequencies agree at every sample [2]_.

    Kovesi's measure with the parameters of FSIM: log-Gabor filters of four scales, wavelengths 6 to
    48 samples, and four orientations; energy above that of noise, which the median amplitude of the
    finest filters tells, over the amplitudes' sum. The frame is taken to be periodic.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Frame from 0 to L, of at least 8x8 samples.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    ndarray of shape (rows, columns), float32
        From 0, where there are no features, to 1.

    Raises
    ------
    ValueError
        If the frame is not two-dimensional, is smaller, or has NaN or infinities.
    """
    title = "phase congruency"
    return _phase_congruency(
        float_frame(x, title=title, side=_SMALLEST_SIDE, data_range=data_range)
    )


def fsim(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the feature similarity index of two frames [1]_.

    ``Σ S_P S_G P / Σ P`` with the similarities ``(2 a b + T) / (a² + b² + T)`` of phase
    congruencies (S_P, T1 = 0.85) and of magnitudes of Scharr's gradient (S_G, T2 = 160), where P is
    the larger phase congruency. Before that, frames are averaged over blocks so that the shorter
    side has about 256 samples; blocks that are not whole do not count. Symmetric in the frames.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L of at least 8x8 samples.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    float
        Above 0, and 1 for equal frames. 1 too where neither frame has a feature, as constant frames
        have none.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than 8x8, or have NaN or
        infinities.
    """
    return _compare(x, y, data_range)[0]


def fsim_map(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> NDArray[np.float32]:
    """Return the similarity S_P S_G of two frames, without the weights of :func:`fsim`.

    Parameters
    ----------
    x, y, data_range
        As for :func:`fsim`.

    Returns
    -------
    ndarray of shape (rows, columns), float32
        Every value stands for a block of samples, 2x2 in frames of 512x512.

    Raises
    ------
    ValueError
        As :func:`fsim`.
    """
    return spread(_compare(x, y, data_range)[1], x.shape, _factor(x.shape))


def _factor(shape: tuple[int, ...]) -> int:
    return max(1, math.floor(min(shape) / VIEWED_SIDE + 0.5))


def _compare(
    x: NDArray[Any], y: NDArray[Any], data_range: float
) -> tuple[float, NDArray[np.float32]]:
    x, y = float_pair(x, y, title="FSIM", side=_SMALLEST_SIDE, data_range=data_range)
    x, y = (block_means(frame, _factor(frame.shape)) for frame in (x, y))
    similarity = np.empty(x.shape, np.float32)
    total, weights = _similarity(
        np.pad(x, 1),
        np.pad(y, 1),
        _phase_congruency(x),
        _phase_congruency(y),
        np.float32(CONGRUENCY_STABILIZER),
        np.float32(GRADIENT_STABILIZER),
        similarity,
    )
    return (float(total / weights) if weights > 0 else 1.0), similarity


def _phase_congruency(x: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy import fft

    filters = _filters(x.shape)
    # No filter passes the mean; without it flat frames are exactly 0.
    spectrum = fft.fft2(x - x.mean(dtype=np.float64).astype(np.float32))
    energy, amplitude = np.zeros(x.shape, np.float32), np.zeros(x.shape, np.float32)
    for transfer, noise in zip(filters.transfer, filters.noise, strict=True):
        response = fft.ifft2(transfer * spectrum, overwrite_x=True).view(np.float32)
        response = response.reshape(*transfer.shape, 2)
        finest = response[0, ..., 0] ** 2 + response[0, ..., 1] ** 2
        middle = finest.size // 2
        threshold = noise * math.sqrt(float(np.partition(finest, middle, axis=None)[middle]))
        _add_energy(response, np.float32(threshold), energy, amplitude)
    return energy / (amplitude + np.float32(_EPSILON))


@lru_cache(maxsize=2)
def _filters(shape: tuple[int, int]) -> _Filters:
    # As in Kovesi's program, an odd side has its outermost frequencies at half the sampling rate.
    axes = [np.arange(-(side // 2), (side + 1) // 2) / (side - side % 2) for side in shape]
    down, across = np.meshgrid(*axes, indexing="ij")
    down, across = np.fft.ifftshift(down), np.fft.ifftshift(across)
    radius, angle = np.hypot(down, across), np.arctan2(-down, across)
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1
    lengths = [_SHORTEST * 2**scale for scale in range(_SCALES)]
    width = 2 * math.log(_BANDWIDTH) ** 2
    bands = [low_pass * np.exp(-(np.log(radius * length) ** 2) / width) for length in lengths]
    for band in bands:
        band[0, 0] = 0
    transfer = np.empty((_ORIENTATIONS, _SCALES, *shape))
    for orientation, of_scales in enumerate(transfer):
        away = angle - orientation * math.pi / _ORIENTATIONS
        distance = np.abs(np.arctan2(np.sin(away), np.cos(away)))
        of_scales[:] = np.exp(-(distance**2) / (2 * _SPREAD**2)) * np.stack(bands)
    return _Filters(transfer.astype(np.float32), tuple(map(_noise_factor, transfer)))


def _noise_factor(transfer: NDArray[np.float64]) -> float:
    """Return the threshold of noise over the median amplitude of the finest scale's response."""
    impulses = np.fft.ifft2(transfer).real * math.sqrt(transfer[0].size)
    # The energy of the sum of all scales, Σ a² + 2 Σ a b.
    energy = 2 * float((impulses.sum(axis=0) ** 2).sum())
    finest = float((transfer[0] ** 2).sum())
    tau = math.sqrt(energy / 2 / (math.log(2) * finest))
    mean, deviation = math.sqrt(math.pi / 2), math.sqrt(2 - math.pi / 2)
    return tau * (mean + _NOISE_DEVIATIONS * deviation) / _NOISE_RESCALING


def _value(pair: FramePair) -> float:
    return fsim(pair.source, pair.shown, data_range=pair.format.peak)


def _map(pair: FramePair) -> NDArray[np.float32]:
    return fsim_map(pair.source, pair.shown, data_range=pair.format.peak)


FSIM = register(QualityIndex("fsim", "FSIM", _value, _map, special=True))
