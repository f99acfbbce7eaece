from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
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
from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.comparison.report import Viewer, images, make_viewer, write_html
from ssimrdo.comparison.report.charts import Style, linear_ticks, log_ticks, rd_chart, slice_chart
from ssimrdo.comparison.report.viewer import spread
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
from ssimrdo.html.images import (
    LEVELS,
    ColourScale,
    as_8_bit,
    map_uri,
    offset_scale,
    png_uri,
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
    return SeriesSpread(mean, -10.0, -2.5, -12.0, -8.0, count, 0)


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
            an_encoder("slow", "anchor", "x264 slow"),
            an_encoder("x264", "reference", "x264 medium", "crf=POINT", (18, 23, 28, 33)),
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


def a_viewer(
    name: str, slices: int = 5, rows: int = 64, columns: int = 96, seed: int = 0
) -> Viewer:
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (slices, rows, columns), dtype=np.uint8)
    noisy = np.clip(source + rng.normal(0, 9, source.shape), 0, 255).astype(np.uint8)
    close = np.clip(source + rng.normal(0, 4, source.shape), 0, 255).astype(np.uint8)
    return make_viewer(
        name,
        source,
        iter(noisy),
        iter(close),
        frame_format=FrameFormat(rows, columns),
        reference_label="x264, CRF 23",
        ours_label="ours, CRF 23",
        reference_kbps=2000,
        ours_kbps=1980,
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


def test_headline_says_means_intervals_and_counts(written: Written) -> None:
    text = text_of(written(a_report("a", "b", "c")))
    assert "ours: 10.0 % less bit rate at equal SSIM (mean of 3 series" in text
    assert "95 % interval \u221212.0 to \u22128.0 %" in text
    assert "Against x264 medium SSIM PSNR Speed Series ours test" in text
    assert "x264 slow anchor +3.1 % \u221212.0 to \u22128.0 %" in text
    assert "Speed: 0.90 × that of x264 medium" in text
    assert "fewer than ten series" in text


def test_one_series_has_no_interval_and_says_so(written: Written) -> None:
    report = a_report("a")
    for metric in METRICS:
        report = with_spread(report, metric, replace(a_spread(1), low=None, high=math.nan))
    text = text_of(written(report))
    assert "one series only" in text
    assert "one series says nothing of the spread" in text
    assert "fewer than ten series" not in text


def test_classes_have_tables_in_which_losses_are_marked(written: Written) -> None:
    report = with_classes(a_report("chest", "head"))
    page = written(report)
    text = text_of(page)
    assert "1 warning: an encoder gains in SSIM and loses in a class of tissue or slices" in text
    assert "chest: ours loses at edges (+6.6 %)" in text
    assert "At equal ours x264 slow PSNR in the body \u22123.0 % worst \u22122.5 % –" in text
    assert "PSNR at edges +6.6 % ⚠ worst \u22122.5 % –" in text
    assert 'title="lost although SSIM gains: chest"' in page
    assert "Every series, ours" in text
    assert "Every series, x264 slow" not in text
    assert "chest \u22123.0 % +0.12 dB +6.6 % ⚠ \u22120.31 dB –" in text
    # Where there is no warning of it, a loss is no mark.
    assert "head \u22123.0 % +0.12 dB +6.6 % \u22120.31 dB –" in text
    assert 'title="No value: the curves do not overlap."' in page
    assert "Errors of all measured points of chest, in HU" in text
    assert (
        "Encoder Point Body Edges Small dense structures Flat soft tissue Noise kept SSIM, body "
        "x264 medium 18 9.3 33; 197 9.3 33; 197 9.3 33; 197 9.3 33; 197 80 % 0.9100"
    ) in text
    assert 'title="bias +0.13, 1 000 samples"' in page.replace("\u202f", " ")


def test_reports_without_classes_have_no_such_section(written: Written) -> None:
    page = written(a_report("chest"))
    assert "By tissue" not in page
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
    assert "2 series left out, no BD-rate is defined: the curves do not overlap." in text
    assert "overlap is only 60 %" in text
    assert "nan" not in re.sub(r"[A-Za-z+/=]{60,}", "", text).lower().split()
    assert MISSING in text


def test_curves_and_summaries_may_be_missing(written: Written) -> None:
    report = with_series(a_report("a"), 0, curves={}, bd={}, speed={}, window=None)
    text = text_of(written(replace(report, summary={})))
    assert "ours: no BD-rate at equal SSIM is defined." in text
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
    # Two encoders have points in the two curves over rate.
    assert len(re.findall(r"<title>[^<]*, 23: ", html)) == 2 * len(METRICS)


def test_a_report_that_was_read_makes_the_same_page(written: Written) -> None:
    report = a_report("a", "b")
    again = ComparisonReport.from_json(json.loads(json.dumps(report.to_json())))
    assert written(again) == written(report)


def test_indices_that_are_not_known_any_more_are_shown(written: Written) -> None:
    record = json.loads(json.dumps(a_report("a").to_json()).replace('"psnr"', '"old_index"'))
    html = written(ComparisonReport.from_json(record))
    assert "Against x264 medium SSIM old index Speed" in text_of(html)
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
    viewer = Viewer(HOSTILE, viewer.slices, HOSTILE, HOSTILE, 1.0, None)
    html = written(report, {HOSTILE: viewer})
    assert HOSTILE not in html
    assert "<img src=x" not in html
    assert HOSTILE.split("&")[0] in text_of(html)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html


def test_viewer_data_is_json_and_images_are_lossless(written: Written) -> None:
    viewer = a_viewer("a", slices=3)
    html = written(a_report("a"), {"a": viewer})
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    slices = json.loads(data)["slices"]
    assert [one["number"] for one in slices] == [1, 2, 3]
    for one, expected in zip(slices, viewer.slices, strict=True):
        for name in ("source", "reference", "ours"):
            assert np.array_equal(decoded(one[name]), getattr(expected, name))
        assert one["ssim"][0] == f"{expected.reference_ssim:.4f}"


def decoded(uri: str) -> NDArray[Any]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_viewer_has_the_maps_of_the_model() -> None:
    rng = np.random.default_rng(1)
    source = rng.integers(0, 256, (30, 49, 75), dtype=np.uint8)
    shape = FrameFormat(49, 75)
    read = 0

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal read
        for frame in source:
            read += 1
            # Encoders pad to even sides.
            yield np.pad(frame // 2, ((0, 1), (0, 1)))

    viewer = make_viewer(
        "a", source, frames(), frames(), frame_format=shape, strength=0.5, max_slices=4
    )
    assert [one.index for one in viewer.slices] == list(spread(30, 4)) == [3, 11, 18, 26]
    assert read == 2 * 27
    one = viewer.slices[1]
    assert one.reference.shape == one.source.shape == (49, 75)
    assert one.ours_ssim == pytest.approx(ssim(source[11], source[11] // 2), abs=1e-6)
    assert one.ours_ssim == pytest.approx(one.ours_ssim_map.mean(dtype=np.float64), abs=1e-6)
    assert one.reference_ssim_map.shape == (39, 65)
    steering = Steering(objective.SSIM.lagrange_ratio(source[11], shape))
    expected = quantizer_offsets(source[11], steering, strength=0.5)
    np.testing.assert_array_equal(one.qp_offset, expected)
    np.testing.assert_allclose(one.qp_offset, 1.5 * np.log2(one.lagrange_ratio), atol=1e-5)


def test_viewer_shows_what_another_objective_makes() -> None:
    even = objective.Objective(
        "even", "Even", lambda _, f: np.full(f.grid, 4.0, np.float32), lambda _: 1.0
    )
    source = np.zeros((1, 32, 48), np.uint8)
    viewer = make_viewer(
        "a",
        source,
        source,
        source,
        frame_format=FrameFormat(32, 48),
        objective=even,
        strength=1,
    )
    np.testing.assert_allclose(viewer.slices[0].qp_offset, np.full((2, 3), -6), rtol=1e-6)


def test_10_bit_frames_are_shown_at_8_bit() -> None:
    source = np.random.default_rng(2).integers(0, 1024, (2, 32, 32), dtype=np.uint16)
    viewer = make_viewer("a", source, source, source ^ 512, frame_format=FrameFormat(32, 32, 10))
    one = viewer.slices[0]
    assert np.array_equal(one.source, source[0] >> 2)
    assert one.reference_ssim == pytest.approx(1)
    expected = ssim(source[0], source[0] ^ 512, data_range=1023)
    assert one.ours_ssim == pytest.approx(expected, abs=1e-6)


def test_slices_are_left_out_where_images_would_take_too_much(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "IMAGE_BUDGET_BYTES", 200_000)
    html = written(a_report("a"), {"a": a_viewer("a", slices=12)})
    assert len(html) < 400_000
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    assert 1 <= len(json.loads(data)["slices"]) < 12


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


def test_charts_place_points() -> None:
    series = a_series("a")
    names = {"x264": "x264", "ssim": "ours", "absent": "absent"}
    styles = {name: Style(i, label) for i, (name, label) in enumerate(names.items())}
    chart = rd_chart(series.curves, styles, "ssim")
    assert chart is not None
    assert [line.label for line in chart.lines] == ["x264", "ours"]
    assert [line.style for line in chart.lines] == [0, 1]
    marks = chart.lines[0].marks
    assert [mark.x for mark in marks] == sorted(mark.x for mark in marks)
    assert [mark.y for mark in marks] == sorted((mark.y for mark in marks), reverse=True)
    assert "23: 2\u202f000 kbit/s" in marks[2].text
    assert rd_chart({}, styles, "ssim") is None
    assert slice_chart(series.curves, styles, "ssim", 9) is None
    point = replace(series.curves["x264"][0], per_slice={"ssim": (0.9, math.nan, 0.8)})
    gapped: Mapping[str, Curve] = {"x264": (point,)}
    over_slices = slice_chart(gapped, styles, "ssim", 0)
    assert over_slices is not None
    assert over_slices.lines[0].path.count("M") == 2


def test_colours_follow_the_scale() -> None:
    scale = ColourScale(-2, 2, "PuOr_r", ((-2, "-2"), (0, "0"), (2, "2")))
    levels = decoded(map_uri(np.array([[-9, -2, 0, 2, 9, np.nan]]), scale))
    assert levels.tolist() == [[0, 0, LEVELS // 2, LEVELS - 1, LEVELS - 1, LEVELS]]
    assert scale.positions() == [(0, "-2"), (50, "0"), (100, "2")]
    assert offset_scale([np.array([-3.2, 1])]).low == -4
    assert ssim_scale([np.array([0.83, 0.99])]).low == 0.8
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
