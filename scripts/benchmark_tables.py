"""Tables in Markdown of several comparisons, and the figures of the paper beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmark_pairs import compare_pair, leave_one_out

from ssimrdo.bd import Spread
from ssimrdo.codecs.base import Mode
from ssimrdo.comparison.results import ComparisonReport, plain
from ssimrdo.html.text import MISSING, interval, metric_name, percent, signed

MODE_NAMES: Mapping[Mode, str] = {"qp": "constant QP", "crf": "CRF", "bitrate": "bit rate"}

SPREAD_NAMES: Mapping[Spread, str] = {"interval": "95 % interval", "range": "range"}

OTHER_METRICS = ("weighted_ssim", "psnr", "ms_ssim")


@dataclass(frozen=True)
class PaperFigures:
    """What the paper that the weighted SSIM comes from reports, on orthopaedic CT.

    Parameters
    ----------
    rate_percent : dict
        BD-rate by mode.
    mean_ssim : float
        Least mean SSIM of its encodes.
    kbps : float
        Bit rate saved.
    """

    rate_percent: Mapping[Mode, float]
    mean_ssim: float
    kbps: float


PAPER = PaperFigures({"qp": -5.2, "crf": -4.8}, 0.95, -372.0)


@dataclass(frozen=True)
class Target:
    """What one encoder has to need at most, beside another.

    Parameters
    ----------
    mode : {"crf", "qp", "bitrate"}
        Mode of the comparison.
    test : str
        Name of ours.
    anchors : tuple of str
        Names of the other's presets; of several, the one whose time is nearest to ours counts.
    rate_percent : float
        Largest BD-rate, mean over the series.
    time : float, optional
        Largest encoding time as a multiple of the other's.
    """

    mode: Mode
    test: str
    anchors: tuple[str, ...]
    rate_percent: float
    time: float | None = None


def target_table(reports: Sequence[ComparisonReport], targets: Sequence[Target]) -> str:
    """Return what was aimed at beside what was measured.

    Parameters
    ----------
    reports : sequence of ComparisonReport
        One for each mode that a target names, with the encoders it names.
    targets : sequence of Target
        In the order of rows.
    """
    by_mode = {report.mode: report for report in reports}
    rows = []
    for number, target in enumerate(targets, start=1):
        report = by_mode[target.mode]
        pairs = {name: compare_pair(report, target.test, name) for name in target.anchors}
        anchor = min(pairs, key=lambda name: abs(pairs[name].time - 1))
        pair = pairs[anchor]
        weighted = compare_pair(report, target.test, anchor, metric="weighted_ssim")
        psnr = compare_pair(report, target.test, anchor, metric="psnr")
        labels = labels_of(report)
        rows.append(
            (
                str(number),
                f"{labels[target.test]}, {MODE_NAMES[target.mode]}",
                labels[anchor],
                f"≤ {percent(target.rate_percent)}",
                percent(pair.mean_rate),
                percent(weighted.mean_rate),
                percent(psnr.mean_rate),
                signed(fmean(pair.worst_slice.values()), 4),
                f"≤ {target.time:g}\u202f×" if target.time else "=",
                f"{pair.time:.2f}\u202f×",
            )
        )
    heads = ["#", "ours", "against", "aim", "SSIM", "weighted SSIM", "PSNR", "worst slice"]
    return table([*heads, "aim", "time"], rows)


def pair_table(
    report: ComparisonReport, tests: Sequence[str], anchor: str, *, timed: bool = True
) -> str:
    """Return encoders of one report against another one of it, by series, and their times."""
    labels = labels_of(report)
    pairs = {test: compare_pair(report, test, anchor) for test in tests}
    names = list(pairs[tests[0]].rates)
    rows = [
        (
            labels[test],
            *(percent(pair.rates[name]) for name in names),
            percent(pair.mean_rate),
            *([f"{pair.time:.2f}\u202f×"] if timed else []),
        )
        for test, pair in pairs.items()
    ]
    return table(["encoder", *names, "mean", *(["time"] if timed else [])], rows)


def leave_one_out_table(report: ComparisonReport, tests: Sequence[str], anchor: str) -> str:
    """Return which test is best on all series but one, and what it gives on that one."""
    labels = labels_of(report)
    chosen = leave_one_out(report, tests, anchor)
    rows = [(name, labels[test], percent(rate)) for name, (test, rate) in chosen.items()]
    mean = percent(fmean(rate for _, rate in chosen.values()))
    return table(["left out", "best on the others", "BD-rate"], [*rows, ("mean", "", mean)])


def bd_table(reports: Iterable[ComparisonReport], encoders: Sequence[str] | None = None) -> str:
    """Return the BD-rates and encoding times of encoders, one row per mode and encoder.

    Parameters
    ----------
    reports : iterable of ComparisonReport
        One for each mode.
    encoders : sequence of str, optional
        Names of those to show; all by default.
    """
    reports = list(reports)
    spreads = dict.fromkeys(
        one.deltas["ssim"].rate_percent.spread
        for report in reports
        for one in report.summary.values()
    )
    heads = [
        "mode",
        "encoder",
        "SSIM",
        "median",
        "worst",
        " or ".join(SPREAD_NAMES[one] for one in spreads),
        *map(metric_name, OTHER_METRICS),
        "encode time",
    ]
    return table(heads, [row for report in reports for row in _rows(report, encoders)])


def paper_table(reports: Sequence[ComparisonReport]) -> str:
    """Return the paper's figures beside those of the first variant of ssimrdo in each report."""
    rates, ssims, differences = [], [], []
    for report in reports:
        mode, name = report.mode, _first_test(report)
        summary, given = report.summary[name].deltas["ssim"], PAPER.rate_percent.get(mode)
        points = (f"{ssim:.3f} at {plain(point)}" for point, ssim in mean_ssim(report, name))
        rates.append(("BD-rate", mode, percent(given), percent(summary.rate_percent.mean)))
        ssims.append(("mean SSIM", mode, f"≥ {PAPER.mean_ssim:g}", ", ".join(points)))
        kbps = _kbps(summary.kbps.mean)
        differences.append(("bit rate at equal SSIM", mode, _kbps(PAPER.kbps), kbps))
    return table(
        ["figure", "paper", "ssimrdo"],
        [
            (f"{what}, {MODE_NAMES[mode]}", paper, ours)
            for what, mode, paper, ours in (*rates, *ssims, *differences)
        ],
    )


