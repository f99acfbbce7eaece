"""Any two encoders of a report against each other, and what choosing a setting by series gives."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ssimrdo.bd import BDResult, RateQuality, bjontegaard
from ssimrdo.comparison.results import ComparisonReport, Curve


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


def compare_pair(report: ComparisonReport, test: str, anchor: str, *, metric: str = "ssim") -> Pair:
    """Return what an encoder of a report needs beside another one of it.

    Parameters
    ----------
    report : ComparisonReport
        With both.
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
    for series in report.compared:
        ours, theirs = series.curves[test], series.curves[anchor]
        rates[series.name] = _bd(theirs, ours, metric, "mean").rate_percent
        worst[series.name] = _bd(theirs, ours, metric, "worst").quality
        times.append(
            statistics.median(
                our.seconds / their.seconds for our, their in zip(ours, theirs, strict=True)
            )
        )
    return Pair(rates, worst, statistics.geometric_mean(times))


def leave_one_out(
    report: ComparisonReport,
    tests: Sequence[str],
    anchor: str,
    *,
    left_out: Callable[[str], str] = str,
) -> dict[str, tuple[str, float]]:
    """Return, for every series, the test that is best on the others, and its BD-rate on this one.

    Parameters
    ----------
    report : ComparisonReport
        Of two or more series.
    tests : sequence of str
        Names of the encoders to choose from, such as one per strength.
    anchor : str
        Name of the encoder they are compared with.
    left_out : callable
        From the name of a series of the report to what is left out with it: clips of one series
        have one name here.

    Returns
    -------
    dict of str to (str, float)
        By what is left out: the test, and the BD-rate over mean SSIM in percent, of clips the mean.
    """
    rates = {test: compare_pair(report, test, anchor).rates for test in tests}
    groups: dict[str, list[str]] = {}
    for name in rates[tests[0]]:
        groups.setdefault(left_out(name), []).append(name)

    def mean_rate(test: str, names: Iterable[str]) -> float:
        return statistics.fmean(rates[test][name] for name in names)

    found = {}
    for group, names in groups.items():
        others = [name for name in rates[tests[0]] if name not in names]
        best = min(tests, key=lambda test: mean_rate(test, others))
        found[group] = (best, mean_rate(best, names))
    return found


def _bd(anchor: Curve, test: Curve, metric: str, which: str) -> BDResult:
    return bjontegaard(*(_rate_quality(curve, metric, which) for curve in (anchor, test)))


def _rate_quality(curve: Curve, metric: str, which: str) -> RateQuality:
    """Return a curve of an index's mean or worst slice, turned so that larger is better."""
    summaries = [point.quality[metric] for point in curve]
    value = attrgetter(which)
    return RateQuality(
        [point.kbps for point in curve],
        [value(one) if one.higher_is_better else -value(one) for one in summaries],
    )
