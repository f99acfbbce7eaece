"""DICOM files that are damaged or made to harm; each takes little time and memory, and one line.

What costs time or memory is read by a child process with limits (`fuzz.py --file`).
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import secrets
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import fuzz_dicom
import numpy as np
import pydicom
import pytest
from fuzz import Outcome, run
from fuzz_dicom import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LS,
    MARKER,
    RLE,
    UNDEFINED,
    Element,
    baseline_jpeg,
    compressed,
    ct_slice,
    deflated,
    dicom,
    file_start,
    item,
    jpeg_2000_of,
    jpeg_ls_of,
    lossless_jpeg,
    moved,
    nested,
    picture,
    rle_of,
    sequence,
    text,
    us,
    written,
)
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_partial

from ssimrdo.dicom import (
    BadFile,
    SkippedFile,
    SliceHeader,
    Window,
    find_series,
    load_hu,
    open_series,
)
from ssimrdo.dicom.luma import load_luma
from ssimrdo.dicom.read.elements import WINDOW_BYTES, may_be_dicom, read_elements
from ssimrdo.dicom.read.header import WANTED, Membership, read_membership
from ssimrdo.dicom.read.jpeg import read_jpeg
from ssimrdo.dicom.volume import sample_aspect_ratio
from ssimrdo.encoding.source import open_source
from ssimrdo.errors import BadSliceError, InputError
from ssimrdo.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FUZZ: Final = Path(fuzz_dicom.__file__).with_name("fuzz.py")
PIXELS: Final = picture()
GREY: Final = (PIXELS >> 4).astype(np.uint8)
SLICE: Final = ct_slice(PIXELS)

SOP_CLASS, MODALITY, IMAGE_TYPE = 0x00080016, 0x00080060, 0x00080008
SERIES, SERIES_NUMBER, INSTANCE_NUMBER = 0x0020000E, 0x00200011, 0x00200013
FRAMES, ROWS, COLUMNS, PIXEL_DATA = 0x00280008, 0x00280010, 0x00280011, 0x7FE00010
SPACING, CENTER, WIDTH, FUNCTION = 0x00280030, 0x00281050, 0x00281051, 0x00281056
SLOPE, PRIVATE = 0x00281053, 0x00091001


def bounded(folder: Path, *files: bytes) -> list[Outcome]:
    """Have a child process read files, which must take less than 1 s each and 0.4 GB."""
    paths = [folder / f"{number}.dcm" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-W", "error", str(FUZZ), "--file", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    outcomes = [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(files)
    for outcome in outcomes:
        assert outcome.result != "failure", outcome
        assert outcome.seconds < 1
        assert outcome.megabytes < 400
    return outcomes


def header_of(path: Path, data: bytes) -> SliceHeader:
    path.write_bytes(data)
    result = find_series(path)
    assert not result.bad, result.bad
    ((header,),) = (series.slices for series in result.series)
    return header


def refusal(path: Path, data: bytes) -> str:
    """Return the reason for which the search leaves a file out as damaged."""
    path.write_bytes(data)
    (bad,) = find_series(path).bad
    assert MARKER not in bad.reason
    assert bad.reason.isprintable()
    return bad.reason


def membership(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    with path.open("rb", buffering=0) as stream:
        return read_membership(stream, path.name)


NESTING_TAGS: Final = (SERIES, MODALITY, IMAGE_TYPE, SERIES_NUMBER, CENTER, PRIVATE)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("depth", [20, 1200])
def test_nested_sequences_are_told_at_once(tmp_path: Path, depth: int, undefined: bool) -> None:
    cases = [(tag, syntax) for tag in NESTING_TAGS for syntax in (EXPLICIT, IMPLICIT)]
    files = [
        dicom({**SLICE, tag: nested(depth, undefined=undefined, syntax=syntax)}, syntax)
        for tag, syntax in cases
    ]
    outcomes = bounded(tmp_path, *files)
    # Sequences of defined length are skipped, whatever is in them.
    bad = {outcome.result == "bad header" for outcome in outcomes[2:]}
    assert bad == {undefined and depth > 1000}
    assert {outcome.result for outcome in outcomes[:2]} == {"bad header"}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_sequence_is_never_text(tmp_path: Path, syntax: str) -> None:
    inner = item(written(SERIES, text("UI", "1.2.3.4"), syntax))
    for undefined in (False, True):
        data = dicom({**SLICE, SERIES: sequence(inner, undefined=undefined)}, syntax)
        if syntax == BIG_ENDIAN and undefined:
            # The delimiters are little endian.
            assert "corrupt" in refusal(tmp_path / "a", data)
        else:
            assert refusal(tmp_path / "a", data).startswith("SeriesInstanceUID is malformed")
        assert isinstance(membership(tmp_path / "a", data), BadFile)


def test_values_too_long_to_be_wanted_are_not_read(tmp_path: Path) -> None:
    texts = [b"1" * size for size in (100, 100 << 20)]
    usual, long = bounded(
        tmp_path, *(dicom({**SLICE, SERIES: Element("UT", one)}) for one in texts)
    )
    assert long.message.startswith("SeriesInstanceUID is malformed")
    # What the process has loaded by itself does not count.
    assert long.megabytes < usual.megabytes + 50


def test_number_of_elements_is_bounded(tmp_path: Path) -> None:
    empty = written(PRIVATE, Element("LO", b"")) * 1_000_000
    before = [pair for pair in SLICE.items() if pair[0] < PRIVATE]
    behind = dicom([pair for pair in SLICE.items() if pair[0] > PRIVATE])[len(file_start()) :]
    inside = sequence(item(empty, undefined=True), undefined=True)
    files = [dicom(before) + empty + behind, dicom({**SLICE, PRIVATE: inside})]
    # What tells that a file is no CT slice comes first.
    ct, mr = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0"
    *outcomes, other = bounded(tmp_path, *files, files[0].replace(ct, mr))
    assert {outcome.message for outcome in outcomes} == {"the header has too many elements"}
    assert other.result == "skipped"


def bomb(elements: dict[int, Element], zeros: int) -> bytes:
    """Return a deflated slice whose last element is zeros, in MB."""
    *pairs, (tag, last) = sorted(elements.items())
    body = b"".join(written(*pair) for pair in pairs)
    body += written(tag, Element(last.vr, b"", zeros << 20))
    return file_start(DEFLATED) + deflated(body, zeros)


def test_deflated_pixels_are_inflated_as_far_as_needed(tmp_path: Path) -> None:
    files = [bomb({**SLICE, COLUMNS: us(columns)}, 3072) for columns in (64, 8192)]
    assert [outcome.result for outcome in bounded(tmp_path, *files)] == ["slice", "slice"]


def test_deflated_header_is_inflated_as_far_as_needed(tmp_path: Path) -> None:
    elements = {tag: element for tag, element in SLICE.items() if tag < PRIVATE}
    data = bomb({**elements, PRIVATE: Element("OB", b"")}, 3072)
    (outcome,) = bounded(tmp_path, data)
    assert outcome.message == "the header is corrupt: it inflates to more than it may hold"
    assert isinstance(membership(tmp_path / "a", data), BadFile)


def test_deflated_slice_that_is_cut_off_is_found_by_the_search(tmp_path: Path) -> None:
    data = dicom(SLICE, DEFLATED)
    np.testing.assert_array_equal(
        load_hu(header_of(tmp_path / "a", data)), PIXELS - np.float32(1024)
    )
    assert "cut off" in refusal(tmp_path / "a", data[:-200])
    damaged = bytearray(data)
    damaged[len(file_start(DEFLATED)) + 30] ^= 0xFF
    assert refusal(tmp_path / "a", bytes(damaged))


def test_size_of_a_slice_is_bounded(tmp_path: Path) -> None:
    elements = {**SLICE, ROWS: us(16384), COLUMNS: us(16384)}
    (outcome,) = bounded(tmp_path, bomb(elements, 512))
    assert "16384x16384 is too large" in outcome.message


@pytest.mark.parametrize("number", ["1" * 5000, "9" * 400, "\xb2", "-1", "1_0"])
def test_series_number_that_is_none(tmp_path: Path, number: str) -> None:
    found = membership(tmp_path / "a", dicom({**SLICE, SERIES_NUMBER: text("LT", number)}))
    assert isinstance(found, Membership)
    assert found.series_number is None


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (MODALITY, "FD", MARKER.encode()),
        (INSTANCE_NUMBER, "FD", struct.pack("<d", 1e308)),
        (INSTANCE_NUMBER, "FL", struct.pack("<f", float("nan"))),
        (INSTANCE_NUMBER, "AT", b"\x10\0\x10\0"),
        (INSTANCE_NUMBER, "IS", b"9" * 5000),
        (INSTANCE_NUMBER, "US", b"\1\0\2"),
        (CENTER, "DS", b"1e309\\-1e309"),
        (CENTER, "DS", b"1_000"),
        (CENTER, "DS", b"\\".join([b"1"] * 30000)),
    ],
)
def test_values_out_of_all_bounds_are_none(tmp_path: Path, tag: int, vr: str, value: bytes) -> None:
    for nest in (False, True):
        inner = item(written(tag, Element(vr, value)))
        element = sequence(inner) if nest else Element(vr, value)
        header = header_of(tmp_path / "a", dicom({**SLICE, tag: element}))
        assert header.instance_number in (None, 1)
        assert all(np.isfinite([w.center, w.width]).all() for w in header.windows)


@pytest.mark.parametrize("spacing", ["1e-320\\1e8", "1e8\\1e-320", "0\\0", "1e-6\\1e-6", "nan\\1"])
def test_implausible_spacing_is_none(tmp_path: Path, spacing: str) -> None:
    header = header_of(tmp_path / "a", dicom({**SLICE, SPACING: text("DS", spacing)}))
    assert header.pixel_spacing_mm is None


@pytest.mark.parametrize(
    "spacing", [(1e-320, 1e8), (1e8, 1e-320), (1.0, float("nan")), (1.0, float("inf"))]
)
def test_ratio_of_spacings_that_is_no_number_is_refused(spacing: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="PixelSpacing"):
        sample_aspect_ratio(spacing, lambda: "a")


@pytest.mark.parametrize("slope", ["1e-320", "-1e-60"])
def test_slope_that_makes_all_one_value_is_bad(tmp_path: Path, slope: str) -> None:
    reason = refusal(tmp_path / "a", dicom({**SLICE, SLOPE: text("DS", slope)}))
    assert reason == "RescaleSlope is malformed or not supported"


@pytest.mark.parametrize("value", [MARKER, "1.5", "-1", "1\\1"])
def test_number_of_frames_that_is_none_is_bad(tmp_path: Path, value: str) -> None:
    reason = refusal(tmp_path / "a", dicom({**SLICE, FRAMES: text("IS", value)}))
    assert reason == "NumberOfFrames is malformed or not supported"


@pytest.mark.parametrize("value", ["", "1", "0"])
def test_number_of_frames_of_one_frame(tmp_path: Path, value: str) -> None:
    header_of(tmp_path / "a", dicom({**SLICE, FRAMES: text("IS", value)}))


def test_encapsulated_pixels_under_a_native_syntax_are_bad(tmp_path: Path) -> None:
    data = dicom({**SLICE, PIXEL_DATA: fuzz_dicom.encapsulated(bytes(9000))})
    assert "encapsulated" in refusal(tmp_path / "a", data)


@pytest.mark.parametrize("end", ["header", "length"])
def test_element_that_goes_beyond_the_file_is_cut_off(tmp_path: Path, end: str) -> None:
    pairs = [pair for pair in SLICE.items() if pair[0] < PIXEL_DATA]
    data = dicom(pairs)
    data += written(0x52000001, Element("OB", b"12", 5000 if end == "length" else None))
    if end == "header":
        data += b"\0\0\0"
    assert refusal(tmp_path / "a", data) == "the header is cut off"


def test_elements_behind_windows_are_found(tmp_path: Path) -> None:
    # Elements across and at the ends of what is read at once.
    for size in range(3800, 4200, 2):
        header = header_of(tmp_path / "a", dicom({**SLICE, PRIVATE: Element("OB", bytes(size))}))
        assert header.rows == len(PIXELS)
        assert membership(tmp_path / "a", (tmp_path / "a").read_bytes()).series_number == 3
    np.testing.assert_array_equal(load_hu(header), PIXELS - np.float32(1024))


def test_implicit_items_in_an_explicit_data_set(tmp_path: Path) -> None:
    inner = written(0x00081150, text("UI", "1.2.3"), IMPLICIT)
    for content in (inner, written(PRIVATE, nested(2, undefined=True, syntax=IMPLICIT), IMPLICIT)):
        element = sequence(item(content, undefined=True), undefined=True, vr="UN")
        header = header_of(tmp_path / "a", dicom({**SLICE, PRIVATE: element}))
        assert header.rows == len(PIXELS)
    assert element.length == UNDEFINED


ENCODED: Final = {
    "JPEG lossless": (JPEG_LOSSLESS, lossless_jpeg(PIXELS)),
    "JPEG lossless with restarts": (JPEG_LOSSLESS, lossless_jpeg(PIXELS, restart_rows=5)),
    "JPEG-LS": (JPEG_LS, jpeg_ls_of(PIXELS)),
    "JPEG 2000": (JPEG_2000, jpeg_2000_of(PIXELS)),
    "RLE": (RLE, rle_of(PIXELS)),
    "JPEG baseline": (JPEG_BASELINE, baseline_jpeg(GREY)),
}
SIZED: Final = ["JPEG lossless", "JPEG-LS", "JPEG 2000", "JPEG baseline"]


def encoded(name: str, change: Callable[[bytes], bytes] = bytes, **elements: Element) -> bytes:
    """Return a slice with a codestream; elements are given by keyword."""
    syntax, stream = ENCODED[name]
    overrides = {tag_for_keyword(keyword) or 0: element for keyword, element in elements.items()}
    base = ct_slice(GREY) if syntax == JPEG_BASELINE else SLICE
    return compressed({**base, **overrides}, change(stream), syntax)


def frame_at(stream: bytes) -> int:
    """Return where the precision, rows and columns of a JPEG's frame are."""
    return max(stream.find(bytes([0xFF, marker, 0])) for marker in (0xC0, 0xC3, 0xF7)) + 4


