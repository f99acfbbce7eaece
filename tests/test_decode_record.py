"""The series record: the header's own digits, in the sidecar and inside the video."""

from __future__ import annotations

import json
import subprocess
import zlib

import av
import numpy as np
import pytest
from dicom_files import CANARY, write_series
from hypothesis import given
from hypothesis import strategies as st
from video_files import SOFT_TISSUE, ct_volume, frames_of, plane

from ssimrdo import Volume, Window, encode
from ssimrdo.dicom import Geometry, open_series
from ssimrdo.dicom.digits import PlaneDigits, decimal_string, valid_ds
from ssimrdo.errors import InputError
from ssimrdo.record.ct import MIME_TYPE, NAME, SeriesRecord, gaps, read_record, slant_degrees
from ssimrdo.video.attachment import attach, attached

SLICES, ROWS, COLUMNS = 5, 41, 57
SOFT = Window(*SOFT_TISSUE)
FAST = {"window": SOFT, "effort": "fast"}
TILTED = ("1.000000", "+0.0", "0", "0.00", "0.9483237", "-0.3173047")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    paths = write_series(folder, ct_volume(SLICES, ROWS, COLUMNS))
    # Digits that no number keeps; the fourth slice is missing, the last one is thicker.
    import pydicom

    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        z = index if index < 3 else index + 1
        dataset.ImagePositionPatient = ["-125.0000", f"{1.5 * z:.7f}", f"+{4 * z}e0"]
        dataset.ImageOrientationPatient = list(TILTED)
        dataset.PixelSpacing = ["0.500000", "5.00E-1"]
        dataset.SliceThickness = "4.0" if index < 4 else "8.00"
        dataset.GantryDetectorTilt = "+18.5"
        dataset.PatientPosition = "FFS" if index else CANARY
        dataset.save_as(path)
    return folder


@pytest.fixture(scope="module")
def video(series, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "a.mkv"
    encode(series, output, **FAST)
    return output


@pytest.fixture(scope="module")
def record(video):
    return json.loads(video.with_suffix(".json").read_text())["ct"]


def test_the_record_has_the_digits_of_the_headers(record):
    assert record["positions"][3] == ["-125.0000", "6.0000000", "+16e0"]
    assert record["orientation"] == list(TILTED)
    assert record["pixel_spacing"] == ["0.500000", "5.00E-1"]
    assert (record["thickness"], record["tilt"]) == ("4.0", "+18.5")
    assert record["differing"] == {"5": {"thickness": "8.00"}}
    assert [record[key] for key in ("frames", "rows", "columns")] == [SLICES, ROWS, COLUMNS]
    assert record["patient_position"] == ""


def test_the_record_tells_of_gaps_and_tilt(record):
    step = np.hypot(1.5, 4)
    assert record["gaps"] == [{"after": 3, "mm": pytest.approx(2 * step, abs=1e-5)}]
    normal = np.cross([1, 0, 0], [0, 0.9483237, -0.3173047])
    line = np.array([0, 1.5, 4]) / step
    angle = np.degrees(np.arccos(normal @ line / np.linalg.norm(normal)))
    assert record["slant_degrees"] == pytest.approx(angle, abs=1e-3)


def test_checksums_are_those_of_ffmpegs_frames(video, record):
    frames = frames_of(video)
    assert record["checksums"] == [zlib.crc32(plane(frame).tobytes()) for frame in frames]


def test_matroska_holds_the_same_record(video, record, tmp_path):
    with av.open(str(video)) as opened:
        (stream,) = opened.streams.attachments
        assert (stream.name, stream.mimetype) == (NAME, MIME_TYPE)
        assert json.loads(bytes(stream.data)) == {"ct": record}
    if not _has_ffmpeg():
        pytest.skip("the ffmpeg program is missing")
    dumped = tmp_path / "dumped"
    command = ["ffmpeg", "-v", "error", f"-dump_attachment:{1}", dumped, "-i", video]
    subprocess.run([*command, "-f", "null", "-"], check=True)
    assert json.loads(dumped.read_bytes()) == {"ct": record}


def _has_ffmpeg():
    import shutil

    return shutil.which("ffmpeg") is not None


def test_attaching_leaves_the_packets_alone(series, tmp_path):
    output, copy = tmp_path / "a.mp4", tmp_path / "b.mp4"
    encode(series, output, **FAST)
    copy.write_bytes(output.read_bytes())
    attach(copy, "mp4", NAME, MIME_TYPE, b'{"ct": "\xc2\xb5"}')
    assert attached(copy, NAME, 100) == b'{"ct": "\xc2\xb5"}'
    assert attached(copy, NAME, 5) is None
    assert attached(output, NAME, 100) is None

    def packets(path):
        with av.open(str(path)) as opened:
            stream = opened.streams.video[0]
            return [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in opened.demux(stream)]

    assert packets(copy) == packets(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4", "b.mp4"]


def test_damaged_slices_have_no_place_in_the_record(tmp_path):
    paths = write_series(tmp_path / "ct", ct_volume(4, 32, 32), compress="1.2.840.10008.1.2.5")
    data = paths[1].read_bytes()
    at = data.rindex(b"\xfe\xff\x00\xe0") + 8
    paths[1].write_bytes(data[: at + 64] + b"\x80" * (len(data) - at - 72) + data[-8:])
    encode(tmp_path / "ct", tmp_path / "a.mkv", skip_bad=True, **FAST)
    record = read_record((tmp_path / "a.json").read_bytes(), "a")
    assert [plane.position_mm[2] for plane in record.planes] == [0, 4, 6]
    assert len(record.checksums) == 3


def test_volumes_have_a_record_if_they_have_a_geometry(tmp_path):
    hu = ct_volume(2, 32, 32)
    geometry = Geometry(
        (0.7, 0.1 + 0.2), (1.0, 0, 0, 0, 1, 0), ((0.0, 1 / 3, -0.0), (0, 1 / 3, 2)), (0.0, 2.0)
    )
    result = encode(Volume(hu, geometry=geometry), tmp_path / "a.mkv", **FAST)
    plane = result.series.planes[0]
    assert plane.position == ("0.0", "0.33333333333333", "0.0")
    assert plane.pixel_spacing == ("0.7", "0.30000000000000")
    assert encode(Volume(hu), tmp_path / "b.mkv", **FAST).series is None
    assert json.loads((tmp_path / "b.json").read_text())["ct"] is None
    assert attached(tmp_path / "b.mkv", NAME, 10**6) is None


def test_headers_with_numbers_in_place_of_text(tmp_path):
    (path,) = write_series(tmp_path, ct_volume(1, 32, 32))
    import pydicom
    from pydicom.dataelem import DataElement

    dataset = pydicom.dcmread(path)
    dataset[0x00180050] = DataElement(0x00180050, "FD", 1.1)
    dataset.save_as(path)
    assert open_series(tmp_path)[0].slices[0].plane.thickness == "1.1"


def test_decimal_strings_are_short_enough():
    for number in (1 / 3, -1e-7 / 3, 123456789.123456789, -0.0, 5.0):
        assert len(decimal_string(number)) <= 16
        assert float(decimal_string(number)) == pytest.approx(number, rel=1e-8)
    assert valid_ds("0.10000000000000000") == "0.1"
    assert valid_ds("0.10000000000000") == "0.10000000000000"


def test_even_and_shared_positions_have_no_gaps():
    def planes(zs):
        return [PlaneDigits(("0", "0", f"{z}"), ("1", "0", "0", "0", "1", "0")) for z in zs]

    assert gaps(planes([0, 2, 4, 6.9])) == []
    assert gaps(planes([0, 2, 4, 7.1])) == [{"after": 3, "mm": pytest.approx(3.1)}]
    assert gaps(planes([5])) == gaps(planes([5, 5, 5])) == gaps(planes([0, 9])) == []
    assert slant_degrees(planes([1])) == slant_degrees(planes([1, 1])) == 0
    assert slant_degrees(planes([4, 1])) == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"[" * 10**5, "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[]", "does not say where"),
        (b'{"schema": 2, "frames": 4}', "does not say where"),
        (b'{"ct": null}', "does not say where"),
        (b'{"ct": 5}', "damaged: ct "),
        (b'{"ct": {"schema": 2}}', "schema 2"),
    ],
)
def test_what_is_no_record_is_told_in_a_line(data, said):
    with pytest.raises(InputError, match=said) as error:
        read_record(data, "a.json")
    assert str(error.value).startswith("a.json: ")
    assert "\n" not in str(error.value)


