"""Results: small records, an append-only journal of them, and the table for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, get_args

from ssimrdo import metrics
from ssimrdo.batch.names import check_output
from ssimrdo.files import whole_files
from ssimrdo.metrics import QualityIndex
from ssimrdo.record.result import EncodeResult
from ssimrdo.text import table_cell

logger = logging.getLogger(__name__)

JOURNAL_NAME: Final = "results.jsonl"
TABLE_NAME: Final = "results.csv"
REPORT_NAME: Final = "report.html"

Status: TypeAlias = Literal["encoded", "failed", "orphaned", "gone"]

_SUMMARIES: Final = ("_mean", "_min", "_max")


def mean_column(index: QualityIndex) -> str:
    """Return the column of the mean of an index over the slices of a series."""
    return f"{index.name}_mean"


def worst_column(index: QualityIndex) -> str:
    """Return the column of the worst slice's value of an index."""
    return f"{index.name}_{index.worst_key}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What came of a job; a line of the results.

    Parameters
    ----------
    output : str
        The video, relative to the output folder.
    series : str
        The series, relative to the folder searched; empty where names of outputs hide it.
    status : {"encoded", "failed", "orphaned", "gone"}
        What came of it. Of orphaned outputs the series is not found any more; those that are gone
        have been removed since.
    reason : str
        Why it failed or is orphaned, one line.
    slices, width, height, bit_depth : int, optional
        Of the video.
    window_center, window_width : float, optional
        In HU.
    input_bytes, output_bytes : int, optional
        Sizes of the series' files and of the video.
    kbps : float, optional
        Bit rate of the video in 1000 bits per second.
    quality : mapping of str to float
        Quality by column: mean and worst slice of every index that was measured, such as
        ``ssim_mean`` and ``ssim_min``; PSNR in decibels.
    worst_slice : int, optional
        The slice with the worst of the first index, SSIM, from 0.
    threads : int, optional
        Threads of the encoder, on which bytes depend; 0 where it chose their number itself.
    seconds : float, optional
        Wall time of the job.
    worker : str
        Random name of the process that ran the job; empty if that is not known any more.
    finished : str
        When the record was made, ISO 8601.
    options, inputs : str
        Digests of the options and of the input, by which a later run knows what changed.
    warnings : str
        Codes of what to be warned of, with spaces between.
    origin : str
        Keyed digest of what was searched, or of the manifest.
    """

    output: str
    series: str
    status: Status
    reason: str = ""
    slices: int | None = None
    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    window_center: float | None = None
    window_width: float | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    kbps: float | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    worst_slice: int | None = None
    threads: int | None = None
    seconds: float | None = None
    worker: str = ""
    finished: str = field(default_factory=_now)
    options: str = ""
    inputs: str = ""
    warnings: str = ""
    origin: str = ""

    @classmethod
    def of_result(cls, output: str, series: str, result: EncodeResult, **more: Any) -> BatchRecord:
        """Return the record of an encode from what it returned, with more fields."""
        window = result.window
        return cls(
            output=output,
            series=series,
            status="encoded",
            slices=result.frames,
            width=result.width,
            height=result.height,
            bit_depth=result.bit_depth,
            window_center=None if window is None else window.center,
            window_width=None if window is None else window.width,
            output_bytes=result.bytes,
            kbps=result.kbps,
            quality=_quality({name: one.as_dict() for name, one in result.quality.items()}),
            worst_slice=result.worst_slice,
            warnings=" ".join(warning.code for warning in result.warnings),
            **more,
        )

    @classmethod
    def of_sidecar(cls, output: str, series: str, sidecar: Mapping[str, Any]) -> BatchRecord:
        """Return the record of an output from its sidecar, of whatever schema.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            If the sidecar is none of a batch, or has values that no encode gives.
        """
        window, made = sidecar["window"] or {}, sidecar["batch"]
        record = cls(
            output=output,
            series=series,
            status="encoded",
            slices=sidecar["frames"],
            width=sidecar["width"],
            height=sidecar["height"],
            bit_depth=sidecar["bit_depth"],
            window_center=window.get("center"),
            window_width=window.get("width"),
            input_bytes=made["input_bytes"],
            output_bytes=sidecar["bytes"],
            kbps=sidecar["kbps"],
            quality=_quality({name: sidecar[name] for name in metrics.names() if name in sidecar}),
            worst_slice=sidecar["worst_slice"],
            threads=sidecar["settings"]["threads"],
            seconds=sidecar["seconds"]["total"],
            options=made["options"],
            inputs=made["inputs"],
            warnings=" ".join(warning["code"] for warning in sidecar.get("warnings", ())),
        )
        record.check()
        return record

    @classmethod
    def from_line(cls, line: bytes | str) -> BatchRecord:
        """Return the record of a line of the journal; unknown fields are dropped.

        Raises
        ------
        ValueError
            If it is none; the message says why.
        """
        try:
            known = json.loads(line)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except ValueError:
            raise ValueError("it is no JSON") from None
        if not isinstance(known, dict):
            raise ValueError("it is no JSON object")
        fields = {name: known[name] for name in _FIELDS if name in known}
        if missing := {"output", "series", "status"} - fields.keys():
            raise ValueError(f"it has no {min(missing)}")
        quality = {
            name: value
            for name, value in known.items()
            if name.endswith(_SUMMARIES) and value is not None
        }
        record = cls(**fields, quality=quality)
        record.check()
        return record

    def check(self) -> None:
        """Check that all fields are what an encode or a failure gives.

        Raises
        ------
        ValueError
            If one is not; the message names it.
        """
        for name in _TEXTS:
            value = getattr(self, name)
            if not (isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()):
                raise ValueError(f"{name} is not printable text")
        check_output(self.output)
        if self.status not in get_args(Status):
            raise ValueError("status is unknown")
        for name in (*_COUNTS, *_NUMBERS):
            value = getattr(self, name)
            kind = int if name in _COUNTS else int | float
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not abs(value) < _HUGE:
                wanted = "a whole number" if name in _COUNTS else "a number"
                raise ValueError(f"{name} is not {wanted}")
            if value < 0 and name not in _SIGNED:
                raise ValueError(f"{name} is below 0")
        if self.bit_depth is not None and not 8 <= self.bit_depth <= 16:
            raise ValueError("bit_depth is unknown")
        for name, value in self.quality.items():
            if not (
                _QUALITY.fullmatch(name) and type(value) in (int, float) and abs(value) < _HUGE
            ):
                raise ValueError("a quality is not a number")
        datetime.fromisoformat(self.finished)

    def as_line(self) -> bytes:
        """Return the record as one line of JSON."""
        return json.dumps(self.as_dict()).encode() + b"\n"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON types, by column; what every encode measures is never left out.

        ``worst_slice_number`` is ``worst_slice`` as people count, from 1.
        """
        row: dict[str, Any] = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.name == "quality":
                row |= dict.fromkeys(_everyday_columns()) | value
            else:
                row[one.name] = value
            if one.name == "worst_slice":
                row["worst_slice_number"] = None if value is None else value + 1
        return row


