"""Outputs that are not current: named, never counted, and removed when asked."""

from __future__ import annotations

import json
import shutil
import stat
import threading

import fsspec
import pytest
from batch_series import videos, write_tree

from ssimrdo.batch import BatchSettings, dry_run, lock, prune, read_results, run, stale_outputs
from ssimrdo.batch.store import KEY_NAME, FsspecStore
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.executors import InProcess
from ssimrdo.observer import Observer


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path / "in", "a", "b/x", "b/y")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def encode(root, out, **settings):
    return run(root, out, BatchSettings(**settings), executor=InProcess()).totals


def statuses(out):
    return {record.output: record.status for record in read_results(out)}


def stale(out):
    return {one.output: one.reason for one in stale_outputs(out)}


def test_output_whose_series_is_gone_is_named_and_pruned(root, out):
    encode(root, out)
    assert stale(out) == {}
    shutil.rmtree(root / "b")
    plan, _ = dry_run(root, out, executor=InProcess())
    assert plan.orphaned == 2
    assert encode(root, out).done_before == 1
    assert set(stale(out)) == {"b/x.mp4", "b/y.mp4"}
    assert statuses(out) == {"a.mp4": "encoded", "b/x.mp4": "orphaned", "b/y.mp4": "orphaned"}
    assert ",orphaned," in (out / "results.csv").read_text()
    journal = (out / "results.jsonl").read_bytes()
    encode(root, out)
    assert (out / "results.jsonl").read_bytes() == journal
    page = (out / "report.html").read_text()
    assert 'href="./a.mp4"' in page
    assert 'href="./b/x.mp4"' not in page
    assert "b/x.mp4" in page.partition('id="orphaned"')[2].partition("</section>")[0]
    assert [one.output for one in prune(out, {"b/x.mp4"})] == ["b/x.mp4"]
    assert set(videos(out)) == {"a.mp4", "b/y.mp4"}
    prune(out)
    assert set(videos(out)) == {"a.mp4"}
    assert not (out / "b").exists()
    assert statuses(out) == {"a.mp4": "encoded"}
    assert "b/y.mp4" not in (out / "results.csv").read_text()
    assert prune(out) == []


def test_series_that_comes_back_makes_its_output_current(root, out):
    encode(root, out)
    shutil.move(root / "b", root.parent / "b")
    encode(root, out)
    shutil.move(root.parent / "b", root / "b")
    assert encode(root, out).done_before == 3
    assert stale(out) == {}
    assert set(statuses(out).values()) == {"encoded"}


def test_outputs_of_another_root_stay_current(root, out, tmp_path):
    write_tree(tmp_path / "more", "z")
    encode(root, out)
    encode(tmp_path / "more", out)
    assert stale(out) == {}
    encode(root, out)
    assert statuses(out) == dict.fromkeys(("a.mp4", "b/x.mp4", "b/y.mp4", "z.mp4"), "encoded")


def test_outputs_are_of_the_root_that_saw_them_last(root, out):
    encode(root, out)
    moved = root.rename(root.with_name("moved"))
    assert encode(moved, out).done_before == 3
    shutil.rmtree(moved / "a")
    encode(moved, out)
    assert set(stale(out)) == {"a.mp4"}


def test_lines_that_leave_a_manifest_leave_orphans(root, out, tmp_path):
    jobs = tmp_path / "jobs.csv"
    jobs.write_text("series\na\nb/x\n")
    run(root, out, manifest=jobs, executor=InProcess())
    jobs.write_text("series\na\n")
    run(root, out, manifest=jobs, executor=InProcess())
    assert set(stale(out)) == {"b/x.mp4"}


def test_output_whose_series_fails_now_is_named_and_pruned(root, out):
    encode(root, out)
    (root / "a/bad.dcm").write_bytes(b"")
    totals = encode(root, out)
    assert (totals.failed, totals.done_before) == (1, 2)
    assert (out / "a.mp4").is_file()
    assert stale(out) == {"a.mp4": "its series fails now; this is of an earlier run"}
    prune(out)
    assert not (out / "a.mp4").exists()
    assert not (out / "a.json").exists()
    # What failed is still known, and not tried again.
    assert statuses(out)["a.mp4"] == "failed"
    assert encode(root, out).failed_before == 1


def test_file_of_others_where_a_series_failed_stays(root, out):
    (root / "a/bad.dcm").write_bytes(b"")
    encode(root, out)
    (out / "a.mp4").write_text("mine")
    assert prune(out) == []
    assert (out / "a.mp4").read_text() == "mine"


def test_sidecar_of_another_container_stays(root, out):
    encode(root, out)
    encode(root, out, suffix=".mkv")
    assert set(stale(out)) == {"a.mp4", "b/x.mp4", "b/y.mp4"}
    prune(out)
    assert videos(out) == {}
    assert json.loads((out / "a.json").read_text())["output"] == "a.mkv"
    assert encode(root, out, suffix=".mkv").done_before == 3


def test_orphans_of_a_store(root):
    place = "memory://stale/out"
    encode(root, place)
    shutil.rmtree(root / "b")
    encode(root, place)
    assert {one.output for one in prune(place)} == {"b/x.mp4", "b/y.mp4"}
    store = fsspec.filesystem("memory")
    left = {path.rpartition("/")[2] for path in store.find("/stale/out")}
    store.rm("/stale", recursive=True)
    assert {"a.mp4", "a.json"} <= left
    assert not any(name.startswith(("x.", "y.")) for name in left)


def test_nothing_is_pruned_while_a_batch_runs(root, out):
    encode(root, out)
    with lock.exclusive(out), pytest.raises(InputError, match="another batch is running here"):
        prune(out)


def test_nothing_is_pruned_where_no_batch_was(tmp_path):
    for look in (prune, lambda place: list(stale_outputs(place))):
        with pytest.raises(InputError, match="no batch has been here"):
            look(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_key_is_for_its_owner_alone(root, out):
    encode(root, out)
    assert stat.S_IMODE((out / KEY_NAME).stat().st_mode) == 0o600


def test_batch_that_lost_its_store_stops_and_leaves_the_results(root, monkeypatch):
    place = "memory://lost/out"
    encode(root, place)
    shutil.rmtree(root / "b")
    write_tree(root, "a", "c", "d")
    store = FsspecStore(place)
    before = store.get("results.jsonl")
    monkeypatch.setattr(lock, "RENEW_S", 0.01)
    started = []

    def take_over(event):
        if event.kind == "started":
            started.append(event.job.output)
            store.put(lock.BATCH_LOCK, lock._signed("another"))
            # Until it is seen.
            deadline.wait(0.5)

    deadline = threading.Event()
    with pytest.raises(SsimrdoError, match="another one has taken over: wait for that one"):
        run(root, place, executor=InProcess(), observer=Observer(take_over))
    assert len(started) == 1
    assert store.get("results.jsonl") == before
    # It is the other's lock.
    assert lock._holder(store)[0] == "another"
    fsspec.filesystem("memory").rm("/lost", recursive=True)
