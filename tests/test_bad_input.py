from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import partial

import pytest
from dicom_files import CANARY, write_series, write_slice
from messages import error_of, others
from video_files import ct_volume, frames_of, run_command

JPEG_LS = "1.2.840.10008.1.2.4.80"
MPEG2 = "1.2.840.10008.1.2.4.100"
OTHER_UID = "1.2.3.4"


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


@pytest.fixture
def refused(ssimrdo, tmp_path):
    """Return a function that runs an encode which has to be refused, and gives its message."""

    def run(*arguments, output="out.mp4"):
        folder = tmp_path / "output"
        folder.mkdir()
        done = ssimrdo("encode", *arguments, "-o", folder / output)
        assert (done.status, done.out) == (2, "")
        assert CANARY not in done.err
        assert list(folder.iterdir()) == []
        return f"ssimrdo: error: {error_of(done.err)}"

    return run


@pytest.fixture(scope="module")
def volume():
    return ct_volume(5, 32, 48)


@pytest.fixture(scope="module")
def series(volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, volume)
    return folder


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--crf", "20", "--qp", "20"], "give one of --crf, --qp, --bitrate, --min-ssim, --min"),
        (["--crf", "20", "--bitrate", "200"], "--bitrate: there is another rate beside it: give"),
        (["--effort", "fast", "--preset", "slow"], "give one of --effort and --preset"),
        (["--effort", "fast", "--rdo", "off"], "--effort: needs an objective: give --preset with"),
        (["--effort", "slow"], "--effort: 'slow' is unknown: use one of fast, default, high, max"),
        (["--measure", "vmaf"], "--measure: quality index 'vmaf' is unknown: use one of ssim,"),
        *(
            (["--crf", value], "error: --crf: ")
            for value in ("0", "0.5", "52", "nan", "inf", "-1", "x")
        ),
        *((["--crf", value, "--bit-depth", "10"], "error: --crf: ") for value in ("0", "51.5")),
        *((["--qp", value], "error: --qp: ") for value in ("0", "52", "2.5", "-3", "nan")),
        *(
            (["--bitrate", value], "error: --bitrate: ")
            for value in ("0", "nan", "-5", "inf", "1e9")
        ),
        *(
            (["--fps", value], "error: --fps: ")
            for value in (
                "0",
                "abc",
                "1/0",
                "-1",
                "nan",
                "inf",
                "1e400",
                "1e999999999",
                "",
                "1/2/3",
            )
        ),
        *((["--rdo-strength", value], "error: --rdo-strength: ") for value in ("-1", "nan", "4.5")),
        *((["--bit-depth", value], "error: --bit-depth: ") for value in ("9", "0", "x")),
        *((["--threads", value], "error: --threads: ") for value in ("-1", "129", "two")),
        *(
            (["--window", value], "error: --window: ")
            for value in ("foo", "40/0", "40/nan", "40", "", "40/-5", "1e400/1")
        ),
        (["--preset", "foo"], "--preset: 'foo'"),
        (["--preset", "Medium"], "--preset: 'Medium'"),
        (["--rdo", "on"], "--rdo: 'on' is unknown: use one of ssim, "),
        (["--tune", "psnr"], "--tune"),
        (["more"], "more"),
    ],
)
def test_bad_options(refused, series, options, named):
    assert named in refused(series, *options)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bogus=1", "'bogus'"),
        ("BFRAMES=1", "'BFRAMES'"),
        ("tune=psnr", "'tune'"),
        ("profile=main", "'profile'"),
        ("bframes=x", "'x' as the value of 'bframes'"),
        ("me=fast", "'fast'"),
        ("=1", "'=1'"),
        (":", "''"),
        ("bframes=2:", "''"),
        ("b\tframes=2", "not name=value"),
        ("bframes=\0", "NUL"),
        ("cqmfile=/no/such/file", "/no/such/file"),
        ("zones=0,4,bogus", "bogus"),
        ("level=1:ref=x", "'ref'"),
        *(
            (f"{name}={value}", name)
            for name, value in (
                *(("crf", 20), ("qp", 20), ("qp_constant", 20), ("bitrate", 100), ("pass", 2)),
                *(("stats", "x"), ("threads", 2), ("fps", 30), ("sar", "1/2"), ("width", 64)),
                *(("crop-rect", "2,2,2,2"), ("crop_rect", "2,2,2,2"), ("fullrange", "off")),
                *(("annexb", 0), ("repeat-headers", 0), ("repeat_headers", 0)),
                *(("global-header", 1), ("force-cfr", 0), ("log", 3), ("dump-yuv", "x")),
                *(("--crf", 20), ("avcintra-class", 50), ("bitdepth", 10), ("output-csp", "i444")),
            )
            for name in (name,)
        ),
        # x264 takes "no", "no-" and "_" as well, even for what is no switch.
        *(
            (f"{prefix}{name}=1", name)
            for prefix in ("no", "no-", "no_")
            for name in ("annexb", "repeat-headers", "global_header", "force-cfr")
        ),
        *((f"no{name}=1", name) for name in ("stats", "dump-yuv", "-dump_yuv")),
        *(
            (f"{name}={value}", "ignore quantizer offsets: take an aq-mode of 1 to 3")
            for name, values in (
                (("aq-mode"), ("0", "00", "0x0", "=0", "-1", "", "+0")),
                (("aq_mode"), ("0",)),
                (("aq-strength"), ("0", "0.0", "=0", "-1", "nan", "1e-46", "0x0p0")),
            )
            for value in values
        ),
        ("noaq-mode=1", ""),
    ],
)
def test_bad_x264_parameters(refused, series, monkeypatch, tmp_path, text, named):
    monkeypatch.chdir(tmp_path)
    message = refused(series, "--x264-params", text)
    assert message.startswith("ssimrdo: error: --x264-params: ")
    assert named.removeprefix("--") in message
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_x264_parameters_that_are_fine(ssimrdo, series, tmp_path):
    options = "bframes=2:no-cabac:aq-mode=2:aq_strength=0.3:keyint=infinite:psy=1"
    done = ssimrdo("encode", series, "-o", tmp_path / "a.mp4", "--x264-params", options)
    assert (done.status, others(done.err)) == (0, "")
    options = "aq-mode=0"
    done = ssimrdo(
        *("encode", series, "-o", tmp_path / "b.mp4", "--x264-params", options, "--rdo", "off")
    )
    assert (done.status, others(done.err)) == (0, "")


