from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dicom_files import write_series, write_slice
from numpy.testing import assert_allclose, assert_array_equal

from ssimrdo.dicom import Series, SliceHeader, find_series, load_hu, open_series
from ssimrdo.dicom.read.geometry import slice_normal, sort_slices
from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

# pydicom warns about malformed values.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PIXELS = np.zeros((4, 4), np.uint16)
TILT = (1.0, 0.0, 0.0, 0.0, math.cos(0.3), -math.sin(0.3))
VOLUME = np.arange(6 * 4 * 5).reshape(6, 4, 5) - 60


def only_series(folder: Path) -> Series:
    result = find_series(folder)
    assert not result.bad
    assert not result.skipped
    (series,) = result.series
    return series


def positions(series: Series) -> list[float]:
    return [header.position[2] for header in series.slices]


ORIENTATIONS = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 2)),
    "axial, patient prone": ((-1, 0, 0, 0, -1, 0), (0, 0, 2)),
    "axial, feet first": ((-1, 0, 0, 0, 1, 0), (0, 0, -2)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 2, 0)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (-2, 0, 0)),
    # With a tilted gantry the table moves along z, not along the normal.
    "gantry tilt": (TILT, (0, 0, 2)),
    "oblique": ((0.6, 0.8, 0, 0, 0, -1), (-1.6, 1.2, 0)),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_series_is_sorted_along_its_normal(tmp_path: Path, name: str) -> None:
    orientation, step = ORIENTATIONS[name]
    paths = write_series(tmp_path, VOLUME, orientation=orientation, step=step)
    series = only_series(tmp_path)
    assert [header.path for header in series.slices] == paths
    assert_array_equal([load_hu(header) for header in series.slices], VOLUME)


def test_normal_is_right_handed() -> None:
    assert_array_equal(slice_normal((1, 0, 0, 0, 1, 0)), (0, 0, 1))
    assert_array_equal(slice_normal((0, 1, 0, 0, 0, -1)), (-1, 0, 0))
    assert_allclose(slice_normal(TILT), (0, math.sin(0.3), math.cos(0.3)))


def test_orientation_jitter_is_tolerated(tmp_path: Path) -> None:
    for index in range(4):
        jitter = 0.0004 * (-1) ** index
        write_slice(
            tmp_path / f"{index}",
            PIXELS,
            ImagePositionPatient=[-250.0, -250.0, 0.1 * index],
            ImageOrientationPatient=[1.0, jitter, jitter, -jitter, 1.0, jitter],
        )
    series, _ = open_series(tmp_path)
    assert positions(series) == pytest.approx([0, 0.1, 0.2, 0.3])


def write_at(path: Path, z: float, instance: int, **overrides: Any) -> None:
    write_slice(path, PIXELS, ImagePositionPatient=[0, 0, z], InstanceNumber=instance, **overrides)


VOLUME_KEYS = {
    "AcquisitionNumber": [1, 2],
    "TemporalPositionIdentifier": [1, 2],
    "TemporalPositionIndex": [1, 2],
    "NominalPercentageOfCardiacPhase": [5.0, 45.0],
    "TriggerTime": ["80.5", "630"],
    "ContentTime": ["095959.5", "100000"],
}


@pytest.mark.parametrize("keyword", VOLUME_KEYS)
def test_volumes_are_kept_together(tmp_path: Path, keyword: str) -> None:
    # Instance Numbers alternate between the volumes.
    for index, z in enumerate([4, 0, 2]):
        for volume, value in enumerate(VOLUME_KEYS[keyword]):
            name = tmp_path / f"{index}{volume}"
            write_at(name, z, 2 * index - volume + 10, **{keyword: value})
    series = only_series(tmp_path)
    assert positions(series) == [0, 2, 4, 0, 2, 4]
    assert [header.name[1] for header in series.slices] == list("000111")


def test_acquisitions_that_do_not_overlap_stay_in_order_of_position(tmp_path: Path) -> None:
    for index, z in enumerate([0, 2, 4, 6]):
        write_at(tmp_path / f"{index}", z, index, AcquisitionNumber=9 - index // 2)
    assert positions(only_series(tmp_path)) == [0, 2, 4, 6]


def test_time_of_each_slice_makes_no_volumes(tmp_path: Path) -> None:
    for index, z in enumerate([0, 2, 4, 0, 2, 4]):
        write_at(tmp_path / f"{index}", z, 10 - index, ContentTime=f"1000{index:02d}")
    series = only_series(tmp_path)
    assert positions(series) == [0, 0, 2, 2, 4, 4]
    assert [header.name for header in series.slices] == ["3", "0", "4", "1", "5", "2"]


def test_shared_positions_without_a_key_fall_back_to_the_instance(tmp_path: Path) -> None:
    write_at(tmp_path / "a", 0.0004, 1, SOPInstanceUID="1.9")
    write_at(tmp_path / "b", 0.0, 2, SOPInstanceUID="1.8")
    write_at(tmp_path / "c", 0.0002, 1, SOPInstanceUID="1.7")
    write_at(tmp_path / "d", 0.0, 1, SOPInstanceUID="1.6", raw={"InstanceNumber": b"x "})
    write_at(tmp_path / "e", -5, 9)
    series = only_series(tmp_path)
    assert [header.name for header in series.slices] == ["e", "c", "a", "b", "d"]


def test_order_of_the_input_is_irrelevant(tmp_path: Path) -> None:
    for index in range(12):
        write_at(tmp_path / f"{index}", index // 2, index % 3, AcquisitionNumber=index % 5)
    headers: list[SliceHeader] = list(only_series(tmp_path).slices)
    expected = sort_slices(headers)
    for seed in range(20):
        random.Random(seed).shuffle(headers)
        assert sort_slices(headers) == expected


DIFFERENCES = {
    "size": {"Rows": 5, "PixelData": bytes(40)},
    "ImageOrientationPatient": {"ImageOrientationPatient": [1, 0, 0, 0, 0.99, 0.141]},
    "PixelSpacing": {"PixelSpacing": [0.5, 0.501]},
    "PixelSpacing ": {"PixelSpacing": None},
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_slices_that_do_not_go_together(tmp_path: Path, what: str) -> None:
    write_at(tmp_path / "a", 0, 1)
    write_at(tmp_path / "b", 2, 2, **DIFFERENCES[what])
    with pytest.raises(InputError, match=rf"differ in {what.strip()}.*\ba and b") as caught:
        open_series(tmp_path)
    assert str(caught.value).isprintable()


def test_spacing_jitter_is_tolerated(tmp_path: Path) -> None:
    write_at(tmp_path / "a", 0, 1)
    write_at(tmp_path / "b", 2, 2, PixelSpacing=[0.50001, 0.49999])
    series, _ = open_series(tmp_path)
    assert len(series.slices) == 2
