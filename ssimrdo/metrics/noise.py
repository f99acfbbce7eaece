"""Noise power spectra, and what an encode leaves of the noise in flat regions.

References
----------
.. [1] ICRU Report 87, "Radiation dose and image-quality assessment in computed tomography", 2012.
.. [2] E. Samei et al., "Performance evaluation of computed tomography systems: summary of AAPM Task
   Group 233", Med. Phys. 46(11), 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import LUMA_RANGE, check_frame, check_pair, check_range
from ssimrdo.metrics.registry import (
    LOG_MSE_PER_QP,
    FramePair,
    QualityIndex,
    log_departure,
    register,
)

BLOCK: Final = 16
"""Side in samples of the blocks that :data:`NOISE_POWER` and :data:`NOISE_FREQUENCY` look at."""

FLAT_BLOCK: Final = 150.0
"""Variance of a block below which it is flat, in squared grey levels of 255: a standard deviation
of 12 levels, about that of noise."""


@dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """A noise power spectrum of two dimensions.

    Parameters
    ----------
    power : ndarray of shape (side, side), float64
        NPS in the square of the frame's unit times mm², HU² mm² for HU; zero frequency amid.
    down, across : ndarray of shape (side,), float64
        Frequencies of rows and columns of ``power`` in cycles per mm.
    blocks : int
        How many blocks it is the mean of.
    """

    power: NDArray[np.float64]
    down: NDArray[np.float64]
    across: NDArray[np.float64]
    blocks: int

    @property
    def variance(self) -> float:
        """Variance of the noise, the integral of the spectrum, in the square of the unit."""
        step = (self.down[1] - self.down[0]) * (self.across[1] - self.across[0])
        return float(self.power.sum() * step)

    @cached_property
    def frequency(self) -> NDArray[np.float64]:
        """Magnitude of the frequency of every sample of ``power``, in cycles per mm."""
        return np.hypot(self.down[:, None], self.across[None, :])

    @property
    def mean_frequency(self) -> float:
        """f_av [2]_: mean frequency by power, in cycles per mm; 0 where there is no noise."""
        total = float(self.power.sum())
        return float((self.frequency * self.power).sum()) / total if total > 0 else 0.0

    def radial(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return frequencies in cycles per mm and the mean NPS over all directions there.

        Rings are as wide as the coarser step of the two axes, from the first frequency above zero
        to the largest that both axes have, one at least.
        """
        step = max(self.down[1] - self.down[0], self.across[1] - self.across[0])
        ring = np.rint(self.frequency / step).astype(np.int64)
        rings = max(1, int(min(-self.down[0], -self.across[0]) / step + 0.5))
        inside = (ring >= 1) & (ring <= rings)
        count = np.bincount(ring[inside], minlength=rings + 1)[1:]
        power = np.bincount(ring[inside], self.power[inside], minlength=rings + 1)[1:]
        frequency = np.bincount(ring[inside], self.frequency[inside], minlength=rings + 1)[1:]
        return frequency / count, power / count


def noise_power_spectrum(
    x: NDArray[Any],
    mask: NDArray[Any] | None = None,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    side: int = 32,
    degree: int = 0,
) -> NoiseSpectrum:
    """Return the noise power spectrum of flat regions of a frame [1]_.

    ``NPS = Δr Δc / side² · mean |DFT(block - trend)|²`` over all blocks that lie in the region and
    overlap by half. The trend is a polynomial fitted to each block; one of degree 0, the mean,
    empties zero frequency alone, higher ones remove shading and the lowest frequencies with it.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Frame, such as HU.
    mask : ndarray of shape (rows, columns), bool, optional
        The region; all of the frame by default.
    spacing : (float, float)
        Distance of rows and of columns in mm. At 1 the spectrum is per squared sample.
    side : int
        Of the blocks, in samples, 4 or more.
    degree : int
        Of the trend, 0 to 2.

    Raises
    ------
    ValueError
        If the frame or an option is unusable, or no block lies in the region.
    """
    check_frame(x, title="a noise power spectrum", side=side)
    if side < 4 or not 0 <= degree <= 2 or min(spacing) <= 0:
        raise ValueError(
            "a noise power spectrum takes blocks of 4 samples a side or more, a trend of degree 0 "
            f"to 2 and spacings above 0, not {side}, {degree} and {spacing}"
        )
    if mask is not None and mask.shape != x.shape:
        raise ValueError(f"a region of {mask.shape} for a frame of {x.shape}")
    blocks = _inside(x, mask, side)
    if len(blocks) == 0:
        raise ValueError(f"no block of {side}x{side} samples lies in the region")
    power = _mean_power(blocks, degree) * (spacing[0] * spacing[1])
    down, across = (np.fft.fftshift(np.fft.fftfreq(side, step)) for step in spacing)
    return NoiseSpectrum(np.fft.fftshift(power), down, across, len(blocks))


