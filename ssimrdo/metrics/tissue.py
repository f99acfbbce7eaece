"""Errors by tissue: which samples of a slice are what, and how far off they are, in HU.

Areas are found in the source alone, once per slice; thresholds in grey levels hold for a luma
range of 255 and scale with it. Errors are counted, not summed, so that the figures of a series
follow from those of its slices without loss, percentiles included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import add
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels, tissue_kernels
from ssimrdo.metrics.error import PSNR_CEILING_DB
from ssimrdo.metrics.registry import FramePair

AIR_HU: Final = -1000.0

BODY_HU: Final = -500.0
"""What is darker is air: half-way between air and water."""

LUNG_HU: Final = (-950.0, BODY_HU)
"""Between which local means lung lies."""

EDGE_GRADIENT: Final = 25.0
"""Grey levels per sample above which an edge is hard."""

DENSE_HEIGHT: Final = 40.0
"""Grey levels by which small dense structures stand out of what is nine samples wide."""

DENSE_LUMA: Final = 60.0
"""Grey level above which they are."""

FLAT_VARIANCE: Final = 150.0
"""Variance of the Gaussian window below which tissue is flat, squared grey levels."""


class Area(Enum):
    """What errors are told of apart; a sample may belong to several."""

    BODY = "body"
    """The largest component that is no air, with what it encloses."""
    EDGE = "edge"
    """Hard edges."""
    DENSE = "dense"
    """Small dense structures: vessels with contrast, calcifications, thin bone."""
    FLAT = "flat"
    """Flat soft tissue: unclipped, in the body, no lung."""
    LUNG = "lung"
    """Lung, where the window shows it."""
    UNCLIPPED = "unclipped"
    """Where the window clips nothing within an SSIM window."""

    @property
    def flag(self) -> int:
        """What a sample's code has set where it belongs to the area."""
        return int(1 << _AREAS.index(self))


_AREAS: Final = tuple(Area)

SSIM_AREAS: Final = (Area.BODY, Area.UNCLIPPED)
"""Where SSIM is told of."""

ENOUGH_WINDOWS: Final = 256
"""Of an area in a slice, as many as a macroblock has samples, for its SSIM to be told: the mean of
fewer says more about noise than about the slice."""

_SSIM_FLAGS: Final = np.array([area.flag for area in SSIM_AREAS], np.uint8)


@dataclass(frozen=True, slots=True)
class GreyScale:
    """What luma means in HU, where the window is linear.

    Parameters
    ----------
    hu_at_black : float
        HU of luma 0: of a window's lower end, of its upper end if the frames are inverted.
    hu_per_level : float
        HU per luma step: the window's width over the largest luma, negative if inverted.

    Raises
    ------
    ValueError
        If a step is 0 HU or a number is not finite.
    """

    hu_at_black: float
    hu_per_level: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.hu_at_black) or not math.isfinite(self.hu_per_level):
            raise ValueError("a grey scale has finite numbers")
        if self.hu_per_level == 0:
            raise ValueError("a luma step is not 0 HU")

    def luma(self, hu: float) -> float:
        """Return the luma of a number of HU; it may lie outside the range of luma."""
        return (hu - self.hu_at_black) / self.hu_per_level

    def negative(self, peak: int) -> GreyScale:
        """Return the scale of frames whose luma is taken from ``peak``."""
        return GreyScale(self.hu_at_black + peak * self.hu_per_level, -self.hu_per_level)


@dataclass(frozen=True)
class TissueMap:
    """What the samples of a slice belong to.

    Parameters
    ----------
    codes : ndarray of shape (rows, columns), uint8
        Has :attr:`Area.flag` set where a sample belongs to an area.
    """

    codes: NDArray[np.uint8]

    def mask(self, area: Area) -> NDArray[np.bool_]:
        """Return where an area is, an ndarray of bool of the frame's shape."""
        return np.asarray(self.codes & area.flag, np.bool_)


