from __future__ import annotations

from pathlib import Path
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
from pydicom.uid import ImplicitVRLittleEndian

from ssimrdo.dicom import SliceHeader, Window, find_series
from ssimrdo.dicom.elements import WANTED, Element, FileElements, PixelElement, read_elements
from ssimrdo.dicom.header import exclusion_reason, parse_header
from ssimrdo.errors import BadSliceError

if TYPE_CHECKING:
    from collections.abc import Callable

PIXELS = np.zeros((4, 6), np.uint16)


def elements_of(path: Path, **arguments: Any) -> FileElements:
    elements = read_elements(write_slice(path, PIXELS, **arguments))
    assert elements is not None
    return elements


def parse(path: Path, **arguments: Any) -> SliceHeader:
    return parse_header(path, path.name, elements_of(path, **arguments))


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
        ContentTime="101112.25",
        PixelPaddingValue=63536,
        SliceThickness="1.25",
        BitsStored=12,
    )
    assert (header.rows, header.columns) == (4, 6)
    assert header.position == (-125.5, 3, 15)
    assert header.orientation == (0, 1, 0, 0, 0, -1)
    assert header.pixel_spacing_mm == (0.5, 0.25)
    assert (header.rescale_slope, header.rescale_intercept) == (1.5, -1024)
    assert (header.bits_allocated, header.bits_stored, header.high_bit) == (16, 12, 11)
    assert (header.acquisition_number, header.instance_number) == (3, 7)
    assert header.temporal_position_identifier == 2
    assert (header.trigger_time_ms, header.content_time) == (12.5, 101112.25)
    assert header.padding_value == 63536
    assert header.slice_thickness_mm == 1.25
    assert header.kernel == "STANDARD"
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
        ({"raw": {"WindowCenter": b" 40 \\x\\", "WindowWidth": b"80\\1\\2 "}}, [Window(40, 80)]),
        ({"raw": {"WindowCenter": b"1e999 "}}, []),
        ({"raw": {"WindowWidth": b"nan "}}, []),
    ],
)
def test_windows(tmp_path: Path, overrides: dict[str, Any], windows: list[Window]) -> None:
    assert parse(tmp_path / "a", **overrides).windows == tuple(windows)


@pytest.mark.parametrize("keyword", ["InstanceNumber", "PixelSpacing", "SliceThickness"])
@pytest.mark.parametrize("value", [b"", b"abc ", b"1,5 ", b"\xff\xfe", b"nan ", b"1_0 "])
def test_malformed_optional_value_is_none(tmp_path: Path, keyword: str, value: bytes) -> None:
    header = parse(tmp_path / "a", raw={keyword: value})
    field = {
        "InstanceNumber": "instance_number",
        "PixelSpacing": "pixel_spacing_mm",
        "SliceThickness": "slice_thickness_mm",
    }
    assert getattr(header, field[keyword]) is None


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
    elements = elements_of(tmp_path / "a")
    values = {key: value for key, value in elements.values.items() if key != keyword}
    elements = FileElements(values, elements.transfer_syntax_uid, elements.pixel_data, None)
    with pytest.raises(BadSliceError, match=f"{keyword} is missing"):
        parse_header(tmp_path / "a", "a", elements)


@pytest.mark.parametrize("keyword", REQUIRED)
def test_malformed_required_value_is_bad(tmp_path: Path, keyword: str) -> None:
    with pytest.raises(BadSliceError, match=keyword) as caught:
        parse(tmp_path / "a", raw={keyword: REQUIRED[keyword]})
    assert str(caught.value).isprintable()
    assert CANARY not in str(caught.value)


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
    with pytest.raises(BadSliceError, match=keyword):
        parse(tmp_path / "a", raw={keyword: value}, BitsStored=12)


@pytest.mark.parametrize(
    ("signed", "value", "expected"),
    [(0, b"\x30\xf8", 63536), (1, b"\x30\xf8", -2000), (1, b"\x30\x08", 2096), (0, b"\x01", None)],
)
def test_padding_is_read_with_the_sign_of_the_pixels(
    tmp_path: Path, signed: int, value: bytes, expected: int | None
) -> None:
    raw = {"PixelPaddingValue": value}
    header = parse(tmp_path / "a", raw=raw, PixelRepresentation=signed)
    assert header.padding_value == expected


