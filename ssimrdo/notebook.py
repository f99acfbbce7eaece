"""What notebooks show: results as small tables, and how far long work is."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ssimrdo.extras import require
from ssimrdo.observer import Event, Observer

if TYPE_CHECKING:
    import pandas

UPDATE_S: Final = 0.2
"""Progress is shown anew after so long."""


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a small HTML table; the first cell of every row is its head.

    Parameters
    ----------
    caption : str
        What stands above it.
    heads : sequence of str
        Heads of the columns; empty for a table without.
    rows : iterable of sequence
        Cells, shown as their text.
    """
    parts = [f"<table><caption>{html.escape(caption)}</caption>"]
    if heads:
        parts.append(_row("".join(f"<th>{html.escape(head)}</th>" for head in heads)))
    for first, *others in rows:
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in others)
        parts.append(_row(f"<th>{html.escape(str(first))}</th>{cells}"))
    return "".join([*parts, "</table>"])


def html_list(texts: Iterable[str]) -> str:
    """Return an HTML list of sentences; an empty text for none."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return items and f"<ul>{items}</ul>"


def _row(cells: str) -> str:
    return f"<tr>{cells}</tr>"


def data_frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return rows as a data frame.

    Raises
    ------
    InputError
        If pandas is not installed; the remedy says what to install.
    """
    require("pandas", what="a data frame")
    import pandas

    return pandas.DataFrame(list(rows))


def progress(what: str = "") -> Observer:
    """Return an observer that shows how far long work is: a bar in a notebook, else a line.

    Parameters
    ----------
    what : str
        What is being done, in words.

    Returns
    -------
    Observer
        For the ``observer`` of an encode, a measurement, a comparison or a batch. In a terminal it
        writes to stderr.

    Examples
    --------
    >>> result = ssimrdo.encode("ct-series", "chest.mp4", observer=ssimrdo.progress("encoding"))
    """
    show = _bar() if _in_notebook() else _write_line
    shown = -UPDATE_S

    def tell(event: Event) -> None:
        nonlocal shown
        now = time.monotonic()
        if event.done < event.total and now - shown < UPDATE_S:
            return
        shown = now
        show(event, event.what or what)

    return Observer(tell)


def _in_notebook() -> bool:
    """Tell whether this runs under an IPython kernel; nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _bar() -> Any:
    from IPython.display import HTML, display

    handle: Any = None

    def show(event: Event, what: str) -> None:
        nonlocal handle
        bar = f'<progress value="{event.done}" max="{event.total}"></progress>'
        shown = HTML(f"<label>{bar} {html.escape(_text(event, what))}</label>")
        if handle is None:
            handle = display(shown, display_id=True)
        else:
            handle.update(shown)

    return show


def _write_line(event: Event, what: str) -> None:
    if sys.stderr is not None:
        end = "\n" if event.done >= event.total else ""
        print(f"\r{_text(event, what)}", end=end, file=sys.stderr, flush=True)


def _text(event: Event, what: str) -> str:
    count = f"{event.done} of {event.total}"
    return f"{what}: {count}" if what else count
