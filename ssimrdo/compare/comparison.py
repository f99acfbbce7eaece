"""Comparison of encoders on CT series: rate-quality curves, BD-rates and speed.

A series is read once into a raw file. Every encoder encodes it at every point, every encode is
decoded and measured the same way, and what was measured is kept in a cache. With one job, nothing
else runs during an encode, short encodes are timed three times, and the order of the encoders
rotates from point to point, so that a machine that slows down slows all of them.

With an executor every series is one call to it: a worker reads and encodes the series, and returns
what was measured, not pixels.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from ssimrdo import defaults
from ssimrdo.bd.deltas import MINIMUM_POINTS
from ssimrdo.compare import cache as store
from ssimrdo.compare.clip import Clip, load_clip
from ssimrdo.compare.encoders import (
    Contender,
    Mode,
    Rate,
    check_points,
    make_anchor,
    make_test,
    versions,
)
from ssimrdo.compare.measure import METRICS, decoded_slices, load_measures, measure, payload_bytes
from ssimrdo.compare.record import Outcome, build_report
from ssimrdo.dicom import Window
from ssimrdo.dicom.read.header import printable
from ssimrdo.encoding import EncodeSettings
from ssimrdo.errors import BadSliceError, EncoderError, InputError, SsimrdoError
from ssimrdo.executors import Executor, as_finished, explain, quieten

logger = logging.getLogger("ssimrdo")

DEFAULT_POINTS: dict[str, tuple[float, ...]] = {"crf": (18, 23, 28, 33), "qp": (22, 27, 32, 37)}
MAX_JOBS = 64
_REHEARSED_SLICES = 4
_REPEATS = 3
_ENOUGH_SECONDS = 3.0
"""Other work on the machine disturbs short encodes most; they are cheap to repeat."""

_MEASURED_BY = ("metrics", "video", "compare/measure.py")

Progress = Callable[[int, int, str], None]
"""Called with encodes done, their total, and the encode that begins."""


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and how.

    Parameters
    ----------
    mode : {"crf", "qp", "bitrate"}
        Rate control of all encoders.
    points : tuple of float
        At least four, on x264's scale or in kbit/s; see :mod:`ssimrdo.compare.encoders`.
        Empty for the mode's default.
    preset : str
        Preset of x264 and x265 where an anchor's name carries none.
    anchors : tuple of str
        Names as in :data:`ssimrdo.compare.encoders.FAMILIES`; the first is the reference.
    tests : tuple of str
        Variants of ssimrdo, such as ``ssim,strength=0.3``.
    metrics : tuple of str
        Some of :data:`ssimrdo.compare.measure.METRICS`.
    window : Window, optional
        Window; each header's own when None.
    fps : Fraction
        Slices per second.
    bit_depth : {8, 10}
        Bits per luma sample.
    slices : int, optional
        Take only so many slices of each series, from the first on.
    threads : int
        Threads of every encoder; 0 leaves the number to each.
    jobs : int
        Encodes at a time; with more than one, times are those of a loaded machine.

    Raises
    ------
    InputError
        If a value is out of range or given twice.
    """

    mode: Mode = "crf"
    points: tuple[float, ...] = ()
    preset: str = defaults.PRESET
    anchors: tuple[str, ...] = ("x264",)
    tests: tuple[str, ...] = ("ssim",)
    metrics: tuple[str, ...] = METRICS
    window: Window | None = None
    fps: Fraction = Fraction(defaults.FPS)
    bit_depth: Literal[8, 10] = defaults.BIT_DEPTH
    slices: int | None = None
    threads: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ("crf", "qp", "bitrate"):
            raise InputError(f"--mode {self.mode!r} is unknown: use one of crf, qp, bitrate")
        if not self.points:
            if self.mode not in DEFAULT_POINTS:
                raise InputError("--mode bitrate needs --points in kbit/s, four or more")
            object.__setattr__(self, "points", DEFAULT_POINTS[self.mode])
        if len(self.points) < MINIMUM_POINTS:
            raise InputError(
                f"--points: {len(self.points)} given, but a curve needs at least {MINIMUM_POINTS}"
            )
        check_points(self.rate)
        if not self.anchors:
            raise InputError("--anchor: at least one is needed, as the reference")
        for option, values, known in (
            ("--anchor", self.anchors, None),
            ("--test", self.tests, None),
            ("--metric", self.metrics, METRICS),
        ):
            for index, value in enumerate(values):
                if known is not None and value not in known:
                    raise InputError(
                        f"{option} {value!r} is unknown: use one of {', '.join(known)}"
                    )
                if value in values[:index]:
                    raise InputError(f"{option} {value} is given twice")
        if not self.metrics:
            raise InputError("--metric: at least one is needed")
        # These are checked as for one encode.
        EncodeSettings(
            preset=self.preset, bit_depth=self.bit_depth, fps=self.fps, threads=self.threads
        )
        if self.slices is not None and self.slices < 1:
            raise InputError(f"--slices {self.slices} is out of range: 1 or more")
        if not 1 <= self.jobs <= MAX_JOBS:
            raise InputError(f"--jobs {self.jobs} is out of range: 1 to {MAX_JOBS}")

    @property
    def rate(self) -> Rate:
        """What all encoders have in common."""
        return Rate(self.mode, self.points, self.preset, self.bit_depth, self.threads)


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, while its frames and encodes are still on disk.

    Parameters
    ----------
    report : dict
        Everything measured, as JSON types.
    encodes : dict
        Path of every encode by series, encoder and point on the encoder's own scale. Workers of
        an executor have put them into the cache's folder, which this machine may not see; without
        such a folder there is none.
    """

    report: dict[str, Any]
    encodes: dict[tuple[str, str, float], Path]
    _clip: Callable[[str], Clip] = field(repr=False)
    _encode: Callable[[str, str, float], float] = field(repr=False)

    def encode(self, series: str, encoder: str, point: float) -> float:
        """Encode at one more point, or find that encode; return its bit rate in kbit/s."""
        return self._encode(series, encoder, point)

    def frames(self, series: str) -> NDArray[Any]:
        """Return the source slices of a series, mapped from disk.

        Raises
        ------
        SsimrdoError
            If a worker has read the series and this machine cannot.
        """
        return self._clip(series).frames

    def decoded(self, series: str, encoder: str, point: float) -> Iterator[NDArray[Any]]:
        """Return an iterator over the decoded slices of an encode, in the size of the source.

        Raises
        ------
        SsimrdoError
            If a worker has made the encode and this machine does not see it.
        """
        path = self.encodes.get((series, encoder, point))
        if path is None or not path.exists():
            raise InputError(
                "the encodes are not on this machine: give --cache-dir a folder that it shares "
                "with the workers"
            )
        return decoded_slices(path, self._clip(series))


@contextmanager
def compare(
    series: Sequence[Path | str],
    settings: CompareSettings | None = None,
    *,
    series_uid: str | None = None,
    skip_bad: bool = False,
    cache_folder: Path | None = None,
    cache_limit_bytes: int = store.DEFAULT_LIMIT_BYTES,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Iterator[Comparison]:
    """Encode series with every encoder at every point and compare the curves.

    Parameters
    ----------
    series : sequence of Path or str
        Folders, each with one CT series, or DICOM files.
    settings : CompareSettings, optional
        ssimrdo against x264 at CRF by default.
    series_uid : str, optional
        Series Instance UID, where a folder holds several CT series; for a single folder.
    skip_bad : bool
        Leave out files that cannot be used instead of failing their series.
    cache_folder : Path, optional
        Where encodes are kept; None keeps them until the block ends. With an executor, a folder
        that the workers see too.
    cache_limit_bytes : int
        When the block ends, the encodes that were used longest ago go until no more is kept.
    progress : callable, optional
        See :data:`Progress`; with an executor, called as each series is finished.
    executor : Executor, optional
        What measures the series, one call for each, such as
        :class:`ssimrdo.executors.DaskExecutor`; it stays open. Workers read the series from the
        same paths. Times are marked as those of a loaded machine. Sizes are those of a run on this
        machine if the encoders' threads are as many: with 0, each takes what its machine has.

    Yields
    ------
    Comparison
        Valid inside the block.

    Raises
    ------
    InputError
        If an option cannot be used, or no series can.
    SsimrdoError
        If the only series cannot be compared, or the executor is lost. Of several series, one
        that fails, or kills its worker, is in the report.
    OSError
        If temporary files cannot be written.
    """
    settings = settings or CompareSettings()
    if not series:
        raise InputError("at least one series is needed")
    if series_uid is not None and len(series) > 1:
        raise InputError("a series UID goes with one folder: compare the folders one by one")
    contenders = make_contenders(settings)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssimrdo-")))
        folder = store.make_folder(cache_folder or work / "encodes")
        stack.callback(store.trim, folder, cache_limit_bytes)
        load_measures(settings.bit_depth)
        alone = executor is None and settings.jobs == 1
        runner = _Runner(settings, contenders, folder, len(series), progress, alone=alone)
        paths = dict(zip(unique_names(series), map(Path, series), strict=True))
        clip_of = _clip_reader(paths, work, settings, series_uid=series_uid, skip_bad=skip_bad)
        if executor is None:
            outcomes, where = _run_here(runner, clip_of, paths), machine()
        else:
            jobs = [
                SeriesJob(
                    path.absolute(),
                    name,
                    turn,
                    settings,
                    series_uid,
                    skip_bad,
                    None if cache_folder is None else folder,
                    versions(),
                )
                for turn, (name, path) in enumerate(paths.items())
            ]
            outcomes, where = _run_on(executor, runner, jobs)
        if all(outcome.error for outcome in outcomes):
            reasons = "; ".join(f"{outcome.name}: {outcome.error}" for outcome in outcomes)
            raise InputError(f"no series can be compared: {reasons}")
        report = build_report(
            outcomes,
            contenders,
            mode=settings.mode,
            preset=settings.preset,
            fps=settings.fps,
            bit_depth=settings.bit_depth,
            metrics=settings.metrics,
            machine=where,
            encodes={"made": runner.made, "cached": runner.found},
        )

        def clip_here(name: str) -> Clip:
            try:
                return clip_of(name)
            except SsimrdoError as error:
                raise SsimrdoError(_without_paths(error, paths[name], name)) from None

        def encode(name: str, encoder: str, point: float) -> float:
            return runner.encode_one(clip_here(name), encoder, point)

        yield Comparison(report, runner.encodes, clip_here, encode)


def make_contenders(settings: CompareSettings) -> tuple[Contender, ...]:
    """Return all encoders of a comparison, the reference first.

    Raises
    ------
    InputError
        If a name is unknown, two mean the same, or PyAV lacks an encoder.
    """
    reference, *anchors = settings.anchors
    contenders = [
        make_anchor(reference, settings.rate, "reference"),
        *(make_anchor(name, settings.rate) for name in anchors),
        *(make_test(text, settings.rate) for text in settings.tests),
    ]
    for index, contender in enumerate(contenders):
        for other in contenders[:index]:
            if contender.settings == other.settings:
                raise InputError(f"{other.name} and {contender.name} are the same encoder")
    return tuple(contenders)


def unique_names(series: Sequence[Path | str]) -> list[str]:
    """Return the last component of every path, with a number where two are the same."""
    names: list[str] = []
    for path in map(Path, series):
        base = printable(path.name if path.name not in ("", "..") else path.resolve().name)
        base = base or "series"
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


@cache
def machine() -> dict[str, Any]:
    """Return the processor's name and the number of processors this process may use."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0))}


