"""Toys of one file each, of every kind that can be added, work without a change in the package."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from messages import error_of, others
from video_files import (
    SOFT_TISSUE,
    ct_volume,
    frames_of,
    packets_of,
    plane,
    run_command,
    windowed,
)

import ssimrdo.metrics.registry
import ssimrdo.objective.base
from ssimrdo import EncodeSettings, InputError, Window, encode, load_volume, metrics, objective
from ssimrdo.codecs.base import is_codec
from ssimrdo.comparison import CompareSettings, ComparisonReport, compare
from ssimrdo.lab.experiment import LabSettings
from ssimrdo.lab.run import run_lab, write_lab
from ssimrdo.video.decode import PacketDecoder

TOYS = Path(__file__).parent / "toys"
PACKAGE = Path(ssimrdo.__file__).parent
SLICES, ROWS, COLUMNS = 14, 49, 255
SOFT = Window(*SOFT_TISSUE)


@pytest.fixture(scope="module", autouse=True)
def toys():
    """Register the toys for this module alone."""
    registries = (ssimrdo.metrics.registry, "_INDICES"), (ssimrdo.objective.base, "_OBJECTIVES")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in registries:
            patch.setattr(module, name, dict(getattr(module, name)))
        metrics.register(import_module("toys.toy_index").RMS_ERROR)
        objective.register(import_module("toys.toy_objective").LEFT)
        yield


@pytest.fixture
def toy():
    return import_module("toys.toy_codec").ToyCodec


@pytest.fixture
def ssimrdo_command(capfd):
    return partial(run_command, capfd)


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, hu)
    return folder


def sources_and_shown(hu, output):
    return [
        (windowed(source), plane(frame)[:ROWS, :COLUMNS].astype(int))
        for source, frame in zip(hu, frames_of(output), strict=True)
    ]


def rms_errors(hu, output):
    return [np.sqrt(np.mean((a - b) ** 2.0)) for a, b in sources_and_shown(hu, output)]


@pytest.mark.parametrize(
    ("name", "most"),
    [("codec", 80), ("command", 40), ("experiment", 40), ("index", 30), ("objective", 30)],
)
def test_a_toy_is_one_short_file(name, most):
    path = TOYS / f"toy_{name}.py"
    lines = path.read_text().splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) <= 100
    assert "toys" not in path.read_text()


def test_the_package_knows_no_toy():
    signs = ("toy", "rms_error", "mpeg4", "Left half", "litres", "A brighter image")
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not any(sign in text for sign in signs), path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".m4v"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_the_codec_encodes(suffix, b_frames, toy, hu, series, tmp_path):
    codec = toy(b_frames=b_frames)
    assert is_codec(codec)
    output = tmp_path / f"out{suffix}"
    result = encode(series, output, codec=codec, crf=3, window=SOFT, measure="rms_error")
    errors = rms_errors(hu, output)
    assert len(errors) == result.frames == SLICES
    assert [one["rms_error"] for one in result.slices] == pytest.approx(errors, abs=1e-4)
    assert max(errors) < 6
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["codec"] == {
        "name": "toy",
        "label": "MPEG-4",
        "version": codec.version,
        "settings": f"mpeg4 q=3 g=12 bf={b_frames}",
    }
    assert sidecar["objective"] is None
    assert "x264" not in sidecar
    assert sidecar["settings"]["codec"] == "MPEG-4"
    assert (sidecar["settings"]["keyframes"], sidecar["settings"]["b_frames"]) == (12, b_frames)
    assert sum(one["bytes"] for one in result.slices) * 8 * 25 / SLICES / 1000 == result.kbps


def test_what_lies_behind_a_packet_in_memory_does_not_count(toy, series, tmp_path):
    """FFmpeg's decoder of MPEG-4 looks there, and takes what it finds for more of the packet."""
    path = tmp_path / "out.m4v"
    encode(series, path, codec=toy(), crf=2, window=SOFT)
    packets = [bytes(packet) for packet in packets_of(path)]
    noise = np.random.default_rng(0).integers(0, 256, 4096).astype(np.uint8).tobytes()
    shown = []
    decoder = PacketDecoder("m4v")
    for index, data in enumerate(packets):
        shown += decoder.decode(memoryview(data + noise)[: len(data)], index)
    shown += decoder.flush()
    for (_, luma), frame in zip(shown, frames_of(path), strict=True):
        np.testing.assert_array_equal(luma, plane(frame))


