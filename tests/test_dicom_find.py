from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.pixels.decoders.base
import pytest
from dicom_files import CANARY, SERIES_UID, write_series, write_slice
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ssimrdo.dicom import (
    BadFile,
    SkippedFile,
    Window,
    find_series,
    load_hu,
    open_series,
    select_series,
)
from ssimrdo.errors import BadSliceError, InputError

# pydicom warns about malformed values.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PIXELS = np.arange(24, dtype=np.uint16).reshape(4, 6)
VOLUME = np.zeros((3, 4, 6))


def refusal(folder: Path, **arguments: Any) -> str:
    """Return the one line with which a folder is refused."""
    with pytest.raises(InputError) as caught:
        open_series(folder, **arguments)
    message = str(caught.value)
    assert message.isprintable()
    assert str(folder) in message
    assert CANARY not in message
    assert len(message) < 1000
    return message


OTHER_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "localizer": ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    "scout": ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"]}),
    "topogram": ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "CT_SOM5 TOPOGRAM"]}),
    "screen": ("screen capture", {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}),
    "dose": ("dose report", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}),
    "capture": ("secondary capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}),
    "mr": ("MR Image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}),
    "pet": ("PT image", {"Modality": "PT"}),
    "lower": ("no CT image", {"Modality": f"x {CANARY}"}),
    "private": ("unknown kind of object", {"SOPClassUID": "1.3.46.670589.5.0.1"}),
    "frames": ("enhanced (multi-frame) CT image", {"NumberOfFrames": 2}),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_objects_are_skipped(tmp_path: Path, name: str) -> None:
    reason, overrides = OTHER_FILES[name]
    write_slice(tmp_path / "sub" / f"{name}.dcm", PIXELS, **overrides)
    write_series(tmp_path / "ct", VOLUME)
    series, skipped = open_series(tmp_path)
    assert len(series.slices) == 3
    assert skipped == (SkippedFile(f"sub/{name}.dcm", reason),)


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "MR_small.dcm", "waveform_ecg.dcm"])
def test_bundled_files_that_are_no_ct_are_skipped(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    result = find_series(path)
    assert not result.series
    assert not result.bad
    (skipped,) = result.skipped
    known = {"Comprehensive SR", "RT Plan", "MR Image", "12-lead ECG Waveform"}
    assert skipped.reason in known


def test_files_that_are_no_dicom_are_skipped(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    (tmp_path / "notes.txt").write_text("x" * 500)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "like-dicom").write_bytes(b"\x08\x00\x16\x00" + bytes(600))
    (tmp_path / "image.png").write_bytes(b"\x89PNG" + os.urandom(999))
    _, skipped = open_series(tmp_path)
    assert {file.reason for file in skipped} == {"not a DICOM file"}
    assert [file.path for file in skipped] == ["empty", "image.png", "like-dicom", "notes.txt"]


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "._0001.dcm").write_bytes(b"x")
    write_slice(tmp_path / ".trash" / "a.dcm", PIXELS, SeriesInstanceUID="1.5")
    series, skipped = open_series(tmp_path)
    assert len(series.slices) == 3
    assert not skipped


def test_dicomdir_is_skipped(tmp_path: Path) -> None:
    folder = get_testdata_file("dicomdirtests/DICOMDIR", download=False)
    if not isinstance(folder, str):
        pytest.skip("this pydicom bundles no DICOMDIR")
    (tmp_path / "DICOMDIR").write_bytes(Path(folder).read_bytes())
    assert find_series(tmp_path).skipped == (SkippedFile("DICOMDIR", "DICOMDIR"),)


def test_duplicates_are_skipped(tmp_path: Path) -> None:
    first, *_ = sorted(write_series(tmp_path, VOLUME))
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "copy").write_bytes(first.read_bytes())
    _, skipped = open_series(tmp_path)
    reason = "duplicate of another file"
    assert skipped == (SkippedFile("again/copy", reason, duplicate_of="0001.dcm"),) or skipped == (
        SkippedFile("0001.dcm", reason, duplicate_of="again/copy"),
    )
    assert open_series(tmp_path)[1] == skipped


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_files_without_preamble_are_read(tmp_path: Path, syntax: str) -> None:
    write_slice(tmp_path / "a", PIXELS, transfer_syntax=syntax, preamble=False)
    (header,) = open_series(tmp_path)[0].slices
    np.testing.assert_array_equal(load_hu(header), PIXELS - np.float32(1024))


