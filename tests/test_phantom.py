from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from ssimrdo.errors import InputError
from ssimrdo.observer import Event, Observer
from ssimrdo.phantom import (
    PhantomSettings,
    anatomy_hu,
    fbp_noise,
    phantom_slice_hu,
    reconstruction_circle,
    write_phantom,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SMALL = PhantomSettings(slices=3, size=96)


def water_cylinder(size: int, pixel_mm: float) -> NDArray[np.float32]:
    axis = (np.arange(size) - (size - 1) / 2) * pixel_mm
    inside = np.hypot(axis[:, None], axis) < 0.42 * size * pixel_mm
    return np.where(inside, 0, -1000).astype(np.float32)


def radial_spectrum(noise: NDArray[np.float32], bins: int = 8) -> NDArray[np.float64]:
    size = noise.shape[-1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = np.abs(np.fft.fft2((noise - noise.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    ring = np.floor(frequency / (0.5 / bins)).astype(int)
    return np.array([power[ring == k].mean() for k in range(bins)])


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def hu_at(image: NDArray[np.float32], pixel_mm: float, x: float, y: float) -> float:
    middle = (image.shape[0] - 1) / 2
    row, column = round(y / pixel_mm + middle), round(x / pixel_mm + middle)
    return float(np.median(image[row - 2 : row + 3, column - 2 : column + 3]))


def test_series_is_valid_dicom(tmp_path: Path) -> None:
    result = write_phantom(tmp_path / "out", SMALL)
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"slice_{i:04d}.dcm" for i in (1, 2, 3)]
    assert result.size_bytes == sum(path.stat().st_size for path in files)
    data = [pydicom.dcmread(path) for path in files]
    for index, one in enumerate(data):
        assert one.SOPClassUID == pydicom.uid.CTImageStorage
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert one.SOPInstanceUID.is_valid
        assert one.SeriesInstanceUID == result.series_uid
        assert list(one.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert one.PatientID == "PHANTOM"
        assert one.ImagePositionPatient[2] == pytest.approx(index * 1.25)
        assert list(one.WindowCenter) == [40, -600]
        assert list(one.WindowWidth) == [400, 1500]
        assert one.pixel_array.shape == (96, 96)
        assert one.pixel_array.dtype == np.int16
    assert len({one.SOPInstanceUID for one in data}) == 3
    stored = data[1].pixel_array.astype(float) + float(data[1].RescaleIntercept)
    circle = reconstruction_circle(96)
    expected = np.maximum(phantom_slice_hu(1, SMALL), -1024)
    np.testing.assert_allclose(stored[circle], expected[circle], atol=0.51)
    assert (data[1].pixel_array[~circle] == data[1].PixelPaddingValue).all()


def test_tissues_have_their_ct_numbers() -> None:
    settings = PhantomSettings(size=256, noise_hu=0)
    image = phantom_slice_hu(20, settings)
    pixel = settings.pixel_mm
    assert hu_at(image, pixel, 0, -150) == pytest.approx(-1000, abs=5)
    lung = image[(image > -950) & (image < -700)]
    assert lung.size > 5000
    assert np.median(lung) == pytest.approx(-850, abs=25)
    spinal_cord = hu_at(image, pixel, 0, 75)
    assert spinal_cord == pytest.approx(40, abs=15)
    muscle = image[(image > 20) & (image < 80)]
    assert np.median(muscle) == pytest.approx(48, abs=10)
    bone = image[100:215, 90:166]
    assert (bone > 300).sum() > 100
    assert image.max() > 500
    fat = image[(image > -130) & (image < -70)]
    assert fat.size > 1000
    assert hu_at(image, pixel, 22, 30) == pytest.approx(240, abs=25)


def test_same_settings_same_bytes(tmp_path: Path) -> None:
    write_phantom(tmp_path / "one", SMALL)
    write_phantom(tmp_path / "two", SMALL)
    assert read_folder(tmp_path / "one") == read_folder(tmp_path / "two")


def test_slices_do_not_depend_on_order_or_number() -> None:
    longer = PhantomSettings(slices=500, size=96)
    later = phantom_slice_hu(2, longer)
    phantom_slice_hu(7, SMALL)
    np.testing.assert_array_equal(phantom_slice_hu(2, SMALL), later)


def test_seed_changes_anatomy_and_noise() -> None:
    other = PhantomSettings(slices=3, size=96, seed=1)
    assert np.abs(anatomy_hu(0, SMALL) - anatomy_hu(0, other)).mean() > 1
    assert not np.array_equal(phantom_slice_hu(0, SMALL), phantom_slice_hu(0, other))


def test_neighbours_resemble_each_other_and_far_slices_do_not() -> None:
    settings = PhantomSettings(size=128)
    first, second, far = (anatomy_hu(i, settings) for i in (0, 1, 60))
    near = np.abs(first - second).mean()
    assert near > 0.5
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99
    assert np.abs(first - far).mean() > 5 * near


def test_a_long_series_travels_back_smoothly() -> None:
    settings = PhantomSettings(size=64, slice_spacing_mm=5.0)
    images = [anatomy_hu(i, settings) for i in range(31, 37)]
    steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(images)]
    assert max(steps) < 60


def test_noise_spectrum_rises_then_falls() -> None:
    pixel = 0.7
    water = water_cylinder(192, pixel)
    patches = []
    white = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise = fbp_noise(water, pixel, 12.0, rng)
        patches.append(radial_spectrum(noise[64:128, 64:128]))
        white.append(radial_spectrum(rng.normal(size=(64, 64)).astype(np.float32)))
    spectrum, flat = np.mean(patches, axis=0), np.mean(white, axis=0)
    peak = int(spectrum.argmax())
    assert 1 <= peak <= 4
    assert spectrum[0] < 0.45 * spectrum[peak]
    assert spectrum[-1] < 0.45 * spectrum[peak]
    assert flat.min() > 0.7 * flat.max()


def test_noise_has_the_magnitude_asked_for() -> None:
    water = water_cylinder(192, 0.7)
    noise = fbp_noise(water, 0.7, 12.0, np.random.default_rng(0))
    assert noise[water == 0].std() == pytest.approx(12, rel=0.08)
    assert np.abs(noise.mean()) < 0.5
    noise = phantom_slice_hu(5, PhantomSettings(size=256)) - anatomy_hu(
        5, PhantomSettings(size=256)
    )
    clean = anatomy_hu(5, PhantomSettings(size=256))
    soft = (np.abs(clean - 70) < 90) & reconstruction_circle(256)
    assert noise[soft].std() == pytest.approx(14, rel=0.15)


def test_noise_streaks_along_the_thick_direction() -> None:
    axis = (np.arange(160) - 79.5) * 1.0
    flat = (np.abs(axis) < 75)[None, :] & (np.abs(axis) < 25)[:, None]
    slab = np.where(flat, 300, -1000).astype(np.float32)
    across = along = 0.0
    for seed in range(4):
        noise = fbp_noise(slab, 1.0, 12.0, np.random.default_rng(seed))[60:100, 40:120]
        along += float((noise[:, :-2] * noise[:, 2:]).mean())
        across += float((noise[:-2] * noise[2:]).mean())
    assert along > across + 4 * 5


def test_neighbouring_slices_have_independent_noise() -> None:
    settings = PhantomSettings(size=128)
    first, second = (phantom_slice_hu(i, settings) - anatomy_hu(i, settings) for i in (3, 4))
    circle = reconstruction_circle(128)
    assert abs(np.corrcoef(first[circle], second[circle])[0, 1]) < 0.05


def test_jpeg_ls_decodes_to_the_plain_pixels(tmp_path: Path) -> None:
    write_phantom(tmp_path / "plain", SMALL)
    result = write_phantom(tmp_path / "small", SMALL, jpeg_ls=True)
    for name in read_folder(tmp_path / "plain"):
        plain = pydicom.dcmread(tmp_path / "plain" / name)
        small = pydicom.dcmread(tmp_path / "small" / name)
        assert small.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLSLossless
        assert small.SOPInstanceUID == plain.SOPInstanceUID
        np.testing.assert_array_equal(small.pixel_array, plain.pixel_array)
    assert result.size_bytes < 0.8 * sum(map(len, read_folder(tmp_path / "plain").values()))


def test_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_phantom(tmp_path, SMALL)
    with pytest.raises(InputError, match=r"notes\.txt"):
        write_phantom(tmp_path, SMALL, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_refuses_to_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        write_phantom(tmp_path / "out", SMALL, overwrite=True)


def test_overwrite_replaces_an_old_phantom(tmp_path: Path) -> None:
    write_phantom(tmp_path / "out", SMALL)
    write_phantom(tmp_path / "out", PhantomSettings(slices=1, size=65), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["slice_0001.dcm"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_phantom(tmp_path / "out", SMALL)
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [False, True])
def test_nothing_is_left_after_an_interruption(
    tmp_path: Path, error: type[BaseException], old: bool
) -> None:
    if old:
        write_phantom(tmp_path / "out", SMALL)
    before = read_folder(tmp_path / "out") if old else {}

    def stop(event: Event) -> None:
        assert event.total == 3
        if event.done == 2:
            raise error

    with pytest.raises(error):
        write_phantom(
            tmp_path / "out",
            PhantomSettings(slices=3, size=80),
            overwrite=True,
            observer=Observer(stop),
        )
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if old else [])
    if old:
        assert read_folder(tmp_path / "out") == before


@pytest.mark.parametrize("size", [65, 101, 333])
def test_odd_sizes(size: int) -> None:
    image = phantom_slice_hu(0, PhantomSettings(size=size))
    assert image.shape == (size, size)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.max() > 300


@pytest.mark.parametrize(
    "changes",
    [
        {"slices": 0},
        {"size": 63},
        {"size": 1025},
        {"seed": -1},
        {"slice_spacing_mm": 0.0},
        {"field_of_view_mm": float("nan")},
        {"noise_hu": -1.0},
    ],
)
def test_settings_out_of_range(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        PhantomSettings(**changes)


def test_negative_slice_number() -> None:
    with pytest.raises(ValueError, match="negative"):
        anatomy_hu(-1, SMALL)


def test_command_prints_json(tmp_path: Path) -> None:
    from ssimrdo.cli.phantom import phantom

    out = tmp_path / "out"
    arguments = [str(out), "--slices", "2", "--size", "64", "--seed", "5", "--jpeg-ls", "--json"]
    run = CliRunner().invoke(phantom, arguments, catch_exceptions=False)
    assert run.exit_code == 0
    result = json.loads(run.stdout)
    assert result["output"] == str(out)
    assert (result["slices"], result["size"], result["seed"]) == (2, 64, 5)
    assert result["bytes"] == sum(map(len, read_folder(out).values()))
    data = pydicom.dcmread(out / "slice_0002.dcm")
    assert data.SeriesInstanceUID == result["series_uid"]


def test_command_prints_one_line_and_raises_input_errors(tmp_path: Path) -> None:
    from ssimrdo.cli.phantom import phantom

    arguments = [str(tmp_path / "out"), "--slices", "1", "--size", "64"]
    run = CliRunner().invoke(phantom, arguments, catch_exceptions=False)
    assert run.stdout.count("\n") == 1
    with pytest.raises(InputError, match="not empty"):
        CliRunner().invoke(phantom, arguments, catch_exceptions=False)
