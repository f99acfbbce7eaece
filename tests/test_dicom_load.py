from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from dicom_files import CANARY, write_slice
from numpy.testing import assert_array_equal
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ssimrdo.dicom import SliceHeader, find_series, load_hu
from ssimrdo.errors import BadSliceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# pydicom warns about corrupt pixel data.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SHAPE = (37, 44)


def pixels_of(dtype: str, bits: int) -> NDArray[Any]:
    """Return values that span the whole range of `bits`, smooth enough to compress."""
    low = -(2 ** (bits - 1)) if dtype.startswith("i") else 0
    ramp = np.linspace(low, low + 2**bits - 1, SHAPE[0] * SHAPE[1])
    return np.rint(ramp).astype(dtype).reshape(SHAPE)


def header_of(path: Path) -> SliceHeader:
    result = find_series(path)
    assert not result.bad, result.bad
    assert not result.skipped, result.skipped
    ((header,),) = (series.slices for series in result.series)
    return header


def hu_of(path: Path, pixels: NDArray[Any], **arguments: Any) -> NDArray[np.float32]:
    hu = load_hu(header_of(write_slice(path, pixels, **arguments)))
    assert hu.dtype == np.float32
    return hu


LAYOUTS = [("u2", 12), ("i2", 12), ("u2", 16), ("i2", 16), ("u1", 8), ("i1", 8)]


@pytest.mark.parametrize(("dtype", "bits"), LAYOUTS)
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_native_pixels(tmp_path: Path, syntax: str, dtype: str, bits: int) -> None:
    pixels = pixels_of(dtype, bits)
    hu = hu_of(tmp_path / "a.dcm", pixels, transfer_syntax=syntax, BitsStored=bits)
    assert_array_equal(hu, pixels.astype(np.float32) - 1024)


@pytest.mark.parametrize(("dtype", "bits"), LAYOUTS)
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_pixels(tmp_path: Path, syntax: str, dtype: str, bits: int) -> None:
    pixels = pixels_of(dtype, bits)
    hu = hu_of(tmp_path / "a.dcm", pixels, compress=syntax, BitsStored=bits)
    assert_array_equal(hu, pixels.astype(np.float32) - 1024)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_signed_pixels_in_an_unsigned_codestream(tmp_path: Path, syntax: str) -> None:
    pixels = pixels_of("i2", 12)
    path = write_slice(
        tmp_path / "a.dcm",
        pixels.view(np.uint16) & 0xFFF,
        compress=syntax,
        BitsStored=12,
    )
    dataset = pydicom.dcmread(path)
    dataset.PixelRepresentation = 1
    dataset.save_as(path)
    assert_array_equal(load_hu(header_of(path)), pixels.astype(np.float32) - 1024)


@pytest.mark.parametrize(("dtype", "bits"), [("u2", 12), ("i2", 12), ("u2", 16), ("i2", 16)])
def test_jpeg_lossless_pixels(tmp_path: Path, dtype: str, bits: int) -> None:
    pixels = pixels_of(dtype, bits)
    data = encapsulate([lossless_jpeg(pixels.view(np.uint16) & (2**bits - 1), bits)])
    path = write_slice(tmp_path / "a.dcm", pixels, BitsStored=bits)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = data
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert_array_equal(load_hu(header_of(path)), pixels.astype(np.float32) - 1024)


def lossless_jpeg(values: NDArray[np.uint16], bits: int) -> bytes:
    """Encode unsigned values as JPEG Lossless, Process 14, Selection Value 1 (ITU-T T.81 H.1)."""
    rows, columns = values.shape
    wide = values.astype(np.int64)
    predicted = np.empty_like(wide)
    predicted[0, 0] = 2 ** (bits - 1)
    predicted[1:, 0] = wide[:-1, 0]
    predicted[:, 1:] = wide[:, :-1]
    # Seventeen categories, all with codes of 5 bits: category k has the code k.
    stream = []
    for difference in ((wide - predicted + 2**15) % 2**16 - 2**15).ravel():
        size = int(abs(difference)).bit_length()
        stream.append(f"{size:05b}")
        if 0 < size < 16:
            amount = difference if difference > 0 else difference + 2**size - 1
            stream.append(f"{amount:0{size}b}")
    coded = "".join(stream)
    coded += "1" * (-len(coded) % 8)
    scan = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    frame = bytes([bits, *rows.to_bytes(2, "big"), *columns.to_bytes(2, "big"), 1, 1, 0x11, 0])
    segments = [
        (0xC3, frame),
        (0xC4, table),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    ]
    header = b"".join(
        bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
        for marker, body in segments
    )
    return b"\xff\xd8" + header + scan + b"\xff\xd9"


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "JPGExtended.dcm", "JPEGLSNearLossless_16.dcm"],
)
def test_bundled_files_equal_pydicom(tmp_path: Path, name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.ImagePositionPatient = [0, 0, 0]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.pop("PixelPaddingValue", None)
    dataset.save_as(tmp_path / "a.dcm")
    expected = dataset.pixel_array.astype(np.float32) - 1024
    assert_array_equal(load_hu(header_of(tmp_path / "a.dcm")), expected)


def test_fragments_are_joined(tmp_path: Path) -> None:
    pixels = pixels_of("u2", 12)
    path = write_slice(tmp_path / "a.dcm", pixels, compress=JPEG2000Lossless, BitsStored=12)
    dataset = pydicom.dcmread(path)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame], fragments_per_frame=3, has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert_array_equal(load_hu(header_of(path)), pixels.astype(np.float32) - 1024)


