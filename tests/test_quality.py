"""Errors by tissue in results and sidecars, the window, and what is warned of."""

from __future__ import annotations

import json
import logging
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from tissue_masks import masks
from video_files import ct_volume, frames_of, plane, windowed

from ssimrdo import Volume, Window, encode, encode_frames, metrics
from ssimrdo.codecs.base import QualityScale
from ssimrdo.dicom import load_hu, open_series
from ssimrdo.dicom.grey import apply_window, common_window, linear_ends
from ssimrdo.dicom.luma import choose_window, shares, window_source
from ssimrdo.encoding.search import Goal
from ssimrdo.metrics.tissue import Area, ErrorSummary, errors_by_tissue
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import (
    WARNING_TITLES,
    TissueSummary,
    grey_scale,
    quality_warnings,
)

LUNG_WINDOW = (-600.0, 1500.0)


@pytest.fixture(scope="module")
def volume(phantom_folder):
    """Return some slices of the phantom in HU."""
    series, _ = open_series(phantom_folder)
    return np.stack([load_hu(header) for header in series.slices[6:18:2]])


def shown_of(path):
    return [plane(frame).astype(int) for frame in frames_of(path)]


def errors_of(sources, shown, meanings, peak, step):
    """Return errors of all slices by area, in what a step of luma is worth, and the masks."""
    found = [masks(*one, peak) for one in zip(sources, meanings, strict=True)]
    return {
        area: np.concatenate(
            [step * (y - x)[mask[area]] for x, y, mask in zip(sources, shown, found, strict=True)]
        )
        for area in found[0]
    }, found


def check_errors(record, errors, span):
    for area, inside in errors.items():
        told = record["errors"][area]
        if inside.size == 0:
            assert told is None
            continue
        # Single precision may decide otherwise of a sample right at a limit.
        slack = 2e-3 if area in ("flat", "lung") else 1e-9
        assert told["samples"] == pytest.approx(inside.size, rel=slack)
        assert told["rmse"] == pytest.approx(np.sqrt(np.mean(inside**2.0)), rel=slack)
        assert told["bias"] == pytest.approx(inside.mean(), rel=slack, abs=slack * inside.std())
        p99 = np.quantile(np.abs(inside), 0.99, method="inverted_cdf")
        assert told["p99"] == pytest.approx(p99)
        assert told["max"] == pytest.approx(np.abs(inside).max())
        assert told["psnr"] == pytest.approx(20 * np.log10(span / told["rmse"]))


@pytest.mark.parametrize(
    ("window", "bit_depth", "inverted"),
    [(LUNG_WINDOW, 8, False), (LUNG_WINDOW, 8, True), ((40.0, 400.0), 10, False)],
)
def test_errors_are_those_of_the_decoded_file(volume, window, bit_depth, inverted, tmp_path):
    output, peak = tmp_path / "out.mp4", 2**bit_depth - 1
    result = encode(
        Volume(volume, inverted=inverted),
        output,
        window="/".join(f"{number:g}" for number in window),
        bit_depth=bit_depth,
        crf=30,
        preset="veryfast",
    )
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["tissue"] == json.loads(json.dumps(result.as_dict()))["tissue"]
    tissue = record["tissue"]
    center, width = window
    step = (width - 1) / peak
    sources = [windowed(hu, window, bit_depth=bit_depth) for hu in volume]
    meanings = [center - 0.5 - (width - 1) / 2 + step * x for x in sources]
    shown = [peak - y if inverted else y for y in shown_of(output)]
    errors, areas = errors_of(sources, shown, meanings, peak, step)
    assert (errors["lung"].size > 1000) == (window == LUNG_WINDOW)
    assert (tissue["unit"], tissue["span"]) == ("HU", pytest.approx(width - 1))
    check_errors(tissue, errors, width - 1)
    clipped = [np.isin(x[mask["body"]], (0, peak)) for x, mask in zip(sources, areas, strict=True)]
    assert tissue["clipped_share"] == pytest.approx(np.mean(np.concatenate(clipped)))
    for area in ("body", "unclipped"):
        values = [
            # SSIM is that of what is shown.
            ssim_inside(peak - x, peak - y, mask[area], peak)
            if inverted
            else ssim_inside(x, y, mask[area], peak)
            for x, y, mask in zip(sources, shown, areas, strict=True)
        ]
        over = tissue["ssim"][area]
        assert over["mean"] == pytest.approx(np.mean(values), abs=1e-5)
        assert over["min"] == over["p5"] == pytest.approx(min(values), abs=1e-5)
        assert over["worst_slice_number"] == 1 + np.argmin(values)
        if area == "body":
            rows = [one["ssim_body"] for one in record["slices"]]
            np.testing.assert_allclose(rows, values, atol=1e-5)
    largest = [
        np.abs(step * (y - x)[mask["body"]]).max()
        for x, y, mask in zip(sources, shown, areas, strict=True)
    ]
    np.testing.assert_allclose([one["max_error_body"] for one in record["slices"]], largest)


