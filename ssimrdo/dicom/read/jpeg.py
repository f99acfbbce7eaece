"""JPEG and JPEG-LS codestreams: what they claim, and whether they are whole (T.81, T.87)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import unpack_from
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom.read.elements import DamagedError

BASELINE: Final = 0xC0
EXTENDED: Final = 0xC1
LOSSLESS: Final = 0xC3
JPEG_LS: Final = 0xF7

# Progressive, hierarchical and arithmetic JPEG have no transfer syntax that is read here.
_PRECISIONS: Final[dict[int, range | tuple[int, ...]]] = {
    BASELINE: (8,),
    EXTENDED: (8, 12),
    LOSSLESS: range(2, 17),
    JPEG_LS: range(2, 17),
}
_SOI, _EOI, _SOS, _DHT, _DQT, _DRI, _COM, _LSE = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xFE, 0xF8
# Of applications, and comments; some of these tell decoders of further pictures.
_DROPPED: Final = (*range(0xE0, 0xF0), _COM)
_KEPT: Final = (_DHT, _DQT, _DRI, _LSE)
# What follows 0xff in coded data: zero in JPEG, seven bits in JPEG-LS; restarts may be in both.
_MARKER: Final = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_MARKER_LS: Final = re.compile(rb"\xff+([\x80-\xcf\xd8-\xfe])")
_RESTART: Final = re.compile(rb"\xff+[\xd0-\xd7]")
_FILL: Final = re.compile(rb"\xff+")
_OVERSIZE: Final = 4
_MAX_SEGMENTS: Final = 10_000

_ROWS_AT_ONCE: Final = 256
# Coded data ends within a byte; a writer may have filled up a word.
_SPARE_BITS: Final = 31

Values = NDArray[np.int32]
"""Samples of some rows of a picture, or predictions of them."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """What a codestream of one picture says of itself.

    Parameters
    ----------
    process : int
        The marker of its frame: `BASELINE`, `EXTENDED`, `LOSSLESS` or `JPEG_LS`.
    rows, columns, components, precision : int
        Of the picture.
    stream : bytes
        The codestream without what is of no use to a decoder, and ending where it ends.
    scan : int
        Where the coded data begins in `stream`.
    restart_interval : int
        Samples or blocks between two restarts, 0 for none.
    selection : int
        Predictor of lossless JPEG.
    code_lengths : dict of int
        Length of the Huffman code of each symbol of the table used for the first coefficient.
    """

    process: int
    rows: int
    columns: int
    components: int
    precision: int
    stream: bytes
    scan: int
    restart_interval: int
    selection: int
    code_lengths: dict[int, int] = field(default_factory=dict)

    def continued(self, tail: bytes) -> bytes:
        """Return the codestream with more coded data, which a decoder that has all ignores."""
        return self.stream[:-2] + tail + self.stream[-2:]


def read_jpeg(data: bytes) -> Jpeg:
    """Read the headers of a JPEG or JPEG-LS codestream.

    Raises
    ------
    DamagedError
        If it is none, of a process that is not read, or does not end.
    """
    frame: bytes | None = None
    process = restart_interval = 0
    tables: dict[int, dict[int, int]] = {}
    kept = [b"\xff\xd8"]
    for marker, segment, end in _segments(data):
        if marker in _PRECISIONS:
            if frame is not None:
                raise DamagedError("the codestream holds several frames")
            process, frame = marker, segment
        elif marker == _DHT:
            tables |= _code_lengths(segment)
        elif marker == _DRI and len(segment) == 2:
            (restart_interval,) = unpack_from(">H", segment)
        elif marker == _LSE and segment[:1] == bytes([_OVERSIZE]):
            raise DamagedError("the codestream is of an oversize picture")
        elif marker not in (*_DROPPED, *_KEPT, _SOS):
            raise DamagedError("the codestream is of a kind that is not read")
        if marker not in _DROPPED:
            kept.append(b"\xff%c" % marker + (len(segment) + 2).to_bytes(2, "big") + segment)
        if marker != _SOS:
            continue
        if frame is None or len(frame) != 9 or len(segment) != 6 or segment[0] != 1:
            raise DamagedError("the codestream is not of one component")
        precision, rows, columns, components, _, sampling, _ = unpack_from(">BHHBBBB", frame)
        if components != 1 or not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4):
            raise DamagedError("the codestream is not of one component")
        if precision not in _PRECISIONS[process]:
            raise DamagedError("the codestream has an impossible precision")
        if process == LOSSLESS and segment[5] & 15:
            # The decoder begins with the wrong prediction, and DICOM's is without loss anyway.
            raise DamagedError("the codestream is of a kind that is not read")
        scan = sum(map(len, kept))
        return Jpeg(
            process,
            rows,
            columns,
            components,
            precision,
            b"".join([*kept, _coded(data, end, process), b"\xff\xd9"]),
            scan,
            restart_interval,
            selection=segment[3],
            code_lengths=tables.get(segment[2] >> 4, {}),
        )
    raise AssertionError("the segments end with a scan or an error")


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, content and end of the segments up to the first scan."""
    if data[:2] != b"\xff\xd8":
        raise DamagedError("there is no codestream")
    at = 2
    for _ in range(_MAX_SEGMENTS):
        fill = _FILL.match(data, at)
        if fill is None or fill.end() + 3 > len(data):
            break
        start = fill.end() + 1
        length = int.from_bytes(data[start : start + 2], "big")
        at = start + length
        if length < 2 or at > len(data):
            break
        yield data[start - 1], data[start + 2 : at], at
    raise DamagedError("the codestream is corrupt or cut off")


