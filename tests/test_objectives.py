"""The objectives beside SSIM: balanced, edge and body."""

import math

import numpy as np
import pytest

from ssimrdo import objective
from ssimrdo.dicom import Window, apply_window, load_hu, open_series
from ssimrdo.frames import FrameFormat
from ssimrdo.objective.balanced import balanced_theta, squared_error_weight
from ssimrdo.objective.body import OUTSIDE, body_mask, body_shares
from ssimrdo.objective.edge import edge_statistics

OTHERS = ("balanced", "edge", "body")


@pytest.fixture(scope="module")
def lung_luma(phantom_folder):
    series, _ = open_series(phantom_folder)
    return apply_window(load_hu(series.slices[10]), Window(-600, 1500))


def format_of(luma, bit_depth=8):
    rows, columns = luma.shape
    return FrameFormat(rows, columns, bit_depth)


def texture(shape, sigma, level=120, seed=0):
    """Independent noise of a standard deviation."""
    noise = np.random.default_rng(seed).normal(level, sigma, shape)
    return np.clip(np.rint(noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", OTHERS)
def test_sensitivity_is_positive_on_the_grid(name, phantom_luma, lung_luma):
    chosen = objective.get(name)
    for luma in (
        phantom_luma[0],
        lung_luma[:250, :333],
        lung_luma[:5, :7],
        np.zeros_like(lung_luma),
    ):
        frames = format_of(luma)
        theta = chosen.sensitivity(luma, frames)
        assert theta.shape == frames.grid
        assert theta.dtype == np.float32
        assert np.isfinite(theta).all()
        assert theta.min() > 0


@pytest.mark.parametrize("name", OTHERS)
def test_more_bits_per_sample_change_nothing(name, lung_luma):
    chosen = objective.get(name)
    eight = chosen.lagrange_ratio(lung_luma, format_of(lung_luma))
    fine = (lung_luma.astype(np.uint32) * 1023 // 255).astype(np.uint16)
    ten = chosen.lagrange_ratio(fine, format_of(fine, 10))
    np.testing.assert_allclose(ten, eight, rtol=0.05)


def test_balanced_lies_between_ssim_and_squared_error(phantom_luma):
    luma = phantom_luma[0]
    frames = format_of(luma)
    reference = objective.reference_theta()
    ssim, balanced = (
        objective.lagrange_ratio(one.sensitivity(luma, frames), reference)
        for one in (objective.SSIM, objective.BALANCED)
    )
    assert ((balanced - 1) * (ssim - 1) >= -1e-6).all()
    assert (np.abs(np.log(balanced)) <= np.abs(np.log(ssim)) + 1e-6).all()
    assert np.ptp(np.log(balanced)) < 0.9 * np.ptp(np.log(ssim))
    order = np.argsort(ssim, axis=None)
    assert (np.diff(balanced.ravel()[order]) >= -1e-5).all()


def test_balanced_minimises_the_product_of_both_losses():
    """With a weight of one harmonic mean, errors of 1 / θ cannot be moved to a smaller product."""
    rng = np.random.default_rng(3)
    theta = np.exp(rng.normal(0, 1.5, 500))
    weight = squared_error_weight(theta, np.full(500, 100.0)) / 0.6
    assert weight == pytest.approx(1 / np.mean(1 / theta))
    errors = 1 / theta

    def loss(errors):
        return math.log(theta @ errors) + math.log(errors.sum())

    slopes = balanced_theta(theta, weight, 1.0).astype(float)
    step = 1e-6
    for block in range(0, 500, 50):
        moved = errors.copy()
        moved[block] += step
        slope = (loss(moved) - loss(errors)) / step
        assert slope / slopes[block] == pytest.approx((weight + 1) / (theta @ errors), rel=1e-3)


def test_weight_counts_macroblocks_with_content_alone():
    theta = np.array([1.0, 4.0, 50.0])
    variance = np.array([30.0, 9.0, 0.5])
    weight = squared_error_weight(theta, variance)
    assert weight == pytest.approx(0.6 * 1.6)
    assert squared_error_weight(theta / 16, variance * 16, data_range=4 * 255) == pytest.approx(
        weight / 16
    )
    assert squared_error_weight(theta, np.zeros(3)) == 0


def test_balanced_keeps_the_reference_in_place():
    theta = np.array([0.5, 2.0, 8.0], np.float32)
    for weight in (0.0, 0.3, 5.0):
        assert balanced_theta(theta, weight, 2.0)[1] == pytest.approx(2)
    np.testing.assert_array_equal(balanced_theta(theta, 0.0, 2.0), theta)


def plain_edge_moments(luma, y, x, reach):
    """Return mean and variance of one window from the definition."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    padded = np.pad(luma.astype(float), 5, mode="symmetric")
    window = padded[y : y + 11, x : x + 11]
    difference = window - window[5, 5]
    weights = np.outer(taps, taps) * (1 + (difference / reach) ** 2) ** -2.0
    mean = np.average(difference, weights=weights)
    return window[5, 5] + mean, np.average(difference**2, weights=weights) - mean**2


def test_edge_statistics_against_their_definition(lung_luma):
    luma = lung_luma[100:233, 150:301]
    statistics = edge_statistics(luma)
    assert statistics.mean.shape == (9, 10)
    for row, column in ((0, 0), (3, 4), (7, 2), (5, 8)):
        centres = [
            plain_edge_moments(luma, 16 * row + r, 16 * column + c, 140)
            for r in range(2, 16, 4)
            for c in range(2, 16, 4)
        ]
        mean, variance = np.mean(centres, axis=0)
        assert statistics.mean[row, column] == pytest.approx(mean, abs=1e-3)
        assert statistics.variance[row, column] == pytest.approx(variance, rel=1e-3, abs=1e-3)


def test_edge_sees_the_tissue_on_its_side():
    luma = texture((64, 64), 4, level=40)
    luma[:, 24:] = texture((64, 40), 4, level=210, seed=1)
    plain = objective.block_statistics(luma).variance
    kept = edge_statistics(luma).variance
    assert 16 < kept[1, 1] < plain[1, 1] / 5
    assert edge_statistics(luma, reach=35).variance[1, 1] == pytest.approx(16, rel=0.25)
    # Away from the edge both tell the noise.
    assert kept[1, 3] == pytest.approx(plain[1, 3], rel=0.25)
    frames = format_of(luma)
    edge = objective.get("edge").sensitivity(luma, frames)
    assert edge[1, 1] > 3 * objective.SSIM.sensitivity(luma, frames)[1, 1]


def test_body_is_found_in_any_window(phantom_folder):
    series, _ = open_series(phantom_folder)
    hu = load_hu(series.slices[10])
    masks = [body_mask(apply_window(hu, Window(*window))) for window in ((40, 400), (-600, 1500))]
    for mask in masks:
        assert 0.35 < mask.mean() < 0.65
        assert mask[256, 256]
        assert not mask[:20].any()
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.75


def test_air_is_told_from_its_noise():
    luma = texture((160, 160), 5, level=60)
    luma[40:120, 30:130] = texture((80, 100), 5, level=180, seed=1)
    truth = np.zeros_like(luma, bool)
    truth[40:120, 30:130] = True
    np.testing.assert_array_equal(body_mask(luma), truth)


def test_everything_counts_where_no_body_is_found():
    for luma in (np.zeros((64, 64), np.uint8), texture((64, 64), 5), np.full((1, 1), 9, np.uint8)):
        assert body_mask(luma).all()


def test_pieces_of_a_skull_all_count():
    luma = np.zeros((200, 200), np.uint8)
    luma[20:24, 60:140] = 255
    luma[40:160, 40:44] = 255
    luma[40:160, 156:160] = 255
    luma[190:192, 10:14] = 255
    mask = body_mask(luma)
    assert mask[:180][luma[:180] > 0].all()
    assert mask[100, 100]
    assert not mask[191].any()


def test_shares_count_what_is_near_the_body():
    body = np.zeros((40, 72), bool)
    body[20:40, 16:32] = True
    shares = body_shares(body)
    near = np.zeros_like(body)
    near[16:40, 12:36] = True
    truth = [
        [near[16 * r : 16 * r + 16, 16 * c : 16 * c + 16].mean() for c in range(5)]
        for r in range(3)
    ]
    np.testing.assert_allclose(shares, truth, rtol=1e-6)


def test_nothing_outside_the_body_counts(lung_luma):
    frames = format_of(lung_luma)
    shares = body_shares(body_mask(lung_luma))
    balanced = objective.get("balanced").sensitivity(lung_luma, frames)
    ratio = objective.get("body").sensitivity(lung_luma, frames) / balanced
    np.testing.assert_allclose(ratio, np.maximum(shares, OUTSIDE), rtol=1e-5)
    assert (shares == 0).any()
    assert (shares == 1).any()


@pytest.mark.parametrize("shape", [(0, 16), (16,), (2, 16, 16)])
def test_edge_statistics_are_of_frames(shape):
    with pytest.raises(ValueError, match="a luma frame has two dimensions, not shape"):
        edge_statistics(np.zeros(shape, np.uint8))
