"""From CT slices, or luma frames, to a verified video file."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.codecs.base import ConstantQuality, MeanBitrate, check_format
from ssimrdo.codecs.x264.level import check_rate
from ssimrdo.dicom import Geometry, SkippedFile
from ssimrdo.dicom.read.video import holds_video
from ssimrdo.dicom.spacing import check_regular, spacing_of
from ssimrdo.encoding.passes import (
    Clock,
    PassOutcome,
    PassSettings,
    Target,
    run_passes,
)
from ssimrdo.encoding.search import Goal, Trial, find_smallest
from ssimrdo.encoding.settings import EncodeSettings, Floor
from ssimrdo.encoding.source import (
    OpenedSource,
    SeriesLike,
    look_at_spacing,
    open_frames,
    open_source,
    tell_left_out,
)
from ssimrdo.encoding.verify import verify
from ssimrdo.encoding.views import TissueCount, View, protected, views_of
from ssimrdo.encoding.warmup import load_kernels
from ssimrdo.errors import InputError, VerificationError
from ssimrdo.files import check_free, scratch_folder, whole_files
from ssimrdo.frames import FrameFormat, FrameSource
from ssimrdo.metrics import QualityIndex
from ssimrdo.metrics.tissue import SSIM_AREAS, Area, GreyScale, SliceTissue, TissueErrors
from ssimrdo.objective import Objective
from ssimrdo.objective.protect import SHOWN_DEPTH
from ssimrdo.observer import Event, Observer
from ssimrdo.record import ct
from ssimrdo.record.result import (
    CodecUsed,
    EncodeResult,
    GreyMapping,
    SearchInfo,
    Seconds,
    WindowQuality,
)
from ssimrdo.record.sidecar import sidecar_path, sidecar_record, write_sidecar
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import (
    QUALITY_CODES,
    TissueSummary,
    quality_warnings,
    spacing_warnings,
    unlike_warnings,
)
from ssimrdo.text import counted, size_text
from ssimrdo.video import attachment
from ssimrdo.video.mux import DICOM, container_of

if TYPE_CHECKING:
    from ssimrdo.encoding.dicom_video import Original

logger = logging.getLogger(__name__)

MISSED_RATE_PERCENT: Final = 10.0
"""A bit rate that is missed by more is worth a warning."""


def encode(
    series: SeriesLike,
    output: Path | str,
    settings: EncodeSettings | None = None,
    *,
    files: Collection[str] | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    template: Path | str | None = None,
    observer: Observer | None = None,
    note: Mapping[str, Any] | None = None,
    **options: Any,
) -> EncodeResult:
    """Encode CT slices and measure what a decoder will show.

    Slices are read, windowed, analysed, encoded and measured as they come, so memory does
    not grow with their number. The finished file is decoded once and compared with what was
    measured before it gets its name; a sidecar ``OUTPUT.json`` holds settings and results.

    Parameters
    ----------
    series : Path, str, Series or Volume
        Folder that is searched recursively, a single DICOM file, a series that was found, or
        slices in HU.
    output : Path or str
        File to write; its suffix tells the container.
    settings : EncodeSettings, optional
        How to encode; CRF 23 for the balanced objective by default.
    files : collection of str, optional
        Look at these files only, named relative to ``series``.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files that cannot be used instead of refusing the series.
    overwrite : bool
        Replace an existing output.
    template : Path or str, optional
        For ``.dcm``: the series that patient, study and references to its images are taken from,
        which is the source or its original. Without one the object is nobody's.
    observer : Observer, optional
        Is told how many slices are done, each encode counting each slice, and may cancel.
    note : mapping, optional
        JSON types that the sidecar holds as well.
    **options
        In place of ``settings``: ``crf=20``, ``window="lung"`` and so on, see
        :meth:`EncodeSettings.of`.

    Returns
    -------
    EncodeResult
        Sizes, qualities, times and the files left out.

    Raises
    ------
    InputError
        If the series, an option or the output cannot be used.
    EncoderError
        If the encoder fails.
    VerificationError
        If the file does not decode to what was measured.
    CancelledError
        If the observer cancels.
    OSError
        If the output cannot be written, such as on a full disk.
    """
    started = time.perf_counter()
    settings = _settings(settings, options)
    job = _Job(Path(output), settings, overwrite, observer or Observer(), note or {})
    job.check()
    if template is not None and not job.in_dicom:
        raise InputError("is for DICOM objects", field="template", remedy="write .dcm")
    with job.clock.measure("load"):
        opened = open_source(
            series,
            window=settings.window,
            bit_depth=settings.bit_depth,
            fps=settings.fps,
            files=files,
            series_uid=series_uid,
            skip_bad=skip_bad,
            padding=settings.padding,
        )
        look_at_spacing(opened, strict=settings.strict)
        tell_left_out(opened.skipped, opened.frames.count, job.observer)
        original = None
        if template is not None:
            from ssimrdo.encoding.dicom_video import original_of

            original = original_of(template, series, opened, series_uid)
    return _encode(job, opened, started, original)


def encode_frames(
    frames: Iterable[NDArray[Any]],
    output: Path | str,
    settings: EncodeSettings | None = None,
    *,
    frame_format: FrameFormat | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    note: Mapping[str, Any] | None = None,
    **options: Any,
) -> EncodeResult:
    """Encode luma frames and measure what a decoder will show; what :func:`encode` rests on.

    Parameters
    ----------
    frames : iterable of ndarray of shape (rows, columns)
        Full-range luma: uint8, or uint16 at more than 8 bit. An iterator can be encoded in one
        pass only; a list or an array in several.
    output : Path or str
        File to write; its suffix tells the container.
    settings : EncodeSettings, optional
        How to encode; the window is not used.
    frame_format : FrameFormat, optional
        Of the frames, with the shape of their samples; by default that of the first frame, with
        the settings' depth and rate and square samples.
    overwrite, observer, note, **options
        As :func:`encode`.

    Returns
    -------
    EncodeResult
        Without window and geometry.

    Raises
    ------
    InputError, EncoderError, VerificationError, CancelledError, OSError
        As :func:`encode`.
    """
    started = time.perf_counter()
    settings = _settings(settings, options)
    if frame_format is not None:
        settings = replace(settings, bit_depth=frame_format.bit_depth, fps=frame_format.fps)
    job = _Job(Path(output), settings, overwrite, observer or Observer(), note or {})
    job.check()
    opened = open_frames(frames, frame_format, bit_depth=settings.bit_depth, fps=settings.fps)
    return _encode(job, opened, started)


def check_not_input(
    outputs: Iterable[Path], inputs: Iterable[Path], *, may_replace_video: bool = False
) -> None:
    """Check that no output is a file of the series or other DICOM.

    Parameters
    ----------
    outputs, inputs : iterable of Path
        Files to be written, and those of the series.
    may_replace_video : bool
        Let an output take the place of a DICOM object that holds a video.

    Raises
    ------
    InputError
        If one is.
    """
    inputs = tuple(inputs)
    for path in outputs:
        if not path.is_file():
            continue
        is_video = may_replace_video and holds_video(path)
        if any(map(path.samefile, inputs)) or (_is_dicom(path) and not is_video):
            raise InputError(f"{path}: is a DICOM file", remedy="use another name")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _settings(settings: EncodeSettings | None, options: Mapping[str, Any]) -> EncodeSettings:
    if settings is None:
        return EncodeSettings.of(**options)
    if options:
        raise InputError("goes with no settings beside it", field=next(iter(options)))
    if not isinstance(settings, EncodeSettings):
        raise InputError(f"{settings!r:.60} are no settings", field="settings")
    return settings


@dataclass(frozen=True)
class _Job:
    """One encode and what its steps share."""

    output: Path
    settings: EncodeSettings
    overwrite: bool
    observer: Observer
    note: Mapping[str, Any]
    clock: Clock = field(default_factory=Clock)

    @property
    def in_dicom(self) -> bool:
        """Whether a DICOM object is to hold the video."""
        return container_of(self.output, self.settings.codec) == DICOM

    @property
    def container(self) -> str:
        """FFmpeg's name of the video's container."""
        return "mp4" if self.in_dicom else container_of(self.output, self.settings.codec)

    def check(self) -> None:
        """Check the output before any work is done for it."""
        if self.in_dicom:
            # What writes DICOM takes as long to import as all that encodes.
            from ssimrdo.encoding.dicom_video import check_settings

            check_settings(self.settings)
        for path in (self.output, sidecar_path(self.output)):
            check_free(path, overwrite=self.overwrite)


def _encode(
    job: _Job,
    opened: OpenedSource,
    started: float,
    original: Original | None = None,
) -> EncodeResult:
    asked, clock = job.settings, job.clock
    paths = job.output, sidecar_path(job.output)
    check_not_input(paths, opened.paths, may_replace_video=job.in_dicom)
    level = None
    if job.in_dicom:
        from ssimrdo.encoding.dicom_video import for_dicom

        settings, opened, level = for_dicom(asked, opened)
        job = replace(job, settings=settings)
    settings = job.settings
    check_format(settings.codec, opened.frames.format, opened.name)
    with clock.measure("load"):
        load_kernels(opened.frames.format, settings.objective, settings.indices)
        if settings.protected:
            seen = replace(opened.frames.format, bit_depth=SHOWN_DEPTH)
            load_kernels(seen, settings.objective, settings.indices)
    with (
        whole_files(*paths, overwrite=job.overwrite) as (output, sidecar),
        nullcontext() if level is None else scratch_folder() as folder,
    ):
        video = output if folder is None else folder / "video.mp4"
        looks = _Looks.of(opened, settings)
        outcome, search = _encode_to(video, job, opened.frames, looks)
        series = _series_record(opened, outcome)
        if series is not None and (job.container == "matroska" or level is not None):
            attachment.attach(video, job.container, ct.NAME, ct.MIME_TYPE, series.text())
        with clock.measure("verify"):
            verify(
                video,
                [one.checksum for one in outcome.slices],
                container=job.container,
                bit_depth=settings.bit_depth,
                threads=settings.threads,
            )
        if level is not None:
            check_rate([one.bytes for one in outcome.slices], level, opened.frames.format)
            from ssimrdo.encoding.dicom_video import write_object

            write_object(
                *(output, video, opened, original),
                codec=settings.codec,
                level=level,
                payload_bytes=outcome.payload_bytes,
            )
        result = _result(job, output, opened, outcome, search, looks, series, started)
        _warn_of_missed_rate(result)
        for warning in result.warnings:
            # The others have been told when slices were read, and looked for.
            if warning.code in QUALITY_CODES:
                logger.warning("%s", warning.text)
        write_sidecar(sidecar, sidecar_record(result, asked.as_dict(), job.note))
    return result


def _warn_of_missed_rate(result: EncodeResult) -> None:
    missed = result.bitrate_error_percent
    if missed is not None and abs(missed) > MISSED_RATE_PERCENT:
        logger.warning(
            "the bit rate is %+.0f %% beside the one asked for: few slices, or more bits than they "
            "can use, make it miss",
            missed,
        )


@dataclass(frozen=True)
class _Looks:
    """How the frames are judged: what bits are spent for, and what errors mean."""

    objective: Objective | None
    count: TissueCount
    views: tuple[View, ...]

    @classmethod
    def of(cls, opened: OpenedSource, settings: EncodeSettings) -> _Looks:
        """Return how frames of a source are judged.

        Raises
        ------
        InputError
            If windows are to be protected of which the source's own leaves nothing.
        """
        frames, inverted = opened.frames.format, opened.inverted
        views: tuple[View, ...] = ()
        if settings.protected:
            if opened.window is None:
                raise InputError("frames of luma have no window", field="protect")
            views = views_of(settings.protected, opened.window, frames, inverted=inverted)
        objective = settings.objective
        return cls(
            None if objective is None else protected(objective, views),
            TissueCount.of(opened.window, frames, inverted=inverted),
            views,
        )


def _encode_to(
    path: Path, job: _Job, source: FrameSource, looks: _Looks
) -> tuple[PassOutcome, SearchInfo | None]:
    settings = job.settings
    progress = _Progress(job.observer, source.count)
    if isinstance(settings.rate, Floor):
        return _search_to(path, job, source, looks, settings.rate, progress)
    common = PassSettings(
        settings.codec,
        settings.rate,
        looks.objective,
        settings.threads,
        settings.indices,
        by_tissue=looks.count,
        views=looks.views,
    )
    progress.expect(settings.codec.passes(settings.rate))
    return run_passes(
        source, common, Target(job.container, path), clock=job.clock, advance=progress.advance
    ), None


def _search_to(
    path: Path,
    job: _Job,
    source: FrameSource,
    looks: _Looks,
    floor: Floor,
    progress: _Progress,
) -> tuple[PassOutcome, SearchInfo]:
    """Search without writing, then write the best encode, which must come out the same."""
    settings = job.settings
    index = metrics.get(floor.index)
    searched = settings.codec.scale("crf", settings.bit_depth)
    goal = Goal(index, floor.value, floor.over, searched, floor.option)

    def encode_at(crf: float, shifts: NDArray[np.float64] | None, to: Path | None) -> PassOutcome:
        common = PassSettings(
            settings.codec,
            ConstantQuality(crf),
            looks.objective,
            settings.threads,
            settings.indices,
            shifts,
            # Of the encode that is kept.
            by_tissue=None if to is None else looks.count,
            views=looks.views,
        )
        target = Target(job.container, to)
        return run_passes(source, common, target, clock=job.clock, advance=progress.advance)

    def trial(crf: float, shifts: NDArray[np.float64] | None, encodes_left: int) -> Trial:
        progress.expect(encodes_left + 1)
        outcome = encode_at(crf, shifts, None)
        tried = Trial(crf, shifts, outcome.values(index.name), outcome.payload_bytes)
        progress.note_trial(tried, goal)
        return tried

    found = find_smallest(trial, goal, may_raise=settings.steered)
    best, plain = found.best, found.plain
    progress.expect(1)
    outcome = encode_at(best.crf, best.shifts, path)
    again = outcome.values(index.name)
    if outcome.payload_bytes != best.payload_bytes or (again != best.values).any():
        raise VerificationError("the same slices were not encoded to the same bytes again")
    return outcome, SearchInfo(
        index=index.name,
        goal=floor.value,
        reached=goal.quality(best.values),
        over=floor.over,
        crf=best.crf,
        raised_slices=best.raised,
        encodes=found.encodes + 1,
        payload_bytes=best.payload_bytes,
        plain_crf=plain.crf,
        plain_payload_bytes=plain.payload_bytes,
    )


class _Progress:
    """Counts slices over all encodes, tells the observer, and heeds it."""

    def __init__(self, observer: Observer, slices: int) -> None:
        self._observer = observer
        self._slices = slices
        self._done = 0
        self._total = 0
        self._trials = 0

    def expect(self, encodes: int) -> None:
        """Set how many encodes are still to come, at most."""
        self._total = self._done + encodes * self._slices

    def advance(self) -> None:
        """Count a slice."""
        self._done += 1
        self._observer.check()
        self._tell()

    def note_trial(self, trial: Trial, goal: Goal) -> None:
        """Tell what a trial of a search gave."""
        self._trials += 1
        raised = f", {counted(trial.raised, 'slice')} finer" if trial.raised else ""
        quality, digits = goal.quality(trial.values), goal.index.decimals + 1
        self._tell(
            f"trial {self._trials}: CRF {trial.crf:g}{raised}: {size_text(trial.payload_bytes)}, "
            f"{goal.title} {quality:.{digits}f}{'' if goal.reached(quality) else ', not enough'}"
        )

    def _tell(self, note: str = "") -> None:
        self._observer.tell(Event(self._done, max(self._total, self._done), note=note))


def _result(
    job: _Job,
    video: Path,
    opened: OpenedSource,
    outcome: PassOutcome,
    search: SearchInfo | None,
    looks: _Looks,
    series: ct.SeriesRecord | None,
    started: float,
) -> EncodeResult:
    settings, shown = job.settings, opened.frames.format
    scale = looks.count.scale
    tissue = _tissue([one.tissue for one in outcome.slices], outcome.tissue, scale)
    coded = shown.padded()
    first: QualityIndex = settings.indices[0]
    values = outcome.values(first.name) * first.sign
    geometry = opened.geometry.of(opened.notes.used)
    spacing = spacing_of(geometry.along_mm)
    if settings.strict:
        # Slices may have been left out on the way.
        check_regular(spacing, opened.name)
    rate = settings.rate
    return EncodeResult(
        output=str(job.output),
        frames=len(outcome.slices),
        width=coded.columns,
        height=coded.rows,
        bit_depth=shown.bit_depth,
        fps=str(shown.fps),
        bytes=video.stat().st_size,
        kbps=float(outcome.payload_bytes * 8 * shown.fps / len(outcome.slices) / 1000),
        quality={
            index.name: SliceSummary.of((one.values[index.name] for one in outcome.slices), index)
            for index in settings.indices
        },
        worst_slice=int(np.argmin(values)),
        seconds=Seconds(
            **{step: job.clock.seconds[step] for step in ("load", "analyse", "encode", "verify")},
            total=time.perf_counter() - started,
        ),
        codec=CodecUsed(
            settings.codec.name, settings.codec.label, settings.codec.version, outcome.settings
        ),
        objective=None if settings.objective is None else settings.objective.name,
        grey=_grey(opened),
        geometry=geometry,
        slices=_slice_rows(outcome, geometry, scale),
        skipped=(
            *opened.skipped,
            *(SkippedFile(name, reason) for name, reason in opened.notes.bad.items()),
        ),
        search=search,
        asked_kbps=rate.kbps if isinstance(rate, MeanBitrate) else None,
        window_source=opened.window_source,
        header_windows=opened.header_windows,
        tissue=tissue,
        windows=_window_quality(settings, outcome, looks.views),
        warnings=(
            *quality_warnings(tissue, opened.window),
            *unlike_warnings(opened.notes.odd),
            *spacing_warnings(spacing),
        ),
        series=series,
        spacing=spacing,
        source_bytes=opened.source_bytes,
    )


def _tissue(
    slices: Iterable[SliceTissue | None], counted: TissueErrors | None, scale: GreyScale | None
) -> TissueSummary:
    assert counted is not None, "it was asked for"
    known = (one.ssim for one in slices if one is not None)
    ssim = dict(zip(SSIM_AREAS, zip(*known, strict=True), strict=True))
    return TissueSummary.of(counted, ssim, scale)


def _window_quality(
    settings: EncodeSettings, outcome: PassOutcome, views: Sequence[View]
) -> tuple[WindowQuality, ...]:
    """Return what the slices look like through each view."""
    by_view = zip(*(one.seen for one in outcome.slices), strict=True)
    return tuple(
        WindowQuality(
            view.window,
            {
                index.name: SliceSummary.of((one.values[index.name] for one in slices), index)
                for index in settings.indices
            },
            _tissue([one.tissue for one in slices], counted, view.scale),
        )
        for view, slices, counted in zip(views, by_view, outcome.seen, strict=True)
    )


def _grey(opened: OpenedSource) -> GreyMapping | None:
    window = opened.window
    if window is None:
        return None
    depth = opened.frames.format.bit_depth
    return GreyMapping(window.center, window.width, window.function, opened.inverted, depth)


def _series_record(opened: OpenedSource, outcome: PassOutcome) -> ct.SeriesRecord | None:
    """Return what it takes to make the slices again, None where that is not known."""
    window, planes, shown = opened.window, opened.planes, opened.frames.format
    if window is None or planes is None:
        return None
    return ct.SeriesRecord(
        rows=shown.rows,
        columns=shown.columns,
        bit_depth=shown.bit_depth,
        luma_range="full" if shown.full_range else "limited",
        window=window,
        inverted=opened.inverted,
        planes=tuple(planes[index] for index in opened.notes.used),
        checksums=tuple(one.checksum for one in outcome.slices),
        psnr_db=tuple(one.values[metrics.PSNR.name] for one in outcome.slices),
        patient_position=opened.patient_position,
        padding=opened.padding,
        padded=tuple(opened.notes.padded) if any(opened.notes.padded) else (),
    )


def _slice_rows(
    outcome: PassOutcome, geometry: Geometry, scale: GreyScale | None
) -> tuple[Mapping[str, Any], ...]:
    along = geometry.along_mm or (None,) * len(outcome.slices)
    return tuple(
        {
            "number": number,
            "position_mm": position,
            "frame_type": one.frame_type,
            "bytes": one.bytes,
            **one.values,
            **_slice_tissue(one.tissue, scale),
        }
        for number, (one, position) in enumerate(zip(outcome.slices, along, strict=True), start=1)
    )


def _slice_tissue(found: SliceTissue | None, scale: GreyScale | None) -> Mapping[str, Any]:
    assert found is not None, "it was asked for"
    step = 1.0 if scale is None else abs(scale.hu_per_level)
    largest = None if found.largest is None else found.largest * step
    return {"ssim_body": found.ssim[SSIM_AREAS.index(Area.BODY)], "max_error_body": largest}
