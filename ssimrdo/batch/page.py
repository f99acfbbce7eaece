"""The HTML page of a batch: one file that loads nothing from elsewhere."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ssimrdo import __version__, metrics, text
from ssimrdo.batch.ct import SUFFIX as CT_SUFFIX
from ssimrdo.batch.journal import BatchRecord, Journal, mean_column, worst_column
from ssimrdo.batch.store import Store
from ssimrdo.batch.thumbnails import thumbnail
from ssimrdo.extras import require
from ssimrdo.files import write_whole
from ssimrdo.html.page import render_template
from ssimrdo.html.text import decimals, metric_axis, number
from ssimrdo.metrics import QualityIndex
from ssimrdo.record.tissue import WARNING_TITLES

SLOWEST: Final = 10
WORST: Final = 12
MOST_FAILURES: Final = 500
"""Failures, and series with warnings, that are listed; the results have all."""

BINS: Final = 24
MOST_ROWS: Final = 5000
"""Series in the table of all; the results have the rest."""


@dataclass(frozen=True)
class HistogramBar:
    """One bar of a histogram: where it begins and ends, how many there are, its height in %."""

    low: float
    high: float
    count: int
    percent: float


@dataclass(frozen=True)
class Histogram:
    """How series are distributed over a quality.

    Parameters
    ----------
    title : str
        What is counted.
    axis : str
        Name of the quality with its unit.
    decimals : int
        Digits behind the point of the ends of bars.
    bars : tuple of HistogramBar
        From low to high.
    """

    title: str
    axis: str
    decimals: int
    bars: tuple[HistogramBar, ...]


@dataclass(frozen=True)
class WorstSlice:
    """The worst slice of a series: its number from 1, its quality, its picture as a data URI.

    ``warnings`` are the series', as in its record.
    """

    output: str
    number: int
    quality: float
    image: str | None
    warnings: str = ""


@dataclass(frozen=True)
class SeriesRow:
    """One series in the table of all: its record, a link to its output, and its qualities."""

    record: BatchRecord
    link: str
    mean: float | None
    worst: float | None

    @property
    def percent(self) -> float | None:
        """Size of the output in % of that of the input."""
        if not self.record.input_bytes or self.record.output_bytes is None:
            return None
        return 100 * self.record.output_bytes / self.record.input_bytes


def write_report(journal: Journal, path: Path, out: Store) -> None:
    """Write the report of all that a journal holds, as a whole.

    The journal is read anew for each part, so memory does not grow with it.

    Raises
    ------
    InputError
        If Jinja2 or Pillow is not installed.
    OSError
        If writing fails, such as on a full disk.
    """
    require("jinja2", "PIL", what=path.name)
    write_whole(path, render(journal, out).encode(), overwrite=True)


def render(journal: Journal, out: Store) -> str:
    """Return the page; see :func:`write_report`."""
    own = resources.files("ssimrdo.batch") / "templates" / "batch.css"
    filters: dict[str, Callable[..., str]] = {
        "number": number,
        "size": size_text,
        "duration": duration_text,
        "warning": warning_text,
    }
    return render_template(
        "ssimrdo.batch",
        "batch",
        filters=filters,
        own_css=own.read_text(encoding="utf-8"),
        version=__version__,
        **_context(journal, out),
    )


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits it, with a narrow space."""
    return text.size_text(count).replace(" ", "\u202f")


def duration_text(seconds: float) -> str:
    """Return a time in the unit that suits it, with a narrow space."""
    return text.duration_text(seconds).replace(" ", "\u202f")


def warning_text(codes: str) -> str:
    """Return what the codes of a record's warnings mean."""
    return "; ".join(WARNING_TITLES.get(code, code) for code in codes.split())


def main_index() -> QualityIndex:
    """Return the index that worst slices are of: the first that every encode measures."""
    return next(index for index in map(metrics.get, metrics.names()) if index.everyday)


def _context(journal: Journal, out: Store) -> dict[str, Any]:
    index = main_index()
    failures = list(islice(_failures(journal), MOST_FAILURES))
    warned = list(islice(_warned(journal), MOST_FAILURES))
    totals = _totals(journal)
    listed = totals["encoded"] + totals["failed"]
    return {
        "rows": islice(_rows(journal, index), MOST_ROWS),
        "unlisted_rows": max(listed - MOST_ROWS, 0),
        "orphaned": list(islice(_orphaned(journal), MOST_FAILURES)),
        "totals": totals,
        "unlisted": totals["failed"] - len(failures),
        "failures": failures,
        "warned": warned,
        "unlisted_warned": totals["warned"] - len(warned),
        "slowest": _least(
            journal,
            SLOWEST,
            _slowness,
        ),
        "index": index,
        "worse": "ascending" if index.higher_is_better else "descending",
        "worst": list(_worst_slices(journal, out, index)),
        "histograms": _histograms(journal),
    }


def _slowness(record: BatchRecord) -> float | None:
    is_whole = record.seconds and record.slices and record.output_bytes is not None
    return -record.seconds if record.seconds and is_whole else None


