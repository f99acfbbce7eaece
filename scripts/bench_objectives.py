"""Measure how linear the distortion of each objective is in the squared error; print a table.

An objective takes its distortion for linear, ``D_i = θ_i · MSE_i``. Here slices of each series, in
several windows, are encoded at constant QPs, steered by each objective in turn, and the distortion
that it stands for is measured in every macroblock of what is decoded, beside what it predicts.
docs/method.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np
from bench_model import (
    CLASSES,
    METHOD,
    PRESET,
    QPS,
    SLICES,
    VARIABLE,
    Clip,
    block_sums,
    block_terms,
    class_numbers,
    clips,
    decoded,
    default_series,
    parse_arguments,
    source_features,
    window_sums,
    windows_text,
)
from benchmark_script import exit_status
from benchmark_tables import replace_block
from benchmark_tables import table as markdown_table
from numpy.typing import NDArray

from ssimrdo.files import write_whole
from ssimrdo.frames import FrameFormat
from ssimrdo.machine import cores, processor
from ssimrdo.metrics import ALPHA, BETA, kernels, stabilizers
from ssimrdo.metrics.bilateral import REACH
from ssimrdo.objective import BALANCED, BODY, EDGE, SSIM, Objective, block_statistics
from ssimrdo.objective.balanced import squared_error_weight

BLOCK: Final = "linearity"
"""Name of the block of docs/method.md that the table goes to."""

LEAST_SSIM: Final = 0.01
"""Below it the inverse of a macroblock's SSIM* says nothing."""

SHOWN: Final = ("tissue beside black", "edge", "flat", "weak texture", "texture", "strong texture")
"""Classes of macroblocks with a column of their own."""

Plane: TypeAlias = NDArray[np.float64]
Distortion: TypeAlias = Callable[[NDArray[Any], NDArray[Any], FrameFormat], Plane]


def structural_rise(luma: NDArray[Any], shown: NDArray[Any], frames: FrameFormat) -> Plane:
    """Return 1 / SSIM* - 1 of every macroblock."""
    terms = block_terms(luma, shown, frames.peak)
    return terms.rise / np.maximum(terms.windows, 1)


def balanced_rise(luma: NDArray[Any], shown: NDArray[Any], frames: FrameFormat) -> Plane:
    """Return 1 / SSIM* - 1 + w · MSE of every macroblock, at the price that its slice has."""
    structural = SSIM.sensitivity(luma, frames).astype(np.float64)
    variance = block_statistics(luma, data_range=frames.peak).variance
    weight = squared_error_weight(structural, variance, data_range=frames.peak)
    scale = BALANCED.sensitivity(luma, frames) / (structural + weight)
    rise = structural_rise(luma, shown, frames)
    return np.asarray(scale * (rise + weight * own_error(luma, shown)), np.float64)


def body_rise(luma: NDArray[Any], shown: NDArray[Any], frames: FrameFormat) -> Plane:
    """Return the balanced distortion of every macroblock, as far as it shows the body."""
    share = BODY.sensitivity(luma, frames) / BALANCED.sensitivity(luma, frames)
    return np.asarray(share * balanced_rise(luma, shown, frames), np.float64)


def edge_rise(luma: NDArray[Any], shown: NDArray[Any], frames: FrameFormat) -> Plane:
    """Return 1 / SSIM* - 1 of every macroblock, with windows that stop at edges of the source."""
    c1, c2 = stabilizers(frames.peak)
    mean, variance, mean_error, covariance, error_variance = edge_moments(
        luma.astype(np.float32), luma.astype(np.float32) - shown, REACH * frames.peak / 255
    )
    scale = 2 * (variance - covariance) + c2
    contrast = scale / (scale + error_variance)
    shown_mean = mean - mean_error
    luminance = (2 * mean * shown_mean + c1) / (mean * mean + shown_mean * shown_mean + c1)
    value = luminance**ALPHA * np.copysign(np.abs(contrast) ** BETA, contrast)
    windows = window_sums(np.ones(value.shape))
    means = window_sums(value) / np.maximum(windows, 1)
    return np.where(windows > 0, 1 / np.maximum(means, LEAST_SSIM) - 1, 0)


