from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from functools import partial

import pydicom
import pytest
from dicom_files import write_series
from messages import others, without_life
from video_files import ct_volume, frames_of, run_command

from ssimrdo import EncodeSettings, encode
from ssimrdo.cli.main import COMMANDS
from ssimrdo.codecs.named import NAMED

SSIMRDO = [sys.executable, "-m", "ssimrdo"]
KEYS = {
    "output": str,
    "frames": int,
    "width": int,
    "height": int,
    "bit_depth": int,
    "window": {"center": float, "width": float},
    "bytes": int,
    "kbps": float,
    "ssim": {"mean": float, "min": float},
    "weighted_ssim": {"mean": float, "min": float},
    "psnr": {"mean": float, "min": float},
    "worst_slice": int,
    "seconds": dict.fromkeys(("load", "analyse", "encode", "verify", "total"), float),
    "x264": {"build": str, "settings": str},
    "skipped": list,
}
"""What version 0.1.0 printed."""
ERRORS = {"samples": int, **dict.fromkeys(("rmse", "bias", "p99", "max", "psnr"), float)}
OVER_SLICES = {"mean": float, "min": float, "worst_slice_number": int, "p5": float}
NEW_KEYS = {
    "worst_slice_number": int,
    "codec": {"name": str, "label": str, "version": str, "settings": str},
    "objective": str,
    "window_source": str,
    "header_windows": list,
    "windows": list,
    "source_bytes": int,
    "warnings": list,
    "spacing": {
        **dict.fromkeys(("step_mm", "smallest_mm", "largest_mm"), float),
        "regular": bool,
        "gaps": list,
        **dict.fromkeys(("missing", "uneven", "repeated"), int),
    },
    "tissue": {
        "unit": str,
        "span": float,
        "errors": {
            **dict.fromkeys(("body", "edge", "dense", "flat", "unclipped"), ERRORS),
            # A window of 80 HU shows no lung.
            "lung": type(None),
        },
        # What is flat here is a single sample.
        "noise_kept": type(None),
        "ssim": dict.fromkeys(("body", "unclipped"), OVER_SLICES),
        "clipped_share": float,
    },
}


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    # x264's streams are sure to repeat at this width; see test_encode.py.
    write_series(folder, ct_volume(8, 32, 256))
    return folder


def shape_of(value):
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    return type(value)


def test_json_is_one_object_with_exactly_these_keys(ssimrdo, series, tmp_path):
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4", "--json")
    assert (done.status, others(done.err)) == (0, "")
    record = json.loads(done.out)
    assert done.out.count("\n") == 1
    assert shape_of(record) == KEYS | NEW_KEYS
    assert [key for key in record if key in KEYS and key != "x264"] == [
        key for key in KEYS if key != "x264"
    ]
    assert record["worst_slice_number"] == record["worst_slice"] + 1
    assert record["x264"]["settings"] == record["codec"]["settings"]
    assert record["codec"]["version"] == f"x264 {record['x264']['build']}"


def test_json_lists_what_was_skipped(ssimrdo, tmp_path):
    folder = tmp_path / "ct"
    write_series(folder, ct_volume(3, 32, 32))
    (folder / "bad.dcm").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    done = ssimrdo("encode", folder, "-o", tmp_path / "out.mp4", "--json", "--skip-bad")
    assert (done.status, others(done.err)) == (0, "")
    told, *_ = done.err.splitlines()
    assert told.startswith("ssimrdo: 2 files left out: ")
    assert "not a DICOM file (1)" in told
    skipped = json.loads(done.out)["skipped"]
    assert [entry["path"] for entry in skipped] == ["bad.dcm", "notes.txt"]
    assert all(set(entry) == {"path", "reason"} and entry["reason"] for entry in skipped)
    (folder / "bad.dcm").unlink()
    done = ssimrdo("encode", folder, "-o", tmp_path / "out.mp4", "--overwrite")
    assert done.err.splitlines()[0] == "ssimrdo: 1 file left out: not a DICOM file"


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_no_video_loses_its_record_to_another(ssimrdo, series, tmp_path, options):
    """``a.mp4`` and ``a.mkv`` would share ``a.json``."""
    assert ssimrdo("encode", series, "-o", tmp_path / "a.mp4").status == 0
    record = (tmp_path / "a.json").read_bytes()
    done = ssimrdo("encode", series, "-o", tmp_path / "a.mkv", *options)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"ssimrdo: error: {tmp_path / 'a.json'}: is the record of a.mp4, which is beside it",
        "ssimrdo: hint: use another name, or remove a.mp4 first",
    ]
    assert (tmp_path / "a.json").read_bytes() == record
    assert not (tmp_path / "a.mkv").exists()
    (tmp_path / "a.mp4").unlink()
    assert ssimrdo("encode", series, "-o", tmp_path / "a.mkv", "--overwrite").status == 0


