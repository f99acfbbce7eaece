"""Noise power spectra of noise whose spectrum is known, and the noise that is kept."""

from __future__ import annotations

import numpy as np
import pytest
from index_frames import pair_of
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.signal import welch

from ssimrdo import metrics
from ssimrdo.metrics.noise import flat_mask

SPACING = (0.5, 0.8)


def white(sigma=10.0, shape=(512, 512), seed=0):
    return np.random.default_rng(seed).normal(40, sigma, shape)


def test_white_noise_has_a_flat_spectrum_of_its_variance():
    spectrum = metrics.noise_power_spectrum(white(), spacing=SPACING)
    assert spectrum.power.shape == (32, 32)
    assert spectrum.power[16, 16] == pytest.approx(0, abs=1e-9)
    rest = np.delete(spectrum.power.ravel(), 16 * 32 + 16)
    # σ² Δr Δc
    assert rest.mean() == pytest.approx(100 * 0.4, rel=0.01)
    assert rest.std() < 0.15 * rest.mean()
    assert spectrum.variance == pytest.approx(100 * (1 - 1 / 32**2), rel=0.01)
    assert spectrum.blocks == 31 * 31


def test_the_integral_is_the_variance_about_the_means():
    x = white(shape=(64, 64))
    spectrum = metrics.noise_power_spectrum(x, spacing=SPACING, side=16)
    windows = np.lib.stride_tricks.sliding_window_view(x, (16, 16))[::8, ::8]
    assert spectrum.variance == pytest.approx(windows.var(axis=(2, 3)).mean())


def test_filtered_noise_has_the_filters_spectrum():
    taps = np.array([0.25, 0.5, 0.25])
    x = correlate1d(correlate1d(white(), taps, axis=0, mode="wrap"), taps, axis=1, mode="wrap")
    spectrum = metrics.noise_power_spectrum(x, spacing=SPACING, side=64)
    down, across = (
        np.cos(np.pi * axis * step) ** 4
        for axis, step in ((spectrum.down, SPACING[0]), (spectrum.across, SPACING[1]))
    )
    expected = 100 * 0.4 * np.outer(down, across)
    middle = slice(8, 56)
    found = gaussian_filter(spectrum.power, 1.5)[middle, middle]
    smooth = gaussian_filter(expected, 1.5)[middle, middle]
    np.testing.assert_allclose(found[smooth > 2], smooth[smooth > 2], rtol=0.25)
    assert spectrum.variance == pytest.approx(expected.sum() / (64**2 * 0.4), rel=0.02)


def test_frequencies_are_in_cycles_per_mm():
    spectrum = metrics.noise_power_spectrum(white(shape=(64, 64)), spacing=SPACING, side=16)
    assert spectrum.down[0] == -1 / (2 * SPACING[0])
    assert spectrum.across[0] == -1 / (2 * SPACING[1])
    assert spectrum.down[8] == spectrum.across[8] == 0
    assert spectrum.frequency[8, 9] == pytest.approx(1 / (16 * SPACING[1]))


def test_a_wave_stands_at_its_frequency():
    """Its power is that of a cosine, half the square of its amplitude."""
    wave = 6 * np.cos(2 * np.pi * 5 / 32 * np.arange(128)) * np.ones((128, 1))
    spectrum = metrics.noise_power_spectrum(wave, spacing=(0.7, 0.7))
    peak = np.unravel_index(spectrum.power.argmax(), (32, 32))
    assert peak[0] == 16
    assert abs(spectrum.across[peak[1]]) == pytest.approx(5 / 32 / 0.7)
    assert spectrum.variance == pytest.approx(18)
    assert spectrum.mean_frequency == pytest.approx(5 / 32 / 0.7)
    frequencies, power = spectrum.radial()
    assert frequencies[power.argmax()] == pytest.approx(5 / 32 / 0.7, rel=0.1)


def test_the_radial_profile_is_the_mean_over_directions():
    x = gaussian_filter(white(), 1.0, mode="wrap")
    frequencies, power = metrics.noise_power_spectrum(x, side=64).radial()
    assert len(frequencies) == len(power) == 32
    assert (np.diff(frequencies) > 0).all()
    expected = 100 * np.exp(-((2 * np.pi * frequencies) ** 2))
    low = (frequencies > 0.04) & (frequencies < 0.3)
    np.testing.assert_allclose(power[low], expected[low], rtol=0.25)


@pytest.mark.parametrize("side", [4, 5, 16, 33])
@pytest.mark.parametrize("spacing", [(1, 1), (0.5, 0.8), (3, 0.4), (0.1, 5)])
def test_every_ring_of_the_profile_has_frequencies(side, spacing):
    x = white(shape=(70, 66))
    frequencies, power = metrics.noise_power_spectrum(x, side=side, spacing=spacing).radial()
    assert len(frequencies) > 0
    assert (np.diff(frequencies) > 0).all()
    assert np.isfinite(power).all()