def test_coarser_quantizers_and_the_codecs_own_options_count(toy, series, tmp_path):
    def kbps(crf, **own):
        output = tmp_path / "out.mkv"
        return encode(series, output, codec=toy(**own), crf=crf, overwrite=True).kbps

    assert kbps(2) > kbps(8) > kbps(31)
    assert kbps(8, keyframes=1) > kbps(8)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"rdo": "ssim"}, "rdo"),
        ({"rdo": "left"}, "rdo"),
        ({"bitrate_kbps": 100}, "bitrate_kbps"),
        ({"crf": 1}, "crf"),
        ({"crf": 32}, "crf"),
        ({"crf": 3.5}, "crf"),
        ({"bit_depth": 10}, "bit_depth"),
        ({"effort": "fast"}, "effort"),
    ],
)
def test_what_the_codec_cannot_is_refused_by_name(options, field, toy):
    with pytest.raises(InputError) as caught:
        EncodeSettings.of(codec=toy(), **options)
    assert caught.value.field == field


def test_containers_are_the_codecs(toy, series, tmp_path):
    with pytest.raises(InputError, match=r"use one of \.mp4, \.mkv, \.m4v"):
        encode(series, tmp_path / "out.h264", codec=toy())


def test_the_codec_is_searched_for_a_quality(toy, series, tmp_path):
    """One quantizer for all slices, as it follows no steering, and the coarsest that will do."""
    goal = 0.9
    result = encode(series, tmp_path / "a.mkv", codec=toy(), min=("ssim", goal), window=SOFT)
    search = result.search
    assert (search.raised_slices, search.crf) == (0, search.plain_crf)
    assert result.ssim.worst >= goal
    assert search.crf == int(search.crf)
    output = tmp_path / "b.mkv"
    coarser = encode(series, output, codec=toy(), crf=search.crf + 1, window=SOFT)
    assert coarser.ssim.worst < goal


