"""Where calls run: any executor of ``concurrent.futures``, local processes, Dask clusters.

Functions and their arguments must be picklable where processes run them. An executor may tell how
many calls are worth submitting at once by a property ``slots``, see :func:`slots_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ssimrdo.executors.dask import DaskExecutor
from ssimrdo.executors.local import LocalExecutor
from ssimrdo.executors.loop import (
    InProcess,
    WorkerLostError,
    as_finished,
    explain,
    has_lost_its_worker,
    slots_of,
    unexpected,
)
from ssimrdo.executors.quiet import quieten, quieten_dask

__all__ = [
    "GRACE_S",
    "DaskExecutor",
    "InProcess",
    "LocalExecutor",
    "WorkerLostError",
    "as_finished",
    "explain",
    "has_lost_its_worker",
    "open_executor",
    "quieten",
    "quieten_dask",
    "slots_of",
    "unexpected",
]

GRACE_S: Final = 10.0
"""Beyond its own time-out, until a job that does not give up is killed."""


@contextmanager
def open_executor(
    workers: int, *, dask: str | None = None, timeout_s: float | None = None
) -> Iterator[LocalExecutor | DaskExecutor]:
    """Yield an executor that is shut down behind the block, or stopped if that fails.

    Parameters
    ----------
    workers : int
        Processes on this machine.
    dask : str, optional
        Address of a Dask scheduler, or "local".
    timeout_s : float, optional
        Seconds after which a local call is killed.

    Raises
    ------
    InputError
        As :class:`DaskExecutor`.
    """
    executor: LocalExecutor | DaskExecutor = (
        LocalExecutor(workers, timeout_s=timeout_s) if dask is None else DaskExecutor(dask, workers)
    )
    try:
        yield executor
    except BaseException:
        executor.stop()
        raise
    executor.shutdown()
