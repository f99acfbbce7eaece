"""Comparison of encoders on CT series: rate-quality curves, BD-rates and speed.

A series is read once into a raw file. Every encoder encodes it at every point, every encode is
decoded and measured the same way, and what was measured is kept in a cache.

With an executor every series is one call to it: a worker reads and encodes the series, and returns
what was measured, not pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.comparison import cache
from ssimrdo.comparison.build import build_report
from ssimrdo.comparison.clip import Clip
from ssimrdo.comparison.encoders import make_contenders
from ssimrdo.comparison.encodes import EncodeKey, Runner, machine_facts
from ssimrdo.comparison.measure import decoded_slices
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.comparison.series import (
    SeriesOptions,
    SeriesTask,
    all_versions,
    clip_reader,
    load_measures,
    run_here,
    run_on,
    without_paths,
)
from ssimrdo.comparison.settings import CompareSettings
from ssimrdo.dicom.grey import hu_of_luma
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.files import scratch_folder
from ssimrdo.frames import FrameFormat
from ssimrdo.objective import Objective
from ssimrdo.observer import Observer
from ssimrdo.text import printable


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, while its frames and encodes are still on disk.

    Parameters
    ----------
    report : ComparisonReport
        Everything measured.
    encodes : mapping
        Path of every encode by series, encoder and point on the encoder's own scale. Workers of
        an executor have put them into the cache's folder, which this machine may not see; without
        such a folder there is none.
    """

    report: ComparisonReport
    encodes: Mapping[EncodeKey, Path]
    _clip: Callable[[str], Clip] = field(repr=False)
    _encode: Callable[[str, str, float], float] = field(repr=False)
    _objective: Callable[[str, str], Objective | None] = field(repr=False)

    def encode(self, series: str, encoder: str, point: float) -> float:
        """Encode at one more point, or find that encode; return its bit rate in kbit/s."""
        return self._encode(series, encoder, point)

    def objective(self, series: str, encoder: str) -> Objective | None:
        """Return what an encoder's bits are spent for, with the windows that are protected.

        Raises
        ------
        SsimrdoError
            If a worker has read the series and this machine cannot.
        """
        return self._objective(series, encoder)

    def frame_format(self, series: str) -> FrameFormat:
        """Return the format of the slices of a series; errors as :meth:`frames`."""
        return self._clip(series).format

    def hu_of_levels(self, series: str) -> NDArray[np.float64] | None:
        """Return the HU of the 256 grey levels of a screen; errors as :meth:`frames`.

        None for a window that shows nothing but black and white.
        """
        clip = self._clip(series)
        return hu_of_luma(clip.facts.window, 255, inverted=clip.inverted)

    def frames(self, series: str) -> NDArray[Any]:
        """Return the source slices of a series, mapped from disk.

        Raises
        ------
        SsimrdoError
            If a worker has read the series and this machine cannot.
        """
        return self._clip(series).samples

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
                "the encodes are not on this machine",
                remedy="give {cache_dir} a folder that it shares with the workers",
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
    cache_limit_bytes: int = cache.DEFAULT_LIMIT_BYTES,
    observer: Observer | None = None,
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
    observer : Observer, optional
        Is told the encode that begins and how many are done, with an executor each series that is
        finished; may cancel.
    executor : concurrent.futures.Executor, optional
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
    CancelledError
        If the observer cancels.
    SsimrdoError
        If the only series cannot be compared, or the executor is lost. Of several series, one
        that fails, or kills its worker, is in the report.
    OSError
        If temporary files cannot be written.
    """
    settings, observer = settings or CompareSettings(), observer or Observer()
    if not series:
        raise InputError("at least one series is needed")
    if series_uid is not None and len(series) > 1:
        raise InputError(
            "goes with one folder", field="series_uid", remedy="compare the folders one by one"
        )
    contenders, indices = make_contenders(settings), settings.indices
    with_hu = any(contender.takes_hu for contender in contenders)
    options = SeriesOptions(settings, series_uid, skip_bad, with_hu)
    with ExitStack() as stack:
        work = stack.enter_context(scratch_folder())
        folder = cache.make_folder(cache_folder or work / "encodes")
        stack.callback(cache.trim, folder, cache_limit_bytes)
        load_measures(settings, contenders, indices)
        runner = Runner(
            contenders,
            indices,
            folder,
            jobs=settings.jobs,
            series=len(series),
            alone=executor is None and settings.jobs == 1,
            observer=observer,
        )
        paths = dict(zip(unique_names(series), map(Path, series), strict=True))
        clip_of = clip_reader(paths, work, options)
        if executor is None:
            outcomes, machine = run_here(runner, clip_of, paths), machine_facts()
        else:
            kept = None if cache_folder is None else folder
            known = all_versions(contenders)
            tasks = [
                SeriesTask(path.absolute(), name, turn, options, contenders, indices, kept, known)
                for turn, (name, path) in enumerate(paths.items())
            ]
            outcomes, machine = run_on(executor, runner, tasks, settings, observer)
        if all(outcome.error for outcome in outcomes):
            reasons = "; ".join(f"{outcome.name}: {outcome.error}" for outcome in outcomes)
            raise InputError(f"no series can be compared: {reasons}")
        report = build_report(
            outcomes, contenders, settings, machine=machine, encodes=runner.counts
        )

        def clip_here(name: str) -> Clip:
            try:
                return clip_of(name)
            except SsimrdoError as error:
                raise SsimrdoError(without_paths(error, paths[name], name)) from None

        def encode(name: str, encoder: str, point: float) -> float:
            return runner.encode_one(clip_here(name), encoder, point)

        def objective(name: str, encoder: str) -> Objective | None:
            return runner.objective(clip_here(name), encoder)

        yield Comparison(report, runner.encodes, clip_here, encode, objective)


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
