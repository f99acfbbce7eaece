from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from dicom_files import CANARY, write_slice
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ssimrdo.dicom import BadFile, SliceHeader, Window, find_series
from ssimrdo.dicom.read.header import WANTED, read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# pydicom warns about malformed values.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PIXELS = np.zeros((4, 6), np.uint16)


def parse(path: Path, **arguments: Any) -> SliceHeader:
    header = read_header(write_slice(path, PIXELS, **arguments), path.name)
    assert isinstance(header, SliceHeader), header
    return header


def refusal(path: Path, **arguments: Any) -> str:
    """Return the reason for which a damaged slice is refused."""
    bad = read_header(write_slice(path, PIXELS, **arguments), path.name)
    assert isinstance(bad, BadFile)
    assert bad.reason.isprintable()
    assert CANARY not in bad.reason
    return bad.reason


def test_values_arrive(tmp_path: Path) -> None:
    header = parse(
        tmp_path / "a",
        ImagePositionPatient=["-125.5", "+3", "1.5e1"],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        PixelSpacing=[0.5, 0.25],
        RescaleSlope="1.5",
        AcquisitionNumber=3,
        InstanceNumber=7,
        TemporalPositionIdentifier=2,
        TriggerTime="12.5",
        KVP=120,
        ContentTime="101112.25",
        PixelPaddingValue=63536,
        BitsStored=12,
    )
    assert (header.rows, header.columns) == (4, 6)
    assert header.position == (-125.5, 3, 15)
    assert header.orientation == (0, 1, 0, 0, 0, -1)
    assert header.pixel_spacing_mm == (0.5, 0.25)
    assert (header.rescale_slope, header.rescale_intercept) == (1.5, -1024)
    assert (header.bits_allocated, header.bits_stored, header.high_bit) == (16, 12, 11)
    assert header.instance_number == 7
    assert header.volume_keys == (3, 2, None, None, None, 12.5, 120, 101112.25)
    assert header.padding == (63536, 63536)
    assert not header.signed
    assert not header.inverted


@pytest.mark.parametrize(
    ("overrides", "windows"),
    [
        ({}, [Window(40, 80)]),
        ({"WindowCenter": None}, []),
        (
            {"WindowCenter": [40, 400, 7], "WindowWidth": [80, 1800]},
            [Window(40, 80), Window(400, 1800)],
        ),
        ({"WindowCenter": [40, 400], "WindowWidth": [0, 1800]}, [Window(400, 1800)]),
        ({"WindowWidth": -80}, []),
        ({"WindowWidth": "0.5", "VOILUTFunction": "SIGMOID"}, [Window(40, 0.5, "SIGMOID")]),
        ({"VOILUTFunction": "LINEAR_EXACT"}, [Window(40, 80, "LINEAR_EXACT")]),
        ({"VOILUTFunction": "CUBIC"}, []),
        ({"raw": {"WindowCenter": b"40,0"}}, []),
        ({"raw": {"WindowCenter": b" 40 \\\\7", "WindowWidth": b"80\\1 "}}, [Window(40, 80)]),
        ({"raw": {"WindowCenter": b"1e999 "}}, []),
        ({"raw": {"WindowWidth": b"nan "}}, []),
    ],
)
def test_windows(tmp_path: Path, overrides: dict[str, Any], windows: list[Window]) -> None:
    assert parse(tmp_path / "a", **overrides).windows == tuple(windows)


OPTIONAL = {"InstanceNumber": "instance_number", "PixelSpacing": "pixel_spacing_mm"}


@pytest.mark.parametrize("keyword", OPTIONAL)
@pytest.mark.parametrize("value", [b"", b"abc ", b"1,5 ", b"\xff\xfe", b"nan "])
def test_malformed_optional_value_is_none(tmp_path: Path, keyword: str, value: bytes) -> None:
    assert getattr(parse(tmp_path / "a", raw={keyword: value}), OPTIONAL[keyword]) is None


