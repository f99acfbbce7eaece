"""Text that is fit for a terminal, a page, a name or a table, wherever it came from."""

from __future__ import annotations

from collections.abc import Iterable
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


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with what it counts: ``1 slice``, ``2 slices``, ``1 series``.

    Parameters
    ----------
    count : int
        How many.
    one : str
        What one of them is called.
    several : str
        What several are called, where that is not ``one`` with an s behind it.
    """
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return the beginning of a hint that names what is nearest to a wrong name; may be empty."""
    from difflib import get_close_matches

    nearest = get_close_matches(str(given)[:80], known, n=1)
    return f"did you mean {nearest[0]}? Else " if nearest else ""


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    *units, largest = ("bytes", "kB", "MB", "GB", "TB", "PB")
    value = float(count)
    for unit in units:
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}" if unit != "bytes" else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.3g} {largest}"


def duration_text(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{minutes:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
