"""A batch from its settings to its results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from ssimrdo.batch import lock
from ssimrdo.batch.discover import discover
from ssimrdo.batch.estimate import Estimate, estimate
from ssimrdo.batch.job import BatchJob, failure, run_job
from ssimrdo.batch.journal import JOURNAL_NAME, BatchRecord, Journal
from ssimrdo.batch.manifest import Entry, read_manifest
from ssimrdo.batch.plan import Plan, jobs_of_found, jobs_of_manifest, make_plan
from ssimrdo.batch.results import OWN_NAMES, fetched_journal, kept_for_us, write_results
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.batch.stale import no_batch, stale_of
from ssimrdo.batch.store import FsspecStore, Store, store_of
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.executors import (
    GRACE_S,
    DaskExecutor,
    LocalExecutor,
    WorkerLostError,
    as_finished,
    explain,
    open_executor,
    slots_of,
    unexpected,
)
from ssimrdo.observer import Event, Observer

POLL_S: Final = 0.25
"""How often a request to stop is looked for."""

Kind = Literal["search", "planned", "started", "finished", "stopping"]


@dataclass(frozen=True, slots=True)
class Totals:
    """How far a batch is.

    Parameters
    ----------
    todo : int
        Jobs that were to be done.
    encoded, failed : int
        How many of them are done, and failed.
    done_before, failed_before : int
        Jobs that earlier runs have done, and failed at.
    slices, slices_failed, slices_todo : int
        Slices encoded, those of series that failed, and those that were to be encoded.
    input_bytes, output_bytes : int
        Sizes of the series encoded and of their outputs.
    """

    todo: int = 0
    encoded: int = 0
    failed: int = 0
    done_before: int = 0
    failed_before: int = 0
    slices: int = 0
    slices_failed: int = 0
    slices_todo: int = 0
    input_bytes: int = 0
    output_bytes: int = 0

    def plus(self, job: BatchJob, record: BatchRecord) -> Totals:
        """Return the totals with one more job."""
        good = record.status == "encoded"
        return replace(
            self,
            encoded=self.encoded + good,
            failed=self.failed + (not good),
            slices=self.slices + good * job.slices,
            slices_failed=self.slices_failed + (not good) * job.slices,
            input_bytes=self.input_bytes + (record.input_bytes or 0),
            output_bytes=self.output_bytes + (record.output_bytes or 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEvent(Event):
    """What the observer of a batch is told; ``done`` and ``total`` count series.

    Parameters
    ----------
    kind : {"search", "planned", "started", "finished", "stopping"}
        What happened.
    totals : Totals
        How far the batch is.
    job : BatchJob, optional
        Which job, when one starts or finishes.
    record : BatchRecord, optional
        What came of it, when one finishes.
    """

    kind: Kind
    totals: Totals
    job: BatchJob | None = None
    record: BatchRecord | None = None


@dataclass(frozen=True)
class BatchResult:
    """What came of a batch.

    Parameters
    ----------
    output : str
        The output folder, as given.
    totals : Totals
        Counts and sizes.
    interrupted : bool
        Whether it stopped before all was done, at a request or with ``fail_fast``.
    seconds, encoding_seconds : float
        Wall time, of all and from the first encode to the last.
    stale : int
        Outputs that are there but not current, see :func:`ssimrdo.batch.stale_outputs`.
    written : mapping of str to str
        What the files of results are, by their names in the output folder.
    """

    output: str
    totals: Totals
    interrupted: bool
    seconds: float
    encoding_seconds: float = 0.0
    stale: int = 0
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Jobs that failed, in this run or before."""
        return self.totals.failed + self.totals.failed_before


