"""Bjøntegaard deltas: average rate and quality differences between rate-quality curves.

With anchor curve A and test curve T, rates R > 0 in any unit and qualities Q on any metric that
grows with quality,

    BD-rate    = 100 (10^Δ - 1) %,  Δ = 1 / (q₂ - q₁) ∫ (log₁₀ R_T(q) - log₁₀ R_A(q)) dq,
    BD-quality = 1 / (r₂ - r₁) ∫ (Q_T(r) - Q_A(r)) dr,  r = log₁₀ R,

integrated over [q₁, q₂], the qualities both curves reach, or over [r₁, r₂], the log-rates both
curves reach. Nothing is extrapolated. A negative BD-rate is a saving, a positive BD-quality a gain.

Between its measured points a curve is one of

* ``pchip``: monotone piecewise cubic Hermite interpolation, the method of the JCT-VC and JVET
  common test conditions [3]_ and the default here;
* ``akima``: Akima's local spline, found closest to densely sampled curves in [4]_;
* ``cubic``: one third-order polynomial [1]_, through four points or by least squares to more [2]_.

The definitions are those of the ``bjontegaard`` package (1.3), with these differences: points may
come in any order and anchor and test may differ in their number; at least four points are asked
for; and the polynomial is fitted on an axis shifted and scaled to [-1, 1]. The fit is the same, but
on the raw axis of linear SSIM close to 1 the powers of q are almost collinear and rounding alone
costs up to 1e-4 percentage points. Like the package, this module takes overlap as a share of the
union and warns below 0.75; the literature asks for overlap but not for how much. Below a quarter
no delta is given: it would speak of the ends of both curves alone. [5]_ surveys the methods and
their pitfalls.

Curves that are not monotone
----------------------------
BD-quality needs quality as a function of rate, and BD-rate rate as a function of quality. Points
that are equal in both coordinates count once. A curve whose quality falls somewhere with rising
rate still defines both functions, through all of its points; the numbers are given, with a warning,
because no measured point should drop out silently. Two points of one quality at different rates
define no rate for that quality: BD-rate is then NaN with the reason. The same holds for BD-quality
and two qualities at one rate.

References
----------
.. [1] G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T SG16 Q.6
   document VCEG-M33, Austin, 2001.
.. [2] S. Pateux and J. Jung, "An Excel add-in for computing Bjøntegaard metric and its evolution",
   ITU-T SG16 Q.6 document VCEG-AE07, Marrakech, 2007.
.. [3] F. Bossen, "Common test conditions and software reference configurations", JCT-VC document
   JCTVC-L1100, Geneva, 2013.
.. [4] C. Herglotz, M. Kränzler, R. Mons and A. Kaup, "Beyond Bjøntegaard: limits of video
   compression performance comparisons", IEEE ICIP 2022, arXiv:2202.12565.
.. [5] N. Barman, M. G. Martini and Y. Reznik, "Bjøntegaard delta (BD): a tutorial overview of the
   metric, evolution, challenges, and recommendations", arXiv:2401.04039, 2024.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssimrdo.errors import InputError

logger = logging.getLogger(__name__)

FloatArray: TypeAlias = NDArray[np.float64]

Method: TypeAlias = Literal["pchip", "akima", "cubic"]
"""How a curve runs between its measured points."""

METHODS: tuple[str, ...] = get_args(Method)
"""All methods, the default first."""

MINIMUM_POINTS = 4
"""Fewest points of a curve; a third-order polynomial has four coefficients."""

_QUADRATURE_NODES = 200
"""Of Gauss and Legendre; the integrand is smooth but for the points of the curves."""

LOW_OVERLAP = 0.75
"""Share of the union of both curves' ranges below which the overlap is warned about."""

LEAST_OVERLAP = 0.25
"""Share of the union of both curves' ranges below which a delta is undefined."""

SSIM_DB_CEILING = 100.0
"""SSIM in dB of images that agree up to 1e-10, the ceiling x264 prints as well."""


class EvaluationError(InputError, ValueError):
    """Points, values or options from which no delta or summary can be computed."""


