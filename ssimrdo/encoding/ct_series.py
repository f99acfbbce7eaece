"""A series as lossy CT images that keep HU, each slice as coarse as a quality allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.dicom import Series, SkippedFile, SliceHeader, Window, open_series
from ssimrdo.dicom.digits import decimal_string
from ssimrdo.dicom.grey import apply_window
from ssimrdo.dicom.read.load import load_slice
from ssimrdo.dicom.write.ct import BITS_ALLOCATED, CTSlice, ct_image, set_codestream
from ssimrdo.dicom.write.folder import check_slice_folder, slice_folder, slice_name
from ssimrdo.dicom.write.lossy import LOSSY_CODECS, LossyCodec, lossy_codec
from ssimrdo.dicom.write.objects import Derivation, SeriesIds, save, sources_of
from ssimrdo.encoding.dicom_video import Original, original_of
from ssimrdo.encoding.options import FLOOR, FPS, read_number
from ssimrdo.encoding.settings import EncodeSettings, Floor
from ssimrdo.encoding.source import look_at_spacing, open_source
from ssimrdo.encoding.warmup import load_kernels
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.machine import cores
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.metrics.tissue import SSIM_AREAS, SliceTissue, TissueErrors, errors_by_tissue
from ssimrdo.observer import Event, Observer
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import TissueSummary, grey_scale
from ssimrdo.text import counted

SYNTAX: Final = next(iter(LOSSY_CODECS))

_BYTES_PER_PIXEL: Final = 2


@dataclass(frozen=True)
class CTGoal:
    """What every slice keeps; at least one of the two is given.

    Parameters
    ----------
    floor : Floor, optional
        A quality index in the window, of grey levels of 8 bit.
    max_hu_error : float, optional
        Largest error of any pixel, in HU.

    Raises
    ------
    InputError
        If the error is no positive number, or the floor is about the mean over slices.
    """

    floor: Floor | None = None
    max_hu_error: float | None = None

    def __post_init__(self) -> None:
        if self.floor is None and self.max_hu_error is None:
            object.__setattr__(self, "floor", Floor(*FLOOR))
        if self.floor is not None and self.floor.over != "worst":
            raise InputError(
                "every slice is compressed by itself", field="over", remedy="leave it out"
            )
        if self.max_hu_error is not None and not 0 < self.max_hu_error < 1e5:
            raise InputError(
                f"{self.max_hu_error} is out of range", field="max_hu_error", remedy="use above 0"
            )

    @property
    def indices(self) -> tuple[QualityIndex, ...]:
        """The indices that are measured: the goal's, and SSIM."""
        names = [metrics.SSIM.name, *([] if self.floor is None else [self.floor.index])]
        return tuple(metrics.get(name) for name in dict.fromkeys(names))


