from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from dicom_files import write_series
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from video_files import SOFT_TISSUE, ct_volume, frames_of, packets_of, plane, windowed

from ssimrdo import EncodeSettings, InputError, SsimrdoError, Window, encode
from ssimrdo.bd import bd_quality, bd_rate, ssim_db
from ssimrdo.compare import CompareSettings, compare
from ssimrdo.compare import cache as store
from ssimrdo.compare.clip import load_clip
from ssimrdo.compare.comparison import _in_parallel, make_contenders, unique_names
from ssimrdo.compare.encoders import FAMILIES
from ssimrdo.compare.record import rd_points_csv
from ssimrdo.compare.viewers import point_at, viewers_of

ROWS, COLUMNS, SLICES = 71, 97, 7
SOFT = Window(*SOFT_TISSUE)
ALL = ("x264", "x264-ssim", "x265:ultrafast", "x265-ssim:ultrafast", "svtav1:12", "jpeg2000")
TESTS = ("ssim", "ssim,strength=0.3", "off")


def settings(**values):
    return CompareSettings(**{"preset": "ultrafast", "window": SOFT, **values})


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
    for one in report["series"]:
        for name, curve in one["curves"].items():
            for point in curve:
                yield one["name"], name, point


def test_every_encode_agrees_with_an_independent_look_at_its_file(full, volume):
    source = [windowed(hu) for hu in volume]
    seen = 0
    for name, encoder, point in points_of(full.report):
        path = full.encodes[name, encoder, point["point"]]
        packets = [packet.size for packet in packets_of(path)]
        assert len(packets) == SLICES
        assert point["bytes"] == sum(packets)
        assert point["kbps"] == pytest.approx(sum(packets) * 8 * 25 / SLICES / 1000)
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
        assert point["per_slice"]["ssim"] == pytest.approx(ssim, abs=1e-4)
        assert point["per_slice"]["psnr"] == pytest.approx(psnr, abs=1e-3)
        for metric, values in point["per_slice"].items():
            assert len(values) == SLICES
            assert point["quality"][metric]["mean"] == pytest.approx(np.mean(values))
            assert point["quality"][metric]["min"] == min(values)
        assert point["seconds"] > 0
        if encoder != "jpeg2000":
            assert {frame.format.name for frame in frames} <= {"yuv420p", "yuvj420p"}
            assert all(frame.color_range == 2 for frame in frames)
            assert all((plane(frame, index) == 128).all() for frame in frames for index in (1, 2))
        seen += 1
    assert seen == 4 * (len(ALL) + len(TESTS))


def test_points_of_other_scales_at_constant_qp():
    points = {
        contender.name: contender.points
        for contender in make_contenders(
            settings(mode="qp", anchors=("x264", "svtav1", "jpeg2000"))
        )
    }
    assert points["x264"] == points["ssim"] == (22, 27, 32, 37)
    assert points["svtav1"] == (19, 30, 42, 53)
    assert points["jpeg2000"] == pytest.approx((46.3, 42.05, 37.8, 33.55))


def test_bd_is_that_of_the_curves(full):
    (one,) = full.report["series"]
    metrics = full.report["metrics"]
    assert metrics == ["ssim", "weighted_ssim", "ms_ssim", "psnr"]
    assert set(one["bd"]) == {*ALL[1:], *TESTS}
    for name, delta in product(one["bd"], [*metrics, "ssim_db"]):
        curves = []
        for encoder in ("x264", name):
            points = one["curves"][encoder]
            metric = "ssim" if delta == "ssim_db" else delta
            qualities = np.array([point["quality"][metric]["mean"] for point in points])
            curves += [
                [point["kbps"] for point in points],
                ssim_db(qualities) if delta == "ssim_db" else qualities,
            ]
        bd = one["bd"][name][delta]
        for key, function in (("rate_percent", bd_rate), ("quality", bd_quality)):
            expected = function(*curves)
            if math.isnan(expected):
                assert bd[key] is None
                assert bd["reason"]
            else:
                assert bd[key] == pytest.approx(expected)
        assert 0 <= bd["overlap"] <= 1


def test_the_same_settings_have_no_delta(full):
    """``off`` is x264 by another name, which goes through the same code as our encodes."""
    (one,) = full.report["series"]
    for ours, reference in zip(one["curves"]["off"], one["curves"]["x264"], strict=True):
        assert (ours["bytes"], ours["per_slice"]) == (reference["bytes"], reference["per_slice"])
    for bd in one["bd"]["off"].values():
        assert bd["rate_percent"] == pytest.approx(0, abs=1e-9)
        assert bd["quality"] == pytest.approx(0, abs=1e-12)
        assert bd["overlap"] == pytest.approx(1)


