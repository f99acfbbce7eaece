"""Signs and exponents of weighted SSIM against closed forms, and the window they share."""

from __future__ import annotations

import numpy as np
import pytest

from ssimrdo import metrics
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair, kernels

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
ALPHA, BETA = 1.15, 0.95


def chequerboard(mean, amplitude, side=48):
    """In every window its mean is the mean and its variance the squared amplitude, to 1e-4."""
    signs = 1 - 2 * (np.indices((side, side)).sum(0) % 2)
    return (mean + amplitude * signs).astype(np.uint8)


def structure(first, second):
    """Return the contrast-structure term of two chequerboards with these signed amplitudes."""
    return (2 * first * second + C2) / (first**2 + second**2 + C2)


@pytest.mark.parametrize(("first", "second"), [(30, -30), (30, -7), (5, -20), (8, 8), (40, 3)])
def test_a_chequerboard_and_its_negative_follow_the_closed_form(first, second):
    x, y = chequerboard(120, first), chequerboard(120, second)
    term = structure(first, second)
    weighted = np.sign(term) * abs(term) ** BETA
    assert metrics.ssim(x, y) == pytest.approx(term, abs=2e-3)
    assert metrics.weighted_ssim(x, y) == pytest.approx(weighted, abs=2e-3)
    np.testing.assert_allclose(metrics.weighted_ssim_map(x, y), weighted, atol=2e-3)
    pair = FramePair(x, y, FrameFormat(*x.shape))
    assert metrics.WEIGHTED_SSIM.value(pair) == pytest.approx(weighted, abs=2e-3)
    assert metrics.WEIGHTED_SSIM.map is not None
    np.testing.assert_allclose(metrics.WEIGHTED_SSIM.map(pair), weighted, atol=2e-3)


def test_a_negative_term_keeps_its_sign_beside_another_exponent_and_a_shift():
    x, y = chequerboard(60, 25), chequerboard(140, -25)
    luminance = (2 * 60 * 140 + C1) / (60**2 + 140**2 + C1)
    term = structure(25, -25)
    assert term < -0.8
    for alpha, beta in ((ALPHA, BETA), (2.0, 0.5), (0.5, 2.0)):
        expected = -(luminance**alpha) * abs(term) ** beta
        options = {"alpha": alpha, "beta": beta}
        assert metrics.weighted_ssim(x, y, **options) == pytest.approx(expected, abs=2e-3)
        found = metrics.weighted_ssim_map(x, y, **options)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_exponents_are_those_of_the_index():
    assert (metrics.ALPHA, metrics.BETA) == (ALPHA, BETA)


def test_the_taps_that_all_share_cannot_be_changed():
    taps = kernels.gaussian_taps()
    with pytest.raises(ValueError, match="read-only"):
        taps[0] = 1
    assert taps.sum() * 2 - taps[-1] == pytest.approx(1)


@pytest.mark.parametrize("exponent", [1.15, 0.95, 0.5, 2.0])
def test_powers_are_exact_to_a_millionth(exponent):
    ones = np.ones((1, 1), np.float32)
    for x in np.geomspace(1e-4, 1, 501, dtype=np.float32):
        luminance = np.full((1, 1), x)
        found = kernels.weighted_mean(luminance, ones, np.float32(exponent), np.float32(0.95))
        assert found == pytest.approx(float(x) ** float(np.float32(exponent)), rel=1e-6)
