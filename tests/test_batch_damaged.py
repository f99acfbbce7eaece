"""Journals and sidecars that were damaged or tampered with: set aside, and the batch goes on."""

from __future__ import annotations

import json
import logging
import os
import signal

import pytest
from batch_series import videos, write_tree
from dicom_files import CANARY, write_series
from video_files import ct_volume

from ssimrdo.batch import dry_run, read_results, run
from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.executors import InProcess

GOOD = BatchRecord("c.mp4", "c", "failed", "why", slices=3, seconds=1.5).as_dict()

LINES = {
    "deep": (b"[" * 200_000, "nested too deeply"),
    "deep object": (b'{"a":' * 200_000, "nested too deeply"),
    "digits": (b'{"output": %s}' % (b"9" * 5000), "no JSON"),
    "no JSON": (b"MUELLER^ANNA", "no JSON"),
    "no UTF-8": (b"\xff\xfe", "no JSON"),
    "no object": (b'["a"]', "no JSON object"),
    "no output": (b"{}", "has no output"),
    "too long": (b'{"output": "' + b"x" * 2_000_000 + b'"}', "no JSON"),
}
VALUES = [
    ("output", 5, "output is not printable text"),
    ("output", ["a"], "output is not printable text"),
    ("output", "../x.mp4", "no path below the output folder"),
    ("output", "/etc/x.mp4", "no path below the output folder"),
    ("output", "\ud800.mp4", "output is not printable text"),
    ("output", "", "no path below the output folder"),
    ("series", "\x1b[2J", "series is not printable text"),
    ("reason", None, "reason is not printable text"),
    ("reason", "a\nb", "reason is not printable text"),
    ("reason", "x" * 100_000, "reason is not printable text"),
    ("status", "done", "status is unknown"),
    ("status", ["failed"], "status is unknown"),
    ("slices", 1.5, "slices is not a whole number"),
    ("slices", True, "slices is not a whole number"),
    ("slices", int("9" * 300), "slices is not a whole number"),
    ("slices", -1, "slices is below 0"),
    ("worst_slice", "1", "worst_slice is not a whole number"),
    ("bit_depth", 3, "bit_depth is unknown"),
    ("seconds", "1", "seconds is not a number"),
    ("seconds", float("nan"), "seconds is not a number"),
    ("seconds", float("inf"), "seconds is not a number"),
    ("output_bytes", {"a": 1}, "output_bytes is not a whole number"),
    ("ssim_mean", "0.9", "a quality is not a number"),
    ("ssim_mean", float("nan"), "a quality is not a number"),
    ("SSIM\x1b_mean", 0.9, "a quality is not a number"),
    ("finished", "yesterday", "Invalid isoformat string"),
    ("finished", 5, "finished is not printable text"),
    ("worker", {}, "worker is not printable text"),
    ("options", 5, "options is not printable text"),
    ("inputs", [], "inputs is not printable text"),
]


@pytest.fixture
def batch(tmp_path):
    """A batch with two outputs: its folders and a function that runs it again."""
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    run(root, out, executor=InProcess())
    return root, out


def assert_whole(root, out, encoded=0):
    result = run(root, out, executor=InProcess())
    assert (result.totals.encoded, result.totals.done_before) == (encoded, 2 - encoded)
    for name in ("results.csv", "report.html"):
        assert "a.mp4" in (out / name).read_text(encoding="utf-8")
    assert {record.output for record in read_results(out)} >= {"a.mp4", "b.mp4"}


def with_value(name, value):
    return json.dumps({**GOOD, name: value}).encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        *LINES.values(),
        *((with_value(name, value), said) for name, value, said in VALUES),
    ],
    ids=[*LINES, *(f"{name}: {value!r:.20}" for name, value, _ in VALUES)],
)
def test_bad_line_is_set_aside_with_place_and_cause(batch, caplog, line, said):
    root, out = batch
    journal = out / "results.jsonl"
    before = journal.read_bytes()
    first, second = before.splitlines(keepends=True)
    journal.write_bytes(first + line + b"\n" + second)
    with caplog.at_level(logging.WARNING, "ssimrdo"):
        assert_whole(root, out)
    (message,) = {record.getMessage() for record in caplog.records}
    assert message.startswith("results.jsonl: line 2 cannot be used: ")
    assert said in message
    assert message.isprintable()
    assert len(message) < 200
    assert CANARY not in message
    assert "MUELLER" not in message
    # Nothing is lost of what others may want to look at.
    assert journal.read_bytes() == first + line + b"\n" + second


def test_many_bad_lines_are_told_in_one(batch, caplog):
    root, out = batch
    (out / "results.jsonl").write_bytes(b"{}\n" * 1000 + (out / "results.jsonl").read_bytes())
    with caplog.at_level(logging.WARNING, "ssimrdo"):
        assert_whole(root, out)
    (message,) = {record.getMessage() for record in caplog.records}
    assert "line 1 cannot be used: it has no output, and 999 more lines cannot" in message


