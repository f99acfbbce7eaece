"""Slices of a comparison for the report's viewer: the reference beside our own encode."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ssimrdo.compare.comparison import Comparison
from ssimrdo.compare.encoders import RANGES, Mode
from ssimrdo.compare.report import Viewer, make_viewer, write_html
from ssimrdo.errors import SsimrdoError
from ssimrdo.html.extra import check_extra

logger = logging.getLogger("ssimrdo")

HTML_NAME = "report.html"

REFERENCE_INDEX = 1
"""Which of the reference's points is shown: CRF 23 by default, x264's own default."""


MAX_SERIES = 12
"""Series with a viewer; each takes an encode more, and the page's images have a budget."""


def write_page(comparison: Comparison, folder: Path) -> None:
    """Write the page if what makes it is installed; the numbers are worth keeping without it.

    Where slices cannot be shown, the page says why.

    Raises
    ------
    OSError
        If writing fails, such as on a full disk.
    """
    try:
        check_extra("jinja2", "matplotlib")
        viewers, note = _viewers_or_reason(comparison)
        write_html(comparison.report, folder / HTML_NAME, viewers, note)
    except SsimrdoError as error:
        logger.warning("%s is left out: %s", HTML_NAME, error)


def _viewers_or_reason(comparison: Comparison) -> tuple[dict[str, Viewer], str]:
    try:
        viewers = viewers_of(comparison)
    except SsimrdoError as error:
        logger.warning("%s shows no slices: %s", HTML_NAME, error)
        return {}, f"No slices are shown: {error}."
    compared = sum(not series["error"] for series in comparison.report["series"])
    is_part = viewers and compared > len(viewers)
    return viewers, f"The first {len(viewers)} of {compared} series." if is_part else ""


def viewers_of(comparison: Comparison) -> dict[str, Viewer]:
    """Return a viewer of each series that could be compared, of the first 12 if there are more.

    It shows the reference at its second point beside the first variant of ssimrdo with quantizer
    offsets, encoded once more to have the same bit rate. There is none without such a variant.

    Raises
    ------
    SsimrdoError
        If that encode fails, or encodes of workers are not within reach.
    """
    report = comparison.report
    reference, *others = report["encoders"]
    ours = next((encoder for encoder in others if encoder["strength"] is not None), None)
    if ours is None:
        return {}
    viewers = {}
    compared = (series for series in report["series"] if not series["error"])
    for series in islice(compared, MAX_SERIES):
        name, mode = series["name"], report["mode"]
        first = series["curves"][reference["name"]][REFERENCE_INDEX]
        point = point_at(series["curves"][ours["name"]], first["kbps"], mode)
        # Without this one the other need not be made.
        decoded = comparison.decoded(name, reference["name"], first["point"])
        kbps = comparison.encode(name, ours["name"], point)
        viewers[name] = make_viewer(
            name,
            comparison.frames(name),
            decoded,
            comparison.decoded(name, ours["name"], point),
            reference_label=f"{reference['label']}, {mode} {first['point']:g}",
            ours_label=f"{ours['label']}, {mode} {point:g}",
            reference_kbps=first["kbps"],
            ours_kbps=kbps,
            bit_depth=report["bit_depth"],
            strength=ours["strength"],
        )
    return viewers


def point_at(curve: Sequence[Mapping[str, Any]], kbps: float, mode: Mode) -> float:
    """Return the point that a curve would have a bit rate at.

    Parameters
    ----------
    curve : sequence of dict
        The curve's points, as in the report.
    kbps : float
        Bit rate to come close to.
    mode : {"crf", "qp", "bitrate"}
        What the points are; QPs are whole numbers.
    """
    # Beyond its ends a curve goes on as it ends.
    by_rate = dict(sorted((math.log(point["kbps"]), point["point"]) for point in curve))
    rates, points = np.array([*by_rate]), np.array([*by_rate.values()], float)
    if len(rates) == 1:
        return float(points[0])
    right = int(np.clip(np.searchsorted(rates, math.log(kbps)), 1, len(rates) - 1))
    share = (math.log(kbps) - rates[right - 1]) / (rates[right] - rates[right - 1])
    point = points[right - 1] + share * (points[right] - points[right - 1])
    low, high = RANGES[mode]
    return round(float(np.clip(point, low, high)), 0 if mode == "qp" else 2)
