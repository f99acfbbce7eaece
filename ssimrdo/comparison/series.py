"""One series of a comparison: here, or as a call that any executor can run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError as LostError
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ssimrdo.comparison.cache import make_folder
from ssimrdo.comparison.clip import Clip, load_clip
from ssimrdo.comparison.encoders import Contender, versions
from ssimrdo.comparison.encodes import EncodeKey, Outcome, Runner, machine_facts
from ssimrdo.comparison.results import EncodeCounts, MachineFacts
from ssimrdo.comparison.settings import CompareSettings
from ssimrdo.encoding.warmup import load_kernels
from ssimrdo.errors import (
    BadSliceError,
    CancelledError,
    InputError,
    SeveralSeriesError,
    SsimrdoError,
    cause_of,
)
from ssimrdo.executors import as_finished, explain
from ssimrdo.files import scratch_folder
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import QualityIndex
from ssimrdo.observer import Observer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeriesOptions:
    """Which slices of each series, and how they are shown.

    Parameters
    ----------
    settings : CompareSettings
        What is compared.
    series_uid : str, optional
        Series Instance UID, where a folder holds several CT series.
    skip_bad : bool
        Leave out files that cannot be used instead of refusing the series.
    with_hu : bool
        Whether an encoder takes the slices in HU.
    """

    settings: CompareSettings
    series_uid: str | None = None
    skip_bad: bool = False
    with_hu: bool = False

    def load(
        self,
        path: Path,
        name: str,
        raw: Path,
        warn: Callable[[str], object] = logger.warning,
    ) -> Clip:
        """Read a series into a raw file; errors as :func:`ssimrdo.comparison.clip.load_clip`."""
        return load_clip(
            path,
            name,
            raw,
            window=self.settings.window,
            bit_depth=self.settings.bit_depth,
            fps=self.settings.fps,
            limit=self.settings.slices,
            series_uid=self.series_uid,
            skip_bad=self.skip_bad,
            with_hu=self.with_hu,
            warn=warn,
        )


def clip_reader(
    paths: Mapping[str, Path], work: Path, options: SeriesOptions
) -> Callable[[str], Clip]:
    """Return a function that reads a series, by its name, once."""
    names = list(paths)

    @cache
    def clip_of(name: str) -> Clip:
        return options.load(paths[name], name, work / f"{names.index(name)}.raw")

    return clip_of


def load_measures(
    settings: CompareSettings,
    contenders: Iterable[Contender],
    indices: Sequence[QualityIndex],
) -> None:
    """Load or compile all kernels, so that no encode is timed while this happens."""
    # Of the format, the type of the samples counts.
    frames = FrameFormat(1, 1, settings.bit_depth, settings.fps)
    for objective in dict.fromkeys(contender.objective for contender in contenders):
        load_kernels(frames, objective, indices)


def run_here(
    runner: Runner, clip_of: Callable[[str], Clip], paths: Mapping[str, Path]
) -> list[Outcome]:
    """Measure one series after another in this process.

    Raises
    ------
    CancelledError
        If the observer cancels.
    SsimrdoError
        If the only series fails; of several, one that fails is an outcome as well.
    """
    outcomes = []
    for turn, (name, path) in enumerate(paths.items()):
        try:
            outcomes.append(runner.run(clip_of(name), turn))
        except CancelledError:
            raise
        except SsimrdoError as error:
            if len(paths) == 1:
                raise
            logger.warning("%s is left out: %s", name, _said(error))
            outcomes.append(Outcome(name, error=without_paths(error, path, name)))
            runner.give_up(turn)
    return outcomes


@dataclass(frozen=True)
class SeriesTask:
    """One series to be measured by a worker.

    Parameters
    ----------
    path : Path
        Folder or file, absolute.
    name : str
        What the comparison calls it.
    turn : int
        Which of the encoders begins.
    options : SeriesOptions
        What is compared, and on which slices.
    contenders : tuple of Contender
        The encoders, with codecs and objectives that the worker need not have registered.
    indices : tuple of QualityIndex
        What is measured, likewise.
    cache_folder : Path or None
        Where encodes are kept, absolute; None keeps none.
    versions : mapping of str to str
        What the results may depend on, to be the same on the worker.
    """

    path: Path
    name: str
    turn: int
    options: SeriesOptions
    contenders: tuple[Contender, ...]
    indices: tuple[QualityIndex, ...]
    cache_folder: Path | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class SeriesReply:
    """What a worker tells of a series.

    Parameters
    ----------
    outcome : Outcome
        What was measured, or why that failed.
    encodes : mapping
        Paths in the cache's folder by series, encoder and point.
    counts : EncodeCounts
        Encodes made, and found in the cache.
    machine : MachineFacts, optional
        The worker's; None if the series failed.
    warnings : tuple of str
        What whoever compares is to be warned of.
    """

    outcome: Outcome
    encodes: Mapping[EncodeKey, Path] = field(default_factory=dict)
    counts: EncodeCounts = field(default_factory=EncodeCounts)
    machine: MachineFacts | None = None
    warnings: tuple[str, ...] = ()


def all_versions(contenders: Iterable[Contender]) -> dict[str, str]:
    """Return the versions of libraries and encoders that must be the same on all machines."""
    encoders = {contender.codec.name: contender.codec.version for contender in contenders}
    return {**{f"encoder {name}": version for name, version in encoders.items()}, **versions()}


def run_series(task: SeriesTask) -> SeriesReply:
    """Measure all encoders on one series; fit for any executor.

    Parameters
    ----------
    task : SeriesTask
        Which series, and how.

    Returns
    -------
    SeriesReply
        What came of it; a series that fails is a reply as well.
    """
    warnings: list[str] = []
    try:
        return _run_series(task, warnings)
    except SsimrdoError as error:
        reason = without_paths(error, task.path, task.name)
    except OSError as error:
        reason = cause_of(error)
    except Exception as error:
        # Its message may quote what stands in the DICOM header.
        reason = f"unexpected {type(error).__name__}; please report it"
    return SeriesReply(Outcome(task.name, error=reason), warnings=tuple(warnings))


def _run_series(task: SeriesTask, warnings: list[str]) -> SeriesReply:
    for library, here in all_versions(task.contenders).items():
        there = task.versions.get(library, "none")
        if here != there:
            raise InputError(
                f"the worker has {library} {here}, the comparison has {there}",
                remedy="install the same on both",
            )
    settings = task.options.settings
    load_measures(settings, task.contenders, task.indices)
    with scratch_folder() as work:
        folder = make_folder(task.cache_folder or work / "encodes")
        runner = Runner(
            task.contenders,
            task.indices,
            folder,
            jobs=settings.jobs,
            series=1,
            alone=False,
            observer=Observer(),
        )
        raw = work / "series.raw"
        clip = task.options.load(task.path, task.name, raw, warnings.append)
        # It stays mapped; workers that are killed leave nothing large behind.
        raw.unlink()
        outcome = runner.run(clip, task.turn)
    encodes = {} if task.cache_folder is None else runner.encodes
    return SeriesReply(outcome, encodes, runner.counts, machine_facts(), tuple(warnings))


def run_on(
    executor: Executor,
    runner: Runner,
    tasks: Sequence[SeriesTask],
    settings: CompareSettings,
    observer: Observer,
) -> tuple[list[Outcome], MachineFacts]:
    """Have workers measure the series; return the outcomes in order and the workers' machines.

    Raises
    ------
    CancelledError
        If the observer cancels.
    SsimrdoError
        If the executor is lost.
    """
    replies: dict[str, SeriesReply] = {}

    def stopping() -> bool:
        observer.check()
        return False

    for task, future in as_finished(executor, run_series, tasks, stopping=stopping):
        reply = _reply_of(task, future)
        for warning in reply.warnings:
            logger.warning("%s", warning)
        if reply.outcome.error:
            logger.warning("%s is left out: %s", task.name, reply.outcome.error)
        runner.take(task.name, reply.counts, reply.encodes)
        replies[task.name] = reply
    machine = _joined([reply.machine for reply in replies.values() if reply.machine])
    if settings.threads == 0 and isinstance(machine.cores, str):
        logger.warning(
            "the workers have %s cores, and encoders that choose their number of threads make "
            "other sizes on each: give a number of threads",
            machine.cores,
        )
    return [replies[task.name].outcome for task in tasks], machine


def _reply_of(task: SeriesTask, future: Future[SeriesReply]) -> SeriesReply:
    try:
        return future.result()
    except LostError:
        raise SsimrdoError(
            "the cluster was lost; the same command goes on with what is in the cache"
        ) from None
    except Exception as error:
        reason = explain(error) or f"unexpected {type(error).__name__}; please report it"
        return SeriesReply(Outcome(task.name, error=reason))


def _joined(machines: Sequence[MachineFacts]) -> MachineFacts:
    """Return one description of several machines, with all values where they differ."""
    if not machines:
        return machine_facts()
    processors = sorted({one.cpu for one in machines})
    numbers = sorted({one.cores for one in machines}, key=int)
    cores = numbers[0] if len(numbers) == 1 else " or ".join(map(str, numbers))
    return MachineFacts(" or ".join(processors), cores)


def without_paths(error: SsimrdoError, path: Path, name: str) -> str:
    """Return a message for the report, which names neither files nor UIDs: they may tell whom."""
    if isinstance(error, BadSliceError):
        return f"a slice cannot be used: {error.cause}"
    if isinstance(error, SeveralSeriesError):
        return f"{name}: holds several CT series"
    return _said(error).replace(str(path), name)


def _said(error: SsimrdoError) -> str:
    """Return a message; what options are called is not known here, so none is named."""
    is_known = error.remedy is None or "{" not in error.remedy
    field = "" if error.field is None else f"{error.field}: "
    return f"{field}{error.reason}" + (f": {error.remedy}" if error.remedy and is_known else "")
