"""Series as lossy CT that keeps HU: goals, objects and geometry."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from dicom_files import CANARY, write_series
from messages import error_of
from skimage.metrics import structural_similarity
from test_decode import datasets_of, errors_of, hu_of, in_order, needs_dciodvfy, tilted_series
from test_docs import documented, keys_of
from video_files import SOFT_TISSUE, ct_volume, run_command, windowed

from ssimrdo import Window
from ssimrdo.dicom import load_volume
from ssimrdo.encoding.ct_series import CTGoal, encode_ct
from ssimrdo.encoding.settings import Floor
from ssimrdo.errors import InputError

SLICES, ROWS, COLUMNS = 4, 72, 65
SOFT = Window(*SOFT_TISSUE)
SYNTAXES = {"htj2k": "1.2.840.10008.1.2.4.203", "j2k": "1.2.840.10008.1.2.4.91"}
METHODS = {"htj2k": "ISO_15444_15", "j2k": "ISO_15444_1"}


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    return tilted_series(tmp_path_factory.mktemp("ct"), hu)


def ssim(x, y):
    return structural_similarity(
        x.astype(np.uint8),
        y.astype(np.uint8),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("most", [4, 60])
def test_no_pixel_is_further_off_than_is_allowed(syntax, most, hu, series, tmp_path):
    result = encode_ct(
        series, tmp_path / "ct", CTGoal(max_hu_error=most), window=SOFT, syntax=syntax
    )
    found = datasets_of(tmp_path / "ct")
    assert {one.file_meta.TransferSyntaxUID for one in found} == {SYNTAXES[syntax]}
    # pydicom decodes both with OpenJPEG, HTJ2K is not encoded with it.
    errors = np.abs(np.array([hu_of(one) for one in found]) - hu).max(axis=(1, 2))
    assert errors.max() <= most
    # The next coarser one would be too coarse.
    assert errors.min() > most / 3
    assert [one["max_hu_error"] for one in result.per_slice] == pytest.approx(errors, abs=1e-3)
    assert result.max_hu_error == pytest.approx(errors.max(), abs=1e-3)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_slice_keeps_the_ssim(syntax, hu, series, tmp_path):
    goal = CTGoal(Floor("ssim", 0.9))
    result = encode_ct(series, tmp_path / "ct", goal, window=SOFT, syntax=syntax)
    source = windowed(hu)
    for number, one in enumerate(datasets_of(tmp_path / "ct")):
        found = ssim(source[number], windowed(hu_of(one)))
        assert found == pytest.approx(result.per_slice[number]["ssim"], abs=2e-3)
        assert 0.898 <= found < 0.93
    assert result.quality["ssim"].min >= 0.9
    assert result.ratio > 3
    rmse = np.sqrt(((np.array(list(map(hu_of, datasets_of(tmp_path / "ct")))) - hu) ** 2).mean())
    assert result.hu_rmse == pytest.approx(rmse, rel=1e-3)


def test_both_goals_hold_together(series, tmp_path):
    goal = CTGoal(Floor("ssim", 0.9), 25)
    result = encode_ct(series, tmp_path / "ct", goal, window=SOFT)
    assert result.max_hu_error <= 25
    assert result.quality["ssim"].min >= 0.9


def test_what_nothing_lossy_is_good_enough_for_is_lossless(hu, series, tmp_path):
    result = encode_ct(series, tmp_path / "ct", CTGoal(max_hu_error=0.01), window=SOFT)
    assert result.lossless_slices == SLICES
    found = datasets_of(tmp_path / "ct")
    np.testing.assert_array_equal([hu_of(one) for one in found], hu)
    for one in found:
        assert one.LossyImageCompression == "00"
        assert "LossyImageCompressionMethod" not in one


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("template", [False, True])
@needs_dciodvfy
def test_dciodvfy_finds_no_error(syntax, template, series, tmp_path):
    encode_ct(
        series, tmp_path / "ct", window=SOFT, syntax=syntax, template=series if template else None
    )
    for path in (tmp_path / "ct").iterdir():
        # dicom3tools of 2021 do not know HTJ2K; JPEG 2000 is encapsulated alike.
        path.write_bytes(path.read_bytes().replace(b".4.203\0", b".4.91\0\0"))
        assert errors_of(path) == []


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_slices_lie_where_the_originals_did(syntax, series, tmp_path):
    encode_ct(series, tmp_path / "ct", window=SOFT, syntax=syntax, template=series)
    for one, original in zip(in_order(tmp_path / "ct"), in_order(series), strict=True):
        for keyword in (
            *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
            *("SliceThickness", "GantryDetectorTilt", "PatientPosition"),
        ):
            assert one[keyword].to_json() == original[keyword].to_json()
        assert one.PatientName == original.PatientName
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert one.LossyImageCompressionMethod == METHODS[syntax]
        assert (one.BitsAllocated, one.BitsStored, one.PixelRepresentation) == (16, 16, 0)
        assert list(one.ImageType)[:2] == ["DERIVED", "SECONDARY"]


@pytest.mark.parametrize(
    "elements",
    [
        {"slope": 0.5, "intercept": -1024.25},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PixelPaddingValue": 1024},
        {"slope": -1.0, "intercept": 3000.0},
    ],
)
def test_hu_come_back_whatever_the_header_says(elements, hu, tmp_path):
    write_series(tmp_path / "in", hu, **elements)
    goal = CTGoal(max_hu_error=3)
    encode_ct(tmp_path / "in", tmp_path / "out", goal, window=SOFT)
    source, found = (load_volume(tmp_path / name) for name in ("in", "out"))
    assert np.abs(source.hu - found.hu).max() <= 3.001
    assert source.inverted == found.inverted


def test_signed_pixels_come_back(hu, tmp_path):
    from dicom_files import write_slice

    for index, one in enumerate(hu):
        write_slice(
            tmp_path / f"in/{index}.dcm",
            one,
            ImagePositionPatient=[0, 0, index],
            RescaleIntercept=0,
            BitsStored=16,
        )
    encode_ct(tmp_path / "in", tmp_path / "out", CTGoal(max_hu_error=2), window=SOFT)
    assert np.abs(load_volume(tmp_path / "out").hu - hu).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--crf", "20"], "--crf: is for videos"),
        (["--effort", "fast"], "--effort: is for videos"),
        (["--over", "mean"], "--over: every slice is compressed by itself"),
        (["--max-hu-error", "0"], "--max-hu-error: 0.0 is out of range"),
        (["--max-hu-error", "x"], "--max-hu-error: 'x' is not a number"),
        (["--syntax", "jpegls"], "--syntax: 'jpegls' is unknown: use one of htj2k, j2k"),
        (["--min", "nosuch=1"], "--min: "),
    ],
)
def test_bad_options(arguments, said, series, tmp_path, capfd):
    done = run_command(capfd, "encode", series, "-o", tmp_path / "ct", "--as", "ct", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in error_of(done.err)
    assert not (tmp_path / "ct").exists()


def test_options_of_ct_are_refused_for_videos(series, tmp_path, capfd):
    for option in (["--max-hu-error", "3"], ["--syntax", "j2k"]):
        done = run_command(capfd, "encode", series, "-o", tmp_path / "a.mp4", *option)
        assert done.status == 2
        assert f"{option[0]}: is for CT images" in done.err


def test_the_command_tells_what_came_out(series, tmp_path, capfd):
    text = run_command(capfd, "encode", series, "-o", tmp_path / "a", "--as", "ct")
    assert "4 slices, 65x72, htj2k, quality in the window 40/80 HU" in text.out
    done = run_command(
        capfd, "encode", series, "-o", tmp_path / "b", "--as", "ct", "--json", "--min", "psnr=30"
    )
    found = json.loads(done.out)
    assert found["psnr"]["min"] >= 30
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "b").iterdir())
    assert keys_of(found) <= documented("`encode --as ct --json`")


def test_folders_with_other_files_stay_as_they_are(series, tmp_path):
    encode_ct(series, tmp_path / "ct", window=SOFT)
    with pytest.raises(InputError, match="is not empty"):
        encode_ct(series, tmp_path / "ct", window=SOFT)
    encode_ct(series, tmp_path / "ct", window=SOFT, overwrite=True)
    (tmp_path / "ct/mine").touch()
    with pytest.raises(InputError, match="other files"):
        encode_ct(series, tmp_path / "ct", window=SOFT, overwrite=True)
    with pytest.raises(InputError, match="holds the input"):
        encode_ct(series, series, window=SOFT, overwrite=True)


def test_a_slice_that_cannot_be_decoded_leaves_nothing(hu, tmp_path):
    paths = write_series(tmp_path / "in", hu, compress="1.2.840.10008.1.2.5")
    data = paths[1].read_bytes()
    at = data.rindex(b"\xfe\xff\x00\xe0") + 8
    paths[1].write_bytes(data[: at + 64] + b"\x80" * (len(data) - at - 72) + data[-8:])
    with pytest.raises(InputError, match="cannot be decoded"):
        encode_ct(tmp_path / "in", tmp_path / "ct", window=SOFT)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_identity_is_in_any_byte(hu, tmp_path, capfd):
    from test_privacy import IDENTIFYING, assert_clean

    folder = tilted_series(tmp_path / f"{CANARY}^DOE", hu, **IDENTIFYING)
    for syntax in SYNTAXES:
        out = tmp_path / syntax
        done = run_command(
            capfd, "encode", folder, "-o", out, "--as", "ct", "--syntax", syntax, "--json"
        )
        assert done.status == 0
        assert_clean((done.out + done.err).encode())
        for path in out.iterdir():
            assert_clean(path.read_bytes())
            assert b"1.2.826.0.1.3680043.8.498.2" not in path.read_bytes()
            assert pydicom.dcmread(path).PatientName == ""
