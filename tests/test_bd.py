"""Bjøntegaard deltas against the bjontegaard package, published numbers and closed forms."""

import functools
import logging
import math
import subprocess
import sys
from fractions import Fraction

import bjontegaard as package
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ssimrdo.bd import (
    LEAST_OVERLAP,
    METHODS,
    SSIM_DB_CEILING,
    EvaluationError,
    RateQuality,
    bd_quality,
    bd_rate,
    bjontegaard,
    rate_difference,
    ssim_db,
    summarize,
)
from ssimrdo.errors import InputError

RATES = (100.0, 200.0, 400.0, 800.0)
QUALITIES = (30.0, 34.0, 37.0, 39.0)


def random_curve(rng, points, low, high):
    """Rates and qualities that rise with it, spread over most of a quality range."""
    rates = rng.uniform(50, 100) * np.cumprod(rng.uniform(1.3, 2.2, points))
    steps = np.cumsum(rng.uniform(0.5, 1.5, points))
    return rates, low + (high - low) * steps / (1.5 * points)


@functools.cache
def random_pairs(low, high, *, points, count=50, seed=0):
    """Arguments of bd_rate whose curves overlap in both directions."""
    rng = np.random.default_rng(seed)
    pairs = []
    while len(pairs) < count:
        pair = (*random_curve(rng, points, low, high), *random_curve(rng, points, low, high))
        result = bjontegaard(RateQuality(*pair[:2]), RateQuality(*pair[2:]))
        if min(result.overlap_quality, result.overlap_rate) > 0.3:
            pairs.append(pair)
    return pairs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [4, 5, 9])
@pytest.mark.parametrize("span", [(8, 25), (30, 45)], ids=["ssim_db", "psnr"])
def test_agrees_with_the_package_in_decibels(method, points, span):
    for pair in random_pairs(*span, points=points):
        options = {"method": method, "min_overlap": 0}
        assert bd_rate(*pair, method=method) == pytest.approx(
            package.bd_rate(*pair, **options), rel=1e-9, abs=1e-9
        )
        assert bd_quality(*pair, method=method) == pytest.approx(
            package.bd_psnr(*pair, **options), rel=1e-9, abs=1e-9
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [4, 7])
def test_agrees_with_the_package_in_linear_ssim(method, points):
    # BD-rate does not change when the quality axis is shifted and scaled. The package needs that
    # for its polynomial fit, whose normal matrix is close to singular on [0.98, 1].
    for pair in random_pairs(0.98, 0.9999, points=points):
        rates, qualities, test_rates, test_qualities = pair
        scaled = (rates, 100 * (qualities - 0.99), test_rates, 100 * (test_qualities - 0.99))
        assert bd_rate(*pair, method=method) == pytest.approx(
            package.bd_rate(*scaled, method=method, min_overlap=0), rel=1e-9, abs=1e-9
        )
        assert bd_quality(*pair, method=method) == pytest.approx(
            package.bd_psnr(*pair, method=method, min_overlap=0), rel=1e-9, abs=1e-9
        )


def exact_cubic_mean(x, y, low, high):
    """Mean of the cubic through four points, in rational numbers by Lagrange's formula.

    Simpson's rule is exact for cubics.
    """
    x, y = [Fraction(v) for v in x], [Fraction(v) for v in y]

    def value(at):
        return sum(
            y[i] * math.prod((at - x[j]) / (x[i] - x[j]) for j in range(4) if j != i)
            for i in range(4)
        )

    low, high = Fraction(low), Fraction(high)
    return (value(low) + 4 * value((low + high) / 2) + value(high)) / 6


def test_cubic_is_accurate_on_linear_ssim():
    for rates, qualities, test_rates, test_qualities in random_pairs(0.98, 0.9999, points=4):
        low, high = max(qualities[0], test_qualities[0]), min(qualities[-1], test_qualities[-1])
        delta = exact_cubic_mean(test_qualities, np.log10(test_rates), low, high)
        delta -= exact_cubic_mean(qualities, np.log10(rates), low, high)
        assert bd_rate(
            rates, qualities, test_rates, test_qualities, method="cubic"
        ) == pytest.approx(100 * (10 ** float(delta) - 1), rel=1e-9, abs=1e-9)


