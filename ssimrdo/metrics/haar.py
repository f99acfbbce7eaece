"""HaarPSI: how alike two frames are in the coefficients of a Haar wavelet.

References
----------
.. [1] R. Reisenhofer, S. Bosse, G. Kutyniok and T. Wiegand, "A Haar wavelet-based perceptual
   similarity index for image quality assessment", Signal Process. Image Commun. 61, 2018.
.. [2] C. Karner et al., "Parameter choices in HaarPSI for IQA with medical images", IEEE ISBI 2025,
   arXiv:2410.24098.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import float_pair
from ssimrdo.metrics.kernels import Plane, _compiled
from ssimrdo.metrics.registry import FramePair, QualityIndex, register
from ssimrdo.metrics.resampling import halved, spread

C: Final = 30.0
ALPHA: Final = 4.2
"""Constants for photographs [1]_; C is in squared grey levels of 255."""

MEDICAL_C: Final = 5.0
MEDICAL_ALPHA: Final = 4.9
"""Constants fitted to experts' ratings of photoacoustic and chest X-ray images [2]_."""

_BEFORE, _BEHIND = 3, 4
"""What the largest filter, of 8x8 samples, reaches beyond a sample."""


@_compiled
def _sum_squares(x: Plane, step: int, out: Plane) -> None:
    """Fill in the sums of four samples that are a step apart."""
    for r in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[r, i] = (x[r, i] + x[r, i + step]) + (x[r + step, i] + x[r + step, i + step])


@_compiled
def _coefficients(one: Plane, two: Plane, four: Plane, out: Plane) -> None:
    """Fill the magnitudes of both directions at three scales.

    Parameters
    ----------
    one, two, four : float32 array of two dimensions
        Sums over squares of 1, 2 and 4 samples a side from each on, in a frame with a border.
    out : float32 array of shape (6, rows, columns)
        Finest first; of each scale the edges that lie along rows, then those along columns.
    """
    for scale in range(3):
        if scale == 0:
            sums, size, first = one, 1, 3
        elif scale == 1:
            sums, size, first = two, 2, 2
        else:
            sums, size, first = four, 4, 0
        weight = np.float32(1 / (2 * size))
        for r in range(out.shape[1]):
            for i in range(out.shape[2]):
                a = sums[r + first, i + first]
                b = sums[r + first, i + first + size]
                c = sums[r + first + size, i + first]
                d = sums[r + first + size, i + first + size]
                out[2 * scale, r, i] = weight * abs((a + b) - (c + d))
                out[2 * scale + 1, r, i] = weight * abs((a + c) - (b + d))


@_compiled
def _similarities(
    x: Plane, y: Plane, c: np.float32, alpha: np.float32, local: Plane
) -> tuple[float, float]:
    """Return the sum of similarities by weight, and the sum of weights; fill them by sample.

    Parameters
    ----------
    x, y : float32 array of shape (6, rows, columns)
        From :func:`_coefficients`.
    c, alpha : float32
        Constants of the index.
    local : float32 array of shape (2, rows, columns)
        Of both directions together: similarities by weight, and weights.
    """
    one, half = np.float32(1), np.float32(0.5)
    sums, weights = np.float64(0), np.float64(0)
    for r in range(local.shape[1]):
        for i in range(local.shape[2]):
            of_sample, of_weights = np.float32(0), np.float32(0)
            for k in range(2):
                a, b = x[k, r, i], y[k, r, i]
                similarity = (a * b + a * b + c) / (a * a + b * b + c)
                a, b = x[k + 2, r, i], y[k + 2, r, i]
                similarity += (a * b + a * b + c) / (a * a + b * b + c)
                weight = max(x[k + 4, r, i], y[k + 4, r, i])
                of_sample += weight / (one + np.exp(-alpha * half * similarity))
                of_weights += weight
            local[0, r, i] = of_sample
            local[1, r, i] = of_weights
            sums += np.float64(of_sample)
            weights += np.float64(of_weights)
    return sums, weights


