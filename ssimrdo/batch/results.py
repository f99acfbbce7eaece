"""The files of results in an output folder: who may write them, and how they are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from ssimrdo.batch import lock
from ssimrdo.batch.journal import (
    JOURNAL_NAME,
    REPORT_NAME,
    TABLE_NAME,
    Journal,
    write_table,
)
from ssimrdo.batch.store import FsspecStore, Store
from ssimrdo.errors import InputError

OWN_NAMES: Final = (JOURNAL_NAME, TABLE_NAME, REPORT_NAME)
"""Files below an output folder that a batch writes beside its outputs."""

logger = logging.getLogger(__name__)


def kept_for_us(out: Store) -> AbstractContextManager[lock.Lease]:
    """Keep other batches off a store before its files are fetched; folders are locked behind."""
    if isinstance(out, FsspecStore):
        return lock.exclusive_in(out)
    return nullcontext(lock.Lease())


@contextmanager
def fetched_journal(out: Store) -> Iterator[Journal | None]:
    """Yield the journal of an output folder for reading, None if there is none."""
    if not out.holds(JOURNAL_NAME):
        yield None
        return
    with out.local(JOURNAL_NAME) as path:
        yield Journal(path)


def write_results(journal: Journal, folder: Path, out: Store) -> dict[str, str]:
    """Write table and report of all that a journal holds.

    Returns
    -------
    dict of str to str
        What was written, by its name.

    Raises
    ------
    InputError, OSError
        If they cannot be written, such as on a full disk.
    """
    write_table(journal, folder / TABLE_NAME)
    from ssimrdo.batch.page import write_report

    try:
        write_report(journal, folder / REPORT_NAME, out)
    except InputError as error:
        logger.warning("%s is left out: %s", REPORT_NAME, error)
        return {TABLE_NAME: "table"}
    return {REPORT_NAME: "report", TABLE_NAME: "table"}
