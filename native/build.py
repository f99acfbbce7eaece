"""Build ``ssimrdo.codecs.x264._shim``: cffi's glue around ``encoder.c``, linked to libx264.

The source distribution holds what the build, the tests and the scripts need.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from cffi import FFI
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

NATIVE = Path(__file__).resolve().parent
# cffi's generated glue leaves some helpers and parameters unused; encoder.c has neither.
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function"]


def pkg_config(*arguments: str) -> list[str]:
    """Return what pkg-config says about libx264, split into words."""
    try:
        done = subprocess.run(
            ["pkg-config", *arguments, "x264"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            "ssimrdo needs libx264's headers, pkg-config and a C compiler: "
            "apt-get install libx264-dev pkg-config gcc"
        ) from error
    return shlex.split(done.stdout)


def declarations() -> str:
    """Return encoder.h as cffi reads it: without preprocessor lines."""
    header = (NATIVE / "encoder.h").read_text()
    return re.sub(r"^#.*$", "", header, flags=re.MULTILINE)


def write_glue(path: Path) -> None:
    """Write cffi's C source for the functions of encoder.h."""
    builder = FFI()
    builder.cdef(declarations())
    builder.set_source("ssimrdo.codecs.x264._shim", '#include "encoder.h"', py_limited_api=True)
    builder.emit_c_code(str(path))


class BuildShim(build_ext):
    """setuptools' ``build_ext`` that generates the glue and asks pkg-config for the flags."""

    def build_extension(self, ext) -> None:  # type: ignore[no-untyped-def]
        """Build the one extension of the package."""
        write_glue(NATIVE / "_shim.c")
        ext.include_dirs.append(str(NATIVE))
        ext.depends += [str(NATIVE / "encoder.h"), str(NATIVE / "build.py")]
        ext.define_macros.append(("Py_LIMITED_API", "0x030B0000"))
        ext.extra_compile_args += ["-std=c11", *WARNINGS, *pkg_config("--cflags")]
        ext.extra_link_args += [*pkg_config("--libs"), "-pthread"]
        super().build_extension(ext)


class WholeSource(sdist):
    """setuptools' ``sdist`` with the folders beside the package, the build among them."""

    def make_distribution(self) -> None:
        """Add the folders and make the archive."""
        for folder in ("data", "docs", "native", "scripts", "tests"):
            self.filelist.graft(folder)
        for name in ("*.py[cod]", "*.so", "_shim.c"):
            self.filelist.global_exclude(name)
        super().make_distribution()