def with_size(stream: bytes, rows: int, columns: int) -> bytes:
    """Return a codestream that claims another size."""
    changed = bytearray(stream)
    if stream[:2] == b"\xff\x4f":
        changed[8:16] = changed[24:32] = struct.pack(">II", columns, rows)
    else:
        at = frame_at(stream)
        changed[at + 1 : at + 5] = struct.pack(">HH", rows, columns)
    return bytes(changed)


def pixel_refusal(path: Path, data: bytes) -> str:
    """Return the cause for which a slice with a good header cannot be loaded."""
    header = header_of(path, data)
    with pytest.raises(BadSliceError) as caught:
        load_hu(header)
    assert caught.value.path == str(path)
    assert str(caught.value).isprintable()
    assert MARKER not in str(caught.value)
    return caught.value.cause.removeprefix("the pixel data cannot be decoded ").strip("()")


@pytest.mark.parametrize("name", ENCODED)
def test_whole_codestreams_are_read(tmp_path: Path, name: str) -> None:
    hu = load_hu(header_of(tmp_path / "a", encoded(name)))
    if name == "JPEG baseline":
        assert np.abs(hu + 1024 - GREY).max() < 16
    else:
        np.testing.assert_array_equal(hu, PIXELS - np.float32(1024))


@pytest.mark.parametrize("restart_rows", [0, 1, 7])
@pytest.mark.parametrize("selection", range(1, 8))
def test_every_prediction_of_lossless_jpeg(
    tmp_path: Path, selection: int, restart_rows: int
) -> None:
    stream = lossless_jpeg(PIXELS, selection=selection, restart_rows=restart_rows)
    header = header_of(tmp_path / "a", compressed(SLICE, stream, JPEG_LOSSLESS))
    np.testing.assert_array_equal(load_hu(header), PIXELS - np.float32(1024))


