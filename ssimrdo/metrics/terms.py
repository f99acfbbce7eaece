"""The three terms of SSIM as indices of their own: what it is that SSIM has found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.registry import LOG_MSE_PER_QP, FramePair, QualityIndex, register


def _luminance(pair: FramePair) -> NDArray[np.float32]:
    return pair.ssim_components[0]


def _contrast(pair: FramePair) -> NDArray[np.float32]:
    return pair.contrast_and_structure[0]


def _structure(pair: FramePair) -> NDArray[np.float32]:
    return pair.contrast_and_structure[1]


def _mean(map_of: Callable[[FramePair], NDArray[np.float32]], pair: FramePair) -> float:
    return float(map_of(pair).mean(dtype=np.float64))


def _term(name: str, title: str, map_of: Any, **fields: Any) -> QualityIndex:
    """Register the mean of a map over the windows."""
    # No function within a function: other processes are sent indices.
    mean = partial(_mean, map_of)
    return register(QualityIndex(name, title, mean, map_of, **fields, special=True))


LUMINANCE = _term("ssim_luminance", "SSIM luminance", _luminance)
# What errors share with the source by chance changes its deviation in proportion to them, which
# counts as their square; what they add to its variance counts as the square of that.
CONTRAST = _term("ssim_contrast", "SSIM contrast", _contrast, loss_per_qp=1.4 * LOG_MSE_PER_QP)
STRUCTURE = _term("ssim_structure", "SSIM structure", _structure)
