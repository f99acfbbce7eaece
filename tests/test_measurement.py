"""Measurements against scikit-image, the ffmpeg program and closed forms."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from video_files import ct_volume, windowed

import ssimrdo
from ssimrdo import FrameFormat, InputError, Observer, Volume, Window, encode, measure, metrics
from ssimrdo.errors import CancelledError
from ssimrdo.measurement.cautions import MOST_HIDDEN, MOST_UNSTABLE, SAFE_SSIM
from ssimrdo.measurement.loop import PENDING_PER_WORKER, USUAL
from ssimrdo.measurement.regions import POOLS, centred, value_inside
from ssimrdo.measurement.trust import trust
from ssimrdo.metrics import FramePair
from ssimrdo.metrics.tissue import TissueMap, tissue_map

ROWS, COLUMNS = 64, 84
SOFT = Window(40, 400)


@pytest.fixture(scope="module")
def volume() -> NDArray[np.int16]:
    return ct_volume(4, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def other(volume: NDArray[np.int16]) -> NDArray[np.int16]:
    """The volume with errors."""
    noise = np.random.default_rng(1).normal(0, 12, volume.shape)
    return np.rint(volume + noise).astype(np.int16)


@pytest.fixture(scope="module")
def series(volume: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, volume)
    return folder


@pytest.fixture(scope="module")
def videos(series: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Encodes of the series by their bit depth."""
    folder = tmp_path_factory.mktemp("videos")
    for depth in (8, 10):
        encode(series, folder / f"{depth}.mp4", window="soft-tissue", bit_depth=depth)
    return {depth: folder / f"{depth}.mp4" for depth in (8, 10)}


def decoded(path: Path, depth: int, shape: tuple[int, int] = (ROWS, COLUMNS)) -> NDArray[Any]:
    """Return the luma of a video as the ffmpeg program decodes it."""
    kind = {8: "gray", 10: "gray10le"}[depth]
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", kind, "-"],
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, np.uint8 if depth == 8 else np.uint16).reshape(-1, *shape)


