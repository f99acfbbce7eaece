"""SSIM and its relatives against scikit-image, plain NumPy and closed forms."""

import concurrent.futures
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import ssimrdo.metrics.registry
from ssimrdo import metrics
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import kernels

PEAKS = (255, 1023)


def scene(shape, peak=255, seed=0):
    """Smooth structure with noise, a black and a white area, and its coarser copy."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 6)
    x = 0.5 + smooth / smooth.std() / 4 + rng.normal(0, 0.02, shape)
    x[: shape[0] // 3, : shape[1] // 3] = 0
    x[-shape[0] // 4 :, -shape[1] // 4 :] = 1
    x = np.clip(x, 0, 1) * peak
    y = x + rng.normal(0, 0.02 * peak, shape) * (rng.random(shape) < 0.5)
    dtype = np.uint8 if peak == 255 else np.uint16
    return tuple(np.clip(a, 0, peak).round().astype(dtype) for a in (x, y))


def reference(x, y, peak, **options):
    return structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=peak,
        **options,
    )


def plain_components(x, y, peak):
    """Return l and cs from their definitions, in float64."""
    x, y = x.astype(float), y.astype(float)

    def blur(a):
        return gaussian_filter(a, 1.5, truncate=3.5)[5:-5, 5:-5]

    c1, c2 = metrics.stabilizers(peak)
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    contrast = (2 * np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0)) + c2) / (vx + vy + c2)
    structure = (cov + c2 / 2) / (np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0)) + c2 / 2)
    return luminance, contrast, structure


@pytest.mark.parametrize("peak", PEAKS)
@pytest.mark.parametrize("shape", [(512, 512), (67, 130), (11, 11), (45, 12), (43, 300)])
def test_mean_agrees_with_scikit_image(shape, peak):
    x, y = scene(shape, peak)
    assert metrics.ssim(x, y, data_range=peak) == pytest.approx(reference(x, y, peak), abs=1e-5)


@pytest.mark.parametrize("peak", PEAKS)
def test_map_agrees_with_scikit_image(peak):
    x, y = scene((130, 97), peak)
    _, full = reference(x, y, peak, full=True)
    np.testing.assert_allclose(metrics.ssim_map(x, y, data_range=peak), full[5:-5, 5:-5], atol=1e-4)


@pytest.mark.parametrize("peak", PEAKS)
def test_weighted_map_agrees_with_its_definition(peak):
    x, y = scene((90, 120), peak)
    luminance, contrast, structure = plain_components(x, y, peak)
    expected = luminance**1.15 * contrast**0.95 * np.sign(structure) * np.abs(structure) ** 0.95
    actual = metrics.weighted_ssim_map(x, y, data_range=peak)
    np.testing.assert_allclose(actual, expected, atol=2e-4)
    assert metrics.weighted_ssim(x, y, data_range=peak) == pytest.approx(expected.mean(), abs=1e-5)


def test_weighted_equals_plain_with_exponents_one():
    x, y = scene((60, 60))
    np.testing.assert_allclose(
        metrics.weighted_ssim_map(x, y, alpha=1, beta=1), metrics.ssim_map(x, y), atol=1e-6
    )


def measured(x, y, peak=255):
    rows, columns = x.shape
    frame_format = FrameFormat(rows, columns, peak.bit_length())
    pair = metrics.FramePair(x, y, frame_format)
    return metrics.measure(pair, [metrics.get(name) for name in metrics.names()])


@pytest.mark.parametrize("peak", PEAKS)
def test_a_pair_of_frames_has_the_single_indices(peak):
    x, y = scene((120, 90), peak)
    quality = measured(x, y, peak)
    assert quality["ssim"] == pytest.approx(metrics.ssim(x, y, data_range=peak), abs=1e-9)
    assert quality["weighted_ssim"] == pytest.approx(
        metrics.weighted_ssim(x, y, data_range=peak), abs=1e-9
    )
    assert quality["ms_ssim"] == pytest.approx(metrics.ms_ssim(x, y, data_range=peak), abs=1e-9)
    assert quality["psnr"] == metrics.psnr_db(x, y, data_range=peak)
    assert quality["psnr"] == pytest.approx(
        peak_signal_noise_ratio(x, y, data_range=peak), abs=1e-4
    )


def test_inverted_structure_is_negative_and_keeps_its_weight():
    x, _ = scene((64, 64))
    x = x[22:, :48]
    y = 255 - x
    luminance, contrast, structure = plain_components(x, y, 255)
    weighted = luminance**1.15 * contrast**0.95 * np.sign(structure) * abs(structure) ** 0.95
    assert structure.min() < 0
    for found in (measured(x, y)["weighted_ssim"], metrics.weighted_ssim(x, y)):
        assert found == pytest.approx(weighted.mean(), abs=1e-5)
    np.testing.assert_allclose(metrics.weighted_ssim_map(x, y), weighted, atol=2e-4)
    assert abs(weighted.mean() - np.abs(weighted).mean()) > 0.01


def test_identical_frames_are_perfect():
    x, _ = scene((50, 70))
    quality = measured(x, x)
    assert quality["ssim"] == pytest.approx(1, abs=1e-6)
    assert quality["weighted_ssim"] == pytest.approx(1, abs=1e-6)
    assert quality["psnr"] == metrics.PSNR_CEILING_DB


def test_psnr_is_no_better_than_that_of_identical_frames():
    x = np.zeros((4096, 4096), np.uint8)
    y = x.copy()
    y[0, 0] = 1
    # A single step in 2^24 samples would be 120 dB.
    assert metrics.psnr_db(x, y) == metrics.PSNR_CEILING_DB


@pytest.mark.parametrize("side", [1024, 4096])
def test_large_frames_are_summed_in_doubles(side):
    x, y = (np.tile(frame, (side // 512, side // 512)) for frame in scene((512, 512)))
    luminance, contrast_structure = metrics.ssim_components(x, y)
    plain = (luminance * contrast_structure).mean(dtype=np.float64)
    assert metrics.ssim(x, y) == pytest.approx(plain, abs=1e-9)
    power = luminance.astype(float) ** 1.15 * np.abs(contrast_structure.astype(float)) ** 0.95
    weighted = metrics.weighted_ssim(x, y)
    # The powers are good to 1e-6, the sum of them to much more.
    assert weighted == pytest.approx(np.copysign(power, contrast_structure).mean(), abs=1e-6)
    rows = [
        kernels.weighted_mean(a[None], b[None], np.float32(1.15), np.float32(0.95))
        for a, b in zip(luminance, contrast_structure, strict=True)
    ]
    assert weighted == pytest.approx(np.mean(rows), abs=1e-9)
    squares = int(((x.astype(np.int64) - y) ** 2).sum())
    psnr = 10 * math.log10(255**2 * side**2 / squares)
    assert metrics.psnr_db(x, y) == pytest.approx(psnr, abs=1e-9)


def test_hu_are_compared_over_their_range():
    """Arrays that are no luma: the range is the window's width."""
    x, y = (frame.astype(np.float32) / 255 * 1500 for frame in scene((80, 90)))
    assert metrics.ssim(x, y, data_range=1500) == pytest.approx(reference(x, y, 1500), abs=1e-5)
    assert metrics.psnr_db(x, y, data_range=1500) == pytest.approx(
        peak_signal_noise_ratio(x, y, data_range=1500), abs=1e-4
    )


