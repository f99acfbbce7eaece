"""Batches on processes of this machine: resume, failures, exclusion, results."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import fsspec
import pytest
from batch_series import videos, write_tree
from dicom_files import CANARY
from messages import error_of

from ssimrdo.batch import (
    BatchSettings,
    LocalExecutor,
    dry_run,
    lock,
    read_results,
    run,
    runner,
    state,
)
from ssimrdo.batch.job import BatchJob, run_job
from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.batch.store import store_of
from ssimrdo.encoding.encode import encode
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.executors import InProcess
from ssimrdo.machine import cores
from ssimrdo.observer import Observer

SSIMRDO = [sys.executable, "-m", "ssimrdo"]
PARTIAL = re.compile(r"\.partial$")


@pytest.fixture(scope="module")
def executor():
    executor = LocalExecutor(2)
    yield executor
    executor.stop()


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path / "in", "a/x", "a/y", "b")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def results(out):
    return {record.output: record for record in read_results(out)}


def states(out):
    """Return what tells whether a file was written again."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(out.rglob("*"))
        if path.suffix in (".mp4", ".json")
    }


def counts(result):
    totals = result.totals
    return totals.encoded, totals.failed, totals.done_before, totals.failed_before


# Functions that workers run; they are found by name in this module.


def lose_workers_at_b_and_c(job: BatchJob) -> BatchRecord:
    if job.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.name == "c":
        # Core dumps would slow the test down.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.raise_signal(signal.SIGSEGV)
    return run_job(job)


def hang_at_b(job: BatchJob) -> BatchRecord:
    if job.name == "b":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    # That takes no time on however busy a machine.
    return BatchRecord(job.output, job.name, "encoded")


def small_disk_at_b(job: BatchJob) -> BatchRecord:
    if job.name == "b":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            return run_job(job)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return run_job(job)


def fail_with_header_text_at_b(job: BatchJob) -> BatchRecord:
    digest = state.content_digest
    if job.name == "b":

        def fail(*_):
            raise ValueError(CANARY)

        state.content_digest = fail
    try:
        return run_job(job)
    finally:
        state.content_digest = digest


def raise_at_b(job: BatchJob) -> BatchRecord:
    if job.name == "b":
        raise LookupError(CANARY)
    return run_job(job)


def test_outputs_are_those_of_single_encodes_and_results_say_so(root, out, executor, tmp_path):
    result = run(root, out, executor=executor)
    assert counts(result) == (3, 0, 0, 0)
    assert not result.interrupted
    assert sorted(videos(out)) == ["a/x.mp4", "a/y.mp4", "b.mp4"]
    for name, content in videos(out).items():
        alone = tmp_path / "alone.mp4"
        single = encode(root / name[:-4], alone, EncodeSettings(threads=1), overwrite=True)
        assert alone.read_bytes() == content
        record = results(out)[name]
        assert (record.status, record.output_bytes) == ("encoded", len(content))
        assert record.quality["ssim_mean"] == pytest.approx(single.ssim.mean)
        assert record.worst_slice == single.worst_slice
        files = list((root / name[:-4]).iterdir())
        assert record.input_bytes == sum(path.stat().st_size for path in files)
    with (out / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["output"] for row in rows] == ["a/x.mp4", "a/y.mp4", "b.mp4"]
    assert float(rows[0]["ssim_min"]) == results(out)["a/x.mp4"].quality["ssim_min"]
    assert "<h1>Batch of 3 series</h1>" in (out / "report.html").read_text()


def test_resume_does_what_is_missing_or_changed(root, out, executor):
    run(root, out, executor=executor)
    before = states(out)
    assert counts(run(root, out, executor=executor)) == (0, 0, 3, 0)
    assert states(out) == before

    (out / "a/x.mp4").unlink()
    (out / "a/y.json").unlink()
    assert counts(run(root, out, executor=executor)) == (2, 0, 1, 0)
    assert states(out)["b.mp4"] == before["b.mp4"]

    (out / "b.mp4").write_bytes((out / "b.mp4").read_bytes()[:-1])
    assert counts(run(root, out, executor=executor)) == (1, 0, 2, 0)


