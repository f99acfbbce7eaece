from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssimrdo import FrameFormat, InputError, metrics, objective
from ssimrdo.bd import RateQuality, Spread, bjontegaard
from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.comparison.report import ShownEncode, Viewer, images, make_viewer, write_html
from ssimrdo.comparison.report.between import kbps_at
from ssimrdo.comparison.report.charts import (
    BOTTOM,
    HEIGHT,
    TOP,
    Costs,
    Style,
    linear_ticks,
    log_ticks,
    rd_chart,
    saved_chart,
    slice_chart,
)
from ssimrdo.comparison.report.points import named_point
from ssimrdo.comparison.report.rates import rates
from ssimrdo.comparison.report.tissue import error_panel
from ssimrdo.comparison.report.viewer import chosen
from ssimrdo.comparison.results import (
    ClassWarning,
    ComparisonReport,
    Curve,
    CurveDelta,
    DeltaSummary,
    EncodeCounts,
    EncoderFacts,
    EncoderRole,
    EncoderSummary,
    MachineFacts,
    RatePoint,
    SeriesResult,
    SeriesSpread,
)
from ssimrdo.frames import clipped_blocks
from ssimrdo.html.images import (
    LEVELS,
    ColourScale,
    as_8_bit,
    error_scale,
    map_uri,
    offset_scale,
    png_uri,
    qp_scale,
    shown_ssim_map,
    ssim_scale,
)
from ssimrdo.html.text import (
    MISSING,
    decimals,
    metric_axis,
    metric_name,
    metric_unit,
    number,
    percent,
)
from ssimrdo.metrics import QualityIndex, ssim
from ssimrdo.metrics.tissue import Area, ErrorSummary
from ssimrdo.record.result import WindowUsed
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import TissueSummary
from ssimrdo.video.macroblocks import Macroblocks

METRICS = ("ssim", "psnr")
HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"
NO_DELTA = CurveDelta(None, None, None, None, "the curves do not overlap")
NO_SPREAD = SeriesSpread(None, None, None, None, None, 0, 2)


def a_point(crf: float, slices: int, kbps: float, quality: float) -> RatePoint:
    per_slice = {
        "ssim": tuple(quality - 0.001 * (i % 3) for i in range(slices)),
        "psnr": tuple(40 * quality + 0.1 * i for i in range(slices)),
    }
    return RatePoint(
        point=crf,
        kbps=kbps,
        bytes=round(kbps * 100),
        seconds=1.5,
        quality={k: SliceSummary(sum(v) / slices, min(v)) for k, v in per_slice.items()},
        per_slice=per_slice,
    )


def a_series(name: str, slices: int = 5) -> SeriesResult:
    rates = {18: (4000, 0.99), 23: (2000, 0.97), 28: (900, 0.94), 33: (400, 0.90)}
    factor = {"x264": 1.0, "ssim": 0.9, "slow": 0.97}
    delta = CurveDelta(rate_percent=None, rate_kbps=-9.0, quality=0.001, overlap=0.93)
    return SeriesResult(
        name=name,
        slices=slices,
        width=96,
        height=64,
        window=WindowUsed(-600, 1500),
        left_out=0,
        curves={
            encoder: tuple(a_point(crf, slices, share * k, q) for crf, (k, q) in rates.items())
            for encoder, share in factor.items()
        },
        bd={
            encoder: {metric: replace(delta, rate_percent=rate) for metric in METRICS}
            for encoder, rate in (("ssim", -10.04), ("slow", 3.06))
        },
        speed={"ssim": 0.9, "slow": 0.5},
    )


def a_spread(count: int, mean: float = -10.04) -> SeriesSpread:
    kind: Spread = "interval" if count >= 5 else "range"
    low, high = (None, None) if count == 1 else (mean - 1.96, mean + 2.04)
    return SeriesSpread(mean, -10.0, -2.5, low, high, count, 0, kind)


def an_encoder(
    name: str, role: EncoderRole, label: str, settings: str = "", points: tuple[float, ...] = ()
) -> EncoderFacts:
    strength = 0.7 if role == "test" else None
    return EncoderFacts(name, role, label, settings, "164", strength, points)


def a_report(*names: str) -> ComparisonReport:
    def summary(mean: float, speed: float) -> EncoderSummary:
        spread = a_spread(len(names), mean)
        return EncoderSummary(dict.fromkeys(METRICS, DeltaSummary(spread, spread, spread)), speed)

    return ComparisonReport(
        version="0.1.0",
        date=datetime.fromisoformat("2026-11-21T09:00:00+00:00"),
        command="ssimrdo compare a b",
        mode="crf",
        preset="medium",
        fps=Fraction(25),
        bit_depth=8,
        versions={"x264": "164"},
        machine=MachineFacts("a CPU", 2),
        timing="alone",
        encodes=EncodeCounts(24, 0),
        metrics=METRICS,
        encoders=(
            an_encoder("x264", "reference", "x264 medium", "crf=POINT", (18, 23, 28, 33)),
            an_encoder("slow", "anchor", "x264 slow"),
            an_encoder("ssim", "test", "ours", "s=0.7", (18,)),
        ),
        series=tuple(map(a_series, names)),
        summary={"ssim": summary(-10.04, 0.9), "slow": summary(3.06, 0.5)},
    )


def an_empty_report() -> ComparisonReport:
    return replace(a_report(), encoders=(), series=(), metrics=(), summary={})


def with_series(report: ComparisonReport, index: int, **changes: Any) -> ComparisonReport:
    """Return a report one of whose series is another."""
    series = list(report.series)
    series[index] = replace(series[index], **changes)
    return replace(report, series=tuple(series))


