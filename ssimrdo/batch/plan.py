"""From series found, or a manifest, to jobs; and which of them are still to be done."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from ssimrdo.batch import state
from ssimrdo.batch.inside import FoundSeries
from ssimrdo.batch.job import BatchJob
from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.batch.manifest import Entry
from ssimrdo.batch.names import Names, from_template, hashed, tells_path
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.batch.store import Store, place_below, relative_name
from ssimrdo.errors import InputError
from ssimrdo.record.sidecar import sidecar_path
from ssimrdo.text import printable

ORPHANED: Final = "no series of this name is found any more"

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
    lost : tuple of BatchRecord
        Of outputs that no series maps to any more: orphaned where there still is a file, else gone;
        as far as the journal does not know it.
    orphaned : int
        Number of outputs that are still there, but no series maps to any more.
    done : int
        Number of outputs that are done.
    failed : int
        Jobs that failed before and are not tried again.
    """

    todo: tuple[Todo, ...]
    kept: tuple[BatchRecord, ...]
    done: int
    failed: int
    lost: tuple[BatchRecord, ...] = ()
    orphaned: int = 0

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
    origin = origin_of(root, key)
    for index, found in enumerate(founds, 1):
        relative = relative_name(found.folder, root)
        # UIDs lead whoever has the archive to the patient.
        is_told = found.alone or found.uid is None
        shown = relative if is_told else f"{relative} ({hashed(found.uid or '')[:8]})"
        if found.phase:
            shown += f", {found.phase}"
        yield BatchJob(
            series=found.folder,
            out_root=out_root,
            output=names.take(_output_name(found, relative, index, settings.name_template)),
            settings=settings.encode,
            name=printable(shown),
            is_named=tells_path(settings.name_template),
            key=key,
            origin=origin,
            series_uid=found.chosen_by,
            share=found.share,
            files=found.files,
            skip_bad=settings.skip_bad,
            keep_older=settings.keep_older,
            slices=found.slices,
            timeout_s=settings.timeout_s,
        )


def jobs_of_manifest(
    entries: Iterable[Entry],
    out_root: str,
    settings: BatchSettings,
    key: str = "",
    manifest: str = "",
) -> Iterator[BatchJob]:
    """Yield the jobs of a manifest; named outputs keep their names.

    Raises
    ------
    InputError
        If two entries name one output, or ask for the same.
    """
    entries = list(entries)
    _check_no_repeats(entries)
    names = Names(settings.suffix)
    origin = origin_of(manifest, key)
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
            origin=origin,
            series_uid=entry.series_uid,
            skip_bad=entry.skip_bad,
            keep_older=settings.keep_older,
            timeout_s=settings.timeout_s,
        )


def origin_of(place: str, key: str) -> str:
    """Return what tells the outputs of one root, or manifest, from those of others."""
    return state.Digests.of(place, key).keyed if place and key else ""


def _check_no_repeats(entries: Iterable[Entry]) -> None:
    """Refuse entries that would make one file twice; named outputs may be copies on purpose."""
    seen: dict[tuple[str, str | None, str], str] = {}
    for entry in entries:
        if entry.output is None:
            options = state.options_digest(entry.settings, skip_bad=entry.skip_bad)
            first = seen.setdefault((entry.series, entry.series_uid, options), entry.place)
            if first != entry.place:
                raise InputError(
                    f"{entry.place}: asks for the same as {first.rpartition(': ')[2]}",
                    remedy="leave one out, or give each an output",
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
    mapped: set[str] = set()
    origins: set[str] = set()
    done = failed = 0
    for job in jobs:
        mapped.add(job.output)
        origins.add(job.origin)
        stamp = job.stamp()
        accepted = job.accepted
        sidecar = state.read_sidecar(out, job.output)
        before = None if journal is None else journal.last(job.output)
        change = None
        if sidecar is not None:
            change = state.change_since(sidecar, accepted, stamp.digests, keep_older=job.keep_older)
            if change is None:
                done += 1
                if not _is_known(before, accepted, job.origin):
                    kept.append(job.record_of(sidecar))
                continue
        if before is not None and before.status == "failed":
            if not retry_failed and _is_same(before, job.options, stamp.digests):
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
    lost = [] if journal is None else list(_lost(journal, mapped, origins, out))
    news = [now for before, now in lost if before.status != now.status]
    orphaned = sum(now.status == "orphaned" for _, now in lost)
    return Plan(tuple(todo), tuple(kept), done, failed, tuple(news), orphaned)


def _lost(
    journal: Journal, mapped: Collection[str], origins: set[str], out: Store
) -> Iterator[tuple[BatchRecord, BatchRecord]]:
    """Yield records of outputs of the same root that no series maps to, and what they become."""
    # There may be a million, and hardly ever one that is lost.
    by_stem: dict[str, str] = {}
    for record in journal.records():
        if record.output in mapped or not record.origin or record.origin not in origins:
            continue
        if out.holds(record.output):
            by_stem = by_stem or {_stem(output): output for output in mapped}
            other = by_stem.get(_stem(record.output))
            reason = ORPHANED if other is None else f"its series goes into {other} now"
            yield record, replace(record, status="orphaned", reason=reason)
        else:
            yield record, BatchRecord(record.output, record.series, "gone")


def _stem(output: str) -> str:
    return output.rpartition(".")[0]


def _check_free(out: Store, output: str) -> None:
    for name in (output, str(sidecar_path(Path(output)))):
        if out.holds(name):
            raise InputError(
                f"{place_below(out.place, name)}: exists and is of no batch",
                remedy="choose another folder",
            )


def _is_known(before: BatchRecord | None, accepted: Container[str], origin: str) -> bool:
    """Tell whether the journal has a finished output already."""
    if before is None or before.status != "encoded" or before.options not in accepted:
        return False
    return before.origin == origin


def _is_same(before: BatchRecord, options: str, inputs: state.Digests) -> bool:
    """Tell whether a job that came to an end before was the same."""
    return before.options == options and before.inputs in inputs


def _output_name(found: FoundSeries, relative: str, index: int, template: str | None) -> str:
    uid_hash = hashed(found.uid or relative)
    if template is None:
        # A number would move to another series when one is added.
        name = relative if found.alone else f"{relative}-{uid_hash[:8]}"
        return f"{name}-{found.phase_name}" if found.phase else name
    fields = {
        "relative_path": relative,
        "folder": Path(relative).name,
        "index": index,
        "series_number": found.number or 0,
        "slices": found.slices,
        "uid_hash": uid_hash,
        "study_hash": hashed(found.study_uid or ""),
        "phase": found.phase_name,
    }
    return from_template(template, fields)
