"""Where calls run: any executor of ``concurrent.futures``, local processes, Dask clusters.

Functions and their arguments must be picklable where processes run them. An executor may tell how
many calls are worth submitting at once by a property ``slots``, see :func:`slots_of`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

import ssimrdo
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.extras import require
from ssimrdo.machine import cores

logger = logging.getLogger(__name__)

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

COUNT_WORKERS_S: Final = 2.0
"""How often a scheduler is asked for its workers."""

GRACE_S: Final = 10.0
"""Beyond its own time-out, until a job that does not give up is killed."""

END_CLUSTER_S: Final = 30.0
"""How long a cluster of this machine may take to end before it is killed."""

_PYDICOM: Final = re.compile("pydicom")


class WorkerLostError(SsimrdoError):
    """An executor has lost its workers and takes no more calls."""


class InProcess(Executor):
    """Runs every call at once in this thread."""

    slots = 1

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a function now."""
        future: Future[R] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class LocalExecutor(Executor):
    """Processes of this machine, one call at a time in each.

    A process that dies loses its call and no other, and is replaced. All die with this one.
    Cancelling a future kills its call even while it runs.

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
        self._is_shut_down = False
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self._pool = self._new_pool()

    @property
    def slots(self) -> int:
        """Number of processes."""
        return self._workers

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a function in the next process that is free.

        Raises
        ------
        RuntimeError
            After a shutdown.
        """
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        # The pool starts where it is first asked for anything.
        with _ctrl_c_kept_from_workers():
            if not self._pool.active:
                # All processes died at a time; calls that were running know already.
                self._pool.stop()
                self._pool.join()
                self._pool = self._new_pool()
            future: Future[R] = self._pool.schedule(
                function, args=args, kwargs=kwargs, timeout=self._timeout_s
            )
        self._futures.add(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let what was submitted finish, then end the processes.

        With ``cancel_futures``, calls that wait or have just begun are withdrawn.
        """
        self._is_shut_down = True
        if cancel_futures:
            for future in list(self._futures):
                # The pool's own way would kill what runs.
                Future.cancel(future)
        self._pool.close()
        if wait:
            self._pool.join()
        else:
            threading.Thread(target=self._pool.join).start()

    def stop(self) -> None:
        """Kill the processes."""
        self._is_shut_down = True
        self._pool.stop()
        self._pool.join()

    def _new_pool(self) -> Any:
        from pebble import ProcessPool

        # Threads that x264 and Numba may have started here do not survive a fork.
        return ProcessPool(
            self._workers,
            initializer=_set_up_worker,
            context=multiprocessing.get_context("spawn"),
        )


class DaskExecutor(Executor):
    """The workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://host:8786``; "local" starts a cluster on this machine,
        in processes that die with this one.
    workers : int
        Processes of a local cluster.

    Raises
    ------
    InputError
        If Dask is not installed, the scheduler cannot be reached, or a worker has not the same
        version of this package.
    """

    def __init__(self, address: str, workers: int) -> None:
        require("distributed", what="a Dask cluster")
        self._cluster: subprocess.Popen[str] | None = None
        self._client: Any = None
        self._slots = 0
        self._count_again_at = 0.0
        try:
            if address == "local":
                self._cluster = _start_cluster(workers)
                address = _address(self._cluster)
            self._client = _connect(address)
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

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a function on some worker.

        Raises
        ------
        RuntimeError
            After a shutdown.
        """
        future: Future[R] = self._executor.submit(function, *args, **kwargs)
        return future

    def wait_for_workers(self, count: int) -> None:
        """Wait until the cluster has so many workers."""
        self._client.wait_for_workers(count)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let what was submitted finish, then leave the cluster.

        With ``cancel_futures``, all that is not done is dropped; a worker finishes the call that
        it runs.
        """
        if cancel_futures:
            self._executor.shutdown(wait=False)
        if wait:
            self._finish()
        else:
            threading.Thread(target=self._finish).start()

    def stop(self) -> None:
        """Leave the cluster, which drops all that this client has asked for."""
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            _end_cluster(self._cluster)

    def _finish(self) -> None:
        self._executor.shutdown(wait=True)
        self.stop()

    def _threads(self) -> Iterator[int]:
        for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
            yield worker["nthreads"]

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


def _connect(address: str) -> Any:
    # Untyped.
    distributed: Any = import_module("distributed")
    try:
        # As the default it would take the caller's own Dask collections as well.
        return distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else "cannot be reached"
        raise InputError(
            f"{address}: {reason} within {CONNECT_S:g} s: check the address of the scheduler"
        ) from None


def _start_cluster(workers: int) -> subprocess.Popen[str]:
    # Workers find the packages that this process finds, and none of the working folder's beside.
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    # A cluster changes environment and loggers of the process that it is started in.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ssimrdo.local_cluster", str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        # A terminal's Ctrl-C is for this process alone.
        start_new_session=True,
    )


def _address(cluster: subprocess.Popen[str]) -> str:
    assert cluster.stdout is not None
    address = cluster.stdout.readline().strip()
    if not address:
        raise SsimrdoError("the Dask cluster of this machine did not start")
    return address


def _end_cluster(cluster: subprocess.Popen[str]) -> None:
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    with suppress(OSError):
        cluster.stdin.close()
    try:
        cluster.wait(END_CLUSTER_S)
    except subprocess.TimeoutExpired:
        cluster.kill()
        cluster.wait()
    cluster.stdout.close()


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


def slots_of(executor: Executor) -> int:
    """Return how many calls are worth submitting to an executor at once.

    Its property ``slots`` tells, if it has one. Those of the standard library have none, and do
    not tell the number of their workers: for them it is the number of processors that this process
    may use. A subclass with ``slots`` says otherwise.
    """
    slots = getattr(executor, "slots", None)
    return slots if isinstance(slots, int) and slots > 0 else cores()


@dataclass(frozen=True, slots=True)
class _Call(Generic[A]):
    """One call: its argument, its place among all, how often it may be submitted again."""

    argument: A
    number: int
    retries: int


def as_finished(
    executor: Executor,
    function: Callable[[A], R],
    arguments: Iterable[A],
    *,
    in_order: bool = False,
    per_slot: int = 1,
    retries: int = 0,
    poll_s: float = COUNT_WORKERS_S,
    stopping: Callable[[], bool] | None = None,
    started: Callable[[A], object] | None = None,
) -> Generator[tuple[A, Future[R]], None, None]:
    """Run a function on all arguments; yield each with its finished call, first finished first.

    Arguments are taken as there is room for them. When the iteration is left, calls that wait are
    withdrawn; those that run are killed where the executor can do that.

    Parameters
    ----------
    executor : Executor
        What runs the calls.
    function : callable
        Takes one argument.
    arguments : iterable
        Of the calls.
    in_order : bool
        Yield in the order of the arguments.
    per_slot : int
        How many calls are submitted and not yet yielded, for each of the executor's slots.
    retries : int
        How often a call is submitted again that was lost because the executor broke; it need not
        have been to blame.
    poll_s : float
        How often at least ``stopping`` and the executor's slots are looked at.
    stopping : callable, optional
        Once it returns True, no more calls are submitted; those that were are waited for.
    started : callable, optional
        Called with each argument when its call has been submitted.

    Raises
    ------
    WorkerLostError
        If the executor is broken.
    """
    waiting = (_Call(argument, number, retries) for number, argument in enumerate(arguments))
    again: deque[_Call[A]] = deque()
    running: dict[Future[R], _Call[A]] = {}
    held: dict[int, tuple[A, Future[R]]] = {}
    due = 0
    try:
        while True:
            is_stopping = stopping is not None and stopping()
            while not is_stopping and (
                again or len(running) + len(held) < per_slot * slots_of(executor)
            ):
                call = again.popleft() if again else next(waiting, None)
                if call is None:
                    break
                running[_submitted(executor, function, call.argument)] = call
                if started is not None:
                    started(call.argument)
            if not running:
                return
            done, _ = wait(running, timeout=poll_s, return_when=FIRST_COMPLETED)
            for future in done:
                call = running.pop(future)
                if call.retries and _is_lost_with_others(future):
                    again.append(replace(call, retries=call.retries - 1))
                elif in_order:
                    held[call.number] = call.argument, future
                else:
                    yield call.argument, future
            while due in held:
                yield held.pop(due)
                due += 1
    finally:
        for future in running:
            future.cancel()


def _submitted(executor: Executor, function: Callable[[A], R], argument: A) -> Future[R]:
    try:
        return executor.submit(function, argument)
    except BrokenExecutor as error:
        raise WorkerLostError(
            "the executor has lost its workers; what is finished is kept"
        ) from error


def _is_lost_with_others(future: Future[Any]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenExecutor)


@contextmanager
def pydicom_contained() -> Iterator[None]:
    """Let no message of pydicom out of this block, also not from its threads.

    They quote the DICOM header, which may name a patient. Blocks may overlap in several threads,
    and nothing stays changed behind the last.
    """
    # With catch_warnings, the last block to end would bring back what the first had changed.
    filters = cast(list[Any], warnings.filters)
    rule = ("ignore", None, Warning, _PYDICOM, 0)
    its_logger = logging.getLogger("pydicom")

    def drop(record: logging.LogRecord) -> bool:
        del record
        return False

    filters.insert(0, rule)
    its_logger.addFilter(drop)
    try:
        yield
    finally:
        its_logger.removeFilter(drop)
        with suppress(ValueError):
            filters.remove(rule)


def quieten() -> None:
    """Keep messages of a process of our own off its stderr; those of libraries quote the header.

    What counts is in what a call returns. Not for processes of others.
    """
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").propagate = False
    for name in ("pydicom", "ssimrdo"):
        its = logging.getLogger(name)
        if not its.handlers:
            its.addHandler(logging.NullHandler())
    # SVT-AV1 writes its settings to stderr; there is no other switch.
    os.environ.setdefault("SVT_LOG", "1")


def quieten_dask() -> None:
    """Keep Dask's messages off the stderr of a process of our own, such as the command line.

    Lost workers are told once, in the results.
    """
    # This sets the levels of its own loggers.
    import_module("distributed")
    for name in ("distributed", "distributed.client", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


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
    if isinstance(error, BrokenExecutor):
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


def _set_up_worker() -> None:
    quieten()
    _watch_parent()


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
