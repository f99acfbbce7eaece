"""DICOM files byte by byte, whole and damaged, for fuzzing and for tests of hostile input."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from PIL import Image

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
RLE: Final = "1.2.840.10008.1.2.5"

MARKER: Final = "MUELLER^ANNA"
"""Stands in the files wherever text may be, and must not be in any output."""

UNDEFINED: Final = 0xFFFFFFFF
_LONG_VRS: Final = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)
_VRS: Final = (*sorted(_LONG_VRS), "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS")
_MORE_VRS: Final = ("LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US", "??", "\0\0")
_PIXEL_DATA: Final = 0x7FE00010


@dataclass(frozen=True, slots=True)
class Element:
    """An element to be written as it stands; `length` is what it claims, if not the true one."""

    vr: str
    value: bytes
    length: int | None = None


def us(number: int) -> Element:
    """Return an element of a 16-bit number, little endian."""
    return Element("US", struct.pack("<H", number))


def text(vr: str, value: str | bytes) -> Element:
    """Return an element of text, padded to an even length."""
    raw = value.encode("latin-1") if isinstance(value, str) else value
    return Element(vr, raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2))


def ct_slice(pixels: NDArray[Any], number: int = 1, series: str = "1.2.3.4") -> dict[int, Element]:
    """Return the elements of a CT slice with unsigned pixels, by tag."""
    bits = 8 * pixels.itemsize
    return {
        0x00080005: text("CS", "ISO_IR 100"),
        0x00080008: text("CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        0x00080016: text("UI", "1.2.840.10008.5.1.4.1.1.2"),
        0x00080018: text("UI", f"{series}.9.{number}"),
        0x00080020: text("DA", "20200101"),
        0x00080033: text("TM", "101010.5"),
        0x00080060: text("CS", "CT"),
        0x00081030: text("LO", MARKER),
        0x00100010: text("PN", MARKER),
        0x00100020: text("LO", MARKER),
        0x00180050: text("DS", "2"),
        0x0020000D: text("UI", "1.2.3.3"),
        0x0020000E: text("UI", series),
        0x00200011: text("IS", "3"),
        0x00200012: text("IS", "1"),
        0x00200013: text("IS", str(number)),
        0x00200032: text("DS", f"0\\0\\{2 * number}"),
        0x00200037: text("DS", "1\\0\\0\\0\\1\\0"),
        0x00280002: us(1),
        0x00280004: text("CS", "MONOCHROME2"),
        0x00280010: us(pixels.shape[0]),
        0x00280011: us(pixels.shape[1]),
        0x00280030: text("DS", "0.5\\0.5"),
        0x00280100: us(bits),
        0x00280101: us(min(bits, 12)),
        0x00280102: us(min(bits, 12) - 1),
        0x00280103: us(0),
        0x00280120: us(63000),
        0x00281050: text("DS", "40\\50"),
        0x00281051: text("DS", "400\\350"),
        0x00281052: text("DS", "-1024"),
        0x00281053: text("DS", "1"),
        0x00281056: text("CS", "LINEAR"),
        _PIXEL_DATA: Element("OW", pixels.astype(f"<u{pixels.itemsize}").tobytes()),
    }


def written(tag: int, element: Element, syntax: str = EXPLICIT) -> bytes:
    """Return the bytes of one element."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    value = element.value
    length = (len(value) if element.length is None else element.length) & UNDEFINED
    if syntax == BIG_ENDIAN and element.vr in ("US", "SS", "OW"):
        value = b"".join(value[at : at + 2][::-1] for at in range(0, len(value), 2))
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return head + struct.pack("<I", length) + value
    vr = element.vr.encode("latin-1")[:2].ljust(2, b"?")
    if element.vr in _LONG_VRS:
        return head + vr + struct.pack(f"{order}HI", 0, length) + value
    return head + vr + struct.pack(f"{order}H", length & 0xFFFF) + value


