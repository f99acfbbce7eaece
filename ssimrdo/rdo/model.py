"""From block statistics to quantizer offsets: the SSIM-MSE relation and the Lagrangian.

Per macroblock with mean µ and variance σ² of the source, the weighted SSIM's inverse grows
linearly with the mean squared coding error, ``D = 1 + θ · MSE`` [1]_. Minimising ΣD + λ'ΣR is
minimising ``MSE + λ_i R`` with ``λ_i ∝ 1/θ_i``, and H.264 ties λ to the quantizer by
``λ ∝ 2^((QP - 12) / 3)`` [2]_. x264 derives its own λ from each macroblock's QP, so a QP offset
hands it λ_i as well.

References
----------
.. [1] C. Yeo, H. L. Tan and Y. H. Tan, "On rate distortion optimization using SSIM",
   IEEE Trans. Circuits Syst. Video Technol. 23(7), 2013.
.. [2] T. Wiegand, H. Schwarz, A. Joch, F. Kossentini and G. J. Sullivan, "Rate-constrained coder
   control and comparison of video coding standards", IEEE Trans. Circuits Syst. Video Technol.
   13(7), 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.defaults import RDO_STRENGTH
from ssimrdo.ssim import ALPHA, BETA, kernels, luma_range, stabilizers


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of the source per macroblock, in 11x11 Gaussian windows.

    Parameters
    ----------
    mean : ndarray of shape (macroblock rows, macroblock columns), float32
        µ: mean luma.
    variance : ndarray of the same shape, float32
        σ²: arithmetic mean of the windows' variances, squared luma units.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


def block_statistics(luma: NDArray[Any], *, bit_depth: int = 8) -> BlockStatistics:
    """Return µ and σ² of every macroblock of a luma frame.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), any real dtype
        Full-range luma; windows that reach over the border see it mirrored.
    bit_depth : int
        Bit depth of the luma.

    Raises
    ------
    ValueError
        If the frame is empty or not two-dimensional.
    """
    if luma.ndim != 2 or luma.size == 0:
        raise ValueError(f"a luma frame has two dimensions, not shape {luma.shape}")
    shape = _grid(luma)
    mean = np.empty(shape, np.float32)
    variance = np.empty(shape, np.float32)
    kernels.block_moments(
        np.ascontiguousarray(luma),
        kernels.gaussian_taps(),
        np.float32(luma_range(bit_depth) / 2),
        mean,
        variance,
    )
    return BlockStatistics(mean, variance)


def _grid(luma: NDArray[Any]) -> tuple[int, ...]:
    """Return the rows and columns of macroblocks that cover a frame."""
    return tuple(-(-side // kernels.BLOCK) for side in luma.shape)


@cache
def window_samples() -> float:
    """Return N of the SSIM window, ``(Σw)² / Σw²``: about 28 samples for σ = 1.5."""
    half = kernels.gaussian_taps().astype(np.float64)
    taps = np.concatenate([half, half[-2::-1]])
    return float((taps.sum() ** 2 / (taps**2).sum()) ** 2)


def effective_samples(variance: NDArray[Any], *, bit_depth: int = 8) -> NDArray[np.float32]:
    """Return N_eff, the number of independent coding errors in a window, per macroblock.

    In texture the errors of neighbouring samples are independent: N_eff is the window's own
    number of samples N. In a flat block the error is one shift of the whole block, so N_eff is 1.
    Between the two it follows ``N - (N - 1) · C / (σ² + C)`` with C = C2/2, where SSIM itself
    passes from flat to textured.

    Parameters
    ----------
    variance : ndarray
        σ² in squared luma units.
    bit_depth : int
        Bit depth of the luma, which sets C2.

    Returns
    -------
    ndarray of the same shape, float32
        From 1 to :func:`window_samples`.
    """
    _, c2 = stabilizers(bit_depth)
    flatness = np.float32(c2 / 2) / (variance.astype(np.float32) + np.float32(c2 / 2))
    n = window_samples()
    return np.asarray(n - (n - 1) * flatness, np.float32)


def theta(
    mean: NDArray[Any],
    variance: NDArray[Any],
    samples: NDArray[Any] | float,
    *,
    bit_depth: int = 8,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> NDArray[np.float32]:
    """Return θ, the slope of 1/SSIM over MSE: ``β / (2σ² + C2) + α / (N_eff (2µ² + C1))``.

    The first term is the linear SSIM-MSE relation [1]_. The second holds for errors with zero
    mean: the mean error over a window of N_eff independent errors has variance MSE / N_eff.

    Parameters
    ----------
    mean, variance : ndarray of one shape
        µ in luma units and σ² in squared luma units.
    samples : ndarray of the same shape, or float
        N_eff; see :func:`effective_samples`.
    bit_depth : int
        Bit depth of the luma, which sets C1 and C2.
    alpha, beta : float
        Exponents of the luminance and the contrast-structure term.

    Returns
    -------
    ndarray of the same shape, float32
        θ per macroblock, in inverse squared luma units.
    """
    c1, c2 = stabilizers(bit_depth)
    contrast = beta / (2 * variance.astype(np.float32) + np.float32(c2))
    mean = mean.astype(np.float32)
    luminance = alpha / (samples * (2 * mean * mean + np.float32(c1)))
    return np.asarray(contrast + luminance, np.float32)


def reference_theta(*, bit_depth: int = 8) -> float:
    """Return θ of the texture whose QP stays as it is: σ² = 2 C2, about 11 grey levels rms.

    One reference for all slices gives an error the same price in each of them, as the sum over a
    series asks for; one taken from each slice, such as the mean of ln θ, would move with the share
    of empty background. This one keeps the bit rate near that of stock x264 at the same CRF.
    """
    _, c2 = stabilizers(bit_depth)
    return BETA / (5 * c2)


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


def qp_offset(
    lagrange_ratio: NDArray[Any], *, strength: float = RDO_STRENGTH
) -> NDArray[np.float32]:
    """Return ΔQP_i = 3 · s · log2(λ_i / λ), from λ ∝ 2^((QP - 12) / 3) [2]_.

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


