"""Tables in Markdown of several comparisons, and the figures of the paper beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ssimrdo.evaluate.report.text import MISSING, interval, metric_name, percent, signed

Report = Mapping[str, Any]

MODE_NAMES = {"qp": "constant QP", "crf": "CRF", "bitrate": "bit rate"}

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

    rate_percent: Mapping[str, float]
    mean_ssim: float
    kbps: float


PAPER = PaperFigures({"qp": -5.2, "crf": -4.8}, 0.95, -372.0)


def bd_table(reports: Iterable[Report]) -> str:
    """Return the BD-rates and encoding times of all encoders, one row per mode and encoder.

    Parameters
    ----------
    reports : iterable of dict
        As :func:`ssimrdo.evaluate.record.build_report` makes them.
    """
    heads = [
        "mode",
        "encoder",
        "SSIM",
        "median",
        "worst",
        "95 % interval",
        *map(metric_name, OTHER_METRICS),
        "encode time",
    ]
    return _table(heads, [row for report in reports for row in _rows(report)])


def paper_table(reports: Sequence[Report]) -> str:
    """Return the paper's figures beside those of the first variant of ssimrdo in each report."""
    rates, ssims, differences = [], [], []
    for report in reports:
        mode, name = report["mode"], _first_test(report)
        summary, given = report["summary"][name]["ssim"], PAPER.rate_percent.get(mode)
        points = (f"{ssim:.3f} at {point}" for point, ssim in mean_ssim(report, name))
        rates.append(("BD-rate", mode, percent(given), percent(summary["mean"])))
        ssims.append(("mean SSIM", mode, f"≥ {PAPER.mean_ssim:g}", ", ".join(points)))
        kbps = summary["kbps"]["mean"]
        differences.append(("bit rate at equal SSIM", mode, _kbps(PAPER.kbps), _kbps(kbps)))
    return _table(
        ["figure", "paper", "ssimrdo"],
        [
            (f"{what}, {MODE_NAMES[mode]}", paper, ours)
            for what, mode, paper, ours in (*rates, *ssims, *differences)
        ],
    )


def mean_ssim(report: Report, encoder: str) -> list[tuple[float, float]]:
    """Return every point of an encoder with its mean SSIM over slices, then over series."""
    curves = [one["curves"][encoder] for one in report["series"] if one["error"] is None]
    return [
        (same[0]["point"], fmean(point["quality"]["ssim"]["mean"] for point in same))
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


def _rows(report: Report) -> Iterable[Sequence[str]]:
    for encoder in report["encoders"][1:]:
        summary = report["summary"][encoder["name"]]
        ssim = summary["ssim"]
        yield (
            MODE_NAMES[report["mode"]],
            encoder["label"],
            percent(ssim["mean"]),
            percent(ssim["median"]),
            percent(ssim["worst"]),
            interval(ssim["low"], ssim["high"]),
            *(percent(summary[metric]["mean"]) for metric in OTHER_METRICS),
            f"{1 / summary['speed']:.2f}\u202f×",
        )


def _first_test(report: Report) -> str:
    return next(str(one["name"]) for one in report["encoders"] if one["role"] == "test")


def _kbps(value: float | None) -> str:
    text = signed(value, 0)
    return text if text == MISSING else f"{text}\u202fkbit/s"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
