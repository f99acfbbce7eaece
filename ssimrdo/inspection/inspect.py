"""One slice as it would be encoded, with its maps, its tissues, and what an encode makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo import objective
from ssimrdo.codecs.x264.choices import STRENGTH
from ssimrdo.dicom import Series, Volume, Window, open_series
from ssimrdo.encoding.options import BIT_DEPTH, RDO
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.source import OpenedSource, SeriesLike, open_source
from ssimrdo.errors import InputError
from ssimrdo.extras import require
from ssimrdo.frames import FrameFormat
from ssimrdo.inspection.encoded import grey_used, shown_slice
from ssimrdo.inspection.maps import SliceMaps, slice_maps
from ssimrdo.metrics import FramePair
from ssimrdo.metrics.tissue import SSIM_AREAS, GreyScale, TissueMap, tissue_errors, tissue_map
from ssimrdo.record.tissue import TissueSummary, grey_scale
from ssimrdo.video.macroblocks import Macroblocks, macroblocks
from ssimrdo.volumes import is_volume_file


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
    tissue : TissueMap, optional
        What its samples belong to.
    scale : GreyScale, optional
        What luma means in HU, where it is linear in HU.
    shown : ndarray of the same shape, optional
        The slice as an encode shows it.
    errors : TissueSummary, optional
        Errors of that by tissue.
    window_source : str, optional
        Where the window comes from: as in results, or ``encode``.
    header_windows : mapping of Window to int
        How many slices of the series come with each window.
    stream : Macroblocks, optional
        What the encode tells of the macroblocks of the slice.
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
    tissue: TissueMap | None = None
    scale: GreyScale | None = None
    shown: NDArray[Any] | None = None
    errors: TissueSummary | None = None
    window_source: str | None = None
    header_windows: Mapping[Window, int] = field(default_factory=dict)
    stream: Macroblocks | None = None

    def _repr_png_(self) -> bytes:
        from ssimrdo.inspection.figure import figure_png

        require("matplotlib", what="the figure")
        return figure_png(self)


def inspect_slice(
    series: SeriesLike,
    *,
    number: int | None = None,
    window: Window | str | None = None,
    bit_depth: int | None = None,
    rdo: str = RDO,
    rdo_strength: float = STRENGTH,
    series_uid: str | None = None,
    skip_bad: bool = False,
    encode: Path | str | None = None,
) -> Inspection:
    """Load one slice as it would be encoded, and compute its maps.

    Parameters
    ----------
    series : Path, str, Series or Volume
        Folder that is searched recursively, a single DICOM file, a DICOMDIR, an archive, a file of
        NIfTI or NumPy, a series that was found, or slices in HU.
    number : int, optional
        Which slice, from 1; the middle one by default.
    window : Window or str, optional
        That of the encode, or else the header's own, when None.
    bit_depth : int, optional
        8 or 10; that of the encode, or else 8, when None.
    rdo : str
        Name of an objective.
    rdo_strength : float
        Share s of the theoretical QP offset.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files whose header cannot be used instead of refusing the series.
    encode : Path or str, optional
        A video file of the series whose errors are wanted. What it was made with stands in the
        sidecar beside it, if there is one.

    Raises
    ------
    InputError
        If the series, the encode or an option cannot be used.
    """
    video = None if encode is None else Path(encode)
    used = None if video is None else grey_used(video)
    if bit_depth is None:
        bit_depth = BIT_DEPTH if used is None else used.bit_depth
    # Checked where encodes have them checked.
    settings = EncodeSettings.of(
        window=window, bit_depth=bit_depth, rdo=rdo, rdo_strength=rdo_strength
    )
    is_told = settings.window is None and used is not None
    if used is not None and is_told:
        settings = replace(settings, window=used.window)
    elif used is not None and (settings.window, bit_depth) != (used.window, used.bit_depth):
        raise InputError(
            f"the encode was made with {used.window} at {used.bit_depth} bit",
            field="window",
            remedy="leave out {window} and {bit_depth}",
        )
    if used is not None:
        settings = replace(settings, padding=used.padding)
    if settings.objective is None:
        raise InputError(
            "there is nothing to show of no objective",
            field="rdo",
            remedy=f"use one of {', '.join(objective.names())}",
        )
    if isinstance(series, Path | str):
        series = _found(series, series_uid, skip_bad)
    # Of a series it has been chosen by now.
    uid = None if isinstance(series, Series | Volume) else series_uid
    opened = _opened(series, settings.window, settings, uid)
    chosen = _chosen(number, opened.frames.count)
    luma, padding = _luma(series, opened, chosen, settings)
    assert opened.window is not None, "series and volumes have one"
    form = opened.frames.format
    maps = slice_maps(luma, form, settings.objective, strength=rdo_strength)
    scale = grey_scale(opened.window, form.peak, inverted=opened.inverted)
    found = Inspection(
        chosen,
        opened.frames.count,
        luma,
        form,
        opened.window,
        settings.objective.name,
        rdo_strength,
        maps,
        opened.paths if video is None else (*opened.paths, video),
        tissue_map(luma, data_range=form.peak, scale=scale, padding=padding),
        scale,
        window_source="encode" if is_told else opened.window_source,
        header_windows=opened.header_windows,
    )
    return found if video is None else _with_errors(found, video)


def _with_errors(inspection: Inspection, video: Path) -> Inspection:
    """Return an inspection with the errors of an encode."""
    form, tissue = inspection.format, inspection.tissue
    assert tissue is not None, "there is one"
    shown = shown_slice(video, inspection.number, inspection.slices, form)
    errors = tissue_errors(FramePair(inspection.luma, shown, form), tissue)
    others = [None] * (inspection.number - 1)
    ssim = {area: [*others, errors.ssim(area)] for area in SSIM_AREAS}
    index = inspection.number - 1
    return replace(
        inspection,
        shown=shown,
        errors=TissueSummary.of(errors, ssim, inspection.scale),
        stream=macroblocks(video, [index]).get(index),
    )


def _opened(
    series: SeriesLike, window: Window | None, settings: EncodeSettings, uid: str | None = None
) -> OpenedSource:
    return open_source(
        series,
        series_uid=uid,
        window=window,
        bit_depth=settings.bit_depth,
        fps=settings.fps,
        padding=settings.padding,
    )


def _found(path: Path | str, series_uid: str | None, skip_bad: bool) -> Series | Path:
    """Return the series at a path, or the path if it is that of a file with a volume."""
    if is_volume_file(path):
        return Path(path)
    series, _ = open_series(path, series_uid=series_uid, skip_bad=skip_bad)
    return series


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
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return a slice as luma, and what is padding in it; of a series no other is read."""
    place = number - 1
    if isinstance(series, Series):
        alone = Series(series.uid, series.slices[place:number])
        opened, place = _opened(alone, opened.window, settings), 0
    luma = next(islice(opened.frames.frames(), place, None), None)
    if luma is None:
        raise _out_of_range(number, len(opened.notes.used))
    return luma, opened.frames.padding(place)
