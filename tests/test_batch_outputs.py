"""What a batch writes beside MP4: DICOM objects, folders of CT images, the whole range of HU."""

from __future__ import annotations

import json
from fractions import Fraction

import fsspec
import numpy as np
import pydicom
import pytest
from batch_series import write_tree
from dicom_files import write_series
from video_files import ct_volume

from ssimrdo.batch import BatchSettings, CTSettings, prune, read_results, run
from ssimrdo.dicom import load_hu, open_series
from ssimrdo.encoding.ct_series import encode_ct
from ssimrdo.encoding.encode import encode
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.executors import InProcess

CT = BatchSettings(CTSettings.of(max_hu_error=20))


def write(root, *names):
    for number, name in enumerate(names):
        hu = ct_volume(3, 64, 64, seed=number)
        uid = f"1.2.{sum(name.encode())}"
        write_series(root / name, hu, SeriesInstanceUID=uid, PixelSpacing=[1, 1])


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "in", "a", "a/below")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run_in(root, out, settings):
    return run(root, out, settings, executor=InProcess()).totals


def files(out):
    return sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.is_file() and not path.name.startswith((".ssimrdo", "results", "report"))
    )


def pixels_of(folder):
    series, _ = open_series(folder)
    return np.stack([load_hu(header) for header in series.slices])


def test_dicom_objects(root, out, tmp_path):
    settings = BatchSettings(suffix=".dcm")
    assert run_in(root, out, settings).encoded == 2
    assert files(out) == ["a.dcm", "a.json", "a/below.dcm", "a/below.json"]
    found = pydicom.dcmread(out / "a.dcm")
    assert found.file_meta.TransferSyntaxUID.name.startswith("MPEG-4 AVC/H.264")
    assert found.NumberOfFrames == 3
    alone = encode(root / "a/below", tmp_path / "x.dcm", EncodeSettings(threads=1))
    record = {one.output: one for one in read_results(out)}["a/below.dcm"]
    assert record.quality["ssim_mean"] == pytest.approx(alone.ssim.mean)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64") == 2
    assert run_in(root, out, settings).done_before == 2


@pytest.mark.parametrize("options", [{"bit_depth": 10}, {"window": "full"}])
def test_dicom_objects_of_10_bit_are_refused_before_anything_runs(options):
    with pytest.raises(InputError, match=r"no transfer syntax for H\.264 of 10 bit"):
        BatchSettings(EncodeSettings.of(**options), suffix=".dcm")


def test_a_manifest_refuses_them_by_line_and_column(root, out):
    jobs = root / "jobs.csv"
    jobs.write_text("series,bit_depth\na,10\n")
    with pytest.raises(InputError, match="line 2, column bit_depth: DICOM has no transfer syntax"):
        run(None, out, BatchSettings(suffix=".dcm"), manifest=jobs, executor=InProcess())


def test_folders_of_ct_images(root, out, tmp_path):
    assert run_in(root, out, CT).encoded == 2
    slices = [f"slice_{number:04d}.dcm" for number in (1, 2, 3)]
    assert files(out) == sorted(
        [
            *(f"{name}.ct/{one}" for name in ("a", "a/below") for one in slices),
            *("a.json", "a/below.json"),
        ]
    )
    assert CT.encode.goal.max_hu_error == 20
    for name in ("a", "a/below"):
        error = np.abs(pixels_of(out / f"{name}.ct") - pixels_of_source(root, name))
        assert 0 < error.max() <= 20
    alone = encode_ct(root / "a/below", tmp_path / "x", CT.encode.goal)
    np.testing.assert_array_equal(pixels_of(out / "a/below.ct"), pixels_of(tmp_path / "x"))
    record = {one.output: one for one in read_results(out)}["a/below.ct"]
    sizes = [path.stat().st_size for path in (out / "a/below.ct").iterdir()]
    assert record.output_bytes == sum(sizes)
    assert record.quality["ssim_mean"] == pytest.approx(alone.quality["ssim"].mean)
    assert record.worst_slice == int(np.argmin([row["ssim"] for row in alone.per_slice]))
    assert (record.slices, record.bit_depth, record.kbps) == (3, 16, None)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64") == 2


def pixels_of_source(root, name):
    found = [pydicom.dcmread(path) for path in (root / name).glob("*.dcm")]
    found.sort(key=lambda one: one.ImagePositionPatient[2])
    return np.stack([one.pixel_array * one.RescaleSlope + one.RescaleIntercept for one in found])


def test_ct_images_are_resumed_and_made_again_when_options_change(root, out):
    run_in(root, out, CT)
    before = pydicom.dcmread(out / "a.ct/slice_0001.dcm").SOPInstanceUID
    assert run_in(root, out, CT).done_before == 2
    assert pydicom.dcmread(out / "a.ct/slice_0001.dcm").SOPInstanceUID == before
    (out / "a.ct/slice_0002.dcm").unlink()
    assert run_in(root, out, CT).encoded == 1
    assert len(list((out / "a.ct").iterdir())) == 3
    coarser = BatchSettings(CTSettings.of(max_hu_error="60"))
    assert run_in(root, out, coarser).encoded == 2
    assert json.loads((out / "a.json").read_text())["settings"]["max_hu_error"] == 60