_TEXTS: Final = (
    "output",
    "series",
    "reason",
    "worker",
    "finished",
    "options",
    "inputs",
    "warnings",
    "origin",
)
_COUNTS: Final = (
    *("slices", "width", "height", "bit_depth", "input_bytes", "output_bytes"),
    *("worst_slice", "threads"),
)
_NUMBERS: Final = ("window_center", "window_width", "kbps", "seconds")
_SIGNED: Final = ("window_center",)
_HUGE: Final = 2**63
_MAX_TEXT: Final = 20_000
_QUALITY: Final = re.compile("[a-z][a-z0-9_]{0,80}_(mean|min|max)")
_MAX_LINE_BYTES: Final = 1 << 20

_FIELDS: Final = tuple(one.name for one in dataclasses.fields(BatchRecord) if one.name != "quality")


def columns(records: Iterable[BatchRecord]) -> list[str]:
    """Return the columns of a table of records: those of all, then what some have beside them."""
    some: dict[str, None] = {}
    for record in records:
        some |= dict.fromkeys(record.quality)
    return list(BatchRecord("", "", "failed", quality=dict.fromkeys(some, 0.0)).as_dict())


def _everyday_columns() -> Iterator[str]:
    for index in map(metrics.get, metrics.names()):
        if index.everyday:
            yield mean_column(index)
            yield worst_column(index)


