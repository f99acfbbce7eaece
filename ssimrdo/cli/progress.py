"""A progress bar and what window is used, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ssimrdo.cli.terminal import tell
from ssimrdo.observer import Event, Observer

if TYPE_CHECKING:
    from ssimrdo.dicom import Window
    from ssimrdo.record.result import WindowUsed


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
def slice_progress(
    description: str, total: int | None = None, quiet: bool = False
) -> Iterator[Observer]:
    """Show slices done, slices per second and the time left, if stderr is a terminal.

    Parameters
    ----------
    description : str
        Text before the bar.
    total : int, optional
        Number of slices; may be given later.
    quiet : bool
        Show nothing.

    Yields
    ------
    Observer
        What shows them.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield Observer()
        return

    from rich.console import Console
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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        SpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def show(event: Event) -> None:
            bar.update(task, completed=event.done, total=event.total)

        yield Observer(show)