def item(content: bytes, *, undefined: bool = False) -> bytes:
    """Return an item of a sequence."""
    if not undefined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + content + end


def sequence(*items: bytes, undefined: bool = False, vr: str = "SQ") -> Element:
    """Return an element that is a sequence of items."""
    if not undefined:
        return Element(vr, b"".join(items))
    return Element(vr, b"".join(items) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), UNDEFINED)


def nested(depth: int, *, undefined: bool = False, syntax: str = EXPLICIT) -> Element:
    """Return sequences in sequences."""
    content = b""
    for _ in range(depth):
        element = sequence(item(content, undefined=undefined), undefined=undefined)
        content = written(0x00081140, element, syntax)
    return sequence(item(content, undefined=undefined), undefined=undefined)


def file_start(syntax: str | bytes = EXPLICIT) -> bytes:
    """Return preamble, prefix and File Meta Information."""
    meta = (
        written(0x00020001, Element("OB", b"\0\1"))
        + written(0x00020002, text("UI", "1.2.840.10008.5.1.4.1.1.2"))
        + written(0x00020003, text("UI", "1.2.3.4.9.1"))
        + written(0x00020010, text("UI", syntax))
    )
    length = written(0x00020000, Element("UL", struct.pack("<I", len(meta))))
    return bytes(128) + b"DICM" + length + meta


def dicom(
    elements: Mapping[int, Element] | Iterable[tuple[int, Element]], syntax: str = EXPLICIT
) -> bytes:
    """Return a DICOM file; the elements of a mapping are sorted, others stand as they are."""
    pairs = sorted(elements.items()) if isinstance(elements, Mapping) else elements
    body = b"".join(written(tag, element, syntax) for tag, element in pairs)
    return file_start(syntax) + (deflated(body) if syntax == DEFLATED else body)


def deflated(body: bytes, zeros: int = 0) -> bytes:
    """Return a deflated data set, followed by so many MB of zeros, which take 1 kB each."""
    deflater = zlib.compressobj(9, wbits=-15)
    start = deflater.compress(body) + deflater.flush(zlib.Z_FULL_FLUSH)
    block = deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return start + block * zeros + deflater.flush()


