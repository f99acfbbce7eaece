"""``ssimrdo list``, and its numbers and phases where a series is chosen."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from dicom_files import CANARY, SERIES_UID, write_series, write_slice
from enhanced_files import enhanced_dataset, save
from messages import error_of
from pydicom.uid import JPEGLSLossless
from video_files import ct_volume, frames_of, run_command

from ssimrdo import load_volume, open_series
from ssimrdo.dicom import find_series, load_hu
from ssimrdo.dicom.read.kernel import kernel_class
from ssimrdo.dicom.read.phases import rows_of
from ssimrdo.errors import InputError, SeveralSeriesError

HU = ct_volume(4, 32, 32)
PHASES = {
    "AcquisitionNumber": ([3, 5], ["acquisition 3", "acquisition 5"]),
    "TemporalPositionIdentifier": ([1, 2], ["temporal position 1", "temporal position 2"]),
    "NominalPercentageOfCardiacPhase": ([40.0, 75.0], ["cardiac phase 40 %", "cardiac phase 75 %"]),
    "NominalPercentageOfRespiratoryPhase": (
        [0.0, 50.0],
        ["respiratory phase 0 %", "respiratory phase 50 %"],
    ),
    "TriggerTime": (["80.5", "630"], ["trigger time 80.5 ms", "trigger time 630 ms"]),
    "KVP": (["80", "140"], ["80 kV", "140 kV"]),
    "ContentTime": (["095959.5", "100000"], ["time 1 of 2", "time 2 of 2"]),
}


@pytest.fixture
def ssimrdo(capsys):
    return partial(run_command, capsys)


def write_phases(folder, keyword="AcquisitionNumber", values=(3, 5), **more):
    """Write slices of several phases; those of phase n have n x 100 HU more."""
    for index, hu in enumerate(HU):
        for number, value in enumerate(values):
            write_slice(
                folder / f"{number}-{index}.dcm",
                (hu + 1024 + 100 * number).astype(np.uint16),
                ImagePositionPatient=[0, 0, 2 * index],
                InstanceNumber=2 * index + number,
                **{keyword: value},
                **more,
            )


def listed(ssimrdo, folder, *more):
    done = ssimrdo("list", folder, "--json", *more)
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out)


def test_a_table_of_what_is_there(ssimrdo, tmp_path):
    write_series(tmp_path / "a", HU, SeriesInstanceUID="1.2.1", ConvolutionKernel="Br40d")
    write_series(
        tmp_path / "b",
        HU[:3],
        SeriesInstanceUID="1.2.2",
        step=(0, 1, 0),
        orientation=(1, 0, 0, 0, 0, -1),
        ConvolutionKernel="BONEPLUS",
        compress=JPEGLSLossless,
        WindowCenter=None,
        PixelSpacing=None,
    )
    write_slice(tmp_path / "scout.dcm", (HU[0] + 1024).astype(np.uint16), ImageType=["LOCALIZER"])
    (tmp_path / "notes.txt").write_text(CANARY)
    (tmp_path / "bad.dcm").write_bytes(b"")
    done = ssimrdo("list", tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "no  slices  size     pixel mm   step mm  plane    kernel  window  transfer syntax\n"
        "1   4       32 x 32  0.5 x 0.5  2        axial    soft    40/80   "
        "Explicit VR Little Endian\n"
        "2   3       32 x 32  ?          1        coronal  sharp   none    "
        "JPEG-LS Lossless Image Compression\n"
        "left out: 1 x not a DICOM file\n"
        "left out: 1 x localizer\n"
        "damaged: 1 x the file is empty\n"
    ) or done.out.index("localizer") < done.out.index("not a DICOM")
    assert CANARY not in done.out


def test_json_has_what_the_table_has(ssimrdo, tmp_path):
    write_series(tmp_path, HU, intercept=-1024)
    (tmp_path / "0002.dcm").write_bytes((tmp_path / "0002.dcm").read_bytes()[:-100])
    found = listed(ssimrdo, tmp_path)
    (row,) = found["series"]
    assert (row["number"], row["slices"], row["damaged"]) == (1, 3, 1)
    assert (row["rows"], row["columns"], row["plane"]) == (32, 32, "axial")
    assert (row["pixel_spacing_mm"], row["thickness_mm"], row["slant_degrees"]) == (
        [0.5, 0.5],
        2,
        0,
    )
    assert row["window"] == {"center": 40, "width": 80, "function": "LINEAR"}
    assert (row["kernel"], row["phase"], row["problem"]) == ("soft", None, None)
    assert row["transfer_syntaxes"] == ["Explicit VR Little Endian"]
    assert found["damaged"] == [
        {"reason": "the pixel data is cut off; copy the file again", "files": 1}
    ]
    assert found["left_out"] == []


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_identity_is_told_only_where_it_is_asked_for(ssimrdo, tmp_path, form):
    folder = tmp_path / "ct"
    write_series(folder, HU, SpecificCharacterSet="ISO_IR 192", StudyDescription="Schädel\x1b[31m")
    (folder / f"{CANARY}.txt").write_text("x")
    done = ssimrdo("list", folder, *form)
    assert CANARY not in done.out
    assert SERIES_UID not in done.out
    told = ssimrdo("list", folder, "--identity", *form).out
    for text in (f"{CANARY}^NAME", f"{CANARY}-ID", f"{CANARY} DESCRIPTION", SERIES_UID, "STANDARD"):
        assert text in told
    assert "\x1b" not in told
    assert "Schädel" in (
        json.loads(told)["series"][0]["identity"]["StudyDescription"] if form else told
    )


def test_the_order_does_not_hang_on_names_of_files(ssimrdo, tmp_path):
    for name, other in (("x", "y"), ("y", "x")):
        for place, uid in ((name, "1.2.1"), (other, "1.2.2")):
            write_series(
                tmp_path / name / "ct" / place, HU[: 2 + (uid == "1.2.2")], SeriesInstanceUID=uid
            )
    one, two = (listed(ssimrdo, tmp_path / name / "ct")["series"] for name in "xy")
    assert [row["slices"] for row in one] == [row["slices"] for row in two] == [2, 3]


def test_tilt_gaps_and_what_cannot_be_encoded(ssimrdo, tmp_path):
    # A gantry tilted by 30 degrees: slices lie above each other while the table moves along z.
    cos, sin = np.cos(np.radians(30)), np.sin(np.radians(30))
    write_series(
        tmp_path, HU, step=(0, 0, 2), orientation=(1, 0, 0, 0, round(cos, 6), -round(sin, 6))
    )
    (row,) = listed(ssimrdo, tmp_path)["series"]
    assert row["plane"] == "oblique"
    assert row["slant_degrees"] == pytest.approx(30, abs=1e-3)
    assert row["spacing"]["step_mm"] == pytest.approx(2 * cos, abs=1e-4)
    write_slice(
        tmp_path / "larger.dcm", np.full((40, 32), 1024, np.uint16), ImagePositionPatient=[0, 0, 20]
    )
    (row,) = listed(ssimrdo, tmp_path)["series"]
    assert row["problem"] == "its slices differ in size: 32x32 and 32x40"
    out = ssimrdo("list", tmp_path).out
    assert "cannot be encoded: its slices differ in size" in out


def test_a_folder_without_ct_is_listed_and_refused(ssimrdo, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    done = ssimrdo("list", tmp_path)
    assert (done.status, done.out) == (2, "left out: 1 x not a DICOM file\n")
    assert error_of(done.err)
    assert ssimrdo("list", tmp_path / "none").status == 2
    assert ssimrdo("list", "").status == 2


def test_numbers_choose_series_in_every_command(ssimrdo, tmp_path):
    for number in (1, 2):
        write_series(
            tmp_path / "ct" / f"{number}", HU[: number + 1], SeriesInstanceUID=f"1.2.{number}"
        )
    assert [len(one) for one in rows_of(find_series(tmp_path / "ct").series)] == [2, 3]
    for number, count in (("1", 2), ("2", 3), ("1.2.2", 3)):
        out = tmp_path / f"{number}.mp4"
        done = ssimrdo("encode", tmp_path / "ct", "-o", out, "--series", number)
        assert done.status == 0
        assert len(frames_of(out)) == count
    assert len(load_volume(tmp_path / "ct", series_uid="2")) == 3
    done = ssimrdo("inspect", tmp_path / "ct", "-o", tmp_path / "a.png", "--series", "2", "--json")
    assert json.loads(done.out)["slices"] == 3
    for wrong in ("0", "3", "99999"):
        done = ssimrdo("encode", tmp_path / "ct", "-o", tmp_path / "x.mp4", "--series", wrong)
        assert done.status == 2
        assert f"--series: {tmp_path}/ct: there is no series {wrong}, only 1 to 2\n" in done.err


# Phases


@pytest.mark.parametrize("keyword", PHASES)
def test_phases_are_listed_and_chosen_by_number(ssimrdo, tmp_path, keyword):
    values, names = PHASES[keyword]
    write_phases(tmp_path / "ct", keyword, values)
    rows = listed(ssimrdo, tmp_path / "ct")["series"]
    assert [(row["phase"], row["slices"]) for row in rows] == [(name, 4) for name in names]
    assert [row["spacing"]["repeated"] for row in rows] == [0, 0]
    for number, offset in (("1", 0), ("2", 100)):
        series, _ = open_series(tmp_path / "ct", series_uid=number)
        assert series.phase == names[int(number) - 1]
        np.testing.assert_array_equal([load_hu(one) for one in series.slices], HU + offset)


def test_phases_are_refused_without_a_choice_and_all_taken_by_uid(tmp_path, caplog):
    write_phases(tmp_path)
    with pytest.raises(SeveralSeriesError) as caught:
        open_series(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds a series of 2 phases: 1: acquisition 3 (4 slices), 2: acquisition 5 "
        "(4 slices): choose one with series_uid by its number, or all with the UID of the series"
    )
    assert not caplog.records
    series, _ = open_series(tmp_path, series_uid=SERIES_UID)
    assert len(series) == 8
    assert "2 phases one behind another: 1: acquisition 3 (4 slices), 2" in caplog.text


def test_repeated_positions_without_a_key_are_no_phases(tmp_path):
    write_phases(tmp_path, "SliceThickness", (2, 2))
    series, _ = open_series(tmp_path)
    assert (len(series), series.phase) == (8, "")


def test_numbers_go_on_over_series_with_phases(tmp_path):
    write_phases(tmp_path / "a", SeriesInstanceUID="1.2.2")
    for number in (1, 3):
        write_series(tmp_path / f"{number}", HU[:number], SeriesInstanceUID=f"1.2.{number}")
    rows = rows_of(find_series(tmp_path).series)
    assert [(row.uid, row.phase, len(row)) for row in rows] == [
        ("1.2.1", "", 1),
        ("1.2.2", "acquisition 3", 4),
        ("1.2.2", "acquisition 5", 4),
        ("1.2.3", "", 3),
    ]
    with pytest.raises(InputError, match="holds 3 CT series"):
        open_series(tmp_path)
    for number, row in enumerate(rows, start=1):
        assert open_series(tmp_path, series_uid=str(number))[0] == row


def test_phases_in_one_enhanced_file(tmp_path):
    stored = (np.concatenate([HU, HU + 50]) + 1024).astype(np.uint16)
    positions = np.array([(0, 0, 2.0 * index) for index in (*range(4), *range(4))])
    frames = {"FrameContentSequence.TemporalPositionIndex": [1] * 4 + [2] * 4}
    save(tmp_path / "a.dcm", enhanced_dataset(stored, positions, frames=frames))
    with pytest.raises(SeveralSeriesError, match="temporal position 1"):
        open_series(tmp_path)
    series, _ = open_series(tmp_path, series_uid="2")
    np.testing.assert_array_equal([load_hu(one) for one in series.slices], HU + 50)


def test_a_damaged_file_of_a_numbered_series_refuses_it_alone(tmp_path):
    for number in (1, 2):
        write_series(tmp_path / f"{number}", HU, SeriesInstanceUID=f"1.2.{number}")
    path = tmp_path / "2" / "0001.dcm"
    path.write_bytes(path.read_bytes()[:-50])
    assert len(open_series(tmp_path, series_uid="1")[0]) == 4
    with pytest.raises(InputError, match="cut off"):
        open_series(tmp_path, series_uid="2")
    assert len(open_series(tmp_path, series_uid="2", skip_bad=True)[0]) == 3


# Kernels


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        *(
            (one, "soft")
            for one in ("B30f", "Br40d\\3", "I31f", "H20s", "STANDARD", "Soft", "STD+")
        ),
        *((one, "soft") for one in ("A", "B", "UB", "IA", "FC08", "FC21", "FC13-H")),
        *(
            (one, "sharp")
            for one in ("B70f", "Bl57d", "H60s", "Hr60", "U90u", "BONE", "LUNG", "EDGE")
        ),
        *((one, "sharp") for one in ("D", "L", "UC", "YC", "FC30", "FC51", "FC81", "BONEPLUS")),
        *((one, "") for one in ("", "?", CANARY, "Q", "FC", "B3", "12", "DETAIL")),
    ],
)
def test_kernels_have_classes(kernel, expected):
    assert kernel_class(kernel) == expected


def test_the_group_of_an_enhanced_object_counts():
    assert kernel_class("anything", "LUNG") == kernel_class("B30f", "BONE") == "sharp"
    assert kernel_class("B70f", "SOFT_TISSUE") == kernel_class("", "BRAIN") == "soft"
    assert kernel_class("B70f", "CONSTANT_Q") == "sharp"
