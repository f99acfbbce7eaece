"""The figure of an inspection: a slice and its maps with colour bars."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import MACROBLOCK
from ssimrdo.inspection.inspect import Inspection
from ssimrdo.inspection.maps import Quantity, quantities
from ssimrdo.inspection.tissue import COLOURS, ErrorRow, error_map, error_rows, painted
from ssimrdo.record.tissue import AREA_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI: Final = 110

PANEL_INCHES: Final = 3.6

COLUMNS: Final = 3
"""Panels side by side."""

ERROR_HEADS: Final = ["RMSE", "bias", "99 %", "max"]


def title(inspection: Inspection) -> str:
    """Return which slice it is."""
    of = f" of {inspection.slices}" if inspection.slices else ""
    return f"Slice {inspection.number}{of}"


def about(inspection: Inspection) -> str:
    """Return how the slice is shown and what for its maps are made."""
    rows, columns = inspection.format.shape
    window = f"{inspection.window.center:g}/{inspection.window.width:g} HU"
    return (
        f"{columns}×{rows}, window {window.replace('-', chr(0x2212))}, "
        f"{inspection.format.bit_depth} bit, objective {inspection.objective}, "
        f"strength {inspection.strength:g}"
    )


def figure_png(inspection: Inspection) -> bytes:
    """Return the slice, its maps with colour bars, and how ΔQP is distributed, as PNG."""
    stream = io.BytesIO()
    draw(inspection).savefig(stream, format="png", dpi=DPI, metadata={"Software": "ssimrdo"})
    return stream.getvalue()


def draw(inspection: Inspection) -> Figure:
    """Return the figure."""
    # A Figure of its own, as pyplot would look for a display and keep it in a global list.
    from matplotlib.figure import Figure

    panels = list(_panels(inspection))
    rows, columns = inspection.format.shape
    panel = PANEL_INCHES * min(max(rows / columns, 0.6), 1.7)
    rows_of_panels = -(-len(panels) // COLUMNS)
    # Below a row may be the labels of an axis.
    between = 0.8
    width, height = 14.4, rows_of_panels * panel + 1.4 + between * (rows_of_panels - 1)
    # A layout found by Matplotlib itself takes longer than all the drawing.
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.suptitle(
        f"{title(inspection)} · {about(inspection)}",
        fontsize=13,
        x=0.15 / width,
        y=1 - 0.15 / height,
        ha="left",
        va="top",
    )
    axes = figure.subplots(
        rows_of_panels,
        COLUMNS,
        gridspec_kw={
            "left": 0.15 / width,
            "right": 1 - 1.05 / width,
            "top": 1 - 0.8 / height,
            "bottom": 0.6 / height,
            "wspace": 0.33,
            "hspace": between / panel,
        },
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, drawing in zip(axes.flat, panels, strict=False):
        drawing(axis)
    return figure


def _panels(inspection: Inspection) -> Iterator[Callable[[Axes], None]]:
    """Yield what draws the panels, row by row."""
    shown = quantities(inspection.maps, inspection.strength, inspection.stream)
    yield partial(_draw_slice, inspection=inspection)
    for quantity in shown:
        if quantity.drawn:
            yield partial(_draw_map, quantity=quantity, luma=inspection.luma)
        if quantity.key == "offset":
            yield partial(_draw_histogram, offsets=quantity.meant)
    if inspection.tissue is not None:
        if inspection.errors is not None:
            yield partial(_draw_errors, inspection=inspection)
        yield partial(_draw_classes, inspection=inspection)
        yield partial(_draw_table, rows=error_rows(inspection))


def _draw_slice(axis: Axes, inspection: Inspection) -> None:
    axis.imshow(
        inspection.luma, cmap="gray", vmin=0, vmax=inspection.format.peak, interpolation="nearest"
    )
    axis.set_title("Slice as encoded", fontsize=11, loc="left")
    axis.set_axis_off()


def _draw_map(axis: Axes, quantity: Quantity, luma: NDArray[Any]) -> None:
    """Draw a map over the slice; the map's last row and column may reach over the slice."""
    from matplotlib.colors import LogNorm, Normalize

    rows, columns = luma.shape
    block_rows, block_columns = quantity.values.shape
    # Grey of little contrast beneath leaves the colours close to those of the bar.
    peak = float(luma.max()) or 1.0
    axis.imshow(
        luma,
        cmap="gray",
        vmin=-1.2 * peak,
        vmax=peak,
        interpolation="nearest",
        extent=(0, columns, rows, 0),
    )
    low, high = _limits(quantity)
    scale = LogNorm if quantity.logarithmic else Normalize
    # A logarithm has no place for the zero variance of flat blocks.
    values = np.maximum(quantity.values, np.float32(low))
    drawn = axis.imshow(
        values if quantity.hatched is None else np.ma.masked_array(values, quantity.hatched),
        cmap="PuOr_r" if quantity.diverging else "viridis",
        norm=scale(low, high),
        alpha=0.72,
        interpolation="nearest",
        extent=(0, MACROBLOCK * block_columns, MACROBLOCK * block_rows, 0),
    )
    if quantity.hatched is not None and quantity.hatched.any():
        _hatch(axis, quantity.hatched)
    axis.set(xlim=(0, columns), ylim=(rows, 0))
    axis.set_title(f"{quantity.symbol}: {quantity.name}", fontsize=11, loc="left")
    axis.set_axis_off()
    below = "min" if quantity.meant.size and float(quantity.meant.min()) < low else "neither"
    # Beside the panel, not at its cost: all panels keep one size.
    beside = axis.inset_axes((1.02, 0, 0.045, 1))
    bar = axis.figure.colorbar(drawn, cax=beside, extend=below)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.set_label(f"{quantity.symbol} ({quantity.unit})")


