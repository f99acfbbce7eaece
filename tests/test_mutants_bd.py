"""Deltas and intervals at their ends, against SciPy's bootstrap and the formula of BCa."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ssimrdo.bd import (
    EvaluationError,
    RateQuality,
    bjontegaard,
    rate_difference,
    ssim_db,
    summarize,
)

SKEWED = np.sort(-(np.random.default_rng(5).lognormal(1, 1, 12)))


def scipys(method, confidence=0.95):
    found = stats.bootstrap(
        (SKEWED,),
        np.mean,
        confidence_level=confidence,
        n_resamples=9999,
        method=method,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return found.low, found.high


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_interval_is_scipys_bca(confidence):
    summary = summarize(SKEWED, confidence=confidence)
    # Means that tie up to rounding count on either side of the mean.
    assert (summary.low, summary.high) == pytest.approx(scipys("BCa", confidence), rel=1e-3)
    for other in ("percentile", "basic"):
        assert (summary.low, summary.high) != pytest.approx(scipys(other, confidence), rel=0.02)


def test_the_interval_follows_efrons_formula():
    """Percentiles moved by the bias z0 and the acceleration a, from resamples of our own."""
    rng = np.random.default_rng(11)
    means = rng.choice(SKEWED, (40_000, SKEWED.size)).mean(axis=1)
    bias = stats.norm.ppf((means < SKEWED.mean()).mean())
    jackknife = (SKEWED.sum() - SKEWED) / (SKEWED.size - 1)
    spread = jackknife.mean() - jackknife
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    summary = summarize(SKEWED)
    plain = np.quantile(means, [0.025, 0.975])
    assert abs(expected[0] - plain[0]) > 0.1 * np.ptp(plain)
    assert [summary.low, summary.high] == pytest.approx(expected, abs=0.03 * np.ptp(plain))


def test_the_ends_of_the_interval_may_lie_beyond_the_second_value():
    values = [0.0, 10.0, 10.1, 10.2, 10.3]
    summary = summarize(values)
    assert 0 < summary.low < 10 < summary.high <= 10.3
    mirrored = summarize(np.negative(values))
    assert -10.3 <= mirrored.low < -10 < mirrored.high < 0


def test_values_too_close_for_a_spread_have_no_interval():
    summary = summarize([0.0, 0.0, 0.0, 0.0, 5e-324])
    assert math.isnan(summary.low)
    assert math.isnan(summary.high)
    assert summary.worst == 5e-324


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 1.5, math.nan])
def test_a_confidence_lies_between_nothing_and_certainty(confidence):
    with pytest.raises(EvaluationError, match="confidence"):
        summarize(SKEWED, confidence=confidence)


def test_two_resamples_are_enough_and_one_is_not():
    assert summarize(SKEWED, resamples=2).count == SKEWED.size
    with pytest.raises(EvaluationError, match="at least 2 bootstrap samples are needed, not 1"):
        summarize(SKEWED, resamples=1)


QUALITIES = (30.0, 34.0, 37.0, 39.0)


def test_rates_too_far_apart_have_no_bd_rate():
    low, high = (RateQuality(scale * np.arange(1, 5), QUALITIES) for scale in (1e-300, 1e300))
    result = bjontegaard(low, high)
    assert math.isnan(result.rate_percent)
    assert result.reason is not None
    assert "BD-rate undefined: the curves lie too far apart" in result.reason
    assert result.overlap_quality == 1


def test_a_reason_names_both_axes():
    rates = (100.0, 200.0, 400.0, 800.0)
    plain = RateQuality(rates, QUALITIES)
    flat = RateQuality((*rates, 1500.0), (*QUALITIES, 39.0))
    steep = RateQuality((*rates, 800.0), (*QUALITIES, 39.5))
    assert bjontegaard(plain, flat).reason == (
        "BD-rate undefined: test has two points of one quality with different rate"
    )
    assert bjontegaard(steep, plain).reason == (
        "BD-quality undefined: anchor has two points of one rate with different quality"
    )


def test_the_ceiling_is_x264s():
    assert ssim_db(1.0) == 100


def test_a_difference_too_large_for_a_number_is_undefined():
    steps = np.arange(1, 5) / 4
    low, high = RateQuality(4e3 * steps, QUALITIES), RateQuality(1.7e308 * steps, QUALITIES)
    assert math.isfinite(bjontegaard(low, high).rate_percent)
    assert math.isnan(rate_difference(low, high))


def test_decibels_of_a_number_are_a_number():
    assert type(ssim_db(0.9)) is float
    assert type(ssim_db(np.float64(0.9))) is float
    assert ssim_db([0.9]).shape == (1,)