def test_no_such_folder(refused, tmp_path):
    assert f"{tmp_path}/none" in refused(tmp_path / "none")


def test_no_series_at_all(refused):
    assert "SERIES" in refused("")


def test_a_folder_without_dicom(refused, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    assert str(folder) in refused(folder)
    (folder / "notes.txt").write_text("no pixels here")
    shutil.rmtree(tmp_path / "output")
    assert str(folder) in refused(folder)


def test_a_folder_without_ct(refused, volume, tmp_path):
    write_series(tmp_path / "mr", volume, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    assert "no CT" in refused(tmp_path / "mr")


def test_several_series(refused, ssimrdo, volume, tmp_path):
    write_series(tmp_path / "ct/a", volume)
    write_series(tmp_path / "ct/b", volume, SeriesInstanceUID=OTHER_UID)
    assert "holds 2 CT series: choose one by its number" in refused(tmp_path / "ct")
    output = tmp_path / "output" / "out.mp4"
    done = ssimrdo("encode", tmp_path / "ct", "-o", output, "--series", OTHER_UID)
    assert (done.status, others(done.err)) == (0, "")
    assert len(frames_of(output)) == 5


def test_several_series_are_shown_as_a_table_without_uids(ssimrdo, volume, tmp_path):
    write_series(tmp_path / "ct/a", volume)
    write_series(tmp_path / "ct/b", volume[:1], SeriesInstanceUID=OTHER_UID)
    done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "out.mp4")
    _, heads, *rows, hint = done.err.splitlines()
    assert heads.split() == ["no", "slices", "size", "window"]
    cells = [re.split(r" {2,}", row.strip()) for row in rows]
    assert sorted(cells) == [
        ["1", cells[0][1], "48 x 32", "40/80 HU"],
        ["2", cells[1][1], "48 x 32", "40/80 HU"],
    ]
    assert {cells[0][1], cells[1][1]} == {"5", "1"}
    assert hint.startswith("ssimrdo: hint: choose one by its number with --series")
    assert OTHER_UID not in done.err


def test_an_unknown_series(refused, series):
    assert "no CT series has the UID that was given" in refused(series, "--series", "1.2.3")


def test_slices_of_different_size(refused, volume, tmp_path):
    write_series(tmp_path / "ct", volume)
    write_series(tmp_path / "ct/big", ct_volume(1, 48, 48))
    assert "size" in refused(tmp_path / "ct", "--skip-bad")


def test_slices_of_different_orientation(refused, volume, tmp_path):
    write_series(tmp_path / "ct", volume)
    write_series(tmp_path / "ct/tilted", volume[:1], orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    assert "ImageOrientationPatient" in refused(tmp_path / "ct")


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("PixelData", "pixel data"),
        ("RescaleSlope", "RescaleSlope"),
        ("RescaleIntercept", "RescaleIntercept"),
        ("ImagePositionPatient", "ImagePositionPatient"),
        ("Rows", "Rows"),
    ],
)
def test_missing_elements(refused, ssimrdo, volume, tmp_path, missing, named):
    write_series(tmp_path / "ct", volume)
    write_slice(tmp_path / "ct/bad.dcm", volume[0].astype("u2"), **{missing: None})
    err = refused(tmp_path / "ct")
    assert named in err
    assert "bad.dcm" in err
    skipping(ssimrdo, tmp_path, frames=5)


