"""What an encode costs: its coded pictures and its parameter sets, alike for all codecs.

Parameter sets count once each, wherever the encoder or the container keeps them. What only informs
counts for none: x264 puts 0.6 kB of settings into the stream, x265 2.3 kB. NAL units count with the
length of four bytes that MP4 and Matroska put before each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import av
from av.bitstream import BitStreamFilterContext

from ssimrdo.video.nal import nal_units
from ssimrdo.video.stills import are_stills, still_sizes

LENGTH_BYTES: Final = 4
"""Before each NAL unit."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a stream: its type, and its bytes as they count."""

    type: int
    data: bytes
    overhead: int = 0

    @property
    def size(self) -> int:
        """Its bytes in a container."""
        return len(self.data) + self.overhead


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a stream is taken apart, and which units count.

    Parameters
    ----------
    filter : str
        FFmpeg's filter from what containers hold to the raw stream; empty if they are the same.
    type_shift, type_mask : int
        Where in its first byte a unit's type is.
    pictures, parameter_sets : frozenset of int
        Types of units that count.
    """

    filter: str
    type_shift: int
    type_mask: int
    pictures: frozenset[int]
    parameter_sets: frozenset[int]


SYNTAXES: Final = MappingProxyType(
    {
        # H.264 table 7-1.
        "h264": Syntax("h264_mp4toannexb", 0, 0x1F, frozenset(range(1, 6)), frozenset({7, 8})),
        # H.265 table 7-1.
        "hevc": Syntax("hevc_mp4toannexb", 1, 0x3F, frozenset(range(32)), frozenset({32, 33, 34})),
        # AV1 section 6.2.2.
        "av1": Syntax("", 3, 0x0F, frozenset({3, 4, 6, 7, 8}), frozenset({1})),
    }
)
"""By FFmpeg's name of the codec; of others all packets and headers count."""


def payload_bytes(path: Path) -> int:
    """Return the bytes of a video file, or of an archive of pictures, that show pictures.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if are_stills(path):
        return sum(still_sizes(path))
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        syntax = SYNTAXES.get(stream.codec_context.codec.canonical_name)
        packets = source.demux(stream)
        if syntax is None:
            return _all_bytes(packets, stream.codec_context.extradata or b"")
        if syntax.filter:
            raw = _filtered(packets, BitStreamFilterContext(syntax.filter, stream))
            units = (unit for data in raw for unit in _nal_units(data, syntax))
        else:
            units = (unit for packet in packets for unit in obus(bytes(packet), syntax))
        return counted(units, syntax)


def counted(units: Iterable[Unit], syntax: Syntax) -> int:
    """Return the bytes of the units that count; equal parameter sets count once."""
    total = 0
    seen: set[bytes] = set()
    for unit in units:
        is_new_set = unit.type in syntax.parameter_sets and unit.data not in seen
        if unit.type in syntax.pictures or is_new_set:
            total += unit.size
        if is_new_set:
            seen.add(unit.data)
    return total


def _all_bytes(packets: Iterable[av.Packet[av.VideoStream]], headers: bytes) -> int:
    total = 0
    for packet in packets:
        if total == 0 and not bytes(packet).startswith(headers):
            total += len(headers)
        total += packet.size
    return total


def _filtered(
    packets: Iterable[av.Packet[av.VideoStream]], context: BitStreamFilterContext
) -> Iterator[bytes]:
    for packet in packets:
        # The last one that a demuxer gives is empty.
        for raw in context.filter(packet if packet.size else None):
            yield bytes(raw)


def _nal_units(data: bytes, syntax: Syntax) -> Iterator[Unit]:
    for unit in nal_units(data):
        # Zeros and a one make the start code.
        content = unit.lstrip(b"\0")[1:]
        yield Unit(_type(content[0], syntax), content, LENGTH_BYTES)


def obus(data: bytes, syntax: Syntax) -> Iterator[Unit]:
    """Yield the open bitstream units of a temporal unit; AV1 section 5.3."""
    while data:
        has_extension, has_size = data[0] & 4, data[0] & 2
        start = 2 if has_extension else 1
        end = len(data)
        if has_size:
            size, length = _leb128(data[start:])
            end = start + length + size
        yield Unit(_type(data[0], syntax), data[:end])
        data = data[end:]


def _type(byte: int, syntax: Syntax) -> int:
    return byte >> syntax.type_shift & syntax.type_mask


def _leb128(data: bytes) -> tuple[int, int]:
    """Return a number of seven bits a byte, lowest first, and how many bytes it takes."""
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, index + 1
    raise ValueError("an OBU's size ends early")
