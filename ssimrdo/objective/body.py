"""The balanced objective in the body: what lies outside counts next to nothing.

A slice shows the table, clothes and, in a wide window, the noise of air. None of it is looked at,
but it is counted like the body. The body is found in luma alone, as an objective knows no HU: air
is the median of the frame's border, the body the largest components that are brighter than air by
more than its noise, with what they enclose.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import tissue_kernels
from ssimrdo.objective.balanced import BALANCED
from ssimrdo.objective.base import Objective, register
from ssimrdo.objective.ssim_mse import reference_theta
from ssimrdo.objective.statistics import block_means

OUTSIDE: Final = 1 / 64
"""Share of its sensitivity that a macroblock without body keeps: about 12 QP at s = 0.7."""

LEAST_CONTRAST: Final = 0.02
"""Share of the luma range by which the body is brighter than air at least."""

NOISE_SIGMAS: Final = 4.0
"""Standard deviations of air's noise by which it is."""

PART: Final = 1 / 8
"""Share of the largest component's size from which on another one may be a part of the body, such
as a skull of which the window shows pieces."""

LEAST_BODY: Final = 0.01
"""Share of the frame below which a component is no body, and everything counts."""


def body_mask(luma: NDArray[Any], *, data_range: int = 255) -> NDArray[np.bool_]:
    """Return where the body is; everywhere if air or body are not to be told.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        Full-range luma.
    data_range : int
        L, the largest luma.

    Returns
    -------
    ndarray of the same shape, bool
        The largest components brighter than air, and what has them on three sides at least.
    """
    border = np.concatenate([luma[0], luma[-1], luma[:, 0], luma[:, -1]]).astype(np.float32)
    air = float(np.median(border))
    # The median of the deviations' magnitudes is 0.674 standard deviations of a Gaussian.
    noise = float(np.median(np.abs(border - air))) / 0.6745
    threshold = air + max(NOISE_SIGMAS * noise, LEAST_CONTRAST * data_range)
    body = np.empty(luma.shape, np.uint8)
    tissue_kernels.largest_filled((luma > threshold).view(np.uint8), PART, body)
    is_found = bool(body.mean() >= LEAST_BODY)
    return body.view(np.bool_) if is_found else np.ones(luma.shape, np.bool_)


def body_shares(body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of every macroblock's samples that lie in the body or within four of it.

    The windows of SSIM reach beyond the skin, so what is near counts.

    Parameters
    ----------
    body : ndarray of shape (rows, columns), bool
        From :func:`body_mask`.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32
        0 to 1; a macroblock that reaches over the border counts only its samples inside.
    """
    near = np.empty(body.shape, np.uint8)
    tissue_kernels.largest_of_nine(np.ascontiguousarray(body).view(np.uint8), near)
    return block_means(near, dtype=np.int32)


def _sensitivity(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.float32]:
    luma = np.ascontiguousarray(luma)
    shares = body_shares(body_mask(luma, data_range=frame_format.peak))
    return BALANCED.sensitivity(luma, frame_format) * np.maximum(shares, np.float32(OUTSIDE))


CRF_MATCH: Final = 1.08
"""See :data:`ssimrdo.objective.ssim_mse.CRF_MATCH`; here the slice counts as a whole as well."""


def _reference(frame_format: FrameFormat) -> float:
    return CRF_MATCH * reference_theta(data_range=frame_format.peak)


BODY = register(Objective("body", "Balanced, in the body alone", _sensitivity, _reference))
