"""Slices of a comparison for the report's viewer: the reference beside our own encode."""

from __future__ import annotations

import math

from ssimrdo.evaluate.comparison import Comparison
from ssimrdo.evaluate.report import Viewer, make_viewer

REFERENCE_INDEX = 1
"""Which of the reference's points is shown: CRF 23 by default, x264's own default."""


def viewers_of(comparison: Comparison) -> dict[str, Viewer]:
    """Return a viewer per series that could be compared.

    It shows the reference at its second point beside the first variant of ssimrdo with quantizer
    offsets, at the point nearest to the same bit rate. There is none without such a variant, or
    above 8 bit, which a page's images do not have.
    """
    report = comparison.report
    reference, *others = report["encoders"]
    ours = next((encoder for encoder in others if encoder["strength"] is not None), None)
    if ours is None or report["bit_depth"] != 8:
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
            strength=ours["strength"],
        )
    return viewers
