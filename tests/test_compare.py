from __future__ import annotations

import csv
import importlib
import io
import json
import logging
import math
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
from dicom_files import write_series
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from toys.toy_codec import ToyCodec, ToySession
from video_files import SOFT_TISSUE, ct_volume, frames_of, packets_of, plane, windowed

from ssimrdo import EncodeSettings, InputError, SsimrdoError, Window, encode, metrics, objective
from ssimrdo.bd import bd_quality, bd_rate, ssim_db
from ssimrdo.codecs.base import point_of
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.encoder import x264_settings
from ssimrdo.comparison import Candidate, CompareSettings, ComparisonReport, compare, digests
from ssimrdo.comparison import cache as store
from ssimrdo.comparison.encoders import ANCHORS, make_contenders
from ssimrdo.comparison.encodes import in_parallel
from ssimrdo.comparison.output import rd_points_csv
from ssimrdo.comparison.results import RatePoint
from ssimrdo.comparison.run import unique_names
from ssimrdo.comparison.viewers import point_at, viewers_of
from ssimrdo.dicom.grey import FULL
from ssimrdo.errors import CancelledError
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import QualityIndex
from ssimrdo.objective import Objective
from ssimrdo.observer import Observer

ROWS, COLUMNS, SLICES = 71, 97, 7
SOFT = Window(*SOFT_TISSUE)
ALL = (
    *("x264", "x264-ssim", "x265:ultrafast", "x265-untuned:ultrafast", "svtav1:12"),
    *("svtav1-scm:12", "jpeg2000", "htj2k"),
)
STILLS = ("jpeg2000", "htj2k")
TESTS = ("ssim", "ssim,strength=0.3", "off")


def settings(**values):
    return CompareSettings(**{"preset": "ultrafast", "window": SOFT, "tests": ("ssim",), **values})


@dataclass(frozen=True)
class Reticent(ToyCodec):
    """Does not tell how far apart its keyframes are."""

    def describe(self, stream):
        return f"mpeg4 {point_of(stream.rate):g}"


def bytes_in(path):
    """Return what pictures and parameter sets take in a Matroska file, by the standards' words."""
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        name, extra = codec.codec.canonical_name, codec.extradata
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    if name == "jpeg2000":
        # HTJ2K is its part 15.
        return sum(map(len, packets))
    if name == "av1":
        units = [unit for packet in packets for unit in open_bitstream_units(packet)]
        kept = [unit for kind, unit in units if kind in (3, 4, 6, 7, 8)]
        sets = {unit for kind, unit in units if kind == 1}
        return sum(map(len, [*kept, *sets]))
    units = [unit for packet in packets for unit in with_length(packet)]
    if name == "h264":
        pictures = [unit for unit in units if unit[0] & 31 in range(1, 6)]
        sets = {unit for unit in [*units, *sets_of_avcc(extra)] if unit[0] & 31 in (7, 8)}
    else:
        assert name == "hevc"
        pictures = [unit for unit in units if unit[0] >> 1 < 32]
        sets = {unit for unit in units if unit[0] >> 1 in (32, 33, 34)}
        assert len(sets) == 3
    return sum(4 + len(unit) for unit in [*pictures, *sets])


def with_length(packet):
    """Split a packet of H.264 or HEVC, in which a length of four bytes precedes each unit."""
    while packet:
        end = 4 + int.from_bytes(packet[:4], "big")
        yield packet[4:end]
        packet = packet[end:]


def sets_of_avcc(extra):
    """Return the parameter sets of ISO/IEC 14496-15's AVCDecoderConfigurationRecord."""
    sets, at = [], 5
    for mask in (31, 255):
        count, at = extra[at] & mask, at + 1
        for _ in range(count):
            end = at + 2 + int.from_bytes(extra[at : at + 2], "big")
            sets.append(extra[at + 2 : end])
            at = end
    return sets


def open_bitstream_units(packet):
    """Return types and bytes of the units of AV1's section 5.3, all of which have a size."""
    units = []
    while packet:
        assert packet[0] & 2
        at = 1 + (packet[0] >> 2 & 1)
        size = shift = 0
        while True:
            size |= (packet[at] & 127) << shift
            shift += 7
            at += 1
            if packet[at - 1] < 128:
                break
        units.append((packet[0] >> 3 & 15, packet[: at + size]))
        packet = packet[at + size :]
    return units


@pytest.fixture(scope="module")
def volume():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chest"
    write_series(folder, volume)
    return folder


@pytest.fixture(scope="module")
def full(series):
    """All encoders on one series."""
    with compare([series], settings(anchors=ALL, tests=TESTS)) as comparison:
        yield comparison


def points_of(report):
    for one in report.series:
        for name, curve in one.curves.items():
            for point in curve:
                yield one.name, name, point


def test_every_encode_agrees_with_an_independent_look_at_its_file(full, volume):
    source = [windowed(hu) for hu in volume]
    seen = 0
    for name, encoder, point in points_of(full.report):
        path = full.encodes[name, encoder, point.point]
        assert len(packets_of(path)) == SLICES
        assert point.bytes == bytes_in(path), encoder
        assert point.kbps == pytest.approx(point.bytes * 8 * 25 / SLICES / 1000)
        frames = frames_of(path)
        shown = [plane(frame)[:ROWS, :COLUMNS].astype(int) for frame in frames]
        ssim = [
            structural_similarity(
                a, b, data_range=255, gaussian_weights=True, use_sample_covariance=False
            )
            for a, b in zip(source, shown, strict=True)
        ]
        psnr = [
            peak_signal_noise_ratio(a, b, data_range=255)
            for a, b in zip(source, shown, strict=True)
        ]
        assert point.per_slice["ssim"] == pytest.approx(ssim, abs=1e-4)
        assert point.per_slice["psnr"] == pytest.approx(psnr, abs=1e-3)
        for metric, values in point.per_slice.items():
            assert len(values) == SLICES
            assert point.quality[metric].mean == pytest.approx(np.mean(values))
            assert point.quality[metric].worst == min(values)
        assert point.seconds > 0
        if encoder not in STILLS:
            assert {frame.format.name for frame in frames} <= {"yuv420p", "yuvj420p"}
            assert all(frame.color_range == 2 for frame in frames)
            assert all((plane(frame, index) == 128).all() for frame in frames for index in (1, 2))
        seen += 1
    assert seen == 4 * (len(ALL) + len(TESTS))


def test_what_only_informs_counts_for_none(full):
    """x264 and x265 write their settings into the stream, and AV1 has delimiters."""
    for encoder, point, kind, least in (
        ("x264", 23, lambda unit: unit[0] & 31 == 6, 500),
        ("ssim", 23, lambda unit: unit[0] & 31 == 6, 500),
        ("x265:ultrafast", 23, lambda unit: unit[0] >> 1 == 39, 2000),
    ):
        path = full.encodes["chest", encoder, point]
        packets = [bytes(packet) for packet in packets_of(path)]
        informing = [u for packet in packets for u in with_length(packet) if kind(u)]
        assert sum(map(len, informing)) > least
        (counted,) = (
            p.bytes for _, name, p in points_of(full.report) if (name, p.point) == (encoder, point)
        )
        in_packets = sum(map(len, packets)) - sum(4 + len(unit) for unit in informing)
        # x264's parameter sets are the container's.
        assert 0 <= counted - in_packets < 60