def test_flat_frames_follow_the_closed_form():
    x = np.full((32, 32), 100, np.uint8)
    y = np.full((32, 32), 110, np.uint8)
    c1, _ = metrics.stabilizers(255)
    luminance = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert metrics.ssim(x, y) == pytest.approx(luminance, abs=1e-6)
    assert metrics.weighted_ssim(x, y) == pytest.approx(luminance**1.15, abs=1e-6)


def test_symmetric_in_its_arguments():
    x, y = scene((40, 60))
    assert metrics.ssim(x, y) == pytest.approx(metrics.ssim(y, x), abs=1e-7)


def test_views_are_read_as_they_are_and_left_alone():
    x, y = scene((80, 80))
    cut = x[10:60, 3:70]
    before = x.copy()
    assert metrics.ssim(cut, y[10:60, 3:70]) == metrics.ssim(cut.copy(), y[10:60, 3:70].copy())
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("first", "second"), [((10, 40), (10, 40)), ((40, 40), (40, 41)), ((1600,), (1600,))]
)
def test_unusable_frames_are_refused(first, second):
    with pytest.raises(ValueError, match="SSIM takes two frames"):
        metrics.ssim(np.zeros(first, np.uint8), np.zeros(second, np.uint8))


@pytest.mark.parametrize(
    ("first", "second"), [((20, 40), (40, 20)), ((40, 40), (40, 41)), ((4, 4, 4), (4, 4, 4))]
)
def test_psnr_refuses_frames_of_different_shape(first, second):
    with pytest.raises(ValueError, match="PSNR takes two frames"):
        metrics.psnr_db(np.zeros(first, np.uint8), np.zeros(second, np.uint8))


