"""Outputs that are not current: their series is not found any more, or fails now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ssimrdo.batch import lock
from ssimrdo.batch.journal import JOURNAL_NAME, BatchRecord, Journal
from ssimrdo.batch.results import OWN_NAMES, fetched_journal, kept_for_us, write_results
from ssimrdo.batch.store import Store, store_of
from ssimrdo.errors import InputError
from ssimrdo.record.sidecar import output_of, sidecar_path
from ssimrdo.text import printable

FAILS_NOW: Final = "its series fails now; this is of an earlier run"


@dataclass(frozen=True, slots=True)
class StaleOutput:
    """An output that is there but not current, and why."""

    output: str
    reason: str


def stale_outputs(output: Path | str) -> Iterator[StaleOutput]:
    """Yield the outputs of a batch that are not current; running batches may be looked at.

    Parameters
    ----------
    output : Path or str
        The output folder or URL.

    Raises
    ------
    InputError
        If the folder has no results.
    """
    out = store_of(output)
    with fetched_journal(out) as journal:
        if journal is None:
            raise no_batch(output)
        yield from stale_of(journal, out)


def stale_of(journal: Journal, out: Store) -> Iterator[StaleOutput]:
    """Yield the outputs of a journal that are there but not current."""
    for record in journal.records():
        if record.status == "orphaned" and out.holds(record.output):
            yield StaleOutput(record.output, record.reason)
        elif record.status == "failed":
            sidecar, _ = out.finished(record.output)
            # What has no sidecar may be anybody's.
            if output_of(sidecar) == PurePosixPath(record.output).name:
                yield StaleOutput(record.output, FAILS_NOW)


def prune(output: Path | str, only: Collection[str] | None = None) -> list[StaleOutput]:
    """Remove outputs that are not current, with their sidecars, and write the results anew.

    Parameters
    ----------
    output : Path or str
        The output folder or URL.
    only : collection of str, optional
        The outputs that may go; all that are not current when None.

    Returns
    -------
    list of StaleOutput
        What was removed.

    Raises
    ------
    InputError
        If the folder has no results, or a batch is at work in it.
    SsimrdoError, OSError
        If something cannot be removed or written.
    """
    out = store_of(output)
    if not out.holds(JOURNAL_NAME):
        raise no_batch(output)
    with (
        kept_for_us(out) as lease,
        out.own_files(OWN_NAMES, lease.holds) as folder,
        lock.exclusive(out.folder),
        Journal(folder / JOURNAL_NAME) as journal,
    ):
        stale = [one for one in stale_of(journal, out) if only is None or one.output in only]
        for one in stale:
            _remove(one.output, out)
            last = journal.last(one.output)
            if last is not None and last.status == "orphaned":
                journal.append(BatchRecord(one.output, last.series, "gone"))
        write_results(journal, folder, out)
    return stale


def no_batch(output: Path | str) -> InputError:
    """Return the error of a folder that no batch has been in."""
    return InputError(
        f"{printable(output)}: no batch has been here: there is no {JOURNAL_NAME}",
        remedy="give the output folder of a batch",
    )


def _remove(output: str, out: Store) -> None:
    sidecar = str(sidecar_path(Path(output)))
    # Outputs of another suffix have the same sidecar.
    if output_of(out.finished(output)[0]) in (PurePosixPath(output).name, None):
        out.remove(sidecar)
    out.remove(output)