def test_the_test_encoder_is_what_encode_writes(series, full, tmp_path):
    (one,) = full.report["series"]
    for test, strength in (("ssim", 0.7), ("ssim,strength=0.3", 0.3)):
        written = encode(
            series,
            tmp_path / f"{strength}.mkv",
            EncodeSettings(crf=23, window=SOFT, rdo_strength=strength),
        )
        point = one["curves"][test][1]
        assert point["quality"]["ssim"]["mean"] == pytest.approx(written.ssim.mean, abs=1e-9)
        assert point["kbps"] == pytest.approx(written.kbps, rel=2e-3)


def test_the_curves_cover_about_the_same_qualities(full):
    """Points of other scales are mapped; else BD-rates would rest on nothing."""
    (one,) = full.report["series"]
    for name in one["bd"]:
        assert one["bd"][name]["ssim"]["overlap"] > 0.4, name
        kbps = [point["kbps"] for point in one["curves"][name]]
        assert kbps == sorted(kbps, reverse=True)


def test_report_says_what_was_compared(full):
    report = full.report
    assert (report["mode"], report["fps"], report["preset"]) == ("crf", "25", "ultrafast")
    assert report["timing"] == "alone"
    assert {"x264", "x265", "svtav1", "pyav", "ffmpeg", "numpy"} <= set(report["versions"])
    assert "unknown" not in report["versions"].values()
    assert report["machine"]["cores"] >= 1
    encoders = {encoder["name"]: encoder for encoder in report["encoders"]}
    assert [encoder["role"] for encoder in report["encoders"]] == (
        ["reference"] + ["anchor"] * 5 + ["test"] * 3
    )
    assert "tune=ssim" in encoders["x264-ssim"]["settings"]
    assert "crf=POINT" in encoders["x265:ultrafast"]["settings"]
    assert "rdo-strength=0.3" in encoders["ssim,strength=0.3"]["settings"]
    assert encoders["svtav1:12"]["points"] == [23, 34, 44, 55]
    assert encoders["jpeg2000"]["points"] == [43.24, 39.64, 36.04, 32.44]
    (one,) = report["series"]
    assert (one["name"], one["slices"], one["width"], one["height"]) == (
        "chest",
        SLICES,
        COLUMNS,
        ROWS,
    )
    assert one["window"] == {"center": 40.0, "width": 400.0}
    assert one["speed"]["x264"] == 1
    seconds = [[p["seconds"] for p in one["curves"][name]] for name in ("x264", "svtav1:12")]
    assert one["speed"]["svtav1:12"] == pytest.approx(np.median(np.divide(*seconds)))
    assert report["summary"]["ssim"]["ssim"]["mean"] == one["bd"]["ssim"]["ssim"]["rate_percent"]
    assert report["summary"]["ssim"]["ssim"]["low"] is None
    json.dumps(report, allow_nan=False)


def test_csv_has_one_line_per_encode(full):
    table = list(csv.DictReader(io.StringIO(rd_points_csv(full.report))))
    assert len(table) == 4 * (len(ALL) + len(TESTS))
    for row, (name, encoder, point) in zip(table, points_of(full.report), strict=True):
        assert (row["series"], row["encoder"]) == (name, encoder)
        assert float(row["kbps"]) == point["kbps"]
        assert float(row["ssim_mean"]) == point["quality"]["ssim"]["mean"]
        assert float(row["psnr_min"]) == point["quality"]["psnr"]["min"]


def test_frames_and_decoded_slices_can_be_had_again(full, volume):
    frames = full.frames("chest")
    assert (frames == [windowed(hu) for hu in volume]).all()
    assert not isinstance(frames.base, bytes)
    path = full.encodes["chest", "svtav1:12", 34]
    decoded = list(full.decoded("chest", "svtav1:12", 34))
    for slice_, frame in zip(decoded, frames_of(path), strict=True):
        assert (slice_ == plane(frame)[:ROWS, :COLUMNS]).all()


def run(series, caplog, **options):
    """Compare and return the report with the encodes that were made, in their order."""
    names = ("cache_folder", "series_uid", "skip_bad")
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
    return {**report, "date": None, "encodes": None, "command": None}