def test_file_meta_without_preamble_is_read(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a", PIXELS)
    path.write_bytes(path.read_bytes()[132:])
    (header,) = open_series(tmp_path)[0].slices
    np.testing.assert_array_equal(load_hu(header), PIXELS - np.float32(1024))


def test_single_file(tmp_path: Path) -> None:
    path, *_ = write_series(tmp_path, VOLUME)
    series, skipped = open_series(path)
    assert [header.path for header in series.slices] == [path]
    assert not skipped


def test_text_paths_are_accepted(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    assert open_series(str(tmp_path))[0] == open_series(tmp_path)[0]


def test_links(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    paths = write_series(tmp_path / "elsewhere", VOLUME)
    for path in paths:
        (tmp_path / "data" / path.name).symlink_to(path)
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "broken").symlink_to(tmp_path / "nothing")
    series, skipped = open_series(tmp_path / "data")
    assert len(series.slices) == 3
    assert skipped == (SkippedFile("broken", "broken link"),)


def test_named_pipe_is_not_opened(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    os.mkfifo(tmp_path / "pipe.dcm")
    _, skipped = open_series(tmp_path)
    assert skipped == (SkippedFile("pipe.dcm", "not a regular file"),)


def test_names_that_are_not_printable(tmp_path: Path) -> None:
    name = os.fsdecode(b"line\nbreak\xff.dcm")
    (tmp_path / name).write_bytes(b"x")
    (bad,) = find_series(tmp_path).bad
    assert bad.path == "line?break?.dcm"
    with pytest.raises(BadSliceError) as caught:
        open_series(tmp_path)
    assert str(caught.value).isprintable()


def test_result_does_not_depend_on_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "b", VOLUME)
    write_series(tmp_path / "a", VOLUME, SeriesInstanceUID="1.7")
    (tmp_path / "x.dcm").write_bytes(b"")
    (tmp_path / "y.dcm").write_bytes(b"")
    expected = find_series(tmp_path)
    walk = os.walk

    def reversed_walk(*args: Any, **kwargs: Any) -> Any:
        for parent, folders, files in reversed(list(walk(*args, **kwargs))):
            yield parent, folders[::-1], files[::-1]

    monkeypatch.setattr(os, "walk", reversed_walk)
    assert find_series(tmp_path) == expected


def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, VOLUME)
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_series(tmp_path).bad == (BadFile("locked", "folder cannot be read"),)
    assert "Permission denied" in refusal(tmp_path / "locked")


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, name: str) -> None:
        del name
        raise PermissionError(13, "Permission denied", str(path))

    write_slice(tmp_path / "a.dcm", PIXELS)
    monkeypatch.setattr("ssimrdo.dicom.read.find.read_slices", refuse)
    assert find_series(tmp_path).bad == (BadFile("a.dcm", "cannot be read (Permission denied)"),)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "missing")
    assert "no files here" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    assert "no DICOM files here" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read"):
        find_series("nul\0byte")