@pytest.mark.parametrize("text", ["", "[]", '{"output": "x/y.mp4"}', '{"output": "a.mkv"}', "\0"])
def test_records_of_nothing_else_are_replaced(ssimrdo, series, tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert ssimrdo("encode", series, "-o", tmp_path / "a.mkv", "--overwrite").status == 0
    assert json.loads((tmp_path / "a.json").read_text())["output"] == "a.mkv"


def test_text_for_people(ssimrdo, series, tmp_path):
    output = tmp_path / "out.mp4"
    done = ssimrdo("encode", series, "-o", output, "--window", "lung")
    assert (done.status, others(done.err)) == (0, "")
    first, *lines = done.out.splitlines()
    assert first.startswith(f"{output}: 8 slices, 256x32, 8 bit, window -600/1500 HU")
    assert [line.split()[0] for line in lines] == [
        *("SSIM", "weighted", "PSNR", "worst", "RMSE", "time", "size")
    ]
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert f"worst     slice {sidecar['worst_slice_number']}" in done.out
    assert f"SSIM      mean {sidecar['ssim']['mean']:.5f}, worst slice " in done.out
    assert f"PSNR      mean {sidecar['psnr']['mean']:.2f} dB, worst slice " in done.out
    source = sum(path.stat().st_size for path in series.iterdir())
    assert (sidecar["source_bytes"], sidecar["bytes"]) == (source, output.stat().st_size)
    ratio = f"{source / output.stat().st_size:.3g} times smaller than the series"
    assert lines[-1].startswith(f"  size      {sidecar['bytes'] / 1000:.1f} kB, ")
    assert ratio in lines[-1]
    ssim = sidecar["ssim"]
    assert lines[-1].endswith(f"; SSIM {ssim['mean']:.4f}, worst slice {ssim['min']:.4f}")


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {}),
        (["--crf", "30"], {"crf": 30}),
        (
            ["--qp", "30", "--rdo", "off"],
            {"qp": 30, "rdo": "off", "effort": None, "preset": "medium"},
        ),
        (
            ["--bitrate", "150.4", "--preset", "fast"],
            {"bitrate_kbps": 150.4, "effort": None, "preset": "fast"},
        ),
        (["--effort", "fast"], {"effort": "fast"}),
        (["--rdo-strength", "1.5", "--bit-depth", "10"], {"rdo_strength": 1.5, "bit_depth": 10}),
        (["--threads", "1", "--x264-params", "bframes=1:no-cabac"], {"threads": 1}),
        (["--fps", "12.5", "--window", "-40/350.5"], {"fps": "25/2"}),
        (["--rdo", "ssim", "--even", "no"], {"rdo": "ssim", "even": False}),
    ],
)
def test_options_arrive_in_the_settings(ssimrdo, series, tmp_path, options, settings):
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mkv", *options)
    assert (done.status, others(done.err)) == (0, "")
    recorded = json.loads((tmp_path / "out.json").read_text())["settings"]
    expected = {**EncodeSettings().as_dict(), **settings}
    if {"qp", "bitrate_kbps"} & settings.keys():
        expected["crf"] = None
    if "--x264-params" in options:
        expected["x264_params"] = "bframes=1:no-cabac=1"
    if "--window" in options:
        expected["window"] = {"center": -40.0, "width": 350.5, "function": "LINEAR"}
    assert recorded == expected