def haarpsi(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    c: float = C,
    alpha: float = ALPHA,
) -> float:
    """Return the Haar wavelet-based perceptual similarity index of two frames [1]_.

    In frames halved by means of 2x2, for horizontal and vertical edges (k), the similarities
    ``(2 |a| |b| + C) / (a² + b² + C)`` of the coefficients at the two finest scales are averaged to
    h_k. Weights w_k are the larger magnitude of both frames at the third scale. The index is
    ``(S⁻¹(Σ w_k S(α h_k) / Σ w_k) / α)²`` with the logistic function S. As in the authors' code,
    beyond the border lie zeros. Symmetric in the frames.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.
    c, alpha : float
        Constants, above 0: :data:`C` and :data:`ALPHA`, or :data:`MEDICAL_C` and
        :data:`MEDICAL_ALPHA`.

    Returns
    -------
    float
        Above 0, and 1 for equal frames. Frames that are zero all over have no weights and get 1.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than 2x2, or have NaN
        or infinities, or a constant is not above 0.
    """
    sums, weights, _ = _compare(x, y, data_range, c, alpha)
    return float(_from_logistic(sums, weights, alpha))


def haarpsi_map(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 255,
    c: float = C,
    alpha: float = ALPHA,
) -> NDArray[np.float32]:
    """Return the index of every sample of the halved frames by itself.

    Its mean by weight is about :func:`haarpsi`, and 1 stands where there are no weights.

    Parameters
    ----------
    x, y, data_range, c, alpha
        As for :func:`haarpsi`.

    Returns
    -------
    ndarray of shape (rows, columns), float32
        Every value stands for 2x2 samples.

    Raises
    ------
    ValueError
        As :func:`haarpsi`.
    """
    local = _compare(x, y, data_range, c, alpha)[2].astype(np.float64)
    return spread(_from_logistic(local[0], local[1], alpha).astype(np.float32), x.shape)


def _compare(
    x: NDArray[Any], y: NDArray[Any], data_range: float, c: float, alpha: float
) -> tuple[float, float, NDArray[np.float32]]:
    if min(c, alpha) <= 0:
        raise ValueError(f"HaarPSI's constants are above 0, not {c} and {alpha}")
    x, y = float_pair(x, y, title="HaarPSI", side=2, data_range=data_range)
    first, second = _decompose(x), _decompose(y)
    local = np.empty((2, *first.shape[1:]), np.float32)
    return *_similarities(first, second, np.float32(c), np.float32(alpha), local), local


def _decompose(x: NDArray[np.float32]) -> NDArray[np.float32]:
    one = halved(x, border=(_BEFORE, _BEHIND))
    two = np.empty((one.shape[0] - 1, one.shape[1] - 1), np.float32)
    _sum_squares(one, 1, two)
    four = np.empty((two.shape[0] - 2, two.shape[1] - 2), np.float32)
    _sum_squares(two, 2, four)
    reach = _BEFORE + _BEHIND
    found = np.empty((6, one.shape[0] - reach, one.shape[1] - reach), np.float32)
    _coefficients(one, two, four, found)
    return found


def _from_logistic(sums: Any, weights: Any, alpha: float) -> NDArray[np.float64]:
    highest = 1 / (1 + math.exp(-alpha))
    weighted = np.asarray(weights) > 0
    share = np.where(weighted, np.divide(sums, np.where(weighted, weights, 1)), highest)
    # Rounding may reach beyond what equal frames have.
    share = np.minimum(share, highest)
    return np.asarray((np.log(share / (1 - share)) / alpha) ** 2, np.float64)


def _value(pair: FramePair, *, c: float, alpha: float) -> float:
    return haarpsi(pair.source, pair.shown, data_range=pair.format.peak, c=c, alpha=alpha)


def _map(pair: FramePair, *, c: float, alpha: float) -> NDArray[np.float32]:
    return haarpsi_map(pair.source, pair.shown, data_range=pair.format.peak, c=c, alpha=alpha)


def _index(name: str, title: str, *, c: float, alpha: float) -> QualityIndex:
    value, map_of = partial(_value, c=c, alpha=alpha), partial(_map, c=c, alpha=alpha)
    return register(QualityIndex(name, title, value, map_of, special=True))


HAARPSI = _index("haarpsi", "HaarPSI", c=C, alpha=ALPHA)
HAARPSI_MED = _index("haarpsi_med", "HaarPSI for medical images", c=MEDICAL_C, alpha=MEDICAL_ALPHA)