def ssim_inside(x, y, mask, peak):
    _, index = structural_similarity(
        x.astype(float),
        y.astype(float),
        data_range=peak,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return index[5:-5, 5:-5][mask[5:-5, 5:-5]].mean()


@pytest.mark.parametrize("kind", ["sigmoid", "luma"])
def test_errors_are_grey_levels_where_luma_is_not_linear_in_hu(kind, volume, tmp_path):
    output = tmp_path / "out.mp4"
    if kind == "luma":
        frames = [windowed(hu).astype(np.uint8) for hu in volume]
        result = encode_frames(frames, output, crf=30, preset="veryfast")
        assert (result.window_source, result.header_windows) == (None, {})
    else:
        window = Window(40, 400, "SIGMOID")
        result = encode(Volume(volume, window=window), output, crf=30, preset="veryfast")
        frames = [apply_window(hu, window) for hu in volume]
        assert result.window_source == "header"
    tissue = result.as_dict()["tissue"]
    assert (tissue["unit"], tissue["span"]) == ("grey levels", 255)
    sources = [frame.astype(int) for frame in frames]
    errors, _ = errors_of(sources, shown_of(output), [None] * len(frames), 255, 1)
    assert tissue["errors"]["lung"] is None
    check_errors(tissue, errors, 255)


@pytest.mark.parametrize(
    "settings", [{"bitrate_kbps": 400}, {"min_ssim": 0.9}, {"rdo": "off", "qp": 34}]
)
def test_errors_are_of_the_pass_that_is_kept(settings, volume, tmp_path):
    output = tmp_path / "out.mp4"
    result = encode(Volume(volume), output, window="40/400", preset="veryfast", **settings)
    sources = [windowed(hu) for hu in volume]
    steps = [-160 + 399 / 255 * x for x in sources]
    errors, _ = errors_of(sources, shown_of(output), steps, 255, 399 / 255)
    check_errors(result.as_dict()["tissue"], errors, 399)


@pytest.mark.parametrize("settings", [{"bitrate_kbps": 400}, {"min_ssim": 0.9}, {"crf": 30}])
def test_slices_are_looked_at_once(settings, volume, tmp_path, monkeypatch):
    """Neither first passes nor trials of a search are measured by tissue."""
    seen = []

    def counted(pair, **options):
        seen.append(pair.source)
        return errors_by_tissue(pair, **options)

    monkeypatch.setattr("ssimrdo.encoding.views.errors_by_tissue", counted)
    encode(Volume(volume), tmp_path / "out.mp4", window="40/400", preset="veryfast", **settings)
    assert len(seen) == len(volume)


IS_MISSING = "SSIMRDO_CT_DATA" not in os.environ


@pytest.mark.skipif(IS_MISSING, reason="SSIMRDO_CT_DATA is not set")
@pytest.mark.parametrize("name", ["chest-pe", "head-bone", "head-tilt"])
@pytest.mark.parametrize("window", [(40.0, 400.0), LUNG_WINDOW, (40.0, 80.0), (400.0, 1800.0)])
def test_errors_of_real_slices(name, window, tmp_path):
    series, _ = open_series(Path(os.environ["SSIMRDO_CT_DATA"], name))
    volume = np.stack([load_hu(header) for header in series.slices[2::12]])
    output = tmp_path / "out.mp4"
    center, width = window
    result = encode(
        Volume(volume), output, window=f"{center:g}/{width:g}", crf=28, preset="veryfast"
    )
    step = (width - 1) / 255
    sources = [windowed(hu, window) for hu in volume]
    meanings = [center - 0.5 - (width - 1) / 2 + step * x for x in sources]
    errors, _ = errors_of(sources, shown_of(output), meanings, 255, step)
    assert errors["body"].size > 0.05 * volume.size
    check_errors(result.as_dict()["tissue"], errors, width - 1)


def test_noise_kept_falls_with_the_rate(volume, tmp_path):
    kept = [
        encode(
            Volume(volume), tmp_path / f"{crf}.mp4", window="40/400", crf=crf, preset="veryfast"
        ).tissue.noise_kept
        for crf in (1, 20, 40)
    ]
    assert 1.05 > kept[0] > 0.9 > kept[1] > kept[2] > 0


def test_summaries_come_back_from_json(volume, tmp_path):
    tissue = encode(Volume(volume), tmp_path / "out.mp4", window="lung").tissue
    assert TissueSummary.from_dict(json.loads(json.dumps(tissue.as_dict()))) == tissue
    empty = encode_frames(np.zeros((3, 32, 32), np.uint8), tmp_path / "black.mp4").tissue
    assert set(empty.errors.values()) == set(empty.ssim.values()) == {None}
    assert TissueSummary.from_dict(json.loads(json.dumps(empty.as_dict()))) == empty


@given(st.lists(st.floats(0, 1), min_size=1, max_size=120), st.booleans())
def test_what_95_percent_keep_is_what_the_search_keeps(values, higher_is_better):
    index = metrics.get("ssim" if higher_is_better else "psnr")
    found = SliceSummary.of(values, index)
    goal = Goal(index, 0.5, "p5", QualityScale(0, 51, 0.1, 23, 1))
    assert found.p5 == goal.quality(np.array(values))
    assert sum(value < found.p5 for value in values) <= 0.05 * len(values)
    assert values[found.worst_number - 1] == found.worst == min(values)
    assert SliceSummary.of(values, index, [5 + n for n in range(len(values))]).worst_number == (
        found.worst_number + 4
    )
    assert SliceSummary.from_dict(found.with_places()) == found


def a_summary(*, clipped=0.0, ssim=1.0, largest=0.0, unit="HU"):
    errors = ErrorSummary(100, 1.0, 0.0, 2.0, largest)
    worst = SliceSummary(0.99, ssim, p5=0.95, worst_number=7)
    return TissueSummary(
        unit=unit,
        span=399.0 if unit == "HU" else 255.0,
        errors=dict.fromkeys(Area, errors),
        ssim={Area.BODY: worst, Area.UNCLIPPED: worst},
        noise_kept=1.0,
        clipped_share=clipped,
    )


@pytest.mark.parametrize(
    ("good", "bad", "code", "words"),
    [
        ({"clipped": 0.5}, {"clipped": 0.501}, "window_clips_body", "50 % of the body"),
        ({"ssim": 0.9}, {"ssim": 0.8999}, "low_ssim_in_body", "0.900 in slice 7"),
        ({"largest": 100.0}, {"largest": 100.5}, "large_error", "100 HU"),
    ],
)
def test_warnings_begin_beyond_their_limits(good, bad, code, words):
    window = Window(40, 400)
    assert quality_warnings(a_summary(**good), window) == ()
    (warning,) = quality_warnings(a_summary(**bad), window)
    assert warning.code == code
    assert words in warning.text
    assert "\n" not in warning.text


def test_large_errors_in_grey_levels_are_told_from_their_range():
    assert quality_warnings(a_summary(largest=63.75, unit="grey levels")) == ()
    (warning,) = quality_warnings(a_summary(largest=64.0, unit="grey levels"), Window(40, 400))
    assert "64 grey levels" in warning.text


def test_warnings_are_logged_recorded_and_few(volume, tmp_path, caplog):
    result = encode(Volume(volume), tmp_path / "a.mp4", window="80/20", crf=45, preset="veryfast")
    record = json.loads((tmp_path / "a.json").read_text())
    codes = [warning["code"] for warning in record["warnings"]]
    assert (
        codes == ["window_clips_body", "low_ssim_in_body", "large_error"] == [*WARNING_TITLES][:3]
    )
    texts = [warning["text"] for warning in record["warnings"]]
    told = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert told[-3:] == texts == [one.text for one in result.warnings]
    caplog.clear()
    good = encode(Volume(volume), tmp_path / "b.mp4", window="0/2000", crf=5, preset="veryfast")
    assert good.warnings == ()
    assert good.as_dict()["warnings"] == []
    assert not caplog.records


def test_slices_without_a_body_do_not_count_as_the_worst(volume, tmp_path):
    with_air = np.concatenate([np.full_like(volume[:1], -1000), volume[:2]])
    result = encode(Volume(with_air), tmp_path / "out.mp4", window="40/400", crf=30)
    assert [one["ssim_body"] is None for one in result.slices] == [True, False, False]
    assert result.slices[0]["max_error_body"] is None
    worst = min(one["ssim_body"] for one in result.slices[1:])
    assert result.tissue.ssim[Area.BODY].worst == worst
    assert result.slices[result.tissue.ssim[Area.BODY].worst_number - 1]["ssim_body"] == worst


def test_a_linear_window_says_what_is_black_and_white():
    hu = np.arange(-4000, 4001, dtype=np.float32)[None] / 2
    for window in (Window(40, 400), Window(-600, 1500), Window(40.3, 99.5, "LINEAR_EXACT")):
        low, high = linear_ends(window)
        scale = grey_scale(window, 255)
        luma = apply_window(hu, window).astype(float)
        inside = (hu > low) & (hu < high)
        np.testing.assert_allclose(
            scale.hu_at_black + scale.hu_per_level * luma[inside],
            hu[inside],
            atol=0.5001 * (high - low) / 255,
        )
        assert luma[hu <= low].max() == 0
        assert luma[hu >= high].min() == 255
        inverted = grey_scale(window, 255, inverted=True)
        assert inverted.luma(low) == pytest.approx(255)
        assert inverted.luma(high) == pytest.approx(0)
    assert linear_ends(Window(40, 400, "SIGMOID")) is linear_ends(Window(40, 1)) is None
    assert grey_scale(None, 255) is grey_scale(Window(40, 1), 255) is None


WIDE, NARROW = Window(35, 100), Window(35, 85)


@given(st.integers(4, 60), st.integers(-1, 1), st.randoms())
def test_no_single_file_decides_about_windows_that_are_nearly_as_common(half, more, rng):
    slices = [WIDE] * half + [NARROW] * (half + more)
    rng.shuffle(slices)
    assert common_window(Counter(slices)) == WIDE
    for left_out in range(len(slices)):
        rest = slices[:left_out] + slices[left_out + 1 :]
        assert common_window(Counter(rest)) == WIDE


@given(st.permutations([Window(40, 80), Window(35, 100), Window(50, 100), Window(30, 90)]))
def test_of_windows_as_common_the_wider_counts_then_the_lower(windows):
    assert common_window(Counter(windows)) == Window(35, 100)
    assert common_window(Counter([*windows, *[Window(40, 80)] * 2])) == Window(40, 80)
    assert common_window({}) is None


def test_windows_that_most_slices_have_stay():
    """A few scouts in a wide window do not decide about all."""
    assert common_window({NARROW: 20, WIDE: 8}) == NARROW
    assert common_window({NARROW: 20, WIDE: 10}) == NARROW


@pytest.mark.skipif(IS_MISSING, reason="SSIMRDO_CT_DATA is not set")
def test_no_single_file_of_a_real_series_decides_about_its_window():
    files = sorted(Path(os.environ["SSIMRDO_CT_DATA"], "head-tilt").iterdir())
    names = [path.name for path in files]
    series, _ = open_series(files[0].parent)
    assert sorted(series.header_windows.values()) == [14, 14]
    assert series.header_window == WIDE
    for name in random.Random(1).sample(names, 10):
        rest, _ = open_series(files[0].parent, files=[one for one in names if one != name])
        assert sorted(rest.header_windows.values()) == [13, 14]
        assert rest.header_window == WIDE


def test_differing_windows_are_said_with_how_many_have_each(caplog):
    counts = {NARROW: 13, WIDE: 14}
    assert choose_window(WIDE, counts=counts, name="head") == WIDE
    (record,) = caplog.records
    assert record.getMessage() == (
        "head: the windows in the header differ: 35/100 HU in 14 slices, 35/85 HU in 13 slices; "
        "using 35/100 HU for all"
    )
    many = {Window(number, 80): number for number in range(1, 8)}
    assert shares(many) == (
        "7/80 HU in 7 slices, 6/80 HU in 6 slices, 5/80 HU in 5 slices, 4/80 HU in 4 slices "
        "and 3 more"
    )
    assert shares({WIDE: 1}) == "35/100 HU in 1 slice"
    caplog.clear()
    assert choose_window(WIDE, NARROW, counts=counts) == NARROW
    assert choose_window(WIDE, counts={WIDE: 27}) == WIDE
    assert not caplog.records


def test_where_a_window_comes_from():
    assert window_source(WIDE, None) == "header"
    assert window_source(None, None) == "fallback"
    assert window_source(WIDE, Window(-600, 1500)) == "option"


def test_windows_of_some_slices_stand_in_the_result(tmp_path):
    write_series(tmp_path / "ct", ct_volume(3, 32, 32))
    result = encode(tmp_path / "ct", tmp_path / "out.mp4", window="lung")
    assert result.window_source == "preset"
    assert result.header_windows == {Window(40, 80): 3}
