from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from dicom_files import write_series
from messages import others, without_life
from video_files import ct_volume, frames_of, run_command

from ssimrdo import CancelledError, InputError, Observer, encode, encode_frames

SSIMRDO = [sys.executable, "-m", "ssimrdo"]


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, ct_volume(6, 48, 64))
    return folder


@pytest.fixture
def finished(tmp_path):
    """An output and its sidecar from an earlier run."""
    (tmp_path / "out.mp4").write_bytes(b"video")
    (tmp_path / "out.json").write_bytes(b"sidecar")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_until_writing(series, folder, end, *options, until=".*.partial"):
    """Start an encode that takes long, end it once a file is there, and return its output."""
    command = [*SSIMRDO, "encode", str(series), "-o", str(folder / "out.mp4"), *options]
    process = subprocess.Popen(
        [*command, "--preset", "placebo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any(folder.glob(until)):
        time.sleep(0.001)
    process.send_signal(end)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, without_life(err)


@pytest.mark.parametrize(
    ("end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_encode_that_is_ended_leaves_the_old_files(phantom_folder, finished, end, status):
    before = contents(finished)
    returncode, out, err = run_until_writing(phantom_folder, finished, end, "--overwrite")
    assert (returncode, out) == (status, "")
    assert "Traceback" not in err
    # The terminal shows ^C; click ends that line.
    expected = "ssimrdo: error: interrupted; nothing was written" if status == 130 else ""
    assert err.strip() == expected
    left = contents(finished)
    if end == signal.SIGKILL:
        left = {name: data for name, data in left.items() if not name.endswith(".partial")}
    assert left == before


def test_two_passes_that_are_ended_leave_no_statistics(phantom_folder, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    options = ("--bitrate", "500")
    result = run_until_writing(
        phantom_folder, tmp_path, signal.SIGTERM, *options, until="scratch/ssimrdo-*/*"
    )
    assert result == (143, "", "")
    assert names(scratch) == []
    assert names(tmp_path) == ["scratch"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264"])
@pytest.mark.parametrize("limit", [1000, 3000])
def test_a_full_disk_leaves_nothing_and_names_the_output(ssimrdo, series, tmp_path, suffix, limit):
    output = tmp_path / f"out{suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        done = ssimrdo("encode", series, "-o", output, "--qp", "10")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.status, done.out) == (1, "")
    assert done.err == f"ssimrdo: error: {output}: File too large\n"
    assert names(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 16 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    command = [mount, "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this system does not let tests mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".mp4", ".h264"])
def test_no_space_left_keeps_the_old_output(ssimrdo, series, small_disk, suffix):
    output = small_disk / f"out{suffix}"
    output.write_bytes(b"video")
    done = ssimrdo("encode", series, "-o", output, "--qp", "1", "--overwrite")
    assert done.status == 1
    assert done.err == f"ssimrdo: error: {output}: No space left on device\n"
    assert contents(small_disk) == {output.name: b"video"}


@pytest.mark.parametrize("taken", ["out.mp4", "out.json"])
def test_an_existing_file_is_refused_without_overwrite(ssimrdo, series, tmp_path, taken):
    (tmp_path / taken).write_bytes(b"mine")
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4")
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path / taken}: exists already" in done.err
    assert contents(tmp_path) == {taken: b"mine"}


def test_a_dangling_link_is_not_replaced_without_overwrite(series, tmp_path):
    (tmp_path / "out.mp4").symlink_to("nowhere")
    with pytest.raises(InputError, match="exists already"):
        encode(series, tmp_path / "out.mp4")


def test_overwrite_replaces_both_files(ssimrdo, series, finished):
    done = ssimrdo("encode", series, "-o", finished / "out.mp4", "--overwrite", "--json")
    assert done.status == 0
    assert names(finished) == ["out.json", "out.mp4"]
    assert len(frames_of(finished / "out.mp4")) == 6
    assert json.loads((finished / "out.json").read_text())["bytes"] == json.loads(done.out)["bytes"]


def test_of_two_encodes_to_one_output_the_first_wins(series, tmp_path):
    output = tmp_path / "out.mp4"

    def other_process(event):
        if event.done == event.total:
            encode(series, output, qp=40)

    with pytest.raises(InputError, match="exists already"):
        encode(series, output, qp=10, observer=Observer(other_process))
    assert names(tmp_path) == ["out.json", "out.mp4"]
    assert json.loads((tmp_path / "out.json").read_text())["settings"]["qp"] == 40
    assert len(frames_of(output)) == 6


def test_a_sidecar_that_came_first_wins_too(series, tmp_path):
    def other_process(event):
        if event.done == event.total:
            (tmp_path / "out.json").write_bytes(b"mine")

    with pytest.raises(InputError, match=r"out\.json: exists already"):
        encode(series, tmp_path / "out.mp4", observer=Observer(other_process))
    assert contents(tmp_path) == {"out.json": b"mine"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_error_on_the_way_leaves_the_old_files(series, finished, overwrite):
    output = finished / ("out.mp4" if overwrite else "new.mp4")
    before = contents(finished)

    def fail(event):
        raise RuntimeError(event)

    with pytest.raises(RuntimeError):
        encode(series, output, overwrite=overwrite, observer=Observer(fail))
    assert contents(finished) == before


def test_files_get_the_permissions_of_the_umask(series, tmp_path):
    old = os.umask(0o027)
    try:
        encode(series, tmp_path / "out.mp4")
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o640}


@pytest.mark.parametrize(
    "name", ["two words.mp4", "größe.mkv", "-dash.mp4", "a:b.mp4", "%d.h264", "x" * 250 + ".mp4"]
)
def test_odd_names(ssimrdo, series, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    done = ssimrdo("encode", series, "-o", name)
    assert (done.status, others(done.err)) == (0, "")
    assert done.out.startswith(f"{name}: 6 slices")
    assert len(frames_of(tmp_path / name)) == 6
    assert len(names(tmp_path)) == 2


def test_a_name_that_no_encoding_takes(ssimrdo, series, tmp_path):
    name = os.fsdecode(b"\xff.mp4")
    done = ssimrdo("encode", series, "-o", f"{tmp_path}/{name}")
    assert (done.status, others(done.err)) == (0, "")
    assert "/?.mp4: 6 slices" in done.out


def test_series_and_output_through_links(ssimrdo, series, tmp_path):
    (tmp_path / "in").symlink_to(series)
    (tmp_path / "real").mkdir()
    (tmp_path / "to").symlink_to("real")
    done = ssimrdo("encode", tmp_path / "in", "-o", tmp_path / "to" / "out.mp4")
    assert done.status == 0
    assert names(tmp_path / "real") == ["out.json", "out.mp4"]


def test_an_output_beside_the_slices_can_be_replaced(ssimrdo, tmp_path):
    write_series(tmp_path, ct_volume(3, 32, 32))
    for _ in range(2):
        done = ssimrdo("encode", tmp_path, "-o", tmp_path / "out.mp4", "--overwrite")
        assert (done.status, others(done.err)) == (0, "")
    assert len(frames_of(tmp_path / "out.mp4")) == 3


@pytest.mark.parametrize("name", ["slice.mp4", "slice.json"])
def test_a_slice_is_never_the_output(ssimrdo, tmp_path, name):
    files = write_series(tmp_path, ct_volume(3, 32, 32))
    files[1].rename(tmp_path / name)
    before = contents(tmp_path)
    done = ssimrdo("encode", tmp_path, "-o", tmp_path / "slice.mp4", "--overwrite")
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path / name}: is a DICOM file" in done.err
    assert contents(tmp_path) == before


def test_a_hard_link_to_a_slice_is_never_the_output(tmp_path):
    (first, *_) = write_series(tmp_path / "ct", ct_volume(3, 32, 32), preamble=False)
    os.link(first, tmp_path / "out.mp4")
    with pytest.raises(InputError, match="is a DICOM file"):
        encode(tmp_path / "ct", tmp_path / "out.mp4", overwrite=True)


def test_frames_never_replace_a_slice(tmp_path):
    (first, *_) = write_series(tmp_path, ct_volume(1, 32, 32))
    first.rename(tmp_path / "slice.mp4")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="is a DICOM file"):
        encode_frames([np.zeros((32, 32), np.uint8)], tmp_path / "slice.mp4", overwrite=True)
    assert contents(tmp_path) == before


def test_cancelling_leaves_no_file_and_says_so(series, tmp_path):
    observer = Observer()
    told = []

    def tell(event):
        told.append(event)
        if event.done == 3:
            observer.cancel.set()

    watched = Observer(tell, observer.cancel)
    with pytest.raises(CancelledError, match="cancelled"):
        encode(series, tmp_path / "out.mp4", observer=watched)
    assert [event.done for event in told] == [1, 2, 3]
    assert names(tmp_path) == []


def test_nothing_is_begun_once_it_is_cancelled(series, finished):
    observer = Observer(lambda event: pytest.fail(f"told {event}"))
    observer.cancel.set()
    before = contents(finished)
    with pytest.raises(CancelledError):
        encode(series, finished / "out.mp4", overwrite=True, observer=observer)
    assert contents(finished) == before
