"""Slices of a comparison for the report's viewer: the reference beside our own encode."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from ssimrdo.errors import InputError
from ssimrdo.evaluate.comparison import Comparison
from ssimrdo.evaluate.report import Viewer, make_viewer, write_html

logger = logging.getLogger("ssimrdo")

HTML_NAME = "report.html"

REFERENCE_INDEX = 1
"""Which of the reference's points is shown: CRF 23 by default, x264's own default."""


def write_page(comparison: Comparison, folder: Path) -> None:
    """Write the page if what makes it is installed; the numbers are worth keeping without it.

    Raises
    ------
    OSError
        If writing fails, such as on a full disk.
    """
    try:
        write_html(comparison.report, folder / HTML_NAME, viewers_of(comparison))
    except InputError as error:
        logger.warning("%s is left out: %s", HTML_NAME, error)


def viewers_of(comparison: Comparison) -> dict[str, Viewer]:
    """Return a viewer per series that could be compared.

    It shows the reference at its second point beside the first variant of ssimrdo with quantizer
    offsets, at the point nearest to the same bit rate. There is none without such a variant.
    """
    report = comparison.report
    reference, *others = report["encoders"]
    ours = next((encoder for encoder in others if encoder["strength"] is not None), None)
    if ours is None:
        return {}
    viewers = {}
    for series in report["series"]:
        if series["error"]:
            continue
        name = series["name"]
        first = series["curves"][reference["name"]][REFERENCE_INDEX]
        second = min(
            series["curves"][ours["name"]],
            key=lambda point: abs(math.log(point["kbps"] / first["kbps"])),
        )
        viewers[name] = make_viewer(
            name,
            comparison.frames(name),
            comparison.decoded(name, reference["name"], first["point"]),
            comparison.decoded(name, ours["name"], second["point"]),
            reference_label=f"{reference['label']}, {report['mode']} {first['point']:g}",
            ours_label=f"{ours['label']}, {report['mode']} {second['point']:g}",
            reference_kbps=first["kbps"],
            ours_kbps=second["kbps"],
            bit_depth=report["bit_depth"],
            strength=ours["strength"],
        )
    return viewers
