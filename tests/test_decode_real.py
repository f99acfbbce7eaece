"""Real CT: there and back, to the exact place, judged by tools that are not ours."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from test_decode import DCIODVFY, errors_of

from ssimrdo import Window, encode
from ssimrdo.decoding import decode
from ssimrdo.dicom import Series, load_hu, open_series
from ssimrdo.encoding.ct_series import CTGoal, encode_ct

if "SSIMRDO_CT_DATA" not in os.environ:
    pytest.skip("SSIMRDO_CT_DATA names no folder of CT series", allow_module_level=True)
DATA = Path(os.environ["SSIMRDO_CT_DATA"])
WINDOWS = {
    "head-bone": Window(900, 2500),
    "chest-pe": Window(40, 400),
    "head-tilt": Window(35, 100),
}
SLICES = 5


@cache
def series_of(name: str) -> Series:
    series, _ = open_series(DATA / name)
    # Some slices, with gaps between them.
    return Series(series.uid, series.slices[3:20:4][:SLICES])


def padding_of(dataset: pydicom.Dataset) -> Any:
    """Return where the samples of a data set are padding."""
    value = dataset.get("PixelPaddingValue")
    return np.equal(dataset.pixel_array, np.inf if value is None else value)


@pytest.mark.parametrize("suffix", [".mkv", ".dcm"])
@pytest.mark.parametrize("name", WINDOWS)
def test_slices_come_back_to_their_places(name: str, suffix: str, tmp_path: Path) -> None:
    series, window = series_of(name), WINDOWS[name]
    video = tmp_path / f"a{suffix}"
    encode(series, video, window=window, effort="fast")
    result = decode(video, tmp_path / "ct", template=DATA / name)
    found, _ = open_series(tmp_path / "ct")
    assert [one.plane for one in found.slices] == [one.plane for one in series.slices]
    assert result.tissue is not None
    low, high = window.center - 0.5 - (window.width - 1) / 2, window.center + window.width / 2
    squares = []
    for ours, original in zip(found.slices, series.slices, strict=True):
        source = pydicom.dcmread(original.path)
        one = pydicom.dcmread(ours.path)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert one[keyword].to_json() == source[keyword].to_json()
        assert one.PatientID == source.PatientID
        assert one.StudyInstanceUID == source.StudyInstanceUID
        if DCIODVFY is not None:
            assert errors_of(ours.path) == []
        padded = padding_of(source)
        np.testing.assert_array_equal(padding_of(one), padded)
        error = load_hu(ours) - np.clip(load_hu(original), low, high)
        squares.extend(error[~padded] ** 2)
    body = result.tissue.as_dict()["errors"]["body"]
    assert body is not None
    # Air has less.
    assert np.sqrt(np.mean(squares)) < body["rmse"] * 1.2
    assert body["rmse"] < 0.05 * window.width


@pytest.mark.parametrize("name", WINDOWS)
def test_lossy_ct_keeps_every_hu(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for header in series_of(name).slices:
        (folder / header.path.name).symlink_to(header.path)
    encode_ct(folder, tmp_path / "ct", CTGoal(max_hu_error=8))
    source, found = open_series(folder)[0], open_series(tmp_path / "ct")[0]
    for ours, original in zip(found.slices, source.slices, strict=True):
        assert ours.plane == original.plane
        assert np.abs(load_hu(ours) - load_hu(original)).max() <= 8
