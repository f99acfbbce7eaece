"""The forest plot: BD-rates of all encoders, indices and classes on one axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ssimrdo.comparison.report.charts import Style, linear_ticks
from ssimrdo.comparison.report.rates import Rates, quality_title, rates
from ssimrdo.comparison.results import ComparisonReport, EncoderFacts
from ssimrdo.html.text import MISSING, number, percent

FIRST: Final = ("psnr", "psnr_edge", "psnr_dense", "psnr_flat", "ssim_worst")
"""What is shown beside the first index without being asked for."""

REACH_OF_TESTS: Final = 2.0
"""How far the axis goes, as a multiple of the largest figure of what is tested: what another
encoder loses or gains beyond that is an arrow at the edge and a number."""

LEAST_REACH: Final = 10.0


@dataclass(frozen=True)
class Place:
    """A place on the axis in percent of its length, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Lane:
    """One encoder in one row: its series as dots, their mean, and an interval or a range.

    ``beyond`` is -1 or 1 where the mean lies left or right of the axis.
    """

    style: Style
    dots: tuple[Place, ...]
    mean: Place | None
    span: tuple[float, float] | None
    beyond: int
    text: str
    span_text: str
    note: str
    warning: str


@dataclass(frozen=True)
class Row:
    """An index or a class with its encoders."""

    title: str
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class Forest:
    """All rows on one axis; ``more`` are folded away, and ``legend`` says what marks mean."""

    ticks: tuple[Place, ...]
    zero: float
    rows: tuple[Row, ...]
    more: tuple[Row, ...]
    legend: tuple[str, ...]


def forest(
    report: ComparisonReport,
    encoders: Sequence[EncoderFacts],
    styles: Mapping[str, Style],
    qualities: Sequence[str],
) -> Forest | None:
    """Return the plot, or None where there is no BD-rate at all.

    Parameters
    ----------
    report : ComparisonReport
        The results.
    encoders : sequence of EncoderFacts
        All but the reference.
    styles : mapping of str to Style
        By encoder.
    qualities : sequence of str
        Indices and classes.
    """
    found = {one: [rates(report, e.name, one) for e in encoders] for one in qualities}
    every = [one for row in found.values() for one in row]
    if all(one.mean is None for one in every):
        return None
    low, high = _limits(every, {e.name for e in encoders if e.role == "test"})
    first = [one for one in qualities if one in (*report.metrics[:1], *FIRST)]
    shown = first if len(first) > 1 else list(qualities)

    def row(quality: str) -> Row:
        return Row(
            quality_title(quality),
            tuple(_lane(one, styles[one.encoder], low, high) for one in found[quality]),
        )

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    first_rows = tuple(map(row, shown))
    more = tuple(row(one) for one in qualities if one not in shown)
    return Forest(
        tuple(
            Place(at(t), number(t, 0 if abs(t - round(t)) < 1e-9 else 1))
            for t in linear_ticks(low, high, 6)
        ),
        at(0.0),
        first_rows,
        more,
        tuple(_legend(every, [lane for one in (*first_rows, *more) for lane in one.lanes])),
    )


def _legend(found: Sequence[Rates], lanes: Sequence[Lane]) -> Iterator[str]:
    """Yield what the marks mean that there are."""
    spans = [one for one in found if one.low is not None]
    if spans:
        yield "Small dots: series. Larger mark: their mean."
    if any(one.is_interval for one in spans):
        yield "Line: 95\u202f% interval of the mean; of fewer than five series, their range."
    elif spans:
        yield "Line: the range of the series; fewer than five make no interval."
    if any(lane.beyond for lane in lanes):
        yield "Arrow: a mean beyond the axis."
    if any(lane.warning for lane in lanes):
        yield "⚠: lost although SSIM gains."
    if any(lane.note and lane.mean for lane in lanes):
        yield "*: not of every series."


def _limits(found: Sequence[Rates], tests: set[str]) -> tuple[float, float]:
    """Return the ends of the axis."""
    tested = [abs(v) for one in found if one.encoder in tests for v in one.by_series.values()]
    values = [v for one in found for v in (*one.by_series.values(), one.low, one.high) if v]
    reach = max([LEAST_REACH, *(REACH_OF_TESTS * v for v in tested)]) if tested else 100.0
    low, high = max(min([0.0, *values]), -reach), min(max([0.0, *values]), reach)
    air = 0.05 * (high - low) or 1.0
    return low - air, high + air


def _lane(one: Rates, style: Style, low: float, high: float) -> Lane:
    def at(value: float) -> float:
        share = (value - low) / (high - low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    mean = one.mean
    beyond = 0 if mean is None or low <= mean <= high else (1 if mean > high else -1)
    text = percent(mean)
    spans = one.low is not None and one.high is not None
    note = ""
    if mean is None:
        note = f"No value: {one.reason}."
    elif one.missing:
        note = f"{one.count} of {one.count + len(one.missing)} series; the others: {one.reason}."
    return Lane(
        style,
        tuple(
            Place(at(value), f"{name}: {percent(value)}")
            for name, value in one.by_series.items()
            if low <= value <= high
        ),
        None if mean is None else Place(at(mean), f"{style.label}: {text}"),
        (at(one.low or 0.0), at(one.high or 0.0)) if spans else None,
        beyond,
        text,
        "" if one.span == MISSING else one.span,
        note,
        f"lost although SSIM gains: {', '.join(one.warned)}" if one.warned else "",
    )
