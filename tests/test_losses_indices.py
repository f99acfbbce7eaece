"""LWSSIM and CW-SSIM as indices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrtools.pyramids import SteerablePyramidFreq
from scipy.ndimage import gaussian_filter, rotate, uniform_filter, zoom
from skimage.metrics import structural_similarity

from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair, cw_ssim, get, lwssim, lwssim_map, ssim, ssim_terms
from ssimrdo.metrics.complex_wavelet import pyramid_of


def texture(rows=128, columns=128, *, seed=0, peak=255, blur=2.0):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(rows, columns)), blur)
    return np.clip(peak / 2 + smooth / smooth.std() * peak / 6, 0, peak)


def noisy(frame, sigma=12.0, seed=9):
    return frame + np.random.default_rng(seed).normal(0, sigma, frame.shape)


class TestLevelWeighted:
    def test_a_single_window_of_ssim_adds_its_terms(self):
        x, y = texture(), noisy(texture())
        luminance, contrast, structure = ssim_terms(x, y)
        expected = (
            luminance**0.8 + contrast**0.5 * np.copysign(abs(structure) ** 1.3, structure)
        ) / 2
        found = lwssim_map(x, y, window_sizes=[11], alpha=0.8, beta=0.5, gamma=1.3)
        assert np.allclose(found, expected, atol=2e-6)

    def test_flat_frames_have_a_closed_form(self):
        x, y = np.full((20, 20), 100.0), np.full((20, 20), 140.0)
        c1 = (0.01 * 255) ** 2
        luminance = (2 * 100 * 140 + c1) / (100**2 + 140**2 + c1)
        assert lwssim(x, y) == pytest.approx((luminance + 1) / 2, abs=1e-5)
        assert lwssim(x, y, alpha=2, beta=3) == pytest.approx((luminance**2 + 1) / 2, abs=1e-5)

    def test_levels_are_those_of_scikit_image(self):
        """Of each size the window's SSIM; l is all but 1 here, so that c s is what is compared."""
        x = texture() / 50 + 200
        y = noisy(x, 1.0)
        of_levels = []
        for size in (5, 9):
            sigma = 1.5 * size / 11
            _, terms = structural_similarity(
                x,
                y,
                data_range=255,
                gaussian_weights=True,
                sigma=sigma,
                truncate=(size // 2) / sigma,
                use_sample_covariance=False,
                full=True,
            )
            of_levels.append((1 + terms[5:-5, 5:-5]) / 2)
        found = lwssim_map(x, y, window_sizes=[5, 9], weights=[1, 3])
        assert np.allclose(found, 0.25 * of_levels[0] + 0.75 * of_levels[1], atol=2e-5)

    def test_notices_luminance_where_ssim_does_not(self):
        """A shift of grey counts, though the frames have no structure in common."""
        x, other = texture(), texture(seed=1)
        lost = lwssim(x, other) - lwssim(x, other - 100)
        assert lost > 10 * abs(ssim(x, other) - ssim(x, other - 100))

    @given(
        seed=st.integers(0, 99),
        alpha=st.floats(0, 3),
        beta=st.floats(0, 3),
        sizes=st.lists(st.sampled_from([3, 5, 7, 9, 11]), min_size=1, max_size=3),
    )
    def test_properties(self, seed, alpha, beta, sizes):
        x, y = texture(16, 19, seed=seed), noisy(texture(16, 19, seed=seed), 60, seed)
        options = {"alpha": alpha, "beta": beta, "window_sizes": sizes}
        assert lwssim(x, x, **options) == pytest.approx(1, abs=1e-5)
        assert lwssim(x, y, **options) == pytest.approx(lwssim(y, x, **options), abs=1e-5)
        values = lwssim_map(x, np.clip(y, 0, 255), **options)
        assert values.shape == (6, 9)
        assert values.min() > -0.5
        assert values.max() <= 1 + 1e-5

    def test_of_ten_bit_frames(self):
        x, y = texture(32, 32), np.clip(noisy(texture(32, 32)), 0, 255)
        wide = [np.rint(frame * 1023 / 255).astype(np.uint16) for frame in (x, y)]
        assert lwssim(*wide, data_range=1023) == pytest.approx(lwssim(x, y), abs=1e-3)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"window_sizes": []}, "window sizes of 3, 5"),
            ({"window_sizes": [4]}, "window sizes of 3, 5"),
            ({"window_sizes": [13]}, "window sizes of 3, 5"),
            ({"weights": [1]}, "a weight of 0 or more for each"),
            ({"weights": [1, 1, -1]}, "a weight of 0 or more for each"),
            ({"weights": [0, 0, 0]}, "a weight of 0 or more for each"),
            ({"alpha": -1}, "exponents are 0 or more"),
            ({"gamma": -1}, "exponents are 0 or more"),
        ],
    )
    def test_refuses_options(self, options, message):
        x = texture(16, 16)
        with pytest.raises(ValueError, match=message):
            lwssim(x, x, **options)


