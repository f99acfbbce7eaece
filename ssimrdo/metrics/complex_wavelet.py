"""CW-SSIM: structural similarity of the coefficients of a complex steerable pyramid.

References
----------
.. [1] M. P. Sampat, Z. Wang, S. Gupta, A. C. Bovik and M. K. Markey, "Complex wavelet structural
   similarity: a new image similarity index", IEEE Trans. Image Process. 18(11), 2009.
.. [2] J. Portilla and E. P. Simoncelli, "A parametric texture model based on joint statistics of
   complex wavelet coefficients", Int. J. Computer Vision 40(1), 2000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import check_pair
from ssimrdo.metrics.registry import FramePair, QualityIndex, register

LEVELS: Final = 4
"""Level whose bands are compared: with waves of 16 to 64 samples, 32 in the middle."""

ORIENTATIONS: Final = 8
"""Bands of a level."""

BOX: Final = 7
"""Side of the window in coefficients, all of which weigh the same."""

STABILIZER: Final = 0.01
"""K is the square of this times L."""


def cw_ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    levels: int = LEVELS,
    orientations: int = ORIENTATIONS,
    stabilizer: float = STABILIZER,
) -> float:
    """Return the complex-wavelet SSIM of two frames [1]_.

    ``(2 |Σ a b*| + K) / (Σ |a|² + Σ |b|² + K)`` in every window of a band, where a and b are the
    coefficients of the two frames and Σ is the mean of 7x7. Then the mean of the windows, of which
    those in the middle count more (a Gaussian, whose σ is a quarter of the band's side), and of the
    bands.

    A shift turns the phase of all coefficients in a window by nearly the same angle, and the
    magnitude of Σ does not notice; so small shifts, rotations and changes of scale count little.
    Nor does it notice that a frame is brighter, or that it is the negative of the other.

    The bands are those of one level of a complex steerable pyramid [2]_, for which the frame is
    periodic. Only the coarsest level counts, as in the authors' program. Levels, orientations and K
    are parameters there; here they are 4, 8 and (0.01 L)². With K of 0 noise in flat frames would
    count as much as a loss of all that a frame shows.

    A level has half the samples of the one before, in rows and in columns. In frames whose shorter
    side is under 49 samples fewer levels hold a window, and the coarsest of these is taken.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L of at least 7x7 samples.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.
    levels, orientations : int
        Of the pyramid: at least 1 and 2.
    stabilizer : float
        Root of K over L. At 0 windows in which neither frame has anything count as equal.

    Returns
    -------
    float
        From 0 to 1, and 1 for equal frames.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller or have NaN, or if the
        pyramid cannot be made.
    """
    check_pair(x, y, title="CW-SSIM", side=BOX)
    pyramid = pyramid_of(x.shape, levels, orientations)
    return similarity(pyramid.bands(x), pyramid.bands(y), (stabilizer * data_range) ** 2)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """One level of a complex steerable pyramid for frames of a shape.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of frames.
    masks : float64 array of shape (orientations, band rows, band columns)
        Frequency responses, from -n // 2 on along either axis.
    """

    shape: tuple[int, int]
    masks: NDArray[np.float64]

    def bands(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return the coefficients of a frame.

        Parameters
        ----------
        frame : ndarray of shape (rows, columns), any real dtype
            Transformed in doubles if it is in doubles, else in single precision.

        Returns
        -------
        ndarray of shape (orientations, band rows, band columns), complex64 or complex128
        """
        dtype = np.float64 if frame.dtype == np.float64 else np.float32
        rows, columns = self.masks.shape[1:]
        # Where the masks reach, right half first; the left one is its mirror image.
        right = np.fft.rfft(frame.astype(dtype, copy=False), axis=1)[:, : columns // 2 + 1]
        right = np.fft.fft(right, axis=0)
        down = np.arange(-(rows // 2), rows - rows // 2)
        across = np.arange(-(columns // 2), columns - columns // 2)
        spectrum = right[down[:, None] * np.where(across < 0, -1, 1), np.abs(across)]
        spectrum = np.where(across < 0, spectrum.conj(), spectrum)
        spectrum *= dtype(rows * columns / (frame.shape[0] * frame.shape[1]))
        filtered = spectrum * self.masks.astype(dtype)
        return np.fft.ifft2(np.fft.ifftshift(filtered, axes=(1, 2)))

    def frame(self, bands: NDArray[Any]) -> NDArray[Any]:
        """Return the adjoint of :meth:`bands`, a real frame, of coefficients of the same shape.

        For all frames f and coefficients b, the scalar product of ``bands(f)`` and b, as pairs of
        real numbers, is that of f and ``frame(b)``.
        """
        real = bands.real.dtype
        rows, columns = self.masks.shape[1:]
        spectrum = np.fft.fftshift(np.fft.fft2(bands), axes=(1, 2))
        whole = (spectrum * self.masks.astype(real)).sum(axis=0)
        # The part that gives real samples: half of this and half of its mirrored conjugate.
        padded = np.zeros((2 * (rows // 2) + 1, 2 * (columns // 2) + 1), whole.dtype)
        padded[:rows, :columns] = whole
        padded += padded[::-1, ::-1].conj()
        padded *= real.type(0.5)
        tall = np.zeros((self.shape[0], columns // 2 + 1), whole.dtype)
        down = np.arange(-(rows // 2), rows // 2 + 1)
        # Frequencies of half of the rate occur at either end, and the masks are 0 there.
        tall[down] = padded[:, columns // 2 :]
        narrow = np.fft.ifft(tall, axis=0)
        return np.fft.irfft(narrow, n=self.shape[1], axis=1)


@lru_cache(maxsize=8)
def pyramid_of(shape: tuple[int, ...], levels: int, orientations: int) -> Pyramid:
    """Return the coarsest of some levels of the pyramid for a shape, or of as many as there can be.

    A frequency of magnitude r, over half of the sampling rate, and direction θ passes level n with
    ``cos(π/2 log2(2ⁿ r))`` for r from 2⁻ⁿ⁻¹ to 2⁻ⁿ⁺¹, and orientation b of N with
    ``2 √k cos(θ - π b / N)^(N-1)`` where that cosine is above 0;
    ``k = 2^(2N-2) ((N-1)!)² / (N (2N-2)!)`` [2]_.

    Raises
    ------
    ValueError
        If there are less than one level or two orientations.
    """
    if levels < 1 or orientations < 2:
        raise ValueError(
            f"CW-SSIM takes 1 level or more and 2 orientations or more, not {levels} and "
            f"{orientations}"
        )
    sides = list(shape)
    level = 1
    while level < levels and min((side + 1) // 2 for side in sides) >= BOX:
        sides = [(side + 1) // 2 for side in sides]
        level += 1
    down, across = (
        2 * np.arange(-(side // 2), side - side // 2) / whole
        for side, whole in zip(sides, shape, strict=True)
    )
    radius = np.hypot(down[:, None], across)
    # The middle has no direction, and passes no band.
    radius[sides[0] // 2, sides[1] // 2] = 1e-9
    octave = np.log2(radius) + level
    radial = np.where(np.abs(octave) < 1, np.cos(np.pi / 2 * octave), 0)
    order = orientations - 1
    gain = 4**order * math.factorial(order) ** 2 / (orientations * math.factorial(2 * order))
    angle = np.arctan2(down[:, None], across)
    turned = angle - np.pi * np.arange(orientations)[:, None, None] / orientations
    angular = 2 * math.sqrt(gain) * np.maximum(np.cos(turned), 0) ** order
    masks = radial * angular
    masks.setflags(write=False)
    return Pyramid((shape[0], shape[1]), masks)


def similarity(a: NDArray[Any], b: NDArray[Any], k: float) -> float:
    """Return CW-SSIM of the coefficients of two frames, with the constant K."""
    cross = np.abs(box_mean(a * b.conj()))
    energy = box_mean(np.abs(a) ** 2 + np.abs(b) ** 2)
    index = ratio(2 * cross, energy, k)
    return float((index * window_weights(index.shape[1:])).sum(dtype=np.float64) / len(index))


def ratio(above: NDArray[Any], below: NDArray[Any], k: float) -> NDArray[Any]:
    """Return ``(above + k) / (below + k)``, and 1 where both are 0."""
    real = below.dtype.type
    constant = real(k) + np.finfo(real).tiny
    index: NDArray[Any] = (above + constant) / (below + constant)
    return index


def box_mean(values: NDArray[Any]) -> NDArray[Any]:
    """Return the means of the 7x7 windows that lie inside, over the last two axes."""
    rows, columns = (side - BOX + 1 for side in values.shape[-2:])
    down = values[..., :rows, :].copy()
    for k in range(1, BOX):
        down += values[..., k : k + rows, :]
    mean = down[..., :columns].copy()
    for k in range(1, BOX):
        mean += down[..., k : k + columns]
    mean /= BOX**2
    return mean


@lru_cache(maxsize=8)
def window_weights(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return how much each window of a band counts; in all 1."""
    down, across = (
        np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * ((side + BOX - 1) / 4) ** 2))
        for side in shape
    )
    weights: NDArray[np.float64] = down[:, None] * across / (down.sum() * across.sum())
    weights.setflags(write=False)
    return weights


def _cw_ssim(pair: FramePair) -> float:
    return cw_ssim(pair.source, pair.shown, data_range=pair.format.peak)


CW_SSIM = register(QualityIndex("cw_ssim", "CW-SSIM", _cw_ssim, special=True))