def ssim_map(x: NDArray[Any], y: NDArray[Any], data_range: float) -> NDArray[Any]:
    """Return SSIM of the windows inside the frame as scikit-image has it."""
    _, found = structural_similarity(
        x.astype(float),
        y.astype(float),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(found[5:-5, 5:-5])


@pytest.mark.parametrize("depth", [8, 10])
def test_a_video_against_its_series(
    series: Path, videos: dict[int, Path], volume: NDArray[np.int16], depth: int
) -> None:
    peak = 2**depth - 1
    found = measure(series, videos[depth], ["ssim", "psnr"])
    shown = decoded(videos[depth], depth)
    assert [row.number for row in found.slices] == [1, 2, 3, 4]
    for row, hu, luma in zip(found.slices, volume, shown, strict=True):
        source = windowed(hu, bit_depth=depth)
        errors = (luma.astype(int) - source) * 399 / peak
        assert row.values["ssim"] == pytest.approx(ssim_map(source, luma, peak).mean(), abs=1e-5)
        psnr = 20 * np.log10(399 / np.sqrt((errors**2).mean()))
        assert row.values["psnr"] == pytest.approx(psnr, abs=1e-6)
        assert row.rmse == pytest.approx(np.sqrt((errors**2).mean()))
        assert row.max_error == pytest.approx(np.abs(errors).max())
    assert (found.unit, found.data_range) == ("HU", 399)
    assert (found.window, found.window_source) == (SOFT, "encode")
    assert found.matched_by == "position"


def test_it_says_what_the_encode_said(series: Path, videos: dict[int, Path]) -> None:
    record = json.loads(videos[8].with_suffix(".json").read_text())
    found = measure(series, videos[8], ["ssim", "weighted_ssim", "psnr"])
    assert found.tissue is not None
    assert found.tissue.as_dict() == record["tissue"]
    for row, one in zip(found.slices, record["slices"], strict=True):
        for name in found.indices:
            assert row.values[name] == pytest.approx(one[name], abs=1e-9)
        assert row.max_error_body == one["max_error_body"]


def test_summary_has_mean_worst_and_percentile(series: Path, videos: dict[int, Path]) -> None:
    found = measure(series, videos[8], ["ssim", "mse"])
    for name, worst_of in (("ssim", min), ("mse", max)):
        values = [row.values[name] or 0.0 for row in found.slices]
        summary = found.summary[name]
        assert summary is not None
        assert summary.mean == pytest.approx(np.mean(values))
        assert summary.worst == worst_of(values)
        assert summary.worst_number == values.index(worst_of(values)) + 1
        assert summary.p5 == summary.worst


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_hu_against_hu_inside_the_window(
    volume: NDArray[np.int16], other: NDArray[np.int16], dtype: type
) -> None:
    """With the window's width as data range; -160 and 239 HU are black and white."""
    found = measure(
        Volume(volume), Volume(other.astype(dtype)), ["ssim", "mse", "psnr"], window=SOFT
    )
    for row, one, two in zip(found.slices, volume, other, strict=True):
        x, y = (np.clip(hu.astype(float), -160, 239) + 160 for hu in (one, two))
        assert row.values["ssim"] == pytest.approx(ssim_map(x, y, 399).mean(), abs=1e-5)
        assert row.values["mse"] == pytest.approx(((x - y) ** 2).mean())
        assert row.max_error == pytest.approx(np.abs(x - y).max())
    assert (found.unit, found.data_range) == ("HU", 399)


def test_fractions_of_hu_are_kept(volume: NDArray[np.int16]) -> None:
    found = measure(Volume(volume), Volume(volume + 0.4), ["mse"], window=Window(0, 4000))
    assert found.slices[0].rmse == pytest.approx(0.4, abs=0.2)
    found = measure(Volume(volume), Volume(volume + 0.4), ["mse"], window=Window(40, 80))
    inside = (volume[0] > 1) & (volume[0] < 79)
    assert found.slices[0].max_error == pytest.approx(0.4, abs=0.01)
    expected = np.sqrt(0.16 * inside.mean())
    assert found.slices[0].rmse == pytest.approx(expected, rel=0.05)


def test_a_data_range_shows_all_hu(volume: NDArray[np.int16], other: NDArray[np.int16]) -> None:
    found = measure(Volume(volume), Volume(other), ["ssim"], data_range=2500)
    for row, one, two in zip(found.slices, volume, other, strict=True):
        x, y = (np.clip(hu.astype(float) + 1024, 0, 2500) for hu in (one, two))
        assert row.values["ssim"] == pytest.approx(ssim_map(x, y, 2500).mean(), abs=1e-5)
    assert found.data_range == 2500
    with pytest.raises(InputError, match="a window says already"):
        measure(Volume(volume), Volume(other), data_range=2500, window="lung")


def test_monochrome1_is_measured_as_it_is_shown(volume: NDArray[np.int16]) -> None:
    """The luminance term sees the negative, and errors keep their sign in HU."""
    lifted = volume + np.int16(7)
    plain = measure(Volume(volume), Volume(lifted), ["ssim"], window=SOFT)
    negative = measure(
        Volume(volume, inverted=True), Volume(lifted, inverted=True), ["ssim"], window=SOFT
    )
    x, y = (np.clip(hu[0].astype(float), -160, 239) + 160 for hu in (volume, lifted))
    expected = ssim_map(399 - x, 399 - y, 399).mean()
    assert negative.slices[0].values["ssim"] == pytest.approx(expected, abs=1e-5)
    assert negative.slices[0].values["ssim"] != pytest.approx(plain.slices[0].values["ssim"])
    for found in (plain, negative):
        assert found.tissue is not None
        body = found.tissue.errors[metrics.tissue.Area.UNCLIPPED]
        assert body is not None
        assert body.bias == pytest.approx(7, abs=0.01)


def test_a_sigmoid_has_no_hu(volume: NDArray[np.int16], other: NDArray[np.int16]) -> None:
    found = measure(Volume(volume), Volume(other), "ssim", window=Window(40, 400, "SIGMOID"))
    assert (found.unit, found.data_range) == ("grey levels", 1023)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, np.int32])
def test_arrays_of_any_type(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 201, (2, 30, 41))
    y = np.clip(x + rng.integers(-9, 10, x.shape), 0, 200)
    found = measure(x.astype(dtype), list(y.astype(dtype)), ["ssim", "mse"], data_range=200)
    for row, one, two in zip(found.slices, x, y, strict=True):
        assert row.values["ssim"] == pytest.approx(ssim_map(one, two, 200).mean(), abs=2e-5)
        assert row.values["mse"] == pytest.approx(((one - two) ** 2).mean(), rel=1e-3)
        assert row.max_error == pytest.approx(np.abs(one - two).max(), rel=1e-3)
    assert (found.unit, found.data_range) == ("grey levels", 200)