def test_resume_after_the_input_changed(root, out, executor):
    run(root, out, executor=executor)
    before = states(out)
    slice_path = next((root / "b").iterdir())
    content = bytearray(slice_path.read_bytes())
    content[-100] ^= 1
    slice_path.write_bytes(content)
    plan, _ = dry_run(root, out, executor=executor)
    assert [(todo.job.name, todo.why) for todo in plan.todo] == [("b", "input changed")]
    assert counts(run(root, out, executor=executor)) == (1, 0, 2, 0)
    after = states(out)
    assert after["b.mp4"] != before["b.mp4"]
    assert after["x.mp4"] == before["x.mp4"]


def test_copies_with_other_times_and_names_count_as_the_same(root, out, executor):
    run(root, out, executor=executor)
    before = states(out)
    for number, path in enumerate(sorted((root / "b").iterdir())):
        copy = path.with_name(f"copy{number}.dcm")
        shutil.copy(path, copy)
        path.unlink()
    assert counts(run(root, out, executor=executor)) == (1, 0, 2, 0)
    assert states(out) == before


def test_resume_after_the_options_changed(root, out, executor):
    run(root, out, executor=executor)
    old = videos(out)
    settings = BatchSettings(encode=EncodeSettings.of(crf=30))
    plan, speed = dry_run(root, out, settings, executor=executor)
    assert {todo.why for todo in plan.todo} == {"options changed"}
    assert speed is not None
    assert counts(run(root, out, settings, executor=executor)) == (3, 0, 0, 0)
    assert all(videos(out)[name] != old[name] for name in old)
    # Threads change bits, not what was asked for.
    settings = BatchSettings(encode=EncodeSettings.of(crf=30, threads=2))
    assert counts(run(root, out, settings, executor=executor)) == (0, 0, 3, 0)


def test_another_machine_resumes_from_the_sidecars_alone(root, out, executor):
    run(root, out, executor=executor)
    before, known = states(out), results(out)
    for name in ("results.jsonl", "results.csv", "report.html"):
        (out / name).unlink()
    assert counts(run(root, out, executor=executor)) == (0, 0, 3, 0)
    assert states(out) == before
    assert {r.output: r.quality for r in results(out).values()} == {
        r.output: r.quality for r in known.values()
    }


def test_corrupt_series_is_isolated_and_tried_again_when_asked(root, out, executor):
    victim = sorted((root / "b").iterdir())[0]
    good = victim.read_bytes()
    victim.write_bytes(good[:-2000])
    assert counts(run(root, out, executor=executor)) == (2, 1, 0, 0)
    record = results(out)["b.mp4"]
    assert record.status == "failed"
    assert "cut off" in record.reason
    assert "cut off" in (out / "report.html").read_text()
    assert counts(run(root, out, executor=executor)) == (0, 0, 2, 1)
    again = BatchSettings(retry_failed=True)
    assert counts(run(root, out, again, executor=executor)) == (0, 1, 2, 0)
    # Once it is repaired nobody has to ask.
    victim.write_bytes(good)
    assert counts(run(root, out, executor=executor)) == (1, 0, 2, 0)
    assert results(out)["b.mp4"].status == "encoded"


def test_skip_bad_leaves_damaged_files_out(root, out, executor):
    (root / "b/bad.dcm").write_bytes(b"")
    assert counts(run(root, out, executor=executor)) == (2, 1, 0, 0)
    before = states(out)
    settings = BatchSettings(skip_bad=True, retry_failed=True)
    # What was made without leaving anything out is what it would be.
    assert counts(run(root, out, settings, executor=executor)) == (1, 0, 2, 0)
    assert {name: states(out)[name] for name in before} == before
    journal = (out / "results.jsonl").read_bytes()
    assert counts(run(root, out, settings, executor=executor)) == (0, 0, 3, 0)
    assert (out / "results.jsonl").read_bytes() == journal
    # The other way round it may have been let through.
    assert counts(run(root, out, executor=executor)) == (0, 1, 2, 0)


