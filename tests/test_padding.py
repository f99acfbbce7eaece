"""Padding shown as air, or as the darkest grey whatever the window."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from dicom_files import write_slice
from PIL import Image
from video_files import ct_volume, frames_of

import ssimrdo
from ssimrdo.dicom import NAMED_WINDOWS, Window, apply_window, load_hu, open_series
from ssimrdo.dicom.luma import load_luma
from ssimrdo.errors import InputError
from ssimrdo.record.ct import SeriesRecord

LUNG = NAMED_WINDOWS["lung"]
PADDED = -2000
HU = ct_volume(4, 64, 64).astype(np.int16)
OUTSIDE = np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 31


def outside_of(video):
    """Return the mean luma of the padding in a video."""
    return np.mean([frame.to_ndarray()[:64, :64][OUTSIDE].mean() for frame in frames_of(video)])


@pytest.fixture
def series(tmp_path):
    for index, hu in enumerate(HU):
        write_slice(
            tmp_path / "ct" / f"{index}.dcm",
            np.where(OUTSIDE, PADDED, hu).astype(np.int16),
            ImagePositionPatient=[0, 0, 2 * index],
            RescaleIntercept=0,
            PixelPaddingValue=PADDED,
        )
    return tmp_path / "ct"


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_is_black_and_all_else_stays(tmp_path, bit_depth, photometric):
    path = write_slice(
        tmp_path / "a.dcm",
        np.where(OUTSIDE, PADDED, HU[0]).astype(np.int16),
        RescaleIntercept=0,
        PixelPaddingValue=PADDED,
        PhotometricInterpretation=photometric,
    )
    (header,) = open_series(path)[0].slices
    air = load_luma(header, LUNG, bit_depth=bit_depth)
    dark = load_luma(header, LUNG, bit_depth=bit_depth, padding="darkest")
    inverted = photometric == "MONOCHROME1"
    expected = apply_window(load_hu(header), LUNG, bit_depth=bit_depth, inverted=inverted)
    np.testing.assert_array_equal(air, expected)
    assert (air[OUTSIDE] > 0).all()
    assert not dark[OUTSIDE].any()
    np.testing.assert_array_equal(dark[~OUTSIDE], air[~OUTSIDE])


def test_dcmtk_shows_padding_below_the_window_as_black(series, tmp_path):
    # It shows what is stored; -2000 HU lie below every clinical window.
    program = shutil.which("dcm2pnm")
    if program is None:
        pytest.skip("dcm2pnm of DCMTK is not installed")
    out = tmp_path / "a.pgm"
    command = [
        program,
        "+Ww",
        f"{LUNG.center:g}",
        f"{LUNG.width:g}",
        str(series / "0.dcm"),
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    shown = np.array(Image.open(out)).astype(int)
    (header,) = open_series(series / "0.dcm")[0].slices
    ours = load_luma(header, LUNG, padding="darkest").astype(int)
    assert np.abs(shown - ours).max() <= 1
    assert not shown[OUTSIDE].any()


def test_an_encode_shows_it_records_it_and_decodes_with_its_template(series, tmp_path):
    out = tmp_path / "a.mkv"
    options = {"window": "lung", "crf": 1, "effort": "fast"}
    result = ssimrdo.encode(series, out, padding="darkest", **options)
    assert outside_of(out) < 3
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["settings"]["padding"] == record["ct"]["padding"] == "darkest"
    assert SeriesRecord.from_dict(record["ct"]) == result.series
    from ssimrdo.decoding.decode import decode

    decode(out, tmp_path / "back", template=series)
    ssimrdo.encode(series, tmp_path / "b.mkv", **options)
    record = json.loads((tmp_path / "b.json").read_text())
    assert "padding" not in record["settings"]
    assert "padding" not in record["ct"]
    assert outside_of(tmp_path / "b.mkv") > 40


def test_a_template_matches_the_padding_of_the_source(series, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(series, again)
    ssimrdo.encode(series, tmp_path / "a.dcm", padding="darkest", window="lung", template=again)
    assert (tmp_path / "a.dcm").exists()


def test_soft_windows_show_air_as_black_all_the_same(series, tmp_path):
    for padding in ("air", "darkest"):
        ssimrdo.encode(
            series, tmp_path / f"{padding}.h264", padding=padding, window=Window(40, 400), threads=1
        )
    assert (tmp_path / "air.h264").read_bytes() == (tmp_path / "darkest.h264").read_bytes()


def test_a_record_with_another_padding_is_damaged(series, tmp_path):
    ssimrdo.encode(series, tmp_path / "a.mp4", padding="darkest")
    record = json.loads((tmp_path / "a.json").read_text())["ct"]
    for wrong in ("black", 5, None, ["air"]):
        with pytest.raises(InputError, match="padding cannot be used"):
            SeriesRecord.from_dict({**record, "padding": wrong})