def test_overlap_is_the_share_of_the_union_as_in_the_package():
    anchor, test = RateQuality(RATES, QUALITIES), RateQuality(RATES, np.add(QUALITIES, 4))
    result = bjontegaard(anchor, test)
    assert result.overlap_quality == pytest.approx(5 / 13)
    assert result.overlap_rate == 1
    assert result.warnings == ("BD-rate rests on 38% of the range of the curves",)
    with pytest.warns(UserWarning, match=r"overlap: '38.46'"):
        package.bd_rate(RATES, QUALITIES, RATES, np.add(QUALITIES, 4), method="pchip")


# The example of VCEG-M33, as ETRO's implementation gives it: github.com/tbr/bjontegaard_cpp,
# example.cpp, which asserts both results to six decimals. So does it for nine points, where the
# cubic is fitted by least squares.
VCEG_M33 = (
    (90.33, 181.03, 332.99, 547.79),
    (27.95, 31.17, 34.44, 38.11),
    (127.1719, 186.14, 307.2924, 481.5588),
    (29.9286, 32.4165, 34.7013, 37.4561),
)
ETRO_BARB512 = (
    (2.99899, 1.99884, 1.49673, 0.99707, 0.745941, 0.596436, 0.495148, 0.29425, 0.244049),
    (48.6681, 43.8357, 41.3982, 38.0124, 35.5122, 33.8673, 32.6658, 29.4505, 28.484),
    (2.997253, 1.968292, 1.472565, 0.994965, 0.748871, 0.58902, 0.499176, 0.296753, 0.249634),
    (48.5637, 43.7318, 41.2727, 38.0001, 35.6375, 33.9057, 32.8318, 29.6851, 28.8244),
)


@pytest.mark.parametrize(
    ("curves", "percent", "decibels"),
    [(VCEG_M33, -13.261773, 0.800713), (ETRO_BARB512, -0.903450, 0.072297)],
)
def test_published_cubic_examples(curves, percent, decibels):
    assert bd_rate(*curves, method="cubic") == pytest.approx(percent, abs=6e-7)
    assert bd_quality(*curves, method="cubic") == pytest.approx(decibels, abs=6e-7)


# Two rows of the JCT-VC spreadsheet in JCTVC-E137, whose piecewise cubic results Netflix's VMAF
# keeps to all digits: github.com/Netflix/vmaf, python/test/bd_rate_calculator_test.py.
@pytest.mark.parametrize(
    ("curves", "share"),
    [
        (
            (
                (108048.8736, 61279.976, 33905.6656, 18883.6928),
                (43.6471, 40.3953, 37.247, 34.2911),
                (108061.2784, 61299.9936, 33928.7472, 18910.912),
                (43.6768, 40.4232, 37.2761, 34.3147),
            ),
            -0.00465215420752807,
        ),
        (
            (
                (40433.8848, 7622.7456, 2394.488, 1017.6184),
                (37.5761, 35.3756, 33.8977, 32.0603),
                (40370.12, 7587.0024, 2390.0944, 1017.0984),
                (37.5982, 35.4025, 33.9194, 32.0822),
            ),
            -0.018779823450567612,
        ),
    ],
)
def test_published_jct_vc_examples(curves, share):
    assert bd_rate(*curves) == pytest.approx(100 * share, abs=1e-9)


curves = st.builds(
    lambda points, factor: tuple(
        np.cumprod([factor, *(step for step, _ in points)])[1:].tolist()
        if axis == 0
        else np.cumsum([20.0, *(step for _, step in points)])[1:].tolist()
        for axis in (0, 1)
    ),
    st.lists(st.tuples(st.floats(1.2, 2.5), st.floats(0.5, 4)), min_size=4, max_size=8),
    st.floats(10, 1000),
)
methods = st.sampled_from(METHODS)


def close(value, **options):
    return pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True, **options)


@settings(max_examples=50, deadline=None)
@given(curves, methods, st.floats(0.2, 5))
def test_rate_times_k_costs_k_minus_one(curve, method, factor):
    rates, qualities = curve
    percent = bd_rate(rates, qualities, np.multiply(rates, factor), qualities, method=method)
    assert percent == close(100 * (factor - 1))