_Task: TypeAlias = tuple[Contender, float]
_Measured: TypeAlias = tuple[tuple[str, float], store.Measurement]


@dataclass(frozen=True)
class _Encoded:
    """An encode to be measured, or what was measured of it before."""

    task: _Task
    what: str
    key: str
    measurement: store.Measurement | None = None
    path: Path = Path()
    seconds: float = 0.0


class _Runner:
    """Runs or finds the encodes of one series after another and keeps count.

    Alone, nothing else runs on the machine during an encode, and short ones are repeated.
    """

    def __init__(
        self,
        settings: CompareSettings,
        contenders: tuple[Contender, ...],
        folder: Path,
        series: int,
        progress: Progress | None,
        *,
        alone: bool,
    ) -> None:
        self.settings = settings
        self.alone = alone
        self.contenders = contenders
        self.folder = folder
        self.per_series = len(contenders) * len(settings.points)
        self.total = series * self.per_series
        self.progress = progress
        self.lock = threading.Lock()
        self.name = secrets.token_hex(8)
        self.done = self.made = self.found = 0
        self.rehearsed: set[str] = set()
        self.encodes: dict[tuple[str, str, float], Path] = {}

    def run(self, clip: Clip, turn: int) -> Outcome:
        """Encode one clip with all contenders at all points."""
        tasks = [
            (contender, contender.points[index])
            for index in range(len(self.settings.points))
            for contender in _rotated(self.contenders, index + turn)
        ]
        # Encodes that are not in the cache by then go with the stack.
        with ExitStack() as files:
            encode = partial(self._encode, clip, files)
            measure = partial(self._measure, clip)
            if self.settings.jobs == 1:
                measured = dict(measure(encode(task)) for task in tasks)
            else:
                measured = dict(_in_parallel(encode, measure, tasks, self.settings.jobs, clip))
        return Outcome(clip.name, clip=clip.facts, measured=measured)

    def encode_one(self, clip: Clip, encoder: str, point: float) -> float:
        """Encode at one more point and return the bit rate in kbit/s."""
        (contender,) = (one for one in self.contenders if one.name == encoder)
        with ExitStack() as files:
            _, measured = self._measure(clip, self._encode(clip, files, (contender, point)))
        return measured.kbps(clip.fps, len(clip.frames))

    def give_up(self, turn: int) -> None:
        """Count a failed series as done."""
        self.done = (turn + 1) * self.per_series

    def take(self, result: SeriesResult) -> None:
        """Count a series that a worker is done with."""
        self.done += self.per_series
        self.made += result.made
        self.found += result.found
        self.encodes |= result.encodes
        self._report(result.outcome.name)

    def _encode(self, clip: Clip, files: ExitStack, task: _Task) -> _Encoded:
        """Make an encode, or find what was measured of it before."""
        contender, point = task
        what = f"{clip.name}: {contender.name} at {point:g}"
        self._report(what)
        # Times are only comparable on one machine.
        key = store.key_of(
            clip.digest,
            clip.fps,
            clip.bit_depth,
            contender.settings,
            contender.build,
            point,
            machine(),
            store.code_digest(*_MEASURED_BY),
        )
        measurement = store.load(self.folder, key)
        if measurement is not None:
            return _Encoded(task, what, key, measurement)
        logger.info("encoding %s", what)
        if self.alone:
            self._rehearse(clip, contender)
        path = files.enter_context(store.working_file(self.folder))
        with _named_errors(task):
            seconds = _timed_encode(contender, clip, point, path, repeat=self.alone)
        return _Encoded(task, what, key, path=path, seconds=seconds)

    def _measure(self, clip: Clip, encoded: _Encoded) -> _Measured:
        """Measure an encode and put it into the cache, unless that was done before."""
        contender, point = encoded.task
        measurement = encoded.measurement
        if measurement is None:
            with _named_errors(encoded.task):
                measurement = store.Measurement(
                    bytes=payload_bytes(encoded.path),
                    seconds=encoded.seconds,
                    alone=self.alone,
                    run=self.name,
                    per_slice=measure(encoded.path, clip, workers=None if self.alone else 1),
                )
            store.store(self.folder, encoded.key, encoded.path, measurement)
        made = int(encoded.measurement is None)
        with self.lock:
            self.made += made
            self.found += 1 - made
            self.done += 1
            self.encodes[clip.name, contender.name, point] = store.payload_path(
                self.folder, encoded.key
            )
        self._report(encoded.what)
        return (contender.name, point), measurement

    def _report(self, what: str) -> None:
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total, what)

    def _rehearse(self, clip: Clip, contender: Contender) -> None:
        """Let a library set itself up and the clip's pages be mapped before anything is timed."""
        if clip.digest not in self.rehearsed:
            self.rehearsed.add(clip.digest)
            clip.samples.max()
        if contender.name in self.rehearsed:
            return
        self.rehearsed.add(contender.name)
        head = replace(clip, samples=clip.samples[:_REHEARSED_SLICES])
        # If this fails, so does the encode proper, and its message counts.
        with store.working_file(self.folder) as path, suppress(SsimrdoError):
            contender.encode(head, contender.points[0], path)


