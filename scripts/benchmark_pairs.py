"""Any two encoders of a report against each other, and what choosing a setting by series gives."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssimrdo.bd.deltas import BDResult, RateQuality, bjontegaard

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """What one encoder needs, beside another.

    Parameters
    ----------
    rates : dict of str to float
        BD-rate in percent over a metric's mean over slices, by series; NaN where undefined.
    worst_slice : dict of str to float
        Mean gap between the worst slices' quality at equal rate, by series; positive where the
        first encoder's is better.
    time : float
        Its encoding time over the other's: geometric mean over the series of the median over
        the points.
    """

    rates: dict[str, float]
    worst_slice: dict[str, float]
    time: float

    @property
    def mean_rate(self) -> float:
        """The mean BD-rate over the series."""
        return statistics.fmean(self.rates.values())


def compare_pair(report: Report, test: str, anchor: str, *, metric: str = "ssim") -> Pair:
    """Return what an encoder of a report needs beside another one of it.

    Parameters
    ----------
    report : dict
        As :func:`ssimrdo.compare.record.build_report` makes it.
    test, anchor : str
        Names of encoders.
    metric : str
        One of the report's metrics.

    Raises
    ------
    KeyError
        If the report lacks an encoder or the metric.
    """
    rates, worst, times = {}, {}, []
    for series in report["series"]:
        if series["error"] is not None:
            continue
        ours, theirs = series["curves"][test], series["curves"][anchor]
        rates[series["name"]] = _bd(theirs, ours, metric, "mean").rate_percent
        worst[series["name"]] = _bd(theirs, ours, metric, "min").quality
        times.append(
            statistics.median(
                our["seconds"] / their["seconds"] for our, their in zip(ours, theirs, strict=True)
            )
        )
    return Pair(rates, worst, statistics.geometric_mean(times))


def leave_one_out(
    report: Report, tests: Sequence[str], anchor: str
) -> dict[str, tuple[str, float]]:
    """Return, for every series, the test that is best on the others, and its BD-rate on this one.

    Parameters
    ----------
    report : dict
        A report of two or more series.
    tests : sequence of str
        Names of the encoders to choose from, such as one per strength.
    anchor : str
        Name of the encoder they are compared with.

    Returns
    -------
    dict of str to (str, float)
        By series: the test, and the BD-rate over mean SSIM in percent.
    """
    rates = {test: compare_pair(report, test, anchor).rates for test in tests}
    names = list(rates[tests[0]])

    def rate_on_others(test: str, left_out: str) -> float:
        return statistics.fmean(rates[test][name] for name in names if name != left_out)

    best = {name: min(tests, key=lambda test: rate_on_others(test, name)) for name in names}
    return {name: (test, rates[test][name]) for name, test in best.items()}


def _bd(
    anchor: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]], metric: str, which: str
) -> BDResult:
    return bjontegaard(*(_curve(points, metric, which) for points in (anchor, test)))


def _curve(points: Sequence[Mapping[str, Any]], metric: str, which: str) -> RateQuality:
    return RateQuality(
        [point["kbps"] for point in points],
        [point["quality"][metric][which] for point in points],
    )
