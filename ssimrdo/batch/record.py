"""Results: small records, an append-only journal of them, and the table for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import RawIOBase
from pathlib import Path
from typing import Any, Literal

JOURNAL_NAME = "results.jsonl"
TABLE_NAME = "results.csv"
REPORT_NAME = "report.html"


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a job; a line of the results.

    Parameters
    ----------
    output : str
        The video, relative to the output folder.
    series : str
        The series, relative to the folder searched.
    status : {"encoded", "failed"}
        What came of it.
    reason : str
        Why it failed, one line.
    slices, width, height, bit_depth : int, optional
        Of the video.
    window_center, window_width : float, optional
        In HU.
    input_bytes, output_bytes : int, optional
        Sizes of the series' files and of the video.
    kbps : float, optional
        Bit rate of the video in 1000 bits per second.
    ssim_mean, ssim_min, weighted_ssim_mean, psnr_mean : float, optional
        Quality; PSNR in decibels.
    worst_slice : int, optional
        The slice with the lowest SSIM, from 0.
    seconds : float, optional
        Wall time of the job.
    worker : str
        Host and process that ran the job; empty if that is not known any more.
    finished : str
        When the record was made, ISO 8601.
    options, inputs : str
        Digests of the options and of the input, by which a later run knows what changed.
    """

    output: str
    series: str
    status: Literal["encoded", "failed"]
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
    ssim_mean: float | None = None
    ssim_min: float | None = None
    weighted_ssim_mean: float | None = None
    psnr_mean: float | None = None
    worst_slice: int | None = None
    seconds: float | None = None
    worker: str = ""
    finished: str = dataclasses.field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")
    )
    options: str = ""
    inputs: str = ""

    @classmethod
    def of_sidecar(cls, output: str, series: str, sidecar: Mapping[str, Any]) -> Record:
        """Return the record of an output from its sidecar."""
        return cls(
            output=output,
            series=series,
            status="encoded",
            slices=sidecar["frames"],
            width=sidecar["width"],
            height=sidecar["height"],
            bit_depth=sidecar["bit_depth"],
            window_center=sidecar["window"]["center"],
            window_width=sidecar["window"]["width"],
            input_bytes=sidecar["batch"]["input_bytes"],
            output_bytes=sidecar["bytes"],
            kbps=sidecar["kbps"],
            ssim_mean=sidecar["ssim"]["mean"],
            ssim_min=sidecar["ssim"]["min"],
            weighted_ssim_mean=sidecar["weighted_ssim"]["mean"],
            psnr_mean=sidecar["psnr"]["mean"],
            worst_slice=sidecar["worst_slice"],
            seconds=sidecar["seconds"]["total"],
            options=sidecar["batch"]["options"],
            inputs=sidecar["batch"]["inputs"],
        )

    @classmethod
    def from_line(cls, line: bytes | str) -> Record:
        """Return the record of a line of the journal; unknown fields are dropped."""
        known = json.loads(line)
        return cls(**{name: known[name] for name in FIELDS if name in known})

    def as_line(self) -> bytes:
        """Return the record as one line of JSON."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"


FIELDS = tuple(field.name for field in dataclasses.fields(Record))


class Journal:
    """The file that results are appended to; the last record of an output counts.

    Every record is on the disk before the next is taken, so a killed batch loses none. Only where
    the last record of each output stands is kept in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self._pending: list[Record] = []
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

    def append(self, record: Record) -> None:
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
            self._places[self._pending[0].output] = self._end
            self._end += len(line)
            del self._pending[0]
        return True

    def last(self, output: str) -> Record | None:
        """Return the last record of an output."""
        if output not in self._places:
            return None
        with self._path.open("rb") as stream:
            stream.seek(self._places[output])
            return Record.from_line(stream.readline())

    def records(self) -> Iterator[Record]:
        """Yield the last record of every output, by output."""
        with self._path.open("rb") as stream:
            for output in sorted(self._places):
                stream.seek(self._places[output])
                yield Record.from_line(stream.readline())

    def _read_places(self) -> None:
        self._end = 0
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                with suppress(ValueError, TypeError):
                    self._places[Record.from_line(line).output] = self._end
                self._end += len(line)


def write_table(journal: Journal, path: Path) -> None:
    """Write the last record of every output as CSV, as a whole."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("w", newline="", errors="surrogateescape") as stream:
            writer = csv.DictWriter(stream, FIELDS)
            writer.writeheader()
            writer.writerows(map(dataclasses.asdict, journal.records()))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