def _clip_reader(
    paths: Mapping[str, Path],
    work: Path,
    settings: CompareSettings,
    *,
    series_uid: str | None,
    skip_bad: bool,
) -> Callable[[str], Clip]:
    """Return a function that reads a series, by its name, once."""
    names = list(paths)

    @cache
    def clip_of(name: str) -> Clip:
        return load_clip(
            paths[name],
            name,
            work / f"{names.index(name)}.raw",
            window=settings.window,
            bit_depth=settings.bit_depth,
            fps=settings.fps,
            limit=settings.slices,
            series_uid=series_uid,
            skip_bad=skip_bad,
        )

    return clip_of


def _run_here(
    runner: _Runner, clip_of: Callable[[str], Clip], paths: Mapping[str, Path]
) -> list[Outcome]:
    """Measure one series after another in this process."""
    outcomes = []
    for turn, (name, path) in enumerate(paths.items()):
        try:
            outcomes.append(runner.run(clip_of(name), turn))
        except SsimrdoError as error:
            if len(paths) == 1:
                raise
            logger.warning("%s is left out: %s", name, error)
            outcomes.append(Outcome(name, error=_without_paths(error, path, name)))
            runner.give_up(turn)
    return outcomes


@dataclass(frozen=True)
class SeriesJob:
    """One series to be measured by a worker.

    Parameters
    ----------
    path : Path
        Folder or file, absolute.
    name : str
        What the comparison calls it.
    turn : int
        Which of the encoders begins.
    settings : CompareSettings
        What is compared.
    series_uid, skip_bad
        As in :func:`compare`.
    cache_folder : Path or None
        Where encodes are kept, absolute; None keeps none.
    versions : dict
        What the results may depend on, to be the same on the worker.
    """

    path: Path
    name: str
    turn: int
    settings: CompareSettings
    series_uid: str | None
    skip_bad: bool
    cache_folder: Path | None
    versions: dict[str, str]


