"""From a DICOM series to a verified H.264 file."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Series, SkippedFile, SliceHeader, Window, open_series
from ssimrdo.dicom.frames import check_size, choose_window, even, luma_frames, pad_to_even
from ssimrdo.encoding.ahead import ahead
from ssimrdo.encoding.output import atomic_output, check_not_input, check_writable, container_of
from ssimrdo.encoding.parameters import FrameControls, encoder_parameters, frame_controls
from ssimrdo.encoding.result import EncodeResult, SearchInfo, Seconds, Summary, WindowUsed, X264Info
from ssimrdo.encoding.search import Trial, find_smallest, quality
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import BadSliceError, EncoderError, InputError, VerificationError
from ssimrdo.rdo.warmup import load_kernels
from ssimrdo.ssim import SliceQuality, slice_quality
from ssimrdo.video import decoded_luma, packet_writer, sei_units, x264_settings
from ssimrdo.x264 import Encoder, EncoderParameters, Packet, x264_build

MAX_ASPECT_RATIO = 16
"""Of a pixel; decoders drop frames whose shape on the screen they think absurd."""

MAX_PENDING = 8
"""Slices that may wait to be measured; it bounds the memory they hold."""

Progress = Callable[[int, int], None]
"""Called with the number of slices done and the total, in which each encode counts each slice;
while an SSIM is being searched for, the total is an upper bound."""


Offsets = NDArray[np.float64] | None
"""What is added to all quantizer offsets of each slice."""


def encode(
    series: Path | str,
    output: Path | str,
    settings: EncodeSettings | None = None,
    *,
    files: Collection[str] | None = None,
    series_uid: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    note: Mapping[str, Any] | None = None,
) -> EncodeResult:
    """Encode a CT series to H.264 and measure what a decoder will show.

    Slices are read, windowed, analysed, encoded and measured as they come, so memory does
    not grow with their number. The finished file is decoded once and compared with what was
    measured before it gets its name; a sidecar ``OUTPUT.json`` holds settings and results.

    Parameters
    ----------
    series : Path or str
        Folder that is searched recursively, or a single DICOM file.
    output : Path or str
        File to write; ``.mp4``, ``.mkv`` or ``.h264``.
    settings : EncodeSettings, optional
        How to encode; CRF 23 with SSIM-based rate-distortion optimisation by default.
    files : collection of str, optional
        Look at these files only, named relative to ``series``.
    series_uid : str, optional
        Series Instance UID, where the folder holds several CT series.
    skip_bad : bool
        Leave out files that cannot be used instead of refusing the series.
    overwrite : bool
        Replace an existing output.
    progress : callable, optional
        See :data:`Progress`.
    note : mapping, optional
        JSON types that the sidecar holds as well.

    Returns
    -------
    EncodeResult
        Sizes, qualities, times and the files left out.

    Raises
    ------
    InputError
        If the series, an option or the output cannot be used.
    EncoderError
        If x264 fails.
    VerificationError
        If the file does not decode to what was measured.
    OSError
        If the output cannot be written, such as on a full disk.
    """
    started = time.perf_counter()
    output = Path(output)
    settings = settings or EncodeSettings()
    container = container_of(output)
    check_writable(output, overwrite=overwrite)
    clock = _Clock()
    with clock.measure("load"):
        found, skipped = open_series(
            Path(series), files=files, series_uid=series_uid, skip_bad=skip_bad
        )
        check_not_input(output, [header.path for header in found.slices])
        job = _plan(found, settings, container, skip_bad)
        load_kernels(settings.bit_depth)
    with atomic_output(output, overwrite=overwrite) as (temporary, sidecar):
        measured, search = _encode_to(temporary, job, clock, progress)
        with clock.measure("verify"):
            _verify(temporary, job, measured)
        result = _result(output, temporary, job, measured, search, skipped, clock, started)
        _write_sidecar(sidecar, result, settings, note or {})
    return result


@dataclass(frozen=True)
class _Job:
    """One series with everything that its passes share."""

    series: Series
    settings: EncodeSettings
    container: str
    window: Window
    skip_bad: bool


@dataclass
class _Measured:
    """What accumulates while packets come out; slices are keyed by presentation order."""

    headers: bytes = b""
    payload_bytes: int = 0
    qualities: dict[int, SliceQuality] = field(default_factory=dict)
    checksums: dict[int, int] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)


class _Clock:
    """Wall time by step."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - started