def test_two_dimensions_are_a_slice_and_luma_needs_no_range() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2, 30, 41)).astype(np.uint8)
    found = measure(x, y, "ssim")
    assert len(found.slices) == 1
    assert found.slices[0].values["ssim"] == pytest.approx(ssim_map(x, y, 255).mean(), abs=1e-5)


def test_of_two_depths_the_lower_is_scaled() -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 41)).astype(np.uint8)
    for one, two in ((x, x.astype(np.uint16) * 257), (x.astype(np.uint16) * 257, x)):
        found = measure(one, two, "max_error")
        assert found.data_range == 65535
        assert found.slices[0].max_error == 0


def test_luma_against_hu_is_shown_through_the_window(
    volume: NDArray[np.int16], other: NDArray[np.int16]
) -> None:
    luma = windowed(other, bit_depth=10).astype(np.uint16)
    found = measure(Volume(volume), luma, "ssim", window=SOFT, data_range=1023)
    again = measure(luma, Volume(volume), "ssim", window=SOFT, data_range=1023)
    for row, mirrored, one, two in zip(found.slices, again.slices, volume, luma, strict=True):
        expected = ssim_map(windowed(one, bit_depth=10), two, 1023).mean()
        assert row.values["ssim"] == pytest.approx(expected, abs=1e-5)
        assert mirrored.values["ssim"] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="65535, and HU are shown with 255 or 1023"):
        measure(Volume(volume), luma, "ssim", window=SOFT)


def test_luma_has_hu_where_a_window_is_given() -> None:
    x = np.random.default_rng(0).integers(0, 250, (30, 41)).astype(np.uint8)
    found = measure(x, x + np.uint8(5), ["mse"], window=SOFT)
    assert (found.unit, found.slices[0].max_error) == ("HU", pytest.approx(5 * 399 / 255))
    assert found.slices[0].values["mse"] == pytest.approx((5 * 399 / 255) ** 2)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (np.zeros((2, 20, 20), np.uint8), np.zeros((3, 20, 20), np.uint8), {}, "2 in .*, 3 in"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 30), np.uint8), {}, "20x20 in .*, 30x20"),
        (np.zeros((20, 20), np.int16), np.zeros((20, 20), np.int16), {}, "range of int16"),
        (np.zeros((20, 20), bool), np.zeros((20, 20), bool), {}, "bool are no samples"),
        (np.zeros((0, 20, 20), np.uint8), np.zeros((20, 20), np.uint8), {}, "has no slices"),
        (np.zeros((1, 1, 20, 20)), np.zeros((20, 20)), {}, "2 or 3 dimensions"),
        (np.zeros((20, 20)), np.full((20, 20), np.nan), {"data_range": 1}, "no finite numbers"),
        (np.zeros((20, 20)), np.full((20, 20), 2.0), {"data_range": 1}, "outside 0 to 1"),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), {"indices": "ssim"}, "11x11"),
        (5, np.zeros((20, 20), np.uint8), {}, "int"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), {"match": "x"}, "one of auto"),
        (
            *np.zeros((2, 20, 20), np.uint8),
            {"match": "position"},
            "nothing tells where its slices lie",
        ),
        (*np.zeros((2, 20, 20), np.uint8), {"video_range": "x"}, "one of auto"),
        (*np.zeros((2, 20, 20), np.uint8), {"indices": ["nix"]}, "'nix' is unknown"),
        (*np.zeros((2, 20, 20), np.uint8), {"roi": np.zeros((20, 20))}, "the region is empty"),
        (*np.zeros((2, 20, 20), np.uint8), {"roi": np.ones((20, 21))}, "21x20, the slices are"),
        (*np.zeros((2, 20, 20), np.uint8), {"roi": "3,3,0,4"}, "is empty"),
        (
            *np.zeros((2, 20, 20), np.uint8),
            {"roi": "15,3,6,4"},
            "beyond the slices, which are 20x20",
        ),
        (*np.zeros((2, 20, 20), np.uint8), {"roi": "nix"}, "neither body"),
    ],
)
def test_bad_input_is_one_line(x: Any, y: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        measure(x, y, **options)
    assert "\n" not in str(caught.value)


def test_iterators_may_not_end_early() -> None:
    frames = list(np.zeros((3, 20, 20), np.uint8))
    for one, two in ((frames, frames[:2]), (frames[:2], frames)):
        with pytest.raises(InputError, match="numbers of slices differ: 2 in"):
            measure(iter(one), iter(two), "mse")


def test_constant_slices_have_the_documented_values() -> None:
    grey = np.full((2, 30, 30), 100, np.uint8)
    same, lifted = measure(grey, grey, "all"), measure(grey, grey + np.uint8(5), "all")
    assert same.warnings == ()
    for found in (same, lifted):
        assert set(found.indices) == set(metrics.names())
        assert all(one is not None for one in found.summary.values())
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 105 + c1) / (100**2 + 105**2 + c1)
    assert lifted.slices[0].values["ssim"] == pytest.approx(expected, abs=1e-6)
    assert lifted.slices[0].rmse == 5


