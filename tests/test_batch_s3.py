"""Batches from S3 to S3: a real server, a store that fails, and two batches on one place."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from batch_series import videos, write_tree
from messages import error_of
from s3_server import ask_server, forget, s3_server

from ssimrdo.batch import BatchSettings, LocalExecutor, lock, read_results, run, runner
from ssimrdo.batch.job import BatchJob, run_job
from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.batch.store import FsspecStore, store_of
from ssimrdo.errors import InputError
from ssimrdo.executors import InProcess
from ssimrdo.observer import Observer

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("bucket")]

IN, OUT = "s3://archive/in", "s3://archive/out"
SSIMRDO = [sys.executable, "-m", "ssimrdo"]


@pytest.fixture(scope="module")
def server():
    with s3_server() as proxy:
        # It has no time-out to come near to.
        proxy.slow_s = 0.1
        yield proxy


@pytest.fixture
def proxy(server, monkeypatch):
    forget(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # As often as ever, but at once; that is seconds otherwise.
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda *_, **__: 0.01)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield server
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("series") / "in"
    write_tree(root, "a/x", "a/y", "b")
    return root


@pytest.fixture
def bucket(proxy, root):  # noqa: ARG001
    """The store, with three series in it."""
    store = fsspec.filesystem("s3", use_listings_cache=False)
    store.mkdir("archive")
    store.put(f"{root}/", "archive/in/", recursive=True)
    return store


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """The videos of a batch from folder to folder."""
    out = tmp_path_factory.mktemp("alone")
    run(root, out, executor=InProcess())
    return videos(out)


def run_commands(*commands):
    """Run the command with these arguments, all at a time; return what came of each."""

    def run_one(arguments):
        return subprocess.run([*SSIMRDO, *arguments], capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(len(commands)) as threads:
        return list(threads.map(run_one, commands))


def stored(bucket):
    """Return the videos that are in the store."""
    found = bucket.find("archive/out")
    return {
        path.removeprefix("archive/out/"): bucket.cat_file(path)
        for path in found
        if path.endswith(".mp4")
    }


def assert_nothing_half(bucket):
    """Every sidecar has its whole video beside it."""
    for path in bucket.find("archive/out"):
        if path.endswith(".json"):
            record = json.loads(bucket.cat_file(path))
            assert len(bucket.cat_file(path.replace(".json", ".mp4"))) == record["bytes"]


def test_batch_reads_and_writes_a_store(bucket, alone):
    result = run(IN, OUT, BatchSettings(jobs=2))
    assert (result.totals.encoded, result.failed) == (3, 0)
    assert stored(bucket) == alone
    assert {record.output for record in read_results(OUT)} == {*alone}
    again = run(IN, OUT, executor=InProcess())
    assert (again.totals.encoded, again.totals.done_before) == (0, 3)
    assert not bucket.exists(f"archive/out/{lock.BATCH_LOCK}")
    assert_nothing_half(bucket)


def test_wrong_credentials_are_told_in_one_line(proxy):
    ask_server(proxy, "reset-auth", "0")
    places = ((IN, OUT), (IN, "/nowhere/that/is/made"), ("/usr", OUT))
    for done in run_commands(*(("batch", root, "-o", out) for root, out in places)):
        assert (done.returncode, done.stdout) == (2, "")
        assert "s3://archive/" in error_of(done.stderr)
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr


def test_no_credentials_are_told_in_one_line(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_ACC")}
    environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [*SSIMRDO, "batch", IN, "-o", OUT],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert "Unable to locate credentials" in error_of(done.stderr)


def test_busy_and_slow_store_is_asked_again(proxy, bucket, alone):
    # One request in five is refused, one in seven takes its time.
    proxy.fault = lambda _, __, number: (
        "503" if number % 5 == 4 else "slow" if number % 7 == 3 else None
    )
    result = run(IN, OUT, executor=InProcess())
    assert proxy.faults() > 10
    assert (result.totals.encoded, result.failed) == (3, 0)
    proxy.fault = lambda *_: None
    assert stored(bucket) == alone


def test_upload_that_is_cut_is_sent_again(proxy, bucket, alone):
    cut = set()

    def fault(method, path, _):
        if method == "PUT" and path.endswith(".mp4") and path not in cut:
            cut.add(path)
            return "cut"
        return None

    proxy.fault = fault
    result = run(IN, OUT, executor=InProcess())
    assert len(cut) == 3
    assert (result.totals.encoded, result.failed) == (3, 0)
    assert stored(bucket) == alone


def test_upload_that_is_cut_again_and_again_is_a_failure_and_nothing_is_half(proxy, bucket, alone):
    proxy.fault = lambda method, path, _: (
        "cut" if method == "PUT" and path.endswith("/b.mp4") else None
    )
    result = run(IN, OUT, executor=InProcess())
    assert (result.totals.encoded, result.failed) == (2, 1)
    (failed,) = (record for record in read_results(OUT) if record.status == "failed")
    assert failed.output == "b.mp4"
    assert "the store says" in failed.reason
    assert "b.mp4" not in stored(bucket)
    assert_nothing_half(bucket)
    proxy.fault = lambda *_: None
    again = run(IN, OUT, BatchSettings(retry_failed=True), executor=InProcess())
    assert (again.totals.encoded, again.totals.done_before) == (1, 2)
    assert stored(bucket) == alone


def test_store_that_lists_nothing_loses_no_series(proxy):
    proxy.fault = lambda method, path, _: (
        "503" if method == "GET" and "prefix=in/a" in path else None
    )
    with pytest.raises(InputError, match="s3://archive/in: the store says"):
        run(IN, OUT, executor=InProcess())


def test_results_that_cannot_be_fetched_are_not_overwritten(proxy, bucket):
    run(IN, OUT, executor=InProcess())
    before = bucket.cat_file("archive/out/results.jsonl")
    proxy.fault = lambda method, path, _: (
        "503" if method == "GET" and "results.jsonl" in path else None
    )
    with pytest.raises(InputError, match="the store says"):
        run(IN, OUT, executor=InProcess())
    proxy.fault = lambda *_: None
    assert bucket.cat_file("archive/out/results.jsonl") == before


def die_at_b(job: BatchJob) -> BatchRecord:
    if job.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(job)


def test_worker_that_dies_loses_its_job_alone(bucket, alone, tmp_path):
    executor = LocalExecutor(2)
    try:
        jobs = runner.find_jobs(store_of(IN), store_of(OUT), BatchSettings(), executor)
        with Journal(tmp_path / "j") as journal:
            totals, _ = runner.run_jobs(
                jobs, executor, journal, runner.Totals(), observer=Observer(), function=die_at_b
            )
    finally:
        executor.stop()
    assert (totals.encoded, totals.failed) == (2, 1)
    assert stored(bucket) == {name: data for name, data in alone.items() if name != "b.mp4"}
    assert_nothing_half(bucket)
    result = run(IN, OUT, executor=InProcess())
    assert stored(bucket) == alone
    assert result.totals.encoded + result.totals.done_before == 3


def test_second_batch_is_refused_and_changes_nothing(bucket):
    run(IN, OUT, executor=InProcess())
    before = {path: bucket.cat_file(path) for path in bucket.find("archive/out")}
    with lock.exclusive_in(FsspecStore(OUT)):
        done, status = run_commands(("batch", IN, "-o", OUT), ("batch", "status", OUT))
    assert done.returncode == 2
    assert "another batch is running here" in error_of(done.stderr)
    assert "a batch is running" in status.stdout
    assert {path: bucket.cat_file(path) for path in bucket.find("archive/out")} == before


def test_of_two_that_begin_at_a_time_one_has_the_store(monkeypatch):
    monkeypatch.setattr(lock, "SETTLE_S", 0.2)
    got = []
    barrier, ended = threading.Barrier(4), threading.Event()

    def begin():
        barrier.wait()
        try:
            with lock.exclusive_in(FsspecStore(OUT)):
                got.append(True)
                ended.wait(20)
        except InputError:
            got.append(False)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(got) < 4:
        time.sleep(0.01)
    ended.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, False, False, True]


def test_lock_whose_answer_is_lost_is_ours(proxy):
    lost = []

    def fault(method, path, _):
        if method == "PUT" and path.endswith(lock.BATCH_LOCK) and not lost:
            lost.append(path)
            return "lost"
        return None

    proxy.fault = fault
    store = FsspecStore(OUT)
    with lock.exclusive_in(store):
        assert lost
        assert lock.is_held_in(store)
    assert store.get(lock.BATCH_LOCK) is None


def test_lock_of_a_killed_batch_is_taken_over_when_it_is_old(monkeypatch):
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)
    store = FsspecStore(OUT)
    store.put(lock.BATCH_LOCK, lock._signed("another"))
    with pytest.raises(InputError) as caught, lock.exclusive_in(store):
        pass
    assert "was killed less than 60 s ago" in str(caught.value)
    assert re.search(r"the same command goes on in (59|60) s", str(caught.value))
    monkeypatch.setattr(lock, "STALE_S", 0.0)
    with lock.exclusive_in(store):
        assert lock._holder(store)[0] != "another"
    assert store.get(lock.BATCH_LOCK) is None
    monkeypatch.setattr(lock, "STALE_S", 60.0)
    # A damaged one is nobody's.
    for damaged in (b"[" * 100_000, b"", b'{"holder": "a", "renewed": 1e999}', b'{"holder": "a"}'):
        store.put(lock.BATCH_LOCK, damaged)
        assert not lock.is_held_in(store)
        with lock.exclusive_in(store):
            assert lock.is_held_in(store)
        assert store.get(lock.BATCH_LOCK) is None


def test_lock_is_renewed_while_the_batch_lives(monkeypatch):
    monkeypatch.setattr(lock, "RENEW_S", 0.05)
    store = FsspecStore(OUT)
    with lock.exclusive_in(store):
        holder, first = lock._holder(store)
        deadline = time.monotonic() + 20
        while lock._holder(store)[1] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert lock._holder(store)[0] == holder
        assert lock.is_held_in(store)
    assert not lock.is_held_in(store)


def test_key_is_made_once():
    first, second = FsspecStore(OUT), FsspecStore(OUT)
    assert first.key() == ""
    assert first.key(make=True) == second.key(make=True) != ""
    assert not second.create(".ssimrdo-batch.key", b"x")