def _plan(series: Series, settings: EncodeSettings, container: str, skip_bad: bool) -> _Job:
    check_size(series, series.slices[0].path)
    window = choose_window(series, settings.window)
    return _Job(series, settings, container, window, skip_bad)


def _parameters(
    job: _Job, stats: Path | None = None, *, first_pass: bool = False
) -> EncoderParameters:
    return encoder_parameters(
        job.settings,
        width=even(job.series.columns),
        height=even(job.series.rows),
        sample_aspect_ratio=_sample_aspect_ratio(job.series),
        raw_stream=job.container == "h264",
        stats=stats,
        first_pass=first_pass,
    )


def _sample_aspect_ratio(series: Series) -> Fraction:
    if series.pixel_spacing_mm is None:
        return Fraction(1)
    row_spacing, column_spacing = series.pixel_spacing_mm
    if abs(column_spacing / row_spacing - 1) < 1e-4:
        return Fraction(1)
    ratio = Fraction(column_spacing / row_spacing).limit_denominator(1000)
    if not 1 <= ratio * MAX_ASPECT_RATIO <= MAX_ASPECT_RATIO**2:
        raise InputError(
            f"{series.slices[0].path}: PixelSpacing {row_spacing:g} by {column_spacing:g} mm "
            f"cannot be shown: the larger is at most {MAX_ASPECT_RATIO} times the smaller"
        )
    return ratio


def _encode_to(
    path: Path, job: _Job, clock: _Clock, progress: Progress | None
) -> tuple[_Measured, SearchInfo | None]:
    report = _Reporter(progress, len(job.series.slices))
    if job.settings.min_ssim is not None:
        return _search_to(path, job, job.settings.min_ssim, clock, report)
    if job.settings.bitrate_kbps is not None:
        return _encode_twice(path, job, clock, report), None
    report.expect(1)
    return _encode_pass(path, job, _parameters(job), clock, report), None


