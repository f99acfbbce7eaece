"""How long a batch will take: from what earlier runs took, else from a short trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ssimrdo.batch.job import BatchJob, encode_to
from ssimrdo.batch.journal import Journal
from ssimrdo.batch.store import LocalStore, local_files, relative_name, store_of
from ssimrdo.dicom.read.find import read_file
from ssimrdo.dicom.read.header import SkippedFile, read_header
from ssimrdo.errors import SsimrdoError
from ssimrdo.files import scratch_folder

TRIALS: Final = 3
"""Series that a trial encodes slices of."""

TRIAL_SLICES: Final = 24
TRIAL_S: Final = 5.0
"""After so long no more of them are tried."""

_NO_NOTE: Final = {
    "batch": {"options": "", "inputs": "", "content": "", "input_files": 0, "input_bytes": 0}
}

TYPICAL_PIXELS: Final = 512 * 512
"""Of a slice whose header is not at hand."""


@dataclass(frozen=True)
class Estimate:
    """How long a batch is expected to take.

    Parameters
    ----------
    seconds : float or None
        Wall time; None where nothing is known.
    basis : str
        What that rests on.
    """

    seconds: float | None
    basis: str


@dataclass(frozen=True)
class _Pace:
    """Seconds that so many pixels took."""

    seconds: float = 0.0
    pixels: int = 0

    def __add__(self, other: _Pace) -> _Pace:
        return _Pace(self.seconds + other.seconds, self.pixels + other.pixels)

    @property
    def seconds_per_pixel(self) -> float:
        return self.seconds / self.pixels


def estimate(jobs: Sequence[BatchJob], journal: Journal | None, workers: int) -> Estimate:
    """Estimate the wall time of jobs.

    Seconds per pixel are those of earlier jobs with the same options. Where there are none, some
    slices of a few series are encoded, and nothing is kept of them.

    Parameters
    ----------
    jobs : sequence of BatchJob
        What is to be done.
    journal : Journal, optional
        Of earlier runs.
    workers : int
        Jobs at once.
    """
    if not jobs:
        return Estimate(0.0, "nothing is to be done")
    pixels = [job.slices * _slice_pixels(job) for job in jobs]
    known = _earlier({job.options for job in jobs}, journal)
    start_s = 0.0
    basis = "as fast as before"
    if not known.pixels:
        known, start_s = _trial(jobs)
        basis = "from a trial on some slices"
    if not known.pixels or not sum(pixels):
        return Estimate(None, "no slices could be tried")
    seconds = [known.seconds_per_pixel * one for one in pixels]
    longest = max(sum(seconds) / min(workers, len(jobs)), *seconds)
    return Estimate(start_s + longest, f"{basis}, {min(workers, len(jobs))} series at once")


def _earlier(options: set[str], journal: Journal | None) -> _Pace:
    """Return the pace of encodes that the journal has with some of the options."""
    total = _Pace()
    for record in () if journal is None else journal.records():
        size = (record.slices or 0) * (record.width or 0) * (record.height or 0)
        if record.status == "encoded" and record.options in options and record.seconds and size:
            total += _Pace(record.seconds, size)
    return total


def _trial(jobs: Sequence[BatchJob]) -> tuple[_Pace, float]:
    """Return the pace of trial encodes, and the seconds that the first of all takes more."""
    logger = logging.getLogger("ssimrdo")
    level, total, start_s = logger.level, _Pace(), 0.0
    deadline = time.monotonic() + TRIAL_S
    # Of slices that nobody will see nobody wants to be warned.
    logger.setLevel(logging.CRITICAL)
    try:
        for number, job in enumerate(_spread(jobs)):
            if not number:
                started = time.monotonic()
                _encode_some(job, 2)
                start_s = time.monotonic() - started
            total += _encode_some(job, TRIAL_SLICES)
            if time.monotonic() > deadline:
                break
    finally:
        logger.setLevel(level)
    return total, start_s


def _spread(jobs: Sequence[BatchJob]) -> Iterator[BatchJob]:
    """Yield a few jobs from all over the list."""
    count = min(TRIALS, len(jobs))
    yield from (jobs[(2 * number + 1) * len(jobs) // (2 * count)] for number in range(count))


def _encode_some(job: BatchJob, most: int) -> _Pace:
    """Encode slices from the middle of a series; nothing where that cannot be done."""
    started = time.monotonic()
    source = store_of(job.series)
    try:
        names = sorted(_names(job))
        first = max((len(names) - most) // 2, 0)
        with (
            source.series(tuple(names[first : first + most])) as (series, files),
            scratch_folder() as folder,
        ):
            started = time.monotonic()
            # Of several series the slices in the middle are of one, or of as many.
            target = folder / Path(job.output).name
            encode_to(job, series, files, target, skip_bad=True, note=_NO_NOTE)
    except (SsimrdoError, OSError):
        return _Pace()
    used = min(most, len(names))
    return _Pace(time.monotonic() - started, used * _slice_pixels(job))


def _names(job: BatchJob) -> Iterable[str]:
    """Return the names of a series' files."""
    if job.files is not None:
        return job.files
    source = store_of(job.series)
    if isinstance(source, LocalStore):
        return [str(path.relative_to(source.folder)) for path in local_files(source.folder, None)]
    return [
        relative_name(f"{folder}/{name}", source.place)
        for folder, names, _ in source.walk()
        for name in names
    ]


def _slice_pixels(job: BatchJob) -> int:
    """Return the pixels of a slice, by the header of one."""
    source = store_of(job.series)
    if isinstance(source, LocalStore):
        try:
            for name in _names(job):
                found = read_file(source.folder / name, name, read_header)
                if not isinstance(found, SkippedFile):
                    return found.rows * found.columns
        except (SsimrdoError, OSError):
            pass
    return TYPICAL_PIXELS
