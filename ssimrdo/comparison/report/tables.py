"""The tables of a report: from what a comparison found to cells of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ssimrdo.comparison.report import charts
from ssimrdo.comparison.report.charts import Style
from ssimrdo.comparison.results import (
    ComparisonReport,
    CurveDelta,
    EncoderFacts,
    RatePoint,
    SeriesResult,
    SeriesSpread,
    plain,
)
from ssimrdo.html.text import (
    MISSING,
    Notes,
    decimals,
    finite,
    interval,
    metric_axis,
    metric_name,
    metric_unit,
    number,
    percent,
    signed,
)

FEW_SERIES: Final = 10
"""Below this a bootstrap interval comes out too narrow, which the page then says."""

_NO_DELTA: Final = CurveDelta(None, None, None, None)
_NO_SPREAD: Final = SeriesSpread(None, None, None, None, None, 0, 0)


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, numbers of its notes, the same as a tooltip, and a hint of colour."""

    text: str
    notes: tuple[int, ...] = ()
    title: str = ""
    tone: str = ""
    detail: str = ""


@dataclass(frozen=True)
class HeadlineRow:
    """One index of one encoder over the series; ``series`` says how many define it."""

    metric: str
    mean: Cell
    median: Cell
    worst: Cell
    count: Cell
    series: int


@dataclass(frozen=True)
class Headline:
    """One encoder against the reference over the series."""

    label: str
    role: str
    rows: tuple[HeadlineRow, ...]
    speed: str
    strip: charts.StripChart | None
    notes: tuple[str, ...]

    @property
    def few(self) -> bool:
        """Whether there is an interval, but of too few series to be wide enough."""
        return 1 < max((row.series for row in self.rows), default=0) < FEW_SERIES


@dataclass(frozen=True)
class OverviewRow:
    """One encoder's means."""

    label: str
    role: str
    cells: tuple[Cell, ...]
    series: str
    speed: str


@dataclass(frozen=True)
class Overview:
    """The means of all encoders side by side."""

    metrics: tuple[str, ...]
    rows: tuple[OverviewRow, ...]


@dataclass(frozen=True)
class SeriesRow:
    """One series, or why it failed."""

    name: str
    about: str
    error: str | None
    cells: tuple[Cell, ...]
    speed: str