def run(
    root: Path | str | None,
    output: Path | str,
    settings: BatchSettings | None = None,
    *,
    manifest: Path | str | None = None,
    executor: Executor | None = None,
    observer: Observer | None = None,
) -> BatchResult:
    """Encode every CT series below a folder, or those of a manifest.

    What an earlier run has done is kept: an output is current when its sidecar tells the same
    options, the same input and the same model. Results are in ``results.jsonl``, ``results.csv``
    and, with the ``report`` extra, ``report.html`` in the output folder.

    Worker processes import the calling script, so it needs the usual
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    root : Path or str, optional
        Folder or URL that is searched; with a manifest, what its relative paths are relative to.
    output : Path or str
        Folder or URL that outputs go to, made if need be.
    settings : BatchSettings, optional
        How to run.
    manifest : Path or str, optional
        List of series, see :mod:`ssimrdo.batch.manifest`.
    executor : concurrent.futures.Executor, optional
        What runs the jobs in place of what the settings ask for; it stays open. Processes are
        best spawned: threads that x264 and Numba have started do not survive a fork.
    observer : Observer, optional
        Is told every :class:`BatchEvent`. Once it cancels, no more jobs start; those that run are
        finished.

    Returns
    -------
    BatchResult
        Totals; single results are read with :func:`read_results`.

    Raises
    ------
    InputError
        If the root, the manifest, the output folder or the cluster cannot be used.
    SsimrdoError
        If the executor is lost, or the results cannot be written.
    """
    started = time.monotonic()
    settings = settings or BatchSettings()
    observer = observer or Observer()
    source = None if root is None else store_of(root)
    out = store_of(output)
    _check_places(source, out, manifest, settings)
    entries = _entries(manifest, source, settings)
    with (
        _executor(settings, executor) as workers,
        kept_for_us(out) as lease,
        out.own_files(OWN_NAMES, lease.holds) as folder,
        lock.exclusive(out.folder),
        Journal(folder / JOURNAL_NAME) as journal,
    ):
        observer.tell(_event("search", Totals()))
        jobs = find_jobs(
            source, out, settings, workers, entries, out.key(make=True), _named(manifest)
        )
        plan = make_plan(jobs, out, journal, retry_failed=settings.retry_failed)
        for record in (*plan.kept, *plan.lost):
            journal.append(record)
        out.remove_leftovers(job.output for job in jobs)
        totals = Totals(
            todo=len(plan.todo),
            done_before=plan.done,
            failed_before=plan.failed,
            slices_todo=plan.slices,
        )
        observer.tell(_event("planned", totals))
        begun = time.monotonic()
        try:
            totals, is_whole = run_jobs(
                (todo.job for todo in plan.todo),
                workers,
                journal,
                totals,
                observer=observer,
                fail_fast=settings.fail_fast,
                lost=lease.lost,
            )
        except BaseException:
            if workers is not executor and isinstance(workers, LocalExecutor | DaskExecutor):
                # Nothing may be written any more when this looks for leftovers.
                workers.stop()
                out.remove_leftovers(job.output for job in jobs)
            raise
        encoding_s = time.monotonic() - begun
        lease.check()
        written = write_results(journal, folder, out)
        stale = sum(1 for _ in stale_of(journal, out))
    return BatchResult(
        str(output),
        totals,
        not is_whole,
        time.monotonic() - started,
        encoding_s,
        stale,
        written,
    )


def dry_run(
    root: Path | str | None,
    output: Path | str,
    settings: BatchSettings | None = None,
    *,
    manifest: Path | str | None = None,
    executor: Executor | None = None,
) -> tuple[Plan, Estimate]:
    """Return what :func:`run` would do, and how long that takes.

    Raises
    ------
    InputError
        As :func:`run`.
    """
    settings = settings or BatchSettings()
    source = None if root is None else store_of(root)
    out = store_of(output)
    _check_places(source, out, manifest, settings)
    entries = _entries(manifest, source, settings)
    with _executor(settings, executor) as workers, fetched_journal(out) as journal:
        jobs = find_jobs(source, out, settings, workers, entries, out.key(), _named(manifest))
        plan = make_plan(jobs, out, journal, retry_failed=settings.retry_failed)
        workers_here = settings.workers if executor is None else slots_of(executor)
        return plan, estimate([todo.job for todo in plan.todo], journal, workers_here)


def read_results(output: Path | str) -> Iterator[BatchRecord]:
    """Yield the last record of every output of a batch; running batches may be read.

    Raises
    ------
    InputError
        If the folder has no results.
    """
    with fetched_journal(store_of(output)) as journal:
        if journal is None:
            raise no_batch(output)
        yield from journal.records()


def is_running(output: Path | str) -> bool:
    """Tell whether a batch is at work in a folder."""
    out = store_of(output)
    if isinstance(out, FsspecStore):
        return lock.is_held_in(out)
    return lock.is_held(out.folder)


def find_jobs(
    source: Store | None,
    out: Store,
    settings: BatchSettings,
    executor: Executor,
    entries: Iterable[Entry] | None = None,
    key: str = "",
    manifest: str = "",
) -> list[BatchJob]:
    """Return the jobs of a manifest's entries, or of all series below a folder.

    Raises
    ------
    InputError
        If there is none, or the folder cannot be used.
    """
    if entries is not None:
        return list(jobs_of_manifest(entries, out.place, settings, key, manifest))
    assert source is not None
    founds = discover(source, executor, leave_out=out.folder, volumes=settings.volumes)
    if not founds:
        raise InputError(f"{source.place}: no CT series below it", remedy="give a folder with some")
    return list(jobs_of_found(founds, source.place, out.place, settings, key))


