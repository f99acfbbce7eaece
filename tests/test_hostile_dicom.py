"""DICOM files that are damaged or made to harm; each takes little time and memory, and one line.

What costs time or memory is read by a child process with limits (`fuzz.py --file`).
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import fuzz_dicom
import numpy as np
import pytest
from fuzz import Outcome
from fuzz_dicom import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    MARKER,
    UNDEFINED,
    Element,
    ct_slice,
    deflated,
    dicom,
    file_start,
    item,
    nested,
    picture,
    sequence,
    text,
    us,
    written,
)

from ssimrdo.dicom import BadFile, SliceHeader, find_series, load_hu
from ssimrdo.dicom.read.header import Membership, read_membership

FUZZ: Final = Path(fuzz_dicom.__file__).with_name("fuzz.py")
PIXELS: Final = picture()
SLICE: Final = ct_slice(PIXELS)

SOP_CLASS, MODALITY, IMAGE_TYPE = 0x00080016, 0x00080060, 0x00080008
SERIES, SERIES_NUMBER, INSTANCE_NUMBER = 0x0020000E, 0x00200011, 0x00200013
FRAMES, ROWS, COLUMNS, PIXEL_DATA = 0x00280008, 0x00280010, 0x00280011, 0x7FE00010
SPACING, CENTER, WIDTH, FUNCTION = 0x00280030, 0x00281050, 0x00281051, 0x00281056
SLOPE, PRIVATE = 0x00281053, 0x00091001


def bounded(path: Path, data: bytes) -> Outcome:
    """Have a child process read a file, which must take less than 1 s and 0.4 GB."""
    path.write_bytes(data)
    command = [sys.executable, "-W", "error", str(FUZZ), "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    outcome = Outcome(**json.loads(done.stdout))
    assert outcome.result != "failure", outcome
    assert outcome.seconds < 1
    assert outcome.megabytes < 400
    return outcome


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


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("tag", [SERIES, MODALITY, IMAGE_TYPE, SERIES_NUMBER, CENTER, PRIVATE])
def test_nested_sequences_are_told_at_once(
    tmp_path: Path, tag: int, undefined: bool, syntax: str
) -> None:
    deep = nested(1200, undefined=undefined, syntax=syntax)
    outcome = bounded(tmp_path / "a", dicom({**SLICE, tag: deep}, syntax))
    # Sequences of defined length are skipped, whatever is in them.
    is_needed = tag == SERIES or undefined
    assert (outcome.result == "bad header") is is_needed
    shallow = nested(20, undefined=undefined, syntax=syntax)
    outcome = bounded(tmp_path / "a", dicom({**SLICE, tag: shallow}, syntax))
    assert (outcome.result == "bad header") is (tag == SERIES)


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
    data = dicom({**SLICE, SERIES: Element("UT", b"1" * (300 << 20))})
    assert bounded(tmp_path / "a", data).message.startswith("SeriesInstanceUID is malformed")


@pytest.mark.parametrize("undefined", [False, True])
def test_number_of_elements_is_bounded(tmp_path: Path, undefined: bool) -> None:
    empty = written(PRIVATE, Element("LO", b"")) * 1_500_000
    if undefined:
        private = [(PRIVATE, sequence(item(empty, undefined=True), undefined=True))]
        pairs = sorted([*SLICE.items(), *private], key=lambda pair: pair[0])
        data = dicom(pairs)
    else:
        data = dicom([pair for pair in SLICE.items() if pair[0] < PRIVATE])
        data += (
            empty
            + dicom([pair for pair in SLICE.items() if pair[0] > PRIVATE])[len(file_start()) :]
        )
    assert bounded(tmp_path / "a", data).message == "the header has too many elements"
    # What tells that a file is no CT slice comes first.
    other = data.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0")
    assert bounded(tmp_path / "a", other).result == "skipped"


def bomb(elements: dict[int, Element], zeros: int) -> bytes:
    """Return a deflated slice whose last element is zeros, in MB."""
    *pairs, (tag, last) = sorted(elements.items())
    body = b"".join(written(*pair) for pair in pairs)
    body += written(tag, Element(last.vr, b"", zeros << 20))
    return file_start(DEFLATED) + deflated(body, zeros)


def test_deflated_header_is_inflated_as_far_as_needed(tmp_path: Path) -> None:
    elements = {tag: element for tag, element in SLICE.items() if tag < PRIVATE}
    data = bomb({**elements, PRIVATE: Element("OB", b"")}, 3072)
    assert bounded(tmp_path / "a", data).message == (
        "the header is corrupt: it inflates to more than it may hold"
    )
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
    assert "16384x16384 is too large" in bounded(tmp_path / "a", bomb(elements, 512)).message


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
