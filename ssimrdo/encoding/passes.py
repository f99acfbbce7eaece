"""The one loop that encodes: frames in, packets out, measured as they come.

Slices are read and analysed in a thread ahead of the encoder; what comes out is measured in another
beside it. Memory does not grow with the number of slices.
"""

from __future__ import annotations

import operator
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.codecs.base import (
    Codec,
    Packet,
    RateControl,
    Session,
    Steering,
    StreamSettings,
    on_clock,
)
from ssimrdo.encoding.ahead import ahead
from ssimrdo.encoding.views import View
from ssimrdo.errors import EncoderError
from ssimrdo.files import scratch_folder
from ssimrdo.frames import CLOCK_FPS, FrameFormat, FrameSource
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.metrics.tissue import SliceTissue, TissueErrors
from ssimrdo.objective import Objective
from ssimrdo.text import counted
from ssimrdo.video.decode import PacketDecoder
from ssimrdo.video.mux import WritePacket, packet_writer
from ssimrdo.video.nal import settings_units
from ssimrdo.video.timing import rate_writer

MAX_PENDING: Final = 8
"""Slices that may wait to be measured; it bounds the memory they hold."""

SIDE_MULTIPLE: Final = 2
"""Of the sides of coded frames: 4:2:0 pictures are cropped in steps of two samples."""


class Clock:
    """Wall time by step."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - started


@dataclass(frozen=True)
class Target:
    """Where the packets of the last pass go.

    Parameters
    ----------
    container : str
        FFmpeg's name of the container.
    path : Path, optional
        File to write; without one packets are counted and dropped.
    """

    container: str
    path: Path | None = None


@dataclass(frozen=True)
class PassSettings:
    """What all passes over a source have in common.

    Parameters
    ----------
    codec : Codec
        The encoder.
    rate : RateControl
        Its rate control.
    objective : Objective, optional
        What it is steered for; None leaves all to it.
    threads : int
        Its threads; 0 leaves the number to it.
    indices : sequence of QualityIndex, optional
        What the decoded frames are measured with; None measures nothing and decodes nothing.
    shifts : ndarray of shape (slices,), optional
        What is added to each whole frame's quantizer, in steps of the codec's quality scale.
    by_tissue : callable, optional
        Counts the errors of a slice by tissue, where indices are measured; None counts none.
    views : sequence of View
        Windows through which the frames are measured as well, where tissue is counted.
    """

    codec: Codec
    rate: RateControl
    objective: Objective | None = None
    threads: int = 0
    indices: Sequence[QualityIndex] | None = None
    shifts: NDArray[np.float64] | None = None
    by_tissue: Callable[[FramePair], TissueErrors] | None = None
    views: Sequence[View] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of one slice through a window other than its own.

    Parameters
    ----------
    values : mapping
        Quality indices by name.
    tissue : SliceTissue
        What is kept of its errors by tissue.
    """

    values: Mapping[str, float]
    tissue: SliceTissue


@dataclass(frozen=True, slots=True)
class SliceOutcome:
    """What became of one slice.

    Parameters
    ----------
    frame_type : str
        What the codec calls it.
    bytes : int
        Size of its packet.
    values : mapping
        Quality indices by name; empty where nothing was measured.
    checksum : int
        CRC-32 of the frame that a decoder shows; 0 where nothing was measured.
    tissue : SliceTissue, optional
        What is kept of its errors by tissue.
    seen : tuple of Seen
        What it looks like through each view.
    """

    frame_type: str
    bytes: int
    values: Mapping[str, float] = field(default_factory=dict)
    checksum: int = 0
    tissue: SliceTissue | None = None
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class PassOutcome:
    """What came of the last pass.

    Parameters
    ----------
    slices : tuple of SliceOutcome
        In presentation order.
    settings : str
        All settings in effect, as the codec records them.
    payload_bytes : int
        Size of the video without its container.
    tissue : TissueErrors, optional
        Errors by tissue of all slices together, where they were counted.
    seen : tuple of TissueErrors
        The same through each view.
    """

    slices: tuple[SliceOutcome, ...]
    settings: str
    payload_bytes: int
    tissue: TissueErrors | None = None
    seen: tuple[TissueErrors, ...] = ()

    def values(self, index: str) -> NDArray[np.float64]:
        """Return an index of every slice."""
        return np.array([one.values[index] for one in self.slices])