@settings(max_examples=50, deadline=None)
@given(curves, methods, st.floats(-10, 10))
def test_quality_shift_is_the_bd_quality(curve, method, shift):
    rates, qualities = curve
    assert bd_quality(rates, qualities, rates, np.add(qualities, shift), method=method) == close(
        shift
    )


@settings(max_examples=50, deadline=None)
@given(curves, curves, methods)
def test_swapping_the_curves_inverts_the_deltas(one, other, method):
    there = bjontegaard(RateQuality(*one), RateQuality(*other), method=method)
    back = bjontegaard(RateQuality(*other), RateQuality(*one), method=method)
    assert (there.overlap_quality, there.overlap_rate) == (back.overlap_quality, back.overlap_rate)
    if there.overlap_quality >= LEAST_OVERLAP:
        assert (1 + there.rate_percent / 100) * (1 + back.rate_percent / 100) == close(1)
    assert there.quality == close(-back.quality)
    assert math.isnan(there.quality) is (there.overlap_rate < LEAST_OVERLAP)


@settings(max_examples=50, deadline=None)
@given(curves, curves, methods, st.floats(1e-6, 1e6))
def test_units_of_rate_do_not_matter(one, other, method, unit):
    plain = bjontegaard(RateQuality(*one), RateQuality(*other), method=method)
    # Rounding decides whether curves that share a quarter of their range share enough.
    assume(abs(plain.overlap_rate - LEAST_OVERLAP) > 0.01)
    scaled = bjontegaard(
        *(RateQuality(np.multiply(rates, unit), qualities) for rates, qualities in (one, other)),
        method=method,
    )
    assert scaled.overlap_rate == pytest.approx(plain.overlap_rate, abs=1e-9)
    if plain.overlap_quality >= LEAST_OVERLAP:
        assert 1 + scaled.rate_percent / 100 == close(1 + plain.rate_percent / 100)
    assert scaled.quality == pytest.approx(plain.quality, rel=1e-7, abs=1e-7, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(curves, curves, methods, st.randoms(use_true_random=False))
def test_order_of_points_does_not_matter(one, other, method, random):
    rates, qualities = zip(*random.sample(list(zip(*one, strict=True)), len(one[0])), strict=True)
    assert RateQuality(rates, qualities) == RateQuality(*one)
    shuffled = bd_rate(rates, qualities, *other, method=method)
    assert shuffled == pytest.approx(bd_rate(*one, *other, method=method), nan_ok=True, abs=0)


numbers = st.floats(allow_nan=False, allow_infinity=False)
wild = st.lists(
    st.tuples(st.floats(5e-324, 1e308) | st.integers(1, 5), numbers | st.integers(0, 5)),
    min_size=4,
    max_size=7,
)


@settings(deadline=None)
@given(wild, wild, methods)
def test_any_curve_gives_numbers_or_a_reason(one, other, method):
    first, second = (RateQuality(*zip(*points, strict=True)) for points in (one, other))
    result = bjontegaard(first, second, method=method)
    undefined = [math.isnan(result.rate_percent), math.isnan(result.quality)]
    assert any(undefined) == (result.reason is not None)
    assert not math.isinf(result.rate_percent)
    assert not math.isinf(result.quality)


@pytest.mark.parametrize("factor", [0.8, 1.5])
def test_rate_difference_by_hand(factor):
    # Rates that grow tenfold in 20 dB; of the test's 30 to 46 dB the anchor reaches up to 42.
    anchor = [30.0, 33.0, 39.0, 42.0]
    test = [30.0, 35.0, 41.0, 46.0]
    rates = [10 ** (quality / 20) for quality in anchor]
    test_rates = [factor * 10 ** (quality / 20) for quality in test]
    mean = 20 / math.log(10) * (10**2.1 - 10**1.5) / (42 - 30)
    difference = rate_difference(RateQuality(rates, anchor), RateQuality(test_rates, test))
    assert difference == pytest.approx((factor - 1) * mean, rel=1e-6)


@given(curves, curves)
def test_rate_difference_changes_its_sign_with_the_roles(one, other):
    there = rate_difference(RateQuality(*one), RateQuality(*other))
    back = rate_difference(RateQuality(*other), RateQuality(*one))
    assert there == pytest.approx(-back, rel=1e-9, abs=1e-9, nan_ok=True)
    defined = not math.isnan(bd_rate(*one, *other))
    assert math.isnan(there) is not defined


def test_identical_curves_differ_by_nothing():
    curve = RateQuality(RATES, QUALITIES)
    for method in METHODS:
        result = bjontegaard(curve, curve, method=method)
        assert (result.rate_percent, result.quality) == (0, 0)
        assert (result.overlap_quality, result.overlap_rate) == (1, 1)
        assert (result.reason, result.warnings) == (None, ())


def test_curves_may_differ_in_their_number_of_points():
    five = ((*RATES, 1600.0), (*QUALITIES, 40.0))
    assert bd_rate(RATES, QUALITIES, *five) < 0.5


def test_no_overlap_is_nan_with_a_reason(caplog):
    far = np.multiply(RATES, 100), np.add(QUALITIES, 20)
    result = bjontegaard(RateQuality(RATES, QUALITIES), RateQuality(*far))
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="ssimrdo"):
        assert math.isnan(bd_rate(RATES, QUALITIES, *far))
    assert math.isnan(result.rate_percent)
    assert math.isnan(result.quality)
    assert result.overlap_quality == result.overlap_rate == 0
    assert result.reason == (
        "BD-rate undefined: the curves do not overlap in quality; "
        "BD-quality undefined: the curves do not overlap in rate"
    )
    assert "do not overlap in quality" in caplog.text


