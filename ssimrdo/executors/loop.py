"""The one loop that submits calls to an executor and waits for them."""

from __future__ import annotations

import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, ParamSpec, TypeVar

from ssimrdo.errors import SsimrdoError
from ssimrdo.machine import cores

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")

COUNT_WORKERS_S: Final = 2.0
"""How often workers are counted."""


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


def has_lost_its_worker(error: BaseException) -> bool:
    """Tell whether a call failed because the process that ran it died or was killed."""
    return type(error).__name__ in ("ProcessExpired", "KilledWorker") or isinstance(
        error, TimeoutError | BrokenExecutor
    )


def unexpected(error: BaseException) -> str:
    """Say in one line what an error is that nobody foresaw, without its message.

    That may quote what stands in the DICOM header.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{where}; please report it"


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