def test_points_of_other_scales_at_constant_qp():
    points = {
        contender.name: contender.points
        for contender in make_contenders(
            settings(mode="qp", anchors=("x264", "svtav1", "jpeg2000", "htj2k"))
        )
    }
    assert points["x264"] == points["ssim"] == (22, 27, 32, 37)
    assert points["svtav1"] == (19, 30, 42, 53)
    assert points["jpeg2000"] == pytest.approx((46.3, 42.05, 37.8, 33.55))
    assert points["htj2k"] == pytest.approx(
        [2 ** (0.149 * p - 1) for p in points["x264"]], abs=1e-3
    )


def test_bd_is_that_of_the_curves(full):
    (one,) = full.report.series
    names = full.report.metrics
    assert names == ("ssim", "weighted_ssim", "ms_ssim", "psnr")
    assert full.report.deltas == (*names, "ssim_db")
    assert set(one.bd) == {*ALL[1:], *TESTS}
    for name, delta in product(one.bd, full.report.deltas):
        curves = []
        for encoder in ("x264", name):
            points = one.curves[encoder]
            metric = "ssim" if delta == "ssim_db" else delta
            qualities = np.array([point.quality[metric].mean for point in points])
            curves += [
                [point.kbps for point in points],
                ssim_db(qualities) if delta == "ssim_db" else qualities,
            ]
        bd = one.bd[name][delta]
        for value, function in ((bd.rate_percent, bd_rate), (bd.quality, bd_quality)):
            expected = function(*curves)
            if math.isnan(expected):
                assert value is None
                assert bd.reason
            else:
                assert value == pytest.approx(expected)
        assert 0 <= bd.overlap <= 1


def test_the_same_settings_have_no_delta(full):
    """``off`` is x264 by another name, which goes through the same code as our encodes."""
    (one,) = full.report.series
    for ours, reference in zip(one.curves["off"], one.curves["x264"], strict=True):
        assert (ours.bytes, ours.per_slice) == (reference.bytes, reference.per_slice)
    for bd in one.bd["off"].values():
        assert bd.rate_percent == pytest.approx(0, abs=1e-9)
        assert bd.quality == pytest.approx(0, abs=1e-12)
        assert bd.overlap == pytest.approx(1)
    # What would be the same encode is made once.
    assert full.report.encodes.made == 4 * (len(ALL) + len(TESTS) - 1)
    assert full.report.encodes.cached == 4


def test_every_encoder_writes_what_encode_writes(series, full, tmp_path):
    (one,) = full.report.series
    given = {
        "ssim": {"rdo": "ssim"},
        "ssim,strength=0.3": {"rdo": "ssim", "rdo_strength": 0.3},
        "off": {"rdo": "off", "preset": "ultrafast"},
        "x264-ssim": {"rdo": "off", "codec": X264(preset="ultrafast", tune="ssim")},
    }
    for name, options in given.items():
        path = tmp_path / f"{name}.mkv"
        written = encode(series, path, EncodeSettings.of(crf=23, window=SOFT, **options))
        point = one.curves[name][1]
        assert point.quality["ssim"].mean == pytest.approx(written.ssim.mean, abs=1e-9)
        assert point.bytes == bytes_in(path)


def test_the_curves_cover_about_the_same_qualities(full):
    """Points of other scales are mapped; else BD-rates would rest on nothing."""
    (one,) = full.report.series
    for name in one.bd:
        assert one.bd[name]["ssim"].overlap > 0.4, name
        kbps = [point.kbps for point in one.curves[name]]
        assert kbps == sorted(kbps, reverse=True)


def test_report_says_what_was_compared(full):
    report = full.report
    assert (report.mode, report.fps, report.preset) == ("crf", 25, "ultrafast")
    assert report.timing == "alone"
    assert {"x264", "x265", "svtav1", "pyav", "imagecodecs", "numpy"} <= set(report.versions)
    assert "unknown" not in report.versions.values()
    assert report.machine.cores == len(os.sched_getaffinity(0))
    encoders = {encoder.name: encoder for encoder in report.encoders}
    assert [encoder.role for encoder in report.encoders] == (
        ["reference"] + ["anchor"] * 7 + ["test"] * 3
    )
    assert "tune=ssim" in encoders["x264-ssim"].settings
    assert "crf=POINT" in encoders["x264"].settings
    assert "crf=POINT" in encoders["x265:ultrafast"].settings
    assert "tune=ssim" in encoders["x265:ultrafast"].settings
    assert "tune" not in encoders["x265-untuned:ultrafast"].settings
    for name in ("svtav1:12", "svtav1-scm:12"):
        assert "tune=2 enable-variance-boost=1 variance-boost-strength=1" in encoders[name].settings
    assert ["scm=1" in encoders[name].settings for name in ("svtav1:12", "svtav1-scm:12")] == [
        False,
        True,
    ]
    assert "POINT dB" in encoders["jpeg2000"].settings
    assert "step=POINT" in encoders["htj2k"].settings
    assert "rdo-strength=0.3" in encoders["ssim,strength=0.3"].settings
    assert [one.strength for one in report.encoders] == [None] * 8 + [0.72, 0.3, None]
    assert [one.objective for one in report.encoders] == [None] * 8 + ["ssim", "ssim", None]
    assert encoders["ssim,strength=0.3"].label == "ssimrdo ssim effort=default strength 0.3"
    assert encoders["off"].label == "ssimrdo off preset=ultrafast"
    assert encoders["svtav1:12"].points == (23, 34, 44, 55)
    assert encoders["jpeg2000"].points == (43.24, 39.64, 36.04, 32.44)
    (one,) = report.series
    assert (one.name, one.slices, one.width, one.height) == ("chest", SLICES, COLUMNS, ROWS)
    assert (one.window.center, one.window.width) == (40, 400)
    assert one.speed["x264"] == 1
    seconds = [[p.seconds for p in one.curves[name]] for name in ("x264", "svtav1:12")]
    assert one.speed["svtav1:12"] == pytest.approx(np.median(np.divide(*seconds)))
    summary = report.summary["ssim"].deltas["ssim"].rate_percent
    assert summary.mean == one.bd["ssim"]["ssim"].rate_percent
    assert summary.low is None


JSON_KEYS = {
    "": {
        *("version", "date", "command", "mode", "preset", "fps", "bit_depth", "versions"),
        *("machine", "timing", "encodes", "metrics", "encoders", "series", "summary"),
        *("classes", "warnings"),
    },
    "machine": {"cpu", "cores"},
    "encodes": {"made", "cached"},
    "encoders": {"name", "role", "label", "settings", "build", "strength", "points", "objective"},
    "series": {
        *("name", "slices", "width", "height", "window", "left_out", "error", "curves", "bd"),
        *("speed", "classes", "window_source"),
    },
    "curves": {
        *("point", "kbps", "bytes", "seconds", "quality", "per_slice", "tissue", "classes"),
    },
    "bd": {"rate_percent", "rate_kbps", "quality", "overlap", "reason", "warnings"},
    "summary": {
        *("mean", "median", "worst", "low", "high", "count", "excluded", "spread"),
        *("kbps", "quality"),
    },
}