def test_lossless_jpeg_of_16_bits_and_more_rows_than_are_checked_at_once(tmp_path: Path) -> None:
    # Differences of every size, 32768 among them.
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (600, 20)).astype(np.uint16)
    pixels[0, :3] = 0, 1 << 15, 0
    bits = {0x00280101: us(16), 0x00280102: us(15), 0x00280120: text("US", b"\1\0")}
    for restart_rows in (0, 70):
        stream = lossless_jpeg(pixels, bits=16, selection=7, restart_rows=restart_rows)
        data = compressed({**ct_slice(pixels), **bits}, stream, JPEG_LOSSLESS)
        expected = np.where(pixels == 1, np.float32(-1000), pixels - np.float32(1024))
        np.testing.assert_array_equal(load_hu(header_of(tmp_path / "a", data)), expected)


@pytest.mark.parametrize("size", [(0, 1000), (65535, 65535), (30000, 30000), (49, 64), (48, 63)])
@pytest.mark.parametrize("name", SIZED)
def test_codestream_of_another_size_meets_no_decoder(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    data = encoded(name, lambda stream: with_size(stream, *size))
    if min(size) > 0 or name != "JPEG 2000":
        expected = f"the codestream is {size[1]}x{size[0]}, the header says 64x48"
    else:
        expected = "the codestream has an impossible size"
    if max(size) == 65535:
        (outcome,) = bounded(tmp_path, data)
        assert expected in outcome.message
    else:
        assert pixel_refusal(tmp_path / "a", data) == expected


@pytest.mark.parametrize("name", SIZED)
def test_codestream_of_another_precision_meets_no_decoder(tmp_path: Path, name: str) -> None:
    def with_precision(stream: bytes) -> bytes:
        at = 42 if name == "JPEG 2000" else frame_at(stream)
        return stream[:at] + bytes([19 if name == "JPEG 2000" else 17]) + stream[at + 1 :]

    assert "precision" in pixel_refusal(tmp_path / "a", encoded(name, with_precision))


@pytest.mark.parametrize("name", SIZED)
def test_codestream_of_more_components_meets_no_decoder(tmp_path: Path, name: str) -> None:
    def with_components(stream: bytes) -> bytes:
        at = 41 if name == "JPEG 2000" else frame_at(stream) + 5
        return stream[:at] + b"\3" + stream[at + 1 :]

    assert "component" in pixel_refusal(tmp_path / "a", encoded(name, with_components))


@pytest.mark.parametrize("name", ["JPEG-LS", "JPEG lossless", "JPEG 2000"])
def test_codestream_of_another_syntax_is_refused(tmp_path: Path, name: str) -> None:
    for other in ENCODED.keys() - {name, "JPEG lossless with restarts", "JPEG baseline"}:
        data = compressed(SLICE, ENCODED[name][1], ENCODED[other][0])
        assert pixel_refusal(tmp_path / "a", data)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    ("name", "marker", "content"),
    [
        ("JPEG lossless", 0xC3, struct.pack(">BHHBBBB", 12, 9999, 9999, 1, 1, 0x11, 0)),
        ("JPEG lossless", 0xC2, struct.pack(">BHHBBBB", 8, 48, 64, 1, 1, 0x11, 0)),
        ("JPEG lossless", 0xDE, struct.pack(">BHHBBBB", 12, 9999, 9999, 1, 1, 0x11, 0)),
        ("JPEG-LS", 0xF8, struct.pack(">BBII", 4, 4, 60000, 60000)),
        ("JPEG-LS", 0xF7, struct.pack(">BHHBBBB", 12, 9999, 9999, 1, 1, 0x11, 0)),
    ],
)
def test_second_frames_and_other_kinds_meet_no_decoder(
    tmp_path: Path, name: str, marker: int, content: bytes
) -> None:
    data = encoded(name, lambda stream: stream[:2] + segment(marker, content) + stream[2:])
    assert pixel_refusal(tmp_path / "a", data) in (
        "the codestream holds several frames",
        "the codestream is of a kind that is not read",
        "the codestream is of an oversize picture",
    )


