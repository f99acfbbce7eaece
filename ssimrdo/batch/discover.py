"""Search for all CT series below a folder, reading as little of each file as tells its series."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ssimrdo.batch import storage
from ssimrdo.dicom.read.find import read_file
from ssimrdo.dicom.read.header import BadFile, Membership, SkippedFile, read_membership
from ssimrdo.executors import Executor

CHUNK = 512
"""Files that are looked at in one task."""

PENDING = 4
"""Tasks per worker that may wait; it bounds the memory they hold."""


@dataclass(frozen=True, slots=True)
class Found:
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

    found: Found
    instances: bytes


def discover(root: str, executor: Executor, *, leave_out: Path | None = None) -> list[Found]:
    """Find the CT series below a root, in the order of their folders.

    A series that is spread over folders is one; copies of a series are one each.

    Parameters
    ----------
    root : str
        Folder, file or URL.
    executor : Executor
        What reads the headers.
    leave_out : Path, optional
        Folder below the root that is not searched.

    Raises
    ------
    InputError
        If the root does not exist or cannot be read.
    """
    parts: list[_Part] = []
    for folder, is_leaf, findings in _in_order(_chunks(root, leave_out), executor):
        parts += _parts(folder, is_leaf, findings)
    return _joined(parts)


def read_memberships(
    folder_and_names: tuple[str, tuple[str, ...]],
) -> list[Membership | str | None]:
    """Look at files of one folder; fit for any executor.

    Returns
    -------
    list
        For each file what it belongs to, "" if it may be a damaged slice and None if it is
        something else.
    """
    folder, names = folder_and_names
    return [_membership(folder, name) for name in names]


def _membership(folder: str, name: str) -> Membership | str | None:
    place = storage.join(folder, name)
    if storage.is_url(folder):
        with storage.open_file(place) as stream:
            found = read_membership(stream, name)
    else:
        found = read_file(Path(place), name, _read)
    if isinstance(found, BadFile):
        return ""
    return None if isinstance(found, SkippedFile) else found


def _read(path: Path, name: str) -> Membership | SkippedFile:
    with storage.open_file(str(path)) as stream:
        return read_membership(stream, name)


_Chunk = tuple[str, bool, tuple[str, ...], bool]
_Findings = dict[str, Membership | str]


def _chunks(root: str, leave_out: Path | None) -> Iterator[_Chunk]:
    """Yield folder, whether it is a leaf, some of its files and whether these are the last."""
    for folder, names, is_leaf in storage.folders(root):
        if leave_out is not None and Path(folder).is_relative_to(leave_out):
            continue
        for start in range(0, len(names), CHUNK):
            end = start + CHUNK
            yield folder, is_leaf, tuple(names[start:end]), end >= len(names)


def _in_order(
    chunks: Iterable[_Chunk], executor: Executor
) -> Iterator[tuple[str, bool, _Findings]]:
    """Read the chunks on the executor; yield what each folder has, in the order of folders."""
    waiting: list[tuple[_Chunk, Future[list[Membership | str | None]]]] = []
    findings: _Findings = {}
    remaining = iter(chunks)
    while True:
        while len(waiting) < PENDING * executor.slots and (chunk := next(remaining, None)):
            waiting.append((chunk, executor.submit(read_memberships, (chunk[0], chunk[2]))))
        if not waiting:
            return
        (folder, is_leaf, names, is_last), future = waiting.pop(0)
        try:
            found_here = future.result()
        except BrokenProcessPool:
            # A worker died while it had nothing to do, which ends all others.
            found_here = executor.submit(read_memberships, (folder, names)).result()
        for name, found in zip(names, found_here, strict=True):
            if found is not None:
                findings[name] = found
        if is_last:
            yield folder, is_leaf, findings
            findings = {}


def _parts(folder: str, is_leaf: bool, findings: _Findings) -> Iterator[_Part]:
    by_uid: dict[str, list[tuple[str, Membership]]] = {}
    bad = []
    for name, found in findings.items():
        if isinstance(found, Membership):
            by_uid.setdefault(found.series_uid, []).append((name, found))
        else:
            bad.append(name)
    if not by_uid and bad:
        files = None if is_leaf else tuple(bad)
        yield _Part(Found(folder, None, None, None, files, len(bad), True), b"")
    for uid, members in sorted(by_uid.items()):
        is_all = is_leaf and len(by_uid) == 1
        # A damaged file may be of any series here, which an encode will hold against each.
        files = None if is_all else tuple(sorted([*bad, *(name for name, _ in members)]))
        first = members[0][1]
        instances = "\n".join(sorted(member.sop_instance_uid for _, member in members))
        yield _Part(
            Found(
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


def _joined(parts: list[_Part]) -> list[Found]:
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


def _join(founds: list[Found]) -> Found:
    folder = os.path.commonpath([found.folder for found in founds])
    if "://" in founds[0].folder:
        folder = folder.replace(":/", "://", 1)
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


def _names(found: Found) -> tuple[str, ...]:
    if found.files is not None:
        return found.files
    return tuple(name for _, names, _ in storage.folders(found.folder) for name in names)
