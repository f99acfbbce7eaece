"""Settings of the documentation site, which scripts/docs builds."""

from __future__ import annotations

import inspect
import re
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ssimrdo import __version__
from ssimrdo.cli.options import flag_of
from ssimrdo.encoding.options import OPTIONS
from ssimrdo.errors import name_options

project = "ssimrdo"
author = "The ssimrdo authors"
copyright = author  # noqa: A001
release = version = __version__
language = "en"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
]
nitpicky = False
myst_heading_anchors = 4
myst_links_external_new_tab = False
# Notebooks are stored without results, and run where they leave nothing behind.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

smartquotes = False
# Types stand in the docstrings, more legibly.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"ssimrdo {version}"
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style = "friendly"
pygments_dark_style = "monokai"


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Make the navigation of the site from the links of its first page, a part per heading."""
    del app
    if name != "index":
        return
    for part in source[0].split("\n## ")[1:]:
        caption, _, text = part.partition("\n")
        pages = re.findall(r"^- \[.+?\]\(([\w-]+)\.md\)", text, re.MULTILINE)
        source[0] += "\n".join(
            ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
        )


class EncodeOptions(SphinxDirective):
    """The table of the options of an encode."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = ["| command line | Python, manifest | what it does |", "|---|---|---|"]
        for one in OPTIONS:
            values = f" {one.metavar}" if one.metavar else ""
            names = (f"`{name}`" for name in dict.fromkeys([one.name, one.external]))
            default = f" Default: {one.default}." if one.default else ""
            cells = (f"`{one.flag}{values}`", ", ".join(names), one.help + default)
            row = " | ".join(cell.replace("|", r"\|") for cell in cells)
            lines.append(f"| {name_options(row, flag_of)} |")
        (table,) = self.parse_text_to_nodes("\n".join(lines))
        table["classes"].append("options")
        return [table]


def add_references(
    app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]
) -> None:
    """Put what a docstring cites below it; modules list it once, in their own docstrings."""
    del app, what, name, options
    text = "\n".join(lines)
    cited = dict.fromkeys(re.findall(r"\[(\d+)\]_", text))
    if not cited:
        return
    module = inspect.getmodule(subject.fget if isinstance(subject, property) else subject)
    listed = f"{inspect.getdoc(subject)}\n\n{module and inspect.getdoc(module)}"
    works = dict(re.findall(r"^\.\. \[(\d+)\] (.+(?:\n +.+)*)", listed, re.MULTILINE))
    body = text.partition("\nReferences\n")[0]
    found = [f".. [{number}] {' '.join(works[number].split())}" for number in cited]
    lines[:] = "\n".join([body, "", "References", "----------", *found]).splitlines()


def quote_example(app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """Set an example that stands in one line as code."""
    del app, ctx
    lines[:] = [re.sub(r"^Example: (.+)$", r"Example: ``\1``", line) for line in lines]


def drop_arguments(app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """Leave out the section on arguments, of which click knows nothing but the name."""
    del app, ctx
    lines.clear()


def setup(app: Sphinx) -> dict[str, Any]:
    """Add what is ours to Sphinx."""
    app.connect("source-read", add_navigation)
    # Before the docstring is read as NumPy's.
    app.connect("autodoc-process-docstring", add_references, priority=400)
    app.connect("sphinx-click-process-epilog", quote_example)
    app.connect("sphinx-click-process-arguments", drop_arguments)
    app.add_directive("encode-options", EncodeOptions)
    return {"parallel_read_safe": True}