@pytest.mark.parametrize("name", ["JPEG lossless", "JPEG-LS", "JPEG baseline"])
def test_what_applications_say_in_a_codestream_meets_no_decoder(tmp_path: Path, name: str) -> None:
    def with_texts(stream: bytes) -> bytes:
        texts = segment(0xEB, b"JP" + MARKER.encode()) + segment(0xFE, MARKER.encode())
        return stream[:2] + texts + b"\xff" * 50 + stream[2:]

    plain = load_hu(header_of(tmp_path / "a", encoded(name)))
    np.testing.assert_array_equal(
        load_hu(header_of(tmp_path / "a", encoded(name, with_texts))), plain
    )
    assert MARKER.encode() not in read_jpeg(with_texts(ENCODED[name][1])).stream


def test_fill_bytes_take_no_time(tmp_path: Path) -> None:
    data = encoded("JPEG-LS", lambda stream: stream[:2] + b"\xff" * 900_000 + stream[2:])
    (outcome,) = bounded(tmp_path, data)
    assert outcome.result == "slice"


def with_coding(stream: bytes, layers: int, blocks: int, precincts: bytes) -> bytes:
    """Return a JPEG 2000 codestream of another coding style (COD)."""
    at = stream.index(b"\xff\x52")
    length = int.from_bytes(stream[at + 2 : at + 4], "big")
    style, levels, wavelet = stream[at + 4], stream[at + 9], stream[at + 13]
    content = bytes([style | bool(precincts)]) + stream[at + 5 : at + 6]
    content += struct.pack(">H", layers) + bytes([0, levels, blocks, blocks, 0, wavelet])
    cod = b"\xff\x52" + struct.pack(">H", len(content + precincts) + 2) + content + precincts
    return stream[:at] + cod + stream[at + 2 + length :]


