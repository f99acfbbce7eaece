"""Losses in NumPy: values, gradients and what they do where SSIM is 0 or less."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from ssimrdo.losses import (
    for_minimize,
    one_minus_cw_ssim,
    one_minus_lwssim,
    one_minus_ms_ssim,
    one_minus_ssim,
    one_minus_weighted_ssim,
    reciprocal_ssim,
)
from ssimrdo.metrics import (
    cw_ssim,
    inverse_ssim,
    lwssim,
    ms_ssim,
    ssim,
    ssim_components,
    ssim_map,
    ssim_terms,
    weighted_ssim,
)

# Each loss with options, and what it is in terms of the index.
LOSSES = {
    "ssim": (one_minus_ssim, {}, lambda *frames, **options: 1 - ssim(*frames, **options)),
    "1/ssim": (reciprocal_ssim, {}, inverse_ssim),
    "weighted": (
        one_minus_weighted_ssim,
        {},
        lambda *frames, **options: 1 - weighted_ssim(*frames, **options),
    ),
    "weighted, roots": (
        one_minus_weighted_ssim,
        {"alpha": 0.5, "beta": 0.7},
        lambda *frames, **options: 1 - weighted_ssim(*frames, **options),
    ),
    "weighted, apart": (
        one_minus_weighted_ssim,
        {"alpha": 2.0, "beta": 0.6, "gamma": 1.5},
        lambda *frames, **options: 1 - weighted_ssim(*frames, **options),
    ),
    "lwssim": (one_minus_lwssim, {}, lambda *frames, **options: 1 - lwssim(*frames, **options)),
    "lwssim, apart": (
        one_minus_lwssim,
        {"window_sizes": (5, 9), "weights": (1, 3), "alpha": 0.8, "beta": 2.0, "gamma": 0.9},
        lambda *frames, **options: 1 - lwssim(*frames, **options),
    ),
    "ms_ssim": (one_minus_ms_ssim, {}, lambda *frames, **options: 1 - ms_ssim(*frames, **options)),
    "cw_ssim": (one_minus_cw_ssim, {}, lambda *frames, **options: 1 - cw_ssim(*frames, **options)),
    "cw_ssim, fine": (
        one_minus_cw_ssim,
        {"levels": 2, "orientations": 3, "stabilizer": 0.03},
        lambda *frames, **options: 1 - cw_ssim(*frames, **options),
    ),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def pair(rows=37, columns=46, *, seed=0, noise=20.0, peak=255.0):
    """A smooth frame, and the same with noise."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(rows, columns)), 2)
    x = peak / 2 + smooth / smooth.std() * peak / 6
    return x, x + rng.normal(0, noise * peak / 255, x.shape)


def differences(function, y, places, step=1e-3):
    """Return derivatives by central differences of fourth order."""
    found = []
    for place in places:
        change = np.zeros_like(y)
        change[place] = step
        near = function(y + change) - function(y - change)
        far = function(y + 2 * change) - function(y - 2 * change)
        found.append((8 * near - far) / (12 * step))
    return np.array(found)