def test_second_run_encodes_only_what_is_new(series, tmp_path, caplog):
    options = {"cache_folder": tmp_path / "cache", "slices": 3}
    first, made = run([series], caplog, **options)
    assert len(made) == first["encodes"]["made"] == 8
    second, made = run([series], caplog, **options)
    assert (made, second["encodes"]) == ([], {"made": 0, "cached": 8})
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
        run([series], caplog, **options, anchors=anchors)[0]["timing"]
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
    assert [p["bytes"] for *_, p in points_of(second)] == [p["bytes"] for *_, p in points_of(first)]
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
    young, old = tmp_path / ".partial-a.mkv", tmp_path / ".partial-b.mkv"
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (1e9, 1e9))
    store.trim(tmp_path, 2900)
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine.mkv",
        young.name,
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


def test_measuring_does_not_keep_the_next_encode_waiting(series, tmp_path):
    clip = load_clip(
        series, "chest", tmp_path / "raw", window=SOFT, bit_depth=8, fps=Fraction(25), limit=1
    )
    last_begun = threading.Event()

    def encode(task):
        if task == 5:
            last_begun.set()
        return task

    def measure(task):
        return task, last_begun.wait(timeout=60)

    done = _in_parallel(encode, measure, range(6), 2, clip)
    assert sorted(done) == [(task, True) for task in range(6)]