def test_records_come_back(record):
    again = SeriesRecord.from_dict(json.loads(json.dumps(record)))
    assert again.as_dict() == record


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("rows", [0, -1, 65536, 41.0, True, "41", 2**80]),
        ("columns", [0, 65536]),
        ("frames", [0, 100_001, 4]),
        ("bit_depth", [7, 17]),
        ("range", ["video", None]),
        ("pixel_spacing", [["0", "1"], ["1"], "1"]),
        ("thickness", ["0", "-1", "1e9", 4]),
        ("orientation", [["1", "0", "0", "1", "0", "0"], ["1"] * 6]),
        ("checksums", [[-1] * SLICES, [1 << 32] * SLICES]),
        ("psnr", [[1e300] * SLICES, [None] * SLICES]),
        ("patient_position", [CANARY, None]),
        ("differing", [{"6": {}}, {"0": {}}, []]),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(key, values, record):
    for value in values:
        with pytest.raises(InputError, match="the record is damaged: ") as error:
            SeriesRecord.from_dict({**record, key: value})
        assert CANARY not in str(error.value)
        # Fewer or more than there are positions.
        assert ("positions" if value == 4 and key == "frames" else key) in str(error.value)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([CANARY, "", "1e400", "-1", "nan", "0" * 99, 2**70, 10**400, -1, 1 << 32]),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_damaged_records_are_refused_in_a_line_or_make_sense(record, data):
    damaged = json.loads(json.dumps(record))
    place = damaged
    for _ in range(data.draw(st.integers(1, 3))):
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    else:
        return
    if isinstance(place, dict) and data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(JUNK)
    said, found = "", None
    try:
        found = SeriesRecord.from_dict(damaged)
    except InputError as error:
        said = str(error)
    assert CANARY not in said
    assert "\n" not in said
    if found is not None:
        assert found.frames == len(found.checksums) == len(found.psnr_db)
        assert SeriesRecord.from_dict(found.as_dict()) == found
        assert all(np.isfinite(plane.position_mm).all() for plane in found.planes)
