"""From λ_i / λ to x264's quantizer offsets.

H.264 ties λ to the quantizer by ``λ ∝ 2^((QP - 12) / 3)`` [1]_, and x264 derives its own λ from
each macroblock's QP, so a QP offset hands it λ_i as well.

References
----------
.. [1] T. Wiegand, H. Schwarz, A. Joch, F. Kossentini and G. J. Sullivan, "Rate-constrained coder
   control and comparison of video coding standards", IEEE Trans. Circuits Syst. Video Technol.
   13(7), 2003.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.choices import STRENGTH
from ssimrdo.metrics import kernels


def qp_offset(lagrange_ratio: NDArray[Any], *, strength: float = STRENGTH) -> NDArray[np.float32]:
    """Return ΔQP_i = 3 · s · log2(λ_i / λ), from λ ∝ 2^((QP - 12) / 3) [1]_.

    Parameters
    ----------
    lagrange_ratio : ndarray
        λ_i / λ per macroblock, positive.
    strength : float
        s: 1 in theory, 0 for no offsets.

    Returns
    -------
    ndarray of the same shape, float32
        Quantizer offsets in QP steps.
    """
    return np.asarray(3 * strength * np.log2(lagrange_ratio.astype(np.float64)), np.float32)


REFERENCE_CREDIT: Final = MappingProxyType(
    {Role.KEY: -0.5, Role.FORWARD: -0.5, Role.REFERENCE: 0.0, Role.DISPOSABLE: 0.5}
)
"""What clipped macroblocks are given by the frame's role, in units of 3 · s QP steps."""


def reference_offset(
    luma: NDArray[Any],
    role: Role,
    *,
    data_range: int = 255,
    strength: float = STRENGTH,
) -> NDArray[np.float32]:
    """Return what is added to the offsets of macroblocks that the window clips in part.

    Clipped samples have no noise, so the quality of a reference goes on to the frames that refer
    to it undiminished. x264's MB-tree, which estimates that from frames at half the size, gives
    such macroblocks too little credit. They get a lower QP in P-frames, on which all others rest,
    and a higher one in B-frames that nothing refers to. Macroblocks that are clipped all over
    are skipped anyway.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        Full-range luma.
    role : Role
        The frame's.
    data_range : int
        L, the largest luma.
    strength : float
        See :func:`qp_offset`.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32
        QP steps, up to 1.5 times the strength, reached where half of the samples are clipped.
    """
    shares = kernels.clipped_shares(luma, data_range)
    weight = np.where(shares < 1, np.minimum(2 * shares, 1), 0)
    return np.asarray(3 * strength * REFERENCE_CREDIT[role] * weight, np.float32)


EVENNESS: Final = MappingProxyType(
    {Role.KEY: 0.0, Role.FORWARD: 0.5, Role.REFERENCE: 0.0, Role.DISPOSABLE: -0.5}
)
"""QP steps by which frames of each role are brought nearer to each other's quality."""


def quantizer_offsets(
    luma: NDArray[Any],
    steering: Steering,
    *,
    strength: float = STRENGTH,
    even: bool = True,
    data_range: int = 255,
) -> NDArray[np.float32] | None:
    """Return the quantizer offset of every macroblock of a luma frame.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        Full-range luma.
    steering : Steering
        What is asked for.
    strength : float
        See :func:`qp_offset`.
    even : bool
        Whether frames of different roles are brought nearer to each other's quality.
    data_range : int
        L, the largest luma.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32, or None
        Offsets in QP steps; None without Lagrange ratios.
    """
    if steering.lagrange_ratio is None:
        return None
    offsets = qp_offset(steering.lagrange_ratio, strength=strength)
    if steering.role is not None:
        offsets = offsets + reference_offset(
            luma, steering.role, strength=strength, data_range=data_range
        )
    shift = steering.shift
    if steering.role is not None and even:
        shift += EVENNESS[steering.role]
    return offsets + np.float32(shift) if shift else offsets