REQUIRED = {
    "SOPInstanceUID": b"1.2.a ",
    "SeriesInstanceUID": b"abc ",
    "ImagePositionPatient": b"1\\2 ",
    "ImageOrientationPatient": b"1\\0\\0\\0\\1 ",
    "Rows": b"\x00\x00",
    "Columns": b"\x00\x00",
    "BitsAllocated": b"\x0c\x00",
    "BitsStored": b"\x11\x00",
    "PixelRepresentation": b"\x02\x00",
    "SamplesPerPixel": b"\x03\x00",
    "PhotometricInterpretation": b"RGB ",
    "RescaleSlope": b"1,0 ",
    "RescaleIntercept": b"",
}


@pytest.mark.parametrize("keyword", REQUIRED)
def test_missing_required_value_is_bad(tmp_path: Path, keyword: str) -> None:
    path = write_slice(tmp_path / "a", PIXELS)
    dataset = pydicom.dcmread(path)
    del dataset[keyword]
    dataset.save_as(path)
    bad = read_header(path, "a")
    assert isinstance(bad, BadFile)
    assert bad.reason == f"{keyword} is missing"


@pytest.mark.parametrize("keyword", REQUIRED)
def test_malformed_required_value_is_bad(tmp_path: Path, keyword: str) -> None:
    assert keyword in refusal(tmp_path / "a", raw={keyword: REQUIRED[keyword]})


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", b"1\\2\\x "),
        ("ImagePositionPatient", b"1\\2\\3\\4 "),
        ("ImagePositionPatient", b"0\\0\\1e300"),
        ("ImageOrientationPatient", b"1\\0\\0\\1\\0\\0 "),
        ("ImageOrientationPatient", b"0\\0\\0\\0\\0\\0 "),
        ("ImageOrientationPatient", b"1e8\\0\\0\\0\\1e8\\0 "),
        ("RescaleSlope", b"0 "),
        ("RescaleSlope", b"1\\2 "),
        ("RescaleIntercept", b"inf "),
        ("HighBit", b"\x03\x00"),
        ("HighBit", b"\x10\x00"),
    ],
)
def test_impossible_value_is_bad(tmp_path: Path, keyword: str, value: bytes) -> None:
    assert keyword in refusal(tmp_path / "a", raw={keyword: value}, BitsStored=12)


