"""Making, timing and measuring the encodes of one series after another.

With one job, nothing else runs during an encode, short encodes are timed three times, and the order
of the encoders rotates from point to point, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import logging
import secrets
import statistics
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np

from ssimrdo.codecs.base import check_format
from ssimrdo.comparison import cache
from ssimrdo.comparison.cache import Measurement
from ssimrdo.comparison.clip import Clip, ClipFacts
from ssimrdo.comparison.digests import encoder_digest, index_digest, state_of, tissue_digest
from ssimrdo.comparison.encoders import Contender
from ssimrdo.comparison.measure import measure
from ssimrdo.comparison.payload import payload_bytes
from ssimrdo.comparison.results import EncodeCounts, MachineFacts
from ssimrdo.encoding.passes import Target, run_passes
from ssimrdo.errors import CancelledError, EncoderError, SsimrdoError
from ssimrdo.frames import FrameSource
from ssimrdo.machine import cores, processor
from ssimrdo.metrics import QualityIndex
from ssimrdo.objective import Objective
from ssimrdo.observer import Event, Observer

logger = logging.getLogger(__name__)

REHEARSED_SLICES: Final = 4
REPEATS: Final = 3
ENOUGH_SECONDS: Final = 3.0
"""Other work on the machine disturbs short encodes most; they are cheap to repeat."""

EncodeKey: TypeAlias = tuple[str, str, float]
"""Series, encoder and point on the encoder's own scale."""

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

_Order: TypeAlias = tuple[Contender, float]
_Result: TypeAlias = tuple[tuple[str, float], Measurement]


@dataclass(frozen=True)
class Outcome:
    """What became of one series.

    Parameters
    ----------
    name : str
        What the comparison calls it.
    facts : ClipFacts, optional
        What was encoded; None if it failed.
    measured : mapping
        Measurements by encoder and point.
    error : str, optional
        Why it failed.
    """

    name: str
    facts: ClipFacts | None = None
    measured: Mapping[tuple[str, float], Measurement] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class _Encoded:
    """An encode with what was measured of it so far."""

    order: _Order
    what: str
    key: str
    path: Path
    measurement: Measurement
    is_new: bool


def machine_facts() -> MachineFacts:
    """Return what this machine is."""
    return MachineFacts(processor(), cores())


