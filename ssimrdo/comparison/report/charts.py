"""The geometry of the report's charts, which the template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.comparison.report.between import (
    interpolated,
    log_rate_over_quality,
    mean_quality,
    slice_qualities,
)
from ssimrdo.comparison.results import Curve, RatePoint, SeriesResult, plain
from ssimrdo.html.text import (
    decimals,
    finite,
    higher_is_better,
    metric_axis,
    metric_name,
    number,
    percent,
    signed,
)

WIDTH, HEIGHT = 470, 310
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 12, 60

_LOG_STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))

SAVED_STEPS: Final = 48
"""Qualities at which a curve of what is saved is drawn."""

LEAST_SAVED: Final = -60.0
"""Percent below which such a curve is cut off."""


@dataclass(frozen=True)
class Style:
    """How an encoder is drawn and what it is called; the reference has number 0.

    The reference and what is tested set the range of charts; of them the reference and the first
    that is tested have their points named.
    """

    number: int
    label: str
    is_test: bool = False

    @property
    def is_main(self) -> bool:
        """Whether it sets the range of charts."""
        return self.number == 0 or self.is_test

    @property
    def is_named(self) -> bool:
        """Whether its points have their settings beside them."""
        return self.number == 0 or (self.is_test and self.number == 1)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in the drawing and its text, with a second line below."""

    at: float
    text: str
    below: str = ""


@dataclass(frozen=True)
class Mark:
    """A measured point: its place in the drawing, what it says, and its name beside it."""

    x: float
    y: float
    text: str
    name: str = ""


@dataclass(frozen=True)
class Line:
    """One encoder's curve."""

    style: Style
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """Axes and curves, ready to be drawn; ``zero`` is the height of a line to compare with."""

    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    zero: float | None = None


@dataclass(frozen=True)
class Costs:
    """What a bit rate means in a series.

    Parameters
    ----------
    slices_per_second : float
        As encoded.
    raw_bytes : int, optional
        Bytes of a slice as 16-bit samples.
    """

    slices_per_second: float
    raw_bytes: int | None

    @classmethod
    def of(cls, series: SeriesResult, slices_per_second: float) -> Costs:
        """Return those of a series."""
        sides = series.width, series.height
        raw = None if None in sides else 2 * (sides[0] or 0) * (sides[1] or 0)
        return cls(slices_per_second, raw)

    def kb_per_slice(self, kbps: float) -> float:
        """Return the size of a slice in kB."""
        return kbps / 8 / self.slices_per_second

    def ratio(self, kbps: float) -> float | None:
        """Return how many times smaller a slice is than its 16-bit samples."""
        return None if self.raw_bytes is None else self.raw_bytes / 1000 / self.kb_per_slice(kbps)

    def text(self, kbps: float) -> str:
        """Return a bit rate, the size of a slice and the ratio."""
        ratio = self.ratio(kbps)
        share = "" if ratio is None else f", ratio {number(ratio)}:1"
        size = three_digits(self.kb_per_slice(kbps))
        return f"{number(kbps)}\u202fkbit/s, {size}\u202fkB per slice{share}"


def three_digits(value: float) -> str:
    """Return a positive number with about three digits."""
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


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