class TestComplexWavelet:
    @pytest.mark.parametrize(
        ("size", "levels", "orientations"),
        [((128, 128), 4, 8), ((96, 160), 3, 6), ((64, 64), 1, 4), ((128, 128), 2, 2)],
    )
    def test_agrees_with_bands_of_pyrtools(self, size, levels, orientations):
        x, y = texture(*size, blur=4), noisy(texture(*size, blur=4, seed=2), 30)
        found = cw_ssim(x, y, levels=levels, orientations=orientations, stabilizer=0)
        assert found == pytest.approx(reference(x, y, levels, orientations), abs=2e-6)
        assert found < 0.95

    @pytest.mark.parametrize("change", [(0, 1), (1, 0), (2, 2)])
    def test_hardly_notices_a_shift(self, change):
        x = texture()
        y = np.roll(x, change, axis=(0, 1))
        assert cw_ssim(x, y) > 0.97
        assert ssim(x, y) < 0.9

    @pytest.mark.parametrize(
        "change",
        [
            lambda frame: rotate(frame, 2, reshape=False, mode="reflect"),
            lambda frame: zoom(frame, 1.03)[2:130, 2:130],
        ],
    )
    def test_hardly_notices_a_small_rotation_or_scaling(self, change):
        x = texture()
        y = change(x)
        assert cw_ssim(x, y) > 0.95
        assert ssim(x, y) < 0.8

    def test_notices_what_ssim_notices(self):
        """It is not blind: blur costs it more than a shift, and another texture the most."""
        x = texture(blur=4)
        shifted, blurred = np.roll(x, 2, axis=1), uniform_filter(x, 21)
        assert cw_ssim(x, blurred) < 0.7 < 0.97 < cw_ssim(x, shifted)
        assert cw_ssim(x, texture(blur=4, seed=5)) < 0.6

    def test_a_wave_keeps_its_magnitude_when_it_moves(self):
        """In closed form: of a wave amid band b, a shift turns all coefficients by one angle."""
        columns = np.arange(128)
        angle = 2 * np.pi * columns / 32
        x, y = (np.tile(128 + 100 * np.cos(angle + by), (128, 1)) for by in (0.0, 0.7))
        pyramid = pyramid_of(x.shape, 4, 8)
        a, b = pyramid.bands(x)[0], pyramid.bands(y)[0]
        assert np.allclose(b, a * np.exp(0.7j))
        # Half of the amplitude, times 2 √k of that band.
        gain = 2 * np.sqrt(4**7 * 5040**2 / (8 * 87178291200))
        assert np.allclose(abs(a), 50 * gain)
        assert cw_ssim(x, y, stabilizer=1e-6) == pytest.approx(1, abs=1e-9)

    def test_scaling_of_contrast_has_a_closed_form(self):
        x = texture()
        found = cw_ssim(x, 128 + (x - 128) * 0.5, stabilizer=0)
        assert found == pytest.approx(2 * 0.5 / (1 + 0.5**2), abs=1e-6)

    def test_mean_and_sign_do_not_count(self):
        x = texture()
        assert cw_ssim(x, x + 40) == pytest.approx(1, abs=1e-9)
        assert cw_ssim(x, 255 - x) == pytest.approx(1, abs=1e-9)

    @given(
        seed=st.integers(0, 99),
        rows=st.integers(7, 60),
        columns=st.integers(7, 60),
        levels=st.integers(1, 5),
        orientations=st.integers(2, 6),
    )
    def test_properties(self, seed, rows, columns, levels, orientations):
        x = texture(rows, columns, seed=seed)
        y = noisy(x, 60, seed)
        options = {"levels": levels, "orientations": orientations}
        assert cw_ssim(x, x, **options) == pytest.approx(1, abs=1e-9)
        found = cw_ssim(x, y, **options)
        assert 0 < found < 1
        assert found == pytest.approx(cw_ssim(y, x, **options), abs=1e-9)

    def test_of_other_types(self):
        x, y = texture(), noisy(texture())
        single = cw_ssim(x.astype(np.float32), y.astype(np.float32))
        assert single == pytest.approx(cw_ssim(x, y), abs=1e-6)
        luma = [np.rint(np.clip(frame, 0, 255)).astype(np.uint8) for frame in (x, y)]
        wide = [frame.astype(np.uint16) * 4 for frame in luma]
        assert cw_ssim(*wide, data_range=1020) == pytest.approx(cw_ssim(*luma), abs=1e-6)

    def test_flat_frames_are_equal(self):
        x, y = np.full((64, 64), 10.0), np.full((64, 64), 200.0)
        assert cw_ssim(x, y) == pytest.approx(1)
        assert cw_ssim(x, y, stabilizer=0) <= 1

    @pytest.mark.parametrize("options", [{"levels": 0}, {"orientations": 1}])
    def test_refuses_a_pyramid_that_is_none(self, options):
        x = texture(32, 32)
        with pytest.raises(ValueError, match="1 level or more and 2 orientations or more"):
            cw_ssim(x, x, **options)


