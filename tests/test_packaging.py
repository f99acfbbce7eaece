"""The source distribution, and a wheel where there is no compiler beside a build from source.

``scripts/build_wheel --check`` runs this on the wheel that it has built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import pytest

from ssimrdo.codecs.x264.encoder import x264_build

ROOT = Path(__file__).parents[1]
WHEEL = os.environ.get("SSIMRDO_WHEEL")
# What tests/test_x264.py imports.
SHIM_TESTS = ("test_x264.py", "conftest.py")
MADE = (".so", ".pyc", "native/_shim.c", "native/_shim_x265.c")

needs_wheel = pytest.mark.skipif(
    not WHEEL, reason="SSIMRDO_WHEEL names no wheel (scripts/build_wheel --check)"
)


def environment(fresh: Path) -> dict[str, str]:
    """Return variables of a shell that finds the programs of an environment and no others."""
    kept = {name: text for name, text in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    home = str(fresh.parent)
    return {**kept, "PATH": str(fresh / "bin"), "HOME": home, "CC": "/no/compiler"}


def run(fresh: Path, *command: str | Path, cwd: Path) -> str:
    """Run a program of a fresh environment; return what it printed."""
    done = subprocess.run(
        [fresh / "bin" / command[0], *command[1:]],
        cwd=cwd,
        env=environment(fresh),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment that has the wheel and what its tests need."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for name in ("cc", "gcc", "clang", "pkg-config"):
        assert shutil.which(name, path=environment(folder)["PATH"]) is None
    pip = ("pip", "install", "--quiet", "--no-input", "--only-binary", ":all:")
    assert WHEEL
    run(folder, *pip, Path(WHEEL).resolve(), "pytest", "hypothesis", cwd=folder)
    return folder


def packets(video: Path) -> list[tuple[bytes, int | None, int | None, bool]]:
    """Return the coded pictures of a video with their times."""
    with av.open(str(video)) as container:
        return [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in container.demux(video=0)
        ]


@needs_wheel
def test_stream_is_that_of_a_build_from_source(fresh: Path, tmp_path: Path) -> None:
    code = "from ssimrdo.codecs.x264.encoder import x264_build; print(x264_build())"
    if run(fresh, "python", "-c", code, cwd=tmp_path).strip() != x264_build():
        pytest.skip(f"the build from source has x264 {x264_build()}")
    options = ("encode", str(ROOT / "data/phantom"), "--window", "40/400", "-o")
    ours, theirs = tmp_path / "wheel.mp4", tmp_path / "source.mp4"
    run(fresh, "ssimrdo", *options, ours, cwd=tmp_path)
    source = [sys.executable, "-m", "ssimrdo", *options, str(theirs)]
    subprocess.run(source, cwd=ROOT, check=True, capture_output=True)
    assert len(packets(ours)) >= 24
    assert packets(ours) == packets(theirs)


@needs_wheel
def test_shim_passes_its_own_tests(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name in SHIM_TESTS:
        shutil.copy2(ROOT / "tests" / name, tmp_path / "tests" / name)
    where = run(fresh, "python", "-c", "import ssimrdo; print(ssimrdo.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(fresh)
    printed = run(fresh, "python", "-m", "pytest", "-q", "tests/test_x264.py", cwd=tmp_path)
    assert " passed" in printed


@needs_wheel
def test_extra_is_missing_in_one_line_that_pip_understands(fresh: Path, tmp_path: Path) -> None:
    command = [fresh / "bin/ssimrdo", "inspect", ROOT / "data/phantom", "-o", "maps.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(fresh), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(': pip install "ssimrdo[report]"')
    report = ("--dry-run", "--no-input", "--only-binary", ":all:", "ssimrdo[report]")
    assert "matplotlib" in run(fresh, "pip", "install", *report, cwd=tmp_path)


@needs_wheel
def test_wheel_holds_the_licences_and_says_where_the_source_is() -> None:
    assert WHEEL
    assert "-cp311-abi3-" in WHEEL
    assert "manylinux2014_x86_64" in WHEEL
    with zipfile.ZipFile(WHEEL) as wheel:
        names = {name.partition(".dist-info/licenses/")[2]: name for name in wheel.namelist()}
        assert {"LICENSE", "native/licenses/COPYING", "native/licenses/AUTHORS"} <= set(names)
        reference = wheel.read(names["native/licenses/x264.txt"]).decode()
        copying = wheel.read(names["native/licenses/COPYING"])
    assert b"GNU GENERAL PUBLIC LICENSE" in copying
    assert reference == (ROOT / "native/licenses/x264.txt").read_text()


def test_source_distribution_holds_what_the_build_and_the_tests_need(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="80")
    tree = tmp_path / "tree"
    made = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, tree, ignore=made)
    code = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2]: mode for name, mode in _modes(archive)}
    for folder in ("data", "docs", "native", "scripts", "ssimrdo", "tests"):
        wanted = {str(one.relative_to(tree)) for one in (tree / folder).rglob("*") if one.is_file()}
        assert {one for one in wanted - set(held) if not one.endswith(MADE)} == set()
    assert "CITATION.cff" in held
    assert held["scripts/setup"] & 0o100
    assert not [name for name in held if name.endswith(MADE)]


def _modes(archive: tarfile.TarFile) -> list[tuple[str, int]]:
    return [(one.name, one.mode) for one in archive.getmembers() if one.isfile()]
