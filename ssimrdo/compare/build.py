"""From measurements to a report: curves, deltas, speeds and their summaries over series."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import ssimrdo
from ssimrdo.bd.deltas import (
    EvaluationError,
    RateQuality,
    bjontegaard,
    rate_difference,
    ssim_db,
)
from ssimrdo.bd.statistics import summarize
from ssimrdo.compare.cache import Measurement
from ssimrdo.compare.clip import ClipFacts
from ssimrdo.compare.encoders import Contender, versions
from ssimrdo.compare.encodes import Outcome
from ssimrdo.compare.results import (
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
from ssimrdo.compare.settings import CompareSettings
from ssimrdo.metrics import QualityIndex
from ssimrdo.record.result import WindowUsed
from ssimrdo.record.summary import SliceSummary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delta:
    """What curves are compared by.

    Parameters
    ----------
    name : str
        Key in JSON.
    index : QualityIndex
        Which index, by its mean over slices.
    in_db : bool
        Whether by ``-10 log10(1 - q)`` of it.
    """

    name: str
    index: QualityIndex
    in_db: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.in_db else self.index.sign

    def curve(self, points: Curve) -> RateQuality:
        """Return the curve of some encodes, whose quality grows."""
        means = [point.quality[self.index.name].mean for point in points]
        qualities = [float(ssim_db(mean)) if self.in_db else self.sign * mean for mean in means]
        return RateQuality([point.kbps for point in points], qualities)


def deltas_of(indices: Sequence[QualityIndex]) -> list[Delta]:
    """Return what curves are compared by: the indices, and behind them those in dB."""
    in_db = [Delta(f"{index.name}_db", index, True) for index in indices if index.in_db]
    return [*(Delta(index.name, index) for index in indices), *in_db]


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
                delta.name: _delta(curves[reference], curves[name], delta, outcome.name, name)
                for delta in deltas
            }
            for name in others
        },
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
    )


def _summarized(values: Sequence[float], index: QualityIndex) -> SliceSummary:
    mean = math.fsum(values) / len(values)
    return SliceSummary(mean, index.worst(values), index.higher_is_better)


def _speed(reference: Curve, curve: Curve) -> float:
    return statistics.median(
        first.seconds / second.seconds for first, second in zip(reference, curve, strict=True)
    )


def _delta(reference: Curve, curve: Curve, delta: Delta, series: str, encoder: str) -> CurveDelta:
    try:
        anchor, test = delta.curve(reference), delta.curve(curve)
    except EvaluationError as error:
        return CurveDelta(None, None, None, None, reason=str(error))
    result = bjontegaard(anchor, test)
    for message in (*result.warnings, *filter(None, [result.reason])):
        # There are too many for a terminal, and the report has them all.
        logger.info("%s: %s, %s: %s", series, encoder, delta.name, message)
    return CurveDelta(
        rate_percent=_finite(result.rate_percent),
        rate_kbps=_finite(rate_difference(anchor, test)),
        quality=_finite(delta.sign * result.quality),
        overlap=_finite(result.overlap_quality),
        reason=result.reason,
        warnings=tuple(result.warnings),
    )


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


def _spread(values: Sequence[float | None], *, larger_is_better: bool) -> SeriesSpread:
    summary = summarize(
        [math.nan if value is None else value for value in values],
        larger_is_better=larger_is_better,
    )
    return SeriesSpread(
        mean=_finite(summary.mean),
        median=_finite(summary.median),
        worst=_finite(summary.worst),
        low=_finite(summary.low),
        high=_finite(summary.high),
        count=summary.count,
        excluded=summary.excluded,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