def _rows(journal: Journal, index: QualityIndex) -> Iterable[SeriesRow]:
    for record in journal.records():
        if record.status == "encoded":
            mean, worst = (
                record.quality.get(column(index)) for column in (mean_column, worst_column)
            )
            yield SeriesRow(record, _link(record.output), mean, worst)
        elif record.status == "failed":
            yield SeriesRow(record, "", None, None)


def _link(output: str) -> str:
    """Return where an output is, from the page; never what a browser takes for a scheme."""
    folder = "/" if output.endswith(CT_SUFFIX) else ""
    return f"./{quote(output)}{folder}"


def _totals(journal: Journal) -> dict[str, Any]:
    totals: dict[str, Any] = dict.fromkeys(
        ("encoded", "failed", "orphaned", "warned", "slices", "input", "output", "videos"), 0
    )
    totals["seconds"] = timed = 0.0
    first = last = ""
    for record in journal.records():
        totals[record.status] += 1
        if record.status != "encoded":
            continue
        totals["warned"] += bool(record.warnings)
        totals["videos"] += not record.output.endswith(CT_SUFFIX)
        totals["slices"] += record.slices or 0
        totals["input"] += record.input_bytes or 0
        totals["output"] += record.output_bytes or 0
        totals["seconds"] += record.seconds or 0.0
        timed += (record.slices or 0) if record.seconds else 0
        first = min(first or record.finished, record.finished)
        last = max(last, record.finished)
    share = 100 * totals["output"] / totals["input"] if totals["input"] else None
    speed = timed / totals["seconds"] if totals["seconds"] else None
    moments = {"first": _moment(first), "last": _moment(last)}
    return {**totals, "share": share, "speed": speed, **moments}


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}" if text else ""


def _encoded(journal: Journal) -> Iterable[BatchRecord]:
    return (record for record in journal.records() if record.status == "encoded")


def _failures(journal: Journal) -> Iterable[BatchRecord]:
    return (record for record in journal.records() if record.status == "failed")


def _orphaned(journal: Journal) -> Iterable[BatchRecord]:
    return (record for record in journal.records() if record.status == "orphaned")


def _warned(journal: Journal) -> Iterable[BatchRecord]:
    return (record for record in _encoded(journal) if record.warnings)


def _least(
    journal: Journal, count: int, key: Callable[[BatchRecord], float | None]
) -> list[BatchRecord]:
    keyed = ((key(record), record) for record in _encoded(journal))
    known = ((value, record.output, record) for value, record in keyed if value is not None)
    return [record for _, _, record in heapq.nsmallest(count, known)]


def _worst_slices(journal: Journal, out: Store, index: QualityIndex) -> Iterable[WorstSlice]:
    column = worst_column(index)

    def badness(record: BatchRecord) -> float | None:
        value = record.quality.get(column)
        return None if value is None or record.worst_slice is None else index.sign * value

    for record in _least(journal, WORST, badness):
        assert record.worst_slice is not None, "those without are left out"
        image = thumbnail(out, record, record.worst_slice)
        yield WorstSlice(
            record.output,
            record.worst_slice + 1,
            record.quality[column],
            image,
            record.warnings,
        )


def _histograms(journal: Journal) -> list[Histogram]:
    """Return two histograms for each index that the records have: means and worst slices."""
    shown: dict[str, tuple[QualityIndex, str]] = {}
    for index in map(metrics.get, metrics.names()):
        shown[mean_column(index)] = index, f"{index.title}, mean"
        shown[worst_column(index)] = index, f"{index.title}, worst slice"
    ends = _ends(journal, tuple(shown))
    counts = _counts(journal, ends)
    return [
        Histogram(
            title,
            metric_axis(index.name),
            decimals(index.name),
            _bars(*ends[column], counts[column]),
        )
        for column, (index, title) in shown.items()
        if column in ends
    ]


def _ends(journal: Journal, columns: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return where the first bar begins and how wide each is, by column."""
    found: dict[str, tuple[float, float]] = {}
    for record in _encoded(journal):
        for column in columns:
            value = record.quality.get(column)
            if value is not None:
                low, high = found.get(column, (value, value))
                found[column] = min(low, value), max(high, value)
    # Series that are all alike still get a bar of some width.
    return {column: (low, max(high - low, 1e-4) / BINS) for column, (low, high) in found.items()}


def _counts(journal: Journal, ends: Mapping[str, tuple[float, float]]) -> dict[str, list[int]]:
    counts = {column: [0] * BINS for column in ends}
    for record in _encoded(journal):
        for column, (low, width) in ends.items():
            value = record.quality.get(column)
            if value is not None:
                counts[column][min(int((value - low) / width), BINS - 1)] += 1
    return counts


def _bars(low: float, width: float, counts: Sequence[int]) -> tuple[HistogramBar, ...]:
    most = max(counts)
    return tuple(
        HistogramBar(low + number * width, low + (number + 1) * width, count, 100 * count / most)
        for number, count in enumerate(counts)
    )
