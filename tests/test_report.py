from __future__ import annotations

import base64
import copy
import io
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ssimrdo import InputError
from ssimrdo import objective as rdo
from ssimrdo.compare.report import Viewer, make_viewer, page, write_html
from ssimrdo.compare.report.charts import linear_ticks, log_ticks, rd_chart, slice_chart
from ssimrdo.compare.report.viewer import spread
from ssimrdo.html.images import (
    LEVELS,
    ColourScale,
    map_uri,
    offset_scale,
    png_uri,
    shown_ssim_map,
    ssim_scale,
)
from ssimrdo.html.text import MISSING, number, percent
from ssimrdo.metrics import ssim

METRICS = ["ssim", "psnr"]
HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"


def a_point(crf, slices, kbps, quality):
    per_slice = {
        "ssim": [quality - 0.001 * (i % 3) for i in range(slices)],
        "psnr": [40 * quality + 0.1 * i for i in range(slices)],
    }
    return {
        "point": crf,
        "kbps": kbps,
        "bytes": round(kbps * 100),
        "seconds": 1.5,
        "quality": {k: {"mean": sum(v) / slices, "min": min(v)} for k, v in per_slice.items()},
        "per_slice": per_slice,
    }


def a_series(name, slices=5):
    rates = {18: (4000, 0.99), 23: (2000, 0.97), 28: (900, 0.94), 33: (400, 0.90)}
    factor = {"x264": 1.0, "ssim": 0.9, "slow": 0.97}
    delta = {"quality": 0.001, "overlap": 0.93, "reason": None, "warnings": []}
    return {
        "name": name,
        "slices": slices,
        "width": 96,
        "height": 64,
        "window": {"center": -600, "width": 1500},
        "error": None,
        "curves": {
            encoder: [a_point(crf, slices, share * k, q) for crf, (k, q) in rates.items()]
            for encoder, share in factor.items()
        },
        "bd": {
            encoder: {metric: {**delta, "rate_percent": rate} for metric in METRICS}
            for encoder, rate in (("ssim", -10.04), ("slow", 3.06))
        },
        "speed": {"ssim": 0.9, "slow": 0.5},
    }


def a_report(*names):
    summary = {
        "mean": -10.04,
        "median": -10.0,
        "worst": -2.5,
        "low": -12.0,
        "high": -8.0,
        "count": len(names),
        "excluded": 0,
    }
    return {
        "version": "0.1.0",
        "date": "2026-11-21T09:00:00+00:00",
        "command": "ssimrdo compare a b",
        "mode": "crf",
        "preset": "medium",
        "fps": "25",
        "versions": {"x264": "164", "pyav": None},
        "machine": {"cpu": "a CPU", "cores": 2},
        "metrics": METRICS,
        "encoders": [
            {"name": "slow", "role": "anchor", "label": "x264 slow", "settings": "", "points": []},
            {
                "name": "x264",
                "role": "reference",
                "label": "x264 medium",
                "settings": "crf=POINT",
                "points": [18, 23, 28, 33],
            },
            {"name": "ssim", "role": "test", "label": "ours", "settings": "s=0.7", "points": [18]},
        ],
        "series": [a_series(name) for name in names],
        "summary": {
            "ssim": {**{metric: dict(summary) for metric in METRICS}, "speed": 0.9},
            "slow": {**{metric: dict(summary, mean=3.06) for metric in METRICS}, "speed": 0.5},
        },
    }


def a_viewer(name, slices=5, rows=64, columns=96, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (slices, rows, columns), dtype=np.uint8)
    noisy = np.clip(source + rng.normal(0, 9, source.shape), 0, 255).astype(np.uint8)
    close = np.clip(source + rng.normal(0, 4, source.shape), 0, 255).astype(np.uint8)
    return make_viewer(
        name,
        source,
        iter(noisy),
        iter(close),
        reference_label="x264, CRF 23",
        ours_label="ours, CRF 23",
        reference_kbps=2000,
        ours_kbps=1980,
    )


def text_of(html):
    """Return what a reader sees, one space between words."""

    class Reader(HTMLParser):
        words: list[str]
        hidden = False

        def handle_starttag(self, tag, attrs):
            del attrs
            self.hidden = tag in ("script", "style")

        def handle_endtag(self, tag):
            del tag
            self.hidden = False

        def handle_data(self, data):
            if not self.hidden:
                self.words.append(data)

    reader = Reader()
    reader.words = []
    reader.feed(html)
    return " ".join(" ".join(reader.words).split())


@pytest.fixture
def written(tmp_path):
    def write(report, viewers=None):
        path = tmp_path / "report.html"
        write_html(report, path, viewers)
        return path.read_text(encoding="utf-8")

    return write


