from __future__ import annotations

import numpy as np
import pytest
from dicom_files import CANARY, write_series, write_slice
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from video_files import ct_volume

from ssimrdo.batch.discover import discover
from ssimrdo.batch.names import Names, check_template
from ssimrdo.batch.plan import jobs_of_found
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.batch.store import store_of
from ssimrdo.dicom.read.header import BadFile, Membership, SkippedFile, read_header, read_membership
from ssimrdo.errors import InputError
from ssimrdo.executors import InProcess

PIXELS = np.zeros((16, 16), np.uint16)
VOLUME = ct_volume(2, 32, 32)


def membership(path):
    with path.open("rb", buffering=0) as stream:
        return read_membership(stream, path.name)


def big_sequence():
    item = Dataset()
    item.ImageComments = "x" * 9000
    return Sequence([item])


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"Modality": "MR"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"SOPClassUID": None},
        {"SeriesInstanceUID": None},
        {"ReferencedStudySequence": big_sequence()},
        {"SeriesNumber": 12, "StudyInstanceUID": None},
    ],
)
def test_membership_agrees_with_the_whole_header(tmp_path, syntax, elements):
    path = write_slice(tmp_path / "a", PIXELS, transfer_syntax=syntax, **elements)
    found, header = membership(path), read_header(path, "a")
    if isinstance(header, BadFile):
        assert isinstance(found, BadFile) or elements == {"SOPClassUID": None}
    elif isinstance(header, SkippedFile):
        assert found == header
    else:
        assert isinstance(found, Membership)
        assert found.series_uid == header.series_uid
        assert found.sop_instance_uid == header.sop_instance_uid
        assert found.series_number == elements.get("SeriesNumber")


@pytest.mark.parametrize("size", [0, 100, 131, 132, 200, 400, 700, 1000])
def test_membership_of_a_file_cut_short_is_that_of_the_header_or_bad(tmp_path, size):
    path = write_slice(tmp_path / "a", PIXELS)
    path.write_bytes(path.read_bytes()[:size])
    found = membership(path)
    if not isinstance(found, SkippedFile):
        # Behind Series Number only an encode notices.
        assert found.series_uid.startswith("1.2.826")
        assert size > 600


def outputs(root, **settings):
    founds = discover(store_of(root), InProcess())
    jobs = jobs_of_found(founds, str(root), "/out", BatchSettings(**settings))
    return {job.output: job for job in jobs}


def test_tree_is_mirrored(tmp_path):
    for number, folder in enumerate(("a/x", "a/y", "b")):
        write_series(tmp_path / folder, VOLUME, SeriesInstanceUID=f"1.2.{number}")
    jobs = outputs(tmp_path)
    assert list(jobs) == ["a/x.mp4", "a/y.mp4", "b.mp4"]
    assert [job.name for job in jobs.values()] == ["a/x", "a/y", "b"]
    # Folders of one series are left to the encode as a whole.
    assert {job.files for job in jobs.values()} == {None}


