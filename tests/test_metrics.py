"""SSIM and its relatives against scikit-image, plain NumPy and closed forms."""

import concurrent.futures

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ssimrdo import metrics as ssim

DEPTHS = (8, 10)


def scene(shape, bit_depth=8, seed=0):
    """Smooth structure with noise, a black and a white area, and its coarser copy."""
    rng = np.random.default_rng(seed)
    peak = ssim.luma_range(bit_depth)
    smooth = gaussian_filter(rng.normal(size=shape), 6)
    x = 0.5 + smooth / smooth.std() / 4 + rng.normal(0, 0.02, shape)
    x[: shape[0] // 3, : shape[1] // 3] = 0
    x[-shape[0] // 4 :, -shape[1] // 4 :] = 1
    x = np.clip(x, 0, 1) * peak
    y = x + rng.normal(0, 0.02 * peak, shape) * (rng.random(shape) < 0.5)
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return tuple(np.clip(a, 0, peak).round().astype(dtype) for a in (x, y))


def reference(x, y, bit_depth, **options):
    return structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=ssim.luma_range(bit_depth),
        **options,
    )


def plain_components(x, y, bit_depth):
    """Return l and cs from their definitions, in float64."""
    x, y = x.astype(float), y.astype(float)

    def blur(a):
        return gaussian_filter(a, 1.5, truncate=3.5)[5:-5, 5:-5]

    c1, c2 = ssim.stabilizers(bit_depth)
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    contrast = (2 * np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0)) + c2) / (vx + vy + c2)
    structure = (cov + c2 / 2) / (np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0)) + c2 / 2)
    return luminance, contrast, structure


@pytest.mark.parametrize("bit_depth", DEPTHS)
@pytest.mark.parametrize("shape", [(512, 512), (67, 130), (11, 11), (45, 12), (43, 300)])
def test_mean_agrees_with_scikit_image(shape, bit_depth):
    x, y = scene(shape, bit_depth)
    assert ssim.ssim(x, y, bit_depth=bit_depth) == pytest.approx(
        reference(x, y, bit_depth), abs=1e-5
    )


@pytest.mark.parametrize("bit_depth", DEPTHS)
def test_map_agrees_with_scikit_image(bit_depth):
    x, y = scene((130, 97), bit_depth)
    _, full = reference(x, y, bit_depth, full=True)
    np.testing.assert_allclose(
        ssim.ssim_map(x, y, bit_depth=bit_depth), full[5:-5, 5:-5], atol=1e-4
    )


@pytest.mark.parametrize("bit_depth", DEPTHS)
def test_weighted_map_agrees_with_its_definition(bit_depth):
    x, y = scene((90, 120), bit_depth)
    luminance, contrast, structure = plain_components(x, y, bit_depth)
    expected = luminance**1.15 * contrast**0.95 * np.sign(structure) * np.abs(structure) ** 0.95
    actual = ssim.weighted_ssim_map(x, y, bit_depth=bit_depth)
    np.testing.assert_allclose(actual, expected, atol=2e-4)
    assert ssim.weighted_ssim(x, y, bit_depth=bit_depth) == pytest.approx(expected.mean(), abs=1e-5)


def test_weighted_equals_plain_with_exponents_one():
    x, y = scene((60, 60))
    np.testing.assert_allclose(
        ssim.weighted_ssim_map(x, y, alpha=1, beta=1), ssim.ssim_map(x, y), atol=1e-6
    )


@pytest.mark.parametrize("bit_depth", DEPTHS)
def test_slice_quality_gathers_the_single_indices(bit_depth):
    x, y = scene((120, 90), bit_depth)
    quality = ssim.slice_quality(x, y, bit_depth=bit_depth)
    assert quality.ssim == pytest.approx(ssim.ssim(x, y, bit_depth=bit_depth), abs=1e-6)
    assert quality.weighted_ssim == pytest.approx(
        ssim.weighted_ssim(x, y, bit_depth=bit_depth), abs=2e-6
    )
    peak = ssim.luma_range(bit_depth)
    assert quality.psnr_db == pytest.approx(
        peak_signal_noise_ratio(x, y, data_range=peak), abs=1e-4
    )


def test_inverted_structure_is_negative_and_keeps_its_weight():
    x, _ = scene((64, 64))
    x = x[22:, :48]
    y = 255 - x
    quality = ssim.slice_quality(x, y)
    luminance, contrast, structure = plain_components(x, y, 8)
    weighted = luminance**1.15 * contrast**0.95 * np.sign(structure) * abs(structure) ** 0.95
    assert structure.min() < 0
    assert quality.weighted_ssim == pytest.approx(weighted.mean(), abs=1e-5)


def test_identical_frames_are_perfect():
    x, _ = scene((50, 70))
    quality = ssim.slice_quality(x, x)
    assert quality.ssim == pytest.approx(1, abs=1e-6)
    assert quality.weighted_ssim == pytest.approx(1, abs=1e-6)
    assert quality.psnr_db == ssim.PSNR_CEILING_DB


def test_flat_frames_follow_the_closed_form():
    x = np.full((32, 32), 100, np.uint8)
    y = np.full((32, 32), 110, np.uint8)
    c1, _ = ssim.stabilizers(8)
    luminance = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert ssim.ssim(x, y) == pytest.approx(luminance, abs=1e-6)
    assert ssim.weighted_ssim(x, y) == pytest.approx(luminance**1.15, abs=1e-6)


def test_symmetric_in_its_arguments():
    x, y = scene((40, 60))
    assert ssim.ssim(x, y) == pytest.approx(ssim.ssim(y, x), abs=1e-7)


def test_views_are_read_as_they_are_and_left_alone():
    x, y = scene((80, 80))
    cut = x[10:60, 3:70]
    before = x.copy()
    assert ssim.ssim(cut, y[10:60, 3:70]) == ssim.ssim(cut.copy(), y[10:60, 3:70].copy())
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("first", "second"), [((10, 40), (10, 40)), ((40, 40), (40, 41)), ((1600,), (1600,))]
)
def test_unusable_frames_are_refused(first, second):
    with pytest.raises(ValueError, match="SSIM takes two frames"):
        ssim.ssim(np.zeros(first, np.uint8), np.zeros(second, np.uint8))


def test_threads_get_what_one_thread_gets():
    pairs = [scene((96, 96), seed=seed) for seed in range(12)]
    alone = [ssim.slice_quality(*pair) for pair in pairs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: ssim.slice_quality(*pair), pairs))
    assert together == alone