def test_line_without_an_end_takes_no_memory_and_goes(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append(BatchRecord("a.mp4", "a", "failed", "why"))
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole + b"x" * 5_000_000)
    with Journal(tmp_path / "j") as journal:
        assert [record.output for record in journal.records()] == ["a.mp4"]
    assert (tmp_path / "j").read_bytes() == whole


def test_line_that_changes_behind_our_back_is_left_out(tmp_path):
    with Journal(tmp_path / "j") as journal:
        for name in "ab":
            journal.append(BatchRecord(f"{name}.mp4", name, "failed", "why"))
        data = (tmp_path / "j").read_bytes()
        (tmp_path / "j").write_bytes(data.replace(b'"a.mp4"', b'"a.mp4x'))
        assert [record.output for record in journal.records()] == ["b.mp4"]
        assert journal.last("a.mp4") is None


@pytest.mark.parametrize("missing", ["slices", "output_bytes", "seconds", "bit_depth", "kbps"])
def test_record_that_lacks_figures_is_shown_without(batch, missing):
    root, out = batch
    journal = out / "results.jsonl"
    first, second = map(json.loads, journal.read_text().splitlines())
    first[missing] = None
    journal.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert_whole(root, out)


SIDECARS = [
    lambda _: b"[" * 200_000,
    lambda _: b'{"bytes":' + b"9" * 5000 + b"}",
    lambda _: b"\xff\xfe",
    lambda _: b"null",
    lambda _: b"[1]",
    lambda _: b'"x"',
    lambda made: json.dumps({**made, "batch": None}).encode(),
    lambda made: json.dumps({**made, "batch": ["options"]}).encode(),
    lambda made: json.dumps({**made, "batch": {**made["batch"], "options": 5}}).encode(),
    lambda made: json.dumps({**made, "batch": {**made["batch"], "content": {}}}).encode(),
    lambda made: json.dumps({**made, "batch": {**made["batch"], "input_bytes": "x"}}).encode(),
    lambda made: json.dumps({**made, "seconds": 5}).encode(),
    lambda made: json.dumps({**made, "seconds": {"total": int("9" * 400)}}).encode(),
    lambda made: json.dumps({**made, "ssim": [1]}).encode(),
    lambda made: json.dumps({**made, "ssim": {"mean": "x"}}).encode(),
    lambda made: json.dumps({**made, "frames": None, "settings": {}}).encode(),
    lambda made: json.dumps({**made, "window": "40/400"}).encode(),
    lambda made: json.dumps({**made, "bit_depth": [8]}).encode(),
    lambda made: json.dumps({key: made[key] for key in made if key != "kbps"}).encode(),
    lambda _: b" " * (1 << 27),
]


@pytest.mark.parametrize("damage", SIDECARS, ids=range(len(SIDECARS)))
def test_damaged_sidecar_is_as_none(batch, damage):
    root, out = batch
    before = videos(out)
    path = out / "a.json"
    whole = path.read_bytes()
    path.write_bytes(damage(json.loads(whole)))
    plan, _ = dry_run(root, out, executor=InProcess())
    assert [(todo.job.output, todo.why) for todo in plan.todo] == [("a.mp4", "new")]
    assert_whole(root, out, encoded=1)
    assert videos(out) == before
    assert json.loads(path.read_bytes())["bytes"] == json.loads(whole)["bytes"]


def test_damaged_sidecar_is_told(batch, caplog):
    root, out = batch
    (out / "a.json").write_bytes(b"[" * 200_000)
    with caplog.at_level(logging.WARNING, "ssimrdo"):
        dry_run(root, out, executor=InProcess())
    (record,) = caplog.records
    assert record.getMessage() == (
        "a.json: is no sidecar of a batch, or damaged: its series is encoded again"
    )


def test_pipes_and_devices_in_a_series_are_not_waited_for(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    os.mkfifo(root / "a" / "pipe.dcm")
    (root / "b" / "zeros.dcm").symlink_to("/dev/zero")

    def give_up(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 20, 1)
    try:
        result = run(root, out, executor=InProcess())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (result.totals.encoded, result.failed) == (2, 0)


def test_slices_unlike_their_neighbours_are_in_the_results(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    volume = ct_volume(9, 64, 64, seed=1)
    volume[[2, 6]] += 900
    write_series(root / "a", volume)
    write_tree(root, "b")
    for again in (False, True):
        if again:
            # Once more from the sidecars.
            (out / "results.jsonl").unlink()
        run(root, out, executor=InProcess())
        warned = {one.output: one.warnings.split() for one in read_results(out)}
        assert "unlike_neighbours" in warned["a.mp4"]
        assert "unlike_neighbours" not in warned["b.mp4"]
    (told,) = (
        one
        for one in json.loads((out / "a.json").read_text())["warnings"]
        if one["code"] == "unlike_neighbours"
    )
    assert told["text"].endswith("slice 3, 7")
    assert "unlike those around them" in (out / "report.html").read_text(encoding="utf-8")