def _quality(summaries: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{name}_{key}": value for name, one in summaries.items() for key, value in one.items()}


class Journal:
    """The file that results are appended to; the last record of an output counts.

    Outputs that are gone have none.

    Every record is on the disk before the next is taken, so a killed batch loses none. Only where
    the last record of each output stands is kept in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self._pending: list[BatchRecord] = []
        self._stream: RawIOBase | None = None
        self._read_places()

    def __enter__(self) -> Journal:
        self._stream = self._path.open("r+b" if self._path.exists() else "w+b", buffering=0)
        # What a killed process left of a line goes.
        self._stream.truncate(self._end)
        self._stream.seek(self._end)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stream is not None
        self._stream.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, output: str) -> bool:
        return output in self._places

    def append(self, record: BatchRecord) -> None:
        """Write a record; on a full disk it waits in memory for the next call."""
        self._pending.append(record)
        self.flush()

    def flush(self) -> bool:
        """Write the records that wait; return whether all could be written."""
        assert self._stream is not None
        while self._pending:
            line = self._pending[0].as_line()
            try:
                self._stream.seek(self._end)
                if self._stream.write(line) < len(line):
                    return False
                os.fsync(self._stream.fileno())
            except OSError:
                return False
            self._note(self._pending[0])
            self._end += len(line)
            del self._pending[0]
        return True

    def last(self, output: str) -> BatchRecord | None:
        """Return the last record of an output."""
        if output not in self._places:
            return None
        with self._path.open("rb") as stream:
            stream.seek(self._places[output])
            # Somebody may have changed it meanwhile.
            with suppress(ValueError):
                return BatchRecord.from_line(stream.readline(_MAX_LINE_BYTES))
        return None

    def records(self) -> Iterator[BatchRecord]:
        """Yield the last record of every output, by output."""
        with self._path.open("rb") as stream:
            for output in sorted(self._places):
                stream.seek(self._places[output])
                with suppress(ValueError):
                    yield BatchRecord.from_line(stream.readline(_MAX_LINE_BYTES))

    def _note(self, record: BatchRecord) -> None:
        """Note that the record stands at the end."""
        if record.status == "gone":
            self._places.pop(record.output, None)
        else:
            self._places[record.output] = self._end

    def _read_places(self) -> None:
        self._end = 0
        if not self._path.exists():
            return
        problems = 0
        first = ""
        with self._path.open("rb") as stream:
            for number, (line, size) in enumerate(_whole_lines(stream), start=1):
                try:
                    self._note(BatchRecord.from_line(line))
                except ValueError as error:
                    first = first or f"line {number} cannot be used: {error}"
                    problems += 1
                self._end += size
        if problems:
            more = f", and {problems - 1} more lines cannot" if problems > 1 else ""
            logger.warning("%s: %s%s; what they tell is left out", self._path.name, first, more)


def _whole_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line that has ended, empty if it is too long for a record, and its size."""
    while line := stream.readline(_MAX_LINE_BYTES):
        size = len(line)
        if not line.endswith(b"\n"):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(_MAX_LINE_BYTES)
                size += len(rest)
            if not rest:
                return
            line = b""
        yield line, size


def write_table(journal: Journal, path: Path) -> None:
    """Write the last record of every output as CSV, as a whole.

    Raises
    ------
    InputError, OSError
        If the file cannot be written, such as on a full disk.
    """
    with (
        whole_files(path, overwrite=True) as (temporary,),
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, columns(journal.records()))
        writer.writeheader()
        for record in journal.records():
            writer.writerow({name: table_cell(value) for name, value in record.as_dict().items()})
