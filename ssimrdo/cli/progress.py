"""How far long work is and what window is used, on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ssimrdo.cli.terminal import tell
from ssimrdo.observer import Event, Observer
from ssimrdo.text import duration_text

if TYPE_CHECKING:
    from ssimrdo.dicom import Window
    from ssimrdo.record.result import WindowUsed

EVERY_S: Final = 10.0
"""How often a line tells how far the work is where there is no terminal."""


def tell_window(
    window: WindowUsed | Window | None,
    source: str | None,
    *,
    differing: bool = False,
    name: str = "",
) -> None:
    """Say which window was used and where it comes from, unless a warning has said so.

    Parameters
    ----------
    window : WindowUsed or Window, optional
        The window; None where luma was given.
    source : {"option", "preset", "header", "fallback", "encode"}, optional
        Where it comes from.
    differing : bool
        Whether the header's differ between slices.
    name : str
        What the series is called, where there are several.
    """
    is_warned = source == "fallback" or (source == "header" and differing)
    if window is None or is_warned:
        return
    origins = {"option": "as asked for", "preset": "a preset", "encode": "that of the encode"}
    origin = origins.get(f"{source}", "from the header")
    prefix = f"{name}: " if name else ""
    tell(f"{prefix}window {window.center:g}/{window.width:g} HU, {origin}")


@contextmanager
def progress(what: str, unit: str = "slices", total: int | None = None) -> Iterator[Observer]:
    """Show how far long work is: a bar on a terminal, else a line from time to time, on stderr.

    Parameters
    ----------
    what : str
        What is being done; what an event says of it takes its place.
    unit : str
        What is counted.
    total : int, optional
        How many there are; may be given later.

    Yields
    ------
    Observer
        What shows the events.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    with _bar(what, unit, total) if on_terminal else _lines(what, unit) as show:

        def show_all(event: Event) -> None:
            if event.note:
                tell(event.note)
            show(event)

        yield Observer(show_all)


@contextmanager
def regularly(act: Callable[[], object]) -> Iterator[None]:
    """Call a function in a thread, every ten seconds as long as the block takes."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(EVERY_S):
            act()

    thread = threading.Thread(target=repeat, name="ssimrdo-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _lines(what: str, unit: str) -> Iterator[Callable[[Event], None]]:
    started = time.monotonic()
    last: Event | None = None

    def keep(event: Event) -> None:
        nonlocal last
        last = event

    def tell_last() -> None:
        tell(_line(last, what, unit, time.monotonic() - started))

    with regularly(tell_last):
        yield keep


def _line(event: Event | None, what: str, unit: str, seconds: float) -> str:
    """Return how far work is after some time, and how long the rest will take."""
    if event is None or not event.done:
        return f"{(event and event.what) or what}: {seconds:.0f} s so far"
    left = (event.total - event.done) * seconds / event.done
    shown = f"{left:.0f} s" if left < 60 else duration_text(left)
    rest = f", about {shown} left" if left > 0 else ""
    of = f" of {event.total}" if event.total else ""
    speed = f", {event.done / seconds:.1f} {unit}/s" if unit == "slices" else ""
    return f"{event.what or what}: {event.done}{of} {unit}{speed}{rest}"


@contextmanager
def _bar(what: str, unit: str, total: int | None) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        """Slices per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} slices/s")

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        *([SpeedColumn()] if unit == "slices" else []),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def show(event: Event) -> None:
            shown = escape(event.what or what)
            bar.update(task, completed=event.done, total=event.total, description=shown)

        yield show
