"""Nothing that names a patient leaves the DICOM files."""

from __future__ import annotations

import json
import logging
from functools import partial

import numpy as np
import pytest
from dicom_files import CANARY, write_series, write_slice
from video_files import ct_volume, run_command

from ssimrdo import InputError, encode, load_volume, open_series

JPEG_LS = "1.2.840.10008.1.2.4.80"
IDENTIFYING = {
    keyword: f"{CANARY} {keyword}"[:64]
    for keyword in (
        *("PatientName", "PatientID", "PatientComments", "OtherPatientIDs", "StudyDescription"),
        *("SeriesDescription", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName"),
        *("OperatorsName", "ProtocolName", "ImageComments", "RequestedProcedureDescription"),
    )
} | {"AccessionNumber": CANARY, "StationName": CANARY, "StudyID": CANARY}


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


@pytest.fixture(scope="module")
def volume():
    return ct_volume(4, 32, 48)


@pytest.fixture
def series(volume, tmp_path):
    """A series whose folder and files are named for the patient as well."""
    folder = tmp_path / f"{CANARY}^DOE"
    for path in write_series(folder, volume, **IDENTIFYING):
        path.rename(path.with_name(f"{CANARY}-{path.name}"))
    return folder


UID_ROOT = b"1.2.826"


def assert_clean(data: bytes) -> None:
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        assert CANARY.encode(encoding) not in data.upper()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264"])
@pytest.mark.parametrize("options", [["-v"], ["--bitrate", "100", "--json", "-v"]])
def test_files_and_messages_of_a_good_series(ssimrdo, series, tmp_path, suffix, options):
    (tmp_path / "out").mkdir()
    done = ssimrdo("encode", series, "-o", tmp_path / f"out/out{suffix}", *options)
    assert done.status == 0
    assert_clean(done.out.encode())
    assert_clean(done.err.encode())
    written = list((tmp_path / "out").iterdir())
    assert len(written) == 2
    for path in written:
        assert_clean(path.read_bytes())
        assert UID_ROOT not in path.read_bytes()
    sidecar = json.loads((tmp_path / "out/out.json").read_text())
    assert sidecar["geometry"]["along_mm"] == [0, 2, 4, 6]


def test_skipped_files_stay_out_of_the_sidecar(ssimrdo, series, tmp_path):
    (series / f"{CANARY}.dcm").write_bytes(b"")
    (series / f"{CANARY}.txt").write_text(CANARY)
    output = tmp_path / "out.mp4"
    done = ssimrdo("encode", series, "-o", output, "--skip-bad")
    assert done.status == 0
    assert "left out" in done.out
    for text in (done.out.encode(), output.read_bytes(), (tmp_path / "out.json").read_bytes()):
        assert_clean(text)


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": None},
        {"ImagePositionPatient": None},
        {"PixelData": None},
        {"PhotometricInterpretation": CANARY},
        {"ImageType": [CANARY, CANARY]},
        {"Modality": f"{CANARY} DOE"},
        {"raw": {"RescaleSlope": CANARY.encode()}},
        {"raw": {"ImagePositionPatient": f"{CANARY}\\1\\2".encode() + b" "}},
        {"raw": {"Rows": CANARY.encode()}},
        {"raw": {"SeriesInstanceUID": CANARY.encode()}},
        {"raw": {"WindowCenter": CANARY.encode()}},
        {"raw": {"PixelSpacing": CANARY.encode()}},
        {"raw": {"PatientBirthDate": CANARY.encode(), "AcquisitionNumber": CANARY.encode()}},
    ],
)
@pytest.mark.parametrize("options", [["-v"], ["-v", "--skip-bad"]])
def test_messages_about_bad_files(ssimrdo, volume, tmp_path, elements, options):
    write_series(tmp_path / "ct", volume, **IDENTIFYING)
    pixels = np.zeros((32, 48), np.uint16)
    write_slice(tmp_path / "ct/bad.dcm", pixels, **{**IDENTIFYING, **elements})
    output = tmp_path / "out.mp4"
    done = ssimrdo("encode", tmp_path / "ct", "-o", output, *options, "--json")
    assert done.status in (0, 2)
    assert "Traceback" not in done.err
    assert_clean(done.out.encode())
    assert_clean(done.err.encode())
    for path in (output, tmp_path / "out.json"):
        if path.exists():
            assert_clean(path.read_bytes())


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.4, 0.7])
@pytest.mark.parametrize("compress", [None, JPEG_LS])
def test_messages_about_truncated_and_overwritten_files(
    ssimrdo, volume, tmp_path, fraction, compress
):
    files = write_series(tmp_path / "ct", volume, compress=compress, **IDENTIFYING)
    data = files[1].read_bytes()
    cut = int(len(data) * fraction)
    files[1].write_bytes(data[:cut])
    text = f"{CANARY} ".encode()
    files[2].write_bytes(data[:cut] + text * 20 + data[cut + 20 * len(text) :])
    done = ssimrdo("encode", tmp_path / "ct", "-v", "-o", tmp_path / "out.mp4")
    assert (done.status, done.out) == (2, "")
    assert_clean(done.err.encode())


def test_a_library_call_logs_and_records_nothing_of_a_patient(series, tmp_path, caplog):
    """Whatever the source, its files were once found in a folder that is named for the patient."""
    with caplog.at_level(logging.DEBUG):
        for number, source in enumerate((series, open_series(series)[0], load_volume(series))):
            result = encode(source, tmp_path / f"{number}.mp4", bitrate_kbps=100)
            assert_clean(repr(result).encode())
            assert_clean(json.dumps(result.as_dict()).encode())
    # What the libraries beneath log is theirs and the caller's affair.
    ours = [record for record in caplog.records if record.name.startswith("ssimrdo")]
    assert ours
    assert_clean("\n".join(record.getMessage() for record in ours).encode())
    for path in tmp_path.glob("*.*"):
        if path.is_file():
            assert_clean(path.read_bytes())


def test_errors_about_found_series_and_volumes_name_no_patient(volume, tmp_path):
    files = write_series(tmp_path / "ct", volume, **IDENTIFYING, compress=JPEG_LS)
    series, _ = open_series(tmp_path / "ct")
    for path in files:
        path.write_bytes(path.read_bytes()[:-300] + CANARY.encode() * 20 + b"\xff\xd9")
    for work in (
        lambda: encode(series, tmp_path / "out.mp4"),
        lambda: encode(series, tmp_path / "out.mp4", skip_bad=True),
        lambda: load_volume(tmp_path / "ct"),
    ):
        with pytest.raises(InputError) as caught:
            work()
        assert_clean(str(caught.value).encode())