def places_in(shape, seed=0, count=40):
    """Return the corners and some other places of a frame."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    corners = [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)]
    return corners + [(int(rng.integers(rows)), int(rng.integers(columns))) for _ in range(count)]


def check_gradient(loss, x, y, tolerance=1e-6, count=40, **options):
    _, gradient = loss(x, y, **options)
    assert gradient.shape == y.shape
    places = places_in(y.shape, count=count)
    found = differences(lambda frame: loss(x, frame, gradient=False, **options), y, places)
    expected = np.array([gradient[place] for place in places])
    assert np.abs(found).max() > 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(gradient).max()


class TestValues:
    @every_loss
    def test_are_those_of_the_indices(self, name):
        loss, options, of_index = LOSSES[name]
        x, y = (frame.astype(np.float32) for frame in pair(70, 93))
        expected = of_index(x, y, data_range=255, **options)
        assert loss(x, y, data_range=255, **options)[0] == pytest.approx(
            expected, abs=2e-6, rel=2e-6
        )
        found = loss(x.astype(float), y, data_range=255, gradient=False, **options)
        assert found == pytest.approx(expected, abs=2e-6, rel=2e-6)

    def test_in_doubles_are_exact(self):
        """Written out with SciPy's Gaussian, which shares nothing with the kernels."""
        x, y = pair()
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

        def mean(frame):
            return gaussian_filter(frame, 1.5, truncate=3.5)[5:-5, 5:-5]

        var_x, var_y = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
        cov = mean(x * y) - mean(x) * mean(y)
        luminance = (2 * mean(x) * mean(y) + c1) / (mean(x) ** 2 + mean(y) ** 2 + c1)
        contrast = (2 * np.sqrt(var_x * var_y) + c2) / (var_x + var_y + c2)
        structure = (cov + c2 / 2) / (np.sqrt(var_x * var_y) + c2 / 2)
        q = luminance * contrast * structure
        assert one_minus_ssim(x, y, data_range=255)[0] == pytest.approx(1 - q.mean(), abs=1e-13)
        inverse = np.where(q > 0.1, 1 / q, (0.2 - q) / 0.01)
        assert reciprocal_ssim(x, y, data_range=255)[0] == pytest.approx(inverse.mean(), abs=1e-11)
        weighted = luminance**2 * contrast**0.6 * np.sign(structure) * abs(structure) ** 1.5
        found, _ = one_minus_weighted_ssim(x, y, data_range=255, alpha=2, beta=0.6, gamma=1.5)
        assert found == pytest.approx(1 - weighted.mean(), abs=1e-7)

    @every_loss
    def test_equal_frames_have_the_least(self, name):
        loss, options, _ = LOSSES[name]
        x, y = pair()
        least, gradient = loss(x, x, data_range=255, **options)
        assert least == pytest.approx(float(name == "1/ssim"), abs=1e-9)
        assert np.abs(gradient).max() < 1e-9
        assert loss(x, y, data_range=255, gradient=False, **options) > least + 1e-3

    @every_loss
    def test_scale_with_the_data_range(self, name):
        """Grey levels and L by the same factor: the loss stays, the gradient shrinks."""
        loss, options, _ = LOSSES[name]
        x, y = pair()
        value, gradient = loss(x, y, data_range=255, **options)
        scaled, smaller = loss(x / 255, y / 255, data_range=1, **options)
        assert scaled == pytest.approx(value, rel=1e-9)
        assert np.allclose(smaller, gradient * 255, rtol=1e-6, atol=1e-9 * np.abs(smaller).max())


class TestGradients:
    @every_loss
    def test_are_those_of_finite_differences(self, name):
        loss, options, _ = LOSSES[name]
        check_gradient(loss, *pair(), data_range=255, **options)

    @pytest.mark.parametrize("shape", [(11, 11), (12, 43), (44, 13)])
    @pytest.mark.parametrize("name", ["ssim", "lwssim", "ms_ssim", "cw_ssim"])
    def test_of_frames_of_any_size(self, name, shape):
        loss, options, _ = LOSSES[name]
        check_gradient(loss, *pair(*shape), data_range=255, **options)

    @pytest.mark.parametrize("name", ["ms_ssim", "cw_ssim"])
    def test_of_frames_with_all_scales(self, name):
        loss, options, _ = LOSSES[name]
        check_gradient(loss, *pair(161, 163), count=8, data_range=255, **options)

    @every_loss
    def test_with_respect_to_the_reference_come_from_exchange(self, name):
        loss, options, _ = LOSSES[name]
        x, y = pair()
        value, gradient = loss(y, x, data_range=255, **options)
        assert value == pytest.approx(loss(x, y, data_range=255, gradient=False, **options))
        places = places_in(x.shape)
        found = differences(
            lambda frame: loss(frame, y, data_range=255, gradient=False, **options), x, places
        )
        expected = np.array([gradient[place] for place in places])
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(gradient).max()

    @every_loss
    def test_of_single_precision_are_those_of_doubles(self, name):
        loss, options, _ = LOSSES[name]
        x, y = pair(70, 70)
        _, exact = loss(x, y, data_range=255, **options)
        _, single = loss(x.astype(np.float32), y.astype(np.float32), data_range=255, **options)
        assert exact.dtype == np.float64
        assert single.dtype == np.float32
        assert np.abs(single - exact).max() < 5e-5 * np.abs(exact).max()

    @pytest.mark.parametrize("name", ["ssim", "1/ssim", "weighted", "lwssim", "ms_ssim"])
    def test_keep_their_precision_where_frames_nearly_agree(self, name):
        """Where 1 - SSIM is 1e-6 the gradient still has three digits in single precision."""
        loss, options, _ = LOSSES[name]
        x, y = (frame.astype(np.float32) for frame in pair(noise=0.05))
        _, exact = loss(x.astype(float), y.astype(float), data_range=255, **options)
        _, single = loss(x, y, data_range=255, **options)
        assert loss(x, y, data_range=255)[0] < 1 + 1e-4
        assert np.abs(single - exact).max() < 1e-3 * np.abs(exact).max()

    @given(seed=st.integers(0, 999), noise=st.floats(1, 120), name=st.sampled_from(list(LOSSES)))
    @settings(max_examples=30)
    def test_point_uphill(self, seed, noise, name):
        """A short step along the gradient changes the loss by its squared length."""
        loss, options, _ = LOSSES[name]
        x, y = pair(20, 20, seed=seed, noise=noise)
        value, gradient = loss(x, y, data_range=255, **options)
        length = np.linalg.norm(gradient)
        step = 1e-4 / max(length, 1e-12) * gradient
        change = [
            loss(x, y + way * step, data_range=255, gradient=False, **options) for way in (1, -1)
        ]
        assert (change[0] - change[1]) / 2e-4 == pytest.approx(length, rel=1e-3, abs=1e-9)
        assert np.isfinite(value)


