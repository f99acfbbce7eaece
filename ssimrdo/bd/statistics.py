"""Summary of one delta over many series."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssimrdo.bd.deltas import EvaluationError

Spread: TypeAlias = Literal["interval", "range"]
"""What tells how far series differ: a confidence interval of their mean, or their range."""

ENOUGH_SERIES: Final = 5
"""For a confidence interval; of fewer values a bootstrap has next to nothing to draw from."""


@dataclass(frozen=True)
class Summary:
    """Location and spread of a delta over series; NaN where too few series define it.

    Parameters
    ----------
    count : int
        Series summarized.
    excluded : int
        Series left out because their delta is NaN.
    mean, median : float
        Over the series summarized.
    worst, best : float
        Largest and smallest delta, or the reverse where larger is better.
    low, high : float
        Bootstrap confidence interval of the mean, or of fewer than five series their range; NaN
        where fewer than two define the delta.
    confidence : float
        Coverage of the interval.
    spread : {"interval", "range"}
        Which of the two ``low`` and ``high`` are.
    """

    count: int
    excluded: int
    mean: float
    median: float
    worst: float
    best: float
    low: float
    high: float
    confidence: float
    spread: Spread


def summarize(
    values: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    larger_is_better: bool = False,
) -> Summary:
    """Summarize one delta per series, with a bootstrap interval of the mean over series.

    The interval is bias-corrected and accelerated (BCa) [1]_. It does not depend on the order of
    the values. Fewer than five values have their range in its place: any bootstrap interval of so
    few comes out far too narrow, and with fewer than about ten somewhat. One value alone says
    nothing of the spread, which is NaN; values that are all equal have an interval of no width.

    Parameters
    ----------
    values : array_like
        One delta per series; NaN entries are counted and left out.
    confidence : float
        Coverage of the interval, between 0 and 1.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Seed of the bootstrap; the same seed gives the same interval.
    larger_is_better : bool
        False for BD-rate, where the largest value is the worst; True for BD-quality.

    Returns
    -------
    Summary
        Everything is NaN if no value is left.

    Raises
    ------
    EvaluationError
        For values that are no flat list of numbers, infinite values, or options out of range.

    References
    ----------
    .. [1] B. Efron, "Better bootstrap confidence intervals", J. Am. Stat. Assoc. 82(397), 1987.
    """
    if not 0 < confidence < 1:
        raise EvaluationError(f"confidence must lie between 0 and 1, not {confidence:g}")
    if resamples < 2:
        raise EvaluationError(f"at least 2 bootstrap samples are needed, not {resamples}")
    try:
        given = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError("values are not all numbers") from error
    if given.ndim != 1 or np.isinf(given).any():
        raise EvaluationError("values must be a flat list of finite numbers or NaN")

    kept = np.sort(given[~np.isnan(given)])
    if kept.size == 0:
        nan = math.nan
        return Summary(0, given.size, nan, nan, nan, nan, nan, nan, confidence, "range")
    # Rounding of the sum must not push the mean of equal values off their value.
    mean = float(np.clip(kept.mean(), kept[0], kept[-1]))
    smallest, largest = float(kept[0]), float(kept[-1])
    spread: Spread = "interval" if kept.size >= ENOUGH_SERIES else "range"
    if spread == "interval":
        low, high = _interval(kept, mean, confidence, resamples, seed)
    else:
        low, high = (smallest, largest) if kept.size > 1 else (math.nan, math.nan)
    return Summary(
        count=kept.size,
        excluded=given.size - kept.size,
        mean=mean,
        median=float(np.median(kept)),
        worst=smallest if larger_is_better else largest,
        best=largest if larger_is_better else smallest,
        low=low,
        high=high,
        confidence=confidence,
        spread=spread,
    )


def _interval(
    values: NDArray[np.float64], mean: float, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Bootstrap the mean of sorted values."""
    if values[0] == values[-1]:
        return mean, mean  # BCa divides by the spread.
    from scipy.stats import bootstrap  # Slow to import.

    # The interval moves and scales with the values; on this scale nothing can overflow.
    centre, spread = values[0] / 2 + values[-1] / 2, values[-1] / 2 - values[0] / 2
    scaled = (values - centre) / spread if spread > 0 else np.full_like(values, math.nan)
    if not np.isfinite(scaled).all() or np.ptp(scaled) == 0:
        return math.nan, math.nan
    result = bootstrap(
        (scaled,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        # The name `rng` came with SciPy 1.15; the older one means the same in all versions.
        random_state=np.random.default_rng(seed),
    )
    # A resampled mean may leave the range of the values by a rounding error; NaN stays NaN.
    ends = np.asarray(result.confidence_interval) * spread + centre
    low, high = np.clip(ends, values[0], values[-1])
    return float(low), float(high)