def test_numbers_of_another_vr(tmp_path: Path) -> None:
    elements = elements_of(tmp_path / "a")
    values = dict(elements.values)
    values["RescaleSlope"] = Element("FD", b"\x00\x00\x00\x00\x00\x00\xf8\x3f", True)
    values["RescaleIntercept"] = Element("SS", b"\xfc\x00", False)
    values["Rows"] = Element("IS", b"4 ", True)
    values["Columns"] = Element("UL", b"\x06\x00\x00\x00", True)
    changed = FileElements(values, elements.transfer_syntax_uid, elements.pixel_data, None)
    header = parse_header(tmp_path / "a", "a", changed)
    assert (header.rescale_slope, header.rescale_intercept) == (1.5, -1024)
    assert (header.rows, header.columns) == (4, 6)


def test_only_wanted_elements_are_read(tmp_path: Path) -> None:
    elements = elements_of(tmp_path / "a")
    assert CANARY not in repr(elements)
    assert not any(0x00100000 <= tag < 0x00110000 for tag in WANTED)
    assert tag_for_keyword("SeriesDescription") not in WANTED


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_sequences_are_passed_over(tmp_path: Path, syntax: str | None) -> None:
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
    arguments = {} if syntax is None else {"transfer_syntax": syntax}
    write_slice(path, PIXELS, ReferencedSeriesSequence=sequence, **arguments)
    dataset = pydicom.dcmread(path)
    dataset["ReferencedSeriesSequence"].is_undefined_length = True
    dataset.save_as(path)
    assert b"\xfe\xff\xdd\xe0" in path.read_bytes()
    elements = read_elements(path)
    assert elements is not None
    header = parse_header(path, "a", elements)
    assert header.rows == 4
    assert header.series_uid != "9.9.9"


VRS = ["US", "SS", "UL", "SL", "FL", "FD", "DS", "IS", "CS", "UI", "OB", "SQ", "??"]
NUMERIC_TEXT = st.text("0123456789.+-eE\\ ,\0nainf_", max_size=40).map(lambda t: t.encode())
VALUES = st.one_of(
    st.binary(max_size=64),
    NUMERIC_TEXT,
    st.lists(st.floats(), max_size=6).map(lambda n: "\\".join(map(repr, n)).encode()),
    st.integers(0, 2**16 - 1).map(lambda n: n.to_bytes(2, "little")),
    st.sampled_from([value for value in REQUIRED.values() if value]),
)
ELEMENTS = st.builds(Element, st.sampled_from(VRS), VALUES, st.booleans())
KEYWORDS = sorted(keyword for keyword, _ in WANTED.values())
PIXEL_DATA = st.none() | st.builds(
    PixelElement,
    st.integers(0, 2**32),
    st.integers(0, 2**32),
    st.just("OW"),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=16),
    st.none() | st.integers(0, 999),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> FileElements:
    return elements_of(tmp_path_factory.mktemp("good") / "a", VOILUTFunction="LINEAR")


@settings(max_examples=400)
@given(
    changes=st.dictionaries(st.sampled_from(KEYWORDS), ELEMENTS, max_size=4),
    pixel_data=PIXEL_DATA,
    use_good_pixel_data=st.booleans(),
    syntax=st.sampled_from([None, "", "1.2", "1.2.840.10008.1.2.4.90", CANARY]),
)
def test_any_values_give_a_header_or_a_bad_slice(
    good: FileElements,
    changes: dict[str, Element],
    pixel_data: PixelElement | None,
    use_good_pixel_data: bool,
    syntax: str | None,
) -> None:
    elements = FileElements(
        {**good.values, **changes},
        good.transfer_syntax_uid if use_good_pixel_data else syntax,
        good.pixel_data if use_good_pixel_data else pixel_data,
        None,
    )
    assert (exclusion_reason(elements) or "x").isprintable()
    message = "bad"
    try:
        header = parse_header(Path("folder/a"), "a", elements)
    except BadSliceError as error:
        message = str(error)
    else:
        assert header.rows > 0
        assert header.bits_allocated in (8, 16)
        assert np.isfinite([*header.position, *header.orientation, header.rescale_slope]).all()
    assert message.isprintable()
    assert CANARY not in message


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damaged_file_is_reported_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    content = bytearray(write_slice(path, PIXELS, SOPInstanceUID="1.2.3").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    result = find_series(path)
    assert len(result.series) + len(result.bad) + len(result.skipped) == 1
    for file in (*result.bad, *result.skipped):
        assert file.reason.isprintable()
        assert CANARY not in file.reason


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda _: b"D",
    "preamble only": lambda data: data[:132],
    "half a header": lambda data: data[:500],
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