class TestWhereSimilarityIsLost:
    @every_loss
    def test_gradients_of_negatives_are_right(self, name):
        """Structure is negative all over: 1/SSIM is on its tangent, MS-SSIM on its hyperbola."""
        loss, options, _ = LOSSES[name]
        x, y = pair()
        y = 255 - y
        assert ssim_map(x, y).max() < 0.1
        # MS-SSIM is so near to 0 that differences of 1 less it have fewer digits.
        check_gradient(loss, x, y, 1e-4, data_range=255, **options)

    @every_loss
    def test_gradients_of_flat_frames_are_finite(self, name):
        loss, options, _ = LOSSES[name]
        x, _ = pair()
        flat = np.full_like(x, 99.0)
        for frames in ((x, flat), (flat, x), (flat, flat + 50), (flat * 0, x), (x, x * 0)):
            for dtype in (np.float64, np.float32):
                a, b = (frame.astype(dtype) for frame in frames)
                value, gradient = loss(a, b, data_range=255, **options)
                assert np.isfinite(value)
                assert np.isfinite(gradient).all()
                assert np.abs(gradient).max() < 1

    @pytest.mark.parametrize(
        "options", [{"beta": 0.5}, {"beta": 0.95}, {"beta": 1.0, "gamma": 0.3}]
    )
    def test_powers_are_smooth_through_zero(self, options):
        """From frames with structure in common to their negatives, structure goes through 0."""
        x, _ = pair(16, 16)
        other = x - x.mean()
        whole = np.linspace(-0.02, 0.02, 801)
        losses, slopes = [], []
        for share in whole:
            y = x.mean() + share * other
            value, gradient = one_minus_weighted_ssim(x, y, data_range=1e-3, **options)
            losses.append(value)
            slopes.append((gradient * other).sum())
        steps = np.diff(losses)
        assert np.abs(steps).max() < 0.2
        trapezes = (np.array(slopes[1:]) + slopes[:-1]) / 2 * np.diff(whole)
        smooth = np.abs(whole[1:]) > 1e-3
        assert np.allclose(steps[smooth], trapezes[smooth], rtol=0.05, atol=1e-4)
        assert np.isfinite(slopes).all()

    def test_one_over_ssim_goes_on_along_its_tangent(self):
        x, y = pair(11, 11)
        y = 255 - y
        q = float(ssim_map(x, y)[0, 0])
        assert q < 0
        found, _ = reciprocal_ssim(x, y, data_range=255)
        assert found == pytest.approx((0.2 - q) / 0.01, rel=1e-5)

    def test_ms_ssim_of_negatives_is_1_but_can_be_left(self):
        x, y = pair(64, 64)
        value, gradient = one_minus_ms_ssim(x, 255 - y, data_range=255)
        assert 0.99 < value <= 1
        assert np.abs(gradient).max() > 0
        assert 1 - ms_ssim(x, 255 - y) == 1

    def test_an_exponent_of_0_leaves_the_term_out(self):
        x, y = pair(32, 32)
        luminance, contrast, structure = ssim_terms(x, 255 - y)
        for exponents, expected in (
            ((1, 0, 0), luminance),
            ((0, 1, 0), contrast),
            ((0, 0, 1), structure),
        ):
            options = dict(zip(("alpha", "beta", "gamma"), exponents, strict=True))
            found, _ = one_minus_weighted_ssim(x, 255 - y, data_range=255, **options)
            assert found == pytest.approx(1 - expected.mean(dtype=float), abs=1e-5)

    def test_luminance_below_zero_keeps_its_sign(self):
        """As of a network that has not learnt yet that grey levels are positive."""
        x, _ = pair(16, 16)
        luminance, structure = ssim_components(x, -x)
        assert luminance.max() < 0
        found, gradient = one_minus_weighted_ssim(x, -x, data_range=255, alpha=0.5, beta=1)
        expected = 1 - (-np.sqrt(-luminance) * structure).mean(dtype=float)
        assert found == pytest.approx(expected, abs=1e-5)
        assert np.isfinite(gradient).all()


