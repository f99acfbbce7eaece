"""The HTML page of an inspection."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from ssimrdo.html.images import as_8_bit, png_uri
from ssimrdo.html.page import render_template
from ssimrdo.html.text import MISSING, number
from ssimrdo.inspection.figure import about, figure_png, title
from ssimrdo.inspection.inspect import Inspection
from ssimrdo.inspection.maps import Quantity, quantities
from ssimrdo.inspection.tissue import COLOURS, ErrorRow, error_rows
from ssimrdo.metrics.tissue import Area
from ssimrdo.record.tissue import AREA_NAMES, TissueSummary

SHARES = (0, 0.05, 0.5, 0.95, 1)
"""Quantiles of the page's table."""


def page(inspection: Inspection) -> str:
    """Return an HTML page with the figure and the maps' numbers, loading nothing else."""
    rows, columns = inspection.format.shape
    shown = quantities(inspection.maps, inspection.strength, inspection.stream)
    return render_template(
        "ssimrdo.inspection",
        "inspect",
        title=title(inspection),
        about=about(inspection),
        figure="data:image/png;base64," + base64.b64encode(figure_png(inspection)).decode(),
        quantities=[_row(quantity) for quantity in shown],
        classes=[] if inspection.tissue is None else map(_class_row, error_rows(inspection)),
        errors=None if inspection.errors is None else _errors(inspection.errors),
        slice_image=png_uri(as_8_bit(inspection.luma, inspection.format)),
        rows=rows,
        columns=columns,
        data={
            "rows": rows,
            "columns": columns,
            "states": _states(inspection),
            "maps": {
                one.key: [[float(f"{v:.4g}") for v in row] for row in one.values.tolist()]
                for one in shown
            },
        },
    )


def _states(inspection: Inspection) -> list[list[str]]:
    """Return what is to be said of each macroblock beside its values."""
    skipped = None if inspection.stream is None else inspection.stream.skipped
    states = np.where(inspection.maps.clipped, "clipped by the window all over", "")
    if skipped is not None:
        states = np.where(skipped, "skipped by the encoder", states)
    return [[str(state) for state in row] for row in states]


def _row(quantity: Quantity) -> dict[str, Any]:
    known = quantity.meant if quantity.meant.size else quantity.values
    values = np.quantile(known.astype(np.float64), SHARES)
    return {
        "key": quantity.key,
        "name": quantity.name,
        "symbol": quantity.symbol,
        "unit": quantity.unit,
        "meaning": quantity.meaning,
        "numbers": [_three_digits(value) for value in values],
    }


def _class_row(row: ErrorRow) -> dict[str, Any]:
    return {
        "name": AREA_NAMES[row.area],
        "colour": COLOURS.get(row.area),
        "share": row.share,
        "errors": row.errors or [MISSING] * 4,
    }


def _errors(tissue: TissueSummary) -> dict[str, str]:
    body, kept = tissue.ssim[Area.BODY], tissue.noise_kept
    return {
        "unit": tissue.unit,
        "ssim": number(None if body is None else body.mean, 4),
        "noise_kept": MISSING if kept is None else f"{number(100 * kept)}\u202f%",
    }


def _three_digits(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "\u2212")
