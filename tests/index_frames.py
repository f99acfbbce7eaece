"""Frames that indices are tried on."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair


def frames(shape=(96, 80), peak=255, seed=0, noise=0.03):
    """Structure with a black corner, and the same with noise and blur."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 3)
    x = 0.5 + smooth / smooth.std() / 5
    x[: shape[0] // 4, : shape[1] // 4] = 0
    y = gaussian_filter(x, 0.7) + rng.normal(0, noise, shape)
    dtype = np.uint8 if peak == 255 else np.uint16
    return tuple((np.clip(a, 0, 1) * peak).round().astype(dtype) for a in (x, y))


def pair_of(x, y, peak=255):
    rows, columns = x.shape
    return FramePair(x, y, FrameFormat(rows, columns, peak.bit_length()))
