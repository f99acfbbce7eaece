"""Enhanced (multi-frame) CT: the slices of a file, read as those of classic files are."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import CANARY, SERIES_UID, write_series
from enhanced_files import enhanced_dataset, save
from fuzz_dicom import EXPLICIT, IMPLICIT, Element, dicom, item, sequence, text, us, written
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from test_hostile_dicom import bounded
from video_files import ct_volume

import ssimrdo
from ssimrdo.decoding import decode
from ssimrdo.dicom import Window, find_series, load_hu, open_series
from ssimrdo.dicom.read.find import read_file
from ssimrdo.dicom.read.header import Membership, read_membership
from ssimrdo.encoding.ct_series import encode_ct
from ssimrdo.errors import BadSliceError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

DCIODVFY = shutil.which("dciodvfy")

COUNT, ROWS, COLUMNS = 5, 48, 40
HU = ct_volume(COUNT, ROWS, COLUMNS, seed=3)
STORED = (HU + 1024).astype(np.uint16)
POSITIONS = np.array([(-10.25, 3.5, 2.5 * index) for index in range(COUNT)])
# The order of the frames is not that of the slices.
MIXED = np.array([3, 0, 4, 1, 2])


def enhanced(**options: Any) -> Dataset:
    return enhanced_dataset(STORED[MIXED], POSITIONS[MIXED], **options)


def assert_slices(path: Path, hu: Any = HU) -> None:
    series, skipped = open_series(path)
    assert not skipped
    assert [header.position for header in series.slices] == [tuple(one) for one in POSITIONS]
    np.testing.assert_array_equal([load_hu(header) for header in series.slices], hu)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_frames_are_slices_in_the_order_of_their_positions(
    tmp_path: Path, syntax: str, undefined: bool
) -> None:
    path = save(tmp_path / "a.dcm", enhanced(undefined=undefined), syntax)
    assert_slices(path)
    series, _ = open_series(tmp_path)
    assert series.uid == SERIES_UID
    first = series.slices[0]
    assert (first.rows, first.columns, first.instance_number) == (ROWS, COLUMNS, None)
    assert (series.pixel_spacing_mm, first.slice_thickness_mm) == ((0.5, 0.75), 2)
    assert (series.header_window, first.kernel) == (Window(40, 400), "sharp")
    assert (first.patient_position, first.plane.position) == ("HFS", ("-10.25", "3.5", "0.0"))
    assert [one.name for one in series.slices] == [
        f"a.dcm frame {1 + list(MIXED).index(index)}" for index in range(COUNT)
    ]


@pytest.mark.parametrize("compress", [JPEGLSLossless, RLELossless])
def test_compressed_frames_are_read_one_by_one(tmp_path: Path, compress: str) -> None:
    assert_slices(save(tmp_path / "a.dcm", enhanced(), compress=compress))


@pytest.mark.parametrize("has_table", [True, False])
def test_frames_of_several_fragments_need_an_offset_table(tmp_path: Path, has_table: bool) -> None:
    dataset = enhanced()
    save(tmp_path / "a.dcm", dataset, compress=JPEGLSLossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=COUNT))
    dataset.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=has_table)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    if has_table:
        assert_slices(tmp_path / "a.dcm")
        np.testing.assert_array_equal(pixel_array(tmp_path / "a.dcm"), STORED[MIXED])
    else:
        (bad,) = find_series(tmp_path).bad
        assert bad.reason == "it is not told which fragments make a frame"


def test_each_frame_has_its_own_rescale_window_and_orientation(tmp_path: Path) -> None:
    slopes = [1.0, 0.5, 2.0, 1.5, 1.0]
    dataset = enhanced_dataset(
        STORED,
        POSITIONS,
        slope=slopes,
        intercept=[-1024.0, -1000.0, 0.0, 5.0, 7.5],
        window=[(40, 400), (40, 400), (50, 350), (40, 400), (-600, 1500)],
    )
    save(tmp_path / "a.dcm", dataset)
    series, _ = open_series(tmp_path)
    for index, header in enumerate(series.slices):
        offset = (-1024, -1000, 0, 5, 7.5)[index]
        expected = STORED[index].astype(np.float32) * slopes[index] + np.float32(offset)
        np.testing.assert_array_equal(load_hu(header), expected)
    assert series.header_windows == {Window(40, 400): 3, Window(50, 350): 1, Window(-600, 1500): 1}


def test_what_stands_in_the_frame_wins_over_what_all_share(tmp_path: Path) -> None:
    dataset = enhanced(frames={"PixelMeasuresSequence.PixelSpacing": [[0.25, 0.5]] * COUNT})
    save(tmp_path / "a.dcm", dataset)
    series, _ = open_series(tmp_path)
    assert series.pixel_spacing_mm == (0.25, 0.5)


def test_a_conversion_by_highdicom_reads_as_its_source(tmp_path: Path) -> None:
    paths = write_series(
        tmp_path / "classic",
        HU,
        FrameOfReferenceUID="1.2.3.4",
        PatientBirthDate="",
        PatientSex="",
        AccessionNumber="",
        StudyID="",
        StudyDate="20200101",
        StudyTime="101010",
        ContentDate="20200101",
        ContentTime="101010",
        AcquisitionDate="20200101",
        AcquisitionTime="101010",
        ReferringPhysicianName="",
        SeriesNumber=1,
        Manufacturer="x",
        BurnedInAnnotation="NO",
    )
    sources = [pydicom.dcmread(path) for path in paths]
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=sources,
        series_instance_uid="1.2.3.5",
        series_number=2,
        sop_instance_uid="1.2.3.6",
        instance_number=1,
    )
    converted.save_as(tmp_path / "enhanced.dcm")
    classic, _ = open_series(tmp_path / "classic")
    series, _ = open_series(tmp_path / "enhanced.dcm")
    assert [one.position for one in series.slices] == [one.position for one in classic.slices]
    assert series.pixel_spacing_mm == classic.pixel_spacing_mm
    assert series.header_windows == classic.header_windows
    for one, other in zip(series.slices, classic.slices, strict=True):
        np.testing.assert_array_equal(load_hu(one), load_hu(other))


def test_an_encode_is_the_same_as_that_of_classic_files(tmp_path: Path) -> None:
    save(tmp_path / "e" / "a.dcm", enhanced())
    write_series(
        tmp_path / "c",
        HU,
        step=(0, 0, 2.5),
        PixelSpacing=[0.5, 0.75],
        WindowCenter=40,
        WindowWidth=400,
    )
    for name in "ec":
        ssimrdo.encode(tmp_path / name, tmp_path / f"{name}.h264", effort="fast", threads=1)
    assert (tmp_path / "e.h264").read_bytes() == (tmp_path / "c.h264").read_bytes()
    one, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ec")
    assert one["geometry"]["along_mm"] == other["geometry"]["along_mm"]
    assert one["spacing"] == other["spacing"]
    assert CANARY not in (tmp_path / "e.json").read_text()


def test_several_files_make_one_series(tmp_path: Path) -> None:
    for part in (MIXED[:2], MIXED[2:]):
        save(tmp_path / f"{part[0]}.dcm", enhanced_dataset(STORED[part], POSITIONS[part]))
    assert_slices(tmp_path)


def test_a_copy_is_a_duplicate_and_another_file_of_its_uid_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", enhanced())
    data = path.read_bytes()
    (tmp_path / "b.dcm").write_bytes(data)
    result = find_series(tmp_path)
    assert [(one.path, one.duplicate_of) for one in result.skipped] == [("b.dcm", "a.dcm")]
    changed = bytearray(data)
    changed[-5] ^= 4
    (tmp_path / "b.dcm").write_bytes(changed)
    (bad,) = find_series(tmp_path).bad
    assert bad.path == "b.dcm"
    assert "another slice" in bad.reason


def test_localizers_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.dcm", enhanced(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]))
    (skipped,) = find_series(tmp_path).skipped
    assert skipped.reason == "localizer"


def test_batches_find_them(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", enhanced())

    def read(path: Path, name: str) -> Any:
        with path.open("rb", buffering=0) as stream:
            return read_membership(stream, name)

    found = read_file(path, "a.dcm", read)
    assert isinstance(found, Membership)
    assert found.series_uid == SERIES_UID


# Damage


def reason(path: Path) -> str:
    (bad,) = find_series(path).bad
    assert bad.reason.isprintable()
    assert CANARY not in bad.reason
    assert bad.series_uid in (SERIES_UID, "1.2.3.4")
    return bad.reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"NumberOfFrames": None}, "NumberOfFrames is missing"),
        ({"NumberOfFrames": 0}, "NumberOfFrames is malformed or not supported"),
        ({"NumberOfFrames": 4}, "there are functional groups for another number of frames"),
        ({"NumberOfFrames": 6}, "the pixel data is cut off; copy the file again"),
        ({"NumberOfFrames": 9000}, "the pixel data is cut off; copy the file again"),
        ({"NumberOfFrames": 10_001}, "10001 frames are too many: at most 10000 are read"),
        ({"Rows": 500}, "the pixel data is cut off; copy the file again"),
        ({"PixelData": None}, "the pixel data is cut off; copy the file again"),
        ({"PerFrameFunctionalGroupsSequence": None}, "there are functional groups for another"),
        ({"SharedFunctionalGroupsSequence": None}, "frame 1: ImageOrientationPatient is missing"),
        ({"SamplesPerPixel": 3}, "frame 1: SamplesPerPixel is malformed or not supported"),
    ],
)
def test_what_is_missing_or_wrong_is_told(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    assert reason(save(tmp_path / "a.dcm", enhanced(**change))).startswith(expected)


def test_the_frame_that_is_wrong_is_told(tmp_path: Path) -> None:
    dataset = enhanced()
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    path = save(tmp_path / "a.dcm", dataset)
    assert reason(path) == "frame 3: ImagePositionPatient is missing"


def test_cut_files_are_told_in_the_search(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", enhanced())
    data = path.read_bytes()
    for size in (len(data) - 1, len(data) // 2, 3000, 1200):
        path.write_bytes(data[:size])
        (bad,) = find_series(path).bad
        assert "cut off" in bad.reason
    compressed = save(path, enhanced(), compress=RLELossless).read_bytes()
    for size in (len(compressed) - 9, len(compressed) - 400):
        path.write_bytes(compressed[:size])
        assert "cut off" in reason(path)


def test_a_frame_that_cannot_be_decoded_is_named_by_its_number(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", enhanced(), compress=RLELossless)
    data = bytearray(path.read_bytes())
    places = [at for at in range(len(data)) if data[at : at + 8] == b"\x02\0\0\0\x40\0\0\0"]
    assert len(places) == COUNT
    data[places[2]] = 7
    path.write_bytes(data)
    series, _ = open_series(path)
    (broken,) = (one for one in series.slices if one.extent and one.extent.frame == 3)
    with pytest.raises(BadSliceError, match=r"a\.dcm, frame 3: the pixel data cannot be decoded"):
        load_hu(broken)
    result = ssimrdo.encode(path, tmp_path / "a.mp4", skip_bad=True)
    assert result.frames == COUNT - 1
    assert [one.path for one in result.skipped] == ["a.dcm frame 3"]


HEAD = {
    0x00080016: text("UI", EnhancedCTImageStorage),
    0x00080018: text("UI", "1.2.3.4.5"),
    0x00080060: text("CS", "CT"),
    0x0020000E: text("UI", "1.2.3.4"),
    0x00280002: us(1),
    0x00280004: text("CS", "MONOCHROME2"),
    0x00280010: us(65535),
    0x00280011: us(65535),
    0x00280100: us(16),
    0x00280101: us(16),
    0x00280102: us(15),
    0x00280103: us(0),
}


def test_what_is_claimed_takes_no_memory_or_time(tmp_path: Path) -> None:
    huge = {**HEAD, 0x00280008: text("IS", "100000")}
    small = {**huge, 0x00280010: us(16), 0x00280011: us(16)}
    frames = {**small, 0x00280008: text("IS", "10000")}
    pixels = Element("OW", b"\0" * 64)
    claimed = Element("OW", b"\0" * 64, 0xFFFFFFF0)
    empty = sequence(*[item(b"")] * 10_000)
    deep = b""
    for _ in range(3000):
        deep = written(0x00209113, sequence(item(deep, undefined=True), undefined=True))
    many = sequence(item(written(0x00209111, sequence(item(b"")))), undefined=True)
    many = Element("SQ", many.value[:-8] * 40_000, 0xFFFFFFFF)
    place, pixel_data = 0x52009230, 0x7FE00010
    outcomes = bounded(
        tmp_path,
        dicom({**huge, pixel_data: pixels}),
        dicom({**huge, pixel_data: claimed}),
        dicom({**small, place: empty, pixel_data: pixels}),
        dicom({**frames, place: empty, pixel_data: claimed}),
        dicom({**frames, place: empty, pixel_data: claimed}, IMPLICIT),
        dicom({**frames, place: Element("SQ", deep, 0xFFFFFFFF), pixel_data: claimed}),
        dicom({**frames, place: many, pixel_data: pixels}, EXPLICIT),
    )
    assert {outcome.result for outcome in outcomes} == {"bad header"}
    for outcome in outcomes[:2]:
        assert outcome.megabytes < 200 + 30  # That is Python with NumPy and Numba, without a file.


def test_an_offset_table_that_is_wrong_is_told(tmp_path: Path) -> None:
    dataset = enhanced()
    path = save(tmp_path / "a.dcm", dataset, compress=JPEGLSLossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=COUNT))
    dataset.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=True)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    at = data.index(struct.pack("<HHI", 0xFFFE, 0xE000, 4 * COUNT)) + 8
    offsets = list(struct.unpack(f"<{COUNT}I", data[at : at + 4 * COUNT]))
    for wrong in (offsets[::-1], [offsets[0]] * COUNT, [4, *offsets[1:]], [*offsets[:-1], 1 << 31]):
        path.write_bytes(data[:at] + struct.pack(f"<{COUNT}I", *wrong) + data[at + 4 * COUNT :])
        assert reason(path) == "the offset table is corrupt"


@pytest.mark.parametrize("kind", ["video", "decoded", "lossy CT"])
def test_sources_are_frames_of_the_object(kind, tmp_path):
    dataset = enhanced()
    for one in dataset.SharedFunctionalGroupsSequence:
        one.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]
    path = save(tmp_path / "in/e.dcm", dataset)
    folder, window = path.parent, Window(40, 400)
    out = tmp_path / ("out.dcm" if kind == "video" else "out")
    if kind == "video":
        ssimrdo.encode(folder, out, window=window, effort="fast", template=folder)
        files = [out]
        frames = [[int(np.flatnonzero(one == MIXED)[0]) + 1 for one in range(COUNT)]]
    else:
        if kind == "decoded":
            ssimrdo.encode(folder, tmp_path / "a.mkv", window=window, effort="fast")
            decode(tmp_path / "a.mkv", out, template=folder)
        else:
            encode_ct(folder, out, window=window, template=folder)
        files = sorted(out.iterdir())
        frames = [[int(np.flatnonzero(one == MIXED)[0]) + 1] for one in range(COUNT)]
    for file, expected in zip(files, frames, strict=True):
        (source,) = pydicom.dcmread(file).SourceImageSequence
        assert source.ReferencedSOPClassUID == EnhancedCTImageStorage
        assert source.ReferencedSOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID
        numbers = source.ReferencedFrameNumber
        assert [int(one) for one in np.atleast_1d(numbers)] == expected
        if DCIODVFY is not None and kind != "lossy CT":
            done = subprocess.run([DCIODVFY, file], capture_output=True, text=True, check=False)
            assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]
    if kind != "video":
        # Each refers to the frame at its own place, by highdicom's reading of the original.
        original = highdicom.imread(path)
        for file in files:
            one = pydicom.dcmread(file)
            number = int(one.SourceImageSequence[0].ReferencedFrameNumber)
            plane = original.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
            assert list(plane.ImagePositionPatient) == list(one.ImagePositionPatient)
