"""The files of a report."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Final

from ssimrdo.compare.results import ComparisonReport, plain
from ssimrdo.text import table_cell

JSON_NAME: Final = "report.json"
CSV_NAME: Final = "rd_points.csv"


def write_report(report: ComparisonReport, folder: Path) -> None:
    """Write ``report.json`` and ``rd_points.csv`` into an existing folder."""
    text = json.dumps(report.to_json(), indent=1, allow_nan=False)
    (folder / JSON_NAME).write_text(f"{text}\n", encoding="utf-8")
    (folder / CSV_NAME).write_text(rd_points_csv(report), encoding="utf-8")


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
    table.writerow(["series", "encoder", "role", "point", "kbps", "bytes", "seconds", *qualities])
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
                    ]
                )
    return text.getvalue()
