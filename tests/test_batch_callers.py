"""Batches in a caller's process: its executors, its observers, and what must not change there."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from batch_series import videos, write_tree
from dicom_files import CANARY

from ssimrdo import Event, Observer
from ssimrdo.batch import BatchEvent, BatchSettings, LocalExecutor, read_results, run
from ssimrdo.executors import InProcess

TESTS = Path(__file__).parent


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path / "in", "a", "b", "c", "d")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def alone(root, tmp_path):
    """The videos that one process makes."""
    run(root, tmp_path / "alone", executor=InProcess())
    return videos(tmp_path / "alone")


def spawned():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("make", [lambda: ThreadPoolExecutor(2), spawned])
def test_executor_of_the_caller_runs_the_batch_and_stays_open(root, out, alone, make):
    (root / "d/bad.dcm").write_bytes(b"")
    with make() as executor:
        result = run(root, out, executor=executor)
        assert (result.totals.encoded, result.totals.failed) == (3, 1)
        again = run(root, out, BatchSettings(skip_bad=True), executor=executor)
        assert (again.totals.encoded, again.totals.done_before) == (1, 3)
        assert executor.submit(len, "abc").result() == 3
    assert videos(out) == alone


def test_pages_of_events_are_events_of_the_one_observer(root, out):
    told = []
    run(root, out, executor=InProcess(), observer=Observer(told.append))
    assert all(isinstance(event, BatchEvent) and isinstance(event, Event) for event in told)
    assert [event.kind for event in told] == ["search", "planned", *["started", "finished"] * 4]
    finished = [event for event in told if event.kind == "finished"]
    assert [(event.done, event.total) for event in finished] == [(n, 4) for n in (1, 2, 3, 4)]
    assert [event.record for event in finished] == list(read_results(out))
    assert {event.what for event in told} == {"searching", "encoding"}


def test_batch_that_is_cancelled_before_it_starts_encodes_nothing(root, out):
    observer = Observer()
    observer.cancel.set()
    result = run(root, out, executor=InProcess(), observer=observer)
    assert (result.interrupted, result.totals.encoded, result.totals.todo) == (True, 0, 4)


@pytest.mark.parametrize(
    "make", [InProcess, lambda: ThreadPoolExecutor(2), lambda: LocalExecutor(2)]
)
def test_error_of_the_observer_ends_the_batch_and_leaves_the_executor(root, out, alone, make):
    def fail(event):
        if event.done == 1:
            raise ZeroDivisionError

    with make() as executor:
        with pytest.raises(ZeroDivisionError):
            run(root, out, executor=executor, observer=Observer(fail))
        assert len(videos(out)) >= 1
        run(root, out, executor=executor)
    assert videos(out) == alone


def test_error_of_the_observer_leaves_nothing_of_workers_of_our_own(root, out, alone):
    def fail(event):
        if event.kind == "finished":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(root, out, observer=Observer(fail))
    assert not list(out.rglob(".*.partial"))
    run(root, out, executor=InProcess())
    assert videos(out) == alone


def test_cancelling_in_another_thread(root, out):
    observer = Observer()
    threading.Timer(0.01, observer.cancel.set).start()
    result = run(root, out, executor=InProcess(), observer=observer)
    assert result.totals.encoded == len(videos(out))
    assert result.interrupted == (result.totals.encoded < 4)


GLOBALS = """
import importlib, json, logging, os, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What these change when they are imported is not ours.
for name in ("PIL.Image", "av", "distributed", "jinja2", "numba", "pebble", "pydicom.pixels",
             "scipy.ndimage", "ssimrdo.batch", "ssimrdo.batch.page", "ssimrdo.encoding.encode"):
    importlib.import_module(name)

from pydicom.config import WARN
from pydicom.valuerep import validate_value

from ssimrdo import batch, executors
from ssimrdo.batch import state as digests

content_digest = digests.content_digest


def complaining(*arguments):
    # In the midst of a job pydicom quotes a value.
    validate_value("IS", "CANARY", WARN)
    return content_digest(*arguments)


if __name__ != "__main__":
    # In workers that are spawned, which import this, and which nobody else looks at.
    digests.content_digest = complaining


def state():
    loggers = {name: one for name, one in logging.root.manager.loggerDict.items()
               if isinstance(one, logging.Logger)}
    loggers["root"] = logging.getLogger()
    states = {
        name: [one.level, one.propagate, one.disabled, len(one.filters),
               [[repr(type(handler)), handler.level] for handler in one.handlers]]
        for name, one in sorted(loggers.items())
    }
    return {
        # Loggers come into being when they are asked for.
        "loggers": {name: one for name, one in states.items() if one != [0, True, False, 0, []]},
        "disabled": logging.root.manager.disable,
        "warnings": [repr(entry) for entry in warnings.filters],
        "shown": repr(warnings.showwarning),
        "environment": dict(os.environ),
    }


def changes(before, after):
    return {key: [before[key], after[key]] for key in before if before[key] != after[key]}


if __name__ == "__main__":
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    # Whatever comes to the caller's log is seen.
    logging.basicConfig(filename=out.with_suffix(".log"), level=logging.DEBUG)
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.INFO)
    before = state()
    what = sys.argv[3]
    if what == "local":
        batch.run(root, out, batch.BatchSettings(jobs=2))
    elif what == "threads":
        with ThreadPoolExecutor(2) as executor:
            batch.run(root, out, executor=executor)
    elif what == "in process":
        batch.run(root, out, executor=executors.InProcess())
    else:
        batch.run(root, out, batch.BatchSettings(dask="local", jobs=1))
    print(json.dumps(changes(before, state())))
"""


@pytest.mark.parametrize("what", ["local", "threads", "in process", "dask"])
def test_nothing_changes_in_the_process_of_the_caller(tmp_path, out, what):
    assert CANARY in GLOBALS
    write_tree(tmp_path / "in", "a", "b")
    script = tmp_path / "caller.py"
    script.write_text(GLOBALS)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "in", out, what],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {}
    assert len(videos(out)) == 2
    # Nor does what libraries quote of a header get out.
    assert CANARY not in done.stderr
    assert CANARY not in (tmp_path / "out.log").read_text()
