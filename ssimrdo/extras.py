"""Libraries that are not always installed, and how to install what is missing."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ssimrdo.errors import InputError

EXTRA_OF: Final = MappingProxyType(
    {
        "PIL": "report",
        "distributed": "dask",
        "fsspec": "fsspec",
        "imagecodecs": "archive",
        "imageio_ffmpeg": "vvc",
        "jinja2": "report",
        "matplotlib": "report",
        "nibabel": "nifti",
        "pandas": "pandas",
        "torch": "torch",
        "yaml": "yaml",
    }
)
"""Extra of this package by the name that a library is imported by."""

PACKAGE_OF: Final = MappingProxyType(
    {
        "PIL": "pillow",
        "_CharLS": "pyjpegls",
        "_cffi_backend": "cffi",
        "_libjpeg": "pylibjpeg-libjpeg",
        "_openjpeg": "pylibjpeg-openjpeg",
        "jpeg_ls": "pyjpegls",
        "libjpeg": "pylibjpeg-libjpeg",
        "openjpeg": "pylibjpeg-openjpeg",
        "rle": "pylibjpeg-rle",
        "yaml": "pyyaml",
    }
)
"""Package by the name that a library is imported by, where the two differ."""

_ROOT: Final = Path(__file__).resolve().parents[1]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra where this package came from.

    Parameters
    ----------
    extra : str
        An extra of this package.

    Returns
    -------
    str
        ``scripts/setup EXTRA`` in the environment of a checkout, what pip is asked for otherwise.
    """
    if not (_ROOT / "scripts/setup").is_file():
        return f'pip install "ssimrdo[{extra}]"'
    if Path(sys.prefix).resolve() == _ROOT / ".venv":
        return f"scripts/setup {extra}"
    return f'pip install -e "{_ROOT}[{extra}]"'


def require(*modules: str, what: str = "this") -> None:
    """Check that optional libraries can be imported.

    Parameters
    ----------
    modules : str
        Names as imported; keys of :data:`EXTRA_OF`.
    what : str
        What they are needed for, such as a path.

    Raises
    ------
    InputError
        If one is missing; the remedy says what to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise InputError(
                f"{what} needs {module}, which is not installed",
                remedy=how_to_install(EXTRA_OF[module]),
            )


def explain_import(error: ImportError) -> str:
    """Say in one line which library is missing, or does not load, and how to install it.

    Parameters
    ----------
    error : ImportError
        Raised by an import, of this package or below it.

    Returns
    -------
    str
        The message, with the path of the Python that lacks the library.
    """
    module = _module_of(error)
    requirement = _requirement(PACKAGE_OF.get(module, module))
    reason = " ".join(str(error).split())
    if requirement is None:
        # Its package may be called otherwise, and what is called so may be another's.
        return f"the installation is incomplete ({reason}): install ssimrdo anew"
    install = f"{sys.executable} -m pip install"
    if isinstance(error, ModuleNotFoundError):
        package = PACKAGE_OF.get(module, module)
        return f'the Python package {package} is missing: {install} "{requirement}"'
    return f'{reason}: {install} --force-reinstall "{requirement}"'


def _module_of(error: ImportError) -> str:
    """Return the name below which an import failed; an extension need not know its own in full."""
    if error.path is not None:
        path = Path(error.path)
        for folder in path.parents:
            if str(folder) in sys.path:
                return path.relative_to(folder).parts[0].partition(".")[0]
    return (error.name or "").partition(".")[0]


def _requirement(package: str) -> str | None:
    """Return what this package requires of another, None where it requires nothing."""
    # It imports what takes longer than reading ten headers.
    from importlib.metadata import PackageNotFoundError, requires

    try:
        needed = requires("ssimrdo") or []
    except PackageNotFoundError:
        needed = []
    for requirement in needed:
        name = re.match(r"[\w.-]+", requirement)
        # Extras name this package too.
        if name is not None and name[0] == package != "ssimrdo":
            return requirement.partition(";")[0].strip()
    return None