def test_small_frames_have_what_can_be_known() -> None:
    found = measure(*np.arange(128, dtype=np.uint8).reshape(2, 8, 8))
    assert found.tissue is None
    assert "ssim" not in found.indices
    assert any("ssim is left out" in note for note in found.notes)
    assert found.slices[0].rmse == 64


# Regions


@pytest.fixture(scope="module")
def pair() -> FramePair:
    rng = np.random.default_rng(3)
    x = np.clip(gaussian_filter(rng.normal(0, 300, (181, 192)), 2) + 110, 0, 255).astype(np.uint8)
    y = np.clip(x + rng.normal(0, 9, x.shape), 0, 255).astype(np.uint8)
    return FramePair(x, y, FrameFormat(*x.shape))


def test_what_is_pooled_is_its_map_pooled(pair: FramePair) -> None:
    for name, pool in POOLS.items():
        index = metrics.get(name)
        assert index.map is not None
        values = index.map(pair)
        assert centred(values, pair.format.shape) is not None
        # GMSD's map repeats the samples of half the resolution.
        close = 0.01 if name == "gmsd" else 1e-5
        assert pool(values.ravel(), 255) == pytest.approx(index.value(pair), rel=close)


def test_no_index_that_is_the_mean_of_its_map_is_boxed(pair: FramePair) -> None:
    for name in metrics.names():
        index = metrics.get(name)
        if name not in POOLS and index.map is not None:
            mean = float(index.map(pair).mean(dtype=np.float64))
            assert mean != pytest.approx(index.value(pair), rel=1e-4), name


def test_ssim_in_a_rectangle_and_under_a_mask(pair: FramePair) -> None:
    expected = ssim_map(pair.source, pair.shown, 255)
    found = measure(pair.source, pair.shown, ["ssim", "psnr", "ssim_min"], roi="20,30,50,40")
    inside = expected[25:65, 15:65]
    values = found.slices[0].values
    assert values["ssim"] == pytest.approx(inside.mean(), abs=1e-5)
    assert values["ssim_min"] == pytest.approx(inside.min(), abs=1e-4)
    error = (pair.source.astype(float) - pair.shown)[30:70, 20:70]
    assert values["psnr"] == pytest.approx(10 * np.log10(255**2 / (error**2).mean()))
    assert found.slices[0].rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert found.tissue is not None
    body = found.tissue.errors[metrics.tissue.Area.BODY]
    assert body is not None
    assert body.samples <= error.size
    mask = np.add.outer(np.arange(181), np.arange(192)) % 3 == 0
    found = measure(pair.source, pair.shown, "ssim", roi=mask)
    assert found.slices[0].values["ssim"] == pytest.approx(
        expected[mask[5:-5, 5:-5]].mean(), abs=1e-5
    )


def test_other_indices_are_those_of_the_rectangle_around_the_region(pair: FramePair) -> None:
    mask = np.zeros((181, 192), bool)
    mask[10, 20], mask[109, 139] = True, True
    box = (slice(10, 110), slice(20, 140))
    cut = FramePair(
        pair.source[box].copy(), pair.shown[box].copy(), FrameFormat(100, 120, bit_depth=8)
    )
    found = measure(pair.source, pair.shown, ["ssim", "haarpsi", "ms_ssim"], roi=mask)
    assert found.boxed == ("haarpsi", "ms_ssim")
    for name in found.boxed:
        index = metrics.get(name)
        assert found.slices[0].values[name] == pytest.approx(index.value(cut))
        assert value_inside(index, pair, mask) == pytest.approx(index.value(cut))


