"""From a video back to CT slices: geometry, HU, attributes, templates, damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from functools import partial

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import CANARY, write_series
from messages import error_of
from numpy.testing import assert_allclose, assert_array_equal
from skimage.metrics import peak_signal_noise_ratio
from test_docs import documented, keys_of
from video_files import SOFT_TISSUE, ct_volume, frames_of, plane, run_command, windowed

from ssimrdo import Volume, Window, encode
from ssimrdo.decoding import decode
from ssimrdo.dicom import Geometry, load_volume
from ssimrdo.dicom.grey import FULL, apply_window
from ssimrdo.errors import CancelledError, InputError
from ssimrdo.observer import Observer

SLICES, ROWS, COLUMNS = 6, 48, 57
SOFT = Window(*SOFT_TISSUE)
FAST = {"window": SOFT, "effort": "fast"}
TILTED = ("1.000000", "0.0", "0", "0.00", "0.9483237", "-0.3173047")
DCIODVFY = shutil.which("dciodvfy")
SYNTAXES = {
    "explicit": "1.2.840.10008.1.2.1",
    "rle": "1.2.840.10008.1.2.5",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "htj2k": "1.2.840.10008.1.2.4.201",
}
needs_dciodvfy = pytest.mark.skipif(DCIODVFY is None, reason="dicom3tools are not installed")


def tilted_series(folder, hu, **overrides):
    """Write slices of a tilted gantry with a gap, a thick slice and digits that no number keeps."""
    paths = write_series(folder, hu, FrameOfReferenceUID="1.2.3.4", **overrides)
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        z = index if index < 3 else index + 2
        dataset.ImagePositionPatient = ["-125.0000", f"{1.5 * z:.7f}", f"{4.25 * z:.5f}"]
        dataset.ImageOrientationPatient = list(TILTED)
        dataset.PixelSpacing = ["0.50000", "0.50000"]
        dataset.SliceThickness = "8.00" if index == 5 else "4.0"
        dataset.GantryDetectorTilt = "+18.5"
        dataset.PatientPosition = "HFS"
        dataset.save_as(path)
    return folder


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    return tilted_series(tmp_path_factory.mktemp("ct"), hu)


@pytest.fixture(scope="module")
def video(series, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "a.mkv"
    encode(series, output, **FAST)
    return output


def datasets_of(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def in_order(folder):
    return sorted(datasets_of(folder), key=lambda one: float(one.ImagePositionPatient[2]))


def hu_of(dataset):
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def expected_hu(video, window=SOFT_TISSUE, levels=255):
    """Return the HU of FFmpeg's frames by the inverse of DICOM's LINEAR function."""
    center, width = window
    luma = np.array([plane(frame)[:ROWS, :COLUMNS] for frame in frames_of(video)], float)
    return (luma / levels - 0.5) * (width - 1) + center - 0.5


def errors_of(path):
    assert DCIODVFY is not None
    done = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def test_slices_lie_where_the_originals_did(series, video, tmp_path):
    decode(video, tmp_path / "ct")
    ours, originals = in_order(tmp_path / "ct"), in_order(series)
    for one, original in zip(ours, originals, strict=True):
        for keyword in (
            *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
            *("SliceThickness", "GantryDetectorTilt", "Rows", "Columns", "PatientPosition"),
        ):
            # The very characters.
            assert str(one[keyword].value) == str(original[keyword].value)
            assert one[keyword].to_json() == original[keyword].to_json()


def test_the_digits_are_in_the_file(video, tmp_path):
    decode(video, tmp_path / "ct")
    data = (tmp_path / "ct/slice_0004.dcm").read_bytes()
    assert b"-125.0000\\7.5000000\\21.25000" in data
    assert b"1.000000\\0.0\\0\\0.00\\0.9483237\\-0.3173047" in data
    assert b"0.50000\\0.50000" in data


def test_highdicom_sees_the_same_volume(hu, tmp_path):
    folder = write_series(tmp_path / "in", hu, step=(0.0, 0.1, 2.5), FrameOfReferenceUID="1.2.3")
    encode(folder[0].parent, tmp_path / "a.mkv", **FAST)
    decode(tmp_path / "a.mkv", tmp_path / "out")
    ours, original = (
        highdicom.image.get_volume_from_series(datasets_of(tmp_path / name))
        for name in ("out", "in")
    )
    assert_array_equal(ours.affine, original.affine)
    assert ours.spatial_shape == original.spatial_shape


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_hu_are_those_of_the_decoded_luma(bit_depth, photometric, hu, tmp_path):
    series = tilted_series(tmp_path / "in", hu, PhotometricInterpretation=photometric)
    video = tmp_path / "a.mkv"
    encode(series, video, bit_depth=bit_depth, **FAST)
    result = decode(video, tmp_path / "out")
    expected = expected_hu(video, levels=2**bit_depth - 1)
    if photometric == "MONOCHROME1":
        low, high = SOFT_TISSUE[0] - 0.5 - 199.5, SOFT_TISSUE[0] - 0.5 + 199.5
        expected = low + high - expected
    found = datasets_of(tmp_path / "out")
    assert {one.PhotometricInterpretation for one in found} == {photometric}
    assert_allclose(np.array([hu_of(one) for one in found]), expected, rtol=0, atol=1e-9)
    assert result.rounding_hu < 1e-9
    for one in found:
        assert (one.BitsAllocated, one.BitsStored, one.HighBit) == (16, 12, 11)
        assert max(len(str(one[name].value)) for name in ("RescaleSlope", "RescaleIntercept")) <= 16


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_hu_lead_to_the_same_luma_under_other_functions(function, bit_depth, hu, tmp_path):
    window = Window(31.5, 99.75, function)
    volume = Volume(
        hu,
        geometry=Geometry(
            (0.5, 0.5),
            (1, 0, 0, 0, 1, 0),
            tuple((0.0, 0.0, float(z)) for z in range(SLICES)),
            tuple(map(float, range(SLICES))),
        ),
    )
    video = tmp_path / "a.mkv"
    encode(volume, video, window=window, effort="fast", bit_depth=bit_depth)
    decode(video, tmp_path / "out")
    peak = 2**bit_depth - 1
    for one, frame in zip(datasets_of(tmp_path / "out"), frames_of(video), strict=True):
        x = (hu_of(one) - 31.5) / 99.75
        luma = peak / (1 + np.exp(-4 * x)) if function == "SIGMOID" else (x + 0.5) * peak
        # A sigmoid's ends are half a level in.
        assert np.abs(luma - plane(frame)[:ROWS, :COLUMNS]).max() < 0.51
        assert one.VOILUTFunction == function
        assert (one.WindowCenter, one.WindowWidth) == (31.5, 99.75)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_hu_of_the_whole_range_lead_to_the_same_luma(bit_depth, hu, series, tmp_path):
    video = tmp_path / "a.mkv"
    encode(series, video, window="full", effort="fast", bit_depth=bit_depth)
    result = decode(video, tmp_path / "out", template=series)
    found = datasets_of(tmp_path / "out")
    luma = [plane(frame)[:ROWS, :COLUMNS] for frame in frames_of(video)]
    for one, shown in zip(found, luma, strict=True):
        again = apply_window(hu_of(one).astype(np.float32), FULL, bit_depth=bit_depth)
        assert_array_equal(again, shown)
        # No viewer knows the curve.
        assert (one.WindowCenter, one.WindowWidth) == (40, 400)
        assert "VOILUTFunction" not in one
    assert result.tissue is not None
    error = np.array([hu_of(one) for one in found]) - hu
    assert np.sqrt((error**2).mean()) < 40


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_keeps_every_value(syntax, video, tmp_path):
    result = decode(video, tmp_path / "ct", syntax=syntax)
    found = datasets_of(tmp_path / "ct")
    assert {one.file_meta.TransferSyntaxUID for one in found} == {SYNTAXES[syntax]}
    assert_allclose(np.array([hu_of(one) for one in found]), expected_hu(video), atol=1e-9)
    assert_allclose(load_volume(tmp_path / "ct").hu, expected_hu(video), atol=1e-4)
    assert result.bytes == sum(path.stat().st_size for path in (tmp_path / "ct").iterdir())


@needs_dciodvfy
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("template", [False, True])
def test_dciodvfy_finds_no_error(syntax, template, series, video, tmp_path):
    decode(video, tmp_path / "ct", syntax=syntax, template=series if template else None)
    for path in sorted((tmp_path / "ct").iterdir())[::3]:
        if syntax == "htj2k":
            # dicom3tools of 2021 do not know it; JPEG 2000 is encapsulated alike.
            data = path.read_bytes()
            assert data.count(b"1.2.840.10008.1.2.4.201\0") == 1
            path.write_bytes(data.replace(b".4.201\0", b".4.90\0\0"))
        assert errors_of(path) == []


def test_slices_say_that_they_are_derived_and_lossy(video, tmp_path):
    result = decode(video, tmp_path / "ct")
    found = datasets_of(tmp_path / "ct")
    packets = sum(packet.size for packet in _packets(video))
    ratio = SLICES * ROWS * COLUMNS * 2 / packets
    assert result.ratio == pytest.approx(ratio)
    for number, one in enumerate(found, start=1):
        assert one.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
        assert list(one.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert one.LossyImageCompression == "01"
        assert one.LossyImageCompressionMethod == "ISO_14496_10"
        assert float(one.LossyImageCompressionRatio) == pytest.approx(ratio, abs=1e-3)
        (code,) = one.DerivationCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("113040", "DCM")
        assert "40/400 HU" in one.DerivationDescription
        assert (one.WindowCenter, one.WindowWidth) == SOFT_TISSUE
        assert one.InstanceNumber == number
        assert one.RescaleType == "HU"
        assert not one.PatientName
        assert not one.PatientID
        assert not one.StudyDate
        assert "SourceImageSequence" not in one
    assert len({one.SOPInstanceUID for one in found}) == SLICES
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({one[keyword].value for one in found}) == 1
    decode(video, tmp_path / "again")
    assert found[0].SOPInstanceUID != datasets_of(tmp_path / "again")[0].SOPInstanceUID


def _packets(path):
    import av

    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def test_hevc_is_named_as_such(tmp_path):
    from ssimrdo.codecs.lavc_x265 import LavcX265

    series = tilted_series(tmp_path / "in", ct_volume(SLICES, 64, 64))
    encode(series, tmp_path / "a.mkv", codec=LavcX265(), window=SOFT)
    decode(tmp_path / "a.mkv", tmp_path / "ct")
    assert datasets_of(tmp_path / "ct")[0].LossyImageCompressionMethod == "ISO_23008_2"


def test_a_template_brings_back_patient_and_study(series, video, tmp_path):
    result = decode(video, tmp_path / "ct", template=series)
    for one, original in zip(datasets_of(tmp_path / "ct"), in_order(series), strict=True):
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID"):
            assert one[keyword].value == original[keyword].value
        assert one.FrameOfReferenceUID == original.FrameOfReferenceUID
        assert one.SeriesInstanceUID != original.SeriesInstanceUID
        (source,) = one.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == original.SOPInstanceUID
        # Nothing else comes along.
        assert CANARY not in str(one.get("SeriesDescription"))
    sidecar = json.loads(video.with_suffix(".json").read_text())
    found, before = json.loads(json.dumps(result.as_dict()["tissue"])), sidecar["tissue"]
    # A sum over the slices in another order.
    assert found.pop("noise_kept") == pytest.approx(before.pop("noise_kept"))
    assert found == before


def test_text_of_a_template_keeps_its_character_set(hu, tmp_path):
    name = "Ямада^太郎=山田^太郎"
    for charset in (["ISO_IR 192"], ["", "ISO 2022 IR 87"]):
        folder = tmp_path / str(len(charset))
        series = tilted_series(folder / "in", hu, SpecificCharacterSet=charset, PatientName=name)
        encode(series, folder / "a.mkv", **FAST)
        decode(folder / "a.mkv", folder / "ct", template=series)
        assert datasets_of(folder / "ct")[0].PatientName == in_order(series)[0].PatientName


@needs_dciodvfy
@pytest.mark.parametrize("method", ["", "by hand"])
def test_empty_elements_of_a_template_stay_away(method, hu, tmp_path):
    series = tilted_series(
        tmp_path / "in",
        hu,
        PatientIdentityRemoved="YES",
        DeidentificationMethod=method,
        OtherPatientNames="",
        PatientComments="",
    )
    encode(series, tmp_path / "a.mkv", **FAST)
    decode(tmp_path / "a.mkv", tmp_path / "ct", template=series)
    assert errors_of(tmp_path / "ct/slice_0001.dcm") == []
    one = datasets_of(tmp_path / "ct")[0]
    assert one.get("PatientIdentityRemoved") == ("YES" if method else None)
    assert "PatientComments" not in one


def test_a_template_may_have_more_slices(hu, video, tmp_path):
    more = np.concatenate([hu, hu[:1]])
    series = tilted_series(tmp_path / "in", more)
    decode(video, tmp_path / "ct", template=series)
    assert len(list((tmp_path / "ct").iterdir())) == SLICES


@pytest.mark.parametrize(("shift", "is_same"), [(0.0, True), (0.0009, True), (0.0012, False)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_templates_are_known_by_their_places(shift, is_same, axis, hu, video, tmp_path):
    series = tilted_series(tmp_path / "in", hu)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        if float(dataset.ImagePositionPatient[2]) == 8.5:
            place = [
                float(mm) + shift * (n == axis) for n, mm in enumerate(dataset.ImagePositionPatient)
            ]
            dataset.ImagePositionPatient = [f"{mm:.6f}" for mm in place]
            dataset.save_as(path)
    if is_same:
        decode(video, tmp_path / "ct", template=series)
        return
    with pytest.raises(InputError, match="no slice lies where slice 3"):
        decode(video, tmp_path / "ct", template=series)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hu, folder: tilted_series(folder, hu[:-1]), "no slice lies where slice 6"),
        (lambda hu, folder: write_series(folder, hu), "no slice lies where slice 1"),
        (lambda hu, folder: tilted_series(folder, hu[:, :-2]), "its slices are 57x46"),
        (lambda hu, folder: tilted_series(folder, hu[::-1]), "is another image"),
        (lambda hu, folder: tilted_series(folder, hu + 3), "slice 1 .* is another image"),
    ],
)
def test_templates_that_do_not_match_are_refused(change, said, hu, video, tmp_path):
    change(hu, tmp_path / "other")
    with pytest.raises(InputError, match=said) as error:
        decode(video, tmp_path / "ct", template=tmp_path / "other")
    assert error.value.field == "template"
    assert not (tmp_path / "ct").exists()


def test_the_sidecar_serves_where_the_video_holds_no_record(series, tmp_path, capfd):
    video = tmp_path / "a.mp4"
    encode(series, video, **FAST)
    decode(video, tmp_path / "ct")
    assert_allclose(
        np.array([hu_of(one) for one in datasets_of(tmp_path / "ct")]), expected_hu(video)
    )
    video.with_suffix(".json").rename(tmp_path / "b.json")
    with pytest.raises(InputError, match=r"holds no record .* a\.json is not beside it"):
        decode(video, tmp_path / "other")
    decode(video, tmp_path / "other", record=tmp_path / "b.json")
    old = json.loads((tmp_path / "b.json").read_text())
    del old["ct"]
    video.with_suffix(".json").write_text(json.dumps(old))
    done = run_command(capfd, "decode", video, "-o", tmp_path / "third")
    assert (done.status, done.out) == (2, "")
    assert "a.json: does not say where the slices lie" in done.err
    assert error_of(done.err)


def cut(data):
    return data[: len(data) * 2 // 3]


def flipped(data):
    at = len(data) * 3 // 4
    return data[:at] + bytes(byte ^ 0x55 for byte in data[at : at + 40]) + data[at + 40 :]


def emptied(data):
    return data[:0]


def zeroed(data):
    return bytes(len(data))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("damage", [cut, flipped, emptied, zeroed])
def test_damaged_videos_are_told_in_a_line(suffix, damage, series, tmp_path, capfd):
    video = tmp_path / f"a{suffix}"
    encode(series, video, **FAST)
    video.write_bytes(damage(video.read_bytes()))
    done = run_command(capfd, "decode", video, "-o", tmp_path / "ct")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"ssimrdo: error: {video}: ")
    assert error_of(done.err)
    assert not (tmp_path / "ct").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("checksums", [7] * SLICES, "slice 1 does not decode to what was encoded"),
        ("rows", ROWS + 2, "is 58x48, its record 58x50"),
        ("bit_depth", 10, "has other samples than its record"),
        ("columns", 65535, "its record 65536x48"),
        ("window", {"center": 0, "width": 1, "function": "LINEAR", "inverted": False}, "black and"),
    ],
)
def test_records_of_another_video_are_refused(key, value, said, video, tmp_path):
    sidecar = json.loads(video.with_suffix(".json").read_text())
    sidecar["ct"][key] = value
    (tmp_path / "a.json").write_text(json.dumps(sidecar))
    with pytest.raises(InputError, match=said):
        decode(video, tmp_path / "ct", record=tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_a_record_of_fewer_or_more_slices_is_refused(video, tmp_path):
    sidecar = json.loads(video.with_suffix(".json").read_text())
    record = sidecar["ct"]
    for change, said in ((-1, "shows more than"), (1, "only 6 of 7 slices")):
        other = dict(record, frames=SLICES + change, differing={})
        for name in ("positions", "checksums", "psnr"):
            other[name] = (record[name] + record[name][-1:])[: SLICES + change]
        (tmp_path / "a.json").write_text(json.dumps({"ct": other}))
        with pytest.raises(InputError, match=said):
            decode(video, tmp_path / "ct", record=tmp_path / "a.json")
        assert not (tmp_path / "ct").exists()


def test_absurd_sizes_are_refused_at_once(video, tmp_path):
    sidecar = json.loads(video.with_suffix(".json").read_text())
    sidecar["ct"] |= {"rows": 65535, "columns": 65535, "frames": 10**5}
    (tmp_path / "a.json").write_text(json.dumps(sidecar))
    started = time.perf_counter()
    with pytest.raises(InputError, match="rows cannot be used"):
        decode(video, tmp_path / "ct", record=tmp_path / "a.json")
    assert time.perf_counter() - started < 20


def test_folders_with_other_files_stay_as_they_are(video, series, tmp_path):
    folder = tmp_path / "ct"
    decode(video, folder)
    with pytest.raises(InputError, match="is not empty"):
        decode(video, folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "slice_9999.dcm").write_bytes(b"of a longer series")
    decode(video, folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(first)
    assert first["slice_0001.dcm"] != (folder / "slice_0001.dcm").read_bytes()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="other files than slices"):
        decode(video, folder, overwrite=True)
    with pytest.raises(InputError, match="holds the input"):
        decode(video, folder, template=folder / "slice_0001.dcm", overwrite=True)
    with pytest.raises(InputError, match="holds the input"):
        decode(video, series, template=series, overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine"


def test_nothing_is_left_when_it_is_cancelled(video, tmp_path):
    observer = Observer()

    def stop(event):
        if event.done == 3:
            observer.cancel.set()

    with pytest.raises(CancelledError):
        decode(video, tmp_path / "ct", observer=Observer(stop, observer.cancel))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--syntax", "jpeg"], "--syntax: 'jpeg' is unknown: use one of explicit, rle"),
        (["--template", "nowhere"], "nowhere: no such file or folder"),
        (["--record", "nowhere"], "nowhere: cannot be read"),
    ],
)
def test_bad_options(arguments, said, video, tmp_path, capfd):
    done = run_command(capfd, "decode", video, "-o", tmp_path / "ct", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in error_of(done.err)


def test_what_is_no_video_is_refused(series, tmp_path, capfd):
    for path in (series, next(series.iterdir()), tmp_path / "nowhere"):
        done = run_command(capfd, "decode", path, "-o", tmp_path / "ct")
        assert done.status == 2
        assert error_of(done.err)


def test_the_command_tells_what_came_out(series, video, tmp_path, capfd):
    run = partial(run_command, capfd, "decode", video, "--template", series)
    text = run("-o", tmp_path / "a")
    assert f"{tmp_path / 'a'}: 6 slices, 57x48, explicit, window 40/400 HU" in text.out
    assert "RMSE" in text.out
    assert CANARY not in text.out + text.err
    found = json.loads(run("-o", tmp_path / "b", "--json").out)
    assert (found["slices"], found["rows"], found["columns"]) == (SLICES, ROWS, COLUMNS)
    assert found["tissue"]["unit"] == "HU"
    assert keys_of(found) <= documented("`decode --json`")
    assert found["slope"] == pytest.approx(399 / 255)


def test_errors_by_tissue_are_those_of_the_slices(hu, series, video, tmp_path):
    result = decode(video, tmp_path / "ct", template=series)
    source = windowed(hu)
    luma = np.array([plane(frame)[:ROWS, :COLUMNS] for frame in frames_of(video)])
    record = json.loads(video.with_suffix(".json").read_text())["ct"]
    for number in range(SLICES):
        psnr = peak_signal_noise_ratio(source[number], luma[number], data_range=255)
        assert record["psnr"][number] == pytest.approx(psnr, abs=1e-3)
    body = result.tissue.as_dict()["errors"]["body"]
    assert 0 < body["rmse"] < 30


def test_no_identity_is_in_any_byte(hu, tmp_path, capfd):
    from test_privacy import IDENTIFYING, assert_clean

    private = pydicom.Dataset()
    private.PatientName = f"{CANARY}^NESTED"
    series = tilted_series(tmp_path / f"{CANARY}^DOE", hu, **IDENTIFYING)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0029, f"{CANARY} P", create=True).add_new(1, "LO", CANARY)
        dataset.RequestAttributesSequence = [private]
        dataset.save_as(path)
        path.rename(path.with_name(f"{CANARY}-{path.name}"))
    encode(series, tmp_path / "a.mkv", **FAST)
    out = tmp_path / "out"
    out.mkdir()
    for syntax in SYNTAXES:
        arguments = (tmp_path / "a.mkv", "-o", out / syntax, "--syntax", syntax, "--json")
        done = run_command(capfd, "decode", *arguments)
        assert done.status == 0
        assert_clean((done.out + done.err).encode())
    for path in [*out.rglob("*.dcm"), tmp_path / "a.mkv", tmp_path / "a.json"]:
        data = path.read_bytes()
        assert_clean(data)
        # UIDs of the original.
        assert b"1.2.826.0.1.3680043.8.498.2" not in data
        assert b"1.2.3.4" not in data
