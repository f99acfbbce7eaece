"""What the results of a batch tell of where it ran and of what its input is called."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from batch_series import write_tree
from dicom_files import CANARY, write_series, write_slice
from test_list import write_phases
from video_files import ct_volume

from ssimrdo.batch import BatchSettings, CTSettings, LocalExecutor, read_results, run, runner
from ssimrdo.batch.job import BatchJob, without_places
from ssimrdo.batch.journal import Journal
from ssimrdo.batch.names import tells_path
from ssimrdo.batch.store import KEY_NAME, store_of
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.executors import InProcess
from ssimrdo.observer import Observer

NAME = "ZZMUELLERZZ"
HIDDEN = BatchSettings(name_template="{study_hash}/{uid_hash}")
JPEG_LS = "1.2.840.10008.1.2.4.80"


def write_troubles(root):
    """Write a good series and one for each way to fail, in folders and files named for somebody."""
    for number, kind in enumerate(
        ("good", "cut", "corrupt", "small", "sizes", "spacing", "twice", "all")
    ):
        folder = root / f"{NAME}-{kind}"
        uid = f"1.2.3.{number}"
        size = 8 if kind == "small" else 32
        compress = JPEG_LS if kind == "corrupt" else None
        more = {"PixelSpacing": [0.001, 50]} if kind == "spacing" else {}
        paths = write_series(
            folder, ct_volume(3, size, size), SeriesInstanceUID=uid, compress=compress, **more
        )
        paths = [path.rename(path.with_name(f"{NAME}-{path.name}")) for path in paths]
        if kind in ("cut", "all"):
            for path in paths[: 1 if kind == "cut" else 3]:
                path.write_bytes(path.read_bytes()[:-700])
        elif kind == "corrupt":
            data = paths[1].read_bytes()
            start = data.index(b"\xff\xd8\xff\xf7") + 40
            paths[1].write_bytes(data[:start] + bytes(len(data) - start - 4) + data[-4:])
        elif kind == "sizes":
            write_slice(folder / f"{NAME}.dcm", np.zeros((48, 48), "u2"), SeriesInstanceUID=uid)
        elif kind == "twice":
            path = folder / f"{NAME}-{NAME}.dcm"
            path.write_bytes(paths[0].read_bytes())
            data = bytearray(path.read_bytes())
            data[-9] ^= 0x55
            path.write_bytes(data)


def everything(out):
    """Return the names and contents of all that a batch has written."""
    return b"\n".join(
        os.fsencode(path.relative_to(out)) + (path.read_bytes() if path.is_file() else b"")
        for path in sorted(out.rglob("*"))
    )


def assert_no_place(data, tmp_path):
    for secret in (
        str(tmp_path).encode(),
        tmp_path.name.encode(),
        f"{socket.gethostname()}:".encode(),
        f":{os.getpid()}".encode(),
        b"ssimrdo-scratch",
    ):
        assert secret not in data


def test_results_hold_relative_paths_and_no_host(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_troubles(root)
    result = run(root, out, BatchSettings(jobs=2))
    assert (result.totals.encoded, result.totals.failed) == (1, 7)
    assert_no_place(everything(out), tmp_path)
    records = {record.series.rpartition("-")[2]: record for record in read_results(out)}
    cut = records["cut"]
    assert re.match(rf"{NAME}-cut/{NAME}-000\d\.dcm: .*cut off", cut.reason)
    assert {record.series for record in records.values()} == {p.name for p in root.iterdir()}
    for record in records.values():
        assert re.fullmatch("[0-9a-f]{8}", record.worker)


def test_failures_of_a_store_name_its_files_not_the_copies(tmp_path):
    write_troubles(tmp_path / "in")
    store = fsspec.filesystem("memory")
    store.put(f"{tmp_path}/in/", "/named/in/", recursive=True)
    run("memory://named/in", "memory://named/out", executor=InProcess())
    reasons = [record.reason for record in read_results("memory://named/out")]
    store.rm("/named", recursive=True)
    assert [
        reason for reason in reasons if re.match(rf"{NAME}-cut/{NAME}-000\d\.dcm: .*cut", reason)
    ]
    assert [reason for reason in reasons if re.search(rf"\({NAME}[-0-9]*.dcm and {NAME}", reason)]


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_names_that_hide_their_series_hide_it_everywhere(tmp_path, kind):
    root, out = tmp_path / "in", tmp_path / "out"
    write_troubles(root)
    if kind == "path":
        run(root, out, HIDDEN, executor=InProcess())
    else:
        store = fsspec.filesystem("memory")
        store.put(f"{root}/", "/hidden/in/", recursive=True)
        run("memory://hidden/in", "memory://hidden/out", HIDDEN, executor=InProcess())
        store.get("/hidden/out", str(out), recursive=True)
        store.rm("/hidden", recursive=True)
    data = everything(out)
    assert data.count(b'"failed"') == 7
    assert NAME.encode() not in data
    assert_no_place(data, tmp_path)
    assert {record.series for record in read_results(out)} == {""}
    assert any("a file of the series: " in record.reason for record in read_results(out))


def write_archives(root):
    """Write what a batch takes beside folders, named for somebody, good and damaged."""
    for number, kind in enumerate(("good", "cut", "sizes", "twice")):
        source = root.parent / f"source-{kind}"
        uid = f"1.2.777.{number}"
        paths = write_series(
            source / NAME, ct_volume(3, 32, 32), SeriesInstanceUID=uid, OperatorsName=f"{CANARY}^OP"
        )
        paths = [path.rename(path.with_name(f"{NAME}-{path.name}")) for path in paths]
        if kind == "cut":
            paths[0].write_bytes(paths[0].read_bytes()[:-700])
        elif kind == "sizes":
            write_slice(source / f"{NAME}.dcm", np.zeros((48, 48), "u2"), SeriesInstanceUID=uid)
        elif kind == "twice":
            data = bytearray(paths[0].read_bytes())
            data[-9] ^= 0x55
            (source / f"{NAME}-again.dcm").write_bytes(data)
        root.mkdir(exist_ok=True)
        shutil.make_archive(str(root / f"{NAME}-{kind}"), "zip", source)
    write_phases(root / f"{NAME}-phases", SeriesInstanceUID="1.2.777.9", PatientID=CANARY)


@pytest.mark.parametrize("kind", ["path", "memory"])
@pytest.mark.parametrize(
    "settings",
    [
        BatchSettings(),
        BatchSettings(suffix=".dcm"),
        BatchSettings(CTSettings.of(max_hu_error=30)),
        BatchSettings(EncodeSettings.of(window="full"), suffix=".mkv"),
    ],
    ids=["mp4", "dcm", "ct", "wide"],
)
def test_all_kinds_of_input_and_output_hide_whose_they_are(tmp_path, settings, kind):
    root, out = tmp_path / "in", tmp_path / "out"
    write_archives(root)
    settings = replace(settings, name_template="{study_hash}/{uid_hash}{phase}")
    if kind == "path":
        totals = run(root, out, settings, executor=InProcess()).totals
    else:
        store = fsspec.filesystem("memory")
        store.put(f"{root}/", "/kinds/in/", recursive=True)
        totals = run(
            "memory://kinds/in", "memory://kinds/out", settings, executor=InProcess()
        ).totals
        store.get("/kinds/out", str(out), recursive=True)
        store.rm("/kinds", recursive=True)
    assert (totals.encoded, totals.failed) == (3, 3)
    data = everything(out)
    assert NAME.encode() not in data
    assert CANARY.encode() not in data
    assert b"1.2.777." not in data
    assert_no_place(data, tmp_path)
    assert any("a file of the series" in record.reason for record in read_results(out))


def test_archives_are_named_by_their_place_below_the_root(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_archives(root)
    run(root, out, executor=InProcess())
    reasons = {record.series: record.reason for record in read_results(out)}
    assert_no_place(everything(out), tmp_path)
    assert reasons[f"{NAME}-cut.zip"].startswith(f"{NAME}-cut.zip/{NAME}/{NAME}-000")


def test_results_name_no_uids_to_choose_from(tmp_path):
    for number in range(2):
        write_series(
            tmp_path / "two" / f"{number}",
            ct_volume(2, 32, 32),
            SeriesInstanceUID=f"1.2.777.{number}",
        )
    (tmp_path / "jobs.csv").write_text("series,series_uid\ntwo,\ntwo/1,1.2.666\n")
    out = tmp_path / "out"
    result = run(None, out, manifest=tmp_path / "jobs.csv", executor=InProcess())
    assert result.failed == 2
    assert b"1.2." not in everything(out)
    reasons = sorted(record.reason for record in read_results(out))
    assert reasons == [
        "two/1: no CT series has the UID that was given: choose one by its number with series_uid",
        "two: holds 2 CT series: choose one by its number with series_uid",
    ]


def die(_: BatchJob):
    os.kill(os.getpid(), signal.SIGKILL)


def test_failure_of_a_worker_hides_its_series_too(tmp_path):
    write_tree(tmp_path / "in", NAME)
    executor = LocalExecutor(1)
    source, out = store_of(tmp_path / "in"), store_of(tmp_path)
    try:
        jobs = runner.find_jobs(source, out, HIDDEN, executor)
        with Journal(tmp_path / "j") as journal:
            runner.run_jobs(
                jobs, executor, journal, runner.Totals(), observer=Observer(), function=die
            )
    finally:
        executor.stop()
    text = (tmp_path / "j").read_text()
    assert "SIGKILL" in text
    assert NAME not in text


@pytest.mark.parametrize(
    ("template", "tells"),
    [
        (None, True),
        ("{folder}-{index}", True),
        ("x/{relative_path}", True),
        ("{uid_hash}", False),
        ("{study_hash}/{series_number:03d}-{slices}-{index}", False),
        ("ct", False),
    ],
)
def test_templates_that_tell_the_path(template, tells):
    assert tells_path(template) == tells


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/in/a/b: no CT series", "b: no CT series"),
        ("/in/a/b/x.dcm: bad", "b/x.dcm: bad"),
        ("/in/a/bc/x.dcm: bad", "/in/a/bc/x.dcm: bad"),
        ("/in/a/b-out/c.mp4: File too large", "c.mp4: File too large"),
        ("/in/a/b-out: cannot write to this folder", "the output folder: cannot write to this"),
        ("slice 4: /in/a/b/x y.dcm", "slice 4: b/x y.dcm"),
    ],
)
def test_places_in_messages(text, said):
    job = BatchJob("/in/a/b", "/in/a/b-out", "c.mp4", EncodeSettings(), "b")
    assert without_places(text, job).startswith(said)


def digests(out):
    sidecar = json.loads(next(out.glob("*.json")).read_text())["batch"]
    records = [record.inputs for record in read_results(out)]
    return {sidecar["inputs"], sidecar["content"], *records}


def test_digests_tell_nothing_without_the_key(tmp_path):
    write_tree(tmp_path / "in", "a")
    for name in ("first", "second"):
        run(tmp_path / "in", tmp_path / name, executor=InProcess())
    first, second = digests(tmp_path / "first"), digests(tmp_path / "second")
    assert not first & second
    paths = sorted((tmp_path / "in/a").iterdir())
    plain = "\n".join(sorted(f"{p.stat().st_size} {p.stat().st_mtime_ns}" for p in paths))
    assert hashlib.sha256(plain.encode()).hexdigest()[:32] not in first
    key = (tmp_path / "first" / KEY_NAME).read_text()
    assert re.fullmatch("[0-9a-f]{64}\n", key)
    for path in (tmp_path / "first").iterdir():
        assert path.name == KEY_NAME or key.strip().encode() not in path.read_bytes()
    # With the key they do: the same files are found again.
    result = run(tmp_path / "in", tmp_path / "first", executor=InProcess())
    assert result.totals.done_before == 1


def test_jobs_do_not_show_their_key(tmp_path):
    job = BatchJob("in", str(tmp_path), "x.mp4", EncodeSettings(), "in", key="5ec1e7")
    assert "5ec1e7" not in repr(job)


def test_output_with_another_key_is_made_again(tmp_path):
    write_tree(tmp_path / "in", "a")
    run(tmp_path / "in", tmp_path / "out", executor=InProcess())
    (tmp_path / "out" / KEY_NAME).unlink()
    result = run(tmp_path / "in", tmp_path / "out", executor=InProcess())
    assert (result.totals.encoded, result.totals.done_before) == (1, 0)


def test_output_of_a_version_without_keys_is_kept(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    next((root / "b").iterdir()).write_bytes(b"")
    next((root / "b").iterdir()).rename(root / "b/0.dcm")
    source = store_of(root)
    out.mkdir()
    with Journal(out / "results.jsonl") as journal:
        jobs = runner.find_jobs(source, store_of(out), BatchSettings(), InProcess())
        assert {job.key for job in jobs} == {""}
        runner.run_jobs(jobs, InProcess(), journal, runner.Totals(), observer=Observer())
    result = run(root, out, executor=InProcess())
    assert (result.totals.done_before, result.totals.failed_before) == (1, 1)


@pytest.mark.parametrize("damage", [b"", b"x" * 64, b"0" * 63, b"\xff\n"])
def test_damaged_key_is_told_and_nothing_is_encoded(tmp_path, damage):
    write_tree(tmp_path / "in", "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / KEY_NAME).write_bytes(damage)
    with pytest.raises(InputError, match=f"{KEY_NAME}: is damaged: remove it"):
        run(tmp_path / "in", tmp_path / "out", executor=InProcess())
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_a_look_at_the_plan_makes_no_key(tmp_path):
    write_tree(tmp_path / "in", "a")
    (tmp_path / "out").mkdir()
    runner.dry_run(tmp_path / "in", tmp_path / "out", executor=InProcess())
    assert list((tmp_path / "out").iterdir()) == []