def test_a_region_too_small_for_an_index(pair: FramePair) -> None:
    with pytest.raises(InputError, match="ms_ssim cannot be measured in the region"):
        measure(pair.source, pair.shown, ["ms_ssim"], roi="0,0,5,5")
    found = measure(pair.source, pair.shown, ["ssim", "psnr"], roi="0,0,5,5")
    # No window is centred there.
    assert found.slices[0].values["ssim"] is None
    assert found.slices[0].values["psnr"] is not None
    assert [one.code for one in found.warnings] == ["index_undefined"]


def test_a_slice_without_a_body_has_no_value(volume: NDArray[np.int16]) -> None:
    empty = volume.copy()
    empty[1] = -1000
    found = measure(Volume(empty), Volume(empty + 3), ["ssim", "haarpsi"], roi="body", window=SOFT)
    assert found.slices[1].values == {"ssim": None, "haarpsi": None}
    assert found.slices[1].rmse is None
    assert found.slices[0].values["ssim"] is not None
    summary = found.summary["ssim"]
    assert summary is not None
    values = [row.values["ssim"] for row in found.slices if row.number != 2]
    assert summary.mean == pytest.approx(np.mean(values))


def test_a_body_smaller_than_an_index_takes_has_no_value() -> None:
    hu = np.full((2, 40, 40), -1000.0)
    hu[0, 5:35, 5:35] = hu[1, 5:11, 5:11] = 40
    found = measure(Volume(hu), Volume(hu), ["ms_ssim", "psnr"], roi="body", window=SOFT)
    assert [row.values["ms_ssim"] for row in found.slices] == [1, None]
    assert [row.values["psnr"] for row in found.slices] == [100, 100]
    (warning,) = (one for one in found.warnings if one.code == "index_undefined")
    assert warning.slices == (2,)


# Warnings


def moments(frame: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    x = frame.astype(float)
    mean = gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]
    square = gaussian_filter(x * x, 1.5, truncate=3.5)[5:-5, 5:-5]
    return mean, square - mean**2


def test_shares_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(5)
    spread = np.geomspace(0.5, 70, 96)
    x = np.clip(110 + rng.normal(0, 1, (80, 96)) * spread, 0, 255).astype(np.uint8)
    x[:20] = rng.integers(0, 3, (20, 96))
    y = np.clip(x + rng.normal(0, 3, x.shape), 0, 255).astype(np.uint8)
    pair = FramePair(x, y, FrameFormat(80, 96))
    codes = TissueMap(np.zeros(x.shape, np.uint8))
    found = trust(pair, codes, np.ones(x.shape, bool))
    assert found is not None
    (mx, vx), (my, vy) = moments(x), moments(y)
    c1, c2 = 2.55**2, 7.65**2
    unstable = (mx**2 + my**2 < c1) | (vx + vy < c2)
    insensitive = 1 / (2 * vx + c2) < 0.25 / (2 * 150 + c2)
    squared = ((x.astype(float) - y) ** 2)[5:-5, 5:-5]
    assert 0.1 < unstable.mean() < 0.9
    assert 0.1 < insensitive.mean() < 0.9
    assert found.unstable_share == pytest.approx(unstable.mean(), abs=2e-3)
    assert found.insensitive_share == pytest.approx(insensitive.mean(), abs=2e-3)
    expected = squared[insensitive].sum() / squared.sum()
    assert found.hidden_error_share == pytest.approx(expected, abs=5e-3)


def test_bright_windows_count_as_insensitive_beside_dark_tissue() -> None:
    """An offset costs 1/(2 µ² + C1): a sixteenth where it is four times as bright."""
    x = np.full((60, 60), 50, np.uint8)
    x[:, 30:] = 200
    tissue = tissue_map(x)
    flat = TissueMap(np.where(np.arange(60) < 25, tissue.codes, 0).astype(np.uint8))
    pair = FramePair(x, x + np.uint8(2), FrameFormat(60, 60))
    found = trust(pair, flat, np.ones(x.shape, bool))
    assert found is not None
    # Half of the windows, and those that hold the edge.
    assert 0.5 <= found.insensitive_share < 0.65


