"""The optional libraries that reports are made with."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from ssimrdo.errors import InputError

if TYPE_CHECKING:
    import jinja2

INSTALL: Final = 'pip install "ssimrdo[report]"'
"""What to do where a library that pages and figures are made with is missing."""


def check_extra(*modules: str) -> None:
    """Check that optional libraries can be imported.

    Parameters
    ----------
    modules : str
        Names as imported.

    Raises
    ------
    InputError
        If one is missing; the remedy says what to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise InputError(f"{module} is not installed", remedy=INSTALL)


def template_environment(package: str) -> jinja2.Environment:
    """Return what fills the templates of a package: all text is escaped, nothing may be missing."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