def with_delta(
    report: ComparisonReport, index: int, metric: str, delta: CurveDelta
) -> ComparisonReport:
    """Return a report in which ours has another delta on one series."""
    bd = report.series[index].bd
    return with_series(report, index, bd={**bd, "ssim": {**bd["ssim"], metric: delta}})


def with_spread(report: ComparisonReport, metric: str, spread: SeriesSpread) -> ComparisonReport:
    """Return a report in which ours has another BD-rate over the series."""
    ours = report.summary["ssim"]
    delta = replace(ours.deltas[metric], rate_percent=spread)
    ours = replace(ours, deltas={**ours.deltas, metric: delta})
    return replace(report, summary={**report.summary, "ssim": ours})


def with_classes(report: ComparisonReport) -> ComparisonReport:
    """Return a report in which ours loses at edges, on the first series although SSIM gains."""
    found = {
        "psnr_body": CurveDelta(-3.04, None, 0.12, 1.0),
        "psnr_edge": CurveDelta(6.56, None, -0.31, 1.0),
        "ssim_p5": CurveDelta(None, None, None, None, "the curves do not overlap"),
    }
    classes = {
        name: replace(a_spread(2, 0.0), mean=one.rate_percent) for name, one in found.items()
    }
    first = report.series[0].name
    warning = ClassWarning(first, "ssim", ("psnr_edge",), f"{first}: ours loses at edges (+6.6 %)")
    report = replace(report, classes={"ssim": classes, "slow": {}}, warnings=(warning,))
    errors = ErrorSummary(1000, 9.35, 0.13, 32.9, 197.2)
    summary = SliceSummary(0.91, 0.88, True, 0.89, 2)
    tissue = TissueSummary(
        unit="HU",
        span=1499,
        errors={**dict.fromkeys(Area, errors), Area.LUNG: None},
        ssim={Area.BODY: summary, Area.UNCLIPPED: summary},
        noise_kept=0.7998,
        clipped_share=0.4,
    )
    for index, series in enumerate(report.series):
        curves = {
            name: tuple(
                replace(point, tissue=tissue, classes={"ssim_body": 0.91}) for point in curve
            )
            for name, curve in series.curves.items()
        }
        report = with_series(report, index, classes={"ssim": found}, curves=curves)
    return report


def an_encode(
    label: str, frames: NDArray[np.uint8], kbps: float | None = None, qp: int | None = None
) -> ShownEncode:
    def told(wanted: Sequence[int]) -> dict[int, Macroblocks]:
        grid = FrameFormat(*frames.shape[1:]).grid
        skipped = np.zeros(grid, bool)
        skipped[0, 0] = True
        return {index: Macroblocks(np.full(grid, qp, np.int16), skipped) for index in wanted}

    return ShownEncode(label, lambda: iter(frames), kbps, None if qp is None else told)


def a_viewer(
    name: str, slices: int = 5, rows: int = 64, columns: int = 96, seed: int = 0
) -> Viewer:
    rng = np.random.default_rng(seed)
    source = rng.integers(1, 255, (slices, rows, columns), dtype=np.uint8)
    # The window clips all of the first macroblocks.
    source[:, :16, :32] = 0

    def noisy(level: float) -> NDArray[np.uint8]:
        return np.clip(source + rng.normal(0, level, source.shape), 0, 255).astype(np.uint8)

    return make_viewer(
        name,
        source,
        (
            an_encode("x264, CRF 23", noisy(9), 2000, 30),
            an_encode("ours, CRF 22.5", noisy(4), 1980, 28),
            an_encode("ours, CRF 25", noisy(7), 1600, 31),
        ),
        frame_format=FrameFormat(rows, columns),
        hu=tuple(-160 + 400 * level / 255 for level in range(256)),
    )


