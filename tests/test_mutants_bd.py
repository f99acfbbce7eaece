"""The interval of the mean against SciPy's bootstrap and against the formula of BCa."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssimrdo.bd import summarize

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
