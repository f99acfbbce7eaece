"""Kernels: machine code on disk does what the source says, and damaged files are made again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from video_files import ct_volume

from ssimrdo.metrics import caching, compiling


def twice(number):
    return 2 * number


def spread_of(plane, factor, scratch, out):
    """Fill an array with what has been written into another, and return two numbers."""
    steps = scratch.shape[0]
    low = plane[0, 0] * 1.0
    high = low
    for step in range(steps):
        for r in range(plane.shape[0]):
            for i in range(plane.shape[1]):
                scratch[step, r, i] = plane[r, i] * factor + step
    last = scratch[steps - 1]
    for r in range(plane.shape[0]):
        for i in range(plane.shape[1]):
            out[r, i] = last[r, i]
            low = min(low, out[r, i])
            high = max(high, out[r, i])
    return low, high


def total_of_ones(count):
    """Take memory from Numba."""
    return np.ones(count, np.float64).sum()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that calls a kernel anew; tell what was loaded and what compiled."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def run():
        kernel = caching.compiled(twice, nogil=True)
        assert kernel(21) == 42
        assert kernel(0.25) == 0.5
        return kernel.loaded, kernel.compiled

    return run


def files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.code"))


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
    """Make a whole file of a version whose code this one does not call."""
    head, code = path.read_bytes()[:-32].split(b"\n", 1)
    found = json.loads(head)
    found["stamp"][-1] = [0.0, 1]
    content = json.dumps(found).encode() + b"\n" + b"\0" * len(code)
    path.write_bytes(content + hashlib.sha256(content).digest())


DAMAGE = [cut, empty, zeros, zeros_at_the_end, one_bit, text, gone, of_another_numba]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_made_again(run, tmp_path, damage):
    assert run() == (0, 2)
    assert run() == (2, 0)
    for path in files(tmp_path):
        damage(path)
    assert run() == (0, 2)
    assert run() == (2, 0)


def test_folders_in_the_way_are_no_matter(run, tmp_path):
    run()
    for path in files(tmp_path):
        folder(path)
    assert run() == (0, 2)
    # Nor does what could not be written stay behind.
    assert all(path.suffix == ".code" for path in (tmp_path / "cache").rglob("*.*"))


def test_no_room_for_a_cache_is_no_matter(run, monkeypatch):
    """Nor is a full disk, or one that fails."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching, "NamedTemporaryFile", full)
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
    paths = sorted(path for path in cache.rglob("*.code") if "clipped" in path.name)
    paths += sorted(cache.rglob("*.code"))[::3]
    for number, path in enumerate(dict.fromkeys(paths)):
        DAMAGE[number % len(DAMAGE)](path)
    done = encode(tmp_path, environment)
    assert (done.returncode, "compiling" in done.stderr) == (0, True), done.stderr
    assert (tmp_path / "a.mp4").read_bytes() == whole


@pytest.mark.parametrize("samples", [np.uint8, np.uint16, np.float32, np.float64, np.int64])
@pytest.mark.usefixtures("run")
def test_machine_code_does_what_the_source_says(samples):
    """Also with arrays that are not contiguous or may not be changed."""
    kernel = caching.compiled(spread_of, nogil=True)
    x = np.arange(60, dtype=samples).reshape(6, 10)
    frozen = x[:, :4].copy()
    frozen.setflags(write=False)
    for plane in (x, x[::2, 1:9], x.T, frozen):
        out, expected = np.zeros(plane.shape), np.zeros(plane.shape)
        scratch = np.empty((3, *plane.shape))
        found = kernel(plane, np.float32(0.5), scratch, out)
        assert found == spread_of(plane, 0.5, scratch, expected)
        assert out == pytest.approx(expected, abs=0)
    assert (kernel.loaded, kernel.compiled) == (0, 3)


@pytest.mark.usefixtures("run")
def test_kernels_that_take_memory_are_called_through_numba(tmp_path):
    kernel = caching.compiled(total_of_ones, nogil=True)
    assert kernel(1000) == 1000
    assert (kernel.loaded, kernel.compiled) == (0, 1)
    assert files(tmp_path) == []


@pytest.mark.usefixtures("run")
def test_what_no_code_can_be_for_is_refused():
    kernel = caching.compiled(twice, nogil=True)
    for argument in ("1", None, 1j, np.zeros(3, ">f4"), np.zeros(3, bool), np.zeros(3, object)):
        with pytest.raises(TypeError):
            kernel(argument)


def test_the_installed_numba_is_one_whose_code_can_be_called():
    assert compiling.is_known()


def test_code_of_an_unknown_numba_is_called_through_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "KNOWN", ((0, 1), (0, 2)))
    assert [run(), run()] == [(0, 2), (0, 2)]
    assert files(tmp_path) == []


ENCODE = """
import sys
from collections import Counter

opened = Counter()
sys.addaudithook(lambda event, arguments: opened.update(arguments[:1]) if event == "open" else None)

from ssimrdo.dicom.read import elements

scan, scans = elements._scan, []
elements._scan = lambda *arguments, **options: scans.append(1) or scan(*arguments, **options)

from ssimrdo.cli import main

try:
    main()
finally:
    print(*sorted({"numba", "pydicom", "scipy"} & {*sys.modules}))
    print({count for path, count in opened.items() if str(path).endswith(".dcm")}, len(scans))
"""


def test_encode_imports_no_compiler_and_reads_headers_once(tmp_path):
    """Kernels are on disk after the first one; pixels are found without the header."""
    write_series(tmp_path / "ct", ct_volume(5, 32, 32))
    for name in ("first.mp4", "second.mp4"):
        command = [sys.executable, "-c", ENCODE, "encode", tmp_path / "ct", "-o", tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, imported, read = done.stdout.splitlines()
    assert imported == ""
    # Once for the header and once for the pixels; File Meta Information and data set.
    assert read == "{2} 10"


LATE = """
import inspect

from ssimrdo.metrics import caching

made, late = caching.Kernel._made, []


def made_when(kernel, kinds):
    known = {frame.function for frame in inspect.stack()}
    if kernel.function.__module__.startswith("ssimrdo.metrics") and "load_kernels" not in known:
        late.append((kernel.function.__name__, *map(tuple, kinds)))
    return made(kernel, kinds)


caching.Kernel._made = made_when

from ssimrdo.cli import main

try:
    main()
finally:
    print(late)
"""


def test_no_kernel_is_loaded_late(tmp_path):
    """Nor for padding, whose mask is not to be changed."""
    volume = ct_volume(3, 32, 32)
    volume[:, :6] = -1024
    write_series(tmp_path / "ct", volume, PixelPaddingValue=0)
    command = [sys.executable, "-c", LATE, "encode", tmp_path / "ct", "-o", tmp_path / "a.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert json.loads((tmp_path / "a.json").read_text())["ct"]["padded"]


def test_encode_without_compiling(tmp_path):
    write_series(tmp_path / "ct", ct_volume(2, 16, 16))
    done = encode(tmp_path, {**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "a.mp4").exists()
