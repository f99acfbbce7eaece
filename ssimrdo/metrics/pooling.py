"""SSIM pooled otherwise than by the mean: so that a small bad place counts.

References
----------
.. [1] Z. Wang and X. Shang, "Spatial pooling strategies for perceptual image quality assessment",
   IEEE ICIP 2006.
.. [2] Z. Wang and Q. Li, "Information content weighting for perceptual image quality assessment",
   IEEE Trans. Image Process. 20(5), 2011.
.. [3] A. K. Moorthy and A. C. Bovik, "Visual importance pooling for image quality assessment",
   IEEE J. Sel. Topics Signal Process. 3(2), 2009.
.. [4] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.registry import FramePair, QualityIndex, log_shortfall, register

PERCENT: Final = 5.0
"""Share of the windows that may be worse than the percentile that is told."""


def distortion_weighted_mean(similarity: NDArray[Any], *, power: float = 1.0) -> float:
    """Return the mean of a map in which what is worse weighs more, ``Σ d^p q / Σ d^p``.

    d is 1 - q [1]_ [2]_. A map that is 1 everywhere has 1.

    Parameters
    ----------
    similarity : ndarray
        Map of an index q of which 1 is best, such as :func:`ssim_map`.
    power : float
        p, 0 or more; 0 is the plain mean.

    Raises
    ------
    ValueError
        If the power is negative or the map is empty.
    """
    if power < 0:
        raise ValueError(f"a power of distortions is 0 or more, not {power}")
    _check(similarity)
    q = similarity.astype(np.float64)
    weights = np.maximum(1 - q, 0)
    if power != 1:
        weights **= power
    total = float(weights.sum())
    return float((weights * q).sum()) / total if total > 0 else 1.0


def percentile(similarity: NDArray[Any], percent: float = PERCENT) -> float:
    """Return what all windows but some percent reach [3]_, between windows linearly.

    Parameters
    ----------
    similarity : ndarray
        Map of an index of which more is better.
    percent : float
        From 0, the minimum, to 100.

    Raises
    ------
    ValueError
        If the percentage is no such number or the map is empty.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile is one of 0 to 100, not of {percent}")
    _check(similarity)
    return float(np.percentile(similarity, percent))


def minimum(similarity: NDArray[Any]) -> float:
    """Return the worst window's index [4]_.

    Raises
    ------
    ValueError
        If the map is empty.
    """
    return percentile(similarity, 0)


def _check(similarity: NDArray[Any]) -> None:
    if similarity.size == 0:
        raise ValueError("a map has windows: this one is empty")


def _distortion_weighted(pair: FramePair) -> float:
    return distortion_weighted_mean(pair.ssim_map)


def _percentile(pair: FramePair) -> float:
    return percentile(pair.ssim_map)


def _minimum(pair: FramePair) -> float:
    return minimum(pair.ssim_map)


def _map(pair: FramePair) -> NDArray[np.float32]:
    return pair.ssim_map


DISTORTION_WEIGHTED = register(
    QualityIndex(
        "ssim_distortion_weighted",
        "Distortion-weighted SSIM",
        _distortion_weighted,
        _map,
        special=True,
    )
)
PERCENTILE = register(
    QualityIndex(
        "ssim_p5",
        "5th percentile of SSIM",
        _percentile,
        _map,
        log_loss=log_shortfall,
        special=True,
    )
)
MINIMUM = register(
    QualityIndex("ssim_min", "Lowest SSIM", _minimum, _map, log_loss=log_shortfall, special=True)
)
