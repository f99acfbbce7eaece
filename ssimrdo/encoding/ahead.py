"""Working ahead: the next slices are read and analysed while x264 encodes those before."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from queue import Empty, Queue
from typing import Any, TypeVar

SLICES_AHEAD = 4
"""Enough to even out slices that take longer; it bounds the memory they hold."""

_END = object()
_T = TypeVar("_T")


def ahead(items: Iterable[_T], most: int = SLICES_AHEAD) -> Generator[_T, None, None]:
    """Yield the items of an iterable that is advanced in a thread of its own.

    Closing does not wait for an item in the making: what reads from storage may stall.

    Parameters
    ----------
    items : iterable
        What it raises is raised here, in its place.
    most : int
        How many items may wait, at least 1; one more may be in the making.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(most)
    closed = threading.Event()

    def work() -> None:
        try:
            for item in items:
                ready.put((item, None))
                if closed.is_set():
                    return
        except BaseException as error:
            ready.put((_END, error))
        else:
            ready.put((_END, None))

    # A daemon, so that the interpreter does not wait for it at its exit either.
    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        closed.set()
        # Makes room for the one put that the thread may still do.
        with suppress(Empty):
            ready.get_nowait()
