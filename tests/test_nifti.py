"""NIfTI and NumPy files as SERIES: HU, spacing and orientation, and files that are damaged."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from video_files import ct_volume

import ssimrdo
from ssimrdo.errors import InputError, SeveralSeriesError
from ssimrdo.volumes import open_volume

nibabel: Any = import_module("nibabel")
HU = ct_volume(5, 24, 32, seed=2).astype(np.int16)
SPACING = (0.75, 0.5)
# Stored from right to left, from front to back and from feet to head, as scanners do: in NIfTI's
# coordinates, R and A are negative.
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
BOTH = pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])


def write_nifti(path, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(HU.transpose(2, 1, 0), affine), path)
    return path


def slices_of(volume):
    return np.stack(list(volume.hu))


@BOTH
@pytest.mark.parametrize("tilt", [0, 20])
def test_slices_lie_where_nibabel_says(tmp_path, suffix, tilt):
    angle = np.radians(tilt)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    path = write_nifti(tmp_path / f"a{suffix}", turn @ AFFINE)
    affine = nibabel.load(path).affine
    volume = open_volume(path)
    np.testing.assert_array_equal(slices_of(volume), HU)
    geometry = volume.geometry
    assert geometry.pixel_spacing_mm == pytest.approx(SPACING)
    row, column = np.array(geometry.orientation).reshape(2, 3)
    for index, position in enumerate(geometry.positions_mm):
        for x, y in ((0, 0), (31, 0), (0, 23), (17, 11)):
            # A voxel of NIfTI, in DICOM's coordinates.
            expected = nibabel.affines.apply_affine(affine, (x, y, index)) * (-1, -1, 1)
            found = np.array(position) + row * x * SPACING[1] + column * y * SPACING[0]
            np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.diff(geometry.along_mm) == pytest.approx([2.5] * 4)
    assert geometry.thickness_mm == pytest.approx(2.5)


@pytest.mark.parametrize("flips", [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_every_orientation_gives_the_same_slices(tmp_path, axes, flips):
    # The values stay where they are in the patient, however the file has them stored.
    stored = HU.transpose(2, 1, 0)
    expected = nibabel.Nifti1Image(stored, AFFINE)
    flip = [1 - 2 * flips[axis] for axis in range(3)]
    ornt = np.array([(axes.index(axis), flip[axis]) for axis in range(3)], float)
    nibabel.save(expected.as_reoriented(ornt), tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(slices_of(volume), HU)
    assert volume.geometry.pixel_spacing_mm == pytest.approx(SPACING)
    assert volume.geometry.orientation == pytest.approx((1, 0, 0, 0, 1, 0))
    assert volume.geometry.positions_mm[0] == pytest.approx((-10, 20, 30), abs=1e-4)


def test_scale_and_units_count(tmp_path):
    image = nibabel.Nifti1Image(
        HU.transpose(2, 1, 0).astype(np.uint8), np.diag([-5e-4, -5e-4, 1e-3, 1])
    )
    image.header.set_slope_inter(2.0, -1024.0)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    expected = nibabel.load(tmp_path / "a.nii").get_fdata().transpose(2, 1, 0)
    np.testing.assert_allclose(slices_of(volume), expected, atol=1e-3)
    assert volume.geometry.pixel_spacing_mm == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_four_dimensions_are_volumes_to_choose_from(tmp_path, kind):
    stored = np.stack([HU.transpose(2, 1, 0), HU.transpose(2, 1, 0) + 100], axis=3)
    nibabel.save(kind(stored, np.diag([-0.5, -0.75, 2.5, 1])), tmp_path / "a.nii")
    with pytest.raises(SeveralSeriesError, match="holds 2 volumes"):
        open_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(slices_of(open_volume(tmp_path / "a.nii", "2")), HU + 100)
    for wrong in ("0", "3", "1.2.3"):
        with pytest.raises(InputError, match="there are volumes 1 to 2"):
            open_volume(tmp_path / "a.nii", wrong)


def test_a_file_without_orientation_is_warned_of(tmp_path, caplog):
    image = nibabel.Nifti1Image(HU.transpose(2, 1, 0), None)
    image.header["pixdim"][1:4] = (0.5, 0.75, 2.5)
    nibabel.save(image, tmp_path / "a.nii")
    found = nibabel.load(tmp_path / "a.nii").header
    assert (int(found["qform_code"]), int(found["sform_code"])) == (0, 0)
    open_volume(tmp_path / "a.nii")
    assert "has no orientation" in caplog.text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".npy", ".npz"])
def test_encodes_are_those_of_the_same_series_in_dicom(tmp_path, suffix):
    write_series(tmp_path / "ct", HU, step=(0, 0, 2.5), PixelSpacing=list(SPACING))
    path = tmp_path / f"a{suffix}"
    if suffix.startswith(".nii"):
        write_nifti(path)
    elif suffix == ".npy":
        np.save(path, HU)
    else:
        np.savez_compressed(path, hu=HU, pixel_spacing_mm=SPACING, positions_mm=np.arange(5) * 2.5)
    options = {"effort": "fast", "threads": 1, "window": "soft-tissue"}
    result = ssimrdo.encode(path, tmp_path / "a.h264", **options)
    if suffix == ".npy":
        assert result.frames == 5
        return
    ssimrdo.encode(tmp_path / "ct", tmp_path / "b.h264", **options)
    assert (tmp_path / "a.h264").read_bytes() == (tmp_path / "b.h264").read_bytes()
    sidecar = json.loads((tmp_path / "a.json").read_text())
    assert sidecar["geometry"]["pixel_spacing_mm"] == pytest.approx(SPACING)
    assert sidecar["spacing"]["step_mm"] == pytest.approx(2.5)
    assert (sidecar["ct"] is None) is (suffix == ".npz")


def test_messages_name_the_file_and_it_is_not_overwritten(tmp_path):
    np.save(tmp_path / "a.npy", HU.astype(float) * np.nan)
    with pytest.raises(InputError, match="no finite numbers"):
        ssimrdo.encode(tmp_path / "a.npy", tmp_path / "a.mp4", window="lung")


# Damage


def refused(path, match=None):
    with pytest.raises(InputError, match=match) as caught:
        slices_of(open_volume(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def nifti_bytes(**fields):
    image = nibabel.Nifti1Image(HU.transpose(2, 1, 0), np.diag([-0.5, -0.75, 2.5, 1]))
    stream = image.to_bytes()
    header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(stream[:352]), check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + stream[348:]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "cut off|more than 100 times"),
        ({"dim": [7] + [32767] * 7}, "is not a volume"),
        ({"dim": [3, -5, 24, 5, 1, 1, 1, 1]}, "is not a volume"),
        ({"dim": [2, 32, 24, 5, 1, 1, 1, 1]}, "is not a volume"),
        ({"dim": [-1] * 8}, "damaged|not a volume"),
        ({"datatype": 9999}, "its header is damaged"),
        ({"datatype": 128}, "no plain numbers"),
        ({"datatype": 32}, "no plain numbers|cut off"),
        ({"vox_offset": -4}, "its header is damaged"),
        ({"vox_offset": np.nan}, "its header is damaged"),
        ({"vox_offset": 1e20}, "its header is damaged"),
        ({"srow_x": [0, 0, 0, 0]}, "where the slices lie"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "where the slices lie"),
        ({"srow_x": [1e30, 0, 0, 0]}, "are none"),
        ({"srow_x": [-0.5, -0.7, 0, 0]}, "right angles"),
        ({"scl_slope": 1e30}, "its scale is damaged"),
        ({"magic": b"ni1\0"}, "is not a NIfTI file, or is one of a pair"),
    ],
)
def test_headers_that_are_wrong_are_told(tmp_path, fields, match):
    data = nifti_bytes(**fields)
    (tmp_path / "a.nii").write_bytes(data)
    refused(tmp_path / "a.nii", match)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data))
    refused(tmp_path / "a.nii.gz", match)


@BOTH
def test_files_that_are_cut_off_are_told(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_nifti(path)
    data = path.read_bytes()
    for size in (0, 100, 350, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:size])
        refused(path)


def test_a_bomb_is_refused_by_what_its_header_says(tmp_path):
    header = nifti_bytes(dim=[3, 4096, 4096, 1000, 1, 1, 1, 1])[:352]
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header + bytes(1 << 20)))
    refused(tmp_path / "a.nii.gz", "holds more than 100 times its own size")


def npy(array=HU, **header):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    if header:
        fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, fields)
        stream.write(array.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (npy(HU[0]), "not shape"),
        (npy(HU[:0]), "not shape|no array"),
        (npy(HU.astype(complex)), "are neither"),
        (npy(np.array([[["a"]]])), "are neither"),
        (npy(np.array([[[{}]]], object)), "is not a NumPy array"),
        (npy(shape=(100_000, 65535, 65535)), "is not a NumPy array"),
        (npy(shape=(5, 24, -32)), "is not a NumPy array"),
        (npy()[:-1], "is not a NumPy array"),
        (npy()[:20], "is not a NumPy array"),
        (b"", "is not a NumPy array"),
        (b"PK\3\4", "is not a NumPy array"),
    ],
)
def test_arrays_that_are_none_are_told(tmp_path, data, match):
    (tmp_path / "a.npy").write_bytes(data)
    refused(tmp_path / "a.npy", match)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("hu.npy", data)
    refused(tmp_path / "a.npz", match)


def test_archives_of_arrays_have_bounds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("hu.npy", npy() + bytes(80 << 20))
    refused(tmp_path / "a.npz", "more than may be extracted")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("hu.npy", npy())
        out.writestr("positions_mm.npy", npy(shape=(1 << 40,)) + bytes(2 << 20))
    refused(tmp_path / "a.npz", "more than may be extracted")
    np.savez(tmp_path / "a.npz", one=HU, two=HU)
    refused(tmp_path / "a.npz", "has no array called hu")
    np.savez(tmp_path / "a.npz", one=HU)
    np.testing.assert_array_equal(slices_of(open_volume(tmp_path / "a.npz")), HU)
    for text in (b"", b"PK\5\6" + bytes(18), b"PK\3\4" + bytes(40)):
        (tmp_path / "a.npz").write_bytes(text)
        refused(tmp_path / "a.npz")