def test_command_and_function_give_the_same_file(ssimrdo, series, tmp_path):
    ssimrdo("encode", series, "-o", tmp_path / "a.mp4", "--crf", "20")
    encode(series, tmp_path / "b.mp4", crf=20)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_single_file_is_a_series(ssimrdo, series, tmp_path):
    done = ssimrdo("encode", sorted(series.iterdir())[0], "-o", tmp_path / "out.mp4")
    assert (done.status, others(done.err)) == (0, "")
    assert len(frames_of(tmp_path / "out.mp4")) == 1


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        ["--bitrate", "100"],
        ["--threads", "1", "--preset", "ultrafast"],
        ["--x264-params", "tff=1"],
        ["--x264-params", "intra-refresh=1:keyint=1"],
        ["--x264-params", "nal-hrd=vbr:vbv-maxrate=300:vbv-bufsize=300:slices=3"],
        ["--x264-params", "sliced-threads=1", "--threads", "2", "--bit-depth", "10"],
        ["--fps", "0.01"],
        ["--fps", "1000"],
    ],
)
def test_tiny_series(ssimrdo, tmp_path, slices, options):
    write_series(tmp_path / "ct", ct_volume(slices, 16, 16))
    done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "out.mp4", *options)
    assert done.status == 0
    assert len(frames_of(tmp_path / "out.mp4")) == slices


@pytest.mark.parametrize("size", [(16, 3000), (3000, 18)])
def test_long_sides(ssimrdo, tmp_path, size):
    write_series(tmp_path / "ct", ct_volume(2, *size))
    done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "out.mkv")
    assert (done.status, others(done.err)) == (0, "")
    assert frames_of(tmp_path / "out.mkv")[0].width == size[1]


def test_verbose_shows_x264s_messages_on_stderr(ssimrdo, series, tmp_path):
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4", "-v", "--json")
    assert "profile High" in done.err
    assert "kb/s" in done.err
    assert shape_of(json.loads(done.out)) == KEYS | NEW_KEYS


@pytest.mark.parametrize(
    ("option", "source", "text"),
    [
        ([], "header", "window 40/80 HU, from the header"),
        (["--window", "auto"], "header", "window 40/80 HU, from the header"),
        (["--window", "lung"], "preset", "window -600/1500 HU, a preset"),
        # A preset's numbers are no preset.
        (["--window", "-600/1500"], "option", "window -600/1500 HU, as asked for"),
    ],
)
def test_the_window_is_said_with_where_it_comes_from(
    ssimrdo, series, tmp_path, option, source, text
):
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4", "--json", *option)
    assert done.err.splitlines().count(f"ssimrdo: {text}") == 1
    record = json.loads(done.out)
    assert record["window_source"] == source
    own = {"center": 40.0, "width": 80.0, "function": "LINEAR", "slices": 8}
    assert record["header_windows"] == [own]
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["window_source"] == source


def test_windows_that_differ_in_the_header_are_said_on_stderr(ssimrdo, tmp_path):
    paths = write_series(tmp_path / "ct", ct_volume(5, 32, 32))
    for path in paths[3:]:
        header = pydicom.dcmread(path)
        header.WindowCenter, header.WindowWidth = 35, 100
        header.save_as(path)
    done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "out.mp4", "--json")
    assert others(done.err) == (
        "ssimrdo: the windows in the header differ: 40/80 HU in 3 slices, 35/100 HU in 2 slices; "
        "using 35/100 HU for all\n"
    )
    record = json.loads(done.out)
    assert record["window"] == {"center": 35, "width": 100}
    assert [(one["width"], one["slices"]) for one in record["header_windows"]] == [
        (80, 3),
        (100, 2),
    ]
    done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "b.mp4", "--window", "lung")
    assert others(done.err) == ""


