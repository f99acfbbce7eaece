"""What the slice viewer shows: images and maps of a few slices of one series."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo import defaults
from ssimrdo import objective as rdo
from ssimrdo.metrics import ssim_map

MAX_SLICES = 12
"""Slices per series that go into a report, spread evenly; it bounds the size of the file."""


@dataclass(frozen=True)
class ViewerSlice:
    """One slice as source and as two encodes show it.

    Parameters
    ----------
    index : int
        Position in the series, from 0.
    source, reference, ours : ndarray of shape (rows, columns), uint8
        Luma.
    reference_ssim_map, ours_ssim_map : ndarray of shape (rows - 10, columns - 10), float32
        SSIM at every window inside the slice.
    qp_offset, lagrange_ratio : ndarray of shape (macroblock rows, macroblock columns), float32
        ΔQP in QP steps and λ_i / λ.
    reference_ssim, ours_ssim : float
        Mean SSIM of the slice.
    """

    index: int
    source: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    ours: NDArray[np.uint8]
    reference_ssim_map: NDArray[np.float32]
    ours_ssim_map: NDArray[np.float32]
    qp_offset: NDArray[np.float32]
    lagrange_ratio: NDArray[np.float32]
    reference_ssim: float
    ours_ssim: float


@dataclass(frozen=True)
class Viewer:
    """Slices of one series in two encodes at nearly the same bit rate.

    Parameters
    ----------
    series : str
        Name of the series.
    slices : tuple of ViewerSlice
        In the order of the series.
    reference_label, ours_label : str
        What the encodes are called, such as ``x264 medium, CRF 23``.
    reference_kbps, ours_kbps : float or None
        Their bit rates over the whole series, in kbit/s.
    """

    series: str
    slices: tuple[ViewerSlice, ...]
    reference_label: str = "reference"
    ours_label: str = "ours"
    reference_kbps: float | None = None
    ours_kbps: float | None = None


def make_viewer(
    name: str,
    source_frames: Sequence[NDArray[Any]] | NDArray[Any],
    reference_frames: Iterable[NDArray[Any]],
    our_frames: Iterable[NDArray[Any]],
    *,
    reference_label: str = "reference",
    ours_label: str = "ours",
    reference_kbps: float | None = None,
    ours_kbps: float | None = None,
    bit_depth: int = 8,
    strength: float = defaults.RDO_STRENGTH,
    max_slices: int = MAX_SLICES,
) -> Viewer:
    """Pick slices of a series and compute the maps of the viewer.

    Parameters
    ----------
    name : str
        Name of the series.
    source_frames : array or sequence of ndarray, uint8 or uint16
        All slices of the source.
    reference_frames, our_frames : iterable of ndarray, uint8 or uint16
        The decoded slices, in the same order; read once, and no further than needed. Rows and
        columns that pad them to even sides are cut off.
    reference_label, ours_label : str
        What the encodes are called.
    reference_kbps, ours_kbps : float, optional
        Their bit rates in kbit/s.
    bit_depth : int
        8 or 10; maps are computed at this depth, images shown at 8 bit.
    strength : float
        Share of the theoretical QP offset that our encode was made with; maps are without what
        an effort adds by frame type.
    max_slices : int
        How many slices to pick, evenly spread.

    Returns
    -------
    Viewer
        With at most ``max_slices`` slices; none if there are no frames.
    """
    wanted = spread(len(source_frames), max_slices)
    pairs = enumerate(zip(reference_frames, our_frames, strict=False))
    needed = itertools.islice(pairs, wanted[-1] + 1 if wanted else 0)
    slices = tuple(
        _viewer_slice(index, np.asarray(source_frames[index]), reference, ours, bit_depth, strength)
        for index, (reference, ours) in needed
        if index in wanted
    )
    return Viewer(name, slices, reference_label, ours_label, reference_kbps, ours_kbps)


def spread(count: int, at_most: int) -> tuple[int, ...]:
    """Return up to ``at_most`` indices below ``count``, evenly spread and away from the ends.

    >>> spread(10, 2)
    (2, 7)
    """
    if count <= at_most:
        return tuple(range(count))
    return tuple((2 * part + 1) * count // (2 * at_most) for part in range(at_most))


def _viewer_slice(
    index: int,
    source: NDArray[Any],
    reference: NDArray[Any],
    ours: NDArray[Any],
    bit_depth: int,
    strength: float,
) -> ViewerSlice:
    rows, columns = source.shape
    reference, ours = reference[:rows, :columns], ours[:rows, :columns]
    maps = rdo.block_maps(source, bit_depth=bit_depth, strength=strength)
    reference_map = ssim_map(source, reference, bit_depth=bit_depth)
    our_map = ssim_map(source, ours, bit_depth=bit_depth)
    return ViewerSlice(
        index=index,
        source=as_8_bit(source, bit_depth),
        reference=as_8_bit(reference, bit_depth),
        ours=as_8_bit(ours, bit_depth),
        reference_ssim_map=reference_map,
        ours_ssim_map=our_map,
        qp_offset=maps.qp_offset,
        lagrange_ratio=maps.lagrange_ratio,
        reference_ssim=float(reference_map.mean(dtype=np.float64)),
        ours_ssim=float(our_map.mean(dtype=np.float64)),
    )


def as_8_bit(luma: NDArray[Any], bit_depth: int) -> NDArray[np.uint8]:
    """Return a copy of a luma frame for the screen."""
    return (luma >> (bit_depth - 8)).astype(np.uint8)
