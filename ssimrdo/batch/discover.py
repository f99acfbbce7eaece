"""Search for all CT series below a folder, reading as little of each file as tells its series."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from ssimrdo.batch.store import Store, common_place, store_of
from ssimrdo.dicom.read.header import (
    BadFile,
    Membership,
    SkippedFile,
    read_membership,
)
from ssimrdo.errors import SsimrdoError
from ssimrdo.executors import (
    WorkerLostError,
    as_finished,
    explain,
    has_lost_its_worker,
    unexpected,
)
from ssimrdo.text import printable

CHUNK: Final = 512
"""Files that are looked at in one task."""

PENDING: Final = 4
"""Tasks per worker that may wait; it bounds the memory they hold."""

_Finding: TypeAlias = Membership | str | None
"""What a file belongs to, "" if it may be a damaged slice, None if it is something else."""


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series below the folder searched, or files of no known series that may be damaged slices.

    Parameters
    ----------
    folder : str
        Path or URL of the folder that has its files.
    uid, study_uid : str or None
        Series and Study Instance UID; None for damaged files of a folder without a series.
    number : int or None
        Series Number.
    files : tuple of str or None
        Its files, relative to `folder`; None if these are all below it.
    slices : int
        Number of its files.
    alone : bool
        Whether the folder has no other series.
    """

    folder: str
    uid: str | None
    study_uid: str | None
    number: int | None
    files: tuple[str, ...] | None
    slices: int
    alone: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """What one folder has of a series."""

    found: FoundSeries
    instances: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Files that are looked at in one task.

    Parameters
    ----------
    folder : str
        Path or URL of the folder that has them.
    names : tuple of str
        Of the files.
    is_leaf : bool
        Whether the folder has no folders below it.
    is_last : bool
        Whether the folder has no more files.
    """

    folder: str
    names: tuple[str, ...]
    is_leaf: bool
    is_last: bool


def discover(
    root: Store, executor: Executor, *, leave_out: Path | None = None
) -> list[FoundSeries]:
    """Find the CT series below a root, in the order of their folders.

    A series that is spread over folders is one; copies of a series are one each.

    Parameters
    ----------
    root : Store
        Folder, file or URL.
    executor : Executor
        What reads the headers.
    leave_out : Path, optional
        Folder below the root that is not searched.

    Raises
    ------
    InputError
        If the root does not exist or cannot be read.
    SsimrdoError
        If the executor is lost.
    """
    parts: list[_Part] = []
    findings: dict[str, Membership | str] = {}
    for chunk, found in _looked_at(_chunks(root, leave_out), executor):
        named = zip(chunk.names, found, strict=True)
        findings |= {name: finding for name, finding in named if finding is not None}
        if chunk.is_last:
            parts += _parts(chunk.folder, chunk.is_leaf, findings)
            findings = {}
    return _joined(parts)


def read_memberships(chunk: Chunk) -> list[_Finding]:
    """Look at files of one folder; fit for any executor."""
    folder = store_of(chunk.folder)
    return [_finding(folder, name) for name in chunk.names]


def _finding(folder: Store, name: str) -> _Finding:
    try:
        found = folder.read(name, read_membership)
    except Exception:
        # Whatever one file does to its reader, the others are looked at; an encode will say more.
        return ""
    if isinstance(found, BadFile):
        return ""
    return None if isinstance(found, SkippedFile) else found


def _chunks(root: Store, leave_out: Path | None) -> Iterator[Chunk]:
    if leave_out is not None and Path(root.place).is_relative_to(leave_out):
        leave_out = None
    for folder, names, is_leaf in root.walk():
        if leave_out is not None and Path(folder).is_relative_to(leave_out):
            continue
        for start in range(0, len(names), CHUNK):
            end = start + CHUNK
            yield Chunk(folder, tuple(names[start:end]), is_leaf, end >= len(names))


def _looked_at(
    chunks: Iterable[Chunk], executor: Executor
) -> Iterator[tuple[Chunk, list[_Finding]]]:
    """Yield chunks, in order, with what their files belong to."""
    calls = as_finished(
        executor,
        read_memberships,
        chunks,
        in_order=True,
        per_slot=PENDING,
        # A worker that dies while it has nothing to do may end all others.
        retries=1,
    )
    with closing(calls):
        for chunk, future in calls:
            yield chunk, _result(chunk, future, executor)


def _result(chunk: Chunk, future: Future[list[_Finding]], executor: Executor) -> list[_Finding]:
    try:
        return future.result()
    except CancelledError:
        raise WorkerLostError("the cluster was lost; nothing was changed") from None
    except Exception as error:
        if not has_lost_its_worker(error):
            raise SsimrdoError(
                f"{printable(chunk.folder)}: {explain(error) or unexpected(error)}"
            ) from error
    if len(chunk.names) == 1:
        return [""]
    # One file is to blame, or there were too many for the time that a call may take.
    alone = (replace(chunk, names=(name,)) for name in chunk.names)
    return [finding for _, (finding,) in _looked_at(alone, executor)]


def _parts(folder: str, is_leaf: bool, findings: dict[str, Membership | str]) -> Iterator[_Part]:
    by_uid: dict[str, list[tuple[str, Membership]]] = {}
    bad = []
    for name, found in findings.items():
        if isinstance(found, Membership):
            by_uid.setdefault(found.series_uid, []).append((name, found))
        else:
            bad.append(name)
    if not by_uid and bad:
        files = None if is_leaf else tuple(bad)
        yield _Part(FoundSeries(folder, None, None, None, files, len(bad), True), b"")
    for uid, members in sorted(by_uid.items()):
        is_all = is_leaf and len(by_uid) == 1
        # A damaged file may be of any series here, which an encode will hold against each.
        files = None if is_all else tuple(sorted([*bad, *(name for name, _ in members)]))
        first = members[0][1]
        instances = "\n".join(sorted(member.sop_instance_uid for _, member in members))
        yield _Part(
            FoundSeries(
                folder,
                uid,
                first.study_uid,
                first.series_number,
                files,
                len(members),
                len(by_uid) == 1,
            ),
            sha256(instances.encode()).digest(),
        )


def _joined(parts: list[_Part]) -> list[FoundSeries]:
    """Join the parts of series that are spread over folders."""
    by_uid: dict[str, list[_Part]] = {}
    for part in parts:
        if part.found.uid is not None:
            by_uid.setdefault(part.found.uid, []).append(part)
    spread = {
        uid
        for uid, found in by_uid.items()
        if len(found) > 1 and len({part.instances for part in found}) > 1
    }
    joined = [part.found for part in parts if part.found.uid not in spread]
    joined += [_join([part.found for part in by_uid[uid]]) for uid in sorted(spread)]
    return sorted(joined, key=lambda found: (PurePosixPath(found.folder).parts, found.uid or ""))


def _join(founds: list[FoundSeries]) -> FoundSeries:
    folder = common_place([found.folder for found in founds])
    files = [
        os.path.relpath(f"{found.folder}/{name}", folder)
        for found in founds
        for name in _names(found)
    ]
    return replace(
        founds[0],
        folder=folder,
        files=tuple(files),
        slices=sum(found.slices for found in founds),
        alone=False,
    )


def _names(found: FoundSeries) -> tuple[str, ...]:
    if found.files is not None:
        return found.files
    return tuple(name for _, names, _ in store_of(found.folder).walk() for name in names)
