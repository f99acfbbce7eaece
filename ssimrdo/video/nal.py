"""Splitting Annex B byte streams into NAL units."""

from __future__ import annotations

import re

SEI = 6

_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


def nal_units(stream: bytes) -> list[bytes]:
    """Return the NAL units of an Annex B stream, each with its start code."""
    starts = [match.start() for match in _START_CODE.finditer(stream)]
    return [stream[a:b] for a, b in zip(starts, [*starts[1:], len(stream)], strict=True)]


def nal_type(unit: bytes) -> int:
    """Return ``nal_unit_type`` of a NAL unit with its start code (H.264 table 7-1)."""
    match = _START_CODE.match(unit)
    if match is None:
        raise ValueError("a NAL unit begins with a start code")
    return unit[match.end()] & 0x1F


def sei_units(headers: bytes) -> bytes:
    """Return the SEI NAL units among x264's headers, which belong into the first packet."""
    return b"".join(unit for unit in nal_units(headers) if nal_type(unit) == SEI)


def settings_units(headers: bytes, syntax: str) -> bytes:
    """Return what headers hold beside the parameter sets, which belongs into the first packet."""
    return sei_units(headers) if syntax == "h264" else b""
