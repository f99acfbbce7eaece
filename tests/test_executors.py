"""Executors, and the one loop that submits and waits."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pebble.pool.process as pool_of_processes
import pytest

from ssimrdo.executors import (
    InProcess,
    LocalExecutor,
    WorkerLostError,
    as_finished,
    explain,
    open_executor,
    slots_of,
)
from ssimrdo.machine import cores

# Functions that workers run; they are found by name in this module.


def square(number: int) -> int:
    return number**2


def wait_for(path: Path) -> str:
    path.with_suffix(".begun").touch()
    while not path.exists():
        time.sleep(0.01)
    return path.name


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def add(first: int, *, second: int) -> int:
    return first + second


def messages_are_kept_back(_: int) -> bool:
    filters = [entry for entry in warnings.filters if entry[0] == "ignore" and entry[3] is None]
    return bool(filters) and not logging.getLogger("pydicom").propagate


def spawned(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def local():
    with LocalExecutor(2) as executor:
        yield executor


def results(calls):
    return [(argument, future.result()) for argument, future in calls]


@pytest.mark.parametrize("make", [InProcess, lambda: ThreadPoolExecutor(2), lambda: spawned(2)])
def test_any_executor_runs_all_calls(make):
    with make() as executor:
        found = results(as_finished(executor, square, range(20)))
    assert sorted(found) == [(number, number**2) for number in range(20)]


def test_own_executors_follow_the_interface_of_the_standard_library(local):
    assert isinstance(local, Executor)
    assert isinstance(InProcess(), Executor)
    for executor in (local, InProcess()):
        assert executor.submit(add, 1, second=2).result() == 3
        assert list(executor.map(square, range(4))) == [0, 1, 4, 9]
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()


def test_workers_of_our_own_are_quiet(local):
    assert local.submit(messages_are_kept_back, 0).result()


def test_slots(local):
    assert slots_of(local) == 2
    assert slots_of(InProcess()) == 1
    with ThreadPoolExecutor(7) as executor:
        # The standard library does not tell.
        assert slots_of(executor) == cores()
    with Pool(7) as executor:
        assert slots_of(executor) == 3


class Pool(ThreadPoolExecutor):
    """Tells how many calls are worth submitting."""

    slots = 3


class Held(Executor):
    """Holds all calls until they are let go, and remembers which were submitted."""

    slots = 2

    def __init__(self):
        self.submitted = []
        self.futures = {}

    def submit(self, _, /, *args):
        (argument,) = args
        self.submitted.append(argument)
        self.futures[argument] = Future()
        return self.futures[argument]

    def finish(self, argument):
        self.futures[argument].set_result(argument)


def collected(calls):
    """Go through calls in a thread; return the thread and what it has got so far."""
    got = []

    def collect():
        for argument, _ in calls:
            got.append(argument)

    thread = threading.Thread(target=collect)
    thread.start()
    return thread, got


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_calls_are_yielded_as_they_finish_and_arguments_taken_as_there_is_room():
    executor = Held()
    thread, got = collected(as_finished(executor, square, iter("abcd"), poll_s=0.01))
    until(lambda: executor.submitted == ["a", "b"])
    time.sleep(0.05)
    assert executor.submitted == ["a", "b"]
    executor.finish("b")
    until(lambda: got == ["b"])
    until(lambda: executor.submitted == ["a", "b", "c"])
    for argument in "cad":
        until(lambda argument=argument: argument in executor.futures)
        executor.finish(argument)
    thread.join()
    assert sorted(got) == list("abcd")


def test_calls_in_order_wait_for_those_before_within_bounds():
    executor = Held()
    calls = as_finished(executor, square, iter("abcdefgh"), in_order=True, per_slot=2, poll_s=0.01)
    thread, got = collected(calls)
    until(lambda: executor.submitted == list("abcd"))
    for argument in "dcb":
        executor.finish(argument)
    time.sleep(0.05)
    # What is done waits in memory, and counts.
    assert (got, executor.submitted) == ([], list("abcd"))
    executor.finish("a")
    until(lambda: got == list("abcd"))
    for argument in "efgh":
        until(lambda argument=argument: argument in executor.futures)
        executor.finish(argument)
    thread.join()
    assert got == list("abcdefgh")


def test_slots_that_come_later_are_used():
    executor = Held()
    thread, got = collected(as_finished(executor, square, iter("abc"), poll_s=0.01))
    until(lambda: executor.submitted == ["a", "b"])
    executor.slots = 3
    until(lambda: executor.submitted == ["a", "b", "c"])
    for argument in "abc":
        executor.finish(argument)
    thread.join()
    assert sorted(got) == list("abc")


def test_a_request_to_stop_finishes_what_runs():
    executor, stop = Held(), threading.Event()
    begun = []
    calls = as_finished(
        executor, square, iter("abcd"), poll_s=0.01, stopping=stop.is_set, started=begun.append
    )
    thread, got = collected(calls)
    until(lambda: begun == ["a", "b"])
    stop.set()
    executor.finish("a")
    until(lambda: got == ["a"])
    assert thread.is_alive()
    executor.finish("b")
    thread.join()
    assert (got, executor.submitted) == (["a", "b"], ["a", "b"])


class Breaking(Executor):
    """Loses some calls together with others, as often as told."""

    slots = 3

    def __init__(self, losses):
        self.losses = dict(losses)

    def submit(self, function, /, *args):
        (argument,) = args
        future = Future()
        if self.losses.get(argument, 0) > 0:
            self.losses[argument] -= 1
            future.set_exception(BrokenProcessPool("all died"))
        else:
            future.set_result(function(argument))
        return future


@pytest.mark.parametrize("in_order", [False, True])
def test_calls_that_were_lost_with_others_are_submitted_again(in_order):
    executor = Breaking({1: 1, 4: 1})
    calls = as_finished(executor, square, range(6), retries=1, in_order=in_order)
    found = results(calls)
    assert sorted(found) == [(number, number**2) for number in range(6)]
    if in_order:
        assert found == sorted(found)


@pytest.mark.parametrize("in_order", [False, True])
def test_calls_that_are_lost_again_are_given_up(in_order):
    executor = Breaking({1: 2, 4: 1})
    calls = list(as_finished(executor, square, range(6), retries=1, in_order=in_order))
    lost = {argument: future.exception() for argument, future in calls if future.exception()}
    assert len(calls) == 6
    assert [*lost] == [1]
    assert explain(lost[1]) == "all worker processes died"


def test_without_retries_a_lost_call_is_yielded():
    (call,) = as_finished(Breaking({0: 1}), square, [0])
    assert isinstance(call[1].exception(), BrokenProcessPool)


def test_executor_that_broke_is_told_in_one_line():
    with spawned(2) as executor:
        calls = as_finished(executor, die, range(4), retries=1)
        with pytest.raises(WorkerLostError, match="has lost its workers") as caught:
            list(calls)
    assert "\n" not in str(caught.value)


def test_calls_that_wait_are_withdrawn_when_the_iteration_is_left(tmp_path):
    with Pool(1) as executor:
        names = [tmp_path / name for name in "abc"]
        calls = as_finished(executor, wait_for, names)
        names[0].touch()
        assert next(calls)[0] == names[0]
        until(names[1].with_suffix(".begun").exists)
        calls.close()
        names[1].touch()
    assert not names[2].with_suffix(".begun").exists()


def test_local_executor_finishes_what_it_has_at_a_shutdown():
    executor = LocalExecutor(1)
    futures = [executor.submit(square, number) for number in range(3)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [0, 1, 4]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    executor.shutdown()


def test_local_executor_shut_down_without_waiting(tmp_path):
    executor = LocalExecutor(1)
    running = executor.submit(wait_for, tmp_path / "a")
    behind = executor.submit(square, 3)
    executor.shutdown(wait=False)
    assert not running.done()
    (tmp_path / "a").touch()
    assert (running.result(10), behind.result(10)) == ("a", 9)


def test_local_executor_withdraws_what_waits_at_a_shutdown(tmp_path):
    executor = LocalExecutor(1)
    running = executor.submit(wait_for, tmp_path / "a")
    behind = [executor.submit(wait_for, tmp_path / name) for name in "bcd"]
    until(running.running)
    threading.Timer(0.3, (tmp_path / "a").touch).start()
    # Nobody lets the others go, so it would hang if these were waited for.
    executor.shutdown(cancel_futures=True)
    assert running.result(0) == "a"
    for future in behind:
        with pytest.raises(CancelledError):
            future.result(0)


def test_local_executor_kills_what_runs_when_it_is_stopped(tmp_path):
    started = time.monotonic()

    def fail(executor):
        executor.submit(wait_for, tmp_path / "never")
        until((tmp_path / "never.begun").exists)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_executor(1) as executor:
        fail(executor)
    assert time.monotonic() - started < 30


def test_local_executor_replaces_a_worker_that_died(local):
    found = dict(as_finished(local, die, [1, 2]))
    assert {explain(future.exception()) for future in found.values()} == {
        "the worker process died (SIGKILL)"
    }
    assert results(as_finished(local, square, [3])) == [(3, 9)]


def test_workers_that_have_just_been_started_end_without_a_word(monkeypatch, capfd):
    stop_process = pool_of_processes.stop_process

    def stop_slowly(process):
        # As on a busy machine, where they begin meanwhile.
        time.sleep(1)
        stop_process(process)

    monkeypatch.setattr(pool_of_processes, "stop_process", stop_slowly)
    executor = LocalExecutor(1)
    executor.submit(os.getpid)
    executor.stop()
    assert capfd.readouterr() == ("", "")
