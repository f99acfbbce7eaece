"""Sharpness of edges: edge spread function, its width, and the modulation transfer function.

References
----------
.. [1] ISO 12233, "Photography - Electronic still picture imaging - Resolution and spatial
   frequency responses".
.. [2] E. Samei, M. J. Flynn and D. A. Reimann, "A method for measuring the presampled MTF of
   digital radiographic systems using an edge test device", Med. Phys. 25(1), 1998.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics.inputs import LUMA_RANGE, check_frame, check_pair, check_range
from ssimrdo.metrics.kernels import Plane, _compiled
from ssimrdo.metrics.registry import (
    LOG_MSE_PER_QP,
    FramePair,
    QualityIndex,
    log_departure,
    register,
)

REACH: Final = 8
"""Samples on either side of an edge, and to either end along it, that are looked at."""

OVERSAMPLING: Final = 4
"""Bins of an edge spread function per sample."""

LEAST_STEP: Final = 40.0
"""Height of an edge from which on it is one, in grey levels of 255."""

MOST_EDGES: Final = 16
"""Edges of a frame that :data:`EDGE_SHARPNESS` looks at, the clearest."""

_SIDE: Final = 2 * REACH + 1
_ESF_REACH: Final = REACH - 1
_TAIL: Final = 5.0
"""Distance in samples from which on an edge is over."""

_MOST_NOISE: Final = 0.15
"""Standard deviation beside an edge, over its height, up to which it is clear."""

_LEAST_COHERENCE: Final = 0.8
_GRID: Final = 4
_NEAR: Final = 1
"""Steps of the grid within which the steepest place is taken."""

_MOST_TRIED: Final = 48


@dataclass(frozen=True)
class Edge:
    """A straight edge, a line through a frame.

    Parameters
    ----------
    row, column : int
        Sample amid the part that is looked at.
    upright : bool
        Whether the line is nearer to a column than to a row.
    offset, slope : float
        The line lies ``offset + slope · along`` samples across from there, where along counts rows
        for an upright edge and columns for another.
    """

    row: int
    column: int
    upright: bool
    offset: float
    slope: float

    @property
    def degrees(self) -> float:
        """Angle to the columns, or to the rows if it is not upright, in degrees."""
        return math.degrees(math.atan(self.slope))


@dataclass(frozen=True, eq=False)
class EdgeSpread:
    """An edge spread function (ESF), from 0 on one side to 1 on the other.

    Parameters
    ----------
    distance : ndarray of shape (bins,), float64
        Distance from the line, in samples or, with a spacing, in mm; evenly spaced.
    value : ndarray of shape (bins,), float64
        ESF.
    step : float
        Height of the edge in the frame's unit, negative if it is lower on the far side.
    """

    distance: NDArray[np.float64]
    value: NDArray[np.float64]
    step: float

    @property
    def width(self) -> float:
        """Distance over which the ESF rises from 0.1 to 0.9.

        It is looked for from the middle outwards; where the ESF does not get there it is all the
        distance to that end.
        """
        below, above = np.flatnonzero(self.value < 0.5), np.flatnonzero(self.value >= 0.5)
        if below.size == 0 or above.size == 0:
            return float(self.distance[-1] - self.distance[0])
        # The crossing that is nearest to the line.
        crossings = np.flatnonzero((self.value[:-1] < 0.5) & (self.value[1:] >= 0.5))
        if crossings.size == 0:
            return float(self.distance[-1] - self.distance[0])
        middle = int(crossings[np.abs(self.distance[crossings]).argmin()])
        falls = np.flatnonzero(self.value[: middle + 1] <= 0.1)
        rises = np.flatnonzero(self.value[middle:] >= 0.9) + middle
        start = self.distance[0] if falls.size == 0 else self._reaches(0.1, int(falls[-1]))
        end = self.distance[-1] if rises.size == 0 else self._reaches(0.9, int(rises[0]) - 1)
        return float(end - start)

    def _reaches(self, level: float, before: int) -> float:
        """Return where the ESF passes a level between a bin and the next."""
        low, high = self.value[before], self.value[before + 1]
        share = (level - low) / (high - low)
        at = self.distance
        return float(at[before] + share * (at[before + 1] - at[before]))

    @cached_property
    def _transfer(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        bin_width = float(self.distance[1] - self.distance[0])
        spread = np.diff(self.value)
        at = np.abs(self.distance[:-1] + bin_width / 2) / (bin_width * OVERSAMPLING)
        # Away from the edge there is noise alone.
        taper = np.clip((at - _TAIL + 1) / (_ESF_REACH - _TAIL + 1), 0, 1)
        padded = 16 * spread.size
        found = np.abs(np.fft.rfft(spread * np.cos(np.pi / 2 * taper) ** 2, padded))
        frequency = np.asarray(np.fft.rfftfreq(padded, bin_width), np.float64)
        inside = frequency <= 1 / (OVERSAMPLING * bin_width)
        # The bins and the difference of neighbours each average over the width of a bin.
        averaged = np.sinc(frequency * bin_width) ** 2
        transfer = np.asarray(found / found[0] / averaged, np.float64)
        return frequency[inside], transfer[inside]

    def mtf(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return frequencies, per sample or per mm, up to the sampling rate, and the MTF there."""
        return self._transfer

    @property
    def mtf50(self) -> float:
        """Frequency at which the MTF has fallen to a half; the sampling rate if it never does."""
        frequency, transfer = self._transfer
        below = np.flatnonzero(transfer < 0.5)
        if below.size == 0:
            return float(frequency[-1])
        k = int(below[0])
        share = (transfer[k - 1] - 0.5) / (transfer[k - 1] - transfer[k])
        return float(frequency[k - 1] + share * (frequency[k] - frequency[k - 1]))


