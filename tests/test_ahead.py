"""Slices that are made ready in a thread of their own."""

import threading
import time

import pytest

from ssimrdo.encoding.ahead import ahead


def test_items_come_in_order_and_from_another_thread():
    threads = []

    def items():
        for item in range(20):
            threads.append(threading.get_ident())
            yield item

    assert list(ahead(items(), 3)) == list(range(20))
    assert list(ahead([], 3)) == []
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_no_more_items_are_made_than_asked_for():
    made = []

    def numbers():
        for item in range(20):
            made.append(item)
            yield item

    items = ahead(numbers(), 3)
    next(items)
    deadline = time.monotonic() + 10
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    # One given out, three waiting, one to follow.
    assert made == [0, 1, 2, 3, 4]
    items.close()
    time.sleep(0.05)
    assert len(made) == 5


def test_closing_waits_for_nothing():
    stalled = threading.Event()

    def items():
        yield 1
        stalled.wait()

    ready = ahead(items(), 3)
    assert next(ready) == 1
    ready.close()
    stalled.set()


def test_errors_come_in_place_of_their_item():
    def items():
        yield 1
        yield 2
        raise OSError("gone")

    ready = ahead(items(), 4)
    assert [next(ready), next(ready)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(ready)