def flat_mask(x: NDArray[Any], *, data_range: float = 255, side: int = BLOCK) -> NDArray[np.bool_]:
    """Return where blocks of a frame are flat: unclipped, and of a variance as noise has it.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Frame from 0 to L; what is at either end counts as clipped.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.
    side : int
        Of the blocks, which begin at the frame's corner and do not overlap.

    Returns
    -------
    ndarray of shape (rows, columns), bool
        True in blocks whose variance is below :data:`FLAT_BLOCK` and above 0.

    Raises
    ------
    ValueError
        If the frame is not two-dimensional or has NaN or infinities.
    """
    check_frame(x, title="a mask of flat blocks")
    check_range(data_range, title="a mask of flat blocks")
    mask = np.zeros(x.shape, np.bool_)
    rows, columns = (length // side for length in x.shape)
    flat = _is_flat(_tiles(x, side), data_range)
    whole = np.repeat(np.repeat(flat.reshape(rows, columns), side, axis=0), side, axis=1)
    mask[: rows * side, : columns * side] = whole
    return mask


def noise_power(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the power of the noise that is left in flat regions, over that of the reference.

    The power is the integral of the noise power spectrum of blocks of 16x16, so it is the variance
    about their means; flat is what :func:`flat_mask` finds in the reference.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Reference from 0 to L.
    y : ndarray of the same shape
        What is compared with it.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    float
        1 where all is left, 0 where none is, above 1 where noise or blocking is added. 1 too where
        the reference has no flat block.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, or have NaN or infinities.
    """
    first, second = _flat_tiles(x, y, data_range)
    if len(first) == 0:
        return 1.0
    return float(second.var(axis=(1, 2)).sum() / first.var(axis=(1, 2)).sum())


def noise_frequency(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the mean frequency of the noise in flat regions, over that of the reference [2]_.

    Of the spectra of the same blocks as in :func:`noise_power`. Below 1 the grain came out coarser.

    Parameters
    ----------
    x, y, data_range
        As for :func:`noise_power`.

    Returns
    -------
    float
        1 where the texture is the same, and where the reference has no flat block; 0 where no noise
        is left.

    Raises
    ------
    ValueError
        As :func:`noise_power`.
    """
    first, second = _flat_tiles(x, y, data_range)
    if len(first) == 0:
        return 1.0
    axis = np.fft.fftfreq(BLOCK)
    frequency = np.hypot(axis[:, None], axis[None, :])
    before, after = (_mean_power(tiles, 0) for tiles in (first, second))
    if not after.any():
        return 0.0
    return float(np.average(frequency, weights=after) / np.average(frequency, weights=before))


def _flat_tiles(
    x: NDArray[Any], y: NDArray[Any], data_range: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    check_pair(x, y, title="a comparison of noise")
    check_range(data_range, title="a comparison of noise")
    first = _tiles(x, BLOCK)
    flat = _is_flat(first, data_range)
    return first[flat].astype(np.float64), _tiles(y, BLOCK)[flat].astype(np.float64)


def _tiles(x: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the whole blocks of a frame, shape (blocks, side, side)."""
    rows, columns = (length // side for length in x.shape)
    whole = x[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return whole.swapaxes(1, 2).reshape(rows * columns, side, side)


def _is_flat(tiles: NDArray[Any], data_range: float) -> NDArray[np.bool_]:
    if len(tiles) == 0:
        return np.zeros(0, np.bool_)
    unclipped = (tiles.min(axis=(1, 2)) > 0) & (tiles.max(axis=(1, 2)) < data_range)
    flat = np.zeros(len(tiles), np.bool_)
    variance = tiles[unclipped].astype(np.float64).var(axis=(1, 2))
    limit = FLAT_BLOCK * (data_range / LUMA_RANGE) ** 2
    flat[unclipped] = (variance > 0) & (variance < limit)
    return flat


def _inside(x: NDArray[Any], mask: NDArray[Any] | None, side: int) -> NDArray[np.float64]:
    """Return the blocks, overlapping by half, that lie in a region."""
    step = side // 2
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side))[::step, ::step]
    if mask is None:
        return windows.reshape(-1, side, side).astype(np.float64)
    within = np.lib.stride_tricks.sliding_window_view(mask.astype(np.bool_), (side, side))
    return windows[within[::step, ::step].all(axis=(2, 3))].astype(np.float64)


def _mean_power(blocks: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Return the mean squared magnitude of the transform of blocks without their trend."""
    side = blocks.shape[1]
    at = np.linspace(-1, 1, side)
    terms = [
        np.outer(at**down, at**across)
        for down in range(degree + 1)
        for across in range(degree + 1 - down)
    ]
    basis, _ = np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))
    flat = blocks.reshape(len(blocks), -1)
    rest = (flat - (flat @ basis) @ basis.T).reshape(blocks.shape)
    return np.asarray((np.abs(np.fft.fft2(rest)) ** 2).mean(axis=0) / side**2, np.float64)


def _power(pair: FramePair) -> float:
    return noise_power(pair.source, pair.shown, data_range=pair.format.peak)


def _frequency(pair: FramePair) -> float:
    return noise_frequency(pair.source, pair.shown, data_range=pair.format.peak)


NOISE_POWER = register(
    QualityIndex(
        "noise_power",
        "Noise power kept",
        _power,
        decimals=3,
        log_loss=log_departure,
        special=True,
    )
)
NOISE_FREQUENCY = register(
    QualityIndex(
        "noise_frequency",
        "Noise frequency kept",
        _frequency,
        decimals=3,
        log_loss=log_departure,
        # A mean over all power moves less than the power that comes or goes.
        loss_per_qp=0.8 * LOG_MSE_PER_QP,
        special=True,
    )
)
