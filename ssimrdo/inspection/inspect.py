"""One slice as it would be encoded, with its maps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ssimrdo import objective
from ssimrdo.codecs.x264.choices import STRENGTH
from ssimrdo.dicom import Series, Window, open_series
from ssimrdo.encoding.options import BIT_DEPTH
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.source import OpenedSource, SeriesLike, open_source
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.inspection.maps import SliceMaps, slice_maps


@dataclass(frozen=True)
class Inspection:
    """One slice and its maps.

    Parameters
    ----------
    number : int
        Which slice of the series, from 1.
    slices : int
        How many the series has; 0 for an iterator of unknown length.
    luma : ndarray of the format's shape and dtype
        The slice as it would be encoded.
    format : FrameFormat
        Of the luma.
    window : Window
        The window it was made with.
    objective : str
        Name of the objective.
    strength : float
        Share s of the theoretical QP offset.
    maps : SliceMaps
        The objective's quantities.
    inputs : tuple of Path
        Files of the series, which no output may replace.
    """

    number: int
    slices: int
    luma: NDArray[Any]
    format: FrameFormat
    window: Window
    objective: str
    strength: float
    maps: SliceMaps
    inputs: tuple[Path, ...] = ()


def inspect_slice(
    series: SeriesLike,
    *,
    number: int | None = None,
    window: Window | str | None = None,
    bit_depth: int = BIT_DEPTH,
    rdo: str = objective.SSIM.name,
    rdo_strength: float = STRENGTH,
    series_uid: str | None = None,
    skip_bad: bool = False,
) -> Inspection:
    """Load one slice as it would be encoded, and compute its maps.

    Parameters
    ----------
    series : Path, str, Series or Volume
        Folder that is searched recursively, a single DICOM file, a series that was found, or
        slices in HU.
    number : int, optional
        Which slice, from 1; the middle one by default.
    window : Window or str, optional
        The header's own when None.
    bit_depth : int
        8 or 10.
    rdo : str
        Name of an objective.
    rdo_strength : float
        Share s of the theoretical QP offset.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files whose header cannot be used instead of refusing the series.

    Raises
    ------
    InputError
        If the series or an option cannot be used.
    """
    # Checked where encodes have them checked.
    settings = EncodeSettings.of(
        window=window, bit_depth=bit_depth, rdo=rdo, rdo_strength=rdo_strength
    )
    if settings.objective is None:
        raise InputError(
            "there is nothing to show of no objective",
            field="rdo",
            remedy=f"use one of {', '.join(objective.names())}",
        )
    if isinstance(series, Path | str):
        series, _ = open_series(series, series_uid=series_uid, skip_bad=skip_bad)
    opened = _opened(series, settings.window, settings)
    chosen = _chosen(number, opened.frames.count)
    luma = _luma(series, opened, chosen, settings)
    assert opened.window is not None, "series and volumes have one"
    maps = slice_maps(luma, opened.frames.format, settings.objective, strength=rdo_strength)
    return Inspection(
        chosen,
        opened.frames.count,
        luma,
        opened.frames.format,
        opened.window,
        settings.objective.name,
        rdo_strength,
        maps,
        opened.paths,
    )


def _opened(series: SeriesLike, window: Window | None, settings: EncodeSettings) -> OpenedSource:
    return open_source(series, window=window, bit_depth=settings.bit_depth, fps=settings.fps)


def _chosen(number: int | None, count: int) -> int:
    if number is None and count:
        return (count + 1) // 2
    if number is None:
        raise InputError("is needed where the number of slices is not known", field="slice")
    if number < 1 or 0 < count < number:
        raise _out_of_range(number, count)
    return number


def _out_of_range(number: int, count: int) -> InputError:
    return InputError(
        f"{number} is out of range: the series has slices 1 to {count}", field="slice"
    )


def _luma(
    series: SeriesLike, opened: OpenedSource, number: int, settings: EncodeSettings
) -> NDArray[Any]:
    """Return a slice as luma; of a series no other is read."""
    if isinstance(series, Series):
        alone = Series(series.uid, series.slices[number - 1 : number])
        frames = iter(_opened(alone, opened.window, settings).frames.frames())
    else:
        frames = islice(opened.frames.frames(), number - 1, None)
    luma = next(frames, None)
    if luma is None:
        raise _out_of_range(number, len(opened.notes.used))
    return luma
