"""From a comparison's results to the HTML page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ssimrdo.compare.report import charts
from ssimrdo.compare.report.viewer import Viewer, spread
from ssimrdo.files_single import write_whole
from ssimrdo.html.extra import check_extra
from ssimrdo.html.page import render_template
from ssimrdo.html.text import (
    MISSING,
    TIMING_NOTES,
    Notes,
    decimals,
    finite,
    interval,
    metric_axis,
    metric_name,
    number,
    percent,
    signed,
)

IMAGE_BUDGET_BYTES = 11_000_000
"""What the images of all viewers may take in the page; slices beyond are left out evenly."""

FEW_SERIES = 10
"""Below this a bootstrap interval comes out too narrow, which the page then says."""

WINDOW_KEYS = ("center", "width")

Report = Mapping[str, Any]


def write_html(
    report: Report,
    path: Path,
    viewers: Mapping[str, Viewer] | None = None,
    viewer_note: str = "",
) -> None:
    """Write the report of a comparison as one HTML file that loads nothing from elsewhere.

    Parameters
    ----------
    report : mapping
        The results, as in ``report.json``; None, NaN and missing values are shown as a dash.
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
    check_extra("jinja2", "matplotlib")
    write_whole(path, render(report, viewers or {}, viewer_note).encode(), overwrite=True)


def render(report: Report, viewers: Mapping[str, Viewer], viewer_note: str = "") -> str:
    """Return the page; see :func:`write_html`."""
    context = _context(report, viewers)
    return render_template("ssimrdo.compare.report", "report", viewer_note=viewer_note, **context)


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, numbers of its notes, the same as a tooltip, and a hint of colour."""

    text: str
    notes: tuple[int, ...] = ()
    title: str = ""
    tone: str = ""
    detail: str = ""


def _context(report: Report, viewers: Mapping[str, Viewer]) -> dict[str, Any]:
    encoders = _by_role(report.get("encoders") or [])
    series = list(report.get("series") or [])
    metrics = list(report.get("metrics") or [])
    styles = {e["name"]: (i, e.get("label") or e["name"]) for i, e in enumerate(encoders)}
    good = [(i, s) for i, s in enumerate(series) if not s.get("error")]
    compared = [e for e in encoders if e.get("role") != "reference"]
    reference = next((e for e in encoders if e.get("role") == "reference"), None)
    tests = [e for e in compared if e.get("role") == "test"]
    headlines = [_headline(report, e, good) for e in compared]
    shown_series = [{"index": i, "name": s["name"]} for i, s in good]
    return {
        "version": report.get("version") or "",
        "command": report.get("command") or "",
        "date": _date(report.get("date")),
        "reference": styles[reference["name"]][1] if reference else "the reference",
        "styles": styles,
        "lead": _lead(report, tests or compared, styles),
        "overview": _overview(headlines),
        "counts": {
            "series": len(series),
            "failed": len(series) - len(good),
            "slices": sum(int(finite(s.get("slices")) or 0) for _, s in good),
        },
        "headlines": headlines,
        "series_tables": [_series_table(report, e, series) for e in compared],
        "shown_series": shown_series,
        "metrics": [{"key": m, "name": metric_name(m)} for m in metrics],
        "rd_charts": [
            {"series": i, "name": s["name"], "metric": m, "metric_name": metric_name(m), "chart": c}
            for i, s in good
            for m in metrics
            if (c := charts.rd_chart(s.get("curves") or {}, styles, m))
        ],
        "slice_charts": _slice_charts(good, metrics, styles),
        "points": _rate_points(good),
        "point_tables": [_point_table(i, s, metrics, styles) for i, s in good],
        "times": _times(good, styles),
        "viewers": _viewer_contexts(viewers),
        "settings": _settings(report),
        "encoders": [{**e, "style": styles[e["name"]][0]} for e in encoders],
        "versions": [pair for pair in _pairs(report.get("versions")) if pair[0] != "ssimrdo"],
        "machine": _pairs(report.get("machine")),
        "timing_note": TIMING_NOTES.get(str(report.get("timing")), ""),
        "geometry": charts,
    }


def _by_role(encoders: Iterable[Any]) -> list[Any]:
    """Return the reference, then what is tested, then the other anchors."""
    order = ("reference", "test", "anchor")
    return sorted(
        encoders, key=lambda e: order.index(e["role"]) if e.get("role") in order else len(order)
    )


def _date(text: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return "" if text is None else str(text)
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def _lead(report: Report, compared: Sequence[Any], styles: Mapping[str, Any]) -> list[str]:
    """Say in words what the first metric's mean over series is, per encoder."""
    metrics = report.get("metrics") or []
    if not metrics:
        return []
    sentences = []
    for encoder in compared:
        summary = _summary(report, encoder["name"]).get(metrics[0]) or {}
        mean, count = finite(summary.get("mean")), int(finite(summary.get("count")) or 0)
        label, quality = styles[encoder["name"]][1], metric_name(metrics[0])
        if mean is None:
            sentences.append(f"{label}: no BD-rate at equal {quality} is defined.")
            continue
        share = f"{abs(mean):.1f}\u202f% {'less' if mean <= 0 else 'more'} bit rate"
        ends = interval(summary.get("low"), summary.get("high"))
        over = f"mean of {count} series" if count != 1 else "one series only"
        spread_text = "" if ends == MISSING else f", 95\u202f% interval {ends}"
        sentences.append(f"{label}: {share} at equal {quality} ({over}{spread_text}).")
    return sentences