@dataclass(frozen=True)
class SeriesResult:
    """What a worker tells of a series.

    Parameters
    ----------
    outcome : Outcome
        What was measured, or why that failed.
    encodes : dict
        Paths in the cache's folder, as in :class:`Comparison`.
    made, found : int
        Encodes made, and found in the cache.
    machine : dict
        The worker's, see :func:`machine`; empty if the series failed.
    """

    outcome: Outcome
    encodes: Mapping[tuple[str, str, float], Path] = field(default_factory=dict)
    made: int = 0
    found: int = 0
    machine: Mapping[str, Any] = field(default_factory=dict)


def run_series(job: SeriesJob) -> SeriesResult:
    """Measure all encoders on one series; fit for any executor.

    Parameters
    ----------
    job : SeriesJob
        Which series, and how.

    Returns
    -------
    SeriesResult
        What came of it; a series that fails is a result as well.
    """
    quieten()
    try:
        return _run_series(job)
    except SsimrdoError as error:
        reason = _without_paths(error, job.path, job.name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except Exception as error:
        # Its message may quote what stands in the DICOM header.
        reason = f"unexpected {type(error).__name__}; please report it"
    return SeriesResult(Outcome(job.name, error=reason))


def _run_series(job: SeriesJob) -> SeriesResult:
    settings = job.settings
    for library, here in versions().items():
        if here != job.versions.get(library):
            raise InputError(
                f"the worker has {library} {here}, the comparison has "
                f"{job.versions.get(library, 'none')}: install the same on both"
            )
    contenders = make_contenders(settings)
    load_measures(settings.bit_depth)
    with tempfile.TemporaryDirectory(prefix="ssimrdo-") as name:
        work = Path(name)
        folder = store.make_folder(job.cache_folder or work / "encodes")
        runner = _Runner(settings, contenders, folder, 1, None, alone=False)
        clip_of = _clip_reader(
            {job.name: job.path},
            work,
            settings,
            series_uid=job.series_uid,
            skip_bad=job.skip_bad,
        )
        clip = clip_of(job.name)
        # It stays mapped; workers that are killed leave nothing large behind.
        for raw in work.glob("*.raw"):
            raw.unlink()
        outcome = runner.run(clip, job.turn)
    encodes = {} if job.cache_folder is None else runner.encodes
    return SeriesResult(outcome, encodes, runner.made, runner.found, machine())


def _run_on(
    executor: Executor, runner: _Runner, jobs: Sequence[SeriesJob]
) -> tuple[list[Outcome], dict[str, Any]]:
    """Have workers measure the series; return the outcomes in order and the workers' machines."""
    results: dict[str, SeriesResult] = {}
    for job, future in as_finished(executor, run_series, jobs):
        result = _result_of(job, future)
        if result.outcome.error:
            logger.warning("%s is left out: %s", job.name, result.outcome.error)
        runner.take(result)
        results[job.name] = result
    machines = _joined([one.machine for one in results.values() if one.machine])
    if runner.settings.threads == 0 and isinstance(machines.get("cores"), str):
        logger.warning(
            "the workers have %s cores, and encoders that choose their number of threads make "
            "other sizes on each: give --threads",
            machines["cores"],
        )
    return [results[job.name].outcome for job in jobs], machines


def _result_of(job: SeriesJob, future: Future[SeriesResult]) -> SeriesResult:
    try:
        return future.result()
    except CancelledError:
        raise SsimrdoError(
            "the cluster was lost; the same command goes on with what is in the cache"
        ) from None
    except Exception as error:
        reason = explain(error) or f"unexpected {type(error).__name__}; please report it"
        return SeriesResult(Outcome(job.name, error=reason))


def _joined(machines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one description of several machines, with all values where they differ."""
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in machines for key in one):
        values = sorted({one[key] for one in machines})
        joined[key] = values[0] if len(values) == 1 else " or ".join(map(str, values))
    return joined


def _timed_encode(
    contender: Contender, clip: Clip, point: float, path: Path, *, repeat: bool
) -> float:
    """Encode and return the wall seconds, if asked for the median of a few short encodes."""
    times: list[float] = []
    while not times or (repeat and len(times) < _REPEATS and sum(times) < _ENOUGH_SECONDS):
        started = time.perf_counter()
        contender.encode(clip, point, path)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _rotated(contenders: tuple[Contender, ...], turn: int) -> tuple[Contender, ...]:
    start = turn % len(contenders)
    return contenders[start:] + contenders[:start]


def _in_parallel(
    encode: Callable[[_Task], _Encoded],
    measure: Callable[[_Encoded], _Measured],
    tasks: Sequence[_Task],
    jobs: int,
    clip: Clip,
) -> list[_Measured]:
    """Encode and measure in threads of their own, so that neither waits for the other.

    Encoders, decoders and metrics let go of the interpreter lock.
    """
    with ThreadPoolExecutor(jobs) as encoders, ThreadPoolExecutor(jobs) as measurers:

        def work(task: _Task) -> Future[_Measured]:
            return measurers.submit(measure, encode(task))

        try:
            begun = [encoders.submit(work, task) for task in tasks]
            encoded = [future.result() for future in as_completed(begun)]
            return [future.result() for future in as_completed(encoded)]
        except BaseException:
            clip.cancelled.set()
            for pool in (encoders, measurers):
                pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _named_errors(task: _Task) -> Iterator[None]:
    """Say in errors which encoder they are of."""
    contender, point = task
    try:
        yield
    except SsimrdoError as error:
        raise EncoderError(f"{contender.name} at {point:g}: {error}") from error


def _without_paths(error: SsimrdoError, path: Path, name: str) -> str:
    """Return a message for the report, which names neither files nor UIDs: they may tell whom."""
    if isinstance(error, BadSliceError):
        return f"a slice cannot be used: {error.reason}"
    text = str(error).replace(str(path), name)
    return text if "series UID" not in text else f"{name}: holds several CT series"
