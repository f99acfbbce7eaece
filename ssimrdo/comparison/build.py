"""From measurements to a report: curves, deltas, speeds and their summaries over series."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

import ssimrdo
from ssimrdo.bd.statistics import summarize
from ssimrdo.comparison.cache import Measurement
from ssimrdo.comparison.classes import CLASSES, class_deltas, class_values, class_warnings
from ssimrdo.comparison.clip import ClipFacts
from ssimrdo.comparison.deltas import Delta, curve_delta, deltas_of, finite_or_none
from ssimrdo.comparison.encoders import Contender, versions
from ssimrdo.comparison.encodes import Outcome
from ssimrdo.comparison.results import (
    ComparisonReport,
    Curve,
    CurveDelta,
    DeltaSummary,
    EncodeCounts,
    EncoderFacts,
    EncoderSummary,
    MachineFacts,
    RatePoint,
    SeriesResult,
    SeriesSpread,
    Timing,
)
from ssimrdo.comparison.settings import CompareSettings
from ssimrdo.metrics import SSIM, QualityIndex
from ssimrdo.record.result import WindowUsed
from ssimrdo.record.summary import SliceSummary

logger = logging.getLogger(__name__)


def build_report(
    outcomes: Sequence[Outcome],
    contenders: Sequence[Contender],
    settings: CompareSettings,
    *,
    machine: MachineFacts,
    encodes: EncodeCounts,
) -> ComparisonReport:
    """Return the results of a comparison.

    Parameters
    ----------
    outcomes : sequence of Outcome
        All series, at least one of them without an error.
    contenders : sequence of Contender
        All encoders, the reference first.
    settings : CompareSettings
        What was asked for.
    machine : MachineFacts
        What encodes were timed on.
    encodes : EncodeCounts
        How many were made.
    """
    deltas = deltas_of(settings.indices)
    series = [_series(outcome, contenders, deltas) for outcome in outcomes]
    labels = {one.name: one.label or one.name for one in contenders}
    warnings = [warning for one in series for warning in class_warnings(one, labels)]
    for warning in warnings:
        logger.warning("%s", warning.text)
    formats = [outcome.facts.format for outcome in outcomes if outcome.facts is not None]
    return ComparisonReport(
        version=ssimrdo.__version__,
        date=datetime.now(UTC).replace(microsecond=0),
        command="ssimrdo compare",
        mode=settings.mode,
        preset=settings.preset,
        fps=settings.fps,
        bit_depth=settings.bit_depth,
        versions=versions(),
        machine=machine,
        timing=_timing([m for outcome in outcomes for m in outcome.measured.values()]),
        encodes=encodes,
        metrics=settings.metrics,
        encoders=tuple(
            EncoderFacts(
                name=contender.name,
                role=contender.role,
                label=contender.label,
                settings=contender.settings(formats),
                build=contender.build,
                strength=contender.strength,
                points=contender.points,
                objective=contender.objective.name if contender.objective else None,
            )
            for contender in contenders
        ),
        series=tuple(series),
        summary={
            contender.name: _summary(series, contender.name, deltas) for contender in contenders[1:]
        },
        classes={contender.name: _classes(series, contender.name) for contender in contenders[1:]},
        warnings=tuple(warnings),
    )


def _timing(measured: Sequence[Measurement]) -> Timing:
    if not all(measurement.alone for measurement in measured):
        return "loaded"
    return "alone" if len({measurement.run for measurement in measured}) == 1 else "mixed"


def _series(
    outcome: Outcome, contenders: Sequence[Contender], deltas: Sequence[Delta]
) -> SeriesResult:
    facts = outcome.facts
    if facts is None:
        return SeriesResult(outcome.name, error=outcome.error)
    indices = [delta.index for delta in deltas if not delta.in_db]
    curves = {
        contender.name: tuple(
            _point(point, outcome.measured[contender.name, point], facts, indices)
            for point in contender.points
        )
        for contender in contenders
    }
    reference, *others = curves
    return SeriesResult(
        name=outcome.name,
        slices=facts.slices,
        width=facts.format.columns,
        height=facts.format.rows,
        window=WindowUsed(facts.window.center, facts.window.width),
        left_out=facts.left_out,
        curves=curves,
        bd={
            name: {
                delta.name: _delta(
                    curves[reference], curves[name], delta, f"{outcome.name}: {name}"
                )
                for delta in deltas
            }
            for name in others
        },
        window_source=facts.window_source,
        classes={name: class_deltas(curves[reference], curves[name]) for name in others},
        speed={name: _speed(curves[reference], curve) for name, curve in curves.items()},
    )


def _point(
    point: float, measurement: Measurement, facts: ClipFacts, indices: Sequence[QualityIndex]
) -> RatePoint:
    per_slice = {index.name: measurement.per_slice[index.name] for index in indices}
    return RatePoint(
        point=point,
        kbps=measurement.kbps(facts.format.fps, facts.slices),
        bytes=measurement.bytes,
        seconds=measurement.seconds,
        quality={index.name: _summarized(per_slice[index.name], index) for index in indices},
        per_slice=per_slice,
        tissue=measurement.tissue,
        classes=class_values(measurement.tissue, per_slice.get(SSIM.name, ())),
    )


def _summarized(values: Sequence[float], index: QualityIndex) -> SliceSummary:
    mean = math.fsum(values) / len(values)
    return SliceSummary(mean, index.worst(values), index.higher_is_better)


def _speed(reference: Curve, curve: Curve) -> float:
    return statistics.median(
        first.seconds / second.seconds for first, second in zip(reference, curve, strict=True)
    )


def _delta(reference: Curve, curve: Curve, delta: Delta, what: str) -> CurveDelta:
    qualities = delta.qualities(reference), delta.qualities(curve)
    found = curve_delta(reference, curve, qualities, sign=delta.sign)
    for message in (*found.warnings, *filter(None, [found.reason])):
        # There are too many for a terminal, and the report has them all.
        logger.info("%s, %s: %s", what, delta.name, message)
    return found


def _summary(
    series: Sequence[SeriesResult], encoder: str, deltas: Sequence[Delta]
) -> EncoderSummary:
    compared = [one for one in series if one.error is None]

    def summary(delta: Delta) -> DeltaSummary:
        found = [one.bd[encoder][delta.name] for one in compared]
        return DeltaSummary(
            rate_percent=_spread([one.rate_percent for one in found], larger_is_better=False),
            kbps=_spread([one.rate_kbps for one in found], larger_is_better=False),
            quality=_spread([one.quality for one in found], larger_is_better=delta.sign > 0),
        )

    return EncoderSummary(
        {delta.name: summary(delta) for delta in deltas},
        statistics.geometric_mean(one.speed[encoder] for one in compared),
    )


def _classes(series: Sequence[SeriesResult], encoder: str) -> dict[str, SeriesSpread]:
    found = [one.classes[encoder] for one in series if one.error is None]
    rates = {
        one.name: [deltas[one.name].rate_percent for deltas in found if one.name in deltas]
        for one in CLASSES
    }
    return {
        name: _spread(values, larger_is_better=False) for name, values in rates.items() if values
    }


def _spread(values: Sequence[float | None], *, larger_is_better: bool) -> SeriesSpread:
    summary = summarize(
        [math.nan if value is None else value for value in values],
        larger_is_better=larger_is_better,
    )
    return SeriesSpread(
        mean=finite_or_none(summary.mean),
        median=finite_or_none(summary.median),
        worst=finite_or_none(summary.worst),
        low=finite_or_none(summary.low),
        high=finite_or_none(summary.high),
        count=summary.count,
        excluded=summary.excluded,
        spread=summary.spread,
    )