def test_ct_images_go_to_a_store_and_are_pruned_there(root):
    place = "memory://folders/out"
    assert run_in(root, place, CT).encoded == 2
    store = fsspec.filesystem("memory")
    names = {path.removeprefix("/folders/out/") for path in store.find("/folders/out")}
    assert {"a.ct/slice_0003.dcm", "a/below.ct/slice_0001.dcm", "a.json"} <= names
    assert run_in(root, place, CT).done_before == 2
    for path in (root / "a/below").iterdir():
        path.unlink()
    run_in(root, place, CT)
    assert [one.output for one in prune(place)] == ["a/below.ct"]
    left = {path.removeprefix("/folders/out/") for path in store.find("/folders/out")}
    store.rm("/folders", recursive=True)
    assert not any("below" in name for name in left)
    assert "a.ct/slice_0001.dcm" in left


def test_a_manifest_of_ct_images(root, out):
    jobs = root / "jobs.csv"
    write(root, "c")
    jobs.write_text("series,max_hu_error,min_ssim,syntax,output\nc,5,,,\na/below,,0.9,j2k,x.ct\n")
    run(None, out, CT, manifest=jobs, executor=InProcess())
    settings = {name: json.loads((out / f"{name}.json").read_text())["settings"] for name in "cx"}
    assert (settings["c"]["max_hu_error"], settings["c"]["min"]) == (5, None)
    assert (settings["x"]["max_hu_error"], settings["x"]["min"]) == (None, "ssim=0.9")
    assert settings["x"]["syntax"] == "j2k"


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("series,crf\na,20\n", CT, "line 2, column crf: is for videos"),
        ("series,syntax\na,mp3\n", CT, "line 2, column syntax: 'mp3' is unknown"),
        ("series,strict\na,maybe\n", CT, "line 2, column strict: 'maybe' is neither"),
        ("series,max_hu_error\na,5\n", BatchSettings(), "column max_hu_error: is for CT images"),
        ("series,output\na,x.mp4\n", CT, "column output: x.mp4 does not end in .ct"),
    ],
)
def test_columns_that_do_not_go_with_the_kind_of_output(root, out, text, settings, said):
    (root / "jobs.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        run(None, out, settings, manifest=root / "jobs.csv", executor=InProcess())
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"suffix": ".mkv"}, "suffix"), ({"volumes": True}, "volumes")],
)
def test_what_does_not_go_with_ct_images(settings, field):
    with pytest.raises(InputError) as caught:
        BatchSettings(CTSettings(), **settings)
    assert caught.value.field == field


def test_the_whole_range_of_hu_padding_protect_and_strict(root, out):
    options = {"window": "full", "protect": "lung,bone", "padding": "darkest"}
    run_in(root, out, BatchSettings(EncodeSettings.of(**options)))
    sidecar = json.loads((out / "a.json").read_text())
    assert (sidecar["bit_depth"], len(sidecar["windows"])) == (10, 2)
    assert (sidecar["ct"]["padding"], sidecar["settings"]["padding"]) == ("darkest", "darkest")
    next((root / "a/below").iterdir()).unlink()
    names = sorted((root / "a").glob("*.dcm"))
    names[1].unlink()
    write_series(root / "b", ct_volume(5, 64, 64), SeriesInstanceUID="1.2.9")
    sorted((root / "b").iterdir())[1].unlink()
    run_in(root, out, BatchSettings(EncodeSettings.of(strict=True)))
    reasons = {one.output: one.reason for one in read_results(out)}
    assert "missing" in reasons["b.mp4"]


def test_the_same_in_a_manifest(root, out):
    write(root, "c")
    (root / "jobs.csv").write_text(
        "series,window,protect,padding,strict\n"
        'c,full,"lung,bone",darkest,\na/below,lung,none,air,yes\n'
    )
    run(None, out, manifest=root / "jobs.csv", executor=InProcess())
    c, below = (json.loads((out / f"{name}.json").read_text()) for name in ("c", "a/below"))
    assert (c["bit_depth"], len(c["windows"]), c["ct"]["padding"]) == (10, 2, "darkest")
    assert (below["bit_depth"], below["settings"]["strict"]) == (8, True)


def test_a_depth_that_goes_with_a_window_goes_when_it_does():
    wide = EncodeSettings.of(window="full")
    assert (wide.bit_depth, wide.changed({"window": "lung"}).bit_depth) == (10, 8)
    assert EncodeSettings.of().changed({"window": "full"}).bit_depth == 10
    kept = EncodeSettings.of(bit_depth=10, fps=Fraction(5)).changed({"window": "lung"})
    assert (kept.bit_depth, kept.fps) == (10, 5)
    assert wide.changed({"window": "full", "bit_depth": 8}).bit_depth == 8


def test_nothing_of_whose_series_it_is_gets_into_ct_folders(tmp_path, out):
    write_tree(tmp_path / "in", "a")
    run_in(tmp_path / "in", out, CT)
    assert b"CANARY" not in b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())