def find_edges(
    x: NDArray[Any], *, data_range: float = 255, most: int = MOST_EDGES
) -> tuple[Edge, ...]:
    """Return the clearest straight edges of a frame.

    A part of 17x17 samples has one where its gradients have one direction, where both sides differ
    by :data:`LEAST_STEP` or more, and where either side has a standard deviation of at most 15 % of
    that. Parts do not overlap by more than half.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Frame from 0 to L.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.
    most : int
        How many to return at most, those with the steepest gradients.

    Raises
    ------
    ValueError
        If the frame is not two-dimensional or has NaN or infinities.
    """
    check_frame(x, title="a search for edges")
    check_range(data_range, title="a search for edges")
    if min(x.shape) < _SIDE + 2:
        return ()
    x = np.ascontiguousarray(x, np.float32)
    found: list[Edge] = []
    for row, column, upright in _candidates(x):
        if len(found) == most:
            break
        if any(max(abs(row - e.row), abs(column - e.column)) <= REACH for e in found):
            continue
        edge = _fitted(x, row, column, upright)
        if edge is not None and _is_clear(x, edge, LEAST_STEP * data_range / LUMA_RANGE):
            found.append(edge)
    return tuple(found)


def edge_spread(x: NDArray[Any], edge: Edge, *, spacing: float = 1.0) -> EdgeSpread:
    """Return the edge spread function of a frame along an edge, as of ISO 12233 [1]_ [2]_.

    Samples are put into bins of a quarter sample by their distance from the line, from -7 to 7, and
    averaged; a bin without samples gets what lies between its neighbours. The plateaus are the
    means beyond 5 samples. An edge along rows or columns has no samples between whole distances, so
    its ESF comes out up to half a sample wider.

    Parameters
    ----------
    x : ndarray of shape (rows, columns), any real dtype
        Frame, such as HU; it may be another than that in which the edge was found.
    edge : Edge
        From :func:`find_edges`.
    spacing : float
        Distance of samples in mm, the same for rows and columns. At 1 lengths are in samples.

    Raises
    ------
    ValueError
        If the frame is not two-dimensional, has NaN or infinities, or does not have the edge, or
        the spacing is not above 0.
    """
    check_frame(x, title="an edge spread function")
    if not spacing > 0:
        raise ValueError(f"a spacing is above 0, not {spacing}")
    if _patch(x, edge.row, edge.column, edge.upright).shape != (_SIDE, _SIDE):
        raise ValueError(f"a frame of {x.shape} does not have an edge at {edge.row, edge.column}")
    return _spread(x, edge, spacing)


def _spread(x: NDArray[Any], edge: Edge, spacing: float) -> EdgeSpread:
    patch = _patch(x, edge.row, edge.column, edge.upright)
    bins = np.rint(_distances(edge) * OVERSAMPLING).astype(np.int64) + _ESF_REACH * OVERSAMPLING
    count = 2 * _ESF_REACH * OVERSAMPLING + 1
    inside = (bins >= 0) & (bins < count)
    samples = np.bincount(bins[inside], minlength=count)
    sums = np.bincount(bins[inside], patch[inside].astype(np.float64), minlength=count)
    filled = np.flatnonzero(samples)
    values = np.interp(np.arange(count), filled, sums[filled] / samples[filled])
    distance = (np.arange(count) / OVERSAMPLING - _ESF_REACH) * spacing
    tail = _TAIL * spacing
    low, high = values[distance <= -tail].mean(), values[distance >= tail].mean()
    step = float(high - low)
    if step == 0:
        return EdgeSpread(distance, np.zeros(count), 0.0)
    return EdgeSpread(distance, (values - low) / step, step)


