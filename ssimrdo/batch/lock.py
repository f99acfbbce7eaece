"""Locks that keep two batches out of one place.

In folders the kernel drops them with their process. In stores the lock is an object, made by a
conditional put and renewed while its batch lives; one that is not renewed any more is taken over.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssimrdo.errors import InputError, SsimrdoError, cause_of
from ssimrdo.text import printable

if TYPE_CHECKING:
    from ssimrdo.batch.store import FsspecStore

BATCH_LOCK: Final = ".ssimrdo-batch.lock"
"""Held by the process that runs the batch."""

JOBS_LOCK: Final = ".ssimrdo-jobs.lock"
"""Shared by all jobs that are running, on whatever machine sees the folder."""

RENEW_S: Final = 10.0
STALE_S: Final = 60.0
SETTLE_S: Final = 2.0
"""Of a lock in a store: how often it is renewed, when it counts as left behind, and how long those
wait who take one over at a time."""

_MOST_AHEAD_S: Final = 86400.0

STRAGGLERS_S: Final = 60.0
"""How long to wait for jobs that outlive the process that started them."""


@contextmanager
def exclusive(folder: Path | None, *, stragglers_s: float = STRAGGLERS_S) -> Iterator[None]:
    """Keep other batches off a folder, and wait for what a killed one left running.

    Parameters
    ----------
    folder : Path, optional
        Where outputs go; None for stores, see :func:`exclusive_in`.
    stragglers_s : float
        How long to wait for jobs of an earlier batch.

    Raises
    ------
    InputError
        If another batch has the folder.
    """
    if folder is None:
        yield
        return
    handle = _open(folder / BATCH_LOCK)
    try:
        if not _try(handle, fcntl.LOCK_EX, folder):
            raise InputError(
                f"{folder}: another batch is running here", remedy="wait for it or stop it"
            )
        _wait_for_stragglers(folder, stragglers_s)
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Lease:
    """Whether a place is still this batch's; a folder is, as long as its process lives.

    Parameters
    ----------
    store : FsspecStore, optional
        A store, whose lock others take over once it is not renewed any more.
    holder : str
        What this batch is called in the lock.
    lost : threading.Event
        Set once another batch was seen to have it.
    """

    store: FsspecStore | None = None
    holder: str = ""
    lost: threading.Event = field(default_factory=threading.Event)

    def holds(self) -> bool:
        """Look whether no other batch has taken the place over; a store that is silent has it."""
        if self.store is not None:
            with suppress(SsimrdoError, OSError):
                if _holder(self.store)[0] != self.holder:
                    self.lost.set()
        return not self.lost.is_set()

    def check(self) -> None:
        """Check that no other batch has taken the place over.

        Raises
        ------
        SsimrdoError
            If one has.
        """
        if not self.holds():
            assert self.store is not None, "others are not taken over"
            raise SsimrdoError(
                f"{printable(self.store.place)}: this batch stood still, and another one has taken "
                "over",
                remedy="wait for that one; the same command then goes on",
            )


@contextmanager
def exclusive_in(store: FsspecStore) -> Iterator[Lease]:
    """Keep other batches off a store, as long as it is renewed; yield whether that holds.

    Raises
    ------
    InputError
        If another batch has it, or the store does not answer.
    """
    holder = secrets.token_hex(8)
    _take(store, holder)
    lease, ended = Lease(store, holder), threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, lease, ended), daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        with suppress(SsimrdoError, OSError):
            if _holder(store)[0] == holder:
                store.remove(BATCH_LOCK)


def is_held_in(store: FsspecStore) -> bool:
    """Tell whether a batch has a store."""
    return _seconds_left(_holder(store)[1]) > 0


def _take(store: FsspecStore, holder: str) -> None:
    for _ in range(2):
        if store.create(BATCH_LOCK, _signed(holder)):
            return
        if store.get(BATCH_LOCK) is None:
            continue
        found, renewed = _holder(store)
        if found == holder:
            # The store had made it, but its answer was lost.
            return
        if left := _seconds_left(renewed):
            raise InputError(
                f"{printable(store.place)}: another batch is running here, or was killed less than "
                f"{STALE_S:g} s ago",
                remedy="wait for it or stop it; if it was killed, the same command goes on in "
                f"{math.ceil(left)} s",
            )
        # Whoever is last of those that take it over at a time has it.
        store.put(BATCH_LOCK, _signed(holder))
        time.sleep(SETTLE_S)
        if _holder(store)[0] == holder:
            return
    raise InputError(
        f"{printable(store.place)}: another batch has just begun here", remedy="wait for it"
    )


def _seconds_left(renewed: float) -> float:
    """Return for how long a lock still holds if it is not renewed."""
    age = time.time() - renewed
    # Clocks differ, though not by this much.
    return STALE_S - age if -_MOST_AHEAD_S < age < STALE_S else 0.0


def _renew(store: FsspecStore, lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        if not lease.holds():
            return
        # A store that does not answer now may do so the next time.
        with suppress(SsimrdoError, OSError):
            store.put(BATCH_LOCK, _signed(lease.holder))


def _signed(holder: str) -> bytes:
    return json.dumps({"holder": holder, "renewed": time.time()}).encode()


def _holder(store: FsspecStore) -> tuple[str, float]:
    """Return who holds a store and since when without renewing; nobody if that cannot be told."""
    try:
        lock = json.loads(store.get(BATCH_LOCK) or b"{}")
        return str(lock["holder"]), float(lock["renewed"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", 0.0


def is_held(folder: Path | None) -> bool:
    """Tell whether a batch has the folder."""
    if folder is None or not (folder / BATCH_LOCK).is_file():
        return False
    handle = _open(folder / BATCH_LOCK)
    try:
        return not _try(handle, fcntl.LOCK_SH, folder)
    finally:
        os.close(handle)


@contextmanager
def shared(folder: Path | None) -> Iterator[None]:
    """Tell a later batch that a job is running in this folder."""
    if folder is None:
        yield
        return
    handle = _open(folder / JOBS_LOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _wait_for_stragglers(folder: Path, seconds: float) -> None:
    handle = _open(folder / JOBS_LOCK)
    deadline = time.monotonic() + seconds
    try:
        while not _try(handle, fcntl.LOCK_EX, folder):
            if time.monotonic() > deadline:
                raise InputError(
                    f"{folder}: jobs of an earlier batch are still running",
                    remedy="wait for them or restart their workers",
                )
            time.sleep(0.1)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _try(handle: int, kind: int, folder: Path) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(f"{folder}: cannot be locked: {cause_of(error)}") from error
    return True
