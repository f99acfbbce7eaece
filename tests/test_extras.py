"""What is said where a library is missing, and what pip makes of the commands that are named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import av
import pytest

from ssimrdo.extras import EXTRA_OF, explain_import

ROOT = Path(__file__).parents[1]
HOW = "from ssimrdo.extras import how_to_install; print(how_to_install('report'))"


def how_to_install(folder: Path, prefix: Path | None = None) -> str:
    """Return the command that a copy of the package in a folder names."""
    shutil.copytree(ROOT / "ssimrdo", folder / "ssimrdo", ignore=shutil.ignore_patterns("*.so"))
    where = "" if prefix is None else f"import sys; sys.prefix = {str(prefix)!r}; "
    command = [sys.executable, "-c", where + HOW]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def as_checkout(folder: Path) -> None:
    (folder / "scripts").mkdir()
    (folder / "scripts" / "setup").touch()


def test_what_to_install_follows_from_where_the_package_came_from(tmp_path: Path) -> None:
    for name in ("wheel", "checkout", "own"):
        (tmp_path / name).mkdir()
    assert how_to_install(tmp_path / "wheel") == 'pip install "ssimrdo[report]"'
    checkout = tmp_path / "checkout"
    as_checkout(checkout)
    assert how_to_install(checkout, checkout / ".venv") == "scripts/setup report"
    own = tmp_path / "own"
    as_checkout(own)
    assert how_to_install(own, tmp_path / "venv") == f'pip install -e "{own}[report]"'


def test_extras_that_are_named_are_there() -> None:
    text = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert set(EXTRA_OF.values()) <= set(re.findall(r"^([\w-]+) = \[", text, re.MULTILINE))


def test_every_module_that_comes_along_is_told_by_its_package() -> None:
    needed = [re.match(r"[\w.-]+", one) for one in requires("ssimrdo") or () if ";" not in one]
    names = {one[0] for one in needed if one}
    assert {"av", "pylibjpeg-openjpeg"} <= names
    for module, packages in packages_distributions().items():
        found = {package.lower() for package in packages} & names
        # Folders of shared libraries are no modules.
        if found and module.isidentifier():
            (package,) = found
            text = explain_import(ModuleNotFoundError("no module", name=f"{module}.part"))
            assert f"the Python package {package} is missing" in text
            assert re.search(rf'-m pip install "{package}>=[\d.]+"$', text)


def test_package_that_nobody_asked_for_is_not_named_to_pip() -> None:
    text = explain_import(ModuleNotFoundError("No module named 'other'", name="other"))
    assert text == (
        "the installation is incomplete (No module named 'other'): install ssimrdo anew"
    )


def test_library_that_does_not_load_is_told_by_its_package() -> None:
    assert av.__file__
    path = Path(av.__file__).with_name("_core.abi3.so")
    # PyAV calls it so.
    text = explain_import(ImportError("libav.so: cannot open", name="_core", path=str(path)))
    assert re.fullmatch(
        r'libav\.so: cannot open: \S+ -m pip install --force-reinstall "av>=\d+"', text
    )


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("no shim", name="ssimrdo.codecs.x264._shim"),
        ImportError("no shim", name="_shim", path=str(ROOT / "ssimrdo/codecs/x264/_shim.abi3.so")),
    ],
)
def test_shim_that_does_not_load_asks_for_another_installation(error: ImportError) -> None:
    text = explain_import(error)
    assert text == "the installation is incomplete (no shim): install ssimrdo anew"


@pytest.mark.parametrize(
    ("module", "requirement", "command"),
    [
        ("click", "click>=", ["--help"]),
        ("av", "av>=", ["--version"]),
        ("_cffi_backend", "cffi>=", ["--version"]),
        ("numpy", "numpy>=", ["encode", "IN", "-o", "OUT"]),
        ("numba", "numba>=", ["encode", "IN", "-o", "OUT"]),
        ("pydicom", "pydicom>=", ["phantom", "OUT"]),
        ("pebble", "pebble>=", ["batch", "IN", "-o", "OUT"]),
    ],
)
def test_missing_library_gives_one_line(
    module: str, requirement: str, command: list[str], phantom_folder: Path, tmp_path: Path
) -> None:
    words = {"IN": str(phantom_folder), "OUT": str(tmp_path / "out.mp4")}
    code = f"import sys; sys.modules[{module!r}] = None; from ssimrdo.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *(words.get(word, word) for word in command)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.match(r"ssimrdo: error: the Python package [\w.-]+ is missing: ", line)
    assert f'-m pip install "{requirement}' in line
    assert list(tmp_path.iterdir()) == []