def test_threads_get_what_one_thread_gets():
    pairs = [scene((96, 96), seed=seed) for seed in range(12)]
    alone = [measured(*pair) for pair in pairs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: measured(*pair), pairs))
    assert together == alone


@pytest.fixture
def registry(monkeypatch):
    """Let a test register indices of its own."""
    monkeypatch.setattr(
        ssimrdo.metrics.registry, "_INDICES", dict(ssimrdo.metrics.registry._INDICES)
    )
    return metrics


def largest_error(pair):
    return float(np.abs(pair.source.astype(int) - pair.shown).max())


def test_every_index_is_known_by_its_name():
    assert metrics.names()[0] == "ssim"
    assert {"ssim", "weighted_ssim", "ms_ssim", "psnr"} <= set(metrics.names())
    for name in metrics.names():
        assert metrics.get(name).name == name
        assert metrics.get(name.replace("_", "-")) is metrics.get(name)
    everyday = [name for name in metrics.names() if metrics.get(name).everyday]
    assert everyday == ["ssim", "weighted_ssim", "psnr"]
    assert metrics.usual_names() == ("ssim", "weighted_ssim", "ms_ssim", "psnr")
    with pytest.raises(InputError, match=r"'vmaf' is unknown: use one of ssim, .*psnr"):
        metrics.get("vmaf")


def test_an_index_can_be_added(registry):
    index = registry.register(
        metrics.QualityIndex("peak_error", "Peak error", largest_error, higher_is_better=False)
    )
    assert registry.get("peak-error") is index
    assert registry.names()[-1] == registry.usual_names()[-1] == "peak_error"
    x, y = scene((32, 32))
    assert measured(x, y)["peak_error"] == np.abs(x.astype(int) - y).max() > 0
    assert (index.sign, index.worst_key, index.worst([3, 7, 5])) == (-1, "max", 7)
    ssim = registry.get("ssim")
    assert (ssim.sign, ssim.worst_key, ssim.worst([0.3, 0.7, 0.5])) == (1, "min", 0.3)


@pytest.mark.parametrize("name", ["", "peak error", "peak-error", "1st"])
def test_an_index_is_named_like_a_variable(registry, name):
    with pytest.raises(ValueError, match="named like a variable"):
        registry.register(metrics.QualityIndex(name, "Title", largest_error))


def test_the_mean_of_a_map_is_its_index():
    x, y = scene((70, 60), 1023)
    pair = metrics.FramePair(x, y, FrameFormat(70, 60, 10))
    for name in ("ssim", "weighted_ssim"):
        index = metrics.get(name)
        assert index.map is not None
        assert index.map(pair).mean(dtype=float) == pytest.approx(index.value(pair), abs=1e-6)
        assert index.map(pair).shape == (60, 50)
    psnr = metrics.get("psnr")
    assert psnr.map is not None
    squares = psnr.map(pair)
    assert squares.shape == (70, 60)
    np.testing.assert_array_equal(squares, (x.astype(float) - y) ** 2)


@pytest.mark.parametrize("name", metrics.names())
def test_the_loss_of_an_index_grows_with_qp_as_it_says(name):
    """Noise as strong as a quantizer leaves it: its square doubles every three QPs."""
    index = metrics.get(name)
    rng = np.random.default_rng(4)
    x = np.clip(128 + gaussian_filter(rng.normal(size=(192, 192)), 2) * 250, 0, 255)
    # Flat tissue with grain, and an edge.
    x[:, 112:] = 60
    x[:, 169:] = 200
    x[:, 112:] = gaussian_filter(x[:, 112:], 0.7) + gaussian_filter(
        rng.normal(0, 12, (192, 80)), 0.8
    )
    noise = rng.normal(size=x.shape)
    losses = []
    for qp in (20, 26):
        y = np.clip(x + noise * 2 ** (qp / 6) / 6, 0, 255).astype(np.float32)
        pair = metrics.FramePair(x.astype(np.float32), y, FrameFormat(192, 192))
        losses.append(float(index.log_loss(index.value(pair))))
    slope = (losses[1] - losses[0]) / 6
    assert slope == pytest.approx(index.loss_per_qp, rel=0.15)
