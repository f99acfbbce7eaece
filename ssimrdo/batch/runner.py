"""A batch from its settings to its results."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ssimrdo.batch import lock, storage
from ssimrdo.batch.discover import discover
from ssimrdo.batch.job import Job, failure, run_job
from ssimrdo.batch.manifest import Entry, read_manifest
from ssimrdo.batch.plan import Plan, jobs_of_found, jobs_of_manifest, make_plan
from ssimrdo.batch.record import JOURNAL_NAME, REPORT_NAME, TABLE_NAME, Journal, Record, write_table
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.executors import GRACE_S, Executor, explain, open_executor

logger = logging.getLogger("ssimrdo")

POLL_S = 0.25
"""How often a request to stop is looked for."""

_PARTIAL = re.compile(r"\..{1,40}\.[0-9a-f]{16}\.partial", re.DOTALL)


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
    slices, slices_todo : int
        Slices encoded, and slices that were to be.
    input_bytes, output_bytes : int
        Sizes of the series encoded and of their outputs.
    """

    todo: int = 0
    encoded: int = 0
    failed: int = 0
    done_before: int = 0
    failed_before: int = 0
    slices: int = 0
    slices_todo: int = 0
    input_bytes: int = 0
    output_bytes: int = 0

    def plus(self, job: Job, record: Record) -> Totals:
        """Return the totals with one more job."""
        good = record.status == "encoded"
        return replace(
            self,
            encoded=self.encoded + good,
            failed=self.failed + (not good),
            slices=self.slices + job.slices,
            input_bytes=self.input_bytes + (record.input_bytes or 0),
            output_bytes=self.output_bytes + (record.output_bytes or 0),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """What a listener is told.

    Parameters
    ----------
    kind : {"search", "planned", "started", "finished", "stopping"}
        What happened.
    totals : Totals
        How far the batch is.
    job : Job, optional
        Which job, when one starts or finishes.
    record : Record, optional
        What came of it, when one finishes.
    """

    kind: Literal["search", "planned", "started", "finished", "stopping"]
    totals: Totals
    job: Job | None = None
    record: Record | None = None


Listener = Callable[[Event], None]


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
    seconds : float
        Wall time.
    """

    output: str
    totals: Totals
    interrupted: bool
    seconds: float

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
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> BatchResult:
    """Encode every CT series below a folder, or those of a manifest.

    What an earlier run has done is kept: an output is current when its sidecar tells the same
    options and the same input. Results are in ``results.jsonl``, ``results.csv`` and, with the
    ``report`` extra, ``report.html`` in the output folder.

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
    executor : Executor, optional
        What runs the jobs in place of what the settings ask for; it stays open unless the batch
        is broken off.
    listener : callable, optional
        Is told of all events, see :class:`Event`.
    stop : threading.Event, optional
        Once set, no more jobs start; those that run are finished.

    Returns
    -------
    BatchResult
        Totals; single results are read with :func:`read_results`.

    Raises
    ------
    InputError
        If the root, the manifest, the output folder or the cluster cannot be used.
    SsimrdoError
        If the cluster is lost, or the results cannot be written.
    """
    started = time.monotonic()
    settings = settings or BatchSettings()
    stop = stop or threading.Event()
    tell = listener or _ignore
    out_root = _absolute(output)
    source = None if root is None else _absolute(root)
    _check_places(source, out_root, manifest, settings)
    entries = _entries(manifest, source, settings)
    with (
        _executor(settings, executor) as workers,
        storage.local_folder(out_root, (JOURNAL_NAME, TABLE_NAME, REPORT_NAME)) as folder,
        lock.exclusive(out_root),
        Journal(folder / JOURNAL_NAME) as journal,
    ):
        tell(Event("search", Totals()))
        jobs = find_jobs(source, out_root, settings, workers, entries)
        plan = make_plan(jobs, journal, retry_failed=settings.retry_failed)
        for record in plan.kept:
            journal.append(record)
        _remove_partials(out_root, jobs)
        totals = Totals(
            todo=len(plan.todo),
            done_before=plan.done,
            failed_before=plan.failed,
            slices_todo=plan.slices,
        )
        tell(Event("planned", totals))
        try:
            totals, is_whole = run_jobs(
                (todo.job for todo in plan.todo),
                workers,
                journal,
                totals,
                tell=tell,
                stop=stop,
                fail_fast=settings.fail_fast,
            )
        except BaseException:
            # Nothing may be written any more when this looks for leftovers.
            workers.stop()
            _remove_partials(out_root, jobs)
            raise
        _write_results(journal, folder, out_root)
    return BatchResult(str(output), totals, not is_whole, time.monotonic() - started)


def dry_run(
    root: Path | str | None,
    output: Path | str,
    settings: BatchSettings | None = None,
    *,
    manifest: Path | str | None = None,
    executor: Executor | None = None,
) -> tuple[Plan, float | None]:
    """Return what :func:`run` would do, and slices per second and job of earlier runs if known.

    Raises
    ------
    InputError
        As :func:`run`.
    """
    settings = settings or BatchSettings()
    out_root = _absolute(output)
    source = None if root is None else _absolute(root)
    _check_places(source, out_root, manifest, settings)
    entries = _entries(manifest, source, settings)
    with _executor(settings, executor) as workers, _fetched_journal(out_root) as journal:
        jobs = find_jobs(source, out_root, settings, workers, entries)
        plan = make_plan(jobs, journal, retry_failed=settings.retry_failed)
        return plan, None if journal is None else _speed(journal)


def read_results(output: Path | str) -> Iterator[Record]:
    """Yield the last record of every output of a batch; running batches may be read.

    Raises
    ------
    InputError
        If the folder has no results.
    """
    with _fetched_journal(str(output)) as journal:
        if journal is None:
            raise InputError(f"{output}: no batch has been here: there is no {JOURNAL_NAME}")
        yield from journal.records()


def is_running(output: Path | str) -> bool:
    """Tell whether a batch is at work in a folder."""
    return lock.is_held(str(output))


def find_jobs(
    source: str | None,
    out_root: str,
    settings: BatchSettings,
    executor: Executor,
    entries: list[Entry] | None = None,
) -> list[Job]:
    """Return the jobs of a manifest's entries, or of all series below a folder.

    Raises
    ------
    InputError
        If there is none, or the folder cannot be used.
    """
    if entries is not None:
        return list(jobs_of_manifest(entries, out_root, settings))
    assert source is not None
    founds = discover(source, executor, leave_out=storage.local_path(out_root))
    if not founds:
        raise InputError(f"{source}: no CT series below it: give a folder that has some")
    return list(jobs_of_found(founds, source, out_root, settings))


def run_jobs(
    jobs: Iterable[Job],
    executor: Executor,
    journal: Journal,
    totals: Totals,
    *,
    tell: Listener,
    stop: threading.Event,
    fail_fast: bool = False,
    function: Callable[[Job], Record] = run_job,
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
    running: dict[Future[Record], Job] = {}
    again: deque[Job] = deque()
    tried_again: set[str] = set()
    is_stopping = False
    while True:
        if stop.is_set() and not is_stopping:
            is_stopping = True
            tell(Event("stopping", totals))
        while not is_stopping and len(running) < executor.slots:
            job = again.popleft() if again else next(remaining, None)
            if job is None:
                break
            running[executor.submit(function, job)] = job
            tell(Event("started", totals, job))
        if not running:
            break
        done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            job = running.pop(future)
            if _lost_with_others(future) and job.output not in tried_again:
                # It may not have been to blame.
                tried_again.add(job.output)
                again.append(job)
                continue
            record = _outcome(job, future)
            journal.append(record)
            totals = totals.plus(job, record)
            tell(Event("finished", totals, job, record))
            if fail_fast and record.status == "failed" and not is_stopping:
                is_stopping = True
                tell(Event("stopping", totals))
    if not journal.flush():
        raise SsimrdoError(f"{JOURNAL_NAME} cannot be written: make room and run the same command")
    left = again or (is_stopping and next(remaining, None) is not None)
    return totals, not left


def _outcome(job: Job, future: Future[Record]) -> Record:
    try:
        return future.result()
    except CancelledError:
        raise SsimrdoError(
            "the cluster was lost; what is finished is kept, the same command goes on"
        ) from None
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        return failure(job, reason)


def _lost_with_others(future: Future[Record]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenProcessPool)


def _executor(settings: BatchSettings, given: Executor | None) -> AbstractContextManager[Executor]:
    if given is not None:
        return nullcontext(given)
    # A job that can still act on its time-out leaves nothing behind.
    hard = None if settings.timeout_s is None else settings.timeout_s + GRACE_S
    return open_executor(settings.workers, dask=settings.dask, timeout_s=hard)


def _write_results(journal: Journal, folder: Path, out_root: str) -> None:
    write_table(journal, folder / TABLE_NAME)
    from ssimrdo.batch.report import write_report

    try:
        write_report(journal, folder / REPORT_NAME, out_root)
    except InputError as error:
        logger.warning("%s is left out: %s", REPORT_NAME, error)


def _entries(
    manifest: Path | str | None, source: str | None, settings: BatchSettings
) -> list[Entry] | None:
    if manifest is None:
        return None
    return read_manifest(
        Path(manifest),
        settings.encode,
        suffix=settings.suffix,
        skip_bad=settings.skip_bad,
        root=source,
    )


def _remove_partials(out_root: str, jobs: Iterable[Job]) -> None:
    """Remove what killed jobs have left beside their outputs."""
    root = storage.local_path(out_root)
    if root is None or storage.is_url(out_root):
        return
    for folder in {(root / job.output).parent for job in jobs}:
        if folder.is_dir():
            for path in folder.iterdir():
                if _PARTIAL.fullmatch(path.name):
                    path.unlink(missing_ok=True)


def _check_places(
    source: str | None, out_root: str, manifest: Path | str | None, settings: BatchSettings
) -> None:
    for place in (source, out_root):
        if place is not None:
            storage.check(place)
    if source is None and manifest is None:
        raise InputError("give a folder to search, or a manifest")
    if source is None or manifest is not None:
        return
    # A root that cannot be listed is told before anything is made or started.
    next(storage.folders(source), None)
    if settings.inside_root:
        return
    root, output = storage.local_path(source), storage.local_path(out_root)
    if root is not None and output is not None and output.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{out_root}: lies in the folder that is searched: choose another, or --inside-root"
        )


def _absolute(place: Path | str) -> str:
    """Return a place that means the same in every process of this machine."""
    return str(place) if storage.is_url(str(place)) else str(Path(place).absolute())


@contextmanager
def _fetched_journal(out_root: str) -> Iterator[Journal | None]:
    """Yield the journal of an output folder for reading, None if there is none."""
    if not storage.exists(out_root, JOURNAL_NAME):
        yield None
        return
    with storage.fetched(out_root, JOURNAL_NAME) as path:
        yield Journal(path)


def _speed(journal: Journal) -> float | None:
    slices = seconds = 0.0
    for record in journal.records():
        if record.status == "encoded" and record.slices and record.seconds:
            slices += record.slices
            seconds += record.seconds
    return slices / seconds if seconds else None


def _ignore(event: Event) -> None:
    del event
