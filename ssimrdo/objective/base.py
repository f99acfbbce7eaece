"""What an objective is, and the way from its sensitivity to Lagrange multipliers.

An objective says how much a distortion D grows with the squared error of a macroblock,
``D_i = D_0 + θ_i · MSE_i``. Minimising ΣD + λ'ΣR is then minimising ``MSE + λ_i R`` in macroblock
*i* with ``λ_i / λ = θ_ref / θ_i``; how an encoder is handed λ_i is the codec's affair. An objective
is one :class:`Objective` in a file of its own, given to :func:`register`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat

OFF: Final = "off"
"""Name of no objective: the encoder decides alone."""


@dataclass(frozen=True)
class Objective:
    """What bits are spent for.

    Parameters
    ----------
    name : str
        What ``--rdo`` calls it.
    title : str
        What people call it.
    sensitivity : callable
        Returns θ of every macroblock of a luma frame and its format: positive float32 of the shape
        ``format.grid``, in units of the distortion per squared luma unit.
    reference : callable
        Returns θ_ref of a format: the θ of a macroblock whose λ stays the encoder's own. It sets
        how good a CRF is; that of the package's objectives is such that a CRF gives about the mean
        SSIM that x264's medium preset gives at it (``scripts/fit_crf``).
    """

    name: str
    title: str
    sensitivity: Callable[[NDArray[Any], FrameFormat], NDArray[np.float32]]
    reference: Callable[[FrameFormat], float]

    def lagrange_ratio(self, luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.float32]:
        """Return λ_i / λ of every macroblock of a frame; see :func:`lagrange_ratio`."""
        return lagrange_ratio(self.sensitivity(luma, frame_format), self.reference(frame_format))


_OBJECTIVES: Final[dict[str, Objective]] = {}


def register(objective: Objective) -> Objective:
    """Make an objective known by its name, in place of one that had it before; return it."""
    if objective.name == OFF:
        raise ValueError(f"{OFF!r} is the name of no objective")
    _OBJECTIVES[objective.name] = objective
    return objective


def get(name: str) -> Objective:
    """Return the objective of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        return _OBJECTIVES[name]
    except KeyError:
        raise InputError(
            f"{name[:40]!r} is unknown",
            field="rdo",
            remedy=f"use one of {', '.join((*_OBJECTIVES, OFF))}",
        ) from None


def names() -> tuple[str, ...]:
    """Return the names of all objectives, in the order in which they became known."""
    return tuple(_OBJECTIVES)


def lagrange_ratio(theta: NDArray[Any], reference: float | None = None) -> NDArray[np.float32]:
    """Return λ_i / λ = θ_ref / θ_i.

    Parameters
    ----------
    theta : ndarray
        θ per macroblock, positive.
    reference : float, optional
        θ_ref; the geometric mean of ``theta`` by default. See :func:`reference_theta`.

    Returns
    -------
    ndarray of the same shape, float32
        Ratio of each macroblock's Lagrange multiplier to the encoder's.
    """
    log_theta = np.log(theta.astype(np.float64))
    log_reference = log_theta.mean() if reference is None else np.log(reference)
    return np.asarray(np.exp(log_reference - log_theta), np.float32)
