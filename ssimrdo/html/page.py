"""Pages that load nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


def render_template(
    package: str,
    name: str,
    *,
    filters: Mapping[str, Callable[..., str]] | None = None,
    **context: Any,
) -> str:
    """Fill the template ``NAME.html.j2`` of a package with style sheet and script inlined.

    Everything but these two is escaped. The page's content security policy allows the package's
    ``NAME.js`` and no other script, so even markup that got through could not run or load anything.
    """
    code = _asset(package, f"{name}.js")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    environment = template_environment(package)
    environment.filters |= filters or {}
    return environment.get_template(f"{name}.html.j2").render(
        css=style_sheet(), script=code, script_hash=f"sha256-{digest}", **context
    )


def style_sheet() -> str:
    """Return the style sheet that all pages share."""
    return _asset("ssimrdo.html", "report.css")


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


def _asset(package: str, name: str) -> str:
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")
