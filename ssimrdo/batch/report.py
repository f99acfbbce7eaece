"""The HTML page of a batch: one file that loads nothing from elsewhere."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from ssimrdo import __version__
from ssimrdo.batch import storage
from ssimrdo.batch.record import Journal, Record
from ssimrdo.video import CONTAINERS, decoded_luma

SLOWEST = 10
WORST = 12
MOST_FAILURES = 500
"""Failures that are listed; the results have all."""

BINS = 24
THUMBNAIL_SIDE = 192
"""Of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: where it begins and ends, how many there are, its height in %."""

    low: float
    high: float
    count: int
    percent: float


def write_report(journal: Journal, path: Path, out_root: str) -> None:
    """Write the report of all that a journal holds, as a whole.

    The journal is read anew for each part, so memory does not grow with it.

    Raises
    ------
    InputError
        If Jinja2 or Pillow is not installed.
    OSError
        If writing fails, such as on a full disk.
    """
    from ssimrdo.files_single import write_whole
    from ssimrdo.html.extra import check_extra

    check_extra("jinja2", "PIL")
    write_whole(path, render(journal, out_root).encode(), overwrite=True)


def render(journal: Journal, out_root: str) -> str:
    """Return the page; see :func:`write_report`."""
    from ssimrdo.html.extra import template_environment
    from ssimrdo.html.text import number

    environment = template_environment("ssimrdo.batch")
    environment.filters |= {"number": number, "size": size_text, "duration": duration_text}
    from ssimrdo.html.page import style_sheet

    own = resources.files("ssimrdo.batch") / "templates" / "batch.css"
    return environment.get_template("batch.html.j2").render(
        css=style_sheet() + own.read_text(), version=__version__, **_context(journal, out_root)
    )


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    value = float(count)
    for unit in units[:-1]:
        if abs(value) < 999.5:
            return f"{value:.3g}\u202f{unit}" if unit != "bytes" else f"{value:.0f}\u202f{unit}"
        value /= 1000
    return f"{value:.3g}\u202f{units[-1]}"


def duration_text(seconds: float) -> str:
    """Return a time in the units that suit it."""
    if seconds < 60:
        return f"{seconds:.1f}\u202fs"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{minutes:.0f}\u202fmin"
    return f"{hours:.1f}\u202fh" if hours < 48 else f"{hours / 24:.1f}\u202fdays"


def _context(journal: Journal, out_root: str) -> dict[str, Any]:
    worst = _least(journal, WORST, lambda record: record.ssim_min)
    slowest = _least(
        journal, SLOWEST, lambda record: None if record.seconds is None else -record.seconds
    )
    failures = list(islice(_failures(journal), MOST_FAILURES))
    totals = _totals(journal)
    return {
        "totals": totals,
        "unlisted": totals["failed"] - len(failures),
        "failures": failures,
        "slowest": slowest,
        "worst": [(record, _thumbnail(out_root, record)) for record in worst],
        "histograms": [
            (title, about, bars)
            for title, about, key in (
                ("Mean SSIM", "mean over the slices of a series", "ssim_mean"),
                ("Worst slice", "lowest SSIM of a series", "ssim_min"),
            )
            if (bars := _histogram(journal, key))
        ],
    }


def _totals(journal: Journal) -> dict[str, Any]:
    totals = {"encoded": 0, "failed": 0, "slices": 0, "input": 0, "output": 0, "seconds": 0.0}
    first = last = ""
    for record in journal.records():
        totals[record.status] += 1
        totals["slices"] += record.slices or 0
        totals["input"] += record.input_bytes or 0
        totals["output"] += record.output_bytes or 0
        totals["seconds"] += record.seconds or 0.0
        first = min(first or record.finished, record.finished)
        last = max(last, record.finished)
    share = 100 * totals["output"] / totals["input"] if totals["input"] else None
    return {**totals, "share": share, "first": _moment(first), "last": _moment(last)}


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}" if text else ""


def _encoded(journal: Journal) -> Iterable[Record]:
    return (record for record in journal.records() if record.status == "encoded")


def _failures(journal: Journal) -> Iterable[Record]:
    return (record for record in journal.records() if record.status == "failed")


def _least(journal: Journal, count: int, key: Callable[[Record], float | None]) -> list[Record]:
    keyed = ((key(record), record) for record in _encoded(journal))
    known = ((value, record.output, record) for value, record in keyed if value is not None)
    return [record for _, _, record in heapq.nsmallest(count, known)]


def _histogram(journal: Journal, key: str) -> Sequence[Bar]:
    low, high, total = 1.0, 0.0, 0
    for record in _encoded(journal):
        value = getattr(record, key)
        low, high, total = min(low, value), max(high, value), total + 1
    if not total:
        return ()
    # Series that are all alike still get a bar of some width.
    width = max(high - low, 1e-4) / BINS
    counts = [0] * BINS
    for record in _encoded(journal):
        counts[min(int((getattr(record, key) - low) / width), BINS - 1)] += 1
    most = max(counts)
    return [
        Bar(low + index * width, low + (index + 1) * width, count, 100 * count / most)
        for index, count in enumerate(counts)
    ]


def _thumbnail(out_root: str, record: Record) -> str | None:
    """Return the worst slice of an output as a small PNG data URI, None if it cannot be read."""
    from PIL import Image

    from ssimrdo.html.images import png_uri

    if record.worst_slice is None or record.bit_depth is None:
        return None
    container = CONTAINERS[Path(record.output).suffix]
    try:
        with storage.fetched(out_root, record.output) as video:
            frames = decoded_luma(video, container=container, threads=1)
            luma = next(islice(frames, record.worst_slice, None), None)
    except (OSError, ValueError):
        return None
    if luma is None:
        return None
    image = Image.fromarray((luma >> (record.bit_depth - 8)).astype("uint8"))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    import numpy as np

    return png_uri(np.asarray(image))