def test_root_that_is_a_series_is_named_after_its_folder(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    assert list(outputs(tmp_path / "ct")) == ["ct.mp4"]


def test_root_that_is_a_file_is_that_slice_alone(tmp_path):
    path, _ = write_series(tmp_path / "ct", VOLUME)
    (job,) = outputs(path).values()
    assert (job.output, job.files) == ("ct.mp4", (path.name,))


def test_folder_with_several_series_gives_an_output_each(tmp_path):
    for number in (1, 2):
        for path in write_series(tmp_path / "new", VOLUME, SeriesInstanceUID=f"1.2.{number}"):
            (tmp_path / "all").mkdir(exist_ok=True)
            path.rename(tmp_path / "all" / f"{number}-{path.name}")
    write_slice(
        tmp_path / "all/mr.dcm", PIXELS, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"
    )
    (tmp_path / "new").rmdir()
    before = outputs(tmp_path)
    assert len(before) == 2
    assert {len(job.files) for job in before.values()} == {2}
    assert "1.2." not in str([(job.name, job.output) for job in before.values()])
    # A series that comes later changes no name.
    write_slice(tmp_path / "all/third.dcm", PIXELS, SeriesInstanceUID="1.1.1")
    assert set(before) < set(outputs(tmp_path))


def test_damaged_file_counts_for_every_series_of_its_folder(tmp_path):
    write_series(tmp_path / "a", VOLUME)
    write_series(tmp_path / "b", VOLUME, SeriesInstanceUID="1.2.9")
    (tmp_path / "a/deep").mkdir()
    (tmp_path / "a/bad.dcm").write_bytes(b"")
    jobs = outputs(tmp_path)
    assert "bad.dcm" in jobs["a.mp4"].files
    assert jobs["b.mp4"].files is None


def test_folder_of_damaged_files_only_is_not_forgotten(tmp_path):
    write_series(tmp_path / "a", VOLUME)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/1.dcm").write_bytes(b"")
    jobs = outputs(tmp_path)
    assert jobs["b.mp4"].series_uid is None


def test_series_spread_over_folders_is_one_and_copies_are_two(tmp_path):
    paths = write_series(tmp_path / "disk/1", VOLUME, SeriesInstanceUID="1.2.1")
    (tmp_path / "disk/2").mkdir()
    paths[0].rename(tmp_path / "disk/2/x.dcm")
    for path in write_series(tmp_path / "copy/1", VOLUME, SeriesInstanceUID="1.2.2"):
        (tmp_path / "copy/2").mkdir(exist_ok=True)
        (tmp_path / "copy/2" / path.name).write_bytes(path.read_bytes())
    jobs = outputs(tmp_path)
    assert sorted(name for name in jobs if name.startswith("copy")) == ["copy/1.mp4", "copy/2.mp4"]
    (spread,) = (job for name, job in jobs.items() if name.startswith("disk"))
    assert sorted(spread.files) == sorted([f"1/{paths[1].name}", "2/x.dcm"])


def test_template_with_safe_fields_and_collisions(tmp_path):
    for number in (1, 2, 3):
        write_series(
            tmp_path / f"{number}",
            VOLUME,
            SeriesInstanceUID=f"1.2.{number}",
            SeriesNumber=min(number, 2),
        )
    jobs = outputs(tmp_path, name_template="{study_hash}/ct-{series_number:03d}")
    assert [name.split("/")[1] for name in jobs] == ["ct-001.mp4", "ct-002.mp4", "ct-002-2.mp4"]
    assert CANARY not in str(list(jobs))


@pytest.mark.parametrize(
    "template",
    [
        "{PatientName}",
        "{patient_id}",
        "{index.__class__}",
        "{index!r}",
        "{index:{slices}}",
        "{}",
        "{0}",
        "{index",
        "../{index}",
        "/abs/{index}",
        "",
        "{folder:d}",
        "x/",
    ],
)
def test_unsafe_template_is_refused(template):
    with pytest.raises(InputError) as caught:
        check_template(template)
    assert caught.value.field == "name_template"
    assert "\n" not in str(caught.value)


def test_refusal_lists_the_safe_fields():
    with pytest.raises(InputError, match=r"\{PatientName\} is no safe field: use .*\{uid_hash\}"):
        check_template("{PatientName}")


@pytest.mark.parametrize(
    ("name", "output"),
    [
        (".hidden", "_hidden.mp4"),
        ("-x", "_x.mp4"),
        ("a:b/c*d", "a_b/c_d.mp4"),
        ("../../etc", "etc.mp4"),
        ("/abs", "abs.mp4"),
    ],
)
def test_names_stay_below_the_output_folder(name, output):
    assert Names(".mp4").take(name) == output


def test_long_names_stay_apart():
    names = Names(".mp4")
    taken = {names.take("x" * 250 + end) for end in "ab"}
    assert len(taken) == 2
    assert all(len(name.encode()) < 240 for name in taken)


def test_names_differ_where_case_is_folded():
    names = Names(".mp4")
    assert [names.take("CT"), names.take("ct")] == ["CT.mp4", "ct-2.mp4"]


def test_hidden_and_left_out_folders_are_not_searched(tmp_path):
    write_series(tmp_path / "a", VOLUME)
    write_series(tmp_path / ".b", VOLUME)
    write_series(tmp_path / "out/c", VOLUME)
    founds = discover(store_of(tmp_path), InProcess(), leave_out=tmp_path / "out")
    assert [found.folder for found in founds] == [str(tmp_path / "a")]