def run_jobs(
    jobs: Iterable[BatchJob],
    executor: Executor,
    journal: Journal,
    totals: Totals,
    *,
    observer: Observer,
    fail_fast: bool = False,
    lost: threading.Event | None = None,
    function: Callable[[BatchJob], BatchRecord] = run_job,
) -> tuple[Totals, bool]:
    """Run jobs on an executor and journal their records.

    Jobs are taken one by one and records are not kept, so memory does not grow with their number.

    Returns
    -------
    Totals, bool
        The totals, and whether no job was left.

    Raises
    ------
    SsimrdoError
        If the executor is lost or records cannot be written.
    """
    remaining = iter(jobs)
    begun: set[str] = set()
    has_failed = is_stopping = False

    def stopping() -> bool:
        nonlocal is_stopping
        asked = observer.cancel.is_set() or (fail_fast and has_failed)
        asked = asked or (lost is not None and lost.is_set())
        if asked and not is_stopping:
            is_stopping = True
            observer.tell(_event("stopping", totals))
        return is_stopping

    def started(job: BatchJob) -> None:
        begun.add(job.output)
        observer.tell(_event("started", totals, job))

    calls = as_finished(
        executor,
        function,
        remaining,
        # A job that was lost with others may not have been to blame.
        retries=1,
        poll_s=POLL_S,
        stopping=stopping,
        started=started,
    )
    with closing(calls):
        for job, future in calls:
            record = _outcome(job, future)
            begun.remove(job.output)
            journal.append(record)
            totals = totals.plus(job, record)
            observer.tell(_event("finished", totals, job, record))
            has_failed = has_failed or record.status == "failed"
    if not journal.flush():
        raise SsimrdoError(
            f"{JOURNAL_NAME} cannot be written", remedy="make room and run the same command"
        )
    is_left = begun or (is_stopping and next(remaining, None) is not None)
    return totals, not is_left


def _event(
    kind: Kind, totals: Totals, job: BatchJob | None = None, record: BatchRecord | None = None
) -> BatchEvent:
    return BatchEvent(
        done=totals.encoded + totals.failed,
        total=totals.todo,
        what=_WHAT.get(kind, "encoding"),
        kind=kind,
        totals=totals,
        job=job,
        record=record,
    )


_WHAT: Final = {"search": "searching", "stopping": "finishing what runs"}


def _outcome(job: BatchJob, future: Future[BatchRecord]) -> BatchRecord:
    try:
        return future.result()
    except CancelledError:
        raise WorkerLostError(
            "the cluster was lost; what is finished is kept, the same command goes on"
        ) from None
    except Exception as error:
        return failure(job, explain(error) or unexpected(error))


def _executor(settings: BatchSettings, given: Executor | None) -> AbstractContextManager[Executor]:
    if given is not None:
        return nullcontext(given)
    # A job that can still act on its time-out leaves nothing behind.
    hard = None if settings.timeout_s is None else settings.timeout_s + GRACE_S
    return open_executor(settings.workers, dask=settings.dask, timeout_s=hard)


def _named(manifest: Path | str | None) -> str:
    return "" if manifest is None else str(Path(manifest).absolute())


def _entries(
    manifest: Path | str | None, source: Store | None, settings: BatchSettings
) -> list[Entry] | None:
    if manifest is None:
        return None
    return read_manifest(
        Path(manifest),
        settings.encode,
        suffix=settings.suffix,
        skip_bad=settings.skip_bad,
        root=None if source is None else source.place,
    )


def _check_places(
    source: Store | None, out: Store, manifest: Path | str | None, settings: BatchSettings
) -> None:
    for place in (source, out):
        if place is not None:
            place.check()
    if source is None and manifest is None:
        raise InputError("give a folder to search, or a manifest")
    if source is None or manifest is not None:
        return
    # A root that cannot be listed is told before anything is made or started.
    next(source.walk(), None)
    if settings.inside_root or source.folder is None or out.folder is None:
        return
    if out.folder.resolve().is_relative_to(source.folder.resolve()):
        raise InputError(
            f"{out.place}: lies in the folder that is searched",
            remedy="choose another, or {inside_root}",
        )
