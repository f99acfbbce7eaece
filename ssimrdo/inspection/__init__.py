"""What the model makes of one slice: σ², θ, λ_i/λ and ΔQP of every macroblock."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo import defaults
from ssimrdo import objective as rdo
from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from ssimrdo.dicom import Window

SUFFIXES = (".png", ".html")

DPI = 110

PANEL_INCHES = 3.6


@dataclass(frozen=True)
class Inspection:
    """One slice and its maps.

    Parameters
    ----------
    number : int
        Which slice of the series, from 1.
    slices : int
        How many the series has.
    luma : ndarray of shape (rows, columns)
        The slice as it would be encoded.
    bit_depth : int
        Bits per sample of the luma.
    window : Window
        The window it was made with.
    strength : float
        Share s of the theoretical QP offset.
    maps : ssimrdo.objective.BlockMaps
        The model's quantities.
    """

    number: int
    slices: int
    luma: NDArray[Any]
    bit_depth: int
    window: Window
    strength: float
    maps: rdo.BlockMaps


@dataclass(frozen=True)
class Quantity:
    """One map with what its numbers mean."""

    key: str
    name: str
    symbol: str
    unit: str
    meaning: str
    values: NDArray[np.float32]
    logarithmic: bool = False
    diverging: bool = False


def inspect_slice(
    series: Path | str,
    *,
    number: int | None = None,
    window: Window | None = None,
    bit_depth: int = defaults.BIT_DEPTH,
    strength: float = defaults.RDO_STRENGTH,
    series_uid: str | None = None,
    skip_bad: bool = False,
) -> Inspection:
    """Load one slice of a series as it would be encoded, and compute its maps.

    Parameters
    ----------
    series : Path or str
        Folder that is searched recursively, or a single DICOM file.
    number : int, optional
        Which slice, from 1; the middle one by default.
    window : Window, optional
        The header's own when None.
    bit_depth : int
        8 or 10.
    strength : float
        Share s of the theoretical QP offset.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files that cannot be used instead of refusing the series.

    Raises
    ------
    InputError
        If the series or an option cannot be used.
    """
    from ssimrdo.dicom import open_series
    from ssimrdo.dicom.luma import choose_window, load_luma

    found, _ = open_series(Path(series), series_uid=series_uid, skip_bad=skip_bad)
    count = len(found.slices)
    chosen = (count + 1) // 2 if number is None else number
    if not 1 <= chosen <= count:
        raise InputError(f"--slice {chosen} is out of range: the series has slices 1 to {count}")
    used = choose_window(found, window)
    luma = load_luma(found.slices[chosen - 1], used, bit_depth=bit_depth)
    maps = rdo.block_maps(luma, bit_depth=bit_depth, strength=strength)
    return Inspection(chosen, count, luma, bit_depth, used, strength, maps)


def write_inspection(inspection: Inspection, output: Path, *, overwrite: bool = False) -> None:
    """Write the maps as PNG or HTML, whole or not at all.

    Raises
    ------
    InputError
        If the suffix is neither ``.png`` nor ``.html``, the file exists and may not be replaced,
        or what reports are made with is not installed.
    OSError
        If writing fails, such as on a full disk.
    """
    from ssimrdo.files_single import write_whole

    check_output(output, overwrite=overwrite)
    data = figure_png(inspection) if _is_png(output) else page(inspection).encode()
    write_whole(output, data, overwrite=overwrite)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Check the output before anything is computed; errors as :func:`write_inspection`."""
    from ssimrdo.files_single import check_free
    from ssimrdo.html.extra import check_extra

    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{output}: the suffix tells the kind: use one of {', '.join(SUFFIXES)}")
    check_free(output, overwrite=overwrite)
    check_extra("matplotlib", *(() if _is_png(output) else ("jinja2",)))