class Runner:
    """Runs or finds the encodes of one series after another and keeps count.

    Parameters
    ----------
    contenders : tuple of Contender
        All encoders, with as many points each.
    indices : tuple of QualityIndex
        What is measured.
    folder : Path
        Where encodes are kept.
    jobs : int
        Encodes at a time.
    series : int
        How many will be run.
    alone : bool
        Whether nothing else runs on the machine during an encode; short ones are then repeated.
    observer : Observer
        Is told the encode that begins and those that are done, and may cancel.
    """

    def __init__(
        self,
        contenders: tuple[Contender, ...],
        indices: tuple[QualityIndex, ...],
        folder: Path,
        *,
        jobs: int,
        series: int,
        alone: bool,
        observer: Observer,
    ) -> None:
        self.encodes: dict[EncodeKey, Path] = {}
        self._contenders = contenders
        self._indices = indices
        self._digests = {index.name: index_digest(index) for index in indices}
        self._folder = folder
        self._jobs = jobs
        self._alone = alone
        self._observer = observer
        self._per_series = sum(len(contender.points) for contender in contenders)
        self._total = series * self._per_series
        self._lock = threading.Lock()
        self._name = secrets.token_hex(8)
        self._done = self._made = self._found = 0
        self._rehearsed: set[str] = set()

    @property
    def counts(self) -> EncodeCounts:
        """How many encodes were made and found so far."""
        return EncodeCounts(self._made, self._found)

    def run(self, clip: Clip, turn: int) -> Outcome:
        """Encode one clip with all contenders at all points.

        Raises
        ------
        SsimrdoError
            If an encoder fails or does not take such frames.
        CancelledError
            If the observer cancels.
        """
        contenders = tuple(contender.for_clip(clip) for contender in self._contenders)
        for contender in contenders:
            check_format(contender.codec, clip.format, contender.name)
        orders = [
            (contender, contender.points[index])
            for index in range(len(contenders[0].points))
            for contender in _rotated(contenders, index + turn)
        ]
        stop = threading.Event()
        # Encodes that are not in the cache by then go with the stack.
        with ExitStack() as files:
            encode = partial(self._encode, clip, files, stop)
            finish = partial(self._measure, clip)
            if self._jobs == 1:
                measured = dict(finish(encode(order)) for order in orders)
            else:
                measured = dict(in_parallel(encode, finish, orders, self._jobs, stop))
        return Outcome(clip.name, clip.facts, measured)

    def encode_one(self, clip: Clip, encoder: str, point: float) -> float:
        """Encode at one more point and return the bit rate in kbit/s."""
        (contender,) = (one for one in self._contenders if one.name == encoder)
        with ExitStack() as files:
            order = contender.for_clip(clip), point
            encoded = self._encode(clip, files, threading.Event(), order)
            _, measured = self._measure(clip, encoded)
        return measured.kbps(clip.format.fps, len(clip.samples))

    def objective(self, clip: Clip, encoder: str) -> Objective | None:
        """Return what an encoder's bits are spent for in a clip."""
        (contender,) = (one for one in self._contenders if one.name == encoder)
        return contender.for_clip(clip).objective

    def give_up(self, turn: int) -> None:
        """Count a failed series as done."""
        self._done = (turn + 1) * self._per_series

    def take(self, name: str, counts: EncodeCounts, encodes: Mapping[EncodeKey, Path]) -> None:
        """Count a series that a worker is done with."""
        self._done += self._per_series
        self._made += counts.made
        self._found += counts.cached
        self.encodes |= encodes
        self._tell(name)

    def _encode(
        self, clip: Clip, files: ExitStack, stop: threading.Event, order: _Order
    ) -> _Encoded:
        """Make an encode, or find it with what was measured of it before."""
        contender, point = order
        what = f"{clip.name}: {contender.name} at {point:g}"
        self._tell(what)
        key = self._key(clip, contender, point)
        found = cache.load(self._folder, key)
        if found is not None:
            path = cache.payload_path(self._folder, key)
            return _Encoded(order, what, key, path, found, is_new=False)
        logger.info("encoding %s", what)
        if self._alone:
            self._rehearse(clip, contender)
        path = files.enter_context(cache.working_file(self._folder))

        def check() -> None:
            self._observer.check()
            if stop.is_set():
                raise CancelledError

        with _named_errors(order):
            seconds = timed_encode(
                contender.source(clip), contender, point, path, repeat=self._alone, check=check
            )
            measurement = Measurement(payload_bytes(path), seconds, self._alone, self._name)
        return _Encoded(order, what, key, path, measurement, is_new=True)

    def _key(self, clip: Clip, contender: Contender, point: float) -> str:
        # Times are only comparable on one machine.
        assert not contender.takes_hu or clip.stored is not None, "it was read for it"
        return cache.key_of(
            clip.stored.digest if contender.takes_hu and clip.stored else clip.digest,
            clip.format,
            state_of(contender.codec),
            contender.codec.version,
            _state_of(contender.objective, clip),
            contender.describe(clip.format, point),
            contender.mode,
            point,
            contender.threads,
            encoder_digest(contender.codec, contender.objective),
            machine_facts(),
        )

    def _measure(self, clip: Clip, encoded: _Encoded) -> _Result:
        """Measure what is not yet known of an encode, and put it into the cache."""
        contender, point = encoded.order
        measurement = encoded.measurement
        missing = [
            index
            for index in self._indices
            if measurement.measured_by.get(index.name) != self._digests[index.name]
        ]
        tissue_by = tissue_digest(clip.count.scale)
        by_tissue = measurement.tissue_by != tissue_by
        if encoded.is_new or missing or by_tissue:
            self._observer.check()
            with _named_errors(encoded.order):
                workers = None if self._alone else 1
                values, tissue = measure(
                    encoded.path, clip, missing, by_tissue=by_tissue, workers=workers
                )
            measurement = measurement.with_values(values, self._digests)
            if tissue is not None:
                measurement = replace(measurement, tissue=tissue, tissue_by=tissue_by)
            cache.store(self._folder, encoded.key, encoded.path, measurement)
        with self._lock:
            self._made += encoded.is_new
            self._found += not encoded.is_new
            self._done += 1
            path = cache.payload_path(self._folder, encoded.key)
            self.encodes[clip.name, contender.name, point] = path
        self._tell(encoded.what)
        return (contender.name, point), measurement

    def _tell(self, what: str) -> None:
        self._observer.check()
        # Encodes beyond those of the comparison are for the pictures of the report.
        is_extra = self._done > self._total
        done = min(self._done, self._total)
        self._observer.tell(Event(done, self._total, "writing the report" if is_extra else what))

    def _rehearse(self, clip: Clip, contender: Contender) -> None:
        """Let a library set itself up and the clip's pages be mapped before anything is timed."""
        if clip.digest not in self._rehearsed:
            self._rehearsed.add(clip.digest)
            clip.samples.max()
        if contender.name in self._rehearsed:
            return
        self._rehearsed.add(contender.name)
        head = contender.source(clip, REHEARSED_SLICES)
        # If this fails, so does the encode proper, and its message counts.
        with suppress(SsimrdoError):
            run_passes(
                head, contender.pass_settings(contender.points[0]), Target(contender.container)
            )