def tissue_map(
    luma: NDArray[Any],
    *,
    data_range: int = 255,
    scale: GreyScale | None = None,
    padding: NDArray[np.bool_] | None = None,
) -> TissueMap:
    """Return what the samples of a source frame belong to.

    The body is the largest component of samples above -500 HU, or above black where the window
    begins higher, and what it encloses; components touch along sides. Lung is where the local mean
    lies between -950 and -500 HU in the body; a window that does not show these has none. Edges
    are where Sobel's gradient exceeds 25 grey levels per sample, small dense structures where the
    white top-hat of nine samples exceeds 40 and luma 60, flat soft tissue where the variance of
    the Gaussian window is below 150 in the body outside lung and the sample is not clipped.

    Padding belongs to nothing, and is looked at as air. No edge or small dense structure is told
    within four samples of it, and nothing is unclipped whose SSIM window sees it.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        Full-range luma.
    data_range : int
        L, the largest luma.
    scale : GreyScale, optional
        What luma means; without one the body is what is not black, and no lung is found.
    padding : ndarray of bool of the same shape, optional
        What is no image, however it is shown.

    Raises
    ------
    ValueError
        If the frame is empty or not two-dimensional.
    """
    if luma.ndim != 2 or luma.size == 0:
        raise ValueError(f"a luma frame has two dimensions, not shape {luma.shape}")
    x = np.ascontiguousarray(luma)
    if scale is not None and scale.hu_per_level < 0:
        x = np.subtract(data_range, x, dtype=x.dtype)
        scale = scale.negative(data_range)
    if padding is not None:
        x = x.copy()
        x[padding] = 0 if scale is None else min(max(round(scale.luma(AIR_HU)), 0), data_range)
    level = data_range / 255
    air = -1.0 if scale is None else scale.luma(BODY_HU)
    # Nothing is lung where the window ends above it.
    lung = (-1.0, -1.0) if scale is None or air <= 0 else (scale.luma(LUNG_HU[0]), air)
    body, near_clipped, codes = (np.empty(x.shape, np.uint8) for _ in range(3))
    # What is not finished yet serves as scratch space: fresh memory takes longer than the work.
    scratch = codes.view(np.bool_)
    # Beside a float the samples would become floats.
    np.greater(x, math.floor(max(air, 0.0)), out=scratch)
    tissue_kernels.largest_filled(codes, 1.0, body)
    np.equal(x, 0, out=scratch)
    scratch |= x == data_range
    if padding is not None:
        scratch |= padding
    tissue_kernels.largest_of_nine(codes, near_clipped)
    opening = np.empty_like(x)
    tissue_kernels.opened(x, data_range, opening)
    limits = [
        data_range,
        EDGE_GRADIENT * level,
        DENSE_HEIGHT * level,
        DENSE_LUMA * level,
        FLAT_VARIANCE * level**2,
        *lung,
    ]
    taps = kernels.gaussian_taps()
    tissue_kernels.assign_codes(
        x, body, opening, near_clipped, taps, np.array(limits, np.float32), codes
    )
    if padding is not None:
        near = near_clipped
        # A copy is of the type that the kernel has been compiled for, whatever the mask is.
        tissue_kernels.largest_of_nine(padding.astype(np.uint8), near)
        codes[near.view(np.bool_)] &= np.uint8(~(Area.EDGE.flag | Area.DENSE.flag) & 0xFF)
        codes[padding] = 0
    return TissueMap(codes)


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Errors of an area, decoded minus source.

    Parameters
    ----------
    samples : int
        How many there are.
    rmse, bias : float
        Root mean square and mean.
    p99, maximum : float
        What 99 % of the errors' magnitudes do not exceed, and the largest.
    """

    samples: int
    rmse: float
    bias: float
    p99: float
    maximum: float

    def psnr(self, span: float) -> float:
        """Return the PSNR in decibels, at most 100; the span of values is in the errors' unit."""
        if self.rmse == 0:
            return PSNR_CEILING_DB
        return min(20 * math.log10(span / self.rmse), PSNR_CEILING_DB)

    def scaled(self, hu_per_level: float) -> ErrorSummary:
        """Return the errors in HU from those in luma steps."""
        size = abs(hu_per_level)
        return ErrorSummary(
            self.samples,
            self.rmse * size,
            self.bias * hu_per_level,
            self.p99 * size,
            self.maximum * size,
        )