def test_json_keeps_its_keys_and_comes_back(full):
    text = json.dumps(full.report.to_json(), allow_nan=False)
    record = json.loads(text)
    assert ComparisonReport.from_json(record) == full.report
    (one,) = record["series"]
    assert set(record) == JSON_KEYS[""]
    assert set(record["machine"]) == JSON_KEYS["machine"]
    assert set(record["encodes"]) == JSON_KEYS["encodes"]
    assert set(record["encoders"][0]) == JSON_KEYS["encoders"]
    assert set(one) == JSON_KEYS["series"]
    assert set(one["window"]) == {"center", "width"}
    assert set(one["curves"]["x264"][0]) == JSON_KEYS["curves"]
    assert set(one["curves"]["x264"][0]["quality"]["ssim"]) == {"mean", "min"}
    assert set(one["bd"]["ssim"]["ssim"]) == JSON_KEYS["bd"]
    assert set(record["summary"]["ssim"]) == {*full.report.deltas, "speed"}
    assert set(record["summary"]["ssim"]["ssim"]) == JSON_KEYS["summary"]
    numbers = JSON_KEYS["summary"] - {"kbps", "quality"}
    assert set(record["summary"]["ssim"]["ssim"]["kbps"]) == numbers
    assert (record["fps"], record["encoders"][0]["points"]) == ("25", [18, 23, 28, 33])
    assert record["encoders"][6]["points"] == [43.24, 39.64, 36.04, 32.44]
    for broken in ({}, {**record, "series": [{}]}, {**record, "fps": "x"}, {**record, "date": 3}):
        with pytest.raises(InputError, match="no report of a comparison"):
            ComparisonReport.from_json(broken)


def test_csv_has_one_line_per_encode(full):
    table = list(csv.DictReader(io.StringIO(rd_points_csv(full.report))))
    assert len(table) == 4 * (len(ALL) + len(TESTS))
    for row, (name, encoder, point) in zip(table, points_of(full.report), strict=True):
        assert (row["series"], row["encoder"]) == (name, encoder)
        assert (float(row["kbps"]), int(row["bytes"])) == (point.kbps, point.bytes)
        assert float(row["point"]) == point.point
        assert float(row["ssim_mean"]) == point.quality["ssim"].mean
        assert float(row["psnr_min"]) == point.quality["psnr"].worst
    assert {row["role"] for row in table} == {"reference", "anchor", "test"}


def test_frames_and_decoded_slices_can_be_had_again(full, volume):
    frames = full.frames("chest")
    assert (frames == [windowed(hu) for hu in volume]).all()
    assert isinstance(frames, np.memmap)
    assert full.frame_format("chest") == FrameFormat(ROWS, COLUMNS)
    path = full.encodes["chest", "svtav1:12", 34]
    decoded = list(full.decoded("chest", "svtav1:12", 34))
    for slice_, frame in zip(decoded, frames_of(path), strict=True):
        assert (slice_ == plane(frame)[:ROWS, :COLUMNS]).all()


def test_settings_say_how_many_threads_were_used(tmp_path):
    """An effort's threads go with the rows of the frames: 64 rows would have two."""
    for name, rows in (("low", 64), ("high", 208)):
        write_series(tmp_path / name, ct_volume(2, rows, 64))
    with compare(
        [tmp_path / "low", tmp_path / "high"], settings(tests=("ssim",), points=(20, 25, 30, 35))
    ) as found:
        used = []
        for name in ("low", "high"):
            first = bytes(packets_of(found.encodes[name, "ssim", 25])[0])
            recorded = x264_settings(first).split()
            used += [word for word in recorded if word.startswith("threads=")]
        words = found.report.encoders[1].settings.split()
    assert len(set(used)) == 2
    shown = "|".join(word.removeprefix("threads=") for word in used)
    assert f"threads={shown}" in words
    assert "crf=POINT" in words


def run(series, caplog, **options):
    """Compare and return the report with the encodes that were made, in their order."""
    names = ("cache_folder", "series_uid", "skip_bad", "executor")
    others = {name: options.pop(name) for name in names if name in options}
    caplog.clear()
    with (
        caplog.at_level(logging.INFO, logger="ssimrdo"),
        compare(series, settings(**options), **others) as comparison,
    ):
        report = comparison.report
    messages = [record.getMessage() for record in caplog.records]
    return report, [m.removeprefix("encoding ") for m in messages if m.startswith("encoding ")]


def without_times(report):
    return replace(report, date=None, encodes=None, command="")


def test_second_run_encodes_only_what_is_new(series, tmp_path, caplog):
    options = {"cache_folder": tmp_path / "cache", "slices": 3}
    first, made = run([series], caplog, **options)
    assert len(made) == first.encodes.made == 8
    second, made = run([series], caplog, **options)
    assert (made, second.encodes.made, second.encodes.cached) == ([], 0, 8)
    assert without_times(second) == without_times(first)
    _, made = run([series], caplog, **options, anchors=("x264", "jpeg2000"))
    assert made == [f"chest: jpeg2000 at {point}" for point in (43.24, 39.64, 36.04, 32.44)]
    _, made = run([series], caplog, **options, points=(18, 23, 28, 33, 38))
    assert sorted(made) == ["chest: ssim at 38", "chest: x264 at 38"]
    for changed, encodes in (
        ({"slices": 4}, 8),
        ({"window": Window(50, 400)}, 8),
        ({"fps": Fraction(30)}, 8),
        ({"bit_depth": 10}, 8),
        ({"threads": 1}, 8),
        # The anchor's; ours has an effort.
        ({"preset": "superfast"}, 4),
    ):
        _, made = run([series], caplog, **{**options, **changed})
        assert len(made) == encodes, changed


def test_times_of_several_runs_are_marked(series, tmp_path, caplog):
    options = {"cache_folder": tmp_path, "slices": 2}
    timings = [
        run([series], caplog, **options, anchors=anchors)[0].timing
        for anchors in (("x264",), ("x264",), ("x264", "x264-ssim"))
    ]
    assert timings == ["alone", "alone", "mixed"]


def test_a_damaged_cache_entry_is_made_again(series, tmp_path, caplog):
    options = {"cache_folder": tmp_path, "slices": 3}
    first, _ = run([series], caplog, **options)
    records = sorted(tmp_path.glob("*.json"))
    records[0].write_text(records[0].read_text()[:40])
    records[1].write_text("[]")
    records[2].with_suffix(".mkv").unlink()
    with records[3].with_suffix(".mkv").open("r+b") as stream:
        stream.truncate(100)
    second, made = run([series], caplog, **options)
    assert len(made) == 4
    assert rates_of(second) == rates_of(first)
    assert len(list(tmp_path.iterdir())) == 16


def test_what_was_used_longest_ago_leaves_the_cache(tmp_path):
    keys = [store.key_of(number) for number in range(4)]
    for age, key in enumerate(keys):
        for suffix, size in ((".mkv", 900), (".json", 100)):
            path = tmp_path / f"{key}{suffix}"
            path.write_bytes(bytes(size))
            os.utime(path, (1e9 - age, 1e9 - age))
    # Used again, the oldest becomes the youngest; what lost its other half has an age, too.
    (tmp_path / f"{keys[3]}.json").touch()
    (tmp_path / f"{keys[1]}.json").unlink()
    (tmp_path / "mine.mkv").write_bytes(bytes(5000))
    other = tmp_path / ".chest.mp4.0123456789abcdef.partial"
    old = [tmp_path / f".{name}.{'0f' * 8}.partial" for name in ("encode.mkv", keys[0][:40])]
    with store.working_file(tmp_path) as young:
        for path in (young, other, *old):
            path.write_bytes(b"")
        for path in (other, *old):
            os.utime(path, (1e9, 1e9))
        store.trim(tmp_path, 2900)
        assert {path.name for path in tmp_path.iterdir()} == {
            "mine.mkv",
            young.name,
            other.name,
            *(f"{keys[index]}{suffix}" for index in (0, 3) for suffix in (".mkv", ".json")),
            f"{keys[1]}.mkv",
        }
    store.trim(tmp_path, 1999)
    assert {path.stem for path in tmp_path.glob("[!.]*")} == {"mine", keys[3]}


