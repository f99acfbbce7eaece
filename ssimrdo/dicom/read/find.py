"""Search for CT series in a folder, reading headers only."""

from __future__ import annotations

import filecmp
import os
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from ssimrdo.dicom.grey import common_window
from ssimrdo.dicom.read.dicomdir import is_dicomdir, named_files
from ssimrdo.dicom.read.enhanced import read_slices
from ssimrdo.dicom.read.geometry import sort_slices
from ssimrdo.dicom.read.header import (
    NOT_DICOM,
    BadFile,
    SkippedFile,
    SliceHeader,
)
from ssimrdo.dicom.read.load import load_hu
from ssimrdo.errors import BadSliceError, InputError, cause_of
from ssimrdo.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from ssimrdo.dicom.grey import Window
    from ssimrdo.dicom.read.archive import Unpacked

T = TypeVar("T")

DUPLICATE: Final = "duplicate of another file"
CLASH: Final = "has the SOP Instance UID of another file, but another slice"

# What pixels are shown with; how they are stored may differ.
_OF_THE_SLICE: Final = (
    *("rows", "columns", "orientation", "position", "pixel_spacing_mm"),
    *("windows", "photometric_interpretation"),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One CT series: its Series Instance UID, and at least one slice, sorted by `sort_slices`.

    `phase` names which of several phases it is; it is empty for a whole series.
    """

    uid: str
    slices: tuple[SliceHeader, ...]
    phase: str = ""

    def __len__(self) -> int:
        return len(self.slices)

    def __repr__(self) -> str:
        # Neither paths nor UIDs, which may tell whose series it is.
        return f"Series({counted(len(self), 'slice')} of {self.columns}x{self.rows})"

    @property
    def rows(self) -> int:
        """Rows of a slice in pixels."""
        return self.slices[0].rows

    @property
    def columns(self) -> int:
        """Columns of a slice in pixels."""
        return self.slices[0].columns

    @property
    def pixel_spacing_mm(self) -> tuple[float, float] | None:
        """Row spacing and column spacing in mm, None if the header has none."""
        return self.slices[0].pixel_spacing_mm

    @property
    def header_window(self) -> Window | None:
        """The most common first window of the slices, None if no header has a valid one.

        See :func:`ssimrdo.dicom.grey.common_window`.
        """
        return common_window(self.header_windows)

    @property
    def header_windows(self) -> Mapping[Window, int]:
        """How many slices have each first window."""
        return Counter(header.windows[0] for header in self.slices if header.windows)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """CT series by their UID, files that are no CT slices, and files that may be damaged ones."""

    series: tuple[Series, ...]
    skipped: tuple[SkippedFile, ...]
    bad: tuple[BadFile, ...]


def find_series(folder: Path | str, files: Collection[str] | None = None) -> SearchResult:
    """Find the CT series below a folder.

    Hidden files and folders are ignored; symbolic links to files are followed, those to folders
    are not, so that no loop can arise.

    Parameters
    ----------
    folder : Path or str
        A folder, searched recursively, a single DICOM file, a DICOMDIR, or a zip or tar archive.
    files : collection of str, optional
        Look at these files only, named relative to `folder`.

    Returns
    -------
    SearchResult
        The same for the same files, whatever order the file system lists them in.

    Raises
    ------
    InputError
        If the path does not exist or cannot be read.
    """
    unique: dict[str, tuple[SliceHeader, ...]] = {}
    by_series: dict[str, list[SliceHeader]] = {}
    skipped: list[SkippedFile] = []
    bad: list[BadFile] = []
    names: dict[int, str] = {}
    root = Path(folder)
    named: Iterable[tuple[Path, str]]
    unpacked = None
    if files is not None:
        named = _named(root, files)
    elif is_dicomdir(root):
        named, missing = named_files(root)
        bad += missing
    elif (unpacked := _unpacked(root)) is not None:
        named = unpacked.members
        for file in unpacked.left_out:
            bad.append(file) if isinstance(file, BadFile) else skipped.append(file)
    else:
        named = list_files(root)
    for path, name in named:
        found = read_file(path, name, read_slices)
        if isinstance(found, BadFile):
            bad.append(found)
        elif isinstance(found, SkippedFile):
            skipped.append(found)
        elif (first := unique.setdefault(found[0].sop_instance_uid, found)) is not found:
            clash = _clash(first, found)
            if clash is None:
                skipped.append(SkippedFile(name, DUPLICATE, duplicate_of=names[id(first)]))
            else:
                bad.append(BadFile(name, clash, series_uid=found[0].series_uid))
        else:
            if unpacked is not None:
                found = tuple(replace(header, unpacked=unpacked) for header in found)
                unique[found[0].sop_instance_uid] = found
            names[id(found)] = name
            by_series.setdefault(found[0].series_uid, []).extend(found)
    series = tuple(Series(uid, sort_slices(by_series[uid])) for uid in sorted(by_series))
    return SearchResult(series, tuple(skipped), tuple(bad))


def _unpacked(root: Path) -> Unpacked | None:
    """Extract what may be DICOM from an archive; None if the path is no archive."""
    with suppress(OSError):
        if root.is_dir():
            return None

    # With all that reads archives it takes as long to import as the headers of a series to read.
    from ssimrdo.dicom.read.archive import is_archive, unpack

    return unpack(root) if is_archive(root) else None


def _clash(first: tuple[SliceHeader, ...], other: tuple[SliceHeader, ...]) -> str | None:
    """Say why a file with the SOP Instance UID of another is no duplicate of it, None if it is."""
    try:
        if filecmp.cmp(first[0].path, other[0].path, shallow=False):
            return None
    except OSError as error:
        return f"cannot be read ({cause_of(error)})"
    if len(first) != len(other):
        return CLASH
    return next(filter(None, map(_slice_clash, first, other)), None)


def _slice_clash(first: SliceHeader, other: SliceHeader) -> str | None:
    if any(getattr(first, name) != getattr(other, name) for name in _OF_THE_SLICE):
        return CLASH
    try:
        hu = load_hu(other)
    except BadSliceError as error:
        return error.cause
    try:
        return None if np.array_equal(load_hu(first), hu) else CLASH
    except BadSliceError:
        return CLASH


def _named(root: Path, files: Collection[str]) -> Iterator[tuple[Path, str]]:
    for path in sorted(Path(file) for file in files):
        yield root / path, printable(path.as_posix())


def list_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files below `root`, and folders that cannot be listed, with their printed names.

    Raises
    ------
    InputError
        If the path does not exist or cannot be read.
    """
    listed = (Path(folder, name) for folder, names, _ in walk(root) for name in names)
    for path in sorted(listed, key=lambda path: path.relative_to(root).parts):
        yield path, printable(path.relative_to(root).as_posix() if path != root else path.name)


def walk(root: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each folder with the names of its files and whether that is all it holds.

    Subfolders that cannot be listed count as files, of one more entry for their parent.

    Raises
    ------
    InputError
        If the path does not exist or cannot be read.
    """
    try:
        if root.is_file():
            yield str(root.parent), [root.name], False
            return
        os.scandir(root).close()
    except FileNotFoundError:
        raise InputError(
            f"{printable(root)}: no such file or folder", remedy="check the path"
        ) from None
    except NotADirectoryError:
        raise InputError(
            f"{printable(root)}: neither a file nor a folder", remedy="check it"
        ) from None
    except (OSError, ValueError) as error:
        reason = cause_of(error) if isinstance(error, OSError) else "invalid path"
        raise InputError(
            f"{printable(root)}: cannot be read ({reason})", remedy="check it"
        ) from None
    errors: list[OSError] = []
    for parent, folders, files in os.walk(root, onerror=errors.append):
        # The order of the walk is that of the names, whatever the file system lists.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in files if not name.startswith(".")), not folders
    for unlisted in errors:
        parent, name = os.path.split(unlisted.filename)
        yield parent, [name], False


def read_file(
    path: Path, name: str, read: Callable[[Path, str], T | SkippedFile]
) -> T | SkippedFile:
    """Read one file with `read`, or say why it is left out."""
    claims_dicom = path.suffix.lower() == ".dcm"
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return BadFile(name, "folder cannot be read")
        # Opening a named pipe would wait for a writer.
        if not stat.S_ISREG(mode):
            return SkippedFile(name, "not a regular file")
        found = read(path, name)
    except FileNotFoundError:
        return BadFile(name, "broken link") if claims_dicom else SkippedFile(name, "broken link")
    except OSError as error:
        return BadFile(name, f"cannot be read ({cause_of(error)})")
    if claims_dicom and found == SkippedFile(name, NOT_DICOM):
        empty = path.stat().st_size == 0
        return BadFile(name, "the file is empty" if empty else f"{NOT_DICOM}, despite its name")
    return found