def rd_chart(
    curves: Mapping[str, Curve],
    styles: Mapping[str, Style],
    metric: str,
    costs: Costs,
    *,
    whole: bool = False,
) -> Chart | None:
    """Return quality over bit rate, or None if nothing was measured.

    Parameters
    ----------
    curves : mapping of str to tuple of RatePoint
        By encoder.
    styles : mapping of str to Style
        By encoder.
    metric : str
        Which quality, by its mean over slices.
    costs : Costs
        What bit rates mean.
    whole : bool
        Whether the axes show all of every curve, and not only the range of the reference and of
        what is tested.
    """
    points = {name: _rd_points(curves.get(name, ()), metric) for name in styles}
    ranging = [
        one for name, known in points.items() if whole or styles[name].is_main for one in known
    ] or [one for known in points.values() for one in known]
    if not ranging:
        return None
    left, right = widened([math.log10(rate) for rate, *_ in ranging])
    x = _scale(left, right, 0, WIDTH - LEFT - RIGHT)
    bottom, top = widened([quality for _, quality, _ in ranging])
    y = _scale(bottom, top, HEIGHT - BOTTOM - TOP, 0)
    digits = decimals(metric)
    lines = []
    for name, known in points.items():
        style = styles[name]
        marks = tuple(
            Mark(
                x(math.log10(rate)),
                y(quality),
                f"{style.label}, {setting}: {costs.text(rate)}; "
                f"{metric_name(metric)} {number(quality, digits)}",
                setting if style.is_named else "",
            )
            for rate, quality, setting in known
        )
        if marks:
            lines.append(Line(style, _path([(mark.x, mark.y) for mark in marks]), marks))
    return Chart(
        "kbit/s; below: kB per slice (logarithmic)",
        metric_axis(metric),
        tuple(
            Tick(x(math.log10(t)), number(t), three_digits(costs.kb_per_slice(t)))
            for t in log_ticks(10**left, 10**right)
        ),
        _y_ticks(bottom, top, y),
        _ours_last(lines),
    )


def saved_chart(
    curves: Mapping[str, Curve], styles: Mapping[str, Style], metric: str
) -> Chart | None:
    """Return the share of the reference's rate that is saved over quality.

    At every quality that both curves reach, ``1 - R(q) / R_ref(q)``, between measured points as
    the BD-rate has it. None where no curve shares qualities with the reference's.
    """
    names = [name for name in styles if styles[name].number == 0]
    theirs = log_rate_over_quality(curves.get(names[0], ()), metric) if names else ([], [])
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], list[float]]] = {}
    for name, style in styles.items():
        ours = log_rate_over_quality(curves.get(name, ()), metric)
        if style.number == 0 or not (ours[0] and theirs[0]):
            continue
        low, high = max(min(ours[0]), min(theirs[0])), min(max(ours[0]), max(theirs[0]))
        if low >= high:
            continue
        own = [quality for quality in ours[0] if low <= quality <= high]
        places = np.unique([*np.linspace(low, high, SAVED_STEPS), *own])
        rates = [interpolated(*one, places) for one in (ours, theirs)]
        if rates[0] is not None and rates[1] is not None:
            found[name] = places, 100 * (1 - np.exp(rates[0] - rates[1])), own
    if not found:
        return None
    main = {n: one for n, one in found.items() if styles[n].is_main} or found
    left, right = widened([q for places, *_ in main.values() for q in (places[0], places[-1])])
    x = _scale(left, right, 0, WIDTH - LEFT - RIGHT)
    saved = [value for _, values, _ in found.values() for value in values if value >= LEAST_SAVED]
    bottom, top = widened([0.0, *saved])
    y = _scale(bottom, top, HEIGHT - BOTTOM - TOP, 0)
    digits = decimals(metric)
    lines = []
    for name, (places, values, own) in found.items():
        style = styles[name]
        marks = tuple(
            Mark(
                x(quality),
                y(value),
                f"{style.label} at {metric_name(metric)} {number(quality, digits)}: "
                f"{percent(value)} saved",
            )
            for quality, value in zip(places.tolist(), values.tolist(), strict=True)
            if quality in own
        )
        path = _path([(x(q), y(v)) for q, v in zip(places.tolist(), values.tolist(), strict=True)])
        lines.append(Line(style, path, marks))
    return Chart(
        metric_axis(metric),
        "Saved at equal quality (%)",
        _ticks(left, right, x, 5),
        _y_ticks(bottom, top, y),
        _ours_last(lines),
        y(0.0),
    )


