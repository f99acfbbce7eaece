"""One series to encode, and the encoding of it in whatever process runs it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import ssimrdo
from ssimrdo.batch import lock, state
from ssimrdo.batch.journal import BatchRecord
from ssimrdo.batch.store import Files, store_of
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import SsimrdoError
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
        The video's path below `out_root`.
    settings : EncodeSettings
        How to encode.
    name : str
        What to call the series in messages and results: its path below the root searched.
    series_uid : str, optional
        Which series, where the folder holds several.
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
    """

    series: str
    out_root: str
    output: str
    settings: EncodeSettings
    name: str
    series_uid: str | None = None
    files: Files = None
    skip_bad: bool = False
    keep_older: bool = False
    slices: int = 0
    timeout_s: float | None = None
    version: str = ssimrdo.__version__

    @property
    def options(self) -> str:
        """Digest of what decides what the output looks like."""
        return state.options_digest(self.settings, skip_bad=self.skip_bad)


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
                f"the worker {worker_name()} has ssimrdo {ssimrdo.__version__}, the batch has "
                f"{job.version}: install the same on both"
            )
        return _encode(job, started)
    except _TimeoutError:
        reason = f"timed out after {job.timeout_s:g} s"
    except SsimrdoError as error:
        reason = str(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or type(error).__name__}"
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
        series=job.name,
        status="failed",
        reason=printable(" ".join(reason.split())),
        threads=job.settings.threads,
        options=job.options,
        inputs=_inputs(job),
        seconds=seconds,
        worker=worker,
    )


def _inputs(job: BatchJob) -> str:
    try:
        return state.input_stamp(store_of(job.series), job.files).digest
    except (SsimrdoError, OSError):
        return ""


@cache
def worker_name() -> str:
    """Return host and process id, which tell where a job ran."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _encode(job: BatchJob, started: float) -> BatchRecord:
    from ssimrdo.encoding.encode import encode

    source, out = store_of(job.series), store_of(job.out_root)
    with (
        lock.shared(out.folder),
        source.series(job.files) as (series, files),
        out.written(job.output) as output,
    ):
        stamp = state.input_stamp(source, job.files)
        # Another run, or a worker thought to be dead, may have been faster.
        finished = state.read_sidecar(out, job.output)
        if (record := _current(job, finished, stamp.digest)) is not None:
            return record
        content = state.content_digest(series, files)
        if (record := _current(job, finished, content)) is not None:
            return record
        result = encode(
            series,
            output,
            job.settings,
            files=files,
            series_uid=job.series_uid,
            skip_bad=job.skip_bad,
            overwrite=True,
            observer=_deadline(job, started),
            note=state.note(job.options, stamp, content),
        )
    return BatchRecord.of_result(
        job.output,
        job.name,
        result,
        input_bytes=stamp.bytes,
        threads=job.settings.threads,
        seconds=time.monotonic() - started,
        worker=worker_name(),
        options=job.options,
        inputs=stamp.digest,
    )


def _current(job: BatchJob, sidecar: Mapping[str, Any] | None, inputs: str) -> BatchRecord | None:
    """Return the record of a finished output, None if there is none or it is not current."""
    if sidecar is None or state.change_since(
        sidecar, job.options, inputs, keep_older=job.keep_older
    ):
        return None
    return BatchRecord.of_sidecar(job.output, job.name, sidecar)


def _deadline(job: BatchJob, started: float) -> Observer:
    """Return an observer that ends the encode when the job has taken too long."""

    def check(event: Event) -> None:
        del event
        if job.timeout_s is not None and time.monotonic() - started > job.timeout_s:
            raise _TimeoutError

    return Observer(check)
