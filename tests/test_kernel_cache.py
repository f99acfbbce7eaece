"""Numba's cache: damaged files are compiled again, in one process as in the next."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from dicom_files import write_series
from video_files import ct_volume

from ssimrdo.metrics import caching


def twice(number):
    return 2 * number


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that compiles and calls a kernel anew; tell hits and misses."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))

    def run():
        kernel = caching.compiled(twice, nogil=True)
        assert kernel(21) == 42
        assert kernel(0.25) == 0.5
        return sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())

    return run


def files(tmp_path, suffix):
    return sorted((tmp_path / "cache").rglob(f"*{suffix}"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def zeros_at_the_end(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def text(path):
    path.write_bytes(b"MUELLER^ANNA")


def folder(path):
    path.unlink()
    path.mkdir()


def gone(path):
    path.unlink()


def test_kernels_are_compiled_again_with_what_they_share(run, tmp_path, monkeypatch):
    shared = tmp_path / "shared.py"
    monkeypatch.setattr(caching, "SHARED", shared)
    assert [run(), run()] == [(0, 2), (2, 0)]
    shared.write_text("# changed")
    assert [run(), run()] == [(0, 2), (2, 0)]


def of_another_numba(path):
    """Make whole files of a version that had modules and types which this one has not."""
    content = b"cnumba.core.types.no_such_module\nNoSuchType\n."
    path.write_bytes(content + hashlib.sha256(content).digest())


DAMAGE = [cut, empty, zeros, zeros_at_the_end, one_bit, text, gone, of_another_numba]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_damaged_files_are_made_again(run, tmp_path, suffix, damage):
    assert run() == (0, 2)
    assert run() == (2, 0)
    for path in files(tmp_path, suffix):
        damage(path)
    assert run() == (0, 2)
    assert run() == (2, 0)


def test_folders_in_the_way_are_no_matter(run, tmp_path):
    run()
    for path in files(tmp_path, ".nbc") + files(tmp_path, ".nbi"):
        folder(path)
    assert run() == (0, 2)


def test_files_of_numba_itself_are_not_looked_at(run, tmp_path):
    run()
    for path in files(tmp_path, ".nbi"):
        assert "-checked.nbi" in path.name


def test_no_room_for_a_cache_is_no_matter(run, monkeypatch):
    """Nor is a full disk, or one that fails."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching._CheckedFile, "_write", full)
    assert run() == (0, 2)


def encode(folder, environment):
    return subprocess.run(
        [sys.executable, "-m", "ssimrdo", "encode", folder / "ct", "-o", folder / "a.mp4"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_encode_with_a_damaged_cache(tmp_path):
    write_series(tmp_path / "ct", ct_volume(2, 32, 32))
    cache = tmp_path / "cache"
    # Compiling is not what is tested.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBA_OPT": "0"}
    assert encode(tmp_path, environment).returncode == 0
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "a.json").unlink()
    # The first of all kernels, and some others.
    paths = sorted(path for path in cache.rglob("*.nb?") if "clipped" in path.name)
    paths += sorted(cache.rglob("*.nb?"))[::9]
    for number, path in enumerate(dict.fromkeys(paths)):
        DAMAGE[number % len(DAMAGE)](path)
    done = encode(tmp_path, environment)
    assert (done.returncode, "compiling" in done.stderr) == (0, True), done.stderr
    assert (tmp_path / "a.mp4").read_bytes() == whole


def test_encode_without_life(tmp_path):
    write_series(tmp_path / "ct", ct_volume(2, 16, 16))
    done = encode(tmp_path, {**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "a.mp4").exists()
