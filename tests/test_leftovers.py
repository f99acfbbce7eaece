"""What killed processes leave: found by the next run, and nothing else is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest
from dicom_files import write_series
from video_files import ct_volume

from ssimrdo.comparison import cache
from ssimrdo.files import (
    ABANDONED_S,
    PARTIAL,
    SCRATCH,
    remove_abandoned,
    scratch_folder,
    whole_files,
    whole_folder,
)

SSIMRDO = [sys.executable, "-m", "ssimrdo"]
OLD = ABANDONED_S + 10


def age(*paths):
    for path in paths:
        then = time.time() - OLD
        os.utime(path, (then, then), follow_symlinks=False)


def killed(command, environment, until):
    """Run a command, kill it once a condition holds, and return what it had made by then."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (found := until()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    return found


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def environment(scratch):
    return {**os.environ, "TMPDIR": str(scratch)}


@pytest.fixture
def series(tmp_path):
    write_series(tmp_path / "ct", ct_volume(40, 256, 256))
    return tmp_path / "ct"


def test_luma_of_a_killed_comparison_goes_at_the_next_start(tmp_path, scratch, series, environment):
    compare = [
        *(*SSIMRDO, "compare", series, "-o", tmp_path / "report", "--no-cache", "--metric", "ssim"),
        *("--slices", "40", "--preset", "veryslow"),
    ]
    (folder,) = killed(
        compare,
        environment,
        lambda: [path for path in scratch.iterdir() if any(path.glob("*.raw"))],
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    encode = [*SSIMRDO, "encode", series, "-o", tmp_path / "a.mp4", "--bitrate", "100"]
    subprocess.run(encode, env=environment, check=True, capture_output=True)
    # It might have been made a moment ago by somebody who is about to use it.
    assert folder.exists()
    age(folder)
    subprocess.run([*encode, "--overwrite"], env=environment, check=True, capture_output=True)
    assert list(scratch.iterdir()) == []


def test_partial_files_of_a_killed_encode_go_at_the_next_one(tmp_path, series, environment):
    out = tmp_path / "out"
    out.mkdir()
    encode = [*SSIMRDO, "encode", series, "-o", out / "a.mp4"]
    partial = killed(
        [*encode, "--preset", "placebo"],
        environment,
        lambda: paths if len(paths := list(out.glob(".*.partial"))) == 2 else [],
    )
    age(*partial)
    other = out / ".mine.partial"
    other.touch()
    age(other)
    subprocess.run([*SSIMRDO, "encode", series, "-o", out / "b.mp4"], check=True)
    assert sorted(path.name for path in out.iterdir()) == [".mine.partial", "b.json", "b.mp4"]


def survives_cleaning(held):
    """Make what is in use look old, and clean up behind its back as another process would."""
    age(*held)
    for folder in {path.parent for path in held}:
        for names in (PARTIAL, SCRATCH):
            code = (
                "import re, sys; from pathlib import Path; from ssimrdo import files; "
                f"files.remove_abandoned(Path({str(folder)!r}), re.compile({names.pattern!r}))"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
    return all(path.exists() for path in held)


def test_what_is_in_use_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with whole_files(tmp_path / "a", tmp_path / "b", overwrite=False) as files:
        assert survives_cleaning(files)
    with whole_folder(tmp_path / "c", overwrite=False) as folder:
        assert survives_cleaning([folder])
    with scratch_folder() as folder:
        assert survives_cleaning([folder])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_only_what_is_ours_old_and_held_by_nobody_goes(tmp_path):
    name = f"ssimrdo-scratch-{'0' * 15}"
    folder, file, link, young = (tmp_path / f"{name}{digit}" for digit in "1234")
    other = tmp_path / "ssimrdo-scratch-x"
    elsewhere = tmp_path / "elsewhere"
    for path in (folder, elsewhere, other, young):
        path.mkdir()
        (path / "luma.raw").write_bytes(b"luma")
    file.write_bytes(b"")
    link.symlink_to(elsewhere)
    age(folder, file, link, other)
    remove_abandoned(tmp_path, SCRATCH)
    left = {path for path in tmp_path.iterdir() if os.path.lexists(path)}
    assert left == {link, young, elsewhere, other}
    assert (elsewhere / "luma.raw").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_others_own_stays(tmp_path):
    folder = tmp_path / f"ssimrdo-scratch-{'0' * 16}"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    age(folder)
    remove_abandoned(tmp_path, SCRATCH)
    assert folder.exists()


def test_cache_is_for_its_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    before = os.umask(0)
    try:
        own = cache.make_folder(cache.default_folder())
        assert own.is_relative_to(tmp_path / "home")
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        # One that an earlier version made.
        own.chmod(0o755)
        assert stat.S_IMODE(cache.make_folder(own).stat().st_mode) == 0o700
        assert stat.S_IMODE(cache.make_folder(tmp_path / "a").stat().st_mode) == 0o700
        # Whoever shares a folder has said with whom.
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o775)
        assert stat.S_IMODE(cache.make_folder(shared).stat().st_mode) == 0o775
    finally:
        os.umask(before)


def test_lock_goes_with_its_process(tmp_path):
    code = (
        "import sys, time, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from ssimrdo.files import scratch_folder\n"
        "with scratch_folder() as folder:\n    print(folder, flush=True)\n    time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = process.stdout.readline().strip()
    age(folder)
    assert survives_cleaning([tmp_path / folder])
    process.kill()
    process.wait()
    process.stdout.close()
    age(folder)
    remove_abandoned(tmp_path, SCRATCH)
    assert list(tmp_path.iterdir()) == []
