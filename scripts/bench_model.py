"""Measure how far the model's relation between SSIM and squared error holds; print tables.

Slices of each series, in several windows, are encoded at constant QPs with x264 alone and steered
by the model. For every class of macroblock the tables have what the model assumes beside what is
measured: the covariance of error and source, the number of independent errors in a window, and the
slope of 1/SSIM over the squared error. docs/method.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from datetime import datetime
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from benchmark_script import exit_status
from benchmark_tables import replace_block
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from ssimrdo.codecs.base import ConstantQuantizer, Steering
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.dicom import NAMED_WINDOWS, Series, Window, open_series
from ssimrdo.dicom.luma import choose_window, luma_frames
from ssimrdo.encoding.passes import PassSettings, stream_settings
from ssimrdo.errors import InputError
from ssimrdo.files import write_whole
from ssimrdo.frames import MACROBLOCK, FrameFormat, block_grid
from ssimrdo.machine import cores, processor
from ssimrdo.metrics import ALPHA, BETA, kernels, stabilizers
from ssimrdo.objective import SSIM, Objective, block_statistics, effective_samples, theta

ROOT = Path(__file__).resolve().parents[1]
METHOD = ROOT / "docs" / "method.md"
VARIABLE = "SSIMRDO_CT_DATA"
BLOCK = "model"
"""Name of the block of docs/method.md that the tables go to."""

QPS: Final = (22, 27, 32, 37)
PRESET: Final = "medium"
"""x264's own search, so that the two encoders differ in the offsets alone."""

ENCODERS: Final[Mapping[str, Objective | None]] = {"x264": None, "ssimrdo": SSIM}
SLICES: Final = 12
WINDOWS: Final = ("lung", "soft-tissue", "bone", "brain")
LEAST_INSIDE: Final = 0.05
"""Share of the samples that a window leaves unclipped, from which on it is taken."""

LEAST_SHARE: Final = 0.01
"""Share of a clip's macroblocks from which on a class counts in the range over clips."""

Plane: TypeAlias = NDArray[np.float64]


class Terms(NamedTuple):
    """What is summed over the windows of macroblocks, each an array of the grid's shape.

    Parameters
    ----------
    windows : ndarray
        Windows that lie in the frame and are centred in the macroblock.
    loss : ndarray
        1 - SSIM*, where SSIM* is weighted SSIM.
    luminance_loss : ndarray
        The luminance term's part of it, with the contrast term taken halfway.
    contrast_loss : ndarray
        1 - cs, where cs is the contrast-structure term, without exponent.
    loss_if_source, loss_if_decoded : ndarray
        What it would be for the same variances if the error were uncorrelated with the source, or
        with the decoded frame.
    covariance : ndarray
        Of the source and the error.
    variance : ndarray
        Of the error.
    squared_error : ndarray
        Mean square of the error.
    squared_mean : ndarray
        Square of the mean error.
    modelled_squared_mean : ndarray
        What the model's N_eff makes of the squared error.
    rise : ndarray
        1 / SSIM* - 1, for the mean SSIM* of the macroblock.
    predicted_rise : ndarray
        θ · MSE, with the MSE of the macroblock's own samples.
    """

    windows: Plane
    loss: Plane
    luminance_loss: Plane
    contrast_loss: Plane
    loss_if_source: Plane
    loss_if_decoded: Plane
    covariance: Plane
    variance: Plane
    squared_error: Plane
    squared_mean: Plane
    modelled_squared_mean: Plane
    rise: Plane
    predicted_rise: Plane