def codes_of(found: Any) -> dict[str, Any]:
    return {one.code: one for one in found.warnings}


def test_a_lost_structure_in_a_safe_slice_is_warned_of() -> None:
    """A calcification of a few samples is gone: SSIM hardly sees it."""
    hu = np.full((2, 96, 96), -1000.0)
    hu[:, 10:86, 10:86] = 40 + np.random.default_rng(0).normal(0, 15, (2, 76, 76))
    lost = hu.copy()
    hu[1, 40:43, 40:43] = 230
    found = measure(Volume(hu), Volume(lost), "ssim", window=SOFT)
    assert found.slices[1].values["ssim"] > SAFE_SSIM
    warning = codes_of(found)["ssim_hides_error"]
    assert warning.slices == (2,)
    assert warning.share == 0.5
    assert "HU in slice 2" in warning.text
    assert "50 %" in warning.text
    assert "ssim_hides_error" not in codes_of(measure(Volume(lost), Volume(lost), "ssim"))


def test_even_slices_are_warned_of() -> None:
    """Deviations of 2 HU are far below sqrt(C2) = 12 HU in this window: SSIM misses their loss."""
    rng = np.random.default_rng(0)
    hu = np.full((1, 96, 96), -1000.0)
    hu[:, 10:86, 10:86] = 40
    noisy = hu.copy()
    noisy[:, 10:86, 10:86] += rng.normal(0, 2, (1, 76, 76))
    found = measure(Volume(noisy), Volume(hu), "ssim", window=SOFT)
    warning = codes_of(found)["ssim_unstable"]
    assert warning.share is not None
    assert warning.share > MOST_UNSTABLE
    assert f"{100 * warning.share:.0f} %" in warning.text


def test_errors_at_edges_are_warned_of() -> None:
    hu = np.full((1, 128, 128), -160.0)
    hu[:, 8:120, 8:120] = 30 + np.random.default_rng(0).normal(0, 15, (1, 112, 112))
    hu[:, 20:100, 60:68] = 235
    wrong = hu.copy()
    wrong[:, 20:100, 60:68] -= 25
    found = measure(Volume(hu), Volume(wrong), "ssim", window=SOFT)
    warning = codes_of(found)["ssim_insensitive"]
    assert warning.share is not None
    assert warning.share > MOST_HIDDEN
    trusts = [row.trust for row in found.slices if row.trust]
    assert trusts[0].insensitive_share < 0.5


def test_a_range_that_is_not_used_is_warned_of() -> None:
    x = np.random.default_rng(0).integers(0, 4096, (2, 30, 30)).astype(np.uint16)
    assert codes_of(measure(*x, "ssim"))["range_not_used"].share == pytest.approx(1 / 16, rel=0.01)
    assert "range_not_used" not in codes_of(measure(*x, "ssim", data_range=4095))


# How it works


def test_slices_are_read_as_they_are_needed() -> None:
    given, told = 0, 0
    ahead = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal given
        for number in range(60):
            given += 1
            ahead.append(given / 2 - told)
            yield np.full((20, 20), number, np.uint8)

    def tell(event: Any) -> None:
        nonlocal told
        told = event.done

    measure(frames(), frames(), "mse", workers=2, observer=Observer(tell))
    assert told == 60
    assert max(ahead) <= 2 * PENDING_PER_WORKER + 2


def test_it_can_be_cancelled() -> None:
    observer = Observer()
    observer.cancel.set()
    with pytest.raises(CancelledError):
        measure(*np.zeros((2, 20, 20), np.uint8), observer=observer)


def test_threads_do_not_change_what_comes_out(series: Path, videos: dict[int, Path]) -> None:
    one, many = (measure(series, videos[8], workers=workers) for workers in (1, 4))
    assert one.to_dict() == many.to_dict()


def test_what_is_measured_by_default_is_there() -> None:
    assert set(USUAL) <= set(metrics.names())
    assert ssimrdo.measure is measure


def test_a_result_is_plain_json(series: Path, videos: dict[int, Path]) -> None:
    record = measure(series, videos[8], "all").to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
