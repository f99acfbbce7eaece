"""Batches on a Dask cluster: a real scheduler and workers over TCP."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Executor
from pathlib import Path

import distributed
import pytest
from batch_series import videos, write_tree
from dask_cluster import cluster

from ssimrdo.batch import BatchSettings, DaskExecutor, read_results, run, runner
from ssimrdo.batch.job import BatchJob, run_job, worker_name
from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.batch.store import store_of
from ssimrdo.errors import InputError
from ssimrdo.executors import dask
from ssimrdo.observer import Observer

pytestmark = pytest.mark.filterwarnings("ignore")


def die_at_3(job: BatchJob) -> BatchRecord:
    if job.name == "3":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(job)


def slow_first(job: BatchJob) -> BatchRecord:
    if job.name == "0":
        Path(job.out_root, "worker").write_text(worker_name())
        Path(job.out_root, "begun").write_text(str(os.getpid()))
        time.sleep(3)
    return run_job(job)


def run_function(root, out, function, executor, journal):
    settings = BatchSettings()
    jobs = runner.find_jobs(store_of(root), store_of(out), settings, executor)
    return runner.run_jobs(
        jobs, executor, journal, runner.Totals(), observer=Observer(), function=function
    )


def test_worker_killed_mid_job_and_third_joining_give_the_same_outputs(tmp_path):
    root, out, local = tmp_path / "in", tmp_path / "out", tmp_path / "local"
    write_tree(root, *(f"{number}" for number in range(6)))
    out.mkdir()
    run(root, local, BatchSettings(jobs=1))
    with cluster(tmp_path) as dask:
        workers = [dask.add_worker("--no-nanny") for _ in range(2)]
        executor = DaskExecutor(dask.address, 1)
        executor.wait_for_workers(2)

        def kill_one():
            begun = out / "begun"
            while not begun.exists() or not begun.read_text():
                if finished.wait(0.02):
                    return
            victim = int(begun.read_text())
            assert victim in [worker.pid for worker in workers]
            os.kill(victim, signal.SIGKILL)
            dask.add_worker("--no-nanny")

        finished = threading.Event()
        killer = threading.Thread(target=kill_one)
        killer.start()
        try:
            with Journal(out / "results.jsonl") as journal:
                totals, is_whole = run_function(root, out, slow_first, executor, journal)
                records = list(journal.records())
        finally:
            finished.set()
            killer.join()
        executor.shutdown()
        assert (totals.encoded, totals.failed, is_whole) == (6, 0, True)
        assert videos(out) == videos(local)
        workers_told = {record.worker for record in records}
        assert (out / "worker").read_text() not in workers_told or len(workers_told) > 1

        # The same cluster resumes what is there, through the public call.
        result = run(root, out, BatchSettings(dask=dask.address))
        assert result.totals.done_before == 6


def test_job_that_kills_its_workers_is_recorded(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, *(f"{number}" for number in range(5)))
    out.mkdir()
    with cluster(tmp_path) as dask:
        # Nannies bring dead workers back.
        for _ in range(2):
            dask.add_worker("--nanny")
        executor = DaskExecutor(dask.address, 1)
        executor.wait_for_workers(2)
        with Journal(out / "results.jsonl") as journal:
            totals, _ = run_function(root, out, die_at_3, executor, journal)
            failed = [r for r in journal.records() if r.status == "failed"]
        executor.shutdown()
    assert totals.encoded >= 3
    assert "3.mp4" in {record.output for record in failed}
    assert {record.reason for record in failed} == {"the workers that ran it died, several times"}


@pytest.mark.parametrize(
    ("module", "said"),
    [("__version__ = '9.9'", "has ssimrdo 9.9"), ("raise ImportError", "has no ssimrdo")],
)
def test_worker_without_this_version_is_named(tmp_path, module, said):
    (tmp_path / "fake/ssimrdo").mkdir(parents=True)
    (tmp_path / "fake/ssimrdo/__init__.py").write_text(module)
    with cluster(tmp_path) as dask:
        dask.add_worker("--no-nanny", PYTHONPATH=str(tmp_path / "fake"))
        with distributed.Client(dask.address) as client:
            client.wait_for_workers(1)
        with pytest.raises(InputError, match=f"worker tcp://127.0.0.1:[0-9]+ {said}, this is"):
            DaskExecutor(dask.address, 1)


def test_job_of_another_version_is_refused_by_a_worker_that_comes_later(tmp_path):
    job = BatchJob("in", str(tmp_path), "x.mp4", BatchSettings().encode, "in", version="9.9")
    record = run_job(job)
    assert record.status == "failed"
    assert "the batch has 9.9" in record.reason


def test_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    assert dask.CONNECT_S == 10
    monkeypatch.setattr(dask, "CONNECT_S", 1.0)
    write_tree(tmp_path / "in", "0")
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:9: .* within 1 s"):
        run(tmp_path / "in", tmp_path / "out", BatchSettings(dask="tcp://127.0.0.1:9"))


def test_address_that_is_none(tmp_path):
    with pytest.raises(InputError, match="check the address"):
        DaskExecutor("nonsense", 1)
    assert not list(tmp_path.iterdir())


def test_cluster_of_this_machine(tmp_path):
    write_tree(tmp_path / "in", "0", "1")
    result = run(tmp_path / "in", tmp_path / "out", BatchSettings(dask="local", jobs=1))
    assert result.totals.encoded == 2
    assert len(list(read_results(tmp_path / "out"))) == 2


def test_cluster_of_this_machine_is_an_executor_with_quiet_workers(tmp_path, monkeypatch):
    # Functions within others are sent by value, so that workers need not import this module.
    def keeps_quiet(_):
        everything = [entry for entry in warnings.filters if entry[0] == "ignore" and not entry[3]]
        return bool(everything), logging.getLogger("distributed").level

    def finds_packages_of_the_caller(path):
        return path in sys.path

    monkeypatch.syspath_prepend(tmp_path)
    executor = DaskExecutor("local", 1)
    with executor:
        assert isinstance(executor, Executor)
        assert executor.slots == 2
        assert executor.submit(int, "11", base=2).result() == 3
        assert list(executor.map(keeps_quiet, [0])) == [(True, logging.CRITICAL)]
        assert executor.submit(finds_packages_of_the_caller, str(tmp_path)).result()
    with pytest.raises(RuntimeError):
        executor.submit(int, "11")
    # What the caller computes with Dask stays where it was.
    with pytest.raises(ValueError, match="No global client"):
        distributed.get_client()


def test_cluster_of_this_machine_waits_for_a_worker_that_died_to_come_back(monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "10ms")
    executor = DaskExecutor("local", 1)
    try:
        os.kill(executor.submit(os.getpid).result(), signal.SIGKILL)
        # Asked before the scheduler knows, the worker that comes next may be faster.
        time.sleep(0.3)
        assert executor.submit(int, "5").result(timeout=60) == 5
    finally:
        executor.stop()


def test_calls_that_are_waited_for_in_another_thread():
    executor = DaskExecutor("local", 1)
    slow = executor.submit(time.sleep, 1)
    behind = executor.submit(int, "5")
    executor.shutdown(wait=False)
    assert not slow.done()
    assert behind.result(20) == 5


def test_calls_are_dropped_at_a_shutdown(tmp_path):
    def slow_write(path):
        time.sleep(0.5)
        path.touch()

    executor = DaskExecutor("local", 1)
    futures = [executor.submit(slow_write, tmp_path / name) for name in "abcdef"]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert not (tmp_path / "f").exists()


CALLER = """
import os, time
from ssimrdo.batch import DaskExecutor

if __name__ == "__main__":
    executor = DaskExecutor("local", 1)
    print(executor.submit(os.getpid).result(), executor._cluster.pid, flush=True)
    time.sleep(600)
"""


def test_cluster_of_this_machine_dies_with_whoever_started_it(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "caller.py"], stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        # Dead processes whose parent has not asked for them yet are still listed.
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
