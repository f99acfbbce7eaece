"""What holds of every index on the registry: identity, bounds, depth, views, and bad input."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from index_frames import frames, pair_of
from scipy.ndimage import gaussian_filter

from ssimrdo import metrics

NAMES = metrics.names()
BEST = dict.fromkeys(NAMES, 1.0) | {
    "psnr": metrics.PSNR_CEILING_DB,
    "mse": 0.0,
    "max_error": 0.0,
    "gmsd": 0.0,
}
# What is kept of the reference, where 1 is best and more is no better.
RATIOS = ("noise_power", "noise_frequency", "edge_sharpness")
BOUNDS = dict.fromkeys(NAMES, (-1.0, 1.0)) | {
    "psnr": (0.0, metrics.PSNR_CEILING_DB),
    "mse": (0.0, 255.0**2),
    "max_error": (0.0, 255.0),
    "gmsd": (0.0, 0.5),
    "inverse_ssim": (1.0, 120.0),
    **dict.fromkeys(("vifp", *RATIOS), (0.0, math.inf)),
}
SYMMETRIC = set(NAMES) - {"edge_ssim", "iw_ssim", "vifp", *RATIOS}
ON_ARRAYS = (
    metrics.ssim,
    metrics.ssim_terms,
    metrics.ms_ssim,
    metrics.inverse_ssim,
    metrics.psnr_db,
    metrics.gmsd,
    metrics.gmsd_map,
    metrics.haarpsi,
    metrics.haarpsi_map,
    metrics.edge_ssim,
    metrics.iw_ssim,
    metrics.fsim,
    metrics.fsim_map,
    metrics.noise_power,
    metrics.noise_frequency,
    metrics.edge_sharpness,
    metrics.vifp,
)
WITHOUT_RANGE = {"mse", "max_error"}


def value(name, x, y, peak=255):
    return metrics.get(name).value(pair_of(x, y, peak))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(96, 80), (11, 11), (33, 57)])
def test_equal_frames_have_the_best_value(name, shape):
    x, y = frames(shape)
    best = value(name, x, x)
    assert best == pytest.approx(BEST[name], abs=2e-6)
    index = metrics.get(name)
    assert name in RATIOS or index.sign * value(name, x, y) <= index.sign * best + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_other_processes_can_be_sent_an_index(name):
    sent = pickle.loads(pickle.dumps(metrics.get(name)))
    pair = pair_of(*frames((32, 32)))
    assert sent == metrics.get(name) or sent.value(pair) == metrics.get(name).value(pair)
    assert sent.log_loss(0.5) == metrics.get(name).log_loss(0.5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0, 100, 255])
def test_constant_frames_that_are_equal_have_the_best_value(name, level):
    x = np.full((40, 48), level, np.uint8)
    assert value(name, x, x) == pytest.approx(BEST[name], abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_constant_frames_that_differ_have_a_number(name):
    x, y = np.full((40, 48), 90, np.uint8), np.full((40, 48), 110, np.uint8)
    noisy = np.random.default_rng(0).integers(80, 100, x.shape, np.uint8)
    low, high = BOUNDS[name]
    for first, second in ((x, y), (x, noisy), (noisy, x)):
        assert low - 1e-6 <= value(name, first, second) <= high + 1e-6


@settings(max_examples=15)
@given(frame=arrays(np.uint8, (2, 16, 18), elements=st.sampled_from([0, 1, 127, 128, 255])))
def test_every_frame_has_values_within_the_bounds(frame):
    x, y = frame
    pair = pair_of(x, y)
    for name in NAMES:
        low, high = BOUNDS[name]
        found = metrics.get(name).value(pair)
        assert isinstance(found, float)
        assert low - 1e-5 <= found <= high + 1e-5, name


@pytest.mark.parametrize("name", sorted(SYMMETRIC))
def test_symmetric(name):
    x, y = frames((64, 57))
    assert value(name, x, y) == pytest.approx(value(name, y, x), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_RANGE))
def test_the_same_frames_at_ten_bit_have_the_same_value(name):
    # 1023 = 255 * 4 + 3, so the frames are scaled in floats.
    x, y = (frame.astype(np.float32) for frame in frames((64, 57)))
    factor = np.float32(1023 / 255)
    fine = value(name, x * factor, y * factor, 1023)
    assert fine == pytest.approx(value(name, x, y), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RATIOS])
def test_more_noise_and_more_blur_are_worse(name):
    x = frames((128, 128), noise=0)[0].astype(np.float32)
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    index = metrics.get(name)
    values = [value(name, x, np.clip(x + sigma * noise, 0, 255)) for sigma in (2, 6, 18)]
    assert sorted(values, reverse=index.higher_is_better) == values
    values = [value(name, x, gaussian_filter(x, sigma)) for sigma in (0.6, 1.2, 2.4)]
    assert sorted(values, reverse=index.higher_is_better) == values


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_read_as_they_are_and_left_alone(name):
    x, y = frames((90, 100))
    first, second = x[5:75:1, 80:10:-1], y[5:75:1, 80:10:-1]
    before = x.copy(), y.copy()
    assert value(name, first, second) == value(name, first.copy(), second.copy())
    turned = value(name, np.asfortranarray(first), np.asfortranarray(second))
    assert turned == value(name, first, second)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [">u2", ">f4", "f2", "i2", "f8", "i4"])
def test_any_real_dtype_will_do(name, dtype):
    x, y = frames((40, 36))
    found = value(name, x.astype(dtype), y.astype(dtype))
    assert found == pytest.approx(value(name, x, y), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_frames_that_cannot_be_written_to_will_do(name):
    x, y = frames((40, 36))
    expected = value(name, x, y)
    for frame in (x, y):
        frame.setflags(write=False)
    assert value(name, x, y) == expected


@pytest.mark.parametrize("name", [name for name in NAMES if metrics.get(name).map])
@pytest.mark.parametrize("shape", [(64, 57), (11, 11)])
def test_maps_have_the_size_of_the_frame_or_of_its_windows(name, shape):
    x, y = frames(shape)
    index = metrics.get(name)
    found = index.map(pair_of(x, y))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.shape in {shape, (shape[0] - 10, shape[1] - 10)}
    # Where nothing is wrong the map is at its best.
    best = index.map(pair_of(x, x))
    if name not in {"psnr", "gmsd"}:
        np.testing.assert_allclose(best, BEST[name], atol=5e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if metrics.get(name).map])
def test_maps_show_where_the_damage_is(name):
    x, _ = frames((128, 128), noise=0)
    y = x.copy()
    y[80:96, 88:104] = gaussian_filter(y[80:96, 88:104].astype(float), 1)
    y[80:96, 88:104] ^= 7
    found = metrics.get(name).map(pair_of(x, y))
    border = (128 - found.shape[0]) // 2
    same = metrics.get(name).map(pair_of(x, x))
    changed = np.abs(found - same) > 1e-5
    rows, columns = np.nonzero(changed)
    reach = 16
    assert rows.size
    assert 80 - reach <= rows.min() + border
    assert rows.max() + border < 96 + reach
    assert 88 - reach <= columns.min() + border
    assert columns.max() + border < 104 + reach


@pytest.mark.parametrize("index", ON_ARRAYS)
def test_bad_frames_are_refused_in_one_line(index):
    x = np.full((40, 40), 7.0)
    gap = x.copy()
    gap[1, 1] = math.nan
    for first, second, reason in (
        (x, x[:, :30], "two frames of one shape"),
        (x.ravel(), x.ravel(), "two frames of one shape"),
        (x[:0], x[:0], "two frames of one shape"),
        (x, gap, "without NaN"),
        (gap, x, "without NaN"),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            index(first, second)
        assert "\n" not in str(caught.value)
    for data_range in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="data range"):
            index(x, x, data_range=data_range)


@pytest.mark.parametrize(
    ("index", "side"),
    [
        (metrics.ssim, 11),
        (metrics.edge_ssim, 11),
        (metrics.iw_ssim, 11),
        (metrics.vifp, 11),
        (metrics.fsim, 8),
        (metrics.gmsd, 2),
        (metrics.haarpsi, 2),
    ],
)
def test_frames_have_a_smallest_size(index, side):
    x, y = frames((48, 48))
    assert np.isfinite(index(x[:side, :side], y[:side, :side]))
    for rows, columns in ((side - 1, 40), (40, side - 1)):
        with pytest.raises(ValueError, match=f"at least {side}x{side}: got"):
            index(x[:rows, :columns], y[:rows, :columns])


@pytest.mark.parametrize("constants", [{"c": 0}, {"alpha": -1}])
def test_constants_are_above_zero(constants):
    x, y = frames((32, 32))
    with pytest.raises(ValueError, match="above 0"):
        metrics.haarpsi(x, y, **constants)


def test_importing_the_indices_does_not_import_scipy():
    # Numba imports the empty top of SciPy itself.
    code = "import sys, ssimrdo.metrics; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", *(f"scipy.{name}" for name in ("fft", "linalg", "ndimage", "special"))}
    assert not heavy & set(done.stdout.split())
