"""Padding: how it is shown, that it is no tissue, and that it is padding again after decoding."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zlib

import numpy as np
import pydicom
import pytest
from dicom_files import write_slice
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from video_files import ct_volume, frames_of

import ssimrdo
from ssimrdo.decoding import decode, view
from ssimrdo.dicom import NAMED_WINDOWS, Window, apply_window, load_hu, load_volume, open_series
from ssimrdo.dicom.luma import load_luma
from ssimrdo.dicom.padding import packed, unpacked
from ssimrdo.errors import InputError
from ssimrdo.inspection import inspect_slice
from ssimrdo.measurement import measure
from ssimrdo.metrics.tissue import Area, tissue_map
from ssimrdo.record.ct import SeriesRecord
from ssimrdo.record.tissue import grey_scale

LUNG = NAMED_WINDOWS["lung"]
PADDED = -2000
HU = ct_volume(4, 64, 64).astype(np.int16)
ROWS, COLUMNS = np.mgrid[:64, :64]
OUTSIDE = np.hypot(ROWS - 31.5, COLUMNS - 31.5) > 31
# The third slice has another field, the fourth one none.
FIELDS = (OUTSIDE, OUTSIDE, OUTSIDE | (ROWS < 6), np.zeros_like(OUTSIDE))
PHOTOMETRIC = pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
COARSE = {"window": "lung", "crf": 40, "effort": "fast", "threads": 1}


def write_ct(folder, photometric="MONOCHROME2", hu=HU, fields=FIELDS, padding=PADDED):
    for index, (one, field) in enumerate(zip(hu, fields, strict=True)):
        write_slice(
            folder / f"{index}.dcm",
            np.where(field, PADDED, one).astype(np.int16),
            ImagePositionPatient=[0, 0, 2 * index],
            RescaleIntercept=0,
            PixelPaddingValue=padding,
            PhotometricInterpretation=photometric,
            SOPInstanceUID=f"1.2.3.{index + 1}",
        )
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_ct(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
    return write_ct(tmp_path_factory.mktemp("ct"), "MONOCHROME1")


@pytest.fixture(scope="module")
def series_of(series, inverted):
    return {"MONOCHROME2": series, "MONOCHROME1": inverted}


@pytest.mark.parametrize("bit_depth", [8, 10])
@PHOTOMETRIC
def test_padding_is_black_and_all_else_stays(photometric, bit_depth, series_of):
    header = open_series(series_of[photometric])[0].slices[0]
    air = load_luma(header, LUNG, bit_depth=bit_depth, padding="air")
    dark = load_luma(header, LUNG, bit_depth=bit_depth)
    is_inverted = photometric == "MONOCHROME1"
    expected = apply_window(load_hu(header), LUNG, bit_depth=bit_depth, inverted=is_inverted)
    assert_array_equal(air, expected)
    assert (air[OUTSIDE] > 0).all()
    assert not dark[OUTSIDE].any()
    assert_array_equal(dark[~OUTSIDE], air[~OUTSIDE])


@pytest.mark.parametrize("program", ["dcm2pnm", "dcmj2pnm"])
def test_dcmtk_shows_it_alike(program, series, tmp_path):
    # It shows what is stored; -2000 HU lie below every clinical window.
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} of DCMTK is not installed")
    out = tmp_path / "a.pgm"
    window = ["+Ww", f"{LUNG.center:g}", f"{LUNG.width:g}"]
    command = [found, *window, str(series / "0.dcm"), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    shown = np.array(Image.open(out)).astype(int)
    (header,) = open_series(series / "0.dcm")[0].slices
    assert np.abs(shown - load_luma(header, LUNG)).max() <= 1
    assert not shown[OUTSIDE].any()


def test_pydicom_shows_it_alike(series):
    dataset = pydicom.dcmread(series / "0.dcm")
    hu = pydicom.pixels.apply_rescale(dataset.pixel_array, dataset)
    dataset.WindowCenter, dataset.WindowWidth = LUNG.center, LUNG.width
    shown = pydicom.pixels.apply_windowing(hu, dataset)
    assert (shown[OUTSIDE] == shown.min()).all()
    assert (shown[~OUTSIDE] > shown.min()).all()


@pytest.fixture(scope="module")
def videos(series_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")

    def video_of(photometric, padding):
        path = folder / f"{photometric}-{padding}.mkv"
        if not path.exists():
            more = {} if padding == "darkest" else {"padding": padding}
            ssimrdo.encode(series_of[photometric], path, **COARSE, **more)
        return path

    return video_of


def test_an_encode_shows_it_black_and_records_it(videos):
    for padding in ("darkest", "air"):
        video = videos("MONOCHROME2", padding)
        record = json.loads(video.with_suffix(".json").read_text())
        assert record["settings"]["padding"] == record["ct"]["padding"] == padding
        first = frames_of(video)[0].to_ndarray()[:64, :64]
        assert bool(np.median(first[OUTSIDE]) < 20) is (padding == "darkest")


@pytest.mark.parametrize("syntax", ["explicit", "jpegls"])
@pytest.mark.parametrize("padding", ["darkest", "air"])
@PHOTOMETRIC
def test_it_is_padding_again_to_the_pixel(photometric, padding, syntax, videos, tmp_path):
    decode(videos(photometric, padding), tmp_path / "ct", syntax=syntax)
    for path, field in zip(sorted((tmp_path / "ct").iterdir()), FIELDS, strict=True):
        dataset = pydicom.dcmread(path)
        stored, value = dataset.pixel_array, dataset.PixelPaddingValue
        assert dataset["PixelPaddingValue"].VR == "US"
        assert_array_equal(stored == value, field)
        # PS3.3 C.7.5.1.1.2: at the end that is shown black.
        others = stored[~field]
        assert value < others.min() if photometric == "MONOCHROME2" else value > others.max()


@PHOTOMETRIC
def test_decoding_twice_gives_the_same_slices(photometric, videos, tmp_path):
    decode(videos(photometric, "darkest"), tmp_path / "ct")
    again = ssimrdo.encode(tmp_path / "ct", tmp_path / "b.mkv", **{**COARSE, "crf": 1})
    assert again.quality["psnr"].worst > 45
    decode(tmp_path / "b.mkv", tmp_path / "ct2", template=tmp_path / "ct")
    first, second = (load_volume(tmp_path / name) for name in ("ct", "ct2"))
    assert_array_equal(first.padding, FIELDS)
    assert_array_equal(second.padding, FIELDS)
    assert np.abs(first.hu - second.hu).max() < 40


def test_the_template_is_known_again(videos, series_of, tmp_path):
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        for padding in ("darkest", "air"):
            out = tmp_path / f"{photometric}-{padding}"
            result = decode(videos(photometric, padding), out, template=series_of[photometric])
            assert result.tissue is not None


def test_a_series_without_padding_has_none_afterwards(tmp_path):
    fields = [np.zeros_like(OUTSIDE)] * 4
    write_ct(tmp_path / "ct", fields=fields, padding=None)
    ssimrdo.encode(tmp_path / "ct", tmp_path / "a.mkv", **COARSE)
    assert "padded" not in json.loads((tmp_path / "a.json").read_text())["ct"]
    decode(tmp_path / "a.mkv", tmp_path / "back")
    assert all(
        "PixelPaddingValue" not in pydicom.dcmread(one) for one in (tmp_path / "back").iterdir()
    )


def test_records_of_earlier_versions_show_it_as_air(series, tmp_path):
    video = tmp_path / "a.mp4"
    ssimrdo.encode(series, video, padding="air", **COARSE)
    sidecar = tmp_path / "a.json"
    record = json.loads(sidecar.read_text())
    for part in (record["ct"], record["settings"]):
        part.pop("padding")
    record["ct"].pop("padded")
    sidecar.write_text(json.dumps(record))
    assert SeriesRecord.from_dict(record["ct"]).padding == "air"
    decode(video, tmp_path / "back", template=series)
    assert "PixelPaddingValue" not in pydicom.dcmread(tmp_path / "back/slice_0001.dcm")
    found = measure(series, video, "ssim")
    assert found.summary["ssim"].mean == pytest.approx(record["ssim"]["mean"], abs=1e-9)


@pytest.mark.parametrize("padding", ["darkest", "air"])
@PHOTOMETRIC
def test_metrics_and_inspect_show_what_the_video_shows(photometric, padding, videos, series_of):
    video, series = videos(photometric, padding), series_of[photometric]
    record = json.loads(video.with_suffix(".json").read_text())
    found = measure(series, video, ["ssim", "psnr"])
    for name in ("ssim", "psnr"):
        assert_allclose(
            [row.values[name] for row in found.slices], [one[name] for one in record["slices"]]
        )
    assert found.tissue.as_dict() == record["tissue"]
    seen = inspect_slice(series, number=1, encode=video)
    header = open_series(series)[0].slices[0]
    assert_array_equal(seen.luma, load_luma(header, LUNG, padding=padding))
    assert seen.errors is not None
    codes = seen.tissue.codes
    assert not codes[OUTSIDE].any()
    # What it is without an encode.
    assert_array_equal(inspect_slice(series, number=1, window="lung").luma, load_luma(header, LUNG))


def test_series_are_compared_without_a_difference_in_the_padding(series, tmp_path):
    # One side tells of its padding, the other one has air there.
    fields = [np.zeros_like(OUTSIDE)] * 4
    air = np.where(FIELDS, -1000, HU)
    other = write_ct(tmp_path / "ct", hu=air, fields=fields, padding=None)
    for pair in ((series, other), (other, series), (load_volume(series), other)):
        found = measure(*pair, ["ssim"], window="lung")
        assert found.summary["ssim"].mean == 1
        assert found.summary["largest_error"].worst == 0
        assert found.tissue.errors[Area.EDGE].samples > 0


def samples_by_area(folder, padding, tmp_path):
    result = ssimrdo.encode(folder, tmp_path / f"{padding}.h264", padding=padding, **COARSE)
    return {area: one and one.samples for area, one in result.tissue.errors.items()}


@PHOTOMETRIC
def test_padding_is_no_tissue_however_it_is_shown(photometric, series_of, tmp_path):
    dark = samples_by_area(series_of[photometric], "darkest", tmp_path)
    air = samples_by_area(series_of[photometric], "air", tmp_path)
    assert dark == air
    # The body is where the noise of the source is above -500 HU, its holes filled.
    assert dark[Area.BODY] == pytest.approx(4 * np.pi * 0.85 * 0.7 * 32**2, rel=0.1)
    assert dark[Area.UNCLIPPED] < (~np.array(FIELDS)).sum()


@pytest.mark.parametrize("scale", [True, False])
def test_the_border_of_the_field_is_no_edge(scale):
    noise = np.random.default_rng(0).normal(-1000, 5, (64, 64)).astype(np.float32)
    luma = apply_window(noise, LUNG)
    luma[OUTSIDE] = 0
    used = grey_scale(LUNG, 255) if scale else None
    told = tissue_map(luma, scale=used, padding=OUTSIDE)
    for area in (Area.EDGE, Area.DENSE, Area.UNCLIPPED):
        assert not told.mask(area)[OUTSIDE].any()
    assert not told.mask(Area.EDGE).any()
    assert not told.mask(Area.DENSE).any()
    # Without being told of it, it is one.
    assert tissue_map(luma, scale=used).mask(Area.EDGE).any()
    assert luma[OUTSIDE].max() == 0


@PHOTOMETRIC
def test_other_windows_of_a_video_show_it_black(photometric, series_of, tmp_path):
    video, lung = tmp_path / "a.mkv", tmp_path / "lung.mkv"
    ssimrdo.encode(series_of[photometric], video, window="full", crf=10, effort="fast")
    view(video, lung, window="lung", crf=1, effort="fast")
    for frame, field in zip(frames_of(lung), FIELDS, strict=True):
        shown = frame.to_ndarray()[:64, :64]
        assert shown[field].mean() < 3 if field.any() else True
        assert shown[~field].mean() > 40
    decode(lung, tmp_path / "ct")
    assert_array_equal(load_volume(tmp_path / "ct").padding, FIELDS)


def test_volumes_tell_of_it_and_encode_alike(series, tmp_path):
    volume = load_volume(series)
    assert_array_equal(volume.padding, FIELDS)
    assert (volume.hu[np.array(FIELDS)] == -1000).all()
    with pytest.raises(InputError, match="another shape"):
        ssimrdo.Volume(HU, padding=OUTSIDE)
    sources = {
        "series": series,
        "volume": volume,
        "masked": ssimrdo.Volume(np.ma.MaskedArray(HU, FIELDS)),
        "listed": ssimrdo.Volume(list(np.ma.MaskedArray(HU, FIELDS))),
    }
    for name, source in sources.items():
        ssimrdo.encode(source, tmp_path / f"{name}.h264", **COARSE)
    assert len({(tmp_path / f"{name}.h264").read_bytes() for name in sources}) == 1


def test_objects_in_dicom_take_a_copy_as_their_template(series, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(series, again)
    ssimrdo.encode(series, tmp_path / "a.dcm", window="lung", template=again)
    decode(tmp_path / "a.dcm", tmp_path / "ct")
    assert_array_equal(load_volume(tmp_path / "ct").padding, FIELDS)


def test_soft_windows_show_air_as_black_all_the_same(series, tmp_path):
    for padding in ("air", "darkest"):
        ssimrdo.encode(
            series, tmp_path / f"{padding}.h264", padding=padding, window=Window(40, 400), threads=1
        )
    assert (tmp_path / "air.h264").read_bytes() == (tmp_path / "darkest.h264").read_bytes()


def test_masks_come_back_and_others_are_refused():
    for field in FIELDS:
        assert_array_equal(unpacked(packed(field), field.shape), field)
    for wrong in (b"", b"no", packed(OUTSIDE[:-8]), packed(np.tile(OUTSIDE, (2, 2)))):
        with pytest.raises(ValueError, match="no mask of this shape"):
            unpacked(wrong, OUTSIDE.shape)


def test_a_record_with_another_padding_is_damaged(videos, tmp_path):
    video = videos("MONOCHROME2", "darkest")
    record = json.loads(video.with_suffix(".json").read_text())["ct"]
    for wrong in ("black", 5, None, ["air"]):
        with pytest.raises(InputError, match="padding cannot be used"):
            SeriesRecord.from_dict({**record, "padding": wrong})
    good = record["padded"]
    assert len(good["masks"]) == 2
    assert good["slices"] == [0, 0, 1, None]
    for wrong in (
        *(5, None, [], {}, {"masks": good["masks"]}, {"slices": good["slices"]}),
        *({**good, "masks": wrong} for wrong in ("abcd", [5], ["!"], ["YQ"], [], {"a": 1})),
        *(
            {**good, "slices": wrong}
            for wrong in ([0], [0, 0, 0, 2], [0, 0, 0, -1], [0, 0, 0, "0"])
        ),
    ):
        with pytest.raises(InputError, match=r"(padded|slices) cannot be used"):
            SeriesRecord.from_dict({**record, "padded": wrong})
    # A mask is only unpacked where it is needed, and never beyond its size.
    bomb = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
    sidecar = tmp_path / "bomb.json"
    sidecar.write_text(json.dumps({"ct": {**record, "padded": {**good, "masks": [bomb, bomb]}}}))
    with pytest.raises(InputError, match="padded cannot be used"):
        decode(video, tmp_path / "back", record=sidecar)
    assert not (tmp_path / "back").exists()