def ct_goal(options: Mapping[str, Any], max_hu_error: Any = None) -> CTGoal:
    """Return the goal of options of an encode, of which only floors have a meaning here.

    Parameters
    ----------
    options : mapping
        As :meth:`ssimrdo.encoding.settings.EncodeSettings.of` takes them, without a window.
    max_hu_error : float or str, optional
        Largest error in HU.

    Raises
    ------
    InputError
        If another option is given, or a value cannot be used.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in ("min", "min_ssim", "over"):
            raise InputError("is for videos", field=name, remedy="leave it out")
    error = None
    if max_hu_error is not None:
        try:
            error = read_number(max_hu_error)
        except ValueError as problem:
            raise InputError(str(problem), field="max_hu_error") from None
    rate = EncodeSettings.of(**given).rate if given else None
    return CTGoal(rate if isinstance(rate, Floor) else None, error)


@dataclass(frozen=True)
class CTResult:
    """What came out of writing a series as lossy CT.

    Parameters
    ----------
    output : str
        The folder, as the user gave it.
    slices, rows, columns : int
        Number of slices, and their size.
    syntax : str
        ``htj2k`` or ``j2k``.
    bytes, payload_bytes : int
        Size of the files, and of the codestreams in them.
    ratio : float
        How many times the codestreams are smaller than 16 bits per pixel.
    lossless_slices : int
        Slices that nothing but reversible coding was good enough for.
    window : Window
        In which quality was measured.
    quality : mapping of str to SliceSummary
        In the window, by index.
    hu_rmse, max_hu_error : float
        Over all pixels of all slices, in HU.
    tissue : TissueSummary
        Errors by tissue in the window.
    per_slice : tuple of mapping
        ``number`` from 1, ``bytes``, ``max_hu_error``, ``lossless`` and every index.
    skipped : tuple of SkippedFile
        Files that were left out.
    seconds : float
        Wall time.
    """

    output: str
    slices: int
    rows: int
    columns: int
    syntax: str
    bytes: int
    payload_bytes: int
    ratio: float
    lossless_slices: int
    window: Window
    quality: Mapping[str, SliceSummary]
    hu_rmse: float
    max_hu_error: float
    tissue: TissueSummary
    per_slice: tuple[Mapping[str, Any], ...]
    skipped: tuple[SkippedFile, ...]
    seconds: float

    def __repr__(self) -> str:
        # Not the output, whose path may tell whose series it is.
        return f"CTResult({counted(self.slices, 'slice')}, {self.syntax}, {self.ratio:.1f}:1)"

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, as docs/json.md describes them."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values.pop("quality")
        return {
            **values,
            "window": self.window.as_dict(),
            **{name: summary.as_dict() for name, summary in self.quality.items()},
            "tissue": self.tissue.as_dict(),
            "per_slice": [dict(one) for one in self.per_slice],
            "skipped": [{"path": file.path, "reason": file.reason} for file in self.skipped],
        }


def encode_ct(
    series: Path | str,
    output: Path | str,
    goal: CTGoal | None = None,
    *,
    window: Window | None = None,
    syntax: str = SYNTAX,
    template: Path | str | None = None,
    files: Collection[str] | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    threads: int = 0,
) -> CTResult:
    """Write a series as lossy CT images: all HU, no window, each slice by itself.

    Padding becomes air.

    Parameters
    ----------
    series : Path or str
        Folder that is searched recursively, or a single DICOM file.
    output : Path or str
        Folder to write, which appears whole.
    goal : CTGoal, optional
        What every slice keeps; SSIM of 0.95 in the window by default.
    window : Window, optional
        In which quality is measured; the header's own when None.
    syntax : {"htj2k", "j2k"}
        Codec: HTJ2K (1.2.840.10008.1.2.4.203) or JPEG 2000 (.91).
    template : Path or str, optional
        The series that patient and study are taken from: the source or its original.
    files, series_uid, skip_bad
        As :func:`ssimrdo.dicom.open_series`; slices that cannot be decoded refuse the series all
        the same.
    strict : bool
        Refuse series of which slices are missing, or whose slices lie unevenly.
    overwrite : bool
        Replace the slices that an earlier call has left in the folder.
    observer : Observer, optional
        Is told how many slices are done, and may cancel.
    threads : int
        Slices that are compressed at once; as many as there are cores when 0.

    Raises
    ------
    InputError
        If the series, an option or the output cannot be used.
    CancelledError
        If the observer cancels.
    OSError
        If the output cannot be written.
    """
    started = time.perf_counter()
    goal, codec, folder = goal or CTGoal(), lossy_codec(syntax), Path(output)
    inputs = [Path(series), *([] if template is None else [Path(template)])]
    check_slice_folder(folder, inputs, overwrite=overwrite)
    found, skipped = open_series(series, files=files, series_uid=series_uid, skip_bad=skip_bad)
    opened = open_source(found, window=window, bit_depth=8, fps=Fraction(FPS))
    look_at_spacing(opened, strict=strict)
    assert opened.window is not None, "series have one"
    original = None
    if template is not None:
        original = original_of(template, series, opened, series_uid)
    frames = replace(opened.frames.format, aspect=Fraction(1))
    load_kernels(frames, None, goal.indices)
    work = _Work(found, CTCoder(codec, goal, opened.window, goal.indices), frames, threads)
    written = _Written(goal.indices)
    with slice_folder(folder, overwrite=overwrite) as staged:
        _write(staged, work, original, written, observer or Observer())
    return written.result(str(output), work, skipped, time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class StoredScale:
    """What unsigned stored values of 16 bits mean in HU: ``slope * stored + intercept``.

    Parameters
    ----------
    slope, intercept : str
        As DICOM's decimal strings.
    """

    slope: str
    intercept: str

    @classmethod
    def of(cls, header: SliceHeader) -> StoredScale:
        """Return the scale of a slice, moved so that its least stored value is 0."""
        least = -(1 << header.bits_stored - 1) if header.signed else 0
        return cls(
            decimal_string(header.rescale_slope),
            decimal_string(header.rescale_intercept + header.rescale_slope * least),
        )

    def stored(self, hu: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Return the stored values nearest to HU, an ndarray of the same shape."""
        steps = np.rint((hu.astype(np.float64) - float(self.intercept)) / float(self.slope))
        return np.clip(steps, 0, (1 << BITS_ALLOCATED) - 1).astype(np.uint16)

    def hu(self, stored: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return the HU of stored values, an ndarray of the same shape."""
        hu = stored * np.float64(self.slope) + float(self.intercept)
        return np.asarray(hu, np.float32)


@dataclass(frozen=True)
class CTTrial:
    """A slice that was compressed.

    Parameters
    ----------
    codestream : bytes
        The slice.
    lossless : bool
        Whether nothing was lost.
    values : mapping of str to float
        What was measured in the window, by index.
    max_hu_error : float
        Largest error of any pixel, in HU.
    squared_hu_error : float
        Sum of the squared errors of all pixels.
    shown : ndarray of shape (rows, columns), uint8
        What the window shows of the decoded slice.
    """

    codestream: bytes
    lossless: bool
    values: Mapping[str, float]
    max_hu_error: float
    squared_hu_error: float
    shown: NDArray[Any] = field(repr=False)


@dataclass(frozen=True)
class CTCoder:
    """Compresses slices as coarsely as a goal allows.

    Parameters
    ----------
    codec : LossyCodec
        What compresses.
    goal : CTGoal
        What every slice keeps.
    window : Window
        In which quality is measured.
    indices : tuple of QualityIndex
        What is measured of every trial; the goal's is among them.
    """

    codec: LossyCodec
    goal: CTGoal
    window: Window
    indices: tuple[QualityIndex, ...]

    def compress(
        self, hu: NDArray[np.float32], scale: StoredScale, *, inverted: bool = False
    ) -> CTTrial:
        """Return the coarsest trial of a slice that is good enough, else a lossless one.

        Parameters
        ----------
        hu : ndarray of shape (rows, columns), float32
            The slice.
        scale : StoredScale
            Of the stored values that are compressed.
        inverted : bool
            Whether the lowest HU are shown white.
        """
        stored = scale.stored(hu)
        source = apply_window(hu, self.window, inverted=inverted)
        frames = FrameFormat(*hu.shape)

        def trial(point: float | None) -> CTTrial:
            codestream = self.codec.encode(stored, point)
            again = scale.hu(self.codec.decode(codestream))
            error = np.abs(again - hu)
            shown = apply_window(again, self.window, inverted=inverted)
            values = metrics.measure(FramePair(source, shown, frames), self.indices)
            squared = float(np.square(error, dtype=np.float64).sum())
            return CTTrial(codestream, point is None, values, float(error.max()), squared, shown)

        return _coarsest(trial, self.codec, self.goal)


@dataclass(frozen=True)
class _Work:
    """What the slices of one call have in common."""

    series: Series
    coder: CTCoder
    frames: FrameFormat
    threads: int

    @property
    def by_tissue(self) -> partial[TissueErrors]:
        inverted = self.series.slices[0].inverted
        scale = grey_scale(self.coder.window, self.frames.peak, inverted=inverted)
        return partial(errors_by_tissue, scale=scale)


@dataclass(frozen=True)
class _Outcome:
    """What is kept of a slice."""

    scale: StoredScale
    trial: CTTrial
    tissue: TissueErrors


def _write(
    staged: Path, work: _Work, original: Original | None, written: _Written, observer: Observer
) -> None:
    ids = SeriesIds() if original is None else original.ids
    headers = work.series.slices
    outcomes = _in_order(headers, work, observer)
    for number, (header, outcome) in enumerate(zip(headers, outcomes, strict=True), start=1):
        trial = outcome.trial
        ratio = header.rows * header.columns * _BYTES_PER_PIXEL / len(trial.codestream)
        loss = "without loss"
        if not trial.lossless:
            loss = f"with loss; the largest error is {trial.max_hu_error:.4g} HU"
        one = CTSlice(
            stored=np.empty((header.rows, header.columns), np.uint16),
            bits_stored=BITS_ALLOCATED,
            slope=outcome.scale.slope,
            intercept=outcome.scale.intercept,
            plane=header.plane,
            inverted=header.inverted,
            window=work.coder.window,
            patient_position=header.patient_position,
            sources=() if original is None else sources_of([original.slices[number - 1]]),
        )
        derivation = Derivation(
            work.coder.codec.name,
            ratio,
            f"{work.coder.codec.title}, compressed {ratio:.1f}:1 {loss}",
            lossy=not trial.lossless,
        )
        dataset = ct_image(one, ids, number, derivation, syntax=work.coder.codec.syntax)
        set_codestream(dataset, trial.codestream)
        target = staged / slice_name(number)
        save(dataset, target)
        written.add(number, outcome, target.stat().st_size)
        observer.tell(Event(number, len(headers)))


def _in_order(
    headers: tuple[SliceHeader, ...], work: _Work, observer: Observer
) -> Iterator[_Outcome]:
    """Yield what becomes of every slice; few are worked on at a time."""
    workers = work.threads or cores()
    with ThreadPoolExecutor(workers) as pool:
        try:
            pending = [pool.submit(_compressed, header, work) for header in headers[:workers]]
            for index in range(len(headers)):
                observer.check()
                outcome = pending[index % workers].result()
                upcoming = index + workers
                if upcoming < len(headers):
                    pending[index % workers] = pool.submit(_compressed, headers[upcoming], work)
                yield outcome
        finally:
            pool.shutdown(cancel_futures=True)


def _compressed(header: SliceHeader, work: _Work) -> _Outcome:
    (hu, padded), scale = load_slice(header), StoredScale.of(header)
    best = work.coder.compress(hu, scale, inverted=header.inverted)
    source = apply_window(hu, work.coder.window, inverted=header.inverted)
    pair = FramePair(source, best.shown, work.frames, padded)
    return _Outcome(scale, best, work.by_tissue(pair))


def _coarsest(trial: Callable[[float | None], CTTrial], codec: LossyCodec, goal: CTGoal) -> CTTrial:
    """Return the coarsest of the trials of a bisection that is good enough, else a lossless one."""
    coarse, fine = codec.coarse, codec.fine
    best: CTTrial | None = None
    while abs(coarse - fine) > codec.step:
        middle = (coarse + fine) / 2
        found = trial(middle)
        if _is_good(found, goal):
            best, fine = found, middle
        else:
            coarse = middle
    return trial(None) if best is None else best


def _is_good(trial: CTTrial, goal: CTGoal) -> bool:
    if goal.max_hu_error is not None and trial.max_hu_error > goal.max_hu_error:
        return False
    if goal.floor is None:
        return True
    index = metrics.get(goal.floor.index)
    return bool(trial.values[index.name] * index.sign >= goal.floor.value * index.sign)


class _Written:
    """Sums up slices as they are written."""

    def __init__(self, indices: tuple[QualityIndex, ...]) -> None:
        self._indices = indices
        self._bytes = self._payload = self._lossless = 0
        self._squares = self._largest = 0.0
        self._rows: list[dict[str, Any]] = []
        self._tissue: TissueErrors | None = None
        self._areas: list[SliceTissue] = []

    def add(self, number: int, outcome: _Outcome, size: int) -> None:
        """Count a slice."""
        trial = outcome.trial
        self._bytes += size
        self._payload += len(trial.codestream)
        self._lossless += trial.lossless
        self._squares += trial.squared_hu_error
        self._largest = max(self._largest, trial.max_hu_error)
        self._tissue = outcome.tissue if self._tissue is None else self._tissue + outcome.tissue
        self._areas.append(SliceTissue.of(outcome.tissue))
        self._rows.append(
            {
                "number": number,
                "bytes": len(trial.codestream),
                "max_hu_error": trial.max_hu_error,
                "lossless": trial.lossless,
                **trial.values,
            }
        )

    def result(
        self, output: str, work: _Work, skipped: tuple[SkippedFile, ...], seconds: float
    ) -> CTResult:
        """Return the result of all slices."""
        series = work.series
        pixels = series.rows * series.columns * len(series)
        assert self._tissue is not None, "a series has slices"
        by_area = zip(*(one.ssim for one in self._areas), strict=True)
        scale = grey_scale(work.coder.window, work.frames.peak, inverted=series.slices[0].inverted)
        return CTResult(
            output=output,
            slices=len(series),
            rows=series.rows,
            columns=series.columns,
            syntax=work.coder.codec.name,
            bytes=self._bytes,
            payload_bytes=self._payload,
            ratio=pixels * _BYTES_PER_PIXEL / self._payload,
            lossless_slices=self._lossless,
            window=work.coder.window,
            quality={
                index.name: SliceSummary.of((row[index.name] for row in self._rows), index)
                for index in self._indices
            },
            hu_rmse=float(np.sqrt(self._squares / pixels)),
            max_hu_error=self._largest,
            tissue=TissueSummary.of(
                self._tissue, dict(zip(SSIM_AREAS, by_area, strict=True)), scale
            ),
            per_slice=tuple(self._rows),
            skipped=skipped,
            seconds=seconds,
        )
