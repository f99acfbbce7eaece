"""Slices of a comparison for the report's viewer: the reference beside our own encode."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from ssimrdo import objective as objectives
from ssimrdo.codecs.base import Mode
from ssimrdo.codecs.x264.choices import PRESET
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.comparison.report import Viewer, make_viewer, write_html
from ssimrdo.comparison.results import Curve, EncoderFacts
from ssimrdo.comparison.run import Comparison
from ssimrdo.errors import SsimrdoError
from ssimrdo.extras import require

logger = logging.getLogger(__name__)

HTML_NAME: Final = "report.html"

REFERENCE_INDEX: Final = 1
"""Which of the reference's points is shown: CRF 23 by default, x264's own default."""

MAX_SERIES = 12
"""Series with a viewer; each takes an encode more, and the page's images have a budget."""


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
    offsets, encoded once more to have the same bit rate. There is none without such an encoder.

    Raises
    ------
    SsimrdoError
        If that encode fails, or encodes of workers are not within reach.
    """
    report = comparison.report
    ours = next((encoder for encoder in report.others if _has_offsets(encoder)), None)
    if ours is None or ours.strength is None or ours.objective is None:
        return {}
    reference, mode = report.reference, report.mode
    viewers = {}
    for series in islice(report.compared, MAX_SERIES):
        first = series.curves[reference.name][REFERENCE_INDEX]
        point = point_at(series.curves[ours.name], first.kbps, mode, bit_depth=report.bit_depth)
        # Without this one the other need not be made.
        decoded = comparison.decoded(series.name, reference.name, first.point)
        kbps = comparison.encode(series.name, ours.name, point)
        viewers[series.name] = make_viewer(
            series.name,
            comparison.frames(series.name),
            decoded,
            comparison.decoded(series.name, ours.name, point),
            frame_format=comparison.frame_format(series.name),
            reference_label=f"{reference.label}, {mode} {first.point:g}",
            ours_label=f"{ours.label}, {mode} {point:g}",
            reference_kbps=first.kbps,
            ours_kbps=kbps,
            objective=objectives.get(ours.objective),
            strength=ours.strength,
        )
    return viewers


def _has_offsets(encoder: EncoderFacts) -> bool:
    return encoder.objective in objectives.names() and encoder.strength is not None


def point_at(curve: Curve, kbps: float, mode: Mode, *, bit_depth: int = 8) -> float:
    """Return the point of x264's scale that a curve would have a bit rate at.

    Parameters
    ----------
    curve : sequence of RatePoint
        The curve's points.
    kbps : float
        Bit rate to come close to.
    mode : {"crf", "qp", "bitrate"}
        What the points are; QPs are whole numbers.
    bit_depth : int
        Bits per luma sample.
    """
    # Beyond its ends a curve goes on as it ends.
    by_rate = dict(sorted((math.log(point.kbps), point.point) for point in curve))
    rates, points = np.array([*by_rate]), np.array([*by_rate.values()], float)
    if len(rates) == 1:
        return float(points[0])
    right = int(np.clip(np.searchsorted(rates, math.log(kbps)), 1, len(rates) - 1))
    share = (math.log(kbps) - rates[right - 1]) / (rates[right] - rates[right - 1])
    point = points[right - 1] + share * (points[right] - points[right - 1])
    scale = X264(preset=PRESET).scale(mode, bit_depth)
    return round(float(np.clip(point, scale.low, scale.high)), 0 if scale.whole else 2)