def _encode_twice(path: Path, job: _Job, clock: _Clock, report: _Reporter) -> _Measured:
    # Named before it is made, so that no signal finds a folder that nobody removes.
    folder = Path(tempfile.gettempdir(), f"ssimrdo-{secrets.token_hex(8)}")
    report.expect(2)
    try:
        folder.mkdir(mode=0o700)
        stats = folder / "x264_2pass.log"
        first = _parameters(job, stats, first_pass=True)
        _encode_pass(None, job, first, clock, report, measuring=False)
        return _encode_pass(path, job, _parameters(job, stats), clock, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _search_to(
    path: Path, job: _Job, min_ssim: float, clock: _Clock, report: _Reporter
) -> tuple[_Measured, SearchInfo]:
    """Search without writing, then write the best encode, which must come out the same."""
    target = job.settings.target
    assert target is not None, "settings have both or none"

    def encode_at(crf: float, offsets: Offsets, to: Path | None) -> _Measured:
        settings = replace(job.settings, crf=crf, min_ssim=None, target=None)
        there = replace(job, settings=settings)
        return _encode_pass(to, there, _parameters(there), clock, report, slice_offsets=offsets)

    def trial(crf: float, offsets: Offsets, encodes_left: int) -> Trial:
        report.expect(encodes_left + 1)
        measured = encode_at(crf, offsets, None)
        return Trial(crf, offsets, _ssim(measured), measured.payload_bytes)

    found = find_smallest(trial, min_ssim, target)
    best, plain = found.best, found.plain
    report.expect(1)
    measured = encode_at(best.crf, best.offsets, path)
    if measured.payload_bytes != best.payload_bytes or (_ssim(measured) != best.ssim).any():
        raise VerificationError("x264 did not encode the same slices to the same bytes again")
    return measured, SearchInfo(
        min_ssim=min_ssim,
        ssim=quality(best.ssim, target),
        target=target,
        crf=best.crf,
        raised_slices=best.raised,
        encodes=found.encodes + 1,
        payload_bytes=best.payload_bytes,
        plain_crf=plain.crf,
        plain_payload_bytes=plain.payload_bytes,
        saved_percent=100 * (1 - best.payload_bytes / plain.payload_bytes),
    )


def _ssim(measured: _Measured) -> NDArray[np.float64]:
    """Return SSIM per slice in presentation order."""
    return np.array([measured.qualities[index].ssim for index in range(len(measured.qualities))])


class _Reporter:
    """Counts slices over all encodes."""

    def __init__(self, progress: Progress | None, slices: int) -> None:
        self._progress = progress
        self._slices = slices
        self._done = 0
        self._total = 0

    def expect(self, encodes: int) -> None:
        """Set how many encodes are still to come, at most."""
        self._total = self._done + encodes * self._slices

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _encode_pass(
    path: Path | None,
    job: _Job,
    parameters: EncoderParameters,
    clock: _Clock,
    report: Callable[[], None],
    *,
    measuring: bool = True,
    slice_offsets: Offsets = None,
) -> _Measured:
    """Run one pass; without a path its packets are dropped."""
    measured = _Measured()
    sources: dict[int, NDArray[Any]] = {}
    pending: deque[Future[None]] = deque()
    # Measuring lets go of the interpreter lock, so it runs beside reading and encoding.
    with (
        ThreadPoolExecutor(max_workers=1) as measurer,
        _open_encoder(job, parameters) as encoder,
        closing(ahead(_frames(job, measured, slice_offsets, clock))) as frames,
    ):
        measured.headers = encoder.headers()
        if job.container != "h264":
            measured.payload_bytes = len(sei_units(measured.headers))
        writer = (
            nullcontext(_drop)
            if path is None
            else packet_writer(path, job.container, headers=measured.headers, fps=job.settings.fps)
        )
        with writer as write:
            packets = _packets(encoder, frames, sources, clock, report)
            for packet in packets:
                source = sources.pop(packet.pts)
                if not measuring:
                    continue
                with clock.measure("encode"):
                    write(packet)
                pending.append(
                    measurer.submit(_measure, packet, source, job.settings.bit_depth, measured)
                )
                with clock.measure("verify"):
                    while len(pending) > MAX_PENDING:
                        pending.popleft().result()
        with clock.measure("verify"):
            for future in pending:
                future.result()
    return measured


def _open_encoder(job: _Job, parameters: EncoderParameters) -> Encoder:
    try:
        return Encoder(parameters)
    except EncoderError as error:
        if job.settings.x264_params:
            raise InputError(f"--x264-params: {error}") from error
        raise


def _drop(packet: Packet) -> None:
    del packet


def _packets(
    encoder: Encoder,
    frames: Iterable[_Frame],
    sources: dict[int, NDArray[Any]],
    clock: _Clock,
    report: Callable[[], None],
) -> Iterator[Packet]:
    """Yield packets in decoding order; a frame stays in ``sources`` until its packet is out."""
    for index, frame in enumerate(frames):
        sources[index] = frame.luma
        with clock.measure("encode"):
            packet = encoder.encode(frame.padded, pts=index, **frame.controls._asdict())
        report()
        if packet is not None:
            yield packet
    flushed = encoder.flush()
    while True:
        with clock.measure("encode"):
            packet = next(flushed, None)
        if packet is None:
            return
        yield packet


class _Frame(NamedTuple):
    """A slice, ready for x264."""

    luma: NDArray[Any]
    padded: NDArray[Any]
    controls: FrameControls


def _frames(
    job: _Job, measured: _Measured, slice_offsets: Offsets, clock: _Clock
) -> Iterator[_Frame]:
    """Read and analyse the slices."""
    remaining = _luma(job, measured)
    for index in count():
        with clock.measure("load"):
            luma = next(remaining, None)
        if luma is None:
            if index == 0:
                folder = job.series.slices[0].path.parent
                raise InputError(f"{folder}: no slice could be decoded")
            return
        padded = pad_to_even(luma)
        with clock.measure("analyse"):
            controls = frame_controls(job.settings, padded, index)
            if slice_offsets is not None and controls.offsets is not None:
                raised = controls.offsets + np.float32(slice_offsets[index])
                controls = controls._replace(offsets=raised)
        yield _Frame(luma, padded, controls)


def _luma(job: _Job, measured: _Measured) -> Iterator[NDArray[Any]]:
    def note_bad(header: SliceHeader, error: BadSliceError) -> None:
        measured.bad[header.name] = error.reason

    return luma_frames(
        job.series.slices,
        job.window,
        bit_depth=job.settings.bit_depth,
        on_bad=note_bad if job.skip_bad else None,
    )


def _measure(packet: Packet, source: NDArray[Any], bit_depth: int, measured: _Measured) -> None:
    rows, columns = source.shape
    shown = packet.reconstruction
    measured.payload_bytes += len(packet.data)
    measured.qualities[packet.pts] = slice_quality(
        source, shown[:rows, :columns], bit_depth=bit_depth
    )
    measured.checksums[packet.pts] = zlib.crc32(shown.data)


def _verify(path: Path, job: _Job, measured: _Measured) -> None:
    """Decode the file with FFmpeg: it must show the very samples whose quality was measured."""
    frames = 0
    for luma in decoded_luma(path, container=job.container, threads=job.settings.threads):
        if zlib.crc32(luma.data) != measured.checksums.get(frames):
            raise VerificationError(f"slice {frames} decodes to other samples than x264 encoded")
        frames += 1
    if frames != len(measured.checksums):
        raise VerificationError(f"{frames} of {len(measured.checksums)} slices decode")


def _result(
    output: Path,
    temporary: Path,
    job: _Job,
    measured: _Measured,
    search: SearchInfo | None,
    skipped: tuple[SkippedFile, ...],
    clock: _Clock,
    started: float,
) -> EncodeResult:
    settings = job.settings
    qualities = measured.qualities.values()
    bad = tuple(SkippedFile(name, reason) for name, reason in measured.bad.items())
    return EncodeResult(
        output=str(output),
        frames=len(qualities),
        width=even(job.series.columns),
        height=even(job.series.rows),
        bit_depth=settings.bit_depth,
        window=WindowUsed(job.window.center, job.window.width),
        bytes=temporary.stat().st_size,
        kbps=float(measured.payload_bytes * 8 * settings.fps / len(qualities) / 1000),
        ssim=Summary.of(quality.ssim for quality in qualities),
        weighted_ssim=Summary.of(quality.weighted_ssim for quality in qualities),
        psnr=Summary.of(quality.psnr_db for quality in qualities),
        worst_slice=min(measured.qualities, key=lambda shown: measured.qualities[shown].ssim),
        seconds=Seconds(
            **{step: clock.seconds[step] for step in ("load", "analyse", "encode", "verify")},
            total=time.perf_counter() - started,
        ),
        x264=X264Info(x264_build(), x264_settings(measured.headers)),
        skipped=(*skipped, *bad),
        search=search,
    )


def _write_sidecar(
    path: Path, result: EncodeResult, settings: EncodeSettings, note: Mapping[str, Any]
) -> None:
    """Write settings and results; file names of the source stay out, they may name a patient."""
    reasons = Counter(file.reason for file in result.skipped)
    record = {
        **result.as_dict(),
        "output": Path(result.output).name,
        "skipped": [{"reason": reason, "files": files} for reason, files in reasons.items()],
        "settings": settings.as_dict(),
        **note,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
