"""What is aimed at by tissue, beside what was measured in each class of quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Final

from benchmark_pairs import compare_pair
from benchmark_tables import labels_of, table

from ssimrdo.comparison.classes import AREAS, BY_NAME, WORST_SLICE, rates_by_class
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.encoding.options import RDO
from ssimrdo.html.text import MISSING, metric_name, percent
from ssimrdo.metrics.tissue import Area

COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ssim": "SSIM",
        "weighted_ssim": "weighted",
        "psnr": "PSNR",
        AREAS[Area.EDGE].name: "edge",
        AREAS[Area.DENSE].name: "small",
        AREAS[Area.FLAT].name: "flat",
        WORST_SLICE.name: "worst slice",
    }
)
"""Headings by index or class."""

SHORT: Final = (
    "ssim",
    *(AREAS[area].name for area in (Area.EDGE, Area.DENSE, Area.FLAT)),
    WORST_SLICE.name,
)
"""What the README shows of :data:`COLUMNS`."""

NO_LOSS: Final = 0.0
"""What no class on any clip is to exceed, percent."""


@dataclass(frozen=True)
class Aim:
    """What one encoder is measured against, and what it has to need at most.

    Parameters
    ----------
    test : str
        Name of ours.
    anchors : tuple of str
        Names of the others, the one that the aim holds for first.
    rates_percent : tuple of float
        Largest BD-rate in each of :data:`COLUMNS`; empty where nothing is aimed at.
    time : float, optional
        Largest encoding time as a multiple of the first anchor's.
    """

    test: str
    anchors: tuple[str, ...]
    rates_percent: tuple[float, ...] = ()
    time: float | None = None


_X264: Final = ("x264-ssim", "x264")
_ALL: Final = (*_X264, "svtav1:6", "svtav1:4")

AIMS: Final = (
    Aim(RDO, _X264, (-10, -10, -8, -9, -8, -5, -8), 1.6),
    Aim(f"{RDO},effort=max", _ALL, (-14, -14, -12, -13, -12, -9, -12), 2.6),
    Aim("ssim", ("x264-ssim",)),
)
"""Of the default objective, and beside it what the paper's objective gives."""


def aims_table(report: ComparisonReport, aims: Sequence[Aim] = AIMS) -> str:
    """Return what was aimed at beside what was measured, as a table in Markdown.

    Parameters
    ----------
    report : ComparisonReport
        With all encoders that the aims name.
    aims : sequence of Aim
        In the order of rows.
    """
    heads = ["", "against", *COLUMNS.values(), "largest", "time"]
    return table(heads, [row for aim in aims for row in _rows(report, aim)])


def peers_table(report: ComparisonReport) -> str:
    """Return all encoders of a report against its reference, as a table in Markdown.

    SSIM of each series, then means by class, and time where nothing else ran meanwhile.

    Parameters
    ----------
    report : ComparisonReport
        Of any encoders.
    """
    reference, clips = report.reference.name, [one.name for one in report.compared]
    is_timed = report.timing == "alone"
    heads = ["", *(f"SSIM, {clip}" for clip in clips), *COLUMNS.values(), *["time"] * is_timed]
    rows, by_class = [], rates_by_class(report, reference)
    for encoder in report.others:
        rates = by_class[encoder.name]
        ssim = (rates["ssim"].get(clip) for clip in clips)
        time = compare_pair(report, encoder.name, reference).time
        rows.append(
            (
                encoder.label,
                *(MISSING if rate is None else percent(rate) for rate in ssim),
                *(mean_text(rates.get(key, {}), len(clips)) for key in COLUMNS),
                *[f"{time:.2f}\u202f×"] * is_timed,
            )
        )
    return table(heads, rows)


def short_table(report: ComparisonReport, aims: Sequence[Aim] = AIMS) -> str:
    """Return what was measured of the default objective, as a smaller table in Markdown.

    Parameters
    ----------
    report : ComparisonReport
        As for :func:`aims_table`.
    aims : sequence of Aim
        In the order of rows; those that aim at nothing are left out.
    """
    heads = ["", "against", *(COLUMNS[key] for key in SHORT), "largest", "time"]
    rows = (row for aim in aims if aim.rates_percent for row in _rows(report, aim, SHORT))
    return table(heads, [row for row in rows if row[0] != _AIM])


_AIM: Final = "aim"


def _rows(
    report: ComparisonReport, aim: Aim, columns: Sequence[str] = tuple(COLUMNS)
) -> Iterator[Sequence[str]]:
    labels = labels_of(report)
    for anchor in aim.anchors:
        rates = rates_by_class(report, anchor)[aim.test]
        time = compare_pair(report, aim.test, anchor).time
        clips = len(report.compared)
        measured = (mean_text(rates.get(key, {}), clips) for key in columns)
        yield (
            labels[aim.test],
            labels[anchor],
            *measured,
            largest_text(rates),
            f"{time:.2f}\u202f×",
        )
        if aim.rates_percent and anchor == aim.anchors[0]:
            yield (
                _AIM,
                labels[anchor],
                *(f"≤ {percent(rate)}" for rate in aim.rates_percent),
                f"≤ {percent(NO_LOSS)}",
                f"≤ {aim.time:g}\u202f×" if aim.time else "",
            )


def largest_text(rates: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return the largest BD-rate of any class on any clip, and where that is.

    Parameters
    ----------
    rates : mapping of str to mapping of str to float or None
        In percent, by index or class, and by clip.
    """
    known = [
        (rate, key, clip)
        for key, by_clip in rates.items()
        for clip, rate in by_clip.items()
        if rate is not None
    ]
    if not known:
        return MISSING
    rate, key, clip = max(known)
    title = BY_NAME[key].title if key in BY_NAME else metric_name(key)
    return f"{percent(rate)} ({title}, {clip})"


def mean_text(by_clip: Mapping[str, float | None], clips: int) -> str:
    """Return a mean BD-rate over clips, with how many define it where not all do.

    Parameters
    ----------
    by_clip : mapping of str to float or None
        In percent.
    clips : int
        How many there are.
    """
    known = [rate for rate in by_clip.values() if rate is not None]
    if not known:
        return MISSING
    text = percent(fmean(known))
    return text if len(known) == clips else f"{text} ({len(known)} of {clips})"