@dataclass(frozen=True, eq=False)
class TissueErrors:
    """What was counted in one slice or several; those of several are added with ``+``.

    Parameters
    ----------
    counts : ndarray of shape (areas, 2 L + 1), int64
        Number of samples by area and by error in luma steps, from -L to L.
    ssim_sums : ndarray of shape (areas,), float64
        Sum of SSIM over the windows centred in an area.
    ssim_windows : ndarray of shape (areas,), int64
        Number of these windows.
    noise : ndarray of shape (2,), float64
        Sum of squares in flat soft tissue about the means of blocks, of source and decoded slice.
    clipped : int
        Number of samples in the body that the window clips, black or white, in the source.
    """

    counts: NDArray[np.int64]
    ssim_sums: NDArray[np.float64]
    ssim_windows: NDArray[np.int64]
    noise: NDArray[np.float64]
    clipped: int

    def __add__(self, other: TissueErrors) -> TissueErrors:
        return TissueErrors(
            self.counts + other.counts,
            self.ssim_sums + other.ssim_sums,
            self.ssim_windows + other.ssim_windows,
            self.noise + other.noise,
            self.clipped + other.clipped,
        )

    def errors(self, area: Area) -> ErrorSummary | None:
        """Return the errors of an area in luma steps, None where it is empty."""
        counts = self._counts(area)
        samples = int(counts.sum())
        if samples == 0:
            return None
        peak = (counts.size - 1) // 2
        steps = np.arange(-peak, peak + 1)
        # By magnitude, from 0 on.
        magnitudes = counts[peak:].copy()
        magnitudes[1:] += counts[:peak][::-1]
        within = np.cumsum(magnitudes)
        return ErrorSummary(
            samples,
            rmse=math.sqrt(float(counts @ steps**2) / samples),
            bias=float(counts @ steps) / samples,
            p99=float(np.searchsorted(within, 0.99 * samples)),
            maximum=float(np.flatnonzero(magnitudes)[-1]),
        )

    def largest(self, area: Area) -> float | None:
        """Return the largest error of an area in luma steps, None where it is empty."""
        counts = self._counts(area)
        steps = np.flatnonzero(counts) - (counts.size - 1) // 2
        return float(np.abs(steps).max()) if steps.size else None

    def ssim(self, area: Area) -> float | None:
        """Return the mean SSIM of the windows centred in an area.

        None where there are fewer than :data:`ENOUGH_WINDOWS`.
        """
        index = SSIM_AREAS.index(area)
        windows = int(self.ssim_windows[index])
        return float(self.ssim_sums[index]) / windows if windows >= ENOUGH_WINDOWS else None

    @property
    def clipped_share(self) -> float | None:
        """Share of the body's samples that the window clips; None without a body."""
        samples = int(self._counts(Area.BODY).sum())
        return self.clipped / samples if samples else None

    @property
    def noise_kept(self) -> float | None:
        """Variance of the decoded flat soft tissue over that of the source's; None without any.

        Both are pooled within blocks of 8x8 samples, so that anatomy counts little.
        """
        source, shown = self.noise.tolist()
        return shown / source if source > 0 else None

    def _counts(self, area: Area) -> NDArray[np.int64]:
        return np.asarray(self.counts[_AREAS.index(area)])


def tissue_errors(pair: FramePair, tissue: TissueMap) -> TissueErrors:
    """Return the errors of a decoded slice by area.

    Parameters
    ----------
    pair : FramePair
        Source and decoded frame.
    tissue : TissueMap
        Of the source.

    Raises
    ------
    ValueError
        If the map is not the source's, or the frames are smaller than an SSIM window.
    """
    codes = tissue.codes
    if codes.shape != pair.source.shape:
        raise ValueError(f"a map of {codes.shape} for a frame of {pair.source.shape}")
    x, y = np.ascontiguousarray(pair.source), np.ascontiguousarray(pair.shown)
    peak = pair.format.peak
    by_code = np.zeros((1 << len(_AREAS), 2 * peak + 1), np.int32)
    counts = np.empty((len(_AREAS), 2 * peak + 1), np.int64)
    clipped = tissue_kernels.count_errors(x, y, codes, by_code, counts, peak)
    sums, windows = np.empty(len(SSIM_AREAS)), np.empty(len(SSIM_AREAS), np.int64)
    tissue_kernels.sum_where(*pair.ssim_components, codes, _SSIM_FLAGS, sums, windows)
    noise = tissue_kernels.pooled_squares(x, y, codes, np.uint8(Area.FLAT.flag))
    return TissueErrors(counts, sums, windows, np.array(noise), clipped)


def errors_by_tissue(pair: FramePair, *, scale: GreyScale | None = None) -> TissueErrors:
    """Return the errors of a decoded slice by the areas of its source.

    Parameters
    ----------
    pair : FramePair
        Source and decoded frame.
    scale : GreyScale, optional
        What luma means; see :func:`tissue_map`.

    Raises
    ------
    ValueError
        If the frames are smaller than an SSIM window.
    """
    tissue = tissue_map(pair.source, data_range=pair.format.peak, scale=scale, padding=pair.padding)
    return tissue_errors(pair, tissue)


@dataclass(frozen=True, slots=True)
class SliceTissue:
    """What is kept of the errors of a single slice.

    Parameters
    ----------
    ssim : tuple of float or None
        Mean SSIM in each of :data:`SSIM_AREAS`.
    largest : float, optional
        Largest error in the body in luma steps.
    """

    ssim: tuple[float | None, ...]
    largest: float | None

    @classmethod
    def of(cls, errors: TissueErrors) -> SliceTissue:
        """Return what is kept of a slice's errors."""
        return cls(tuple(map(errors.ssim, SSIM_AREAS)), errors.largest(Area.BODY))


def combined(errors: Iterable[TissueErrors]) -> TissueErrors:
    """Return the errors of several slices together.

    Raises
    ------
    TypeError
        If there are none.
    """
    return reduce(add, errors)