def _hatch(axis: Axes, mask: NDArray[np.bool_]) -> None:
    """Hatch macroblocks; rows of them are drawn as one."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    patches = []
    for row, blocks in enumerate(mask):
        ends = np.flatnonzero(np.diff(np.concatenate(([0], blocks.astype(np.int8), [0]))))
        for start, stop in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
            corner = (MACROBLOCK * start, MACROBLOCK * row)
            patches.append(Rectangle(corner, MACROBLOCK * (stop - start), MACROBLOCK))
    axis.add_collection(
        PatchCollection(
            patches, facecolor="none", edgecolor="#404040", linewidth=0, hatch="////", zorder=2
        )
    )


def _draw_classes(axis: Axes, inspection: Inspection) -> None:
    axis.imshow(painted(inspection), interpolation="nearest")
    axis.set_title("Classes of tissue", fontsize=11, loc="left")
    axis.set_axis_off()


def _draw_errors(axis: Axes, inspection: Inspection) -> None:
    errors = error_map(inspection)
    assert errors is not None, "there is an encode"
    assert inspection.errors is not None, "there is an encode"
    axis.set_axis_off()
    # A few large ones would leave no colour for the others.
    reach = max(float(np.quantile(np.abs(errors), 0.999)), 1.0)
    drawn = axis.imshow(errors, cmap="PuOr_r", vmin=-reach, vmax=reach, interpolation="nearest")
    axis.set_title("Errors of the encode", fontsize=11, loc="left")
    beside = axis.inset_axes((1.02, 0, 0.045, 1))
    bar = axis.figure.colorbar(drawn, cax=beside, extend="both")
    bar.set_label(f"decoded \u2212 source ({inspection.errors.unit})")


def _draw_table(axis: Axes, rows: tuple[ErrorRow, ...]) -> None:
    """Write what the colours mean, and the figures of each class."""
    axis.set_axis_off()
    is_measured = any(row.errors for row in rows)
    title = f"Errors in {rows[0].unit} by class" if is_measured else "What the colours mean"
    axis.set_title(title, fontsize=11, loc="left")
    heads = ["share", *(ERROR_HEADS if is_measured else [])]
    lines = [("", None, heads)] + [
        (AREA_NAMES[row.area], COLOURS.get(row.area), [row.share, *_figures(row, is_measured)])
        for row in rows
    ]
    for line, (name, colour, figures) in enumerate(lines):
        y = 0.94 - 0.085 * line
        if colour is not None:
            box = {"facecolor": colour, "edgecolor": "none", "boxstyle": "square,pad=0.25"}
            axis.text(0.02, y, "  ", transform=axis.transAxes, fontsize=7, bbox=box)
        axis.text(0.09, y, name, transform=axis.transAxes, fontsize=10)
        for column, text in enumerate(figures):
            x = 0.66 + 0.135 * column
            axis.text(x, y, text, transform=axis.transAxes, fontsize=10, ha="right")


def _figures(row: ErrorRow, is_measured: bool) -> list[str]:
    if not is_measured:
        return []
    return row.errors or ["\u2013"] * len(ERROR_HEADS)


def _limits(quantity: Quantity) -> tuple[float, float]:
    """Return the values at the ends of a map's colours."""
    values = quantity.meant.astype(np.float64)
    if not values.size:
        return 0.0, 1.0
    if quantity.key == "qp":
        return float(values.min()), max(float(values.max()), float(values.min()) + 1)
    if quantity.logarithmic and quantity.diverging:
        reach = max(float(np.abs(np.log2(values)).max()), 1.0)
        return 2.0**-reach, 2.0**reach
    if quantity.logarithmic:
        # Flat blocks may have no variance at all.
        positive = values[values > 0]
        low, high = _range(positive, floor=1e-3) if positive.size else (0.1, 1.0)
        return max(low, high / 1e6), high
    reach = max(float(np.abs(values).max()), 1.0)
    return -reach, reach


def _range(values: NDArray[np.float64], *, floor: float) -> tuple[float, float]:
    """Return the range of positive values, never empty."""
    low, high = float(np.min(values)), float(np.max(values))
    return (low, high) if high > low * (1 + floor) else (low / 2, low * 2)


def _draw_histogram(axis: Axes, offsets: NDArray[np.float32]) -> None:
    low = int(np.floor(offsets.min(initial=0)))
    high = int(np.ceil(offsets.max(initial=0)))
    edges = list(range(low, max(high, low + 1) + 1))
    axis.hist(offsets.ravel(), bins=edges, color="#0b6e75")
    axis.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axis.set_title("How ΔQP is distributed, hatched left out", fontsize=11, loc="left")
    axis.set_xlabel("ΔQP (QP steps)")
    axis.set_ylabel("macroblocks")
    # On the right, as on the left there is the colour bar of the panel beside.
    axis.yaxis.tick_right()
    axis.yaxis.set_label_position("right")
    axis.spines[["top", "left"]].set_visible(False)
