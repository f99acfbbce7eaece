from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from dicom_files import SERIES_UID, write_series
from messages import error_of, others
from video_files import ct_volume, run_command

import ssimrdo
from ssimrdo.observer import Observer

FAST = ("--test", "ssim", "--preset", "ultrafast", "--window", "40/400")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chest"
    write_series(folder, ct_volume(4, 48, 64))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SSIMRDO_CACHE_DIR", str(folder))
    return folder


def test_writes_the_report_and_prints_a_table(series, tmp_path, capfd, cache):
    output = tmp_path / "report"
    done = run_command(capfd, "compare", series, "-o", output, *FAST, "--anchor", "x264")
    assert (done.status, others(done.err)) == (0, "")
    names = {"report.json", "rd_points.csv", "bd_rates.csv"}
    assert names <= {path.name for path in output.iterdir()}
    report = json.loads((output / "report.json").read_text())
    assert report["version"] == ssimrdo.__version__
    assert len(list(csv.reader((output / "rd_points.csv").read_text().splitlines()))) == 9
    assert "ssimrdo: chest: window 40/400 HU, as asked for\n" in done.err
    head, legend, metrics, row, about, tests, *classes = done.out.splitlines()
    assert head == f"{output}: 1 series, 8 encodes"
    assert legend.startswith("BD-rate in % against x264")
    assert metrics.split() == ["ssim", "weighted_ssim", "ms_ssim", "psnr", "ssim_db", "speed"]
    mean = report["summary"]["ssim"]["ssim"]["mean"]
    assert row.split()[:2] == ["ssim", "undefined" if mean is None else f"{mean:+.2f}"]
    assert about == "BD-rate in % by class, mean over series"
    assert tests.split() == ["ssim"]
    notes = [line for line in classes if line.startswith("note: ")]
    assert len(notes) == len(set(notes)) <= 1
    assert [line.rsplit(None, 1)[0] for line in classes if line not in notes] == [
        *("PSNR in the body", "PSNR at edges", "PSNR in small dense structures"),
        *(
            "PSNR in flat soft tissue",
            "SSIM in the body",
            "SSIM, worst slice",
            "SSIM, 5th percentile",
        ),
    ]
    mean = report["classes"]["ssim"]["psnr_edge"]["mean"]
    assert classes[1].split()[-1] == ("undefined" if mean is None else f"{mean:+.2f}")
    # Two more encodes are for the slices side by side, at equal rate and at equal SSIM.
    assert len(list(cache.iterdir())) == 2 * (8 + 2)
    assert output.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_json_is_one_object_that_agrees_with_the_file(series, tmp_path, capfd, cache):
    output = tmp_path / "report"
    arguments = ("compare", series, "-o", output, *FAST, "--metric", "ssim", "--metric", "ms-ssim")
    done = run_command(capfd, *arguments, "--json", "--no-cache")
    assert (done.status, others(done.err)) == (0, "")
    printed = json.loads(done.out)
    assert printed.pop("output") == str(output)
    written = json.loads((output / "report.json").read_text())
    assert written["metrics"] == ["ssim", "ms_ssim"]
    for one in written["series"]:
        for curve in one["curves"].values():
            for point in curve:
                del point["per_slice"]
    assert printed == written
    assert list(cache.iterdir()) == []


def test_command_in_the_report_has_no_folders(series, tmp_path, capfd):
    output = tmp_path / "report"
    arguments = [
        *("compare", f"{series}/", "-o", output, *FAST, "--fps", "25/2", "--overwrite"),
        *("--anchor", "x264", "--anchor", "x264-ssim", "-v", "--cache-dir", tmp_path / "kept"),
        *("--skip-bad", "--series", SERIES_UID),
    ]
    assert run_command(capfd, *arguments).status == 0
    text = (output / "report.json").read_text()
    report = json.loads(text)
    assert report["command"] == (
        "ssimrdo compare chest --output report --preset ultrafast --anchor x264 "
        "--anchor x264-ssim --test ssim --window 40/400 --fps 25/2 --series UID --skip-bad "
        "--cache-dir kept --overwrite --verbose"
    )
    assert report["fps"] == "25/2"
    assert str(tmp_path) not in text
    assert str(series.parent) not in text
    assert "1.2.826" not in text
    assert len(list((tmp_path / "kept").iterdir())) == 2 * (12 + 2)


def test_second_run_takes_all_from_the_cache(series, tmp_path, capfd):
    for name in ("a", "b"):
        done = run_command(capfd, "compare", series, "-o", tmp_path / name, *FAST)
        assert done.status == 0
    assert done.out.startswith(f"{tmp_path / 'b'}: 1 series, 0 encodes and 8 from the cache\n")
    first, second = (
        json.loads((tmp_path / name / "report.json").read_text())["series"] for name in ("a", "b")
    )
    assert first == second


def test_once_all_is_encoded_the_report_is_what_is_told_of(series, tmp_path, capfd, monkeypatch):
    told = []

    @contextmanager
    def recorded(*_):
        yield Observer(told.append)

    monkeypatch.setattr(importlib.import_module("ssimrdo.cli.compare"), "progress", recorded)
    done = run_command(capfd, "compare", series, "-o", tmp_path / "report", *FAST)
    assert done.status == 0
    last = told[-1]
    assert (last.what, last.done, last.total) == ("writing the report", 8, 8)


