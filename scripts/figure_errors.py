"""Draw a slice and its errors in HU, of x264 and of ssimrdo at equal size.

x264 encodes with --preset medium --tune ssim at CRF 23, ssimrdo with its defaults at the CRF, found
by bisection to 0.01, whose video is the largest that is not above that of x264. The bars show the
RMSE over the whole series. The slice is not picked by its looks: by default it is the one whose
difference in the RMSE at edges, ssimrdo minus x264, is the median over the slices (the lower of the
two in the middle). It is cut to the body. The phantom is shown in the lung window, the only one of
its two that shows every class of tissue; --window soft-tissue draws it in the other.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ssimrdo import metrics, objective
from ssimrdo.codecs.base import ConstantQuality
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.dicom import Window, parse_window
from ssimrdo.encoding.options import BIT_DEPTH, FPS, RDO
from ssimrdo.encoding.passes import PassSettings, Target, run_passes
from ssimrdo.encoding.source import OpenedSource, open_source
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.files import write_whole
from ssimrdo.frames import FrameSource
from ssimrdo.html.text import percent
from ssimrdo.metrics import FramePair
from ssimrdo.metrics.tissue import (
    Area,
    GreyScale,
    TissueErrors,
    combined,
    errors_by_tissue,
    tissue_map,
)
from ssimrdo.record.tissue import AREA_NAMES, grey_scale
from ssimrdo.video.decode import decoded_luma

ROOT: Final = Path(__file__).resolve().parents[1]
SERIES: Final = ROOT / "data" / "phantom"
WINDOW: Final = "lung"
"""Of the phantom."""

OUTPUT: Final = ROOT / "docs" / "errors.svg"

CRF: Final = 23.0
CRFS: Final = tuple(step / 100 for step in range(100, 5101))
"""What is searched, in ascending order."""

AREAS: Final = (Area.BODY, Area.EDGE, Area.DENSE, Area.FLAT, Area.LUNG)

CONTAINER: Final = "mp4"

WIDTH_INCHES: Final = 9.375
"""900 pixels of CSS."""

MARGIN: Final = 6
"""Samples around the body that are shown."""

REACH_QUANTILE: Final = 0.998
"""Of the errors shown, so that a few large ones leave colours for the others."""

GREY: Final = "#8a8f98"
BLUE: Final = "#0b6e99"

EMBEDDED_PNG: Final = re.compile(r"(?<=data:image/png;base64,)\s*[A-Za-z0-9+/=]+")
MINUS: Final = "\u2212"

COLOURS: Final = 256
"""That a palette holds."""


@dataclass(frozen=True)
class Encoder:
    """One of the two that are compared.

    Parameters
    ----------
    name, options : str
        What the figure calls it, and how it is set.
    colour : str
        Of its bars.
    settings : PassSettings
        How it encodes.
    """

    name: str
    options: str
    colour: str
    settings: PassSettings

    def at(self, crf: float) -> PassSettings:
        """Return the settings at a CRF."""
        return replace(self.settings, rate=ConstantQuality(crf))


# More threads than one would make the bytes depend on the machine.
X264_TUNED: Final = Encoder(
    "x264",
    "--preset medium --tune ssim",
    GREY,
    PassSettings(X264(preset="medium", tune="ssim"), ConstantQuality(CRF), threads=1),
)
SSIMRDO: Final = Encoder(
    "ssimrdo",
    "default settings",
    BLUE,
    PassSettings(X264(), ConstantQuality(CRF), objective.get(RDO), threads=1),
)


@dataclass(frozen=True)
class Encode:
    """A finished encode, measured.

    Parameters
    ----------
    encoder : Encoder
        What made it.
    crf : float
        Its CRF.
    payload_bytes : int
        Size of the video without its container.
    path : Path
        The file.
    ssim : float
        Mean over the slices.
    slices : tuple of TissueErrors
        Errors of every slice in luma steps.
    """

    encoder: Encoder
    crf: float
    payload_bytes: int
    path: Path
    ssim: float
    slices: tuple[TissueErrors, ...]

    @cached_property
    def series(self) -> TissueErrors:
        """Errors of all slices together."""
        return combined(self.slices)


def note(message: str) -> None:
    """Tell the user how far the work is."""
    print(f"figure_errors: {message}", file=sys.stderr, flush=True)


def size(frames: FrameSource, encoder: Encoder, crf: float) -> int:
    """Return the bytes that an encoder needs at a CRF."""
    found = run_passes(frames, encoder.at(crf), Target(CONTAINER)).payload_bytes
    note(f"{encoder.name} at CRF {crf:g}: {found:,} bytes")
    return found


def equal_size_crf(size_at: Callable[[float], int], limit: int) -> float:
    """Return the CRF of the largest size tried that is not above a limit.

    Parameters
    ----------
    size_at : callable
        Returns the size at one of :data:`CRFS`; falls with CRF, but for scatter.
    limit : int
        The size to come close to.

    Raises
    ------
    InputError
        If the highest CRF gives more.
    """
    tried: dict[float, int] = {}

    def negative_size(crf: float) -> int:
        tried[crf] = size_at(crf)
        return -tried[crf]

    bisect_left(CRFS, -limit, key=negative_size)
    fitting = {crf: found for crf, found in tried.items() if found <= limit}
    if not fitting:
        raise InputError(f"no CRF up to {CRFS[-1]:g} gives {limit:,} bytes or less")
    return max(fitting, key=lambda crf: fitting[crf])


def encode(
    frames: FrameSource, scale: GreyScale, encoder: Encoder, crf: float, path: Path
) -> Encode:
    """Encode into a file, and measure what FFmpeg decodes of it."""
    outcome = run_passes(frames, encoder.at(crf), Target(CONTAINER, path))
    values, slices = [], []
    shown = decoded_luma(path, container=CONTAINER, bit_depth=frames.format.bit_depth)
    for index, (source, decoded) in enumerate(zip(frames.frames(), shown, strict=True)):
        cropped, padding = frames.format.crop(decoded), frames.padding(index)
        pair = FramePair(source, cropped, frames.format, padding)
        values.append(metrics.SSIM.value(pair))
        slices.append(errors_by_tissue(pair, scale=scale))
    return Encode(encoder, crf, outcome.payload_bytes, path, fmean(values), tuple(slices))


def rmse(errors: TissueErrors, area: Area, scale: GreyScale) -> float | None:
    """Return the RMSE of an area in HU, None where it is empty."""
    found = errors.errors(area)
    return None if found is None else found.scaled(scale.hu_per_level).rmse


def median_slice(theirs: Encode, ours: Encode, scale: GreyScale) -> int:
    """Return the index of the slice whose difference in the RMSE at edges is the median.

    Raises
    ------
    InputError
        If no slice has edges.
    """
    differences = [
        (mine - other, index)
        for index, pair in enumerate(zip(ours.slices, theirs.slices, strict=True))
        if (mine := rmse(pair[0], Area.EDGE, scale)) is not None
        and (other := rmse(pair[1], Area.EDGE, scale)) is not None
    ]
    if not differences:
        raise InputError("no slice has hard edges", field="slice", remedy="choose one by {slice}")
    return sorted(differences)[(len(differences) - 1) // 2][1]


def nth(frames: Iterable[NDArray[Any]], index: int) -> NDArray[Any]:
    """Return one of some frames."""
    return next(islice(frames, index, None))


@dataclass(frozen=True)
class Shown:
    """The slice that is drawn, cut to the body.

    Parameters
    ----------
    title, below : str
        What stands above it.
    luma : ndarray of shape (rows, columns), uint8
        The source.
    errors : tuple of ndarray of shape (rows, columns), float32
        Decoded minus source in HU, of each encode.
    """

    title: str
    below: str
    luma: NDArray[Any]
    errors: tuple[NDArray[np.float32], ...]


def show(
    opened: OpenedSource, scale: GreyScale, encodes: Sequence[Encode], asked: int | None
) -> Shown:
    """Return a slice and its errors; the median slice where no number is asked for."""
    frames = opened.frames
    index = median_slice(encodes[0], encodes[1], scale) if asked is None else asked - 1
    luma = nth(frames.frames(), index)
    found = tissue_map(
        luma, data_range=frames.format.peak, scale=scale, padding=frames.padding(index)
    )
    body = found.mask(Area.BODY)
    cut = around(body) if body.any() else (slice(None), slice(None))
    errors = []
    for one in encodes:
        video = decoded_luma(one.path, container=CONTAINER, bit_depth=frames.format.bit_depth)
        steps = frames.format.crop(nth(video, index)).astype(np.float32) - luma
        errors.append(np.asarray(steps[cut] * np.float32(scale.hu_per_level)))
    chosen = " (median difference at edges)" if asked is None else ""
    return Shown(
        f"Slice {index + 1} of {len(encodes[0].slices)}{chosen}",
        window_text(opened.window),
        luma[cut],
        tuple(errors),
    )


def window_text(window: Window | None) -> str:
    """Return what the figure calls a window."""
    if window is None:
        return "source"
    name = f"{window.preset} window" if window.preset else "window"
    return f"source, {name}, {str(window).replace('-', MINUS)}"


def around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns that hold a mask and a margin."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    first, last = (
        slice(max(int(line[0]) - MARGIN, 0), int(line[-1]) + MARGIN + 1) for line in (rows, columns)
    )
    return first, last


def draw(shown: Shown, encodes: Sequence[Encode], scale: GreyScale) -> str:
    """Return the figure as SVG."""
    rows, columns = shown.luma.shape
    side, between, head, foot = 0.12, 1.05, 0.62, 0.1
    panel = (WIDTH_INCHES - 2 * side - between) / 2
    image = panel * rows / columns
    height = 2 * (image + head) + foot
    # Text stays text, and the same figures give the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ssimrdo", "font.size": 9}):
        figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white")

        def axes_at(left: float, row: int, width: float) -> Axes:
            bottom = height - (row + 1) * (image + head)
            return figure.add_axes(
                (left / WIDTH_INCHES, bottom / height, width / WIDTH_INCHES, image / height)
            )

        lefts = side, side + panel + between
        draw_slice(axes_at(lefts[0], 0, panel), shown)
        draw_bars(axes_at(lefts[1], 0, panel), encodes, scale)
        reach = reach_of(shown.errors)
        for left, one, errors in zip(lefts, encodes, shown.errors, strict=True):
            axis = axes_at(left, 1, panel)
            drawn = axis.imshow(
                errors, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="none"
            )
            axis.set_axis_off()
            caption(axis, f"Errors of {one.encoder.name}, {one.encoder.options}", about(one))
        beside = axes_at(side + panel + 0.14, 1, 0.13)
        bar = figure.colorbar(drawn, cax=beside, extend="both")
        bar.set_label(f"decoded {MINUS} source (HU)", labelpad=1)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return EMBEDDED_PNG.sub(with_palette, stream.getvalue())


def reach_of(errors: Sequence[NDArray[np.float32]]) -> float:
    """Return the error in HU at the ends of the colours, the same for all encodes."""
    sizes = np.abs(np.stack(errors))
    return float(np.quantile(sizes[sizes > 0], REACH_QUANTILE)) if sizes.any() else 1.0


def with_palette(match: re.Match[str]) -> str:
    """Return an embedded PNG with a palette, where that loses nothing; it takes a third of RGBA."""
    image = Image.open(io.BytesIO(base64.b64decode(match[0]))).convert("RGB")
    colours = image.getcolors(COLOURS)
    if colours is None:
        return match[0]
    stream = io.BytesIO()
    indexed = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(colours))
    if indexed.convert("RGB").tobytes() != image.tobytes():
        return match[0]
    indexed.save(stream, "png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def about(one: Encode) -> str:
    """Return what stands below an encode's name."""
    return f"CRF {one.crf:g} · {one.payload_bytes / 1000:.1f} kB · mean SSIM {one.ssim:.4f}"


