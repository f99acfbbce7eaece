"""From λ_i / λ to x264's quantizer offsets, against slow references and hand-worked cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from video_files import ct_volume, windowed

from ssimrdo import objective
from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.steering import qp_offset, quantizer_offsets, reference_offset
from ssimrdo.frames import FrameFormat

thetas = hnp.arrays(
    np.float64, hnp.array_shapes(max_dims=2), elements=st.floats(1e-6, 1, allow_subnormal=False)
)


def ratio_of(luma, bit_depth=8):
    rows, columns = luma.shape
    return objective.SSIM.lagrange_ratio(luma, FrameFormat(rows, columns, bit_depth))


def test_twice_theta_is_minus_three_qp_at_full_strength():
    ratio = objective.lagrange_ratio(np.array([0.01, 0.02]))
    np.testing.assert_allclose(qp_offset(ratio, strength=1), [1.5, -1.5], atol=1e-6)


def test_strength_scales_offsets():
    ratio = np.float32([0.25, 1, 8])
    np.testing.assert_allclose(qp_offset(ratio, strength=0.5), [-3, 0, 4.5])
    np.testing.assert_allclose(qp_offset(ratio), np.float32([-4.32, 0, 6.48]), rtol=1e-6)
    assert not qp_offset(ratio, strength=0).any()


@given(theta=thetas, reference=st.floats(1e-6, 1))
@settings(deadline=None)
def test_a_reference_shifts_all_offsets_alike(theta, reference):
    shifted = qp_offset(objective.lagrange_ratio(theta, reference))
    difference = shifted - qp_offset(objective.lagrange_ratio(theta))
    assert np.ptp(difference) < 1e-3


def test_offsets_are_those_of_the_ratios_and_of_the_shift():
    luma = windowed(ct_volume(1, 48, 64)[0]).astype(np.uint8)
    ratio = ratio_of(luma)
    offsets = quantizer_offsets(luma, Steering(ratio), strength=0.4)
    np.testing.assert_allclose(offsets, 3 * 0.4 * np.log2(ratio), atol=1e-5)
    assert offsets.dtype == np.float32
    assert np.std(offsets) > 0
    shifted = quantizer_offsets(luma, Steering(ratio, shift=-2.5), strength=0.4)
    np.testing.assert_allclose(shifted, offsets - 2.5, atol=1e-5)


@pytest.mark.parametrize("role", [None, *Role])
def test_without_ratios_there_are_no_offsets(role):
    luma = np.zeros((32, 32), np.uint8)
    assert quantizer_offsets(luma, Steering(None, role, shift=-1.0)) is None


@pytest.mark.parametrize(("bit_depth", "shape"), [(8, (48, 64)), (10, (37, 50))])
def test_clipped_macroblocks_get_credit_by_role(bit_depth, shape):
    peak = (1 << bit_depth) - 1
    rng = np.random.default_rng(8)
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    luma = np.clip(rng.normal(peak / 2, peak, shape), 0, peak).astype(dtype)
    luma[:16, :16] = 0
    luma[16:32, :16] = peak // 2
    rows, columns = -(-shape[0] // 16), -(-shape[1] // 16)
    blocks = [
        [luma[16 * r : 16 * r + 16, 16 * c : 16 * c + 16] for c in range(columns)]
        for r in range(rows)
    ]
    shares = np.array([[np.isin(b, (0, peak)).mean() for b in row] for row in blocks])
    weight = np.where(shares == 1, 0, np.clip(2 * shares, 0, 1))
    assert weight[0, 0] == weight[1, 0] == 0
    assert weight.max() == 1
    credit_of = {Role.KEY: -0.5, Role.FORWARD: -0.5, Role.REFERENCE: 0, Role.DISPOSABLE: 0.5}
    assert set(credit_of) == set(Role)
    options = {"data_range": peak, "strength": 0.4}
    ratio = ratio_of(luma, bit_depth)
    plain = quantizer_offsets(luma, Steering(ratio), **options)
    for role, credit in credit_of.items():
        expected = 3 * 0.4 * credit * weight
        offset = reference_offset(luma, role, **options)
        np.testing.assert_allclose(offset, expected, atol=1e-6)
        steering = Steering(ratio, role)
        uneven = quantizer_offsets(luma, steering, even=False, **options)
        np.testing.assert_allclose(uneven, plain + expected, atol=1e-5)
        # Half a step closer to each other: frames that others rest on, and those that none needs.
        step = {Role.FORWARD: 0.5, Role.DISPOSABLE: -0.5}.get(role, 0)
        even = quantizer_offsets(luma, steering, **options)
        np.testing.assert_allclose(even, uneven + step, atol=1e-5)


def test_credit_is_for_black_and_white_of_the_depth():
    luma = np.full((16, 48), 100, np.uint8)
    luma[:8, :16] = 0
    luma[:8, 16:32] = 255
    expected = np.array([[-1.08, -1.08, 0]])
    ten_bit = luma.astype(np.uint16)
    ten_bit[luma == 255] = 1023
    for found in (
        reference_offset(luma, Role.FORWARD),
        reference_offset(ten_bit, Role.FORWARD, data_range=1023),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.dtype == np.float32
    ratio = np.ones((1, 3), np.float32)
    for role in (None, Role.FORWARD):
        steering = Steering(ratio, role, shift=0.5)
        found = quantizer_offsets(luma, steering, even=False)
        np.testing.assert_allclose(found, 0.5 + (role is not None) * expected, rtol=1e-6)
        assert found.dtype == np.float32