def test_jpeg_2000_that_claims_more_than_it_can_hold_meets_no_decoder(tmp_path: Path) -> None:
    large = np.zeros((4096, 4096), np.uint16)
    stream = jpeg_2000_of(large)
    claims = {
        "layers": with_coding(stream, 65535, 4, b""),
        "precincts": with_coding(stream, 1, 4, bytes(6)),
        "blocks": with_coding(stream, 1, 0, b""),
        "tiles": stream[:24] + struct.pack(">II", 16, 16) + stream[32:],
        "one tile a pixel": stream[:24] + struct.pack(">II", 1, 1) + stream[32:],
    }
    files = [compressed(ct_slice(large), claim, JPEG_2000) for claim in claims.values()]
    for outcome in bounded(tmp_path, *files):
        assert "claims more than it can hold" in outcome.message
    assert with_coding(stream, 1, 4, b"") == stream


@pytest.mark.parametrize("offset", [1, 20_000, 60_000])
def test_jpeg_2000_picture_far_from_its_origin_meets_no_decoder(
    tmp_path: Path, offset: int
) -> None:
    (outcome,) = bounded(tmp_path, encoded("JPEG 2000", lambda stream: moved(stream, offset)))
    assert "does not begin at its origin" in outcome.message


def test_jpeg_2000_in_a_jp2_file_is_read(tmp_path: Path) -> None:
    header = bytes.fromhex("0000000c6a5020200d0a870a") + b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 "
    data = encoded("JPEG 2000", lambda stream: header + b"\0\0\0\0jp2c" + stream)
    np.testing.assert_array_equal(
        load_hu(header_of(tmp_path / "a", data)), PIXELS - np.float32(1024)
    )


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_tile_part_that_holds_little_or_nothing_is_whole(tmp_path: Path, size: int) -> None:
    def split(stream: bytes) -> bytes:
        at = stream.index(b"\xff\x90")
        end = len(stream) - 2
        cut = end - size
        first = struct.pack(">HHHIBB", 0xFF90, 10, 0, cut - at, 0, 2)
        second = struct.pack(">HHHIBBH", 0xFF90, 10, 0, size + 14, 1, 2, 0xFF93)
        return stream[:at] + first + stream[at + 12 : cut] + second + stream[cut:]

    data = encoded("JPEG 2000", split)
    np.testing.assert_array_equal(
        load_hu(header_of(tmp_path / "a", data)), PIXELS - np.float32(1024)
    )
    lost = encoded("JPEG 2000", lambda stream: split(stream)[: -16 - size] + stream[-2:])
    assert pixel_refusal(tmp_path / "a", lost) == "parts of the codestream are missing"


def test_rle_is_decoded_as_far_as_needed(tmp_path: Path) -> None:
    run = b"\x81\0"
    causes = {
        run * 60_000: "the RLE header is corrupt",
        struct.pack("<16I", 2, 66, 64, *[0] * 13) + run * 900: "the RLE header is corrupt",
        struct.pack("<16I", 15, *range(64, 94, 2)) + run * 900: "the RLE header is corrupt",
        struct.pack("<16I", 2, 64, 66, *[0] * 13) + run * 500_000: "an RLE segment ends early",
        struct.pack("<16I", 2, 64, 500_064, *[0] * 13) + run * 500_000: "",
        struct.pack("<16I", 2, 64, 66, *[0] * 13) + run * 20_000_000: "larger than the header",
    }
    outcomes = bounded(tmp_path, *(encoded("RLE", lambda _, c=causing: c) for causing in causes))
    for cause, outcome in zip(causes.values(), outcomes, strict=True):
        assert outcome.result == ("bad pixels" if cause else "slice")
        assert cause in outcome.message