def edge_moments(source: NDArray[Any], error: NDArray[Any], reach: float) -> tuple[Plane, ...]:
    """Return the moments of source and error in windows that stop at edges of the source.

    Written out sample by sample of the window, beside the kernel of the objective.

    Returns
    -------
    mean, variance : ndarray of shape (rows - 10, columns - 10)
        Of the source.
    mean_error, covariance, error_variance : ndarray of the same shape
        Of the error; its covariance with the source.
    """
    half = kernels.gaussian_taps().astype(np.float64)
    taps = np.concatenate([half, half[-2::-1]])
    rows, columns = (side - taps.size + 1 for side in source.shape)
    radius = kernels.RADIUS
    centre = source[radius : radius + rows, radius : radius + columns]
    sums = np.zeros((6, rows, columns))
    for i, j in product(range(taps.size), repeat=2):
        d = source[i : i + rows, j : j + columns] - centre
        e = error[i : i + rows, j : j + columns]
        weight = taps[i] * taps[j] / (1 + (d / reach) ** 2) ** 2
        for total, term in zip(sums, (1, d, d * d, e, e * e, d * e), strict=True):
            total += weight * term
    d1, d2, e1, e2, de = sums[1:] / sums[0]
    return (
        centre + d1,
        np.maximum(d2 - d1 * d1, 0),
        e1,
        de - d1 * e1,
        np.maximum(e2 - e1 * e1, 0),
    )


DISTORTIONS: Final[Mapping[str, tuple[Objective, str, Distortion]]] = {
    "ssim": (SSIM, "1/SSIM*", structural_rise),
    "balanced": (BALANCED, "1/SSIM* + w · MSE", balanced_rise),
    "edge": (EDGE, "1/SSIM*, windows that stop at edges", edge_rise),
    "body": (BODY, "as `balanced`, in the body", body_rise),
}


def own_error(luma: NDArray[Any], shown: NDArray[Any]) -> Plane:
    """Return the mean squared error of every macroblock."""
    error = luma.astype(np.float64) - shown
    return block_sums(error * error) / block_sums(np.ones(luma.shape))


@dataclass(frozen=True)
class Blocks:
    """Macroblocks of one encode of a clip in which there is a distortion to predict."""

    series: str
    window: str
    objective: str
    qp: int
    numbers: NDArray[np.int64]
    predicted: Plane
    measured: Plane


def measure(clip: Clip) -> Iterator[Blocks]:
    """Encode a clip by every objective at every QP, and measure its macroblocks."""
    numbers = [class_numbers(source_features(luma, clip.format.peak)) for luma in clip.frames]
    for (name, (objective, _, distortion)), qp in product(DISTORTIONS.items(), QPS):
        pairs = list(zip(clip.frames, decoded(clip, objective, qp), strict=True))
        predicted = [objective.sensitivity(x, clip.format) * own_error(x, y) for x, y in pairs]
        found = [distortion(x, y, clip.format) for x, y in pairs]
        every = [np.concatenate([np.ravel(of) for of in kind]) for kind in (predicted, found)]
        of_class = np.concatenate([np.ravel(of) for of in numbers])
        kept = every[0] > 0
        yield Blocks(
            clip.series, clip.window, name, qp, of_class[kept], every[0][kept], every[1][kept]
        )


@dataclass(frozen=True)
class Linearity:
    """How well a distortion is predicted in some macroblocks.

    Parameters
    ----------
    macroblocks : int
        How many there are.
    r_squared : float
        Of measured over predicted distortion: the square of their correlation.
    log_r_squared : float
        The same of their logarithms, which no few macroblocks dominate.
    slope : float
        Sum of what is measured over sum of what is predicted.
    """

    macroblocks: int
    r_squared: float
    log_r_squared: float
    slope: float


