"""JPEG 2000 codestreams: what they claim, and whether they are whole (T.800, T.814)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from struct import unpack_from
from typing import Final

from ssimrdo.dicom.read.elements import DamagedError

_START: Final = b"\xff\x4f\xff\x51"
_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_FIRST_SEGMENT, _LAST_SEGMENT = 0xFF40, 0xFF8F
_SOT_BYTES: Final = 12
_MAX_SEGMENTS: Final = 10_000
_MAX_PARTS: Final = 1 << 17
_MAX_LEVELS: Final = 32
# Each of these is a structure of a decoder; the usual 64 x 64 makes 16384 of the largest slice.
_MAX_BLOCKS: Final = 1 << 19
# A packet takes a byte at least; streams that were shortened may lack some.
_PACKETS_PER_BYTE: Final = 4
_TOO_MUCH: Final = "the codestream claims more than it can hold"


@dataclass(frozen=True, slots=True)
class Jpeg2000:
    """What a codestream says of itself.

    Parameters
    ----------
    rows, columns, components : int
        Of the picture.
    precision : int
        Bits of a sample of the first component.
    signed : bool
        Whether they are two's complement.
    tile_rows, tile_columns, tiles : int
        Size of a tile, at most that of the picture, and how many there are.
    data : bytes
        From the start of the codestream on.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool
    tile_rows: int
    tile_columns: int
    tiles: int
    data: bytes


def read_jpeg2000(data: bytes) -> Jpeg2000:
    """Read the size of a JPEG 2000 codestream, in a JP2 file or not.

    Raises
    ------
    DamagedError
        If there is none, or of an impossible size.
    """
    start = data.find(_START)
    if start < 0 or len(data) < start + 45:
        raise DamagedError("there is no codestream")
    data = data[start:]
    (columns, rows, left, top, width, height, tile_left, tile_top, components) = unpack_from(
        ">8IH", data, 8
    )
    depth, step_x, step_y = data[42:45]
    if min(columns, rows, width, height, components) < 1 or (step_x, step_y) != (1, 1):
        raise DamagedError("the codestream has an impossible size")
    if left or top:
        # The decoder makes room for all from the origin on, and does not find the picture in it.
        raise DamagedError("the picture of the codestream does not begin at its origin")
    if tile_left or tile_top:
        raise DamagedError("the codestream has impossible tiles")
    across, down = -(-columns // width), -(-rows // height)
    return Jpeg2000(
        rows,
        columns,
        components,
        precision=(depth & 127) + 1,
        signed=bool(depth >> 7),
        tile_rows=min(height, rows),
        tile_columns=min(width, columns),
        tiles=across * down,
        data=data,
    )


def whole_jpeg2000(jpeg: Jpeg2000) -> bytes:
    """Return the codestream, from its start to its end.

    Raises
    ------
    DamagedError
        If a part of it is missing, or it claims more than it can hold.
    """
    data = jpeg.data
    if jpeg.tiles * (_SOT_BYTES + 2) > len(data):
        raise DamagedError(_TOO_MUCH)
    at, layers, precincts = _check_header(jpeg, 2, len(data), _SOT)
    parts: Counter[int] = Counter()
    promised: dict[int, int] = {}
    for _ in range(_MAX_PARTS):
        if data[at : at + 2] != b"\xff\x90":
            break
        if at + _SOT_BYTES > len(data):
            raise DamagedError("it is cut off")
        tile, length, _, count = unpack_from(">HIBB", data, at + 4)
        end = at + length if length else data.rfind(b"\xff\xd9")
        if end > len(data):
            raise DamagedError("it is cut off")
        if tile >= jpeg.tiles or end < at + _SOT_BYTES + 2:
            raise DamagedError("the codestream is corrupt")
        _, here, of_tile = _check_header(jpeg, at + _SOT_BYTES, end, _SOD)
        layers, precincts = max(layers, here), max(precincts, of_tile)
        parts[tile] += 1
        promised[tile] = max(promised.get(tile, 1), count)
        at = end
    if data[at : at + 2] != b"\xff\xd9":
        raise DamagedError("it is cut off")
    if any(parts[tile] < promised.get(tile, 1) for tile in range(jpeg.tiles)):
        raise DamagedError("parts of the codestream are missing")
    if layers * precincts * jpeg.tiles > _PACKETS_PER_BYTE * len(data):
        raise DamagedError(_TOO_MUCH)
    return data[: at + 2]


def _check_header(jpeg: Jpeg2000, at: int, end: int, until: int) -> tuple[int, int, int]:
    """Check a header that ends with a marker; return where, and its layers and precincts."""
    data = jpeg.data
    layers = precincts = 0
    for _ in range(_MAX_SEGMENTS):
        marker = int.from_bytes(data[at : min(at + 2, end)], "big")
        if marker == until:
            return at, layers, precincts
        if at + 4 > end:
            break
        (length,) = unpack_from(">H", data, at + 2)
        after = at + 2 + length
        if not _FIRST_SEGMENT <= marker <= _LAST_SEGMENT or length < 2 or after > end:
            break
        segment = data[at + 4 : after]
        if marker == _SIZ and at != 2:
            break
        if marker == _COD:
            layers = max(layers, int.from_bytes(segment[2:4], "big"))
            precincts = max(precincts, _precincts(segment[:1], segment[5:], jpeg))
        elif marker == _COC:
            precincts = max(precincts, _precincts(segment[1:2], segment[2:], jpeg))
        at = after
    raise DamagedError("the codestream is corrupt or cut off")


def _precincts(style: bytes, coding: bytes, jpeg: Jpeg2000) -> int:
    """Return into how many precincts a coding style divides a tile; check what else it asks for."""
    if len(coding) < 5 or coding[0] > _MAX_LEVELS:
        raise DamagedError("the codestream is corrupt")
    levels, width, height = coding[0], (coding[1] & 15) + 2, (coding[2] & 15) + 2
    if jpeg.tile_rows * jpeg.tile_columns >> (width + height) > _MAX_BLOCKS:
        raise DamagedError(_TOO_MUCH)
    sizes = coding[5:] if style[0] & 1 else b"\xff" * (levels + 1)
    if len(sizes) <= levels:
        raise DamagedError("the codestream is corrupt")
    count = 0
    for resolution, size in enumerate(sizes[: levels + 1]):
        down = levels - resolution
        # One more than fit, for where a tile does not begin at a multiple.
        across = (-(-jpeg.tile_columns >> down) >> (size & 15)) + 1
        along = (-(-jpeg.tile_rows >> down) >> (size >> 4)) + 1
        count += across * along
    if count > _MAX_BLOCKS:
        raise DamagedError(_TOO_MUCH)
    return count
