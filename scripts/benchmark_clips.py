"""Which series are compared in which windows, and comparisons of all of them as one report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from scipy import ndimage

from ssimrdo.comparison import CompareSettings
from ssimrdo.comparison.results import ComparisonReport, EncodeCounts, SeriesResult, Timing
from ssimrdo.dicom import NAMED_WINDOWS, Series, Window, open_series
from ssimrdo.dicom.luma import choose_window
from ssimrdo.dicom.read.load import load_hu
from ssimrdo.errors import InputError
from ssimrdo.metrics.tissue import BODY_HU, LUNG_HU

ROOT: Final = Path(__file__).resolve().parents[1]
PHANTOM: Final = ROOT / "data" / "phantom"
VARIABLE: Final = "SSIMRDO_CT_DATA"

WIDE_HU: Final = 1000.0
"""Width of a window from which on it shows more than soft tissue."""

LEAST_LUNG: Final = 0.15
"""Share of the body that is lung, from which on a series is looked at in a lung window; measured
are 0.01 and 0.03 in heads, 0.29 and 0.30 in chests."""

LOOKED_AT: Final = 5
"""Slices of a series that its share of lung is taken from."""

_TIMINGS: Final[Sequence[Timing]] = ("alone", "mixed", "loaded")


@dataclass(frozen=True)
class WindowedSeries:
    """A series in one window.

    Parameters
    ----------
    folder : Path
        Of the series.
    window : Window, optional
        The header's own when None.
    """

    folder: Path
    window: Window | None


def real_series() -> list[Path]:
    """Return the folders of $SSIMRDO_CT_DATA, none if it is not set."""
    data = os.environ.get(VARIABLE)
    if not data:
        return []
    try:
        folders = sorted(path for path in Path(data).iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"{VARIABLE}={data}: cannot be read: {error.strerror}") from error
    if not folders:
        raise InputError(f"{VARIABLE}={data}: holds no folder with a CT series")
    return folders


def chosen_series(names: Sequence[str], *, phantom: bool = False) -> list[Path]:
    """Return the series of these names; for none, all real ones, and the phantom if asked for.

    Raises
    ------
    InputError
        If there is no real series or a name is unknown.
    """
    real = real_series()
    if not names and not real:
        raise InputError(f"{VARIABLE} is not set: let it name a folder with CT series in folders")
    known = {path.name: path for path in (*real, PHANTOM)}
    for name in names:
        if name not in known:
            raise InputError(f"--series {name!r} is unknown: use one of {', '.join(known)}")
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    return [*real, *([PHANTOM] if phantom else [])]


def windowed_series(
    folders: Sequence[Path], windows: Sequence[Window | None] = ()
) -> list[WindowedSeries]:
    """Return series in the windows given, by default each in its own and in a second one.

    Parameters
    ----------
    folders : sequence of Path
        One series each.
    windows : sequence of Window or None
        None is the header's own.

    Raises
    ------
    InputError
        If a series cannot be read.
    """
    return [
        WindowedSeries(folder, window)
        for folder in folders
        for window in windows or (None, _second_window(folder))
    ]


def second_window(own: Window, lung_share: float) -> Window:
    """Return the window that a series is looked at in besides its own.

    Soft tissue where its own shows more than that, else lung where there is enough, else bone.

    Parameters
    ----------
    own : Window
        The header's.
    lung_share : float
        Share of the body that is lung.
    """
    if own.width >= WIDE_HU:
        return NAMED_WINDOWS["soft-tissue"]
    return NAMED_WINDOWS["lung" if lung_share >= LEAST_LUNG else "bone"]


def compare_windowed(
    clips: Sequence[WindowedSeries],
    settings: CompareSettings,
    run: Callable[[list[Path], CompareSettings], ComparisonReport],
) -> ComparisonReport:
    """Compare series in several windows and return one report, in which names tell the window.

    Of a merged report only the series are right: summaries over them are left out.

    Parameters
    ----------
    clips : sequence of WindowedSeries
        What is compared.
    settings : CompareSettings
        How, with any window.
    run : callable
        Compares folders with settings and returns the report.
    """
    windows = dict.fromkeys(clip.window for clip in clips)
    reports = [
        run(
            [clip.folder for clip in clips if clip.window == window],
            replace(settings, window=window),
        )
        for window in windows
    ]
    return merged(reports)


def merged(reports: Sequence[ComparisonReport]) -> ComparisonReport:
    """Return the series of several reports in one, sorted by folder and told apart by window.

    A series that two reports have in one window, its own and one by name, is taken once.
    """
    series = {one.name: one for report in reports for one in map(_named, report.series)}
    return replace(
        reports[0],
        series=tuple(sorted(series.values(), key=lambda one: folder_name(one.name))),
        timing=max((report.timing for report in reports), key=_TIMINGS.index),
        encodes=EncodeCounts(
            sum(report.encodes.made for report in reports),
            sum(report.encodes.cached for report in reports),
        ),
        summary={},
        classes={},
        warnings=(),
    )


def folder_name(clip: str) -> str:
    """Return the name of the series that a clip of a merged report is of."""
    return clip.rpartition(" ")[0] or clip


def _named(series: SeriesResult) -> SeriesResult:
    if series.window is None:
        return series
    window = f"{series.window.center:g}/{series.window.width:g}"
    return replace(series, name=f"{series.name} {window}")


def _second_window(folder: Path) -> Window:
    series, _ = open_series(folder)
    own = choose_window(series.header_window, name=folder.name)
    return second_window(own, _lung_share(series))


def _lung_share(series: Series) -> float:
    """Return the share of the body, over a few slices, that is lung by its HU."""
    places = np.linspace(0, len(series) - 1, min(len(series), LOOKED_AT)).round().astype(int)
    body = lung = 0
    low, high = LUNG_HU
    for place in places:
        hu = ndimage.uniform_filter(load_hu(series.slices[place]), 5)
        parts, count = ndimage.label(hu > BODY_HU)
        if not count:
            continue
        largest = np.bincount(parts.ravel())[1:].argmax() + 1
        inside = ndimage.binary_fill_holes(parts == largest)
        body += int(inside.sum())
        lung += int(((hu > low) & (hu < high) & inside).sum())
    return lung / max(body, 1)
