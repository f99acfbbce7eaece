"""BD-rates of one encoder over the series, of an index or of a class of quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ssimrdo.comparison.classes import BY_NAME
from ssimrdo.comparison.results import ComparisonReport, CurveDelta, SeriesSpread
from ssimrdo.html.text import decimals, finite, interval, metric_name, metric_unit, signed


@dataclass(frozen=True)
class Rates:
    """BD-rates against the reference, in percent.

    Parameters
    ----------
    encoder, quality : str
        Keys of the report.
    by_series : mapping of str to float
        Of the series that define it.
    mean, median, worst : float, optional
        Over these.
    low, high : float, optional
        The confidence interval of the mean, 95 %, or of few series the smallest and largest.
    is_interval : bool
        Which of both.
    missing : mapping of str to str
        The series that do not define it, and why.
    warned : tuple of str
        Series on which it is lost although SSIM gains.
    """

    encoder: str
    quality: str
    by_series: Mapping[str, float]
    mean: float | None
    median: float | None
    worst: float | None
    low: float | None
    high: float | None
    is_interval: bool
    missing: Mapping[str, str]
    warned: tuple[str, ...]

    @property
    def count(self) -> int:
        """Series that define it."""
        return len(self.by_series)

    @property
    def reason(self) -> str:
        """Why there is no number, or not of every series."""
        return "; ".join(dict.fromkeys(self.missing.values())) or "no series defines it"

    @property
    def span(self) -> str:
        """Interval or range as text; of a single series a dash."""
        return interval(self.low, self.high)


def rates(report: ComparisonReport, encoder: str, quality: str) -> Rates:
    """Return one encoder's BD-rates at equal quality, an index or a class."""
    deltas = {
        one.name: one.bd.get(encoder, {}).get(quality) or one.classes.get(encoder, {}).get(quality)
        for one in report.compared
    }
    known = {
        name: rate
        for name, delta in deltas.items()
        if (rate := finite(delta and delta.rate_percent)) is not None
    }
    spread = _spread(report, encoder, quality)
    return Rates(
        encoder,
        quality,
        known,
        finite(spread.mean),
        finite(spread.median),
        finite(spread.worst),
        finite(spread.low),
        finite(spread.high),
        spread.spread == "interval",
        {name: _reason(delta, quality) for name, delta in deltas.items() if name not in known},
        tuple(
            warning.series
            for warning in report.warnings
            if warning.encoder == encoder and quality in warning.classes
        ),
    )


def qualities(report: ComparisonReport) -> tuple[str, ...]:
    """Return what there are BD-rates of: the indices, those in dB, and the classes."""
    indices = dict.fromkeys((*report.metrics, *report.deltas))
    indices |= dict.fromkeys(
        key for one in report.compared for deltas in one.bd.values() for key in deltas
    )
    found = {key for classes in report.classes.values() for key in classes}
    return (*indices, *(name for name in BY_NAME if name in found))


def quality_title(quality: str) -> str:
    """Return what an index or a class is called."""
    return BY_NAME[quality].title if quality in BY_NAME else metric_name(quality)


def quality_text(quality: str, value: float | None) -> str:
    """Return a difference of an index or a class with its unit, or a dash."""
    known = BY_NAME.get(quality)
    digits = decimals(quality) if known is None else known.decimals
    unit = metric_unit(quality) if known is None else known.unit
    return f"{signed(value, digits)}\u202f{unit}".rstrip()


def _spread(report: ComparisonReport, encoder: str, quality: str) -> SeriesSpread:
    classes = report.classes.get(encoder, {})
    summary = report.summary.get(encoder)
    delta = None if summary is None else summary.deltas.get(quality)
    if delta is not None:
        return delta.rate_percent
    return classes.get(quality, _NO_SPREAD)


def _reason(delta: CurveDelta | None, quality: str) -> str:
    if delta is None and quality in BY_NAME:
        return "the series has nothing of it"
    return (delta and delta.reason) or "not measured"


_NO_SPREAD: Final = SeriesSpread(None, None, None, None, None, 0, 0)
