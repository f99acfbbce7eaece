"""Search for CT series in a folder, reading headers only."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssimrdo.dicom.elements import read_elements
from ssimrdo.dicom.geometry import sort_slices
from ssimrdo.dicom.header import (
    SliceHeader,
    exclusion_reason,
    parse_header,
    printable,
    series_uid_of,
)
from ssimrdo.errors import BadSliceError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ssimrdo.dicom.window import Window

NOT_DICOM = "not a DICOM file"
"""Reason given for skipped files that are not DICOM."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was left out.

    Parameters
    ----------
    path : str
        Path relative to the search root, POSIX style, printable.
    reason : str
        Why, as a noun or a short clause.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class BadFile(SkippedFile):
    """A file that is damaged; `series_uid` is None if it cannot be told which series it is of."""

    series_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The slices of one CT series, sorted by `sort_slices`.

    Parameters
    ----------
    uid : str
        Series Instance UID.
    slices : tuple of SliceHeader
        At least one slice.
    """

    uid: str
    slices: tuple[SliceHeader, ...]

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
    def slice_thickness_mm(self) -> float | None:
        """Slice Thickness in mm, None if the header has none."""
        return self.slices[0].slice_thickness_mm

    @property
    def kernel(self) -> str | None:
        """Convolution Kernel, None if the header has none."""
        return self.slices[0].kernel

    @property
    def header_window(self) -> Window | None:
        """The most common first window of the slices, None if no header has a valid one."""
        windows = Counter(header.windows[0] for header in self.slices if header.windows)
        return windows.most_common(1)[0][0] if windows else None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found in a folder.

    Parameters
    ----------
    series : tuple of Series
        The CT series, by Series Instance UID.
    skipped : tuple of SkippedFile
        Files that are no CT slices.
    bad : tuple of BadFile
        Files that are, or may be, damaged CT slices.
    """

    series: tuple[Series, ...]
    skipped: tuple[SkippedFile, ...]
    bad: tuple[BadFile, ...]


def find_series(folder: Path | str) -> SearchResult:
    """Find the CT series below a folder.

    Hidden files and folders are ignored; symbolic links to files are followed, those to folders
    are not, so that no loop can arise.

    Parameters
    ----------
    folder : Path or str
        A folder, searched recursively, or a single DICOM file.

    Returns
    -------
    SearchResult
        The same for the same files, whatever order the file system lists them in.

    Raises
    ------
    InputError
        If the path does not exist or cannot be read.
    """
    root = Path(folder)
    found = [_read(path, name) for path, name in _files(root)]
    headers, duplicates = _unique(item for item in found if isinstance(item, SliceHeader))
    by_series: dict[str, list[SliceHeader]] = {}
    for header in headers:
        by_series.setdefault(header.series_uid, []).append(header)
    return SearchResult(
        series=tuple(Series(uid, sort_slices(by_series[uid])) for uid in sorted(by_series)),
        skipped=tuple(
            sorted(
                (*duplicates, *(item for item in found if type(item) is SkippedFile)),
                key=lambda file: file.path,
            )
        ),
        bad=tuple(item for item in found if isinstance(item, BadFile)),
    )


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files below `root`, and folders that cannot be listed, with their printed names."""
    try:
        mode = root.stat().st_mode
        if not stat.S_ISDIR(mode):
            if not stat.S_ISREG(mode):
                raise InputError(f"{printable(root)}: neither a file nor a folder; check the path")
            yield root, printable(root.name)
            return
        with os.scandir(root):
            pass
    except FileNotFoundError:
        raise InputError(f"{printable(root)}: no such file or folder; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "invalid path"
        raise InputError(f"{printable(root)}: cannot be read ({reason}); check it") from None
    unlisted: list[Path] = []
    paths: list[Path] = []
    for parent, folders, files in os.walk(
        root, onerror=lambda error: unlisted.append(Path(error.filename))
    ):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += (Path(parent, name) for name in files if not name.startswith("."))
    for path in sorted((*paths, *unlisted), key=lambda path: path.relative_to(root).parts):
        yield path, printable(path.relative_to(root).as_posix())


def _read(path: Path, name: str) -> SliceHeader | SkippedFile:
    """Read one file into a header, or say why it is left out."""
    claims_dicom = path.suffix.lower() == ".dcm"
    try:
        # Opening a named pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            return BadFile(name, "folder cannot be read") if path.is_dir() else _no_file(name)
        elements = read_elements(path)
    except FileNotFoundError:
        return BadFile(name, "broken link") if claims_dicom else SkippedFile(name, "broken link")
    except OSError as error:
        return BadFile(name, f"cannot be read ({error.strerror})")
    if elements is None:
        if not claims_dicom:
            return SkippedFile(name, NOT_DICOM)
        empty = path.stat().st_size == 0
        return BadFile(name, "the file is empty" if empty else f"{NOT_DICOM}, despite its name")
    reason = exclusion_reason(elements)
    if reason is not None:
        return SkippedFile(name, reason)
    try:
        return parse_header(path, name, elements)
    except BadSliceError as error:
        return BadFile(name, error.reason, series_uid_of(elements))


def _no_file(name: str) -> SkippedFile:
    return SkippedFile(name, "not a regular file")


def _unique(headers: Iterable[SliceHeader]) -> tuple[list[SliceHeader], list[SkippedFile]]:
    """Keep the first slice of each SOP Instance UID."""
    kept: dict[str, SliceHeader] = {}
    duplicates: list[SkippedFile] = []
    for header in headers:
        first = kept.setdefault(header.sop_instance_uid, header)
        if first is not header:
            duplicates.append(SkippedFile(header.name, f"duplicate of {first.name}"))
    return list(kept.values()), duplicates