def test_a_comparison_keeps_its_own_encodes_until_it_ends(series, tmp_path):
    options = {"cache_folder": tmp_path, "cache_limit_bytes": 0}
    with compare([series], settings(slices=2), **options) as comparison:
        assert all(path.exists() for path in comparison.encodes.values())
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_new_is_measured_without_encoding(series, tmp_path, caplog):
    options = {"cache_folder": tmp_path, "slices": 3}
    few, made = run([series], caplog, **options, metrics=("psnr",))
    assert (len(made), few.metrics) == (8, ("psnr",))
    more, made = run([series], caplog, **options)
    assert made == []
    fresh, _ = run([series], caplog, slices=3)
    assert values_of(more) == values_of(fresh)
    again, made = run([series], caplog, **options, metrics=("ms_ssim", "psnr"))
    assert (made, again.metrics) == ([], ("ms_ssim", "psnr"))
    assert again.deltas == ("ms_ssim", "psnr")


def values_of(report):
    return [(encoder, point.per_slice) for _, encoder, point in points_of(report)]


def test_the_key_covers_all_code_that_makes_streams():
    """Of what an encode imports, only what does not touch samples or packets may be left out."""
    neutral = {
        *("__init__", "errors", "extras", "observer", "machine", "files", "executors", "text"),
        # What results look like in notebooks.
        *("notebook", "html"),
        # A clip's digest is that of the samples that come of these.
        *("dicom", "record", "volumes"),
    }
    code = (
        "import sys, ssimrdo.encoding.passes, ssimrdo.codecs.x264.codec, ssimrdo.codecs.lavc_x265, "
        "ssimrdo.codecs.svtav1, ssimrdo.codecs.jpeg2000, ssimrdo.objective, "
        "ssimrdo.comparison.clip, ssimrdo.comparison.payload\n"
        "print(*(n for n in sys.modules if n.startswith('ssimrdo.')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    covered = {name.removesuffix(".py").replace("/", ".") for name in digests.ENCODED_BY}
    for module in loaded:
        inside = module.removeprefix("ssimrdo.")
        parts = [inside, inside.partition(".")[0]]
        assert inside == "comparison" or {*parts} & (covered | neutral) or inside in LEFT_OUT, (
            module
        )
    assert len(loaded) > 30


LEFT_OUT = {
    # These are loaded by the package of the comparison itself.
    *(f"comparison.{name}" for name in ("run", "build", "cache", "digests", "encoders")),
    *(f"comparison.{name}" for name in ("measure", "points", "results", "series", "settings")),
    *("comparison.classes", "comparison.deltas"),
    *("bd", "bd.deltas", "bd.statistics"),
}


def test_a_digest_changes_with_the_code(tmp_path, monkeypatch):
    package = tmp_path / "ssimrdo"
    (package / "codecs/x264").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    module = package / "codecs/x264/steering.py"
    monkeypatch.setattr(digests.ssimrdo, "__file__", str(package / "__init__.py"))
    seen = set()
    for text in ("a = 1", "a = 2"):
        module.write_text(text)
        digests.code_digest.cache_clear()
        seen.add(digests.code_digest("codecs"))
    module.rename(package / "codecs/x264/other.py")
    digests.code_digest.cache_clear()
    seen.add(digests.code_digest("codecs"))
    digests.code_digest.cache_clear()
    assert len(seen) == 3


def test_a_digest_changes_with_code_from_elsewhere(tmp_path, monkeypatch):
    """Of a codec, of the class it is derived from, of an objective and of an index."""
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (
        "from ssimrdo.codecs.base import UnsteeredCodec\n"
        "class {0}(UnsteeredCodec if '{0}' == 'Base' else Base): pass\n"
        "def f(*values): pass\n"
    )
    (tmp_path / "toy_base.py").write_text(text.format("Base"))
    (tmp_path / "toy_codec.py").write_text("from toy_base import Base\n" + text.format("Codec"))
    toy_base, toy_codec = (importlib.import_module(n) for n in ("toy_base", "toy_codec"))
    codec = toy_codec.Codec()
    aim = Objective("toy", "Toy", toy_base.f, toy_base.f)
    index = QualityIndex("toy", "Toy", toy_base.f)

    def digests_now():
        digests._module_digest.cache_clear()
        return (
            digests.encoder_digest(codec, None),
            digests.encoder_digest(X264(), aim),
            digests.encoder_digest(X264(), objective.SSIM),
            digests.index_digest(index),
            digests.index_digest(metrics.SSIM),
        )

    before = digests_now()
    with (tmp_path / "toy_codec.py").open("a") as stream:
        stream.write("# changed\n")
    changed = [a != b for a, b in zip(before, digests_now(), strict=True)]
    assert changed == [True, False, False, False, False]
    before = digests_now()
    with (tmp_path / "toy_base.py").open("a") as stream:
        stream.write("# changed\n")
    changed = [a != b for a, b in zip(before, digests_now(), strict=True)]
    assert changed == [True, True, False, True, False]


def test_measuring_does_not_keep_the_next_encode_waiting():
    last_begun = threading.Event()

    def first(item):
        if item == 5:
            last_begun.set()
        return item

    def then(item):
        return item, last_begun.wait(timeout=60)

    done = in_parallel(first, then, range(6), 2, threading.Event())
    assert sorted(done) == [(item, True) for item in range(6)]


def test_a_step_that_fails_ends_the_others():
    stop = threading.Event()

    def first(item):
        if item == 0:
            raise ValueError("broken")
        assert stop.wait(timeout=60)

    with pytest.raises(ValueError, match="broken"):
        in_parallel(first, lambda item: item, range(3), 2, stop)


def test_damaged_slices_can_be_left_out(volume, tmp_path, caplog):
    folder = tmp_path / "ct"
    paths = write_series(folder, volume[:4])
    paths[1].write_bytes(paths[1].read_bytes()[:-1000])
    paths[2].write_bytes(b"")
    with pytest.raises(InputError), compare([folder], settings()):
        pass
    report, _ = run([folder], caplog, slices=2, skip_bad=True)
    (one,) = report.series
    assert (one.slices, one.left_out) == (2, 2)
    intact = tmp_path / "intact"
    write_series(intact, volume[[0, 3]])
    expected, _ = run([intact], caplog)
    assert one.curves != {}
    assert rates_of(report) == rates_of(expected)


def rates_of(report):
    return [(encoder, point.bytes) for _, encoder, point in points_of(report)]


def test_one_of_several_series_of_a_folder(volume, tmp_path, caplog):
    for name, slices in (("1", 3), ("2", 2)):
        write_series(tmp_path / "ct" / name, volume[:slices], SeriesInstanceUID=f"1.2.3.{name}")
    report, _ = run([tmp_path / "ct"], caplog, series_uid="1.2.3.2")
    assert report.series[0].slices == 2
    assert "1.2.3." not in json.dumps(report.to_json())
    with pytest.raises(InputError, match="goes with one folder"):
        run([tmp_path / "ct"] * 2, caplog, series_uid="1.2.3.2")


def test_order_of_encoders_rotates(series, caplog):
    _, made = run([series], caplog, anchors=("x264", "x264-ssim"), slices=2)
    points = [made[index : index + 3] for index in range(0, 12, 3)]
    first = [point[0].split(": ")[1] for point in points]
    assert first == ["x264 at 18", "x264-ssim at 23", "ssim at 28", "x264 at 33"]
    for point in points:
        assert len({name.split(" at ")[0] for name in point}) == 3


def test_several_jobs_give_the_same_but_mark_the_times(series, caplog):
    one = {"anchors": ("x264", "x265:ultrafast"), "slices": SLICES}
    alone, _ = run([series], caplog, **one)
    loaded, made = run([series], caplog, **one, jobs=3)
    assert len(made) == 12
    assert (alone.timing, loaded.timing) == ("alone", "loaded")
    assert rates_of(loaded) == rates_of(alone)
    assert values_of(loaded) == values_of(alone)


@pytest.mark.parametrize(
    ("mode", "points"), [("qp", ()), ("bitrate", (300, 200, 120, 70)), ("crf", (20, 25, 30, 35))]
)
def test_modes(series, mode, points, caplog):
    anchors = ("x264", "x265:ultrafast", "svtav1:12", "jpeg2000")
    report, _ = run([series], caplog, mode=mode, points=points, anchors=anchors)
    (one,) = report.series
    for name, curve in one.curves.items():
        kbps = [point.kbps for point in curve]
        ssim = [point.quality["ssim"].mean for point in curve]
        assert kbps == sorted(kbps, reverse=True), name
        assert ssim == sorted(ssim, reverse=True), name
    texts = [encoder.settings for encoder in report.encoders]
    if mode == "bitrate":
        assert [p.kbps for p in one.curves["jpeg2000"]] == pytest.approx(points, rel=0.1)
        assert ["2 passes" in text for text in texts] == [True, True, False, False, True]
        assert all("=POINT" in text or "POINT kbit/s" in text for text in texts)
    if mode == "qp":
        assert report.encoders[0].points == (22, 27, 32, 37)
        assert "qp=POINT" in texts[0]
        assert "rc=0 qp=POINT" in texts[2]
        # With quantizer offsets a constant QP is asked for as a CRF.
        assert "crf=POINT" in texts[4]


def test_ten_bits(series, volume, tmp_path):
    anchors = ("x264", "x265:ultrafast", "svtav1:12", "jpeg2000")
    options = settings(bit_depth=10, anchors=anchors, slices=3)
    with compare([series], options, cache_folder=tmp_path) as comparison:
        source = np.array([windowed(hu, bit_depth=10) for hu in volume[:3]])
        assert (comparison.frames("chest") == source).all()
        for name, encoder, point in points_of(comparison.report):
            shown = np.array(list(comparison.decoded(name, encoder, point.point)), int)
            psnr = [
                peak_signal_noise_ratio(a, b, data_range=1023)
                for a, b in zip(source, shown, strict=True)
            ]
            assert point.per_slice["psnr"] == pytest.approx(psnr, abs=1e-3)
            assert min(psnr) > 20
        (viewer,) = viewers_of(comparison).values()
        assert len(viewer.slices) == 3
        assert all((s.source == source[s.index] >> 2).all() for s in viewer.slices)
        assert viewer.slices[0].source.dtype == np.uint8


@pytest.mark.parametrize(("mode", "tolerance"), [("crf", 0.04), ("qp", 0.12)])
def test_the_viewer_shows_encodes_of_one_rate(series, mode, tolerance):
    # At the least presets x264's rates lie beyond our curve.
    options = settings(mode=mode, preset="medium", tests=("ssim,strength=1.5",))
    with compare([series], options) as comparison:
        (viewer,) = viewers_of(comparison).values()
        first = comparison.report.series[0].curves["x264"][1]
    theirs, ours, matched = viewer.kbps
    assert theirs == first.kbps
    assert ours == pytest.approx(theirs, rel=tolerance)
    assert viewer.ssim[0] == pytest.approx(first.quality["ssim"].mean, abs=1e-5)
    assert viewer.ssim[2] == pytest.approx(viewer.ssim[0], abs=0.1 * tolerance)
    assert matched != ours
    assert len(viewer.slices) == SLICES
    # With quantizer offsets a constant QP is asked for as a CRF.
    named = [label.rpartition(", ")[2].split()[0] for label in viewer.labels]
    assert named == [mode.upper(), "CRF", "CRF"]
    for one in viewer.slices:
        for shown in one.encodes:
            assert shown.macroblocks.qp.shape == one.qp_offset.shape


def test_the_viewer_does_without_quantizers_where_a_stream_has_none(series):
    with compare([series], settings(anchors=("jpeg2000",), slices=4)) as comparison:
        (viewer,) = viewers_of(comparison).values()
    for one in viewer.slices:
        assert [shown.macroblocks is None for shown in one.encodes] == [True, False, False]


def test_the_viewer_knows_the_hu_of_its_grey_levels(series, volume):
    with compare([series], settings(window=Window(-600, 1500), slices=4)) as comparison:
        (viewer,) = viewers_of(comparison).values()
    # PS3.3 C.11.2.1.2: black is 0.5 below the centre less half the width, less 1.
    assert viewer.hu[0] == pytest.approx(-600 - 0.5 - 1499 / 2)
    assert viewer.hu[255] == pytest.approx(-600 - 0.5 + 1499 / 2)
    with compare([series], settings(window=FULL, bit_depth=10, slices=4)) as comparison:
        (viewer,) = viewers_of(comparison).values()
    shown = np.array(viewer.hu)[[one.source for one in viewer.slices]]
    # A level of 256 is up to a dozen HU wide along the curve of all HU.
    assert np.abs(shown - volume[:4]).max() < 16


def test_point_of_a_rate():
    def curve(*pairs):
        return tuple(RatePoint(point, kbps, 1, 1.0, {}, {}) for kbps, point in pairs)

    def at(known, kbps, mode):
        rates = [math.log(point.kbps) for point in known]
        return point_at(known, rates, math.log(kbps), mode=mode)

    known = curve((800, 20), (400, 25), (100, 35))
    assert at(known, 400, "crf") == 25
    assert at(known, 200, "crf") == pytest.approx(30)
    assert at(known, 400 * 2**0.5, "crf") == pytest.approx(22.5)
    assert at(known, 400 * 2**0.45, "qp") == 23
    assert at(known, 1600, "crf") == pytest.approx(15)
    assert at(known, 25, "qp") == 45
    assert at(known, 1e9, "crf") == 1
    assert at(curve((5, 18), (5, 23)), 7, "crf") in (18, 23)


def test_several_series_are_summarized(series, tmp_path, caplog):
    other = tmp_path / "a" / "chest"
    write_series(other, ct_volume(4, 48, 64, seed=1))
    ours = "ssim,preset=ultrafast"
    report, _ = run([series, other], caplog, slices=4, metrics=("ssim", "psnr"), tests=(ours,))
    assert report.metrics == ("ssim", "psnr")
    assert [one.name for one in report.series] == ["chest", "chest-2"]
    deltas = [one.bd[ours]["psnr"] for one in report.series]
    summary = report.summary[ours].deltas["psnr"]
    rates = [delta.rate_percent for delta in deltas]
    assert summary.rate_percent.mean == pytest.approx(np.mean(rates))
    assert summary.rate_percent.worst == max(rates)
    assert (summary.rate_percent.count, summary.rate_percent.excluded) == (2, 0)
    ends = (summary.rate_percent.low, summary.rate_percent.high)
    assert (summary.rate_percent.spread, *ends) == ("range", min(rates), max(rates))
    assert summary.kbps.mean == pytest.approx(np.mean([delta.rate_kbps for delta in deltas]))
    assert summary.quality.worst == min(delta.quality for delta in deltas)
    speeds = [one.speed[ours] for one in report.series]
    assert report.summary[ours].speed == pytest.approx(math.sqrt(math.prod(speeds)))


def test_an_undefined_delta_is_null_with_its_reason(tmp_path, caplog):
    """Flat slices: every point costs and shows the same."""
    write_series(tmp_path / "flat", np.zeros((3, 32, 32), np.int16))
    report, _ = run([tmp_path / "flat"], caplog)
    bd = report.series[0].bd["ssim"]["ssim"]
    assert bd.rate_percent is None
    assert "BD-rate undefined" in bd.reason
    assert report.summary["ssim"].deltas["ssim"].rate_percent.mean is None
    assert report.summary["ssim"].deltas["ssim"].rate_percent.excluded == 1
    # For those who asked for more; too much for a terminal.
    told = [r for r in caplog.records if "BD-rate undefined" in r.getMessage()]
    assert {(r.levelno, r.name) for r in told} == {(logging.INFO, "ssimrdo.comparison.build")}


def test_one_bad_series_does_not_stop_the_rest(series, tmp_path, caplog):
    bad = tmp_path / "Mustermann"
    bad.mkdir()
    report, _ = run([bad, series], caplog, slices=2)
    first, second = report.series
    assert "no files here" in first.error
    assert str(tmp_path) not in first.error
    assert (first.curves, second.error) == ({}, None)
    assert report.compared == (second,)
    assert report.summary["ssim"].deltas["ssim"].rate_percent.count == 1


def test_errors_in_the_report_name_no_files_and_no_uids(series, volume, tmp_path, caplog):
    two = tmp_path / "two"
    write_series(two / "1", volume[:2], SeriesInstanceUID="1.2.3.4")
    write_series(two / "2", volume[:2], SeriesInstanceUID="1.2.3.5")
    cut = tmp_path / "cut"
    write_series(cut, volume[:2])
    victim = sorted(cut.iterdir())[0].rename(cut / "Mustermann.dcm")
    victim.write_bytes(victim.read_bytes()[:-2000])
    report, _ = run([two, cut, series], caplog, slices=2)
    errors = [one.error for one in report.series]
    assert errors[2] is None
    assert all(errors[:2])
    text = json.dumps(report.to_json())
    assert "Mustermann" not in text
    assert "1.2.3." not in text
    assert str(tmp_path) not in text


def test_an_encoder_that_fails_on_one_series(series, tmp_path, caplog):
    write_series(tmp_path / "tiny", ct_volume(2, 32, 48))
    paths = [tmp_path / "tiny", series]
    report, _ = run(paths, caplog, anchors=("x264", "x265:ultrafast"), slices=2)
    assert [one.error for one in report.series] == [
        "x265:ultrafast: slices of 48x32 cannot be encoded with x265: sides are 64 to 8192",
        None,
    ]


@pytest.mark.parametrize("slices", [1, 2])
def test_very_short_series(series, slices, caplog):
    anchors = ("x264", "x265:ultrafast", "svtav1:12", "jpeg2000")
    report, made = run([series], caplog, anchors=anchors, slices=slices)
    assert len(made) == 20
    assert report.series[0].slices == slices


def test_a_single_bad_series_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"), compare([tmp_path / "no"], settings()):
        pass
    with (
        pytest.raises(InputError, match=r"no series can be compared: no: .*; gone: "),
        compare([tmp_path / "no", tmp_path / "gone"], settings()),
    ):
        pass


def test_nothing_stays_behind(series, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache = tmp_path / "cache"

    def stop(event):
        if event.done == 3:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        compare([series], settings(), cache_folder=cache, observer=Observer(stop)),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    # What was finished can be used by the next run.
    assert len(list(cache.iterdir())) == 6
    with compare([series], settings(slices=2)):
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_observer_is_told_every_encode(series):
    events = []
    with compare([series], settings(slices=2), observer=Observer(events.append)) as found:
        assert found.report.encodes.made == 8
    assert [(event.done, event.total) for event in events] == [
        (done, 8) for begun in range(8) for done in (begun, begun + 1)
    ]
    assert {event.what for event in events} == {
        f"chest: {name} at {point}" for name in ("x264", "ssim") for point in (18, 23, 28, 33)
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_comparison_can_be_cancelled(series, tmp_path, jobs):
    observer = Observer()

    def tell(event):
        if event.done == 2:
            observer.cancel.set()

    observer = Observer(tell, observer.cancel)
    # Of several series, a cancelled one is no failed one.
    with (
        pytest.raises(CancelledError),
        compare(
            [series, series],
            settings(slices=2, jobs=jobs),
            cache_folder=tmp_path,
            observer=observer,
        ),
    ):
        pass
    assert 4 <= len(list(tmp_path.iterdir())) <= 4 + 2 * jobs
    assert not list(tmp_path.glob(".*"))


def test_cancelling_ends_an_encode(tmp_path):
    """The slices that are left are not encoded."""
    write_series(tmp_path / "ct", ct_volume(20, 64, 64))
    observer, seen = Observer(), []

    class Watched(ToySession):
        def encode(self, luma, steering, index):
            seen.append(index)
            if index == 10:
                observer.cancel.set()
            yield from super().encode(luma, steering, index)

    class Watching(ToyCodec):
        def open(self, stream):
            return Watched(self, stream)

    with (
        pytest.raises(CancelledError),
        compare([tmp_path / "ct"], settings(anchors=(Watching(),)), observer=observer),
    ):
        pass
    # A few slices are encoded for practice.
    assert seen == [*range(4), *range(11)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": (18, 23, 28)}, "points: 3 given, but a curve needs at least 4"),
        ({"points": (18, 23, 28, 60)}, "points: 60 is out of range: use 1 to 51"),
        ({"points": (18, 23, 28, math.nan)}, "out of range"),
        ({"points": (18, 23, 28, 23)}, "23 is given twice"),
        ({"mode": "qp", "points": (18, 23, 28, 30.5)}, "whole number"),
        ({"mode": "bitrate"}, "mode: bitrate has no points .* give four or more points in kbit/s"),
        ({"mode": "cq"}, "use one of crf, qp, bitrate"),
        ({"anchors": ()}, "at least one"),
        ({"anchors": ("x264", "x264")}, "x264 is given twice"),
        ({"tests": ("ssim", "ssim")}, "ssim is given twice"),
        ({"tests": (3,)}, "tests: 3 is neither a name nor a codec"),
        ({"anchors": (Candidate("x264"),)}, "anchors: .* is neither a name nor a codec"),
        ({"metrics": ("ssim", "vmaf")}, "use one of ssim, weighted_ssim, ms_ssim, "),
        ({"metrics": ("ms-ssim", "ms_ssim")}, "ms_ssim is given twice"),
        ({"metrics": ()}, "at least one"),
        ({"slices": 0}, "1 or more"),
        ({"jobs": 0}, "1 to 64"),
        ({"preset": "quick"}, "preset: 'quick' is unknown"),
        ({"fps": Fraction(0)}, "fps: 0 is out of range"),
        ({"threads": 129}, "threads: 129 is out of range"),
        ({"bit_depth": 9}, "use one of 8, 10"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(InputError, match=message):
        settings(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"anchors": ("x266",)}, f"use one of {', '.join(ANCHORS)}"),
        ({"anchors": ("x264", "x264:ultrafast")}, "same encoder"),
        ({"anchors": ("x265:6",)}, "x265:6: preset: '6' is unknown"),
        ({"anchors": ("svtav1:slow",)}, "'slow' is unknown: use one of 0, 1"),
        ({"anchors": ("svtav1:14",)}, "14 is unknown: use one of 0, 1"),
        ({"anchors": ("jpeg2000:1",)}, "no presets"),
        ({"anchors": ("svtav1",), "points": (22, 22.1, 22.2, 22.3)}, "from 8 to 36"),
        ({"tests": ("ssm",)}, "use one of ssim, "),
        ({"tests": ("ssim,strength",)}, "use one of ssim, "),
        ({"tests": ("ssim,strength=x",)}, "not a number"),
        ({"tests": ("ssim,strength=9",)}, "strength: 9.0 is out of range"),
        ({"tests": ("ssim,strength=1,strength=2",)}, "twice"),
        ({"tests": ("off,strength=1",)}, "off has no strength"),
        ({"tests": ("off,effort=max",)}, "effort: needs an objective"),
        ({"tests": ("ssim,nonsense=1",)}, "no parameter 'nonsense'"),
        ({"tests": ("ssim,crf=3",)}, "crf is not set here: it is set by crf"),
        ({"tests": ("ssim,aq-mode=0",)}, "aq-mode=0 makes x264 ignore"),
        ({"tests": ("ssim", "ssim,strength=0.72")}, "same encoder"),
        ({"tests": ("ssim,preset=quick",)}, "'quick' is unknown"),
        ({"anchors": (ToyCodec(), ToyCodec(3))}, "toy is given twice: name one of them"),
        ({"anchors": (ToyCodec(),), "mode": "bitrate", "points": (1, 2, 3, 4)}, "takes none"),
        (
            {"anchors": (ToyCodec(),), "bit_depth": 10},
            "toy: bit_depth: 10 is unknown: use one of 8",
        ),
        ({"tests": (Candidate(ToyCodec(), objective.SSIM),)}, "toy follows no objective"),
    ],
)
def test_bad_encoders(values, message):
    with pytest.raises(InputError, match=message) as raised:
        make_contenders(settings(**values))
    assert raised.value.field in values


def test_an_encoder_that_pyav_lacks(monkeypatch):
    class Lacking:
        @staticmethod
        def create(codec, mode):
            raise ValueError(f"{codec} {mode}")

    monkeypatch.setattr("ssimrdo.codecs.lavc.CodecContext", Lacking)
    with pytest.raises(InputError, match="svtav1: the installed PyAV has no libsvtav1"):
        make_contenders(settings(anchors=("svtav1",)))


def test_names_are_last_components_made_unique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = ["/a/chest", "/b/chest/", "chest-2", "/c/chest", ".", "we\nird"]
    names = unique_names(paths)
    assert names == ["chest", "chest-2", "chest-2-2", "chest-3", tmp_path.name, "we?ird"]


def test_odd_errors_are_our_own(series, tmp_path):
    target = tmp_path / "file"
    target.write_text("")
    with (
        pytest.raises(SsimrdoError, match="cache_dir or no_cache"),
        compare([series], settings(), cache_folder=target / "cache"),
    ):
        pass


@dataclass(frozen=True)
class Namesake(Reticent):
    """Another codec that describes itself alike."""


def test_a_codec_of_a_test_is_compared_like_any_other(series, tmp_path, caplog):
    anchors, tests = ("x264", Reticent()), (Candidate(Reticent(3), name="short"), "ssim")
    options = settings(anchors=anchors, tests=tests)
    with compare([series], options, cache_folder=tmp_path) as found:
        report = found.report
        for encoder in ("toy", "short"):
            for point in report.series[0].curves[encoder]:
                path = found.encodes["chest", encoder, point.point]
                assert point.bytes == sum(packet.size for packet in packets_of(path))
                shown = np.array(list(found.decoded("chest", encoder, point.point)), float)
                error = np.square(shown - found.frames("chest")).mean((1, 2))
                expected = 10 * np.log10(255**2 / error)
                assert point.per_slice["psnr"] == pytest.approx(expected, abs=1e-3)
    # x264's CRF 23 stands for the toy's default of 6.
    assert [encoder.points for encoder in report.encoders[1:3]] == [(2, 6, 11, 16)] * 2
    toy = report.encoders[1]
    assert (toy.name, toy.role, toy.label) == ("toy", "anchor", "MPEG-4")
    assert toy.settings == "mpeg4 POINT"
    kbps = [point.kbps for point in report.series[0].curves["toy"]]
    assert kbps == sorted(kbps, reverse=True)
    # More keyframes cost more, though both describe themselves alike.
    curves = report.series[0].curves
    for one, other in zip(curves["toy"], curves["short"], strict=True):
        assert other.bytes > one.bytes
    assert report.series[0].bd["short"]["psnr"].rate_percent is not None
    again, made = run([series], caplog, anchors=anchors, tests=tests, cache_folder=tmp_path)
    assert made == []
    assert rates_of(again) == rates_of(report)


def test_encoders_that_describe_themselves_alike_are_not_the_same():
    codecs = (Reticent(), Namesake(), Namesake(3))
    given = tuple(Candidate(codec, name=f"{number}") for number, codec in enumerate(codecs))
    contenders = make_contenders(settings(anchors=given))
    frames = FrameFormat(ROWS, COLUMNS)
    assert len({contender.describe(frames, 6) for contender in contenders[:3]}) == 1
    assert len({digests.state_of(contender.codec) for contender in contenders[:3]}) == 3
    with pytest.raises(InputError, match="0 and again are the same encoder"):
        make_contenders(settings(anchors=(*given, Candidate(Reticent(), name="again"))))


@pytest.fixture
def registered():
    """What a test registers goes with it."""
    indices, objectives = dict(metrics.registry._INDICES), dict(objective.base._OBJECTIVES)
    yield
    for known, before in (
        (metrics.registry._INDICES, indices),
        (objective.base._OBJECTIVES, objectives),
    ):
        known.clear()
        known.update(before)


def largest_error(pair):
    return float(np.abs(pair.source.astype(int) - pair.shown).max())


@pytest.mark.usefixtures("registered")
def test_an_index_of_a_test_is_measured_like_any_other(series):
    name = "largest_error"
    metrics.register(
        QualityIndex(name, "Largest error", largest_error, higher_is_better=False, unit="levels")
    )
    ours = "ssim,preset=ultrafast"
    with compare([series], settings(slices=3, tests=(ours, "off,crf-max=51"))) as found:
        report = found.report
        for series_name, encoder, point in points_of(report):
            shown = np.array(list(found.decoded(series_name, encoder, point.point)), int)
            errors = np.abs(shown - found.frames(series_name)).max((1, 2))
            assert point.per_slice[name] == tuple(errors)
            assert point.quality[name].worst == max(errors)
    assert report.metrics[-1] == name
    assert report.deltas == (*report.metrics, "ssim_db")
    # A lower index is a gain, and its difference is in its own unit.
    curves = report.series[0].curves
    rates, errors = (
        [[getter(point) for point in curves[encoder]] for encoder in ("x264", ours)]
        for getter in (lambda p: p.kbps, lambda p: p.quality[name].mean)
    )
    delta = report.series[0].bd[ours][name]
    gained = [-np.array(values) for values in errors]
    assert delta.rate_percent == pytest.approx(bd_rate(rates[0], gained[0], rates[1], gained[1]))
    gain = bd_quality(rates[0], gained[0], rates[1], gained[1])
    assert delta.quality == pytest.approx(-gain)
    record = report.to_json()
    quality = record["series"][0]["curves"][ours][0]["quality"][name]
    assert set(quality) == {"mean", "max"}
    assert f"{name}_max" in rd_points_csv(report).splitlines()[0].split(",")
    assert ComparisonReport.from_json(json.loads(json.dumps(record))) == report


@pytest.mark.usefixtures("registered")
def test_an_index_in_decibels_has_a_delta_of_its_own(series):
    metrics.register(replace(metrics.get("ms_ssim"), in_db=True))
    with compare([series], settings(slices=2, metrics=("ms_ssim", "psnr"))) as found:
        report = found.report
    assert report.deltas == ("ms_ssim", "psnr", "ms_ssim_db")
    points = [report.series[0].curves[name] for name in ("x264", "ssim")]
    curves = [
        values
        for curve in points
        for values in (
            [point.kbps for point in curve],
            [-10 * math.log10(1 - point.quality["ms_ssim"].mean) for point in curve],
        )
    ]
    delta = report.series[0].bd["ssim"]["ms_ssim_db"]
    assert delta.rate_percent == pytest.approx(bd_rate(*curves))


@pytest.mark.usefixtures("registered")
def test_an_index_that_is_no_number_is_told_with_its_slice(series):
    second = {}

    def odd(pair):
        return math.nan if pair.source.tobytes() in second else 1.0

    metrics.register(QualityIndex("odd", "Odd", odd))
    options = settings(slices=3, metrics=("odd",))
    with compare([series], options) as found:
        second[found.frames("chest")[1].tobytes()] = True
    with (
        pytest.raises(SsimrdoError, match="x264 at 18: odd of slice 2 is nan, no finite number"),
        compare([series], options),
    ):
        pass


@pytest.mark.usefixtures("registered")
def test_an_objective_of_a_test_is_aimed_at_like_any_other(series):
    """It spends bits on the left half."""

    def theta(luma, frame_format):
        assert luma.shape == frame_format.shape
        values = np.ones(frame_format.grid, np.float32)
        values[:, : values.shape[1] // 2] = 64
        return values

    def reference(frame_format):
        return frame_format.bit_depth

    toy = objective.register(Objective("left", "Left half", theta, reference))
    tests = ("ssim", "left", "left,strength=1.5", Candidate(X264(preset="fast"), toy))
    with compare([series], settings(tests=tests, slices=3)) as found:
        report = found.report
        gains = {}
        for encoder in ("ssim", "left", "left,strength=1.5"):
            shown = np.array(list(found.decoded("chest", encoder, 28)), float)
            error = np.square(shown - found.frames("chest")).mean((0, 1))
            gains[encoder] = error[COLUMNS // 2 + 8 :].mean() / error[: COLUMNS // 2 - 8].mean()
    assert gains["ssim"] < gains["left"] < gains["left,strength=1.5"]
    names = [encoder.name for encoder in report.encoders]
    assert names == ["x264", "ssim", "left", "left,strength=1.5", "x264+left"]
    labels = [encoder.label for encoder in report.encoders[2:]]
    assert labels == [
        "ssimrdo left effort=default",
        "ssimrdo left effort=default strength 1.5",
        "x264 fast for Left half",
    ]
    assert all(encoder.objective == "left" for encoder in report.encoders[2:])
    assert "rdo=left" in report.encoders[2].settings


def test_objectives_made_alike_are_not_the_same(series, tmp_path):
    """They have one name and one source, and differ in a number that they were made with."""

    def made(share):
        def theta(luma, frame_format):
            assert luma.shape == frame_format.shape
            values = np.ones(frame_format.grid, np.float32)
            values[:, : values.shape[1] // 2] = share
            return values

        return Objective("share", "Share", theta, one)

    def one(frame_format):
        return float(frame_format.peak > 0)

    tests = tuple(Candidate(X264(), made(share), f"{share}") for share in (1, 8))
    options = settings(tests=tests, slices=2)
    with compare([series], options, cache_folder=tmp_path) as found:
        curves = found.report.series[0].curves
    assert found.report.encodes.cached == 0
    assert all(a.bytes != b.bytes for a, b in zip(curves["1"], curves["8"], strict=True))


def test_any_executor_of_the_standard_library_will_do(series, caplog):
    here, _ = run([series], caplog, slices=2)
    with ThreadPoolExecutor(2) as pool:
        there, _ = run([series, series], caplog, slices=2, executor=pool)
        assert pool.submit(int, "3").result() == 3
    assert (there.timing, len(there.series)) == ("loaded", 2)
    assert rates_of(there) == 2 * rates_of(here)
    assert values_of(there) == 2 * values_of(here)


def test_a_comparison_leaves_the_process_as_it_was(series):
    def state():
        loggers = {
            name: (one.level, one.propagate, list(one.handlers), list(one.filters), one.disabled)
            for name, one in logging.root.manager.loggerDict.items()
            if isinstance(one, logging.Logger)
        }
        return dict(os.environ), list(warnings.filters), loggers

    with compare([series], settings(slices=1)):
        pass
    before = state()
    with ThreadPoolExecutor(1) as pool:
        for executor in (None, pool):
            options = settings(slices=2, anchors=("x264", "svtav1:12"))
            with compare([series], options, executor=executor):
                pass
    assert state() == before


def test_records_of_others_are_left_alone(series):
    """A filter or a factory of ours would change what others log meanwhile."""
    seen = []

    class Keeper(logging.Handler):
        def emit(self, record):
            seen.append((record.name, record.levelname, record.getMessage()))

    other, keeper = logging.getLogger("ssimrdo"), Keeper()
    logging.getLogger().addHandler(keeper)

    def tell(event):
        other.warning("mine at %d", event.done)

    try:
        with compare([series], settings(slices=1), observer=Observer(tell)):
            other.warning("mine at last")
    finally:
        logging.getLogger().removeHandler(keeper)
    mine = [one for one in seen if one[2].startswith("mine")]
    assert len(mine) == 17
    assert {(name, level) for name, level, _ in mine} == {("ssimrdo", "WARNING")}
