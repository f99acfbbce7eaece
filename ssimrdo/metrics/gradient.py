"""GMSD: how unevenly the magnitude of the gradient is kept.

References
----------
.. [1] W. Xue, L. Zhang, X. Mou and A. C. Bovik, "Gradient magnitude similarity deviation: a highly
   efficient perceptual image quality index", IEEE Trans. Image Process. 23(2), 2014.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import float_pair
from ssimrdo.metrics.kernels import Plane, _compiled
from ssimrdo.metrics.registry import FramePair, QualityIndex, register, truncated_log
from ssimrdo.metrics.resampling import halved, spread

STABILIZER: Final = 170.0
"""c of the paper, in squared grey levels of 255."""


@_compiled
def _gradient_similarity(x: Plane, y: Plane, c: np.float32, out: Plane) -> None:
    """Fill the similarity of the Prewitt gradients of two frames with a border of one sample."""
    third = np.float32(1 / 3)
    for r in range(out.shape[0]):
        for i in range(out.shape[1]):
            across = third * (
                (x[r, i + 2] + x[r + 1, i + 2] + x[r + 2, i + 2])
                - (x[r, i] + x[r + 1, i] + x[r + 2, i])
            )
            down = third * (
                (x[r + 2, i] + x[r + 2, i + 1] + x[r + 2, i + 2])
                - (x[r, i] + x[r, i + 1] + x[r, i + 2])
            )
            first = across * across + down * down
            across = third * (
                (y[r, i + 2] + y[r + 1, i + 2] + y[r + 2, i + 2])
                - (y[r, i] + y[r + 1, i] + y[r + 2, i])
            )
            down = third * (
                (y[r + 2, i] + y[r + 2, i + 1] + y[r + 2, i + 2])
                - (y[r, i] + y[r, i + 1] + y[r, i + 2])
            )
            second = across * across + down * down
            both = np.sqrt(first * second)
            out[r, i] = (both + both + c) / (first + second + c)


def gmsd_map(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> NDArray[np.float32]:
    """Return the similarity of gradient magnitudes, ``(2 mx my + c) / (mx² + my² + c)`` [1]_.

    m is the magnitude of Prewitt's filters, over 3, in frames halved by means of 2x2. As in the
    authors' code, beyond the border lie zeros, so a bright border counts as an edge of both frames.

    Parameters
    ----------
    x, y, data_range
        As for :func:`gmsd`.

    Returns
    -------
    ndarray of shape (rows, columns), float32
        Above 0, 1 where both agree; every value stands for 2x2 samples.

    Raises
    ------
    ValueError
        As :func:`gmsd`.
    """
    return spread(_similarity(x, y, data_range), x.shape)


def gmsd(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the gradient magnitude similarity deviation of two frames [1]_.

    It is the standard deviation of :func:`gmsd_map`: damage that lies in places counts, damage that
    is everywhere alike does not. Symmetric in the frames.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    float
        From 0, for equal frames, to 0.5; less is better.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, are smaller than 2x2, or have NaN
        or infinities.
    """
    return float(_similarity(x, y, data_range).std(dtype=np.float64))


def _similarity(x: NDArray[Any], y: NDArray[Any], data_range: float) -> NDArray[np.float32]:
    x, y = float_pair(x, y, title="GMSD", side=2, data_range=data_range)
    first, second = halved(x, border=(1, 1)), halved(y, border=(1, 1))
    similarity = np.empty((first.shape[0] - 2, first.shape[1] - 2), np.float32)
    _gradient_similarity(first, second, np.float32(STABILIZER), similarity)
    return similarity


def _value(pair: FramePair) -> float:
    return gmsd(pair.source, pair.shown, data_range=pair.format.peak)


def _map(pair: FramePair) -> NDArray[np.float32]:
    return gmsd_map(pair.source, pair.shown, data_range=pair.format.peak)


GMSD = register(
    QualityIndex(
        "gmsd",
        "GMSD",
        _value,
        _map,
        higher_is_better=False,
        high=0.5,
        log_loss=truncated_log,
        special=True,
    )
)