def test_a_failing_series_among_others_has_its_own_status(series, tmp_path, capfd):
    empty = tmp_path / "empty"
    empty.mkdir()
    output = tmp_path / "report"
    done = run_command(capfd, "compare", empty, series, "-o", output, *FAST)
    assert done.status == 3
    assert done.err.startswith("ssimrdo: empty is left out: ")
    assert others(done.err).count("\n") == 1
    assert done.out.startswith(f"{output}: 1 series, 8 encodes\n")
    errors = [one["error"] for one in json.loads((output / "report.json").read_text())["series"]]
    assert errors == ["empty: no files here: give the folder of a CT series", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "no-such-folder: no such file or folder"),
        ([], "SERIES is missing"),
        (["{series}", "--points", "18,23,28"], "3 given, but a curve needs at least 4"),
        (["{series}", "--points", "18,x"], "give numbers separated by commas"),
        (["{series}", "--points", "18,23,28,nan"], "out of range"),
        (["{series}", "--mode", "vbr"], "use one of crf, qp, bitrate"),
        (["{series}", "--mode", "bitrate"], "--mode: bitrate has no points of its own"),
        (["{series}", "--anchor", "x266"], "use one of x264, x264-ssim, x265, x265-ssim, "),
        (["{series}", "--anchor", "x264", "--anchor", "x264"], "given twice"),
        (["{series}", "--test", "ssim,strength=x"], "not a number"),
        (["{series}", "--metric", "vmaf"], "use one of ssim, weighted_ssim, ms_ssim, ssim_"),
        (["{series}", "--metric", "vmaf"], "--metric: quality index 'vmaf' is unknown"),
        (["{series}", "--anchor", "x266"], "--anchor: 'x266' is unknown"),
        (["{series}", "--test", "ssm"], "--test: 'ssm' is unknown: use one of ssim, "),
        (["{series}", "--test", "ssim,strength=9"], "--test: 'ssim,strength=9': strength: 9.0 is"),
        (["{series}", "--mode", "bitrate"], "give four or more --points in kbit/s"),
        (["{series}", "--window", "spleen"], "spleen"),
        (["{series}", "--bit-depth", "12"], "use one of 8, 10"),
        (["{series}", "--fps", "0"], "--fps"),
        (["{series}", "--jobs", "0"], "1 to 64"),
        (["{series}", "--slices", "0"], "1 or more"),
        (["{series}", "--no-cache", "--cache-dir", "x"], "exclude each other"),
        (["{series}", "--preset", "quick"], "'quick' is unknown"),
        (["{series}", ""], "a path is empty"),
        (["{series}", "{series}", "--series", "1.2.3"], "goes with one folder"),
        (["{series}", "--series", "1.2.3"], "no CT series has the UID that was given"),
        (["{series}", "--cache-limit", "-1"], "--cache-limit"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, series, tmp_path, capfd):
    words = [word.format(series=series) for word in arguments]
    done = run_command(capfd, "compare", *words, "-o", tmp_path / "report")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("ssimrdo: error: ")
    assert message in error_of(done.err)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_report_stays_unless_told_otherwise(series, tmp_path, capfd):
    output = tmp_path / "report"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    (output / "report.json").write_text("old")
    arguments = ("compare", series, "-o", output, *FAST)
    done = run_command(capfd, *arguments)
    assert done.status == 2
    assert "--overwrite" in done.err
    assert (output / "report.json").read_text() == "old"
    assert run_command(capfd, *arguments, "--overwrite").status == 0
    assert (output / "notes.txt").read_text() == "mine"
    assert json.loads((output / "report.json").read_text())["encodes"]["made"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("output", ["missing/report", "file"])
def test_unusable_report_folder(output, series, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    done = run_command(capfd, "compare", series, "-o", tmp_path / output, *FAST)
    assert done.status == 2
    assert error_of(done.err)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_leaves_nothing_behind(tmp_path, cache):
    write_series(tmp_path / "ct", ct_volume(12, 256, 256))
    temporary, reports = tmp_path / "tmp", tmp_path / "reports"
    temporary.mkdir()
    reports.mkdir()
    command = [sys.executable, "-m", "ssimrdo", "compare", tmp_path / "ct", "-o", reports / "one"]
    process = subprocess.Popen(
        [*map(str, command), "--anchor", "x264:veryslow", "--preset", "veryslow", "--jobs", "2"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(cache.glob(".encode.mkv.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert list(temporary.iterdir()) == []
    assert list(reports.iterdir()) == []
    assert list(cache.glob(".*")) == []


def test_the_module_of_the_command_loads_no_heavy_ones():
    code = (
        "import sys, ssimrdo.cli.compare; "
        "sys.exit(any(name in sys.modules for name in ('numpy', 'av', 'numba', 'scipy', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_names_all_anchors_metrics_and_objectives(capfd, monkeypatch):
    metrics, objective = (importlib.import_module(f"ssimrdo.{n}") for n in ("metrics", "objective"))
    encoders = importlib.import_module("ssimrdo.comparison.encoders")
    monkeypatch.setitem(metrics.registry._INDICES, "toyindex", metrics.SSIM)
    monkeypatch.setitem(objective.base._OBJECTIVES, "toyaim", objective.SSIM)
    done = run_command(capfd, "compare", "--help")
    text = " ".join(done.out.split())
    for name in (*encoders.ANCHORS, *metrics.names(), *objective.names()):
        assert name in text
    assert "toyindex" in text
    assert "toyaim" in text


def test_svt_av1_keeps_its_settings_to_itself(series, tmp_path):
    """It writes them to stderr whatever FFmpeg logs."""
    arguments = ["compare", series, "-o", tmp_path / "report", *FAST, "--anchor", "x264"]
    command = [sys.executable, "-m", "ssimrdo", *map(str, arguments), "--anchor", "svtav1:8"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Svt[" not in done.stderr
    assert (tmp_path / "report" / "report.json").exists()
