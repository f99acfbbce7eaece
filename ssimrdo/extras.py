"""Libraries that are not always installed, and what to install for each."""

from __future__ import annotations

from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from ssimrdo.errors import InputError

EXTRA_OF: Final = MappingProxyType(
    {
        "PIL": "report",
        "distributed": "dask",
        "fsspec": "fsspec",
        "imagecodecs": "archive",
        "jinja2": "report",
        "matplotlib": "report",
        "torch": "torch",
        "yaml": "yaml",
    }
)
"""Extra of this package by the name that a library is imported by."""


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
                remedy=f'pip install "ssimrdo[{EXTRA_OF[module]}]"',
            )
