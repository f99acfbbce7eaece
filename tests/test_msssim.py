from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import correlate, gaussian_filter

from ssimrdo.metrics import SCALE_WEIGHTS, ms_ssim, ssim

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def reference(x, y, *, scales=5, peak=255):
    """MS-SSIM as in the authors' MATLAB code, in doubles: filter, then take every second sample."""
    x, y = x.astype(float), y.astype(float)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    weights = WEIGHTS[:scales] * (WEIGHTS.sum() / WEIGHTS[:scales].sum())
    index = 1.0
    for scale in range(scales):
        if scale:
            box = np.full((2, 2), 0.25)
            x, y = (correlate(a, box, mode="reflect", origin=-1)[::2, ::2] for a in (x, y))

        def mean(values):
            return gaussian_filter(values, 1.5, truncate=3.5)[5:-5, 5:-5]

        mx, my = mean(x), mean(y)
        structure = (2 * (mean(x * y) - mx * my) + c2) / (
            mean(x * x) - mx**2 + mean(y * y) - my**2 + c2
        )
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        last = scale == scales - 1
        index *= np.mean(luminance * structure if last else structure) ** weights[scale]
    return index


def pair(rows, columns, *, noise=12.0, peak=255, seed=0):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(0, 1, (rows, columns)), 4)
    source = np.clip(peak / 2 + smooth / smooth.std() * peak / 6, 0, peak)
    shown = np.clip(gaussian_filter(source, 1) + rng.normal(0, noise, source.shape), 0, peak)
    dtype = np.uint8 if peak == 255 else np.uint16
    return np.rint(source).astype(dtype), np.rint(shown).astype(dtype)


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        ((256, 320), 5),
        ((176, 176), 5),
        ((201, 187), 5),
        ((160, 400), 4),
        ((87, 90), 4),
        ((48, 256), 3),
        ((30, 30), 2),
        ((16, 20), 1),
    ],
)
def test_agrees_with_an_independent_reference(size, scales):
    x, y = pair(*size)
    assert ms_ssim(x, y) == pytest.approx(reference(x, y, scales=scales), abs=2e-5)


def test_of_ten_bit_frames():
    x, y = pair(192, 256, peak=1023, noise=50)
    assert ms_ssim(x, y, data_range=1023) == pytest.approx(reference(x, y, peak=1023), abs=2e-5)


def test_of_a_slice_of_the_phantom(phantom_luma):
    x = phantom_luma[0]
    y = np.rint(gaussian_filter(x.astype(float), 1.2)).astype(np.uint8)
    assert ms_ssim(x, y) == pytest.approx(reference(x, y), abs=2e-5)


def test_equal_frames_have_one(phantom_luma):
    assert ms_ssim(phantom_luma[0], phantom_luma[0]) == pytest.approx(1, abs=1e-6)


def test_luminance_counts_at_the_coarsest_scale_only():
    x, _ = pair(192, 192)
    brighter = (x * 0.5 + 100).astype(np.float32)
    shifted = brighter + 40
    expected = reference(brighter, shifted)
    assert ms_ssim(brighter, shifted) == pytest.approx(expected, abs=2e-5)
    assert expected > ssim(brighter, shifted)


def test_an_index_below_zero_counts_as_zero():
    x, _ = pair(192, 192)
    assert ms_ssim(x, 255 - x) == 0


def test_small_frame_is_plain_ssim():
    x, y = pair(16, 16)
    assert ms_ssim(x, y) == pytest.approx(ssim(x, y) ** 1.0001, abs=1e-6)


def test_weights_are_those_of_the_paper():
    assert WEIGHTS.tolist() == list(SCALE_WEIGHTS)
    assert math.fsum(SCALE_WEIGHTS) == pytest.approx(1.0001)


@pytest.mark.parametrize("shapes", [((32, 32), (32, 33)), ((8, 8), (8, 8)), ((32,), (32,))])
def test_refuses_frames_it_cannot_compare(shapes):
    a, b = (np.zeros(shape, np.uint8) for shape in shapes)
    with pytest.raises(ValueError, match="SSIM takes two frames"):
        ms_ssim(a, b)