@dataclass(frozen=True)
class SeriesTable:
    """One encoder against the reference on every series."""

    label: str
    metrics: tuple[str, ...]
    rows: tuple[SeriesRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PointRow:
    """One encode; its qualities are pairs of mean and worst slice."""

    encoder: str
    style: int
    point: str
    kbps: str
    kilobytes: str
    seconds: str
    qualities: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PointTable:
    """All encodes of the series with this index."""

    series: int
    name: str
    metrics: tuple[str, ...]
    rows: tuple[PointRow, ...]


@dataclass(frozen=True)
class Bar:
    """One encoder's time, and its share of the longest in percent."""

    label: str
    style: int
    share: float
    seconds: str
    rate: str


@dataclass(frozen=True)
class Times:
    """Times on one series, by its index, or on all."""

    series: int | None
    name: str
    bars: tuple[Bar, ...]


def lead(
    report: ComparisonReport, compared: Sequence[EncoderFacts], styles: Mapping[str, Style]
) -> list[str]:
    """Say in words what the first index's mean over series is, per encoder."""
    if not report.metrics:
        return []
    quality = metric_name(report.metrics[0])
    sentences = []
    for encoder in compared:
        spread = _spread(report, encoder.name, report.metrics[0])
        mean, label = finite(spread.mean), styles[encoder.name].label
        if mean is None:
            sentences.append(f"{label}: no BD-rate at equal {quality} is defined.")
            continue
        share = f"{abs(mean):.1f}\u202f% {'less' if mean <= 0 else 'more'} bit rate"
        ends = interval(spread.low, spread.high)
        over = f"mean of {spread.count} series" if spread.count != 1 else "one series only"
        spread_text = "" if ends == MISSING else f", 95\u202f% interval {ends}"
        sentences.append(f"{label}: {share} at equal {quality} ({over}{spread_text}).")
    return sentences


def headline(report: ComparisonReport, encoder: EncoderFacts) -> Headline:
    """Return one encoder's BD-rates over the series that did not fail."""
    notes = Notes()
    rows, strips = [], []
    for metric in _deltas(report, encoder.name, report.compared):
        spread = _spread(report, encoder.name, metric)
        deltas = {one.name: _delta(one, encoder.name, metric) for one in report.compared}
        rows.append(_headline_row(metric, spread, tuple(deltas.values()), notes))
        known = tuple(
            (name, rate)
            for name, delta in deltas.items()
            if (rate := finite(delta.rate_percent)) is not None
        )
        strips.append(charts.StripRow(metric_name(metric), known, spread))
    summary = report.summary.get(encoder.name)
    return Headline(
        encoder.label or encoder.name,
        encoder.role,
        tuple(rows),
        _speed(None if summary is None else summary.speed),
        charts.strip_chart(strips),
        tuple(notes.texts),
    )


def overview(headlines: Sequence[Headline]) -> Overview | None:
    """Return the means of all encoders side by side; None where one table says it already."""
    if len(headlines) < 2:
        return None
    metrics = tuple(dict.fromkeys(row.metric for one in headlines for row in one.rows))
    return Overview(metrics, tuple(_overview_row(one, metrics) for one in headlines))


def series_table(report: ComparisonReport, encoder: EncoderFacts) -> SeriesTable:
    """Return one encoder's BD-rates on every series, also those that failed."""
    name = encoder.name
    metrics = _deltas(report, name, report.series)
    notes = Notes()
    rows = tuple(
        SeriesRow(
            one.name,
            _about(one),
            one.error,
            ()
            if one.error
            else tuple(_bd_cell(_delta(one, name, metric), metric, notes) for metric in metrics),
            _speed(one.speed.get(name)),
        )
        for one in report.series
    )
    return SeriesTable(
        encoder.label or name, tuple(map(metric_name, metrics)), rows, tuple(notes.texts)
    )


def point_table(
    index: int, series: SeriesResult, metrics: Sequence[str], styles: Mapping[str, Style]
) -> PointTable:
    """Return all encodes of one series."""
    rows = tuple(
        PointRow(
            style.label,
            style.number,
            f"{plain(point.point)}",
            number(point.kbps, 1),
            number((finite(point.bytes) or 0) / 1000, 1),
            number(point.seconds, 2),
            tuple(_quality(point, metric) for metric in metrics),
        )
        for name, style in styles.items()
        for point in series.curves.get(name, ())
    )
    return PointTable(index, series.name, tuple(map(metric_axis, metrics)), rows)


def times(series: Mapping[int, SeriesResult], styles: Mapping[str, Style]) -> tuple[Times, ...]:
    """Return the encoding time of all rate points together: over all series, and of each."""
    groups = [Times(None, "All series", _bars(tuple(series.values()), styles))]
    if len(series) > 1:
        groups += [Times(index, one.name, _bars([one], styles)) for index, one in series.items()]
    return tuple(group for group in groups if group.bars)


def _spread(report: ComparisonReport, encoder: str, metric: str) -> SeriesSpread:
    summary = report.summary.get(encoder)
    delta = None if summary is None else summary.deltas.get(metric)
    return _NO_SPREAD if delta is None else delta.rate_percent


def _delta(series: SeriesResult, encoder: str, metric: str) -> CurveDelta:
    return series.bd.get(encoder, {}).get(metric, _NO_DELTA)


def _deltas(
    report: ComparisonReport, encoder: str, series: Iterable[SeriesResult]
) -> tuple[str, ...]:
    """Return what an encoder has BD-rates of, the report's indices first."""
    summary = report.summary.get(encoder)
    known = dict.fromkeys(metric for one in series for metric in one.bd.get(encoder, ()))
    known |= dict.fromkeys(() if summary is None else summary.deltas)
    return tuple(metric for metric in dict.fromkeys((*report.metrics, *known)) if metric in known)


def _headline_row(
    metric: str, spread: SeriesSpread, deltas: Sequence[CurveDelta], notes: Notes
) -> HeadlineRow:
    reasons = dict.fromkeys(delta.reason for delta in deltas if delta.reason)
    why = "; ".join(reasons) or "no series defines it"
    left_out = f"{spread.excluded} series left out, no BD-rate is defined: {why}."
    excluded = (notes.mark(left_out),) if spread.excluded else ()
    missing = f"No value: {why}."
    return HeadlineRow(
        metric_name(metric),
        _mean_cell(spread, missing, notes),
        _rate_cell(spread.median, missing, notes),
        _rate_cell(spread.worst, missing, notes),
        Cell(f"{spread.count}", excluded),
        spread.count,
    )


def _overview_row(one: Headline, metrics: Sequence[str]) -> OverviewRow:
    found = {row.metric: row for row in one.rows}
    counts = sorted({row.series for row in one.rows})
    return OverviewRow(
        one.label,
        one.role,
        # The notes are numbered in, and stand below, the encoder's own table.
        tuple(
            replace(found[metric].mean, notes=()) if metric in found else Cell(MISSING)
            for metric in metrics
        ),
        MISSING.join(f"{count}" for count in dict.fromkeys(counts[:1] + counts[-1:])),
        one.speed,
    )


def _mean_cell(spread: SeriesSpread, reason: str, notes: Notes) -> Cell:
    """Return the mean with its interval below it."""
    mean = _rate_cell(spread.mean, reason, notes)
    if mean.text == MISSING:
        return mean
    ends = interval(spread.low, spread.high)
    if ends != MISSING:
        return replace(mean, detail=ends)
    one = "No interval: one series says nothing of the spread between series."
    why = one if spread.count == 1 else "No interval: it is not defined."
    return replace(mean, detail=MISSING, notes=(notes.mark(why),), title=why)


def _rate_cell(value: float | None, reason: str, notes: Notes) -> Cell:
    known = finite(value)
    if known is None:
        return Cell(MISSING, (notes.mark(reason),), reason)
    return Cell(percent(known), tone=tone_of(known))


def tone_of(rate_percent: float) -> str:
    """Return the hint of colour of a BD-rate: whether it is shown as less, as more, or as 0."""
    if abs(rate_percent) < 0.05:
        return ""
    return "less" if rate_percent < 0 else "more"


def _speed(value: float | None) -> str:
    known = finite(value)
    return MISSING if known is None else f"{known:.2f}\u202f×"


def _bd_cell(delta: CurveDelta, metric: str, notes: Notes) -> Cell:
    warnings = list(delta.warnings)
    rate = finite(delta.rate_percent)
    if rate is None:
        warnings.insert(0, f"No value: {delta.reason or 'not measured'}.")
    marks = tuple(sorted(notes.mark(text) for text in warnings))
    gain = signed(delta.quality, decimals(metric))
    unit = metric_unit(metric)
    return Cell(
        percent(rate),
        marks,
        "; ".join(warnings),
        "" if rate is None else tone_of(rate),
        "" if gain == MISSING else f"{gain}\u202f{unit}" if unit else gain,
    )


def _about(series: SeriesResult) -> str:
    """Return slices, size and window of a series, as far as they are known."""
    parts = []
    if series.slices is not None:
        parts.append(f"{number(series.slices)} slices")
    if series.width is not None and series.height is not None:
        parts.append(f"{series.width}×{series.height}")
    if series.window is not None:
        window = f"{series.window.center:g}/{series.window.width:g} HU"
        parts.append(window.replace("-", "\u2212"))
    if series.left_out:
        parts.append(f"{number(series.left_out)} file{'s' * (series.left_out > 1)} left out")
    return ", ".join(parts)


def _quality(point: RatePoint, metric: str) -> tuple[str, str]:
    quality, digits = point.quality.get(metric), decimals(metric)
    if quality is None:
        return MISSING, MISSING
    return number(quality.mean, digits), number(quality.worst, digits)


def _bars(series: Sequence[SeriesResult], styles: Mapping[str, Style]) -> tuple[Bar, ...]:
    totals = {name: sum(_seconds(one, name) for one in series) for name in styles}
    longest = max(totals.values(), default=0.0)
    return tuple(
        Bar(
            styles[name].label,
            styles[name].number,
            round(100 * seconds / longest, 1),
            number(seconds, 1),
            number(sum(_slices_encoded(one, name) for one in series) / seconds, 1),
        )
        for name, seconds in totals.items()
        if seconds > 0
    )


def _seconds(series: SeriesResult, encoder: str) -> float:
    return sum(finite(point.seconds) or 0.0 for point in series.curves.get(encoder, ()))


def _slices_encoded(series: SeriesResult, encoder: str) -> int:
    timed = sum(finite(point.seconds) is not None for point in series.curves.get(encoder, ()))
    return (series.slices or 0) * timed