def caption(axis: Axes, title: str, below: str) -> None:
    """Write two lines above a panel."""
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axis.annotate(title, (0, 1), (0, 20), fontsize=10, fontweight="bold", **above)
    axis.annotate(below, (0, 1), (0, 7), color="#444444", **above)


def draw_slice(axis: Axes, shown: Shown) -> None:
    """Draw the source."""
    axis.imshow(shown.luma, cmap="gray", vmin=0, vmax=2**BIT_DEPTH - 1, interpolation="none")
    axis.set_axis_off()
    caption(axis, shown.title, shown.below)


def draw_bars(axis: Axes, encodes: Sequence[Encode], scale: GreyScale) -> None:
    """Draw the RMSE of the whole series by tissue, and by how much ours differs."""
    found = {area: [rmse(one.series, area, scale) for one in encodes] for area in AREAS}
    bars = {
        AREA_NAMES[area]: [value for value in values if value is not None]
        for area, values in found.items()
        if None not in values
    }
    caption(axis, "RMSE over the whole series, in HU", "lower is better")
    thickness = 0.38
    for place, one in enumerate(encodes):
        ys = [row + (place - 0.5) * thickness for row in range(len(bars))]
        values = [pair[place] for pair in bars.values()]
        axis.barh(ys, values, thickness, color=one.encoder.colour, label=one.encoder.name)
    for row, (theirs, ours) in enumerate(bars.values()):
        texts = f"{theirs:.1f}", f"{ours:.1f}  ({change(theirs, ours)})"
        for place, (value, text) in enumerate(zip((theirs, ours), texts, strict=True)):
            at = value, row + (place - 0.5) * thickness
            axis.annotate(text, at, (4, 0), textcoords="offset points", va="center")
    names = ["\n".join(wrap(name, 11)) for name in bars]
    axis.set_yticks(range(len(bars)), names)
    axis.set_xlim(0, 1.3 * max(map(max, bars.values())))
    axis.set_xticks([])
    axis.tick_params(left=False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.invert_yaxis()
    axis.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)