def test_touching_in_one_point_is_no_overlap():
    result = bjontegaard(RateQuality(RATES, QUALITIES), RateQuality(RATES, np.add(QUALITIES, 9)))
    assert math.isnan(result.rate_percent)
    assert result.quality == pytest.approx(9)
    assert result.reason == "BD-rate undefined: the curves do not overlap in quality"


@pytest.mark.parametrize("axis", ["quality", "rate"])
def test_less_than_a_quarter_of_overlap_is_nan_with_a_reason(axis):
    """Straight lines 8 long, moved by 4.8 and 4.9: they share 3.2 of 12.8 and 3.1 of 12.9."""
    line = np.array([30.0, 32.0, 35.0, 38.0])

    def shifted(by):
        anchor, test = (10 ** (line / 20), line), (10 ** (line / 20), line + by)
        if axis == "rate":
            test = 10 ** ((line + by) / 20), line
        return bjontegaard(RateQuality(*anchor), RateQuality(*test))

    just, below = shifted(4.8 - 1e-9), shifted(4.9)
    overlaps = [getattr(one, f"overlap_{axis}") for one in (just, below)]
    assert overlaps == pytest.approx([3.2 / 12.8, 3.1 / 12.9])
    values = [one.rate_percent if axis == "quality" else one.quality for one in (just, below)]
    expected = 100 * (10 ** (-4.8 / 20) - 1) if axis == "quality" else -4.8
    assert values[0] == pytest.approx(expected)
    assert just.reason is None
    assert math.isnan(values[1])
    assert below.reason is not None
    assert below.reason.endswith(
        f"undefined: the curves share less than 25% of their range of {axis}"
    )


@pytest.mark.parametrize("method", METHODS)
def test_falling_quality_is_a_warning(method, caplog):
    bent = (30.0, 36.0, 34.0, 39.0)
    result = bjontegaard(RateQuality(RATES, QUALITIES), RateQuality(RATES, bent), method=method)
    with caplog.at_level(logging.WARNING, logger="ssimrdo"):
        bd_rate(RATES, QUALITIES, RATES, bent, method=method)
    warning = "test: quality does not increase with rate, 36 at 200 but 34 at 400"
    assert result.warnings == (warning,)
    assert warning in caplog.text
    assert result.reason is None
    # The points still define rate as a function of quality, in another order.
    order = np.argsort(bent)
    expected = package.bd_rate(
        RATES, QUALITIES, np.take(RATES, order), np.take(bent, order), method=method
    )
    assert result.rate_percent == pytest.approx(expected, abs=1e-9)
    assert result.quality == pytest.approx(
        package.bd_psnr(RATES, QUALITIES, RATES, bent, method=method), abs=1e-9
    )