def _summary(report: Report, encoder: str) -> Mapping[str, Any]:
    found = (report.get("summary") or {}).get(encoder) or {}
    return found if isinstance(found, Mapping) else {}


def _bd_metrics(report: Report, encoder: str, series: Iterable[Any]) -> list[str]:
    """Return the metrics with a BD-rate, those of the report first."""
    names = dict.fromkeys(report.get("metrics") or [])
    for one in series:
        names.update(dict.fromkeys((one.get("bd") or {}).get(encoder) or {}))
    names.update(dict.fromkeys(_summary(report, encoder)))
    known = set(_summary(report, encoder)) | {
        metric for one in series for metric in (one.get("bd") or {}).get(encoder) or {}
    }
    return [name for name in names if name in known and name != "speed"]


def _headline(report: Report, encoder: Any, good: Sequence[tuple[int, Any]]) -> dict[str, Any]:
    name = encoder["name"]
    series = [one for _, one in good]
    notes = Notes()
    rows, strips = [], []
    for metric in _bd_metrics(report, name, series):
        summary = _summary(report, name).get(metric) or {}
        deltas = [
            (s["name"], ((s.get("bd") or {}).get(name) or {}).get(metric) or {}) for s in series
        ]
        rows.append(_headline_row(metric, summary, [delta for _, delta in deltas], notes))
        known = [(n, v) for n, d in deltas if (v := finite(d.get("rate_percent"))) is not None]
        strips.append((metric_name(metric), known, summary))
    return {
        "label": encoder.get("label") or name,
        "role": encoder.get("role") or "",
        "rows": rows,
        "few": max((row["series"] for row in rows), default=0) < FEW_SERIES,
        "speed": _speed(_summary(report, name).get("speed")),
        "strip": charts.strip_chart(strips),
        "notes": notes.texts,
    }


def _headline_row(
    metric: str, summary: Mapping[str, Any], deltas: Sequence[Mapping[str, Any]], notes: Notes
) -> dict[str, Any]:
    count, excluded = (int(finite(summary.get(key)) or 0) for key in ("count", "excluded"))
    reasons = dict.fromkeys(d["reason"] for d in deltas if d.get("reason"))
    why = "; ".join(reasons) or "no series defines it"
    excluded_note = (
        (notes.mark(f"{excluded} series left out, no BD-rate is defined: {why}."),)
        if excluded
        else ()
    )
    return {
        "metric": metric_name(metric),
        "mean": _mean_cell(summary, f"No value: {why}.", notes),
        "series": count,
        "median": _rate_cell(summary.get("median"), f"No value: {why}.", notes),
        "worst": _rate_cell(summary.get("worst"), f"No value: {why}.", notes),
        "count": Cell(f"{count}", excluded_note),
    }


