"""What the slice viewer shows: a series' slices as source and as encodes show them, with maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.x264.choices import STRENGTH
from ssimrdo.codecs.x264.steering import qp_offset
from ssimrdo.frames import FrameFormat, clipped_blocks
from ssimrdo.html.images import as_8_bit
from ssimrdo.metrics import SSIM, FramePair
from ssimrdo.objective import SSIM as SSIM_OBJECTIVE
from ssimrdo.objective import Objective
from ssimrdo.video.macroblocks import Macroblocks

MAX_SLICES: Final = 48
"""Slices per series of which pictures are kept; of more, half are the worst."""

Frames: TypeAlias = Callable[[], Iterator[NDArray[Any]]]
"""Returns the decoded slices of an encode, anew with each call."""


@dataclass(frozen=True)
class ShownEncode:
    """One encode that a viewer shows.

    Parameters
    ----------
    label : str
        What it is called, such as ``x264 medium, CRF 23``.
    frames : callable
        Returns its decoded slices; rows and columns that pad them to even sides are cut off.
    kbps : float, optional
        Its bit rate over the whole series, in kbit/s.
    macroblocks : callable, optional
        Returns what its stream tells of the macroblocks of some slices, numbered from 0.
    """

    label: str
    frames: Frames
    kbps: float | None = None
    macroblocks: Callable[[Sequence[int]], Mapping[int, Macroblocks]] | None = None


@dataclass(frozen=True)
class EncodedSlice:
    """One slice as an encode shows it.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8
        For the screen.
    ssim_map : ndarray of shape (rows - 10, columns - 10), float32
        SSIM at every window inside the slice.
    ssim : float
        Mean SSIM of the slice.
    macroblocks : Macroblocks, optional
        What the stream tells of them.
    """

    luma: NDArray[np.uint8]
    ssim_map: NDArray[np.float32]
    ssim: float
    macroblocks: Macroblocks | None = None


@dataclass(frozen=True)
class ViewerSlice:
    """One slice of a viewer.

    Parameters
    ----------
    index : int
        Position in the series, from 0.
    source : ndarray of shape (rows, columns), uint8
        Luma for the screen.
    encodes : tuple of EncodedSlice
        As the viewer's encodes show it.
    qp_offset : ndarray of shape (macroblock rows, macroblock columns), float32
        ΔQP that the objective asks for, in QP steps.
    clipped : ndarray of the same shape, bool
        Macroblocks of one grey level, black or white: the window shows nothing of them.
    """

    index: int
    source: NDArray[np.uint8]
    encodes: tuple[EncodedSlice, ...]
    qp_offset: NDArray[np.float32]
    clipped: NDArray[np.bool_]

    @property
    def worst(self) -> float:
        """The lowest SSIM of its encodes."""
        return min((one.ssim for one in self.encodes), default=1.0)


@dataclass(frozen=True)
class Viewer:
    """Slices of one series in several encodes.

    Parameters
    ----------
    series : str
        Name of the series.
    count : int
        Slices of the series.
    slices : tuple of ViewerSlice
        Those that are shown, in the order of the series.
    labels : tuple of str
        What the encodes are called: the reference, ours at its bit rate, and, where there is one,
        ours at its SSIM.
    kbps : tuple of float or None
        Their bit rates over the whole series, in kbit/s.
    ssim : tuple of float
        Their mean SSIM over the whole series.
    hu : tuple of float
        HU of each of the 256 grey levels; empty where they are not known.
    """

    series: str
    count: int
    slices: tuple[ViewerSlice, ...]
    labels: tuple[str, ...]
    kbps: tuple[float | None, ...]
    ssim: tuple[float, ...] = ()
    hu: tuple[float, ...] = field(default=(), repr=False)


def make_viewer(
    name: str,
    source_frames: Sequence[NDArray[Any]] | NDArray[Any],
    encodes: Sequence[ShownEncode],
    *,
    frame_format: FrameFormat,
    objective: Objective = SSIM_OBJECTIVE,
    strength: float = STRENGTH,
    hu: Sequence[float] = (),
    max_slices: int = MAX_SLICES,
) -> Viewer:
    """Pick slices of a series and compute the maps of the viewer.

    Parameters
    ----------
    name : str
        Name of the series.
    source_frames : array or sequence of ndarray, of the format's shape and dtype
        All slices of the source.
    encodes : sequence of ShownEncode
        The reference, ours at its bit rate, and perhaps ours at its SSIM.
    frame_format : FrameFormat
        Of the source; maps are computed at its depth, images shown at 8 bit.
    objective : Objective
        What our encode spends bits for.
    strength : float
        Share of the theoretical QP offset that our encode was made with; maps are without what
        an effort adds by frame type.
    hu : sequence of float
        HU of each of the 256 grey levels of the screen.
    max_slices : int
        How many slices to pick.

    Returns
    -------
    Viewer
        With at most ``max_slices`` slices; none if there are no frames.
    """
    ssim = [_ssim_of(source_frames, one, frame_format) for one in encodes]
    worst = [min(values) for values in zip(*ssim, strict=False)]
    wanted = chosen(worst, max_slices)
    shown = [
        _encoded(source_frames, one, values, wanted, frame_format)
        for one, values in zip(encodes, ssim, strict=True)
    ]

    def slice_at(index: int) -> ViewerSlice:
        source = np.asarray(source_frames[index])
        ratio = objective.lagrange_ratio(source, frame_format)
        return ViewerSlice(
            index,
            as_8_bit(source, frame_format),
            tuple(one[index] for one in shown),
            qp_offset(ratio, strength=strength),
            clipped_blocks(source, frame_format),
        )

    return Viewer(
        name,
        len(source_frames),
        tuple(map(slice_at, wanted)),
        tuple(one.label for one in encodes),
        tuple(one.kbps for one in encodes),
        tuple(float(np.mean(values)) for values in ssim if values),
        tuple(hu),
    )


def chosen(quality: Sequence[float], at_most: int) -> tuple[int, ...]:
    """Return which slices to show: all, or the worst and as many more spread evenly.

    >>> chosen([0.9, 0.8, 0.7, 0.95, 0.96, 0.97], 3)
    (1, 2, 4)
    """
    count = len(quality)
    if count <= at_most:
        return tuple(range(count))
    worst = sorted(range(count), key=lambda index: quality[index])[: (at_most + 1) // 2]
    others = [index for index in range(count) if index not in worst]
    spread = [others[at] for at in evenly(len(others), at_most - len(worst))]
    return tuple(sorted((*worst, *spread)))


def evenly(count: int, at_most: int) -> tuple[int, ...]:
    """Return up to ``at_most`` indices below ``count``, evenly spread and away from the ends.

    >>> evenly(10, 2)
    (2, 7)
    """
    if count <= at_most:
        return tuple(range(count))
    return tuple((2 * part + 1) * count // (2 * at_most) for part in range(at_most))


def _ssim_of(
    source_frames: Sequence[NDArray[Any]] | NDArray[Any],
    encode: ShownEncode,
    frame_format: FrameFormat,
) -> list[float]:
    return [
        SSIM.value(FramePair(np.asarray(source), frame_format.crop(luma), frame_format))
        for source, luma in zip(source_frames, encode.frames(), strict=False)
    ]


def _encoded(
    source_frames: Sequence[NDArray[Any]] | NDArray[Any],
    encode: ShownEncode,
    ssim: Sequence[float],
    wanted: Sequence[int],
    frame_format: FrameFormat,
) -> dict[int, EncodedSlice]:
    """Return the wanted slices of an encode, by index."""
    assert SSIM.map is not None, "SSIM is a mean over windows"
    told = encode.macroblocks(wanted) if encode.macroblocks and wanted else {}
    found = {}
    for index, luma in enumerate(islice(encode.frames(), max(wanted, default=-1) + 1)):
        if index in wanted:
            pair = FramePair(
                np.asarray(source_frames[index]), frame_format.crop(luma), frame_format
            )
            found[index] = EncodedSlice(
                as_8_bit(pair.shown, frame_format), SSIM.map(pair), ssim[index], told.get(index)
            )
    return found