@dataclass(frozen=True)
class Totals:
    """Sums of :class:`Terms` over the macroblocks of a class, and what follows from them."""

    macroblocks: float
    windows: float
    loss: float
    luminance_loss: float
    contrast_loss: float
    loss_if_source: float
    loss_if_decoded: float
    covariance: float
    variance: float
    squared_error: float
    squared_mean: float
    modelled_squared_mean: float
    rise: float
    predicted_rise: float

    def __add__(self, other: Totals) -> Totals:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Totals(*(mine + its for mine, its in pairs))

    @property
    def error_in_source(self) -> float:
        """k: covariance of source and error over the variance of the error."""
        return _ratio(self.covariance, self.variance)

    @property
    def independent_errors(self) -> float:
        """N_eff, measured: the squared error over the square of the windows' mean error."""
        return _ratio(self.squared_error, self.squared_mean)

    @property
    def modelled_errors(self) -> float:
        """N_eff, as the model has it."""
        return _ratio(self.squared_error, self.modelled_squared_mean)

    @property
    def luminance_share(self) -> float:
        """The luminance term's share of the loss."""
        return _ratio(self.luminance_loss, self.loss)

    @property
    def slope(self) -> float:
        """Measured over predicted slope of 1 / SSIM*."""
        return _ratio(self.rise, self.predicted_rise)

    @property
    def loss_slope(self) -> float:
        """Measured slope of 1 - SSIM* over the predicted slope of 1 / SSIM*."""
        return _ratio(self.loss, self.predicted_rise)

    @property
    def contrast_if_source(self) -> float:
        """Measured loss of contrast over that of an error uncorrelated with the source."""
        return _ratio(self.contrast_loss, self.loss_if_source)

    @property
    def contrast_if_decoded(self) -> float:
        """Measured loss of contrast over that of an error uncorrelated with the decoded frame."""
        return _ratio(self.contrast_loss, self.loss_if_decoded)

    def as_dict(self) -> dict[str, float]:
        """Return sums and ratios as JSON types."""
        ratios = (name for name, value in vars(Totals).items() if isinstance(value, property))
        return {**asdict(self), **{name: getattr(self, name) for name in ratios}}


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


class Source(NamedTuple):
    """What the classes are made from, per macroblock of the source.

    Parameters
    ----------
    black, white : ndarray
        Share of the samples at either end of the luma range.
    spread : ndarray
        Arithmetic over harmonic mean of the windows' 2σ² + C2: above 1 where σ² varies.
    variance : ndarray
        σ² over C2.
    """

    black: Plane
    white: Plane
    spread: Plane
    variance: Plane


@dataclass(frozen=True)
class BlockClass:
    """A class of macroblocks; a macroblock belongs to the first one that it fits.

    Parameters
    ----------
    name : str
        What the tables call it.
    definition : str
        Which macroblocks are in it.
    holds : callable
        Tells of each macroblock whether it fits.
    """

    name: str
    definition: str
    holds: Callable[[Source], NDArray[np.bool_]]


CLASSES: Final = (
    BlockClass(
        "clipped all over",
        "all samples black, or all white",
        lambda source: np.maximum(source.black, source.white) == 1,
    ),
    BlockClass(
        "black beside tissue",
        "half or more, but not all, black",
        lambda source: source.black >= 0.5,
    ),
    BlockClass("tissue beside black", "1/16 to 1/2 black", lambda source: source.black >= 1 / 16),
    BlockClass("white in part", "1/16 or more white", lambda source: source.white >= 1 / 16),
    BlockClass(
        "edge",
        "arithmetic over harmonic mean of the windows' 2σ² + C2 above 2",
        lambda source: source.spread > 2,
    ),
    BlockClass("flat", "σ² below C2/4", lambda source: source.variance < 1 / 4),
    BlockClass("weak texture", "σ² from C2/4 to C2", lambda source: source.variance < 1),
    BlockClass("texture", "σ² from C2 to 4 C2", lambda source: source.variance < 4),
    BlockClass("strong texture", "σ² above 4 C2", lambda source: source.variance >= 4),
)
"""Made by hand, to set apart where the model errs in different ways."""