class TestMinimizing:
    @pytest.mark.parametrize("name", ["ssim", "1/ssim", "weighted", "lwssim", "ms_ssim"])
    def test_recovers_a_frame_from_noise(self, name):
        loss, options, _ = LOSSES[name]
        x, _ = pair(32, 32, peak=1)
        start = np.random.default_rng(5).random(x.shape)
        least = float(name == "1/ssim")
        losses = [loss(x, start, data_range=1, **options)[0]]

        def note(intermediate_result):
            losses.append(intermediate_result.fun)

        result = minimize(
            for_minimize(loss, x, data_range=1, **options),
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=note,
            options={"maxiter": 200, "ftol": 1e-13, "gtol": 1e-9},
        )
        assert losses[0] > least + 0.3
        assert all(later <= earlier for earlier, later in pairwise(losses))
        assert result.fun < least + 1e-3
        # Samples near the border lie in few windows, and but at their edges.
        inside = result.x.reshape(x.shape)[5:-5, 5:-5]
        assert np.abs(inside - x[5:-5, 5:-5]).mean() < 0.02

    def test_of_cw_ssim_finds_one_octave_of_it(self):
        x, _ = pair(64, 64, peak=1)
        start = np.random.default_rng(5).random(x.shape)
        function = for_minimize(one_minus_cw_ssim, x, data_range=1)
        result = minimize(function, start.ravel(), jac=True, method="L-BFGS-B")
        assert function(start.ravel())[0] > 0.2
        assert result.fun < 1e-4


class TestInput:
    def test_of_whole_numbers_is_taken_in_single_precision(self):
        x, y = (np.clip(frame, 0, 255).astype(np.uint8) for frame in pair())
        value, gradient = one_minus_ssim(x, y, data_range=255)
        assert gradient.dtype == np.float32
        assert value == pytest.approx(1 - ssim(x, y), abs=1e-6)
        wide = [frame.astype(np.uint16) * 200 for frame in (x, y)]
        assert one_minus_ssim(*wide, data_range=51000)[0] == pytest.approx(value, abs=1e-6)
        assert one_minus_ssim(x.astype(int), y, data_range=255)[1].dtype == np.float64

    @every_loss
    def test_is_left_as_it_is(self, name):
        loss, options, _ = LOSSES[name]
        x, y = pair()
        before = x.copy(), y.copy()
        loss(x, y, data_range=255, **options)
        assert np.array_equal(x, before[0])
        assert np.array_equal(y, before[1])

    @every_loss
    def test_need_not_be_contiguous(self, name):
        loss, options, _ = LOSSES[name]
        x, y = pair()
        value, gradient = loss(x, y, data_range=255, **options)
        turned, other = loss(
            np.asfortranarray(x), np.repeat(y, 2, axis=1)[:, ::2], data_range=255, **options
        )
        assert turned == value
        assert np.array_equal(other, gradient)

    @every_loss
    @pytest.mark.parametrize(
        ("x", "y", "message"),
        [
            (np.zeros((32, 32)), np.zeros((32, 31)), "two frames of one shape"),
            (np.zeros((6, 32)), np.zeros((6, 32)), "two frames of one shape"),
            (np.zeros((1, 32, 32)), np.zeros((1, 32, 32)), "two frames of one shape"),
            (np.zeros((32, 32)), np.full((32, 32), np.nan), "without NaN"),
            (np.full((32, 32), np.inf), np.zeros((32, 32)), "without NaN"),
            (np.zeros((32, 32)), np.zeros((32, 32), complex), "real numbers"),
            (np.zeros((32, 32)), np.full((32, 32), "a"), "real numbers"),
        ],
    )
    def test_that_is_no_pair_of_frames_is_refused(self, name, x, y, message):
        loss, options, _ = LOSSES[name]
        with pytest.raises(ValueError, match=message) as caught:
            loss(x, y, data_range=255, **options)
        assert "\n" not in str(caught.value)

    @every_loss
    @pytest.mark.parametrize("data_range", [0, -1, np.nan, np.inf])
    def test_with_no_data_range_is_refused(self, name, data_range):
        loss, options, _ = LOSSES[name]
        with pytest.raises(ValueError, match="data range above 0"):
            loss(*pair(), data_range=data_range, **options)

    @pytest.mark.parametrize("loss", [one_minus_weighted_ssim, one_minus_lwssim])
    @pytest.mark.parametrize("options", [{"alpha": -1}, {"beta": np.nan}, {"gamma": np.inf}])
    def test_with_exponents_that_are_none_is_refused(self, loss, options):
        with pytest.raises(ValueError, match="exponents are 0 or more"):
            loss(*pair(), data_range=255, **options)


def test_importing_ssimrdo_imports_no_torch():
    code = "import sys, ssimrdo, ssimrdo.losses, ssimrdo.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_it_says_what_to_install():
    code = """
import sys
sys.modules["torch"] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)
from ssimrdo.errors import InputError
try:
    import ssimrdo.losses.torch
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    reason = r"ssimrdo\.losses\.torch needs torch, which is not installed: "
    assert re.fullmatch(
        reason + r"(scripts/setup torch|pip install .*\[torch\].)", done.stdout.strip()
    )
