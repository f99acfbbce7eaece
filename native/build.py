"""Build the shims: cffi's glue around the C files here, linked to libx264 and to libx265.

The one over libx265 is left out where pkg-config does not know it. The source distribution holds
what the build, the tests and the scripts need.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cffi import FFI
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

NATIVE = Path(__file__).resolve().parent
# cffi's generated glue leaves some helpers and parameters unused; the C files here have neither.
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function"]


@dataclass(frozen=True)
class Shim:
    """An extension module over a library.

    Parameters
    ----------
    module : str
        Its name.
    library : str
        The library as pkg-config calls it.
    header : str
        File here that declares its functions.
    glue : str
        File here that cffi's C source is written to.
    """

    module: str
    library: str
    header: str
    glue: str


X264 = Shim("ssimrdo.codecs.x264._shim", "x264", "encoder.h", "_shim.c")
X265 = Shim("ssimrdo.codecs.x265._shim", "x265", "x265_encoder.h", "_shim_x265.c")
SHIMS = {shim.module: shim for shim in (X264, X265)}


def pkg_config(library: str, *arguments: str) -> list[str]:
    """Return what pkg-config says about a library, split into words."""
    try:
        done = subprocess.run(
            ["pkg-config", *arguments, library], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"ssimrdo needs lib{library}'s headers, pkg-config and a C compiler: "
            f"apt-get install lib{library}-dev pkg-config gcc"
        ) from error
    return shlex.split(done.stdout)


def is_wanted(shim: Shim) -> bool:
    """Tell whether a shim is to be built: x264's always, x265's where that can be."""
    if shim is X264:
        return True
    try:
        pkg_config(shim.library, "--exists")
    except SystemExit:
        return False
    return True


def declarations(header: str) -> str:
    """Return a header as cffi reads it: without preprocessor lines."""
    return re.sub(r"^#.*$", "", (NATIVE / header).read_text(), flags=re.MULTILINE)


def write_glue(shim: Shim, path: Path) -> None:
    """Write cffi's C source for the functions of a shim's header."""
    builder = FFI()
    builder.cdef(declarations(shim.header))
    builder.set_source(shim.module, f'#include "{shim.header}"', py_limited_api=True)
    builder.emit_c_code(str(path))


class BuildShims(build_ext):
    """setuptools' ``build_ext`` that generates the glue and asks pkg-config for the flags."""

    def finalize_options(self) -> None:
        """Leave out what is not wanted."""
        super().finalize_options()
        self.extensions = [one for one in self.extensions if is_wanted(SHIMS[one.name])]

    def build_extension(self, ext) -> None:  # type: ignore[no-untyped-def]
        """Build one extension."""
        shim = SHIMS[ext.name]
        write_glue(shim, NATIVE / shim.glue)
        ext.include_dirs.append(str(NATIVE))
        ext.depends += [str(NATIVE / shim.header), str(NATIVE / "build.py")]
        ext.define_macros.append(("Py_LIMITED_API", "0x030B0000"))
        ext.extra_compile_args += ["-std=c11", *WARNINGS, *pkg_config(shim.library, "--cflags")]
        ext.extra_link_args += [*pkg_config(shim.library, "--libs"), "-pthread"]
        super().build_extension(ext)


class WholeSource(sdist):
    """setuptools' ``sdist`` with the folders beside the package, the build among them."""

    def make_distribution(self) -> None:
        """Add the folders, and what their tests look at, and make the archive."""
        for folder in ("data", "docs", "native", "scripts", "tests"):
            self.filelist.graft(folder)
        for name in (".pre-commit-config.yaml", "CITATION.cff"):
            self.filelist.include(name)
        for name in ("*.py[cod]", "*.so", "_shim*.c"):
            self.filelist.global_exclude(name)
        super().make_distribution()