def test_big_endian_words_of_8_bit_pixels(tmp_path: Path) -> None:
    pixels = pixels_of("u1", 8)
    path = write_slice(tmp_path / "a.dcm", pixels, transfer_syntax=ExplicitVRBigEndian)
    dataset = pydicom.dcmread(path)
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].value = pixels.view(np.uint16).byteswap().tobytes()
    dataset.save_as(path)
    assert_array_equal(dataset.pixel_array, pixels)
    assert_array_equal(load_hu(header_of(path)), pixels.astype(np.float32) - 1024)


@pytest.mark.parametrize("compress", [None, RLELossless])
@pytest.mark.parametrize(("dtype", "low"), [("u2", 0), ("i2", -2048)])
def test_unused_bits_are_masked(tmp_path: Path, dtype: str, low: int, compress: str | None) -> None:
    pixels = pixels_of(dtype, 12)
    overlaid = (pixels.view(np.uint16) & 0x0FFF) | 0x5000
    hu = hu_of(
        tmp_path / "a.dcm",
        overlaid.view(dtype),
        compress=compress,
        BitsStored=12,
        PixelRepresentation=int(low < 0),
    )
    assert hu.min() == low - 1024
    assert_array_equal(hu, pixels.astype(np.float32) - 1024)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_high_bit_above_the_stored_bits(tmp_path: Path, dtype: str) -> None:
    pixels = pixels_of(dtype, 12)
    shifted = pixels.view(np.uint16) << 4 | 0x9
    hu = hu_of(tmp_path / "a.dcm", shifted.view(dtype), BitsStored=12, HighBit=15)
    assert_array_equal(hu, pixels.astype(np.float32) - 1024)


def test_rescale_is_per_slice(tmp_path: Path) -> None:
    pixels = pixels_of("u2", 12)
    one = hu_of(tmp_path / "1.dcm", pixels, RescaleSlope="0.5", RescaleIntercept="-1000.25")
    two = hu_of(tmp_path / "2.dcm", pixels, RescaleSlope="2e0", RescaleIntercept="-8192")
    assert_array_equal(one, pixels * np.float32(0.5) - np.float32(1000.25))
    assert_array_equal(two, pixels * np.float32(2) - 8192)


# Value of the element, pixel cells as stored, and whether each cell is padding.
PADDING = {
    "signed": ("i2", 16, b"\x30\xf8", None, [-2000, -1999, 0], [1, 0, 0]),
    "signed, only 12 bits": ("i2", 12, b"\x30\xf8", None, [-2000, -1999, 96], [1, 0, 0]),
    "unsigned cell beyond 12 bits": ("u2", 12, b"\x30\xf8", None, [63536, 2096, 0], [1, 0, 0]),
    "unsigned zero": ("u2", 16, b"\x00\x00", None, [0, 1, 65535], [1, 0, 0]),
    "range": ("i2", 16, b"\x30\xf8", b"\x32\xf8", [-2001, -2000, -1999, -1998, 0], [0, 1, 1, 1, 0]),
    "range reversed": ("i2", 16, b"\x32\xf8", b"\x30\xf8", [-2001, -2000, -1998, 0], [0, 1, 1, 0]),
    "range over zero": ("i2", 16, b"\xff\xff", b"\x01\x00", [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0]),
    "8 bits": ("u1", 8, b"\xff\x00", None, [254, 255, 0], [0, 1, 0]),
    "malformed": ("i2", 16, b"\x30", None, [-2000, 48, 0], [0, 0, 0]),
}


