"""The measurement of the objectives' linearity, against errors that are known."""

from __future__ import annotations

import numpy as np
import pytest
from bench_objectives import DISTORTIONS, edge_moments, linearity, own_error
from scipy.ndimage import gaussian_filter

from ssimrdo.frames import FrameFormat
from ssimrdo.objective.edge import REACH, edge_statistics


@pytest.fixture
def texture():
    """Noise of 20 grey levels rms about mid grey, the same in every macroblock."""
    rng = np.random.default_rng(5)
    tile = np.clip(128 + 20 * rng.standard_normal((16, 16)), 0, 255)
    return np.tile(tile, (6, 6)).astype(np.uint8)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_small_independent_errors_have_the_slope_that_is_predicted(texture, name):
    objective, _, distortion = DISTORTIONS[name]
    frames = FrameFormat(*texture.shape)
    error = np.random.default_rng(6).choice([-1, 1], texture.shape)
    shown = (texture + error).clip(0, 255).astype(np.uint8)
    measured = distortion(texture, shown, frames)[1:-1, 1:-1]
    predicted = (objective.sensitivity(texture, frames) * own_error(texture, shown))[1:-1, 1:-1]
    assert measured.sum() == pytest.approx(predicted.sum(), rel=0.1)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_no_error_is_no_distortion(texture, name):
    _, _, distortion = DISTORTIONS[name]
    assert np.abs(distortion(texture, texture, FrameFormat(*texture.shape))).max() < 1e-9


def test_moments_without_edges_are_those_of_a_gaussian_window(texture):
    source = texture.astype(np.float64)
    error = np.random.default_rng(7).standard_normal(source.shape)

    def windowed(plane):
        return gaussian_filter(plane, 1.5, radius=5)[5:-5, 5:-5]

    mean, variance, mean_error, covariance, error_variance = edge_moments(source, error, 1e9)
    assert mean == pytest.approx(windowed(source), rel=1e-7)
    assert variance == pytest.approx(windowed(source**2) - windowed(source) ** 2, rel=1e-6)
    assert mean_error == pytest.approx(windowed(error), abs=1e-6)
    expected = windowed(source * error) - windowed(source) * windowed(error)
    assert covariance == pytest.approx(expected, abs=1e-4)
    assert error_variance == pytest.approx(windowed(error**2) - windowed(error) ** 2, rel=1e-6)


def test_windows_that_stop_at_edges_are_the_objectives_own():
    """All windows of the macroblocks, beside the objective's one in sixteen."""
    patches = gaussian_filter(np.random.default_rng(8).standard_normal((192, 192)), 4)
    rough = (60 + 140 * (patches > 0)).astype(np.uint8)
    _, variance, *_ = edge_moments(rough.astype(np.float64), np.zeros(rough.shape), REACH)
    inside = variance[11:-11, 11:-11].mean()
    assert edge_statistics(rough).variance[1:-1, 1:-1].mean() == pytest.approx(inside, rel=0.05)
    _, gaussian, *_ = edge_moments(rough.astype(np.float64), np.zeros(rough.shape), 1e9)
    assert inside < 0.7 * gaussian[11:-11, 11:-11].mean()


def test_a_straight_line_has_a_correlation_of_one_and_its_own_slope():
    predicted = np.array([1.0, 2.0, 5.0, 9.0])
    found = linearity(predicted, 3 * predicted)
    assert found is not None
    assert (found.r_squared, found.slope) == pytest.approx((1, 3))
    assert found.log_r_squared == pytest.approx(1)
    assert linearity(predicted, np.ones(4)) is None
