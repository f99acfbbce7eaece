"""The tables of a report: from what a comparison found to cells of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ssimrdo.comparison.report.charts import Costs, Style, three_digits
from ssimrdo.comparison.report.rates import Rates, quality_text, quality_title, rates
from ssimrdo.comparison.results import (
    ComparisonReport,
    CurveDelta,
    EncoderFacts,
    RatePoint,
    SeriesResult,
    plain,
)
from ssimrdo.html.text import MISSING, Notes, decimals, finite, metric_axis, number, percent

WARNED: Final = "lost although SSIM gains"

_NO_DELTA: Final = CurveDelta(None, None, None, None)


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, numbers of its notes, the same as a tooltip, and a hint of colour."""

    text: str
    notes: tuple[int, ...] = ()
    title: str = ""
    tone: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, what stands below it, cells, and the style of an encoder.

    ``error`` stands in place of the cells.
    """

    name: str
    cells: tuple[Cell, ...]
    detail: str = ""
    style: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Table:
    """A table with what its columns are called and its notes."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


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


def figure_table(
    report: ComparisonReport, encoder: EncoderFacts, qualities: Sequence[str]
) -> Table:
    """Return one encoder's BD-rates over the series, a row for each index and class."""
    notes = Notes()
    rows = tuple(
        _figure_row(found, notes)
        for one in qualities
        if (found := rates(report, encoder.name, one)).count or found.missing
    )
    heads = ("Mean", "From, to", "Median", "Worst", "Series")
    return Table(encoder.label or encoder.name, heads, rows, tuple(notes.texts))


def series_table(
    report: ComparisonReport, encoder: EncoderFacts, qualities: Sequence[str]
) -> Table:
    """Return one encoder's BD-rates on every series, also those that failed."""
    name = encoder.name
    known = [
        one
        for one in qualities
        if any(_delta(series, name, one) is not None for series in report.compared)
    ]
    notes = Notes()
    rows = tuple(
        Row(
            one.name,
            ()
            if one.error
            else (
                *(_bd_cell(report, one, name, quality, notes) for quality in known),
                Cell(_time(one.speed.get(name))),
            ),
            _about(one),
            error=one.error,
        )
        for one in report.series
    )
    heads = (*map(quality_title, known), "Time")
    return Table(encoder.label or name, heads, rows, tuple(notes.texts))


def point_table(
    series: SeriesResult, metrics: Sequence[str], styles: Mapping[str, Style], costs: Costs
) -> Table:
    """Return all encodes of one series."""
    rows = tuple(
        Row(
            style.label,
            (
                Cell(f"{plain(point.point)}"),
                Cell(number(point.kbps, 1)),
                *_sizes(point, costs),
                Cell(number(point.seconds, 2)),
                *(_quality(point, metric) for metric in metrics),
            ),
            style=style.number,
        )
        for name, style in styles.items()
        for point in series.curves.get(name, ())
    )
    heads = ("Point", "kbit/s", "kB", "kB per slice", "Ratio", "s", *map(metric_axis, metrics))
    return Table(series.name, heads, rows)


def times(series: Mapping[int, SeriesResult], styles: Mapping[str, Style]) -> tuple[Times, ...]:
    """Return the encoding time of all rate points together: over all series, and of each."""
    groups = [Times(None, "All series", _bars(tuple(series.values()), styles))]
    if len(series) > 1:
        groups += [Times(index, one.name, _bars([one], styles)) for index, one in series.items()]
    return tuple(group for group in groups if group.bars)


def tone_of(rate_percent: float) -> str:
    """Return the hint of colour of a BD-rate: whether it is shown as less, as more, or as 0."""
    if abs(rate_percent) < 0.05:
        return ""
    return "less" if rate_percent < 0 else "more"


def _figure_row(found: Rates, notes: Notes) -> Row:
    reason = f"No value: {found.reason}."
    excluded = (
        (
            notes.mark(
                f"{len(found.missing)} series left out, no BD-rate is defined: {found.reason}."
            ),
        )
        if found.missing
        else ()
    )
    mean = _rate_cell(found.mean, reason, notes)
    if found.warned:
        mean = _warned(mean, f"{WARNED}: {', '.join(found.warned)}")
    return Row(
        quality_title(found.quality),
        (
            mean,
            Cell(found.span),
            _rate_cell(found.median, reason, notes),
            _rate_cell(found.worst, reason, notes),
            Cell(f"{found.count}", excluded),
        ),
    )


def _rate_cell(value: float | None, reason: str, notes: Notes) -> Cell:
    known = finite(value)
    if known is None:
        return Cell(MISSING, (notes.mark(reason),), reason)
    return Cell(percent(known), tone=tone_of(known))


def _delta(series: SeriesResult, encoder: str, quality: str) -> CurveDelta | None:
    deltas = {**series.classes.get(encoder, {}), **series.bd.get(encoder, {})}
    return deltas.get(quality)


def _bd_cell(
    report: ComparisonReport, series: SeriesResult, encoder: str, quality: str, notes: Notes
) -> Cell:
    delta = _delta(series, encoder, quality)
    if delta is None:
        return Cell(MISSING, title="No value: the series has nothing of it.")
    warnings = list(delta.warnings)
    rate = finite(delta.rate_percent)
    if rate is None:
        warnings.insert(0, f"No value: {delta.reason or 'not measured'}.")
    cell = Cell(
        percent(rate),
        tuple(sorted(notes.mark(text) for text in warnings)),
        "; ".join(warnings),
        "" if rate is None else tone_of(rate),
        "" if finite(delta.quality) is None else quality_text(quality, delta.quality),
    )
    is_warned = any(
        (warning.series, warning.encoder) == (series.name, encoder) and quality in warning.classes
        for warning in report.warnings
    )
    return _warned(cell, WARNED) if is_warned else cell


def _warned(cell: Cell, why: str) -> Cell:
    return replace(cell, text=f"{cell.text}\u202f⚠", title=why)


def _time(speed: float | None) -> str:
    known = finite(speed)
    return f"{1 / known:.2f}\u202f×" if known else MISSING


def _about(series: SeriesResult) -> str:
    """Return slices, size and window of a series, as far as they are known."""
    parts = []
    if series.slices is not None:
        parts.append(f"{number(series.slices)} slice{'s' * (series.slices != 1)}")
    if series.width is not None and series.height is not None:
        parts.append(f"{series.width}×{series.height}")
    if series.window is not None:
        window = f"{series.window.center:g}/{series.window.width:g} HU"
        parts.append(window.replace("-", "\u2212"))
    if series.left_out:
        parts.append(f"{number(series.left_out)} file{'s' * (series.left_out > 1)} left out")
    return ", ".join(parts)


def _sizes(point: RatePoint, costs: Costs) -> tuple[Cell, Cell, Cell]:
    """Return the size of a series and of a slice in kB, and how many times smaller that is."""
    kbps = finite(point.kbps)
    total = Cell(number(None if kbps is None else (finite(point.bytes) or 0) / 1000, 1))
    if not kbps:
        return total, Cell(MISSING), Cell(MISSING)
    ratio = costs.ratio(kbps)
    return (
        total,
        Cell(three_digits(costs.kb_per_slice(kbps))),
        Cell(MISSING if ratio is None else f"{number(ratio)}:1"),
    )


def _quality(point: RatePoint, metric: str) -> Cell:
    quality, digits = point.quality.get(metric), decimals(metric)
    if quality is None:
        return Cell(MISSING)
    return Cell(number(quality.mean, digits), detail=number(quality.worst, digits))


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
