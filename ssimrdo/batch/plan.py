"""From series found, or a manifest, to jobs; and which of them are still to be done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ssimrdo.batch import state
from ssimrdo.batch.discover import FoundSeries
from ssimrdo.batch.job import BatchJob
from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.batch.manifest import Entry
from ssimrdo.batch.names import Names, from_template, hashed, tells_path
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.batch.store import Store, place_below, relative_name, store_of
from ssimrdo.errors import InputError
from ssimrdo.record.sidecar import sidecar_path
from ssimrdo.text import printable

Why = Literal["new", "failed before"] | state.Change


@dataclass(frozen=True, slots=True)
class Todo:
    """A job that is to be done, why, and the size of its files in bytes."""

    job: BatchJob
    why: Why
    input_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a batch has to do.

    Parameters
    ----------
    todo : tuple of Todo
        Jobs to do, in the order of their series.
    kept : tuple of BatchRecord
        Outputs that are done, as far as the journal does not know them.
    done : int
        Number of outputs that are done.
    failed : int
        Jobs that failed before and are not tried again.
    """

    todo: tuple[Todo, ...]
    kept: tuple[BatchRecord, ...]
    done: int
    failed: int

    @property
    def jobs(self) -> int:
        """Number of all jobs."""
        return len(self.todo) + self.done + self.failed

    @property
    def slices(self) -> int:
        """Slices to encode, as far as is known."""
        return sum(todo.job.slices for todo in self.todo)

    @property
    def input_bytes(self) -> int:
        """Size of the files to encode."""
        return sum(todo.input_bytes for todo in self.todo)


def jobs_of_found(
    founds: Iterable[FoundSeries], root: str, out_root: str, settings: BatchSettings, key: str = ""
) -> Iterator[BatchJob]:
    """Yield the jobs of the series below a root, each with an output name of its own."""
    names = Names(settings.suffix)
    for index, found in enumerate(founds, 1):
        relative = relative_name(found.folder, root)
        # UIDs lead whoever has the archive to the patient.
        is_told = found.alone or found.uid is None
        shown = relative if is_told else f"{relative} ({hashed(found.uid or '')[:8]})"
        yield BatchJob(
            series=found.folder,
            out_root=out_root,
            output=names.take(_output_name(found, relative, index, settings.name_template)),
            settings=settings.encode,
            name=printable(shown),
            is_named=tells_path(settings.name_template),
            key=key,
            series_uid=found.uid,
            files=found.files,
            skip_bad=settings.skip_bad,
            keep_older=settings.keep_older,
            slices=found.slices,
            timeout_s=settings.timeout_s,
        )


def jobs_of_manifest(
    entries: Iterable[Entry], out_root: str, settings: BatchSettings, key: str = ""
) -> Iterator[BatchJob]:
    """Yield the jobs of a manifest; named outputs keep their names.

    Raises
    ------
    InputError
        If two entries name one output.
    """
    entries = list(entries)
    names = Names(settings.suffix)
    for entry in entries:
        if entry.output is not None and not names.reserve(entry.output):
            raise InputError(f"{entry.place}, column output: {entry.output} is named twice")
    for index, entry in enumerate(entries, 1):
        relative = relative_name(entry.series, entry.base)
        if entry.output is None:
            uid = entry.series_uid
            found = FoundSeries(entry.series, uid, None, None, None, 0, uid is None)
            # Without a look at the headers only the path is known.
            output = names.take(_output_name(found, relative, index, settings.name_template))
        else:
            output = entry.output
        yield BatchJob(
            series=entry.series,
            out_root=out_root,
            output=output,
            settings=entry.settings,
            name=printable(relative),
            is_named=tells_path(settings.name_template),
            key=key,
            series_uid=entry.series_uid,
            skip_bad=entry.skip_bad,
            keep_older=settings.keep_older,
            timeout_s=settings.timeout_s,
        )


def make_plan(
    jobs: Iterable[BatchJob], out: Store, journal: Journal | None, *, retry_failed: bool
) -> Plan:
    """Decide which jobs are to be done, from sidecars, input files and failures before.

    Parameters
    ----------
    jobs : iterable of BatchJob
        All jobs.
    out : Store
        Where their outputs go.
    journal : Journal, optional
        Of earlier runs.
    retry_failed : bool
        Whether jobs that failed before are to be done.

    Raises
    ------
    InputError
        If an output would replace a file that no batch has written.
    """
    todo: list[Todo] = []
    kept: list[BatchRecord] = []
    done = failed = 0
    for job in jobs:
        stamp = state.input_stamp(store_of(job.series), job.files, job.key)
        options = job.options
        sidecar = state.read_sidecar(out, job.output)
        change = None
        if sidecar is not None:
            change = state.change_since(sidecar, options, stamp.digests, keep_older=job.keep_older)
            if change is None:
                done += 1
                last = None if journal is None else journal.last(job.output)
                if last is None or last.status != "encoded" or last.options != options:
                    kept.append(BatchRecord.of_sidecar(job.output, job.told_name, sidecar))
                continue
        before = None if journal is None else journal.last(job.output)
        if _has_failed(before, options, stamp.digests):
            if not retry_failed:
                failed += 1
                continue
            why: Why = "failed before"
        elif change is not None:
            why = change
        else:
            if not journal:
                _check_free(out, job.output)
            why = "new"
        slices = job.slices or stamp.files
        todo.append(Todo(replace(job, slices=slices), why, stamp.bytes))
    return Plan(tuple(todo), tuple(kept), done, failed)


def _check_free(out: Store, output: str) -> None:
    for name in (output, str(sidecar_path(Path(output)))):
        if out.holds(name):
            raise InputError(
                f"{place_below(out.place, name)}: exists and is of no batch",
                remedy="choose another folder",
            )


def _has_failed(before: BatchRecord | None, options: str, inputs: state.Digests) -> bool:
    """Tell whether the same job has failed before."""
    if before is None or before.status != "failed":
        return False
    return before.options == options and before.inputs in inputs


def _output_name(found: FoundSeries, relative: str, index: int, template: str | None) -> str:
    uid_hash = hashed(found.uid or relative)
    if template is None:
        # A number would move to another series when one is added.
        return relative if found.alone else f"{relative}-{uid_hash[:8]}"
    fields = {
        "relative_path": relative,
        "folder": Path(relative).name,
        "index": index,
        "series_number": found.number or 0,
        "slices": found.slices,
        "uid_hash": uid_hash,
        "study_hash": hashed(found.study_uid or ""),
    }
    return from_template(template, fields)
