"""One series to encode, and the encoding of it in whatever process runs it."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import ssimrdo
from ssimrdo.batch import lock, state
from ssimrdo.batch.ct import CTSettings, write_ct
from ssimrdo.batch.inside import is_archive_name
from ssimrdo.batch.journal import BatchRecord
from ssimrdo.batch.store import Files, store_of
from ssimrdo.dicom.read.archive import is_archive, unpack
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import SsimrdoError, UidsToldError, cause_of
from ssimrdo.executors import unexpected
from ssimrdo.observer import Event, Observer
from ssimrdo.text import printable


@dataclass(frozen=True, slots=True)
class BatchJob:
    """One series to encode.

    Parameters
    ----------
    series : str
        Folder, searched recursively unless `files` names some, or DICOM file; path or URL.
    out_root : str
        Folder that outputs go below; path or URL.
    output : str
        Path of the video, or of the folder of CT images, below `out_root`.
    settings : EncodeSettings or CTSettings
        How to encode.
    name : str
        What to call the series in messages and results: its path below the root searched.
    series_uid : str, optional
        Which series, where there are several: its UID, or its number.
    share : float
        How much of the files is its own.
    files : tuple of str, optional
        The files of the series, relative to `series`; all that are there when None.
    skip_bad : bool
        Leave out damaged files instead of refusing the series.
    keep_older : bool
        Keep an output of an older model.
    slices : int
        Files in the series as far as is known, 0 if it is not.
    timeout_s : float, optional
        Seconds after which the job gives up.
    version : str
        Version of ssimrdo that made the job.
    is_named : bool
        Whether results may say which series it was; not where names of outputs hide it.
    key : str
        With which digests of the input are made; plain ones without.
    origin : str
        Keyed digest of what was searched, or of the manifest.
    """

    series: str
    out_root: str
    output: str
    settings: EncodeSettings | CTSettings
    name: str
    series_uid: str | None = None
    share: float = 1.0
    files: Files = None
    skip_bad: bool = False
    keep_older: bool = False
    slices: int = 0
    timeout_s: float | None = None
    version: str = ssimrdo.__version__
    is_named: bool = True
    key: str = field(default="", repr=False)
    origin: str = ""

    @property
    def told_name(self) -> str:
        """The name, as far as results may have it."""
        return self.name if self.is_named else ""

    @property
    def options(self) -> str:
        """Digest of what decides what the output looks like."""
        return state.options_digest(self.settings, skip_bad=self.skip_bad)

    @property
    def accepted(self) -> frozenset[str]:
        """Digests of the options that an output may be made with to be current."""
        return state.accepted_options(self.settings, skip_bad=self.skip_bad)

    def stamp(self) -> state.Stamp:
        """Return the stamp of the input as it is now."""
        stamp = state.input_stamp(store_of(self.series), self.files, self.key)
        return replace(stamp, bytes=round(stamp.bytes * self.share))

    def record_of(self, sidecar: Mapping[str, Any]) -> BatchRecord:
        """Return the record of the finished output with a sidecar."""
        record = BatchRecord.of_sidecar(self.output, self.told_name, sidecar)
        return replace(record, origin=self.origin)


class _TimeoutError(Exception):
    """A job took longer than it may."""


def run_job(job: BatchJob) -> BatchRecord:
    """Encode one series unless its output is there already; fit for any executor.

    Parameters
    ----------
    job : BatchJob
        What to encode.

    Returns
    -------
    BatchRecord
        What came of it; a series that cannot be encoded is a record as well.
    """
    started = time.monotonic()
    try:
        if job.version != ssimrdo.__version__:
            raise SsimrdoError(
                f"a worker has ssimrdo {ssimrdo.__version__}, the batch has {job.version}: "
                "install the same on both"
            )
        return _encode(job, started)
    except _TimeoutError:
        reason = f"timed out after {job.timeout_s:g} s"
    except UidsToldError as error:
        reason = without_places(str(error.without_uids()), job)
    except SsimrdoError as error:
        reason = without_places(str(error), job)
    except OSError as error:
        where = without_places(f"{os.fsdecode(error.filename)}: ", job) if error.filename else ""
        reason = f"{where}{cause_of(error)}"
    except MemoryError:
        reason = "out of memory"
    except Exception as error:
        reason = unexpected(error)
    return failure(job, reason, time.monotonic() - started, worker_name())


def failure(
    job: BatchJob, reason: str, seconds: float | None = None, worker: str = ""
) -> BatchRecord:
    """Return the record of a job that failed."""
    return BatchRecord(
        output=job.output,
        series=job.told_name,
        status="failed",
        reason=printable(" ".join(reason.split())),
        threads=job.settings.threads,
        options=job.options,
        inputs=_inputs(job),
        seconds=seconds,
        worker=worker,
        origin=job.origin,
    )


def without_places(text: str, job: BatchJob) -> str:
    """Return a message for the results, with places relative to the folders of the batch.

    Where names of outputs hide the series, it names neither the series nor its files.
    """
    if not job.is_named:
        text = _without(text, _files(job), "a file of the series")
    out = re.escape(printable(job.out_root))
    text = re.sub(rf"{out}/", "", text)
    names = {
        printable(job.out_root): "the output folder",
        printable(job.series): job.told_name or "the series",
    }
    # Another place may begin like one of these.
    places = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rf"({places})(?=[/:\s]|$)", lambda place: names[place[1]], text)


def _without(text: str, names: Iterable[str], instead: str) -> str:
    """Return a text with something else in place of names that stand for themselves in it."""
    known = "|".join(map(re.escape, sorted(filter(None, names), key=len, reverse=True)))
    return re.sub(rf"(?<![^\s(])({known})(?![^\s:;,)])", instead, text) if known else text


def _files(job: BatchJob) -> Iterator[str]:
    """Yield paths and names of the files of a series, as messages have them."""
    files = job.files
    if files is None:
        try:
            root = store_of(job.series)
            if is_archive_name(job.series):
                with root.series(None) as (path, _):
                    members = _members(path)
                for name in members:
                    yield f"{printable(job.series)}/{name}"
                    yield name
            walked = [(folder, names) for folder, names, _ in root.walk()]
        except (SsimrdoError, OSError):
            return
        files = tuple(
            os.path.relpath(f"{folder}/{name}", job.series)
            for folder, names in walked
            for name in names
        )
    for name in files:
        yield printable(f"{job.series}/{name}")
        yield printable(name)


def _members(path: Path) -> tuple[str, ...]:
    """Return what files are called in an archive; nothing for what is none."""
    if not is_archive(path):
        return ()
    unpacked = unpack(path)
    return (*(name for _, name in unpacked.members), *(one.path for one in unpacked.left_out))


def _inputs(job: BatchJob) -> str:
    try:
        return job.stamp().digests.keyed
    except (SsimrdoError, OSError):
        return ""


@cache
def worker_name() -> str:
    """Return what tells apart the processes that run jobs, and nothing else."""
    return secrets.token_hex(4)


def encode_to(
    job: BatchJob,
    series: Path,
    files: Files,
    output: Path,
    *,
    skip_bad: bool,
    observer: Observer | None = None,
    note: Mapping[str, Any] | None = None,
) -> BatchRecord:
    """Encode files of a job's series as the job says; errors as of an encode.

    Parameters
    ----------
    job : BatchJob
        What to encode and how.
    series : Path
        Local folder with the files, or a local file.
    files : tuple of str, optional
        Their names there; all when None.
    output : Path
        Where to write.
    skip_bad : bool
        Leave out damaged files.
    observer, note
        As of :func:`ssimrdo.encoding.encode.encode`.

    Returns
    -------
    BatchRecord
        What came of it, as far as the encode tells.
    """
    if isinstance(job.settings, CTSettings):
        sidecar = write_ct(
            series,
            output,
            job.settings,
            files=files,
            series_uid=job.series_uid,
            skip_bad=skip_bad,
            observer=observer,
            note=note or {},
        )
        return job.record_of(sidecar)
    from ssimrdo.encoding.encode import encode

    result = encode(
        series,
        output,
        job.settings,
        files=files,
        series_uid=job.series_uid,
        skip_bad=skip_bad,
        overwrite=True,
        observer=observer,
        note=note,
    )
    return BatchRecord.of_result(job.output, job.told_name, result)


def _encode(job: BatchJob, started: float) -> BatchRecord:
    source, out = store_of(job.series), store_of(job.out_root)
    with (
        lock.shared(out.folder),
        source.series(job.files) as (series, files),
        out.written(job.output) as output,
    ):
        stamp = job.stamp()
        # Another run, or a worker thought to be dead, may have been faster.
        finished = state.read_sidecar(out, job.output)
        if (record := _current(job, finished, stamp.digests)) is not None:
            return record
        content = state.content_digest(series, files, job.key)
        if (record := _current(job, finished, content)) is not None:
            return record
        record = encode_to(
            job,
            series,
            files,
            output,
            skip_bad=job.skip_bad,
            observer=_deadline(job, started),
            note=state.note(job.options, stamp, content),
        )
    return replace(
        record,
        input_bytes=stamp.bytes,
        threads=job.settings.threads,
        seconds=time.monotonic() - started,
        worker=worker_name(),
        options=job.options,
        inputs=stamp.digests.keyed,
        origin=job.origin,
    )


def _current(
    job: BatchJob, sidecar: Mapping[str, Any] | None, inputs: state.Digests
) -> BatchRecord | None:
    """Return the record of a finished output, None if there is none or it is not current."""
    if sidecar is None or state.change_since(
        sidecar, job.accepted, inputs, keep_older=job.keep_older
    ):
        return None
    return job.record_of(sidecar)


def _deadline(job: BatchJob, started: float) -> Observer:
    """Return an observer that ends the encode when the job has taken too long."""

    def check(event: Event) -> None:
        del event
        if job.timeout_s is not None and time.monotonic() - started > job.timeout_s:
            raise _TimeoutError

    return Observer(check)