def quantities(maps: rdo.BlockMaps, strength: float) -> tuple[Quantity, ...]:
    """Return the maps in the order of their derivation, with symbols, units and meaning."""
    return (
        Quantity(
            "variance",
            "variance of the source",
            "σ²",
            "luma²",
            "how much structure a macroblock has",
            maps.variance,
            logarithmic=True,
        ),
        Quantity(
            "theta",
            "slope of 1/SSIM over MSE",
            "θ",
            "1/luma²",
            "how much SSIM a squared error costs",
            maps.theta,
            logarithmic=True,
        ),
        Quantity(
            "ratio",
            "Lagrange multiplier over the encoder's",
            "λᵢ/λ",
            "ratio",
            "below 1: distortion weighs more than the encoder alone has it",
            maps.lagrange_ratio,
            logarithmic=True,
            diverging=True,
        ),
        Quantity(
            "offset",
            f"quantizer offset at strength {strength:g}",
            "ΔQP",
            "QP steps",
            "below 0: quantized finer, gets more bits",
            maps.qp_offset,
            diverging=True,
        ),
    )


def figure_png(inspection: Inspection) -> bytes:
    """Return the slice, its maps with colour bars, and how ΔQP is distributed, as PNG."""
    figure = _figure(inspection)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": "ssimrdo"})
    return stream.getvalue()


def page(inspection: Inspection) -> str:
    """Return an HTML page with the figure and the maps' numbers, loading nothing else."""
    import base64

    from ssimrdo.html.page import render_template

    rows, columns = inspection.luma.shape
    return render_template(
        "ssimrdo.inspection",
        "inspect",
        title=_title(inspection),
        about=_about(inspection),
        figure="data:image/png;base64," + base64.b64encode(figure_png(inspection)).decode(),
        quantities=[_row(q) for q in quantities(inspection.maps, inspection.strength)],
        slice_image=_slice_uri(inspection),
        rows=rows,
        columns=columns,
        data={
            "rows": rows,
            "columns": columns,
            "maps": {
                q.key: [[float(f"{v:.4g}") for v in row] for row in q.values.tolist()]
                for q in quantities(inspection.maps, inspection.strength)
            },
        },
    )


def _is_png(output: Path) -> bool:
    return output.suffix.lower() == ".png"


def _title(inspection: Inspection) -> str:
    return f"Slice {inspection.number} of {inspection.slices}"


def _about(inspection: Inspection) -> str:
    rows, columns = inspection.luma.shape
    window = f"{inspection.window.center:g}/{inspection.window.width:g} HU"
    return (
        f"{columns}×{rows}, window {window.replace('-', chr(0x2212))}, {inspection.bit_depth} bit, "
        f"strength {inspection.strength:g}"
    )


def _slice_uri(inspection: Inspection) -> str:
    from ssimrdo.compare.report.viewer import as_8_bit
    from ssimrdo.html.images import png_uri

    return png_uri(as_8_bit(inspection.luma, inspection.bit_depth))


def _row(quantity: Quantity) -> dict[str, Any]:
    shares = (0, 0.05, 0.5, 0.95, 1)
    values = np.quantile(quantity.values.astype(np.float64), shares)
    return {
        "key": quantity.key,
        "name": quantity.name,
        "symbol": quantity.symbol,
        "unit": quantity.unit,
        "meaning": quantity.meaning,
        "numbers": [_three_digits(value) for value in values],
    }


def _three_digits(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "\u2212")