def linearity(predicted: Plane, measured: Plane) -> Linearity | None:
    """Return how well a distortion is predicted; None for fewer than three macroblocks."""
    if predicted.size < 3 or not predicted.std() or not measured.std():
        return None
    positive = measured > 0
    logs = np.log(predicted[positive]), np.log(measured[positive])
    return Linearity(
        predicted.size,
        float(np.corrcoef(predicted, measured)[0, 1] ** 2),
        float(np.corrcoef(*logs)[0, 1] ** 2),
        float(measured.sum() / predicted.sum()),
    )


def pooled(found: Sequence[Blocks], objective: str, qp: int, name: str = "") -> Linearity | None:
    """Return the linearity of an objective at a QP over all clips, in all classes or in one."""
    chosen = [one for one in found if (one.objective, one.qp) == (objective, qp)]
    number = [one.name for one in CLASSES].index(name) if name else -1
    masks = [(one.numbers == number) | (number < 0) for one in chosen]
    return linearity(
        np.concatenate([one.predicted[mask] for one, mask in zip(chosen, masks, strict=True)]),
        np.concatenate([one.measured[mask] for one, mask in zip(chosen, masks, strict=True)]),
    )


def _ends(found: Sequence[Blocks], objective: str, key: str, digits: int, name: str = "") -> str:
    ends = (pooled(found, objective, qp, name) for qp in (QPS[0], QPS[-1]))
    return " → ".join("–" if end is None else f"{getattr(end, key):.{digits}f}" for end in ends)


def table(found: Sequence[Blocks]) -> str:
    """Return R² and slopes of every objective."""
    heads = ["objective", "distortion", "R²", "R² of logarithms", "slope"]
    heads += [f"slope, {name}" for name in SHOWN]
    rows = [
        [
            f"`{name}`",
            distortion,
            _ends(found, name, "r_squared", 2),
            _ends(found, name, "log_r_squared", 2),
            _ends(found, name, "slope", 1),
            *(_ends(found, name, "slope", 1, shown) for shown in SHOWN),
        ]
        for name, (_, distortion, _) in DISTORTIONS.items()
    ]
    return markdown_table(heads, rows)


def about(found: Sequence[Blocks], slices: int, command: str) -> str:
    """Return when, how and from what the table was made."""
    windows = windows_text((one.series, one.window) for one in found)
    text = (
        f"Made on {datetime.now().astimezone():%Y-%m-%d} by `{command}` on {cores()} cores of "
        f"{processor()}. {slices} slices from the middle of each series: {windows}. Constant QP, "
        f"`--preset {PRESET}`, steered by the objective itself; “a → b” is QP {QPS[0]} and "
        f"QP {QPS[-1]}."
    )
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def as_json(found: Sequence[Blocks]) -> str:
    """Return the linearity of every objective, QP and class."""
    names = ("", *(one.name for one in CLASSES))
    records = [
        {
            "objective": objective,
            "qp": qp,
            "class": name or None,
            **({} if (one := pooled(found, objective, qp, name)) is None else asdict(one)),
        }
        for objective, qp, name in product(DISTORTIONS, QPS, names)
    ]
    return json.dumps({"linearity": records}, indent=2)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    found: list[Blocks] = []
    for folder in options.series or default_series():
        for clip in clips(folder, options.slices):
            print(f"bench_objectives: {clip.series}, {clip.window}", file=sys.stderr, flush=True)
            found += measure(clip)
    more = "" if options.slices == SLICES else f" --slices {options.slices}"
    command = f"{VARIABLE}=… scripts/bench_objectives --update{more}"
    text = f"{about(found, options.slices, command)}\n\n{table(found)}"
    print(as_json(found) if options.json else text)
    if options.update:
        page = replace_block(METHOD.read_text(), text, name=BLOCK)
        write_whole(METHOD, page.encode(), overwrite=True)


def main() -> int:
    """Run the measurement and return the exit status."""
    return exit_status(
        "bench_objectives", lambda: run(parse_arguments("bench_objectives", __doc__))
    )


if __name__ == "__main__":
    sys.exit(main())
