"""What a comparison found, in the sentences that a page opens with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ssimrdo.comparison.report.between import kbps_at, mean_quality
from ssimrdo.comparison.report.points import named_point
from ssimrdo.comparison.report.rates import Rates, rates
from ssimrdo.comparison.results import ComparisonReport, EncoderFacts
from ssimrdo.html.text import finite, metric_name, number

AT: Final = 1
"""Which of the reference's points sizes are told at: CRF 23 by default, x264's own default."""


@dataclass(frozen=True)
class Sizes:
    """What series take at one quality, geometric means in kB, and where that is."""

    reference_kb: float
    encoder_kb: float
    where: str


def lead(report: ComparisonReport, compared: Sequence[EncoderFacts]) -> list[str]:
    """Return what each encoder saves at equal quality, in words, and what time it takes."""
    if not report.metrics:
        return []
    quality = report.metrics[0]
    return [
        _sentence(report, encoder, rates(report, encoder.name, quality), is_first=not turn)
        for turn, encoder in enumerate(compared)
    ]


def sizes(report: ComparisonReport, encoder: str) -> Sizes | None:
    """Return what series take at the quality of the reference's second point.

    The encoder's size lies on its curve between measured points; None where none of the series
    reaches the quality.
    """
    quality, reference = report.metrics[0], report.reference
    pairs, place = [], ""
    for series in report.compared:
        curve = series.curves.get(reference.name, ())
        if len(curve) <= AT:
            continue
        point = curve[AT]
        reached = mean_quality(point, quality)
        kbps, theirs = finite(point.kbps), finite(point.bytes)
        if reached is None or not kbps or theirs is None:
            continue
        needed = kbps_at(series.curves.get(encoder, ()), quality, reached)
        if needed is not None:
            pairs.append((theirs / 1000, theirs / 1000 * needed / kbps))
            place = named_point(reference, point.point)
    if not pairs:
        return None
    # As in the mean of BD-rates every series counts alike, however large it is.
    first, second = (statistics.geometric_mean(one[at] for one in pairs) for at in (0, 1))
    return Sizes(first, second, place)


def time_text(report: ComparisonReport, encoder: str) -> str:
    """Return an encoder's time as a multiple of the reference's; empty where it is unknown."""
    summary = report.summary.get(encoder)
    speed = None if summary is None else finite(summary.speed)
    return "" if not speed else f"{1 / speed:.1f}\u202f×"


def _sentence(
    report: ComparisonReport, encoder: EncoderFacts, found: Rates, *, is_first: bool
) -> str:
    label = encoder.label or encoder.name
    name = metric_name(report.metrics[0])
    if found.mean is None:
        return f"{label}: no BD-rate at equal {name} is defined: {found.reason}."
    word = "less" if found.mean <= 0 else "more"
    share = f"{number(abs(found.mean), 1)}\u202f% {word}"
    time = time_text(report, encoder.name)
    if not is_first:
        return f"{label}: {share}{_spread(found)}{f', at {time} the time' if time else ''}."
    reference = report.reference.label or report.reference.name
    taken = f", and takes {time} its time" if time else ""
    says = f"{label} needs {share} than {reference} at equal {name}{_spread(found)}{taken}."
    known = sizes(report, encoder.name)
    if known is None:
        return says
    mean = ", geometric mean of the series" if found.count > 1 else ""
    return (
        f"{_kb(known.reference_kb)} becomes {_kb(known.encoder_kb)} at the same {name} "
        f"({reference} at {known.where}{mean}). {says}"
    )


def _spread(found: Rates) -> str:
    """Return over how many series, and between what."""
    if found.count == 1:
        return " on one series"
    if found.low is None or found.high is None:
        return f" on {found.count} series"
    kind = "95\u202f% interval " if found.is_interval else ""
    return f" on {found.count} series ({kind}{_ends(found.low, found.high)})"


def _ends(low: float, high: float) -> str:
    """Return the ends of a spread as they read behind "less" or "more", the smaller first."""
    texts = [number(abs(end), 1) for end in (low, high)]
    if low < 0 < high:
        return f"{texts[0]}\u202f% less to {texts[1]}\u202f% more"
    return f"{' to '.join(texts if high > 0 else reversed(texts))}\u202f%"


def _kb(value: float) -> str:
    return f"{number(value, 0 if value >= 10 else 1)}\u202fkB"