@dataclass(frozen=True, init=False)
class RateQuality:
    """Measured points of one encoder, sorted by rate.

    Parameters
    ----------
    rates : array_like
        Positive bit rates in kbps or any other unit that both curves share.
    qualities : array_like
        Quality at each rate, larger is better: SSIM, SSIM in dB, PSNR in dB, ...
    name : str
        What error messages call the curve.

    Raises
    ------
    EvaluationError
        For fewer than four points, unequal lengths, values that are no finite numbers or rates
        that are not positive.
    """

    rates: tuple[float, ...]
    qualities: tuple[float, ...]

    def __init__(self, rates: ArrayLike, qualities: ArrayLike, *, name: str = "curve") -> None:
        rate = _vector(rates, f"{name}: rates")
        quality = _vector(qualities, f"{name}: qualities")
        if rate.size != quality.size:
            raise EvaluationError(f"{name}: {rate.size} rates but {quality.size} qualities")
        if rate.size < MINIMUM_POINTS:
            raise EvaluationError(
                f"{name}: {rate.size} points, but a curve needs at least {MINIMUM_POINTS}; "
                "encode at more settings"
            )
        if rate.min() <= 0:
            raise EvaluationError(f"{name}: rates must be positive, but one is {rate.min():g}")
        order = np.lexsort((quality, rate))
        # A frozen dataclass allows no plain assignment.
        object.__setattr__(self, "rates", tuple(rate[order].tolist()))
        object.__setattr__(self, "qualities", tuple(quality[order].tolist()))


@dataclass(frozen=True)
class BDResult:
    """Bjøntegaard deltas of a test curve against an anchor.

    Parameters
    ----------
    rate_percent : float
        BD-rate in percent; negative where the test curve needs less rate. NaN if undefined.
    quality : float
        BD-quality in the unit of the metric; positive where the test curve is better. NaN if
        undefined.
    overlap_quality : float
        Length of the qualities both curves reach, as a share (0 to 1) of the length of those
        either reaches; the BD-rate rests on it.
    overlap_rate : float
        The same of the log-rates, on which the BD-quality rests.
    reason : str or None
        Why a delta is NaN; None where neither is.
    warnings : tuple of str
        What makes the deltas less trustworthy.
    """

    rate_percent: float
    quality: float
    overlap_quality: float
    overlap_rate: float
    reason: str | None = None
    warnings: tuple[str, ...] = ()


def bjontegaard(anchor: RateQuality, test: RateQuality, *, method: Method = "pchip") -> BDResult:
    """Compare two curves by BD-rate and BD-quality.

    Parameters
    ----------
    anchor, test : RateQuality
        The curve compared against, and the curve compared.
    method : {"pchip", "akima", "cubic"}
        How the curves run between their points.

    Returns
    -------
    BDResult
        Both deltas with overlaps, reason and warnings.

    Raises
    ------
    EvaluationError
        For an unknown method.
    """
    if method not in METHODS:
        raise EvaluationError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
    (anchor_rate, anchor_quality), (test_rate, test_quality) = _axes(anchor), _axes(test)
    # Values beyond float64 become infinite or NaN, which is looked for and reported below.
    with np.errstate(all="ignore"):
        by_quality = _mean_gap(
            anchor_quality, anchor_rate, test_quality, test_rate, method, names=("quality", "rate")
        )
        by_rate = _mean_gap(
            anchor_rate, anchor_quality, test_rate, test_quality, method, names=("rate", "quality")
        )
        # expm1 keeps the digits of small deltas that 10^Δ - 1 would cancel.
        percent = float(100 * np.expm1(by_quality.mean * math.log(10)))
    if math.isinf(percent):
        percent, by_quality = math.nan, by_quality.undefined("the curves lie too far apart")

    deltas = (("BD-rate", by_quality), ("BD-quality", by_rate))
    reasons = [f"{name} undefined: {gap.reason}" for name, gap in deltas if gap.reason]
    return BDResult(
        rate_percent=percent,
        quality=by_rate.mean,
        overlap_quality=by_quality.overlap,
        overlap_rate=by_rate.overlap,
        reason="; ".join(reasons) or None,
        warnings=(
            *_curve_warnings(anchor, "anchor"),
            *_curve_warnings(test, "test"),
            *(
                f"{name} rests on {gap.overlap:.0%} of the range of the curves"
                for name, gap in deltas
                if not gap.reason and gap.overlap < LOW_OVERLAP
            ),
        ),
    )


def bd_rate(
    anchor_rates: ArrayLike,
    anchor_qualities: ArrayLike,
    test_rates: ArrayLike,
    test_qualities: ArrayLike,
    *,
    method: Method = "pchip",
) -> float:
    """Return the BD-rate in percent; negative where the test needs less rate.

    Parameters
    ----------
    anchor_rates, anchor_qualities, test_rates, test_qualities : array_like
        Points of the two curves as :class:`RateQuality` takes them.
    method : {"pchip", "akima", "cubic"}
        How the curves run between their points.

    Returns
    -------
    float
        BD-rate, or NaN where it is undefined; the reason and any warnings are logged, and
        :func:`bjontegaard` returns them.

    Raises
    ------
    EvaluationError
        For unusable points or an unknown method.
    """
    return _deltas(anchor_rates, anchor_qualities, test_rates, test_qualities, method).rate_percent