def test_headline_says_means_intervals_and_counts(written):
    text = text_of(written(a_report("a", "b", "c")))
    assert "ours: 10.0 % less bit rate at equal SSIM (mean of 3 series" in text
    assert "95 % interval \u221212.0 to \u22128.0 %" in text
    assert "Against x264 medium SSIM PSNR Speed Series ours test" in text
    assert "x264 slow anchor +3.1 % \u221212.0 to \u22128.0 %" in text
    assert "Speed: 0.90 × that of x264 medium" in text
    assert "fewer than ten series" in text


def test_one_series_has_no_interval_and_says_so(written):
    report = a_report("a")
    for metric in METRICS:
        report["summary"]["ssim"][metric].update(low=None, high=math.nan)
    text = text_of(written(report))
    assert "one series only" in text
    assert "one series says nothing of the spread" in text


def test_missing_values_are_dashes_with_their_reason(written):
    report = a_report("a", "b")
    report["series"][0]["bd"]["ssim"]["psnr"] = {
        "rate_percent": math.nan,
        "quality": None,
        "overlap": 0.0,
        "reason": "the curves do not overlap",
        "warnings": [],
    }
    report["series"][1]["bd"]["ssim"]["ssim"]["warnings"] = ["overlap is only 60 %"]
    report["summary"]["ssim"]["psnr"] = dict.fromkeys(
        ("mean", "median", "worst", "low", "high"), None
    ) | {"count": 0, "excluded": 2}
    html = written(report)
    text = text_of(html)
    assert "No value: the curves do not overlap." in text
    assert "overlap is only 60 %" in text
    assert "nan" not in re.sub(r"[A-Za-z+/=]{60,}", "", text).lower().split()
    assert MISSING in text


def test_a_failed_series_is_shown_with_its_reason(written):
    report = a_report("a")
    failed = {"name": "broken", "error": "no usable CT slice", "curves": {}, "bd": {}, "speed": {}}
    report["series"].append({**failed, "slices": None, "width": None, "height": None})
    text = text_of(written(report))
    assert "failed: no usable CT slice" in text
    assert "2 series (1 failed)" in text


@pytest.mark.parametrize("empty", [{}, {"series": [], "encoders": [], "metrics": []}])
def test_an_empty_report_still_makes_a_page(written, empty):
    assert "Nothing was compared" in text_of(written(empty))


def test_points_without_values_are_left_out(written):
    report = a_report("a")
    for point in report["series"][0]["curves"]["ssim"]:
        point.update(kbps=None, seconds=None)
        point["quality"] = {}
        point["per_slice"] = {"ssim": [None, 0.9, math.nan, 0.8, 0.7]}
    assert "x264 medium" in text_of(written(report))


def test_nothing_is_loaded_and_everything_is_escaped(written):
    report = a_report(HOSTILE)
    report.update(command=HOSTILE, version=HOSTILE, versions={HOSTILE: HOSTILE})
    report["machine"] = {HOSTILE: HOSTILE}
    for encoder in report["encoders"]:
        encoder.update(label=HOSTILE, settings=HOSTILE)
    report["series"][0]["bd"]["ssim"]["ssim"]["warnings"] = [HOSTILE]
    viewer = a_viewer(HOSTILE)
    viewer = Viewer(HOSTILE, viewer.slices, HOSTILE, HOSTILE, 1.0, None)
    html = written(report, {HOSTILE: viewer})
    assert HOSTILE not in html
    assert "<img src=x" not in html
    assert HOSTILE.split("&")[0] in text_of(html)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html


def test_viewer_data_is_json_and_images_are_lossless(written):
    viewer = a_viewer("a", slices=3)
    html = written(a_report("a"), {"a": viewer})
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    slices = json.loads(data)["slices"]
    assert [one["number"] for one in slices] == [1, 2, 3]
    for one, expected in zip(slices, viewer.slices, strict=True):
        for name in ("source", "reference", "ours"):
            assert np.array_equal(decoded(one[name]), getattr(expected, name))
        assert one["ssim"][0] == f"{expected.reference_ssim:.4f}"


