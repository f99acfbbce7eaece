"""Locks that keep two batches out of one folder; the kernel drops them with their process."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssimrdo.batch.storage import local_path
from ssimrdo.errors import InputError

logger = logging.getLogger("ssimrdo")

BATCH_LOCK = ".ssimrdo-batch.lock"
"""Held by the process that runs the batch."""

JOBS_LOCK = ".ssimrdo-jobs.lock"
"""Shared by all jobs that are running, on whatever machine sees the folder."""

STRAGGLERS_S = 60.0
"""How long to wait for jobs that outlive the process that started them."""


@contextmanager
def exclusive(out_root: str, *, stragglers_s: float = STRAGGLERS_S) -> Iterator[None]:
    """Keep other batches off a folder, and wait for what a killed one left running.

    Stores without locks, such as S3, are not protected.

    Raises
    ------
    InputError
        If another batch has the folder.
    """
    folder = local_path(out_root)
    if folder is None:
        yield
        return
    handle = _open(folder / BATCH_LOCK)
    try:
        if not _try(handle, fcntl.LOCK_EX):
            raise InputError(f"{folder}: another batch is running here: wait for it or stop it")
        _wait_for_stragglers(folder, stragglers_s)
        yield
    finally:
        os.close(handle)


def is_held(out_root: str) -> bool:
    """Tell whether a batch has the folder."""
    folder = local_path(out_root)
    if folder is None or not (folder / BATCH_LOCK).is_file():
        return False
    handle = _open(folder / BATCH_LOCK)
    try:
        return not _try(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


@contextmanager
def shared(out_root: str) -> Iterator[None]:
    """Tell a later batch that a job is running in this folder."""
    folder = local_path(out_root)
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
        while not _try(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise InputError(
                    f"{folder}: jobs of an earlier batch are still running: "
                    "wait for them or restart their workers"
                )
            time.sleep(0.1)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