@pytest.mark.parametrize("method", METHODS)
def test_one_quality_at_two_rates_has_no_bd_rate(method):
    flat = RateQuality((*RATES, 1500.0), (*QUALITIES, 39.0))
    result = bjontegaard(flat, RateQuality(RATES, QUALITIES), method=method)
    assert math.isnan(result.rate_percent)
    assert math.isfinite(result.quality)
    assert result.reason == (
        "BD-rate undefined: anchor has two points of one quality with different rate"
    )
    assert result.warnings == (
        "anchor: quality does not increase with rate, 39 at 800 but 39 at 1500",
    )


@pytest.mark.parametrize("method", METHODS)
def test_one_rate_with_two_qualities_has_no_bd_quality(method):
    twice = RateQuality((*RATES, 800.0), (*QUALITIES, 39.5))
    result = bjontegaard(RateQuality(RATES, QUALITIES), twice, method=method)
    assert math.isnan(result.quality)
    assert math.isfinite(result.rate_percent)
    assert "test has two points of one rate" in result.reason


def test_repeated_points_count_once():
    again = RateQuality((*RATES, 200.0), (*QUALITIES, 34.0))
    result = bjontegaard(again, RateQuality(RATES, QUALITIES))
    assert (result.rate_percent, result.quality) == (0, 0)
    assert result.warnings == ("anchor: 5 points, but only 4 different ones",)


def test_too_few_different_points_is_nan_with_a_reason():
    result = bjontegaard(
        RateQuality((100, 200, 400, 400), (30, 34, 37, 37)), RateQuality(RATES, QUALITIES)
    )
    assert math.isnan(result.rate_percent)
    assert math.isnan(result.quality)
    assert "anchor has 3 different points, but a curve needs 4" in result.reason


def test_a_curve_all_in_one_place_is_nan_with_a_reason():
    point = RateQuality([100] * 4, [30] * 4)
    assert "1 different points" in bjontegaard(point, point).reason


@pytest.mark.parametrize(
    ("method", "qualities"),
    [
        ("pchip", (0.0, 5e-324, 1e-323, 1.5e-323)),
        ("akima", (0.0, 5e-324, 1e-323, 1.5e-323)),
        ("cubic", (0.0, 1e-20, 2e-20, 1.0)),
    ],
)
def test_points_too_close_for_a_slope_are_nan_with_a_reason(method, qualities):
    close_by = RateQuality(RATES, qualities)
    result = bjontegaard(close_by, close_by, method=method)
    assert math.isnan(result.rate_percent)
    assert "too close in quality" in result.reason


@pytest.mark.parametrize(
    ("rates", "qualities", "message"),
    [
        (RATES[:3], QUALITIES[:3], "3 points, but a curve needs at least 4"),
        ([], [], "0 points"),
        (RATES, QUALITIES[:3], "4 rates but 3 qualities"),
        ((0, 1, 2, 3), QUALITIES, "rates must be positive, but one is 0"),
        ((-5, 1, 2, 3), QUALITIES, "rates must be positive, but one is -5"),
        ((math.nan, 1, 2, 3), QUALITIES, "rates are not all finite"),
        ((math.inf, 1, 2, 3), QUALITIES, "rates are not all finite"),
        (RATES, (30, 31, 32, math.inf), "qualities are not all finite"),
        (RATES, (30, 31, None, 33), "qualities are not all finite"),
        (RATES, (30, 31, "x", 33), "qualities are not all numbers"),
        ([RATES], QUALITIES, "rates must be a flat list"),
        (1.0, QUALITIES, "rates must be a flat list"),
    ],
)
def test_unusable_points_are_one_line_errors(rates, qualities, message):
    for function in (bd_rate, bd_quality):
        with pytest.raises(EvaluationError, match=f"test: .*{message}") as caught:
            function(RATES, QUALITIES, rates, qualities)
        assert isinstance(caught.value, InputError)
        assert isinstance(caught.value, ValueError)
        assert "\n" not in str(caught.value)


def test_unknown_method_is_an_error():
    with pytest.raises(EvaluationError, match="choose from pchip, akima, cubic"):
        bd_rate(RATES, QUALITIES, RATES, QUALITIES, method="spline")


