"""Maps of indices as pictures with colour bars, on scales that do not hang on the slice."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.measurement.loop import MeasuredSlice
from ssimrdo.measurement.regions import centred
from ssimrdo.measurement.results import decimals_of, title_of, unit_of
from ssimrdo.measurement.scale import CommonScale
from ssimrdo.record.tissue import GREY_LEVELS, HU

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

DPI: Final = 110

SIDE_INCHES: Final = 5.0
"""Longer side of a map."""

LEAST_LOSS: Final = 1e-3
"""1 - q of a similarity q where its colours begin; those of an error begin at its square root of a
share of the data range, a 512th, and end at a quarter of it."""

_SQUARED: Final = ("psnr", "mse")
_ABSOLUTE: Final = ("max_error",)


@dataclass(frozen=True)
class _Drawn:
    """Values of a map as they are coloured.

    Parameters
    ----------
    values : ndarray
        What has colours.
    low, high : float
        Where they begin and end.
    logarithmic : bool
        Whether they follow the logarithm.
    label : str
        Of the colour bar.
    ticks : tuple of (float, str), optional
        Marks on the bar, where they are not the values.
    """

    values: NDArray[np.float32]
    low: float
    high: float
    logarithmic: bool
    label: str
    ticks: tuple[tuple[float, str], ...] = ()


def map_png(name: str, measured: MeasuredSlice, scale: CommonScale) -> bytes:
    """Return the map of an index in a slice as PNG.

    Similarities, at most 1, are coloured by the logarithm of what is missing to 1, and errors by
    that of their size, so that one colour means the same in all slices. Other maps have a scale of
    their own from their least value to what 99.9 % do not exceed.

    Parameters
    ----------
    name : str
        The index; its map is among the slice's.
    measured : MeasuredSlice
        The slice.
    scale : CommonScale
        What its levels are.
    """
    # A Figure of its own, as pyplot would look for a display and keep it in a global list.
    from matplotlib.figure import Figure

    rows, columns = measured.pair.format.shape
    longer = max(rows, columns)
    height, width = SIDE_INCHES * rows / longer, SIDE_INCHES * columns / longer
    whole = (width + 1.25, max(height, 1.5) + 0.5)
    figure = Figure(figsize=whole, facecolor="white")
    box = (0.1 / whole[0], 0.1 / whole[1], width / whole[0], height / whole[1])
    axis = figure.add_axes(box)
    drawn = _drawn(name, measured.maps[name], scale)
    unit = GREY_LEVELS if scale.grey is None else HU
    value = measured.row.values[name]
    shown = "–" if value is None else f"{value:.{decimals_of(name)}f}"
    mark = unit_of(name, unit)
    axis.set_title(
        f"{title_of(name)}, slice {measured.row.number}: {shown}{' ' + mark if mark else ''}",
        fontsize=11,
        loc="left",
    )
    _draw(axis, drawn, measured)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": "ssimrdo"})
    return stream.getvalue()


def _draw(axis: Axes, drawn: _Drawn, measured: MeasuredSlice) -> None:
    rows, columns = measured.pair.format.shape
    part = centred(drawn.values, (rows, columns))
    top, bottom, left, right = (
        (0, rows, 0, columns)
        if part is None
        else (part[0].start, part[0].stop, part[1].start, part[1].stop)
    )
    image = axis.imshow(
        np.maximum(drawn.values, np.float32(drawn.low)) if drawn.logarithmic else drawn.values,
        cmap="magma",
        norm=_norm(drawn),
        interpolation="nearest",
        extent=(left, right, bottom, top),
    )
    axis.set(xlim=(0, columns), ylim=(rows, 0))
    axis.set_facecolor("#d8dcdf")
    if measured.mask is not None and measured.mask.any() and not measured.mask.all():
        axis.contour(
            np.arange(columns) + 0.5,
            np.arange(rows) + 0.5,
            measured.mask,
            levels=[0.5],
            colors="#4fc3f7",
            linewidths=0.8,
        )
    axis.set_xticks([])
    axis.set_yticks([])
    beside = axis.inset_axes((1.02, 0, 0.045, 1))
    bar = axis.figure.colorbar(image, cax=beside, extend="both")
    bar.set_label(drawn.label)
    if drawn.ticks:
        bar.set_ticks([value for value, _ in drawn.ticks], labels=[text for _, text in drawn.ticks])
        bar.minorticks_off()


def _norm(drawn: _Drawn) -> Normalize:
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if drawn.logarithmic else Normalize)(drawn.low, drawn.high)


def _drawn(name: str, values: NDArray[np.float32], scale: CommonScale) -> _Drawn:
    index = metrics.get(name)
    step, unit = scale.unit_per_level, GREY_LEVELS if scale.grey is None else HU
    if name in (*_SQUARED, *_ABSOLUTE):
        size = np.sqrt(values) if name in _SQUARED else values
        error = np.asarray(size * np.float32(step), np.float32)
        low, high = scale.data_range / 512, scale.data_range / 4
        ticks = tuple((mark, f"{mark:g}") for mark in _round_numbers(low, high))
        return _Drawn(error, low, high, True, f"error ({unit})", ticks)
    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if least >= -1 and most <= 1 + 1e-4:
        ticks = tuple((10.0**-power, f"{1 - 10.0**-power:.{power}f}") for power in (3, 2, 1, 0))
        # The map of an index of deviations, such as GMSD, is one of similarities all the same.
        label = index.title if index.higher_is_better else "similarity"
        return _Drawn(1 - values, LEAST_LOSS, 1.0, True, label, ticks)
    low, high = least, float(np.quantile(finite, 0.999)) if finite.size else 1.0
    if not high > low:
        low, high = low - 0.5, low + 0.5
    own = index.unit if not math.isclose(step, 1) else ""
    return _Drawn(values, low, high, False, f"{index.title}{f' ({own})' if own else ''}")


def _round_numbers(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2 and 5 times a power of ten between two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = (float(f"{first}e{power}") for power in powers for first in (1, 2, 5))
    return [number for number in found if low <= number <= high]
