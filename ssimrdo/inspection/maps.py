"""What an objective makes of a slice: µ, σ², θ, λ_i/λ, and ΔQP as x264 is handed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.x264.steering import qp_offset
from ssimrdo.frames import FrameFormat, clipped_blocks
from ssimrdo.objective import Objective, block_statistics, lagrange_ratio
from ssimrdo.video.macroblocks import Macroblocks


@dataclass(frozen=True)
class SliceMaps:
    """The quantities of one slice, per macroblock.

    Parameters
    ----------
    mean : ndarray of shape (macroblock rows, macroblock columns), float32
        µ of the source in luma units.
    variance : ndarray of the same shape, float32
        σ² of the source in squared luma units.
    theta : ndarray of the same shape, float32
        θ: slope of the objective's distortion over the mean squared error.
    lagrange_ratio : ndarray of the same shape, float32
        λ_i / λ.
    qp_offset : ndarray of the same shape, float32
        ΔQP in QP steps, without what is added by the role of a frame.
    clipped : ndarray of the same shape, bool
        Macroblocks that the window clips all over: black or white, with nothing to show.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    theta: NDArray[np.float32]
    lagrange_ratio: NDArray[np.float32]
    qp_offset: NDArray[np.float32]
    clipped: NDArray[np.bool_]


def slice_maps(
    luma: NDArray[Any], frame_format: FrameFormat, objective: Objective, *, strength: float
) -> SliceMaps:
    """Return what an objective makes of a luma frame.

    Parameters
    ----------
    luma : ndarray of the format's shape and dtype
        Full-range luma.
    frame_format : FrameFormat
        Of the frame.
    objective : Objective
        What bits are spent for.
    strength : float
        Share s of the theoretical QP offset.
    """
    statistics = block_statistics(luma, data_range=frame_format.peak)
    theta = objective.sensitivity(luma, frame_format)
    ratio = lagrange_ratio(theta, objective.reference(frame_format))
    return SliceMaps(
        statistics.mean,
        statistics.variance,
        theta,
        ratio,
        qp_offset(ratio, strength=strength),
        clipped_blocks(luma, frame_format),
    )


@dataclass(frozen=True)
class Quantity:
    """One map with what its numbers mean.

    Parameters
    ----------
    key : str
        Name in the page's data.
    name, symbol, unit, meaning : str
        What people are told of it.
    values : ndarray of shape (macroblock rows, macroblock columns), float32
        The map.
    logarithmic : bool
        Whether its colours follow the logarithm.
    diverging : bool
        Whether it has a middle, 1 or 0, where nothing changes.
    drawn : bool
        Whether it has a panel in the figure; ΔQP has, and what it is another measure of has none.
    hatched : ndarray of the same shape, bool, optional
        Macroblocks for which the values mean nothing, left out of what is told of all.
    """

    key: str
    name: str
    symbol: str
    unit: str
    meaning: str
    values: NDArray[np.float32]
    logarithmic: bool = False
    diverging: bool = False
    drawn: bool = True
    hatched: NDArray[np.bool_] | None = None

    @property
    def meant(self) -> NDArray[np.float32]:
        """The values that mean something, in one row."""
        return self.values.ravel() if self.hatched is None else self.values[~self.hatched]


def quantities(
    maps: SliceMaps, strength: float, stream: Macroblocks | None = None
) -> tuple[Quantity, ...]:
    """Return the maps in the order of their derivation, with symbols, units and meaning.

    Parameters
    ----------
    maps : SliceMaps
        The objective's quantities.
    strength : float
        That they were made with.
    stream : Macroblocks, optional
        What an encode tells of its macroblocks.
    """
    skipped = None if stream is None else stream.skipped
    told = (
        ()
        if stream is None
        else (
            Quantity(
                "qp",
                "quantizer in the stream",
                "QP",
                "QP steps",
                "how coarsely the encode quantizes; skipped macroblocks have none of their own",
                stream.qp.astype(np.float32),
                hatched=skipped,
            ),
        )
    )
    return (
        Quantity(
            "mean",
            "mean of the source",
            "µ",
            "luma",
            "how bright a macroblock is",
            maps.mean,
            # The slice itself shows it.
            drawn=False,
        ),
        Quantity(
            "variance",
            "variance of the source",
            "σ²",
            "luma²",
            "how much structure a macroblock has",
            maps.variance,
            logarithmic=True,
        ),
        Quantity(
            "theta",
            "slope of the distortion over MSE",
            "θ",
            "1/luma²",
            "how much a squared error costs, such as in 1/SSIM",
            maps.theta,
            logarithmic=True,
            drawn=False,
        ),
        Quantity(
            "ratio",
            "Lagrange multiplier over the encoder's",
            "λᵢ/λ",
            "ratio",
            "below 1: distortion weighs more than the encoder alone has it",
            maps.lagrange_ratio,
            logarithmic=True,
            diverging=True,
            drawn=False,
        ),
        Quantity(
            "offset",
            f"quantizer offset at strength {strength:g}",
            "ΔQP",
            "QP steps",
            "below 0: quantized finer, gets more bits",
            maps.qp_offset,
            diverging=True,
            hatched=maps.clipped if skipped is None else maps.clipped | skipped,
        ),
        *told,
    )
