"""The files of a report."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Final

from ssimrdo.comparison.results import ComparisonReport, plain
from ssimrdo.metrics.tissue import SSIM_AREAS, Area
from ssimrdo.record.tissue import TissueSummary
from ssimrdo.text import table_cell

JSON_NAME: Final = "report.json"
CSV_NAME: Final = "rd_points.csv"
RATES_NAME: Final = "bd_rates.csv"


def write_report(report: ComparisonReport, folder: Path) -> None:
    """Write ``report.json``, ``rd_points.csv`` and ``bd_rates.csv`` into an existing folder."""
    text = json.dumps(report.to_json(), indent=1, allow_nan=False)
    (folder / JSON_NAME).write_text(f"{text}\n", encoding="utf-8")
    (folder / CSV_NAME).write_text(rd_points_csv(report), encoding="utf-8")
    (folder / RATES_NAME).write_text(bd_rates_csv(report), encoding="utf-8")


def rd_points_csv(report: ComparisonReport) -> str:
    """Return all points of all curves as a table with one line per encode."""
    roles = {encoder.name: encoder.role for encoder in report.encoders}
    first = next((curve[0] for one in report.compared for curve in one.curves.values()), None)
    worst = (
        {}
        if first is None
        else {name: "min" if one.higher_is_better else "max" for name, one in first.quality.items()}
    )
    qualities = [f"{name}_{which}" for name in worst for which in ("mean", worst[name])]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    heads = ["series", "encoder", "role", "point", "kbps", "bytes", "seconds"]
    table.writerow([*heads, *qualities, "ssim_p5", *_tissue_heads()])
    for series in report.series:
        for name, curve in series.curves.items():
            for point in curve:
                values = [
                    value
                    for index in worst
                    for value in (point.quality[index].mean, point.quality[index].worst)
                ]
                table.writerow(
                    [
                        table_cell(series.name),
                        table_cell(name),
                        roles[name],
                        plain(point.point),
                        point.kbps,
                        point.bytes,
                        point.seconds,
                        *values,
                        point.classes.get("ssim_p5"),
                        *_tissue_cells(point.tissue),
                    ]
                )
    return text.getvalue()


def bd_rates_csv(report: ComparisonReport) -> str:
    """Return all BD-rates as a table with a line per series, encoder, and index or class."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    heads = ["series", "encoder", "role", "quality", "bd_rate_percent", "bd_quality", "overlap"]
    table.writerow([*heads, "reason"])
    for series in report.compared:
        for encoder in report.others:
            found = {**series.bd.get(encoder.name, {}), **series.classes.get(encoder.name, {})}
            for name, delta in found.items():
                table.writerow(
                    [
                        table_cell(series.name),
                        table_cell(encoder.name),
                        encoder.role,
                        name,
                        delta.rate_percent,
                        delta.quality,
                        delta.overlap,
                        delta.reason,
                    ]
                )
    return text.getvalue()


def _tissue_heads() -> list[str]:
    errors = [f"{area.value}_{which}" for area in Area for which in ("rmse", "psnr")]
    ssim = [f"{area.value}_ssim_{which}" for area in SSIM_AREAS for which in ("mean", "min")]
    return ["error_unit", *errors, *ssim, "noise_kept"]


def _tissue_cells(tissue: TissueSummary | None) -> list[float | str | None]:
    if tissue is None:
        return [None] * len(_tissue_heads())
    cells: list[float | str | None] = [tissue.unit]
    for area, errors in tissue.errors.items():
        cells += [None if errors is None else errors.rmse, tissue.psnr(area)]
    for summary in tissue.ssim.values():
        cells += [None, None] if summary is None else [summary.mean, summary.worst]
    return [*cells, tissue.noise_kept]
