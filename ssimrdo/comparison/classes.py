"""Classes of quality beside the indices: by tissue, and by the slices that are worst.

A curve's quality in a class of tissue is the PSNR of the pooled error over all slices of a clip,
``20 log10(span / RMSE)``. docs/quality.md says what the classes are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ssimrdo.comparison.deltas import Delta, curve_delta
from ssimrdo.comparison.results import (
    ClassWarning,
    ComparisonReport,
    Curve,
    CurveDelta,
    SeriesResult,
)
from ssimrdo.metrics import SSIM, get, names
from ssimrdo.metrics.tissue import Area
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import TissueSummary

LOSS_PERCENT: Final = 0.05
"""BD-rate from which on an encoder loses, and below whose negative it gains; tables show less as
zero."""


@dataclass(frozen=True, slots=True)
class QualityClass:
    """What encoders are compared by, beside the indices.

    Parameters
    ----------
    name : str
        Key in JSON.
    title : str
        What people call it.
    where : str
        Where an encoder loses, in a sentence.
    unit : str
        Of it; empty for a plain number.
    decimals : int
        Digits behind the point that are worth showing.
    """

    name: str
    title: str
    where: str
    unit: str = "dB"
    decimals: int = 2


def _in_area(area: Area, where: str) -> QualityClass:
    return QualityClass(f"psnr_{area.value}", f"PSNR {where}", where)


AREAS: Final = {
    Area.BODY: _in_area(Area.BODY, "in the body"),
    Area.EDGE: _in_area(Area.EDGE, "at edges"),
    Area.DENSE: _in_area(Area.DENSE, "in small dense structures"),
    Area.FLAT: _in_area(Area.FLAT, "in flat soft tissue"),
    Area.LUNG: _in_area(Area.LUNG, "in lung"),
}
"""Classes of tissue."""

BODY_SSIM: Final = QualityClass("ssim_body", "SSIM in the body", "in SSIM in the body", "", 4)
"""Mean over slices of the SSIM inside the body."""

WORST_SLICE: Final = QualityClass("ssim_worst", "SSIM, worst slice", "in the worst slice", "", 4)
"""SSIM of the worst slice."""

P5: Final = QualityClass(
    "ssim_p5", "SSIM, 5th percentile", "in the 5th percentile of slices", "", 4
)
"""SSIM that 95 % of the slices keep."""

CLASSES: Final = (*AREAS.values(), BODY_SSIM, WORST_SLICE, P5)
"""All classes, in the order of tables."""

BY_NAME: Final[Mapping[str, QualityClass]] = {one.name: one for one in CLASSES}


def class_values(tissue: TissueSummary | None, ssim: Sequence[float]) -> dict[str, float]:
    """Return the quality of an encode in every class that its series has, more is better.

    Parameters
    ----------
    tissue : TissueSummary, optional
        Errors by tissue.
    ssim : sequence of float
        SSIM of every slice; none where it was not measured.
    """
    found: dict[str, float | None] = {}
    if tissue is not None:
        found |= {one.name: tissue.psnr(area) for area, one in AREAS.items()}
        body = tissue.ssim[Area.BODY]
        found[BODY_SSIM.name] = None if body is None else body.mean
    if ssim:
        summary = SliceSummary.of(ssim, SSIM)
        found |= {WORST_SLICE.name: summary.worst, P5.name: summary.p5}
    return {name: value for name, value in found.items() if value is not None}


def class_deltas(reference: Curve, curve: Curve) -> dict[str, CurveDelta]:
    """Return one encoder's curve against another's in every class that the series has.

    Parameters
    ----------
    reference, curve : tuple of RatePoint
        The encodes of one series.
    """
    found = {}
    for one in CLASSES:
        if all(one.name in point.classes for point in (*reference, *curve)):
            theirs, ours = ([point.classes[one.name] for point in c] for c in (reference, curve))
            found[one.name] = curve_delta(reference, curve, (theirs, ours))
    return found


def rates_by_class(
    report: ComparisonReport, anchor: str | None = None
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the BD-rates of a comparison, the indices' by their mean first, then by class.

    Parameters
    ----------
    report : ComparisonReport
        A comparison.
    anchor : str, optional
        Name of the encoder to compare with; the reference by default.

    Returns
    -------
    dict of str to dict of str to dict of str to float or None
        In percent by encoder, by index or class, and by series; a class that a series lacks, such
        as lung in a window that shows none, has no entry for it, and None is an undefined number.

    Raises
    ------
    KeyError
        If the report has no such encoder.
    """
    anchor = report.reference.name if anchor is None else anchor
    others = [encoder.name for encoder in report.encoders if encoder.name != anchor]
    table: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in others}
    for series in report.compared:
        for name in others:
            for key, delta in _all_deltas(report, series, anchor, name):
                table[name].setdefault(key, {})[series.name] = delta.rate_percent
    return table


def class_warnings(series: SeriesResult, labels: Mapping[str, str]) -> Iterator[ClassWarning]:
    """Yield a warning for every encoder that gains in SSIM and loses in a class.

    Parameters
    ----------
    series : SeriesResult
        With its deltas.
    labels : mapping of str to str
        What readers know the encoders by.
    """
    for name, deltas in series.classes.items():
        ssim = series.bd[name].get(SSIM.name)
        gain = None if ssim is None else ssim.rate_percent
        if gain is None or gain > -LOSS_PERCENT:
            continue
        lost = {
            key: delta.rate_percent
            for key, delta in deltas.items()
            if delta.rate_percent is not None and delta.rate_percent >= LOSS_PERCENT
        }
        if lost:
            where = ", ".join(f"{BY_NAME[key].where} (+{rate:.1f} %)" for key, rate in lost.items())
            what = f"{series.name}: {labels[name]}"
            text = f"{what} saves {-gain:.1f} % at equal SSIM, but loses {where}"
            yield ClassWarning(series.name, name, tuple(lost), text)


def _all_deltas(
    report: ComparisonReport, series: SeriesResult, anchor: str, name: str
) -> Iterator[tuple[str, CurveDelta]]:
    theirs, ours = series.curves[anchor], series.curves[name]
    for metric in report.metrics:
        if metric in names():
            delta = Delta(metric, get(metric))
            qualities = delta.qualities(theirs), delta.qualities(ours)
            yield metric, curve_delta(theirs, ours, qualities, sign=delta.sign)
    yield from class_deltas(theirs, ours).items()