def change(theirs: float, ours: float) -> str:
    """Return by how much ours differs from theirs."""
    return percent(100 * (ours / theirs - 1)) if theirs else "\u2013"


def table(encodes: Sequence[Encode], scale: GreyScale) -> str:
    """Return the figures as text."""
    theirs, ours = encodes
    layout = "{:<36}{:>10}{:>10}  {}"
    lines = [
        layout.format("", theirs.encoder.name, ours.encoder.name, "difference"),
        layout.format("CRF", f"{theirs.crf:g}", f"{ours.crf:g}", ""),
        layout.format(
            "bytes",
            f"{theirs.payload_bytes:,}",
            f"{ours.payload_bytes:,}",
            change(theirs.payload_bytes, ours.payload_bytes),
        ),
        layout.format("mean SSIM", f"{theirs.ssim:.5f}", f"{ours.ssim:.5f}", ""),
    ]
    for area in AREAS:
        first, second = (rmse(one.series, area, scale) for one in encodes)
        if first is not None and second is not None:
            name = f"RMSE in HU, {AREA_NAMES[area]}"
            texts = f"{first:.2f}", f"{second:.2f}", change(first, second)
            lines.append(layout.format(name, *texts))
    return "\n".join(map(str.rstrip, lines))


def scale_of(opened: OpenedSource) -> GreyScale:
    """Return what luma means in HU.

    Raises
    ------
    InputError
        If it is not linear in HU.
    """
    found = grey_scale(opened.window, opened.frames.format.peak, inverted=opened.inverted)
    if found is None:
        raise InputError(
            "grey is not linear in HU", field="window", remedy="give CENTRE/WIDTH in HU"
        )
    return found


