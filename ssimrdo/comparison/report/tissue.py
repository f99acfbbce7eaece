"""Errors by tissue: all encoders at one bit rate side by side, and those of every encode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssimrdo.comparison.classes import AREAS, BODY_SSIM
from ssimrdo.comparison.report.between import interpolated
from ssimrdo.comparison.report.charts import Costs, Style
from ssimrdo.comparison.report.tables import Cell, Row, Table
from ssimrdo.comparison.results import Curve, RatePoint, SeriesResult, plain
from ssimrdo.html.text import MISSING, finite, number, signed
from ssimrdo.metrics.tissue import Area, ErrorSummary
from ssimrdo.record.tissue import AREA_NAMES


@dataclass(frozen=True)
class Bar:
    """Errors of one encoder in one tissue, with their share of the panel's largest in percent."""

    style: Style
    share: float
    rmse: str
    p99: str


@dataclass(frozen=True)
class Panel:
    """Errors of all encoders by tissue at one bit rate, in one unit."""

    unit: str
    where: str
    areas: tuple[tuple[str, tuple[Bar, ...]], ...]


def error_panel(
    series: SeriesResult, styles: Mapping[str, Style], point: int, costs: Costs
) -> Panel | None:
    """Return errors at the bit rate of the reference's point, None where none were measured.

    They are interpolated between an encoder's encodes, as logarithms over that of the bit rate;
    encoders that do not reach the rate are left out.
    """
    names = [name for name in styles if styles[name].number == 0]
    reference = series.curves.get(names[0], ()) if names else ()
    if point >= len(reference) or not (kbps := finite(reference[point].kbps)):
        return None
    found: dict[Area, list[tuple[Style, float, float]]] = {}
    for name, style in styles.items():
        for area in AREAS:
            errors = _at_rate(series.curves.get(name, ()), area, kbps)
            if errors is not None:
                found.setdefault(area, []).append((style, *errors))
    units = {p.tissue.unit for c in series.curves.values() for p in c if p.tissue is not None}
    if not found or len(units) != 1:
        return None
    largest = max(rmse for bars in found.values() for _, rmse, _ in bars) or 1.0
    return Panel(
        units.pop(),
        costs.text(kbps),
        tuple(
            (
                AREA_NAMES[area].capitalize(),
                tuple(
                    Bar(style, round(100 * rmse / largest, 1), number(rmse, 1), number(p99))
                    for style, rmse, p99 in found[area]
                ),
            )
            for area in AREAS
            if area in found
        ),
    )


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
    names = [AREA_NAMES[area].capitalize() for area in areas]
    heads = ("Point", *names, "Noise kept", "SSIM, body")
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


def _at_rate(curve: Curve, area: Area, kbps: float) -> tuple[float, float] | None:
    """Return RMSE and the 99th percentile in an area at a bit rate."""
    known = [
        (math.log(point.kbps), errors)
        for point in curve
        if (finite(point.kbps) or 0) > 0 and (errors := _errors(point, area)) is not None
    ]
    exact = [errors for rate, errors in known if rate == math.log(kbps)]
    if exact:
        return exact[0].rmse, exact[0].p99
    if not all(errors.rmse > 0 and errors.p99 > 0 for _, errors in known):
        return None
    values = [(math.log(errors.rmse), math.log(errors.p99)) for _, errors in known]
    found = interpolated([rate for rate, _ in known], values, math.log(kbps)) if known else None
    if found is None or not all(map(math.isfinite, found)):
        return None
    return math.exp(found[0]), math.exp(found[1])


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
