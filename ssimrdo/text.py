"""Text that is fit for a terminal, a page, a name or a table, wherever it came from."""

from __future__ import annotations

from typing import Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def printable(text: object) -> str:
    """Return text fit for one line of a message or for JSON: unprintable characters become "?".

    These are controls, which a terminal obeys, marks that change the direction of text, and bytes
    of names that are no UTF-8.
    """
    return "".join(char if char.isprintable() else "?" for char in str(text))


def printable_lines(text: str) -> str:
    """Return text of several lines, each as :func:`printable` returns it."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: object, most: int = 200) -> str:
    """Return printable text of no more characters than may be; the last one tells of more."""
    shown = printable(str(text)[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def table_cell(value: Any) -> Any:
    """Return what stands for a value in a table that a spreadsheet may open.

    Numbers stay. Text that would be taken for a formula begins with an apostrophe.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.startswith(_FORMULA) else text
