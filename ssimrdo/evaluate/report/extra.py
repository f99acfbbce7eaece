"""The optional libraries that reports are made with."""

from __future__ import annotations

from importlib.util import find_spec

from ssimrdo.errors import InputError

INSTALL = 'pip install "ssimrdo[report]"'


def check_extra(*modules: str) -> None:
    """Check that optional libraries can be imported.

    Parameters
    ----------
    modules : str
        Names as imported.

    Raises
    ------
    InputError
        If one is missing; the message says what to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise InputError(f"{module} is not installed: {INSTALL}")