@pytest.mark.parametrize("case", PADDING)
@pytest.mark.parametrize("compress", [None, RLELossless])
def test_padding_becomes_air(tmp_path: Path, case: str, compress: str | None) -> None:
    dtype, bits, value, limit, cells, padding = PADDING[case]
    pixels = np.array([cells] * 2).astype(dtype)
    raw = {"PixelPaddingValue": value} | ({"PixelPaddingRangeLimit": limit} if limit else {})
    hu = hu_of(
        tmp_path / "a.dcm", pixels, raw=raw, compress=compress, BitsStored=bits, RescaleIntercept=7
    )
    stored = pixels.astype(np.int64) & (2**bits - 1)
    if dtype.startswith("i"):
        stored = (stored + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    assert_array_equal(hu, np.where(np.array(padding, bool), -1000, stored + 7))


def test_padding_ignores_overlay_bits(tmp_path: Path) -> None:
    pixels = np.array([[0x7000, 0x0000, 0x7001, 0x0001]], np.uint16)
    hu = hu_of(tmp_path / "a.dcm", pixels, BitsStored=12, PixelPaddingValue=0)
    assert_array_equal(hu, [[-1000, -1000, -1023, -1023]])


def test_monochrome1_is_left_to_the_window(tmp_path: Path) -> None:
    pixels = pixels_of("u2", 12)
    path = write_slice(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    assert header_of(path).inverted
    assert_array_equal(load_hu(header_of(path)), pixels.astype(np.float32) - 1024)


def replace_frame(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the codestream of a compressed slice."""
    dataset = pydicom.dcmread(path)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([change(frame)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


def assert_clean(error: BadSliceError, path: Path) -> None:
    assert str(error).startswith(f"{path}: ")
    assert str(error).isprintable()
    assert CANARY not in str(error)
    assert len(error.cause) < 200


COMPRESSED = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda frame: bytes(len(frame) - 2) + b"\xff\xd9",
    "head": lambda frame: frame[:14] + b"\xff\xd9",
    "head, then zeros": lambda frame: frame[:30] + bytes(len(frame) - 32) + b"\xff\xd9",
}


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("how", DAMAGE)
def test_undecodable_pixels_are_a_bad_slice(tmp_path: Path, syntax: str, how: str) -> None:
    path = write_slice(tmp_path / "a.dcm", pixels_of("u2", 12), compress=syntax, BitsStored=12)
    replace_frame(path, DAMAGE[how])
    header = header_of(path)
    with pytest.raises(BadSliceError, match="cannot be decoded") as caught:
        load_hu(header)
    assert_clean(caught.value, path)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_codestream_of_another_size_is_a_bad_slice(tmp_path: Path, syntax: str) -> None:
    path = write_slice(tmp_path / "a.dcm", pixels_of("u2", 12), compress=syntax, BitsStored=12)
    dataset = pydicom.dcmread(path)
    dataset.Rows += 1
    dataset.save_as(path)
    header = header_of(path)
    with pytest.raises(BadSliceError, match="cannot be decoded") as caught:
        load_hu(header)
    assert_clean(caught.value, path)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_codestream_that_just_ends_is_a_bad_slice(tmp_path: Path, syntax: str) -> None:
    path = write_slice(tmp_path / "a.dcm", pixels_of("u2", 12), compress=syntax, BitsStored=12)
    replace_frame(path, lambda frame: frame[: len(frame) * 3 // 4])
    header = header_of(path)
    with pytest.raises(BadSliceError, match="cut off"):
        load_hu(header)


@pytest.mark.parametrize("part", [0.99, 0.5])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_cut_off_compressed_file_is_a_bad_slice(tmp_path: Path, syntax: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    path = write_slice(tmp_path / "a.dcm", noise, compress=syntax, BitsStored=12)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    header = header_of(path)
    with pytest.raises(BadSliceError, match="cut off"):
        load_hu(header)


def test_compressed_file_without_pixels_is_found_by_the_search(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", pixels_of("u2", 12), compress=JPEGLSLossless)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\xe0\x7f\x10\x00") + 20])
    (bad,) = find_series(path).bad
    assert "cut off" in bad.reason


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_file_that_shrank_since_the_search(tmp_path: Path, syntax: str) -> None:
    path = write_slice(tmp_path / "a.dcm", pixels_of("u2", 12), transfer_syntax=syntax)
    header = header_of(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadSliceError, match="cannot be decoded") as caught:
        load_hu(header)
    assert_clean(caught.value, path)


def test_file_that_vanished_since_the_search(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", pixels_of("u2", 12))
    header = header_of(path)
    path.unlink()
    with pytest.raises(BadSliceError, match="cannot be read: No such file"):
        load_hu(header)