def test_ssim_in_decibels():
    assert ssim_db(0.9) == pytest.approx(10)
    assert ssim_db(0.99) == pytest.approx(20)
    assert ssim_db(0.0) == 0
    assert isinstance(ssim_db(0.5), float)
    assert ssim_db([0.9, 0.999]) == pytest.approx([10, 30])
    # The ceiling: identical images, and those no double can tell from them.
    assert ssim_db(1.0) == ssim_db(1 - 1e-12) == SSIM_DB_CEILING
    assert ssim_db(1 - 1e-9) == pytest.approx(90, abs=1e-5)


@pytest.mark.parametrize("value", [1.1, -1.5, math.nan, math.inf, "x", [0.5, 2.0]])
def test_ssim_out_of_range_is_an_error(value):
    with pytest.raises(EvaluationError, match="SSIM"):
        ssim_db(value)


def test_delta_in_decibels_of_ssim():
    # Halving 1 - SSIM at every rate is 10 log10(2) dB.
    ssim = np.array([0.9, 0.95, 0.98, 0.99])
    delta = bd_quality(RATES, ssim_db(ssim), RATES, ssim_db(1 - (1 - ssim) / 2))
    assert delta == pytest.approx(10 * math.log10(2))


def test_summary():
    summary = summarize([-12.0, -8.0, math.nan, -10.0, -3.0, -9.0])
    assert (summary.count, summary.excluded) == (5, 1)
    assert summary.mean == pytest.approx(-8.4)
    assert summary.median == -9
    assert (summary.worst, summary.best) == (-3, -12)
    assert -12 < summary.low < summary.mean < summary.high < -3
    assert (summary.spread, summary.confidence) == ("interval", 0.95)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_series_have_a_range_in_place_of_an_interval(count):
    values = [-12.0, -8.0, -3.0, -10.0][:count]
    summary = summarize([*values, math.nan])
    assert (summary.low, summary.high) == (min(values), max(values))
    assert (summary.spread, summary.count) == ("range", count)


def test_summary_where_larger_is_better():
    summary = summarize([0.2, 0.5, 0.4], larger_is_better=True)
    assert (summary.worst, summary.best) == (0.2, 0.5)


def test_summary_is_reproducible_in_any_order():
    values = np.random.default_rng(1).normal(-8, 3, 20)
    assert summarize(values) == summarize(values[::-1]) == summarize(values, seed=0)
    assert summarize(values) != summarize(values, seed=1)


def test_interval_comes_close_to_that_of_the_normal_distribution():
    values = np.random.default_rng(2).normal(-8, 3, 400)
    summary = summarize(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert summary.low == pytest.approx(values.mean() - half, abs=0.03)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.03)
    narrow = summarize(values, confidence=0.5)
    assert summary.low < narrow.low < narrow.high < summary.high


def test_summary_of_one_value_has_no_interval():
    summary = summarize([-7.0])
    assert (summary.count, summary.mean, summary.median) == (1, -7, -7)
    assert math.isnan(summary.low)
    assert math.isnan(summary.high)
    assert summary.spread == "range"


def test_summary_of_equal_values_has_an_interval_of_no_width():
    summary = summarize([0.1] * 7)
    assert summary.low == summary.mean == summary.high == summary.worst == 0.1


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_summary_of_nothing_is_nan(values):
    summary = summarize(values)
    assert (summary.count, summary.excluded) == (0, len(values))
    assert all(
        math.isnan(value)
        for value in (summary.mean, summary.median, summary.worst, summary.best, summary.low)
    )


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_summary_of_any_values_is_ordered(values):
    summary = summarize(values, resamples=99)
    assert summary.best <= summary.mean <= summary.worst
    assert summary.best <= summary.median <= summary.worst
    assert math.isnan(summary.low) or summary.best <= summary.low <= summary.high <= summary.worst


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, math.inf], {}, "finite"),
        ([[1.0], [2.0]], {}, "flat"),
        (["x"], {}, "numbers"),
        ([1.0, 2.0], {"confidence": 1.0}, "confidence"),
        ([1.0, 2.0], {"resamples": 1}, "bootstrap samples"),
    ],
)
def test_unusable_values_are_errors(values, options, message):
    with pytest.raises(EvaluationError, match=message):
        summarize(values, **options)


def test_import_leaves_scipy_alone():
    code = "import sys, ssimrdo.bd; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
