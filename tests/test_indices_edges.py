"""Edge spread and transfer functions of edges whose blur is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from index_frames import pair_of
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from ssimrdo import metrics
from ssimrdo.metrics.sharpness import Edge, EdgeSpread

# From 10 to 90 % of a Gaussian, and where its transfer function is a half.
WIDTH = 2 * 1.2815515655446004
HALF = math.sqrt(math.log(2) / 2) / math.pi


def slanted(sigma, degrees, *, side=64, low=40.0, high=200.0):
    """Return a step with a Gaussian blur, sampled at points; its line slants from the columns."""
    angle = math.radians(degrees)
    row, column = np.mgrid[:side, :side] - (side - 1) / 2 - 0.3
    distance = column * math.cos(angle) - row * math.sin(angle)
    return low + (high - low) * ndtr(distance / sigma)


def spreads(x, **options):
    edges = metrics.find_edges(x)
    assert edges
    return [metrics.edge_spread(x, edge, **options) for edge in edges]


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("degrees", [3, 7, 12, -7])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_slanted_edge_follows_the_closed_form(sigma, degrees, turn):
    x = np.rot90(slanted(sigma, degrees), turn)
    for edge, spread in zip(metrics.find_edges(x), spreads(x), strict=True):
        assert edge.upright == (turn % 2 == 0)
        assert abs(edge.degrees) == pytest.approx(abs(degrees), abs=0.2)
        assert abs(spread.step) == pytest.approx(160, rel=0.01)
        assert spread.width == pytest.approx(WIDTH * sigma, rel=0.03)
        assert spread.mtf50 == pytest.approx(HALF / sigma, rel=0.03)
        frequency, transfer = spread.mtf()
        expected = np.exp(-2 * (math.pi * sigma * frequency) ** 2)
        low = frequency <= 0.4
        np.testing.assert_allclose(transfer[low], expected[low], atol=0.025)
        np.testing.assert_allclose(spread.value, ndtr(spread.distance / sigma), atol=0.05)


def test_lengths_are_in_mm():
    x = slanted(1.0, 7)
    for spread in spreads(x, spacing=0.7):
        assert spread.width == pytest.approx(WIDTH * 0.7, rel=0.03)
        assert spread.mtf50 == pytest.approx(HALF / 0.7, rel=0.03)
        assert spread.distance[-1] == pytest.approx(7 * 0.7)
        assert spread.mtf()[0][-1] == pytest.approx(1 / 0.7, rel=0.01)


def test_an_edge_along_the_grid_comes_out_wider_by_less_than_a_sample():
    for spread in spreads(slanted(0.7, 0)):
        assert 0 < spread.width - WIDTH * 0.7 < 0.5


def test_hu_have_the_same_spread_as_grey_levels():
    x = slanted(1.0, 7)
    hu = x / 255 * 400 - 160
    for edge in metrics.find_edges(x):
        grey, tissue = metrics.edge_spread(x, edge), metrics.edge_spread(hu, edge)
        np.testing.assert_allclose(tissue.value, grey.value, atol=1e-9)
        assert tissue.step == pytest.approx(grey.step * 400 / 255)


@pytest.mark.parametrize("extra", [0.5, 0.8, 1.2])
def test_further_blur_widens_an_edge_as_variances_add(extra):
    x = slanted(0.8, 7, side=96)
    y = gaussian_filter(x, extra)
    expected = 0.8 / math.hypot(0.8, extra)
    assert metrics.edge_sharpness(x, y) == pytest.approx(expected, rel=0.03)
    assert metrics.EDGE_SHARPNESS.value(pair_of(x, y)) == metrics.edge_sharpness(x, y)
    assert metrics.edge_sharpness(y, x) == pytest.approx(1 / expected, rel=0.03)


def test_noise_hardly_moves_the_width():
    rng = np.random.default_rng(0)
    x = slanted(0.8, 7, side=96)
    assert metrics.edge_sharpness(x, x + rng.normal(0, 4, x.shape)) == pytest.approx(1, abs=0.1)


def test_ten_bit_frames_have_the_same_edges():
    x = slanted(0.9, 7).round().astype(np.uint8)
    fine = (x.astype(np.float32) * np.float32(1023 / 255)).round().astype(np.uint16)
    places = [
        {(edge.row, edge.column) for edge in found}
        for found in (metrics.find_edges(x), metrics.find_edges(fine, data_range=1023))
    ]
    assert places[0] == places[1] != set()
    weaker = fine.astype(np.float64) * 0.6
    assert metrics.edge_sharpness(fine, weaker, data_range=1023) == pytest.approx(1)


@pytest.mark.parametrize(
    "x",
    [
        np.full((64, 64), 90.0),
        np.random.default_rng(0).normal(100, 10, (64, 64)),
        # Too low, too curved, too short.
        slanted(1, 7, low=100, high=130),
        np.where(np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 7, 200.0, 40.0),
        slanted(1, 7, side=18),
    ],
)
def test_what_has_no_clear_edge_keeps_all(x):
    assert metrics.find_edges(x) == ()
    assert metrics.edge_sharpness(x, 0 * x) == 1


def test_an_edge_is_clear_by_its_height_and_its_noise():
    rng = np.random.default_rng(0)
    x = slanted(0.8, 7)
    assert metrics.find_edges(x + rng.normal(0, 8, x.shape))
    # One side, from the edge on, has a standard deviation of 9 % of its height, or 20 %.
    row, column = np.mgrid[:64, :64]
    angle = math.radians(7)
    beside = np.clip((column - 31.8) * math.cos(angle) - (row - 31.5) * math.sin(angle) - 4, 0, 1)
    wave = beside * np.sin(2 * np.pi * row / 17)
    assert metrics.find_edges(x + 20 * wave)
    assert not [edge for edge in metrics.find_edges(x + 45 * wave) if edge.upright]
    # The same height is much of 255 and little of 1023.
    assert metrics.find_edges(x / 2)
    assert not metrics.find_edges(x / 2, data_range=1023)


def test_edges_are_apart_and_no_more_than_asked_for():
    x = np.kron(np.indices((4, 4)).sum(0) % 2, np.full((40, 40), 150.0)) + 20
    x = gaussian_filter(x, 0.8)
    edges = metrics.find_edges(x)
    assert 4 <= len(edges) <= 16
    for first in edges:
        others = [edge for edge in edges if edge is not first]
        assert min(max(abs(first.row - e.row), abs(first.column - e.column)) for e in others) > 8
    assert metrics.find_edges(x, most=2) == edges[:2]


def test_an_edge_that_is_lost_or_inverted_has_a_number():
    x = slanted(1.0, 7)
    widths = [spread.width for spread in spreads(x)]
    lost = metrics.edge_sharpness(x, np.full_like(x, 90))
    assert lost == pytest.approx(np.median(widths) / 14)
    assert metrics.edge_sharpness(x, 255 - x) == pytest.approx(lost)
    noise = np.random.default_rng(0).normal(100, 30, x.shape)
    assert metrics.edge_sharpness(x, noise) == pytest.approx(lost)


def test_a_spread_that_never_rises_is_as_wide_as_it_is_long():
    distance = np.arange(-28, 29) / 4
    for value in (np.zeros(57), np.ones(57), np.linspace(1, 0, 57)):
        assert EdgeSpread(distance, value, 1.0).width == 14
    ramp = EdgeSpread(distance, np.linspace(0, 1, 57), 1.0)
    assert ramp.width == pytest.approx(0.8 * 14)
    step = EdgeSpread(distance, (distance >= 0).astype(float), 1.0)
    assert step.width == pytest.approx(0.8 / 4)
    assert step.mtf50 == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("sigma", [0.4, 0.8, 1.2])
def test_the_width_of_the_bins_is_taken_out_of_the_transfer_function(sigma):
    distance = np.arange(-28, 29) / 4

    def integral(at):
        z = at / sigma
        return sigma * (z * ndtr(z) + np.exp(-z * z / 2) / math.sqrt(2 * math.pi))

    value = 4 * (integral(distance + 1 / 8) - integral(distance - 1 / 8))
    frequency, transfer = EdgeSpread(distance, value, 1.0).mtf()
    expected = np.exp(-2 * (math.pi * sigma * frequency) ** 2)
    np.testing.assert_allclose(transfer, expected, atol=3e-3)


@pytest.mark.parametrize(
    ("frame", "options", "reason"),
    [
        (np.zeros((64, 64)), {"spacing": 0}, "spacing is above 0"),
        (np.zeros((30, 64)), {}, "does not have an edge"),
        (np.zeros(64), {}, "takes a frame"),
        (np.full((64, 64), np.nan), {}, "without NaN"),
    ],
)
def test_what_makes_no_sense_is_refused(frame, options, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.edge_spread(frame, Edge(32, 32, True, 0.0, 0.1), **options)


def test_frames_of_two_shapes_are_not_compared():
    with pytest.raises(ValueError, match="a comparison of edges takes two frames"):
        metrics.edge_sharpness(np.zeros((32, 32)), np.zeros((32, 33)))
    with pytest.raises(ValueError, match="a search for edges takes a frame"):
        metrics.find_edges(np.zeros(32))
