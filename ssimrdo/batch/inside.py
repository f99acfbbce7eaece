"""What a series turns out to be inside: phases, series of an archive, volumes of a file.

The search tells series by a few elements of each file. Where these cannot tell all, as of archives,
enhanced images and series with slices in one place, whole headers are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssimrdo.batch.store import Files, store_of
from ssimrdo.dicom.read.dicomdir import is_dicomdir
from ssimrdo.dicom.read.find import find_series
from ssimrdo.dicom.read.header import Membership, read_membership
from ssimrdo.dicom.read.phases import phases_of, rows_of
from ssimrdo.errors import SsimrdoError
from ssimrdo.volumes import count_volumes, has_volume_name

if TYPE_CHECKING:
    from ssimrdo.dicom import Series

ARCHIVE_SUFFIXES: Final = (
    *(".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
)

_NOT_IN_NAMES: Final = re.compile("[^a-z0-9.]+")


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series below the folder searched, or files of no known series that may be damaged slices.

    Parameters
    ----------
    folder : str
        Path or URL of the folder that has its files, or of the archive or volume that it is in.
    uid, study_uid : str or None
        Series and Study Instance UID; None for volumes, and for damaged files of a folder without
        a series.
    number : int or None
        Series Number.
    files : tuple of str or None
        Its files, relative to `folder`; None if these are all below it.
    slices : int
        Number of its files, or of its slices where that is known.
    alone : bool
        Whether the folder, or archive, has no other series.
    phase : str
        Which of several phases, or volumes, it is; empty for a whole series.
    choice : str or None
        By which an encode chooses it: its UID, or its number among what is there.
    share : float
        Of the files, how much is its own.
    unclear : bool
        Whether there may be several in it.
    """

    folder: str
    uid: str | None
    study_uid: str | None
    number: int | None
    files: Files
    slices: int
    alone: bool
    phase: str = ""
    choice: str | None = None
    share: float = 1.0
    unclear: bool = False

    @property
    def chosen_by(self) -> str | None:
        """What an encode is given to choose the series."""
        return self.choice or self.uid

    @property
    def phase_name(self) -> str:
        """The phase as a part of a name."""
        return _NOT_IN_NAMES.sub("-", self.phase.lower()).strip("-")


def is_archive_name(name: str) -> bool:
    """Tell whether a file is called like an archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def look_inside(found: FoundSeries) -> list[FoundSeries]:
    """Return what there is in a series, archive or volume; itself where that cannot be told.

    Fit for any executor. Nothing is returned for an archive without CT slices.
    """
    try:
        with store_of(found.folder).series(found.files) as (path, files):
            if has_volume_name(path.name) and path.is_file():
                return list(_volumes(found, count_volumes(path)))
            if is_dicomdir(path):
                return list(_of_dicomdir(found, path))
            return list(_series(found, path, files))
    except (SsimrdoError, OSError):
        # An encode will say more.
        return [replace(found, unclear=False)]


def _volumes(found: FoundSeries, count: int) -> Iterator[FoundSeries]:
    if count == 1:
        yield replace(found, unclear=False)
        return
    for number in range(1, count + 1):
        yield replace(
            found,
            phase=f"volume {number}",
            choice=str(number),
            share=1 / count,
            unclear=False,
        )


def _series(found: FoundSeries, path: Path, files: Files) -> Iterator[FoundSeries]:
    result = find_series(path, files)
    rows = rows_of(result.series)
    if not rows and (result.bad or found.uid is not None):
        yield replace(found, unclear=False)
    total = sum(map(len, rows)) or 1
    for number, row in enumerate(rows, start=1):
        if found.uid is not None and row.uid != found.uid:
            # Of other series of the folder others were found.
            continue
        membership = None if found.uid is not None else _membership(row)
        yield replace(
            found,
            uid=row.uid,
            study_uid=found.study_uid if membership is None else membership.study_uid,
            number=found.number if membership is None else membership.series_number,
            slices=len(row),
            alone=found.alone and len({one.uid for one in rows}) == 1,
            phase=row.phase,
            choice=str(number) if row.phase else row.uid,
            share=len(row) / total,
            unclear=False,
        )


def _of_dicomdir(found: FoundSeries, path: Path) -> Iterator[FoundSeries]:
    result = find_series(path)
    for series in result.series:
        names = {str(header.path.relative_to(path.parent)) for header in series.slices}
        membership = _membership(series)
        phases = phases_of(series)
        for number, phase in enumerate(phases, start=1):
            yield replace(
                found,
                folder=str(path.parent),
                uid=series.uid,
                study_uid=None if membership is None else membership.study_uid,
                number=None if membership is None else membership.series_number,
                files=tuple(sorted(names)),
                slices=len(phase),
                alone=len(result.series) == 1,
                phase=phase.phase,
                choice=str(number) if phase.phase else series.uid,
                share=len(phase) / len(series),
                unclear=False,
            )
    if not result.series and result.bad:
        yield replace(found, unclear=False)


def _membership(series: Series) -> Membership | None:
    """Return study and number of a series, by its first slice."""
    header = series.slices[0]
    with header.path.open("rb", buffering=0) as stream:
        found = read_membership(stream, header.name)
    return found if isinstance(found, Membership) else None
