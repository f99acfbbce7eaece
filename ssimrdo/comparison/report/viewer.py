"""What the slice viewer shows: images and maps of a few slices of one series."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.x264.choices import STRENGTH
from ssimrdo.codecs.x264.steering import qp_offset
from ssimrdo.frames import FrameFormat
from ssimrdo.html.images import as_8_bit
from ssimrdo.metrics import SSIM, FramePair
from ssimrdo.objective import SSIM as SSIM_OBJECTIVE
from ssimrdo.objective import Objective

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
    frame_format: FrameFormat,
    reference_label: str = "reference",
    ours_label: str = "ours",
    reference_kbps: float | None = None,
    ours_kbps: float | None = None,
    objective: Objective = SSIM_OBJECTIVE,
    strength: float = STRENGTH,
    max_slices: int = MAX_SLICES,
) -> Viewer:
    """Pick slices of a series and compute the maps of the viewer.

    Parameters
    ----------
    name : str
        Name of the series.
    source_frames : array or sequence of ndarray, of the format's shape and dtype
        All slices of the source.
    reference_frames, our_frames : iterable of ndarray of the format's dtype
        The decoded slices, in the same order; read once, and no further than needed. Rows and
        columns that pad them to even sides are cut off.
    frame_format : FrameFormat
        Of the source; maps are computed at its depth, images shown at 8 bit.
    reference_label, ours_label : str
        What the encodes are called.
    reference_kbps, ours_kbps : float, optional
        Their bit rates in kbit/s.
    objective : Objective
        What our encode spends bits for.
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

    def shown(index: int, reference: NDArray[Any], ours: NDArray[Any]) -> ViewerSlice:
        source = np.asarray(source_frames[index])
        ratio = objective.lagrange_ratio(source, frame_format)
        reference, reference_map, reference_ssim = _compared(source, reference, frame_format)
        ours, our_map, our_ssim = _compared(source, ours, frame_format)
        return ViewerSlice(
            index=index,
            source=as_8_bit(source, frame_format),
            reference=reference,
            ours=ours,
            reference_ssim_map=reference_map,
            ours_ssim_map=our_map,
            qp_offset=qp_offset(ratio, strength=strength),
            lagrange_ratio=ratio,
            reference_ssim=reference_ssim,
            ours_ssim=our_ssim,
        )

    slices = tuple(
        shown(index, reference, ours) for index, (reference, ours) in needed if index in wanted
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


def _compared(
    source: NDArray[Any], decoded: NDArray[Any], frame_format: FrameFormat
) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    """Return a decoded slice for the screen, its map of SSIM, and its SSIM."""
    pair = FramePair(source, frame_format.crop(decoded), frame_format)
    assert SSIM.map is not None, "SSIM is a mean over windows"
    return as_8_bit(pair.shown, frame_format), SSIM.map(pair), SSIM.value(pair)
