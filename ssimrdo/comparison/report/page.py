"""From what a comparison found to the HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ssimrdo.comparison.classes import BY_NAME as CLASS_NAMES
from ssimrdo.comparison.report import charts, tables, tissue
from ssimrdo.comparison.report.charts import Costs, Style
from ssimrdo.comparison.report.forest import forest
from ssimrdo.comparison.report.headline import AT, lead
from ssimrdo.comparison.report.images import shown_viewers
from ssimrdo.comparison.report.points import named_point
from ssimrdo.comparison.report.rates import qualities
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
    """A chart and the choices that it is shown for.

    ``view`` is which of several charts; those over the bit rate are for all points.
    """

    series: ShownSeries
    metric: ShownMetric
    chart: charts.Chart
    point: ShownPoint | None = None
    view: str = ""


@dataclass(frozen=True)
class ShownPanel:
    """Errors by tissue and the choices that they are shown for."""

    series: ShownSeries
    point: ShownPoint
    panel: tissue.Panel


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
    styles = {e.name: Style(i, e.label or e.name, e.role == "test") for i, e in enumerate(encoders)}
    compared = [e for e in encoders if e.role != "reference"]
    reference = next((styles[e.name].label for e in encoders if e.role == "reference"), None)
    good = {i: one for i, one in enumerate(report.series) if not one.error}
    shown = {i: ShownSeries(i, one.name) for i, one in good.items()}
    costs = {i: Costs.of(one, float(report.fps)) for i, one in good.items()}
    every = qualities(report)
    metrics = tuple(ShownMetric(key, metric_name(key)) for key in every if key not in CLASS_NAMES)
    points = _points(report, good.values())
    return {
        "version": report.version,
        "command": report.command,
        "date": _date(report.date),
        "reference": reference or "the reference",
        "lead": lead(report, compared),
        "series_count": len(report.series),
        "failed_count": len(report.series) - len(good),
        "slice_count": sum(one.slices or 0 for one in good.values()),
        "forest": forest(report, compared, styles, every),
        "figure_tables": [tables.figure_table(report, one, every) for one in compared],
        "series_tables": [tables.series_table(report, one, every) for one in compared],
        "warnings": [warning.text for warning in report.warnings],
        "styles": list(styles.values()),
        "shown_series": list(shown.values()),
        "metrics": metrics,
        "points": points,
        "rd_charts": [
            ShownChart(shown[i], metric, chart, view=view)
            for i, one in good.items()
            for metric in metrics
            for view, chart in _rate_charts(one, styles, metric.key, costs[i])
        ],
        "slice_charts": [
            ShownChart(shown[i], metric, chart, point, view)
            for i, one in good.items()
            for metric in metrics
            for point in points
            for view in ("difference", "value")
            if (
                chart := charts.slice_chart(
                    one.curves, styles, metric.key, point.index, difference=view == "difference"
                )
            )
        ],
        "error_panels": [
            ShownPanel(shown[i], point, panel)
            for i, one in good.items()
            for point in points
            if (panel := tissue.error_panel(one, styles, point.index, costs[i]))
        ],
        "error_tables": [
            (i, table) for i, one in good.items() if (table := tissue.error_table(one, styles))
        ],
        "point_tables": [
            (i, tables.point_table(one, report.metrics, styles, costs[i]))
            for i, one in good.items()
        ],
        "times": tables.times(good, styles),
        "settings": _settings(report),
        "encoders": [_encoder(encoder, styles[encoder.name]) for encoder in encoders],
        "versions": [pair for pair in _pairs(report.versions) if pair[0] != "ssimrdo"],
        "machine": _pairs(report.machine.to_json()),
        "timing_note": TIMING_NOTES.get(report.timing, ""),
        "geometry": charts,
    }


def _rate_charts(
    series: SeriesResult, styles: Mapping[str, Style], metric: str, costs: Costs
) -> Iterator[tuple[str, charts.Chart]]:
    """Yield the charts of a series over the bit rate, with what each is chosen by."""
    found = {
        "reference": charts.rd_chart(series.curves, styles, metric, costs),
        "whole": charts.rd_chart(series.curves, styles, metric, costs, whole=True),
        "saved": charts.saved_chart(series.curves, styles, metric),
    }
    for view, chart in found.items():
        if chart is not None:
            yield view, chart


def _by_role(encoders: Iterable[EncoderFacts]) -> list[EncoderFacts]:
    """Return the reference, then what is tested, then the other anchors."""
    return sorted(encoders, key=lambda e: ("reference", "test", "anchor").index(e.role))


def _date(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def _points(report: ComparisonReport, series: Iterable[SeriesResult]) -> tuple[ShownPoint, ...]:
    """Return the reference's points to choose from, CRF 23 first where these are the usual ones."""
    if not report.encoders:
        return ()
    curves = [one.curves.get(report.reference.name, ()) for one in series]
    longest: Curve = max(curves, key=len, default=())
    found = [
        ShownPoint(i, named_point(report.reference, one.point)) for i, one in enumerate(longest)
    ]
    return tuple(sorted(found, key=lambda point: point.index != AT))


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