def run_function(root, out, function, executor):
    """Run a batch whose workers run another function."""
    settings = BatchSettings()
    out.mkdir()
    with Journal(out / "results.jsonl") as journal:
        jobs = runner.find_jobs(store_of(root), store_of(out), settings, executor)
        totals, is_whole = runner.run_jobs(
            jobs,
            executor,
            journal,
            runner.Totals(),
            observer=Observer(),
            function=function,
        )
        return totals, is_whole, {r.output: r for r in journal.records()}


def test_worker_that_dies_loses_its_job_alone(root, out, executor):
    write_tree(root, "a/x", "a/y", "b", "c", "d")
    totals, is_whole, records = run_function(root, out, lose_workers_at_b_and_c, executor)
    assert (totals.encoded, totals.failed, is_whole) == (3, 2, True)
    assert "SIGKILL" in records["b.mp4"].reason
    assert "SIGSEGV" in records["c.mp4"].reason
    assert len(videos(out)) == 3


def test_job_that_hangs_is_killed(root, out):
    executor = LocalExecutor(2, timeout_s=3)
    try:
        totals, _, records = run_function(root, out, hang_at_b, executor)
    finally:
        executor.stop()
    assert (totals.encoded, totals.failed) == (2, 1)
    assert "timed out" in records["b.mp4"].reason


def test_slow_job_gives_up(root, out, executor):
    assert counts(run(root, out, BatchSettings(timeout_s=1e-6), executor=executor)) == (0, 3, 0, 0)
    assert results(out)["b.mp4"].reason == "timed out after 1e-06 s"
    assert not list(out.rglob("*.partial"))


def test_full_disk_is_recorded(root, out, executor):
    totals, _, records = run_function(root, out, small_disk_at_b, executor)
    assert (totals.encoded, totals.failed) == (2, 1)
    assert "b.mp4: File too large" in records["b.mp4"].reason
    assert not list(out.rglob("*.partial"))


def test_unexpected_error_is_recorded_without_its_message(root, out, executor):
    totals, _, records = run_function(root, out, fail_with_header_text_at_b, executor)
    assert (totals.encoded, totals.failed) == (2, 1)
    assert CANARY not in records["b.mp4"].reason
    assert "unexpected ValueError in test_batch.py" in records["b.mp4"].reason


def test_error_that_no_job_may_raise_is_recorded_and_the_rest_go_on(root, out, executor):
    totals, is_whole, records = run_function(root, out, raise_at_b, executor)
    assert (totals.encoded, totals.failed, is_whole) == (2, 1, True)
    assert "unexpected LookupError" in records["b.mp4"].reason
    assert CANARY not in records["b.mp4"].reason


def test_fail_fast_starts_no_more(tmp_path, out):
    names = [f"{number:02d}" for number in range(12)]
    write_tree(tmp_path / "in", *names)
    next((tmp_path / "in/00").iterdir()).write_bytes(b"DICM")
    next((tmp_path / "in/00").glob("*")).rename(tmp_path / "in/00/0.dcm")
    with LocalExecutor(1) as executor:
        result = run(tmp_path / "in", out, BatchSettings(fail_fast=True), executor=executor)
    assert result.totals.failed == 1
    assert result.totals.encoded < 11
    assert result.interrupted
    # What is left is done by the next run.
    assert counts(run(tmp_path / "in", out))[0] == 11 - result.totals.encoded


def test_request_to_stop_finishes_what_runs(root, out, executor):
    write_tree(root, *(f"{number}" for number in range(9)))
    cancel = threading.Event()
    counted = []

    def at_first(event):
        counted.append((event.kind, event.done, event.total))
        if event.kind == "finished":
            cancel.set()

    result = run(root, out, executor=executor, observer=Observer(at_first, cancel))
    assert counted[:2] == [("search", 0, 0), ("planned", 0, 9)]
    # Two may have finished at a time.
    (*_, last) = (one for one in counted if one[0] == "finished")
    assert last == ("finished", result.totals.encoded, 9)
    assert [kind for kind, _, _ in counted].count("stopping") == 1
    assert result.interrupted
    assert 0 < result.totals.encoded < 9
    assert len(videos(out)) == result.totals.encoded
    assert counts(run(root, out, executor=executor))[2] == result.totals.encoded