def test_jpeg_2000_in_several_threads():
    """The library behind it needs a lock; without, the process crashes."""
    code = (
        "import numpy as np\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from ssimrdo.compare.encoders import _openjpeg\n"
        "luma = (np.add.outer(np.arange(256), np.arange(256)) * 7 % 256).astype(np.uint8)\n"
        "quality = {'signal_noise_ratios': [40.0]}\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    found = set(pool.map(lambda _: _openjpeg(luma, 8, quality), range(300)))\n"
        "assert len(found) == 1\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_damaged_slices_can_be_left_out(volume, tmp_path, caplog):
    folder = tmp_path / "ct"
    paths = write_series(folder, volume[:4])
    paths[1].write_bytes(paths[1].read_bytes()[:-1000])
    paths[2].write_bytes(b"")
    with pytest.raises(InputError), compare([folder], settings()):
        pass
    report, _ = run([folder], caplog, slices=2, skip_bad=True)
    (one,) = report["series"]
    assert (one["slices"], one["left_out"]) == (2, 2)
    intact = tmp_path / "intact"
    write_series(intact, volume[[0, 3]])
    expected, _ = run([intact], caplog)
    assert one["curves"] != {}
    assert rates_of(report) == rates_of(expected)


def rates_of(report):
    return [(encoder, point["bytes"]) for _, encoder, point in points_of(report)]


def test_one_of_several_series_of_a_folder(volume, tmp_path, caplog):
    for name, slices in (("1", 3), ("2", 2)):
        write_series(tmp_path / "ct" / name, volume[:slices], SeriesInstanceUID=f"1.2.3.{name}")
    report, _ = run([tmp_path / "ct"], caplog, series_uid="1.2.3.2")
    assert report["series"][0]["slices"] == 2
    assert "1.2.3." not in json.dumps(report)
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
    assert (alone["timing"], loaded["timing"]) == ("alone", "loaded")
    for (*_, a), (*_, b) in zip(points_of(alone), points_of(loaded), strict=True):
        assert (a["bytes"], a["per_slice"]) == (b["bytes"], b["per_slice"])


@pytest.mark.parametrize(
    ("mode", "points"), [("qp", ()), ("bitrate", (300, 200, 120, 70)), ("crf", (20, 25, 30, 35))]
)
def test_modes(series, mode, points, caplog):
    anchors = ("x264", "x265:ultrafast", "svtav1:12", "jpeg2000")
    report, _ = run([series], caplog, mode=mode, points=points, anchors=anchors)
    (one,) = report["series"]
    for name, curve in one["curves"].items():
        kbps = [point["kbps"] for point in curve]
        ssim = [point["quality"]["ssim"]["mean"] for point in curve]
        assert kbps == sorted(kbps, reverse=True), name
        assert ssim == sorted(ssim, reverse=True), name
    if mode == "bitrate":
        assert [p["kbps"] for p in one["curves"]["jpeg2000"]] == pytest.approx(points, rel=0.1)
    if mode == "qp":
        assert report["encoders"][0]["points"] == [22, 27, 32, 37]
        assert "rc=0" in report["encoders"][2]["settings"]


def test_ten_bits(series, volume, tmp_path):
    anchors = ("x264", "x265:ultrafast", "svtav1:12", "jpeg2000")
    options = settings(bit_depth=10, anchors=anchors, slices=3)
    with compare([series], options, cache_folder=tmp_path) as comparison:
        source = np.array([windowed(hu, bit_depth=10) for hu in volume[:3]])
        assert (comparison.frames("chest") == source).all()
        for name, encoder, point in points_of(comparison.report):
            shown = np.array(list(comparison.decoded(name, encoder, point["point"])), int)
            psnr = [
                peak_signal_noise_ratio(a, b, data_range=1023)
                for a, b in zip(source, shown, strict=True)
            ]
            assert point["per_slice"]["psnr"] == pytest.approx(psnr, abs=1e-3)
            assert min(psnr) > 20
        (viewer,) = viewers_of(comparison).values()
        assert len(viewer.slices) == 3
        assert all((s.source == source[s.index] >> 2).all() for s in viewer.slices)
        assert viewer.slices[0].source.dtype == np.uint8


@pytest.mark.parametrize(("mode", "tolerance"), [("crf", 0.04), ("qp", 0.12)])
def test_the_viewer_shows_encodes_of_one_rate(series, mode, tolerance):
    with compare([series], settings(mode=mode, tests=("ssim,strength=1.5",))) as comparison:
        (viewer,) = viewers_of(comparison).values()
        shown = [s.ours_ssim for s in viewer.slices]
    assert viewer.reference_kbps == comparison.report["series"][0]["curves"]["x264"][1]["kbps"]
    assert viewer.ours_kbps == pytest.approx(viewer.reference_kbps, rel=tolerance)
    assert len(shown) == SLICES


def test_point_of_a_rate():
    curve = [{"kbps": kbps, "point": point} for kbps, point in ((800, 20), (400, 25), (100, 35))]
    assert point_at(curve, 400, "crf") == 25
    assert point_at(curve, 200, "crf") == pytest.approx(30)
    assert point_at(curve, 400 * 2**0.5, "crf") == pytest.approx(22.5)
    assert point_at(curve, 400 * 2**0.45, "qp") == 23
    assert point_at(curve, 1600, "crf") == pytest.approx(15)
    assert point_at(curve, 25, "qp") == 45
    assert point_at(curve, 1e9, "crf") == 1
    assert point_at([{"kbps": 5, "point": 18}, {"kbps": 5, "point": 23}], 7, "crf") in (18, 23)


def test_several_series_are_summarized(series, tmp_path, caplog):
    other = tmp_path / "a" / "chest"
    write_series(other, ct_volume(4, 48, 64, seed=1))
    report, _ = run([series, other], caplog, slices=4, metrics=("ssim", "psnr"))
    assert report["metrics"] == ["ssim", "psnr"]
    assert [one["name"] for one in report["series"]] == ["chest", "chest-2"]
    values = [one["bd"]["ssim"]["psnr"]["rate_percent"] for one in report["series"]]
    summary = report["summary"]["ssim"]["psnr"]
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert (summary["worst"], summary["count"], summary["excluded"]) == (max(values), 2, 0)
    assert summary["low"] <= summary["mean"] <= summary["high"]
    speeds = [one["speed"]["ssim"] for one in report["series"]]
    assert report["summary"]["ssim"]["speed"] == pytest.approx(math.sqrt(math.prod(speeds)))


def test_an_undefined_delta_is_null_with_its_reason(tmp_path, caplog):
    """Flat slices: every point costs and shows the same."""
    write_series(tmp_path / "flat", np.zeros((3, 32, 32), np.int16))
    report, _ = run([tmp_path / "flat"], caplog)
    bd = report["series"][0]["bd"]["ssim"]["ssim"]
    assert bd["rate_percent"] is None
    assert "BD-rate undefined" in bd["reason"]
    assert report["summary"]["ssim"]["ssim"]["mean"] is None
    assert report["summary"]["ssim"]["ssim"]["excluded"] == 1


def test_one_bad_series_does_not_stop_the_rest(series, tmp_path, caplog):
    bad = tmp_path / "Mustermann"
    bad.mkdir()
    report, _ = run([bad, series], caplog, slices=2)
    first, second = report["series"]
    assert "no files here" in first["error"]
    assert str(tmp_path) not in first["error"]
    assert (first["curves"], second["error"]) == ({}, None)
    assert report["summary"]["ssim"]["ssim"]["count"] == 1


def test_errors_in_the_report_name_no_files_and_no_uids(series, volume, tmp_path, caplog):
    two = tmp_path / "two"
    write_series(two / "1", volume[:2], SeriesInstanceUID="1.2.3.4")
    write_series(two / "2", volume[:2], SeriesInstanceUID="1.2.3.5")
    cut = tmp_path / "cut"
    write_series(cut, volume[:2])
    victim = sorted(cut.iterdir())[0].rename(cut / "Mustermann.dcm")
    victim.write_bytes(victim.read_bytes()[:-2000])
    report, _ = run([two, cut, series], caplog, slices=2)
    errors = [one["error"] for one in report["series"]]
    assert errors[2] is None
    assert all(errors[:2])
    text = json.dumps(report)
    assert "Mustermann" not in text
    assert "1.2.3." not in text
    assert str(tmp_path) not in text


def test_an_encoder_that_fails_on_one_series(series, tmp_path, caplog):
    write_series(tmp_path / "tiny", ct_volume(2, 32, 48))
    paths = [tmp_path / "tiny", series]
    report, _ = run(paths, caplog, anchors=("x264", "x265:ultrafast"), slices=2)
    errors = [one["error"] for one in report["series"]]
    assert errors == [
        "x265:ultrafast at 18: x265 takes no slices below 64x64: leave it out",
        None,
    ]


@pytest.mark.parametrize("slices", [1, 2])
def test_very_short_series(series, slices, caplog):
    anchors = ("x264", "x265:ultrafast", "svtav1:12", "jpeg2000")
    report, made = run([series], caplog, anchors=anchors, slices=slices)
    assert len(made) == 20
    assert report["series"][0]["slices"] == slices


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

    def stop(done, total, what):
        del total, what
        if done == 3:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        compare([series], settings(), cache_folder=cache, progress=stop),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    # What was finished can be used by the next run.
    assert len(list(cache.iterdir())) == 6
    with compare([series], settings(slices=2)):
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": (18, 23, 28)}, "3 given, but a curve needs at least 4"),
        ({"points": (18, 23, 28, 60)}, "60 is out of range for crf: 1 to 51"),
        ({"points": (18, 23, 28, math.nan)}, "out of range"),
        ({"points": (18, 23, 28, 23)}, "23 is given twice"),
        ({"mode": "qp", "points": (18, 23, 28, 30.5)}, "whole number"),
        ({"mode": "bitrate"}, "needs --points"),
        ({"mode": "cq"}, "use one of crf, qp, bitrate"),
        ({"anchors": ()}, "at least one"),
        ({"anchors": ("x264", "x264")}, "x264 is given twice"),
        ({"tests": ("ssim", "ssim")}, "ssim is given twice"),
        ({"metrics": ("ssim", "vmaf")}, "use one of ssim, weighted_ssim, ms_ssim, psnr"),
        ({"metrics": ()}, "at least one"),
        ({"slices": 0}, "1 or more"),
        ({"jobs": 0}, "1 to 64"),
        ({"preset": "quick"}, "--preset 'quick' is unknown"),
        ({"fps": Fraction(0)}, "--fps 0 is out of range"),
        ({"threads": 129}, "--threads 129 is out of range"),
        ({"bit_depth": 9}, "use one of 8, 10"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(InputError, match=message):
        settings(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"anchors": ("x266",)}, f"use one of {', '.join(FAMILIES)}"),
        ({"anchors": ("x264", "x264:ultrafast")}, "same encoder"),
        ({"anchors": ("x265:6",)}, "preset '6' is unknown"),
        ({"anchors": ("svtav1:slow",)}, "preset 'slow' is unknown: use one of 0, 1"),
        ({"anchors": ("jpeg2000:1",)}, "no presets"),
        ({"anchors": ("svtav1",), "points": (22, 22.1, 22.2, 22.3)}, "from 8 to 36"),
        ({"tests": ("ssm",)}, "use ssim or off"),
        ({"tests": ("ssim,strength",)}, "use ssim or off"),
        ({"tests": ("ssim,strength=x",)}, "no number"),
        ({"tests": ("ssim,strength=9",)}, "out of range"),
        ({"tests": ("ssim,strength=1,strength=2",)}, "twice"),
        ({"tests": ("off,strength=1",)}, "off has no strength"),
        ({"tests": ("ssim,nonsense=1",)}, "no parameter 'nonsense'"),
        ({"tests": ("ssim,crf=3",)}, "crf is set by"),
        ({"tests": ("ssim", "ssim,strength=0.7")}, "same encoder"),
        ({"tests": ("ssim,preset=quick",)}, "'quick' is unknown"),
    ],
)
def test_bad_encoders(values, message):
    with pytest.raises(InputError, match=message):
        make_contenders(settings(**values))


def test_an_encoder_that_pyav_lacks(monkeypatch):
    class Lacking:
        @staticmethod
        def create(codec, mode):
            raise ValueError(f"{codec} {mode}")

    monkeypatch.setattr("ssimrdo.compare.encoders.CodecContext", Lacking)
    with pytest.raises(InputError, match="installed PyAV has no libsvtav1"):
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
        pytest.raises(SsimrdoError, match="--cache-dir or --no-cache"),
        compare([series], settings(), cache_folder=target / "cache"),
    ):
        pass
