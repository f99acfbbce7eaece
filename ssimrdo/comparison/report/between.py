"""What lies between the measured points of a curve, as the BD-rate has it: monotone cubics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssimrdo.bd.deltas import ssim_db
from ssimrdo.comparison.results import Curve, RatePoint
from ssimrdo.html.text import IN_DB, finite


def mean_quality(point: RatePoint, metric: str) -> float | None:
    """Return the mean of an index over the slices of an encode, also of one in dB."""
    known = point.quality.get(metric)
    if known is not None:
        return finite(known.mean)
    plain = point.quality.get(metric.removesuffix(IN_DB))
    mean = None if plain is None else finite(plain.mean)
    return None if mean is None else float(ssim_db(mean))


def slice_qualities(point: RatePoint, metric: str) -> NDArray[np.float64]:
    """Return an index of every slice, also one in dB; NaN where it is unknown."""
    if metric in point.per_slice:
        return np.array(point.per_slice[metric], np.float64)
    plain = np.array(point.per_slice.get(metric.removesuffix(IN_DB), ()), np.float64)
    known = np.isfinite(plain)
    plain[known] = ssim_db(plain[known])
    return plain


def log_rate_over_quality(curve: Curve, metric: str) -> tuple[list[float], list[float]]:
    """Return the qualities of a curve's encodes and the logarithms of their bit rates."""
    found = [
        (quality, math.log(point.kbps))
        for point in curve
        if (quality := mean_quality(point, metric)) is not None and (finite(point.kbps) or 0) > 0
    ]
    return [quality for quality, _ in found], [rate for _, rate in found]


def interpolated(x: Sequence[float], y: ArrayLike, at: ArrayLike) -> NDArray[np.float64] | None:
    """Return a curve through points where it is asked for; nothing is extrapolated.

    Parameters
    ----------
    x : sequence of float
        Places of the points, in any order.
    y : array_like of shape (points, ...)
        Values there.
    at : array_like
        Where values are wanted.

    Returns
    -------
    ndarray of shape (len(at), ...) or, for a single place, of y's other axes, float64; or None
        NaN beyond the outermost points. None for fewer than two points, or two in one place.
    """
    from scipy.interpolate import PchipInterpolator

    order = np.argsort(x)
    places = np.asarray(x, np.float64)[order]
    if places.size < 2 or not (np.diff(places) > 0).all():
        return None
    curve = PchipInterpolator(places, np.asarray(y, np.float64)[order], extrapolate=False)
    return np.asarray(curve(np.asarray(at, np.float64)), np.float64)


def kbps_at(curve: Curve, metric: str, quality: float) -> float | None:
    """Return the bit rate at which a curve reaches a quality, in kbit/s; None beyond its ends."""
    found = interpolated(*log_rate_over_quality(curve, metric), quality)
    return None if found is None or math.isnan(found) else math.exp(found)