def timed_encode(
    source: FrameSource,
    contender: Contender,
    point: float,
    path: Path,
    *,
    repeat: bool,
    check: Callable[[], None],
) -> float:
    """Encode and return the wall seconds, if asked for the median of a few short encodes.

    Parameters
    ----------
    source : FrameSource
        The slices.
    contender, point
        How to encode.
    path : Path
        File to write.
    repeat : bool
        Whether to time short encodes more than once.
    check : callable
        Called after every slice; what it raises ends the work.
    """
    times: list[float] = []
    while not times or (repeat and len(times) < REPEATS and sum(times) < ENOUGH_SECONDS):
        started = time.perf_counter()
        run_passes(
            source, contender.pass_settings(point), Target(contender.container, path), advance=check
        )
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def in_parallel(
    first: Callable[[A], B],
    then: Callable[[B], C],
    items: Sequence[A],
    jobs: int,
    stop: threading.Event,
) -> list[C]:
    """Do two steps for each item in threads of their own, so that neither waits for the other.

    Parameters
    ----------
    first, then : callable
        The steps, encoding and measuring, which let go of the interpreter lock.
    items : sequence
        Arguments of the first.
    jobs : int
        How many of each step run at a time.
    stop : threading.Event
        Set once a step has failed, to end those that run.
    """
    with ThreadPoolExecutor(jobs) as encoders, ThreadPoolExecutor(jobs) as measurers:

        def work(item: A) -> Future[C]:
            return measurers.submit(then, first(item))

        try:
            begun = [encoders.submit(work, item) for item in items]
            encoded = [future.result() for future in as_completed(begun)]
            return [future.result() for future in as_completed(encoded)]
        except BaseException:
            stop.set()
            for pool in (encoders, measurers):
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def _state_of(objective: Objective | None, clip: Clip) -> str:
    """Return a text that tells objectives apart which only differ in what they were made with."""
    if objective is None:
        return ""
    ratios = objective.lagrange_ratio(np.asarray(clip.samples[len(clip.samples) // 2]), clip.format)
    return f"{objective.name} {zlib.crc32(np.ascontiguousarray(ratios).data)}"


def _rotated(contenders: tuple[Contender, ...], turn: int) -> tuple[Contender, ...]:
    start = turn % len(contenders)
    return contenders[start:] + contenders[:start]


@contextmanager
def _named_errors(order: _Order) -> Iterator[None]:
    """Say in errors which encoder they are of."""
    contender, point = order
    try:
        yield
    except CancelledError:
        raise
    except SsimrdoError as error:
        raise EncoderError(f"{contender.name} at {point:g}: {error}") from error
