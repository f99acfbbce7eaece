"""1/SSIM, the distortion that rate-distortion optimisation for SSIM minimises.

To first order ``1/SSIM - 1`` grows in proportion to the squared error of a window, even a large
one, which ``1 - SSIM`` does not; see docs/method.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.registry import FramePair, QualityIndex, register, truncated_log
from ssimrdo.metrics.similarity import ssim_map

FLOOR: Final = 0.1
"""SSIM below which 1/SSIM goes on along its tangent."""

CEILING: Final = (2 * FLOOR + 1) / FLOOR**2
"""1/SSIM of a window whose SSIM is -1."""


def inverse(similarity: NDArray[Any]) -> NDArray[np.float32]:
    """Return the inverse of SSIM, window by window.

    ``1/q`` for q of :data:`FLOOR` or more; below, where 1/q would grow beyond all bounds and
    change its sign, the tangent there, ``(2 FLOOR - q) / FLOOR²``. So it falls all the way from
    q = -1 to 1, and its slope has no step.

    Parameters
    ----------
    similarity : ndarray, any real dtype
        SSIM.
    """
    bounded = np.maximum(similarity, np.float32(FLOOR))
    missing = bounded - similarity
    return np.asarray(1 / bounded + missing / np.float32(FLOOR**2), np.float32)


def inverse_ssim_map(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255
) -> NDArray[np.float32]:
    """Return 1/SSIM at every window; see :func:`inverse`, else as :func:`ssim_map`."""
    return inverse(ssim_map(x, y, data_range=data_range))


def inverse_ssim(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the mean over the windows of the inverse of their SSIM.

    The mean is taken of the inverses, as an encoder adds up distortions, and not the inverse of the
    mean: it is never smaller than the latter.

    Parameters
    ----------
    x, y, data_range
        As for :func:`ssim_components`.

    Returns
    -------
    float
        From 1 for equal frames to 120; less is better.

    Raises
    ------
    ValueError
        As :func:`ssim_components`.
    """
    return float(inverse_ssim_map(x, y, data_range=data_range).mean(dtype=np.float64))


def _map(pair: FramePair) -> NDArray[np.float32]:
    return inverse(pair.ssim_map)


def _value(pair: FramePair) -> float:
    return float(_map(pair).mean(dtype=np.float64))


def _log_excess(value: float | NDArray[Any]) -> Any:
    return truncated_log(np.subtract(value, 1))


INVERSE_SSIM = register(
    QualityIndex(
        "inverse_ssim",
        "1/SSIM",
        _value,
        _map,
        higher_is_better=False,
        low=1.0,
        high=CEILING,
        log_loss=_log_excess,
        special=True,
    )
)