def _figure(inspection: Inspection) -> Any:
    # A Figure of its own, as pyplot would look for a display and keep it in a global list.
    from matplotlib.figure import Figure

    rows, columns = inspection.luma.shape
    panel = PANEL_INCHES * min(max(rows / columns, 0.6), 1.7)
    width, height = 14.4, 2 * panel + 1.9
    # A layout found by Matplotlib itself takes longer than all the drawing.
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.suptitle(
        f"{_title(inspection)} · {_about(inspection)}",
        fontsize=13,
        x=0.15 / width,
        y=1 - 0.15 / height,
        ha="left",
        va="top",
    )
    axes = figure.subplots(
        2,
        3,
        gridspec_kw={
            "left": 0.15 / width,
            "right": 1 - 1.05 / width,
            "top": 1 - 0.8 / height,
            "bottom": 0.6 / height,
            "wspace": 0.33,
            "hspace": 0.5 / panel,
        },
    )
    shown = quantities(inspection.maps, inspection.strength)
    _draw_slice(axes[0, 0], inspection)
    for axis, quantity in zip((axes[0, 1], axes[0, 2], axes[1, 0], axes[1, 1]), shown, strict=True):
        _draw_map(figure, axis, quantity, inspection.luma)
    _draw_histogram(axes[1, 2], inspection.maps.qp_offset)
    return figure


def _draw_slice(axis: Any, inspection: Inspection) -> None:
    peak = (1 << inspection.bit_depth) - 1
    axis.imshow(inspection.luma, cmap="gray", vmin=0, vmax=peak, interpolation="nearest")
    axis.set_title("Slice as encoded", fontsize=11, loc="left")
    axis.set_axis_off()


def _draw_map(figure: Any, axis: Any, quantity: Quantity, luma: NDArray[Any]) -> None:
    """Draw a map over the slice; the map's last row and column may reach over the slice."""
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
    norm = _norm(quantity)
    drawn = axis.imshow(
        # A logarithm has no place for the zero variance of flat blocks.
        np.maximum(quantity.values, norm.vmin),
        cmap="PuOr_r" if quantity.diverging else "viridis",
        norm=norm,
        alpha=0.72,
        interpolation="nearest",
        extent=(0, 16 * block_columns, 16 * block_rows, 0),
    )
    axis.set(xlim=(0, columns), ylim=(rows, 0))
    axis.set_title(f"{quantity.symbol}: {quantity.name}", fontsize=11, loc="left")
    axis.set_axis_off()
    below = "min" if float(quantity.values.min()) < norm.vmin else "neither"
    # Beside the panel, not at its cost: all panels keep one size.
    beside = axis.inset_axes((1.02, 0, 0.045, 1))
    bar = figure.colorbar(drawn, cax=beside, extend=below)
    bar.solids.set_alpha(1)
    bar.set_label(f"{quantity.symbol} ({quantity.unit})")


def _norm(quantity: Quantity) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    values = quantity.values.astype(np.float64)
    if quantity.logarithmic and quantity.diverging:
        reach = max(float(np.abs(np.log2(values)).max()), 1.0)
        return LogNorm(2.0**-reach, 2.0**reach)
    if quantity.logarithmic:
        # Flat blocks may have no variance at all.
        positive = values[values > 0]
        low, high = _range(positive, floor=1e-3) if positive.size else (0.1, 1.0)
        return LogNorm(max(low, high / 1e6), high)
    reach = max(float(np.abs(values).max()), 1.0)
    return Normalize(-reach, reach)


def _range(values: Sequence[float] | NDArray[Any], *, floor: float) -> tuple[float, float]:
    """Return the range of positive values, never empty."""
    low, high = float(np.min(values)), float(np.max(values))
    return (low, high) if high > low * (1 + floor) else (low / 2, low * 2)


def _draw_histogram(axis: Any, offsets: NDArray[np.float32]) -> None:
    low, high = int(np.floor(offsets.min())), int(np.ceil(offsets.max()))
    edges = np.arange(low, max(high, low + 1) + 1)
    axis.hist(offsets.ravel(), bins=edges, color="#0b6e75")
    axis.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axis.set_title("How ΔQP is distributed", fontsize=11, loc="left")
    axis.set_xlabel("ΔQP (QP steps)")
    axis.set_ylabel("macroblocks")
    # On the right, as on the left there is the colour bar of the panel beside.
    axis.yaxis.tick_right()
    axis.yaxis.set_label_position("right")
    axis.spines[["top", "left"]].set_visible(False)