@pytest.mark.parametrize("kept", [0, 100, 300, 1500])
def test_truncated_files(refused, ssimrdo, volume, tmp_path, kept):
    files = write_series(tmp_path / "ct", volume)
    bad = tmp_path / "ct/bad.dcm"
    files[2].rename(bad)
    bad.write_bytes(bad.read_bytes()[:kept])
    assert "bad.dcm" in refused(tmp_path / "ct")
    gap = "ssimrdo: 1 slice is missing: the step is 2 mm, but 4 mm after slice 2\n"
    skipping(ssimrdo, tmp_path, frames=4, told=gap)


def test_corrupt_compressed_pixels(refused, ssimrdo, volume, tmp_path):
    files = write_series(tmp_path / "ct", volume, compress=JPEG_LS)
    bad = tmp_path / "ct/bad.dcm"
    files[2].rename(bad)
    data = bad.read_bytes()
    start = data.index(b"\xff\xd8\xff\xf7") + 2
    bad.write_bytes(data[:start] + bytes(len(data) - start - 4) + data[-4:])
    assert "bad.dcm" in refused(tmp_path / "ct")
    skipping(ssimrdo, tmp_path, frames=4)


def skipping(ssimrdo, tmp_path, *, frames, told=""):
    """Check that --skip-bad leaves out bad.dcm alone, and what else is told."""
    output = tmp_path / "skipped.mp4"
    done = ssimrdo("encode", tmp_path / "ct", "-o", output, "--skip-bad")
    assert (done.status, others(done.err)) == (0, told)
    assert "left out  1 file" in done.out
    assert len(frames_of(output)) == frames


@pytest.mark.parametrize("compress", [None, JPEG_LS])
def test_a_series_of_bad_slices_alone(refused, volume, tmp_path, compress):
    for path in write_series(tmp_path / "ct", volume, compress=compress):
        data = path.read_bytes()
        path.write_bytes(data[:-400] + bytes(398) + data[-2:] if compress else data[:-400])
    if compress is None:
        assert str(tmp_path / "ct") in refused(tmp_path / "ct", "--skip-bad")