def test_number_of_fragments_is_bounded(tmp_path: Path) -> None:
    pixels = Element("OB", sequence(item(b""), undefined=True).value, UNDEFINED)
    value = item(b"") * 2_000_000
    data = dicom({**SLICE, PIXEL_DATA: Element("OB", value + pixels.value, UNDEFINED)}, JPEG_LS)
    (outcome,) = bounded(tmp_path, data)
    assert "too many fragments" in outcome.message


@pytest.mark.parametrize("fragments", [1, 2, 9])
def test_fragments_of_defined_and_undefined_length(tmp_path: Path, fragments: int) -> None:
    syntax, stream = ENCODED["JPEG-LS"]
    pixels = fuzz_dicom.encapsulated(stream, fragments)
    for element in (pixels, Element("OB", pixels.value[:-8])):
        header = header_of(tmp_path / "a", dicom({**SLICE, PIXEL_DATA: element}, syntax))
        np.testing.assert_array_equal(load_hu(header), PIXELS - np.float32(1024))


@pytest.mark.parametrize("name", ENCODED)
def test_codestream_that_ends_early_is_told_wherever_that_is(tmp_path: Path, name: str) -> None:
    _, stream = ENCODED[name]
    end = b"" if name == "RLE" else stream[-2:]
    coded = stream[: len(stream) - len(end)]
    # The last bytes may be padding.
    for length in range(40, len(coded) - 2, max(len(coded) // 60, 1)):
        cut = coded[:length].rstrip(b"\xff") + end
        assert pixel_refusal(tmp_path / "a", encoded(name, lambda _, cut=cut: cut))
        if end:
            assert pixel_refusal(tmp_path / "a", encoded(name, lambda _, cut=cut: cut[:-2]))


def test_most_changes_of_lossless_jpeg_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    _, stream = ENCODED["JPEG lossless"]
    start = read_jpeg(stream).scan
    wrong = 0
    for at in rng.integers(start, len(stream) - 2, 60):
        changed = stream[:at] + bytes([stream[at] ^ 0x20]) + stream[at + 1 :]
        header = header_of(tmp_path / "a", encoded("JPEG lossless", lambda _, c=changed: c))
        try:
            load_hu(header)
        except BadSliceError:
            continue
        wrong += 1
    # What takes as many bits as before cannot be told.
    assert wrong < 40


@pytest.mark.parametrize("signed", [False, True])
def test_signed_jpeg_2000_has_a_signed_header(tmp_path: Path, signed: bool) -> None:
    pixels = PIXELS.astype(np.int16) - 1024
    stream = jpeg_2000_of(pixels)
    elements = {**SLICE, 0x00280103: us(int(signed)), 0x00280120: us(3)}
    data = compressed(elements, stream, JPEG_2000)
    if signed:
        expected = np.where(pixels == 3, np.float32(-1000), pixels - np.float32(1024))
        np.testing.assert_array_equal(load_hu(header_of(tmp_path / "a", data)), expected)
    else:
        cause = "the codestream is signed, the header says unsigned"
        assert pixel_refusal(tmp_path / "a", data) == cause


def test_text_of_decoders_goes_to_the_debug_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def without_data(stream: bytes) -> bytes:
        return stream[:60] + bytes(len(stream) - 62) + stream[-2:]

    caplog.set_level(logging.DEBUG)
    data = encoded("JPEG-LS", without_data)
    assert pixel_refusal(tmp_path / "a", data) == "the decoder refuses it"
    (record,) = caplog.records
    assert record.name == "ssimrdo.dicom.read.pixels"
    assert record.levelno == logging.DEBUG
    assert "Decoding error" in record.getMessage()


# Run with Python's own settings, under which warnings and errors of libraries reach stderr.
QUIET: Final = """
import logging, sys, warnings
from pathlib import Path
# What it changes when it is imported is not ours.
import pydicom.pixels
from ssimrdo.dicom import find_series, load_hu, open_series
from ssimrdo.dicom.read.find import read_file
from ssimrdo.dicom.read.header import read_membership
from ssimrdo.errors import SsimrdoError

def member(path, name):
    with path.open("rb", buffering=0) as stream:
        return read_membership(stream, name)

before = list(warnings.filters), logging.root.handlers[:], logging.getLogger("pydicom").filters[:]
for path in sorted(Path(sys.argv[1]).iterdir()):
    read_file(path, path.name, member)
    for series in find_series(path).series:
        try:
            open_series(path)
            load_hu(series.slices[0])
        except SsimrdoError:
            pass
after = list(warnings.filters), logging.root.handlers[:], logging.getLogger("pydicom").filters[:]
print(before == after)
"""


def test_library_calls_write_nothing_and_change_no_globals(tmp_path: Path) -> None:
    values = [MARKER.encode(), b"1.02.3 ", b"1..2", b"9" * 80, b"1,5 ", b"\xff\xfe", b"=1+1", b""]
    tags = [tag for tag in SLICE if tag != PIXEL_DATA]
    for tag in [*tags, FRAMES, 0x00280006, 0x7FE00001]:
        for number, value in enumerate(values):
            vr = SLICE[tag].vr if tag in SLICE else "LO"
            data = dicom({**SLICE, tag: Element(vr, value)})
            (tmp_path / f"{tag:08x}-{number}").write_bytes(data)
    for number, value in enumerate(values):
        start = file_start(value)
        (tmp_path / f"syntax-{number}").write_bytes(start + dicom(SLICE)[len(file_start()) :])
    for name in ENCODED:
        (tmp_path / name).write_bytes(encoded(name, lambda stream: stream[:-200] + stream[-2:]))
        (tmp_path / f"{name} 2").write_bytes(encoded(name, PixelRepresentation=us(1)))
        (tmp_path / f"{name} 3").write_bytes(encoded(name, BitsStored=us(7), HighBit=us(6)))
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def write_pair(folder: Path, first: bytes, second: bytes) -> None:
    """Write two slices; the first by name has a name of its own."""
    (folder / MARKER).mkdir()
    (folder / MARKER / "1.dcm").write_bytes(first)
    (folder / "z.dcm").write_bytes(second)


OTHER_UID: Final = {SERIES: text("UI", "1.2.3.9")}


@pytest.mark.parametrize(
    "copy",
    [
        dicom(SLICE),
        dicom(SLICE, IMPLICIT),
        dicom({**SLICE, 0x00100010: text("PN", "OTHER")}),
        dicom({**SLICE, **OTHER_UID}),
        encoded("JPEG lossless"),
        encoded("RLE"),
    ],
)
def test_duplicates_are_told_without_a_name(tmp_path: Path, copy: bytes) -> None:
    write_pair(tmp_path, dicom(SLICE), copy)
    series, skipped = open_series(tmp_path)
    assert len(series) == 1
    expected = SkippedFile("z.dcm", "duplicate of another file", duplicate_of=f"{MARKER}/1.dcm")
    assert skipped == (expected,)


@pytest.mark.parametrize(
    "other",
    [
        dicom({**SLICE, PIXEL_DATA: Element("OW", (PIXELS + 1).tobytes())}),
        dicom({**SLICE, PIXEL_DATA: Element("OW", (PIXELS + 1).tobytes())}, IMPLICIT),
        dicom({**SLICE, **OTHER_UID, PIXEL_DATA: Element("OW", (PIXELS + 1).tobytes())}),
        dicom({**SLICE, 0x00281052: text("DS", "-1000")}),
        dicom({**SLICE, 0x00200032: text("DS", "0\\0\\7")}),
        dicom({**SLICE, CENTER: text("DS", "41\\50")}),
        encoded("JPEG-LS", lambda stream: stream[:100] + stream[-2:]),
    ],
)
def test_one_uid_for_different_slices_is_refused(tmp_path: Path, other: bytes) -> None:
    write_pair(tmp_path, dicom(SLICE), other)
    reason = "has the SOP Instance UID of another file, but another slice"
    if JPEG_LS.encode() in other:
        reason = "the pixel data cannot be decoded (the decoder refuses it)"
    series_uid = "1.2.3.9" if b"1.2.3.9\0" in other else "1.2.3.4"
    assert find_series(tmp_path).bad == (BadFile("z.dcm", reason, series_uid=series_uid),)
    with pytest.raises(BadSliceError, match=re.escape(reason)) as caught:
        open_series(tmp_path, series_uid=series_uid)
    assert caught.value.path == str(tmp_path / "z.dcm")
    series, skipped = open_series(tmp_path, series_uid="1.2.3.4", skip_bad=True)
    assert len(series) == 1
    assert skipped == (SkippedFile("z.dcm", reason),)


CONTROLS: Final = (
    *map(chr, (*range(32), *range(127, 160))),
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u2028\u2029\u200b\ufeff\udce4",
)


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_are_not_printed(control: str) -> None:
    assert printable(f"a{control}b") == "a?b"


def test_printable_text_is_printed() -> None:
    assert printable("Jürgen 胸部 \\ x-1_2.dcm") == "Jürgen 胸部 \\ x-1_2.dcm"


@pytest.mark.parametrize("control", ["\x1b", "\x9b", "\u202e", "\n"])
def test_names_with_controls_reach_no_message(tmp_path: Path, control: str) -> None:
    folder = tmp_path / f"a{control}]0;b"
    folder.mkdir()
    cut = encoded("JPEG-LS", lambda stream: stream[:100] + stream[-2:])
    (folder / f"x{control}.dcm").write_bytes(cut)
    series, _ = open_series(folder)
    assert series.slices[0].name == "x?.dcm"
    with pytest.raises(BadSliceError) as caught:
        load_hu(series.slices[0])
    assert str(caught.value).isprintable()
    (folder / "y.dcm").write_bytes(b"")
    for wanted in (folder, folder / f"missing{control}"):
        with pytest.raises(InputError) as refused:
            open_series(wanted)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", ["9e8", "-9e8", "1e-20"])
def test_values_and_windows_out_of_all_bounds_give_luma(
    tmp_path: Path, slope: str, function: str
) -> None:
    tiny = "1" if function == "LINEAR" else "1e-40"
    elements = {
        SLOPE: text("DS", slope),
        WIDTH: text("DS", tiny),
        CENTER: text("DS", "-9e8"),
        FUNCTION: text("CS", function),
    }
    header = header_of(tmp_path / "a", dicom({**SLICE, **elements}))
    # Warnings are errors here.
    luma = load_luma(header, header.windows[0])
    assert luma.shape == PIXELS.shape


@pytest.mark.parametrize(("kind", "count"), [("headers", 400), ("pixels", 300)])
def test_fuzzing_finds_nothing(kind: str, count: int) -> None:
    # Others every run; a failure names its number.
    seed = secrets.randbelow(10**9)
    outcomes = dict(run(kind, seed, count))
    failures = {n: outcome for n, outcome in outcomes.items() if outcome.result == "failure"}
    assert not failures
    assert len(outcomes) == count
    # Damage that nothing notices, and nothing but damage, would try little.
    assert {"slice", "bad header"} <= {outcome.result for outcome in outcomes.values()}


@pytest.mark.parametrize(
    "damage",
    [
        "warnings.warn('x')",
        "print('x', file=sys.stderr)",
        "os._exit(3)",
        "return Outcome('skipped', MARKER)",
        "bytearray(3 << 30)",
        "sum(range(10 ** 9))",
    ],
)
def test_fuzzing_would_notice(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = FUZZ.read_text()
    code = code.replace(
        "    found = find_series(path)\n",
        f"    import warnings\n    {damage}\n    found = find_series(path)\n",
    )
    code = code.replace("MAX_SECONDS: Final = 5.0", "MAX_SECONDS: Final = 0.5")
    (tmp_path / "fuzz_changed.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(FUZZ.parent))
    changed = importlib.import_module("fuzz_changed")
    monkeypatch.delitem(sys.modules, "fuzz_changed")
    outcomes = [outcome for _, outcome in changed.run("headers", 0, 2)]
    assert [outcome.result for outcome in outcomes] == ["failure", "failure"]


def write_volume(folder: Path, volume: NDArray[np.uint16]) -> None:
    folder.mkdir()
    for number, pixels in enumerate(volume):
        (folder / f"{number}.dcm").write_bytes(dicom(ct_slice(pixels, number)))


SMOOTH: Final = np.stack([picture(seed=number) for number in range(7)]) + np.uint16(30)
NOISE: Final = np.random.default_rng(0).integers(0, 4096, PIXELS.shape).astype(np.uint16)


@pytest.mark.parametrize("place", [1, 3, 5])
@pytest.mark.parametrize("damaged", [PIXELS + np.uint16(3000), NOISE, PIXELS * 0])
def test_slice_unlike_its_neighbours_is_warned_of_once(
    tmp_path: Path, damaged: NDArray[np.uint16], place: int, caplog: pytest.LogCaptureFixture
) -> None:
    volume = SMOOTH.copy()
    volume[place] = damaged
    write_volume(tmp_path / "a", volume)
    opened = open_source(tmp_path / "a", window=Window(40, 400), bit_depth=8, fps=Fraction(25))
    for _ in range(2):
        assert sum(1 for _ in opened.frames.frames()) == len(volume)
    assert caplog.messages == [f"{place}.dcm: not like the slices around it; it may be damaged"]


def test_series_that_change_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Two volumes one behind the other, and a head that begins.
    steps = np.concatenate([SMOOTH[:3], SMOOTH[:3] + np.uint16(900)])
    begins = np.stack([PIXELS * (number > 2) for number in range(7)])
    for number, volume in enumerate((SMOOTH, steps, begins, SMOOTH[:, :, :1])):
        write_volume(tmp_path / f"{number}", volume.astype(np.uint16))
        opened = open_source(
            tmp_path / f"{number}", window=Window(40, 400), bit_depth=8, fps=Fraction(25)
        )
        assert sum(1 for _ in opened.frames.frames()) == len(volume)
    assert caplog.messages == []


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_elements_are_those_that_pydicom_reads() -> None:
    compared = 0
    for path in sorted(Path(pydicom.__file__).parent.glob("data/test_files/**/*.dcm")):
        with path.open("rb", buffering=0) as stream:
            head = stream.read(WINDOW_BYTES)
            if not may_be_dicom(head):
                continue
            found = read_elements(stream, head, WANTED, PIXEL_DATA)
        with path.open("rb") as file:
            expected = read_partial(
                file,
                lambda tag, *_: int(tag) >= PIXEL_DATA,
                force=True,
                specific_tags=list(WANTED),
            )
        raw = {int(one.tag): one.value or b"" for one in expected.elements()}
        values = {tag: element.value for tag, element in found.elements.items()}
        assert values == {tag: value for tag, value in raw.items() if tag in WANTED}, path.name
        compared += 1
    assert compared > 50
