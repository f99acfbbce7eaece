"""Where jobs run: processes of this machine or a Dask cluster, behind one interface.

It is that of ``concurrent.futures``, for functions of one argument; both must be picklable.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from multiprocessing import connection, resource_tracker
from typing import Any, Protocol, TypeVar

import ssimrdo
from ssimrdo.errors import InputError, SsimrdoError

logger = logging.getLogger("ssimrdo")

A = TypeVar("A")
R = TypeVar("R")

INSTALL_DASK = 'pip install "ssimrdo[dask]"'

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

COUNT_WORKERS_S = 2.0
"""How often a scheduler is asked for its workers."""

GRACE_S = 10.0
"""Beyond its own time-out, until a job that does not give up is killed."""


class Executor(Protocol):
    """What runs functions elsewhere."""

    @property
    def slots(self) -> int:
        """How many calls are worth submitting at once."""
        ...

    def submit(self, function: Callable[[A], R], argument: A) -> Future[R]:
        """Run a function of one argument somewhere."""
        ...

    def close(self) -> None:
        """Wait for what runs, then let go of the workers."""
        ...

    def stop(self) -> None:
        """Kill what runs, then let go of the workers."""
        ...


class WorkerLostError(SsimrdoError):
    """The process that ran a call died; the message says of what."""


class InProcess:
    """Runs every call at once in this thread."""

    slots = 1

    def submit(self, function: Callable[[A], R], argument: A) -> Future[R]:
        """Run a function now."""
        future: Future[R] = Future()
        try:
            future.set_result(function(argument))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class LocalExecutor:
    """Processes of this machine, one call at a time in each.

    A process that dies loses its call and no other, and is replaced. All die with this one.

    Parameters
    ----------
    workers : int
        Number of processes.
    timeout_s : float, optional
        Seconds after which a call is killed together with its process.
    """

    def __init__(self, workers: int, *, timeout_s: float | None = None) -> None:
        self._workers = workers
        self._timeout_s = timeout_s
        self._pool = self._new_pool()

    @property
    def slots(self) -> int:
        """Number of processes."""
        return self._workers

    def submit(self, function: Callable[[A], R], argument: A) -> Future[R]:
        """Run a function of one argument in the next process that is free."""
        # The pool starts where it is first asked for anything.
        with _ctrl_c_kept_from_workers():
            if not self._pool.active:
                # All processes died at a time; calls that were running know already.
                self._pool.stop()
                self._pool.join()
                self._pool = self._new_pool()
            future: Future[R] = self._pool.schedule(
                function, args=(argument,), timeout=self._timeout_s
            )
        return future

    def close(self) -> None:
        """Wait for what runs, then end the processes."""
        self._pool.close()
        self._pool.join()

    def stop(self) -> None:
        """Kill the processes."""
        self._pool.stop()
        self._pool.join()

    def _new_pool(self) -> Any:
        from pebble import ProcessPool

        # Threads that x264 and Numba may have started here do not survive a fork.
        return ProcessPool(
            self._workers,
            initializer=_watch_parent,
            context=multiprocessing.get_context("spawn"),
        )


class DaskExecutor:
    """The workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://host:8786``; "local" starts a cluster on this machine.
    workers : int
        Processes of a local cluster.

    Raises
    ------
    InputError
        If Dask is not installed, the scheduler cannot be reached, or a worker has not the same
        version of this package.
    """

    def __init__(self, address: str, workers: int) -> None:
        if find_spec("distributed") is None:
            raise InputError(f"Dask is not installed: {INSTALL_DASK}")
        # This sets the levels of its own loggers.
        import_module("distributed")
        for name in ("distributed", "distributed.client", "tornado", "asyncio"):
            # Lost workers are told once, in the results.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._cluster: Any = None
        self._slots = 0
        self._count_again_at = 0.0
        self._client = self._connect(address, workers)
        try:
            self._check_workers()
        except BaseException:
            self.stop()
            raise
        self._executor = self._client.get_executor(pure=False)

    @property
    def slots(self) -> int:
        """Twice the threads of the workers there are now, so that none waits for the scheduler."""
        if time.monotonic() > self._count_again_at:
            self._count_again_at = time.monotonic() + COUNT_WORKERS_S
            self._slots = 2 * max(sum(self._threads()), 1)
        return self._slots

    def submit(self, function: Callable[[A], R], argument: A) -> Future[R]:
        """Run a function of one argument on some worker."""
        future: Future[R] = self._executor.submit(function, argument)
        return future

    def wait_for_workers(self, count: int) -> None:
        """Wait until the cluster has so many workers."""
        self._client.wait_for_workers(count)

    def close(self) -> None:
        """Wait for what runs, then leave the cluster."""
        self._executor.shutdown(wait=True)
        self.stop()

    def stop(self) -> None:
        """Leave the cluster, which drops all that this client has asked for."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _threads(self) -> Iterator[int]:
        for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
            yield worker["nthreads"]

    def _connect(self, address: str, workers: int) -> Any:
        # Untyped.
        distributed: Any = import_module("distributed")
        if address == "local":
            self._cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            return distributed.Client(self._cluster)
        try:
            return distributed.Client(address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else "cannot be reached"
            raise InputError(
                f"{address}: {reason} within {CONNECT_S:g} s: check the address of the scheduler"
            ) from None

    def _check_workers(self) -> None:
        def version() -> str:
            # Sent by value, so that it runs where this package is missing.
            try:
                import ssimrdo
            except ImportError:
                return ""
            return ssimrdo.__version__

        found = self._client.run(version)
        if not found:
            logger.warning("the cluster has no workers yet; work goes on when some come")
        for worker, there in sorted(found.items()):
            if there != ssimrdo.__version__:
                what = f"ssimrdo {there}" if there else "no ssimrdo"
                raise InputError(
                    f"the worker {worker} has {what}, this is {ssimrdo.__version__}: "
                    "install the same on both"
                )


@contextmanager
def open_executor(
    workers: int, *, dask: str | None = None, timeout_s: float | None = None
) -> Iterator[Executor]:
    """Yield an executor that is closed behind the block, or stopped if that fails.

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
    executor: Executor = (
        LocalExecutor(workers, timeout_s=timeout_s) if dask is None else DaskExecutor(dask, workers)
    )
    try:
        yield executor
    except BaseException:
        executor.stop()
        raise
    executor.close()


def as_finished(
    executor: Executor, function: Callable[[A], R], arguments: Iterable[A]
) -> Iterator[tuple[A, Future[R]]]:
    """Run a function on all arguments; yield each with its finished call, first finished first.

    Arguments are taken as there is room for them. Calls that wait when the iteration is left are
    withdrawn.
    """
    remaining = iter(arguments)
    running: dict[Future[R], A] = {}
    try:
        while True:
            for argument in islice(remaining, max(executor.slots - len(running), 0)):
                running[executor.submit(function, argument)] = argument
            if not running:
                return
            # Workers may join meanwhile.
            done, _ = wait(running, timeout=COUNT_WORKERS_S, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future
    finally:
        for future in running:
            future.cancel()


def quieten() -> None:
    """Keep messages of a worker off its stderr; those of libraries quote the DICOM header.

    What counts is in what a call returns.
    """
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").propagate = False
    for name in ("pydicom", "ssimrdo"):
        its = logging.getLogger(name)
        if not its.handlers:
            its.addHandler(logging.NullHandler())


def explain(error: BaseException) -> str | None:
    """Say in one line what an executor's own error means, None if it is not one."""
    name = type(error).__name__
    if name == "ProcessExpired":
        code = getattr(error, "exitcode", 0)
        return f"the worker process died ({_exit_reason(code)})"
    if name == "KilledWorker":
        return "the workers that ran it died, several times"
    if isinstance(error, TimeoutError):
        return "timed out; its worker was killed"
    if name == "BrokenProcessPool":
        return "all worker processes died"
    if isinstance(error, ModuleNotFoundError):
        return f"a worker has no module {error.name}: install ssimrdo there"
    return None


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@contextmanager
def _ctrl_c_kept_from_workers() -> Iterator[None]:
    """Block SIGINT for what starts in this block: threads, and the processes that they start.

    A terminal sends it to all processes; a worker that is just starting would die of it.
    """
    # Starting this later would unblock the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch_parent() -> None:
    """Die with the process that started this one, even if that is killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