@dataclass(frozen=True)
class Clip:
    """Successive slices of a series in one window."""

    series: str
    window: str
    format: FrameFormat
    frames: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Measured:
    """What was found in one encode of a clip, by class."""

    series: str
    window: str
    encoder: str
    qp: int
    classes: Mapping[str, Totals]


def note(message: str) -> None:
    """Tell the user how far the measurement is."""
    print(f"bench_model: {message}", file=sys.stderr, flush=True)


def clips(folder: Path, slices: int) -> Iterator[Clip]:
    """Yield slices from the middle of a series in the header's window and in others that fit."""
    series, _ = open_series(folder)
    own = choose_window(series.header_window, name=folder.name)
    yield _clip(folder.name, "own", series, own, slices)
    for name in WINDOWS:
        if NAMED_WINDOWS[name] == own:
            continue
        clip = _clip(folder.name, name, series, NAMED_WINDOWS[name], slices)
        inside = fmean(np.mean((luma > 0) & (luma < clip.format.peak)) for luma in clip.frames)
        if inside >= LEAST_INSIDE:
            yield clip


def _clip(name: str, window_name: str, series: Series, window: Window, slices: int) -> Clip:
    first = max((len(series) - slices) // 2, 0)
    chosen = series.slices[first : first + slices]
    return Clip(
        name,
        f"{window_name} {window.center:g}/{window.width:g}",
        FrameFormat(series.rows, series.columns),
        tuple(luma for _, luma, _ in luma_frames(chosen, window)),
    )


def decoded(clip: Clip, objective: Objective | None, qp: int) -> list[NDArray[Any]]:
    """Return what a decoder shows of a clip that was encoded at a constant QP."""
    settings = PassSettings(X264(preset=PRESET), ConstantQuantizer(qp), objective)
    stream = stream_settings(clip.format, settings, settings.codec.syntax)
    shown: dict[int, NDArray[Any]] = {}
    with settings.codec.open(stream) as session:
        for index, luma in enumerate(clip.frames):
            padded = stream.format.pad(luma)
            ratio = objective.lagrange_ratio(padded, stream.format) if objective else None
            for packet in session.encode(padded, Steering(ratio), index):
                assert packet.reconstruction is not None
                shown[packet.pts] = packet.reconstruction
        for packet in session.flush():
            assert packet.reconstruction is not None
            shown[packet.pts] = packet.reconstruction
    return [clip.format.crop(shown[index]) for index in range(len(clip.frames))]


def windowed(plane: Plane) -> Plane:
    """Return the mean in every SSIM window that lies in the plane, 10 rows and columns fewer."""
    half = kernels.gaussian_taps().astype(np.float64)
    taps = np.concatenate([half, half[-2::-1]])
    taps /= taps.sum()
    radius = kernels.RADIUS
    filtered = correlate1d(correlate1d(plane, taps, axis=0), taps, axis=1)
    return np.asarray(filtered[radius:-radius, radius:-radius], np.float64)


def block_sums(plane: NDArray[Any]) -> Plane:
    """Return the sum of a plane's samples in every macroblock."""
    rows, columns = block_grid(plane.shape)
    whole = np.zeros((rows * MACROBLOCK, columns * MACROBLOCK))
    whole[: plane.shape[0], : plane.shape[1]] = plane
    blocks = whole.reshape(rows, MACROBLOCK, columns, MACROBLOCK)
    return np.asarray(blocks.sum(axis=(1, 3)), np.float64)


def window_sums(plane: Plane) -> Plane:
    """Return the sum over the windows that are centred in every macroblock."""
    return block_sums(np.pad(plane, kernels.RADIUS))


def window_variance(plane: Plane) -> Plane:
    """Return the variance in every window."""
    mean = windowed(plane)
    return np.maximum(windowed(plane * plane) - mean * mean, 0)


def source_features(luma: NDArray[Any], peak: int) -> Source:
    """Return what the classes are made from."""
    c2 = stabilizers(peak)[1]
    samples = block_sums(np.ones(luma.shape))
    variance = window_variance(luma.astype(np.float64))
    windows = window_sums(np.ones(variance.shape))
    scale = 2 * variance + c2
    return Source(
        block_sums(luma == 0) / samples,
        block_sums(luma == peak) / samples,
        window_sums(scale) * window_sums(1 / scale) / np.maximum(windows, 1) ** 2,
        block_statistics(luma, data_range=peak).variance.astype(np.float64) / c2,
    )


def class_numbers(source: Source) -> NDArray[np.int64]:
    """Return the place among :data:`CLASSES` of every macroblock."""
    fits = [one.holds(source) for one in CLASSES]
    return np.asarray(np.argmax(fits, axis=0), np.int64)


def block_terms(luma: NDArray[Any], shown: NDArray[Any], peak: int) -> Terms:
    """Return the terms of every macroblock of a source frame and what a decoder shows of it."""
    c1, c2 = stabilizers(peak)
    source = luma.astype(np.float64)
    error = source - shown
    mean, mean_error, squared_error = windowed(source), windowed(error), windowed(error * error)
    variance = window_variance(source)
    covariance = windowed(source * error) - mean * mean_error
    error_variance = np.maximum(squared_error - mean_error * mean_error, 0)

    def contrast_structure(with_source: Plane) -> Plane:
        """Return cs where the error has this covariance with the source."""
        scale = 2 * (variance - with_source) + c2
        return np.asarray(scale / (scale + error_variance), np.float64)

    contrast = contrast_structure(covariance)
    shown_mean = mean - mean_error
    luminance = (2 * mean * shown_mean + c1) / (mean * mean + shown_mean * shown_mean + c1)
    of_luminance = luminance**ALPHA
    of_contrast = np.copysign(np.abs(contrast) ** BETA, contrast)

    windows = window_sums(np.ones(mean.shape))
    loss = window_sums(1 - of_luminance * of_contrast)
    statistics = block_statistics(luma, data_range=peak)
    samples = effective_samples(statistics.variance, data_range=peak)
    slope = theta(statistics.mean, statistics.variance, samples, data_range=peak)
    own_error = block_sums(error * error) / block_sums(np.ones(luma.shape))
    squared_errors = window_sums(squared_error)
    return Terms(
        windows=windows,
        loss=loss,
        luminance_loss=window_sums((1 - of_luminance) * (1 + of_contrast) / 2),
        contrast_loss=window_sums(1 - contrast),
        loss_if_source=window_sums(1 - contrast_structure(np.zeros_like(variance))),
        # An error of more variance than the source cannot be uncorrelated with what is decoded.
        loss_if_decoded=window_sums(1 - contrast_structure(np.minimum(error_variance, variance))),
        covariance=window_sums(covariance),
        variance=window_sums(error_variance),
        squared_error=squared_errors,
        squared_mean=window_sums(mean_error * mean_error),
        modelled_squared_mean=squared_errors / samples,
        # A sum over windows, as the others are. No SSIM* of a macroblock comes near 0 here.
        rise=windows * loss / np.maximum(windows - loss, 0.01 * np.maximum(windows, 1)),
        predicted_rise=windows * slope * own_error,
    )


def totals(numbers: NDArray[np.int64], terms: Terms) -> list[Totals]:
    """Return the totals of every class over the macroblocks of a frame, by :data:`CLASSES`."""
    flat, count = numbers.ravel(), len(CLASSES)
    sums = [np.bincount(flat, np.ravel(term), count) for term in (np.ones(flat.shape), *terms)]
    return [Totals(*row) for row in np.transpose(sums).tolist()]


def measure(clip: Clip) -> Iterator[Measured]:
    """Encode a clip with every encoder at every QP, and measure it by class."""
    peak = clip.format.peak
    numbers = [class_numbers(source_features(luma, peak)) for luma in clip.frames]
    for encoder, objective in ENCODERS.items():
        for qp in QPS:
            shown = decoded(clip, objective, qp)
            by_frame = [
                totals(of_frame, block_terms(x, y, peak))
                for of_frame, x, y in zip(numbers, clip.frames, shown, strict=True)
            ]
            found = (sum_of(of_class) for of_class in zip(*by_frame, strict=True))
            by_class = {one.name: total for one, total in zip(CLASSES, found, strict=True)}
            yield Measured(clip.series, clip.window, encoder, qp, by_class)


def sum_of(parts: Iterable[Totals]) -> Totals:
    """Return the sum of totals."""
    total = Totals(*(0.0 for _ in fields(Totals)))
    for part in parts:
        total += part
    return total


def pooled(found: Sequence[Measured], encoder: str, qp: int) -> dict[str, Totals]:
    """Return the totals of all clips of an encoder at a QP, by class."""
    chosen = [one.classes for one in found if (one.encoder, one.qp) == (encoder, qp)]
    return {one.name: sum_of(classes[one.name] for classes in chosen) for one in CLASSES}


def slope_range(found: Sequence[Measured], name: str, encoder: str, qp: int) -> tuple[float, float]:
    """Return the least and the largest slope of a class among the clips that have enough of it."""
    chosen = [one.classes for one in found if (one.encoder, one.qp) == (encoder, qp)]
    slopes = [
        classes[name].slope
        for classes in chosen
        if classes[name].macroblocks >= LEAST_SHARE * macroblocks(classes)
        and classes[name].predicted_rise
    ]
    return min(slopes, default=0.0), max(slopes, default=0.0)


def macroblocks(classes: Mapping[str, Totals]) -> float:
    """Return the macroblocks of all classes."""
    return sum(total.macroblocks for total in classes.values())


def class_table(found: Sequence[Measured]) -> str:
    """Return which classes there are, and where the loss is."""
    low, high = (
        {encoder: pooled(found, encoder, qp) for encoder in ENCODERS} for qp in (QPS[0], QPS[-1])
    )

    def loss_share(classes: Mapping[str, Totals], name: str) -> float:
        return _ratio(classes[name].loss, sum(total.loss for total in classes.values()))

    rows = []
    for one in CLASSES:
        first = low["x264"]
        shares = (
            _both(loss_share(low[encoder], one.name), loss_share(high[encoder], one.name), _percent)
            for encoder in ENCODERS
        )
        share = first[one.name].macroblocks / macroblocks(first)
        rows.append((one.name, one.definition, _percent(share), *shares))
    heads = ["class", "macroblocks", "share", *(f"loss of {name}" for name in ENCODERS)]
    return _table(heads, rows)


def model_table(found: Sequence[Measured], encoder: str) -> str:
    """Return what the model assumes and predicts beside what is measured, for one encoder."""
    by_qp = {qp: pooled(found, encoder, qp) for qp in QPS}

    def ends(name: str, value: Callable[[Totals], float], text: Callable[[float], str]) -> str:
        return _both(value(by_qp[QPS[0]][name]), value(by_qp[QPS[-1]][name]), text)

    def slope(name: str, qp: int) -> str:
        low, high = slope_range(found, name, encoder, qp)
        return f"{by_qp[qp][name].slope:.1f} ({low:.1f}–{high:.1f})"

    def samples(name: str) -> str:
        measured = ends(name, lambda total: total.independent_errors, _whole)
        return f"{measured} ({ends(name, lambda total: total.modelled_errors, _whole)})"

    rows = [
        (
            one.name,
            ends(one.name, lambda total: total.error_in_source, _two),
            ends(one.name, lambda total: total.contrast_if_source, _two),
            ends(one.name, lambda total: total.contrast_if_decoded, _two),
            samples(one.name),
            ends(one.name, lambda total: total.luminance_share, _percent),
            *(slope(one.name, qp) for qp in QPS),
            ends(one.name, lambda total: total.loss_slope, _one),
        )
        for one in CLASSES
    ]
    heads = [
        "class",
        "k",
        "contrast, k = 0",
        "contrast, k = 1",
        "N_eff (model)",
        "luminance",
        *(f"slope at {qp}" for qp in QPS),
        "slope of loss",
    ]
    return _table(heads, rows)


def _both(low: float, high: float, text: Callable[[float], str]) -> str:
    first, second = text(low), text(high)
    return first if first == second else f"{first} → {second}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _one(value: float) -> str:
    return f"{value:.1f}"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def windows_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return in which windows each series was measured, from pairs of both in order."""
    return "; ".join(
        f"{series} ({', '.join(window for _, window in of_series)})"
        for series, of_series in groupby(dict.fromkeys(pairs), key=lambda pair: pair[0])
    )


def about(found: Sequence[Measured], slices: int, command: str) -> str:
    """Return when, how and from what the tables were made."""
    windows = windows_text((one.series, one.window) for one in found)
    made = f"{datetime.now().astimezone():%Y-%m-%d} by `{command}`"
    text = (
        f"Made on {made} on {cores()} cores of {processor()}. {slices} slices from the middle of "
        "each series, in the header's own window and in those of "
        f"{', '.join(WINDOWS)} that leave at least {_percent(LEAST_INSIDE)} of the samples "
        f"unclipped: {windows}. Constant QP {', '.join(map(str, QPS))}, `--preset {PRESET}`, "
        f"pooled over these clips; “a → b” is QP {QPS[0]} and QP {QPS[-1]}."
    )
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def text_of(found: Sequence[Measured], slices: int, command: str) -> str:
    """Return all tables with what they were made from."""
    parts = [about(found, slices, command), class_table(found)]
    for encoder, title in (("x264", "x264 alone:"), ("ssimrdo", "Steered by the model:")):
        parts += [title, model_table(found, encoder)]
    return "\n\n".join(parts)


def as_json(found: Sequence[Measured]) -> str:
    """Return every encode by class, with sums and ratios."""
    records = [
        {
            "series": one.series,
            "window": one.window,
            "encoder": one.encoder,
            "qp": one.qp,
            "classes": {name: total.as_dict() for name, total in one.classes.items()},
        }
        for one in found
    ]
    return json.dumps({"encodes": records}, indent=2)


def default_series() -> list[Path]:
    """Return every folder of $SSIMRDO_CT_DATA."""
    data = os.environ.get(VARIABLE)
    if not data:
        raise InputError(f"{VARIABLE} is not set: let it name a folder with CT series in folders")
    return sorted(path for path in Path(data).iterdir() if path.is_dir())


def parse_arguments(
    prog: str = "bench_model", description: str | None = __doc__
) -> argparse.Namespace:
    """Read the command line of a script that measures clips."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument(
        "series",
        nargs="*",
        type=Path,
        metavar="SERIES_FOLDER",
        help=f"series to measure; by default each folder of ${VARIABLE}",
    )
    parser.add_argument(
        "--slices", type=int, default=SLICES, metavar="N", help=f"of each [default: {SLICES}]"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object in place of tables")
    parser.add_argument("--update", action="store_true", help="put the tables into docs/method.md")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    found: list[Measured] = []
    for folder in options.series or default_series():
        for clip in clips(folder, options.slices):
            note(f"{clip.series}, {clip.window}")
            found += measure(clip)
    more = "" if options.slices == SLICES else f" --slices {options.slices}"
    text = text_of(found, options.slices, f"{VARIABLE}=… scripts/bench_model --update{more}")
    print(as_json(found) if options.json else text)
    if options.update:
        page = replace_block(METHOD.read_text(), text, name=BLOCK)
        write_whole(METHOD, page.encode(), overwrite=True)


def main() -> int:
    """Run the measurement and return the exit status."""
    return exit_status("bench_model", lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