def mean_ssim(report: ComparisonReport, encoder: str) -> list[tuple[float, float]]:
    """Return every point of an encoder with its mean SSIM over slices, then over series."""
    curves = [one.curves[encoder] for one in report.compared]
    return [
        (same[0].point, fmean(point.quality["ssim"].mean for point in same))
        for same in zip(*curves, strict=True)
    ]


def replace_block(text: str, block: str, *, name: str) -> str:
    """Return a text with what stands between the comments ``name:start`` and ``name:end`` replaced.

    Raises
    ------
    ValueError
        If the comments are not there once each, in this order.
    """
    start, end = (f"<!-- {name}:{which} -->" for which in ("start", "end"))
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if text.count(start) != 1 or text.count(end) != 1 or end not in rest:
        raise ValueError(f"needs one {start} and, behind it, one {end}")
    return f"{before}{start}\n{block.strip()}\n{end}{after}"


def points_text(reports: Sequence[ComparisonReport]) -> str:
    """Return the points of x264 in words, by mode, each once."""
    points = {
        MODE_NAMES[report.mode]: ", ".join(f"{plain(point)}" for point in report.reference.points)
        for report in reports
    }
    return "; ".join(f"{mode} {text}" for mode, text in points.items())


def _rows(report: ComparisonReport, shown: Sequence[str] | None) -> Iterable[Sequence[str]]:
    for encoder in report.others:
        if shown is not None and encoder.name not in shown:
            continue
        summary = report.summary[encoder.name]
        ssim = summary.deltas["ssim"].rate_percent
        yield (
            MODE_NAMES[report.mode],
            encoder.label,
            percent(ssim.mean),
            percent(ssim.median),
            percent(ssim.worst),
            interval(ssim.low, ssim.high),
            *(percent(summary.deltas[metric].rate_percent.mean) for metric in OTHER_METRICS),
            f"{1 / summary.speed:.2f}\u202f×",
        )


def labels_of(report: ComparisonReport) -> dict[str, str]:
    """Return the label of every encoder, by name."""
    return {encoder.name: encoder.label for encoder in report.encoders}


def _first_test(report: ComparisonReport) -> str:
    return next(encoder.name for encoder in report.encoders if encoder.role == "test")


def _kbps(value: float | None) -> str:
    text = signed(value, 0)
    return text if text == MISSING else f"{text}\u202fkbit/s"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