def test_no_window_in_the_header_is_said_on_stderr(ssimrdo, tmp_path):
    write_series(tmp_path / "ct", ct_volume(2, 32, 32), WindowCenter=None, WindowWidth=None)
    done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "out.mp4", "--json")
    assert done.status == 0
    assert others(done.err) == (
        "ssimrdo: the header has no window: using 40/400 HU; choose another\n"
    )
    record = json.loads(done.out)
    assert record["window"] == {"center": 40, "width": 400}
    assert (record["window_source"], record["header_windows"]) == ("fallback", [])
    assert "ssimrdo: window" not in done.err


@pytest.mark.parametrize("command", [None, *COMMANDS])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_an_example(ssimrdo, command, option):
    done = ssimrdo(*([command] if command else []), option)
    assert (done.status, done.err) == (0, "")
    example = re.search(r"Examples?:\s+ssimrdo (\w+) ", done.out)
    assert example is not None
    assert example[1] == (command or "encode")


def test_no_command_shows_the_help_on_stderr(ssimrdo):
    done = ssimrdo()
    assert (done.status, done.out) == (2, "")
    assert "Commands:" in done.err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from ssimrdo.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'numpy', 'numba', 'av', 'pydicom', 'rich'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Usage: ssimrdo" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(ssimrdo, option):
    done = ssimrdo(option)
    numbers = r"ssimrdo, version \d+\.\d+\.\d+\nx264 (\d+) \(0\.\1\.\d+ \w+\)\n"
    if NAMED["hevc"].lacking() is None:
        numbers += r"x265 \d+ \(\d+\.\d+[^\n]*\)\n"
    numbers += r"SVT-AV1 v\d+\.\d+\.\d+[^\n]*\n"
    assert re.fullmatch(numbers + r"FFmpeg [^\n]+, PyAV \d+\.\d+\.\d+\n", done.out)


def test_stderr_is_empty_without_a_terminal(series, tmp_path):
    command = [*SSIMRDO, "encode", str(series), "-o", "out.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert others(without_life(done.stderr)) == ""
    assert done.stdout.startswith("out.mp4: 8 slices")


def on_terminal(command, folder):
    """Run a command whose stderr is a terminal; return its stdout and what the terminal got."""
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(stderr)
    shown = b""
    try:
        while block := os.read(terminal, 4096):
            shown += block
    except OSError:
        # Linux says so when the other end of a terminal is closed.
        pass
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out, shown.decode()


def test_progress_on_a_terminal(phantom_folder, tmp_path):
    command = [*SSIMRDO, "encode", str(phantom_folder), "-o", "out.mp4", "--json"]
    out, shown = on_terminal(command, tmp_path)
    assert json.loads(out)["frames"] == 24
    assert re.search(r"\d+\.\d slices/s", shown)
    assert "24" in shown


def test_messages_have_lines_of_their_own_above_the_bar(series, tmp_path):
    command = [*SSIMRDO, "encode", str(series), "-o", "out.mp4", "--min-ssim", "0.9"]
    _, shown = on_terminal(command, tmp_path)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [line for line in re.split(r"[\r\n]+", text) if "ssimrdo: " in line]
    assert any(line.startswith("ssimrdo: trial 1: ") for line in lines)
    assert all(line.startswith("ssimrdo: ") for line in lines)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_closed_streams(series, tmp_path, closed):
    descriptor = {"stdout": 1, "stderr": 2}[closed]
    command = [*SSIMRDO, "encode", str(series), "-o", "out.mp4"]
    done = subprocess.run(
        command, capture_output=True, cwd=tmp_path, preexec_fn=lambda: os.close(descriptor)
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert len(frames_of(tmp_path / "out.mp4")) == 8


def test_nobody_reads_the_output(series, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*SSIMRDO, "encode", str(series), "-o", "out.mp4", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path)
    os.close(writer)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert len(frames_of(tmp_path / "out.mp4")) == 8
