"""What SERIES may be, for encode, metrics and inspect alike."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from numpy.testing import assert_array_equal
from test_archives import file_set
from video_files import ct_volume, run_command, windowed

import ssimrdo
from ssimrdo.errors import InputError
from ssimrdo.inspection import inspect_slice
from ssimrdo.measurement import measure
from ssimrdo.volumes import open_volume

nibabel: Any = import_module("nibabel")
HU = ct_volume(5, 48, 64, seed=2).astype(np.int16)
OTHER = ct_volume(5, 48, 64, seed=9).astype(np.int16)
POSITIONS = 2.5 * np.arange(5)
AFFINE = np.diag([-0.5, -0.5, 2.5, 1])


def nifti(path, *volumes):
    stored = np.stack([one.transpose(2, 1, 0) for one in volumes], axis=-1)
    nibabel.save(nibabel.Nifti1Image(stored if len(volumes) > 1 else stored[..., 0], AFFINE), path)
    return path


def folder(path, hu=HU, **more):
    write_series(path, hu, step=(0, 0, 2.5), PatientID="1", **more)
    return path


def phases(path):
    # Slices that lie where others lie, of another acquisition.
    folder(path / "a", AcquisitionNumber=1)
    folder(path / "b", OTHER, AcquisitionNumber=2)
    return path


def dicomdir(path):
    dated = {"StudyDate": "20200101", "StudyTime": "120000", "StudyID": "1", "SeriesNumber": 1}
    return file_set(path / "set", folder(path / "in", **dated))


def numpy_file(path):
    np.savez(path, hu=HU, positions_mm=POSITIONS, pixel_spacing_mm=(0.5, 0.5))
    return path


def plain(path):
    np.save(path, HU)
    return path


def archived(path, kind):
    return shutil.make_archive(path / "x", kind, folder(path / "in"))


# What is given, and the number of a series where there are several.
SOURCES = {
    "NIfTI": (lambda path: nifti(path / "a.nii.gz", HU), None),
    "NIfTI of two volumes": (lambda path: nifti(path / "a.nii", OTHER, HU), "2"),
    "NumPy": (lambda path: plain(path / "a.npy"), None),
    "NumPy with positions": (lambda path: numpy_file(path / "a.npz"), None),
    "zip": (lambda path: archived(path, "zip"), None),
    "tar": (lambda path: archived(path, "gztar"), None),
    "DICOMDIR": (dicomdir, None),
    "phase": (phases, "1"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_all_that_is_encoded_is_measured_and_inspected(name, tmp_path, capfd):
    make, number = SOURCES[name]
    source, video = make(tmp_path), tmp_path / "out.mkv"
    chosen = {"series_uid": number}
    result = ssimrdo.encode(source, video, window="40/400", effort="fast", **chosen)
    found = measure(source, video, "ssim", **chosen)
    assert found.summary["ssim"].mean == pytest.approx(result.ssim.mean, abs=1e-9)
    assert found.tissue.as_dict() == result.tissue.as_dict()
    by = "order" if name == "NumPy" else "position"
    assert found.matched_by == by
    seen = inspect_slice(source, number=3, window="40/400", **chosen)
    assert_array_equal(seen.luma, windowed(HU[2]))
    series = [] if number is None else ["--series", number]
    done = run_command(capfd, "metrics", source, video, "--json", *series)
    assert done.status == 0, done.err
    assert json.loads(done.out)["reference"] == str(source)
    page = tmp_path / "maps.html"
    done = run_command(
        capfd, "inspect", source, "-o", page, "--encode", video, "--slice", 3, "--json", *series
    )
    assert done.status == 0, done.err
    assert json.loads(done.out)["tissue"]["errors"]["body"]["samples"] > 0


def test_volumes_are_compared_with_series(tmp_path):
    path = nifti(tmp_path / "a.nii", HU)
    for pair in ((path, folder(tmp_path / "ct")), (open_volume(path), plain(tmp_path / "a.npy"))):
        found = measure(*pair, "ssim", window="40/400")
        assert found.summary["ssim"].mean == 1


def test_no_output_replaces_a_volume(tmp_path, capfd):
    path = plain(tmp_path / "a.npy")
    before = path.read_bytes()
    link = tmp_path / "b.csv"
    link.symlink_to(path)
    done = run_command(
        capfd, "metrics", path, path, "-o", link, "--window", "40/400", "--overwrite"
    )
    assert done.status == 2
    assert path.read_bytes() == before


def test_several_volumes_have_to_be_told_apart(tmp_path):
    path = nifti(tmp_path / "a.nii", HU, OTHER)
    with pytest.raises(InputError, match="volumes"):
        measure(path, path)
    with pytest.raises(InputError, match="volumes"):
        inspect_slice(path)