def _overview(headlines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the means of all encoders side by side; None where one table says it already."""
    if len(headlines) < 2:
        return None
    metrics = list(dict.fromkeys(row["metric"] for h in headlines for row in h["rows"]))
    rows = []
    for headline in headlines:
        found = {row["metric"]: row for row in headline["rows"]}
        counts = sorted({row["series"] for row in headline["rows"]})
        rows.append(
            {
                "label": headline["label"],
                "role": headline["role"],
                # The notes are numbered in, and stand below, the encoder's own table.
                "cells": [
                    replace(found[metric]["mean"], notes=()) if metric in found else Cell(MISSING)
                    for metric in metrics
                ],
                "series": MISSING.join(
                    f"{count}" for count in dict.fromkeys(counts[:1] + counts[-1:])
                ),
                "speed": headline["speed"],
            }
        )
    return {"metrics": metrics, "rows": rows}


def _mean_cell(summary: Mapping[str, Any], reason: str, notes: Notes) -> Cell:
    """Return the mean with its interval below it."""
    mean = _rate_cell(summary.get("mean"), reason, notes)
    if mean.text == MISSING:
        return mean
    ends = interval(summary.get("low"), summary.get("high"))
    if ends != MISSING:
        return replace(mean, detail=ends)
    one = "No interval: one series says nothing of the spread between series."
    why = one if finite(summary.get("count")) == 1 else "No interval: it is not defined."
    return replace(mean, detail=MISSING, notes=(notes.mark(why),), title=why)


def _rate_cell(value: Any, reason: str, notes: Notes) -> Cell:
    known = finite(value)
    if known is None:
        return Cell(MISSING, (notes.mark(reason),), reason)
    return Cell(percent(known), tone=_tone(known))


def _tone(rate_percent: float) -> str:
    if abs(rate_percent) < 0.05:
        return ""
    return "less" if rate_percent < 0 else "more"


def _speed(value: Any) -> str:
    known = finite(value)
    return MISSING if known is None else f"{known:.2f}\u202f×"


def _series_table(report: Report, encoder: Any, series: Sequence[Any]) -> dict[str, Any]:
    name = encoder["name"]
    metrics = _bd_metrics(report, name, series)
    notes = Notes()
    rows = [
        {
            "name": one["name"],
            "error": one.get("error"),
            "about": _about(one),
            "cells": [
                _bd_cell(((one.get("bd") or {}).get(name) or {}).get(metric), metric, notes)
                for metric in metrics
                if not one.get("error")
            ],
            "speed": _speed((one.get("speed") or {}).get(name)),
        }
        for one in series
    ]
    return {
        "label": encoder.get("label") or name,
        "metrics": [metric_name(metric) for metric in metrics],
        "rows": rows,
        "notes": notes.texts,
    }


def _bd_cell(delta: Mapping[str, Any] | None, metric: str, notes: Notes) -> Cell:
    delta = delta or {}
    warnings = [str(text) for text in delta.get("warnings") or ()]
    rate = finite(delta.get("rate_percent"))
    if rate is None:
        warnings.insert(0, f"No value: {delta.get('reason') or 'not measured'}.")
    marks = tuple(notes.mark(text) for text in warnings)
    gain = signed(delta.get("quality"), decimals(metric))
    unit = "\u202fdB" if decimals(metric) == 2 else ""
    return Cell(
        percent(rate),
        marks,
        "; ".join(warnings),
        "" if rate is None else _tone(rate),
        "" if gain == MISSING else f"{gain}{unit}",
    )


def _about(series: Mapping[str, Any]) -> str:
    """Return slices, size and window of a series, as far as they are known."""
    parts = []
    if finite(series.get("slices")):
        parts.append(f"{number(series['slices'])} slices")
    if finite(series.get("width")) and finite(series.get("height")):
        parts.append(f"{series['width']}×{series['height']}")
    window = series.get("window")
    if isinstance(window, Mapping) and None not in map(finite, map(window.get, WINDOW_KEYS)):
        text = "/".join(f"{window[key]:g}" for key in WINDOW_KEYS)
        parts.append(text.replace("-", "\u2212") + " HU")
    if left_out := finite(series.get("left_out")):
        parts.append(f"{number(left_out)} file{'s' * (left_out > 1)} left out")
    return ", ".join(parts)


def _rate_points(good: Sequence[tuple[int, Any]]) -> list[dict[str, Any]]:
    """Return the rate points to choose from, by number and by the reference's own names."""
    curves = [points for _, one in good for points in (one.get("curves") or {}).values()]
    longest: Sequence[Any] = max(curves, key=len, default=())
    return [{"index": i, "name": f"{p.get('point')}"} for i, p in enumerate(longest)]


def _slice_charts(
    good: Sequence[tuple[int, Any]], metrics: Sequence[str], styles: Mapping[str, tuple[int, str]]
) -> list[dict[str, Any]]:
    return [
        {
            "series": index,
            "name": one["name"],
            "metric": metric,
            "metric_name": metric_name(metric),
            "point": point["index"],
            "point_name": point["name"],
            "chart": chart,
        }
        for index, one in good
        for metric in metrics
        for point in _rate_points(good)
        if (chart := charts.slice_chart(one.get("curves") or {}, styles, metric, point["index"]))
    ]


def _point_table(
    index: int, series: Any, metrics: Sequence[str], styles: Mapping[str, tuple[int, str]]
) -> dict[str, Any]:
    rows = [
        {
            "encoder": label,
            "style": style,
            "point": f"{point.get('point')}",
            "kbps": number(point.get("kbps"), 1),
            "kilobytes": number((finite(point.get("bytes")) or 0) / 1000, 1),
            "seconds": number(point.get("seconds"), 2),
            "qualities": [_quality(point, metric) for metric in metrics],
        }
        for name, (style, label) in styles.items()
        for point in (series.get("curves") or {}).get(name) or ()
    ]
    return {
        "series": index,
        "name": series["name"],
        "metrics": [metric_axis(metric) for metric in metrics],
        "rows": rows,
    }


def _quality(point: Mapping[str, Any], metric: str) -> tuple[str, str]:
    quality = (point.get("quality") or {}).get(metric) or {}
    digits = decimals(metric)
    return number(quality.get("mean"), digits), number(quality.get("min"), digits)


def _times(
    good: Sequence[tuple[int, Any]], styles: Mapping[str, tuple[int, str]]
) -> list[dict[str, Any]]:
    """Return the encoding time of all rate points together: over all series, and of each."""
    together: dict[str, Any] = {"series": None, "name": "All series"}
    groups = [{**together, "bars": _bars([one for _, one in good], styles)}]
    if len(good) > 1:
        groups += [
            {"series": index, "name": one["name"], "bars": _bars([one], styles)}
            for index, one in good
        ]
    return [group for group in groups if group["bars"]]


def _bars(series: Sequence[Any], styles: Mapping[str, tuple[int, str]]) -> list[dict[str, Any]]:
    totals = {name: sum(_seconds(one, name) for one in series) for name in styles}
    longest = max(totals.values(), default=0.0)
    return [
        {
            "label": styles[name][1],
            "style": styles[name][0],
            "share": round(100 * seconds / longest, 1),
            "seconds": number(seconds, 1),
            "rate": number(sum(_slices_encoded(one, name) for one in series) / seconds, 1),
        }
        for name, seconds in totals.items()
        if seconds > 0
    ]


def _seconds(series: Mapping[str, Any], encoder: str) -> float:
    points = (series.get("curves") or {}).get(encoder) or ()
    return sum(finite(point.get("seconds")) or 0.0 for point in points)


def _slices_encoded(series: Mapping[str, Any], encoder: str) -> float:
    points = (series.get("curves") or {}).get(encoder) or ()
    timed = sum(finite(point.get("seconds")) is not None for point in points)
    return (finite(series.get("slices")) or 0.0) * timed


def _settings(report: Report) -> list[tuple[str, str]]:
    names = {
        "mode": "Rate control",
        "preset": "Preset",
        "fps": "Slices per second",
        "bit_depth": "Bits per sample",
    }
    return [(label, str(report[key])) for key, label in names.items() if report.get(key)]


def _pairs(values: Any) -> list[tuple[str, str]]:
    if not isinstance(values, Mapping):
        return []
    return [(str(key), MISSING if v is None else str(v)) for key, v in values.items()]


def _viewer_contexts(viewers: Mapping[str, Viewer]) -> list[dict[str, Any]]:
    shown = [viewer for viewer in viewers.values() if viewer.slices]
    if not shown:
        return []
    # The middle slice of each series tells what a slice takes, near enough for a budget.
    typical = statistics.fmean(
        _bytes(_images(viewer, (len(viewer.slices) // 2,))) for viewer in shown
    )
    fitting = max(int(IMAGE_BUDGET_BYTES / typical / len(shown)), 1)
    return [
        _viewer_context(index, viewer, spread(len(viewer.slices), fitting))
        for index, viewer in enumerate(shown)
    ]


def _viewer_context(index: int, viewer: Viewer, chosen: Sequence[int]) -> dict[str, Any]:
    from ssimrdo.html.images import bar_uri

    scales = _scales(viewer)
    rows, columns = viewer.slices[0].source.shape
    return {
        "index": index,
        "name": viewer.series,
        "rows": rows,
        "columns": columns,
        "labels": (
            _with_rate(viewer.reference_label, viewer.reference_kbps),
            _with_rate(viewer.ours_label, viewer.ours_kbps),
        ),
        "rate_difference": _rate_difference(viewer),
        "bars": {
            key: {"image": bar_uri(scale), "ticks": scale.positions()}
            for key, scale in scales.items()
        },
        "count": len(chosen),
        "data": {"slices": _images(viewer, chosen)},
    }


def _with_rate(label: str, kbps: float | None) -> str:
    return label if finite(kbps) is None else f"{label}, {number(kbps)}\u00a0kbit/s"


def _rate_difference(viewer: Viewer) -> str:
    reference, ours = finite(viewer.reference_kbps), finite(viewer.ours_kbps)
    if reference is None or ours is None or reference <= 0:
        return ""
    return percent(100 * (ours / reference - 1))


def _scales(viewer: Viewer) -> dict[str, Any]:
    import numpy as np

    from ssimrdo.html.images import offset_scale, ratio_scale, ssim_scale

    slices = viewer.slices
    return {
        "ssim": ssim_scale([m for s in slices for m in (s.reference_ssim_map, s.ours_ssim_map)]),
        "offset": offset_scale([s.qp_offset for s in slices]),
        "ratio": ratio_scale([np.log2(s.lagrange_ratio) for s in slices]),
    }


def _images(viewer: Viewer, chosen: Sequence[int]) -> list[dict[str, Any]]:
    import numpy as np

    from ssimrdo.html.images import map_uri, png_uri, shown_ssim_map

    scales = _scales(viewer)
    found = []
    for one in (viewer.slices[index] for index in chosen):
        shape = one.source.shape
        found.append(
            {
                "number": one.index + 1,
                "ssim": [_ssim_text(one.reference_ssim), _ssim_text(one.ours_ssim)],
                "source": png_uri(one.source),
                "reference": png_uri(one.reference),
                "ours": png_uri(one.ours),
                "reference-ssim": map_uri(
                    shown_ssim_map(one.reference_ssim_map, shape), scales["ssim"]
                ),
                "ours-ssim": map_uri(shown_ssim_map(one.ours_ssim_map, shape), scales["ssim"]),
                "offset": map_uri(one.qp_offset, scales["offset"]),
                "ratio": map_uri(np.log2(one.lagrange_ratio), scales["ratio"]),
            }
        )
    return found


def _ssim_text(value: float) -> str:
    return number(value, 4)


def _bytes(slices: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(value) for one in slices for value in one.values() if isinstance(value, str))
