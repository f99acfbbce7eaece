"""Working ahead: the next slices are read and analysed while x264 encodes those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

SLICES_AHEAD = 4
"""Enough to even out slices that take longer; it bounds the memory they hold."""

_END = object()
_T = TypeVar("_T")


def ahead(items: Iterable[_T], most: int = SLICES_AHEAD) -> Generator[_T, None, None]:
    """Yield the items of an iterable that is advanced in a thread of its own.

    Parameters
    ----------
    items : iterable
        What it raises is raised here, in its place.
    most : int
        How many items may be ready before they are asked for, at least 1.
    """
    remaining = iter(items)
    worker = ThreadPoolExecutor(max_workers=1)
    try:
        pending = deque(worker.submit(next, remaining, _END) for _ in range(most))
        while (item := pending.popleft().result()) is not _END:
            pending.append(worker.submit(next, remaining, _END))
            yield cast(_T, item)
    finally:
        worker.shutdown(cancel_futures=True)
