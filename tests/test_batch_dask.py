"""Batches on a Dask cluster: a real scheduler and workers over TCP."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import distributed
import pytest
from batch_series import videos, write_tree
from dask_cluster import cluster

from ssimrdo import executors
from ssimrdo.batch import BatchSettings, DaskExecutor, read_results, run, runner
from ssimrdo.batch.job import BatchJob, run_job
from ssimrdo.batch.results import BatchRecord, Journal
from ssimrdo.batch.store import store_of
from ssimrdo.errors import InputError
from ssimrdo.observer import Observer

pytestmark = pytest.mark.filterwarnings("ignore")


def die_at_3(job: BatchJob) -> BatchRecord:
    if job.name == "3":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(job)


def slow_first(job: BatchJob) -> BatchRecord:
    if job.name == "0":
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
        survivors = {int(record.worker.split(":")[1]) for record in records}
        assert int((out / "begun").read_text()) not in survivors or len(survivors) > 1

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
    assert executors.CONNECT_S == 10
    monkeypatch.setattr(executors, "CONNECT_S", 1.0)
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