def bd_quality(
    anchor_rates: ArrayLike,
    anchor_qualities: ArrayLike,
    test_rates: ArrayLike,
    test_qualities: ArrayLike,
    *,
    method: Method = "pchip",
) -> float:
    """Return the BD-quality in the unit of the metric; positive where the test is better.

    Parameters, NaN and errors are those of :func:`bd_rate`.
    """
    return _deltas(anchor_rates, anchor_qualities, test_rates, test_qualities, method).quality


def _deltas(
    anchor_rates: ArrayLike,
    anchor_qualities: ArrayLike,
    test_rates: ArrayLike,
    test_qualities: ArrayLike,
    method: Method,
) -> BDResult:
    anchor = RateQuality(anchor_rates, anchor_qualities, name="anchor")
    test = RateQuality(test_rates, test_qualities, name="test")
    result = bjontegaard(anchor, test, method=method)
    # Whoever takes a number alone finds in the log what makes it less trustworthy.
    for message in (*result.warnings, *(result.reason or "").split("; ")):
        if message:
            logger.warning("%s", message)
    return result


def rate_difference(anchor: RateQuality, test: RateQuality) -> float:
    """Return how much more rate the test needs at equal quality, in the unit of the rates.

    Where the BD-rate averages the ratio of the rates, this averages their difference, over the
    same qualities and with the same curves (``pchip``); high rates weigh more in it.

    Parameters
    ----------
    anchor, test : RateQuality
        The curve compared against, and the curve compared.

    Returns
    -------
    float
        Mean difference, negative where the test needs less; NaN where the BD-rate is undefined.
    """
    (anchor_rate, anchor_quality), (test_rate, test_quality) = _axes(anchor), _axes(test)
    with np.errstate(all="ignore"):
        gap = _mean_gap(
            anchor_quality,
            anchor_rate,
            test_quality,
            test_rate,
            "pchip",
            names=("quality", "rate"),
        )
        if gap.reason:
            return math.nan
        low = max(anchor_quality.min(), test_quality.min())
        high = min(anchor_quality.max(), test_quality.max())
        nodes, weights = _quadrature()
        at = low + (high - low) * (nodes + 1) / 2
        mean = np.dot(weights, _rates(test, at) - _rates(anchor, at)) / 2
    return float(mean) if math.isfinite(mean) else math.nan


@cache
def _quadrature() -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights of Gauss and Legendre between -1 and 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    nodes.setflags(write=False)
    weights.setflags(write=False)
    return nodes, weights


def _rates(curve: RateQuality, qualities: FloatArray) -> FloatArray:
    """Return the rates of a curve at some of the qualities it reaches."""
    from scipy.interpolate import PchipInterpolator

    rate, quality = _axes(curve)
    order = np.argsort(quality)
    return np.asarray(10 ** PchipInterpolator(quality[order], rate[order])(qualities))


@overload
def ssim_db(ssim: float) -> float: ...
@overload
def ssim_db(ssim: Sequence[float] | NDArray[np.floating[Any]]) -> FloatArray: ...
def ssim_db(
    ssim: float | Sequence[float] | NDArray[np.floating[Any]],
) -> float | FloatArray:
    """Return SSIM in decibels, ``-10 log10(1 - SSIM)``, at most :data:`SSIM_DB_CEILING`.

    Decibels spread the values close to 1, where the useful qualities of CT lie. Identical images
    would have infinitely many; they get the ceiling, as in x264, so that curves stay finite. Two
    lossless points of one curve therefore share a quality and leave its BD-rate undefined.

    Parameters
    ----------
    ssim : float or array_like
        SSIM from -1 to 1.

    Returns
    -------
    float or ndarray
        Decibels, a float for a float and an array otherwise.

    Raises
    ------
    EvaluationError
        For values outside [-1, 1] or that are no finite numbers.
    """
    values = _numbers(ssim, "SSIM")
    if values.size and (values.min() < -1 or values.max() > 1):
        raise EvaluationError(f"SSIM lies outside [-1, 1]: {values.min():g} to {values.max():g}")
    decibels = -10 * np.log10(np.maximum(1 - values, 10 ** (-SSIM_DB_CEILING / 10)))
    return float(decibels) if decibels.ndim == 0 else decibels


