"""The geometry of the report's charts, which the template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ssimrdo.comparison.results import Curve, SeriesSpread, plain
from ssimrdo.html.text import decimals, finite, metric_axis, number, percent

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 46

MARKERS = 6
"""Marker shapes and colours that the template knows."""

_LOG_STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))


@dataclass(frozen=True)
class Style:
    """How an encoder is drawn and what it is called; the reference has number 0."""

    number: int
    label: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in the drawing and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A measured point: its place in the drawing and what it says."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """One encoder's curve; ``style`` counts encoders from 0, the reference first."""

    label: str
    style: int
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """Axes and curves, ready to be drawn."""

    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


def linear_ticks(low: float, high: float, count: int = 7) -> list[float]:
    """Return round values inside a range, at most about ``count``."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return round values inside a positive range for a logarithmic axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1, (last - first) // count + 1)
    found: list[float] = []
    for steps in _LOG_STEPS:
        ticks = [f * 10**d for d in decades for f in steps if low <= f * 10**d <= high]
        if len(ticks) > count:
            break
        found = ticks
    # A range that holds no two such values is narrow enough for a linear choice.
    return found if len(found) > 1 else linear_ticks(low, high, count)


def widened(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Return the range of values with some air around it, never empty."""
    low, high = min(values), max(values)
    air = (high - low) * share or max(abs(low) * 0.01, 1e-6)
    return low - air, high + air


def rd_chart(curves: Mapping[str, Curve], styles: Mapping[str, Style], metric: str) -> Chart | None:
    """Return quality over bit rate, or None if nothing was measured.

    Parameters
    ----------
    curves : mapping of str to tuple of RatePoint
        By encoder.
    styles : mapping of str to Style
        By encoder.
    metric : str
        Which quality, by its mean over slices.
    """
    points = {name: _rd_points(curves.get(name, ()), metric) for name in styles}
    rates = [rate for known in points.values() for rate, *_ in known]
    qualities = [quality for known in points.values() for _, quality, _ in known]
    if not rates:
        return None
    left, right = widened([math.log10(rate) for rate in rates])
    x = _scale(left, right, LEFT, WIDTH - RIGHT)
    bottom, top = widened(qualities)
    y = _scale(bottom, top, HEIGHT - BOTTOM, TOP)
    digits = decimals(metric)
    lines = []
    for name, known in points.items():
        style = styles[name]
        marks = tuple(
            Mark(
                x(math.log10(rate)),
                y(quality),
                f"{style.label}, {setting}: {number(rate)} kbit/s, "
                f"{metric_axis(metric)} {number(quality, digits)}",
            )
            for rate, quality, setting in known
        )
        if marks:
            lines.append(
                Line(style.label, style.number, _path([(mark.x, mark.y) for mark in marks]), marks)
            )
    return Chart(
        "Bit rate (kbit/s, logarithmic)",
        metric_axis(metric),
        tuple(Tick(x(math.log10(t)), number(t)) for t in log_ticks(10**left, 10**right)),
        _y_ticks(bottom, top, y),
        tuple(lines),
    )


def slice_chart(
    curves: Mapping[str, Curve], styles: Mapping[str, Style], metric: str, point: int
) -> Chart | None:
    """Return quality over slices at every encoder's rate point number ``point``, or None."""
    known: dict[str, tuple[str, list[float | None]]] = {}
    for name, style in styles.items():
        curve = curves.get(name, ())
        if point < len(curve):
            values = [finite(value) for value in curve[point].per_slice.get(metric, ())]
            known[name] = (f"{style.label}, {number(curve[point].kbps)} kbit/s", values)
    flat = [v for _, values in known.values() for v in values if v is not None]
    if not flat:
        return None
    last = max(len(values) for _, values in known.values())
    x = _scale(1, max(last, 2), LEFT + 6, WIDTH - RIGHT)
    bottom, top = widened(flat)
    y = _scale(bottom, top, HEIGHT - BOTTOM, TOP)
    lines = tuple(
        Line(label, styles[name].number, _gapped_path(values, x, y), ())
        for name, (label, values) in known.items()
        if any(v is not None for v in values)
    )
    ticks = [t for t in linear_ticks(1, max(last, 2), 6) if t >= 1 and t == int(t)]
    return Chart(
        "Slice",
        metric_axis(metric),
        tuple(Tick(x(t), number(t)) for t in dict.fromkeys([1.0, *ticks])),
        _y_ticks(bottom, top, y),
        lines,
    )


@dataclass(frozen=True)
class Strip:
    """One row of the headline chart: series as dots, their mean and its interval."""

    label: str
    y: float
    dots: tuple[Mark, ...]
    mean: Mark | None
    span: tuple[float, float] | None


@dataclass(frozen=True)
class StripChart:
    """BD-rates of all series, one row per metric, on one axis."""

    height: float
    zero: float
    ticks: tuple[Tick, ...]
    rows: tuple[Strip, ...]


@dataclass(frozen=True)
class StripRow:
    """BD-rates of one metric: by series, and over the series."""

    label: str
    series: tuple[tuple[str, float], ...]
    spread: SeriesSpread


def strip_chart(rows: Sequence[StripRow]) -> StripChart | None:
    """Return BD-rates over series, one row per metric, or None if there are none."""
    if not any(row.series for row in rows):
        return None
    spreads = [value for row in rows for value in _known(row.spread)]
    dots = [value for row in rows for _, value in row.series]
    low, high = widened([0.0, *spreads, *dots])
    x = _scale(low, high, 112, WIDTH - RIGHT)
    drawn = []
    for index, row in enumerate(rows):
        mean, start, end = map(finite, (row.spread.mean, row.spread.low, row.spread.high))
        drawn.append(
            Strip(
                row.label,
                24 + 34 * index,
                tuple(Mark(x(v), 0, f"{name}: {percent(v)}") for name, v in row.series),
                None if mean is None else Mark(x(mean), 0, f"mean {percent(mean)}"),
                None if start is None or end is None else (x(start), x(end)),
            )
        )
    ticks = tuple(
        Tick(x(t), number(t, 0 if abs(t - round(t)) < 1e-9 else 1))
        for t in linear_ticks(low, high, 6)
    )
    return StripChart(34 * len(rows) + 48, x(0), ticks, tuple(drawn))


def _known(spread: SeriesSpread) -> list[float]:
    ends = map(finite, (spread.mean, spread.low, spread.high))
    return [value for value in ends if value is not None]


def _rd_points(curve: Curve, metric: str) -> list[tuple[float, float, str]]:
    found = []
    for point in curve:
        quality = point.quality.get(metric)
        rate, mean = finite(point.kbps), finite(quality and quality.mean)
        if rate is not None and rate > 0 and mean is not None:
            found.append((rate, mean, f"{plain(point.point)}"))
    return sorted(found)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (end - start), 1)

    return place


def _y_ticks(low: float, high: float, place: Callable[[float], float]) -> tuple[Tick, ...]:
    ticks = linear_ticks(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return tuple(Tick(place(t), number(t, digits)) for t in ticks)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in points)


def _gapped_path(
    values: Sequence[float | None], x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    """Return a path through the values that are known, broken where one is missing."""
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(values, start=1):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x(index), y(value)))
    return "".join(_path(run) for run in runs if run)