def run_passes(
    source: FrameSource,
    settings: PassSettings,
    target: Target,
    *,
    clock: Clock | None = None,
    advance: Callable[[], None] = lambda: None,
) -> PassOutcome:
    """Encode frames in as many passes as the rate control takes; only the last is written.

    Parameters
    ----------
    source : FrameSource
        The frames; read anew by every pass.
    settings : PassSettings
        How to encode.
    target : Target
        Where the packets go.
    clock : Clock, optional
        Told the time of every step.
    advance : callable
        Called after every frame of every pass; what it raises ends the work.

    Raises
    ------
    InputError
        If an option cannot be used.
    EncoderError
        If the encoder fails.
    OSError
        If the file cannot be written.
    """
    clock = clock or Clock()
    passes = settings.codec.passes(settings.rate)
    with scratch_folder() if passes > 1 else nullcontext() as folder:
        for number in range(1, passes + 1):
            is_last = number == passes
            stream = stream_settings(
                source.format,
                settings,
                target.container,
                pass_number=number,
                stats=None if folder is None else folder / "passes.log",
            )
            outcome = _run_pass(
                source,
                settings if is_last else replace(settings, indices=None),
                stream,
                target if is_last else Target(target.container),
                clock,
                advance,
            )
    return outcome


def stream_settings(
    shown: FrameFormat,
    settings: PassSettings,
    container: str,
    *,
    pass_number: int = 1,
    stats: Path | None = None,
) -> StreamSettings:
    """Return what a session is opened with for frames of a format."""
    return StreamSettings(
        format=replace(shown.padded(SIDE_MULTIPLE), fps=CLOCK_FPS),
        rate=on_clock(settings.rate, shown.fps),
        steered=settings.objective is not None,
        raw=container == settings.codec.syntax,
        threads=settings.threads,
        pass_number=pass_number,
        passes=settings.codec.passes(settings.rate),
        stats=stats,
    )


class _Frame(NamedTuple):
    """A slice as it is shown, and ready for the encoder: padded, in the range that is coded."""

    luma: NDArray[Any]
    coded: NDArray[Any]
    steering: Steering


def _run_pass(
    source: FrameSource,
    settings: PassSettings,
    stream: StreamSettings,
    target: Target,
    clock: Clock,
    advance: Callable[[], None],
) -> PassOutcome:
    codec = settings.codec
    state_rate = rate_writer(codec.syntax, source.format.fps)
    # Measuring lets go of the interpreter lock, so it runs beside reading and encoding.
    with (
        ThreadPoolExecutor(max_workers=1) as measurer,
        codec.open(stream) as session,
        closing(ahead(_frames(source, settings, stream.format, clock))) as frames,
        _writer(target, codec, state_rate(session.headers), source.format.fps) as write,
    ):
        # Muxers are given parameter sets beforehand; elsewhere they come with keyframes.
        in_band = stream.raw or not session.headers
        measuring = _Measuring(source, settings, session, measurer, clock)
        types: dict[int, tuple[str, int]] = {}
        for packet in _packets(session, frames, measuring, clock, advance):
            if packet.pts in types or not 0 <= packet.pts < measuring.expected:
                raise EncoderError(f"{codec.name} gave a packet that is of no slice")
            if in_band and packet.keyframe:
                packet = replace(packet, data=state_rate(packet.data))
            types[packet.pts] = packet.frame_type, len(packet.data)
            with clock.measure("encode"):
                write(packet)
            measuring.take(packet)
        measured = measuring.finish()
    count = len(types)
    if count != measuring.expected:
        raise EncoderError(
            f"{codec.name} gave no packet for {counted(measuring.expected - count, 'slice')}"
        )
    extra = 0 if stream.raw else len(settings_units(session.headers, codec.syntax))
    return PassOutcome(
        slices=tuple(
            SliceOutcome(*types[index], *measured.get(index, ())) for index in range(count)
        ),
        settings=session.settings,
        payload_bytes=extra + sum(size for _, size in types.values()),
        tissue=measuring.tissue,
        seen=measuring.seen,
    )


@contextmanager
def _writer(target: Target, codec: Codec, headers: bytes, fps: Fraction) -> Iterator[WritePacket]:
    if target.path is None:
        yield _drop
        return
    with packet_writer(
        target.path,
        target.container,
        syntax=codec.syntax,
        headers=headers,
        fps=fps,
    ) as write:
        yield write


def _drop(packet: Packet) -> None:
    del packet


def _frames(
    source: FrameSource, settings: PassSettings, coded: FrameFormat, clock: Clock
) -> Iterator[_Frame]:
    """Read and analyse the slices."""
    objective, shifts = settings.objective, settings.shifts
    remaining = iter(source.frames())
    index = 0
    while True:
        with clock.measure("load"):
            luma = next(remaining, None)
        if luma is None:
            return
        source.format.check(luma)
        padded = coded.pad(luma)
        with clock.measure("analyse"):
            steering = Steering(
                None if objective is None else objective.lagrange_ratio(padded, coded),
                settings.codec.role(index),
                0.0 if shifts is None else float(shifts[index]),
            )
        yield _Frame(luma, coded.coded(padded), steering)
        index += 1