def test_one_axis_agrees_with_welch():
    """Noise that is the same in all rows has a spectrum of one dimension."""
    line = correlate1d(np.random.default_rng(1).normal(0, 5, 4096), [0.3, 0.5, 0.3], mode="wrap")
    x = np.tile(line, (32, 1))
    spectrum = metrics.noise_power_spectrum(x, side=32)
    _, expected = welch(
        line, window="boxcar", nperseg=32, noverlap=16, detrend="constant", return_onesided=False
    )
    np.testing.assert_allclose(spectrum.power[16] / 32, np.fft.fftshift(expected), atol=1e-9)


@pytest.mark.parametrize("degree", [1, 2])
def test_a_trend_is_removed(degree):
    at = np.linspace(0, 1, 64)
    shading = 30 * (at[:, None] + at[None, :]) ** degree
    x = white(2, (64, 64)) + shading
    plain = metrics.noise_power_spectrum(x).variance
    flat = metrics.noise_power_spectrum(x, degree=degree).variance
    assert plain > 10
    assert flat == pytest.approx(4, rel=0.1)


def test_the_region_alone_counts():
    x = white(5, (128, 128))
    x[:, 64:] = white(20, (128, 64), seed=1)
    left = np.arange(128) < 64
    mask = np.broadcast_to(left, x.shape)
    assert metrics.noise_power_spectrum(x, mask, side=16).variance == pytest.approx(25, rel=0.1)
    assert metrics.noise_power_spectrum(x, ~mask, side=16).variance == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mask": np.zeros((64, 64), bool)}, "no block of 32x32"),
        ({"mask": np.ones((64, 60), bool)}, "a region of"),
        ({"side": 3}, "4 samples a side"),
        ({"side": 65}, "at least 65x65"),
        ({"degree": 3}, "degree 0 to 2"),
        ({"spacing": (0, 1)}, "spacings above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.noise_power_spectrum(white(shape=(64, 64)), **options)


def test_spectra_are_of_finite_frames():
    with pytest.raises(ValueError, match="without NaN"):
        metrics.noise_power_spectrum(np.full((64, 64), np.nan))


def noisy(seed=0):
    """Flat tissue beside an edge, clipped black beside that."""
    x = white(6, (96, 96), seed) + 60
    x[:, 40:] += 70
    x[:, 70:] = 0
    return np.clip(x, 0, 255).round().astype(np.uint8)


def test_flat_blocks_have_noise_alone():
    mask = flat_mask(noisy())
    # Blocks 2 (32 to 48) and 4 (64 to 80) have an edge, block 5 is black.
    expected = np.isin(np.arange(96) // 16, [0, 1, 3])
    np.testing.assert_array_equal(mask, np.broadcast_to(expected, (96, 96)))
    assert not flat_mask(np.full((32, 32), 9)).any()
    # Noise of which a part is clipped, black or white.
    for level in (6, 249):
        assert not flat_mask(np.clip(white(6, (32, 32)) - 40 + level, 0, 255)).any()
    assert flat_mask(noisy()[:90, :50]).sum() == 80 * 32
    assert flat_mask(noisy().astype(np.uint16) * 4, data_range=1020).sum() == mask.sum()


@pytest.mark.parametrize("share", [0.25, 0.5, 2.0])
def test_noise_that_is_scaled_keeps_its_share_of_power_and_its_texture(share):
    x = noisy().astype(np.float64)
    y = x.copy()
    for left in (0, 16, 48):
        block = y[:, left : left + 16].reshape(6, 16, 16)
        mean = block.mean(axis=(1, 2), keepdims=True)
        y[:, left : left + 16] = (mean + (block - mean) * share**0.5).reshape(96, 16)
    assert metrics.noise_power(x, y) == pytest.approx(share)
    assert metrics.noise_frequency(x, y) == pytest.approx(1)


def test_blur_takes_power_and_fine_grain():
    x = noisy()
    y = gaussian_filter(x.astype(float), 1)
    pair = pair_of(x, y)
    assert metrics.NOISE_POWER.value(pair) == metrics.noise_power(x, y) < 0.2
    assert metrics.NOISE_FREQUENCY.value(pair) == metrics.noise_frequency(x, y) < 0.6


def test_no_noise_left_is_zero():
    x = noisy()
    y = np.full_like(x, 100)
    assert metrics.noise_power(x, y) == 0
    assert metrics.noise_frequency(x, y) == 0


@pytest.mark.parametrize("x", [np.zeros((64, 64)), np.full((64, 64), 7.0), white(80)[:11, :11]])
def test_without_a_flat_block_all_is_kept(x):
    y = np.full(x.shape, 50.0)
    assert metrics.noise_power(x, y) == metrics.noise_frequency(x, y) == 1


def test_noise_of_frames_of_two_shapes_is_not_compared():
    for index in (metrics.noise_power, metrics.noise_frequency):
        with pytest.raises(ValueError, match="a comparison of noise takes two frames"):
            index(np.zeros((32, 32)), np.zeros((32, 33)))
