"""One series to encode, and the encoding of it in whatever process runs it."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import ssimrdo
from ssimrdo.batch import lock, state, storage
from ssimrdo.batch.record import Record
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import SsimrdoError
from ssimrdo.executors import quieten
from ssimrdo.files import sidecar_path


@dataclass(frozen=True, slots=True)
class Job:
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
    files: tuple[str, ...] | None = None
    skip_bad: bool = False
    slices: int = 0
    timeout_s: float | None = None
    version: str = ssimrdo.__version__


class _TimeoutError(Exception):
    """A job took longer than it may."""


def run_job(job: Job) -> Record:
    """Encode one series unless its output is there already; fit for any executor.

    Parameters
    ----------
    job : Job
        What to encode.

    Returns
    -------
    Record
        What came of it; a series that cannot be encoded is a record as well.
    """
    started = time.monotonic()
    quieten()
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
        # Its message may quote what stands in the DICOM header.
        reason = f"unexpected {type(error).__name__} in {_place(error)}; please report it"
    return failure(job, reason, time.monotonic() - started, worker_name())


def failure(job: Job, reason: str, seconds: float | None = None, worker: str = "") -> Record:
    """Return the record of a job that failed."""
    return Record(
        output=job.output,
        series=job.name,
        status="failed",
        reason=" ".join(reason.split()),
        options=state.options_digest(job.settings, skip_bad=job.skip_bad),
        inputs=_inputs(job),
        seconds=seconds,
        worker=worker,
    )


def _inputs(job: Job) -> str:
    try:
        return state.input_stamp(job.series, job.files).digest
    except (SsimrdoError, OSError):
        return ""


@cache
def worker_name() -> str:
    """Return host and process id, which tell where a job ran."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _encode(job: Job, started: float) -> Record:
    from ssimrdo.encoding import encode

    with (
        lock.shared(job.out_root),
        storage.local_input(job.series, job.files) as (series, files),
        storage.local_output(job.out_root, job.output) as output,
    ):
        options = state.options_digest(job.settings, skip_bad=job.skip_bad)
        stamp = state.input_stamp(job.series, job.files)
        # Another run, or a worker thought to be dead, may have been faster.
        finished = state.read_sidecar(job.out_root, job.output)
        if finished is not None and state.is_current(finished, options, stamp.digest):
            return Record.of_sidecar(job.output, job.name, finished)
        content = state.content_digest(series, files)
        if finished is not None and state.is_current(finished, options, content):
            return Record.of_sidecar(job.output, job.name, finished)
        encode(
            series,
            output,
            job.settings,
            files=files,
            series_uid=job.series_uid,
            skip_bad=job.skip_bad,
            overwrite=True,
            progress=_deadline(job, started),
            note=state.note(options, stamp, content),
        )
        written = json.loads(sidecar_path(output).read_text())
    record = Record.of_sidecar(job.output, job.name, written)
    return replace(record, seconds=time.monotonic() - started, worker=worker_name())


def _deadline(job: Job, started: float) -> Callable[[int, int], None]:
    """Return what to call after each slice; it raises when the job has taken too long."""

    def check(done: int, total: int) -> None:
        del done, total
        if job.timeout_s is not None and time.monotonic() - started > job.timeout_s:
            raise _TimeoutError

    return check


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
