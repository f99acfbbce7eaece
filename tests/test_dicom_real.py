from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal

from ssimrdo.dicom import Series, find_series, load_hu, open_series
from ssimrdo.errors import InputError

NAMES = ("head-bone", "chest-pe", "head-tilt")

if "SSIMRDO_CT_DATA" not in os.environ:
    pytest.skip("SSIMRDO_CT_DATA names no folder of CT series", allow_module_level=True)
DATA = Path(os.environ["SSIMRDO_CT_DATA"])


@cache
def series_of(name: str) -> Series:
    series, skipped = open_series(DATA / name)
    assert not skipped
    return series


@pytest.mark.parametrize("name", NAMES)
def test_real_series_is_complete_and_evenly_spaced(name: str) -> None:
    series = series_of(name)
    assert len(series.slices) == sum(path.is_file() for path in (DATA / name).rglob("*"))
    steps = np.diff([header.position for header in series.slices], axis=0)
    assert_array_equal(np.sign(steps[:, 2]), np.sign(steps[0, 2]))


@pytest.mark.parametrize("name", NAMES)
def test_real_pixels_equal_pydicom(name: str) -> None:
    for header in series_of(name).slices[::20]:
        dataset = pydicom.dcmread(header.path)
        stored = dataset.pixel_array
        expected = stored * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)
        padding = dataset.get("PixelPaddingValue")
        expected[stored == padding] = -1000
        assert_array_equal(load_hu(header), expected)


def test_real_series_have_to_be_chosen_from() -> None:
    with pytest.raises(InputError, match=r"\d CT series"):
        open_series(DATA)


@pytest.mark.parametrize("name", NAMES)
def test_real_file_cut_anywhere_is_bad(tmp_path: Path, name: str) -> None:
    header = series_of(name).slices[0]
    content = header.path.read_bytes()
    draw = random.Random(name)
    end = content.rindex(b"\xe0\x7f\x10\x00") + 2 * header.rows * header.columns
    for cut in (0, 131, 132, end, *(draw.randrange(end) for _ in range(6))):
        path = tmp_path / "cut.dcm"
        path.write_bytes(content[:cut])
        result = find_series(path)
        assert not result.series
        assert len(result.bad) == 1
