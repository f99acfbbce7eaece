"""Processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import RLock
from typing import Any, ParamSpec, TypeVar

from ssimrdo.executors.quiet import quieten
from ssimrdo.machine import keep_memory

P = ParamSpec("P")
R = TypeVar("R")


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
            context=_SpawnContext(),
        )


class _SpawnContext(SpawnContext):
    """Keeps its locks while the pool lives.

    The pool drops them before it ends its processes. One that is just starting would not find them
    and say so, with a traceback.
    """

    def __init__(self) -> None:
        self._locks: list[RLock] = []

    def RLock(self) -> RLock:  # noqa: N802
        """Return a new lock."""
        self._locks.append(super().RLock())
        return self._locks[-1]


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
    keep_memory()
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