def test_a_transfer_syntax_that_cannot_be_decoded(refused, volume, tmp_path):
    for path in write_series(tmp_path / "ct", volume):
        data = path.read_bytes()
        # Explicit VR Little Endian, padded to the same length.
        old, new = b"1.2.840.10008.1.2.1\0", MPEG2.encode()
        shorter = data.replace(old, new[:20].ljust(20, b"\0"), 1)
        path.write_bytes(shorter)
    assert "transfer syntax" in refused(tmp_path / "ct").lower()


def test_slices_that_are_too_small(refused, tmp_path):
    write_series(tmp_path / "ct", ct_volume(2, 15, 64))
    assert "64x15" in refused(tmp_path / "ct")


@pytest.mark.parametrize("spacing", [[0.001, 50], [20, 1]])
def test_absurd_pixel_spacing(refused, volume, tmp_path, spacing):
    write_series(tmp_path / "ct", volume, PixelSpacing=spacing)
    assert "PixelSpacing" in refused(tmp_path / "ct")


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("none/out.mp4", "no such folder"),
        ("out.avi", ".mp4, .mkv, .h264"),
        ("out", ".mp4, .mkv, .h264"),
        (".mp4", ".mp4, .mkv, .h264"),
        ("x" * 300 + ".mp4", "File name too long"),
    ],
)
def test_outputs_that_cannot_be(refused, series, output, named):
    assert named in refused(series, output=output)


@pytest.mark.parametrize("name", ["out.mp4", "out.json"])
def test_a_folder_in_the_way(ssimrdo, series, tmp_path, name):
    (tmp_path / name).mkdir()
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4", "--overwrite")
    assert (done.status, done.out) == (2, "")
    assert error_of(done.err) == f"{tmp_path / name}: is a folder: name a file"


def test_a_file_as_folder(ssimrdo, series, tmp_path):
    (tmp_path / "file").touch()
    done = ssimrdo("encode", series, "-o", tmp_path / "file" / "out.mp4")
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path}/file: no such folder" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(ssimrdo, series, tmp_path):
    tmp_path.chmod(0o500)
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4")
    tmp_path.chmod(0o700)
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path}: cannot write to this folder" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_read_only_disk(ssimrdo, series, tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this system does not let tests mount a file system")
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4")
    subprocess.run(["umount", str(tmp_path)], check=True)
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path}: cannot write to this folder" in done.err


def test_no_output_option(ssimrdo, series):
    done = ssimrdo("encode", series)
    assert (done.status, done.out) == (2, "")
    assert "--output" in done.err


def test_unknown_command(ssimrdo):
    done = ssimrdo("dance")
    assert (done.status, done.out) == (2, "")
    assert "dance" in done.err


@pytest.mark.parametrize(("given", "meant"), [("encod", "encode"), ("metric", "metrics")])
def test_the_nearest_command_is_named(ssimrdo, given, meant):
    done = ssimrdo(given)
    assert (done.status, done.out) == (2, "")
    assert error_of(done.err) == f"there is no command {given!r}: did you mean {meant}?"


@pytest.mark.parametrize(("given", "meant"), [("--min-sim", "--min-ssim"), ("--cfr", "--crf")])
def test_the_nearest_option_is_named(ssimrdo, given, meant):
    done = ssimrdo("encode", "ct", "-o", "out.mp4", given, "0.95")
    assert (done.status, done.out) == (2, "")
    assert error_of(done.err) == f"there is no option {given}: did you mean {meant}?"


def test_bad_input_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "ssimrdo", "encode", str(tmp_path), "-o", "out.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert error_of(done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "meant"), [(("--window", "lnug"), "lung"), (("--min", "psrn=40"), "psnr")]
)
def test_the_nearest_value_is_named(refused, series, option, meant):
    assert f": did you mean {meant}? " in refused(series, *option)
