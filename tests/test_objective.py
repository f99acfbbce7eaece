"""θ and λ against slow references, hand-worked cases and invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from scipy.stats import linregress

import ssimrdo.objective.base
from ssimrdo import metrics, objective
from ssimrdo.codecs.x264.encoder import Encoder, EncoderParameters
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.objective.ssim_mse import CRF_MATCH

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def window_weights():
    d = np.arange(-5, 6)
    taps = np.exp(-(d**2) / (2 * 1.5**2))
    plane = np.outer(taps, taps)
    return plane / plane.sum()


def slow_statistics(luma):
    """Return µ and σ² per macroblock, window by window."""
    weights = window_weights()
    rows, columns = luma.shape
    padded = np.pad(luma.astype(float), 5, mode="symmetric")
    mean = np.empty(luma.shape)
    variance = np.empty(luma.shape)
    for r in range(rows):
        for c in range(columns):
            window = padded[r : r + 11, c : c + 11]
            mean[r, c] = (weights * window).sum()
            variance[r, c] = (weights * (window - mean[r, c]) ** 2).sum()
    grid = (-(-rows // 16), -(-columns // 16))
    blocks = [
        [(slice(16 * r, 16 * r + 16), slice(16 * c, 16 * c + 16)) for c in range(grid[1])]
        for r in range(grid[0])
    ]
    return tuple(
        np.array([[plane[b].mean() for b in row] for row in blocks]) for plane in (mean, variance)
    )


def slow_theta(mean, variance):
    n = 1 / (window_weights() ** 2).sum()
    n_eff = n - (n - 1) * (C2 / 2) / (variance + C2 / 2)
    return 0.95 / (2 * variance + C2) + 1.15 / (n_eff * (2 * mean**2 + C1))


@pytest.mark.parametrize("shape", [(48, 64), (37, 50), (16, 16), (20, 3)])
def test_statistics_agree_with_the_windows(shape):
    rng = np.random.default_rng(3)
    luma = np.clip(gaussian_filter(rng.normal(size=shape), 2) * 300 + 128, 0, 255).astype(np.uint8)
    luma[: shape[0] // 2, : shape[1] // 2] = 0
    mean, variance = slow_statistics(luma)
    statistics = objective.block_statistics(luma)
    np.testing.assert_allclose(statistics.mean, mean, atol=1e-3)
    np.testing.assert_allclose(statistics.variance, variance, rtol=1e-4, atol=1e-2)


def test_ten_bit_statistics_scale():
    rng = np.random.default_rng(4)
    luma = rng.integers(0, 256, (32, 48)).astype(np.uint8)
    eight = objective.block_statistics(luma)
    ten = objective.block_statistics(luma.astype(np.uint16) * 4, data_range=1023)
    np.testing.assert_allclose(ten.mean, eight.mean * 4, rtol=1e-5)
    np.testing.assert_allclose(ten.variance, eight.variance * 16, rtol=1e-4)


def lagrange_ratio(luma, bit_depth=8):
    rows, columns = luma.shape
    return objective.SSIM.lagrange_ratio(luma, FrameFormat(rows, columns, bit_depth))


def test_lagrange_ratios_agree_with_the_slow_reference():
    rng = np.random.default_rng(5)
    luma = rng.integers(0, 256, (48, 64)).astype(np.uint8)
    luma[:16] = 40
    luma[16:32, :32] //= 8
    theta = slow_theta(*slow_statistics(luma))
    ratio = CRF_MATCH * 0.95 / (5 * C2) / theta
    np.testing.assert_allclose(np.log2(lagrange_ratio(luma)), np.log2(ratio), atol=1e-3)


def test_window_samples_are_the_windows():
    assert objective.window_samples() == pytest.approx(1 / (window_weights() ** 2).sum(), rel=1e-6)


def test_effective_samples_grow_from_one_to_the_windows():
    samples = objective.effective_samples(np.array([0, C2 / 2, 1e9]))
    n = objective.window_samples()
    np.testing.assert_allclose(samples, [1, (n + 1) / 2, n], rtol=1e-5)


def test_theta_of_a_flat_block():
    variance = np.float32([[0, 0]])
    theta = objective.theta(np.float32([[0, 200]]), variance, objective.effective_samples(variance))
    black = 0.95 / C2 + 1.15 / C1
    bright = 0.95 / C2 + 1.15 / (2 * 200**2 + C1)
    np.testing.assert_allclose(theta, [[black, bright]], rtol=1e-5)


def test_theta_of_pure_texture():
    theta = objective.theta(np.float32([128]), np.float32([1000]), objective.window_samples())
    assert theta[0] == pytest.approx(0.95 / (2000 + C2), rel=0.01)


def test_theta_of_a_shift_is_the_slope_of_one_over_ssim():
    """A flat block shifted by d: 1/SSIM* = (1 + d² / (2µ(µ+d) + C1))^α, so θ·d² to first order."""
    x = np.full((32, 32), 60, np.uint8)
    y = x + np.uint8(1)
    flat = np.zeros(1, np.float32)
    slope = objective.theta(np.float32([60]), flat, objective.effective_samples(flat), beta=0)[0]
    assert 1 / metrics.weighted_ssim(x, y) - 1 == pytest.approx(slope, rel=0.05)


def test_an_edge_has_the_variance_of_its_windows():
    luma = np.zeros((16, 16), np.uint8)
    luma[:, 8:] = 100
    below = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    below /= below.sum()
    shares = np.array(
        [sum(w for k, w in zip(range(-5, 6), below, strict=True) if c + k >= 8) for c in range(16)]
    )
    # Mirrored borders leave the two sides as they are: no window sees past one border and the edge.
    expected = (100**2 * shares * (1 - shares)).mean()
    assert objective.block_statistics(luma).variance[0, 0] == pytest.approx(expected, rel=1e-4)


thetas = hnp.arrays(
    np.float64, hnp.array_shapes(max_dims=2), elements=st.floats(1e-6, 1, allow_subnormal=False)
)


@given(theta=thetas, scale=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_lagrange_ratio_has_geometric_mean_one_and_no_unit(theta, scale):
    ratio = objective.lagrange_ratio(theta)
    assert np.log(ratio.astype(float)).mean() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(objective.lagrange_ratio(theta * scale), ratio, rtol=1e-4)


def test_the_reference_texture_keeps_the_encoders_lambda():
    rng = np.random.default_rng(7)
    luma = np.clip(rng.normal(128, np.sqrt(2 * C2), (256, 256)).round(), 0, 255).astype(np.uint8)
    # White noise has less variance inside a window than in all: the window's mean takes 1/N.
    variance = objective.block_statistics(luma).variance.mean()
    shift = np.log2((2 * variance + C2) / (5 * C2))
    matched = shift + np.log2(CRF_MATCH)
    assert np.log2(lagrange_ratio(luma)).mean() == pytest.approx(matched, abs=0.05)
    assert abs(shift) < 0.1


@given(theta=thetas, reference=st.floats(1e-6, 1))
@settings(deadline=None)
def test_a_reference_shifts_all_ratios_alike(theta, reference):
    difference = np.log2(objective.lagrange_ratio(theta, reference).astype(float)) - np.log2(
        objective.lagrange_ratio(theta).astype(float)
    )
    assert np.ptp(difference) < 1e-5


def test_bit_depth_does_not_move_the_ratios():
    rng = np.random.default_rng(6)
    luma = rng.integers(0, 256, (64, 64)).astype(np.uint8)
    luma[:20] = 7
    ten = (luma.astype(float) * 1023 / 255).round().astype(np.uint16)
    np.testing.assert_allclose(
        np.log2(lagrange_ratio(ten, 10)), np.log2(lagrange_ratio(luma)), atol=0.005
    )


@pytest.mark.parametrize("shape", [(0, 16), (16,), (2, 16, 16)])
def test_unusable_frames_are_refused(shape):
    with pytest.raises(ValueError, match="two dimensions"):
        objective.block_statistics(np.zeros(shape, np.uint8))


def blockwise(plane):
    rows, columns = (side // 16 for side in plane.shape)
    return np.nanmean(plane.reshape(rows, 16, columns, 16), axis=(1, 3))


def test_one_over_ssim_is_linear_in_mse_on_encoded_blocks(phantom_luma, capsys):
    frames = phantom_luma[:6]
    height, width = frames[0].shape
    options = (("qp", "22"), ("psy", "0"))
    shown = {}
    with Encoder(EncoderParameters(width, height, options=options)) as encoder:
        packets = [encoder.encode(luma, pts=pts) for pts, luma in enumerate(frames)]
        for packet in [*filter(None, packets), *encoder.flush()]:
            shown[packet.pts] = packet.reconstruction
    slope_terms, inverse_ssim = [], []
    for pts, luma in enumerate(frames):
        similarity = np.pad(metrics.ssim_map(luma, shown[pts]), 5, constant_values=np.nan)
        mse = blockwise((luma.astype(float) - shown[pts]) ** 2)
        variance = objective.block_statistics(luma).variance
        slope_terms.append(mse / (2 * variance + C2))
        inverse_ssim.append(1 / blockwise(similarity))
    x, y = np.ravel(slope_terms), np.ravel(inverse_ssim)
    line = linregress(x[x > 0], y[x > 0])
    with capsys.disabled():
        print(
            f"\n1/SSIM = {line.intercept:.4f} + {line.slope:.3f} MSE/(2σ²+C2), "
            f"R² = {line.rvalue**2:.3f} on {np.count_nonzero(x)} encoded blocks at QP 22"
        )
    assert line.slope == pytest.approx(1, abs=0.2)
    assert line.intercept == pytest.approx(1, abs=0.02)
    assert line.rvalue**2 > 0.35


@pytest.fixture
def registry(monkeypatch):
    """Let a test register objectives of its own."""
    known = dict(ssimrdo.objective.base._OBJECTIVES)
    monkeypatch.setattr(ssimrdo.objective.base, "_OBJECTIVES", known)
    return objective


def test_objectives_are_known_by_their_names(registry):
    known = registry.names()
    assert known[0] == "ssim"
    assert registry.get("ssim") is objective.SSIM
    with pytest.raises(
        InputError, match=r"rdo: 'mse' is unknown: use one of ssim, .*off$"
    ) as caught:
        registry.get("mse")
    assert caught.value.field == "rdo"
    flat = objective.Objective(
        "mse",
        "Squared error",
        lambda _, frame_format: np.full(frame_format.grid, 3, np.float32),
        lambda _: 6.0,
    )
    assert registry.register(flat) is registry.get("mse") is flat
    assert registry.names() == (*known, "mse")
    ratio = flat.lagrange_ratio(np.zeros((20, 40), np.uint8), FrameFormat(20, 40))
    np.testing.assert_allclose(ratio, np.full((2, 3), 2))
    assert ratio.dtype == np.float32


def test_no_objective_is_called_off(registry):
    with pytest.raises(ValueError, match="'off' is the name of no objective"):
        registry.register(objective.Objective("off", "Off", lambda *_: None, lambda _: 1.0))