def test_two_batches_exclude_each_other(root, out):
    out.mkdir()
    with lock.exclusive(out):
        done = subprocess.run(
            [*SSIMRDO, "batch", root, "-o", out], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert "another batch is running here" in error_of(done.stderr)
    assert not videos(out)


def test_batch_waits_for_jobs_that_outlive_a_killed_one(out):
    out.mkdir()
    with (
        lock.shared(out),
        pytest.raises(InputError, match="still running"),
        lock.exclusive(out, stragglers_s=0.2),
    ):
        pass
    with lock.exclusive(out, stragglers_s=0):
        pass


@pytest.mark.parametrize("name", ["b.mp4", "b.json"])
def test_files_of_others_are_not_replaced(root, out, executor, name):
    out.mkdir()
    (out / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=f"{name}: exists and is of no batch"):
        run(root, out, executor=executor)
    assert (out / name).read_bytes() == b"mine"
    assert not videos(out).keys() - {name}


def test_output_below_the_root_only_when_asked(root, executor):
    with pytest.raises(InputError, match="inside_root"):
        run(root, root / "videos", executor=executor)
    assert not (root / "videos").exists()
    settings = BatchSettings(inside_root=True)
    assert counts(run(root, root / "videos", settings, executor=executor)) == (3, 0, 0, 0)
    assert counts(run(root, root / "videos", settings, executor=executor)) == (0, 0, 3, 0)


def test_leftovers_of_killed_jobs_go(root, out, executor):
    run(root, out, executor=executor)
    leftovers = [out / "a" / f".x.mp4.{'0' * 16}.partial", out / f".results.csv.{'1' * 16}.partial"]
    folder = out / f".b.{'2' * 16}.partial"
    other = out / "a" / ".notes.partial"
    folder.mkdir()
    for path in (*leftovers, other, folder / "x"):
        path.write_bytes(b"")
    run(root, out, executor=executor)
    assert not [path for path in (*leftovers, folder) if path.exists()]
    assert other.exists()


def test_torn_line_of_the_journal_is_dropped(root, out, executor):
    run(root, out, executor=executor)
    whole = (out / "results.jsonl").read_bytes()
    (out / "results.jsonl").write_bytes(whole + b'{"output": "a/x.m')
    assert counts(run(root, out, executor=executor)) == (0, 0, 3, 0)
    assert (out / "results.jsonl").read_bytes() == whole


def test_journal_waits_for_room_on_the_disk(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    records = [BatchRecord(f"{number}.mp4", "x", "failed", "y" * 300) for number in range(3)]
    try:
        with Journal(tmp_path / "j") as journal:
            journal.append(records[0])
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            journal.append(records[1])
            assert not journal.flush()
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            journal.append(records[2])
            assert journal.flush()
            assert list(journal.records()) == records
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)


def test_killed_batch_is_resumed_to_the_same_outputs(tmp_path, executor):
    names = [f"{number:02d}" for number in range(9)]
    write_tree(tmp_path / "in", *names)
    run(tmp_path / "in", tmp_path / "whole", executor=executor)
    out = tmp_path / "killed"
    done = {}
    for kill_at in (1, 3, 6):
        process = subprocess.Popen(
            [*SSIMRDO, "batch", tmp_path / "in", "-o", out, "--json-log"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for line in process.stderr:
            finished = len(list(out.rglob("*.json"))) if out.exists() else 0
            if json.loads(line)["event"] == "finished" and finished >= kill_at:
                break
        process.kill()
        process.wait()
        process.stderr.close()
        with lock.exclusive(out):
            now = states(out)
        complete = {
            name for name in now if name.endswith(".mp4") and name.replace(".mp4", ".json") in now
        }
        assert {name: now[name] for name in done} == done
        done = {name: now[name] for name in complete}
    result = run(tmp_path / "in", out, executor=executor)
    assert result.totals.done_before == len(done)
    assert videos(out) == videos(tmp_path / "whole")
    now = states(out)
    assert {name: now[name] for name in done} == done
    assert len(results(out)) == 9
    assert not [path for path in out.rglob("*") if PARTIAL.search(path.name)]


def test_ctrl_c_once_leaves_a_resumable_state(tmp_path, out):
    write_tree(tmp_path / "in", *(f"{number:02d}" for number in range(16)))
    process = subprocess.Popen(
        [*SSIMRDO, "batch", tmp_path / "in", "-o", out],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    log = []
    for line in process.stderr:
        log.append(line)
        if line.startswith("ssimrdo: [2/16]"):
            process.send_signal(signal.SIGINT)
    said = process.stdout.read()
    assert process.wait() == 130
    process.stderr.close()
    process.stdout.close()
    assert any("finishing" in line for line in log)
    assert "the same command goes on" in said
    encoded = len(videos(out))
    assert 2 <= encoded < 16
    assert len(results(out)) == encoded
    assert not list(out.rglob(".*.partial"))


def test_nothing_names_the_patient(root, out, executor):
    victim = next((root / "b").iterdir())
    victim.write_bytes(victim.read_bytes()[:-2000])
    settings = BatchSettings(name_template="{uid_hash}")
    run(root, out, settings, executor=executor)
    assert len(list(out.iterdir())) == 10
    for path in out.rglob("*"):
        assert CANARY not in path.name
        assert CANARY.encode() not in path.read_bytes()


def test_no_series_is_an_error(tmp_path, out, executor):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no CT series below it"):
        run(tmp_path / "empty", out, executor=executor)
    shutil.rmtree(out)
    with pytest.raises(InputError, match="no such file or folder"):
        run(tmp_path / "missing", out, executor=executor)
    assert not out.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jobs", 0),
        ("jobs", "2"),
        ("timeout_s", 0),
        ("timeout_s", True),
        ("suffix", ".avi"),
        ("suffix", ".hevc"),
        ("name_template", "{x}"),
        ("name_template", 5),
        ("encode", {"crf": 20}),
        ("dask", 8786),
    ],
)
def test_bad_settings_name_the_field(field, value):
    with pytest.raises(InputError) as caught:
        BatchSettings(**{field: value})
    assert caught.value.field == field
    assert "--" not in str(caught.value)


def test_jobs_never_exceed_the_cores():
    assert BatchSettings(jobs=100).workers == cores()
    assert BatchSettings(encode=EncodeSettings(threads=cores())).workers == 1
    assert BatchSettings(encode=EncodeSettings(threads=128)).workers == 1


def test_urls(root, out, executor):
    run(root, out, executor=executor)
    elsewhere = out.with_name("store")
    assert counts(run(f"file://{root}", f"file://{elsewhere}", executor=executor)) == (3, 0, 0, 0)
    assert videos(elsewhere) == videos(out)
    before = states(elsewhere)
    assert counts(run(f"file://{root}", f"file://{elsewhere}", executor=executor)) == (0, 0, 3, 0)
    assert states(elsewhere) == before
    # Links to folders are not followed, and no message has the path.
    (root / "around").symlink_to(root)
    (root / "broken").mkdir()
    (root / "broken" / "x.dcm").write_bytes(b"")
    assert counts(run(f"file://{root}", f"file://{elsewhere}", executor=executor)) == (0, 1, 3, 0)
    assert str(root.parent) not in (elsewhere / "results.csv").read_text(encoding="utf-8")


def test_store_without_folders(root, out, executor):
    run(root, out, executor=executor)
    store = fsspec.filesystem("memory")
    store.put(f"{root}/", "/bucket/in/", recursive=True)
    places = "memory://bucket/in", "memory://bucket/out"
    # What is in memory is seen by this process alone.
    plan, _ = dry_run(*places, executor=InProcess())
    assert plan.jobs == 3
    assert counts(run(*places, executor=InProcess())) == (3, 0, 0, 0)
    for name, content in videos(out).items():
        assert store.cat(f"/bucket/out/{name}") == content
    assert counts(run(*places, executor=InProcess())) == (0, 0, 3, 0)
    assert len(list(read_results(places[1]))) == 3


def test_unknown_kind_of_url(root, executor):
    with pytest.raises(InputError, match="cannot be used"):
        run(root, "nonsense://x/y", executor=executor)
