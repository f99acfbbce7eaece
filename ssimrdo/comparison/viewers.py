"""Slices of a comparison for the report's viewer: the reference beside our own encode."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import objective as objectives
from ssimrdo.bd import ssim_db
from ssimrdo.codecs.base import Mode
from ssimrdo.codecs.x264.choices import PRESET
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.comparison.report import ShownEncode, Viewer, make_viewer, write_html
from ssimrdo.comparison.report.points import named_point
from ssimrdo.comparison.results import Curve, EncoderFacts, SeriesResult
from ssimrdo.comparison.run import Comparison
from ssimrdo.errors import SsimrdoError
from ssimrdo.extras import require
from ssimrdo.metrics import SSIM
from ssimrdo.video.macroblocks import Macroblocks, macroblocks

logger = logging.getLogger(__name__)

HTML_NAME: Final = "report.html"

REFERENCE_INDEX: Final = 1
"""Which of the reference's points is shown: CRF 23 by default, x264's own default."""

MAX_SERIES = 12
"""Series with a viewer; each takes two encodes more, and the page's images have a budget."""


def write_page(comparison: Comparison, folder: Path, *, called: Callable[[str], str] = str) -> None:
    """Write the page if what makes it is installed; the numbers are worth keeping without it.

    Where slices cannot be shown, the page says why.

    Parameters
    ----------
    comparison : Comparison
        What to show.
    folder : Path
        Where.
    called : callable
        Returns what an option is called where messages and page are read.

    Raises
    ------
    OSError
        If writing fails, such as on a full disk.
    """
    try:
        require("jinja2", "matplotlib", what=HTML_NAME)
        viewers, note = _viewers_or_reason(comparison, called)
        write_html(comparison.report, folder / HTML_NAME, viewers, note)
    except SsimrdoError as error:
        logger.warning("%s is left out: %s", HTML_NAME, error.text(called))


def _viewers_or_reason(
    comparison: Comparison, called: Callable[[str], str]
) -> tuple[dict[str, Viewer], str]:
    try:
        viewers = viewers_of(comparison)
    except SsimrdoError as error:
        reason = error.text(called)
        logger.warning("%s shows no slices: %s", HTML_NAME, reason)
        return {}, f"No slices are shown: {reason}."
    compared = len(comparison.report.compared)
    is_part = viewers and compared > len(viewers)
    return viewers, f"The first {len(viewers)} of {compared} series." if is_part else ""


def viewers_of(comparison: Comparison) -> dict[str, Viewer]:
    """Return a viewer of each series that could be compared, of the first 12 if there are more.

    It shows the reference at its second point beside the first encoder that is steered by quantizer
    offsets, encoded once more to have the same bit rate, and once more to have the same SSIM. There
    is none without such an encoder.

    Raises
    ------
    SsimrdoError
        If that encode fails, or encodes of workers are not within reach.
    """
    report = comparison.report
    ours = next((encoder for encoder in report.others if _has_offsets(encoder)), None)
    if ours is None or ours.strength is None or ours.objective is None:
        return {}
    viewers = {}
    for series in islice(report.compared, MAX_SERIES):
        hu, objective = (
            comparison.hu_of_levels(series.name),
            comparison.objective(series.name, ours.name),
        )
        assert objective is not None, "it has offsets"
        viewers[series.name] = make_viewer(
            series.name,
            comparison.frames(series.name),
            _shown(comparison, series, ours),
            frame_format=comparison.frame_format(series.name),
            objective=objective,
            strength=ours.strength,
            hu=() if hu is None else tuple(hu.tolist()),
        )
    return viewers


def _shown(
    comparison: Comparison, series: SeriesResult, ours: EncoderFacts
) -> tuple[ShownEncode, ...]:
    """Return the reference, ours at its bit rate and, where SSIM was measured, at its SSIM."""
    report = comparison.report
    reference, mode = report.reference, report.mode
    first = series.curves[reference.name][REFERENCE_INDEX]
    curve = series.curves[ours.name]
    scale = partial(point_at, mode=mode, bit_depth=report.bit_depth)
    points = [scale(curve, [math.log(point.kbps) for point in curve], math.log(first.kbps))]
    if SSIM.name in first.quality:
        # Decibels follow the points of x264's scale more evenly than SSIM does.
        quality = [ssim_db(point.quality[SSIM.name].mean) for point in curve]
        points.append(scale(curve, quality, ssim_db(first.quality[SSIM.name].mean)))

    def shown(encoder: EncoderFacts, point: float, kbps: float) -> ShownEncode:
        def frames() -> Iterator[NDArray[Any]]:
            return comparison.decoded(series.name, encoder.name, point)

        # What cannot be decoded is told before anything is encoded.
        frames()
        path = comparison.encodes[series.name, encoder.name, point]
        label = f"{encoder.label}, {named_point(encoder, point)}"
        return ShownEncode(label, frames, kbps, partial(_told, path))

    theirs = shown(reference, first.point, first.kbps)
    return (
        theirs,
        *(shown(ours, point, comparison.encode(series.name, ours.name, point)) for point in points),
    )


def _told(path: Path, wanted: Sequence[int]) -> Mapping[int, Macroblocks]:
    """Return what a stream tells of its macroblocks: nothing where FFmpeg cannot read it."""
    try:
        return macroblocks(path, wanted)
    except OSError:
        return {}


def _has_offsets(encoder: EncoderFacts) -> bool:
    return encoder.objective in objectives.names() and encoder.strength is not None


def point_at(
    curve: Curve, values: Sequence[float], target: float, *, mode: Mode, bit_depth: int = 8
) -> float:
    """Return the point of x264's scale at which a curve would have a value.

    Parameters
    ----------
    curve : sequence of RatePoint
        The curve's points.
    values : sequence of float
        What each of them has, such as the logarithm of its bit rate.
    target : float
        Value to come close to.
    mode : {"crf", "qp", "bitrate"}
        What the points are; QPs are whole numbers.
    bit_depth : int
        Bits per luma sample.
    """
    # Beyond its ends a curve goes on as it ends.
    by_value = dict(sorted(zip(values, (point.point for point in curve), strict=True)))
    known, points = np.array([*by_value]), np.array([*by_value.values()], float)
    if len(known) == 1:
        return float(points[0])
    right = int(np.clip(np.searchsorted(known, target), 1, len(known) - 1))
    share = (target - known[right - 1]) / (known[right] - known[right - 1])
    point = points[right - 1] + share * (points[right] - points[right - 1])
    scale = X264(preset=PRESET).scale(mode, bit_depth)
    return round(float(np.clip(point, scale.low, scale.high)), 0 if scale.whole else 2)