def _coded(data: bytes, start: int, process: int) -> bytes:
    """Return the coded data of the one scan, up to the end of the picture."""
    found = (_MARKER_LS if process == JPEG_LS else _MARKER).search(data, start)
    if found is None:
        raise DamagedError("it is cut off")
    if found[1] != bytes([_EOI]):
        raise DamagedError("the codestream is corrupt")
    return data[start : found.start()]


def _code_lengths(segment: bytes) -> dict[int, dict[int, int]]:
    """Return the lengths of the codes by symbol, of each table for first coefficients (DHT)."""
    tables: dict[int, dict[int, int]] = {}
    at = 0
    while at + 17 <= len(segment):
        counts = segment[at + 1 : at + 17]
        symbols = segment[at + 17 : at + 17 + sum(counts)]
        if len(symbols) < sum(counts):
            break
        lengths = (length for length, count in enumerate(counts, 1) for _ in range(count))
        if segment[at] < 16:
            tables[segment[at]] = dict(zip(symbols, lengths, strict=True))
        at += 17 + len(symbols)
    return tables


def check_lossless(jpeg: Jpeg, samples: NDArray[Any]) -> None:
    """Check that lossless JPEG has the very bits that its samples take.

    Decoders fill up the picture where the coded data ends early, and lose their way in data that
    has been changed, without an error; the samples then take other bits than there are.

    Parameters
    ----------
    jpeg : Jpeg
        The codestream.
    samples : ndarray of unsigned integers, shape (rows, columns)
        What it decodes to.

    Raises
    ------
    DamagedError
        If there are fewer bits than the samples take, or more than fill a word.
    """
    rows, columns = samples.shape
    rows_each = rows
    if jpeg.restart_interval:
        rows_each, rest = divmod(jpeg.restart_interval, columns)
        if rest or not rows_each:
            raise DamagedError("the codestream restarts within a row")
    pieces = _RESTART.split(jpeg.stream[jpeg.scan : -2])
    if len(pieces) != -(-rows // rows_each):
        raise DamagedError("parts of the codestream are missing")
    needed = np.add.reduceat(_bits_of_rows(jpeg, samples, rows_each), range(0, rows, rows_each))
    there = [8 * (len(piece) - piece.count(b"\xff\x00")) for piece in pieces]
    for has, takes in zip(there, needed.tolist(), strict=True):
        if not 0 <= has - takes <= _SPARE_BITS:
            raise DamagedError("the codestream is corrupt or ends early")


def _bits_of_rows(jpeg: Jpeg, samples: NDArray[Any], rows_each: int) -> NDArray[np.int64]:
    """Return how many bits each row takes; prediction starts anew every `rows_each` rows."""
    difference = np.arange(1 << 16)
    size = np.minimum(difference, (1 << 16) - difference)
    category = np.frexp(size)[1]
    lengths = np.full(17, 1 << 20)
    for symbol, length in jpeg.code_lengths.items():
        if symbol < 17:
            lengths[symbol] = length
    # A difference of category 16 has but one value, and no bits beside its code.
    bits = lengths[category] + np.where(category < 16, category, 0)
    counts = np.empty(len(samples), np.int64)
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(samples))
        values: Values = samples[max(start - 1, 0) : stop].astype(np.int32)
        above = values[:-1] if start else np.vstack([values[:1], values[:-1]])
        these = values[1:] if start else values
        predicted = _predicted(these, above, jpeg.selection)
        predicted[:, 0] = above[:, 0]
        anew = np.arange(-start % rows_each, stop - start, rows_each)
        predicted[anew, 1:] = these[anew, :-1]
        predicted[anew, 0] = 1 << (jpeg.precision - 1)
        counts[start:stop] = bits[(these - predicted) & 0xFFFF].sum(axis=1)
    return counts


def _predicted(these: Values, above: Values, selection: int) -> Values:
    """Return the predictions of T.81 Table H.1; those of the first column are of no use."""
    left: Values = np.roll(these, 1, axis=1)
    corner: Values = np.roll(above, 1, axis=1)
    match selection:
        case 1:
            return left
        case 2:
            return above.copy()
        case 3:
            return corner
        case 4:
            return left + above - corner
        case 5:
            return left + ((above - corner) >> 1)
        case 6:
            return above + ((left - corner) >> 1)
        case 7:
            return (left + above) >> 1
    raise DamagedError("the codestream has an impossible predictor")
