"""The HTML page of a measurement: one file that loads nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo import __version__, metrics
from ssimrdo.html.images import (
    bar_uri,
    map_uri,
    png_uri,
    shown_ssim_map,
    ssim_scale,
)
from ssimrdo.html.page import style_sheet, template_environment
from ssimrdo.html.text import MISSING, number, signed
from ssimrdo.measurement.loop import MeasuredSlice
from ssimrdo.measurement.results import (
    Measurement,
    SliceRow,
    columns_of,
    decimals_of,
    title_of,
    unit_of,
)
from ssimrdo.measurement.scale import CommonScale
from ssimrdo.metrics.tissue import Area
from ssimrdo.record.tissue import AREA_NAMES

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 170, 60, 10, 12, 30
"""Of a chart, in its own units."""


@dataclass
class WorstSlice:
    """Keeps the slice with the lowest SSIM while slices go by."""

    ssim: float = np.inf
    kept: dict[str, Any] = field(default_factory=dict)

    def take(self, measured: MeasuredSlice, scale: CommonScale) -> None:
        """Look at a slice."""
        del scale
        similarity = measured.row.ssim
        if similarity is None or similarity >= self.ssim:
            return
        self.ssim = similarity
        pair = measured.pair
        self.kept = {
            "number": measured.row.number,
            "source": _screen(pair.source, pair.format.peak),
            "shown": _screen(pair.shown, pair.format.peak),
            "map": pair.ssim_components[0] * pair.ssim_components[1],
        }

    def pictures(self) -> dict[str, Any] | None:
        """Return its pictures as data URIs; None where there is none."""
        if not self.kept:
            return None
        source, values = self.kept["source"], self.kept["map"]
        scale = ssim_scale([values])
        rows, columns = source.shape
        return {
            "number": self.kept["number"],
            "ssim": number(self.ssim, 4),
            "rows": rows,
            "columns": columns,
            "source": png_uri(source),
            "shown": png_uri(self.kept["shown"]),
            "map": map_uri(shown_ssim_map(values, source.shape), scale),
            "bar": bar_uri(scale),
            "ticks": scale.positions(),
        }


def page(measurement: Measurement, worst: WorstSlice | None = None) -> str:
    """Return the page; sides are named by the last component of their path."""
    names = [PurePath(one).name or one for one in (measurement.reference, measurement.distorted)]
    environment = template_environment("ssimrdo.measurement")
    columns = list(columns_of(measurement))
    return environment.get_template("metrics.html.j2").render(
        css=style_sheet(),
        version=__version__,
        reference=names[0],
        distorted=names[1],
        about=about(measurement),
        m=measurement,
        notes=[_capital(one) for one in measurement.notes],
        warnings=[_capital(one.text) for one in measurement.warnings],
        summary=[_summary_row(measurement, name) for name in columns],
        classes=_class_rows(measurement),
        noise_kept=_noise_kept(measurement),
        charts=[chart for name in columns if (chart := _chart(measurement, name))],
        heads=[_head(measurement, name) for name in columns],
        rows=_rows(measurement, columns),
        worst=None if worst is None else worst.pictures(),
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
    )


def _capital(text: str) -> str:
    return (text[0].upper() + text[1:]).replace(" %", "\u202f%") + "."


def about(measurement: Measurement) -> str:
    """Return how slices were matched and shown, in a line."""
    shown = len(measurement.slices)
    of = f" of {shown + len(measurement.failures)}" if measurement.failures else ""
    window = ""
    if measurement.window is not None:
        text = f"{measurement.window}".replace("-", "\u2212")
        window = f", window {text}"
    region = f", inside {measurement.region}" if measurement.region else ""
    span = number(measurement.data_range, 0 if measurement.data_range >= 10 else 3)
    return (
        f"{shown}{of} slice{'s' * (shown != 1)} of {measurement.columns}×{measurement.rows}, "
        f"matched by {measurement.matched_by}{window}, data range {span} {measurement.unit}{region}"
    )


def _screen(frame: NDArray[Any], peak: int) -> NDArray[np.uint8]:
    return np.asarray((frame.astype(np.float32) * np.float32(255 / peak)).round(), np.uint8)


def _head(measurement: Measurement, name: str) -> str:
    unit = unit_of(name, measurement.unit)
    return f"{title_of(name)} ({unit})" if unit else title_of(name)


def _summary_row(measurement: Measurement, name: str) -> dict[str, Any]:
    one, digits = measurement.summary[name], decimals_of(name)
    better = name in measurement.indices and metrics.get(name).higher_is_better
    return {
        "name": _head(measurement, name),
        "direction": "higher is better" if better else "lower is better",
        "mean": number(one and one.mean, digits),
        "worst": number(one and one.worst, digits),
        "slice": MISSING if one is None else one.worst_number,
        "p5": number(one and one.p5, digits),
        "boxed": name in measurement.boxed,
    }


def _class_rows(measurement: Measurement) -> list[dict[str, Any]]:
    tissue = measurement.tissue
    if tissue is None:
        return []
    found = []
    for area in Area:
        errors = tissue.errors[area]
        if errors is not None:
            found.append(
                {
                    "name": AREA_NAMES[area],
                    "samples": number(errors.samples),
                    "rmse": number(errors.rmse, 1),
                    "bias": signed(errors.bias, 1),
                    "p99": number(errors.p99, 1),
                    "max": number(errors.maximum, 1),
                    "psnr": number(tissue.psnr(area), 2),
                }
            )
    return found


def _noise_kept(measurement: Measurement) -> str | None:
    kept = None if measurement.tissue is None else measurement.tissue.noise_kept
    return None if kept is None else f"{number(100 * kept)}\u202f%"


def _rows(measurement: Measurement, columns: list[str]) -> list[dict[str, Any]]:
    lines: dict[int, dict[str, Any]] = {}
    for row in measurement.slices:
        values = {**row.values, "rmse": row.rmse, "largest_error": row.max_error}
        cells = [number(values[name], decimals_of(name)) for name in columns]
        lines[row.number] = {"number": row.number, "cells": cells, "reason": None}
    for one in measurement.failures:
        reason = f"{one.side}: {one.reason}"
        lines[one.number] = {"number": one.number, "cells": [], "reason": reason}
    return [lines[key] for key in sorted(lines)]


def _chart(measurement: Measurement, name: str) -> dict[str, Any] | None:
    """Return an index over the slices as a path, with the ends of its axis; None for one slice."""
    points = [
        (row.number, row.values.get(name) if name in row.values else _error(row, name))
        for row in measurement.slices
    ]
    known = [(place, value) for place, value in points if value is not None]
    if len(known) < 2:
        return None
    low, high = min(value for _, value in known), max(value for _, value in known)
    if high - low < 1e-9 * max(abs(high), 1):
        low, high = low - 0.5, high + 0.5
    first, last = known[0][0], max(known[-1][0], known[0][0] + 1)
    digits = decimals_of(name)

    def at(place: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (place - first) / (last - first)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return round(x, 1), round(y, 1)

    path, before = [], None
    for place, value in known:
        x, y = at(place, value)
        path.append(f"{'L' if before == place - 1 else 'M'}{x},{y}")
        before = place
    summary = measurement.summary[name]
    assert summary is not None
    assert summary.worst_number is not None
    x, y = at(summary.worst_number, summary.worst)
    return {
        "title": _head(measurement, name),
        "path": "".join(path),
        "low": number(low, digits),
        "high": number(high, digits),
        "first": first,
        "last": last,
        "worst": {
            "x": x,
            "y": y,
            "text": f"slice {summary.worst_number}: {number(summary.worst, digits)}",
        },
    }


def _error(row: SliceRow, name: str) -> float | None:
    return {"rmse": row.rmse, "largest_error": row.max_error}[name]