def reference(x, y, levels, orientations):
    """CW-SSIM as in the authors' program, of the bands that pyrtools makes."""
    similarities = []
    pyramids = [
        SteerablePyramidFreq(frame, height=levels, order=orientations - 1, is_complex=True)
        for frame in (x, y)
    ]
    for band in range(orientations):
        a, b = (pyramid.pyr_coeffs[levels - 1, band] for pyramid in pyramids)

        def mean(values):
            valid = slice(3, -3)
            return uniform_filter(values, 7)[valid, valid]

        product = a * b.conj()
        size = np.hypot(mean(product.real), mean(product.imag))
        index = 2 * size / mean(abs(a) ** 2 + abs(b) ** 2)
        down, across = (np.arange(side) - (side - 1) / 2 for side in index.shape)
        sides = [side / 4 for side in a.shape]
        weights = np.outer(
            np.exp(-(down**2) / (2 * sides[0] ** 2)), np.exp(-(across**2) / (2 * sides[1] ** 2))
        )
        similarities.append((index * weights).sum() / weights.sum())
    return np.mean(similarities)


@pytest.mark.parametrize(("name", "function"), [("lwssim", lwssim), ("cw_ssim", cw_ssim)])
def test_the_registry_has_them(name, function):
    x, y = (
        np.rint(np.clip(frame, 0, 1023)).astype(np.uint16)
        for frame in (texture(40, 48, peak=1023), noisy(texture(40, 48, peak=1023), 50))
    )
    pair = FramePair(x, y, FrameFormat(40, 48, bit_depth=10))
    index = get(name)
    assert index.value(pair) == pytest.approx(function(x, y, data_range=1023), abs=1e-6)
    assert index.higher_is_better
    assert not index.everyday
    if index.map is not None:
        assert index.map(pair).mean() == pytest.approx(index.value(pair), abs=1e-5)


@pytest.mark.parametrize(("function", "side"), [(lwssim, 11), (cw_ssim, 7)])
def test_refuse_frames_they_cannot_compare(function, side):
    x = np.zeros((side, side))
    assert function(x, x) == pytest.approx(1)
    for other in (np.zeros((side, side + 1)), np.zeros(side), np.full((side, side), np.nan)):
        with pytest.raises(ValueError, match="SSIM takes two frames"):
            function(x, other)
    with pytest.raises(ValueError, match="SSIM takes two frames"):
        function(np.zeros((side - 1, side)), np.zeros((side - 1, side)))