def decoded(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_viewer_has_the_maps_of_the_model():
    rng = np.random.default_rng(1)
    source = rng.integers(0, 256, (30, 49, 75), dtype=np.uint8)
    read = 0

    def frames():
        nonlocal read
        for frame in source:
            read += 1
            # Encoders pad to even sides.
            yield np.pad(frame // 2, ((0, 1), (0, 1)))

    viewer = make_viewer("a", source, frames(), frames(), strength=0.5, max_slices=4)
    assert [one.index for one in viewer.slices] == list(spread(30, 4)) == [3, 11, 18, 26]
    assert read == 2 * 27
    one = viewer.slices[1]
    assert one.reference.shape == one.source.shape == (49, 75)
    assert one.ours_ssim == pytest.approx(ssim(source[11], source[11] // 2), abs=1e-6)
    assert one.reference_ssim_map.shape == (39, 65)
    np.testing.assert_allclose(one.qp_offset, rdo.quantizer_offsets(source[11], strength=0.5))
    np.testing.assert_allclose(one.qp_offset, 1.5 * np.log2(one.lagrange_ratio), atol=1e-5)


def test_10_bit_frames_are_shown_at_8_bit():
    source = np.random.default_rng(2).integers(0, 1024, (2, 32, 32), dtype=np.uint16)
    viewer = make_viewer("a", source, source, source, bit_depth=10)
    assert np.array_equal(viewer.slices[0].source, source[0] >> 2)
    assert viewer.slices[0].ours_ssim == pytest.approx(1)


def test_slices_are_left_out_where_images_would_take_too_much(written, monkeypatch):
    monkeypatch.setattr(page, "IMAGE_BUDGET_BYTES", 200_000)
    html = written(a_report("a"), {"a": a_viewer("a", slices=12)})
    assert len(html) < 400_000
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    assert 1 <= len(json.loads(data)["slices"]) < 12


def test_times_under_load_are_said_to_be(written):
    assert "Other work ran beside" not in text_of(written(a_report("a")))
    assert "Other work ran beside" in text_of(written({**a_report("a"), "timing": "loaded"}))
    assert "are of earlier runs" in text_of(written({**a_report("a"), "timing": "mixed"}))


def test_report_is_left_as_it_was(written):
    report = a_report("a", "b")
    before = copy.deepcopy(report)
    written(report)
    assert report == before


def test_missing_libraries_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=re.escape('pip install "ssimrdo[report]"')):
        write_html(a_report("a"), tmp_path / "report.html", None)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_former_file(monkeypatch, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("former")

    def full_disk(handle):
        del handle
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=re.escape("report.html")):
        write_html(a_report("a"), path, None)
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_ticks_are_round_and_inside():
    assert linear_ticks(0.881, 0.992) == pytest.approx([0.9, 0.92, 0.94, 0.96, 0.98])
    assert log_ticks(350, 4500) == [500, 700, 1000, 1500, 2000, 3000]
    assert log_ticks(1400, 2600) == [1500, 2000, 2500]
    for low, high in ((1e-3, 1e6), (1990, 2010), (5, 5.0001), (1, 9e9)):
        ticks = log_ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert all(low * 0.9999 <= tick <= high * 1.0001 for tick in ticks)


def test_charts_place_points():
    series = a_series("a")
    styles = {"x264": (0, "x264"), "ssim": (1, "ours"), "absent": (2, "absent")}
    chart = rd_chart(series["curves"], styles, "ssim")
    assert [line.label for line in chart.lines] == ["x264", "ours"]
    marks = chart.lines[0].marks
    assert [mark.x for mark in marks] == sorted(mark.x for mark in marks)
    assert [mark.y for mark in marks] == sorted((mark.y for mark in marks), reverse=True)
    assert "23: 2\u202f000 kbit/s" in marks[2].text
    assert rd_chart({}, styles, "ssim") is None
    assert slice_chart(series["curves"], styles, "ssim", 9) is None
    gapped = {"x264": [{"per_slice": {"ssim": [0.9, None, 0.8]}}]}
    assert slice_chart(gapped, styles, "ssim", 0).lines[0].path.count("M") == 2


def test_colours_follow_the_scale():
    scale = ColourScale(-2, 2, "PuOr_r", ((-2, "-2"), (0, "0"), (2, "2")))
    levels = decoded(map_uri(np.array([[-9, -2, 0, 2, 9, np.nan]]), scale))
    assert levels.tolist() == [[0, 0, LEVELS // 2, LEVELS - 1, LEVELS - 1, LEVELS]]
    assert scale.positions() == [(0, "-2"), (50, "0"), (100, "2")]
    assert offset_scale([np.array([-3.2, 1])]).low == -4
    assert ssim_scale([np.array([0.83, 0.99])]).low == 0.8
    assert np.array_equal(decoded(png_uri(np.eye(3, dtype=np.uint8))), np.eye(3))


def test_ssim_maps_lie_on_the_slice():
    framed = shown_ssim_map(np.ones((20, 30), np.float32), (30, 40))
    assert framed.shape == (30, 40)
    assert np.isfinite(framed).sum() == 600
    assert np.isnan(framed[:5]).all()
    assert np.isnan(framed[-5:]).all()
    assert shown_ssim_map(np.ones((502, 503), np.float32), (512, 513)).shape == (256, 256)


def test_numbers_as_text():
    assert number(12345.67, 1) == "12\u202f345.7"
    assert percent(-0.04) == "0.0\u202f%"
    assert percent(3.25) in ("+3.2\u202f%", "+3.3\u202f%")
    assert percent(-3.26) == "\u22123.3\u202f%"
    assert [number(v) for v in (None, math.nan, math.inf, "x", True)] == [MISSING] * 5
