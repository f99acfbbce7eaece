"""How far SSIM can be trusted in a slice: where its constants decide, where it misses errors.

docs/quality.md derives the limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import FramePair, ssim_components, stabilizers
from ssimrdo.metrics.tissue import FLAT_VARIANCE, Area, TissueMap

CHEAP: Final = 0.25
"""An error counts as barely seen where a square of it costs less than this share of what it costs
in flat tissue: where it may be twice as large for the same loss."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What SSIM says little of in a slice, inside the body or the region.

    Parameters
    ----------
    unstable_share : float
        Share of the windows in which C1 or C2 outweighs what was measured.
    insensitive_share : float
        Share of the windows in which errors are barely seen.
    hidden_error_share : float
        Share of the squared error that lies at the centres of those.
    """

    unstable_share: float
    insensitive_share: float
    hidden_error_share: float


def trust(
    pair: FramePair, tissue: TissueMap, mask: NDArray[np.bool_] | None = None
) -> Trust | None:
    """Return how far SSIM can be trusted in a slice; None where there is nothing to look at.

    Parameters
    ----------
    pair : FramePair
        Source and decoded frame, of at least 11x11 samples.
    tissue : TissueMap
        Of the source.
    mask : ndarray of bool, optional
        Where to look; the body when None.
    """
    inside = tissue.mask(Area.BODY) if mask is None else mask
    border = (slice(5, -5), slice(5, -5))
    inside = inside[border]
    if not inside.any():
        return None
    c1, c2 = stabilizers(pair.format.peak)
    square, variance = (one[inside] for one in _moments(pair.source, pair.format.peak))
    other_square, other_variance = (one[inside] for one in _moments(pair.shown, pair.format.peak))
    unstable = (square + other_square < c1) | (variance + other_variance < c2)
    level = pair.format.peak / 255
    insensitive = CHEAP * (2 * variance + c2) > 2 * FLAT_VARIANCE * level**2 + c2
    flat = tissue.mask(Area.FLAT)
    if flat.any():
        usual = float(pair.source[flat].mean(dtype=np.float64))
        insensitive |= CHEAP * (2 * square + c1) > 2 * usual**2 + c1
    difference = pair.source[border].astype(np.float64) - pair.shown[border]
    squared = (difference * difference)[inside]
    total = float(squared.sum())
    return Trust(
        float(unstable.mean()),
        float(insensitive.mean()),
        float(squared[insensitive].sum()) / total if total > 0 else 0.0,
    )


def _moments(frame: NDArray[Any], peak: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the squared mean and the variance of the frame in SSIM's windows.

    SSIM against black has them in its two terms, ``C1 / (µ² + C1)`` and ``C2 / (σ² + C2)``, and its
    kernel is fast.
    """
    terms = ssim_components(frame, np.zeros_like(frame), data_range=peak)
    squared_mean, variance = (
        constant * (1 / np.maximum(term, np.float32(1e-9)).astype(np.float64) - 1)
        for constant, term in zip(stabilizers(peak), terms, strict=True)
    )
    return squared_mean, variance
