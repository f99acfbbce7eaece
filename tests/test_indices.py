"""SSIM's terms, 1/SSIM, pooled SSIM and plain errors against definitions and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from index_frames import frames, pair_of
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, structural_similarity

from ssimrdo import metrics
from ssimrdo.metrics.inverse import CEILING, FLOOR, inverse


def plain_terms(x, y, peak):
    """Return l, c and s from their definitions, in doubles and with weights of both axes."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2
    views = [np.lib.stride_tricks.sliding_window_view(a, (11, 11)) for a in (x, y)]
    mx, my = (np.einsum("ijkl,kl->ij", view, window) for view in views)
    dx, dy = (view - m[..., None, None] for view, m in zip(views, (mx, my), strict=True))
    vx, vy, cov = (
        np.einsum("ijkl,ijkl,kl->ij", a, b, window) for a, b in ((dx, dx), (dy, dy), (dx, dy))
    )
    both = np.sqrt(vx * vy)
    return (
        (2 * mx * my + c1) / (mx**2 + my**2 + c1),
        (2 * both + c2) / (vx + vy + c2),
        (cov + c2 / 2) / (both + c2 / 2),
    )


@pytest.mark.parametrize("peak", [255, 1023])
@pytest.mark.parametrize("shape", [(11, 11), (43, 67)])
def test_terms_agree_with_their_definition(shape, peak):
    x, y = frames(shape, peak)
    for found, expected in zip(
        metrics.ssim_terms(x, y, data_range=peak), plain_terms(x, y, peak), strict=True
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_product_of_the_terms_is_ssim_of_scikit_image():
    x, y = frames()
    luminance, contrast, structure = metrics.ssim_terms(x, y)
    expected = structural_similarity(
        x, y, gaussian_weights=True, use_sample_covariance=False, full=True, data_range=255
    )[1][5:-5, 5:-5]
    np.testing.assert_allclose(luminance * contrast * structure, expected, atol=2e-4)


def test_each_term_sees_one_kind_of_change():
    x = frames(noise=0)[0][24:, 20:].astype(np.float32)
    mean = gaussian_filter(x, 1.5, truncate=3.5)
    brighter, flatter, other = x + 30, mean + (x - mean) * 0.5, 255 - x
    luminance, contrast, structure = (
        {name: metrics.get(f"ssim_{name}").value(pair_of(x, y)) for name in names}
        for y, names in (
            (brighter, ("luminance", "contrast", "structure")),
            (flatter, ("luminance", "contrast", "structure")),
            (other, ("contrast", "structure")),
        )
    )
    assert luminance["luminance"] < 0.99
    assert luminance["contrast"] == pytest.approx(1, abs=1e-4)
    assert luminance["structure"] == pytest.approx(1, abs=1e-4)
    assert contrast["luminance"] > 0.999
    assert contrast["contrast"] < contrast["structure"]
    assert structure["contrast"] == pytest.approx(1, abs=1e-4)
    assert structure["structure"] < -0.5


@pytest.mark.parametrize("peak", [255, 1023])
def test_weighted_ssim_takes_three_exponents(peak):
    x, y = frames(peak=peak)
    luminance, contrast, structure = plain_terms(x, y, peak)
    for alpha, beta, gamma in ((1.15, 0.95, 0.5), (0, 2, 1), (1, 0, 1), (1, 1, 0)):
        expected = luminance**alpha * contrast**beta * np.sign(structure) * abs(structure) ** gamma
        options = {"alpha": alpha, "beta": beta, "gamma": gamma, "data_range": peak}
        found = metrics.weighted_ssim_map(x, y, **options)
        # Powers below 1 are steep near 0.
        np.testing.assert_allclose(found, expected, atol=2e-4 if gamma >= 1 else 5e-3)
        assert found.mean(dtype=float) == pytest.approx(expected.mean(), abs=2e-5)
        value = metrics.weighted_ssim(x, y, **options)
        assert value == pytest.approx(expected.mean(), abs=2e-5)


def test_weighted_ssim_of_hu_has_the_sign_of_its_terms():
    """Around 0 HU the means of two frames may differ in sign."""
    x = np.full((16, 16), 30.0)
    for options in ({}, {"gamma": 0.5}):
        c1 = (0.01 * 400) ** 2
        luminance = (2 * 30 * -20 + c1) / (30**2 + 20**2 + c1)
        assert luminance < 0
        expected = -(abs(luminance) ** metrics.ALPHA)
        options |= {"data_range": 400}
        assert metrics.weighted_ssim(x, x - 50, **options) == pytest.approx(expected, abs=1e-5)
        found = metrics.weighted_ssim_map(x, x - 50, **options)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_gamma_equal_to_beta_changes_nothing():
    x, y = frames()
    assert metrics.weighted_ssim(x, y, gamma=metrics.BETA) == metrics.weighted_ssim(x, y)


def test_exponents_are_not_negative():
    x, y = frames()
    for exponents in ({"alpha": -1}, {"beta": -0.1}, {"gamma": -2}):
        with pytest.raises(ValueError, match="exponents are 0 or more"):
            metrics.weighted_ssim(x, y, **exponents)


def test_one_over_ssim_is_the_mean_of_the_inverses():
    x, y = frames()
    luminance, contrast, structure = plain_terms(x, y, 255)
    ssim = luminance * contrast * structure
    assert ssim.min() > FLOOR
    assert metrics.inverse_ssim(x, y) == pytest.approx(np.mean(1 / ssim), rel=1e-5)
    assert metrics.INVERSE_SSIM.value(pair_of(x, y)) == metrics.inverse_ssim(x, y)
    assert metrics.inverse_ssim(x, y) > 1 / metrics.ssim(x, y)


def test_one_over_ssim_stays_finite_and_goes_on_falling():
    similarity = np.linspace(-1, 1, 4001)
    values = inverse(similarity).astype(np.float64)
    assert values[0] == pytest.approx(CEILING, rel=1e-5)
    assert values[-1] == 1
    slopes = np.diff(values) / np.diff(similarity)
    assert slopes.max() < 0
    assert np.abs(np.diff(slopes)).max() < 1.5
    above = similarity >= FLOOR
    np.testing.assert_allclose(values[above], 1 / similarity[above], rtol=1e-5)
    np.testing.assert_allclose(values[~above], 20 - 100 * similarity[~above], rtol=1e-5)


def test_one_over_ssim_of_a_negative_has_a_number():
    x = frames()[0][24:, 20:]
    value = metrics.inverse_ssim(x, 255 - x)
    assert 20 < value < CEILING


def test_pooling_against_a_map_by_hand():
    similarity = np.array([[1.0, 0.9], [0.5, 1.0]], np.float32)
    # (0.1 * 0.9 + 0.5 * 0.5) / 0.6
    assert metrics.distortion_weighted_mean(similarity) == pytest.approx(0.34 / 0.6)
    assert metrics.distortion_weighted_mean(similarity, power=2) == pytest.approx(0.134 / 0.26)
    assert metrics.distortion_weighted_mean(similarity, power=0) == pytest.approx(0.85)
    assert metrics.minimum(similarity) == 0.5
    assert metrics.percentile(similarity, 50) == pytest.approx(0.95)
    assert metrics.percentile(similarity, 100) == 1


@settings(max_examples=50)
@given(arrays(np.float32, (3, 5), elements=st.floats(-1, 1, width=32)))
def test_pools_lie_between_the_extremes_and_below_the_mean(similarity):
    mean = similarity.mean(dtype=float)
    weighted = metrics.distortion_weighted_mean(similarity)
    assert similarity.min() - 1e-6 <= weighted <= mean + 1e-6
    assert metrics.minimum(similarity) == similarity.min()
    assert similarity.min() <= metrics.percentile(similarity) <= similarity.max()


def test_pooled_indices_are_those_of_the_map():
    x, y = frames()
    ssim = structural_similarity(
        x, y, gaussian_weights=True, use_sample_covariance=False, full=True, data_range=255
    )[1][5:-5, 5:-5]
    pair = pair_of(x, y)
    assert metrics.MINIMUM.value(pair) == pytest.approx(ssim.min(), abs=2e-4)
    assert metrics.PERCENTILE.value(pair) == pytest.approx(np.percentile(ssim, 5), abs=2e-4)
    weighted = np.average(ssim, weights=1 - ssim)
    assert metrics.DISTORTION_WEIGHTED.value(pair) == pytest.approx(weighted, abs=2e-4)


def test_pools_see_a_small_bad_place_that_the_mean_does_not():
    x, _ = frames((200, 200), noise=0)
    y = x.copy()
    y[100:106, 100:106] = 255 - y[100:106, 100:106]
    pair = pair_of(x, y)
    assert metrics.SSIM.value(pair) > 0.98
    assert metrics.MINIMUM.value(pair) < 0.3
    assert metrics.DISTORTION_WEIGHTED.value(pair) < 0.75


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        (lambda: metrics.percentile(np.ones((2, 2)), 101), "0 to 100"),
        (lambda: metrics.percentile(np.ones((0, 2))), "empty"),
        (lambda: metrics.distortion_weighted_mean(np.ones((0, 2))), "empty"),
        (lambda: metrics.distortion_weighted_mean(np.ones((2, 2)), power=-1), "0 or more"),
    ],
)
def test_pools_refuse_what_makes_no_sense(pool, reason):
    with pytest.raises(ValueError, match=reason):
        pool()