def slice_chart(
    curves: Mapping[str, Curve],
    styles: Mapping[str, Style],
    metric: str,
    point: int,
    *,
    difference: bool = False,
) -> Chart | None:
    """Return quality over slices at the bit rate of the reference's point, or None.

    Every encoder's value in a slice is interpolated between its encodes, over the logarithm of the
    bit rate of the series. Encoders that do not reach the rate have no line.

    Parameters
    ----------
    curves, styles, metric
        As :func:`rd_chart`.
    point : int
        Which of the reference's points.
    difference : bool
        Whether the reference's value is taken from all others.
    """
    names = [name for name in styles if styles[name].number == 0]
    reference = curves.get(names[0], ()) if names else ()
    if point >= len(reference):
        return None
    kbps = finite(reference[point].kbps)
    if not kbps or kbps <= 0:
        return None
    theirs = slice_qualities(reference[point], metric)
    known = {
        name: values - theirs if difference else values
        for name in styles
        if not (difference and styles[name].number == 0)
        and (values := _at_rate(curves.get(name, ()), metric, kbps)) is not None
        and values.shape == theirs.shape
        and np.isfinite(values).any()
    }
    finite_ones = {name: [v for v in one.tolist() if finite(v)] for name, one in known.items()}
    every = [v for one in finite_ones.values() for v in one]
    if not every:
        return None
    main = [v for name, one in finite_ones.items() if styles[name].is_main for v in one]
    # What is better than these is seen whole.
    best = max(every) if higher_is_better(metric) else min(every)
    flat = [*main, best] if main else every
    last = max(theirs.size, 2)
    x = _scale(1, last, 6, WIDTH - LEFT - RIGHT - 2)
    bottom, top = widened([0.0, *flat] if difference else flat)
    y = _scale(bottom, top, HEIGHT - BOTTOM - TOP, 0)
    lines = [
        Line(styles[name], _gapped_path(values.tolist(), x, y), ())
        for name, values in known.items()
    ]
    ticks = [t for t in linear_ticks(1, last, 6) if t >= 1 and t == int(t)]
    name = metric_axis(metric)
    return Chart(
        "Slice",
        f"{name} minus reference" if difference else name,
        tuple(Tick(x(t), number(t)) for t in dict.fromkeys([1.0, *ticks])),
        _y_ticks(bottom, top, y, is_signed=difference),
        _ours_last(lines),
        y(0.0) if difference else None,
    )


def _at_rate(curve: Curve, metric: str, kbps: float) -> NDArray[np.float64] | None:
    """Return an index of every slice at a bit rate."""
    known: list[RatePoint] = [
        point
        for point in curve
        if (finite(point.kbps) or 0) > 0 and slice_qualities(point, metric).size
    ]
    exact = next((point for point in known if point.kbps == kbps), None)
    if exact is not None:
        return slice_qualities(exact, metric)
    values = [slice_qualities(point, metric) for point in known]
    if len({one.size for one in values}) != 1 or not np.isfinite(values).all():
        return None
    return interpolated([math.log(point.kbps) for point in known], values, math.log(kbps))


def _rd_points(curve: Curve, metric: str) -> list[tuple[float, float, str]]:
    found = []
    for point in curve:
        rate, mean = finite(point.kbps), mean_quality(point, metric)
        if rate is not None and rate > 0 and mean is not None:
            found.append((rate, mean, f"{plain(point.point)}"))
    return sorted(found)


def _ours_last(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Return lines in the order of drawing: what is tested lies above the others."""
    return tuple(sorted(lines, key=lambda line: line.style.is_test))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (end - start), 1)

    return place


def _ticks(
    low: float, high: float, place: Callable[[float], float], count: int = 7
) -> tuple[Tick, ...]:
    ticks = linear_ticks(low, high, count)
    digits = _digits(ticks)
    return tuple(Tick(place(t), number(t, digits)) for t in ticks)


def _y_ticks(
    low: float, high: float, place: Callable[[float], float], *, is_signed: bool = False
) -> tuple[Tick, ...]:
    if not is_signed:
        return _ticks(low, high, place)
    digits = _digits(linear_ticks(low, high))
    return tuple(
        replace(tick, text=signed(value, digits))
        for tick, value in zip(_ticks(low, high, place), linear_ticks(low, high), strict=True)
    )


def _digits(ticks: Sequence[float]) -> int:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in points)


def _gapped_path(
    values: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    """Return a path through the values that are known, broken where one is missing."""
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(values, start=1):
        if math.isnan(value):
            runs.append([])
        else:
            runs[-1].append((x(index), y(value)))
    return "".join(_path(run) for run in runs if run)
