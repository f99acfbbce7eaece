"""Choice of the one series to encode, and the checks it has to pass."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssimrdo.dicom.read.dicomdir import is_dicomdir
from ssimrdo.dicom.read.find import find_series
from ssimrdo.dicom.read.geometry import check_consistent
from ssimrdo.dicom.read.header import NOT_DICOM, SkippedFile
from ssimrdo.dicom.read.load import decoding_problem
from ssimrdo.dicom.read.phases import phases_of, rows_of
from ssimrdo.errors import BadSliceError, InputError, SeveralSeriesError, UidsToldError
from ssimrdo.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ssimrdo.dicom.read.find import SearchResult, Series

logger = logging.getLogger(__name__)

_MAX_LISTED: Final = 5
_MAX_ROWS: Final = 20
_NUMBER: Final = re.compile("[0-9]{1,5}")
"""A row of the list of series; UIDs have dots."""


def open_series(
    folder: Path | str,
    *,
    files: Collection[str] | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
) -> tuple[Series, tuple[SkippedFile, ...]]:
    """Find the CT series of a folder and choose one; `find_series`, then `select_series`.

    Parameters
    ----------
    folder : Path or str
        A folder, searched recursively, or a single DICOM file.
    files : collection of str, optional
        Look at these files only, named relative to `folder`.
    series_uid : str or None
        Series Instance UID to choose, or the number of a series or phase in `ssimrdo list`, such
        as ``"2"``; needed if there are several.
    skip_bad : bool
        Leave out damaged files instead of refusing the series.

    Returns
    -------
    Series, tuple of SkippedFile
        The chosen series, and the files left out, including damaged ones of other series.

    Raises
    ------
    InputError
        If no series can be chosen, its slices differ in size, orientation or pixel spacing, or
        its transfer syntax cannot be decoded.
    BadSliceError
        If a file that may belong to the series is damaged and `skip_bad` is False.
    """
    result = find_series(folder, files)
    return select_series(result, folder, series_uid=series_uid, skip_bad=skip_bad)


def select_series(
    result: SearchResult,
    folder: Path | str,
    *,
    series_uid: str | None = None,
    skip_bad: bool = False,
) -> tuple[Series, tuple[SkippedFile, ...]]:
    """Choose one of the series that `find_series` found in `folder`; see `open_series`."""
    root = Path(folder)
    shown = printable(root)
    series = _choose(result, shown, series_uid)
    is_numbered = series_uid is not None and _NUMBER.fullmatch(series_uid)
    uid = series.uid if series else None if is_numbered else series_uid
    bad = [file for file in result.bad if uid is None or file.series_uid in (None, uid)]
    if series is None and not bad:
        bad = list(result.bad)
    if bad and not skip_bad:
        is_root = root.is_file() and bad[0].path == printable(root.name)
        place = root.parent if is_dicomdir(root) else root
        path = root if is_root else place / bad[0].path
        more = f" and {len(bad) - 1} more damaged" if len(bad) > 1 else ""
        raise BadSliceError(
            printable(path), f"{bad[0].reason}{more}", remedy="{skip_bad} leaves such files out"
        )
    if series is None:
        raise InputError(
            f"{shown}: no usable CT slice, all {len(bad)} are damaged ({bad[0].reason})",
            remedy="copy the files again",
        )
    check_consistent(series.slices, shown)
    for transfer_syntax in sorted({header.transfer_syntax_uid for header in series.slices}):
        problem = decoding_problem(transfer_syntax)
        if problem is not None:
            raise InputError(f"{shown}: {problem}")
    left_out = (*result.skipped, *(SkippedFile(file.path, file.reason) for file in result.bad))
    return series, tuple(sorted(left_out, key=lambda file: file.path))


def _choose(result: SearchResult, shown: str, series_uid: str | None) -> Series | None:
    """Choose a series or a phase; None if all files it may have are damaged."""
    if series_uid is not None and _NUMBER.fullmatch(series_uid):
        return _numbered(result, shown, int(series_uid))
    chosen = [s for s in result.series if series_uid in (None, s.uid)]
    if len(chosen) == 1:
        return _whole(chosen[0], shown, is_named=series_uid is not None)
    if len(chosen) > 1:
        raise SeveralSeriesError(
            f"{shown}: holds {len(chosen)} CT series: {_list(chosen)}",
            remedy="choose one by its number with {series_uid}",
            brief=f"{shown}: holds {len(chosen)} CT series",
            choices=_choices(result.series),
        )
    is_damaged = any(file.series_uid == series_uid for file in result.bad)
    if series_uid is not None and result.series and not is_damaged:
        missing = f"no CT series has the UID {printable(series_uid)[:64]}"
        raise UidsToldError(
            f"{shown}: {missing}; there is {_list(result.series)}",
            remedy="choose one by its number with {series_uid}",
            brief=f"{shown}: no CT series has the UID that was given",
            choices=_choices(result.series),
        )
    if result.bad:
        return None
    raise _no_series(result, shown)


def _numbered(result: SearchResult, shown: str, number: int) -> Series | None:
    """Return a row of the list of series, None if all files are damaged."""
    rows = rows_of(result.series)
    if 1 <= number <= len(rows):
        return rows[number - 1]
    if not rows and result.bad:
        return None
    if not rows:
        raise _no_series(result, shown)
    raise InputError(
        f"{shown}: there is no series {number}, only {f'1 to {len(rows)}' if rows[1:] else 1}",
        field="series_uid",
    )


def _whole(series: Series, shown: str, *, is_named: bool) -> Series:
    """Return a series with all its phases, if it has none or is asked for by its UID."""
    phases = phases_of(series)
    if len(phases) == 1:
        return series
    shown_phases = enumerate(phases[:_MAX_LISTED], start=1)
    names = [
        f"{number}: {phase.phase} ({counted(len(phase), 'slice')})"
        for number, phase in shown_phases
    ]
    more = len(phases) - len(names)
    listed = ", ".join(names) + (f" and {more} more" if more else "")
    if not is_named:
        raise SeveralSeriesError(
            f"{shown}: holds a series of {len(phases)} phases: {listed}",
            remedy="choose one with {series_uid} by its number, or all with the UID of the series",
            brief=f"{shown}: holds a series of {len(phases)} phases",
            choices=_choices((series,)),
        )
    logger.warning("%s: %d phases one behind another: %s", shown, len(phases), listed)
    return series


def _list(series: Sequence[Series]) -> str:
    """Return UID, slice count and matrix of the series, shortened; no text of the headers."""
    shown = [
        f"{s.uid} ({counted(len(s.slices), 'slice')}, {s.columns}x{s.rows})"
        for s in series[:_MAX_LISTED]
    ]
    more = len(series) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


def _choices(series: Sequence[Series]) -> tuple[tuple[str, ...], ...]:
    """Return a table of what can be chosen by its number, as an error holds it."""
    rows = rows_of(series)
    table = [("no", "slices", "size", "window", "phase")]
    for number, row in enumerate(rows[:_MAX_ROWS], start=1):
        window = "none" if row.header_window is None else str(row.header_window)
        size = f"{row.columns} x {row.rows}"
        table.append((str(number), str(len(row)), size, window, row.phase))
    if len(rows) > _MAX_ROWS:
        table.append(("…", f"and {len(rows) - _MAX_ROWS} more", "", "", ""))
    return tuple(table)


def _no_series(result: SearchResult, shown: str) -> InputError:
    return InputError(f"{shown}: {_nothing(result)}", remedy="give the folder of a CT series")


def _nothing(result: SearchResult) -> str:
    """Say what was found where there is no CT slice."""
    others = Counter(file.reason for file in result.skipped)
    if not others:
        return "no files here"
    if set(others) == {NOT_DICOM}:
        return f"no DICOM files here, only {others[NOT_DICOM]} other"
    listed = [f"{count} x {reason}" for reason, count in others.most_common(_MAX_LISTED)]
    return f"no CT slices here, only {', '.join(listed)}"
