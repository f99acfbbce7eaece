"""Regions of interest, and what an index is inside one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.errors import InputError
from ssimrdo.measurement.pictures import is_picture, read_picture
from ssimrdo.metrics import PSNR_CEILING_DB, FramePair, QualityIndex, pooling
from ssimrdo.metrics.tissue import Area, TissueMap
from ssimrdo.text import printable

_RECTANGLE: Final = re.compile(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*", re.ASCII)

Pool = Callable[[NDArray[Any], float], float]
"""Makes an index of the values of its map and the data range."""


def _mean(values: NDArray[Any], peak: float) -> float:
    del peak
    return float(values.mean(dtype=np.float64))


def _psnr(values: NDArray[Any], peak: float) -> float:
    squared = float(values.mean(dtype=np.float64))
    return (
        PSNR_CEILING_DB
        if squared == 0
        else min(10 * math.log10(peak**2 / squared), PSNR_CEILING_DB)
    )


POOLS: Final[Mapping[str, Pool]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("ssim", "weighted_ssim", "inverse_ssim", "edge_ssim", "lwssim", "mse"),
                *("ssim_luminance", "ssim_contrast", "ssim_structure"),
            ),
            _mean,
        ),
        "gmsd": lambda values, _: float(values.std(dtype=np.float64)),
        "psnr": _psnr,
        "max_error": lambda values, _: float(values.max()),
        "ssim_distortion_weighted": lambda values, _: pooling.distortion_weighted_mean(values),
        "ssim_p5": lambda values, _: pooling.percentile(values),
        "ssim_min": lambda values, _: pooling.minimum(values),
    }
)
"""Indices that are nothing but their map pooled, so that a part of the map gives them for a part
of the slice. All others are taken of the rectangle around a region."""


@dataclass(frozen=True)
class Region:
    """Where a measurement looks.

    Parameters
    ----------
    text : str
        What the user calls it, printable: ``body``, a file's name or a rectangle.
    mask : ndarray of bool, optional
        Where it is, the same in all slices; None for the body of each slice.
    """

    text: str
    mask: NDArray[np.bool_] | None

    def of(self, tissue: TissueMap) -> NDArray[np.bool_]:
        """Return where it is in a slice."""
        return tissue.mask(Area.BODY) if self.mask is None else self.mask


def region_of(given: str | Path | NDArray[Any] | None, shape: tuple[int, int]) -> Region | None:
    """Return a region as a user gives it; None for none.

    Parameters
    ----------
    given : str, Path or ndarray, optional
        ``body``, ``x,y,w,h`` in samples from the upper left corner, a picture that is not black
        inside, or an array of the slices' shape that is not 0 inside.
    shape : tuple of int
        Rows and columns of a slice.

    Raises
    ------
    InputError
        If it is none of these, has another size, or is empty.
    """
    if given is None:
        return None
    if isinstance(given, np.ndarray):
        return _of_mask(given, "mask", shape)
    text = str(given)
    if text.strip().lower() == "body":
        return Region("body", None)
    numbers = _RECTANGLE.fullmatch(text)
    if numbers is not None:
        x, y, width, height = map(int, numbers.groups())
        return _of_rectangle(x, y, width, height, shape)
    path = Path(text)
    if not is_picture(path):
        raise InputError(
            f"{printable(text):.80} is neither body nor x,y,w,h nor a picture", field="roi"
        )
    mask, _ = read_picture(path)
    return _of_mask(mask, printable(path.name), shape)


def _of_rectangle(x: int, y: int, width: int, height: int, shape: tuple[int, int]) -> Region:
    text = f"{x},{y},{width},{height}"
    if width < 1 or height < 1:
        raise InputError(f"{text} is empty", field="roi", remedy="give x,y,w,h with a size above 0")
    rows, columns = shape
    if x < 0 or y < 0 or x + width > columns or y + height > rows:
        raise InputError(
            f"{text} reaches beyond the slices, which are {columns}x{rows}", field="roi"
        )
    mask = np.zeros(shape, np.bool_)
    mask[y : y + height, x : x + width] = True
    return Region(text, mask)


def _of_mask(given: NDArray[Any], text: str, shape: tuple[int, int]) -> Region:
    if given.shape != shape:
        sizes = ["x".join(map(str, one[::-1])) for one in (given.shape, shape)]
        raise InputError(f"{text} is {sizes[0]}, the slices are {sizes[1]}", field="roi")
    mask = np.asarray(given != 0)
    if not mask.any():
        raise InputError(f"{text} is 0 everywhere: the region is empty", field="roi")
    return Region(text, mask)


def centred(values: NDArray[Any], shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return the part of a frame that the values of a map are centred in.

    None if the map has another resolution than the frame.
    """
    missing = [side - inner for side, inner in zip(shape, values.shape, strict=True)]
    if min(missing) < 0 or missing[0] != missing[1] or missing[0] % 2:
        return None
    margin = missing[0] // 2
    if margin and min(values.shape) < margin:
        return None
    return slice(margin, shape[0] - margin), slice(margin, shape[1] - margin)


def value_inside(index: QualityIndex, pair: FramePair, mask: NDArray[np.bool_]) -> float | None:
    """Return an index inside a region; None if the region has nothing of it.

    Of an index in :data:`POOLS` it is the pooled map of the windows whose centre lies inside; they
    reach beyond the region, and those that reach beyond the slice do not count. Any other index is
    taken of the smallest rectangle around the region, as if there were nothing else.

    Raises
    ------
    ValueError
        If the rectangle is smaller than the index takes.
    """
    pool = POOLS.get(index.name)
    if pool is not None and index.map is not None:
        values = index.map(pair)
        part = centred(values, pair.format.shape)
        assert part is not None, "such maps have the frame's resolution"
        inside = values[mask[part]]
        return pool(inside, pair.format.peak) if inside.size else None
    if not mask.any():
        return None
    return float(index.value(cut_out(pair, mask)))


def cut_out(pair: FramePair, mask: NDArray[np.bool_]) -> FramePair:
    """Return the smallest rectangle around a region, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    source = np.ascontiguousarray(pair.source[box])
    form = replace(pair.format, rows=source.shape[0], columns=source.shape[1])
    return FramePair(source, np.ascontiguousarray(pair.shown[box]), form)


def is_pooled(index: QualityIndex) -> bool:
    """Return whether an index is known inside a region of any shape."""
    return index.name in POOLS
