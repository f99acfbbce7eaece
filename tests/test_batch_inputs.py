"""What a batch takes for series beside folders of slices: phases, archives, file sets, volumes."""

from __future__ import annotations

import gzip
import logging
import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dicom_files import write_series, write_slice
from enhanced_files import enhanced_dataset, save
from test_archives import media, packed  # noqa: F401
from test_list import write_phases
from test_nifti import write_nifti
from video_files import ct_volume

from ssimrdo.batch import BatchSettings, dry_run, read_results, run
from ssimrdo.batch.discover import discover
from ssimrdo.batch.store import store_of
from ssimrdo.encoding.encode import encode
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.executors import InProcess

if TYPE_CHECKING:
    from pathlib import Path

HU = ct_volume(4, 32, 48)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run_in(root, out, **settings):
    return run(root, out, BatchSettings(**settings), executor=InProcess()).totals


def made(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.mp4"))


def alone(series: Path, number: str | None, tmp_path: Path) -> bytes:
    """Return the bytes of an encode of one series."""
    path = tmp_path / "alone.mp4"
    encode(series, path, EncodeSettings(threads=1), series_uid=number, overwrite=True)
    return path.read_bytes()


def test_phases_give_an_output_each(root, out, tmp_path):
    write_phases(root / "heart")
    write_series(root / "plain", HU, SeriesInstanceUID="1.2.9")
    assert run_in(root, out).encoded == 3
    assert made(out) == ["heart-acquisition-3.mp4", "heart-acquisition-5.mp4", "plain.mp4"]
    for number, value in (("1", 3), ("2", 5)):
        expected = alone(root / "heart", number, tmp_path)
        assert (out / f"heart-acquisition-{value}.mp4").read_bytes() == expected
    assert {record.series for record in read_results(out)} == {
        "heart, acquisition 3",
        "heart, acquisition 5",
        "plain",
    }
    # What the files hold is counted once.
    files = sum(path.stat().st_size for path in (root / "heart").iterdir())
    shares = [one.input_bytes for one in read_results(out) if one.series.startswith("heart")]
    assert sum(shares) == files
    assert run_in(root, out).done_before == 3


def test_phases_in_folders_of_their_own_are_phases(root, out):
    for number in (1, 2):
        write_series(root / f"{number}", HU, AcquisitionNumber=number)
    assert run_in(root, out).encoded == 2
    names = made(out)
    assert [name.rpartition("-acquisition-")[2] for name in names] == ["1.mp4", "2.mp4"]


def test_repeated_positions_that_nothing_tells_apart_are_one_output(root, out):
    write_phases(root / "a", keyword="SeriesDescription", values=("x", "x"))
    run_in(root, out)
    assert [record.output for record in read_results(out)] == ["a.mp4"]


def test_phases_of_enhanced_files(root, out, tmp_path):
    stored = (np.concatenate([HU, HU + 50]) + 1024).astype(np.uint16)
    positions = np.array([(0, 0, 2.0 * index) for index in (*range(4), *range(4))])
    frames = {"FrameContentSequence.TemporalPositionIndex": [1] * 4 + [2] * 4}
    save(root / "e/a.dcm", enhanced_dataset(stored, positions, frames=frames))
    assert run_in(root, out).encoded == 2
    assert made(out) == ["e-temporal-position-1.mp4", "e-temporal-position-2.mp4"]
    second = (out / "e-temporal-position-2.mp4").read_bytes()
    assert second == alone(root / "e/a.dcm", "2", tmp_path)
    assert all(record.slices == 4 for record in read_results(out))


def test_phases_have_a_field_in_templates(root, out):
    write_phases(root / "heart")
    run_in(root, out, name_template="{uid_hash}/{phase}")
    assert [name.partition("/")[2] for name in made(out)] == [
        "acquisition-3.mp4",
        "acquisition-5.mp4",
    ]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_archives_are_series(root, out, tmp_path, suffix):
    write_series(tmp_path / "ct/a", HU)
    root.mkdir()
    kind = {".tgz": ".tar.gz"}.get(suffix, suffix)
    path = packed(tmp_path / "ct", tmp_path / f"one{kind}").rename(root / f"one{suffix}")
    assert run_in(root, out).encoded == 1
    assert made(out) == [f"one{suffix}.mp4"]
    assert (out / f"one{suffix}.mp4").read_bytes() == alone(tmp_path / "ct", None, tmp_path)
    (record,) = read_results(out)
    assert (record.series, record.input_bytes) == (path.name, path.stat().st_size)
    assert run_in(root, out).done_before == 1
    write_series(tmp_path / "ct/a", HU + 5)
    packed(tmp_path / "ct", tmp_path / f"one{kind}").rename(path)
    assert dry_run(root, out, executor=InProcess())[0].todo[0].why == "input changed"


def test_series_of_an_archive_give_an_output_each(root, out, tmp_path):
    for number in (1, 2):
        write_series(
            tmp_path / f"ct/{number}",
            ct_volume(number + 1, 32, 48, seed=number),
            SeriesInstanceUID=f"1.2.3.{number}",
            StudyInstanceUID="1.2",
            SeriesNumber=number,
        )
    write_phases(tmp_path / "ct/3", SeriesInstanceUID="1.2.3.3")
    root.mkdir()
    packed(tmp_path / "ct", root / "study.zip")
    settings = {"name_template": "{study_hash}/{series_number}{phase}"}
    assert run_in(root, out, **settings).encoded == 4
    records = {record.output.partition("/")[2]: record for record in read_results(out)}
    assert records["1.mp4"].slices == 2
    assert records["2.mp4"].slices == 3
    assert len(records) == 4
    size = (root / "study.zip").stat().st_size
    assert sum(record.input_bytes for record in records.values()) == pytest.approx(size, abs=2)
    assert run_in(root, out, **settings).done_before == 4
    run_in(root, out.with_name("mirrored"))
    names = made(out.with_name("mirrored"))
    assert all(name.startswith("study.zip-") for name in names)
    assert sum("-acquisition-" in name for name in names) == 2


def test_archives_without_ct_are_no_series_and_broken_ones_fail(root, out):
    write_series(root / "a", HU)
    with zipfile.ZipFile(root / "texts.zip", "w") as texts:
        texts.writestr("a.txt", "text")
    with tarfile.open(root / "empty.tar", "w"):
        pass
    (root / "a/table.tar.gz").write_bytes(gzip.compress(b"not a tar"))
    (root / "broken.zip").write_bytes(b"PK\3\4" + bytes(100))
    totals = run_in(root, out)
    assert (totals.encoded, totals.failed) == (1, 2)
    reasons = {record.series: record.reason for record in read_results(out)}
    assert "is no zip or tar archive" in reasons["broken.zip"].replace("not a", "no")
    assert set(reasons) == {"a", "a/table.tar.gz", "broken.zip"}


def test_a_damaged_slice_in_an_archive_is_left_out_when_asked(root, out, tmp_path):
    paths = write_series(tmp_path / "ct", HU)
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    root.mkdir()
    packed(tmp_path / "ct", root / "one.zip")
    assert run_in(root, out).failed == 1
    (record,) = read_results(out)
    assert record.reason.startswith("one.zip/")
    assert run_in(root, out, skip_bad=True).encoded == 1
    assert next(iter(read_results(out))).slices == 3


def test_a_root_may_be_an_archive_or_a_file_set(out, tmp_path, media):  # noqa: F811
    packed(tmp_path / "ct", tmp_path / "one.zip")
    assert run_in(tmp_path / "one.zip", out).encoded == 1
    assert made(out) == ["one.zip.mp4"]
    (media.parent / "other.dcm").write_bytes(b"")
    assert run_in(media, tmp_path / "of-set").encoded == 1
    (name,) = made(tmp_path / "of-set")
    assert name == "media.mp4"
    # Below a root the files are found anyway, once.
    (media.parent / "other.dcm").unlink()
    assert run_in(media.parent, tmp_path / "below").encoded == 1


def test_volumes_are_taken_when_asked(root, out, tmp_path, caplog):
    write_series(root / "ct", HU)
    write_nifti(root / "ct/a.nii.gz")
    np.save(root / "b.npy", HU)
    with caplog.at_level(logging.WARNING):
        assert run_in(root, out).encoded == 1
    assert "files of NIfTI or NumPy are left out (2)" in caplog.text
    assert run_in(root, out, volumes=True).encoded == 2
    assert made(out) == ["b.npy.mp4", "ct.mp4", "ct/a.nii.gz.mp4"]
    assert (out / "b.npy.mp4").read_bytes() == alone(root / "b.npy", None, tmp_path)


def test_every_volume_of_a_file_gives_an_output(root, out, tmp_path):
    import nibabel

    root.mkdir()
    series = np.stack([HU, HU + 9]).astype(np.int16).transpose(3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(series, np.eye(4)), root / "t.nii")
    assert run_in(root, out, volumes=True).encoded == 2
    assert made(out) == ["t.nii-volume-1.mp4", "t.nii-volume-2.mp4"]
    assert (out / "t.nii-volume-2.mp4").read_bytes() == alone(root / "t.nii", "2", tmp_path)


def test_archives_and_phases_of_a_store(root, out, tmp_path):
    import fsspec

    write_series(tmp_path / "ct", HU, SeriesInstanceUID="1.2.9")
    write_phases(root / "heart")
    packed(tmp_path / "ct", root / "one.zip")
    store = fsspec.filesystem("memory")
    store.put(f"{root}/", "/phases/in/", recursive=True)
    run_in("memory://phases/in", out)
    store.rm("/phases", recursive=True)
    assert made(out) == ["heart-acquisition-3.mp4", "heart-acquisition-5.mp4", "one.zip.mp4"]
    assert (out / "one.zip.mp4").read_bytes() == alone(root / "one.zip", None, tmp_path)


def test_a_manifest_names_archives_and_phases(root, out, tmp_path):
    write_phases(root / "heart")
    write_series(tmp_path / "ct", HU, SeriesInstanceUID="1.2.9")
    packed(tmp_path / "ct", root / "one.zip")
    (root / "jobs.csv").write_text("series,series_uid,output\nheart,2,second.mp4\none.zip,,\n")
    run(None, out, manifest=root / "jobs.csv", executor=InProcess())
    assert made(out) == ["one.zip.mp4", "second.mp4"]
    assert (out / "second.mp4").read_bytes() == alone(root / "heart", "2", tmp_path)


def test_only_what_may_be_several_is_looked_into(root, monkeypatch):
    write_series(root / "a", HU)
    write_phases(root / "b", SeriesInstanceUID="1.2.9")
    looked = []

    def look(found):
        looked.append(found.folder)
        return [found]

    monkeypatch.setattr("ssimrdo.batch.discover.look_inside", look)
    discover(store_of(root), InProcess())
    assert looked == [str(root / "b")]


def test_slices_of_one_place_that_are_one_image_are_no_phases(root, out):
    write_series(root / "a", HU)
    write_slice(root / "a/again.dcm", (HU[0] + 1024).astype(np.uint16), SOPInstanceUID="1.2.3.4.5",
                ImagePositionPatient=[0, 0, 0])  # fmt: skip
    run_in(root, out)
    assert [record.output for record in read_results(out)] == ["a.mp4"]
