"""The tables by class of a report: BD-rates and errors by tissue, and where somebody loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ssimrdo.comparison.classes import AREAS, BODY_SSIM, CLASSES, QualityClass
from ssimrdo.comparison.report.charts import Style
from ssimrdo.comparison.report.tables import Cell, tone_of
from ssimrdo.comparison.results import (
    ComparisonReport,
    CurveDelta,
    EncoderFacts,
    RatePoint,
    SeriesResult,
    plain,
)
from ssimrdo.html.text import MISSING, finite, number, percent, signed
from ssimrdo.metrics.tissue import Area, ErrorSummary
from ssimrdo.record.tissue import AREA_NAMES

WARNED = "lost although SSIM gains"


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, cells, and the style of an encoder."""

    name: str
    cells: tuple[Cell, ...]
    style: int | None = None


@dataclass(frozen=True)
class Table:
    """A table with what its columns are called."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def class_table(report: ComparisonReport, encoders: Sequence[EncoderFacts]) -> Table | None:
    """Return the BD-rates over the series, a row for each class; None where there are none."""
    shown = [
        one for one in CLASSES if any(one.name in report.classes.get(e.name, {}) for e in encoders)
    ]
    if not shown:
        return None
    rows = tuple(
        Row(one.title, tuple(_mean_cell(report, encoder, one) for encoder in encoders))
        for one in shown
    )
    heads = tuple(encoder.label or encoder.name for encoder in encoders)
    return Table("BD-rate by class", heads, rows)


def series_tables(report: ComparisonReport, encoders: Sequence[EncoderFacts]) -> tuple[Table, ...]:
    """Return the BD-rates of every encoder on every series, a column for each class."""
    tables = []
    for encoder in encoders:
        found = {one.name: one.classes.get(encoder.name, {}) for one in report.compared}
        shown = [one for one in CLASSES if any(one.name in deltas for deltas in found.values())]
        if shown:
            rows = tuple(
                Row(name, tuple(_series_cell(report, encoder, name, one, deltas) for one in shown))
                for name, deltas in found.items()
            )
            heads = tuple(one.title for one in shown)
            tables.append(Table(encoder.label or encoder.name, heads, rows))
    return tuple(tables)


def error_table(series: SeriesResult, styles: Mapping[str, Style]) -> Table | None:
    """Return the errors of all encodes of a series; None where they were not measured."""
    points = [
        (style, point)
        for name, style in styles.items()
        for point in series.curves.get(name, ())
        if point.tissue is not None
    ]
    if not points:
        return None
    areas = [area for area in AREAS if any(_errors(point, area) for _, point in points)]
    names = [AREA_NAMES[area] for area in areas]
    heads = ("Point", *(name[0].upper() + name[1:] for name in names), "Noise kept", "SSIM, body")
    rows = tuple(
        Row(
            style.label,
            (Cell(f"{plain(point.point)}"), *_error_cells(point, areas)),
            style=style.number,
        )
        for style, point in points
    )
    units = dict.fromkeys(point.tissue.unit for _, point in points if point.tissue is not None)
    return Table(f"{series.name}, in {' and '.join(units)}", heads, rows)


def _mean_cell(report: ComparisonReport, encoder: EncoderFacts, one: QualityClass) -> Cell:
    spread = report.classes.get(encoder.name, {}).get(one.name)
    mean = None if spread is None else finite(spread.mean)
    if spread is None or mean is None:
        return Cell(MISSING, title="No value: no series defines it.")
    cell = Cell(percent(mean), tone=tone_of(mean))
    if spread.count > 1:
        cell = replace(cell, detail=f"worst {percent(spread.worst)}")
    lost = [
        warning.series
        for warning in report.warnings
        if warning.encoder == encoder.name and one.name in warning.classes
    ]
    return _warned(cell, f"{WARNED}: {', '.join(lost)}") if lost else cell


def _series_cell(
    report: ComparisonReport,
    encoder: EncoderFacts,
    series: str,
    one: QualityClass,
    deltas: Mapping[str, CurveDelta],
) -> Cell:
    delta = deltas.get(one.name)
    rate = None if delta is None else finite(delta.rate_percent)
    if delta is None or rate is None:
        reason = "the series has nothing of it" if delta is None else delta.reason
        return Cell(MISSING, title=f"No value: {reason}.")
    gain = signed(delta.quality, one.decimals)
    cell = Cell(percent(rate), tone=tone_of(rate), detail=f"{gain}\u202f{one.unit}".rstrip())
    is_warned = any(
        (warning.series, warning.encoder) == (series, encoder.name) and one.name in warning.classes
        for warning in report.warnings
    )
    return _warned(cell, WARNED) if is_warned else cell


def _warned(cell: Cell, why: str) -> Cell:
    return replace(cell, text=f"{cell.text}\u202f⚠", title=why)


def _error_cells(point: RatePoint, areas: Sequence[Area]) -> tuple[Cell, ...]:
    found = (_errors(point, area) for area in areas)
    noise = None if point.tissue is None else point.tissue.noise_kept
    return (
        *(Cell(MISSING) if one is None else _error_cell(one) for one in found),
        Cell(number(None if noise is None else 100 * noise) + ("" if noise is None else "\u202f%")),
        Cell(number(point.classes.get(BODY_SSIM.name), BODY_SSIM.decimals)),
    )


def _error_cell(errors: ErrorSummary) -> Cell:
    return Cell(
        number(errors.rmse, 1),
        detail=f"{number(errors.p99)}; {number(errors.maximum)}",
        title=f"bias {signed(errors.bias, 2)}, {number(errors.samples)} samples",
    )


def _errors(point: RatePoint, area: Area) -> ErrorSummary | None:
    return None if point.tissue is None else point.tissue.errors[area]