def test_errors_are_those_of_scikit_image():
    x, y = frames(peak=1023)
    assert metrics.mse(x, y) == pytest.approx(mean_squared_error(x, y))
    assert metrics.max_error(x, y) == np.abs(x.astype(int) - y).max()
    pair = pair_of(x, y, 1023)
    assert metrics.MSE.value(pair) == metrics.mse(x, y)
    assert metrics.MAX_ERROR.map(pair).max() == metrics.max_error(x, y)
    assert metrics.MSE.map(pair).mean(dtype=float) == pytest.approx(metrics.mse(x, y), rel=1e-6)
    assert metrics.psnr_db(x, y, data_range=1023) == pytest.approx(
        10 * math.log10(1023**2 / metrics.mse(x, y))
    )


def test_errors_of_unsigned_samples_do_not_wrap_around():
    x, y = np.zeros((16, 16), np.uint16), np.full((16, 16), 65535, np.uint16)
    assert metrics.max_error(x, y) == metrics.max_error(y, x) == 65535
    assert metrics.mse(x, y) == 65535**2


ON_ARRAYS = (
    metrics.ssim,
    metrics.ms_ssim,
    metrics.inverse_ssim,
    metrics.psnr_db,
    metrics.mse,
    metrics.max_error,
)


@pytest.mark.parametrize("index", ON_ARRAYS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_frames_have_no_nan(index, bad):
    x = np.full((40, 40), 100, np.float32)
    y = x.copy()
    y[3, 7] = bad
    for first, second in ((x, y), (y, x)):
        with pytest.raises(ValueError, match="without NaN and infinities"):
            index(first, second)


def test_large_finite_samples_are_no_nan():
    x = np.full((40, 40), 1e38, np.float32)
    assert metrics.max_error(x, x) == 0


def plain_edge_ssim(x, y, peak, reach):
    """Return edge-preserving SSIM from its definition, in doubles."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    x, y = (
        np.lib.stride_tricks.sliding_window_view(a.astype(np.float64), (11, 11)) for a in (x, y)
    )
    differences = x - x[:, :, 5:6, 5:6]
    weights = np.outer(taps, taps) * (1 + (differences / reach) ** 2) ** -2.0
    weights /= weights.sum(axis=(2, 3), keepdims=True)

    def mean(values):
        return (weights * values).sum(axis=(2, 3), keepdims=True)

    mx, my = mean(x), mean(y)
    vx, vy, cov = (mean((x - mx) ** 2), mean((y - my) ** 2), mean((x - mx) * (y - my)))
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    return (luminance * (2 * cov + c2) / (vx + vy + c2))[:, :, 0, 0]


@pytest.mark.parametrize("peak", [255, 1023])
def test_edge_preserving_ssim_against_its_definition(peak):
    x, y = frames((45, 61), peak)
    x[:, 30:] = np.minimum(x[:, 30:] // 4, peak)
    expected = plain_edge_ssim(x, y, peak, 140 * peak / 255)
    found = metrics.edge_ssim_map(x, y, data_range=peak)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert metrics.edge_ssim(x, y, data_range=peak) == pytest.approx(expected.mean(), abs=1e-6)


def test_edge_preserving_ssim_is_ssim_where_its_windows_reach_everywhere():
    x, y = frames()
    expected = structural_similarity(x, y, gaussian_weights=True, use_sample_covariance=False)
    assert metrics.edge_ssim(x, y, reach=math.inf) == pytest.approx(expected, abs=1e-5)


def test_edges_hide_less_from_edge_preserving_ssim():
    rng = np.random.default_rng(2)
    x = np.where(np.arange(64) < 32, 40.0, 220.0) * np.ones((64, 1))
    y = x + rng.normal(0, 6, x.shape)
    plain, kept = metrics.ssim_map(x, y), metrics.edge_ssim_map(x, y)
    beside = slice(23, 26)
    # The window's centre lies two to four samples from the edge.
    assert 1 - kept[:, beside].mean() > 3 * (1 - plain[:, beside].mean())
    # And here beyond the window's reach.
    np.testing.assert_allclose(kept[:, 12], plain[:, 12], atol=0.02)


def test_the_reach_is_above_zero():
    x, y = frames()
    with pytest.raises(ValueError, match="above 0"):
        metrics.edge_ssim(x, y, reach=0)


def test_iw_ssim_of_a_small_frame_is_ssim():
    x, y = frames((20, 19))
    assert metrics.iw_ssim(x, y) == pytest.approx(metrics.ssim(x, y), abs=1e-6)


def test_flat_background_does_not_count_in_iw_ssim():
    x, y = (frame[24:, 20:] for frame in frames((200, 188)))
    framed = [np.pad(frame, 176) for frame in (x, y)]
    assert 1 - metrics.ssim(*framed) < 0.2 * (1 - metrics.ssim(x, y))
    assert 1 - metrics.iw_ssim(*framed) > 0.5 * (1 - metrics.iw_ssim(x, y))


def test_iw_ssim_below_zero_counts_as_zero():
    x, _ = frames((170, 170))
    assert metrics.iw_ssim(x, 255 - x) == 0
    # Of the finest scale alone.
    x = x + np.random.default_rng(0).normal(0, 20, x.shape)
    inverted = 2 * gaussian_filter(x, 1) - x
    assert metrics.ssim(gaussian_filter(x, 2), gaussian_filter(inverted, 2)) > 0.9
    assert metrics.iw_ssim(x, inverted) == 0


def test_vifp_of_noise_and_of_contrast_in_closed_form():
    """In windows of one variance the index is a quotient of two logarithms."""
    signs = 1 - 2 * (np.indices((128, 128)).sum(0) % 2)
    x = 128 + 40.0 * signs
    for gain in (0.25, 1.5):
        # Scales beyond the first have lost the pattern.
        expected = math.log(1 + gain**2 * 1600 / 2) / math.log(1 + 1600 / 2)
        assert metrics.vifp(x, 128 + gain * (x - 128)) == pytest.approx(expected, rel=2e-3)


def test_inverted_contrast_has_no_information_left():
    x, _ = frames((96, 96), noise=0)
    x = x[24:, 24:]
    assert metrics.vifp(x, x // 2 + 60) > 0.5
    assert metrics.vifp(x, 255 - x) == pytest.approx(0, abs=0.01)


def test_vifp_sees_no_noise_on_a_constant_reference():
    x = np.full((64, 64), 100, np.uint8)
    y = np.random.default_rng(0).integers(90, 110, x.shape, np.uint8)
    assert metrics.vifp(x, y) == 1
    assert metrics.vifp(y, x) == pytest.approx(0, abs=1e-6)


def test_phase_congruency_is_high_at_a_step_whatever_its_height():
    rng = np.random.default_rng(0)
    step = np.where((np.arange(128) >= 32) & (np.arange(128) < 96), 1.0, 0.0) * np.ones((128, 1))
    noise = rng.normal(0, 0.01, step.shape)
    high, low = (metrics.phase_congruency(60 + height * (step + noise)) for height in (120, 12))
    assert high[:, 32].min() > 0.7
    assert high[:, [32, 96]].mean() > 5 * high[:, [10, 64, 120]].mean()
    np.testing.assert_allclose(low, high, atol=1e-3)
    assert high.min() >= 0
    assert high.max() <= 1


def test_constant_frames_have_no_features():
    x = np.full((65, 64), 37.3, np.float32)
    assert metrics.phase_congruency(x).max() == 0
    assert metrics.fsim(x, x + 40) == 1


def test_fsim_takes_frames_at_the_size_they_are_viewed_at():
    x, y = frames((128, 120))
    large = [np.kron(frame, np.ones((4, 4), np.uint8)) for frame in (x, y)]
    assert large[0].shape == (512, 480)
    twice = [np.kron(frame, np.ones((2, 2), np.uint8)) for frame in (x, y)]
    assert metrics.fsim(*large) == pytest.approx(metrics.fsim(*twice), abs=1e-6)
    assert metrics.fsim_map(*large).shape == (512, 480)
    odd = [frame[:-1, :-1] for frame in large]
    assert metrics.fsim_map(*odd).shape == (511, 479)


@pytest.mark.parametrize("bad", [np.zeros((7, 30)), np.zeros(30), np.full((30, 30), np.nan)])
def test_phase_congruency_is_of_frames(bad):
    with pytest.raises(ValueError, match="phase congruency takes a frame"):
        metrics.phase_congruency(bad)
