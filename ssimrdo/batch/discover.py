"""Search for all CT series below a folder, reading as little of each file as tells its series."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias, TypeVar

from ssimrdo.batch.inside import FoundSeries, is_archive_name, look_inside
from ssimrdo.batch.store import Store, common_place, store_of
from ssimrdo.dicom.read.dicomdir import is_dicomdir
from ssimrdo.dicom.read.header import (
    DICOMDIR,
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
from ssimrdo.volumes import has_volume_name

logger = logging.getLogger(__name__)

CHUNK: Final = 512
"""Files that are looked at in one task."""

PENDING: Final = 4
"""Tasks per worker that may wait; it bounds the memory they hold."""


class Kind(Enum):
    """What a file is that is no slice."""

    BAD = "may be a damaged slice"
    ARCHIVE = "is called like an archive"
    VOLUME = "is called like a volume"
    DICOMDIR = "lists files that are found anyway"


_Finding: TypeAlias = Membership | Kind | None
"""What a file belongs to, or is; None for something else."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Part:
    """What one folder has of a series; `instances` tells its slices from those of others."""

    found: FoundSeries
    instances: bytes = b""


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
    root: Store, executor: Executor, *, leave_out: Path | None = None, volumes: bool = False
) -> list[FoundSeries]:
    """Find the CT series below a root, in the order of their folders.

    A series that is spread over folders is one; copies of a series are one each. Zip and tar
    archives are looked into, and a series of several phases is one for each of them.

    Parameters
    ----------
    root : Store
        Folder, file or URL.
    executor : Executor
        What reads the headers.
    leave_out : Path, optional
        Folder below the root that is not searched.
    volumes : bool
        Take files of NIfTI and NumPy as well.

    Raises
    ------
    InputError
        If the root does not exist or cannot be read.
    SsimrdoError
        If the executor is lost.
    """
    if root.folder is not None and is_dicomdir(root.folder):
        return look_inside(FoundSeries(root.place, None, None, None, None, 1, True))
    parts: list[_Part] = []
    findings: dict[str, Membership | Kind] = {}
    left_out = 0
    for chunk, found in _looked_at(_chunks(root, leave_out), executor):
        named = zip(chunk.names, found, strict=True)
        findings |= {name: finding for name, finding in named if finding is not None}
        if chunk.is_last:
            left_out += 0 if volumes else list(findings.values()).count(Kind.VOLUME)
            parts += _parts(chunk.folder, chunk.is_leaf, findings, volumes=volumes)
            findings = {}
    if left_out:
        logger.warning(
            "files of NIfTI or NumPy are left out (%d), as nobody can tell whether they hold HU: "
            "ask for volumes, and they are taken",
            left_out,
        )
    return list(_inside(_joined(parts), executor))


def _inside(founds: Iterable[FoundSeries], executor: Executor) -> Iterator[FoundSeries]:
    """Yield series, and in place of those that are unclear what is in them."""
    founds = list(founds)
    calls = as_finished(
        executor, look_inside, (one for one in founds if one.unclear), in_order=True, retries=1
    )
    with closing(calls):
        for found in founds:
            if not found.unclear:
                yield found
                continue
            _, future = next(calls)
            inside = _result(found.folder, future)
            yield from [replace(found, unclear=False)] if inside is None else inside


def read_memberships(chunk: Chunk) -> list[_Finding]:
    """Look at files of one folder; fit for any executor."""
    folder = store_of(chunk.folder)
    return [_finding(folder, name) for name in chunk.names]


def _finding(folder: Store, name: str) -> _Finding:
    if has_volume_name(name):
        return Kind.VOLUME
    if is_archive_name(name):
        return Kind.ARCHIVE
    try:
        found = folder.read(name, read_membership)
    except Exception:
        # Whatever one file does to its reader, the others are looked at; an encode will say more.
        return Kind.BAD
    if isinstance(found, BadFile):
        return Kind.BAD
    if isinstance(found, SkippedFile):
        return Kind.DICOMDIR if found.reason == DICOMDIR else None
    return found


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
            found = _result(chunk.folder, future)
            yield chunk, _one_by_one(chunk, executor) if found is None else found


def _result(folder: str, future: Future[T]) -> T | None:
    """Return what a look into a folder found, None where its worker was lost."""
    try:
        return future.result()
    except CancelledError:
        raise WorkerLostError("the cluster was lost; nothing was changed") from None
    except Exception as error:
        if not has_lost_its_worker(error):
            raise SsimrdoError(
                f"{printable(folder)}: {explain(error) or unexpected(error)}"
            ) from error
    return None


def _one_by_one(chunk: Chunk, executor: Executor) -> list[_Finding]:
    if len(chunk.names) == 1:
        return [Kind.BAD]
    # One file is to blame, or there were too many for the time that a call may take.
    alone = (replace(chunk, names=(name,)) for name in chunk.names)
    return [finding for _, (finding,) in _looked_at(alone, executor)]


def _parts(
    folder: str, is_leaf: bool, findings: dict[str, Membership | Kind], *, volumes: bool
) -> Iterator[_Part]:
    by_uid: dict[str, list[tuple[str, Membership]]] = {}
    bad = []
    for name, found in findings.items():
        if isinstance(found, Membership):
            by_uid.setdefault(found.series_uid, []).append((name, found))
        elif found is Kind.BAD:
            bad.append(name)
        elif found is Kind.ARCHIVE or (found is Kind.VOLUME and volumes):
            place = f"{folder}/{name}"
            yield _Part(FoundSeries(place, None, None, None, None, 1, True, unclear=True))
    is_leaf = is_leaf and all(
        isinstance(found, Membership) or found is Kind.BAD for found in findings.values()
    )
    if not by_uid and bad:
        files = None if is_leaf else tuple(bad)
        yield _Part(FoundSeries(folder, None, None, None, files, len(bad), True))
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
                unclear=_may_be_several([member for _, member in members]),
            ),
            sha256(instances.encode()).digest(),
        )


def _may_be_several(members: Sequence[Membership]) -> bool:
    """Tell whether slices lie in one place, or files hold several."""
    places = {member.sop_instance_uid: member.position for member in members}
    return any(member.enhanced for member in members) or len(set(places.values())) < len(places)


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
        unclear=True,
    )


def _names(found: FoundSeries) -> tuple[str, ...]:
    if found.files is not None:
        return found.files
    return tuple(name for _, names, _ in store_of(found.folder).walk() for name in names)
