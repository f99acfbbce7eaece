"""Locks that keep two batches out of one folder; the kernel drops them with their process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ssimrdo.errors import InputError, cause_of

BATCH_LOCK: Final = ".ssimrdo-batch.lock"
"""Held by the process that runs the batch."""

JOBS_LOCK: Final = ".ssimrdo-jobs.lock"
"""Shared by all jobs that are running, on whatever machine sees the folder."""

STRAGGLERS_S: Final = 60.0
"""How long to wait for jobs that outlive the process that started them."""


@contextmanager
def exclusive(folder: Path | None, *, stragglers_s: float = STRAGGLERS_S) -> Iterator[None]:
    """Keep other batches off a folder, and wait for what a killed one left running.

    Parameters
    ----------
    folder : Path, optional
        Where outputs go; None for stores without locks, such as S3, which are not protected.
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