def run(options: argparse.Namespace) -> None:
    """Encode, measure, draw and print the figures."""
    series = options.series or SERIES
    window = options.window or ("auto" if options.series else WINDOW)
    opened = open_source(
        series, window=parse_window(window), bit_depth=BIT_DEPTH, fps=Fraction(FPS)
    )
    frames, scale = opened.frames, scale_of(opened)
    if options.slice is not None and not 1 <= options.slice <= frames.count:
        raise InputError(
            f"{options.slice} is out of range", field="slice", remedy=f"use 1 to {frames.count}"
        )
    limit = size(frames, X264_TUNED, CRF)
    crf = equal_size_crf(lambda crf: size(frames, SSIMRDO, crf), limit)
    with tempfile.TemporaryDirectory(prefix="ssimrdo-figure.") as folder:
        encodes = [
            encode(frames, scale, encoder, point, Path(folder) / encoder.name)
            for encoder, point in ((X264_TUNED, CRF), (SSIMRDO, crf))
        ]
        shown = show(opened, scale, encodes, options.slice)
    svg = draw(shown, encodes, scale)
    write_whole(options.output, svg.encode(), overwrite=True)
    print(table(encodes, scale))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="figure_errors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "series",
        nargs="?",
        type=Path,
        metavar="SERIES_FOLDER",
        help="series to encode; data/phantom by default",
    )
    parser.add_argument(
        "--window",
        metavar="NAME|CENTRE/WIDTH|auto",
        help="such as lung or 40/400; by default the header's own, for data/phantom lung",
    )
    parser.add_argument("--slice", type=int, metavar="N", help="which slice to show, from 1")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="SVG",
        help="file to write; docs/errors.svg by default",
    )
    return parser.parse_args()


def main() -> int:
    """Make the figure and return the exit status."""
    try:
        run(parse_arguments())
    except (SsimrdoError, OSError) as error:
        print(f"figure_errors: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
