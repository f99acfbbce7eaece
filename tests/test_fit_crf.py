"""The fit of θ_ref to x264's CRF, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from fit_crf import (
    CRFS,
    ClipCurves,
    all_differences,
    fitted_shift,
    fitted_shifts,
    left_out_differences,
    match_in_use,
    reference_factor,
    size_percent,
    ssim_texts,
)

from ssimrdo import objective
from ssimrdo.codecs.x264.steering import qp_offset

SLOPE = 0.003


def clip(name: str, shift: float, size: float = 1.0) -> ClipCurves:
    """SSIM falls on a line; ours at CRF + shift is x264's at CRF, in a share of its bytes."""
    stock = tuple(1 - SLOPE * (crf - 10) for crf in CRFS)
    ours = tuple(1 - SLOPE * (crf - shift - 10) for crf in CRFS)
    sizes = (80_000, 40_000, 20_000, 10_000)
    return ClipCurves(name, stock, ours, sizes, tuple(int(size * one) for one in sizes))


@pytest.mark.parametrize("shift", [-2.0, 0.0, 1.5])
def test_the_shift_is_that_of_the_curves(shift: float) -> None:
    clips = [clip("chest", shift), clip("head", shift)]
    assert fitted_shift(clips) == pytest.approx(shift, abs=1e-3)
    assert all_differences(clips) == pytest.approx(np.full((2, 3), SLOPE * shift))
    assert all_differences(clips, shift) == pytest.approx(np.zeros((2, 3)))


def test_of_several_clips_of_like_slope_the_mean_shift_fits_best() -> None:
    clips = [clip("chest", 1), clip("chest", 2), clip("head", -1.5)]
    assert fitted_shift(clips) == pytest.approx(0.5, abs=1e-3)


def test_shifts_on_a_line_follow_curves_of_another_slope() -> None:
    """Ours at 1.2 CRF - 3 is x264's at CRF."""
    stock = tuple(1 - SLOPE * (crf - 10) for crf in CRFS)
    ours = tuple(1 - SLOPE * ((crf + 3) / 1.2 - 10) for crf in CRFS)
    one = ClipCurves("chest", stock, ours, (1,) * 4, (1,) * 4)
    shifts = fitted_shifts([one])
    assert shifts == pytest.approx([0.2 * crf - 3 for crf in CRFS[:3]], abs=0.01)
    assert all_differences([one], shifts) == pytest.approx(np.zeros((1, 3)), abs=1e-4)


def test_the_last_crf_is_not_fitted_but_interpolated_to() -> None:
    stock = (0.99, 0.98, 0.96, 0.5)
    one = ClipCurves("chest", stock, (0.99, 0.98, 0.96, 0.9), (1,) * 4, (1,) * 4)
    assert fitted_shift([one]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("strength", [0.4, 0.72, 1.0])
def test_the_factor_moves_every_quantizer_by_the_shift(strength: float) -> None:
    theta = np.array([1e-4, 3e-3, 0.02])
    before = qp_offset(0.002 / theta, strength=strength)
    after = qp_offset(0.002 * reference_factor(1.25, strength) / theta, strength=strength)
    assert after - before == pytest.approx(np.full(3, 1.25), abs=1e-5)


def test_a_series_takes_no_part_in_the_shift_it_is_judged_by() -> None:
    clips = [
        clip("chest 40/400", 1),
        clip("chest -600/1500", 2),
        clip("head 40/80", -1),
        clip("phantom 40/400", 0),
    ]
    left_out = left_out_differences(clips)
    # Without the chest the shift is -0.5, without the head 1, without the phantom 2/3.
    expected = SLOPE * np.array([1.5, 2.5, -2, -2 / 3])
    assert left_out == pytest.approx(np.repeat(expected[:, None], 3, axis=1), abs=1e-5)
    assert left_out_differences(clips[:2]) is None


def test_sizes_are_geometric_means_at_the_same_crf() -> None:
    clips = [clip("chest", 0, 0.5), clip("head", 0, 0.8)]
    assert size_percent(clips) == pytest.approx([100 * (0.4**0.5 - 1)] * 3)


def test_the_match_in_use_is_the_one_in_the_objectives_file() -> None:
    assert match_in_use("ssim") == pytest.approx(objective.ssim_mse.CRF_MATCH)
    assert match_in_use("balanced") == pytest.approx(objective.balanced.CRF_MATCH)


def test_the_largest_difference_is_told_with_its_clip_and_crf() -> None:
    clips = [clip("chest 40/400", 0), clip("head 40/80", 0)]
    differences = np.array([[0.001, 0.002, 0.003], [0.001, -0.004, 0.001]])
    means, largest = ssim_texts(clips, differences)
    assert means.replace("\u2212", "-") == "+0.0010 / -0.0010 / +0.0020"
    assert largest.replace("\u2212", "-") == "-0.0040 (head 40/80 at 23)"