@pytest.mark.parametrize(
    ("signed", "value", "expected"),
    [(0, b"\x30\xf8", 63536), (1, b"\x30\xf8", -2000), (1, b"\x30\x08", 2096), (0, b"\x01", None)],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_padding_is_read_with_the_sign_of_the_pixels(
    tmp_path: Path, syntax: str, signed: int, value: bytes, expected: int | None
) -> None:
    header = parse(
        tmp_path / "a",
        raw={"PixelPaddingValue": value},
        transfer_syntax=syntax,
        PixelRepresentation=signed,
    )
    assert header.padding == (None if expected is None else (expected, expected))


def test_numbers_of_another_vr(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a", PIXELS)
    dataset = pydicom.dcmread(path)
    for keyword, vr, value in (
        ("RescaleSlope", "FD", 1.5),
        ("RescaleIntercept", "SS", -1024),
        ("Rows", "IS", "4"),
        ("Columns", "UL", 6),
    ):
        del dataset[keyword]
        dataset.add_new(keyword, vr, value)
    dataset.save_as(path)
    header = read_header(path, "a")
    assert isinstance(header, SliceHeader)
    assert (header.rescale_slope, header.rescale_intercept) == (1.5, -1024)
    assert (header.rows, header.columns) == (4, 6)


def test_only_wanted_elements_are_read() -> None:
    assert not any(0x00100000 <= tag < 0x00110000 for tag in WANTED)
    assert tag_for_keyword("SeriesDescription") not in WANTED


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sequences_are_passed_over(tmp_path: Path, syntax: str) -> None:
    inner = Dataset()
    inner.SeriesInstanceUID = "9.9.9"
    inner.Rows = 77
    outer = Dataset()
    outer.ReferencedImageSequence = Sequence([inner])
    outer["ReferencedImageSequence"].is_undefined_length = True
    inner.is_undefined_length_sequence_item = True
    outer.is_undefined_length_sequence_item = True
    sequence = Sequence([outer, outer])
    path = tmp_path / "a"
    write_slice(path, PIXELS, ReferencedSeriesSequence=sequence, transfer_syntax=syntax)
    dataset = pydicom.dcmread(path)
    dataset["ReferencedSeriesSequence"].is_undefined_length = True
    dataset.save_as(path)
    assert b"\xfe\xff\xdd\xe0" in path.read_bytes()
    header = read_header(path, "a")
    assert isinstance(header, SliceHeader)
    assert header.rows == 4
    assert header.series_uid != "9.9.9"


TEXTS = st.one_of(
    st.binary(max_size=64),
    st.text("0123456789.+-eE\\ ,\0nainf_", max_size=40).map(lambda text: text.encode()),
    st.lists(st.floats(), max_size=6).map(lambda n: "\\".join(map(repr, n)).encode()),
    st.sampled_from([value for value in REQUIRED.values() if value]),
)


@settings(max_examples=60, deadline=None)
@given(raw=st.dictionaries(st.sampled_from(sorted({*REQUIRED, *OPTIONAL})), TEXTS, max_size=4))
def test_any_values_give_a_header_or_a_reason(
    raw: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "values.dcm"
    found = read_header(write_slice(path, PIXELS, raw=raw), "a")
    if isinstance(found, SliceHeader):
        assert found.rows > 0
        assert found.bits_allocated in (8, 16)
        assert np.isfinite([*found.position, *found.orientation, found.rescale_slope]).all()
    else:
        assert found.reason.isprintable()
        assert CANARY not in found.reason


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("content") / "a"
    return write_slice(path, PIXELS, SOPInstanceUID="1.2.3").read_bytes()


@settings(max_examples=120, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4),
    part=st.floats(0, 1) | st.just(1),
)
def test_any_damaged_file_is_reported_or_read(
    changes: list[tuple[float, int]],
    part: float,
    content: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = bytearray(content)
    for place, value in changes:
        data[128 + int(place * (len(data) - 128))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(data[: round(part * len(data))])
    result = find_series(path)
    assert len(result.series) + len(result.bad) + len(result.skipped) == 1
    for file in (*result.bad, *result.skipped):
        assert file.reason.isprintable()
        assert CANARY not in file.reason


def test_unknown_vr_in_the_file_meta_is_bad(content: bytes, tmp_path: Path) -> None:
    data = bytearray(content)
    data[data.index(b"\x02\x00\x01\x00OB") + 5] = 0
    (tmp_path / "a.dcm").write_bytes(data)
    (bad,) = find_series(tmp_path).bad
    assert "corrupt" in bad.reason


def test_file_cut_anywhere_is_bad(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    for end in range(0, len(content), 13):
        path.write_bytes(content[:end])
        (bad,) = find_series(path).bad
        assert bad.path == "a.dcm"


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "header only": lambda data: data[: data.index(b"\xe0\x7f\x10\x00")],
    "one pixel short": lambda data: data[:-2],
    "zero bytes": lambda data: bytes(len(data)),
    "zero bytes after the preamble": lambda data: data[:132] + bytes(len(data) - 132),
    "text": lambda _: b"this is no image at all, it only claims to be one\n" * 20,
}


@pytest.mark.parametrize("cut", CUTS)
def test_damaged_file_is_bad(tmp_path: Path, cut: str) -> None:
    path = write_slice(tmp_path / "a.dcm", PIXELS)
    path.write_bytes(CUTS[cut](path.read_bytes()))
    result = find_series(tmp_path)
    assert not result.series
    assert not result.skipped
    assert [file.path for file in result.bad] == ["a.dcm"]