def encapsulated(stream: bytes, fragments: int = 1) -> Element:
    """Return pixel data that holds a codestream."""
    stream += b"\0" * (len(stream) % 2)
    step = max(-(-len(stream) // fragments // 2) * 2, 2)
    parts = [b"", *(stream[at : at + step] for at in range(0, len(stream), step))]
    return sequence(*map(item, parts), undefined=True, vr="OB")


def compressed(
    elements: Mapping[int, Element], stream: bytes, syntax: str, fragments: int = 1
) -> bytes:
    """Return a DICOM file whose pixel data is a codestream."""
    return dicom({**elements, _PIXEL_DATA: encapsulated(stream, fragments)}, syntax)


def picture(rows: int = 48, columns: int = 64, seed: int = 0) -> NDArray[np.uint16]:
    """Return 12-bit pixels of something round with noise on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    values = np.where(np.hypot(x, y) < 0.8, 1000 + 60 * np.sin(8 * x + 5 * y), 20)
    return np.clip(values + rng.normal(0, 12, values.shape), 0, 4095).astype(np.uint16)


def lossless_jpeg(
    pixels: NDArray[Any],
    *,
    bits: int = 12,
    selection: int = 1,
    restart_rows: int = 0,
) -> bytes:
    """Encode pixels as lossless JPEG (T.81 annex H), every prediction and restarts included."""
    values = pixels.astype(np.int64)
    rows, columns = values.shape
    coded = b""
    step = restart_rows or rows
    for number, first in enumerate(range(0, rows, step)):
        part = values[first : first + step]
        if number:
            coded += bytes([0xFF, 0xD0 + (number - 1) % 8])
        coded += _lossless_scan(part, _lossless_predictions(part, selection, bits))
    # Fourteen codes of 4 bits and three of 5.
    table = bytes([0, 0, 0, 0, 14, 3, *[0] * 11, *range(17)])
    segments = [
        (0xC3, struct.pack(">BHHBBBB", bits, rows, columns, 1, 1, 0x11, 0)),
        (0xC4, table),
        *([(0xDD, struct.pack(">H", restart_rows * columns))] if restart_rows else []),
        (0xDA, bytes([1, 1, 0, selection, 0, 0])),
    ]
    heads = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
    )
    return b"\xff\xd8" + heads + coded + b"\xff\xd9"


def _lossless_predictions(part: NDArray[np.int64], selection: int, bits: int) -> NDArray[np.int64]:
    predicted = np.empty_like(part)
    a, b, c = part[1:, :-1], part[:-1, 1:], part[:-1, :-1]
    inner = (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)
    predicted[1:, 1:] = inner[selection - 1]
    predicted[0, 1:] = part[0, :-1]
    predicted[1:, 0] = part[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    return predicted


def _lossless_scan(part: NDArray[np.int64], predicted: NDArray[np.int64]) -> bytes:
    bits = []
    for difference in ((part - predicted + 2**15) % 2**16 - 2**15).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:04b}" if size < 14 else f"{size + 14:05b}")
        if 0 < size < 16:
            bits.append(f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}")
    coded = "".join(bits)
    coded += "1" * (-len(coded) % 8)
    return int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\x00")


def baseline_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit pixels as baseline JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def jpeg_ls_of(pixels: NDArray[Any]) -> bytes:
    """Encode pixels as JPEG-LS."""
    return bytes(jpeg_ls.encode_array(pixels))


def jpeg_2000_of(pixels: NDArray[Any], bits: int = 12) -> bytes:
    """Encode pixels as JPEG 2000, signed if they are."""
    return bytes(encode_array(pixels, bits_stored=bits, photometric_interpretation=2))


def rle_of(pixels: NDArray[np.uint16]) -> bytes:
    """Encode 16-bit pixels as RLE Lossless, in literal runs and replicated ones."""
    segments = []
    for plane in (pixels >> 8, pixels & 255):
        values = plane.astype(np.uint8).ravel()
        packed = b""
        for at in range(0, values.size, 128):
            run = values[at : at + 128].tobytes()
            if len(set(run)) == 1 and len(run) > 1:
                packed += bytes([257 - len(run), run[0]])
            else:
                packed += bytes([len(run) - 1]) + run
        segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = [2, 64, 64 + len(segments[0]), *[0] * 13]
    return struct.pack("<16I", *offsets) + b"".join(segments)


CODECS: Final[dict[str, Callable[[NDArray[Any]], bytes]]] = {
    JPEG_LOSSLESS: lossless_jpeg,
    JPEG_LS: jpeg_ls_of,
    JPEG_2000: jpeg_2000_of,
    RLE: rle_of,
}
"""Encoders of 16-bit pixels, without loss, by transfer syntax."""

_LOSSY: Final[dict[str, Callable[[NDArray[Any]], bytes]]] = {
    "1.2.840.10008.1.2.4.81": lambda pixels: bytes(jpeg_ls.encode_array(pixels, lossy_error=2)),
    "1.2.840.10008.1.2.4.91": lambda pixels: bytes(
        encode_array(
            pixels, bits_stored=12, photometric_interpretation=2, compression_ratios=[20, 5]
        )
    ),
}

_NUMBERS: Final = (
    *(b"nan", b"inf", b"-inf", b"1e308", b"1e309", b"-1e308", b"1e-320", b"1e-320\\1e8", b"0"),
    *(b"-0", b"-1", b"", b" ", b"\\", b"1\\", b"\\1", b"1\\2\\3\\4\\5\\6\\7", b"1_000", b"0x10"),
    *(b"1,5", b"\0\0", b"\xff\xfe", b"1e", b"--1", b"  5 ", b"999999999", b"1e9", b"65536"),
    *(b"\xd9\xa1\xd9\xa2", b"1\n2", b"1\x1b[31m", b"=cmd", b"0.000001", b"1e8\\1e8"),
    *(b"9" * 400, b"9" * 5000, b"1" + b"0" * 60000, b"\\".join([b"1"] * 30000)),
    MARKER.encode(),
)
_UIDS: Final = (
    *(b"", b"1.2.3", b".", b"A", b"1." * 40, b"1\n2", b"../../x", b"1.2.3\\4.5.6", b"\xff\xff"),
    *(b"0" * 64, b"9" * 65, b"-1.2", b"<script>alert(1)</script>", MARKER.encode()),
    b"1.2.840.10008.5.1.4.1.1.2.1",
    *(uid.encode() for uid in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG_BASELINE, RLE)),
)
_TEXTS: Final = (
    *(b"\x1b$B", b"\xff" * 40, b"A" * 60000, b"\0" * 50, b"\x1b]0;x\x07", b"CT\\MR", b"OT", b"MR"),
    *(b"LOCALIZER", b"MONOCHROME1", b"RGB", b"PALETTE COLOR", b"SIGMOID", b"LINEAR_EXACT", b""),
    *(b"=1+1", b"\xc2\x9b31m", b"\xe2\x80\xae", b"ISO 2022 IR 87", b"hex_codec", MARKER.encode()),
)
_WORDS: Final = (
    *(0, 1, 2, 7, 8, 9, 11, 12, 13, 15, 16, 17, 32, 255, 256, 8192, 16384, 32767, 32768, 65535),
)
_LENGTHS: Final = (0, 1, 100, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, UNDEFINED)
_ODD_TAGS: Final = (
    *(0, 2, 0x00020010, 0x00280008, 0x00280006, 0x00280121, 0x00283000, 0x7FE00001, 0x7FE00008),
    *(0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFCFFFC, 0xFFFFFFFF),
)


def damaged_header(seed: int) -> bytes:
    """Return a CT slice whose header is damaged in some ways; the same for the same seed."""
    rng = random.Random(seed)
    pixels = picture(rng.choice((16, 24, 33)), rng.choice((16, 20, 32)), rng.randrange(8))
    elements = sorted(ct_slice(pixels, rng.randrange(1, 50)).items())
    syntax = rng.choices((EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED), (5, 4, 1, 1))[0]
    for _ in range(rng.randrange(1, 5)):
        rng.choice(_HEADER_CHANGES)(elements, rng)
        if rng.random() < 0.8:
            elements.sort(key=lambda pair: pair[0])
    data = dicom(elements, syntax)
    start = len(file_start(syntax))
    match rng.randrange(20):
        case 0:
            data = data[132:]
        case 1:
            data = data[start:]
        case 2:
            data = file_start(rng.choice(_UIDS)) + data[start:]
        case 3 | 4 | 5 | 6 | 7:
            data = _changed(data, rng, rng.choice((200, 600, 1200, len(data))))
    return data


Pairs = list[tuple[int, Element]]


def _remove(elements: Pairs, rng: random.Random) -> None:
    if len(elements) > 1:
        elements.pop(rng.randrange(len(elements)))


def _remove_group(elements: Pairs, rng: random.Random) -> None:
    group = rng.choice((0x08, 0x10, 0x20, 0x28, 0x7FE0))
    elements[:] = [pair for pair in elements if pair[0] >> 16 != group] or elements


def _any_value(rng: random.Random) -> bytes:
    packed = struct.pack("<d", rng.choice((float("nan"), float("inf"), 1e308, 1e-320, -1.0)))
    word = struct.pack("<H", rng.choice(_WORDS)) * rng.choice((1, 1, 1, 2, 4))
    return rng.choice((*_NUMBERS, *_UIDS, *_TEXTS, packed, word, rng.randbytes(rng.randrange(9))))


def _change_value(elements: Pairs, rng: random.Random) -> None:
    place = rng.randrange(len(elements))
    tag, element = elements[place]
    elements[place] = tag, damaged_value(element, rng)


def damaged_value(element: Element, rng: random.Random) -> Element:
    """Return an element with another value, of its VR or of none."""
    if element.vr in ("DS", "IS", "TM"):
        value = rng.choice(_NUMBERS)
    elif element.vr == "UI":
        value = rng.choice(_UIDS)
    elif element.vr == "US":
        value = (struct.pack("<H", rng.choice(_WORDS)) * 4)[: rng.choice((2, 2, 2, 1, 3, 4, 0, 8))]
    elif element.vr == "OW":
        value = rng.choice((b"", element.value[:-1], element.value[:10], element.value * 2))
    else:
        value = rng.choice(_TEXTS)
    return Element(element.vr, value)


def _change_vr(elements: Pairs, rng: random.Random) -> None:
    place = rng.randrange(len(elements))
    tag, element = elements[place]
    value = element.value if rng.random() < 0.5 else _any_value(rng)
    elements[place] = tag, Element(rng.choice((*_VRS, *_MORE_VRS)), value)


def _change_length(elements: Pairs, rng: random.Random) -> None:
    place = rng.randrange(len(elements))
    tag, element = elements[place]
    length = rng.choice((*_LENGTHS, len(element.value) + 1, max(len(element.value) - 2, 0)))
    elements[place] = tag, Element(element.vr, element.value, length)


def _make_sequence(elements: Pairs, rng: random.Random) -> None:
    place = rng.randrange(len(elements))
    tag = elements[place][0]
    inner = written(rng.choice((0x00080018, 0x00280010, tag)), Element("FD", _any_value(rng)))
    undefined = rng.random() < 0.5
    elements[place] = tag, sequence(item(inner, undefined=undefined), undefined=undefined)


def _add_nested(elements: Pairs, rng: random.Random) -> None:
    tag = rng.choice((0x00081140, 0x00091001, 0x00189321, 0x0020000E, 0x00080060, 0x52009229))
    depth = rng.choice((1, 2, 5, 20, 63, 64, 100, 1200))
    element = nested(depth, undefined=rng.random() < 0.6)
    vr = "SQ" if rng.random() < 0.7 else "UN"
    elements.append((tag, Element(vr, element.value, element.length)))


def _repeat(elements: Pairs, rng: random.Random) -> None:
    elements.append(rng.choice(elements))


def _shuffle(elements: Pairs, rng: random.Random) -> None:
    rng.shuffle(elements)


def _add_odd(elements: Pairs, rng: random.Random) -> None:
    vr = rng.choice((*_VRS, *_MORE_VRS))
    elements.append((rng.choice(_ODD_TAGS), Element(vr, _any_value(rng))))


def _add_private(elements: Pairs, rng: random.Random) -> None:
    length = rng.choice((None, UNDEFINED, 5000))
    elements.append((0x00091001, Element("UN", rng.randbytes(rng.choice((0, 1, 7, 100))), length)))


_HEADER_CHANGES: Final[tuple[Callable[[Pairs, random.Random], None], ...]] = (
    *(_remove, _remove_group, _change_value, _change_value, _change_value, _change_vr),
    *(_change_length, _make_sequence, _add_nested, _repeat, _shuffle, _add_odd, _add_private),
)


def mangled(data: bytes, rng: random.Random) -> bytes:
    """Return bytes of which some are changed, lost, repeated or foreign."""
    return _changed(data or b"\0", rng, UNDEFINED)


def _changed(data: bytes, rng: random.Random, end: int) -> bytes:
    """Return bytes of which some before `end` are changed, lost, repeated or foreign."""
    changed = bytearray(data)
    place = rng.randrange(max(min(end, len(data)), 1))
    match rng.randrange(8):
        case 0 | 1:
            for _ in range(rng.randrange(1, 30)):
                changed[rng.randrange(place + 1)] ^= 1 << rng.randrange(8)
        case 2:
            del changed[place:]
        case 3:
            word = rng.choice((b"\xff" * 4, b"\xfe\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
            changed[place : place + 4] = word
        case 4:
            changed[place:place] = rng.randbytes(rng.randrange(1, 20))
        case 5:
            del changed[place : place + rng.randrange(1, 20)]
        case 6:
            start, size = rng.randrange(len(data)), rng.randrange(1, 60)
            changed[place : place + size] = changed[start : start + size]
        case 7:
            for _ in range(rng.randrange(1, 5)):
                changed[rng.randrange(place + 1)] = rng.choice((0, 255, 0x7F, 0x5C, 0x1B))
    return bytes(changed)


def damaged_pixels(seed: int) -> bytes:
    """Return a CT slice whose pixel data is damaged in some ways; the same for the same seed."""
    rng = random.Random(seed)
    rows, columns = rng.choice(((33, 40), (48, 64), (36, 37)))
    pixels = picture(rows, columns, rng.randrange(8))
    kind = rng.choice(("native", "baseline", *CODECS, *_LOSSY))
    elements = ct_slice(pixels)
    if kind == "native":
        syntax = rng.choice((EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED))
        return _changed(dicom(elements, syntax), rng, UNDEFINED)
    if kind == "baseline":
        grey = (pixels >> 4).astype(np.uint8)
        elements, stream, syntax = ct_slice(grey), baseline_jpeg(grey), JPEG_BASELINE
    elif kind == JPEG_LOSSLESS:
        restarts = rng.choice((0, 0, 1, 5))
        stream = lossless_jpeg(pixels, selection=rng.randrange(1, 8), restart_rows=restarts)
        syntax = kind
    else:
        stream, syntax = {**CODECS, **_LOSSY}[kind](pixels), kind
    for _ in range(rng.randrange(1, 4)):
        stream = _changed_stream(stream, pixels, rng)
    for _ in range(rng.choice((0, 0, 0, 1))):
        tag = rng.choice((0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103, 0x00280008))
        elements[tag] = us(rng.choice(_WORDS))
    data = compressed(elements, stream, syntax, rng.choice((1, 1, 2, 7)))
    return _changed(data, rng, UNDEFINED) if rng.random() < 0.1 else data


def moved(stream: bytes, by: int) -> bytes:
    """Return a JPEG 2000 codestream whose picture, of one tile, begins so far from its origin."""
    if stream[:4] != b"\xff\x4f\xff\x51" or len(stream) < 40:
        return stream
    right, bottom, left, top, width, height = struct.unpack_from(">6I", stream, 8)
    ends = [value + by & UNDEFINED for value in (right, bottom, left, top)]
    sizes = struct.pack(">8I", *ends, width, height, *ends[2:])
    return stream[:8] + sizes + stream[40:]


def _changed_stream(stream: bytes, pixels: NDArray[Any], rng: random.Random) -> bytes:
    stream = stream or b"\0"
    end = stream[-2:]
    place = rng.randrange(len(stream))
    match rng.randrange(10):
        case 0:
            return stream[:place] + end
        case 1:
            return stream[:place]
        case 9:
            return moved(stream, rng.choice((1, 300, 60_000, 1 << 20)))
        case 2:
            other = CODECS[rng.choice(tuple(CODECS))](pixels)
            return stream[:place] + other[min(place, len(other)) :]
        case 3:
            # Where the sizes of most headers are.
            changed = bytearray(stream)
            at = rng.randrange(min(60, len(stream)))
            changed[at : at + 2] = struct.pack(">H", rng.choice(_WORDS))
            return bytes(changed)
        case 4:
            return _changed(stream, rng, 80)
        case 5:
            size = rng.randrange(1, 400)
            return stream[:place] + bytes(size) + stream[place + size :]
        case 6:
            return stream + rng.randbytes(rng.randrange(40))
        case _:
            return _changed(stream, rng, len(stream))