@pytest.mark.parametrize("over", ["worst", "mean", "p5"])
def test_the_index_can_be_kept_with_either_codec(over, toy, hu, series, tmp_path):
    limit = 5.0
    options = {"min": ("rms_error", limit), "over": over, "window": SOFT}
    value = {"worst": max, "mean": np.mean, "p5": lambda errors: sorted(errors)[::-1][SLICES // 20]}
    for name, codec in (("a", {"preset": "veryfast"}), ("b", {"codec": toy()})):
        output = tmp_path / f"{name}.mkv"
        result = encode(series, output, **codec, **options)
        assert value[over](rms_errors(hu, output)) <= limit + 1e-4
        assert value[over](rms_errors(hu, output)) == pytest.approx(result.search.reached, abs=1e-4)
        coarser = tmp_path / f"{name}-coarser.mkv"
        encode(series, coarser, **codec, crf=result.search.plain_crf + 1, window=SOFT)
        assert value[over](rms_errors(hu, coarser)) > limit


def test_the_index_is_measured_on_the_command_line(ssimrdo_command, hu, series, tmp_path):
    output = tmp_path / "a.mp4"
    options = ("--window", "40/400", "--preset", "veryfast", "--measure", "rms-error")
    done = ssimrdo_command("encode", series, "-o", output, *options)
    assert (done.status, others(done.err)) == (0, "")
    errors = rms_errors(hu, output)
    line = f"  rms       mean {np.mean(errors):.4f} levels, worst slice {max(errors):.4f} levels"
    assert line in done.out.splitlines()
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["rms_error"] == pytest.approx({"mean": np.mean(errors), "max": max(errors)})


def test_the_index_can_be_kept_on_the_command_line(ssimrdo_command, hu, series, tmp_path):
    output = tmp_path / "a.mp4"
    options = ("--window", "40/400", "--preset", "veryfast", "--min", "rms_error=5", "--json")
    done = ssimrdo_command("encode", series, "-o", output, *options)
    assert (done.status, others(done.err)) == (0, "")
    record = json.loads(done.out)
    assert max(rms_errors(hu, output)) <= 5 + 1e-4
    assert record["search"]["index"] == "rms_error"
    assert record["search"]["reached"] == record["rms_error"]["max"] <= 5
    done = ssimrdo_command("encode", series, "-o", tmp_path / "b.mp4", "--min", "rms_error=0.001")
    assert (done.status, done.out) == (2, "")
    assert "RMS error 0.001 cannot be reached: the worst slice's RMS error is " in done.err


def halves(hu, output):
    """Return the squared error of the left and of the right half, which the body fills alike."""
    errors = [(a - b) ** 2.0 for a, b in sources_and_shown(hu, output)]
    middle = COLUMNS // 32 * 16
    return np.mean([e[:, :middle] for e in errors]), np.mean([e[:, middle:] for e in errors])


def test_bits_are_spent_for_the_objective(hu, series, tmp_path):
    found = {}
    for rdo in ("off", "ssim", "left"):
        output = tmp_path / f"{rdo}.mp4"
        result = encode(series, output, rdo=rdo, qp=32, preset="veryfast", window=SOFT)
        assert result.objective == (None if rdo == "off" else rdo)
        left, right = halves(hu, output)
        found[rdo] = left / right
    # A sixteenth of λ is worth 12 · 0.7 QP steps, and the other half gets 4 times λ.
    assert found["left"] < 0.5 * min(found["off"], found["ssim"])
    assert json.loads((tmp_path / "left.json").read_text())["objective"] == "left"


def test_the_objective_is_known_on_the_command_line(ssimrdo_command, series, tmp_path):
    output = tmp_path / "a.mp4"
    done = ssimrdo_command("encode", series, "-o", output, "--rdo", "left", "--effort", "fast")
    assert (done.status, others(done.err)) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text())["settings"]["rdo"] == "left"
    done = ssimrdo_command("encode", series, "-o", tmp_path / "b.mp4", "--rdo", "right")
    assert error_of(done.err).startswith("--rdo: 'right' is unknown: use one of ssim, ")
    assert error_of(done.err).endswith(" left, off")


def compared(toy, **more):
    return CompareSettings(
        **{
            "preset": "ultrafast",
            "anchors": ("x264", toy()),
            "tests": ("left",),
            "metrics": ("ssim", "rms_error"),
            "window": SOFT,
            "threads": 1,
            **more,
        }
    )


def check_report(report, toy, hu, series, tmp_path):
    assert [one.name for one in report.encoders] == ["x264", "toy", "left"]
    assert report.metrics == ("ssim", "rms_error")
    (found,) = report.series
    assert found.error is None
    for name in ("toy", "left"):
        deltas = found.bd[name]
        assert {"ssim", "rms_error"} <= deltas.keys()
        assert deltas["rms_error"].rate_percent is not None
    for point in found.curves["toy"]:
        output = tmp_path / f"{point.point}.mkv"
        result = encode(
            series, output, codec=toy(), crf=point.point, window=SOFT, measure="rms_error"
        )
        assert point.per_slice["rms_error"] == tuple(one["rms_error"] for one in result.slices)
        assert point.per_slice["ssim"] == tuple(one["ssim"] for one in result.slices)
        errors = rms_errors(hu, output)
        assert point.quality["rms_error"].mean == pytest.approx(np.mean(errors), abs=1e-4)
        assert point.quality["rms_error"].worst == pytest.approx(max(errors), abs=1e-4)
        assert point.bytes == sum(one["bytes"] for one in result.slices)
    rates = [point.kbps for point in found.curves["toy"]]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4
    record = json.loads(json.dumps(report.to_json()))
    assert record["series"][0]["curves"]["toy"][0]["quality"]["rms_error"].keys() == {
        "mean",
        "max",
    }
    assert ComparisonReport.from_json(record).to_json() == record


def test_all_three_are_compared(toy, hu, series, tmp_path):
    with compare([series], compared(toy)) as comparison:
        check_report(comparison.report, toy, hu, series, tmp_path)


def test_all_three_are_compared_in_processes_of_their_own(toy, hu, series, tmp_path):
    """Workers that begin with nothing get the toys from their files."""
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        compare([series], compared(toy), executor=pool) as comparison,
    ):
        check_report(comparison.report, toy, hu, series, tmp_path)


