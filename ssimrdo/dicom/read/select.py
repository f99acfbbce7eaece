"""Choice of the one series to encode, and the checks it has to pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssimrdo.dicom.read.find import find_series
from ssimrdo.dicom.read.geometry import check_consistent
from ssimrdo.dicom.read.header import NOT_DICOM, SkippedFile
from ssimrdo.dicom.read.load import decoding_problem
from ssimrdo.errors import BadSliceError, InputError, SeveralSeriesError, UidsToldError
from ssimrdo.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ssimrdo.dicom.read.find import SearchResult, Series

_MAX_LISTED: Final = 5


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
        Series Instance UID to choose, needed if there are several CT series.
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
    uid = series.uid if series else series_uid
    bad = [file for file in result.bad if uid is None or file.series_uid in (None, uid)]
    if series is None and not bad:
        bad = list(result.bad)
    if bad and not skip_bad:
        path = root if root.is_file() else root / bad[0].path
        more = f" and {len(bad) - 1} more damaged" if len(bad) > 1 else ""
        raise BadSliceError(
            printable(path), f"{bad[0].reason}{more}", remedy="{skip_bad} leaves such files out"
        )
    if series is None:
        raise InputError(
            f"{shown}: no usable CT slice, all {len(bad)} are damaged ({bad[0].reason}); "
            "copy the files again"
        )
    check_consistent(series.slices, shown)
    for transfer_syntax in sorted({header.transfer_syntax_uid for header in series.slices}):
        problem = decoding_problem(transfer_syntax)
        if problem is not None:
            raise InputError(f"{shown}: {problem}")
    left_out = (*result.skipped, *(SkippedFile(file.path, file.reason) for file in result.bad))
    return series, tuple(sorted(left_out, key=lambda file: file.path))


def _choose(result: SearchResult, shown: str, series_uid: str | None) -> Series | None:
    """Choose a series; None if all files it may have are damaged."""
    chosen = [s for s in result.series if series_uid in (None, s.uid)]
    if len(chosen) == 1:
        return chosen[0]
    if len(chosen) > 1:
        raise SeveralSeriesError(
            f"{shown}: holds {len(chosen)} CT series: {_list(chosen)}",
            remedy="choose one with {series_uid}",
            brief=f"{shown}: holds {len(chosen)} CT series",
        )
    is_damaged = any(file.series_uid == series_uid for file in result.bad)
    if series_uid is not None and result.series and not is_damaged:
        missing = f"no CT series has the UID {printable(series_uid)[:64]}"
        raise UidsToldError(
            f"{shown}: {missing}; there is {_list(result.series)}",
            brief=f"{shown}: no CT series has the UID that was given",
        )
    if result.bad:
        return None
    raise InputError(f"{shown}: {_nothing(result)}; give the folder of a CT series")


def _list(series: Sequence[Series]) -> str:
    """Return UID, slice count and matrix of the series, shortened; no text of the headers."""
    shown = [
        f"{s.uid} ({len(s.slices)} slice{'s' * (len(s.slices) > 1)}, {s.columns}x{s.rows})"
        for s in series[:_MAX_LISTED]
    ]
    more = len(series) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


def _nothing(result: SearchResult) -> str:
    """Say what was found where there is no CT slice."""
    others = Counter(file.reason for file in result.skipped)
    if not others:
        return "no files here"
    if set(others) == {NOT_DICOM}:
        return f"no DICOM files here, only {others[NOT_DICOM]} other"
    listed = [f"{count} x {reason}" for reason, count in others.most_common(_MAX_LISTED)]
    return f"no CT slices here, only {', '.join(listed)}"
