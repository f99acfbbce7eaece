"""An objective as windows show it: what a file of the whole range of HU is looked at through.

Frames of the whole range are never looked at as they are. A reader sees them through one window
after another, each of which shows luma x as ``s_w(x)``, black and white beyond its ends. The
distortion is the sum of what the windows show, ``D = Σ_w D(s_w(x), s_w(y))``, so

    θ_i = Σ_w θ(s_w(x))_i · mean of s_w'(x)² over the macroblock,

as a small error e in luma is shown as ``s_w'(x) · e``: nothing where the window saturates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat
from ssimrdo.objective.base import Objective
from ssimrdo.objective.statistics import block_means

UNSEEN: Final = 1 / 64
"""Share of its sensitivity as it stands that a macroblock keeps that no window shows."""

SHOWN_DEPTH: Final = 8
"""Bits of what a window shows."""


def protecting(objective: Objective, windows: Sequence[NDArray[np.float64]]) -> Objective:
    """Return an objective that judges frames by what windows show of them.

    Parameters
    ----------
    objective : Objective
        Judges what each window shows.
    windows : sequence of ndarray of shape (luma codes,), float64
        Grey that each window shows for every luma code, 0 to 1; at least one window.

    Returns
    -------
    Objective
        Of the same name, for frames with as many luma codes.

    Raises
    ------
    ValueError
        If there is no window.
    """
    if not windows:
        raise ValueError("there is no window to protect")
    peak = (1 << SHOWN_DEPTH) - 1
    tables = [
        (
            np.rint(peak * grey).astype(np.uint8),
            np.square(peak * np.gradient(grey)).astype(np.float32),
        )
        for grey in windows
    ]

    def sensitivity(luma: NDArray[Any], frames: FrameFormat) -> NDArray[np.float32]:
        shown = FrameFormat(frames.rows, frames.columns, SHOWN_DEPTH)
        total = np.float32(UNSEEN) * objective.sensitivity(luma, frames)
        for grey, squared_gain in tables:
            seen = block_means(squared_gain[luma])
            if seen.any():
                total += objective.sensitivity(grey[luma], shown) * seen
        return total

    return Objective(objective.name, objective.title, sensitivity, objective.reference)