def test_no_ct_says_what_there_is(tmp_path: Path) -> None:
    for index in range(3):
        write_slice(
            tmp_path / f"{index}.dcm",
            PIXELS,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
            Modality="MR",
        )
    write_slice(tmp_path / "x.dcm", PIXELS, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    message = refusal(tmp_path)
    assert "3 x MR Image" in message
    assert "1 x localizer" in message


def test_several_series_have_to_be_chosen_from(tmp_path: Path) -> None:
    for index in range(8):
        write_series(tmp_path / f"{index}", VOLUME, SeriesInstanceUID=f"1.2.{index}")
    message = refusal(tmp_path)
    assert "8 CT series" in message
    assert "1.2.0 (3 slices, 6x4)" in message
    assert "and 3 more" in message
    series, _ = open_series(tmp_path, series_uid="1.2.6")
    assert series.uid == "1.2.6"
    assert "no CT series has the UID 1.2.9" in refusal(tmp_path, series_uid="1.2.9")
    assert "1.2.0 (3" in refusal(tmp_path, series_uid="a\nb" * 100)


def test_bad_files_refuse_the_series_unless_skipped(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    write_slice(tmp_path / "x.dcm", PIXELS, RescaleSlope=None)
    (tmp_path / "y.dcm").write_bytes(b"")
    with pytest.raises(BadSliceError) as caught:
        open_series(tmp_path)
    assert caught.value.path == str(tmp_path / "x.dcm")
    assert "RescaleSlope is missing and 1 more damaged" in caught.value.cause
    assert "skip_bad leaves such files out" in refusal(tmp_path)
    series, skipped = open_series(tmp_path, skip_bad=True)
    assert len(series.slices) == 3
    assert skipped == (
        SkippedFile("x.dcm", "RescaleSlope is missing"),
        SkippedFile("y.dcm", "the file is empty"),
    )


def test_bad_file_given_itself(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "x.dcm", PIXELS, RescaleSlope=None)
    with pytest.raises(BadSliceError) as caught:
        open_series(path)
    assert caught.value.path == str(path)


def test_bad_files_of_another_series_do_not_count(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    write_slice(tmp_path / "x.dcm", PIXELS, RescaleSlope=None, SeriesInstanceUID="1.7")
    series, skipped = open_series(tmp_path)
    assert series.uid == SERIES_UID
    assert skipped == (SkippedFile("x.dcm", "RescaleSlope is missing"),)
    assert "RescaleSlope" in refusal(tmp_path, series_uid="1.7")
    assert "all 1 are damaged" in refusal(tmp_path, series_uid="1.7", skip_bad=True)


def test_only_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"")
    assert "the file is empty" in refusal(tmp_path)
    assert "the file is empty" in refusal(tmp_path, series_uid="1.7")
    assert "no usable CT slice" in refusal(tmp_path, skip_bad=True)


def test_select_uses_what_was_found(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME)
    assert select_series(find_series(tmp_path), tmp_path) == open_series(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        ("1.2.840.113619.5.2", "1.2.840.113619.5.2"),
    ],
)
def test_transfer_syntax_that_nothing_decodes(tmp_path: Path, syntax: str, name: str) -> None:
    path = write_slice(tmp_path / "a.dcm", PIXELS, compress="1.2.840.10008.1.2.5")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    message = refusal(tmp_path)
    assert name in message
    assert "not supported; convert" in message


def test_transfer_syntax_whose_decoder_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        is_encapsulated = True
        available_plugins = ("pillow",)
        missing_dependencies = (
            "gdcm - requires gdcm>=3.0.10",
            "pylibjpeg - requires pylibjpeg>=2.0 and pylibjpeg-openjpeg>=2.0",
        )

    pixels = np.zeros((40, 40), np.uint16)
    write_slice(tmp_path / "a.dcm", pixels, compress="1.2.840.10008.1.2.4.90")
    monkeypatch.setattr(pydicom.pixels.decoders.base, "get_decoder", lambda _: Missing)
    message = refusal(tmp_path)
    assert "JPEG 2000 Image Compression (Lossless Only)" in message
    assert "pylibjpeg>=2.0 and pylibjpeg-openjpeg>=2.0" in message
    assert "gdcm" not in message


def test_header_window_is_the_most_common_one(tmp_path: Path) -> None:
    for index, center in enumerate([40, 300, 300, None]):
        write_slice(
            tmp_path / f"{index}",
            PIXELS,
            WindowCenter=center,
            WindowWidth=[400, 80] if center else None,
            ImagePositionPatient=[0, 0, index],
        )
    assert open_series(tmp_path)[0].header_window == Window(300, 400)


def test_header_window_may_be_missing(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, WindowWidth=None)
    assert open_series(tmp_path)[0].header_window is None


def test_series_properties(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, PixelSpacing=[0.7, 0.6])
    series, _ = open_series(tmp_path)
    assert (series.rows, series.columns) == (4, 6)
    assert series.pixel_spacing_mm == (0.7, 0.6)


def test_malformed_but_irrelevant_values_are_no_obstacle(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_slice(
        tmp_path / "a",
        PIXELS,
        SpecificCharacterSet="ISO_IR 100",
        raw={"InstanceNumber": b"1.5.", "SeriesInstanceUID": b"1.02.3"},
    )
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"nonsense.."))
    (header,) = open_series(tmp_path)[0].slices
    np.testing.assert_array_equal(load_hu(header), PIXELS - np.float32(1024))
    assert capfd.readouterr() == ("", "")


def test_import_is_light() -> None:
    code = "import sys, ssimrdo.dicom; print({'numba', 'scipy', 'av'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
