"""Pixel cells of one slice as the file has them, native or decoded."""

from __future__ import annotations

import logging
from importlib import import_module
from struct import pack, unpack
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ssimrdo.dicom.read.elements import (
    PIXEL_DATA,
    UNDEFINED,
    WINDOW_BYTES,
    DamagedError,
    Place,
    Source,
    may_be_dicom,
    read_elements,
)
from ssimrdo.dicom.read.jpeg import JPEG_LS, LOSSLESS, Jpeg, check_lossless, read_jpeg
from ssimrdo.dicom.read.jpeg2000 import Jpeg2000, read_jpeg2000, whole_jpeg2000
from ssimrdo.dicom.read.rle import decode_rle
from ssimrdo.dicom.registry import (
    EXPLICIT_BIG_ENDIAN,
    JPEG_2000_SYNTAXES,
    JPEG_LS_SYNTAXES,
    JPEG_SYNTAXES,
    NATIVE_SYNTAXES,
    RLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

    from ssimrdo.dicom.read.header import SliceHeader

logger = logging.getLogger(__name__)

OUT_OF_MEMORY: Final = "memory does not suffice"
"""Said of a codestream that a decoder has no room for."""

_PIXEL_DATA: Final = (0x7FE0, 0x0010)
_ITEM: Final = (0xFFFE, 0xE000)
_SEQUENCE_END: Final = (0xFFFE, 0xE0DD)
# Compression that fails makes pixels larger, though by far less than this.
_MAX_GROWTH: Final = 4
_MAX_EXTRA_BYTES: Final = 1 << 20
_MAX_FRAGMENTS: Final = 100_000
# More coded data than a block can lack, in two versions that differ in every bit.
_TAILS: Final = (b"\x55" * 64, b"\xaa" * 64)


def read_cells(header: SliceHeader) -> NDArray[Any]:
    """Read and decode the pixel data of a slice.

    Size, components and precision of a codestream are compared with the header before a decoder
    sees it, and what comes out is checked as far as the format allows.

    Parameters
    ----------
    header : SliceHeader
        The slice as found by `find_series`.

    Returns
    -------
    ndarray of integers, shape (rows, columns)
        Of the header's signedness and `bits_allocated` bits, unused bits included.

    Raises
    ------
    DamagedError
        If the pixel data is not what the header says, or cannot be decoded.
    OSError
        If the file cannot be read.
    """
    uid = header.transfer_syntax_uid
    if uid in NATIVE_SYNTAXES:
        cells = _native_cells(header, ">" if uid == EXPLICIT_BIG_ENDIAN else "<")
    elif uid == RLE:
        data = _codestream(header)
        cells = decode_rle(data, header.rows, header.columns, header.bits_allocated)
    elif uid in JPEG_2000_SYNTAXES:
        cells = _jpeg2000_cells(read_jpeg2000(_codestream(header)), header)
    elif uid in JPEG_LS_SYNTAXES:
        cells = _jpeg_ls_cells(read_jpeg(_codestream(header)), header)
    elif uid in JPEG_SYNTAXES:
        cells = _jpeg_cells(read_jpeg(_codestream(header)), header)
    else:
        raise DamagedError("the transfer syntax is not supported")
    dtype = f"{'i' if header.signed else 'u'}{header.bits_allocated // 8}"
    return cells.astype(dtype, copy=False)


def _native_cells(header: SliceHeader, order: str) -> NDArray[Any]:
    size = header.rows * header.columns * header.bits_allocated // 8
    if header.extent is not None:
        data = _parts_of(header.path, header.extent.parts, size)
    else:
        data = _native_bytes(header, size, order)
    dtype = f"{order}u{header.bits_allocated // 8}"
    cells = np.frombuffer(data, dtype, count=header.rows * header.columns)
    return cells.reshape(header.rows, header.columns)


def _native_bytes(header: SliceHeader, size: int, order: str) -> bytes:
    with header.path.open("rb", buffering=0) as stream:
        source, place = _at_pixels(header, stream)
        source.allow(size + 1)
        data = source.take(place.start, min(size + size % 2, place.length))
    if len(data) < size:
        raise DamagedError("it is cut off")
    if order == ">" and header.bits_allocated == 8 and place.vr == "OW":
        words = np.frombuffer(data.ljust(size + size % 2, b"\0"), "u2")
        data = words.byteswap().tobytes()
    return data


def _codestream(header: SliceHeader) -> bytes:
    """Return the fragments of the one frame, joined."""
    size = header.rows * header.columns * header.bits_allocated // 8
    if header.extent is not None:
        return _parts_of(header.path, header.extent.parts, _MAX_GROWTH * size + _MAX_EXTRA_BYTES)
    with header.path.open("rb", buffering=0) as stream:
        return b"".join(
            _fragments(*_at_pixels(header, stream), _MAX_GROWTH * size + _MAX_EXTRA_BYTES)
        )


def _parts_of(path: Path, parts: tuple[tuple[int, int], ...], limit: int) -> bytes:
    """Return the parts of a frame, joined."""
    if sum(length for _, length in parts) > limit:
        raise DamagedError("it is larger than the header allows")
    found = []
    with path.open("rb", buffering=0) as stream:
        for start, length in parts:
            stream.seek(start)
            data = stream.read(length)
            if len(data) < length:
                raise DamagedError("it is cut off")
            found.append(data)
    return b"".join(found)


def _at_pixels(header: SliceHeader, stream: FileIO) -> tuple[Source, Place]:
    if header.pixels is not None and _begins_at(header.pixels, header, stream):
        return Source(stream), header.pixels
    stream.seek(0)
    head = stream.read(WINDOW_BYTES)
    dataset = read_elements(stream, head, (), PIXEL_DATA) if may_be_dicom(head) else None
    if dataset is None or dataset.stop is None or dataset.stop.tag != PIXEL_DATA:
        raise DamagedError("it is cut off")
    return dataset.source, dataset.stop


def _begins_at(place: Place, header: SliceHeader, stream: FileIO) -> bool:
    """Tell whether pixel data still begins where it did when the header was read."""
    order = ">" if header.transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "<"
    stream.seek(place.at)
    head = stream.read(place.start - place.at)
    tag, length = pack(f"{order}HH", *_PIXEL_DATA), pack(f"{order}I", place.length)
    return head[:4] == tag and head[-4:] == length


def _fragments(source: Source, place: Place, limit: int) -> Iterator[bytes]:
    """Yield the fragments of encapsulated pixel data (PS3.5 A.4) behind the offset table."""
    at = place.start
    for number in range(_MAX_FRAGMENTS):
        if place.length != UNDEFINED and at == place.start + place.length:
            return
        head = source.read(at, 8)
        if len(head) < 8:
            raise DamagedError("it is cut off")
        group, element, length = unpack("<HHI", head)
        if (group, element) == _SEQUENCE_END:
            return
        if (group, element) != _ITEM or length == UNDEFINED:
            raise DamagedError("its fragments are corrupt")
        limit -= length
        if limit < 0:
            raise DamagedError("it is larger than the header allows")
        fragment = source.take(at + 8, length)
        if len(fragment) < length:
            raise DamagedError("it is cut off")
        if number:
            yield fragment
        at += 8 + length
    raise DamagedError("it has too many fragments")


def _jpeg_cells(jpeg: Jpeg, header: SliceHeader) -> NDArray[Any]:
    if jpeg.process == JPEG_LS:
        raise DamagedError("the codestream is not of the transfer syntax")
    _check_frame(jpeg, header)
    if (jpeg.precision <= 8) != (header.bits_allocated == 8):
        raise DamagedError("the codestream has another precision than the header")
    libjpeg: Any = import_module("libjpeg")

    def decode(stream: bytes) -> bytes:
        return bytes(libjpeg.decode_pixel_data(stream, version=2))

    if jpeg.process == LOSSLESS:
        cells = _cells(_decoded(decode, jpeg.stream), jpeg.precision, header)
        check_lossless(jpeg, cells)
        return cells
    decoded, again = (_decoded(decode, jpeg.continued(tail)) for tail in _TAILS)
    # The decoder fills up the picture where the coded data ends early.
    if decoded != again:
        raise DamagedError("the codestream ends early")
    return _cells(decoded, jpeg.precision, header)


def _jpeg_ls_cells(jpeg: Jpeg, header: SliceHeader) -> NDArray[Any]:
    if jpeg.process != JPEG_LS:
        raise DamagedError("the codestream is not of the transfer syntax")
    _check_frame(jpeg, header)
    jpeg_ls: Any = import_module("jpeg_ls")
    decoded = _decoded(lambda stream: jpeg_ls.decode_pixel_data(stream)[0], jpeg.stream)
    cells = _cells(decoded, jpeg.precision, header)
    # JPEG-LS knows unsigned samples only.
    return _extended(cells, jpeg.precision) if header.signed else cells


def _jpeg2000_cells(jpeg: Jpeg2000, header: SliceHeader) -> NDArray[Any]:
    _check_frame(jpeg, header)
    if jpeg.signed and not header.signed:
        raise DamagedError("the codestream is signed, the header says unsigned")
    openjpeg: Any = import_module("openjpeg")
    stream = whole_jpeg2000(jpeg)
    decoded = _decoded(lambda data: openjpeg.decode_pixel_data(data, version=2), stream)
    cells = _cells(decoded, jpeg.precision, header)
    return _extended(cells, jpeg.precision) if header.signed else cells


def _check_frame(frame: Jpeg | Jpeg2000, header: SliceHeader) -> None:
    """Check that a codestream is of what the header says, before a decoder makes room for it."""
    if (frame.rows, frame.columns) != (header.rows, header.columns):
        raise DamagedError(
            f"the codestream is {frame.columns}x{frame.rows}, "
            f"the header says {header.columns}x{header.rows}"
        )
    if frame.components != 1:
        raise DamagedError(f"the codestream has {frame.components} components")
    if frame.precision > header.bits_allocated:
        raise DamagedError("the codestream has another precision than the header")


def _decoded(decode: Callable[[bytes], bytes], stream: bytes) -> bytes:
    try:
        return decode(stream)
    except MemoryError:
        raise DamagedError(OUT_OF_MEMORY) from None
    except Exception as error:
        # Decoders raise whatever they like on corrupt data, and quote it.
        logger.debug("the decoder says: %r", error)
        raise DamagedError("the decoder refuses it") from None


def _cells(decoded: bytes, precision: int, header: SliceHeader) -> NDArray[Any]:
    """Return what a decoder gave, unsigned, in as many bytes as the precision takes."""
    cells = np.frombuffer(decoded, "u1" if precision <= 8 else "<u2")
    if cells.size != header.rows * header.columns:
        raise DamagedError("the decoder gives another size")
    return cells.reshape(header.rows, header.columns)


def _extended(cells: NDArray[Any], precision: int) -> NDArray[Any]:
    """Return unsigned samples as the two's complement that they are, of so many bits."""
    spare = 8 * cells.itemsize - precision
    return (cells << spare).view(f"i{cells.itemsize}") >> spare