@dataclass(frozen=True)
class BlockMaps:
    """The model's quantities, one value per macroblock, all of one shape.

    Parameters
    ----------
    mean : ndarray, float32
        µ, in luma units.
    variance : ndarray, float32
        σ², in squared luma units.
    theta : ndarray, float32
        θ, slope of 1/SSIM over MSE, in inverse squared luma units.
    lagrange_ratio : ndarray, float32
        λ_i / λ, without unit.
    qp_offset : ndarray, float32
        ΔQP, in QP steps, without what an effort adds by frame type.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    theta: NDArray[np.float32]
    lagrange_ratio: NDArray[np.float32]
    qp_offset: NDArray[np.float32]


def block_maps(
    luma: NDArray[Any], *, bit_depth: int = 8, strength: float = RDO_STRENGTH
) -> BlockMaps:
    """Return the model's quantities of a luma frame.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns)
        Full-range luma.
    bit_depth : int
        Bit depth of the luma.
    strength : float
        Share s of the theoretical QP offset.
    """
    statistics = block_statistics(luma, bit_depth=bit_depth)
    samples = effective_samples(statistics.variance, bit_depth=bit_depth)
    slope = theta(statistics.mean, statistics.variance, samples, bit_depth=bit_depth)
    ratio = lagrange_ratio(slope, reference_theta(bit_depth=bit_depth))
    return BlockMaps(
        statistics.mean, statistics.variance, slope, ratio, qp_offset(ratio, strength=strength)
    )


REFERENCE_CREDIT: Final = MappingProxyType({"IDR": -0.5, "P": -0.5, "BREF": 0.0, "B": 0.5})
"""What clipped macroblocks are given by frame type, in units of 3 · s QP steps."""


def reference_offset(
    luma: NDArray[Any],
    frame_type: str,
    *,
    bit_depth: int = 8,
    strength: float = RDO_STRENGTH,
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
    frame_type : {"IDR", "P", "BREF", "B"}
        Type of the frame.
    bit_depth : int
        Bit depth of the luma.
    strength : float
        See :func:`qp_offset`.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32
        QP steps, up to 1.5 times the strength, reached where half of the samples are clipped.

    Raises
    ------
    ValueError
        If there is no such frame type.
    """
    if frame_type not in REFERENCE_CREDIT:
        raise ValueError(f"frame type {frame_type!r} is none of {', '.join(REFERENCE_CREDIT)}")
    shares = np.empty(_grid(luma), np.float32)
    kernels.clipped_shares(np.ascontiguousarray(luma), luma_range(bit_depth), shares)
    weight = np.where(shares < 1, np.minimum(2 * shares, 1), 0)
    return np.asarray(3 * strength * REFERENCE_CREDIT[frame_type] * weight, np.float32)


def quantizer_offsets(
    luma: NDArray[Any],
    *,
    bit_depth: int = 8,
    strength: float = RDO_STRENGTH,
    frame_type: str | None = None,
) -> NDArray[np.float32]:
    """Return the quantizer offset of every macroblock of a luma frame.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns)
        Full-range luma.
    bit_depth : int
        Bit depth of the luma.
    strength : float
        Share of the theoretical offset; see :func:`qp_offset`.
    frame_type : {"IDR", "P", "BREF", "B"}, optional
        Type of the frame, where it is known; see :func:`reference_offset`.

    Returns
    -------
    ndarray of shape (ceil(rows / 16), ceil(columns / 16)), float32
        Offsets in QP steps.
    """
    offsets = block_maps(luma, bit_depth=bit_depth, strength=strength).qp_offset
    if frame_type is None:
        return offsets
    return offsets + reference_offset(luma, frame_type, bit_depth=bit_depth, strength=strength)
