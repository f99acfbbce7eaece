"""Loading the kernels ahead of their first use, with a word to the user if they are compiled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssimrdo import metrics
from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair, QualityIndex, kernels
from ssimrdo.metrics.tissue import errors_by_tissue
from ssimrdo.objective import Objective

logger = logging.getLogger(__name__)

_SIDE = 176
"""Enough for all five scales of MS-SSIM."""


def load_kernels(
    frame_format: FrameFormat, objective: Objective | None, indices: Sequence[QualityIndex]
) -> None:
    """Load the kernels from Numba's cache, or compile them and say so.

    Parameters
    ----------
    frame_format : FrameFormat
        Of the frames to come; their dtype counts.
    objective : Objective, optional
        What will be asked for its sensitivity.
    indices : sequence of QualityIndex
        What will be measured.
    """
    small = replace(frame_format, rows=_SIDE, columns=_SIDE)
    luma = np.zeros(small.shape, small.dtype)
    # A small kernel first: it tells whether the larger ones are in the cache.
    kernel = kernels._clipped_shares
    misses = _misses(kernel)
    quantizer_offsets(luma, Steering(np.ones(small.grid, np.float32), Role.KEY))
    if _misses(kernel) > misses:
        logger.warning("compiling the SSIM kernels; this takes some seconds and happens once")
    if objective is not None:
        objective.lagrange_ratio(luma, small)
    pair = FramePair(luma, luma, small)
    metrics.measure(pair, indices)
    errors_by_tissue(pair)


def _misses(kernel: Any) -> int:
    # With NUMBA_DISABLE_JIT it is a function like others.
    return int(getattr(kernel, "compiled", 0))