def edge_sharpness(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return how much of the sharpness of edges is left.

    The median of ``width of the reference's ESF / width of the other's`` over the edges that
    :func:`find_edges` finds in the reference, where the width is that from 10 to 90 %.

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
        1 where edges are as sharp, below 1 where they are blurred, above where they are sharpened.
        1 too where the reference has no clear straight edge. An edge that has lost half of its
        height counts as wide as what is looked at.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, or have NaN or infinities.
    """
    check_pair(x, y, title="a comparison of edges")
    edges = find_edges(x, data_range=data_range)
    if not edges:
        return 1.0
    return float(np.median([_kept(_spread(x, one, 1.0), _spread(y, one, 1.0)) for one in edges]))


def _kept(reference: EdgeSpread, other: EdgeSpread) -> float:
    # A step less than half as high, or the other way round, is another's or noise.
    if other.step / reference.step < 0.5:
        return reference.width / float(other.distance[-1] - other.distance[0])
    return reference.width / other.width


def _candidates(x: NDArray[np.float32]) -> Iterator[tuple[int, int, bool]]:
    """Yield where the steepest gradients of one direction are, and whether they lead across."""
    rows, columns = ((side - 2) // _GRID for side in x.shape)
    cells = np.empty((3, rows, columns))
    _gradient_products(x, cells)
    n = _SIDE // _GRID
    first, second, mixed = (_box_sums(products, n) for products in cells)
    energy = first + second
    coherence = np.hypot(first - second, 2 * mixed) / np.maximum(energy, 1e-12)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(energy, _NEAR), (2 * _NEAR + 1,) * 2)
    highest = energy >= around.max(axis=(2, 3))
    clear = np.flatnonzero((coherence > _LEAST_COHERENCE) & (energy > 0) & highest)
    order = clear[np.argsort(-energy.ravel()[clear], kind="stable")]
    middle = 1 + n * _GRID // 2
    for at in order[:_MOST_TRIED]:
        r, c = divmod(int(at), energy.shape[1])
        yield r * _GRID + middle, c * _GRID + middle, bool(first[r, c] >= second[r, c])


@_compiled
def _gradient_products(x: Plane, out: Plane) -> None:
    """Fill the sums over cells of the grid of squares and product of both central differences."""
    for r in range(out.shape[1]):
        for c in range(out.shape[2]):
            across2, down2, product = np.float32(0), np.float32(0), np.float32(0)
            for k in range(_GRID * r + 1, _GRID * (r + 1) + 1):
                for i in range(_GRID * c + 1, _GRID * (c + 1) + 1):
                    across, down = x[k, i + 1] - x[k, i - 1], x[k + 1, i] - x[k - 1, i]
                    across2 += across * across
                    down2 += down * down
                    product += across * down
            out[0, r, c] = across2
            out[1, r, c] = down2
            out[2, r, c] = product


def _box_sums(x: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the sums of all boxes of a side that lie in an array."""
    sums = np.pad(x, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    below = sums[side:] - sums[:-side]
    return np.asarray(below[:, side:] - below[:, :-side], np.float64)


def _patch(x: NDArray[Any], row: int, column: int, upright: bool) -> NDArray[Any]:
    """Return the part about a sample, with the edge along its first axis."""
    top, left = row - REACH, column - REACH
    part = x[max(top, 0) : top + _SIDE, max(left, 0) : left + _SIDE]
    return part if upright else part.T


def _distances(edge: Edge) -> NDArray[np.float64]:
    at = np.arange(-REACH, REACH + 1)
    line = edge.offset + edge.slope * at
    return np.asarray((at[None, :] - line[:, None]) * math.cos(math.atan(edge.slope)), np.float64)


def _fitted(x: NDArray[np.float32], row: int, column: int, upright: bool) -> Edge | None:
    """Return the edge about a sample, its part centred on it; None where there is none."""
    at = np.arange(-REACH, REACH + 1)
    offset = slope = 0.0
    for _ in range(3):
        row, column = (row, column + round(offset)) if upright else (row + round(offset), column)
        patch = _patch(x, row, column, upright)
        if patch.shape != (_SIDE, _SIDE):
            return None
        offset -= round(offset)
        steep = np.zeros(patch.shape)
        steep[:, 1:-1] = (patch[:, 2:] - patch[:, :-2]) ** 2
        near = np.abs(at[None, :] - (offset + slope * at)[:, None]) <= _TAIL
        steep *= near
        weights = steep.sum(axis=1)
        if not weights.all():
            return None
        places = steep @ at / weights
        slope, offset = float(at @ places) / float(at @ at), float(places.mean())
        if abs(slope) > 1.2 or abs(offset) > REACH:
            return None
    if abs(offset) > 1 or float(np.abs(places - offset - slope * at).mean()) > 0.5:
        return None
    return Edge(row, column, upright, offset, slope)


def _is_clear(x: NDArray[np.float32], edge: Edge, least: float) -> bool:
    """Tell whether both sides are flat, and far enough apart."""
    patch = _patch(x, edge.row, edge.column, edge.upright)
    distances = _distances(edge)
    below, above = patch[distances <= -_TAIL], patch[distances >= _TAIL]
    if min(below.size, above.size) < _SIDE:
        return False
    step = abs(float(above.mean() - below.mean()))
    return step >= least and max(float(below.std()), float(above.std())) <= _MOST_NOISE * step


def _value(pair: FramePair) -> float:
    return edge_sharpness(pair.source, pair.shown, data_range=pair.format.peak)


EDGE_SHARPNESS = register(
    QualityIndex(
        "edge_sharpness",
        "Edge sharpness kept",
        _value,
        decimals=3,
        log_loss=log_departure,
        # A small error moves a width in proportion to itself, not to its square.
        loss_per_qp=LOG_MSE_PER_QP / 2,
        special=True,
    )
)