class Reader(HTMLParser):
    """Collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.hidden = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self.hidden = False

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)


def text_of(html: str) -> str:
    """Return what a reader sees, one space between words."""
    reader = Reader()
    reader.feed(html)
    return " ".join(" ".join(reader.words).split())


Written = Callable[..., str]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(report: ComparisonReport, viewers: Mapping[str, Viewer] | None = None) -> str:
        path = tmp_path / "report.html"
        write_html(report, path, viewers)
        return path.read_text(encoding="utf-8")

    return write


def test_headline_says_sizes_savings_and_time(written: Written) -> None:
    text = text_of(written(a_report("a", "b", "c")))
    # 200 kB at CRF 23, and a tenth less at every quality.
    assert (
        "200 kB becomes 180 kB at the same SSIM "
        "(x264 medium at CRF 23, geometric mean of the series). ours needs 10.0 % less than "
        "x264 medium at equal SSIM on 3 series (8.0 to 12.0 %), and takes 1.1 × its time."
    ) in text
    assert "x264 slow: 3.1 % more on 3 series (1.1 to 5.1 %), at 2.0 × the time." in text
    assert "95 % interval" not in text
    assert "Line: the range of the series; fewer than five make no interval." in text
    assert "Arrow" not in text


def test_from_five_series_on_there_is_an_interval(written: Written) -> None:
    text = text_of(written(a_report("a", "b", "c", "d", "e")))
    assert "on 5 series (95 % interval 8.0 to 12.0 %)" in text
    assert "Line: 95 % interval of the mean; of fewer than five series, their range." in text


def test_one_series_has_no_spread(written: Written) -> None:
    text = text_of(written(a_report("a")))
    assert "200 kB becomes 180 kB at the same SSIM (x264 medium at CRF 23)." in text
    assert "than x264 medium at equal SSIM on one series, and takes" in text
    assert "Small dots" not in text


def test_a_spread_over_zero_says_both_signs(written: Written) -> None:
    report = with_spread(a_report("a", "b"), "ssim", replace(a_spread(2), low=-12.0, high=3.04))
    assert "(12.0 % less to 3.0 % more)" in text_of(written(report))


def test_sizes_in_the_headline_lie_on_the_curves() -> None:
    curves = a_series("a").curves
    points = curves["ssim"]
    assert kbps_at(points, "ssim", points[2].quality["ssim"].mean) == pytest.approx(points[2].kbps)
    assert kbps_at(points, "ssim", points[0].quality["ssim"].mean + 1e-3) is None
    between = (points[1].quality["ssim"].mean + points[2].quality["ssim"].mean) / 2
    found = kbps_at(points, "ssim", between)
    assert found is not None
    assert points[2].kbps < found < points[1].kbps
    assert kbps_at(points[:1], "ssim", 0.9) is None


def lanes(html: str) -> list[dict[str, str]]:
    """Return the rows of the forest plots, with the group that each stands in."""
    found = []
    for group in re.split(r'<tr class="group">', html)[1:]:
        (title,) = re.findall(r'<th scope="rowgroup"[^>]*>(.*?)</th>', group)
        for row in re.findall(r"<tr data-encoder=.*?</tr>", group.partition("</tbody>")[0], re.S):
            (name,) = re.findall(r"</svg>([^<]*)</th>", row)
            (mean,) = re.findall(r"<b>(.*?)</b>", row)
            (ends,) = re.findall(r'<td class="ends">(.*?)</td>', row)
            found.append({"at": title, "name": name, "mean": mean, "ends": ends, "row": row})
    return found


def test_forest_has_all_encoders_on_one_axis(written: Written) -> None:
    html = written(a_report("a", "b"))
    rows = lanes(html)
    assert [(one["at"], one["name"]) for one in rows] == [
        ("SSIM", "ours"),
        ("SSIM", "x264 slow"),
        ("PSNR", "ours"),
        ("PSNR", "x264 slow"),
    ]
    assert [one["mean"] for one in rows] == ["\u221210.0\u202f%", "+3.1\u202f%"] * 2
    assert rows[0]["ends"] == "\u221212.0 to \u22128.0\u202f%"
    # The axis is twice as long as the larger figure of what is tested, the zero in place.
    zero = {re.findall(r'class="zero" x1="([\d.]+)%', one["row"])[0] for one in rows}
    assert len(zero) == 1
    dots = [re.findall(r'class="dot" cx="([\d.]+)%', one["row"]) for one in rows]
    assert all(len(set(one)) == 1 and len(one) == 2 for one in dots)
    ours, slow, at = float(dots[0][0]), float(dots[1][0]), float(zero.pop())
    assert (ours - at) / (slow - at) == pytest.approx(-10.04 / 3.06, abs=0.02)


def test_one_series_has_no_column_for_a_range(written: Written) -> None:
    assert "From, to" in written(a_report("a", "b"))
    assert "From, to" not in written(a_report("a"))


def test_what_lies_beyond_the_axis_is_an_arrow_and_a_number(written: Written) -> None:
    report = a_report("a")
    far = CurveDelta(250.0, None, -0.1, 0.9)
    bd = {**report.series[0].bd, "slow": {"ssim": far, "psnr": far}}
    report = with_series(report, 0, bd=bd)
    spread = replace(a_spread(1, 250.0), low=None, high=None)
    slow = EncoderSummary(dict.fromkeys(METRICS, DeltaSummary(spread, spread, spread)), 0.5)
    html = written(replace(report, summary={**report.summary, "slow": slow}))
    rows = lanes(html)
    assert "Arrow: a mean beyond the axis." in text_of(html)
    assert rows[1]["mean"] == "+250.0\u202f%"
    assert 'd="M5,0l-8,5v-10z"' in rows[1]["row"]
    assert 'class="dot"' not in rows[1]["row"]
    assert 'd="M5,0l-8,5v-10z"' not in rows[0]["row"]


def test_numbers_of_the_forest_are_those_of_the_json(written: Written) -> None:
    report = with_classes(a_report("a", "b"))
    html = written(report)
    record = report.to_json()
    shown = {(one["at"], one["name"]): one["mean"] for one in lanes(html)}
    for name, label in (("ssim", "ours"), ("slow", "x264 slow")):
        for metric in METRICS:
            mean = record["summary"][name][metric]["mean"]
            assert shown[metric.upper(), label] == percent(mean)
    assert shown["PSNR at edges", "ours"] == percent(record["classes"]["ssim"]["psnr_edge"]["mean"])


def test_rates_of_part_of_the_series_say_so() -> None:
    report = a_report("a", "b")
    undefined = CurveDelta(None, None, None, 0.1, "the curves share 10 % of their range")
    report = with_delta(report, 1, "ssim", undefined)
    found = rates(report, "ssim", "ssim")
    assert found.by_series == {"a": -10.04}
    assert found.missing == {"b": "the curves share 10 % of their range"}
    assert rates(report, "ssim", "psnr").missing == {}


def test_classes_stand_beside_the_indices_and_losses_are_marked(written: Written) -> None:
    report = with_classes(a_report("chest", "head"))
    page = written(report)
    text = text_of(page)
    assert "1 warning: an encoder gains in SSIM and loses in a class of tissue or slices" in text
    assert "chest: ours loses at edges (+6.6 %)" in text
    by_place = {(one["at"], one["name"]): one["row"] for one in lanes(page)}
    edges = by_place["PSNR at edges", "ours"]
    assert "⚠" in edges
    assert 'title="lost although SSIM gains: chest"' in edges
    assert "⚠" not in by_place["PSNR in the body", "ours"]
    assert "the series has nothing of it" in by_place["PSNR at edges", "x264 slow"]
    # On every series: index or class, and the quality that is gained.
    assert "chest 5 slices, 96×64, \u2212600/1500 HU" in text
    assert "\u22123.0 % +0.12 dB +6.6 % ⚠ \u22120.31 dB –" in text
    # Where there is no warning of it, a loss is no mark.
    assert "\u22123.0 % +0.12 dB +6.6 % \u22120.31 dB –" in text
    assert "No value: the curves do not overlap." in page
    assert "Errors of all measured points of chest, in HU" in text
    assert (
        "Encoder Point Body Edges Small dense structures Flat soft tissue Noise kept SSIM, body "
        "x264 medium 18 9.3 33; 197 9.3 33; 197 9.3 33; 197 9.3 33; 197 80 % 0.9100"
    ) in text
    assert 'title="bias +0.13, 1 000 samples"' in page.replace("\u202f", " ")


def test_errors_by_tissue_are_told_at_one_bit_rate(written: Written) -> None:
    report = with_classes(a_report("chest"))
    series = report.series[0]

    def with_rmse(point: RatePoint, rmse: float) -> RatePoint:
        assert point.tissue is not None
        errors = {**point.tissue.errors, Area.EDGE: ErrorSummary(1, rmse, 0.0, 3 * rmse, 99.0)}
        return replace(point, tissue=replace(point.tissue, errors=errors))

    # An error that falls as the square root of the bit rate: 20 HU at 1000 kbit/s.
    curves = {
        name: tuple(with_rmse(one, 20 * math.sqrt(1000 / one.kbps)) for one in curve)
        for name, curve in series.curves.items()
    }
    series = replace(series, curves=curves)
    styles = {name: Style(i, name) for i, name in enumerate(("x264", "ssim", "slow", "none"))}
    panel = error_panel(series, styles, 1, Costs.of(series, 25))
    assert panel is not None
    assert panel.unit == "HU"
    areas = dict(panel.areas)
    assert list(areas) == ["Body", "Edges", "Small dense structures", "Flat soft tissue"]
    # All three at the 2000 kbit/s of the reference, by interpolation but the first.
    assert [bar.rmse for bar in areas["Edges"]] == ["14.1"] * 3
    assert [bar.p99 for bar in areas["Edges"]] == ["42"] * 3
    assert [bar.share for bar in areas["Edges"]] == [100.0] * 3
    assert error_panel(series, styles, 9, Costs.of(series, 25)) is None
    # The highest rate of ours lies below the reference's, and nothing is extrapolated.
    first = error_panel(series, styles, 0, Costs.of(series, 25))
    assert first is not None
    assert [bar.style.label for bar in dict(first.areas)["Edges"]] == ["x264"]
    page = written(replace(report, series=(series,)))
    assert "10.0\u202fkB per slice, ratio 1:1" in page
    assert page.count('<div class="tissues">') == 4


def test_reports_without_classes_have_no_such_section(written: Written) -> None:
    page = written(a_report("chest"))
    assert 'id="tissue"' not in page
    assert 'class="warning"' not in page


def test_missing_values_are_dashes_with_their_reason(written: Written) -> None:
    report = a_report("a", "b")
    undefined = CurveDelta(math.nan, None, None, 0.0, "the curves do not overlap")
    report = with_delta(report, 0, "psnr", undefined)
    warned = replace(report.series[1].bd["ssim"]["ssim"], warnings=("overlap is only 60 %",))
    report = with_delta(report, 1, "ssim", warned)
    report = with_spread(report, "psnr", NO_SPREAD)
    html = written(report)
    text = text_of(html)
    assert "No value: the curves do not overlap." in text
    assert "1 series left out, no BD-rate is defined: the curves do not overlap." in text
    assert "overlap is only 60 %" in text
    assert "nan" not in re.sub(r"[A-Za-z+/=]{60,}", "", text).lower().split()
    assert MISSING in text


def test_curves_and_summaries_may_be_missing(written: Written) -> None:
    report = with_series(a_report("a"), 0, curves={}, bd={}, speed={}, window=None)
    text = text_of(written(replace(report, summary={})))
    assert "ours: no BD-rate at equal SSIM is defined: not measured." in text
    assert "No times were measured." in text
    assert "5 slices, 96×64" in text
    assert "HU" not in text


def test_a_failed_series_is_shown_with_its_reason(written: Written) -> None:
    report = a_report("a")
    failed = SeriesResult("broken", error="no usable CT slice")
    text = text_of(written(replace(report, series=(*report.series, failed))))
    assert "failed: no usable CT slice" in text
    assert "2 series (1 failed)" in text


def test_an_empty_report_still_makes_a_page(written: Written) -> None:
    assert "Nothing was compared" in text_of(written(an_empty_report()))


def test_points_without_values_are_left_out(written: Written) -> None:
    report = a_report("a")
    curves = report.series[0].curves
    bare = tuple(
        replace(
            point,
            kbps=math.nan,
            seconds=math.nan,
            quality={},
            per_slice={"ssim": (math.nan, 0.9, math.nan, 0.8, 0.7)},
        )
        for point in curves["ssim"]
    )
    html = written(with_series(report, 0, curves={**curves, "ssim": bare}))
    assert "x264 medium" in text_of(html)
    # Two encoders have points in the two curves over rate, each in two ranges.
    assert len(re.findall(r"<title>[^<]*, 23: ", html)) == 2 * 2 * len(METRICS)


def test_a_report_that_was_read_makes_the_same_page(written: Written) -> None:
    report = a_report("a", "b")
    again = ComparisonReport.from_json(json.loads(json.dumps(report.to_json())))
    assert written(again) == written(report)


def test_points_are_named_by_what_they_set() -> None:
    settings = {
        "x264 preset=medium crf=POINT": "CRF 23",
        "rdo=ssim; x264 qp=POINT threads=1": "QP 23",
        "libjxl distance=POINT": "distance 23",
        "bitrate=POINT": "bitrate 23",
        "OpenJPEG, POINT dB PSNR per slice": "23",
    }
    for text, name in settings.items():
        assert named_point(an_encoder("x", "anchor", "x", text), 23.0) == name
    assert named_point(an_encoder("x", "anchor", "x", "crf=POINT"), 22.68) == "CRF 22.68"


def test_indices_that_are_not_known_any_more_are_shown(written: Written) -> None:
    record = json.loads(json.dumps(a_report("a").to_json()).replace('"psnr"', '"old_index"'))
    html = written(ComparisonReport.from_json(record))
    assert [one["at"] for one in lanes(html)] == ["SSIM", "SSIM", "old index", "old index"]
    assert "old index over bit rate, a" in html


def test_nothing_is_loaded_and_everything_is_escaped(written: Written) -> None:
    report = with_classes(a_report(HOSTILE))
    delta = replace(report.series[0].bd["ssim"]["ssim"], warnings=(HOSTILE,))
    report = replace(
        with_delta(report, 0, "ssim", delta),
        command=HOSTILE,
        version=HOSTILE,
        versions={HOSTILE: HOSTILE},
        machine=MachineFacts(HOSTILE, HOSTILE),
        encoders=tuple(replace(e, label=HOSTILE, settings=HOSTILE) for e in report.encoders),
    )
    viewer = a_viewer(HOSTILE)
    viewer = replace(viewer, labels=(HOSTILE,) * 3, kbps=(1.0, None, None))
    html = written(report, {HOSTILE: viewer})
    assert HOSTILE not in html
    assert "<img src=x" not in html
    assert HOSTILE.split("&")[0] in text_of(html)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html


def viewer_data(html: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    found: dict[str, Any] = json.loads(data)
    return found


def test_viewer_data_is_json_and_images_are_lossless(written: Written) -> None:
    viewer = a_viewer("a", slices=3)
    data = viewer_data(written(a_report("a"), {"a": viewer}))
    assert data["labels"]["matched"] == "ours, CRF 25, 1\u202f600\u00a0kbit/s"
    assert data["compared"]["ours"].startswith("bit rate \u22121.0\u202f%, mean SSIM 0.")
    assert data["compared"]["matched"].startswith("bit rate \u221220.0\u202f%, mean SSIM 0.")
    assert data["hu"][0] == -160
    assert data["hu"][255] == 240
    assert [one["number"] for one in data["slices"]] == [1, 2, 3]
    for one, expected in zip(data["slices"], viewer.slices, strict=True):
        assert np.array_equal(decoded(one["source"]), expected.source)
        assert one["clipped"] == "11" + 22 * "0"
        np.testing.assert_allclose(one["offset"], expected.qp_offset.ravel(), atol=0.05)
        for name, encode, qp in zip(images.ROLES, expected.encodes, (30, 28, 31), strict=True):
            shown = one["encodes"][name]
            assert np.array_equal(decoded(shown["image"]), encode.luma)
            assert shown["ssim"] == f"{encode.ssim:.4f}"
            assert shown["qp"] == [qp] * 24
            assert shown["skipped"] == "1" + 23 * "0"


def test_viewers_without_hu_and_quantizers_say_neither(written: Written) -> None:
    source = np.random.default_rng(3).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    encodes = an_encode("x264", source ^ 1), an_encode("ours", source ^ 2)
    viewer = make_viewer("a", source, encodes, frame_format=FrameFormat(32, 32))
    html = written(a_report("a"), {"a": viewer})
    data = viewer_data(html)
    assert data["hu"] == []
    assert data["slices"][0]["encodes"]["ours"]["qp"] is None
    assert "QP in the stream" not in text_of(html)
    assert 'value="matched"' not in html
    assert "decoded minus source, grey levels" in text_of(html)


def decoded(uri: str) -> NDArray[Any]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_viewer_has_the_maps_of_the_model() -> None:
    rng = np.random.default_rng(1)
    source = rng.integers(0, 256, (30, 49, 75), dtype=np.uint8)
    shape = FrameFormat(49, 75)
    # Encoders pad to even sides.
    half = np.pad(source // 2, ((0, 0), (0, 1), (0, 1)))
    dark = half.copy()
    dark[[4, 20]] = 0
    encodes = an_encode("a", half), an_encode("b", dark)
    viewer = make_viewer("a", source, encodes, frame_format=shape, strength=0.5, max_slices=4)
    # Two that are worst, and two spread evenly over the others.
    assert [one.index for one in viewer.slices] == [4, 8, 20, 23]
    assert viewer.count == 30
    one = viewer.slices[1]
    first, second = one.encodes
    assert first.luma.shape == one.source.shape == (49, 75)
    assert second.ssim == pytest.approx(ssim(source[8], source[8] // 2), abs=1e-6)
    assert second.ssim == pytest.approx(second.ssim_map.mean(dtype=np.float64), abs=1e-6)
    assert first.ssim_map.shape == (39, 65)
    assert viewer.ssim[0] == pytest.approx(
        np.mean([ssim(one, one // 2) for one in source]), abs=1e-6
    )
    steering = Steering(objective.SSIM.lagrange_ratio(source[8], shape))
    expected = quantizer_offsets(source[8], steering, strength=0.5)
    np.testing.assert_array_equal(one.qp_offset, expected)


def test_slices_that_are_shown_are_all_or_the_worst_first() -> None:
    assert chosen([0.9, 0.8], 2) == (0, 1)
    assert chosen([0.9, 0.8, 0.7, 0.95, 0.96, 0.97], 3) == (1, 2, 4)
    assert chosen([0.5] * 9, 1) == (0,)
    quality = list(np.random.default_rng(5).random(40))
    found = chosen(quality, 10)
    assert len(found) == 10
    assert set(np.argsort(quality)[:5]) <= set(found)
    # Fewer of these are what would have been taken at once, as far as the worst go.
    again = chosen([quality[index] for index in found], 4)
    assert set(np.argsort(quality)[:2]) <= {found[index] for index in again}


def test_short_series_leave_their_share_to_long_ones() -> None:
    assert images.shares([3, 40, 40], 23) == [3, 10, 10]
    assert images.shares([40, 3], 100) == [40, 3]
    assert images.shares([5, 5, 5], 2) == [1, 1, 1]
    assert images.shares([], 5) == []


def test_macroblocks_that_a_window_clips_are_found() -> None:
    luma = np.full((40, 33), 100, np.uint8)
    luma[:16, :16] = 0
    luma[16:32, :16] = 255
    luma[32:, 32] = 0
    luma[0, 0] = 1
    found = clipped_blocks(luma, FrameFormat(40, 33))
    assert found.tolist() == [[False, False, False], [True, False, False], [False, False, True]]


def test_viewer_shows_what_another_objective_makes() -> None:
    even = objective.Objective(
        "even", "Even", lambda _, f: np.full(f.grid, 4.0, np.float32), lambda _: 1.0
    )
    source = np.zeros((1, 32, 48), np.uint8)
    viewer = make_viewer(
        "a",
        source,
        (an_encode("a", source), an_encode("b", source)),
        frame_format=FrameFormat(32, 48),
        objective=even,
        strength=1,
    )
    np.testing.assert_allclose(viewer.slices[0].qp_offset, np.full((2, 3), -6), rtol=1e-6)


def test_10_bit_frames_are_shown_at_8_bit() -> None:
    source = np.random.default_rng(2).integers(0, 1024, (2, 32, 32), dtype=np.uint16)
    encodes = (
        ShownEncode("a", lambda: iter(source)),
        ShownEncode("b", lambda: iter(source ^ 512)),
    )
    viewer = make_viewer("a", source, encodes, frame_format=FrameFormat(32, 32, 10))
    one = viewer.slices[0]
    assert np.array_equal(one.source, source[0] >> 2)
    assert one.encodes[0].ssim == pytest.approx(1)
    expected = ssim(source[0], source[0] ^ 512, data_range=1023)
    assert one.encodes[1].ssim == pytest.approx(expected, abs=1e-6)


def test_slices_are_left_out_where_images_would_take_too_much(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = len(written(a_report("a")))
    monkeypatch.setattr(images, "IMAGE_BUDGET_BYTES", 200_000)
    viewer = a_viewer("a", slices=12)
    html = written(a_report("a"), {"a": viewer})
    assert len(html) < plain + 300_000
    shown = [one["number"] - 1 for one in viewer_data(html)["slices"]]
    assert 2 <= len(shown) < 12
    worst = min(viewer.slices, key=lambda one: one.worst)
    assert worst.index in shown
    assert f"{len(shown)} of 12 slices, to keep the page small: the" in text_of(html)


def test_times_under_load_are_said_to_be(written: Written) -> None:
    report = a_report("a")
    assert "Other work ran beside" not in text_of(written(report))
    assert "Other work ran beside" in text_of(written(replace(report, timing="loaded")))
    assert "are of earlier runs" in text_of(written(replace(report, timing="mixed")))


def test_report_is_left_as_it_was(written: Written) -> None:
    report = a_report("a", "b")
    before = json.dumps(report.to_json())
    written(report)
    assert json.dumps(report.to_json()) == before


def test_missing_libraries_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"scripts/setup report|pip install .*\[report\]"):
        write_html(a_report("a"), tmp_path / "report.html", None)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_former_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("former")

    def full_disk(handle: object) -> None:
        del handle
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=re.escape("report.html")):
        write_html(a_report("a"), path, None)
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_ticks_are_round_and_inside() -> None:
    assert linear_ticks(0.881, 0.992) == pytest.approx([0.9, 0.92, 0.94, 0.96, 0.98])
    assert log_ticks(350, 4500) == [500, 700, 1000, 1500, 2000, 3000]
    assert log_ticks(1400, 2600) == [1500, 2000, 2500]
    for low, high in ((1e-3, 1e6), (1990, 2010), (5, 5.0001), (1, 9e9)):
        ticks = log_ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert all(low * 0.9999 <= tick <= high * 1.0001 for tick in ticks)


STYLES = {
    name: Style(i, label, is_test=name == "ssim")
    for i, (name, label) in enumerate({"x264": "x264", "ssim": "ours", "absent": "absent"}.items())
}


def test_charts_place_points() -> None:
    series = a_series("a")
    costs = Costs.of(series, 25)
    chart = rd_chart(series.curves, STYLES, "ssim", costs)
    assert chart is not None
    assert [line.style.label for line in chart.lines] == ["x264", "ours"]
    marks = chart.lines[0].marks
    assert [mark.x for mark in marks] == sorted(mark.x for mark in marks)
    assert [mark.y for mark in marks] == sorted((mark.y for mark in marks), reverse=True)
    # 2000 kbit/s at 25 slices per second are 10 kB; a slice has 96 · 64 samples of 2 bytes.
    assert "23: 2\u202f000\u202fkbit/s, 10.0\u202fkB per slice, ratio 1:1; SSIM 0.9692" in (
        marks[2].text
    )
    assert [mark.name for mark in marks] == ["33", "28", "23", "18"]
    assert rd_chart({}, STYLES, "ssim", costs) is None
    assert slice_chart(series.curves, STYLES, "ssim", 9) is None
    point = replace(series.curves["x264"][0], per_slice={"ssim": (0.9, math.nan, 0.8)})
    gapped: Mapping[str, Curve] = {"x264": (point,)}
    over_slices = slice_chart(gapped, STYLES, "ssim", 0)
    assert over_slices is not None
    assert over_slices.lines[0].path.count("M") == 2


def test_curves_of_many_encoders_differ_in_colour_or_dashes(written: Written) -> None:
    """And so do their markers in the legend; there are seven colours."""
    report = a_report("chest")
    curve = report.series[0].curves["slow"]
    names = [f"anchor-{number}" for number in range(12)]
    report = with_series(
        report, 0, curves={**report.series[0].curves, **dict.fromkeys(names, curve)}
    )
    anchors = [an_encoder(name, "anchor", name) for name in names]
    page = written(replace(report, encoders=(*report.encoders, *anchors)))
    kinds = r'class="(s\d)[^>]*>\s*<path class="curve(?: thin)? (d\d)" d="[^"]*"/>'
    legend = page[page.index('<ul class="legend"') :]
    found = re.findall(kinds + r"\s*<(\w+ .*?)/>", legend[: legend.index("</ul>")], re.DOTALL)
    assert len(found) == 15
    assert len({(colour, dashes) for colour, dashes, _ in found}) == 15
    assert len({(colour, marker) for colour, _, marker in found}) == 15
    for chart in re.findall(r'<svg class="chart".*?</svg>\s*</svg>', page, re.DOTALL):
        drawn = re.findall(kinds, chart)
        assert len(set(drawn)) == len(drawn)
        assert set(drawn) <= {(colour, dashes) for colour, dashes, _ in found}


def test_the_range_of_the_reference_leaves_out_far_anchors() -> None:
    series = a_series("a")
    far = tuple(replace(point, kbps=50 * point.kbps) for point in series.curves["slow"])
    styles = {"x264": Style(0, "x264"), "ssim": Style(1, "ours", True), "slow": Style(2, "slow")}
    curves = {**series.curves, "slow": far}
    costs = Costs.of(series, 25)
    near = rd_chart(curves, styles, "ssim", costs)
    whole = rd_chart(curves, styles, "ssim", costs, whole=True)
    assert near is not None
    assert whole is not None
    assert near.lines[0].marks[-1].x > 2 * whole.lines[0].marks[-1].x
    # What is tested is drawn last.
    assert [line.style.label for line in near.lines] == ["x264", "slow", "ours"]


def test_savings_over_quality_average_to_the_bd_rate() -> None:
    series = a_series("a")
    tilted = tuple(
        replace(point, kbps=share * point.kbps)
        for point, share in zip(series.curves["x264"], (0.7, 0.8, 0.9, 1.0), strict=True)
    )
    curves = {"x264": series.curves["x264"], "ssim": tilted}
    chart = saved_chart(curves, STYLES, "ssim")
    assert chart is not None
    (line,) = chart.lines
    assert [mark.text.rpartition(": ")[2] for mark in line.marks] == [
        "0.0\u202f% saved",
        "+10.0\u202f% saved",
        "+20.0\u202f% saved",
        "+30.0\u202f% saved",
    ]
    # The mean of the logarithm over quality is the BD-rate's.
    places = np.array([[float(v) for v in at.split(",")] for at in line.path[1:].split("L")])
    heights = {tick.text: tick.at for tick in chart.y_ticks}
    scale = (heights["0"] - heights["20"]) / 20
    saved = (heights["0"] - places[:, 1]) / scale
    mean = np.trapezoid(np.log(1 - saved / 100), places[:, 0]) / np.ptp(places[:, 0])
    both = [
        RateQuality([p.kbps for p in c], [p.quality["ssim"].mean for p in c])
        for c in curves.values()
    ]
    expected = bjontegaard(*both).rate_percent
    assert 100 * math.expm1(mean) == pytest.approx(expected, abs=0.2)
    assert saved_chart({"x264": series.curves["x264"]}, STYLES, "ssim") is None


def log_curve(share: float, gain: float) -> Curve:
    """Return PSNRs that grow with the logarithm of the rate, in each slice from its own height."""
    return tuple(
        RatePoint(
            point,
            share * kbps,
            1,
            1.0,
            {},
            {"psnr": tuple(10 * math.log10(share * kbps) + gain + i for i in range(3))},
        )
        for point, kbps in ((18, 4000), (23, 2000), (28, 1000), (33, 500))
    )


@pytest.mark.parametrize(("gain", "whole"), [(4.0, True), (-4.0, False)])
def test_what_is_better_than_ours_is_seen_whole(gain: float, whole: bool) -> None:
    curves = {
        "x264": log_curve(1.0, 0.0),
        "ssim": log_curve(1.0, 1.5),
        "absent": log_curve(1.0, gain),
    }
    chart = slice_chart(curves, STYLES, "psnr", 1, difference=True)
    assert chart is not None
    (line,) = (one for one in chart.lines if one.style is STYLES["absent"])
    heights = [float(at.partition(",")[2]) for at in line.path[1:].split("L")]
    assert all(0 <= at <= HEIGHT - BOTTOM - TOP for at in heights) == whole


def test_slices_are_compared_at_equal_bit_rate() -> None:
    curves = {"x264": log_curve(1.0, 0.0), "ssim": log_curve(0.8, 1.5)}
    chart = slice_chart(curves, STYLES, "psnr", 1, difference=True)
    assert chart is not None
    (line,) = chart.lines
    heights = [float(at.partition(",")[2]) for at in line.path[1:].split("L")]
    ticks = {tick.text: tick.at for tick in chart.y_ticks}
    assert chart.zero == ticks["0.0"]
    step = ticks["0.0"] - ticks["+1.0"]
    # In every slice ours has 1.5 dB more at the same rate, though at each setting it has 0.5.
    assert [(ticks["0.0"] - at) / step for at in heights] == pytest.approx([1.5] * 3, abs=0.01)
    values = slice_chart(curves, STYLES, "psnr", 1)
    assert values is not None
    assert [one.style.label for one in values.lines] == ["x264", "ours"]
    # Nothing is extrapolated beyond what ours reaches.
    assert slice_chart(curves, STYLES, "psnr", 0, difference=True) is None


def test_colours_follow_the_scale() -> None:
    scale = ColourScale(-2, 2, "PuOr_r", ((-2, "-2"), (0, "0"), (2, "2")))
    levels = decoded(map_uri(np.array([[-9, -2, 0, 2, 9, np.nan]]), scale))
    assert levels.tolist() == [[0, 0, LEVELS // 2, LEVELS - 1, LEVELS - 1, LEVELS]]
    assert scale.positions() == [(0, "-2"), (50, "0"), (100, "2")]
    assert offset_scale([np.array([-3.2, 1])]).low == -4
    assert ssim_scale([np.array([0.83, 0.99])]).low == 0.8
    assert offset_scale([np.zeros(0)]).high == 1
    assert (qp_scale([np.array([20, 34]), np.zeros(0)]).low, qp_scale([]).high) == (20, 1)
    assert error_scale([np.array([-7.2, 3.0])], "HU").ticks[2] == (8, "≥ +8\u202fHU")
    assert np.array_equal(decoded(png_uri(np.eye(3, dtype=np.uint8))), np.eye(3))


def test_ssim_maps_lie_on_the_slice() -> None:
    framed = shown_ssim_map(np.ones((20, 30), np.float32), (30, 40))
    assert framed.shape == (30, 40)
    assert np.isfinite(framed).sum() == 600
    assert np.isnan(framed[:5]).all()
    assert np.isnan(framed[-5:]).all()
    assert shown_ssim_map(np.ones((502, 503), np.float32), (512, 513)).shape == (256, 256)


def test_numbers_as_text() -> None:
    assert number(12345.67, 1) == "12\u202f345.7"
    assert percent(-0.04) == "0.0\u202f%"
    assert percent(3.25) in ("+3.2\u202f%", "+3.3\u202f%")
    assert percent(-3.26) == "\u22123.3\u202f%"
    assert [number(v) for v in (None, math.nan, math.inf, "x", True)] == [MISSING] * 5


@pytest.fixture
def loss() -> Iterator[QualityIndex]:
    """An index that is better the lower it is, in a unit of its own."""
    yield metrics.register(
        QualityIndex(
            "loss",
            "Loss",
            lambda pair: float(np.ptp(pair.source - pair.shown)),
            unit="HU",
            higher_is_better=False,
            decimals=1,
        )
    )
    del metrics.registry._INDICES["loss"]


def test_names_and_digits_are_those_of_the_registry(loss: QualityIndex, written: Written) -> None:
    for name in metrics.names():
        index = metrics.get(name)
        assert metric_name(name) == index.title
        assert (metric_unit(name), decimals(name)) == (index.unit, index.decimals)
    assert metric_axis("ssim") == "SSIM"
    assert metric_axis("psnr") == "PSNR (dB)"
    assert metric_axis(loss.name) == "Loss (HU), lower is better"
    report = with_delta(a_report("a"), 0, loss.name, CurveDelta(-5.0, None, 1.26, 1.0))
    text = text_of(written(report))
    assert "\u22125.0 % +1.3 HU" in text


def test_names_that_the_registry_does_not_know_are_shown() -> None:
    assert metric_name("ms_ssim_db") == metric_axis("ms_ssim_db") == "MS-SSIM in dB"
    assert (metric_unit("ms_ssim_db"), decimals("ms_ssim_db")) == ("dB", 2)
    assert metric_name("old_index") == metric_axis("old_index") == "old index"
    assert (metric_unit("old_index"), decimals("old_index")) == ("", 4)
    assert (metric_name("old_db"), metric_unit("old_db"), decimals("old_db")) == ("old db", "dB", 2)


def test_frames_for_the_screen() -> None:
    luma = np.array([[0, 3, 4, 1023]], np.uint16)
    shown = as_8_bit(luma, FrameFormat(1, 4, 10))
    assert shown.dtype == np.uint8
    assert shown.tolist() == [[0, 0, 1, 255]]
