from __future__ import annotations

import os
import signal
import time

import fsspec
import numpy as np
import pytest
from dicom_files import CANARY, write_series, write_slice
from fsspec.implementations.local import LocalFileSystem
from fuzz_dicom import ct_slice, dicom, item, sequence, text
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from video_files import ct_volume

from ssimrdo.batch.discover import Chunk, discover, read_memberships
from ssimrdo.batch.names import Names, check_template
from ssimrdo.batch.plan import jobs_of_found
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.batch.store import store_of
from ssimrdo.dicom.read.header import BadFile, Membership, SkippedFile, read_header, read_membership
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.executors import InProcess, LocalExecutor

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
    # Outputs may go beside the root as well.
    founds = discover(store_of(tmp_path / "a"), InProcess(), leave_out=tmp_path)
    assert [found.folder for found in founds] == [str(tmp_path / "a")]


def found_folders(root, executor):
    founds = discover(store_of(root), executor)
    return [(found.folder.rpartition("/")[2], found.slices, found.uid) for found in founds]


def three_folders(root, count=3):
    """Write a folder of one series, one with a file more, "odd.dcm", and another of one series."""
    for number, name in enumerate("abc"):
        write_series(root / name, ct_volume(count, 16, 16), SeriesInstanceUID=f"1.2.{number}")
    write_slice(root / "b/odd.dcm", PIXELS, SeriesInstanceUID="1.2.1")


# Functions that workers run; they are found by name in this module.


def die_of_the_odd_file(chunk: Chunk):
    if "odd.dcm" in chunk.names:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_memberships(chunk)


def hang_over_many_files(chunk: Chunk):
    if len(chunk.names) > 3 or "odd.dcm" in chunk.names:
        time.sleep(600)
    return read_memberships(chunk)


def not_this_chunk(_: Chunk):
    raise ValueError(CANARY)


class Instead(LocalExecutor):
    """Workers that run another function."""

    function = None

    def submit(self, function, /, *arguments):
        assert function is read_memberships
        return super().submit(type(self).function, *arguments)


def instead(function):
    return type("Instead", (Instead,), {"function": staticmethod(function)})


@pytest.mark.parametrize(
    ("function", "timeout_s"), [(die_of_the_odd_file, None), (hang_over_many_files, 2.0)]
)
def test_file_that_costs_a_worker_may_be_a_damaged_slice_and_all_others_are_found(
    tmp_path, function, timeout_s
):
    three_folders(tmp_path)
    executor = instead(function)(2, timeout_s=timeout_s)
    try:
        founds = discover(store_of(tmp_path), executor)
    finally:
        executor.stop()
    assert [(found.uid, found.slices) for found in founds] == [
        ("1.2.0", 3),
        ("1.2.1", 3),
        ("1.2.2", 3),
    ]
    # The encode will meet it, and say so.
    assert founds[1].files is None


def test_error_of_all_workers_ends_the_search_in_one_line_without_its_message(tmp_path):
    three_folders(tmp_path)
    executor = instead(not_this_chunk)(1)
    try:
        with pytest.raises(SsimrdoError, match="unexpected ValueError") as caught:
            discover(store_of(tmp_path), executor)
    finally:
        executor.stop()
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)


class OddFileSystem(LocalFileSystem):
    """Fails at one file with an error that nobody expects."""

    protocol = "odd"

    def _open(self, path, *arguments, **options):
        if path.endswith("odd.dcm"):
            raise LookupError(CANARY)
        return super()._open(path, *arguments, **options)


def test_whatever_a_store_does_at_one_file_the_others_are_found(tmp_path):
    fsspec.register_implementation("odd", OddFileSystem, clobber=True)
    three_folders(tmp_path)
    assert found_folders(f"odd://{tmp_path}", InProcess()) == [
        ("a", 3, "1.2.0"),
        ("b", 3, "1.2.1"),
        ("c", 3, "1.2.2"),
    ]


@pytest.mark.parametrize(
    ("tag", "element"),
    [
        (0x0020000E, sequence(item(b"", undefined=True), undefined=True)),
        (0x0020000E, text("UT", "1" * 5000)),
        (0x00200011, text("UT", "1" * 5000)),
        (0x0020000D, sequence(item(b"\xff" * 7), vr="UN")),
        (0x00080018, sequence(item(b"", undefined=True), undefined=True)),
    ],
)
def test_hostile_membership_is_of_its_folder_alone(tmp_path, tag, element):
    for number, name in enumerate("abc"):
        write_series(tmp_path / name, VOLUME, SeriesInstanceUID=f"1.2.{number}")
    odd = {**ct_slice(PIXELS, series="1.2.1"), tag: element}
    (tmp_path / "b/odd.dcm").write_bytes(dicom(odd))
    founds = discover(store_of(tmp_path), InProcess())
    assert [found.uid for found in founds] == ["1.2.0", "1.2.1", "1.2.2"]
    assert founds[1].files is None
