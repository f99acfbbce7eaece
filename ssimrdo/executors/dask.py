"""The workers of a Dask cluster."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import ssimrdo
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.executors.loop import COUNT_WORKERS_S
from ssimrdo.extras import require

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

END_CLUSTER_S: Final = 30.0
"""How long a cluster of this machine may take to end before it is killed."""


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
        [sys.executable, "-P", "-m", "ssimrdo.executors.local_cluster", str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
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