def test_less_error_at_the_same_rate_is_a_saving(toy, series):
    """The sign of a BD-rate follows the direction of the index."""
    settings = compared(toy, anchors=(toy(), "x264"), tests=(), metrics=("psnr", "rms_error"))
    with compare([series], settings) as comparison:
        (found,) = comparison.report.series
    by_psnr, by_error = (found.bd["x264"][name].rate_percent for name in ("psnr", "rms_error"))
    assert np.sign(by_psnr) == np.sign(by_error)
    assert by_error == pytest.approx(by_psnr, abs=10)


def test_two_of_the_three_are_compared_on_the_command_line(ssimrdo_command, series, tmp_path):
    """Codecs have no names there."""
    done = ssimrdo_command(
        *("compare", series, "-o", tmp_path / "report", "--preset", "ultrafast", "--no-cache"),
        *("--test", "left", "--metric", "rms_error", "--metric", "ssim", "--json"),
    )
    assert (done.status, others(done.err)) == (0, "")
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert record["metrics"] == ["rms_error", "ssim"]
    assert [one["name"] for one in record["encoders"]] == ["x264", "left"]
    assert "rms_error" in record["summary"]["left"]


def test_the_experiment_is_run_and_written(tmp_path):
    experiment = import_module("toys.toy_experiment").BRIGHTER
    settings = LabSettings(quick=True)
    (result,) = results = run_lab([experiment], settings)
    files = write_lab(results, tmp_path / "lab", settings)
    assert set(files) == {"brighter.txt", "brighter.csv", "lab.json", "lab.html"}
    _, *rows = (tmp_path / "lab/brighter.csv").read_text().splitlines()
    c1 = (0.01 * 255) ** 2
    for row in rows:
        step, value = map(float, row.split(","))
        other = 100 + step
        expected = (2 * 100 * other + c1) / (100**2 + other**2 + c1)
        assert value == pytest.approx(expected, abs=1e-5)
    assert result.outcome.numbers["lowest"] == pytest.approx(value)
    assert "A brighter image" in (tmp_path / "lab/lab.html").read_text()


@pytest.fixture
def body_command(monkeypatch):
    """The command as a file in ssimrdo/cli would be there, with its name in the list."""
    main = import_module("ssimrdo.cli.main")
    monkeypatch.setattr(main, "COMMANDS", (*main.COMMANDS, "body"))
    monkeypatch.setitem(sys.modules, "ssimrdo.cli.body", import_module("toys.toy_command"))


@pytest.mark.usefixtures("body_command")
def test_the_command_runs_and_fails_as_ours_do(ssimrdo_command, hu, series, tmp_path):
    done = ssimrdo_command("body", series, "--json")
    assert (done.status, done.err) == (0, "")
    (row, column), step = load_volume(series).pixel_spacing_mm, 2.0
    expected = (hu > -500).sum() * row * column * step / 1e6
    assert json.loads(done.out) == {"litres": pytest.approx(expected)}
    write_series(tmp_path, hu[:1])
    done = ssimrdo_command("body", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("ssimrdo: error: ")
    assert "a single slice has no volume" in done.err
    assert "body" in ssimrdo_command("--help").out
