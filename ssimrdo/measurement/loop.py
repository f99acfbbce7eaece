"""The loop over the slices of two sides: matched, brought to one scale, measured in threads."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.dicom import Window, parse_window
from ssimrdo.dicom.grey import WIDE
from ssimrdo.dicom.padding import padding_of
from ssimrdo.errors import InputError
from ssimrdo.machine import cores
from ssimrdo.measurement.cautions import cautions
from ssimrdo.measurement.matching import Matched, Matching, match, problem, slices
from ssimrdo.measurement.regions import Region, is_pooled, region_of, value_inside
from ssimrdo.measurement.results import (
    Caution,
    FailedSlice,
    Measurement,
    SliceRow,
    in_unit,
    summary_of,
)
from ssimrdo.measurement.scale import CommonScale, as_hu, common_scale
from ssimrdo.measurement.sides import Damaged, Side, SideLike, open_side
from ssimrdo.measurement.trust import trust
from ssimrdo.measurement.videos import RANGES, VideoRange
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.metrics.tissue import (
    SSIM_AREAS,
    Area,
    TissueErrors,
    TissueMap,
    tissue_errors,
    tissue_map,
)
from ssimrdo.observer import Event, Observer
from ssimrdo.record.tissue import GREY_LEVELS, HU, TissueSummary

logger = logging.getLogger(__name__)

PENDING_PER_WORKER: Final = 4

SSIM_WINDOW: Final = 11
"""Side of frames below which neither SSIM nor errors by tissue are known."""

USUAL: Final = ("ssim", "ms_ssim", "psnr", "haarpsi_med", "gmsd")
"""Indices that are measured where none is asked for, as far as they are known."""


@dataclass(frozen=True)
class MeasuredSlice:
    """A slice as it was measured, for whoever draws it.

    Parameters
    ----------
    row : SliceRow
        Its numbers.
    pair : FramePair
        Both frames.
    mask : ndarray of bool, optional
        The region in it.
    maps : mapping of str to ndarray of float32
        Maps of the indices that have one, by name; empty where they were not asked for.
    """

    row: SliceRow
    pair: FramePair
    mask: NDArray[np.bool_] | None
    maps: Mapping[str, NDArray[np.float32]]


def measure(
    reference: SideLike,
    distorted: SideLike,
    indices: Sequence[str] | str | None = None,
    *,
    window: Window | str | None = None,
    data_range: float | None = None,
    roi: str | Path | NDArray[Any] | None = None,
    match: Matching = "auto",
    video_range: VideoRange = "auto",
    series_uid: str | None = None,
    skip_bad: bool = False,
    observer: Observer | None = None,
    workers: int | None = None,
) -> Measurement:
    """Measure how well slices agree with those that they were made from.

    Parameters
    ----------
    reference, distorted : Path, str, Series, Volume, ndarray or iterable of ndarray
        A DICOM series (folder or file), a video, a folder of pictures, a volume in HU, or frames:
        arrays of shape (slices, rows, columns) or (rows, columns). Frames of uint8 or uint16 are
        luma from 0 to 255 or 65535; with a data range any real dtype from 0 to that.
    indices : sequence of str, optional
        Names from :func:`ssimrdo.metrics.names`, or ``"all"``; :data:`USUAL` by default.
    window : Window or str, optional
        How HU are shown, and what luma means in HU; else that of a video's record, else the
        header's. Where both sides have HU, indices are taken of HU inside the window, with its
        width as data range.
    data_range : float, optional
        L: the largest luma of pictures, videos and arrays. For HU, in place of a window, what lies
        between -1024 HU and the HU shown white.
    roi : str, Path or ndarray, optional
        ``"body"``, ``"x,y,w,h"``, a picture that is not black inside, or an array that is not 0
        inside; see :func:`ssimrdo.measurement.regions.value_inside`.
    match : {"auto", "position", "order"}
        What slices are matched by: by default their position, where both sides know it.
    video_range : {"auto", "full", "limited"}
        How the luma of videos is to be read; by default as the stream says.
    series_uid : str, optional
        Series Instance UID, where a folder holds several CT series.
    skip_bad : bool
        Go on without slices that cannot be used; they are in ``failures``.
    observer : Observer, optional
        Watches the work and may end it.
    workers : int, optional
        Threads that measure; one per processor by default.

    Returns
    -------
    Measurement
        A row for each slice, their summary, errors by tissue, and what to be warned of.

    Raises
    ------
    InputError
        If a side or an option cannot be used, sizes or numbers of slices differ, a slice is damaged
        and is not to be skipped, or no slice could be measured.
    CancelledError
        If the observer cancelled.
    """
    return run(
        reference,
        distorted,
        indices,
        window=window,
        data_range=data_range,
        roi=roi,
        match=match,
        video_range=video_range,
        series_uid=series_uid,
        skip_bad=skip_bad,
        observer=observer,
        workers=workers,
    )


def run(
    reference: SideLike,
    distorted: SideLike,
    indices: Sequence[str] | str | None = None,
    *,
    window: Window | str | None = None,
    data_range: float | None = None,
    roi: str | Path | NDArray[Any] | None = None,
    match: Matching = "auto",
    video_range: VideoRange = "auto",
    series_uid: str | None = None,
    skip_bad: bool = False,
    observer: Observer | None = None,
    workers: int | None = None,
    maps: bool = False,
    on_slice: Callable[[MeasuredSlice, CommonScale], None] | None = None,
    on_open: Callable[[Side, Side], None] | None = None,
) -> Measurement:
    """Do what :func:`measure` does, and hand every slice to whoever draws it.

    Parameters
    ----------
    maps : bool
        Whether the maps are wanted.
    on_slice : callable, optional
        Called with each measured slice in their order, in the caller's thread.
    on_open : callable, optional
        Called with both sides before any slice is measured.

    The others and errors are those of :func:`measure`.
    """
    if video_range not in RANGES:
        raise InputError(
            f"{video_range!r:.40} is unknown",
            field="video_range",
            remedy=f"use one of {', '.join(RANGES)}",
        )
    if data_range is not None and not 0 < data_range < math.inf:
        raise InputError(f"must be above 0, not {data_range:g}", field="data_range")
    asked = chosen(indices)
    shown = parse_window(window) if isinstance(window, str) else window
    ours, theirs = (
        open_side(
            source,
            field=field,
            data_range=data_range,
            video_range=video_range,
            series_uid=series_uid,
            skip_bad=skip_bad,
        )
        for source, field in ((reference, "reference"), (distorted, "distorted"))
    )
    ours, theirs = as_hu(ours, shown), as_hu(theirs, shown)
    scale = common_scale(ours, theirs, window=shown, data_range=data_range)
    matched = _match(ours, theirs, match, skip_bad=skip_bad)
    region = region_of(roi, scale.format.shape)
    if on_open is not None:
        on_open(ours, theirs)
    work = _Work(ours, theirs, scale, matched, region, skip_bad, observer or Observer())
    return work.done(asked, indices is not None and indices != "all", maps, on_slice, workers)


_match = match


def chosen(indices: Sequence[str] | str | None) -> tuple[QualityIndex, ...]:
    """Return the indices of some names, each once; all for ``"all"``.

    Raises
    ------
    InputError
        If one is unknown.
    """
    known = metrics.names()
    if indices is None:
        names: Sequence[str] = [name for name in USUAL if name in known]
    elif isinstance(indices, str):
        names = known if indices == "all" else [indices]
    else:
        names = list(indices)
    return tuple({index.name: index for index in map(metrics.get, names)}.values())


class _Outcome(NamedTuple):
    """What a thread makes of a slice."""

    slice: MeasuredSlice
    errors: TissueErrors | None
    largest: int


class _Work:
    """One measurement on its way."""

    def __init__(
        self,
        ours: Side,
        theirs: Side,
        scale: CommonScale,
        matched: Matched,
        region: Region | None,
        skip_bad: bool,
        observer: Observer,
    ) -> None:
        self.ours, self.theirs, self.scale = ours, theirs, scale
        self.matched, self.region, self.skip_bad = matched, region, skip_bad
        self.observer = observer
        self.rows: list[SliceRow] = []
        self.failures: list[FailedSlice] = []
        self.errors: TissueErrors | None = None
        self.ssim: dict[Area, list[float | None]] = {area: [] for area in SSIM_AREAS}
        self.largest = 0
        self.notes: list[str] = [
            f"{which}: {note}"
            for which, side in (("reference", ours), ("distorted", theirs))
            for note in side.notes
        ]
        if scale.window is not None and scale.window.function == WIDE:
            self.notes.append(
                "luma follows a curve over the whole range of HU, so errors are in grey levels: "
                "give a window to measure what it shows, in HU"
            )

    def done(
        self,
        asked: tuple[QualityIndex, ...],
        insisted: bool,
        maps: bool,
        on_slice: Callable[[MeasuredSlice, CommonScale], None] | None,
        workers: int | None,
    ) -> Measurement:
        """Measure all slices."""
        workers = workers or cores()
        indices: tuple[QualityIndex, ...] | None = None
        pending: deque[Future[_Outcome]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for number, one, other in self._usable_slices():
                    if indices is None:
                        indices = self._usable(asked, self._pair(one, other), insisted)
                    given = (number, one, other, indices, maps)
                    pending.append(pool.submit(self._measured, *given))
                    if len(pending) > PENDING_PER_WORKER * workers:
                        self._take(pending.popleft().result(), on_slice)
                while pending:
                    self._take(pending.popleft().result(), on_slice)
            finally:
                for future in pending:
                    future.cancel()
        if indices is None:
            raise self._nothing()
        return self._measurement(indices)

    def _usable_slices(self) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Yield the slices that can be measured, as they are on either side, with their numbers."""
        for number, (one, other) in enumerate(slices(self.ours, self.theirs, self.matched), 1):
            self.observer.check()
            found = problem(one, other)
            if found is not None:
                self._fail(number, *found)
                continue
            assert isinstance(one, np.ndarray)
            assert isinstance(other, np.ndarray)
            yield number, one, other

    def _pair(self, one: NDArray[Any], other: NDArray[Any]) -> FramePair:
        """Return slices as frames of the common scale."""
        form = self.scale.format
        one, other = form.crop(one), form.crop(other)
        padding = padding_of(one, other)
        source = self.scale.reference(np.asarray(one), padding)
        shown = self.scale.distorted(np.asarray(other), padding)
        return FramePair(np.ascontiguousarray(source), np.ascontiguousarray(shown), form, padding)

    def _fail(self, number: int, side: str, damaged: Damaged) -> None:
        where = damaged.where or f"{(self.ours if side == 'reference' else self.theirs).name}"
        if not self.skip_bad:
            raise InputError(
                f"{where}: {damaged.reason}",
                remedy="{skip_bad} leaves such slices out",
            )
        self.failures.append(FailedSlice(number, side, damaged.reason, where))
        logger.warning("slice %d: %s (%s)", number, damaged.reason, where)
        self._advance()

    def _advance(self) -> None:
        done = len(self.rows) + len(self.failures)
        self.observer.check()
        self.observer.tell(Event(done, max(self.matched.total, done)))

    def _usable(
        self, asked: tuple[QualityIndex, ...], pair: FramePair, insisted: bool
    ) -> tuple[QualityIndex, ...]:
        """Return the indices that take such frames; those that the user named have to."""
        usable = []
        region = self.region
        for index in asked:
            try:
                if region is None or region.mask is None:
                    index.value(pair)
                else:
                    value_inside(index, pair, region.mask)
            except ValueError as error:
                where = "" if region is None or is_pooled(index) else " in the region"
                if insisted:
                    raise InputError(
                        f"{index.name} cannot be measured{where}: {error}", field="indices"
                    ) from error
                self.notes.append(f"{index.name} is left out{where}: {error}")
            else:
                usable.append(index)
        return tuple(usable)

    def _measured(
        self,
        number: int,
        one: NDArray[Any],
        other: NDArray[Any],
        indices: Sequence[QualityIndex],
        maps: bool,
    ) -> _Outcome:
        scale, unit = self.scale, self.scale.unit_per_level
        pair = self._pair(one, other)
        tissue = tissue_map(
            pair.source, data_range=pair.format.peak, scale=scale.grey, padding=pair.padding
        )
        mask = None if self.region is None else self.region.of(tissue)
        values = {index.name: self._value(index, pair, mask) for index in indices}
        errors, found, similarity = None, None, None
        if min(pair.format.shape) >= SSIM_WINDOW:
            inside = tissue if mask is None else _inside(tissue, mask)
            errors, found = tissue_errors(pair, inside), trust(pair, tissue, mask)
            similarity = self._value(metrics.SSIM, pair, mask)
        rmse, largest = _errors(pair, mask)
        body = None if errors is None else errors.largest(Area.BODY)
        row = SliceRow(
            number,
            values,
            None if rmse is None else rmse * unit,
            None if largest is None else largest * unit,
            similarity,
            None if errors is None else errors.ssim(Area.BODY),
            None if body is None else body * unit,
            found,
        )
        drawn = {index.name: index.map(pair) for index in indices if index.map} if maps else {}
        top = int(max(pair.source.max(), pair.shown.max()))
        return _Outcome(MeasuredSlice(row, pair, mask, drawn), errors, top)

    def _value(
        self, index: QualityIndex, pair: FramePair, mask: NDArray[np.bool_] | None
    ) -> float | None:
        if mask is None:
            value: float | None = float(index.value(pair))
        else:
            try:
                value = value_inside(index, pair, mask)
            except ValueError:
                # The body of this slice is smaller than the index takes.
                value = None
        if value is None or not math.isfinite(value):
            return None
        return in_unit(index, value, self.scale.unit_per_level)

    def _take(
        self, outcome: _Outcome, on_slice: Callable[[MeasuredSlice, CommonScale], None] | None
    ) -> None:
        self.rows.append(outcome.slice.row)
        self.largest = max(self.largest, outcome.largest)
        if outcome.errors is not None:
            one = outcome.errors
            self.errors = one if self.errors is None else self.errors + one
            for area, found in self.ssim.items():
                found.append(one.ssim(area))
        if on_slice is not None:
            on_slice(outcome.slice, self.scale)
        self._advance()

    def _nothing(self) -> InputError:
        first = self.failures[0] if self.failures else None
        why = f": {first.reason}" if first else ""
        return InputError(f"no slice could be measured{why}")

    def _measurement(self, indices: tuple[QualityIndex, ...]) -> Measurement:
        scale, region = self.scale, self.region
        unit = GREY_LEVELS if scale.grey is None else HU
        tissue = self._tissue()
        warnings = cautions(
            self.rows,
            tissue,
            window=scale.window,
            unit=unit,
            data_range=scale.data_range,
            largest_share=1.0 if scale.window is not None else self.largest / scale.format.peak,
            region=None if region is None else region.text,
        )
        form = scale.format
        return Measurement(
            self.ours.name,
            self.theirs.name,
            form.rows,
            form.columns,
            tuple(index.name for index in indices),
            tuple(self.rows),
            summary_of(self.rows, indices),
            tissue,
            (*warnings, *self._undefined(indices)),
            tuple(self.failures),
            unit,
            scale.data_range,
            scale.unit_per_level,
            self.matched.by,
            scale.window,
            scale.window_source,
            None if region is None else region.text,
            () if region is None else tuple(one.name for one in indices if not is_pooled(one)),
            tuple(self.notes),
        )

    def _undefined(self, indices: Sequence[QualityIndex]) -> Iterator[Caution]:
        for index in indices:
            missing = tuple(row.number for row in self.rows if row.values[index.name] is None)
            if missing:
                yield Caution(
                    "index_undefined",
                    f"{index.name} is not defined in {len(missing)} of {len(self.rows)} slices",
                    len(missing) / len(self.rows),
                    missing,
                )

    def _tissue(self) -> TissueSummary | None:
        """Return the errors by tissue, with the numbers that the slices have."""
        if self.errors is None:
            return None
        numbers = [row.number for row in self.rows]
        # Failed slices keep their place.
        ssim: dict[Area, list[float | None]] = {}
        for area, found in self.ssim.items():
            placed: list[float | None] = [None] * numbers[-1]
            for number, value in zip(numbers, found, strict=True):
                placed[number - 1] = value
            ssim[area] = placed
        summary = TissueSummary.of(self.errors, ssim, self.scale.grey)
        if self.scale.grey is not None or self.scale.step == 1:
            return summary
        step = self.scale.step
        scaled = {area: one and one.scaled(step) for area, one in summary.errors.items()}
        return TissueSummary(
            summary.unit,
            summary.span * step,
            scaled,
            summary.ssim,
            summary.noise_kept,
            summary.clipped_share,
        )


def _inside(tissue: TissueMap, mask: NDArray[np.bool_]) -> TissueMap:
    return TissueMap(np.where(mask, tissue.codes, np.uint8(0)))


def _errors(pair: FramePair, mask: NDArray[np.bool_] | None) -> tuple[float | None, float | None]:
    """Return RMSE and largest error in levels; None where the region is empty."""
    difference = pair.source.astype(np.int32) - pair.shown
    if mask is not None:
        difference = difference[mask]
    if difference.size == 0:
        return None, None
    squares = difference.astype(np.float64) ** 2
    return math.sqrt(float(squares.mean())), float(np.abs(difference).max())