def _packets(
    session: Session,
    frames: Iterable[_Frame],
    measuring: _Measuring,
    clock: Clock,
    advance: Callable[[], None],
) -> Iterator[Packet]:
    """Yield packets in decoding order."""
    for index, frame in enumerate(frames):
        measuring.expect(index, frame.luma)
        with clock.measure("encode"):
            packets = list(session.encode(frame.coded, frame.steering, index))
        advance()
        yield from packets
    flushed = iter(session.flush())
    while True:
        with clock.measure("encode"):
            packet = next(flushed, None)
        if packet is None:
            return
        yield packet


class _Measured(NamedTuple):
    """What was measured of a slice, as :class:`SliceOutcome` has it."""

    values: Mapping[str, float]
    checksum: int
    tissue: SliceTissue | None
    seen: tuple[Seen, ...]


class _Measuring:
    """Measures what comes out against what went in, a slice at a time in a thread of its own."""

    def __init__(
        self,
        source: FrameSource,
        settings: PassSettings,
        session: Session,
        measurer: ThreadPoolExecutor,
        clock: Clock,
    ) -> None:
        self.expected = 0
        self.tissue: TissueErrors | None = None
        self.seen: tuple[TissueErrors, ...] = ()
        self._views = settings.views
        self._format, self._padding = source.format, source.padding
        self._indices = settings.indices
        self._by_tissue = settings.by_tissue
        self._decoder = PacketDecoder(
            settings.codec.syntax, session.headers, source.format.bit_depth
        )
        self._measurer = measurer
        self._clock = clock
        self._sources: dict[int, NDArray[Any]] = {}
        self._pending: deque[tuple[int, Future[_Measured]]] = deque()
        self._measured: dict[int, _Measured] = {}

    def expect(self, index: int, luma: NDArray[Any]) -> None:
        """Keep a frame until it comes out."""
        self.expected = index + 1
        if self._indices is not None:
            self._sources[index] = luma

    def take(self, packet: Packet) -> None:
        """Measure what a packet shows."""
        if self._indices is None:
            return
        with self._clock.measure("verify"):
            if packet.reconstruction is not None:
                self._submit(packet.pts, packet.reconstruction)
            else:
                for pts, luma in self._decoder.decode(packet.data, packet.pts):
                    self._submit(pts, luma)
            while len(self._pending) > MAX_PENDING:
                self._collect()

    def finish(self) -> Mapping[int, _Measured]:
        """Return what was measured of every slice."""
        with self._clock.measure("verify"):
            for pts, luma in self._decoder.flush():
                self._submit(pts, luma)
            while self._pending:
                self._collect()
        if self._sources:
            raise EncoderError(f"{counted(len(self._sources), 'slice')} cannot be decoded")
        return self._measured

    def _submit(self, index: int, shown: NDArray[Any]) -> None:
        source = self._sources.pop(index, None)
        if source is None:
            raise EncoderError(f"slice {index + 1} decodes twice")
        given = source, shown, self._padding(index)
        self._pending.append((index, self._measurer.submit(self._measure, *given)))

    def _collect(self) -> None:
        index, future = self._pending.popleft()
        self._measured[index] = future.result()

    def _measure(
        self, source: NDArray[Any], shown: NDArray[Any], padding: NDArray[np.bool_] | None
    ) -> _Measured:
        assert self._indices is not None
        form = self._format
        pair = FramePair(source, form.shown(form.crop(shown)), form, padding)
        values = metrics.measure(pair, self._indices)
        tissue = None
        seen: tuple[Seen, ...] = ()
        if self._by_tissue is not None:
            errors = self._by_tissue(pair)
            # There is one thread that measures.
            self.tissue = errors if self.tissue is None else self.tissue + errors
            tissue = SliceTissue.of(errors)
            seen = self._look(pair, self._indices)
        return _Measured(values, zlib.crc32(np.ascontiguousarray(shown).data), tissue, seen)

    def _look(self, pair: FramePair, indices: Sequence[QualityIndex]) -> tuple[Seen, ...]:
        """Measure a slice through every view."""
        pairs = [view.pair(pair) for view in self._views]
        counted = [view.count(one) for view, one in zip(self._views, pairs, strict=True)]
        known = self.seen
        self.seen = tuple(map(operator.add, known, counted)) if known else tuple(counted)
        return tuple(
            Seen(metrics.measure(one, indices), SliceTissue.of(errors))
            for one, errors in zip(pairs, counted, strict=True)
        )
