"""How long work tells what it does, and how it is stopped: alike for encode, compare and batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ssimrdo.errors import CancelledError


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; batches tell events with more in them.

    Parameters
    ----------
    done, total : int
        How far the work is, in its own units: slices for an encode, encodes for a comparison,
        series for a batch. The total may be an upper bound and may change.
    what : str
        What is being done, in words; may be empty.
    note : str
        A line that is worth keeping, such as what a trial of a search gave; mostly empty.
    """

    done: int
    total: int
    what: str = ""
    note: str = ""


def _ignore(event: Event) -> None:
    del event


@dataclass(frozen=True)
class Observer:
    """Whoever watches long work and may end it.

    Parameters
    ----------
    tell : callable
        Called with every :class:`Event`, from whatever thread; an exception from it ends the work.
    cancel : threading.Event
        Once set, an encode or a comparison ends with :class:`~ssimrdo.errors.CancelledError`; a
        batch finishes the series that it encodes and starts no more.
    """

    tell: Callable[[Event], None] = _ignore
    cancel: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise if the work is to end.

        Raises
        ------
        CancelledError
            If it was cancelled.
        """
        if self.cancel.is_set():
            raise CancelledError