@dataclass(frozen=True)
class _Gap:
    """Mean of test minus anchor over their common interval, and what it rests on."""

    mean: float
    overlap: float
    reason: str | None = None

    def undefined(self, reason: str) -> _Gap:
        return _Gap(math.nan, self.overlap, reason)


def _numbers(values: ArrayLike, what: str) -> FloatArray:
    """Return finite numbers as floats."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{what} are not all numbers") from error
    if not np.isfinite(array).all():
        raise EvaluationError(f"{what} are not all finite numbers")
    return array


def _vector(values: ArrayLike, what: str) -> FloatArray:
    """Return a one-dimensional array of finite numbers."""
    array = _numbers(values, what)
    if array.ndim != 1:
        raise EvaluationError(f"{what} must be a flat list, not one of {array.ndim} dimensions")
    return array


def _axes(curve: RateQuality) -> tuple[FloatArray, FloatArray]:
    """Return log10 rates and qualities of the different points of a curve."""
    points = np.unique(np.column_stack((curve.rates, curve.qualities)), axis=0)
    return np.log10(points[:, 0]), points[:, 1]


def _curve_warnings(curve: RateQuality, role: str) -> list[str]:
    """Say where a curve is not what rate and quality should be like."""
    points = list(zip(curve.rates, curve.qualities, strict=True))
    different = sorted(set(points))
    warnings = []
    if len(different) < len(points):
        warnings.append(f"{role}: {len(points)} points, but only {len(different)} different ones")
    for (rate, quality), (next_rate, next_quality) in pairwise(different):
        if next_quality <= quality or next_rate == rate:
            warnings.append(
                f"{role}: quality does not increase with rate, "
                f"{quality:.7g} at {rate:.7g} but {next_quality:.7g} at {next_rate:.7g}"
            )
            break  # One line per curve; the first place is enough to find the trouble.
    return warnings


def _mean_gap(
    anchor_x: FloatArray,
    anchor_y: FloatArray,
    test_x: FloatArray,
    test_y: FloatArray,
    method: Method,
    *,
    names: tuple[str, str],
) -> _Gap:
    """Average test minus anchor over the x that both curves reach; `names` are those of x and y."""
    low, high = max(anchor_x.min(), test_x.min()), min(anchor_x.max(), test_x.max())
    union = max(anchor_x.max(), test_x.max()) - min(anchor_x.min(), test_x.min())
    # All points in one place have an empty union.
    gap = _Gap(math.nan, float(max(high - low, 0) / union) if union > 0 else 0.0)
    for role, x in (("anchor", anchor_x), ("test", test_x)):
        if x.size < MINIMUM_POINTS:
            return gap.undefined(
                f"{role} has {x.size} different points, but a curve needs {MINIMUM_POINTS}"
            )
        if np.unique(x).size < x.size:
            return gap.undefined(
                f"{role} has two points of one {names[0]} with different {names[1]}"
            )
    if gap.overlap == 0:
        return gap.undefined(f"the curves do not overlap in {names[0]}")
    if gap.overlap < LEAST_OVERLAP:
        return gap.undefined(
            f"the curves share less than {LEAST_OVERLAP:.0%} of their range of {names[0]}"
        )
    try:
        mean = _mean(test_x, test_y, low, high, method)
        mean -= _mean(anchor_x, anchor_y, low, high, method)
    except ValueError:  # SciPy refuses infinite slopes, NumPy a decomposition that fails.
        mean = math.nan
    if not math.isfinite(mean):
        return gap.undefined(f"points lie too close in {names[0]} to put a curve through")
    return _Gap(mean, gap.overlap)


def _mean(x: FloatArray, y: FloatArray, low: float, high: float, method: Method) -> float:
    """Average a curve through points of different x over an interval within them."""
    order = np.argsort(x)
    x, y = x[order], y[order]
    if method == "cubic":
        return _mean_cubic(x, y, low, high)
    # SciPy takes a noticeable time to import, and the module is imported by the command line.
    from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

    curve = PchipInterpolator(x, y) if method == "pchip" else Akima1DInterpolator(x, y)
    return float(curve.integrate(low, high)) / (high - low)


def _mean_cubic(x: FloatArray, y: FloatArray, low: float, high: float) -> float:
    """Average the least-squares cubic of points over an interval."""
    centre, radius = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    coefficients, _, rank, *_ = np.polyfit((x - centre) / radius, y, 3, full=True)
    if rank < MINIMUM_POINTS:
        return math.nan
    integral = np.polyint(coefficients)
    left, right = (low - centre) / radius, (high - centre) / radius
    return float((np.polyval(integral, right) - np.polyval(integral, left)) / (right - left))
