"""The command line of batches."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from batch_series import videos, write_tree
from messages import error_of
from video_files import run_command

from ssimrdo.batch import BatchEvent, BatchJob, Totals, lock, run
from ssimrdo.cli import batch as batch_command
from ssimrdo.cli import progress
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.executors import InProcess

SSIMRDO = [sys.executable, "-m", "ssimrdo"]


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


def test_life_of_a_batch(ssimrdo, tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    (root / "b/bad.dcm").write_bytes(b"")

    plan = ssimrdo("batch", root, "-o", out, "--dry-run", "--jobs", "1")
    assert plan.status == 0
    assert plan.out.startswith("a -> a.mp4: 2 slices, ")
    assert "2 series to encode" in plan.out
    assert "from a trial on some slices, 1 series at once)" in plan.out
    assert not out.exists()

    done = ssimrdo("batch", root, "-o", out, "--json", "--jobs", "1")
    assert done.status == 3
    totals = json.loads(done.out)["totals"]
    assert (totals["encoded"], totals["failed"]) == (1, 1)
    lines = done.err.splitlines()
    assert lines[0] == "ssimrdo: 2 series to encode, 4 slices"
    assert lines[1].startswith("ssimrdo: [1/2] a.mp4: 2 slices, SSIM 0.")
    assert lines[2].startswith("ssimrdo: [2/2] b.mp4: failed: ")

    status = ssimrdo("batch", "status", out, "--json")
    assert status.status == 3
    known = json.loads(status.out)
    assert (known["running"], known["encoded"], known["failed"]) == (False, 1, 1)
    assert "  b.mp4: failed: " in ssimrdo("batch", "status", out).out

    plan = ssimrdo("batch", root, "-o", out, "--dry-run", "--json", "--retry-failed", "--jobs", "1")
    (todo,) = json.loads(plan.out)["todo"]
    assert (todo["output"], todo["why"]) == ("b.mp4", "failed before")
    assert json.loads(plan.out)["estimated_seconds"] > 0

    again = ssimrdo("batch", root, "-o", f"{out}/", "--jobs", "1")
    assert again.status == 3
    assert again.out.splitlines()[-1] == (
        f"  report {out}/report.html; table {out}/results.csv; "
        "--retry-failed tries what failed again"
    )

    done = ssimrdo("batch", root, "-o", out, "--skip-bad", "--json-log", "--jobs", "1")
    assert done.status == 0
    events = [json.loads(line) for line in done.err.splitlines()]
    assert [e["event"] for e in events] == ["search", "planned", "started", "finished"]
    assert events[-1]["record"]["output"] == "b.mp4"
    assert len(videos(out)) == 2
    assert "--retry-failed" not in ssimrdo("batch", root, "-o", out, "--skip-bad").out


def test_outputs_that_are_not_current_are_named_and_pruned_when_asked(ssimrdo, tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    ssimrdo("batch", root, "-o", out, "--jobs", "1")
    shutil.rmtree(root / "b")
    plan = ssimrdo("batch", root, "-o", out, "--dry-run")
    assert "1 done, 0 failed before, 1 of series that are gone" in plan.out
    done = ssimrdo("batch", root, "-o", out)
    assert "1 output is not current: " in done.out
    known = ssimrdo("batch", "status", out)
    assert known.status == 0
    assert "  b.mp4: not current: no series of this name is found any more\n" in known.out
    (stale,) = json.loads(ssimrdo("batch", "status", out, "--json").out)["not_current"]
    assert stale["output"] == "b.mp4"

    unasked = ssimrdo("batch", "prune", out)
    assert unasked.status == 2
    assert "give --yes" in unasked.err
    assert "1 output would be removed" in ssimrdo("batch", "prune", out, "--dry-run").out
    assert len(videos(out)) == 2
    pruned = ssimrdo("batch", "prune", out, "--yes", "--json")
    assert [one["output"] for one in json.loads(pruned.out)["removed"]] == ["b.mp4"]
    assert list(videos(out)) == ["a.mp4"]
    assert "0 outputs removed" in ssimrdo("batch", "prune", out).out


def test_prune_asks_on_a_terminal(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    run(root, out, executor=InProcess())
    shutil.rmtree(root / "b")
    run(root, out, executor=InProcess())
    for answer, left in (("n", 2), ("y", 1)):
        leader, follower = pty.openpty()
        os.write(leader, f"{answer}\n".encode())
        done = subprocess.run(
            [*SSIMRDO, "batch", "prune", out], stdin=follower, capture_output=True, text=True
        )
        os.close(follower)
        os.close(leader)
        assert done.returncode == 0
        assert "b.mp4: no series of this name" in done.stderr
        assert f"Remove 1 output from {out}?" in done.stderr
        assert len(videos(out)) == left


def test_commands_have_a_help_of_their_own(ssimrdo):
    assert "Usage: ssimrdo batch [OPTIONS] [ROOT]\n" in ssimrdo("batch", "--help").out
    for name in ("status", "prune"):
        shown = ssimrdo("batch", name, "--help").out
        assert f"Usage: ssimrdo batch {name} [OPTIONS] OUT_ROOT\n" in shown
        assert "--crf" not in shown


def test_folder_called_like_a_command_can_be_encoded(ssimrdo, tmp_path, monkeypatch):
    write_tree(tmp_path, "status/a")
    monkeypatch.chdir(tmp_path)
    assert ssimrdo("batch", "./status", "-o", "out", "--jobs", "1").status == 0
    assert list(videos(tmp_path / "out")) == ["a.mp4"]


def test_line_from_time_to_time_without_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    monkeypatch.setattr(batch_command, "JUST_NOW_S", 0.0)
    totals = Totals(todo=2, encoded=1, slices=20, slices_todo=10**9)
    job = BatchJob("in", str(tmp_path), "x.mp4", EncodeSettings(), "in")
    seen = ""
    with batch_command._lines() as show:
        for kind, said in (
            ("search", "searching for series, "),
            ("started", "[1/2] encoding x.mp4 ("),
        ):
            show(BatchEvent(done=1, total=2, kind=kind, totals=totals, job=job))
            while said not in seen:
                time.sleep(0.01)
                seen += capsys.readouterr().err
    assert " left, 0 failed)" in seen


def test_status_of_a_running_batch(ssimrdo, tmp_path):
    (tmp_path / "results.jsonl").touch()
    with lock.exclusive(tmp_path):
        assert "a batch is running" in ssimrdo("batch", "status", tmp_path).out
    assert "no batch is running" in ssimrdo("batch", "status", tmp_path).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in"], "-o OUT_ROOT"),
        (["-o", "out"], "give ROOT"),
        (["in", "more", "-o", "out"], "unexpected extra argument (more)"),
        (["status"], "OUT_ROOT"),
        (["prune", "out"], "no batch has been here"),
        (["status", "out"], "no batch has been here"),
        (["missing", "-o", "out"], "no such file or folder"),
        (
            ["in", "-o", "out", "--name-template", "{PatientName}"],
            "--name-template: {PatientName} is no",
        ),
        (["in", "-o", "out", "--jobs", "0"], "--jobs: 0 is out of range"),
        (["in", "-o", "out", "--timeout", "-1"], "--timeout: -1 is out of range"),
        (["in", "-o", "out", "--suffix", ".avi"], "--suffix: x264 does not go into '.avi'"),
        (["in", "-o", "out", "--crf", "99"], "--crf: 99 is out of range"),
        (["in", "-o", "in/out"], "--inside-root"),
        (["--manifest", "jobs.txt", "-o", "out"], "the suffix tells the kind"),
        (["in", "-o", "file"], "cannot be made"),
        (["in", "-o", "nonsense://y"], "cannot be used"),
    ],
)
def test_bad_usage_is_one_line(ssimrdo, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "file").touch()
    done = ssimrdo("batch", *arguments)
    assert done.status == 2
    assert done.out == ""
    assert said in error_of(done.err)
    assert not (tmp_path / "out/results.csv").exists()


def test_second_ctrl_c_stops_at_once(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    # What is running when the first comes must still be when the second does.
    write_tree(root, *(f"{number:02d}" for number in range(4)), slices=400)
    with subprocess.Popen(
        [*SSIMRDO, "batch", root, "-o", out, "--json-log", "--preset", "placebo"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            event = json.loads(line)["event"] if line.startswith("{") else line
            if event == "started":
                process.send_signal(signal.SIGINT)
                # Two signals at a time are one.
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert rest.endswith("ssimrdo: stopped; what is done is kept, the same command goes on\n")
    assert not list(out.rglob(".*.partial"))
    assert len(videos(out)) < 4


def test_ctrl_c_reaches_workers_that_are_starting(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    process = subprocess.Popen(
        [*SSIMRDO, "batch", root, "-o", out, "--json-log"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert json.loads(process.stderr.readline())["event"] == "search"
    time.sleep(0.3)
    # As a terminal does: to all processes.
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130
    process.stderr.close()
    assert all(line.startswith("{") for line in rest.splitlines())


def test_bars_on_a_terminal(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    write_tree(root, "a", "b")
    (root / "b/bad.dcm").write_bytes(b"")
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*SSIMRDO, "batch", root, "-o", out],
        stderr=follower,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:
            break
    os.close(leader)
    assert process.wait() == 3
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "2 series to encode" in text
    assert "b.mp4: failed" in text
    assert "slices" in text
