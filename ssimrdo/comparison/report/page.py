"""From what a comparison found to the HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ssimrdo.comparison.report import charts, tables, tissue
from ssimrdo.comparison.report.charts import Style
from ssimrdo.comparison.report.images import shown_viewers
from ssimrdo.comparison.report.viewer import Viewer
from ssimrdo.comparison.results import ComparisonReport, Curve, EncoderFacts, SeriesResult, plain
from ssimrdo.extras import require
from ssimrdo.files import write_whole
from ssimrdo.html.page import render_template
from ssimrdo.html.text import MISSING, metric_name

TIMING_NOTES: Final[Mapping[str, str]] = {
    "loaded": "Other work ran beside these encodes, so compare times with care.",
    "mixed": "Some times are of earlier runs, so compare them with care; "
    "a run without the cache measures anew.",
}
"""Why times may mislead, by what the report calls their ``timing``."""


@dataclass(frozen=True)
class ShownSeries:
    """A series that can be chosen, by its index among all."""

    index: int
    name: str


@dataclass(frozen=True)
class ShownMetric:
    """A quality index that can be chosen."""

    key: str
    name: str


@dataclass(frozen=True)
class ShownPoint:
    """A rate point that can be chosen, by its place on the curves."""

    index: int
    name: str


@dataclass(frozen=True)
class ShownChart:
    """A chart and the choices that it is shown for; rate-quality curves are for all points."""

    series: ShownSeries
    metric: ShownMetric
    chart: charts.Chart
    point: ShownPoint | None = None


@dataclass(frozen=True)
class ShownEncoder:
    """One encoder among the settings."""

    style: int
    label: str
    role: str
    points: tuple[str, ...]
    settings: str


def write_html(
    report: ComparisonReport,
    path: Path,
    viewers: Mapping[str, Viewer] | None = None,
    viewer_note: str = "",
) -> None:
    """Write the report of a comparison as one HTML file that loads nothing from elsewhere.

    Parameters
    ----------
    report : ComparisonReport
        The results; what is None, NaN or missing is shown as a dash.
    path : Path
        File to write; it appears whole or not at all and replaces what is there.
    viewers : mapping of str to Viewer, optional
        Slices to look at, by name of the series.
    viewer_note : str
        What to say of the viewers, such as why there is none.

    Raises
    ------
    InputError
        If Jinja2 or Matplotlib is not installed, or the folder takes no file.
    OSError
        If writing fails, such as on a full disk.
    """
    require("jinja2", "matplotlib", what=path.name)
    write_whole(path, render(report, viewers or {}, viewer_note).encode(), overwrite=True)


def render(report: ComparisonReport, viewers: Mapping[str, Viewer], viewer_note: str = "") -> str:
    """Return the page; see :func:`write_html`."""
    return render_template(
        "ssimrdo.comparison.report",
        "report",
        viewer_note=viewer_note,
        viewers=shown_viewers(viewers.values()),
        **_context(report),
    )


def _context(report: ComparisonReport) -> dict[str, Any]:
    """Return what the template is filled with, but the viewers."""
    encoders = _by_role(report.encoders)
    styles = {e.name: Style(i, e.label or e.name) for i, e in enumerate(encoders)}
    compared = [e for e in encoders if e.role != "reference"]
    tests = [e for e in compared if e.role == "test"]
    reference = next((styles[e.name].label for e in encoders if e.role == "reference"), None)
    good = {i: one for i, one in enumerate(report.series) if not one.error}
    headlines = [tables.headline(report, encoder) for encoder in compared]
    metrics = tuple(ShownMetric(key, metric_name(key)) for key in report.metrics)
    points = _points(good.values())
    return {
        "version": report.version,
        "command": report.command,
        "date": _date(report.date),
        "reference": reference or "the reference",
        "lead": tables.lead(report, tests or compared, styles),
        "overview": tables.overview(headlines),
        "series_count": len(report.series),
        "failed_count": len(report.series) - len(good),
        "slice_count": sum(one.slices or 0 for one in good.values()),
        "headlines": headlines,
        "series_tables": [tables.series_table(report, encoder) for encoder in compared],
        "warnings": [warning.text for warning in report.warnings],
        "class_table": tissue.class_table(report, compared),
        "class_series_tables": tissue.series_tables(report, compared),
        "error_tables": _error_tables(good, styles),
        "shown_series": [ShownSeries(i, one.name) for i, one in good.items()],
        "metrics": metrics,
        "points": points,
        "rd_charts": _rd_charts(good, metrics, styles),
        "slice_charts": _slice_charts(good, metrics, points, styles),
        "point_tables": [
            tables.point_table(i, one, report.metrics, styles) for i, one in good.items()
        ],
        "times": tables.times(good, styles),
        "settings": _settings(report),
        "encoders": [_encoder(encoder, styles[encoder.name]) for encoder in encoders],
        "versions": [pair for pair in _pairs(report.versions) if pair[0] != "ssimrdo"],
        "machine": _pairs(report.machine.to_json()),
        "timing_note": TIMING_NOTES.get(report.timing, ""),
        "geometry": charts,
    }


def _error_tables(
    series: Mapping[int, SeriesResult], styles: Mapping[str, Style]
) -> list[tuple[int, tissue.Table]]:
    return [
        (index, table)
        for index, one in series.items()
        if (table := tissue.error_table(one, styles)) is not None
    ]


def _by_role(encoders: Iterable[EncoderFacts]) -> list[EncoderFacts]:
    """Return the reference, then what is tested, then the other anchors."""
    return sorted(encoders, key=lambda e: ("reference", "test", "anchor").index(e.role))


def _date(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def _points(series: Iterable[SeriesResult]) -> tuple[ShownPoint, ...]:
    """Return the rate points to choose from, by number and by the reference's own names."""
    curves = (curve for one in series for curve in one.curves.values())
    longest: Curve = max(curves, key=len, default=())
    return tuple(ShownPoint(i, f"{plain(one.point)}") for i, one in enumerate(longest))


def _rd_charts(
    series: Mapping[int, SeriesResult],
    metrics: Sequence[ShownMetric],
    styles: Mapping[str, Style],
) -> list[ShownChart]:
    return [
        ShownChart(ShownSeries(index, one.name), metric, chart)
        for index, one in series.items()
        for metric in metrics
        if (chart := charts.rd_chart(one.curves, styles, metric.key))
    ]


def _slice_charts(
    series: Mapping[int, SeriesResult],
    metrics: Sequence[ShownMetric],
    points: Sequence[ShownPoint],
    styles: Mapping[str, Style],
) -> list[ShownChart]:
    return [
        ShownChart(ShownSeries(index, one.name), metric, chart, point)
        for index, one in series.items()
        for metric in metrics
        for point in points
        if (chart := charts.slice_chart(one.curves, styles, metric.key, point.index))
    ]


def _settings(report: ComparisonReport) -> list[tuple[str, str]]:
    return [
        ("Rate control", report.mode),
        ("Preset", report.preset),
        ("Slices per second", f"{report.fps}"),
        ("Bits per sample", f"{report.bit_depth}"),
    ]


def _encoder(encoder: EncoderFacts, style: Style) -> ShownEncoder:
    points = tuple(f"{plain(point)}" for point in encoder.points)
    return ShownEncoder(style.number, style.label, encoder.role, points, encoder.settings)


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, MISSING if value is None else str(value)) for key, value in values.items()]
