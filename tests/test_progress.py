"""Long work tells how far it is: a line from time to time where there is no terminal."""

from __future__ import annotations

import re
import threading
import time

import pytest

from ssimrdo.cli import progress as module
from ssimrdo.cli.progress import progress
from ssimrdo.observer import Event


@pytest.fixture
def told(capsys, monkeypatch):
    """Return a function that runs work with a line every few milliseconds, and gives stderr."""
    monkeypatch.setattr(module, "EVERY_S", 0.005)

    def run(*events, what="encoding", unit="slices"):
        said = ""
        with progress(what, unit) as observer:
            for event in (None, *events):
                if event is not None:
                    observer.tell(event)
                before, lines = time.monotonic(), 0
                while lines < 2 and time.monotonic() - before < 60:
                    time.sleep(0.005)
                    new = capsys.readouterr().err
                    said, lines = said + new, lines + new.count("\n")
        return said + capsys.readouterr().err

    return run


def test_lines_come_though_nothing_happens(told):
    lines = told().splitlines()
    assert len(lines) >= 2
    assert all(re.fullmatch(r"ssimrdo: encoding: \d+ s so far", line) for line in lines)


def test_lines_say_how_far_it_is_and_how_long_the_rest_takes(told):
    said = told(Event(5, 20), Event(20, 20))
    speed = r"\d+\.\d slices/s"
    assert re.search(rf"ssimrdo: encoding: 5 of 20 slices, {speed}, about \d+ s left\n", said)
    assert re.search(rf"ssimrdo: encoding: 20 of 20 slices, {speed}\n", said)


def test_what_is_done_and_counted_may_be_something_else(told):
    said = told(Event(1, 4, "chest: x264 at 23"), unit="encodes")
    assert re.search(r"ssimrdo: chest: x264 at 23: 1 of 4 encodes, about \d+ s left\n", said)


def test_a_note_is_told_at_once_and_once(told):
    assert told(Event(1, 4, note="trial 1: CRF 23"), Event(2, 4)).count("trial 1: CRF 23") == 1


def test_nothing_is_left_behind(told):
    before = threading.active_count()
    told(Event(1, 4))
    assert threading.active_count() == before


def test_an_error_passes_through():
    with pytest.raises(ValueError, match="broken"), progress("encoding"):
        raise ValueError("broken")
