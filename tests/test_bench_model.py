"""The measurement of the model, against errors whose covariance and mean are known."""

from __future__ import annotations

from dataclasses import astuple

import bench_model
import numpy as np
import pytest
from bench_model import CLASSES, block_terms, class_numbers, source_features, sum_of, totals

from ssimrdo.metrics import weighted_ssim


@pytest.fixture
def texture():
    """Noise of 16 grey levels rms about mid grey, in fine grey levels."""
    rng = np.random.default_rng(7)
    return 128 + 16 * rng.standard_normal((160, 160))


def measured(source, shown, peak=255):
    """Totals over all macroblocks, whatever their class."""
    numbers = np.zeros(bench_model.block_grid(source.shape), np.int64)
    return totals(numbers, block_terms(source, shown, peak))[0]


def test_noise_that_is_added_is_uncorrelated_with_the_source(texture):
    noise = 6 * np.random.default_rng(8).standard_normal(texture.shape)
    found = measured(texture, texture + noise)
    assert found.error_in_source == pytest.approx(0, abs=0.05)
    assert found.contrast_if_source == pytest.approx(1, abs=0.05)
    assert found.contrast_if_decoded < 0.9


def test_error_of_a_coarse_quantizer_is_uncorrelated_with_what_it_gives(texture):
    """Each value becomes the mean of those that are rounded to it, as by a good decoder."""
    cell = np.round((texture - 128) / 40)
    shown = np.empty_like(texture)
    for value in np.unique(cell):
        shown[cell == value] = texture[cell == value].mean()
    found = measured(texture, shown)
    assert found.error_in_source == pytest.approx(1, abs=0.05)
    assert found.contrast_if_decoded == pytest.approx(1, abs=0.05)
    assert found.contrast_if_source > 1.2


def test_a_shift_is_one_error_and_all_luminance():
    source = np.full((64, 64), 20, np.uint8)
    found = measured(source, source + np.uint8(3))
    assert found.independent_errors == pytest.approx(1)
    assert found.luminance_share == pytest.approx(1)
    assert found.error_in_source == 0


def test_white_noise_has_the_independent_errors_of_the_window(texture):
    noise = np.random.default_rng(9).standard_normal(texture.shape)
    found = measured(texture, texture + noise)
    window = bench_model.kernels.gaussian_taps().astype(float)
    taps = np.concatenate([window, window[-2::-1]])
    assert found.independent_errors == pytest.approx(1 / np.sum(taps**2) ** 2, rel=0.1)


def test_loss_is_that_of_weighted_ssim(texture):
    source = np.clip(texture, 0, 255).astype(np.uint8)
    shown = np.clip(texture + 5, 0, 255).astype(np.uint8)
    shown[:80] = 100
    found = measured(source, shown)
    assert 1 - found.loss / found.windows == pytest.approx(weighted_ssim(source, shown), abs=1e-5)


def test_a_small_error_rises_by_the_predicted_slope(texture):
    """In even texture, with an error so small that it matters not what it is uncorrelated with."""
    error = 0.05 * np.random.default_rng(10).standard_normal(texture.shape)
    found = measured(texture, texture + error)
    assert found.slope == pytest.approx(1, abs=0.15)
    assert found.loss_slope == pytest.approx(found.slope, abs=1e-3)


def test_every_macroblock_has_the_class_that_it_was_made_for(texture):
    blocks = {
        "clipped all over": np.zeros((48, 48)),
        "black beside tissue": np.where(np.arange(48) % 16 < 12, 0, 128) * np.ones((48, 1)),
        "tissue beside black": np.where(np.arange(48) % 16 < 4, 0, 128) * np.ones((48, 1)),
        "white in part": np.where(np.arange(48) % 16 < 4, 255, 128) * np.ones((48, 1)),
        "edge": np.where((np.arange(48) > 22) & (np.arange(48) < 25), 250, 20) * np.ones((48, 1)),
        "flat": np.full((48, 48), 128.0),
        "weak texture": 128 + (texture[:48, :48] - 128) * 5 / 16,
        "texture": 128 + (texture[:48, :48] - 128) * 11 / 16,
        "strong texture": 128 + (texture[:48, :48] - 128) * 24 / 16,
    }
    assert list(blocks) == [one.name for one in CLASSES]
    for name, luma in blocks.items():
        middle = class_numbers(source_features(luma.clip(0, 255), 255))[1, 1]
        assert CLASSES[middle].name == name


def test_totals_of_frames_add_up(texture):
    numbers = np.arange(100).reshape(10, 10) % len(CLASSES)
    terms = block_terms(texture, texture + 1, 255)
    parts = totals(numbers, terms)
    whole = measured(texture, texture + 1)
    assert astuple(sum_of(parts)) == pytest.approx(astuple(whole))
    assert sum(part.macroblocks for part in parts) == 100
